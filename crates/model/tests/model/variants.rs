//! The golden models under other configurations, against what transformers computes with the same files.

use serde_json::{Value, json};
use taal_model::hugging_face::{self, Companions};

use burn::tensor::Device;

use super::support::{assert_logits, config_of, logits, open, variants};

#[test]
fn report_13_logits_of_what_transformers_opens_are_those_of_transformers() {
    let variants = variants();
    assert!(variants.len() >= 40, "{}", variants.len());
    for variant in variants {
        let got = logits(&open(&variant), &variant.input_ids);
        assert_logits(&got, &variant.logits, &variant.name);
    }
}

#[test]
fn report_13_scaled_angles_survive_taals_own_directory() {
    let folder = tempfile::tempdir().unwrap();
    for (index, variant) in variants().iter().enumerate() {
        let model = open(variant);
        let Some(scaling) = model.config().rope_scaling else {
            continue;
        };
        let dir = folder.path().join(format!("model-{index}"));
        hugging_face::save(&model, &dir, Companions::default()).unwrap();
        let saved = hugging_face::open(&dir, &Device::flex()).unwrap();
        assert_eq!(saved.config().rope_scaling, Some(scaling), "{}", variant.name);
        assert_logits(&logits(&saved, &variant.input_ids), &variant.logits, &variant.name);
    }
}

#[test]
fn report_13_yarn_keys_that_have_no_meaning_are_refused_and_named() {
    let yarn = |key: &'static str, value: Value| {
        let mut object = json!({"rope_type": "yarn", "factor": 4.0, "rope_theta": 10.0});
        object[key] = value;
        let error = config_of("llama-linear", |json| json["rope_scaling"] = object).unwrap_err();
        error.to_string()
    };
    for (key, value, words) in [
        ("factor", json!(0.5), ["factor", "at least 1"]),
        ("factor", json!("4"), ["factor", "number"]),
        ("beta_fast", json!(-1), ["beta_fast", "above 0"]),
        ("beta_slow", json!(true), ["beta_slow", "number"]),
        ("attention_factor", json!(0), ["attention_factor", "above 0"]),
        ("truncate", json!(1), ["truncate", "true or false"]),
        (
            "original_max_position_embeddings",
            json!(0),
            ["original_max_position_embeddings", "1..="],
        ),
    ] {
        let message = yarn(key, value);
        assert!(
            words.iter().all(|word| message.contains(word)),
            "{message} lacks one of {words:?}"
        );
        assert!(message.contains("config.json"), "{message}");
    }
}
