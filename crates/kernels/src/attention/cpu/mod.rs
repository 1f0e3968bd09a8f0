//! Attention and its gradients in memory linear in the length (Dao et al., "FlashAttention", 2022, for a CPU).
//!
//! A task is one batch row with one key head and the query heads that share it. It works on blocks of queries, whose
//! scores against all visible keys stay in the cache; the backward pass computes them again from the logarithm of
//! each row's sum. QK-norm and rotary positions are applied to queries and keys on the way in, so that projected
//! tokens are read in place and no head is ever copied out.

mod backward;
pub(crate) mod bf16;
mod decode;

use std::cell::RefCell;

use half::f16;
use pulp::{Simd, WithSimd};

pub(crate) use self::backward::backward;
pub(crate) use self::decode::decode;
use crate::cpu::math::{LANES, exp, max, sigmoid, sum, sum2};
use crate::cpu::matmul::{
    Operand, Sizes, Start, Target, Write, chains, pack_panels, panel_width, tiles, transpose, wide_columns,
};
use crate::cpu::{parallel, uninitialized};
use crate::random;

/// Queries of a block: a multiple of every tile's height.
const BLOCK: usize = 48;

/// The sizes of an attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) batch: usize,
    pub(crate) n_heads: usize,
    pub(crate) n_kv_heads: usize,
    pub(crate) q_len: usize,
    pub(crate) kv_len: usize,
    pub(crate) head_dim: usize,
    pub(crate) value_dim: usize,
}

impl Shape {
    fn group(&self) -> usize {
        self.n_heads / self.n_kv_heads
    }
}

/// Which keys a query sees, and what happens to scores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Settings {
    pub(crate) scale: f32,
    pub(crate) is_causal: bool,
    pub(crate) window: Option<usize>,
    pub(crate) softcap: Option<f32>,
    /// Probability and key.
    pub(crate) dropout: Option<(f64, u64)>,
}

impl Settings {
    /// Whether the positions of queries and keys do not matter.
    fn is_without_order(&self) -> bool {
        !self.is_causal && self.window.is_none()
    }

    /// The keys that query `i` sees: first and one past the last.
    fn visible(&self, i: usize, shape: &Shape) -> (usize, usize) {
        if self.is_without_order() {
            return (0, shape.kv_len);
        }
        let query = shape.kv_len - shape.q_len + i;
        let first = self.window.map_or(0, |window| (query + 1).saturating_sub(window));
        let end = if self.is_causal {
            query + 1
        } else {
            self.window.map_or(usize::MAX, |window| query.saturating_add(window))
        };
        (first.min(shape.kv_len), end.min(shape.kv_len))
    }
}

/// Rows of heads in memory: distances between batch rows, heads and tokens; a row itself is contiguous.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View {
    pub(crate) start: usize,
    pub(crate) batch_stride: usize,
    pub(crate) head_stride: usize,
    pub(crate) row_stride: usize,
}

impl View {
    fn at(&self, batch: usize, head: usize) -> usize {
        self.start + batch * self.batch_stride + head * self.head_stride
    }

    /// One past the last number that a view of these sizes reaches.
    fn end(&self, batch: usize, heads: usize, rows: usize, width: usize) -> usize {
        self.at(batch - 1, heads - 1) + (rows - 1) * self.row_stride + width
    }
}

/// Numbers with a view of them: in single precision, or keys and values of a cache in [`f16`].
#[derive(Clone, Copy)]
pub(crate) struct Heads<'a, N = f32> {
    pub(crate) values: &'a [N],
    pub(crate) view: View,
}

/// How keys and values are stored.
pub(crate) trait Stored: Copy + Sync {
    /// Whether rows are multiplied where they are.
    const IS_IN_PLACE: bool;

    /// Some rows from a number on, in single precision: in place, or converted into a buffer.
    ///
    /// # Safety
    ///
    /// The view must reach over the rows.
    unsafe fn rows(heads: &Heads<'_, Self>, at: usize, rows: usize, width: usize, buffer: &mut Vec<f32>) -> Operand;
}

impl Stored for f32 {
    const IS_IN_PLACE: bool = true;

    #[inline(always)]
    unsafe fn rows(heads: &Heads<'_, Self>, at: usize, _: usize, _: usize, _: &mut Vec<f32>) -> Operand {
        // SAFETY: the caller's promise.
        unsafe { Operand::strided(heads.values.as_ptr().add(at), heads.view.row_stride, 1) }
    }
}

impl Stored for f16 {
    const IS_IN_PLACE: bool = false;

    #[inline(always)]
    unsafe fn rows(heads: &Heads<'_, Self>, at: usize, rows: usize, width: usize, buffer: &mut Vec<f32>) -> Operand {
        let buffer = reserve(buffer, rows * width);
        if heads.view.row_stride == width {
            crate::cpu::f16::widen(&heads.values[at..][..rows * width], buffer);
        } else {
            for (row, out) in buffer.chunks_exact_mut(width).enumerate() {
                crate::cpu::f16::widen(&heads.values[at + row * heads.view.row_stride..][..width], out);
            }
        }
        Operand::row_major(buffer, rows, width)
    }
}

/// Numbers to add to the scores, `[batch, n_heads, q_len, kv_len]` with a distance of 0 along what is shared.
#[derive(Clone, Copy)]
pub(crate) struct Bias<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) strides: [usize; 3],
}

/// What is done to queries and keys first.
#[derive(Clone, Copy, Default)]
pub(crate) struct Preparation<'a> {
    /// Weights of the RMS norms of queries and of keys, and their epsilon.
    pub(crate) norms: Option<(&'a [f32], &'a [f32], f32)>,
    /// Cosines and signed sines, one row per token.
    pub(crate) rotary: Option<(&'a [f32], &'a [f32])>,
    /// Numbers from the angles of one batch row to those of the next; 0 where all have the same.
    pub(crate) rotary_stride: usize,
}

impl Preparation<'_> {
    fn is_needed(&self) -> bool {
        self.norms.is_some() || self.rotary.is_some()
    }
}

/// Everything that goes into an attention.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a, N = f32> {
    pub(crate) shape: Shape,
    pub(crate) settings: Settings,
    pub(crate) q: Heads<'a>,
    pub(crate) k: Heads<'a, N>,
    pub(crate) v: Heads<'a, N>,
    pub(crate) bias: Option<Bias<'a>>,
    /// The first key that each query may see and one past the last, `[batch, q_len]`, where rows differ.
    pub(crate) ranges: Option<&'a [(u32, u32)]>,
    pub(crate) preparation: Preparation<'a>,
}

impl<'a, N> Inputs<'a, N> {
    /// The keys that query `i` of a batch row sees: first and one past the last. Neither falls from one query to the next.
    fn visible(&self, batch: usize, i: usize) -> (usize, usize) {
        let (first, end) = self.settings.visible(i, &self.shape);
        let Some(ranges) = self.ranges else {
            return (first, end);
        };
        let (range_start, range_end) = ranges[batch * self.shape.q_len + i];
        (first.max(range_start as usize), end.min(range_end as usize))
    }

    /// The angles of a batch row.
    fn rotary(&self, batch: usize) -> Option<(&'a [f32], &'a [f32])> {
        let at = batch * self.preparation.rotary_stride;
        let (cos, sin) = self.preparation.rotary?;
        Some((&cos[at..], &sin[at..]))
    }

    fn check(&self) {
        let Shape {
            batch,
            n_heads,
            n_kv_heads,
            q_len,
            kv_len,
            head_dim,
            value_dim,
        } = self.shape;
        assert!(
            batch * n_heads * n_kv_heads * q_len * kv_len * head_dim * value_dim > 0,
            "attention over nothing"
        );
        assert!(
            n_heads.is_multiple_of(n_kv_heads) && (q_len <= kv_len || self.settings.is_without_order()),
            "heads or lengths do not fit"
        );
        assert!(
            self.q.values.len() >= self.q.view.end(batch, n_heads, q_len, head_dim),
            "queries are too few"
        );
        assert!(
            self.k.values.len() >= self.k.view.end(batch, n_kv_heads, kv_len, head_dim),
            "keys are too few"
        );
        assert!(
            self.v.values.len() >= self.v.view.end(batch, n_kv_heads, kv_len, value_dim),
            "values are too few"
        );
        if let Some(bias) = &self.bias {
            let [batch_stride, head_stride, row_stride] = bias.strides;
            let end = (batch - 1) * batch_stride + (n_heads - 1) * head_stride + (q_len - 1) * row_stride + kv_len;
            assert!(bias.values.len() >= end, "the bias is too small");
        }
        if let Some((cos, sin)) = self.preparation.rotary {
            let end = (batch - 1) * self.preparation.rotary_stride + kv_len * head_dim;
            assert!(cos.len() >= end && sin.len() >= end, "angles are too few");
            assert!(
                q_len == kv_len && head_dim.is_multiple_of(2),
                "rotary positions need all queries"
            );
        }
        if let Some(ranges) = self.ranges {
            assert!(
                ranges.len() == batch * q_len,
                "the ranges of keys do not fit the queries"
            );
        }
        if let Some((q, k, _)) = self.preparation.norms {
            assert!(
                q.len() == head_dim && k.len() == head_dim,
                "norm weights do not fit the heads"
            );
        }
    }
}

/// The context and, for the backward pass, the logarithm of the sum of each row's exponentials.
pub(crate) struct Attended {
    /// `[batch, q_len, n_heads, value_dim]`.
    pub(crate) context: Vec<f32>,
    /// `[batch, n_heads, q_len]`; `inf` for a query that sees nothing.
    pub(crate) log_sums: Vec<f32>,
}

/// What [`backward`] writes to; the views say where the gradients of queries, keys and values are.
pub(crate) struct Gradients<'a> {
    pub(crate) q: (&'a mut [f32], View),
    pub(crate) k: (&'a mut [f32], View),
    pub(crate) v: (&'a mut [f32], View),
}

/// Scratch memory of a thread, kept so that no task allocates.
#[derive(Default)]
struct Scratch {
    keys_transposed: Vec<f32>,
    values: Vec<f32>,
    keys: Vec<f32>,
    block: Vec<f32>,
    scores: Vec<f32>,
    slopes: Vec<f32>,
    q: Vec<f32>,
    k: Vec<f32>,
    dq: Vec<f32>,
    dk: Vec<f32>,
    dv: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

fn reserve(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

/// `softmax(q k^T * scale + bias) v`.
pub(crate) fn forward(inputs: &Inputs<'_>) -> Attended {
    attended(inputs, |batch, kv_head, context, log_sums| {
        SCRATCH.with_borrow_mut(|scratch| {
            crate::cpu::dispatch(ForwardTask {
                inputs,
                batch,
                kv_head,
                context,
                log_sums,
                scratch,
            });
        });
    })
}

/// Calls `work` for each batch row and key head with the parts of the context and of the logarithms that it writes.
fn attended(
    inputs: &Inputs<'_>,
    work: impl Fn(usize, usize, parallel::Parts<'_, f32>, parallel::Parts<'_, f32>) + Sync + Send,
) -> Attended {
    inputs.check();
    let shape = inputs.shape;
    let mut context = uninitialized(shape.batch * shape.q_len * shape.n_heads * shape.value_dim);
    let mut log_sums = uninitialized(shape.batch * shape.n_heads * shape.q_len);
    let context_parts = parallel::Parts::new(&mut context);
    let log_sum_parts = parallel::Parts::new(&mut log_sums);
    parallel::for_each(shape.batch * shape.n_kv_heads, |task| {
        let (batch, kv_head) = (task / shape.n_kv_heads, task % shape.n_kv_heads);
        work(batch, kv_head, context_parts, log_sum_parts);
    });
    Attended { context, log_sums }
}

struct ForwardTask<'a> {
    inputs: &'a Inputs<'a>,
    batch: usize,
    kv_head: usize,
    context: parallel::Parts<'a, f32>,
    log_sums: parallel::Parts<'a, f32>,
    scratch: &'a mut Scratch,
}

/// The rows of one head, prepared or in place.
#[inline(always)]
fn prepared<'a>(
    heads: Heads<'a>,
    at: usize,
    rows: usize,
    width: usize,
    norm: Option<(&[f32], f32)>,
    rotary: Option<(&[f32], &[f32])>,
    buffer: &'a mut Vec<f32>,
) -> Operand {
    if norm.is_none() && rotary.is_none() {
        // SAFETY: `Inputs::check` saw that the view ends within the values.
        return unsafe { Operand::strided(heads.values.as_ptr().add(at), heads.view.row_stride, 1) };
    }
    let buffer = reserve(buffer, rows * width);
    for (row, out) in buffer.chunks_exact_mut(width).enumerate() {
        let x = &heads.values[at + row * heads.view.row_stride..][..width];
        match norm {
            Some((weight, eps)) => {
                let scale = 1.0 / (sum(x, |x| x * x) / width as f32 + eps).sqrt();
                for ((out, x), w) in out.iter_mut().zip(x).zip(weight) {
                    *out = x * scale * w;
                }
            }
            None => out.copy_from_slice(x),
        }
        if let Some((cos, sin)) = rotary {
            turn(out, &cos[row * width..][..width], &sin[row * width..][..width]);
        }
    }
    Operand::row_major(buffer, rows, width)
}

/// Rotary positions of one row: each coordinate of the near half is a pair with one of the far half.
#[inline(always)]
fn turn(row: &mut [f32], cos: &[f32], sin: &[f32]) {
    let half = row.len() / 2;
    let (near, far) = row.split_at_mut(half);
    let ((near_cos, far_cos), (near_sin, far_sin)) = (cos.split_at(half), sin.split_at(half));
    let angles = near_cos.iter().zip(far_cos).zip(near_sin).zip(far_sin);
    for ((near, far), (((near_cos, far_cos), near_sin), far_sin)) in near.iter_mut().zip(far).zip(angles) {
        (*near, *far) = (*near * near_cos + *far * near_sin, *far * far_cos + *near * far_sin);
    }
}

/// The gradient of [`turn`].
#[inline(always)]
fn turn_back(row: &mut [f32], cos: &[f32], sin: &[f32]) {
    let half = row.len() / 2;
    let (near, far) = row.split_at_mut(half);
    let ((near_cos, far_cos), (near_sin, far_sin)) = (cos.split_at(half), sin.split_at(half));
    let angles = near_cos.iter().zip(far_cos).zip(near_sin).zip(far_sin);
    for ((near, far), (((near_cos, far_cos), near_sin), far_sin)) in near.iter_mut().zip(far).zip(angles) {
        (*near, *far) = (*near * near_cos + *far * far_sin, *far * far_cos + *near * near_sin);
    }
}

/// Turns the gradient of prepared rows into that of the rows themselves, in place; adds to the norm weight's.
#[inline(always)]
fn unprepare(
    heads: Heads<'_>,
    at: usize,
    width: usize,
    norm: Option<(&[f32], f32)>,
    rotary: Option<(&[f32], &[f32])>,
    gradient: &mut [f32],
    dweight: &mut [f32],
) {
    for (row, g) in gradient.chunks_exact_mut(width).enumerate() {
        if let Some((cos, sin)) = rotary {
            turn_back(g, &cos[row * width..][..width], &sin[row * width..][..width]);
        }
        if let Some((weight, eps)) = norm {
            let x = &heads.values[at + row * heads.view.row_stride..][..width];
            let scale = 1.0 / (sum(x, |x| x * x) / width as f32 + eps).sqrt();
            for (((g, x), weight), dweight) in g.iter_mut().zip(x).zip(weight).zip(dweight.iter_mut()) {
                *dweight += *g * (x * scale);
                *g *= weight;
            }
            let along = sum2(g, x, |g, x| g * (x * scale)) / width as f32;
            for (g, x) in g.iter_mut().zip(x) {
                *g = scale * (*g - x * scale * along);
            }
        }
    }
}

/// A block of queries: its rows, and the keys that at least one of them sees, widened to whole panels or tiles on the left.
struct Block {
    first: usize,
    rows: usize,
    /// First key, a multiple of the width of a panel or tile.
    from: usize,
    /// One past the last key.
    to: usize,
}

/// At most so many queries from `first` on, with keys from a multiple of the width on.
#[inline(always)]
fn block(batch: usize, first: usize, [most, width]: [usize; 2], inputs: &Inputs<'_>) -> Block {
    let rows = most.min(inputs.shape.q_len - first);
    let (from, _) = inputs.visible(batch, first);
    let (_, to) = inputs.visible(batch, first + rows - 1);
    let from = from / width * width;
    Block {
        first,
        rows,
        from,
        to: to.max(from),
    }
}

/// Scores of a row after scale, cap and bias, in place; what the query does not see becomes `-inf`, and so does
/// whatever is in the row past the block's keys.
#[inline(always)]
fn finish_scores<N>(inputs: &Inputs<'_, N>, batch: usize, head: usize, i: usize, block: &Block, scores: &mut [f32]) {
    let Settings { scale, softcap, .. } = inputs.settings;
    match softcap {
        Some(cap) => {
            for x in scores.iter_mut() {
                *x = cap * 2.0f32.mul_add(sigmoid(2.0 * *x * scale / cap), -1.0);
            }
        }
        None => {
            for x in scores.iter_mut() {
                *x *= scale;
            }
        }
    }
    if let Some(bias) = &inputs.bias {
        let [batch_stride, head_stride, row_stride] = bias.strides;
        let at = batch * batch_stride + head * head_stride + i * row_stride + block.from;
        let keys = block.to - block.from;
        for (x, bias) in scores[..keys].iter_mut().zip(&bias.values[at..]) {
            *x += bias;
        }
    }
    let (first, end) = inputs.visible(batch, i);
    scores[..first.max(block.from) - block.from].fill(f32::NEG_INFINITY);
    scores[end.clamp(block.from, block.to) - block.from..].fill(f32::NEG_INFINITY);
}

/// Scores become their exponentials over the row's largest; the largest and the sum are returned. A row that sees
/// nothing gives zeros and a sum of 0.
#[inline(always)]
fn exponentials(scores: &mut [f32]) -> (f32, f32) {
    let largest = max(scores);
    let largest = if largest == f32::NEG_INFINITY { 0.0 } else { largest };
    let mut sums = [0.0_f32; LANES];
    let (chunks, rest) = scores.as_chunks_mut::<LANES>();
    for chunk in chunks {
        for (x, sum) in chunk.iter_mut().zip(&mut sums) {
            *x = exp(*x - largest);
            *sum += *x;
        }
    }
    for (x, sum) in rest.iter_mut().zip(&mut sums) {
        *x = exp(*x - largest);
        *sum += *x;
    }
    (largest, sum(&sums, |x| x))
}

/// Multiplies weights with dropout's factors, which are a function of the key and of each weight's place.
#[inline(always)]
fn drop_weights(inputs: &Inputs<'_>, batch: usize, head: usize, i: usize, block: &Block, weights: &mut [f32]) {
    let Some((probability, key)) = inputs.settings.dropout else {
        return;
    };
    let shape = &inputs.shape;
    let row = ((batch * shape.n_heads + head) * shape.q_len + i) * shape.kv_len;
    let dropout = random::Dropout::new(probability, key);
    for (j, weight) in weights.iter_mut().enumerate() {
        *weight *= dropout.factor((row + block.from + j) as u64);
    }
}

/// Raw scores of a row become exponentials after dropout, not yet divided by their sum. Returns the inverse of the sum before
/// dropout, and the logarithm that [`Attended`] holds.
#[inline(always)]
fn weigh(inputs: &Inputs<'_>, batch: usize, head: usize, i: usize, block: &Block, scores: &mut [f32]) -> (f32, f32) {
    finish_scores(inputs, batch, head, i, block, scores);
    let (largest, total) = exponentials(scores);
    drop_weights(inputs, batch, head, i, block, &mut scores[..block.to - block.from]);
    if total == 0.0 {
        (0.0, f32::INFINITY)
    } else {
        (1.0 / total, largest + total.ln())
    }
}

impl WithSimd for ForwardTask<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            inputs,
            batch,
            kv_head,
            context,
            log_sums,
            scratch,
        } = self;
        let Shape {
            n_heads,
            q_len,
            kv_len,
            head_dim,
            value_dim,
            ..
        } = inputs.shape;
        let width = panel_width::<S>();
        let norms = inputs.preparation.norms;
        let rotary = inputs.rotary(batch);
        let at = inputs.k.view.at(batch, kv_head);
        let k_norm = norms.map(|(_, weight, eps)| (weight, eps));
        let k = prepared(inputs.k, at, kv_len, head_dim, k_norm, rotary, &mut scratch.k);
        // SAFETY: `Inputs::check` saw that all views end within their values; blocks are within the lengths.
        unsafe {
            pack_panels(simd, k.transposed(), head_dim, kv_len, &mut scratch.keys_transposed);
            let at = inputs.v.view.at(batch, kv_head);
            let v = Operand::strided(inputs.v.values.as_ptr().add(at), inputs.v.view.row_stride, 1);
            pack_panels(simd, v, kv_len, value_dim, &mut scratch.values);
            for head in kv_head * inputs.shape.group()..(kv_head + 1) * inputs.shape.group() {
                let at = inputs.q.view.at(batch, head);
                let q_norm = norms.map(|(weight, _, eps)| (weight, eps));
                let q = prepared(inputs.q, at, q_len, head_dim, q_norm, rotary, &mut scratch.q);
                let log_sums = log_sums.part((batch * n_heads + head) * q_len, q_len);
                for first in (0..q_len).step_by(BLOCK) {
                    let block = block(batch, first, [BLOCK, width], inputs);
                    let keys = block.to - block.from;
                    let stride = keys.next_multiple_of(width);
                    let scores = reserve(&mut scratch.scores, BLOCK * stride);
                    let sizes = Sizes {
                        m: block.rows,
                        n: keys,
                        k: head_dim,
                    };
                    let target = Target::row_major(scores, block.rows, stride);
                    let panels = &scratch.keys_transposed[block.from * head_dim..];
                    tiles(simd, sizes, q.from(first, 0), panels, head_dim, target, Write::Replace);
                    let mut inverse = [0.0_f32; BLOCK];
                    for (row, inverse) in inverse.iter_mut().enumerate().take(block.rows) {
                        let i = block.first + row;
                        let scores = &mut scores[row * stride..][..stride];
                        (*inverse, log_sums[i]) = weigh(inputs, batch, head, i, &block, scores);
                    }
                    let sizes = Sizes {
                        m: block.rows,
                        n: value_dim,
                        k: keys,
                    };
                    let out = context
                        .as_mut_ptr()
                        .add(((batch * q_len + first) * n_heads + head) * value_dim);
                    let target = Target::strided(out, n_heads * value_dim);
                    let weights = Operand::row_major(scores, block.rows, stride);
                    let panels = &scratch.values[block.from * width..];
                    tiles(simd, sizes, weights, panels, kv_len, target, Write::Replace);
                    for (row, inverse) in inverse.iter().enumerate().take(block.rows) {
                        let out = std::slice::from_raw_parts_mut(out.add(row * n_heads * value_dim), value_dim);
                        for x in out {
                            *x *= inverse;
                        }
                    }
                }
            }
        }
    }
}
