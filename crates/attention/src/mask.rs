//! Who may attend to whom, as numbers to add to the scores.

use burn::tensor::{Bool, Device, Tensor, TensorData};

use crate::AttentionOptions;

/// What is added to attention scores: 0 where a query may look, `-inf` where it may not, plus any bias.
///
/// It depends on lengths and padding but on no layer, so a model builds it once a forward with
/// [`attention_mask`] and lends it to all layers.
#[derive(Debug, Clone)]
pub struct AttentionMask {
    additive: Tensor<4>,
}

impl AttentionMask {
    /// A mask made by hand: 0 where a query may look, `-inf` where it may not.
    ///
    /// # Shapes
    ///
    /// - `additive`: `[batch, n_heads, q_len, kv_len]`, where batch and n_heads may be 1.
    pub fn from_additive(additive: Tensor<4>) -> Self {
        Self { additive }
    }

    /// The numbers to add, `[batch or 1, n_heads or 1, q_len or 1, kv_len]`.
    pub fn additive(&self) -> &Tensor<4> {
        &self.additive
    }
}

/// The mask for `q_len` queries that stand last among `kv_len` positions: query `i` at position
/// `kv_len - q_len + i`. It joins
///
/// - `options.is_causal`: no key after the query;
/// - `options.window`: only the last `window` keys, the query's own included (with a bidirectional model as many
///   keys after the query);
/// - `padding`: no key that is padding (`true`);
/// - `bias`: added, for example [`alibi_bias`](taal_embeddings::alibi_bias).
///
/// `None` when there is nothing to add. A query that may look nowhere gets a context of zeros.
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
) -> Option<AttentionMask> {
    let parts = [
        bias,
        position_mask(q_len, kv_len, options, device),
        padding.map(|padding| padding_mask(padding, device)),
    ];
    let additive = parts.into_iter().flatten().reduce(|sum, part| sum + part)?;
    Some(AttentionMask { additive })
}

/// The part that follows from positions, `[1, 1, q_len, kv_len]`; `None` when every query sees every key, which
/// is so for each step of decoding without a window.
fn position_mask(q_len: usize, kv_len: usize, options: &AttentionOptions, device: &Device) -> Option<Tensor<4>> {
    let start = kv_len.saturating_sub(q_len);
    let mut values = vec![f32::NEG_INFINITY; q_len * kv_len];
    let mut is_needed = false;
    for i in 0..q_len {
        let (first, end) = visible_keys(start + i, kv_len, options);
        is_needed |= first > 0 || end < kv_len;
        values[i * kv_len..][first..end].fill(0.0);
    }
    is_needed.then(|| Tensor::from_data(TensorData::new(values, [1, 1, q_len, kv_len]), device))
}

/// The keys that a query at absolute position `query` sees: first and one past the last.
fn visible_keys(query: usize, kv_len: usize, options: &AttentionOptions) -> (usize, usize) {
    let window = options.window.unwrap_or(usize::MAX);
    let first = query.saturating_add(1).saturating_sub(window);
    let end = if options.is_causal {
        query + 1
    } else {
        query.saturating_add(window)
    };
    let end = end.min(kv_len);
    (first.min(end), end)
}

/// The part that hides padding, `[batch, 1, 1, kv_len]`.
fn padding_mask(padding: Tensor<2, Bool>, device: &Device) -> Tensor<4> {
    let [batch, kv_len] = padding.dims();
    Tensor::zeros([batch, 1, 1, kv_len], device).mask_fill(padding.reshape([batch, 1, 1, kv_len]), f32::NEG_INFINITY)
}
