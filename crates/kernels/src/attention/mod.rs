//! Attention as one operation: which query may attend to which key, and the product.

mod autodiff;
mod cached;
pub(crate) mod cpu;
#[cfg(feature = "cubecl")]
mod gpu;
#[cfg(any(feature = "cubecl", test))]
mod pieces;
pub(crate) mod reference;

use std::sync::OnceLock;

use burn::tensor::{Bool, Device, Tensor, TensorData};

use crate::backend::Backend;
use crate::norm::rms_norm;
use crate::precision;
use crate::rotary::rotary;
use crate::segments::{KeyRanges, Segments};

pub(crate) use self::autodiff::{heads, readable};
pub use self::cached::attention_of_halves;

/// Which query may attend to which key among the last `q_len` of `kv_len` positions.
///
/// It depends on lengths and padding but on no layer, so a model builds it once per forward pass for all layers.
/// Causality and window are kept as what they are; numbers to add to the scores are made of them only where an
/// operation needs them.
#[derive(Debug, Clone)]
pub struct AttentionMask {
    q_len: usize,
    kv_len: usize,
    is_causal: bool,
    window: Option<usize>,
    ranges: Option<(usize, KeyRanges)>,
    bias: Option<Tensor<4>>,
    device: Device,
    additive: OnceLock<Option<Tensor<4>>>,
}

impl AttentionMask {
    /// Query `i` is at position `kv_len - q_len + i`. It sees no key after itself where `is_causal`, and only the
    /// last `window` keys, its own included (where not causal as many after it).
    pub fn new(q_len: usize, kv_len: usize, is_causal: bool, window: Option<usize>, device: &Device) -> Self {
        Self {
            q_len,
            kv_len,
            is_causal,
            window,
            ranges: None,
            bias: None,
            device: device.clone(),
            additive: OnceLock::new(),
        }
    }

    /// A mask made by hand: 0 where a query may attend, `-inf` where it may not, or any number to add to the score.
    ///
    /// # Shapes
    ///
    /// - `additive`: `[batch or 1, n_heads or 1, q_len, kv_len]`
    pub fn from_additive(additive: Tensor<4>) -> Self {
        let [_, _, q_len, kv_len] = additive.dims();
        let device = additive.device();
        Self::new(q_len, kv_len, false, None, &device).with_bias(additive)
    }

    /// Adds numbers to the scores, for example those of ALiBi.
    ///
    /// # Shapes
    ///
    /// - `bias`: `[batch or 1, n_heads or 1, q_len or 1, kv_len]`
    #[must_use]
    pub fn with_bias(mut self, bias: Tensor<4>) -> Self {
        self.bias = Some(match self.bias.take() {
            Some(sum) => sum + bias,
            None => bias,
        });
        self.additive = OnceLock::new();
        self
    }

    /// Hides keys that are padding (`true`).
    ///
    /// # Shapes
    ///
    /// - `padding`: `[batch, kv_len]`
    #[must_use]
    pub fn with_padding(self, padding: Tensor<2, Bool>) -> Self {
        let [batch, kv_len] = padding.dims();
        let zeros = Tensor::zeros([batch, 1, 1, kv_len], &self.device);
        let hidden = zeros.mask_fill(padding.reshape([batch, 1, 1, kv_len]), f32::NEG_INFINITY);
        self.with_bias(hidden)
    }

    /// Keeps every query to the keys of its own text, in addition to causality and window. Nothing is added to the scores for it: the fused
    /// CPU kernel skips the keys of other texts.
    ///
    /// # Panics
    ///
    /// Where the segments are of other lengths, or the queries are not all positions.
    #[must_use]
    pub fn with_segments(mut self, segments: Segments) -> Self {
        let [_, seq] = segments.dims();
        assert!(
            seq == self.kv_len && seq == self.q_len,
            "segments are for whole rows of {} tokens",
            self.kv_len
        );
        self.ranges = Some((segments.dims()[0], segments.bounds().clone()));
        self.additive = OnceLock::new();
        self
    }

    /// The causal mask of rows of different lengths with a cache: query `i` of a row is its position `starts[row] + i`, key `j` its position
    /// `j`. The queries after the first `lengths[row]` are padding, whose results mean nothing.
    pub fn of_rows(starts: &[usize], lengths: &[usize], q_len: usize, window: Option<usize>, device: &Device) -> Self {
        let ends = || starts.iter().zip(lengths).map(|(start, length)| start + length);
        let ranges = starts.iter().zip(ends()).flat_map(|(&start, end)| {
            (start..start + q_len).map(move |query| {
                let first = window.map_or(0, |window| (query + 1).saturating_sub(window));
                let end = end.min(query + 1);
                (first.min(end) as u32, end as u32)
            })
        });
        let mut mask = Self::new(q_len, ends().fold(q_len, usize::max), false, None, device);
        mask.ranges = Some((starts.len(), ranges.collect()));
        mask
    }

    /// The mask of queries that see the keys of another text: in each row the first `lengths[row]` of `kv_len`, whatever the query; the
    /// others are padding. Queries and keys are not on one axis, so there may be more queries than keys.
    ///
    /// # Panics
    ///
    /// Where a length is larger than `kv_len`.
    pub fn of_keys(lengths: &[usize], q_len: usize, kv_len: usize, device: &Device) -> Self {
        assert!(
            lengths.iter().all(|length| *length <= kv_len),
            "more keys than there are"
        );
        let mut mask = Self::new(q_len, kv_len, false, None, device);
        if lengths.iter().any(|length| *length < kv_len) {
            let ranges = lengths
                .iter()
                .flat_map(|length| std::iter::repeat_n((0, *length as u32), q_len));
            mask.ranges = Some((lengths.len(), ranges.collect()));
        }
        mask
    }

    /// The keys that each query may see in addition to causality and window, `[batch, q_len]`, where that is not the same in every row.
    pub(crate) fn ranges(&self) -> Option<&KeyRanges> {
        self.ranges.as_ref().map(|(_, ranges)| ranges)
    }

    /// Whether the positions of queries and keys do not matter, so that there may be more queries than keys.
    fn is_without_order(&self) -> bool {
        !self.is_causal && self.window.is_none()
    }

    /// How many keys there are.
    pub fn kv_len(&self) -> usize {
        self.kv_len
    }

    /// Whether a query sees no key after itself.
    pub fn is_causal(&self) -> bool {
        self.is_causal
    }

    /// How many keys a query sees at most.
    pub fn window(&self) -> Option<usize> {
        self.window
    }

    /// What is added to the scores in addition to causality and window.
    pub fn bias(&self) -> Option<&Tensor<4>> {
        self.bias.as_ref()
    }

    /// Everything as numbers to add to the scores; `None` where there is nothing to add.
    ///
    /// # Shapes
    ///
    /// - result: `[batch or 1, n_heads or 1, q_len or 1, kv_len]`
    pub fn additive(&self) -> Option<&Tensor<4>> {
        let made = self
            .additive
            .get_or_init(|| match (self.bias.clone(), self.positions()) {
                (Some(bias), Some(positions)) => Some(bias + positions),
                (one, other) => one.or(other),
            });
        made.as_ref()
    }

    /// The part that follows from positions, `[1, 1, q_len, kv_len]`, or `[batch, 1, q_len, kv_len]` where rows differ; `None` when
    /// every query sees every key, which is so for each step of decoding without a window.
    fn positions(&self) -> Option<Tensor<4>> {
        let (q_len, kv_len) = (self.q_len, self.kv_len);
        let start = kv_len.saturating_sub(q_len);
        let batch = self.ranges.as_ref().map_or(1, |(batch, _)| *batch);
        let mut values = vec![f32::NEG_INFINITY; batch * q_len * kv_len];
        let mut is_needed = false;
        for row in 0..batch * q_len {
            let (mut first, mut end) = self.visible_keys(start + row % q_len);
            if let Some(ranges) = self.ranges() {
                let (range_start, range_end) = ranges[row];
                (first, end) = (first.max(range_start as usize), end.min(range_end as usize));
            }
            is_needed |= first > 0 || end < kv_len;
            values[row * kv_len..][first..end].fill(0.0);
        }
        is_needed.then(|| Tensor::from_data(TensorData::new(values, [batch, 1, q_len, kv_len]), &self.device))
    }

    /// The keys that a query at absolute position `query` sees: first and one past the last.
    fn visible_keys(&self, query: usize) -> (usize, usize) {
        let window = self.window.unwrap_or(usize::MAX);
        let first = query.saturating_add(1).saturating_sub(window);
        let end = if self.is_causal {
            query + 1
        } else {
            query.saturating_add(window)
        };
        let end = end.min(self.kv_len);
        (first.min(end), end)
    }
}

/// What happens to scores and weights.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct AttentionSettings {
    /// The factor on the scores; `None` is `1 / sqrt(head_dim)`.
    pub scale: Option<f64>,
    /// Caps scores smoothly before masking: `tanh(score / softcap) * softcap` (Gemma 2).
    pub softcap: Option<f64>,
    /// Probability and key of the dropout on the weights.
    pub dropout: Option<(f64, u64)>,
}

impl AttentionSettings {
    /// The factor for heads of this width.
    pub fn scale_for(&self, head_dim: usize) -> f64 {
        self.scale.unwrap_or_else(|| (head_dim as f64).sqrt().recip())
    }
}

/// `softmax(q k^T * scale + mask) v`, query head `h` attending to key head `h / (n_heads / n_kv_heads)`. Memory grows
/// linearly with the length where the device has a kernel. A query that may attend to no key gets zeros. With
/// [`Precision::Bf16`](crate::Precision) on the CPU all products are in bfloat16, softmax and sums are not.
///
/// # Shapes
///
/// - `q`: `[batch, n_heads, q_len, head_dim]`; `k`: `[batch, n_kv_heads, kv_len, head_dim]`;
///   `v`: `[batch, n_kv_heads, kv_len, value_dim]`; result: `[batch, n_heads, q_len, value_dim]`
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
) -> Tensor<4> {
    match Backend::of(&q) {
        Backend::Flex if !has_tracked_bias(mask) && (mask.is_without_order() || q.dims()[2] <= k.dims()[2]) => {
            autodiff::attend(q, k, v, mask, settings)
        }
        Backend::Flex => reference::attention(q, k, v, mask, settings).0,
        #[cfg(feature = "cubecl")]
        Backend::Gpu if !has_tracked_bias(mask) => gpu::attend([q, k, v], mask, settings),
        #[cfg(feature = "cubecl")]
        Backend::Gpu => reference::attention(q, k, v, mask, settings).0,
        Backend::Other if precision::is_bf16(&q) => reference::attention_bf16([q, k, v], mask, settings),
        Backend::Other => reference::attention(q, k, v, mask, settings).0,
    }
}

/// How projected tokens are laid out, and what is done to queries and keys before they meet.
#[derive(Debug, Clone)]
pub struct Projection {
    /// How many query heads.
    pub n_heads: usize,
    /// How many key and value heads.
    pub n_kv_heads: usize,
    /// Weights of the RMS norms of queries and of keys, `[head_dim]` each, and their epsilon.
    pub norms: Option<(Tensor<1>, Tensor<1>, f64)>,
    /// Cosines and signed sines of the positions, `[seq, head_dim]` or `[batch * seq, head_dim]` each, as [`rotary`](crate::rotary)
    /// takes them.
    pub rotary: Option<(Tensor<2>, Tensor<2>)>,
}

/// What heads are made with: this crate's kernels where `qkv` is on flex, and Burn's operations elsewhere.
fn head_steps(qkv: &Tensor<3>) -> reference::HeadSteps {
    match Backend::of(qkv) {
        Backend::Flex => reference::HeadSteps {
            norm: rms_norm,
            turn: rotary,
        },
        #[cfg(feature = "cubecl")]
        Backend::Gpu => reference::REFERENCE_STEPS,
        Backend::Other => reference::REFERENCE_STEPS,
    }
}

impl Projection {
    /// Queries, keys and values of projected tokens, with norms and rotary positions applied to the first two.
    ///
    /// # Shapes
    ///
    /// - `qkv`: `[batch, seq, (n_heads + 2 * n_kv_heads) * head_dim]`; results: `[batch, heads, seq, head_dim]`
    pub fn heads(&self, qkv: Tensor<3>) -> [Tensor<4>; 3] {
        reference::heads_by(&head_steps(&qkv), self, qkv)
    }
}

/// Self-attention of projected tokens: norms, rotary positions and [`attention`] without copying a head out.
///
/// # Shapes
///
/// - `qkv`: `[batch, seq, (n_heads + 2 * n_kv_heads) * head_dim]`, the columns of queries, then keys, then values;
///   result: `[batch, seq, n_heads * head_dim]`
pub fn projected_attention(
    qkv: Tensor<3>,
    projection: Projection,
    mask: &AttentionMask,
    settings: &AttentionSettings,
) -> Tensor<3> {
    // Where there is no kernel for the whole, there may be one for the attention in it.
    let by_parts = |qkv, projection| {
        let steps = head_steps(&qkv);
        reference::attend_projected(qkv, projection, &steps, |[q, k, v]| attention(q, k, v, mask, settings))
    };
    match Backend::of(&qkv) {
        Backend::Flex if !has_tracked_bias(mask) => autodiff::attend_projected(qkv, projection, mask, settings),
        Backend::Flex => by_parts(qkv, projection),
        #[cfg(feature = "cubecl")]
        Backend::Gpu => by_parts(qkv, projection),
        Backend::Other => by_parts(qkv, projection),
    }
}

/// Attention of projected tokens to those of another text: [`attention`] without copying a head out.
///
/// # Shapes
///
/// - `queries`: `[batch, q_len, n_heads * head_dim]`; `keys_values`: `[batch, kv_len, 2 * n_heads * head_dim]`, the columns of keys, then
///   values; result: as `queries`
///
/// # Panics
///
/// When the widths do not fit.
pub fn projected_cross_attention(
    queries: Tensor<3>,
    keys_values: Tensor<3>,
    n_heads: usize,
    mask: &AttentionMask,
    settings: &AttentionSettings,
) -> Tensor<3> {
    let by_parts = |queries, keys_values| {
        reference::attend_crossed(queries, keys_values, n_heads, |[q, k, v]| {
            attention(q, k, v, mask, settings)
        })
    };
    match Backend::of(&queries) {
        Backend::Flex if !has_tracked_bias(mask) && mask.is_without_order() => {
            autodiff::attend_crossed(queries, keys_values, n_heads, mask, settings)
        }
        Backend::Flex => by_parts(queries, keys_values),
        #[cfg(feature = "cubecl")]
        Backend::Gpu => by_parts(queries, keys_values),
        Backend::Other => by_parts(queries, keys_values),
    }
}

/// No kernel has a gradient for a bias.
fn has_tracked_bias(mask: &AttentionMask) -> bool {
    mask.bias().is_some_and(Tensor::is_tracked)
}
