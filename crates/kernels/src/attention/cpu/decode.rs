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
    fn with_simd<S: Simd>(self, _simd: S) {
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
        // The last query sees farthest.
        let (_, kv_len) = inputs.visible(batch, q_len - 1);
        let scores = reserve(&mut scratch.scores, rows * kv_len);
        let k_at = inputs.k.view.at(batch, kv_head);
        let v_at = inputs.v.view.at(batch, kv_head);
        let head_of = |row: usize| (kv_head * group + row / q_len, row % q_len);
        for j in 0..kv_len {
            let k = &inputs.k.values[k_at + j * inputs.k.view.row_stride..][..head_dim];
            for row in 0..rows {
                let (head, i) = head_of(row);
                let q = &inputs.q.values[inputs.q.view.at(batch, head) + i * inputs.q.view.row_stride..][..head_dim];
                scores[row * kv_len + j] = sum2(q, k, |q, k| q * k);
            }
        }
        for row in 0..rows {
            let (head, i) = head_of(row);
            let scores = &mut scores[row * kv_len..][..kv_len];
            let block = Block {
                first: i,
                rows: 1,
                from: 0,
                to: kv_len,
            };
            finish_scores(inputs, batch, head, i, &block, scores);
            let (_, total) = exponentials(scores);
            let inverse = if total == 0.0 { 0.0 } else { 1.0 / total };
            for x in scores.iter_mut() {
                *x *= inverse;
            }
        }
        for row in 0..rows {
            let (head, i) = head_of(row);
            // SAFETY: each task writes the rows of its own heads.
            let out = unsafe { context.part(((batch * q_len + i) * n_heads + head) * value_dim, value_dim) };
            out.fill(0.0);
            for j in 0..kv_len {
                let weight = scores[row * kv_len + j];
                let v = &inputs.v.values[v_at + j * inputs.v.view.row_stride..][..value_dim];
                for (out, v) in out.iter_mut().zip(v) {
                    *out = v.mul_add(weight, *out);
                }
            }
        }
    }
}
