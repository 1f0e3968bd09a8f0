//! What a person typed: [`RawRecipe`], every key optional, unknown keys refused.
//!
//! [`Recipe`](crate::Recipe) is what is meant: every value there, checked.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use taal_data::{LineEnds, MaskUnit};
use taal_model::{Activation, NormKind, NormPlace, PositionKind};

use crate::optimizer::OptimizerKind;
use crate::schedule::ScheduleKind;

/// A recipe as it is written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)] // The keys are documented once, in docs/recipes.md, and by the fields of `Recipe`.
pub struct RawRecipe {
    pub name: Option<String>,
    pub description: Option<String>,
    pub seed: Option<u64>,
    pub data: RawData,
    pub tokenizer: RawTokenizer,
    pub model: RawModel,
    pub train: RawTrain,
    pub masking: RawMasking,
    pub eval: RawEval,
    pub checkpoint: RawCheckpoint,
    pub health: RawHealth,
    pub sample: RawSample,
}

/// `[data]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)]
pub struct RawData {
    pub corpus: Option<String>,
    pub files: Option<Vec<PathBuf>>,
    pub shards: Option<PathBuf>,
    pub conversations: Option<PathBuf>,
    pub validation_fraction: Option<f64>,
    pub order: Option<OrderKind>,
    pub damaged: Option<DamagedKind>,
    pub line_ends: Option<LineEnds>,
}

/// What becomes of a token shard that is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DamagedKind {
    /// The run does not begin.
    Stop,
    /// It is left out of training, and said.
    Skip,
}

/// In which order training windows come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderKind {
    /// Uniformly random offsets, nanoGPT's way.
    Random,
    /// Every window once an epoch, shuffled.
    Shuffled,
}

/// `[tokenizer]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)]
pub struct RawTokenizer {
    pub kind: Option<String>,
    pub vocab_size: Option<usize>,
    pub file: Option<PathBuf>,
    pub special_tokens: Option<Vec<String>>,
    pub unknown: Option<UnknownKind>,
}

/// What becomes of a character that the tokenizer does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownKind {
    /// An error that names it.
    Error,
    /// The unknown token.
    Token,
}

/// A published shape from which `[model]` starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Preset {
    Gpt2,
    Nanogpt,
    Llama,
    Qwen3,
    Bert,
    Encoder,
    Lstm,
}

/// `[model]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)]
pub struct RawModel {
    pub preset: Option<Preset>,
    pub max_seq_len: Option<usize>,
    pub n_layers: Option<usize>,
    pub n_heads: Option<usize>,
    pub n_kv_heads: Option<usize>,
    pub head_dim: Option<usize>,
    pub d_model: Option<usize>,
    pub d_ff: Option<usize>,
    pub position: Option<PositionKind>,
    pub rope_theta: Option<f64>,
    pub local_rope_theta: Option<f64>,
    pub norm: Option<NormKind>,
    pub norm_place: Option<NormPlace>,
    pub norm_eps: Option<f64>,
    pub norm_bias: Option<bool>,
    pub embedding_norm: Option<bool>,
    pub activation: Option<Activation>,
    pub qkv_bias: Option<bool>,
    pub attention_output_bias: Option<bool>,
    pub ffn_bias: Option<bool>,
    pub qk_norm: Option<bool>,
    pub tie_embeddings: Option<bool>,
    pub window: Option<usize>,
    pub global_every: Option<usize>,
    pub attention_softcap: Option<f64>,
    pub logit_softcap: Option<f64>,
    pub dropout: Option<f64>,
    pub init_std: Option<f64>,
    pub residual_std: Option<f64>,
}

/// `[train]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)]
pub struct RawTrain {
    pub init_from: Option<PathBuf>,
    pub objective: Option<ObjectiveKind>,
    pub steps: Option<u64>,
    pub batch_size: Option<usize>,
    pub block_size: Option<usize>,
    pub accumulation: Option<usize>,
    pub precision: Option<String>,
    pub schedule: Option<ScheduleKind>,
    pub lr: Option<f64>,
    pub min_lr: Option<f64>,
    pub warmup_steps: Option<u64>,
    pub decay_fraction: Option<f64>,
    pub optimizer: Option<OptimizerKind>,
    pub beta1: Option<f64>,
    pub beta2: Option<f64>,
    pub eps: Option<f64>,
    pub weight_decay: Option<f64>,
    pub clip_norm: Option<f64>,
    pub muon_lr: Option<f64>,
    pub muon_momentum: Option<f64>,
    pub muon_weight_decay: Option<f64>,
    pub patience: Option<u64>,
}

/// What a model learns to guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectiveKind {
    /// The next token, from those before it.
    NextToken,
    /// Hidden tokens, from both sides (BERT).
    Masked,
}

/// `[masking]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)]
pub struct RawMasking {
    pub fraction: Option<f64>,
    pub unit: Option<MaskUnit>,
    pub masked: Option<f64>,
    pub random: Option<f64>,
}

/// `[eval]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)]
pub struct RawEval {
    pub every: Option<u64>,
    pub batch_size: Option<usize>,
    pub max_tokens: Option<u64>,
}

/// `[checkpoint]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)]
pub struct RawCheckpoint {
    pub every: Option<u64>,
    pub keep: Option<usize>,
    pub background: Option<bool>,
}

/// `[health]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)]
pub struct RawHealth {
    pub spike_sigma: Option<f64>,
    pub spike_window: Option<usize>,
    pub max_skips: Option<u32>,
    pub rewinds: Option<u32>,
}

/// `[sample]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)]
pub struct RawSample {
    pub prompts: Option<Vec<String>>,
    pub max_tokens: Option<usize>,
    pub temperature: Option<f64>,
    pub top_k: Option<usize>,
    pub rank: Option<Vec<String>>,
}
