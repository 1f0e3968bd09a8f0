//! Attention of few queries, as a step of decoding has them.

use super::*;

/// Into how many parts per thread the heads are cut: few to hand over, and enough that a slow thread holds up no other.
const TASKS_PER_THREAD: usize = 4;

/// Attention of few queries, each key and value read once: decoding with a cache. The result is `[batch, q_len, n_heads, value_dim]`.
/// Scores take `q_len * kv_len` numbers per head. Keys and values in [`f16`] are converted some lines at a time, so that only their
/// own bytes come from memory; the result is that of the converted ones, bit for bit.
pub(crate) fn decode<N: Stored>(inputs: &Inputs<'_, N>) -> Vec<f32> {
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
        // Several at a time: one takes a few microseconds, no more than to hand it over.
        let at_once = tasks.div_ceil(TASKS_PER_THREAD * rayon::current_num_threads());
        parallel::for_each(tasks.div_ceil(at_once), |chunk| {
            (chunk * at_once..tasks.min((chunk + 1) * at_once)).for_each(&task);
        });
    }
    context
}

struct DecodeTask<'a, N> {
    inputs: &'a Inputs<'a, N>,
    batch: usize,
    kv_head: usize,
    context: parallel::Parts<'a, f32>,
    scratch: &'a mut Scratch,
}

impl<N: Stored> WithSimd for DecodeTask<'_, N> {
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
        let at =
            |heads: &Heads<'_, N>, key: usize| heads.view.at(batch, kv_head) + (from + key) * heads.view.row_stride;
        let queries = Operand::row_major(q, rows, head_dim);
        for first in (0..keys).step_by(width) {
            let sizes = Sizes {
                m: rows,
                n: width,
                k: head_dim,
            };
            let some = width.min(keys - first);
            // SAFETY: `Inputs::check` saw that the view reaches over all keys; lines and scores are as long as was reserved.
            unsafe {
                let k = N::rows(&inputs.k, at(&inputs.k, first), some, head_dim, &mut scratch.k);
                transpose(simd, k, [some, head_dim], lines.as_mut_ptr(), width);
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
        let step = if N::IS_IN_PLACE { keys } else { width };
        let mut first = 0;
        // At least once: queries that see nothing get zeros.
        loop {
            let sizes = Sizes {
                m: rows,
                n: value_dim,
                k: step.min(keys - first),
            };
            let start = if first == 0 { Start::Zero } else { Start::Continue };
            let target = Target::row_major(out, rows, value_dim);
            // SAFETY: as above, for values; weights and target are as long as was reserved.
            unsafe {
                let v = N::rows(&inputs.v, at(&inputs.v, first), sizes.k, value_dim, &mut scratch.values);
                let weights = Operand::row_major(scores, rows, stride).from(0, first);
                chains(simd, sizes, weights, v, target, start);
            }
            first += step;
            if first >= keys {
                break;
            }
        }
        for (row, x) in out.chunks_exact(value_dim).enumerate() {
            let (head, i) = head_of(row);
            let inverse = scratch.dq[row];
            // SAFETY: each task writes the rows of its own heads.
            let out = unsafe { context.part(((batch * q_len + i) * n_heads + head) * value_dim, value_dim) };
            out.iter_mut().zip(x).for_each(|(out, x)| *out = x * inverse);
        }
    }
}
