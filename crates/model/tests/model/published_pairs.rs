//! Encoder-decoders of published families against transformers and PyTorch.

use std::path::PathBuf;

use serde::Deserialize;

use super::super::*;
use super::pairs::{Pair, capture};

const PUBLISHED: [&str; 4] = ["marian", "marian-gelu", "t5", "t5-gated"];

/// Largest difference of a gradient to PyTorch's, relative to its norm.
const GRADIENT_TOLERANCE: f32 = 1e-4;

/// What `make_encoder_decoders.py` wrote.
#[derive(Deserialize)]
struct Expected {
    source_ids: Vec<Vec<i64>>,
    source_lengths: Vec<usize>,
    decoder_ids: Vec<Vec<i64>>,
    logits: Vec<Vec<Vec<f32>>>,
    encoder_attention: Vec<Vec<Vec<f32>>>,
    cross_attentions: Vec<Vec<Vec<Vec<f32>>>>,
    labels: Vec<Vec<i64>>,
    loss: f32,
    gradients: BTreeMap<String, ExpectedGradient>,
}

#[derive(Deserialize)]
struct ExpectedGradient {
    norm: f32,
    first: serde_json::Value,
}

fn expected(name: &str) -> (PathBuf, Expected) {
    let dir = golden_dir(name);
    let text = std::fs::read_to_string(dir.join("expected.json")).unwrap();
    (dir, serde_json::from_str(&text).unwrap())
}

/// The rows of the first and the last query of the first head, `[batch, 2, keys]`.
fn first_and_last(weights: &Tensor<4>) -> Tensor<3> {
    let [batch, _, queries, keys] = weights.dims();
    let head = weights.clone().narrow(1, 0, 1).reshape([batch, queries, keys]);
    Tensor::cat(vec![head.clone().narrow(1, 0, 1), head.narrow(1, queries - 1, 1)], 1)
}

/// The largest difference, over queries whose number in the row is below the limit of the row.
fn difference(found: Tensor<3>, expected: &[Vec<Vec<f32>>], limits: &[usize]) -> f32 {
    let [_, _, width] = found.dims();
    let found: Vec<f32> = found.into_data().iter().collect();
    let rows = found.chunks(width * expected[0].len()).zip(expected).zip(limits);
    let differences = rows.flat_map(|((found, expected), limit)| {
        let expected = expected.iter().take(*limit).flatten();
        found
            .iter()
            .zip(expected)
            .map(|(found, expected)| (found - expected).abs())
    });
    differences.fold(0.0, f32::max)
}

#[test]
fn logits_and_attention_weights_equal_those_of_transformers() {
    for name in PUBLISHED {
        let (dir, expected) = expected(name);
        let model = hugging_face::open(&dir, &Device::flex()).unwrap();
        let options = ForwardOptions {
            capture: capture(),
            ..ForwardOptions::default()
        };
        let (memory, encoded) = model
            .encode_with(ids(&expected.source_ids), &expected.source_lengths, options)
            .unwrap();
        let options = ForwardOptions {
            memory: Some(&memory),
            capture: capture(),
            ..ForwardOptions::default()
        };
        let output = model.forward_with(ids(&expected.decoder_ids), options).unwrap();
        let all = [usize::MAX; 2];
        // The last query of the second source is padding.
        let of_encoder = first_and_last(&encoded.attention_weights[0]);
        let mut largest = difference(of_encoder, &expected.encoder_attention, &[2, 1]);
        assert_eq!(output.cross_weights.len(), expected.cross_attentions.len(), "{name}");
        for (weights, expected) in output.cross_weights.iter().zip(&expected.cross_attentions) {
            largest = largest.max(difference(first_and_last(weights), expected, &all));
        }
        largest = largest.max(difference(model.logits(output.hidden), &expected.logits, &all));
        println!("{name}: {largest:e}");
        assert!(largest < LOGIT_TOLERANCE, "{name}: {largest}");
    }
}

#[test]
fn smoothed_losses_and_gradients_equal_those_of_pytorch() {
    for name in PUBLISHED {
        let (dir, expected) = expected(name);
        let device = Device::flex().autodiff();
        let model = hugging_face::open(&dir, &device).unwrap();
        let source = ids(&expected.source_ids).to_device(&device);
        let memory = model.encode(source, &expected.source_lengths, None).unwrap();
        let options = ForwardOptions {
            memory: Some(&memory),
            ..ForwardOptions::default()
        };
        let output = model
            .forward_with(ids(&expected.decoder_ids).to_device(&device), options)
            .unwrap();
        let labels: Vec<i32> = expected.labels.iter().flatten().map(|id| *id as i32).collect();
        let count = labels.len();
        let labels = Tensor::<1, Int>::from_data(TensorData::new(labels, [count]), &device);
        let loss = model.loss_smoothed(output.hidden, labels, -100, 0.1);
        let found: f32 = loss.clone().inner().into_scalar();
        assert!((found - expected.loss).abs() < LOGIT_TOLERANCE, "{name}: {found}");
        let mut comparison = AgainstPyTorch {
            name,
            table: ParameterTable::of(&model),
            gradients: &loss.backward(),
            expected: expected.gradients,
        };
        model.visit(&mut comparison);
        assert!(
            comparison.expected.is_empty(),
            "{name}: {:?}",
            comparison.expected.keys()
        );
    }
}

struct AgainstPyTorch<'a> {
    name: &'a str,
    table: ParameterTable,
    gradients: &'a burn::tensor::Gradients,
    /// Those not seen yet.
    expected: BTreeMap<String, ExpectedGradient>,
}

impl ModuleVisitor for AgainstPyTorch<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let ours = &self.table.row(param.id).name;
        let gradient = param.val().grad(self.gradients);
        let gradient = gradient.unwrap_or_else(|| panic!("{}: {ours} has no gradient", self.name));
        let Some(expected) = self.expected.remove(ours) else {
            return;
        };
        let values: Vec<f32> = gradient.into_data().iter().collect();
        let norm = values.iter().map(|value| value * value).sum::<f32>().sqrt();
        let allowed = GRADIENT_TOLERANCE * expected.norm;
        assert!(
            (norm - expected.norm).abs() < allowed,
            "{}: {ours}: {norm} is not {}",
            self.name,
            expected.norm
        );
        let first: Vec<f32> = serde_json::from_value(expected.first).unwrap();
        for (found, expected) in values.iter().zip(&first) {
            assert!(
                (found - expected).abs() < allowed,
                "{}: {ours}: {found} is not {expected}",
                self.name
            );
        }
    }
}

#[test]
fn a_published_model_is_written_back_with_equal_tensors_and_keys() {
    let folder = tempfile::tempdir().unwrap();
    for name in PUBLISHED {
        let model = hugging_face::open(&golden_dir(name), &Device::flex()).unwrap();
        let dir = folder.path().join(name);
        hugging_face::save(&model, &dir, Companions::default()).unwrap();
        let again = hugging_face::open(&dir, &Device::flex()).unwrap();
        assert_eq!(again.config(), model.config(), "{name}");
        assert!(tensors_of(&golden_dir(name)) == tensors_of(&dir), "{name}");
        let keys = |dir: PathBuf| -> serde_json::Value {
            serde_json::from_str(&std::fs::read_to_string(dir.join("config.json")).unwrap()).unwrap()
        };
        let (theirs, ours) = (keys(golden_dir(name)), keys(dir));
        // Ids are the tokenizer's, tying follows from the tensors, and dropout is one number here.
        let may_differ = [
            "tie_word_embeddings",
            "bos_token_id",
            "eos_token_id",
            "pad_token_id",
            "forced_eos_token_id",
            "attention_dropout",
        ];
        for (key, value) in ours.as_object().unwrap() {
            let differs = theirs.get(key).is_some_and(|theirs| theirs != value);
            let is_name = value.as_str().is_some_and(|name| ["silu", "swish"].contains(&name));
            assert!(
                !differs || is_name || may_differ.contains(&&**key),
                "{name}: {key}: {value}"
            );
        }
    }
}

#[test]
fn tensors_that_older_files_have_twice_are_understood() {
    let same = |one: &Transformer, other: &Transformer| {
        let (one, other) = (Pair::of(one).logits(), Pair::of(other).logits());
        assert_eq!(largest_difference(one, other), 0.0);
    };
    let marian = hugging_face::open(&golden_dir("marian"), &Device::flex()).unwrap();
    let older = open_changed(
        "marian",
        |json| json["static_position_embeddings"] = true.into(),
        |tensors| {
            let table = tensors["model.shared.weight"].clone();
            for name in [
                "model.encoder.embed_tokens.weight",
                "model.decoder.embed_tokens.weight",
                "lm_head.weight",
            ] {
                tensors.insert(name.to_string(), table.clone());
            }
            for name in [
                "model.encoder.embed_positions.weight",
                "model.decoder.embed_positions.weight",
            ] {
                tensors.insert(name.to_string(), zeros(&[24, 16]));
            }
        },
    );
    same(&older.unwrap(), &marian);
    let t5 = hugging_face::open(&golden_dir("t5"), &Device::flex()).unwrap();
    let older = open_changed(
        "t5",
        |_| (),
        |tensors| {
            let table = tensors.remove("shared.weight").unwrap();
            tensors.insert("encoder.embed_tokens.weight".to_string(), table.clone());
            tensors.insert("decoder.embed_tokens.weight".to_string(), table);
            let unused = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight";
            tensors.insert(unused.to_string(), zeros(&[32, 2]));
        },
    );
    same(&older.unwrap(), &t5);
}

#[test]
fn marian_and_t5_files_with_another_meaning_are_refused_and_named() {
    let cases = [
        ("marian", "decoder_ffn_dim", serde_json::json!(32)),
        ("marian", "decoder_attention_heads", serde_json::json!(4)),
        ("marian", "decoder_vocab_size", serde_json::json!(31)),
        ("marian", "share_encoder_decoder_embeddings", false.into()),
        ("marian", "normalize_embedding", true.into()),
        ("marian", "activation_function", "tanh".into()),
        ("marian", "encoder_attention_heads", 3.into()),
        ("t5", "feed_forward_proj", "gated-tanh".into()),
        ("t5", "is_encoder_decoder", false.into()),
        ("t5", "d_model", "wide".into()),
    ];
    for (name, key, value) in cases {
        let message = config_of(name, |json| json[key] = value.clone())
            .unwrap_err()
            .to_string();
        assert!(message.contains(key), "{message}");
    }
    let outside = config_of("t5", |json| json["decoder_start_token_id"] = 30.into());
    let message = outside.unwrap_err().to_string();
    assert!(
        message.contains("decoder_start") && message.contains("vocab_size = 30"),
        "{message}"
    );
    let missing = "decoder.block.0.layer.1.EncDecAttention.k.weight";
    let message = open_changed("t5", |_| (), |tensors| drop(tensors.remove(missing))).unwrap_err();
    assert!(message.to_string().contains(missing), "{message}");
}

#[test]
fn the_token_that_a_decoder_begins_with_is_also_read_from_the_generation_settings() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(golden_dir("marian").join(name), folder.path().join(name)).unwrap();
    }
    let path = folder.path().join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let start = config["decoder_start_token_id"].as_u64().unwrap() as u32;
    config.as_object_mut().unwrap().remove("decoder_start_token_id");
    std::fs::write(&path, config.to_string()).unwrap();
    let open = |settings: &str| {
        std::fs::write(folder.path().join("generation_config.json"), settings).unwrap();
        hugging_face::open_config(folder.path()).map(|config| config.decoder_start)
    };
    assert_eq!(open("{}").unwrap(), None);
    assert_eq!(open("{\"decoder_start_token_id\": null}").unwrap(), None);
    let settings = format!("{{\"decoder_start_token_id\": {start}}}");
    assert_eq!(open(&settings).unwrap(), Some(start));
    // Where both files have it, this one comes first, as in transformers.
    config["decoder_start_token_id"] = 0.into();
    std::fs::write(&path, config.to_string()).unwrap();
    assert_eq!(open(&settings).unwrap(), Some(start));
    for settings in [
        "{\"decoder_start_token_id\": -1}",
        "{\"decoder_start_token_id\": 4000000}",
    ] {
        let message = open(settings).unwrap_err().to_string();
        assert!(
            message.contains("generation_config.json") && message.contains("decoder_start"),
            "{message}"
        );
    }
}
