//! Files of llama.cpp and llama2.c: against numbers from transformers, against files of their own programs, and damaged ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde::Deserialize;
use taal_exchange::gguf::{self, TokenKind, Vocabulary};
use taal_exchange::llama2c;
use taal_model::hugging_face;
use taal_model::{
    Activation, ForwardOptions, MAX_DIMENSION, ModelError, RopeScaling, Transformer, TransformerConfig, WeightFormat,
};
use taal_store::ErrorKind;

use crate::gguf_bytes::{Info, after, assert_says, data_start, refusal};
use crate::size;
use crate::support::{
    LOGIT_TOLERANCE, Sample, against, golden, golden_dir, ids, largest_difference, many_configs, random_weights,
    some_ids,
};

/// Models of which there is a GGUF file in fp32.
const FAMILIES: [&str; 6] = ["gpt2", "llama-untied", "llama-linear", "llama3", "qwen2", "qwen3"];

/// llama2.c's files, and the model of each.
const LLAMA2C: [(&str, &str); 3] = [
    ("llama-tied-v0.bin", "llama-tied"),
    ("llama-untied-v0.bin", "llama-untied"),
    ("llama-untied-v1.bin", "llama-untied"),
];

pub fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/formats")
        .join(name)
}

fn open_gguf(name: &str) -> Transformer {
    gguf::open(&file(name), &Device::flex()).unwrap().model
}

/// The largest difference to the logits of a sample.
fn difference(model: &Transformer, sample: &Sample) -> f32 {
    let output = model.forward_with(ids(&sample.input_ids), ForwardOptions::default());
    against(model.logits(output.unwrap().hidden), &sample.logits, sample)
}

/// The bytes of all weights, by name.
fn weights(model: &Transformer) -> BTreeMap<String, Vec<u32>> {
    let mut found = BTreeMap::new();
    taal_model::parameters::read(model, |name, _, values| {
        found.insert(name.to_string(), values.iter().map(|value| value.to_bits()).collect());
    });
    found
}

#[test]
fn gguf_files_equal_their_source_models() {
    for name in FAMILIES {
        let (dir, golden) = golden(name);
        let theirs = hugging_face::open(&dir, &Device::flex()).unwrap();
        let ours = open_gguf(&format!("{name}-f32.gguf"));
        assert_eq!(weights(&ours), weights(&theirs), "{name}");
        // GGUF files do not hold settings that only training needs.
        let config = TransformerConfig {
            dropout: 0.0,
            ..theirs.config().clone()
        };
        assert_eq!(ours.config(), &config, "{name}");
        for sample in &golden.samples {
            let difference = difference(&ours, sample);
            assert!(difference < LOGIT_TOLERANCE, "{name}: {difference}");
        }
    }
}

#[derive(Deserialize)]
struct Rounded {
    /// By name of a file.
    logits: BTreeMap<String, Vec<Vec<Vec<f32>>>>,
}

#[test]
fn gguf_files_of_fewer_bits_have_the_logits_of_their_rounded_weights() {
    let text = std::fs::read_to_string(file("expected.json")).unwrap();
    let rounded: Rounded = serde_json::from_str(&text).unwrap();
    assert_eq!(rounded.logits.len(), 9);
    for (name, logits) in rounded.logits {
        let (_, golden) = golden(name.rsplit_once('-').unwrap().0);
        let sample = Sample {
            logits,
            ..golden.samples.into_iter().next().unwrap()
        };
        // Unpacked, since products of integers round the activations too.
        let model = open_gguf(&format!("{name}.gguf"))
            .with_weights(WeightFormat::F32)
            .unwrap();
        let difference = difference(&model, &sample);
        assert!(difference < LOGIT_TOLERANCE, "{name}: {difference}");
    }
}

/// The bytes of a GGUF file's tensors, by name; the order of keys and tensors may differ between programs.
fn tensors(bytes: &[u8], names: &[&str]) -> Vec<Vec<u8>> {
    let data = data_start(bytes);
    names
        .iter()
        .map(|name| {
            let info = Info::find(bytes, name);
            let (values, block) = [(1, 4), (1, 2), (32, 34)][[0, 1, 8].iter().position(|n| *n == info.kind).unwrap()];
            let start = data + info.offset as usize;
            bytes[start..start + info.dims.iter().product::<u64>() as usize / values * block].to_vec()
        })
        .collect()
}

#[test]
fn written_gguf_files_have_the_bytes_that_the_gguf_package_writes() {
    let folder = tempfile::tempdir().unwrap();
    let matrices = [
        "blk.1.attn_output.weight",
        "blk.0.ffn_up.weight",
        "blk.1.ffn_down.weight",
        "token_embd.weight",
    ];
    let gpt2 = [
        "position_embd.weight",
        "blk.0.attn_qkv.weight",
        "blk.1.attn_qkv.bias",
        "output_norm.bias",
    ];
    let llama = [
        "output.weight",
        "blk.0.attn_q.weight",
        "blk.1.attn_k.weight",
        "blk.0.attn_v.weight",
        "blk.1.ffn_norm.weight",
    ];
    for (name, own) in [("gpt2", &gpt2[..]), ("llama-untied", &llama[..])] {
        let model = hugging_face::open(&golden_dir(name), &Device::flex()).unwrap();
        for format in [WeightFormat::F32, WeightFormat::F16, WeightFormat::Q8_0] {
            let file_name = format!("{name}-{}.gguf", format.to_string().to_lowercase());
            let path = folder.path().join(&file_name);
            gguf::save(&model, None, Some(format), name, &path).unwrap();
            let [theirs, ours] = [file(&file_name), path].map(|path| std::fs::read(path).unwrap());
            let names = [&matrices[..], own].concat();
            assert_eq!(tensors(&ours, &names), tensors(&theirs, &names), "{file_name}");
        }
    }
}

#[test]
fn what_gguf_can_express_round_trips() {
    let folder = tempfile::tempdir().unwrap();
    let mut n_written = 0;
    for (name, config) in many_configs() {
        let model = random_weights(&config);
        let path = folder.path().join("model.gguf");
        let saved = gguf::save(&model, None, Some(WeightFormat::F32), name, &path);
        if let Err(error) = saved {
            // The obstacle is named, and no file is left.
            assert!(matches!(error, ModelError::Config { .. }), "{name}: {error}");
            assert!(error.to_string().contains("GGUF"), "{name}: {error}");
            assert!(!path.exists());
            continue;
        }
        n_written += 1;
        let opened = gguf::open(&path, &Device::flex()).unwrap().model;
        std::fs::remove_file(&path).unwrap();
        let ids = some_ids(2, 17, 50);
        // llama.cpp has one kind of GELU.
        let model = match config.activation {
            Activation::Gelu => random_weights(&TransformerConfig {
                activation: Activation::GeluTanh,
                ..config
            }),
            _ => model,
        };
        let difference = largest_difference(model.forward(ids.clone()).unwrap(), opened.forward(ids).unwrap());
        // Zero biases in the file, which the model lacks, change nothing.
        assert_eq!(difference, 0.0, "{name}");
    }
    assert!(n_written >= 6, "{n_written}");
}

#[test]
fn equal_models_give_equal_gguf_files_and_nothing_is_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let model = random_weights(&TransformerConfig::llama(size(50, 40, 2, 4, 32)));
    let [first, second] = ["a", "b"].map(|name| folder.path().join(name));
    for path in [&first, &second] {
        gguf::save(&model, Some(&vocabulary()), Some(WeightFormat::Q8_0), "name", path).unwrap();
    }
    let bytes = std::fs::read(&first).unwrap();
    assert_eq!(bytes, std::fs::read(&second).unwrap());
    let again = gguf::save(&model, None, Some(WeightFormat::F32), "name", &first).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Usage);
    let again = llama2c::save(&model, &first).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Usage);
    assert_eq!(bytes, std::fs::read(&first).unwrap());
    assert_eq!(folder.path().read_dir().unwrap().count(), 2, "nothing else is left");
}

#[test]
fn values_too_large_for_a_type_are_refused_and_leave_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let model = random_weights(&TransformerConfig::llama(size(50, 40, 2, 4, 32)));
    let model = taal_model::parameters::replace(model, |name, shape| -> Result<Vec<f32>, std::convert::Infallible> {
        let value = if name == "blocks.1.attention.output.weight" {
            1e9
        } else {
            0.5
        };
        Ok(vec![value; shape.iter().product()])
    })
    .unwrap();
    for tensor_type in [Some(WeightFormat::F16), Some(WeightFormat::Q8_0)] {
        let error = gguf::save(&model, None, tensor_type, "name", &path)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("blk.1.attn_output.weight") && error.contains("f32"),
            "{error}"
        );
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    }
}

fn vocabulary() -> Vocabulary {
    Vocabulary {
        model: "llama".to_string(),
        pre: Some("default".to_string()),
        tokens: ["<unk>", "<s>", "</s>", "\u{2581}", "é"].map(str::to_string).to_vec(),
        scores: Some(vec![0.0, 0.0, 0.0, -1.0, -2.0]),
        kinds: Some(vec![
            TokenKind::Unknown,
            TokenKind::Control,
            TokenKind::Control,
            TokenKind::Normal,
            TokenKind::UserDefined,
        ]),
        bos_id: Some(1),
        eos_id: Some(2),
        unk_id: Some(0),
        add_bos: Some(true),
        add_eos: Some(false),
        add_space_prefix: Some(false),
        ..Vocabulary::default()
    }
}

#[test]
fn a_vocabulary_comes_back_without_padding_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let model = random_weights(&TransformerConfig::llama(size(50, 40, 2, 4, 32)));
    gguf::save(&model, Some(&vocabulary()), Some(WeightFormat::F32), "name", &path).unwrap();
    let contents = gguf::open(&path, &Device::flex()).unwrap();
    assert_eq!(contents.vocabulary, Some(vocabulary()));
    assert_eq!(contents.model.config().vocab_size, 50);
}

#[test]
fn architectures_of_llama_cpp_that_differ_in_a_detail_are_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let gpt2 = TransformerConfig::gpt2(size(50, 40, 2, 4, 32));
    let qwen3 = TransformerConfig::qwen3(size(50, 40, 2, 4, 32));
    let llama = TransformerConfig::llama(size(50, 40, 2, 4, 32));
    let cases = [
        (
            "activation",
            TransformerConfig {
                activation: Activation::Relu,
                ..gpt2
            },
        ),
        (
            "qkv_bias",
            TransformerConfig {
                qkv_bias: true,
                ..qwen3
            },
        ),
        (
            "window",
            TransformerConfig {
                window: Some(5),
                ..llama
            },
        ),
        ("is_causal", TransformerConfig::bert(size(50, 40, 2, 4, 32))),
    ];
    for (field, config) in cases {
        let error = gguf::save(&random_weights(&config), None, Some(WeightFormat::F32), "name", &path).unwrap_err();
        assert!(error.to_string().contains(field), "{field}: {error}");
        assert_eq!(error.kind(), ErrorKind::Usage, "{field}");
    }
}

#[test]
fn llama2c_files_equal_their_source_models() {
    for (name, model) in LLAMA2C {
        let (dir, golden) = golden(model);
        let theirs = hugging_face::open(&dir, &Device::flex()).unwrap();
        let ours = llama2c::open(&file(name), &Device::flex()).unwrap();
        assert_eq!(weights(&ours), weights(&theirs), "{name}");
        assert_eq!(ours.config(), theirs.config(), "{name}");
        for sample in &golden.samples {
            let difference = difference(&ours, sample);
            assert!(difference < LOGIT_TOLERANCE, "{name}: {difference}");
        }
    }
}

#[test]
fn written_llama2c_files_have_the_bytes_of_its_own_exporter() {
    let folder = tempfile::tempdir().unwrap();
    for (name, model) in LLAMA2C.into_iter().filter(|(name, _)| name.ends_with("v0.bin")) {
        let model = hugging_face::open(&golden_dir(model), &Device::flex()).unwrap();
        let path = folder.path().join(name);
        llama2c::save(&model, &path).unwrap();
        let [theirs, ours] = [file(name), path].map(|path| std::fs::read(path).unwrap());
        assert_eq!(ours.len(), theirs.len(), "{name}");
        // The unused tables of cosines and sines may differ in the last bit.
        let [theirs, ours] = [theirs, ours].map(|bytes| bytes.as_chunks::<4>().0.to_vec());
        let far = ours.iter().zip(&theirs).position(|(ours, theirs)| {
            let [ours, theirs] = [ours, theirs].map(|bytes| f32::from_le_bytes(*bytes));
            ours.to_bits() != theirs.to_bits() && (ours - theirs).abs() > 1e-6
        });
        assert_eq!(far, None, "{name}");
        let differing = ours.iter().zip(&theirs).filter(|(ours, theirs)| ours != theirs).count();
        let angles = 32 * 8;
        assert!(differing < angles, "{name}: {differing}");
    }
}

#[test]
fn what_llama2c_does_not_support_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.bin");
    let llama = TransformerConfig::llama(size(50, 40, 2, 4, 32));
    let cases: [(&str, TransformerConfig); 6] = [
        ("norm", TransformerConfig::gpt2(size(50, 40, 2, 4, 32))),
        (
            "rope_theta",
            TransformerConfig {
                rope_theta: 500_000.0,
                ..llama.clone()
            },
        ),
        (
            "norm_eps",
            TransformerConfig {
                norm_eps: 1e-6,
                ..llama.clone()
            },
        ),
        (
            "head_dim",
            TransformerConfig {
                head_dim: 12,
                ..llama.clone()
            },
        ),
        (
            "qkv_bias",
            TransformerConfig {
                qkv_bias: true,
                ..llama.clone()
            },
        ),
        (
            "rope_scaling",
            TransformerConfig {
                rope_scaling: Some(RopeScaling::Linear { factor: 2.0 }),
                ..llama
            },
        ),
    ];
    for (field, config) in cases {
        let error = llama2c::save(&random_weights(&config), &path).unwrap_err();
        assert!(error.to_string().contains(field), "{field}: {error}");
        assert_eq!(error.kind(), ErrorKind::Usage, "{field}");
        assert!(!path.exists());
    }
}

/// The golden LLaMA file with some bytes changed.
fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = std::fs::read(file("llama-untied-f32.gguf")).unwrap();
    change(&mut bytes);
    bytes
}

fn with_number(key: &str, number: u32) -> Vec<u8> {
    changed(|bytes| {
        let at = after(bytes, key) + 4;
        bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
    })
}

fn with_name(from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    changed(|bytes| {
        let end = after(bytes, from);
        bytes[end - to.len()..end].copy_from_slice(to.as_bytes());
    })
}

#[test]
fn r6_every_truncation_of_a_gguf_file_is_refused() {
    let whole = std::fs::read(file("llama-untied-q8_0.gguf")).unwrap();
    let header = data_start(&whole);
    let ends = (0..header).step_by(7).chain((header..whole.len() - 32).step_by(997));
    for end in ends {
        assert_says(&refusal(&whole[..end]), &["model.gguf"]);
    }
    assert_says(&refusal(&whole[..whole.len() - 40]), &["copy the file again"]);
}

#[test]
fn r6_damaged_gguf_containers_are_refused_and_named() {
    let at = |at: usize, value: &[u8]| changed(|bytes| bytes[at..at + value.len()].copy_from_slice(value));
    assert_says(&refusal(&at(0, b"GGML")), &["not a GGUF file"]);
    assert_says(&refusal(&at(4, &1_u32.to_le_bytes())), &["version 1", "convert"]);
    assert_says(&refusal(&at(4, &4_u32.to_le_bytes())), &["version 4"]);
    assert_says(&refusal(&at(4, &3_u32.to_be_bytes())), &["big-endian", "convert"]);
    assert_says(
        &refusal(&at(8, &u64::MAX.to_le_bytes())),
        &["18446744073709551615 tensors"],
    );
    assert_says(
        &refusal(&at(16, &u64::MAX.to_le_bytes())),
        &["18446744073709551615 keys"],
    );
    assert_says(&refusal(&at(24, &u64::MAX.to_le_bytes())), &["the name of key 0"]);
    let kind_of_key = changed(|bytes| {
        let at = after(bytes, "llama.block_count");
        bytes[at] = 13;
    });
    assert_says(&refusal(&kind_of_key), &["llama.block_count", "type 13"]);
    let list = changed(|bytes| {
        let at = after(bytes, "general.architecture");
        bytes[at..at + 4].copy_from_slice(&9_u32.to_le_bytes());
        bytes[at + 4..at + 8].copy_from_slice(&8_u32.to_le_bytes());
        bytes[at + 8..at + 16].copy_from_slice(&(u64::MAX / 2).to_le_bytes());
    });
    assert_says(
        &refusal(&list),
        &["general.architecture", "more than the file has bytes"],
    );
    let twice = with_name("blk.0.attn_q.weight", "blk.0.attn_k.weight");
    assert_says(&refusal(&twice), &["tensor `blk.0.attn_k.weight` is there twice"]);
    let key_twice = with_name("llama.attention.key_length", "llama.rope.dimension_count");
    assert_says(
        &refusal(&key_twice),
        &["key `llama.rope.dimension_count` is there twice"],
    );
}

#[test]
fn r6_tensors_of_gguf_files_match_the_keys() {
    let name = "blk.1.ffn_up.weight";
    let info = |change: fn(&mut [u8], &Info)| {
        changed(|bytes| {
            let info = Info::find(bytes, name);
            change(bytes, &info);
        })
    };
    let offset = |value: u64| {
        changed(|bytes| {
            let at = Info::find(bytes, name).kind_at() + 4;
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        })
    };
    assert_says(&refusal(&offset(33)), &[name, "not a multiple of 32", "again"]);
    let kind = |number: u8| {
        changed(|bytes| {
            let at = Info::find(bytes, name).kind_at();
            bytes[at] = number;
        })
    };
    assert_says(&refusal(&kind(16)), &[name, "IQ2_XXS", "llama-quantize"]);
    assert_says(
        &refusal(&kind(11)),
        &[name, "rows of 32 values", "Q3_K", "256", "again"],
    );
    assert_says(&refusal(&kind(99)), &[name, "number 99", "llama-quantize"]);
    // Of so many that what is read is too little for the model.
    let all = changed(|bytes| {
        let parts = [
            "attn_q",
            "attn_k",
            "attn_v",
            "attn_output",
            "ffn_gate",
            "ffn_up",
            "ffn_down",
        ];
        let of_blocks = (0..2).flat_map(|block| parts.map(|part| format!("blk.{block}.{part}.weight")));
        for name in of_blocks.chain(["token_embd.weight", "output.weight"].map(str::to_owned)) {
            let at = Info::find(bytes, &name).kind_at();
            bytes[at] = 34;
        }
    });
    assert_says(&refusal(&all), &["TQ1_0", "which is not read", "llama-quantize"]);
    let giant = info(|bytes, info| bytes[info.at..info.at + 8].copy_from_slice(&u64::MAX.to_le_bytes()));
    assert_says(&refusal(&giant), &[name, "a dimension of more than"]);
    let deep = info(|bytes, info| bytes[info.at - 4] = 200);
    assert_says(&refusal(&deep), &[name, "200 dimensions"]);
    let turned = info(|bytes, info| bytes[info.at..info.at + 16].rotate_left(8));
    assert_says(&refusal(&turned), &[name, "has shape [32, 48]", "ask for [48, 32]"]);
    let missing = with_name(name, "blk.1.ffn_uq.weight");
    assert_says(&refusal(&missing), &["tensor `blk.1.ffn_up.weight` is missing"]);
    assert_says(
        &refusal(&with_number("llama.block_count", 1)),
        &["blk.1.", "has no place"],
    );
    let not_a_number = changed(|bytes| {
        let at = data_start(bytes) + Info::find(bytes, name).offset as usize + 4 * 70;
        bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    assert_says(&refusal(&not_a_number), &[name, "NaN", "index 70"]);
}

#[test]
fn r6_gguf_keys_of_an_invalid_model_are_refused_and_named() {
    assert_says(
        &refusal(&with_name("general.architecture", "general.architectura")),
        &["general.architecture` is missing"],
    );
    let falcon = changed(|bytes| {
        let at = after(bytes, "llama");
        bytes[at - 5..at].copy_from_slice(b"lamma");
    });
    assert_says(
        &refusal(&falcon),
        &["general.architecture", "gpt2, llama, qwen2, qwen3", "lamma"],
    );
    for (key, number, words) in [
        ("llama.embedding_length", 0, &["d_model"][..]),
        (
            "llama.embedding_length",
            u32::MAX,
            &["llama.embedding_length", "16777216"],
        ),
        ("llama.attention.head_count", 0, &["llama.attention.head_count"]),
        ("llama.attention.head_count_kv", 3, &["n_kv_heads"]),
        (
            "llama.attention.key_length",
            16,
            &["llama.attention.value_length", "16"],
        ),
        (
            "llama.feed_forward_length",
            40,
            &["blk.0.ffn_up.weight", "[48, 32]", "[40, 32]"],
        ),
        ("llama.vocab_size", 51, &["token_embd.weight", "[50, 32]", "[51, 32]"]),
        ("llama.embedding_length", MAX_DIMENSION as u32, &["too few"]),
        ("llama.block_count", 4096, &["too few"]),
        ("llama.block_count", 5000, &["llama.block_count", "4096"]),
        ("llama.context_length", MAX_DIMENSION as u32, &["max_seq_len"]),
    ] {
        assert_says(&refusal(&with_number(key, number)), words);
    }
}

#[test]
fn a_part_of_a_split_model_is_refused_with_a_hint() {
    // 64 bytes of keys, so that the tensors stay aligned.
    let parts = [
        &11_u64.to_le_bytes()[..],
        b"split.count",
        &10_u32.to_le_bytes(),
        &3_u64.to_le_bytes(),
    ]
    .concat();
    let other = [
        &20_u64.to_le_bytes()[..],
        b"a.key.of.20.letters_",
        &7_u32.to_le_bytes(),
        &[1],
    ]
    .concat();
    let keys = [parts, other].concat();
    assert_eq!(keys.len(), 64);
    let bytes = changed(|bytes| {
        bytes[16] += 2;
        bytes.splice(24..24, keys);
    });
    assert_says(
        &refusal(&bytes),
        &["split.count", "3 files", "llama-gguf-split --merge"],
    );
}

fn llama2c_refusal(bytes: &[u8]) -> ModelError {
    llama2c::from_bytes(Path::new("model.bin"), bytes, &Device::flex()).expect_err("this must be refused")
}

#[test]
fn r6_damaged_llama2c_files_are_refused_and_named() {
    for (name, header) in [("llama-tied-v0.bin", 28), ("llama-untied-v1.bin", 256)] {
        let whole = std::fs::read(file(name)).unwrap();
        for end in (0..header).chain((header..whole.len()).step_by(997)) {
            assert_says(
                &llama2c_refusal(&whole[..end]),
                &["model.bin", "llama2.c", "copy it again"],
            );
        }
        let longer = [&whole[..], &[0; 4]].concat();
        assert_says(&llama2c_refusal(&longer), &["describes", "copy it again"]);
    }
    let with = |index: usize, number: i32| {
        let mut bytes = std::fs::read(file("llama-tied-v0.bin")).unwrap();
        bytes[4 * index..4 * index + 4].copy_from_slice(&number.to_le_bytes());
        bytes
    };
    for (index, number, words) in [
        (0, -1, &["dim = -1", "expected 1..=16777216"][..]),
        (1, 0, &["hidden_dim = 0"]),
        (2, 5000, &["n_layers = 5000", "4096"]),
        (3, 5, &["n_heads = 5"]),
        (4, 3, &["n_kv_heads = 3"]),
        (5, i32::MIN, &["llama2.c"]),
        (5, -50, &["describes"]),
        (6, i32::MAX, &["seq_len"]),
        (6, MAX_DIMENSION as i32, &["describes"]),
    ] {
        assert_says(&llama2c_refusal(&with(index, number)), words);
    }
    let versioned = |at: usize, value: u8| {
        let mut bytes = std::fs::read(file("llama-untied-v1.bin")).unwrap();
        bytes[at] = value;
        bytes
    };
    assert_says(&llama2c_refusal(&versioned(4, 2)), &["version 2", "--version 0"]);
    assert_says(&llama2c_refusal(&versioned(4, 9)), &["version 9"]);
    assert_says(&llama2c_refusal(&versioned(36, 7)), &["shared_classifier = 7"]);
    let mut bytes = std::fs::read(file("llama-tied-v0.bin")).unwrap();
    bytes[28 + 4 * 3..28 + 4 * 4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    assert_says(&llama2c_refusal(&bytes), &["token_embedding", "inf", "index 3"]);
}
