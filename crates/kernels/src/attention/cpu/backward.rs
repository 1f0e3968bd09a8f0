//! The gradients of attention.

use super::*;

/// The gradients for queries, keys and values, written where the views say, and for the weights of the norms (empty
/// without norms), given the context's gradient `[batch, q_len, n_heads, value_dim]`.
pub(crate) fn backward(
    inputs: &Inputs<'_>,
    attended: (&[f32], &[f32]),
    dcontext: &[f32],
    gradients: Gradients<'_>,
) -> (Vec<f32>, Vec<f32>) {
    let shape = inputs.shape;
    let (context, log_sums) = attended;
    assert!(context.len() == dcontext.len());
    let places = places(inputs, log_sums, dcontext, gradients);
    weight_gradients(inputs, |task, dweights| {
        SCRATCH.with_borrow_mut(|scratch| {
            crate::cpu::dispatch(BackwardTask {
                inputs,
                batch: task / shape.n_kv_heads,
                kv_head: task % shape.n_kv_heads,
                context,
                log_sums,
                dcontext,
                places: &places,
                dweights,
                scratch,
            });
        });
    })
}

/// Calls `work` for each batch row and key head with its sums of the gradients of both norms' weights, and adds these in order.
pub(super) fn weight_gradients(
    inputs: &Inputs<'_>,
    work: impl Fn(usize, &mut [f32]) + Sync + Send,
) -> (Vec<f32>, Vec<f32>) {
    let Shape {
        batch,
        n_kv_heads,
        head_dim,
        ..
    } = inputs.shape;
    let tasks = batch * n_kv_heads;
    let norm_width = if inputs.preparation.norms.is_some() {
        head_dim
    } else {
        0
    };
    let mut dweights = vec![0.0; tasks * 2 * norm_width];
    let dweight_parts = parallel::Parts::new(&mut dweights);
    parallel::for_each(tasks, |task| {
        // SAFETY: each task has its own partial sums.
        let dweights = unsafe { dweight_parts.part(task * 2 * norm_width, 2 * norm_width) };
        work(task, dweights);
    });
    if norm_width == 0 {
        return (Vec::new(), Vec::new());
    }
    let mut total = parallel::sum_rows(&dweights, 2 * norm_width);
    let dk_weight = total.split_off(norm_width);
    (total, dk_weight)
}

/// Checks all sizes, and takes the places of the gradients.
pub(super) fn places(inputs: &Inputs<'_>, log_sums: &[f32], dcontext: &[f32], gradients: Gradients<'_>) -> Places {
    inputs.check();
    let Shape {
        batch,
        n_heads,
        n_kv_heads,
        q_len,
        kv_len,
        head_dim,
        value_dim,
    } = inputs.shape;
    assert!(dcontext.len() == batch * q_len * n_heads * value_dim);
    assert!(log_sums.len() == batch * n_heads * q_len);
    assert!(gradients.q.0.len() >= gradients.q.1.end(batch, n_heads, q_len, head_dim));
    assert!(gradients.k.0.len() >= gradients.k.1.end(batch, n_kv_heads, kv_len, head_dim));
    assert!(gradients.v.0.len() >= gradients.v.1.end(batch, n_kv_heads, kv_len, value_dim));
    Places {
        q: (gradients.q.0.as_mut_ptr(), gradients.q.1),
        k: (gradients.k.0.as_mut_ptr(), gradients.k.1),
        v: (gradients.v.0.as_mut_ptr(), gradients.v.1),
    }
}

/// Where gradients go; each task writes the rows of its own heads.
pub(super) struct Places {
    pub(super) q: (*mut f32, View),
    pub(super) k: (*mut f32, View),
    pub(super) v: (*mut f32, View),
}

// SAFETY: tasks write disjoint heads, within the lengths that `backward` checked.
unsafe impl Sync for Places {}

struct BackwardTask<'a> {
    inputs: &'a Inputs<'a>,
    batch: usize,
    kv_head: usize,
    context: &'a [f32],
    log_sums: &'a [f32],
    dcontext: &'a [f32],
    places: &'a Places,
    dweights: &'a mut [f32],
    scratch: &'a mut Scratch,
}

impl WithSimd for BackwardTask<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            inputs,
            batch,
            kv_head,
            context,
            log_sums,
            dcontext,
            places,
            dweights,
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
        let (dq_weight, dk_weight) = dweights.split_at_mut(dweights.len() / 2);
        let k_at = inputs.k.view.at(batch, kv_head);
        let k_norm = norms.map(|(_, weight, eps)| (weight, eps));
        let q_norm = norms.map(|(weight, _, eps)| (weight, eps));
        let k = prepared(inputs.k, k_at, kv_len, head_dim, k_norm, rotary, &mut scratch.k);
        reserve(&mut scratch.dk, kv_len * head_dim).fill(0.0);
        reserve(&mut scratch.dv, kv_len * value_dim).fill(0.0);
        // SAFETY: `Inputs::check` and `backward` saw that all views end within their values; blocks are within the
        // lengths.
        unsafe {
            let v_at = inputs.v.view.at(batch, kv_head);
            let v = Operand::strided(inputs.v.values.as_ptr().add(v_at), inputs.v.view.row_stride, 1);
            pack_panels(simd, k.transposed(), head_dim, kv_len, &mut scratch.keys_transposed);
            pack_panels(simd, v.transposed(), value_dim, kv_len, &mut scratch.values);
            pack_panels(simd, k, kv_len, head_dim, &mut scratch.keys);
            for head in kv_head * inputs.shape.group()..(kv_head + 1) * inputs.shape.group() {
                let q_at = inputs.q.view.at(batch, head);
                let q = prepared(inputs.q, q_at, q_len, head_dim, q_norm, rotary, &mut scratch.q);
                let dq = reserve(&mut scratch.dq, q_len * head_dim);
                let log_sums = &log_sums[(batch * n_heads + head) * q_len..][..q_len];
                for first in (0..q_len).step_by(BLOCK) {
                    let block = block(batch, first, [BLOCK, width], inputs);
                    let Block { rows, .. } = block;
                    let keys = block.to - block.from;
                    let stride = keys.next_multiple_of(width);
                    let weights = reserve(&mut scratch.scores, BLOCK * stride);
                    let slopes = reserve(&mut scratch.slopes, BLOCK * stride);
                    let out_at = ((batch * q_len + first) * n_heads + head) * value_dim;
                    let out_stride = n_heads * value_dim;
                    let dout = Operand::strided(dcontext.as_ptr().add(out_at), out_stride, 1);

                    let sizes = Sizes {
                        m: rows,
                        n: keys,
                        k: head_dim,
                    };
                    let panels = &scratch.keys_transposed[block.from * head_dim..];
                    let target = Target::row_major(weights, rows, stride);
                    tiles(simd, sizes, q.from(first, 0), panels, head_dim, target, Write::Replace);
                    let sizes = Sizes {
                        m: rows,
                        n: keys,
                        k: value_dim,
                    };
                    let panels = &scratch.values[block.from * value_dim..];
                    let target = Target::row_major(slopes, rows, stride);
                    tiles(simd, sizes, dout, panels, value_dim, target, Write::Replace);

                    for row in 0..rows {
                        let i = first + row;
                        let weights = &mut weights[row * stride..][..stride];
                        let slopes = &mut slopes[row * stride..][..stride];
                        // What tiles do not write must be a number for the masked weights of 0 to hide.
                        slopes[keys..].fill(0.0);
                        let at = out_at + row * out_stride;
                        let delta = sum2(&dcontext[at..][..value_dim], &context[at..][..value_dim], |d, o| d * o);
                        softmax_backward(inputs, batch, head, i, &block, (log_sums[i], delta), weights, slopes);
                    }

                    let slope_rows = Operand::row_major(slopes, rows, stride);
                    let sizes = Sizes {
                        m: rows,
                        n: head_dim,
                        k: keys,
                    };
                    let target = Target::row_major(&mut dq[first * head_dim..], rows, head_dim);
                    let panels = &scratch.keys[block.from * width..];
                    tiles(simd, sizes, slope_rows, panels, kv_len, target, Write::Replace);

                    pack_panels(simd, q.from(first, 0), rows, head_dim, &mut scratch.block);
                    let sizes = Sizes {
                        m: keys,
                        n: head_dim,
                        k: rows,
                    };
                    let target = Target::row_major(&mut scratch.dk[block.from * head_dim..], keys, head_dim);
                    tiles(
                        simd,
                        sizes,
                        slope_rows.transposed(),
                        &scratch.block,
                        rows,
                        target,
                        Write::Add,
                    );

                    pack_panels(simd, dout, rows, value_dim, &mut scratch.block);
                    let sizes = Sizes {
                        m: keys,
                        n: value_dim,
                        k: rows,
                    };
                    let target = Target::row_major(&mut scratch.dv[block.from * value_dim..], keys, value_dim);
                    let weight_rows = Operand::row_major(weights, rows, stride);
                    tiles(
                        simd,
                        sizes,
                        weight_rows.transposed(),
                        &scratch.block,
                        rows,
                        target,
                        Write::Add,
                    );
                }
                unprepare(inputs.q, q_at, head_dim, q_norm, rotary, dq, dq_weight);
                scatter(dq, head_dim, places.q, batch, head);
            }
            let dk = &mut scratch.dk[..kv_len * head_dim];
            unprepare(inputs.k, k_at, head_dim, k_norm, rotary, dk, dk_weight);
            scatter(dk, head_dim, places.k, batch, kv_head);
            scatter(&scratch.dv[..kv_len * value_dim], value_dim, places.v, batch, kv_head);
        }
    }
}

/// From the raw scores and the gradient of the dropped weights of one row: `weights` becomes the dropped weights,
/// `slopes` the gradient of the raw scores.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn softmax_backward(
    inputs: &Inputs<'_>,
    batch: usize,
    head: usize,
    i: usize,
    block: &Block,
    (log_sum, delta): (f32, f32),
    weights: &mut [f32],
    slopes: &mut [f32],
) {
    finish_scores(inputs, batch, head, i, block, weights);
    slopes_of_scores(inputs, batch, head, i, block, (log_sum, delta), weights, slopes);
}

/// The same from scores that are finished.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(super) fn slopes_of_scores(
    inputs: &Inputs<'_>,
    batch: usize,
    head: usize,
    i: usize,
    block: &Block,
    (log_sum, delta): (f32, f32),
    weights: &mut [f32],
    slopes: &mut [f32],
) {
    let Settings {
        scale,
        softcap,
        dropout,
        ..
    } = inputs.settings;
    let Shape {
        n_heads, q_len, kv_len, ..
    } = inputs.shape;
    if softcap.is_none() && dropout.is_none() {
        for (weight, slope) in weights.iter_mut().zip(slopes) {
            *weight = exp(*weight - log_sum);
            *slope = *weight * (*slope - delta) * scale;
        }
        return;
    }
    let row = ((batch * n_heads + head) * q_len + i) * kv_len + block.from;
    let dropout = dropout.map(|(probability, key)| random::Dropout::new(probability, key));
    let bias = inputs.bias.map(|bias| {
        let [batch_stride, head_stride, row_stride] = bias.strides;
        &bias.values[batch * batch_stride + head * head_stride + i * row_stride + block.from..]
    });
    for (j, (weight, slope)) in weights.iter_mut().zip(slopes).enumerate() {
        let score = *weight;
        let kept = exp(score - log_sum);
        let factor = dropout.as_ref().map_or(1.0, |dropout| dropout.factor((row + j) as u64));
        // tanh' = 1 - tanh^2, and the capped score without its bias is cap * tanh.
        let through_cap = softcap.filter(|_| kept > 0.0).map_or(1.0, |cap| {
            let tanh = (score - bias.and_then(|bias| bias.get(j)).unwrap_or(&0.0)) / cap;
            1.0 - tanh * tanh
        });
        *weight = kept * factor;
        *slope = kept * slope.mul_add(factor, -delta) * through_cap * scale;
    }
}

/// Copies the rows of one head to their place.
///
/// # Safety
///
/// The rows must be within the memory of `place`, and no other task may write them.
#[inline(always)]
pub(super) unsafe fn scatter(rows: &[f32], width: usize, place: (*mut f32, View), batch: usize, head: usize) {
    let (ptr, view) = place;
    for (row, values) in rows.chunks_exact(width).enumerate() {
        // SAFETY: the caller's promise.
        let out =
            unsafe { std::slice::from_raw_parts_mut(ptr.add(view.at(batch, head) + row * view.row_stride), width) };
        out.copy_from_slice(values);
    }
}
