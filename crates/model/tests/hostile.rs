//! Untrusted model directories: each damaged, oversized or disguised file gives one message that names it, and no memory is taken
//! for missing weights.

use std::path::Path;

use burn::tensor::Device;
use serde_json::{Map, Value, json};
use taal_model::hugging_face::{self, refuse_pickle};
use taal_model::{MAX_DIMENSION, ModelError, ModelSize, PositionKind, TransformerConfig};
use taal_store::ErrorKind;

const Q_PROJ: &str = "model.layers.0.self_attn.q_proj.weight";
const NORM: &str = "model.norm.weight";
/// Where the golden file's first, second and last tensor end.
const ENDS: [u64; 3] = [6_400, 12_800, 74_880];

fn golden(name: &str) -> Vec<u8> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/llama-untied");
    std::fs::read(dir.join(name)).unwrap()
}

fn config_json() -> String {
    String::from_utf8(golden("config.json")).unwrap()
}

/// The golden file's header and tensors.
fn parts() -> (Map<String, Value>, Vec<u8>) {
    let bytes = golden("model.safetensors");
    let (length, rest) = bytes.split_first_chunk::<8>().unwrap();
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    (serde_json::from_slice(header).unwrap(), data.to_vec())
}

fn file(header: &[u8], data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header, data].concat()
}

/// The golden file with another header.
fn header(change: impl FnOnce(&mut Map<String, Value>)) -> Vec<u8> {
    let (mut header, data) = parts();
    change(&mut header);
    file(&serde_json::to_vec(&header).unwrap(), &data)
}

/// The golden file with a key of one tensor changed.
fn tensor(name: &str, key: &str, value: Value) -> Vec<u8> {
    header(|header| header[name][key] = value)
}

/// The golden file with text in its header replaced, for what a JSON value cannot hold.
fn text(from: &str, to: &str) -> Vec<u8> {
    let (header, data) = parts();
    let text = serde_json::to_string(&header).unwrap();
    assert!(text.contains(from), "{text} lacks {from}");
    file(text.replacen(from, to, 1).as_bytes(), &data)
}

/// The golden file with bytes of one tensor overwritten.
fn values(name: &str, index: usize, value: f32) -> Vec<u8> {
    let (header, mut data) = parts();
    let start = header[name]["data_offsets"][0].as_u64().unwrap() as usize + 4 * index;
    data[start..start + 4].copy_from_slice(&value.to_le_bytes());
    file(&serde_json::to_vec(&header).unwrap(), &data)
}

fn refusal(config: &str, weights: &[u8]) -> ModelError {
    hugging_face::from_bytes(config, weights, &Device::flex()).expect_err("this must be refused")
}

#[track_caller]
fn assert_says(error: &ModelError, words: &[&str]) {
    let message = error.to_string();
    assert!(
        words.iter().all(|word| message.contains(word)),
        "{message} lacks one of {words:?}"
    );
    assert!(message.len() < 1000 && !message.contains('\n'), "{message}");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[test]
fn r15_the_golden_file_itself_opens() {
    let (header, data) = parts();
    for (name, end) in [("lm_head.weight", ENDS[0]), (NORM, ENDS[2])] {
        assert_eq!(header[name]["data_offsets"][1], end);
    }
    let again = file(&serde_json::to_vec(&header).unwrap(), &data);
    hugging_face::from_bytes(&config_json(), &again, &Device::flex()).unwrap();
}

#[test]
fn r15_attacks_on_the_file_around_the_header_are_refused() {
    let whole = golden("model.safetensors");
    let (header, data) = parts();
    let header = serde_json::to_vec(&header).unwrap();
    let with_length = |length: u64| [&length.to_le_bytes(), &whole[8..]].concat();
    let attacks: [(&str, Vec<u8>, &[&str]); 12] = [
        ("empty", Vec::new(), &["0 bytes"]),
        ("seven bytes", whole[..7].to_vec(), &["7 bytes"]),
        (
            "length alone",
            2088_u64.to_le_bytes().to_vec(),
            &["2088", "only 0 follow"],
        ),
        ("header of no bytes", with_length(0), &["header", "damaged"]),
        (
            "header over 100 MB",
            with_length(100_000_001),
            &["100000001 bytes", "at most"],
        ),
        (
            "header larger than memory",
            with_length(u64::MAX),
            &["18446744073709551615 bytes", "at most"],
        ),
        (
            "header longer than the file",
            with_length(whole.len() as u64),
            &["only 76968 follow"],
        ),
        (
            "header that ends in the tensors",
            with_length(2100),
            &["header", "damaged"],
        ),
        ("one byte cut off", whole[..whole.len() - 1].to_vec(), &["not a whole"]),
        ("one byte added", [&whole[..], &[0]].concat(), &["not a whole"]),
        ("no tensors", file(b"{}", b""), &["0 bytes of tensors are too few"]),
        (
            "no header in braces",
            file(&[b"[", &header[..], b"]"].concat(), &data),
            &["header", "damaged"],
        ),
    ];
    for (name, bytes, words) in attacks {
        let error = refusal(&config_json(), &bytes);
        println!("{name}: {error}");
        assert_says(&error, &[&["model.safetensors"], words].concat());
    }
}

#[test]
fn r15_attacks_through_the_header_are_refused() {
    let offsets = |from: u64, to: u64| json!([from, to]);
    let attacks: Vec<(&str, Vec<u8>, &[&str])> = vec![
        (
            "two tensors in one place",
            tensor("model.embed_tokens.weight", "data_offsets", offsets(0, ENDS[0])),
            &["not a whole"],
        ),
        (
            "overlap by one byte",
            tensor(
                "model.embed_tokens.weight",
                "data_offsets",
                offsets(ENDS[0] - 1, ENDS[1] - 1),
            ),
            &["not a whole"],
        ),
        (
            "a hole before the first tensor",
            tensor("lm_head.weight", "data_offsets", offsets(4, ENDS[0] + 4)),
            &["not a whole"],
        ),
        (
            "a hole after the last tensor",
            header(|header| drop(header.remove(NORM))),
            &["not a whole"],
        ),
        (
            "an end before its start",
            tensor(NORM, "data_offsets", offsets(ENDS[2], ENDS[2] - 128)),
            &["not a whole"],
        ),
        (
            "an end past the file",
            tensor(NORM, "data_offsets", offsets(ENDS[2] - 128, ENDS[2] + 128)),
            &["not a whole"],
        ),
        (
            "the largest possible offset",
            tensor(NORM, "data_offsets", offsets(u64::MAX - 1, u64::MAX)),
            &["not a whole"],
        ),
        (
            "a negative offset",
            tensor(NORM, "data_offsets", json!([-128, 0])),
            &["not a whole", "-128"],
        ),
        (
            "a negative dimension",
            tensor(NORM, "shape", json!([-32])),
            &["not a whole", "-32"],
        ),
        (
            "a shape whose product overflows",
            tensor(NORM, "shape", json!([1_u64 << 32, 1_u64 << 32, 32])),
            &["not a whole"],
        ),
        (
            "a shape whose bytes overflow",
            tensor(NORM, "shape", json!([1_u64 << 62])),
            &["not a whole"],
        ),
        (
            "a shape that is larger than its bytes",
            tensor(NORM, "shape", json!([64])),
            &["not a whole"],
        ),
        (
            "a shape that is not a list",
            tensor(NORM, "shape", json!(32)),
            &["not a whole"],
        ),
        (
            "a shape of fractions",
            tensor(NORM, "shape", json!([32.5])),
            &["not a whole"],
        ),
        (
            "the same shape in another order",
            tensor(Q_PROJ, "shape", json!([16, 64])),
            &[Q_PROJ, "[16, 64]", "[32, 32]"],
        ),
        (
            "an unknown type",
            tensor(NORM, "dtype", json!("F31")),
            &["not a whole", "F31"],
        ),
        (
            "whole numbers for weights",
            tensor(NORM, "dtype", json!("I32")),
            &[NORM, "I32", "expected F32, F16 or BF16"],
        ),
        (
            "a type whose bytes do not fit the shape",
            tensor(NORM, "dtype", json!("F16")),
            &["not a whole"],
        ),
        (
            "a tensor without type",
            header(|header| drop(header[NORM].as_object_mut().unwrap().remove("dtype"))),
            &["not a whole", "dtype"],
        ),
        ("a missing tensor", text(NORM, "model.norm.bias"), &[NORM, "is missing"]),
        (
            "a tensor too many",
            {
                let (mut header, data) = parts();
                let end = data.len();
                header["__metadata__"] = json!({});
                header.insert(
                    "model.extra".into(),
                    json!({"dtype": "F32", "shape": [1], "data_offsets": [end, end + 4]}),
                );
                file(&serde_json::to_vec(&header).unwrap(), &[&data[..], &[0; 4]].concat())
            },
            &["model.extra", "no place"],
        ),
        (
            "an empty tensor with a hostile name",
            header(|header| {
                let entry = json!({"dtype": "F32", "shape": [0], "data_offsets": [ENDS[2], ENDS[2]]});
                header.insert(format!("\u{1b}[2J\n{}", "x".repeat(100_000)), entry);
            }),
            &["\\u{1b}[2J\\nxxx", "...", "no place"],
        ),
        (
            "two tensors of one name",
            text(
                "{",
                &format!("{{\"{NORM}\":{{\"dtype\":\"F32\",\"shape\":[32],\"data_offsets\":[0,128]}},"),
            ),
            &[NORM, "twice"],
        ),
        (
            "one entry that is there twice",
            text(
                "\"__metadata__\"",
                &format!(
                    "\"{NORM}\":{{\"dtype\":\"F32\",\"shape\":[32],\"data_offsets\":[{},{}]}},\"__metadata__\"",
                    ENDS[2] - 128,
                    ENDS[2]
                ),
            ),
            &[NORM, "twice"],
        ),
        (
            "a shape that is there twice",
            text("\"shape\":[50,32]", "\"shape\":[50,32],\"shape\":[32,50]"),
            &["not a whole", "duplicate"],
        ),
        (
            "metadata that is not text",
            header(|header| header["__metadata__"] = json!({"format": {"deep": [1]}})),
            &["not a whole"],
        ),
        (
            "nesting that overflows the stack",
            text("\"shape\":[50,32]", &format!("\"shape\":{}", "[".repeat(100_000))),
            &["header", "damaged"],
        ),
        (
            "a name that is not UTF-8",
            {
                let (header, data) = parts();
                let mut header = serde_json::to_vec(&header).unwrap();
                header[3] = 0xFF;
                file(&header, &data)
            },
            &["header", "damaged"],
        ),
    ];
    for (name, bytes, words) in attacks {
        let error = refusal(&config_json(), &bytes);
        println!("{name}: {error}");
        assert_says(&error, &[&["model.safetensors"], words].concat());
    }
}

#[test]
fn r15_weights_that_are_not_numbers_are_refused() {
    for (value, word) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        let error = refusal(&config_json(), &values(Q_PROJ, 70, value));
        assert_says(&error, &["model.safetensors", Q_PROJ, word, "at index 70"]);
    }
}

/// A configuration with some keys changed.
fn config(changes: &[(&str, u64)]) -> String {
    let mut config: Value = serde_json::from_str(&config_json()).unwrap();
    for (key, value) in changes {
        config[*key] = json!(value);
    }
    config.to_string()
}

#[test]
fn r15_an_oversized_configuration_is_refused_before_any_memory_is_taken() {
    let most = MAX_DIMENSION as u64;
    let weights = golden("model.safetensors");
    type Changes<'a> = &'a [(&'a str, u64)];
    let cases: [(Changes<'_>, &[&str]); 9] = [
        (
            &[("hidden_size", 1_000_000_000)],
            &["config.json", "hidden_size", "16777216"],
        ),
        (&[("hidden_size", u64::MAX)], &["config.json", "hidden_size"]),
        (&[("hidden_size", most)], &["model.safetensors", "too few"]),
        (&[("vocab_size", most)], &["model.safetensors", "too few"]),
        (&[("num_hidden_layers", most)], &["config.json", "n_layers", "4096"]),
        (&[("num_hidden_layers", 4096)], &["model.safetensors", "too few"]),
        (
            &[
                ("num_attention_heads", most),
                ("head_dim", most),
                ("intermediate_size", most),
            ],
            &["model.safetensors", "too few"],
        ),
        (
            &[
                ("num_attention_heads", most),
                ("num_key_value_heads", most),
                ("head_dim", most),
                ("hidden_size", most),
                ("intermediate_size", most),
                ("vocab_size", most),
                ("num_hidden_layers", 4096),
            ],
            &["model.safetensors", "too few", "18446744073709551615 parameters"],
        ),
        (
            &[("max_position_embeddings", most)],
            &["config.json", "max_seq_len", "make it at most"],
        ),
    ];
    for (changes, words) in cases {
        assert_says(&refusal(&config(changes), &weights), words);
    }
}

#[test]
fn tables_of_positions_may_not_outgrow_the_model() {
    let llama = TransformerConfig::llama(size(50, 1 << 19, 2, 4, 32));
    assert!(llama.validate().is_ok(), "32 MiB of tables are free");
    for (position, max_seq_len) in [(PositionKind::Rotary, 1 << 20), (PositionKind::Sinusoidal, 1 << 19)] {
        let long = TransformerConfig {
            position,
            max_seq_len,
            ..llama.clone()
        };
        let message = long.validate().expect_err("tables of over 32 MiB").to_string();
        assert!(message.starts_with("model.max_seq_len"), "{message}");
    }
    // Llama 3.2 1B as published.
    let published = TransformerConfig {
        n_kv_heads: 8,
        head_dim: 64,
        d_ff: 8192,
        tie_embeddings: true,
        ..TransformerConfig::llama(size(128_256, 131_072, 16, 32, 2048))
    };
    assert!(published.validate().is_ok());
}

/// A pickle of protocol 4 that would run a command, and one as PyTorch wrote before 1.6.
const PICKLES: [&[u8]; 2] = [
    b"\x80\x04\x95\x1f\0\0\0\0\0\0\0\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x02id\x94\x85\x94R\x94.",
    b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.",
];
/// The beginning of an archive as `torch.save` writes it.
const ARCHIVE: &[u8] = b"PK\x03\x04\0\0\x08\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x10\0\x12\0archive/data.pklFB";

#[test]
fn r20_disguised_pickles_are_refused_with_a_way_to_convert_them() {
    for disguised in [PICKLES[0], PICKLES[1], ARCHIVE, b"PK\x05\x06\0\0\0\0"] {
        let error = refusal(&config_json(), disguised);
        assert_says(&error, &["model.safetensors", "pickle", "convert"]);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), config_json()).unwrap();
        std::fs::write(folder.path().join("model.safetensors"), disguised).unwrap();
        let error = hugging_face::open(folder.path(), &Device::flex()).unwrap_err();
        assert_says(&error, &["model.safetensors", "pickle", "convert"]);
        // The same under a neutral name.
        let path = folder.path().join("weights");
        std::fs::write(&path, disguised).unwrap();
        assert_says(&refuse_pickle(&path).unwrap_err(), &["weights", "pickle", "convert"]);
    }
}

#[test]
fn r20_pickles_are_refused_by_their_ending() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.pt", "a.pth", "a.bin", "a.CKPT", "a.pkl", "a.pickle"] {
        let path = folder.path().join(name);
        std::fs::write(&path, b"anything").unwrap();
        assert_says(&refuse_pickle(&path).unwrap_err(), &[name, "pickle", "safetensors"]);
        assert_says(
            &hugging_face::open(&path, &Device::flex()).unwrap_err(),
            &[name, "pickle", "safetensors"],
        );
    }
    refuse_pickle(&folder.path().join("absent.pt")).unwrap();
    let path = folder.path().join("model.safetensors");
    std::fs::write(&path, golden("model.safetensors")).unwrap();
    refuse_pickle(&path).unwrap();
}

#[test]
fn r20_a_directory_whose_weights_are_pickles_says_so() {
    for name in ["pytorch_model.bin", "pytorch_model.bin.index.json"] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), config_json()).unwrap();
        std::fs::write(folder.path().join(name), b"anything").unwrap();
        let error = hugging_face::open(folder.path(), &Device::flex()).unwrap_err();
        assert_says(&error, &[name, "pickle", "save_pretrained"]);
        // Next to safetensors it is ignored.
        std::fs::write(folder.path().join("model.safetensors"), golden("model.safetensors")).unwrap();
        hugging_face::open(folder.path(), &Device::flex()).unwrap();
    }
}

#[test]
fn a_configuration_shows_what_it_was_given_without_control_characters() {
    let mut json: Value = serde_json::from_str(&config_json()).unwrap();
    json["model_type"] = json!(format!("\u{1b}]0;{}", "x".repeat(10_000)));
    let error = refusal(&json.to_string(), &golden("model.safetensors"));
    assert_says(&error, &["config.json", "model_type", "\\u{1b}]0;xxx", "..."]);
}

/// [`ModelSize`] in one line: vocabulary, context, layers, heads, width.
fn size(vocab_size: usize, max_seq_len: usize, n_layers: usize, n_heads: usize, d_model: usize) -> ModelSize {
    ModelSize {
        vocab_size,
        max_seq_len,
        n_layers,
        n_heads,
        d_model,
    }
}
