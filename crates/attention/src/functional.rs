//! Scaled dot-product attention as a function of queries, keys and values.

use burn::tensor::Tensor;
use taal_kernels::{AttentionMask, AttentionSettings, attention, reference};

use crate::mask::attention_mask;

/// How to attend. The default attends everywhere, scaled by `1 / sqrt(head_dim)`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AttentionOptions {
    /// Whether a query sees no key after itself.
    pub is_causal: bool,
    /// How many keys a query sees at most, itself included (sliding window, Child et al., 2019; Mistral).
    pub window: Option<usize>,
    /// The factor on the scores; `None` is `1 / sqrt(head_dim)`.
    pub scale: Option<f64>,
    /// Caps scores smoothly before masking: `tanh(score / softcap) * softcap` (Gemma 2).
    pub softcap: Option<f64>,
    /// Probability and key of the dropout on the weights; `None` while not training. The mask is a function of the
    /// key ([`taal_kernels::random::key`]), so every layer and step needs its own.
    pub dropout: Option<(f64, u64)>,
    /// Whether to return the attention weights, for inspection.
    pub return_weights: bool,
}

impl AttentionOptions {
    /// The part that concerns scores and weights.
    pub(crate) fn settings(&self) -> AttentionSettings {
        AttentionSettings {
            scale: self.scale,
            softcap: self.softcap,
            dropout: self.dropout,
        }
    }
}

/// `softmax(q k^T * scale + mask) v` (Vaswani et al., 2017), for grouped queries too (Ainslie et al., 2023): query
/// head `h` uses key and value head `h / (n_heads / n_kv_heads)`. Values may be wider or narrower than keys.
///
/// `mask` is what [`attention_mask`] built from the same options, to be shared by layers; without it, a mask is built here from
/// `options.is_causal` and `options.window`. Masked weights are exactly 0, and a query that may attend to no key gets zeros as
/// context, weights and gradients.
///
/// The returned weights are taken before dropout.
///
/// # Shapes
///
/// - `q`: `[batch, n_heads, q_len, head_dim]`
/// - `k`: `[batch, n_kv_heads, kv_len, head_dim]`
/// - `v`: `[batch, n_kv_heads, kv_len, value_dim]`
/// - context: `[batch, n_heads, q_len, value_dim]`
/// - weights: `[batch, n_heads, q_len, kv_len]`
///
/// # Panics
///
/// When `n_kv_heads` does not divide `n_heads`.
pub fn scaled_dot_product_attention(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    mask: Option<&AttentionMask>,
    options: &AttentionOptions,
) -> (Tensor<4>, Option<Tensor<4>>) {
    let [_, _, q_len, _] = q.dims();
    let [_, _, kv_len, _] = v.dims();
    let built;
    let mask = match mask {
        Some(mask) => mask,
        None => {
            built = attention_mask(q_len, kv_len, None, None, options, &q.device());
            &built
        }
    };
    if options.return_weights {
        let (context, weights) = reference::attention(q, k, v, mask, &options.settings());
        (context, Some(weights))
    } else {
        (attention(q, k, v, mask, &options.settings()), None)
    }
}
