//! The encoder of an encoder-decoder, and the presets of translation models.

use serde::{Deserialize, Serialize};

use super::{Activation, ModelSize, NormKind, NormPlace, PositionKind, TransformerConfig};

/// What an encoder has of its own. Everything else is as in the decoder, except that it attends in both directions and to nothing
/// but its own tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderConfig {
    /// Number of blocks.
    pub n_layers: usize,
}

/// How distances share trained numbers (Raffel et al. 2020): half of the buckets for one distance each, the others for ranges that
/// grow with the distance. A bidirectional stack uses half of them for each direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelativePositions {
    /// Numbers per head.
    pub buckets: usize,
    /// All distances from here on share the last bucket.
    pub max_distance: usize,
}

impl Default for RelativePositions {
    /// T5's.
    fn default() -> Self {
        Self {
            buckets: 32,
            max_distance: 128,
        }
    }
}

impl TransformerConfig {
    /// Marian's shape (Junczys-Dowmunt et al. 2018; OPUS-MT): the transformer of 2017 with an encoder and a decoder of `n_layers`
    /// blocks each, sinusoidal positions, LayerNorm after each residual sum, swish, biases everywhere, scaled embeddings shared by
    /// both sides and the output matrix, and a bias of the logits. The decoder's text begins with the last token id, which is Marian's
    /// padding.
    pub fn marian(size: ModelSize) -> Self {
        Self {
            encoder: Some(EncoderConfig {
                n_layers: size.n_layers,
            }),
            decoder_start: u32::try_from(size.vocab_size.saturating_sub(1)).ok(),
            position: PositionKind::Sinusoidal,
            sinusoidal_halves: true,
            norm_place: NormPlace::Post,
            scale_embeddings: true,
            activation: Activation::Silu,
            output_bias: true,
            ..Self::gpt2(size)
        }
    }

    /// T5 1.1's shape (Raffel et al. 2020; Shazeer 2020): an encoder and a decoder of `n_layers` blocks each, relative positions,
    /// RMSNorm before each sub-layer, gated GELU, no biases, unscaled attention, untied. The inner width is LLaMA's. The decoder's text
    /// begins with token 0, which is T5's padding.
    pub fn t5(size: ModelSize) -> Self {
        Self {
            encoder: Some(EncoderConfig {
                n_layers: size.n_layers,
            }),
            decoder_start: Some(0),
            position: PositionKind::Relative,
            norm: NormKind::RmsNorm,
            norm_eps: 1e-6,
            activation: Activation::GeGluTanh,
            attention_scale: Some(1.0),
            ..Self::llama(size)
        }
    }

    /// Whether there is an encoder, whose output the decoder attends to.
    pub fn is_encoder_decoder(&self) -> bool {
        self.encoder.is_some()
    }

    /// The stack of the encoder as a configuration of its own, where there is one.
    pub(crate) fn encoder_side(&self) -> Option<Self> {
        let encoder = self.encoder?;
        Some(Self {
            n_layers: encoder.n_layers,
            is_causal: false,
            encoder: None,
            decoder_start: None,
            ..self.clone()
        })
    }

    /// The ranges of distances, where the model has relative positions.
    pub(crate) fn relative_positions(&self) -> Option<RelativePositions> {
        (self.position == PositionKind::Relative).then(|| self.relative.unwrap_or_default())
    }
}
