//! The architecture of a transformer, in integers and switches: [`TransformerConfig`] and its presets.

mod checks;
mod encoder;

use serde::{Deserialize, Serialize};
use taal_embeddings::Position;
use taal_metrics::flops::Shape;

pub use self::encoder::{EncoderConfig, RelativePositions};
pub use crate::rope_scaling::RopeScaling;

/// Which normalization a block uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormKind {
    /// Mean and variance over the width (Ba et al. 2016), with a weight and optionally a bias.
    LayerNorm,
    /// Root mean square only (Zhang and Sennrich 2019), with a weight.
    RmsNorm,
}

/// Where a block normalizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormPlace {
    /// Before each sub-layer, with one more after the last block (GPT-2, LLaMA).
    Pre,
    /// After each residual sum (the 2017 transformer, BERT).
    Post,
}

/// The non-linearity of the feed-forward network; the gated ones (Shazeer 2020) have a third matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// max(0, x).
    Relu,
    /// max(0, x) squared (So et al. 2021).
    ReluSquared,
    /// x times the normal distribution function, exact (Hendrycks and Gimpel 2016).
    Gelu,
    /// GELU's tanh approximation, GPT-2's `gelu_new`.
    GeluTanh,
    /// `x * sigmoid(x)`, also called swish (Elfwing et al. 2017; Marian).
    Silu,
    /// Gated with SiLU: `silu(gate(x)) * up(x)`.
    #[serde(rename = "swiglu")]
    SwiGlu,
    /// Gated with GELU: `gelu(gate(x)) * up(x)`.
    #[serde(rename = "geglu")]
    GeGlu,
    /// Gated with GELU's tanh approximation (T5 1.1).
    #[serde(rename = "geglu_tanh")]
    GeGluTanh,
}

impl Activation {
    /// Whether the feed-forward network has a gate in addition to its up projection.
    pub fn is_gated(self) -> bool {
        matches!(self, Self::SwiGlu | Self::GeGlu | Self::GeGluTanh)
    }
}

/// What carries information from one position to another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mixer {
    /// Attention: every position attends to those before it (Vaswani et al. 2017).
    #[default]
    Attention,
    /// LSTM layers instead of blocks: a state of fixed size that each token updates (Hochreiter and Schmidhuber 1997). The fields
    /// of attention, norms and feed-forward network are then unused.
    Lstm,
}

impl Mixer {
    fn is_attention(&self) -> bool {
        *self == Self::Attention
    }
}

/// The shape of a [`Transformer`](crate::Transformer): one description for GPT-2, LLaMA, Qwen3, BERT, ModernBERT, Marian and T5. A
/// family is a preset of it, not a second implementation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransformerConfig {
    /// Number of token ids.
    pub vocab_size: usize,
    /// The longest sequence the model is made for, in tokens.
    pub max_seq_len: usize,
    /// Number of blocks.
    pub n_layers: usize,
    /// Number of query heads.
    pub n_heads: usize,
    /// Number of key and value heads; fewer than `n_heads` means grouped queries (Ainslie et al. 2023).
    pub n_kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Inner width of the feed-forward network.
    pub d_ff: usize,
    /// What carries information between positions. Files that lack the field have attention.
    #[serde(default, skip_serializing_if = "Mixer::is_attention")]
    pub mixer: Mixer,
    /// The encoder of an encoder-decoder; the other fields then describe both sides, and `n_layers` and `is_causal` the decoder.
    /// Files that lack the field have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<EncoderConfig>,
    /// The token id that the decoder's text begins with, where there is an encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoder_start: Option<u32>,
    /// How positions are encoded.
    pub position: PositionKind,
    /// Whether the sinusoidal positions have all sines first, then all cosines (Marian). Files that lack the switch have them
    /// interleaved.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sinusoidal_halves: bool,
    /// How distances share the numbers of [`PositionKind::Relative`], where it differs from T5's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relative: Option<RelativePositions>,
    /// Base of the rotary angles; used with [`PositionKind::Rotary`] only.
    pub rope_theta: f64,
    /// Base of the rotary angles in the blocks with a window, where it differs (ModernBERT).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_rope_theta: Option<f64>,
    /// How the rotary angles are scaled for texts longer than the original context. Files that lack the field have no scaling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<RopeScaling>,
    /// Which normalization.
    pub norm: NormKind,
    /// Before each sub-layer or after each residual sum.
    pub norm_place: NormPlace,
    /// Added to the variance or mean square.
    pub norm_eps: f64,
    /// Whether LayerNorm has a bias. RMSNorm never has one.
    pub norm_bias: bool,
    /// Whether the token vectors are multiplied by the root of `d_model` (Vaswani et al. 2017; Marian). Files that lack the switch
    /// have them as they are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub scale_embeddings: bool,
    /// Whether the sum of the embeddings is normalized before the first block (BERT).
    pub embedding_norm: bool,
    /// Whether the first block's attention has no norm because the embeddings have one (ModernBERT). Files that lack the switch
    /// have that norm.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skip_first_norm: bool,
    /// The non-linearity of the feed-forward network.
    pub activation: Activation,
    /// Bias of the query, key and value projections.
    pub qkv_bias: bool,
    /// Bias of the attention's output projection.
    pub attention_output_bias: bool,
    /// Bias of the feed-forward projections.
    pub ffn_bias: bool,
    /// RMSNorm of every query and key head before the product (Qwen3; Henry et al. 2020).
    pub qk_norm: bool,
    /// Whether the output matrix is the token embedding.
    pub tie_embeddings: bool,
    /// Whether a dense layer, the activation and a norm come before the output matrix (BERT). Files that lack the switch have none.
    #[serde(default)]
    pub head_transform: bool,
    /// Bias of that dense layer, where it differs from `ffn_bias`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_transform_bias: Option<bool>,
    /// Whether the logits have a bias, one number per token id (BERT).
    #[serde(default)]
    pub output_bias: bool,
    /// Whether a position sees only itself and what comes before.
    pub is_causal: bool,
    /// Attend to the last `window` tokens, including the current one; bidirectional models also see as many after it.
    pub window: Option<usize>,
    /// Every n-th block, from the first one on, attends to all tokens and ignores the window (ModernBERT).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global_every: Option<usize>,
    /// The factor on attention scores, where it differs from `1 / sqrt(head_dim)` (T5: 1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention_scale: Option<f64>,
    /// `c * tanh(score / c)` on attention scores (Gemma 2).
    pub attention_softcap: Option<f64>,
    /// The factor on the logits (T5 with tied embeddings: `1 / sqrt(d_model)`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logit_scale: Option<f64>,
    /// `c * tanh(logit / c)` on the logits (Gemma 2).
    pub logit_softcap: Option<f64>,
    /// Probability of dropping an element of embeddings, attention weights and sub-layer outputs in training.
    pub dropout: f64,
}

/// How positions are encoded; [`Position`] of the embeddings crate, in serializable form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PositionKind {
    /// One learned vector per position, added to the token's (GPT-2, BERT).
    Learned,
    /// Fixed sines and cosines, added to the token's (Vaswani et al. 2017).
    Sinusoidal,
    /// Queries and keys rotated by their position (Su et al. 2021).
    Rotary,
    /// A penalty on attention scores that grows with distance (Press et al. 2022).
    Alibi,
    /// A trained number per head and range of distances, added to the scores of self-attention (Raffel et al. 2020; T5).
    Relative,
    /// No encoding.
    None,
}

impl From<PositionKind> for Position {
    fn from(kind: PositionKind) -> Self {
        match kind {
            PositionKind::Learned => Position::Learned,
            PositionKind::Sinusoidal => Position::Sinusoidal,
            PositionKind::Rotary => Position::Rotary,
            PositionKind::Alibi => Position::Alibi,
            PositionKind::Relative => Position::Relative,
            PositionKind::None => Position::None,
        }
    }
}

/// How weights are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Initialization {
    /// Standard deviation of matrices and embeddings.
    pub std: f64,
    /// Standard deviation of the projections into the residual stream; `None` means nanoGPT's and GPT-2's
    /// `std / sqrt(2 * n_layers)`, or BERT's `std` where a norm follows each sum.
    pub residual_std: Option<f64>,
}

impl Default for Initialization {
    fn default() -> Self {
        Self {
            std: 0.02,
            residual_std: None,
        }
    }
}

/// The five numbers that size a model; a preset such as [`TransformerConfig::llama`] chooses the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelSize {
    /// Tokens of the vocabulary: rows of the embedding and of the output matrix.
    pub vocab_size: usize,
    /// The longest context, in tokens.
    pub max_seq_len: usize,
    /// Blocks of the stack.
    pub n_layers: usize,
    /// Heads of each attention, with `d_model / n_heads` numbers each.
    pub n_heads: usize,
    /// Width of the residual stream.
    pub d_model: usize,
}

impl TransformerConfig {
    /// GPT-2's shape (Radford et al. 2019): learned positions, LayerNorm before each sub-layer,
    /// tanh-GELU, biases everywhere, tied embeddings.
    pub fn gpt2(size: ModelSize) -> Self {
        let ModelSize {
            vocab_size,
            max_seq_len,
            n_layers,
            n_heads,
            d_model,
        } = size;
        Self {
            vocab_size,
            max_seq_len,
            n_layers,
            n_heads,
            n_kv_heads: n_heads,
            head_dim: d_model / n_heads.max(1),
            d_model,
            // Validated later; an oversized value must not overflow here.
            d_ff: d_model.saturating_mul(4),
            mixer: Mixer::Attention,
            encoder: None,
            decoder_start: None,
            position: PositionKind::Learned,
            sinusoidal_halves: false,
            relative: None,
            rope_theta: 10_000.0,
            local_rope_theta: None,
            rope_scaling: None,
            norm: NormKind::LayerNorm,
            norm_place: NormPlace::Pre,
            norm_eps: 1e-5,
            norm_bias: true,
            scale_embeddings: false,
            embedding_norm: false,
            skip_first_norm: false,
            activation: Activation::GeluTanh,
            qkv_bias: true,
            attention_output_bias: true,
            ffn_bias: true,
            qk_norm: false,
            tie_embeddings: true,
            head_transform: false,
            head_transform_bias: None,
            output_bias: false,
            is_causal: true,
            window: None,
            global_every: None,
            attention_scale: None,
            attention_softcap: None,
            logit_scale: None,
            logit_softcap: None,
            dropout: 0.0,
        }
    }

    /// nanoGPT's shape: GPT-2 without biases and with the exact GELU.
    pub fn nanogpt(size: ModelSize) -> Self {
        Self {
            norm_bias: false,
            activation: Activation::Gelu,
            qkv_bias: false,
            attention_output_bias: false,
            ffn_bias: false,
            ..Self::gpt2(size)
        }
    }

    /// LLaMA's shape (Touvron et al. 2023): rotary positions, RMSNorm, SwiGLU, no biases, untied.
    /// The inner width is 8/3 of the outer one, rounded up to a multiple of 32.
    pub fn llama(size: ModelSize) -> Self {
        Self {
            d_ff: (size.d_model.saturating_mul(8) / 3).div_ceil(32).saturating_mul(32),
            position: PositionKind::Rotary,
            norm: NormKind::RmsNorm,
            activation: Activation::SwiGlu,
            tie_embeddings: false,
            ..Self::nanogpt(size)
        }
    }

    /// Qwen3's shape (Yang et al. 2025): LLaMA with RMSNorm on every query and key head.
    pub fn qwen3(size: ModelSize) -> Self {
        Self {
            norm_eps: 1e-6,
            qk_norm: true,
            ..Self::llama(size)
        }
    }

    /// BERT's shape (Devlin et al. 2019): bidirectional, LayerNorm after each residual sum and after the embeddings, exact GELU, a
    /// transform before the output matrix and a bias after it. All tokens have the same type, whose vector is added to the positions.
    pub fn bert(size: ModelSize) -> Self {
        Self {
            norm_place: NormPlace::Post,
            norm_eps: 1e-12,
            embedding_norm: true,
            activation: Activation::Gelu,
            head_transform: true,
            output_bias: true,
            is_causal: false,
            ..Self::gpt2(size)
        }
    }

    /// ModernBERT's shape (Warner et al. 2024): bidirectional, rotary positions, LayerNorm without bias before each sub-layer and
    /// after the embeddings, GeGLU, a transform before the tied output matrix and a bias after it, no other biases. Every third
    /// block attends to all tokens, the others to 64 on each side. The inner width is LLaMA's.
    pub fn modernbert(size: ModelSize) -> Self {
        Self {
            rope_theta: 160_000.0,
            local_rope_theta: Some(10_000.0),
            norm: NormKind::LayerNorm,
            norm_eps: 1e-5,
            embedding_norm: true,
            skip_first_norm: true,
            activation: Activation::GeGlu,
            tie_embeddings: true,
            head_transform: true,
            output_bias: true,
            is_causal: false,
            window: Some(65),
            global_every: Some(3),
            ..Self::llama(size)
        }
    }

    /// An LSTM language model (Zaremba et al. 2014): `n_layers` LSTM layers as wide as the embedding, which is also the output
    /// matrix, with dropout between them. `max_seq_len` is the number of tokens per row in training and evaluation; the state has
    /// no length limit. An LSTM has no heads: `n_heads` is ignored.
    pub fn lstm(size: ModelSize) -> Self {
        Self {
            mixer: Mixer::Lstm,
            position: PositionKind::None,
            // There are no norms, neither before a sub-layer nor after the last one.
            norm_place: NormPlace::Post,
            ..Self::nanogpt(ModelSize { n_heads: 1, ..size })
        }
    }

    /// The longest context of a prediction, in tokens; `None` where there is no limit.
    pub fn context_limit(&self) -> Option<usize> {
        match self.mixer {
            Mixer::Attention => Some(self.max_seq_len),
            Mixer::Lstm => None,
        }
    }

    /// The window of a block, `None` where it attends to all tokens.
    pub fn window_of(&self, layer: usize) -> Option<usize> {
        let is_global = self.global_every.is_some_and(|every| layer.is_multiple_of(every));
        self.window.filter(|_| !is_global)
    }

    /// Whether the dense layer before the output matrix has a bias, where there is such a layer.
    pub fn has_head_transform_bias(&self) -> bool {
        self.head_transform_bias.unwrap_or(self.ffn_bias)
    }

    /// Number of parameters, the tied output matrix counted once.
    pub fn n_params(&self) -> u64 {
        // The product of the largest accepted dimensions exceeds 64 bits.
        let [vocab, len, layers, d] =
            [self.vocab_size, self.max_seq_len, self.n_layers, self.d_model].map(|n| n as u128);
        if self.mixer == Mixer::Lstm {
            let matrices = vocab * d * if self.tie_embeddings { 1 } else { 2 };
            // Four gates, each with a matrix and a bias for the input and for the state.
            let count = matrices + if self.output_bias { vocab } else { 0 } + layers * 8 * (d * d + d);
            return u64::try_from(count).unwrap_or(u64::MAX);
        }
        let norm = d * if self.norm_bias { 2 } else { 1 };
        let positions = if self.position == PositionKind::Learned {
            len * d
        } else {
            0
        };
        let transform = if self.head_transform {
            d * d + if self.has_head_transform_bias() { d } else { 0 } + norm
        } else {
            0
        };
        let head = if self.tie_embeddings { 0 } else { vocab * d } + if self.output_bias { vocab } else { 0 };
        let embeddings = vocab * d + positions + if self.embedding_norm { norm } else { 0 };
        let stacks = self.stack_params() + self.encoder_side().map_or(0, |encoder| encoder.stack_params());
        u64::try_from(embeddings + stacks + transform + head).unwrap_or(u64::MAX)
    }

    /// Number of parameters of the blocks and of what follows them, of one side.
    fn stack_params(&self) -> u128 {
        let [layers, d, ff] = [self.n_layers, self.d_model, self.d_ff].map(|n| n as u128);
        let [heads, kv_heads, head_dim] = [self.n_heads, self.n_kv_heads, self.head_dim].map(|n| n as u128);
        let norm = d * if self.norm_bias { 2 } else { 1 };
        let qkv_width = (heads + 2 * kv_heads) * head_dim;
        let output = heads * head_dim * d + if self.attention_output_bias { d } else { 0 };
        let attention = d * qkv_width
            + if self.qkv_bias { qkv_width } else { 0 }
            + output
            + if self.qk_norm { 2 * head_dim } else { 0 };
        let cross_width = 3 * heads * head_dim;
        let cross = match self.encoder {
            Some(_) => d * cross_width + if self.qkv_bias { cross_width } else { 0 } + output + norm,
            None => 0,
        };
        let ups = if self.activation.is_gated() { 2 } else { 1 };
        let feed_forward = (ups + 1) * d * ff + if self.ffn_bias { ups * ff + d } else { 0 };
        let norms = 2 * norm * layers - if self.skip_first_norm { norm } else { 0 }
            + if self.norm_place == NormPlace::Pre { norm } else { 0 };
        let distances = self.relative_positions().map_or(0, |r| r.buckets as u128 * heads);
        layers * (attention + cross + feed_forward) + norms + distances
    }

    /// The integers from which `taal_metrics::flops` counts work, for sequences of `seq_len` tokens.
    ///
    /// `n_params` of the shape is PaLM's N: it excludes learned positions and includes a tied output matrix.
    pub fn shape(&self, seq_len: usize) -> Shape {
        let positions = if self.position == PositionKind::Learned {
            (self.max_seq_len * self.d_model) as u64
        } else {
            0
        };
        Shape {
            n_layers: self.n_layers as u64,
            n_heads: self.n_heads as u64,
            n_kv_heads: self.n_kv_heads as u64,
            head_dim: self.head_dim as u64,
            d_model: self.d_model as u64,
            d_ff: self.d_ff as u64,
            vocab_size: self.vocab_size as u64,
            seq_len: seq_len as u64,
            is_gated: self.activation.is_gated(),
            is_recurrent: self.mixer == Mixer::Lstm,
            n_encoder_layers: self.encoder.map_or(0, |encoder| encoder.n_layers as u64),
            n_params: self.n_params() - positions,
        }
    }
}

/// The largest dimension of a model; it keeps a hostile file from taking all memory.
pub const MAX_DIMENSION: usize = 16_777_216;

/// The most blocks of a model; each takes memory before its first weight.
pub const MAX_LAYERS: usize = 4096;
