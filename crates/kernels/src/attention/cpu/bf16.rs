//! Attention whose products are in bfloat16: scores, softmax and sums stay in single precision, and what is multiplied is
//! rounded while it is packed. The tasks and blocks are those of single precision, in blocks of whole tiles.

use half::bf16;

use super::backward::{Places, places, scatter, slopes_of_scores, weight_gradients};
use super::*;
use crate::cpu::matmul::bf16::{
    Instructions, Left, Matrix, Order, Packed, Right, Session, TILE, product, round_in_place,
};

/// Queries of a block.
const BLOCK: usize = 2 * TILE;

/// Memory of a thread, kept so that no task allocates.
#[derive(Default)]
struct Scratch {
    /// Keys as columns of the scores, and of the gradient of the queries.
    keys: Packed,
    keys_across: Packed,
    /// Values as columns of the context, and of the gradient of the weights.
    values: Packed,
    values_across: Packed,
    /// A block of queries, or of the context's gradient.
    rows: Packed,
    columns: Packed,
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

/// As [`super::forward`].
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

struct ForwardTask<'a> {
    inputs: &'a Inputs<'a>,
    batch: usize,
    kv_head: usize,
    context: parallel::Parts<'a, f32>,
    log_sums: parallel::Parts<'a, f32>,
    scratch: &'a mut Scratch,
}

/// Packed columns from one of them, and from one place in the sum on.
fn right(packed: &Packed, column: usize, depth: usize) -> Right<'_> {
    Right { packed, column, depth }
}

impl WithSimd for ForwardTask<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
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
        let session = Session::new(Instructions::of_this_cpu());
        let norms = inputs.preparation.norms;
        let rotary = inputs.rotary(batch);
        let at = inputs.k.view.at(batch, kv_head);
        let k_norm = norms.map(|(_, weight, eps)| (weight, eps));
        let q_norm = norms.map(|(weight, _, eps)| (weight, eps));
        let k = Matrix::of(prepared(inputs.k, at, kv_len, head_dim, k_norm, rotary, &mut scratch.k));
        // SAFETY: `Inputs::check` saw that all views end within their values; blocks are within the lengths.
        unsafe {
            scratch
                .keys
                .pack(session.instructions, k, kv_len, head_dim, Order::Pairs);
            let at = inputs.v.view.at(batch, kv_head);
            let v = Matrix::single_strided(inputs.v.values.as_ptr().add(at), inputs.v.view.row_stride);
            let values = &mut scratch.values;
            values.pack(session.instructions, v.transposed(), value_dim, kv_len, Order::Pairs);
            for head in kv_head * inputs.shape.group()..(kv_head + 1) * inputs.shape.group() {
                let at = inputs.q.view.at(batch, head);
                let q = Matrix::of(prepared(inputs.q, at, q_len, head_dim, q_norm, rotary, &mut scratch.q));
                let log_sums = log_sums.part((batch * n_heads + head) * q_len, q_len);
                for first in (0..q_len).step_by(BLOCK) {
                    let block = block(batch, first, [BLOCK, TILE], inputs);
                    let rows = block.rows;
                    let out_at = ((batch * q_len + first) * n_heads + head) * value_dim;
                    let out = context.as_mut_ptr().add(out_at);
                    let out_stride = n_heads * value_dim;
                    let keys = block.to - block.from;
                    if keys == 0 {
                        log_sums[first..first + rows].fill(f32::INFINITY);
                        for row in 0..rows {
                            std::slice::from_raw_parts_mut(out.add(row * out_stride), value_dim).fill(0.0);
                        }
                        continue;
                    }
                    let stride = keys.next_multiple_of(TILE);
                    let scores = reserve(&mut scratch.scores, BLOCK * stride);
                    let left = &mut scratch.rows;
                    left.pack(session.instructions, q.from(first, 0), rows, head_dim, Order::Lines);
                    // Whole tiles: what is past the rows is not used, and past the keys hidden.
                    let sizes = Sizes {
                        m: rows.next_multiple_of(TILE),
                        n: stride,
                        k: head_dim,
                    };
                    let target = Target::row_major(scores, sizes.m, stride);
                    let keys_seen = right(&scratch.keys, block.from, 0);
                    product(&session, sizes, &Left::packed(left), keys_seen, target, Write::Replace);
                    let mut inverse = [0.0_f32; BLOCK];
                    for (row, inverse) in inverse.iter_mut().enumerate().take(rows) {
                        let i = first + row;
                        let scores = &mut scores[row * stride..][..stride];
                        (*inverse, log_sums[i]) = weigh(inputs, batch, head, i, &block, scores);
                        round_in_place(scores);
                    }
                    let sizes = Sizes {
                        m: rows,
                        n: value_dim,
                        k: stride,
                    };
                    let weights = Left::in_place(scores.as_ptr().cast::<bf16>(), 2 * stride, rows, left);
                    let values_seen = right(&scratch.values, 0, block.from);
                    let target = Target::strided(out, out_stride);
                    product(&session, sizes, &weights, values_seen, target, Write::Replace);
                    for (row, inverse) in inverse.iter().enumerate().take(rows) {
                        let out = std::slice::from_raw_parts_mut(out.add(row * out_stride), value_dim);
                        out.iter_mut().for_each(|x| *x *= inverse);
                    }
                }
            }
        }
    }
}

/// As [`super::backward`], without the context.
pub(crate) fn backward(
    inputs: &Inputs<'_>,
    log_sums: &[f32],
    dcontext: &[f32],
    gradients: Gradients<'_>,
) -> (Vec<f32>, Vec<f32>) {
    let shape = inputs.shape;
    let places = places(inputs, log_sums, dcontext, gradients);
    weight_gradients(inputs, |task, dweights| {
        SCRATCH.with_borrow_mut(|scratch| {
            crate::cpu::dispatch(BackwardTask {
                given: Given {
                    inputs,
                    batch: task / shape.n_kv_heads,
                    log_sums,
                    dcontext,
                },
                kv_head: task % shape.n_kv_heads,
                places: &places,
                dweights,
                scratch,
            });
        });
    })
}

/// What the gradients of one batch row follow from.
struct Given<'a> {
    inputs: &'a Inputs<'a>,
    batch: usize,
    log_sums: &'a [f32],
    dcontext: &'a [f32],
}

struct BackwardTask<'a> {
    given: Given<'a>,
    kv_head: usize,
    places: &'a Places,
    dweights: &'a mut [f32],
    scratch: &'a mut Scratch,
}

impl WithSimd for BackwardTask<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let Self {
            given,
            kv_head,
            places,
            dweights,
            scratch,
        } = self;
        let Given { inputs, batch, .. } = given;
        let Shape {
            q_len,
            kv_len,
            head_dim,
            value_dim,
            ..
        } = inputs.shape;
        let session = Session::new(Instructions::of_this_cpu());
        let instructions = session.instructions;
        let norms = inputs.preparation.norms;
        let rotary = inputs.rotary(batch);
        let (dq_weight, dk_weight) = dweights.split_at_mut(dweights.len() / 2);
        let k_at = inputs.k.view.at(batch, kv_head);
        let k_norm = norms.map(|(_, weight, eps)| (weight, eps));
        let q_norm = norms.map(|(weight, _, eps)| (weight, eps));
        let k = Matrix::of(prepared(
            inputs.k,
            k_at,
            kv_len,
            head_dim,
            k_norm,
            rotary,
            &mut scratch.k,
        ));
        reserve(&mut scratch.dk, kv_len * head_dim).fill(0.0);
        reserve(&mut scratch.dv, kv_len * value_dim).fill(0.0);
        // SAFETY: `Inputs::check` and `places` saw that all views end within their values; blocks are within the lengths.
        unsafe {
            let v_at = inputs.v.view.at(batch, kv_head);
            let v = Matrix::single_strided(inputs.v.values.as_ptr().add(v_at), inputs.v.view.row_stride);
            scratch.keys.pack(instructions, k, kv_len, head_dim, Order::Pairs);
            let keys_across = &mut scratch.keys_across;
            keys_across.pack(instructions, k.transposed(), head_dim, kv_len, Order::Pairs);
            scratch
                .values_across
                .pack(instructions, v, kv_len, value_dim, Order::Pairs);
            for head in kv_head * inputs.shape.group()..(kv_head + 1) * inputs.shape.group() {
                let q_at = inputs.q.view.at(batch, head);
                let q = Matrix::of(prepared(
                    inputs.q,
                    q_at,
                    q_len,
                    head_dim,
                    q_norm,
                    rotary,
                    &mut scratch.q,
                ));
                reserve(&mut scratch.dq, q_len * head_dim);
                for first in (0..q_len).step_by(BLOCK) {
                    block_backward(&session, &given, head, first, q, scratch);
                }
                let dq = &mut scratch.dq[..q_len * head_dim];
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

/// From the finished scores and the gradient of the dropped weights of one row: `weights` becomes the dropped weights, `slopes`
/// the gradient of the raw scores. What all scores of the row have in common is summed from the same rounded products as the
/// rest, so that it cancels where it should; from the context it would not.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn softmax_backward(
    inputs: &Inputs<'_>,
    batch: usize,
    head: usize,
    i: usize,
    block: &Block,
    log_sum: f32,
    weights: &mut [f32],
    slopes: &mut [f32],
) {
    let Settings {
        scale,
        softcap,
        dropout,
        ..
    } = inputs.settings;
    if softcap.is_none() && dropout.is_none() {
        weights.iter_mut().for_each(|weight| *weight = exp(*weight - log_sum));
        let delta = sum2(weights, slopes, |weight, slope| weight * slope);
        for (weight, slope) in weights.iter().zip(slopes) {
            *slope = *weight * (*slope - delta) * scale;
        }
        return;
    }
    let Shape {
        n_heads, q_len, kv_len, ..
    } = inputs.shape;
    let row = ((batch * n_heads + head) * q_len + i) * kv_len + block.from;
    let dropout = dropout.map(|(probability, key)| random::Dropout::new(probability, key));
    let factor = |j: usize| dropout.as_ref().map_or(1.0, |dropout| dropout.factor((row + j) as u64));
    let terms = weights.iter().zip(slopes.iter()).enumerate();
    let delta = terms
        .map(|(j, (score, slope))| exp(*score - log_sum) * factor(j) * slope)
        .sum();
    slopes_of_scores(inputs, batch, head, i, block, (log_sum, delta), weights, slopes);
}

/// The gradients of one head from a block of its queries: those of the queries are written, those of keys and values added to.
///
/// # Safety
///
/// The block must begin within the queries, and `scratch` hold the packed keys and values.
#[inline(always)]
unsafe fn block_backward(
    session: &Session,
    given: &Given<'_>,
    head: usize,
    first: usize,
    q: Matrix,
    scratch: &mut Scratch,
) {
    let Given {
        inputs,
        batch,
        log_sums,
        dcontext,
    } = *given;
    let Shape {
        n_heads,
        q_len,
        head_dim,
        value_dim,
        ..
    } = inputs.shape;
    let block = block(batch, first, [BLOCK, TILE], inputs);
    let rows = block.rows;
    let dq = &mut scratch.dq[first * head_dim..][..rows * head_dim];
    let keys = block.to - block.from;
    if keys == 0 {
        return dq.fill(0.0);
    }
    let stride = keys.next_multiple_of(TILE);
    let weights = reserve(&mut scratch.scores, BLOCK * stride);
    let slopes = reserve(&mut scratch.slopes, BLOCK * stride);
    let out_at = ((batch * q_len + first) * n_heads + head) * value_dim;
    let out_stride = n_heads * value_dim;
    let log_sums = &log_sums[(batch * n_heads + head) * q_len..][..q_len];
    let instructions = session.instructions;
    // SAFETY: the caller's promise.
    unsafe {
        let q = q.from(first, 0);
        let dout = Matrix::single_strided(dcontext.as_ptr().add(out_at), out_stride);
        let whole = |k: usize| Sizes {
            m: rows.next_multiple_of(TILE),
            n: stride,
            k,
        };
        let left = &mut scratch.rows;
        left.pack(instructions, q, rows, head_dim, Order::Lines);
        let target = Target::row_major(weights, BLOCK, stride);
        let keys_seen = right(&scratch.keys, block.from, 0);
        product(
            session,
            whole(head_dim),
            &Left::packed(left),
            keys_seen,
            target,
            Write::Replace,
        );
        left.pack(instructions, dout, rows, value_dim, Order::Lines);
        let target = Target::row_major(slopes, BLOCK, stride);
        let values_seen = right(&scratch.values_across, block.from, 0);
        product(
            session,
            whole(value_dim),
            &Left::packed(left),
            values_seen,
            target,
            Write::Replace,
        );

        for row in 0..rows {
            let weights = &mut weights[row * stride..][..stride];
            let slopes = &mut slopes[row * stride..][..stride];
            // What is past the keys must be a number for the masked weights of 0 to hide.
            slopes[keys..].fill(0.0);
            let i = first + row;
            finish_scores(inputs, batch, head, i, &block, weights);
            softmax_backward(inputs, batch, head, i, &block, log_sums[i], weights, slopes);
            round_in_place(weights);
            round_in_place(slopes);
        }

        let sizes = Sizes {
            m: rows,
            n: head_dim,
            k: stride,
        };
        let target = Target::row_major(dq, rows, head_dim);
        let slope_rows = Left::in_place(slopes.as_ptr().cast::<bf16>(), 2 * stride, rows, left);
        let keys_across = right(&scratch.keys_across, 0, block.from);
        product(session, sizes, &slope_rows, keys_across, target, Write::Replace);

        // Keys and values: the rounded rows the other way round, times queries and the context's gradient.
        for (rounded, rows_of_block, width, gradient) in [
            (slopes, q, head_dim, &mut scratch.dk),
            (weights, dout, value_dim, &mut scratch.dv),
        ] {
            let rounded = Matrix::half_strided(rounded.as_ptr().cast::<bf16>(), 2 * stride);
            left.pack(instructions, rounded.transposed(), keys, rows, Order::Lines);
            let columns = &mut scratch.columns;
            columns.pack(instructions, rows_of_block.transposed(), width, rows, Order::Pairs);
            let sizes = Sizes {
                m: keys,
                n: width,
                k: rows,
            };
            let target = Target::row_major(&mut gradient[block.from * width..], keys, width);
            product(
                session,
                sizes,
                &Left::packed(left),
                right(columns, 0, 0),
                target,
                Write::Add,
            );
        }
    }
}
