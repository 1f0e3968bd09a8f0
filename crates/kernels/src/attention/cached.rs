//! Attention over keys and values of a cache in 16-bit floats.

use std::ops::Range;

use burn::backend::Flex;
use burn::tensor::{Shape as Dims, Tensor};

use super::autodiff::{Common, few_queries, heads, readable};
use super::cpu::{self, Inputs, Preparation, Shape};
use super::{AttentionMask, AttentionSettings, attention, has_tracked_bias};
use crate::backend::Backend;
use crate::halves::Halves;
use crate::{autodiff, profile};

/// [`attention`] over the first `len` tokens of some rows of a cache in 16-bit floats. A step of decoding on the CPU converts a few
/// lines at a time, others convert all of them first; the result is the same, bit for bit.
///
/// # Shapes
///
/// - `q`: `[batch, n_heads, q_len, head_dim]`, with a batch of the number of `rows`
/// - keys and values: `[cache rows, n_kv_heads, capacity, head_dim]`
/// - result: `[batch, n_heads, q_len, head_dim]`
///
/// # Panics
///
/// When `n_kv_heads` does not divide `n_heads`, or `rows` or `len` are not within the cache.
pub fn attention_of_halves(
    q: Tensor<4>,
    [keys, values]: [&Halves; 2],
    rows: Range<usize>,
    len: usize,
    mask: &AttentionMask,
    settings: &AttentionSettings,
) -> Tensor<4> {
    let [_, _, q_len, head_dim] = q.dims();
    let is_step = matches!(Backend::of(&q), Backend::Flex)
        && q.gradient_checkpointing_strategy().is_none()
        && q_len <= few_queries()
        && (q_len <= len || mask.is_without_order())
        && settings.dropout.is_none()
        && !has_tracked_bias(mask);
    if !is_step {
        let device = q.device();
        let [k, v] = [keys, values].map(|halves| halves.read(rows.clone(), len, &device));
        return attention(q, k, v, mask, settings);
    }
    let common = Common::new(mask, settings, head_dim);
    let q = readable(autodiff::primitive(q));
    let q_dims = autodiff::dims(&q);
    let inputs = Inputs {
        shape: Shape {
            batch: q_dims[0],
            n_heads: q_dims[1],
            n_kv_heads: values.shape()[1],
            q_len,
            kv_len: len,
            head_dim,
            value_dim: values.shape()[3],
        },
        settings: common.settings,
        q: heads(&q),
        k: keys.heads(rows.start),
        v: values.heads(rows.start),
        bias: common.bias(),
        ranges: common.ranges(),
        preparation: Preparation::default(),
    };
    let Shape {
        batch,
        n_heads,
        value_dim,
        ..
    } = inputs.shape;
    let context = profile::count("attention", || cpu::decode(&inputs));
    let context = autodiff::tensor(context, Dims::new([batch, q_len, n_heads, value_dim]));
    Tensor::from_primitive::<Flex>(context.transpose(1, 2))
}
