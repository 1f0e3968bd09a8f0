//! Scaled dot-product attention as a function of queries, keys and values.

use burn::tensor::Tensor;
use taal_kernels::{dropout, masked_exp};

use crate::mask::{AttentionMask, attention_mask};

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
    /// Whether to hand out the attention weights, for people who look inside.
    pub return_weights: bool,
}

/// `softmax(q k^T * scale + mask) v` (Vaswani et al., 2017), for grouped queries too (Ainslie et al., 2023): query
/// head `h` uses key and value head `h / (n_heads / n_kv_heads)`. Values may be wider or narrower than keys.
///
/// `mask` is what [`attention_mask`] built from the same options, to be shared by layers; without it, a mask is
/// built here from `options.is_causal` and `options.window`. Masked weights are exactly 0, and a query that may
/// look nowhere gets a context, weights and gradients of zeros.
///
/// Returned weights are those before dropout.
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
    let [batch, n_heads, q_len, head_dim] = q.dims();
    let [_, n_kv_heads, kv_len, value_dim] = v.dims();
    assert_eq!(n_heads % n_kv_heads, 0, "n_heads must be a multiple of n_kv_heads");
    // The queries of one key head stand below each other, so that no key is copied for a second query head.
    let group_len = n_heads / n_kv_heads * q_len;

    // Queries are smaller than scores, so they take the scale.
    let scale = options.scale.unwrap_or_else(|| (head_dim as f64).sqrt().recip());
    let q = q.mul_scalar(scale).reshape([batch, n_kv_heads, group_len, head_dim]);
    let scores: Tensor<4> = q.matmul(k.swap_dims(2, 3)).reshape([batch, n_heads, q_len, kv_len]);
    let scores = match options.softcap {
        Some(cap) => scores.div_scalar(cap).tanh().mul_scalar(cap),
        None => scores,
    };
    let built = match mask {
        Some(_) => None,
        None => attention_mask(q_len, kv_len, None, None, options, &scores.device()),
    };
    let scores = match mask.or(built.as_ref()) {
        Some(mask) => scores + mask.additive().clone(),
        None => scores,
    };

    // The softmax is divided after the product with the values: [.., value_dim] is smaller than [.., kv_len].
    let (numerator, sum) = masked_exp(scores);
    let inverse_sum = sum.recip();
    let weights = options.return_weights.then(|| numerator.clone() * inverse_sum.clone());
    let numerator = match options.dropout {
        Some((probability, key)) => dropout(numerator, probability, key),
        None => numerator,
    };
    let context: Tensor<4> = numerator
        .reshape([batch, n_kv_heads, group_len, kv_len])
        .matmul(v)
        .reshape([batch, n_heads, q_len, value_dim]);
    (context * inverse_sum, weights)
}
