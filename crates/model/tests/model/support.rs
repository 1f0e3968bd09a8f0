//! Golden models, small configurations and comparisons, which the tests of the exchange crate use too.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::size;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use serde::Deserialize;
use serde_json::{Map, Value};
use taal_model::hugging_face;
use taal_model::{
    Activation, ForwardOptions, ModelError, NormPlace, PositionKind, RopeScaling, Segments, Transformer,
    TransformerConfig, parameters,
};

/// Largest difference to logits that transformers computed in fp32.
pub const LOGIT_TOLERANCE: f32 = 1e-4;

#[derive(Deserialize)]
pub struct Golden {
    pub samples: Vec<Sample>,
}

#[derive(Deserialize)]
pub struct Sample {
    pub input_ids: Vec<Vec<i64>>,
    /// 0 for padding; absent where there is none.
    pub attention_mask: Option<Vec<Vec<u8>>>,
    pub logits: Vec<Vec<Vec<f32>>>,
    pub attention_layer0_head0: Vec<Vec<Vec<f32>>>,
}

pub fn golden_dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../model/tests/golden")
        .join(name)
}

pub fn golden(name: &str) -> (PathBuf, Golden) {
    let dir = golden_dir(name);
    let text = std::fs::read_to_string(dir.join("expected.json")).unwrap();
    (dir, serde_json::from_str(&text).unwrap())
}

pub fn ids(rows: &[Vec<i64>]) -> Tensor<2, Int> {
    let flat: Vec<i32> = rows.iter().flatten().map(|id| *id as i32).collect();
    Tensor::from_data(TensorData::new(flat, [rows.len(), rows[0].len()]), &Device::flex())
}

pub fn some_ids(batch: usize, seq: usize, vocab: usize) -> Tensor<2, Int> {
    let flat: Vec<i32> = (0..batch * seq)
        .map(|i| ((i * 7919 + i * i % 13) % vocab) as i32)
        .collect();
    Tensor::from_data(TensorData::new(flat, [batch, seq]), &Device::flex())
}

pub fn largest_difference<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> f32 {
    (a - b).abs().max().into_scalar()
}

/// The largest difference at positions that are not padding.
pub fn against(values: Tensor<3>, expected: &[Vec<Vec<f32>>], sample: &Sample) -> f32 {
    let [batch, seq, width] = values.dims();
    let flat: Vec<f32> = expected.iter().flatten().flatten().copied().collect();
    let expected = Tensor::from_data(TensorData::new(flat, [batch, seq, width]), &Device::flex());
    let difference = (values - expected).abs();
    let difference = match padding(sample) {
        Some(padding) => difference.mask_fill(padding.unsqueeze_dim::<3>(2).expand([batch, seq, width]), 0.0),
        None => difference,
    };
    difference.max().into_scalar()
}

pub fn padding(sample: &Sample) -> Option<Tensor<2, Bool>> {
    let mask = sample.attention_mask.as_ref()?;
    let flags: Vec<bool> = mask.iter().flatten().map(|flag| *flag == 0).collect();
    let shape = [mask.len(), mask[0].len()];
    Some(Tensor::from_data(TensorData::new(flags, shape), &Device::flex()))
}

/// LLaMA 3.1's scaling in small: with a `theta` of 100 and four pairs per head, one is fast, one between and two slow.
pub const LLAMA3: RopeScaling = RopeScaling::Llama3 {
    factor: 8.0,
    low_freq_factor: 1.0,
    high_freq_factor: 4.0,
    original_max_position_embeddings: 32,
};

/// YaRN with a key for everything: with a `theta` of 10 and four pairs per head, two are between fast and slow.
pub const YARN: RopeScaling = RopeScaling::Yarn {
    factor: 4.0,
    original_max_position_embeddings: 16,
    attention_factor: None,
    mscale: Some(0.7),
    mscale_all_dim: Some(1.5),
    beta_fast: 2.0,
    beta_slow: 0.5,
    truncate: false,
};

/// The texts of a sample with padding after them.
pub fn segments(sample: &Sample) -> Option<Segments> {
    let mask = sample.attention_mask.as_ref()?;
    let texts: Vec<_> = mask
        .iter()
        .map(|row| 0..row.iter().filter(|flag| **flag == 1).count())
        .collect();
    Some(Segments::of_padded(&texts, mask[0].len()))
}

/// Every family and switch that the configuration knows, small.
pub fn many_configs() -> Vec<(&'static str, TransformerConfig)> {
    let llama = TransformerConfig::llama(size(50, 40, 2, 4, 32));
    let bert = TransformerConfig::bert(size(50, 40, 2, 4, 32));
    let modernbert = TransformerConfig {
        window: Some(4),
        local_rope_theta: Some(100.0),
        ..TransformerConfig::modernbert(size(50, 40, 4, 4, 32))
    };
    vec![
        ("gpt2", TransformerConfig::gpt2(size(50, 40, 2, 4, 32))),
        ("nanogpt", TransformerConfig::nanogpt(size(50, 40, 2, 4, 32))),
        ("llama", llama.clone()),
        ("lstm", TransformerConfig::lstm(size(50, 40, 2, 1, 32))),
        (
            "lstm untied",
            TransformerConfig {
                tie_embeddings: false,
                ..TransformerConfig::lstm(size(50, 40, 3, 1, 16))
            },
        ),
        (
            "llama tied",
            TransformerConfig {
                tie_embeddings: true,
                ..llama.clone()
            },
        ),
        (
            "qwen3 grouped",
            TransformerConfig {
                n_kv_heads: 2,
                ..TransformerConfig::qwen3(size(50, 40, 2, 4, 32))
            },
        ),
        (
            "window",
            TransformerConfig {
                window: Some(5),
                ..llama.clone()
            },
        ),
        (
            "window and biases",
            TransformerConfig {
                window: Some(5),
                qkv_bias: true,
                ..llama.clone()
            },
        ),
        (
            "qwen2 grouped",
            TransformerConfig {
                n_kv_heads: 2,
                qkv_bias: true,
                tie_embeddings: true,
                ..llama.clone()
            },
        ),
        (
            "llama3 angles",
            TransformerConfig {
                rope_theta: 100.0,
                rope_scaling: Some(LLAMA3),
                ..llama.clone()
            },
        ),
        (
            "linear angles and window",
            TransformerConfig {
                rope_scaling: Some(RopeScaling::Linear { factor: 2.5 }),
                window: Some(7),
                ..llama.clone()
            },
        ),
        (
            "yarn angles",
            TransformerConfig {
                rope_theta: 10.0,
                rope_scaling: Some(YARN),
                ..llama.clone()
            },
        ),
        (
            "dynamic angles outside all families",
            TransformerConfig {
                rope_scaling: Some(RopeScaling::Dynamic { factor: 2.0 }),
                logit_softcap: Some(3.0),
                ..llama.clone()
            },
        ),
        (
            "yarn angles outside all families",
            TransformerConfig {
                rope_theta: 10.0,
                rope_scaling: Some(YARN),
                logit_softcap: Some(3.0),
                ..llama.clone()
            },
        ),
        (
            "llama3 angles outside all families",
            TransformerConfig {
                rope_scaling: Some(LLAMA3),
                logit_softcap: Some(3.0),
                ..llama.clone()
            },
        ),
        (
            "alibi",
            TransformerConfig {
                position: PositionKind::Alibi,
                ..llama.clone()
            },
        ),
        (
            "sinusoidal",
            TransformerConfig {
                position: PositionKind::Sinusoidal,
                ..llama.clone()
            },
        ),
        (
            "relative positions and unscaled attention",
            TransformerConfig {
                position: PositionKind::Relative,
                attention_scale: Some(1.0),
                logit_scale: Some(0.3),
                activation: Activation::GeGluTanh,
                ..llama.clone()
            },
        ),
        (
            "sines first, scaled embeddings, swish",
            TransformerConfig {
                position: PositionKind::Sinusoidal,
                sinusoidal_halves: true,
                scale_embeddings: true,
                activation: Activation::Silu,
                ..TransformerConfig::gpt2(size(50, 40, 2, 4, 32))
            },
        ),
        (
            "no positions",
            TransformerConfig {
                position: PositionKind::None,
                ..llama.clone()
            },
        ),
        (
            "soft caps",
            TransformerConfig {
                attention_softcap: Some(5.0),
                logit_softcap: Some(3.0),
                ..llama.clone()
            },
        ),
        (
            "geglu",
            TransformerConfig {
                activation: Activation::GeGlu,
                ..llama.clone()
            },
        ),
        (
            "relu squared",
            TransformerConfig {
                activation: Activation::ReluSquared,
                ..llama.clone()
            },
        ),
        (
            "post-norm",
            TransformerConfig {
                norm_place: NormPlace::Post,
                ..TransformerConfig::gpt2(size(50, 40, 2, 4, 32))
            },
        ),
        (
            "head transform and output bias, untied",
            TransformerConfig {
                head_transform: true,
                output_bias: true,
                ..llama.clone()
            },
        ),
        ("wide heads", TransformerConfig { head_dim: 16, ..llama }),
        ("bert", bert.clone()),
        (
            "bert untied",
            TransformerConfig {
                tie_embeddings: false,
                activation: Activation::Relu,
                dropout: 0.25,
                ..bert.clone()
            },
        ),
        (
            "bert without biases",
            TransformerConfig {
                norm_bias: false,
                qkv_bias: false,
                attention_output_bias: false,
                ffn_bias: false,
                output_bias: false,
                ..bert.clone()
            },
        ),
        ("modernbert", modernbert.clone()),
        (
            "modernbert with biases, untied, every second block global",
            TransformerConfig {
                norm_bias: true,
                qkv_bias: true,
                attention_output_bias: true,
                ffn_bias: true,
                output_bias: false,
                tie_embeddings: false,
                activation: Activation::SwiGlu,
                global_every: Some(2),
                rope_scaling: Some(RopeScaling::Linear { factor: 2.0 }),
                ..modernbert.clone()
            },
        ),
        (
            "modernbert without windows, one bias",
            TransformerConfig {
                window: None,
                global_every: None,
                local_rope_theta: None,
                head_transform_bias: Some(true),
                dropout: 0.25,
                ..modernbert.clone()
            },
        ),
        (
            "modernbert with windows in all blocks",
            TransformerConfig {
                global_every: None,
                local_rope_theta: None,
                ..modernbert.clone()
            },
        ),
        (
            "every second block global, causal",
            TransformerConfig {
                window: Some(4),
                global_every: Some(2),
                local_rope_theta: Some(100.0),
                ..TransformerConfig::llama(size(50, 40, 3, 4, 32))
            },
        ),
        (
            "modern encoder",
            TransformerConfig {
                position: PositionKind::Rotary,
                norm_place: NormPlace::Pre,
                activation: Activation::GeGlu,
                ..bert
            },
        ),
    ]
}

/// Weights large enough that mistakes show, biases too.
pub fn random_weights(config: &TransformerConfig) -> Transformer {
    random_weights_on(config, &Device::flex())
}

pub fn random_weights_on(config: &TransformerConfig, device: &Device) -> Transformer {
    let model = config.init(7, device).unwrap();
    parameters::replace(model, |name, shape| -> Result<Vec<f32>, std::convert::Infallible> {
        let is_norm_weight = name.ends_with("norm.weight") || name.ends_with("_norm");
        let [mean, std] = if is_norm_weight { [1.0, 0.1] } else { [0.0, 0.3] };
        let key = taal_kernels::random::key(7, 1, name);
        let noise = taal_kernels::random::normal([shape.iter().product()], std, key, &Device::flex());
        Ok(parameters::to_vec(noise.add_scalar(mean)))
    })
    .unwrap()
}

/// Shape and bytes of tensors, by name.
pub type Tensors = BTreeMap<String, (Vec<usize>, Vec<u8>)>;

pub fn open_changed(
    name: &str,
    change_config: impl FnOnce(&mut serde_json::Value),
    change_tensors: impl FnOnce(&mut Tensors),
) -> Result<Transformer, ModelError> {
    let json = std::fs::read_to_string(golden_dir(name).join("config.json")).unwrap();
    let mut json = serde_json::from_str(&json).unwrap();
    change_config(&mut json);
    let bytes = std::fs::read(golden_dir(name).join("model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors = file
        .iter()
        .map(|(name, view)| (name.to_string(), (view.shape().to_vec(), view.data().to_vec())))
        .collect();
    change_tensors(&mut tensors);
    let views = tensors.iter().map(|(name, (shape, data))| {
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), data).unwrap();
        (name, view)
    });
    let bytes = safetensors::serialize(views, None).unwrap();
    hugging_face::from_bytes(&json.to_string(), &bytes, &Device::flex())
}

/// The configuration that a golden config.json describes after a change.
pub fn config_of(name: &str, change: impl FnOnce(&mut serde_json::Value)) -> Result<TransformerConfig, ModelError> {
    let text = std::fs::read_to_string(golden_dir(name).join("config.json")).unwrap();
    let mut json = serde_json::from_str(&text).unwrap();
    change(&mut json);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), json.to_string()).unwrap();
    hugging_face::open_config(folder.path())
}

/// Absolute, on logits of up to about 8.
pub const TOLERANCE: f32 = 2e-5;

#[derive(Deserialize)]
pub struct Variants {
    pub variants: Vec<Variant>,
}

#[derive(Deserialize)]
pub struct Variant {
    pub name: String,
    pub base: String,
    pub absent: Vec<String>,
    pub set: Map<String, Value>,
    /// Tensors of ones that transformers ignores.
    #[serde(default)]
    pub extra: Map<String, Value>,
    pub input_ids: Vec<i64>,
    pub logits: Vec<f32>,
}

pub fn variants() -> Vec<Variant> {
    let text = std::fs::read_to_string(golden_dir("variants.json")).unwrap();
    let variants: Variants = serde_json::from_str(&text).unwrap();
    variants.variants
}

pub fn open(variant: &Variant) -> Transformer {
    let change = |config: &mut Value| {
        let config = config.as_object_mut().unwrap();
        for key in &variant.absent {
            config.remove(key);
        }
        config.extend(variant.set.clone());
    };
    let add = |tensors: &mut Tensors| {
        for (name, shape) in &variant.extra {
            let shape: Vec<usize> = serde_json::from_value(shape.clone()).unwrap();
            let ones = 1.0_f32.to_le_bytes().repeat(shape.iter().product());
            tensors.insert(name.clone(), (shape, ones));
        }
    };
    open_changed(&variant.base, change, add).unwrap_or_else(|error| panic!("{}: {error}", variant.name))
}

/// The logits of the last position.
pub fn logits(model: &Transformer, input_ids: &[i64]) -> Vec<f32> {
    let output = model.forward_with(ids(&[input_ids.to_vec()]), ForwardOptions::default());
    let logits: Vec<f32> = model.logits(output.unwrap().hidden).into_data().iter().collect();
    logits[logits.len() - model.config().vocab_size..].to_vec()
}

#[track_caller]
pub fn assert_logits(got: &[f32], expected: &[f32], name: &str) {
    assert_eq!(got.len(), expected.len(), "{name}");
    for (id, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert!(
            (got - expected).abs() <= TOLERANCE,
            "{name}: token {id}: {got} is not {expected}"
        );
    }
}
