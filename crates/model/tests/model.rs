//! One transformer, many families: against numbers from transformers and PyTorch, and against itself.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};
use taal_model::hugging_face::{self, Companions, Family};
use taal_model::{
    Capture, ForwardOptions, ModelError, ModelSize, NormKind, NormPlace, ParameterTable, PositionKind, RopeScaling,
    Segments, Transformer, TransformerConfig, parameters,
};

mod model {
    mod adapters;
    mod order;
    mod pair_configs;
    mod pairs;
    mod published_pairs;
    mod quantized;
    mod recurrent;
    mod rows;
    mod segments;
    mod stack;
    pub mod support;
    mod tying;
    mod variants;
}

use model::support::{
    LLAMA3, LOGIT_TOLERANCE, Tensors, against, config_of, golden, golden_dir, ids, largest_difference, many_configs,
    open_changed, random_weights, random_weights_on, segments, some_ids,
};
/// Largest difference between two ways of computing the same thing.
const SELF_TOLERANCE: f32 = 2e-5;

const CAUSAL: [&str; 8] = [
    "gpt2",
    "llama-tied",
    "llama-untied",
    "llama-linear",
    "llama3",
    "mistral",
    "qwen2",
    "qwen3",
];
const ENCODERS: [&str; 4] = ["bert", "bert-untied", "roberta", "distilbert"];
const MODERN_ENCODERS: [&str; 2] = ["modernbert", "modernbert-untied"];

#[test]
fn logits_equal_those_of_transformers() {
    for name in [&CAUSAL[..], &ENCODERS, &MODERN_ENCODERS].concat() {
        let (dir, golden) = golden(name);
        let model = hugging_face::open(&dir, &Device::flex()).unwrap();
        for sample in &golden.samples {
            let segments = segments(sample);
            let options = ForwardOptions {
                segments: segments.as_ref(),
                ..ForwardOptions::default()
            };
            let output = model.forward_with(ids(&sample.input_ids), options).unwrap();
            let difference = against(model.logits(output.hidden), &sample.logits, sample);
            println!("{name}: {difference:e}");
            assert!(difference < LOGIT_TOLERANCE, "{name}: {difference}");
        }
    }
}

#[test]
fn attention_weights_equal_those_of_transformers() {
    for name in [&CAUSAL[..], &ENCODERS, &MODERN_ENCODERS].concat() {
        let (dir, golden) = golden(name);
        let model = hugging_face::open(&dir, &Device::flex()).unwrap();
        for sample in &golden.samples {
            let capture = Capture {
                attention_weights: true,
                hidden_states: true,
            };
            let segments = segments(sample);
            let options = ForwardOptions {
                segments: segments.as_ref(),
                capture,
                ..ForwardOptions::default()
            };
            let output = model.forward_with(ids(&sample.input_ids), options).unwrap();
            assert_eq!(output.attention_weights.len(), model.config().n_layers);
            assert_eq!(output.hidden_states.len(), model.config().n_layers + 1);
            let [batch, _, seq, kv] = output.attention_weights[0].dims();
            let first = output.attention_weights[0]
                .clone()
                .narrow(1, 0, 1)
                .reshape([batch, seq, kv]);
            let difference = against(first, &sample.attention_layer0_head0, sample);
            assert!(difference < LOGIT_TOLERANCE, "{name}: {difference}");
        }
    }
}

#[test]
fn capturing_changes_no_bit_and_padded_or_later_tokens_have_weight_zero() {
    for (name, config) in many_configs() {
        let model = random_weights(&config);
        let [batch, seq] = [2, 7];
        let segments = Segments::of_padded(&[0..seq, 0..5], seq);
        let run = |attention_weights| {
            let options = ForwardOptions {
                segments: Some(&segments),
                capture: Capture {
                    attention_weights,
                    ..Capture::default()
                },
                ..ForwardOptions::default()
            };
            model.forward_with(some_ids(batch, seq, 50), options).unwrap()
        };
        let (plain, looked) = (run(false), run(true));
        let bits = |tensor: Tensor<3>| -> Vec<u32> {
            let values: Vec<f32> = tensor.into_data().try_to_vec().unwrap();
            values.iter().map(|value| value.to_bits()).collect()
        };
        assert!(bits(plain.hidden) == bits(looked.hidden), "{name}");
        for weights in looked.attention_weights {
            let [_, n_heads, ..] = weights.dims();
            let values: Vec<f32> = weights.into_data().try_to_vec().unwrap();
            for (index, weight) in values.iter().enumerate() {
                let (key, query, row) = (index % seq, index / seq % seq, index / (seq * seq * n_heads));
                let is_padding = |position: usize| row == 1 && position >= 5;
                if (is_padding(key) && !is_padding(query)) || (config.is_causal && key > query) {
                    assert_eq!(weight.to_bits(), 0, "{name}");
                }
            }
        }
    }
}

#[test]
fn a_saved_directory_opens_as_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    for (name, config) in many_configs() {
        let model = random_weights(&config);
        let dir = folder.path().join(name);
        let companions = Companions {
            tokenizer_json: Some(b"{}"),
            eos_token_id: Some(3),
            ..Companions::default()
        };
        hugging_face::save(&model, &dir, companions).unwrap();
        let opened = hugging_face::open(&dir, &Device::flex()).unwrap();
        assert_eq!(opened.config(), model.config(), "{name}");
        let ids = some_ids(2, 17, 50);
        let difference = largest_difference(model.forward(ids.clone()).unwrap(), opened.forward(ids).unwrap());
        assert_eq!(difference, 0.0, "{name}");
        assert_eq!(std::fs::read(dir.join("tokenizer.json")).unwrap(), b"{}");
    }
}

#[test]
fn a_published_model_is_written_back_with_equal_tensors() {
    let folder = tempfile::tempdir().unwrap();
    for name in [&CAUSAL[..], &MODERN_ENCODERS].concat() {
        let model = hugging_face::open(&golden_dir(name), &Device::flex()).unwrap();
        let dir = folder.path().join(name);
        hugging_face::save(&model, &dir, Companions::default()).unwrap();
        let [theirs, ours] = [golden_dir(name), dir].map(|dir| std::fs::read(dir.join("model.safetensors")).unwrap());
        let theirs = safetensors::SafeTensors::deserialize(&theirs).unwrap();
        let ours = safetensors::SafeTensors::deserialize(&ours).unwrap();
        let mut names = theirs.names();
        names.sort();
        let mut own = ours.names();
        own.sort();
        assert_eq!(names, own, "{name}");
        for tensor in names {
            assert_eq!(
                theirs.tensor(tensor).unwrap().data(),
                ours.tensor(tensor).unwrap().data(),
                "{name}: {tensor}"
            );
        }
    }
}

/// All tensors of a model directory, by name.
fn tensors_of(dir: &Path) -> BTreeMap<String, Vec<f32>> {
    let bytes = std::fs::read(dir.join("model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let values = |view: safetensors::tensor::TensorView<'_>| {
        let (values, _) = view.data().as_chunks();
        values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    };
    file.iter()
        .map(|(name, view)| (name.to_string(), values(view)))
        .collect()
}

#[test]
fn a_published_encoder_is_written_back_as_bert_with_its_token_type_in_the_positions() {
    let folder = tempfile::tempdir().unwrap();
    for name in ENCODERS {
        let model = hugging_face::open(&golden_dir(name), &Device::flex()).unwrap();
        let dir = folder.path().join(name);
        hugging_face::save(&model, &dir, Companions::default()).unwrap();
        let again = hugging_face::open(&dir, &Device::flex()).unwrap();
        assert_eq!(again.config(), model.config(), "{name}");
        let ids = some_ids(2, 11, 50);
        let difference = largest_difference(model.forward(ids.clone()).unwrap(), again.forward(ids).unwrap());
        assert_eq!(difference, 0.0, "{name}");
        if !name.starts_with("bert") {
            continue;
        }
        let width = model.config().d_model;
        let [mut theirs, mut ours] = [golden_dir(name), dir].map(|dir| tensors_of(&dir));
        let [their_types, our_types] = [&mut theirs, &mut ours].map(|tensors| {
            let types = tensors.remove("bert.embeddings.token_type_embeddings.weight").unwrap();
            assert_eq!(types.len(), 2 * width);
            types
        });
        assert!(our_types.iter().all(|value| *value == 0.0));
        let positions = theirs.get_mut("bert.embeddings.position_embeddings.weight").unwrap();
        for (value, added) in positions.iter_mut().zip(their_types[..width].iter().cycle()) {
            *value += added;
        }
        if let Some(used) = theirs.get("cls.predictions.decoder.bias").cloned() {
            // Untied, transformers keeps a second bias that it never adds.
            theirs.insert("cls.predictions.bias".to_string(), used);
        }
        assert!(theirs.keys().eq(ours.keys()), "{name}");
        for (tensor, values) in theirs {
            assert!(values == ours[&tensor], "{name}: {tensor}");
        }
    }
}

/// Opens the golden BERT after a change of its configuration and its tensors.
fn open_bert(
    change_config: impl FnOnce(&mut serde_json::Value),
    change_tensors: impl FnOnce(&mut Tensors),
) -> Result<Transformer, ModelError> {
    open_changed("bert", change_config, change_tensors)
}

#[test]
fn old_names_and_surplus_parts_of_bert_files_are_understood() {
    let golden = hugging_face::open(&golden_dir("bert"), &Device::flex()).unwrap();
    let ids = some_ids(2, 11, 50);
    let expected = golden.forward(ids.clone()).unwrap();
    let zeros = |shape: &[usize]| (shape.to_vec(), vec![0; 4 * shape.iter().product::<usize>()]);
    let google = open_bert(
        |json| json["architectures"] = serde_json::json!(["BertForPreTraining"]),
        |tensors| {
            *tensors = std::mem::take(tensors)
                .into_iter()
                .map(|(name, tensor)| {
                    let name = name.replace("LayerNorm.weight", "LayerNorm.gamma");
                    (name.replace("LayerNorm.bias", "LayerNorm.beta"), tensor)
                })
                .collect();
            let bias = tensors["cls.predictions.bias"].clone();
            tensors.insert("cls.predictions.decoder.bias".to_string(), bias);
            let embedding = tensors["bert.embeddings.word_embeddings.weight"].clone();
            tensors.insert("cls.predictions.decoder.weight".to_string(), embedding);
            for (name, shape) in [
                ("bert.pooler.dense.weight", &[32, 32][..]),
                ("bert.pooler.dense.bias", &[32]),
                ("bert.embeddings.position_ids", &[1, 24]),
                ("cls.seq_relationship.weight", &[2, 32]),
                ("cls.seq_relationship.bias", &[2]),
            ] {
                tensors.insert(name.to_string(), zeros(shape));
            }
        },
    )
    .unwrap();
    assert_eq!(largest_difference(google.forward(ids.clone()).unwrap(), expected), 0.0);

    let encoder = open_bert(
        |json| json["architectures"] = serde_json::json!(["BertModel"]),
        |tensors| {
            *tensors = std::mem::take(tensors)
                .into_iter()
                .filter_map(|(name, tensor)| Some((name.strip_prefix("bert.")?.to_string(), tensor)))
                .collect();
        },
    )
    .unwrap();
    assert!(!encoder.config().head_transform && !encoder.config().output_bias);
    let hidden = |model: &Transformer| {
        model
            .forward_with(ids.clone(), ForwardOptions::default())
            .unwrap()
            .hidden
    };
    assert_eq!(largest_difference(hidden(&encoder), hidden(&golden)), 0.0);
}

#[test]
fn bert_files_with_another_meaning_are_refused_and_named() {
    let types = "bert.embeddings.token_type_embeddings.weight";
    let with_config = |key: &'static str, value: serde_json::Value| open_bert(move |json| json[key] = value, |_| ());
    let cases = [
        (
            open_bert(|_| (), |tensors| drop(tensors.remove(types))),
            [types, "missing"],
        ),
        (
            open_bert(
                |_| (),
                |tensors| drop(tensors.insert(types.into(), (vec![0, 32], vec![]))),
            ),
            [types, "[0, 32]"],
        ),
        (
            open_bert(
                |_| (),
                |tensors| drop(tensors.insert(types.into(), (vec![2, 16], vec![0; 128]))),
            ),
            [types, "[2, 16]"],
        ),
        (
            open_bert(|_| (), |tensors| drop(tensors.remove("cls.predictions.bias"))),
            ["cls.predictions.bias", "missing"],
        ),
        (with_config("is_decoder", true.into()), ["is_decoder", "true"]),
        (
            with_config("architectures", serde_json::json!(["BertForSequenceClassification"])),
            ["architectures", "BertForSequenceClassification"],
        ),
        (
            with_config("position_embedding_type", "relative_key".into()),
            ["position_embedding_type", "relative_key"],
        ),
        (with_config("hidden_act", "tanh".into()), ["hidden_act", "tanh"]),
        (
            with_config("num_attention_heads", 5.into()),
            ["num_attention_heads", "5"],
        ),
        (
            with_config("max_position_embeddings", 25.into()),
            ["position_embeddings", "25"],
        ),
        (
            with_config("taal", serde_json::json!({"output_bias": false})),
            ["cls.predictions.bias", "not zero"],
        ),
    ];
    for (opened, words) in cases {
        let message = opened.unwrap_err().to_string();
        assert!(
            words.iter().all(|word| message.contains(word)),
            "{message} lacks one of {words:?}"
        );
    }
}

/// The replacement of a tensor: zeros, or none.
type NewShape = Option<&'static [usize]>;

/// A change of a configuration.
type Change = Box<dyn FnOnce(&mut serde_json::Value)>;

fn set(key: &'static str, value: impl Into<serde_json::Value>) -> Change {
    let value = value.into();
    Box::new(move |json| json[key] = value)
}

fn zeros(shape: &[usize]) -> (Vec<usize>, Vec<u8>) {
    (shape.to_vec(), vec![0; 4 * shape.iter().product::<usize>()])
}

#[test]
fn other_names_and_keys_of_modernbert_files_are_understood() {
    let golden = hugging_face::open(&golden_dir("modernbert"), &Device::flex()).unwrap();
    let ids = some_ids(2, 17, 50);
    let expected = golden.forward(ids.clone()).unwrap();
    let rename_keys = |json: &mut serde_json::Value| {
        let json = json.as_object_mut().unwrap();
        json.remove("rope_parameters");
        json.remove("layer_types");
        json.insert("global_rope_theta".into(), 160_000.0.into());
        json.insert("local_rope_theta".into(), 100.0.into());
        json.insert("global_attn_every_n_layers".into(), 3.into());
    };
    let older = open_changed("modernbert", rename_keys, |tensors| {
        // With a tied output matrix, it is a copy of the embedding.
        let embedding = tensors["model.embeddings.tok_embeddings.weight"].clone();
        tensors.insert("decoder.weight".into(), embedding);
    });
    let older = older.unwrap();
    assert_eq!(older.config(), golden.config());
    assert_eq!(largest_difference(older.forward(ids.clone()).unwrap(), expected), 0.0);

    let headless = open_changed(
        "modernbert",
        |json| json["architectures"] = serde_json::json!(["ModernBertModel"]),
        |tensors| {
            *tensors = std::mem::take(tensors)
                .into_iter()
                .filter_map(|(name, tensor)| Some((name.strip_prefix("model.")?.to_string(), tensor)))
                .collect();
        },
    );
    let headless = headless.unwrap();
    assert!(!headless.config().head_transform && !headless.config().output_bias);
    let hidden = |model: &Transformer| {
        let output = model.forward_with(ids.clone(), ForwardOptions::default());
        output.unwrap().hidden
    };
    assert_eq!(largest_difference(hidden(&headless), hidden(&golden)), 0.0);
}

#[test]
fn modernbert_files_with_other_tensors_are_refused_and_named() {
    let wi = "model.layers.1.mlp.Wi.weight";
    let changes: [(&str, NewShape, [&str; 2]); 12] = [
        (wi, None, [wi, "is missing"]),
        (wi, Some(&[24, 16]), ["[24, 16]", "[48, 16]"]),
        (wi, Some(&[16, 48]), ["[16, 48]", "[48, 16]"]),
        ("model.layers.0.attn.Wqkv.weight", Some(&[32, 16]), ["Wqkv", "[48, 16]"]),
        (
            "model.layers.2.attn_norm.weight",
            None,
            ["model.layers.2.attn_norm.weight", "is missing"],
        ),
        // The first block has no such norm.
        (
            "model.layers.0.attn_norm.weight",
            Some(&[16]),
            ["model.layers.0.attn_norm.weight", "has no place"],
        ),
        (
            "model.layers.4.mlp_norm.weight",
            Some(&[16]),
            ["model.layers.4.mlp_norm.weight", "has no place"],
        ),
        (
            "model.layers.1.mlp.Wi.bias",
            Some(&[48]),
            ["model.layers.1.mlp.Wi.bias", "has no place"],
        ),
        (
            "model.embeddings.norm.weight",
            Some(&[17]),
            ["model.embeddings.norm.weight", "[17]"],
        ),
        ("head.dense.weight", None, ["head.dense.weight", "is missing"]),
        ("decoder.bias", Some(&[49]), ["decoder.bias", "[49]"]),
        (
            "model.final_norm.weight",
            None,
            ["model.final_norm.weight", "is missing"],
        ),
    ];
    for (name, shape, words) in changes {
        let change = |tensors: &mut Tensors| match shape {
            Some(shape) => drop(tensors.insert(name.to_string(), zeros(shape))),
            None => drop(tensors.remove(name)),
        };
        let message = open_changed("modernbert", |_| (), change).unwrap_err().to_string();
        assert!(
            words.iter().all(|word| message.contains(word)),
            "{message} lacks one of {words:?}"
        );
    }
}

#[test]
fn modernbert_configurations_that_disagree_with_the_weights_or_themselves_are_refused_and_named() {
    let json = |value: serde_json::Value| value;
    let angles = |local: serde_json::Value| {
        json(serde_json::json!({
            "full_attention": { "rope_type": "default", "rope_theta": 160_000.0 },
            "sliding_attention": local,
        }))
    };
    let types = |second: &str| serde_json::json!(["full_attention", second, "sliding_attention", "full_attention"]);
    let cases: Vec<(Change, [&str; 2])> = vec![
        (set("num_hidden_layers", 5), ["layer_types", "num_hidden_layers = 5"]),
        (set("num_hidden_layers", 3), ["layer_types", "got 4"]),
        (set("intermediate_size", 23), ["mlp.Wi.weight", "[46, 16]"]),
        (set("hidden_size", 24), ["tok_embeddings.weight", "[50, 24]"]),
        (set("hidden_size", 64), ["too few", "parameters"]),
        (set("hidden_size", 15), ["num_attention_heads", "hidden_size = 15"]),
        (set("vocab_size", 49), ["tok_embeddings.weight", "[49, 16]"]),
        (set("norm_bias", true), ["norm.bias", "is missing"]),
        (set("attention_bias", true), ["bias", "is missing"]),
        (set("mlp_bias", true), ["mlp.Wi.bias", "is missing"]),
        (set("classifier_bias", true), ["head.dense.bias", "is missing"]),
        (set("decoder_bias", false), ["decoder.bias", "has no place"]),
        (set("tie_word_embeddings", false), ["decoder.weight", "is missing"]),
        (set("hidden_activation", "relu"), ["hidden_activation", "relu"]),
        (set("classifier_activation", "silu"), ["classifier_activation", "silu"]),
        (
            set("layer_types", types("full_attention")),
            ["layer_types", "n-th layer"],
        ),
        (
            set("layer_types", types("chunked_attention")),
            ["layer_types", "chunked_attention"],
        ),
        (set("layer_types", "full_attention"), ["layer_types", "expected a list"]),
        (
            set("global_attn_every_n_layers", 2),
            ["layer_types", "global_attn_every_n_layers"],
        ),
        (
            set("global_attn_every_n_layers", 0),
            ["global_attn_every_n_layers", "got 0"],
        ),
        (set("rope_parameters", 1), ["rope_parameters", "expected an object"]),
        (
            set("rope_parameters", angles(1.into())),
            ["rope_parameters.sliding_attention", "expected an object"],
        ),
        (
            set(
                "rope_parameters",
                angles(serde_json::json!({ "rope_type": "longrope", "factor": 2.0 })),
            ),
            ["rope_parameters.sliding_attention.rope_type", "longrope"],
        ),
        (
            set(
                "rope_parameters",
                angles(serde_json::json!({ "rope_type": "linear", "factor": 2.0 })),
            ),
            ["rope_parameters", "scale the angles differently"],
        ),
        (set("local_attention", -1), ["local_attention", "-1"]),
        (
            set(
                "architectures",
                serde_json::json!(["ModernBertForSequenceClassification"]),
            ),
            ["architectures", "ModernBertForSequenceClassification"],
        ),
    ];
    for (change, words) in cases {
        let message = open_changed("modernbert", change, |_| ()).unwrap_err().to_string();
        assert!(
            words.iter().all(|word| message.contains(word)),
            "{message} lacks one of {words:?}"
        );
    }
}

#[test]
fn the_loss_is_that_of_the_logits() {
    let device = Device::flex().autodiff();
    for (name, config) in many_configs() {
        let model = random_weights_on(&config, &device);
        let ids = some_ids(2, 9, 50);
        let targets: Vec<i32> = (0..18).map(|i| if i % 3 == 0 { -100 } else { i * 7 % 50 }).collect();
        let targets = Tensor::<1, Int>::from_data(TensorData::new(targets, [18]), &device);
        // Each loss has its own graph, which its backward pass consumes.
        let hidden = || {
            let output = model.forward_with(ids.clone().to_device(&device), ForwardOptions::default());
            output.unwrap().hidden
        };
        let fused = model.loss(hidden(), targets.clone(), -100);
        let logits = model.logits(hidden()).reshape([18, 50]);
        let plain = taal_kernels::cross_entropy(logits, targets, -100);
        let difference = largest_difference(fused.clone().inner(), plain.clone().inner());
        assert!(difference < SELF_TOLERANCE, "{name}: {difference}");

        let [fused, plain] = [fused, plain].map(|loss| loss.backward());
        let mut gradients = Gradients {
            table: ParameterTable::of(&model),
            of: [&fused, &plain],
            largest_difference: 0.0,
            largest: 0.0,
        };
        model.visit(&mut gradients);
        assert!(
            gradients.largest_difference <= SELF_TOLERANCE * gradients.largest.max(1.0),
            "{name}: {}",
            gradients.largest_difference
        );
    }
}

/// Compares the gradients of two losses, parameter by parameter.
struct Gradients<'a> {
    table: ParameterTable,
    of: [&'a burn::tensor::Gradients; 2],
    largest_difference: f32,
    largest: f32,
}

impl ModuleVisitor for Gradients<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let name = &self.table.row(param.id).name;
        let [fused, plain] = self.of.map(|gradients| {
            let gradient = param.val().grad(gradients);
            gradient.unwrap_or_else(|| panic!("{name} has no gradient"))
        });
        let largest: f32 = plain.clone().abs().max().into_scalar();
        assert!(largest > 0.0, "{name} has a zero gradient");
        self.largest = self.largest.max(largest);
        self.largest_difference = self.largest_difference.max(largest_difference(fused, plain));
    }
}

#[test]
fn equal_weights_give_equal_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let config = TransformerConfig::nanogpt(size(65, 16, 2, 4, 32));
    let bytes = ["a", "b"].map(|name| {
        let dir = folder.path().join(name);
        let model = config.init(1337, &Device::flex()).unwrap();
        hugging_face::save(&model, &dir, Companions::default()).unwrap();
        std::fs::read(dir.join("model.safetensors")).unwrap()
    });
    assert_eq!(bytes[0], bytes[1]);
}

#[test]
fn what_gpt2_files_demand_and_the_model_lacks_is_written_as_zeros_and_said() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("m");
    let config = TransformerConfig::nanogpt(size(65, 16, 1, 4, 32));
    hugging_face::save(&random_weights(&config), &dir, Companions::default()).unwrap();
    let bytes = std::fs::read(dir.join("model.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for name in [
        "transformer.h.0.ln_1.bias",
        "transformer.h.0.attn.c_attn.bias",
        "transformer.ln_f.bias",
    ] {
        assert!(
            tensors.tensor(name).unwrap().data().iter().all(|byte| *byte == 0),
            "{name}"
        );
    }
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(dir.join("config.json")).unwrap()).unwrap();
    assert_eq!(json["model_type"], "gpt2");
    assert_eq!(json["taal"]["norm_bias"], false);
    assert_eq!(json["taal"]["qkv_bias"], false);
}

#[test]
fn families_are_told_from_the_configuration() {
    let gpt2 = TransformerConfig::gpt2(size(50, 16, 1, 4, 32));
    let llama = TransformerConfig::llama(size(50, 16, 1, 4, 32));
    let window = TransformerConfig {
        window: Some(4),
        ..llama.clone()
    };
    assert_eq!(Family::of(&gpt2), Family::Gpt2);
    assert_eq!(Family::of(&llama), Family::Llama);
    assert_eq!(
        Family::of(&TransformerConfig::qwen3(size(50, 16, 1, 4, 32))),
        Family::Qwen3
    );
    assert_eq!(Family::of(&window), Family::Mistral);
    let qwen2 = TransformerConfig {
        qkv_bias: true,
        ..llama.clone()
    };
    assert_eq!(Family::of(&qwen2), Family::Qwen2);
    let both = TransformerConfig {
        window: Some(4),
        ..qwen2.clone()
    };
    assert_eq!(Family::obstacle(&both), Some("window"));
    let fed = TransformerConfig {
        ffn_bias: true,
        ..qwen2
    };
    assert_eq!(Family::obstacle(&fed), Some("qkv_bias"));
    let gpt2_window = TransformerConfig {
        window: Some(4),
        ..gpt2
    };
    assert_eq!(Family::obstacle(&gpt2_window), Some("window"));
    let bert = TransformerConfig::bert(size(50, 16, 1, 4, 32));
    assert_eq!(Family::of(&bert), Family::Bert);
    let headless = TransformerConfig {
        head_transform: false,
        ..bert.clone()
    };
    assert_eq!(Family::obstacle(&headless), Some("head_transform"));
    let rotary_bert = TransformerConfig {
        position: PositionKind::Rotary,
        ..bert
    };
    assert_eq!(Family::obstacle(&rotary_bert), Some("norm_place"));
    let modern = TransformerConfig::modernbert(size(50, 16, 4, 4, 32));
    assert_eq!(Family::of(&modern), Family::ModernBert);
    let with_first_norm = TransformerConfig {
        skip_first_norm: false,
        ..modern.clone()
    };
    assert_eq!(Family::obstacle(&with_first_norm), Some("skip_first_norm"));
    let grouped = TransformerConfig {
        n_kv_heads: 2,
        ..modern
    };
    assert_eq!(Family::obstacle(&grouped), Some("n_kv_heads"));
    assert_eq!(Family::obstacle(&window), None);
    assert_eq!(Family::obstacle(&llama), None);
}

#[test]
fn cached_decoding_equals_one_whole_forward() {
    for (name, config) in many_configs().into_iter().filter(|(_, config)| config.is_causal) {
        let model = random_weights(&config);
        let ids = some_ids(2, 23, 50);
        let whole = model.forward(ids.clone()).unwrap();
        let mut cache = model.new_cache(2, 40);
        let mut parts = Vec::new();
        let mut from = 0;
        for length in [11, 1, 1, 7, 3] {
            let options = ForwardOptions {
                cache: Some(&mut cache),
                ..ForwardOptions::default()
            };
            let output = model
                .forward_with(ids.clone().narrow(1, from, length), options)
                .unwrap();
            parts.push(model.logits(output.hidden));
            from += length;
        }
        let difference = largest_difference(Tensor::cat(parts, 1), whole);
        assert!(difference < 10.0 * SELF_TOLERANCE, "{name}: {difference}");
    }
}

#[test]
fn a_causal_model_does_not_see_the_future_and_a_bidirectional_one_does() {
    for (name, config) in many_configs() {
        let model = random_weights(&config);
        let ids = some_ids(1, 9, 50);
        let changed = ids
            .clone()
            .slice_assign([0..1, 8..9], Tensor::from_ints([[49]], &Device::flex()));
        let early = |ids| model.forward(ids).unwrap().narrow(1, 0, 8);
        let difference = largest_difference(early(ids), early(changed));
        assert_eq!(difference == 0.0, config.is_causal, "{name}: {difference}");
    }
}

#[test]
fn padding_changes_nothing_for_the_tokens_before_it() {
    let model = random_weights(&TransformerConfig::bert(size(50, 40, 2, 4, 32)));
    let ids = some_ids(1, 9, 50);
    let short = model.forward(ids.clone().narrow(1, 0, 6)).unwrap();
    let text = 0..6;
    let segments = Segments::of_padded(&[text], 9);
    let options = ForwardOptions {
        segments: Some(&segments),
        ..ForwardOptions::default()
    };
    let padded = model.forward_with(ids, options).unwrap();
    let difference = largest_difference(model.logits(padded.hidden).narrow(1, 0, 6), short);
    assert!(difference < SELF_TOLERANCE, "{difference}");
}

#[test]
fn initialization_of_bert_is_berts() {
    let config = TransformerConfig::bert(size(300, 64, 8, 4, 64));
    let mut seen = 0;
    parameters::read(&config.init(1, &Device::flex()).unwrap(), |name, _, values| {
        let std = (values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32).sqrt();
        let expected = match name {
            "blocks.3.attention.output.weight" | "blocks.3.feed_forward.down.weight" => 0.02,
            "head_transform.dense.weight" | "position_embedding.weight" => 0.02,
            "head_transform.norm.weight" => 1.0,
            "head_transform.dense.bias" | "output_bias" => 0.0,
            _ => return,
        };
        seen += 1;
        assert!(
            (std - expected).abs() <= 0.05 * expected,
            "{name}: {std} is not {expected}"
        );
    });
    assert_eq!(seen, 7);
}

#[test]
fn a_configuration_from_before_the_head_transform_opens() {
    let config = TransformerConfig::llama(size(50, 16, 1, 4, 32));
    let mut json = serde_json::to_value(&config).unwrap();
    let fields = json.as_object_mut().unwrap();
    assert!(fields.remove("head_transform").is_some() && fields.remove("output_bias").is_some());
    assert_eq!(serde_json::from_value::<TransformerConfig>(json).unwrap(), config);
}

#[test]
fn initialization_is_nanogpts_and_a_function_of_the_seed() {
    let config = TransformerConfig::gpt2(size(300, 64, 8, 4, 64));
    let mut seen = 0;
    parameters::read(&config.init(1, &Device::flex()).unwrap(), |name, _, values| {
        let std = |values: &[f32]| (values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32).sqrt();
        let expected = match name {
            "blocks.3.attention.output.weight" | "blocks.3.feed_forward.down.weight" => 0.02 / 4.0,
            "blocks.3.attention.qkv.weight" | "token_embedding.weight" | "position_embedding.weight" => 0.02,
            "blocks.3.attention_norm.weight" | "final_norm.weight" => 1.0,
            "blocks.3.attention.qkv.bias" => 0.0,
            _ => return,
        };
        seen += 1;
        assert!(
            (std(&values) - expected).abs() <= 0.05 * expected,
            "{name}: {} is not {expected}",
            std(&values)
        );
    });
    assert_eq!(seen, 8);
    let embedding = |seed| {
        let mut found = Vec::new();
        let model = config.init(seed, &Device::flex()).unwrap();
        parameters::read(&model, |name, _, values| {
            if name == "token_embedding.weight" {
                found = values;
            }
        });
        found
    };
    assert_eq!(embedding(1), embedding(1));
    assert_ne!(embedding(1), embedding(2));
}

#[test]
fn parameters_are_counted_as_they_are() {
    for (name, config) in many_configs() {
        let model = config.init(1, &Device::flex()).unwrap();
        let counted: usize = parameters::list(&model)
            .iter()
            .map(|p| p.shape.iter().product::<usize>())
            .sum();
        assert_eq!(config.n_params(), counted as u64, "{name}");
    }
    // nanoGPT's transformer_sizing.ipynb: GPT-2 124M without biases.
    let gpt2 = TransformerConfig::nanogpt(size(50_257, 1024, 12, 12, 768));
    assert_eq!(gpt2.shape(1024).n_params, 124_337_664 - 1024 * 768);
}

#[test]
fn dropout_is_a_function_of_its_key_and_off_without_one() {
    let config = TransformerConfig {
        dropout: 0.5,
        ..TransformerConfig::llama(size(50, 16, 2, 4, 32))
    };
    let model = random_weights(&config);
    let run = |dropout_key| {
        let options = ForwardOptions {
            dropout_key,
            ..ForwardOptions::default()
        };
        parameters::to_vec(model.forward_with(some_ids(1, 7, 50), options).unwrap().hidden)
    };
    assert_eq!(run(None), run(None));
    assert_eq!(run(Some(1)), run(Some(1)));
    assert_ne!(run(Some(1)), run(Some(2)));
    assert_ne!(run(Some(1)), run(None));
}

#[test]
fn impossible_configurations_name_the_field() {
    let good = TransformerConfig::llama(size(50, 16, 2, 4, 32));
    let bad = [
        (
            "model.n_kv_heads",
            TransformerConfig {
                n_kv_heads: 3,
                ..good.clone()
            },
        ),
        (
            "model.head_dim",
            TransformerConfig {
                head_dim: 7,
                ..good.clone()
            },
        ),
        (
            "model.vocab_size",
            TransformerConfig {
                vocab_size: 0,
                ..good.clone()
            },
        ),
        (
            "model.norm_bias",
            TransformerConfig {
                norm_bias: true,
                ..good.clone()
            },
        ),
        (
            "model.window",
            TransformerConfig {
                window: Some(0),
                ..good.clone()
            },
        ),
        (
            "model.dropout",
            TransformerConfig {
                dropout: 1.0,
                ..good.clone()
            },
        ),
        (
            "model.norm_eps",
            TransformerConfig {
                norm_eps: f64::NAN,
                ..good.clone()
            },
        ),
        (
            "model.logit_softcap",
            TransformerConfig {
                logit_softcap: Some(-1.0),
                ..good.clone()
            },
        ),
    ];
    for (field, config) in bad {
        let message = config.init(1, &Device::flex()).unwrap_err().to_string();
        assert!(message.starts_with(field), "{message}");
    }
    let layer_norm = TransformerConfig {
        norm: NormKind::LayerNorm,
        norm_bias: true,
        ..good
    };
    layer_norm.validate().unwrap();
}

#[test]
fn a_row_longer_than_the_context_is_refused_with_both_lengths() {
    let model = TransformerConfig::llama(size(50, 16, 1, 4, 32))
        .init(1, &Device::flex())
        .unwrap();
    let message = model.forward(some_ids(1, 17, 50)).unwrap_err().to_string();
    assert!(message.contains("17") && message.contains("16"), "{message}");
}

#[test]
fn scaled_angles_are_read_in_every_spelling() {
    let expected = config_of("llama3", |_| ()).unwrap();
    assert_eq!(expected.rope_scaling, Some(LLAMA3));
    assert_eq!(expected.rope_theta, 100.0);
    let older = |json: &mut serde_json::Value| {
        let mut parameters = json["rope_parameters"].take();
        json["rope_theta"] = parameters.as_object_mut().unwrap().remove("rope_theta").unwrap();
        json["rope_scaling"] = parameters;
    };
    assert_eq!(config_of("llama3", older).unwrap(), expected);
    let both = |json: &mut serde_json::Value| json["rope_scaling"] = json["rope_parameters"].clone();
    assert_eq!(config_of("llama3", both).unwrap(), expected);
    let theta_outside = |json: &mut serde_json::Value| {
        let parameters = json["rope_parameters"].as_object_mut().unwrap();
        json["rope_theta"] = parameters.remove("rope_theta").unwrap();
    };
    assert_eq!(config_of("llama3", theta_outside).unwrap(), expected);
    let original = |json: &mut serde_json::Value| {
        let parameters = json["rope_parameters"].as_object_mut().unwrap();
        parameters.remove("original_max_position_embeddings");
        json["max_position_embeddings"] = 32.into();
    };
    assert_eq!(config_of("llama3", original).unwrap().rope_scaling, Some(LLAMA3));

    let linear = Some(RopeScaling::Linear { factor: 4.0 });
    assert_eq!(config_of("llama-linear", |_| ()).unwrap().rope_scaling, linear);
    let newest = |json: &mut serde_json::Value| {
        json["rope_scaling"] = serde_json::json!({"rope_type": "linear", "type": "older", "factor": 4});
    };
    assert_eq!(config_of("llama-linear", newest).unwrap().rope_scaling, linear);
}

#[test]
fn angles_that_are_not_known_are_refused_and_named() {
    use serde_json::json;
    let with = |key: &'static str, value: serde_json::Value| {
        config_of("llama3", move |json| json["rope_parameters"][key] = value)
    };
    let older = |value: serde_json::Value| config_of("llama-linear", move |json| json["rope_scaling"] = value);
    let cases: [(Result<TransformerConfig, ModelError>, &[&str]); 12] = [
        (
            with("rope_type", "longrope".into()),
            &["rope_parameters.rope_type", "longrope"],
        ),
        (
            with("partial_rotary_factor", json!(0.5)),
            &["partial_rotary_factor", "0.5"],
        ),
        (with("factor", "8".into()), &["rope_parameters", "`factor`", "number"]),
        (with("factor", json!(0.5)), &["rope_scaling", "factor", "0.5"]),
        (with("low_freq_factor", 0.into()), &["low_freq_factor", "above 0"]),
        (
            with("high_freq_factor", 1.into()),
            &["high_freq_factor", "above low_freq_factor"],
        ),
        (
            with("original_max_position_embeddings", 0.into()),
            &["original_max_position_embeddings", "1..="],
        ),
        (
            with("rope_theta", "x".into()),
            &["rope_parameters", "rope_theta", "number"],
        ),
        (
            older(json!({"type": "su", "factor": 2})),
            &["rope_scaling.rope_type", "\"su\""],
        ),
        (older(json!({"type": "linear"})), &["rope_scaling", "factor", "missing"]),
        (older("linear".into()), &["rope_scaling", "object"]),
        (
            older(json!({"type": "dynamic"})),
            &["rope_scaling", "factor", "missing"],
        ),
    ];
    for (opened, words) in cases {
        let message = opened.unwrap_err().to_string();
        assert!(message.contains("config.json"), "{message}");
        assert!(
            words.iter().all(|word| message.contains(word)),
            "{message} lacks one of {words:?}"
        );
    }
    let learned = TransformerConfig {
        rope_scaling: Some(LLAMA3),
        ..TransformerConfig::gpt2(size(50, 16, 1, 4, 32))
    };
    assert!(learned.validate().unwrap_err().to_string().contains("rope_scaling"));
}

#[test]
fn details_of_mistral_and_qwen2_are_read_as_transformers_does() {
    let mistral = config_of("mistral", |_| ()).unwrap();
    assert_eq!((mistral.window, mistral.head_dim), (Some(5), 12));
    let window = |value: serde_json::Value| config_of("mistral", move |json| json["sliding_window"] = value);
    assert_eq!(window(serde_json::Value::Null).unwrap().window, None);
    let absent = config_of("mistral", |json| {
        drop(json.as_object_mut().unwrap().remove("sliding_window"))
    });
    assert_eq!(absent.unwrap().window, Some(4096));
    let refused = [
        (window(0.into()), "window"),
        (window("5".into()), "sliding_window"),
        (
            config_of("mistral", |json| {
                json["layer_types"] = serde_json::json!(["full_attention"])
            }),
            "layer_types",
        ),
        (
            config_of("qwen2", |json| json["layer_types"][1] = "sliding_attention".into()),
            "layer_types",
        ),
        (
            config_of("qwen2", |json| json["use_sliding_window"] = true.into()),
            "use_sliding_window",
        ),
    ];
    for (opened, word) in refused {
        let message = opened.unwrap_err().to_string();
        assert!(message.contains("config.json") && message.contains(word), "{message}");
    }
    let qwen2 = config_of("qwen2", |_| ()).unwrap();
    assert!(qwen2.qkv_bias && !qwen2.attention_output_bias && !qwen2.ffn_bias && !qwen2.qk_norm);
    assert_eq!((qwen2.window, qwen2.head_dim, qwen2.n_kv_heads), (None, 8, 2));
    let wide = config_of("qwen2", |json| json["head_dim"] = 16.into()).unwrap();
    assert_eq!(wide.head_dim, 16);
}

#[test]
fn the_family_of_a_published_model_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    for name in CAUSAL {
        let model = hugging_face::open(&golden_dir(name), &Device::flex()).unwrap();
        let dir = folder.path().join(name);
        hugging_face::save(&model, &dir, Companions::default()).unwrap();
        let [theirs, ours] = [golden_dir(name), dir].map(|dir| -> serde_json::Value {
            serde_json::from_slice(&std::fs::read(dir.join("config.json")).unwrap()).unwrap()
        });
        for key in ["model_type", "architectures", "sliding_window"] {
            assert_eq!(theirs[key], ours[key], "{name}: {key}");
        }
    }
}

/// Opens a copy of a golden directory after changing one file of it.
fn open_damaged(file: &str, damage: impl Fn(Vec<u8>) -> Vec<u8>) -> ModelError {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors"] {
        let bytes = std::fs::read(golden_dir("llama-untied").join(name)).unwrap();
        let bytes = if name == file { damage(bytes) } else { bytes };
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    hugging_face::open(folder.path(), &Device::flex()).unwrap_err()
}

fn with_key(key: &'static str, value: serde_json::Value) -> impl Fn(Vec<u8>) -> Vec<u8> {
    move |bytes| {
        let mut json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        json[key] = value.clone();
        serde_json::to_vec(&json).unwrap()
    }
}

#[test]
fn damaged_directories_are_refused_whole_and_named() {
    let cases: Vec<(ModelError, &[&str])> = vec![
        (
            open_damaged("model.safetensors", |bytes| bytes[..bytes.len() / 2].to_vec()),
            &["model.safetensors"],
        ),
        (
            open_damaged("model.safetensors", |_| b"garbage".to_vec()),
            &["model.safetensors"],
        ),
        (
            open_damaged("config.json", |bytes| bytes[..10].to_vec()),
            &["config.json", "JSON"],
        ),
        (
            open_damaged("config.json", with_key("model_type", "mamba".into())),
            &["config.json", "model_type", "mamba"],
        ),
        (
            open_damaged("config.json", with_key("hidden_size", "32".into())),
            &["config.json", "hidden_size"],
        ),
        (
            open_damaged("config.json", with_key("hidden_size", serde_json::json!(1u64 << 40))),
            &["hidden_size"],
        ),
        (
            open_damaged("config.json", with_key("num_hidden_layers", 3.into())),
            &["model.layers.2", "missing"],
        ),
        (
            open_damaged("config.json", with_key("num_hidden_layers", 1.into())),
            &["model.layers.1", "no place"],
        ),
        (
            open_damaged("config.json", with_key("vocab_size", 51.into())),
            &["shape", "50", "51"],
        ),
        (
            open_damaged("config.json", with_key("hidden_act", "gelu".into())),
            &["hidden_act"],
        ),
        (
            open_damaged(
                "config.json",
                with_key("rope_parameters", serde_json::json!({"rope_type": "yarn"})),
            ),
            &["rope_parameters", "factor", "is missing"],
        ),
    ];
    for (error, words) in cases {
        let message = error.to_string();
        assert!(
            words.iter().all(|word| message.contains(word)),
            "{message} lacks one of {words:?}"
        );
        assert_eq!(error.kind(), taal_store::ErrorKind::Corrupt);
    }
}

#[test]
fn a_missing_directory_names_the_file() {
    let message = hugging_face::open(Path::new("/nowhere/at/all"), &Device::flex())
        .unwrap_err()
        .to_string();
    assert!(message.contains("/nowhere/at/all/config.json"), "{message}");
}

/// [`ModelSize`] in one line: vocabulary, context, layers, heads, width.
pub fn size(vocab_size: usize, max_seq_len: usize, n_layers: usize, n_heads: usize, d_model: usize) -> ModelSize {
    ModelSize {
        vocab_size,
        max_seq_len,
        n_layers,
        n_heads,
        d_model,
    }
}
