//! The mask of a forward pass, from the options of its attention.

use burn::tensor::{Bool, Device, Tensor};
use taal_kernels::AttentionMask;

use crate::AttentionOptions;

/// The mask for `q_len` queries at the end of `kv_len` positions: query `i` at position `kv_len - q_len + i`. It joins
///
/// - `options.is_causal`: no key after the query;
/// - `options.window`: only the last `window` keys, including the query's own (a bidirectional model also sees as many keys after
///   the query);
/// - `padding`: no key that is padding (`true`);
/// - `bias`: added, for example [`alibi_bias`](taal_embeddings::alibi_bias).
///
/// A query that may attend to no key gets a context of zeros.
///
/// # Shapes
///
/// - `padding`: `[batch, kv_len]`; `bias`: `[batch or 1, n_heads or 1, q_len, kv_len]`.
pub fn attention_mask(
    q_len: usize,
    kv_len: usize,
    padding: Option<Tensor<2, Bool>>,
    bias: Option<Tensor<4>>,
    options: &AttentionOptions,
    device: &Device,
) -> AttentionMask {
    let mut mask = AttentionMask::new(q_len, kv_len, options.is_causal, options.window, device);
    if let Some(bias) = bias {
        mask = mask.with_bias(bias);
    }
    if let Some(padding) = padding {
        mask = mask.with_padding(padding);
    }
    mask
}
