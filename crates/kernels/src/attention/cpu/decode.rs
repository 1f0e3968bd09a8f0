//! Attention of few queries, as a step of decoding has them.

use super::*;

/// Attention of few queries, each key and value read once, in place: decoding with a cache. The result is
/// `[batch, q_len, n_heads, value_dim]`. Scores take `q_len * kv_len` numbers per head.
pub(crate) fn decode(inputs: &Inputs<'_>) -> Vec<f32> {
    inputs.check();
    assert!(
        !inputs.preparation.is_needed(),
        "decoding takes prepared queries and keys"
    );
    let shape = inputs.shape;
    let mut context = uninitialized(shape.batch * shape.q_len * shape.n_heads * shape.value_dim);
    let parts = parallel::Parts::new(&mut context);
    let task = |task: usize| {
        SCRATCH.with_borrow_mut(|scratch| {
            crate::cpu::dispatch(DecodeTask {
                inputs,
                batch: task / shape.n_kv_heads,
                kv_head: task % shape.n_kv_heads,
                context: parts,
                scratch,
            });
        });
    };
    let tasks = shape.batch * shape.n_kv_heads;
    // A short cache is faster on one thread than waking another.
    if tasks * shape.kv_len * shape.head_dim < 1 << 15 {
        (0..tasks).for_each(task);
    } else {
        parallel::for_each(tasks, task);
    }
    context
}

struct DecodeTask<'a> {
    inputs: &'a Inputs<'a>,
    batch: usize,
    kv_head: usize,
    context: parallel::Parts<'a, f32>,
    scratch: &'a mut Scratch,
}

impl WithSimd for DecodeTask<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            inputs,
            batch,
            kv_head,
            context,
            scratch,
        } = self;
        let Shape {
            n_heads,
            q_len,
            head_dim,
            value_dim,
            ..
        } = inputs.shape;
        let group = inputs.shape.group();
        let rows = group * q_len;
        let (from, _) = inputs.visible(batch, 0);
        // The last query sees farthest.
        let (_, to) = inputs.visible(batch, q_len - 1);
        let to = to.max(from);
        let keys = to - from;
        let head_of = |row: usize| (kv_head * group + row / q_len, row % q_len);
        let q = reserve(&mut scratch.q, rows * head_dim);
        for (row, q) in q.chunks_exact_mut(head_dim).enumerate() {
            let (head, i) = head_of(row);
            let at = inputs.q.view.at(batch, head) + i * inputs.q.view.row_stride;
            q.copy_from_slice(&inputs.q.values[at..][..head_dim]);
        }
        // Both products are what the tiles of `forward` compute: chains of fused multiply-adds along a head, and along the keys.
        let width = wide_columns::<S>();
        let stride = keys.next_multiple_of(width);
        let scores = reserve(&mut scratch.scores, rows * stride);
        let lines = reserve(&mut scratch.keys_transposed, head_dim * width);
        let out = reserve(&mut scratch.block, rows * value_dim);
        let rows_of = |heads: Heads<'_>, at: usize| {
            // SAFETY: `Inputs::check` saw that all views end within their values.
            unsafe { Operand::strided(heads.values.as_ptr().add(at), heads.view.row_stride, 1).from(from, 0) }
        };
        let k = rows_of(inputs.k, inputs.k.view.at(batch, kv_head));
        let v = rows_of(inputs.v, inputs.v.view.at(batch, kv_head));
        let queries = Operand::row_major(q, rows, head_dim);
        for first in (0..keys).step_by(width) {
            let sizes = Sizes {
                m: rows,
                n: width,
                k: head_dim,
            };
            // SAFETY: keys are within the view, and lines and scores as long as was reserved.
            unsafe {
                let some = [width.min(keys - first), head_dim];
                transpose(simd, k.from(first, 0), some, lines.as_mut_ptr(), width);
                let target = Target::strided(scores.as_mut_ptr().add(first), stride);
                let lines = Operand::row_major(lines, head_dim, width);
                chains(simd, sizes, queries, lines, target, Start::Zero);
            }
        }
        for (row, inverse) in reserve(&mut scratch.dq, rows).iter_mut().enumerate() {
            let (head, i) = head_of(row);
            let block = Block {
                first: i,
                rows: 1,
                from,
                to,
            };
            let scores = &mut scores[row * stride..][..stride];
            finish_scores(inputs, batch, head, i, &block, scores);
            let (_, total) = exponentials(scores);
            *inverse = if total == 0.0 { 0.0 } else { 1.0 / total };
        }
        let sizes = Sizes {
            m: rows,
            n: value_dim,
            k: keys,
        };
        let weights = Operand::row_major(scores, rows, stride);
        let target = Target::row_major(out, rows, value_dim);
        // SAFETY: values are within the view, and weights and target as long as was reserved.
        unsafe { chains(simd, sizes, weights, v, target, Start::Zero) };
        for (row, x) in out.chunks_exact(value_dim).enumerate() {
            let (head, i) = head_of(row);
            let inverse = scratch.dq[row];
            // SAFETY: each task writes the rows of its own heads.
            let out = unsafe { context.part(((batch * q_len + i) * n_heads + head) * value_dim, value_dim) };
            out.iter_mut().zip(x).for_each(|(out, x)| *out = x * inverse);
        }
    }
}
