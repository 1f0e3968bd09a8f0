//! Attention composed of Burn's operations.

use burn::tensor::{FloatDType, Tensor};

use super::{AttentionMask, AttentionSettings, Projection};
use crate::reference::{dropout, masked_exp, rms_norm, rotary};

/// The reference implementation of [`attention`](crate::attention), with the weights (those before dropout).
///
/// # Shapes
///
/// - weights: `[batch, n_heads, q_len, kv_len]`
///
/// # Panics
///
/// When `n_kv_heads` does not divide `n_heads`.
pub fn attention(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    mask: &AttentionMask,
    settings: &AttentionSettings,
) -> (Tensor<4>, Tensor<4>) {
    let [batch, n_heads, q_len, head_dim] = q.dims();
    let [_, n_kv_heads, kv_len, value_dim] = v.dims();
    assert_eq!(n_heads % n_kv_heads, 0, "n_heads must be a multiple of n_kv_heads");
    // The queries of one key head are stacked, so that no key is copied for a second query head.
    let group_len = n_heads / n_kv_heads * q_len;

    // Queries are smaller than scores, so they take the scale.
    let scale = settings.scale_for(head_dim);
    let q = q.mul_scalar(scale).reshape([batch, n_kv_heads, group_len, head_dim]);
    let scores: Tensor<4> = q.matmul(k.swap_dims(2, 3)).reshape([batch, n_heads, q_len, kv_len]);
    let scores = match settings.softcap {
        Some(cap) => scores.div_scalar(cap).tanh().mul_scalar(cap),
        None => scores,
    };
    let scores = match mask.additive() {
        Some(mask) => {
            let dtype = scores.dtype();
            scores + mask.clone().cast(dtype)
        }
        None => scores,
    };

    // The softmax is divided after the product with the values: [.., value_dim] is smaller than [.., kv_len].
    let (numerator, sum) = masked_exp(scores);
    let inverse_sum = sum.recip();
    let weights = numerator.clone() * inverse_sum.clone();
    let numerator = match settings.dropout {
        Some((probability, key)) => dropout(numerator, probability, key),
        None => numerator,
    };
    let context: Tensor<4> = numerator
        .reshape([batch, n_kv_heads, group_len, kv_len])
        .matmul(v)
        .reshape([batch, n_heads, q_len, value_dim]);
    (context * inverse_sum, weights)
}

/// The reference implementation of [`attention`](crate::attention) with [`Precision::Bf16`](crate::Precision): rounded queries,
/// keys and values, and everything after that in single precision. The kernel rounds weights and gradients on their way too.
pub fn attention_bf16(heads: [Tensor<4>; 3], mask: &AttentionMask, settings: &AttentionSettings) -> Tensor<4> {
    let [q, k, v] = heads.map(|x| x.cast(FloatDType::BF16).cast(FloatDType::F32));
    attention(q, k, v, mask, settings).0
}

/// The reference implementation of [`projected_attention`](crate::projected_attention).
pub fn projected_attention(
    qkv: Tensor<3>,
    projection: Projection,
    mask: &AttentionMask,
    settings: &AttentionSettings,
) -> Tensor<3> {
    attend_projected(qkv, projection, &REFERENCE_STEPS, |[q, k, v]| {
        attention(q, k, v, mask, settings).0
    })
}

/// Any attention between the heads of projected tokens, with the heads' results concatenated.
pub(crate) fn attend_projected(
    qkv: Tensor<3>,
    projection: Projection,
    steps: &HeadSteps,
    attend: impl FnOnce([Tensor<4>; 3]) -> Tensor<4>,
) -> Tensor<3> {
    let [batch, seq, width] = qkv.dims();
    let Projection {
        n_heads, n_kv_heads, ..
    } = projection;
    let head_dim = width / (n_heads + 2 * n_kv_heads);
    attend(heads_by(steps, &projection, qkv))
        .swap_dims(1, 2) // [batch, seq, n_heads, head_dim]
        .reshape([batch, seq, n_heads * head_dim])
}

/// The reference implementation of [`projected_cross_attention`](crate::projected_cross_attention).
pub fn projected_cross_attention(
    queries: Tensor<3>,
    keys_values: Tensor<3>,
    n_heads: usize,
    mask: &AttentionMask,
    settings: &AttentionSettings,
) -> Tensor<3> {
    attend_crossed(queries, keys_values, n_heads, |[q, k, v]| {
        attention(q, k, v, mask, settings).0
    })
}

/// Any attention of projected tokens to those of another text, with the heads' results concatenated.
pub(crate) fn attend_crossed(
    queries: Tensor<3>,
    keys_values: Tensor<3>,
    n_heads: usize,
    attend: impl FnOnce([Tensor<4>; 3]) -> Tensor<4>,
) -> Tensor<3> {
    let [batch, q_len, width] = queries.dims();
    let [q] = heads_of(queries, n_heads);
    let [k, v] = heads_of(keys_values, n_heads);
    attend([q, k, v])
        .swap_dims(1, 2) // [batch, q_len, n_heads, head_dim]
        .reshape([batch, q_len, width])
}

/// Projected tokens as `N` tensors of heads.
///
/// # Shapes
///
/// - `projected`: `[batch, seq, N * n_heads * head_dim]`; results: `[batch, n_heads, seq, head_dim]`
pub fn heads_of<const N: usize>(projected: Tensor<3>, n_heads: usize) -> [Tensor<4>; N] {
    let [batch, seq, width] = projected.dims();
    let heads = projected
        .reshape([batch, seq, N * n_heads, width / (N * n_heads)])
        .swap_dims(1, 2); // [batch, N * n_heads, seq, head_dim]
    std::array::from_fn(|part| match N {
        1 => heads.clone(),
        _ => heads.clone().slice_dim(1, part * n_heads..(part + 1) * n_heads),
    })
}

/// The steps of [`heads_by`]: an RMS norm, and the turn by rotary positions.
pub(crate) struct HeadSteps {
    pub(crate) norm: fn(Tensor<4>, Tensor<1>, f64) -> Tensor<4>,
    pub(crate) turn: fn(Tensor<4>, Tensor<2>, Tensor<2>) -> Tensor<4>,
}

/// Those of Burn's operations.
pub(crate) const REFERENCE_STEPS: HeadSteps = HeadSteps {
    norm: rms_norm,
    turn: rotary,
};

/// Queries, keys and values of projected tokens, with norms and rotary positions applied to the first two.
pub(crate) fn heads_by(steps: &HeadSteps, projection: &Projection, qkv: Tensor<3>) -> [Tensor<4>; 3] {
    let [batch, seq, width] = qkv.dims();
    let n_blocks = projection.n_heads + 2 * projection.n_kv_heads;
    let k_start = projection.n_heads;
    let v_start = k_start + projection.n_kv_heads;
    let blocks = qkv.reshape([batch, seq, n_blocks, width / n_blocks]).swap_dims(1, 2); // [batch, n_blocks, seq, head_dim]
    let [mut q, mut k, v] =
        [0..k_start, k_start..v_start, v_start..n_blocks].map(|heads| blocks.clone().slice_dim(1, heads));
    if let Some((q_norm, k_norm, eps)) = &projection.norms {
        q = (steps.norm)(q, q_norm.clone(), *eps);
        k = (steps.norm)(k, k_norm.clone(), *eps);
    }
    if let Some((cos, sin)) = &projection.rotary {
        q = (steps.turn)(q, cos.clone(), sin.clone());
        k = (steps.turn)(k, cos.clone(), sin.clone());
    }
    [q, k, v]
}
