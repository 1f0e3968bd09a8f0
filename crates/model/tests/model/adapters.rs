//! Adapters: PEFT's directories read and written, on the model that they were made for.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use taal_model::hugging_face::{self, Base, Companions, Family, Lora};
use taal_model::{ForwardOptions, ModelError, Role, Transformer, TransformerConfig, WeightFormat, parameters};

use super::support::{golden_dir, ids, largest_difference, many_configs, random_weights, some_ids};
use crate::model::support::{LOGIT_TOLERANCE, against, golden};

/// Largest difference between merged and unmerged logits, relative to the largest.
const MERGED_TOLERANCE: f32 = 1e-5;

fn lora(targets: &[&str]) -> Lora {
    Lora {
        rank: 3,
        alpha: 7.0,
        is_rslora: false,
        dropout: 0.1,
        targets: targets.iter().map(|target| (*target).to_owned()).collect(),
        modules_to_save: Vec::new(),
    }
}

/// A model with adapters that do something: B is zero in a fresh one.
fn adapted(config: &TransformerConfig, family: Family, lora: &Lora) -> Transformer {
    let model = random_weights(config).with_lora(lora, family, 5).unwrap();
    let mut number = 0.0_f32;
    parameters::replace(model, |_, shape| -> Result<Vec<f32>, ModelError> {
        let count = shape.iter().product();
        Ok((0..count)
            .map(|_| {
                number += 0.37;
                0.3 * number.sin()
            })
            .collect())
    })
    .unwrap()
}

/// A base model on disk, and one with an adapter of it.
fn saved(folder: &Path, name: &str, config: &TransformerConfig, lora: &Lora) -> (Base, Transformer) {
    let dir = folder.join(name);
    let model = adapted(config, Family::of(config), lora);
    let mut base = random_weights(config);
    // The same weights as those of the adapted model.
    let mut values = std::collections::BTreeMap::new();
    parameters::read(&model, |name, _, found| {
        values.insert(name.to_owned(), found);
    });
    base = parameters::replace(base, |name, _| Ok::<_, ModelError>(values[name].clone())).unwrap();
    hugging_face::save(&base, &dir, Companions::default()).unwrap();
    (Base::open(&dir).unwrap(), model)
}

fn write(folder: &Path, name: &str, model: &Transformer, lora: &Lora, base: &Base) -> PathBuf {
    let dir = folder.join(name);
    std::fs::create_dir(&dir).unwrap();
    for (name, bytes) in hugging_face::adapter_files(model, lora, base, Companions::default()).unwrap() {
        std::fs::write(dir.join(name), bytes).unwrap();
    }
    dir
}

fn relative_difference(found: &Transformer, expected: &Transformer) -> f32 {
    let ids = || some_ids(2, 7, 50);
    let expected = expected.forward(ids()).unwrap();
    let largest: f32 = expected.clone().abs().max().into_scalar();
    largest_difference(found.forward(ids()).unwrap(), expected) / largest
}

/// Configurations whose linear layers can all have an adapter.
fn adaptable() -> Vec<(&'static str, TransformerConfig)> {
    let has_linear_layers = |(name, _): &(&str, TransformerConfig)| !name.contains("lstm");
    many_configs().into_iter().filter(has_linear_layers).collect()
}

#[test]
fn a_fresh_adapter_changes_nothing_and_a_merged_one_computes_what_it_did() {
    for (name, config) in adaptable() {
        let base = random_weights(&config);
        let fresh = base.clone().with_lora(&lora(&[]), Family::of(&config), 1).unwrap();
        assert!(fresh.has_adapter() && fresh.n_adapter_params() > 0, "{name}");
        assert_eq!(
            hugging_face::n_adapter_params(&config, Family::of(&config), &lora(&[])).unwrap(),
            fresh.n_adapter_params(),
            "{name}"
        );
        assert_eq!(relative_difference(&fresh, &base), 0.0, "{name}");
        let model = adapted(&config, Family::of(&config), &lora(&[]));
        let merged = model.clone().merged();
        assert!(!merged.has_adapter(), "{name}");
        let difference = relative_difference(&merged, &model);
        assert!(difference <= MERGED_TOLERANCE, "{name}: {difference}");
        // The adapter does something, or the test would pass without it.
        let without = relative_difference(&model, &random_weights(&config));
        assert!(without > 1e-2, "{name}: {without}");
    }
}

#[test]
fn an_adapter_directory_opens_as_the_same_adapter_of_the_same_base() {
    let folder = tempfile::tempdir().unwrap();
    let settings = |rslora, targets: &[&str]| Lora {
        is_rslora: rslora,
        ..lora(targets)
    };
    for (name, config) in adaptable() {
        for (number, lora) in [settings(false, &[]), settings(true, &[])].into_iter().enumerate() {
            let name = format!("{name} {number}");
            let (base, model) = saved(folder.path(), &name, &config, &lora);
            let dir = write(folder.path(), &format!("{name} adapter"), &model, &lora, &base);
            let opened = hugging_face::open(&base.dir, &Device::flex()).unwrap();
            let opened = hugging_face::with_adapter(opened, base.family, &dir, Some(&base.blake3)).unwrap();
            let values = |model: &Transformer| {
                let mut all = Vec::new();
                parameters::read(model, |name, shape, values| {
                    all.push((name.to_owned(), shape.to_vec(), values))
                });
                all
            };
            assert!(values(&opened) == values(&model), "{name}");
            assert_eq!(relative_difference(&opened, &model), 0.0, "{name}");
            // In the place of a model directory, the base that it names is opened, and the adapter merged.
            assert!(hugging_face::is_adapter_dir(&dir));
            let merged = hugging_face::open(&dir, &Device::flex()).unwrap();
            assert!(relative_difference(&merged, &model) <= MERGED_TOLERANCE, "{name}");
            let info = hugging_face::open_adapter_info(&dir).unwrap();
            assert_eq!(info.base_blake3.as_deref(), Some(base.blake3.as_str()));
            assert_eq!(info.n_params, model.n_adapter_params());
            assert_eq!((info.lora.rank, info.lora.alpha), (3, 7.0));
        }
    }
}

#[test]
fn adapters_of_peft_compute_what_peft_computes_and_are_written_with_the_same_tensors() {
    let names = [
        "gpt2",
        "llama",
        "llama-head",
        "qwen2",
        "bert",
        "distilbert",
        "llama-saved",
        "llama-tied-saved",
        "modernbert",
    ];
    for name in names {
        let (dir, expected) = golden(&format!("adapters/{name}"));
        let text = std::fs::read_to_string(dir.join("expected.json")).unwrap();
        let base: serde_json::Value = serde_json::from_str(&text).unwrap();
        let base_dir = golden_dir(base["base"].as_str().unwrap());
        let base = Base::open(&base_dir).unwrap();
        let model = hugging_face::open(&base_dir, &Device::flex()).unwrap();
        let model = hugging_face::with_adapter(model, base.family, &dir, None).unwrap();
        let sample = &expected.samples[0];
        let output = model
            .forward_with(ids(&sample.input_ids), ForwardOptions::default())
            .unwrap();
        let difference = against(model.logits(output.hidden), &sample.logits, sample);
        println!("{name}: {difference:e}");
        assert!(difference < LOGIT_TOLERANCE, "{name}: {difference}");
        let merged = model.clone().merged();
        let output = merged
            .forward_with(ids(&sample.input_ids), ForwardOptions::default())
            .unwrap();
        let difference = against(merged.logits(output.hidden), &sample.logits, sample);
        assert!(difference < LOGIT_TOLERANCE, "{name}, merged: {difference}");

        let info = hugging_face::open_adapter_info(&dir).unwrap();
        assert_eq!(info.base_blake3, None, "{name}");
        let files = hugging_face::adapter_files(&model, &info.lora, &base, Companions::default()).unwrap();
        let written = &files
            .iter()
            .find(|(name, _)| name == hugging_face::ADAPTER_WEIGHTS_FILE)
            .unwrap()
            .1;
        let read = std::fs::read(dir.join(hugging_face::ADAPTER_WEIGHTS_FILE)).unwrap();
        let (written, read) = [written, &read]
            .map(|bytes| safetensors::SafeTensors::deserialize(bytes).unwrap())
            .into();
        let mut names = read.names();
        names.sort_unstable();
        let mut ours = written.names();
        ours.sort_unstable();
        assert_eq!(ours, names, "{name}");
        for tensor in names {
            let [written, read] = [&written, &read].map(|tensors| tensors.tensor(tensor).unwrap());
            assert_eq!(
                (written.shape(), written.data()),
                (read.shape(), read.data()),
                "{name}: {tensor}"
            );
        }
    }
}

#[test]
fn layers_that_are_kept_whole_come_back_with_their_tokens_and_what_is_not_one_of_them_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "gpt2",
        "llama",
        "llama tied",
        "qwen3 grouped",
        "dynamic angles outside all families",
    ] {
        let (_, config) = many_configs().into_iter().find(|(known, _)| *known == name).unwrap();
        let family = Family::of(&config);
        let lora = Lora {
            modules_to_save: hugging_face::token_modules(&config, family),
            ..lora(&[])
        };
        let dir = folder.path().join(name);
        hugging_face::save(&random_weights(&config), &dir, Companions::default()).unwrap();
        let base = Base::open(&dir).unwrap();
        let more = config.vocab_size + 3;
        let model = random_weights(&config).with_vocab_size(more).unwrap();
        let model = model.with_lora(&lora, family, 5).unwrap();
        // Every parameter but those of the base has other values.
        let saved = ["token_embedding.weight", "head.weight"];
        let mut number = 0.0_f32;
        let mut held = std::collections::BTreeMap::new();
        parameters::read(&model, |name, _, values| drop(held.insert(name.to_owned(), values)));
        let rows = parameters::list(&model);
        let is_trained =
            |name: &str| saved.contains(&name) || rows.iter().any(|row| row.name == name && row.role == Role::LowRank);
        let model = parameters::replace(model, |name, _| -> Result<Vec<f32>, ModelError> {
            let mut values = held[name].clone();
            if is_trained(name) {
                for value in &mut values {
                    number += 0.37;
                    *value += 0.1 * number.sin();
                }
            }
            Ok(values)
        })
        .unwrap();
        let adapter = write(folder.path(), &format!("{name} adapter"), &model, &lora, &base);
        let opened = hugging_face::open(&dir, &Device::flex()).unwrap();
        let opened = hugging_face::with_adapter(opened, family, &adapter, Some(&base.blake3)).unwrap();
        assert_eq!(opened.config().vocab_size, more, "{name}");
        let ids = || some_ids(2, 7, more);
        let logits = |model: &Transformer| model.forward(ids()).unwrap();
        assert_eq!(largest_difference(logits(&opened), logits(&model)), 0.0, "{name}");
        assert_eq!(hugging_face::open_config(&adapter).unwrap().vocab_size, more, "{name}");
        let merged = hugging_face::open(&adapter, &Device::flex()).unwrap();
        let largest: f32 = logits(&model).abs().max().into_scalar();
        let difference = largest_difference(logits(&merged), logits(&model)) / largest;
        assert!(difference <= MERGED_TOLERANCE, "{name}: {difference}");
        let info = hugging_face::open_adapter_info(&adapter).unwrap();
        assert_eq!(info.lora.modules_to_save, lora.modules_to_save, "{name}");
        // The table of a tied model is in the file twice, and counts once.
        let whole: u64 = if config.tie_embeddings { 1 } else { 2 };
        let whole = whole * (more * config.d_model) as u64;
        assert_eq!(info.n_params, model.n_adapter_params() + whole, "{name}");

        let path = adapter.join("adapter_config.json");
        let text = std::fs::read_to_string(&path).unwrap();
        let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
        json["modules_to_save"] = serde_json::json!(["score"]);
        std::fs::write(&path, json.to_string()).unwrap();
        let error = hugging_face::open(&adapter, &Device::flex())
            .expect_err("score is no layer of it")
            .to_string();
        assert!(
            ["adapter_config.json", "modules_to_save", "score"]
                .iter()
                .all(|word| error.contains(word)),
            "{error}"
        );
    }
}

#[test]
fn a_model_with_rows_for_more_tokens_gives_the_old_ones_the_logits_they_had() {
    for (name, config) in many_configs() {
        let before = random_weights(&config);
        let (tokens, more) = (config.vocab_size, config.vocab_size + 2);
        let after = before.clone().with_vocab_size(more).unwrap();
        let ids = || some_ids(2, 7, tokens);
        let [old, new] = [&before, &after].map(|model| model.forward(ids()).unwrap());
        let [batch, seq, _] = old.dims();
        assert_eq!(new.dims(), [batch, seq, more], "{name}");
        let kept = new.clone().narrow(2, 0, tokens);
        assert!(largest_difference(kept, old.clone()) <= LOGIT_TOLERANCE, "{name}");
        // The logits are linear in the rows, unless they are capped.
        if config.logit_softcap.is_none() {
            let mean = old.mean_dim(2);
            let added = new.narrow(2, tokens, 2);
            let difference = largest_difference(added, mean.repeat_dim(2, 2));
            assert!(difference <= LOGIT_TOLERANCE, "{name}: {difference}");
        }
        assert_eq!(
            after.with_vocab_size(tokens).unwrap().config().vocab_size,
            more,
            "{name}"
        );
    }
}

#[test]
fn another_base_is_refused_with_both_hashes_and_tensors_that_do_not_fit_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let config = adaptable()[2].1.clone();
    let lora = lora(&[]);
    let (base, model) = saved(folder.path(), "base", &config, &lora);
    let dir = write(folder.path(), "adapter", &model, &lora, &base);
    let other = random_weights(&config);
    let refused = |result: Result<Transformer, ModelError>| result.expect_err("it does not fit").to_string();
    let found = "0".repeat(64);
    let error = refused(hugging_face::with_adapter(
        other.clone(),
        base.family,
        &dir,
        Some(&found),
    ));
    assert!(error.contains(&base.blake3) && error.contains(&found), "{error}");
    assert!(error.contains("which was in"), "{error}");

    let narrow = TransformerConfig {
        d_ff: config.d_ff + 1,
        ..config.clone()
    };
    let error = refused(hugging_face::with_adapter(
        random_weights(&narrow),
        base.family,
        &dir,
        None,
    ));
    assert!(error.contains("lora_") && error.contains("shape"), "{error}");
    let short = TransformerConfig {
        n_layers: 1,
        ..config.clone()
    };
    let error = refused(hugging_face::with_adapter(
        random_weights(&short),
        base.family,
        &dir,
        None,
    ));
    assert!(error.contains("layers.1.") && error.contains("no place"), "{error}");
    // The base of an adapter directory that is no longer there.
    std::fs::rename(&base.dir, folder.path().join("moved")).unwrap();
    let error = refused(hugging_face::open(&dir, &Device::flex()));
    assert!(error.contains("not there") && error.contains("--adapter"), "{error}");
}

#[test]
fn an_adapter_of_peft_that_computes_something_else_is_refused_by_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let config = adaptable()[2].1.clone();
    let lora = lora(&[]);
    let (base, model) = saved(folder.path(), "base", &config, &lora);
    let dir = write(folder.path(), "adapter", &model, &lora, &base);
    let path = dir.join("adapter_config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let open_with = |key: &str, value: serde_json::Value| {
        let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
        json[key] = value;
        std::fs::write(&path, json.to_string()).unwrap();
        hugging_face::open(&dir, &Device::flex()).map_err(|error| error.to_string())
    };
    let wrong = [
        ("init_lora_weights", serde_json::json!("pissa")),
        ("init_lora_weights", serde_json::json!("pissa_niter_16")),
        ("init_lora_weights", serde_json::json!("olora")),
        ("init_lora_weights", serde_json::json!("OLoRA")),
        ("init_lora_weights", serde_json::json!("corda")),
        ("init_lora_weights", serde_json::json!("loftq")),
        ("init_lora_weights", serde_json::json!("lora_ga")),
        ("use_dora", true.into()),
        ("lora_bias", true.into()),
        ("alora_invocation_tokens", serde_json::json!([3, 4])),
        ("layer_replication", serde_json::json!([[0, 1], [0, 2]])),
        ("trainable_token_indices", serde_json::json!({ "embed_tokens": [1] })),
        ("target_parameters", serde_json::json!(["experts.up"])),
        ("use_qalora", true.into()),
        ("use_bdlora", serde_json::json!({ "nblocks": 2 })),
        ("arrow_config", serde_json::json!({ "top_k": 3 })),
        ("kasa_config", serde_json::json!({ "beta": 1e-4 })),
        ("monteclora_config", serde_json::json!({ "num_samples": 8 })),
        ("bias", serde_json::json!("all")),
    ];
    for (key, value) in wrong {
        let error = open_with(key, value.clone()).expect_err(key);
        assert!(
            error.contains("adapter_config.json") && error.contains(&format!("key `{key}`")),
            "{key} = {value}: {error}"
        );
    }
    // What PEFT writes where these are not set, and keys that only say how it was trained or which layers have tensors.
    let right = [
        ("init_lora_weights", serde_json::json!("gaussian")),
        ("init_lora_weights", false.into()),
        ("alora_invocation_tokens", serde_json::Value::Null),
        ("lora_bias", false.into()),
        ("loftq_config", serde_json::json!({})),
        ("qalora_group_size", 16.into()),
        ("exclude_modules", serde_json::json!(["lm_head"])),
        ("layers_to_transform", serde_json::json!([0])),
        ("key_of_a_later_version", serde_json::Value::Null),
    ];
    for (key, value) in right {
        if let Err(error) = open_with(key, value) {
            panic!("{key}: {error}");
        }
    }
    let weights = dir.join("adapter_model.safetensors");
    std::fs::rename(&weights, dir.join("adapter_model.bin")).unwrap();
    let error = open_with("lora_bias", false.into()).expect_err("a pickle");
    assert!(
        error.contains("adapter_model.bin") && error.contains("only adapter_model.safetensors is read"),
        "{error}"
    );
}

#[test]
fn ranks_and_targets_that_do_not_fit_are_refused_with_what_there_is() {
    let config = adaptable()[2].1.clone();
    let family = Family::of(&config);
    let refused = |lora: &Lora| {
        random_weights(&config)
            .with_lora(lora, family, 1)
            .expect_err("it does not fit")
            .to_string()
    };
    let error = refused(&Lora { rank: 33, ..lora(&[]) });
    assert!(
        error.contains("lora.rank: expected 1..=32") && error.contains("q_proj"),
        "{error}"
    );
    let error = refused(&lora(&["q_proj", "query"]));
    assert!(
        error.contains("\"query\"") || error.contains("query is no linear layer"),
        "{error}"
    );
    assert!(
        error.contains("self_attn.q_proj") && error.contains("mlp.down_proj"),
        "{error}"
    );
}

#[test]
fn two_matrices_in_one_layer_have_twice_its_rank_and_an_adapter_that_mixes_them_is_refused() {
    let (_, config) = many_configs()
        .into_iter()
        .find(|(name, _)| *name == "modernbert")
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    for is_rslora in [false, true] {
        let lora = Lora {
            is_rslora,
            ..lora(&["Wi"])
        };
        let name = format!("modernbert {is_rslora}");
        let (base, model) = saved(folder.path(), &name, &config, &lora);
        let dir = write(folder.path(), &format!("{name} adapter"), &model, &lora, &base);
        let path = dir.join("adapter_config.json");
        let json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(json["target_modules"], serde_json::json!(["Wi"]));
        assert_eq!(json["rank_pattern"], serde_json::json!({ "mlp.Wi": 6 }));
        // 7 / 3 is 14 / 6, and 7 / sqrt(3) is 9.8995 / sqrt(6).
        let alpha = json["alpha_pattern"]["mlp.Wi"].as_f64().unwrap();
        let expected = if is_rslora { 9.899_494_936_611_665 } else { 14.0 };
        assert!((alpha - expected).abs() < 1e-12, "{alpha}");

        let weights = dir.join("adapter_model.safetensors");
        let whole = std::fs::read(&weights).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&whole).unwrap();
        let name = tensors
            .names()
            .into_iter()
            .find(|name| name.ends_with("Wi.lora_B.weight"))
            .unwrap()
            .to_owned();
        let view = tensors.tensor(&name).unwrap();
        assert_eq!(view.shape(), [2 * config.d_ff, 6]);
        // The last number of the first row belongs to the other matrix.
        let at = view.data().as_ptr() as usize - whole.as_ptr() as usize + 4 * 5;
        let mut mixed = whole.clone();
        mixed[at..at + 4].copy_from_slice(&1.0_f32.to_le_bytes());
        std::fs::write(&weights, mixed).unwrap();
        let error = hugging_face::open(&dir, &Device::flex())
            .expect_err("one A for both")
            .to_string();
        assert!(
            error.contains(&name) && error.contains("mixes the two matrices"),
            "{error}"
        );
        std::fs::write(&weights, &whole).unwrap();
        let other = json.to_string().replace("\"mlp.Wi\":6", "\"mlp.Wi\":5");
        std::fs::write(&path, other).unwrap();
        let error = hugging_face::open(&dir, &Device::flex())
            .expect_err("a rank of its own")
            .to_string();
        assert!(error.contains("rank_pattern"), "{error}");
    }
}

#[test]
fn targets_choose_queries_and_values_alone() {
    let config = TransformerConfig {
        n_kv_heads: 2,
        ..adaptable()[2].1.clone()
    };
    let lora = lora(&["q_proj", "v_proj"]);
    let folder = tempfile::tempdir().unwrap();
    let (base, model) = saved(folder.path(), "base", &config, &lora);
    let rows = parameters::list(&model);
    let adapters = rows.iter().filter(|row| row.role == Role::LowRank);
    let found: Vec<_> = adapters.map(|row| (row.name.as_str(), row.shape.clone())).collect();
    let width = config.n_heads * config.head_dim + config.n_kv_heads * config.head_dim;
    assert_eq!(found[0], ("blocks.0.attention.qkv.lora_a", vec![config.d_model, 6]));
    assert_eq!(found[1], ("blocks.0.attention.qkv.lora_b", vec![3, width]));
    assert_eq!(found.len(), 2 * config.n_layers);
    let dir = write(folder.path(), "adapter", &model, &lora, &base);
    let json: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(dir.join("adapter_config.json")).unwrap()).unwrap();
    assert_eq!(json["target_modules"], serde_json::json!(["q_proj", "v_proj"]));
    let difference = relative_difference(&model.clone().merged(), &model);
    assert!(difference <= MERGED_TOLERANCE, "{difference}");
}

#[test]
fn a_model_with_an_adapter_keeps_it_when_its_weights_are_rounded() {
    let config = TransformerConfig {
        d_ff: 96,
        ..TransformerConfig::llama(crate::size(50, 40, 2, 4, 64))
    };
    let model = adapted(&config, Family::of(&config), &lora(&[]));
    let rounded = model
        .clone()
        .with_weights("q8_0".parse::<WeightFormat>().unwrap())
        .unwrap();
    assert!(rounded.has_adapter());
    let difference = relative_difference(&rounded, &model);
    assert!(difference > 0.0 && difference < 0.1, "{difference}");
    assert!(
        hugging_face::files(&rounded, Companions::default()).is_err(),
        "the adapter would be lost"
    );
}
