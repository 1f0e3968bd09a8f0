//! Weights in fewer bits: their logits, their size, and that rows of a batch are independent.

use taal_kernels::{QuantizedMatrix, WeightType};
use taal_model::{Initialization, WeightFormat};

use super::super::*;
use super::pair_configs::many_pairs;
use super::pairs::Pair;

/// A model of a published family, wide enough for blocks of 32.
fn model_of(family: &str) -> Transformer {
    let published = config_of(family, |_| {}).unwrap();
    let config = TransformerConfig {
        d_model: 64,
        head_dim: 64 / published.n_heads,
        d_ff: 96,
        ..published
    };
    config.init(3, &Device::flex()).unwrap()
}

fn relative(found: Tensor<3>, expected: Tensor<3>) -> f32 {
    let largest: f32 = expected.clone().abs().max().into_scalar();
    largest_difference(found, expected) / largest
}

#[test]
fn logits_of_rounded_weights_are_near_those_of_the_model() {
    for family in ["gpt2", "llama-untied", "qwen3", "bert", "modernbert"] {
        let model = model_of(family);
        let ids = some_ids(2, 6, model.config().vocab_size);
        let exact = model.forward(ids.clone()).unwrap();
        // Half floats keep 11 bits, bf16 keeps 8; integers of a block 8 and 4, and activations 8.
        for (kind, tolerance) in [
            (WeightFormat::F16, 2e-3),
            (WeightFormat::Bf16, 2e-2),
            (WeightFormat::Q8_0, 5e-2),
            (WeightFormat::Q4_0, 5e-1),
        ] {
            let rounded = model.clone().with_weights(kind).unwrap();
            let difference = relative(rounded.forward(ids.clone()).unwrap(), exact.clone());
            assert!(
                0.0 < difference && difference < tolerance,
                "{family} in {kind}: {difference:e}"
            );
        }
    }
}

#[test]
fn products_of_rounded_weights_equal_those_of_their_values() {
    let model = model_of("llama-untied");
    let rounded = model.clone().with_weights(WeightFormat::F16).unwrap();
    // The values are read like any model's; a model with them in single precision computes the same except for the order of sums.
    let mut values = BTreeMap::new();
    parameters::read(&rounded, |name, _, numbers| {
        drop(values.insert(name.to_owned(), numbers))
    });
    let plain = parameters::replace(model, |name, _| Ok::<_, ()>(values[name].clone())).unwrap();
    let ids = some_ids(1, 8, plain.config().vocab_size);
    let difference = relative(rounded.forward(ids.clone()).unwrap(), plain.forward(ids).unwrap());
    assert!(difference < SELF_TOLERANCE, "{difference:e}");
}

#[test]
fn rounded_weights_take_the_bytes_of_their_type() {
    let model = model_of("llama-untied");
    let all = model.weight_bytes();
    assert_eq!(all, 4 * model.config().n_params());
    let half = model.clone().with_weights(WeightFormat::F16).unwrap().weight_bytes();
    let eight = model.clone().with_weights(WeightFormat::Q8_0).unwrap().weight_bytes();
    let four = model.clone().with_weights(WeightFormat::Q4_0).unwrap().weight_bytes();
    // 16, 8.5 and 4.5 bits per weight, next to norms in 32 and an output matrix in 8.5.
    let share = |bytes: u64| bytes as f64 / all as f64;
    assert!((0.50..0.52).contains(&share(half)), "{}", share(half));
    assert!((0.26..0.29).contains(&share(eight)), "{}", share(eight));
    assert!((0.15..0.20).contains(&share(four)), "{}", share(four));
}

#[test]
fn rows_that_fill_no_blocks_get_another_type_and_weights_that_are_too_large_are_refused() {
    let config = TransformerConfig {
        d_ff: 100,
        ..model_of("llama-untied").config().clone()
    };
    let model = config.init(3, &Device::flex()).unwrap();
    // As in llama.cpp, what has no whole blocks becomes F16.
    let note = WeightFormat::Q8_0.note(&config, &parameters::list(&model)).unwrap();
    assert_eq!(
        note,
        "2 matrices are F16 instead of Q8_0, whose blocks rows of 100 numbers do not fill"
    );
    let rounded = model.with_weights(WeightFormat::Q8_0).unwrap();
    assert_eq!(rounded.weight_types(), "F16, Q8_0");
    assert_eq!(
        rounded.quantized()["blocks.0.feed_forward.down.weight"][0].kind(),
        WeightType::F16
    );
    let large = parameters::replace(model_of("gpt2"), |name, shape| {
        let value = if name == "token_embedding.weight" { 1e9 } else { 0.1 };
        Ok::<_, ()>(vec![value; shape.iter().product()])
    });
    let message = large.unwrap().with_weights(WeightFormat::F16).unwrap_err().to_string();
    assert!(
        message.starts_with("token_embedding: a weight is too large for F16"),
        "{message}"
    );
}

#[test]
fn the_loss_of_rounded_weights_is_that_of_their_logits() {
    let model = model_of("gpt2").with_weights(WeightFormat::Q8_0).unwrap();
    let ids = some_ids(2, 6, model.config().vocab_size);
    let hidden = model
        .forward_with(ids.clone(), ForwardOptions::default())
        .unwrap()
        .hidden;
    let targets = ids.reshape([12]);
    let loss: f32 = model.loss(hidden.clone(), targets.clone(), -1).into_scalar();
    let logits = model.logits(hidden).reshape([12, model.config().vocab_size]);
    let expected: f32 = taal_kernels::cross_entropy(logits, targets, -1).into_scalar();
    assert_eq!(loss.to_bits(), expected.to_bits());
}

#[test]
fn an_lstm_keeps_its_gates_in_f32_and_a_note_says_so() {
    let model = TransformerConfig::lstm(size(50, 40, 2, 1, 64))
        .init(3, &Device::flex())
        .unwrap();
    let note = |format: WeightFormat| format.note(model.config(), &parameters::list(&model));
    assert_eq!(note(WeightFormat::F32), None);
    for format in [WeightFormat::F16, WeightFormat::Q8_0] {
        let said = note(format).expect("a note");
        assert_eq!(said, "the matrices of the LSTM's gates stay F32");
        let rounded = model.clone().with_weights(format).unwrap();
        assert_eq!(
            Vec::from_iter(rounded.quantized().into_keys()),
            ["token_embedding.weight"]
        );
    }
}

/// Where llama-quantize puts which type, for a model whose rows are whole blocks of 256.
#[test]
fn formats_give_matrices_the_types_of_llama_quantize() {
    let config = |family: &str, n_layers| TransformerConfig {
        n_layers,
        ..config_of(family, |_| {}).unwrap()
    };
    let types = |config: &TransformerConfig, name: &str, part, width| {
        let rounding = |format: WeightFormat| format.rounding(config, name, part, width).to_string();
        [
            rounding(WeightFormat::Q8_0),
            rounding(WeightFormat::Q4_0),
            rounding(WeightFormat::Q4KM),
        ]
    };
    let llama = config("llama-untied", 16);
    assert!(!llama.tie_embeddings);
    assert_eq!(
        types(&llama, "token_embedding.weight", 0, 256),
        ["Q8_0", "Q4_0", "Q4_K"]
    );
    assert_eq!(types(&llama, "head.weight", 0, 256), ["Q8_0", "Q6_K", "Q6_K"]);
    // The first two of 16, the last two, and every third from the fifth on have more bits.
    let more = [0, 1, 4, 7, 10, 13, 14, 15];
    for layer in 0..16 {
        let name = |rest: &str| format!("blocks.{layer}.{rest}.weight");
        let most = if more.contains(&layer) { "Q6_K" } else { "Q4_K" };
        let qkv = name("attention.qkv");
        assert_eq!(types(&llama, &qkv, 0, 256), ["Q8_0", "Q4_0", "Q4_K"]);
        assert_eq!(types(&llama, &qkv, 1, 256), ["Q8_0", "Q4_0", "Q4_K"]);
        assert_eq!(types(&llama, &qkv, 2, 256), ["Q8_0", "Q4_0", most]);
        assert_eq!(
            types(&llama, &name("feed_forward.down"), 0, 512),
            ["Q8_0", "Q4_0", most]
        );
        assert_eq!(
            types(&llama, &name("feed_forward.up"), 0, 256),
            ["Q8_0", "Q4_0", "Q4_K"]
        );
        // GPT-2's queries, keys and values are one tensor, which is treated as its values; its output matrix is the embedding.
        assert_eq!(types(&config("gpt2", 16), &qkv, 0, 256), ["Q8_0", "Q4_0", most]);
    }
    let gpt2 = config("gpt2", 2);
    assert_eq!(types(&gpt2, "token_embedding.weight", 0, 256), ["Q8_0", "Q6_K", "Q6_K"]);
    // Rows that are no whole blocks.
    assert_eq!(types(&gpt2, "token_embedding.weight", 0, 96), ["Q8_0", "Q8_0", "Q8_0"]);
    assert_eq!(
        types(&gpt2, "blocks.0.feed_forward.up.weight", 0, 96),
        ["Q8_0", "Q4_0", "Q5_0"]
    );
    assert_eq!(
        types(&gpt2, "blocks.1.feed_forward.down.weight", 0, 96),
        ["Q8_0", "Q4_0", "Q8_0"]
    );
    assert_eq!(
        types(&gpt2, "blocks.0.feed_forward.up.weight", 0, 40),
        ["F16", "F16", "F16"]
    );
}

/// The bytes of all matrices in fewer bits, by name.
fn matrices(model: &Transformer) -> BTreeMap<String, Vec<(WeightType, Vec<u8>)>> {
    let bytes = |matrix: &QuantizedMatrix| (matrix.kind(), matrix.bytes().to_vec());
    let found = model.quantized().into_iter();
    found
        .map(|(name, matrices)| (name, matrices.iter().map(bytes).collect()))
        .collect()
}

#[test]
fn a_directory_keeps_blocks_and_gives_the_same_logits() {
    for family in ["gpt2", "llama-untied", "qwen3", "bert", "modernbert"] {
        for format in [WeightFormat::Q8_0, WeightFormat::Q4_0, WeightFormat::Q4KM] {
            let folder = tempfile::tempdir().unwrap();
            let dir = folder.path().join("model");
            let model = model_of(family).with_weights(format).unwrap();
            hugging_face::save(&model, &dir, Companions::default()).unwrap();
            assert!(hugging_face::is_quantized(&dir).unwrap(), "{family} in {format}");
            let opened = hugging_face::open(&dir, &Device::flex()).unwrap();
            assert_eq!(opened.weight_bytes(), model.weight_bytes(), "{family} in {format}");
            // Rows of one type may be one matrix before and three after.
            let all = |model: &Transformer| -> Vec<u8> {
                let rows = matrices(model).into_values().flatten();
                rows.flat_map(|(_, bytes)| bytes).collect()
            };
            assert_eq!(all(&opened), all(&model), "{family} in {format}");
            let ids = some_ids(2, 6, model.config().vocab_size);
            let difference = largest_difference(opened.forward(ids.clone()).unwrap(), model.forward(ids).unwrap());
            assert_eq!(difference, 0.0, "{family} in {format}");
            // A directory that is written from it has the same bytes.
            let again = hugging_face::files(&opened, Companions::default()).unwrap();
            for (name, bytes) in again {
                assert_eq!(
                    std::fs::read(dir.join(name)).unwrap(),
                    bytes,
                    "{family} in {format}: {name}"
                );
            }
        }
    }
}

/// Rows that fill no blocks are in 16-bit floats, as in llama.cpp's files, and stay so next to the blocks.
#[test]
fn matrices_in_sixteen_bits_next_to_blocks_stay_so_in_a_directory() {
    for family in ["gpt2", "llama-untied", "bert"] {
        let config = TransformerConfig {
            d_ff: 100,
            ..model_of(family).config().clone()
        };
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("model");
        let model = config.init(3, &Device::flex()).unwrap();
        let model = model.with_weights(WeightFormat::Q8_0).unwrap();
        assert_eq!(model.weight_types(), "F16, Q8_0", "{family}");
        hugging_face::save(&model, &dir, Companions::default()).unwrap();
        let opened = hugging_face::open(&dir, &Device::flex()).unwrap();
        assert_eq!(opened.weight_types(), "F16, Q8_0", "{family}");
        assert_eq!(opened.weight_bytes(), model.weight_bytes(), "{family}");
        let ids = some_ids(2, 6, model.config().vocab_size);
        let difference = largest_difference(opened.forward(ids.clone()).unwrap(), model.forward(ids).unwrap());
        assert_eq!(difference, 0.0, "{family}");
        for (name, bytes) in hugging_face::files(&opened, Companions::default()).unwrap() {
            assert!(std::fs::read(dir.join(name)).unwrap() == bytes, "{family}: {name}");
        }
    }
}

#[test]
fn weights_of_another_method_are_refused_by_its_name() {
    let with = |quantization: serde_json::Value| {
        config_of("llama-untied", |json| json["quantization_config"] = quantization)
            .unwrap_err()
            .to_string()
    };
    for method in ["gptq", "awq", "bitsandbytes", "fp8"] {
        let message = with(serde_json::json!({ "quant_method": method, "bits": 4 }));
        let expected =
            format!("key `quantization_config`: the weights are quantized by \"{method}\", which is not read");
        assert!(
            message.contains(&expected) && message.contains("GGUF"),
            "{method}: {message}"
        );
    }
    let message = with(serde_json::json!({ "group_size": 64 }));
    assert!(
        message.contains("a method that `quant_method` does not name"),
        "{message}"
    );
    let own = serde_json::json!({ "quant_method": "ggml" });
    for quantization in [own, serde_json::Value::Null] {
        config_of("llama-untied", |json| json["quantization_config"] = quantization).unwrap();
    }
}

/// Encoder-decoders, wide enough for blocks of 32.
fn translators() -> Vec<(&'static str, Transformer)> {
    let wanted = ["marian", "t5", "llama with an encoder"];
    let found = many_pairs().into_iter().filter(|(name, _)| wanted.contains(name));
    let model = |(name, config): (&'static str, TransformerConfig)| {
        let config = TransformerConfig {
            d_model: 64,
            head_dim: 16,
            d_ff: 96,
            ..config
        };
        let wide = Initialization {
            std: 0.1,
            residual_std: Some(0.1),
        };
        (name, config.init_with(3, wide, &Device::flex()).unwrap())
    };
    found.map(model).collect()
}

#[test]
fn logits_of_translators_in_fewer_bits_are_near_those_of_their_values_in_single_precision() {
    for (name, model) in translators() {
        // The products of integers round the activations to 8 bits too.
        for (format, tolerance) in [
            (WeightFormat::F16, 10.0 * SELF_TOLERANCE),
            (WeightFormat::Q8_0, 5e-2),
            (WeightFormat::Q4_0, 5e-2),
        ] {
            let rounded = model.clone().with_weights(format).unwrap();
            for side in [
                "encoder.blocks.0.attention.qkv",
                "blocks.0.cross.key_value",
                "blocks.1.cross.query",
            ] {
                let kinds = &rounded.quantized()[&*format!("{side}.weight")];
                assert!(
                    kinds
                        .iter()
                        .all(|matrix| matrix.kind().to_string() == format.to_string()),
                    "{name}: {side}"
                );
            }
            let plain = rounded.clone().with_weights(WeightFormat::F32).unwrap();
            let difference = relative(Pair::of(&rounded).logits(), Pair::of(&plain).logits());
            assert!(difference < tolerance, "{name} in {format}: {difference:e}");
            assert!(
                relative(Pair::of(&rounded).logits(), Pair::of(&model).logits()) > 0.0,
                "{name} in {format}"
            );
        }
    }
}

#[test]
fn a_directory_of_a_translator_keeps_its_blocks_and_gives_the_same_logits() {
    for (name, model) in translators() {
        for format in [WeightFormat::Q8_0, WeightFormat::Q4_0] {
            let folder = tempfile::tempdir().unwrap();
            let dir = folder.path().join("model");
            let model = model.clone().with_weights(format).unwrap();
            hugging_face::save(&model, &dir, Companions::default()).unwrap();
            let opened = hugging_face::open(&dir, &Device::flex()).unwrap();
            assert_eq!(opened.weight_bytes(), model.weight_bytes(), "{name} in {format}");
            let difference = largest_difference(Pair::of(&opened).logits(), Pair::of(&model).logits());
            assert_eq!(difference, 0.0, "{name} in {format}");
            for (file, bytes) in hugging_face::files(&opened, Companions::default()).unwrap() {
                assert!(
                    std::fs::read(dir.join(file)).unwrap() == bytes,
                    "{name} in {format}: {file}"
                );
            }
        }
    }
}

#[test]
fn a_directory_in_half_precision_is_what_others_write() {
    for family in ["gpt2", "llama-untied"] {
        for (format, dtype) in [(WeightFormat::F16, "float16"), (WeightFormat::Bf16, "bfloat16")] {
            let folder = tempfile::tempdir().unwrap();
            let dir = folder.path().join("model");
            let model = model_of(family).with_weights(format).unwrap();
            hugging_face::save(&model, &dir, Companions::default()).unwrap();
            let config = std::fs::read_to_string(dir.join("config.json")).unwrap();
            assert!(config.contains(&format!("\"dtype\": \"{dtype}\"")), "{config}");
            assert!(!hugging_face::is_quantized(&dir).unwrap());
            // Opened in single precision, as every directory of floats, with the rounded values.
            let opened = hugging_face::open(&dir, &Device::flex()).unwrap();
            assert_eq!(opened.weight_types(), "F32");
            let values = |model: &Transformer| {
                let mut all = Vec::new();
                parameters::read(model, |_, _, values| all.extend(values));
                all
            };
            assert_eq!(values(&opened), values(&model), "{family} in {format}");
        }
    }
}

#[test]
fn unpacked_weights_are_multiplied_in_single_precision() {
    let model = model_of("llama-untied").with_weights(WeightFormat::Q4KM).unwrap();
    let values = |model: &Transformer| {
        let mut all = Vec::new();
        parameters::read(model, |_, _, values| all.extend(values));
        all
    };
    let before = values(&model);
    let unpacked = model.with_weights(WeightFormat::F32).unwrap();
    assert_eq!(unpacked.weight_types(), "F32");
    assert_eq!(unpacked.weight_bytes(), 4 * unpacked.config().n_params());
    assert_eq!(values(&unpacked), before);
}

#[test]
fn damaged_blocks_are_refused_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("model");
    let model = model_of("llama-untied").with_weights(WeightFormat::Q8_0).unwrap();
    hugging_face::save(&model, &dir, Companions::default()).unwrap();
    let path = dir.join("model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    let header = |from: &str, to: &str| {
        let text = String::from_utf8_lossy(&whole).find(from).unwrap();
        let mut bytes = whole.clone();
        bytes[text..text + to.len()].copy_from_slice(to.as_bytes());
        bytes
    };
    // A block of a size that no type has: 64 rows of 2 blocks of 34 bytes, as as many bytes in other numbers.
    let unknown = header("[64,2,34]", "[64,4,17]");
    // As many bytes, in rows of another length.
    let long = header("[64,2,34]", "[32,4,34]");
    let mut infinite = whole.clone();
    let last = infinite.len() - 34;
    infinite[last..last + 2].copy_from_slice(&0x7c00_u16.to_le_bytes());
    // Bytes in the place of a norm's numbers, as many of them.
    let (length, rest) = whole.split_first_chunk::<8>().unwrap();
    let length = u64::from_le_bytes(*length) as usize;
    let text = std::str::from_utf8(&rest[..length]).unwrap();
    let at = text.find("\"model.norm.weight\"").unwrap();
    let norm = text[at..].replacen("\"F32\",\"shape\":[64]", "\"U8\",\"shape\":[1,2,128]", 1);
    assert_ne!(norm, text[at..], "a norm of 64 numbers");
    let text = text[..at].to_owned() + &norm;
    let vector = [&(text.len() as u64).to_le_bytes(), text.as_bytes(), &rest[length..]].concat();
    for (bytes, expected) in [
        (
            vector,
            "tensor `model.norm.weight` has shape [1, 2, 128], but config.json asks for [64]",
        ),
        (
            unknown,
            "has blocks of 17 bytes, of an unknown type; expected one of 34 (Q8_0), 18 (Q4_0)",
        ),
        (
            long,
            "has 32 rows of 4 blocks of Q8_0, but config.json asks for 64 rows of 64 numbers",
        ),
        (infinite, "holds a scale that is not finite in block"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let error = hugging_face::open(&dir, &Device::flex()).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.kind(), taal_store::ErrorKind::Corrupt);
    }
}
