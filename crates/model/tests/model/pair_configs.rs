//! Small encoder-decoders of every kind.

use taal_model::{Activation, EncoderConfig, RelativePositions};

use super::super::*;

/// Encoder-decoders of published families and of none, small.
pub fn many_pairs() -> Vec<(&'static str, TransformerConfig)> {
    let encoder = |n_layers| Some(EncoderConfig { n_layers });
    let llama = TransformerConfig {
        encoder: encoder(1),
        decoder_start: Some(3),
        ..TransformerConfig::llama(size(50, 40, 2, 4, 32))
    };
    let marian = TransformerConfig::marian(size(50, 40, 2, 4, 32));
    let t5 = TransformerConfig {
        relative: Some(RelativePositions {
            buckets: 8,
            max_distance: 12,
        }),
        ..TransformerConfig::t5(size(50, 40, 2, 4, 32))
    };
    vec![
        ("llama with an encoder", llama.clone()),
        (
            "gpt2 with an encoder",
            TransformerConfig {
                encoder: encoder(3),
                ..TransformerConfig::gpt2(size(50, 40, 2, 4, 32))
            },
        ),
        (
            "grouped queries, norms of heads, window, caps",
            TransformerConfig {
                n_kv_heads: 2,
                qk_norm: true,
                window: Some(5),
                attention_softcap: Some(5.0),
                logit_softcap: Some(3.0),
                head_dim: 12,
                ..llama.clone()
            },
        ),
        (
            "alibi",
            TransformerConfig {
                position: PositionKind::Alibi,
                ..llama
            },
        ),
        ("marian", marian.clone()),
        (
            "marian without biases",
            TransformerConfig {
                norm_bias: false,
                qkv_bias: false,
                attention_output_bias: false,
                ffn_bias: false,
                output_bias: false,
                decoder_start: None,
                dropout: 0.25,
                encoder: encoder(1),
                ..marian.clone()
            },
        ),
        (
            "marian with a norm of the embeddings",
            TransformerConfig {
                embedding_norm: true,
                ..marian
            },
        ),
        ("t5", t5.clone()),
        (
            "t5 tied",
            TransformerConfig {
                tie_embeddings: true,
                logit_scale: Some(32.0_f64.sqrt().recip()),
                activation: Activation::Relu,
                relative: None,
                head_dim: 6,
                ..t5.clone()
            },
        ),
        (
            "t5 tied without a scale, as transformers 5 may have it",
            TransformerConfig {
                tie_embeddings: true,
                logit_scale: None,
                ..t5.clone()
            },
        ),
        (
            "t5 with scaled attention",
            TransformerConfig {
                attention_scale: None,
                ..t5
            },
        ),
    ]
}
