//! What attention does between its matrix products, one cube per row of scores: the weights, and the gradient of the scores.
//!
//! Causality and window follow from the row's number, so that no mask is read or kept.

use burn::tensor::{DType, Tensor as BurnTensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::pieces::{self, Between, of_sequences};
use super::{AttentionMask, AttentionSettings};
use crate::gpu::rows::{max_of_cube, rows, sum_of_cube};
use crate::gpu::{empty_like, max_numbers, primitive, writable};

/// [`attention`](crate::attention()) with a mask that has no gradient, of as many sequences at a time as fit the memory of an
/// intermediate result.
pub(crate) fn attend(inputs: [BurnTensor<4>; 3], mask: &AttentionMask, settings: &AttentionSettings) -> BurnTensor<4> {
    let max_numbers = max_numbers(&inputs[0]);
    pieces::attend::<CubeBackend>(inputs, mask, settings, BETWEEN, max_numbers)
}

/// What comes between the matrix products, as kernels.
const BETWEEN: Between = Between {
    weights,
    slopes: score_slopes,
};

/// Below every score that is finite.
const LOWEST: f32 = f32::MIN;

/// The softmax of each row over the keys that its query sees, written over the scores; zeros for the other keys.
#[cube(launch)]
fn weigh(
    scores: &mut Tensor<f32>,
    bias: &Tensor<f32>,
    rows: usize,
    n_heads: usize,
    q_len: usize,
    kv_len: usize,
    offset: usize,
    window: usize,
    bias_batch: usize,
    bias_head: usize,
    bias_query: usize,
    scale: f32,
    #[comptime] is_causal: bool,
    #[comptime] has_bias: bool,
    #[comptime] units: u32,
) {
    let row = CUBE_POS;
    if row >= rows {
        terminate!();
    }
    let mut shared = Shared::<[f32]>::new_slice(comptime!(units as usize));
    let start = row * kv_len;
    let step = comptime!(units as usize);
    let query = row % q_len;
    let position = query + offset;
    // A window of 0 is none.
    let mut first = 0;
    let mut end = kv_len;
    if window > 0 {
        if position + 1 > window {
            first = position + 1 - window;
        }
        if position + window < end {
            end = position + window;
        }
    }
    if is_causal && position + 1 < end {
        end = position + 1;
    }
    if first > end {
        first = end;
    }
    let mut bias_start = 0;
    if comptime!(has_bias) {
        let head = (row / q_len) % n_heads;
        bias_start = row / q_len / n_heads * bias_batch + head * bias_head + query * bias_query;
    }

    let mut max = f32::new(LOWEST);
    let mut key = first + UNIT_POS as usize;
    while key < end {
        let mut score = scores[start + key] * scale;
        if comptime!(has_bias) {
            score += bias[bias_start + key];
        }
        scores[start + key] = score;
        if score > max {
            max = score;
        }
        key += step;
    }
    let max = max_of_cube(max, &mut shared, units);
    let mut sum = 0.0f32;
    let mut key = first + UNIT_POS as usize;
    while key < end {
        let numerator = (scores[start + key] - max).exp();
        scores[start + key] = numerator;
        sum += numerator;
        key += step;
    }
    let sum = sum_of_cube(sum, &mut shared, units);
    // A query that sees nothing gets zeros.
    let inverse = select(sum == 0.0f32, 0.0f32, 1.0f32 / sum);
    let mut key = first + UNIT_POS as usize;
    while key < end {
        scores[start + key] *= inverse;
        key += step;
    }
    let mut key = UNIT_POS as usize;
    while key < first {
        scores[start + key] = 0.0f32;
        key += step;
    }
    let mut key = end + UNIT_POS as usize;
    while key < kv_len {
        scores[start + key] = 0.0f32;
        key += step;
    }
}

/// `weights * (dweights - delta) * scale` written over `dweights`, where `delta` is the product of the row's context with its
/// gradient.
#[cube(launch)]
fn slopes(
    weights: &Tensor<f32>,
    dweights: &mut Tensor<f32>,
    context: &Tensor<f32>,
    dcontext: &Tensor<f32>,
    rows: usize,
    kv_len: usize,
    width: usize,
    scale: f32,
    #[comptime] units: u32,
) {
    let row = CUBE_POS;
    if row >= rows {
        terminate!();
    }
    let mut shared = Shared::<[f32]>::new_slice(comptime!(units as usize));
    let step = comptime!(units as usize);
    let mut delta = 0.0f32;
    let mut column = UNIT_POS as usize;
    while column < width {
        delta += context[row * width + column] * dcontext[row * width + column];
        column += step;
    }
    let delta = sum_of_cube(delta, &mut shared, units);
    let start = row * kv_len;
    let mut key = UNIT_POS as usize;
    while key < kv_len {
        dweights[start + key] = weights[start + key] * (dweights[start + key] - delta) * scale;
        key += step;
    }
}

/// The weights of unscaled scores.
///
/// # Shapes
///
/// - `scores` and result: `[batch, n_heads, q_len, kv_len]`
fn weights(scores: BurnTensor<4>, mask: &AttentionMask, start: usize, scale: f64) -> BurnTensor<4> {
    let [batch, n_heads, q_len, kv_len] = scores.dims();
    let scores = writable(primitive(scores));
    // The kernel knows causality and window; what differs between rows is added to the scores.
    let bias = match mask.ranges() {
        Some(_) => mask.additive(),
        None => mask.bias(),
    };
    let bias = bias.map(|bias| of_sequences(bias, start, batch));
    let strides = bias.as_ref().map_or([0; 3], |bias| {
        let [batch, n_heads, q_len, _] = bias.dims();
        let of = |len: usize, stride: usize| if len > 1 { stride } else { 0 };
        [
            of(batch, n_heads * q_len * kv_len),
            of(n_heads, q_len * kv_len),
            of(q_len, kv_len),
        ]
    });
    let has_bias = bias.is_some();
    let bias = bias.map_or_else(|| unread(&scores), primitive);
    let count = batch * n_heads * q_len;
    let launch = rows(count, kv_len, &scores);
    weigh::launch(
        &scores.client,
        launch.cubes,
        launch.cube,
        scores.clone().into_tensor_arg(),
        bias.into_tensor_arg(),
        count,
        n_heads,
        q_len,
        kv_len,
        kv_len.saturating_sub(q_len),
        mask.window().unwrap_or(0),
        strides[0],
        strides[1],
        strides[2],
        scale as f32,
        mask.is_causal(),
        has_bias,
        launch.units,
    );
    BurnTensor::from_primitive::<CubeBackend>(scores)
}

/// Something to pass where a kernel reads nothing.
fn unread(like: &CubeTensor) -> CubeTensor {
    empty_like(like, burn::tensor::Shape::new([1]), DType::F32)
}

/// The gradient of unscaled scores, given that of the weights.
///
/// # Shapes
///
/// - `weights`, `dweights` and result: `[batch, n_heads, q_len, kv_len]`; `context` and `dcontext`:
///   `[batch, n_heads, q_len, value_dim]`
fn score_slopes(
    weights: BurnTensor<4>,
    dweights: BurnTensor<4>,
    context: BurnTensor<4>,
    dcontext: BurnTensor<4>,
    scale: f64,
) -> BurnTensor<4> {
    let [batch, n_heads, q_len, kv_len] = weights.dims();
    let [_, _, _, width] = context.dims();
    let [weights, context, dcontext] = [weights, context, dcontext].map(primitive);
    let dweights = writable(primitive(dweights));
    let count = batch * n_heads * q_len;
    let launch = rows(count, kv_len, &weights);
    slopes::launch(
        &weights.client,
        launch.cubes,
        launch.cube,
        weights.clone().into_tensor_arg(),
        dweights.clone().into_tensor_arg(),
        context.into_tensor_arg(),
        dcontext.into_tensor_arg(),
        count,
        kv_len,
        width,
        scale as f32,
        launch.units,
    );
    BurnTensor::from_primitive::<CubeBackend>(dweights)
}
