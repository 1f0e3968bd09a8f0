//! Scaled angles and lists of numbers in GGUF files (report 13).

use burn::tensor::Device;
use taal_exchange::gguf;
use taal_model::{RopeScaling, TransformerConfig, WeightFormat};

use crate::support::{TOLERANCE, assert_logits, logits, open, random_weights, some_ids, variants};

/// The usual YaRN.
const YARN: RopeScaling = RopeScaling::Yarn {
    factor: 4.0,
    original_max_position_embeddings: 16,
    attention_factor: None,
    mscale: None,
    mscale_all_dim: None,
    beta_fast: 32.0,
    beta_slow: 1.0,
    truncate: true,
};
use crate::size;

#[test]
fn report_13_scaled_angles_survive_gguf() {
    let folder = tempfile::tempdir().unwrap();
    for (index, variant) in variants().iter().enumerate() {
        let model = open(variant);
        let Some(scaling) = model.config().rope_scaling else {
            continue;
        };
        let path = folder.path().join(format!("{index}.gguf"));
        match gguf::save(&model, None, Some(WeightFormat::F32), "name", &path) {
            Ok(()) => {
                let opened = gguf::open(&path, &Device::flex()).unwrap().model;
                assert_logits(&logits(&opened, &variant.input_ids), &variant.logits, &variant.name);
            }
            Err(error) => {
                let (error, name) = (error.to_string(), &variant.name);
                let has_reason = match scaling {
                    RopeScaling::Yarn { truncate: false, .. } => error.contains("outwards"),
                    RopeScaling::Yarn { beta_fast: 2.0, .. } => error.contains("beta_fast of 32"),
                    // ModernBERT is not a supported architecture, nor is Mistral's window.
                    _ => ["modernbert", "mistral"].contains(&&*variant.base) && error.contains("GGUF"),
                };
                assert!(has_reason, "{name}: {error}");
            }
        }
    }
}

/// The bytes of a GGUF file.
fn gguf_of(config: &TransformerConfig) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    gguf::save(&random_weights(config), None, Some(WeightFormat::F32), "name", &path).unwrap();
    std::fs::read(path).unwrap()
}

#[test]
fn report_13_gguf_files_with_yarn_have_its_angles() {
    let yarn = |beta_fast: f64, beta_slow: f64| TransformerConfig {
        rope_scaling: Some(RopeScaling::Yarn {
            factor: 4.0,
            original_max_position_embeddings: 16,
            attention_factor: Some(0.75),
            mscale: None,
            mscale_all_dim: None,
            beta_fast,
            beta_slow,
            truncate: true,
        }),
        rope_theta: 10.0,
        ..TransformerConfig::llama(size(50, 32, 2, 4, 32))
    };
    let usual = gguf_of(&yarn(32.0, 1.0));
    // llama.cpp's factor in addition to YaRN's standard factor, 1.1386.
    let key = b"llama.rope.scaling.attn_factor";
    let at = usual.windows(key.len()).position(|window| window == key).unwrap() + key.len() + 4;
    let number = f32::from_le_bytes(usual[at..at + 4].try_into().unwrap());
    assert!((number - 0.658_686_8).abs() < 1e-6, "{number}");
    // As llama.cpp's converter writes these two; the third pads the three to 128 bytes, so that tensor offsets stay aligned.
    let numbers = [
        ("llama.rope.scaling.yarn_beta_fast", 1.0),
        ("llama.rope.scaling.yarn_beta_slow", 0.25),
        ("general.number", 0.0),
    ];
    let others = with_numbers(&usual, &numbers);
    for (bytes, beta_fast, beta_slow) in [(usual, 32.0, 1.0), (others, 1.0, 0.25)] {
        let opened = gguf::from_bytes("model.gguf".as_ref(), &bytes, &Device::flex())
            .unwrap()
            .model;
        let some = some_ids(1, 24, 50);
        let expected = random_weights(&yarn(beta_fast, beta_slow));
        let difference = opened.forward(some.clone()).unwrap() - expected.forward(some).unwrap();
        let difference: f32 = difference.abs().max().into_scalar();
        assert!(difference < TOLERANCE, "beta_fast {beta_fast}: {difference}");
    }
}

/// The bytes of a file with additional keys of single-precision numbers.
fn with_numbers(bytes: &[u8], numbers: &[(&str, f32)]) -> Vec<u8> {
    let mut changed = bytes[..16].to_vec();
    let n_keys = u64::from_le_bytes(bytes[16..24].try_into().unwrap());
    changed.extend((n_keys + numbers.len() as u64).to_le_bytes());
    for (key, number) in numbers {
        changed.extend((key.len() as u64).to_le_bytes());
        changed.extend(key.as_bytes());
        // The kind of such a number is 6.
        changed.extend(6_u32.to_le_bytes());
        changed.extend(number.to_le_bytes());
    }
    changed.extend(&bytes[24..]);
    assert_eq!((changed.len() - bytes.len()) % 32, 0);
    changed
}

#[test]
fn report_13_gguf_keys_that_change_yarn_in_other_ways_are_refused_and_named() {
    let linear = TransformerConfig {
        rope_scaling: Some(RopeScaling::Linear { factor: 4.0 }),
        ..TransformerConfig::llama(size(50, 32, 2, 4, 32))
    };
    let yarn = TransformerConfig {
        rope_scaling: Some(YARN),
        ..linear.clone()
    };
    for (config, key) in [
        (&linear, "llama.rope.scaling.attn_factor"),
        (&yarn, "llama.rope.scaling.yarn_ext_factor"),
        (&yarn, "llama.rope.scaling.yarn_attn_factor"),
        (&yarn, "llama.rope.scaling.yarn_log_multiplier"),
        (&yarn, "llama.rope.scaling.alpha"),
    ] {
        // Two keys of 64 characters together are 96 bytes.
        let filler = &"general.number".repeat(4)[..64 - key.len()];
        let bytes = with_numbers(&gguf_of(config), &[(key, 0.5), (filler, 0.0)]);
        let error = gguf::from_bytes("model.gguf".as_ref(), &bytes, &Device::flex())
            .unwrap_err()
            .to_string();
        assert!(error.contains(&format!("`{key}`")) && error.contains("0.5"), "{error}");
    }
}

/// The bytes of a file in which the number of a key is a list instead.
fn with_list(bytes: &[u8], key: &str, list: &[u32]) -> Vec<u8> {
    // The length before a key tells head_count from head_count_kv.
    let written = [&(key.len() as u64).to_le_bytes(), key.as_bytes()].concat();
    let at = bytes
        .windows(written.len())
        .position(|window| window == written)
        .unwrap()
        + written.len();
    // A kind is 4 bytes: 4 is a 32-bit integer without a sign, 9 a list, 5 a signed 32-bit integer, as in gguf's Python package.
    assert_eq!(bytes[at..at + 4], 4_u32.to_le_bytes());
    let mut changed = bytes[..at].to_vec();
    changed.extend(9_u32.to_le_bytes());
    changed.extend(5_u32.to_le_bytes());
    changed.extend((list.len() as u64).to_le_bytes());
    changed.extend(list.iter().flat_map(|number| number.to_le_bytes()));
    changed.extend(&bytes[at + 8..]);
    // Six numbers add 32 bytes, so tensors stay aligned.
    assert_eq!((changed.len() - bytes.len()) % 32, 0);
    changed
}

#[test]
fn report_13_gguf_lists_of_one_number_per_layer_are_read_where_all_are_equal() {
    let config = TransformerConfig {
        n_kv_heads: 2,
        ..TransformerConfig::llama(size(50, 32, 6, 4, 32))
    };
    let bytes = gguf_of(&config);
    let open = |bytes: &[u8]| gguf::from_bytes("model.gguf".as_ref(), bytes, &Device::flex());
    let keys = [
        ("llama.attention.head_count", 4),
        ("llama.attention.head_count_kv", 2),
        ("llama.feed_forward_length", config.d_ff as u32),
    ];
    let mut lists = bytes.clone();
    for (key, number) in keys {
        lists = with_list(&lists, key, &[number; 6]);
    }
    let opened = open(&lists).unwrap().model;
    assert_eq!(opened.config(), open(&bytes).unwrap().model.config());
    assert_eq!(opened.config().n_kv_heads, 2);
    let ids = some_ids(1, 24, 50);
    let difference = opened.forward(ids.clone()).unwrap() - random_weights(&config).forward(ids).unwrap();
    let difference: f32 = difference.abs().max().into_scalar();
    assert_eq!(difference, 0.0);
    for (key, number) in keys {
        let mut list = [number; 6];
        list[3] = 1;
        let error = open(&with_list(&bytes, key, &list)).unwrap_err().to_string();
        let values = format!("{number}, {number}, {number}, 1, {number}, {number}");
        assert!(
            error.contains(&format!("`{key}`")) && error.contains(&values),
            "{error}"
        );
        // Fourteen numbers also add a multiple of 32 bytes.
        let error = open(&with_list(&bytes, key, &[number; 14])).unwrap_err().to_string();
        assert!(
            error.contains(key) && error.contains("6 numbers") && error.contains("14"),
            "{error}"
        );
    }
}
