//! Cross-entropy of rows of logits, one cube per row: the losses, and the gradients written over the logits.

use burn::tensor::{DType, Int, Shape, Tensor as BurnTensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use cubecl::prelude::*;

use super::pieces::{Targets, in_pieces};
use crate::gpu::rows::{max_of_cube, rows, sum_of_cube};
use crate::gpu::{empty_like, max_numbers, primitive, writable};

/// Below every logit that is finite.
const LOWEST: f32 = f32::MIN;

/// The loss of each row; where `is_tracked`, the logits become its gradient times the row's share in the mean.
#[cube(launch)]
fn score_rows(
    logits: &mut Tensor<f32>,
    targets: &Tensor<i32>,
    counted: &Tensor<f32>,
    losses: &mut Tensor<f32>,
    rows: usize,
    vocab: usize,
    ignore_index: i32,
    smoothing: f32,
    #[comptime] is_tracked: bool,
    #[comptime] is_smoothed: bool,
    #[comptime] units: u32,
) {
    let row = CUBE_POS;
    if row >= rows {
        terminate!();
    }
    let mut shared = Shared::<[f32]>::new_slice(comptime!(units as usize));
    let start = row * vocab;
    let step = comptime!(units as usize);
    // An ignored row goes the same way, so that all threads of a cube meet at its sums, and leaves zeros.
    let is_ignored = targets[row] == ignore_index;
    let target = select(is_ignored, 0i32, targets[row]) as usize;

    // One pass for the largest logit and the sum of exponentials: the sum follows when a larger one comes (Milakov and
    // Gimelshein, 2018).
    let mut max = f32::new(LOWEST);
    let mut sum = 0.0f32;
    let mut level = 0.0f32;
    let mut column = UNIT_POS as usize;
    while column < vocab {
        let logit = logits[start + column];
        if logit > max {
            sum *= (max - logit).exp();
            max = logit;
        }
        sum += (logit - max).exp();
        if comptime!(is_smoothed) {
            level += logit;
        }
        column += step;
    }
    let at_target = logits[start + target];
    let largest = max_of_cube(max, &mut shared, units);
    let sum = sum_of_cube(sum * (max - largest).exp(), &mut shared, units);
    let mut scored = at_target;
    if comptime!(is_smoothed) {
        let level = sum_of_cube(level, &mut shared, units) / (vocab as f32);
        scored = at_target * (1.0f32 - smoothing) + level * smoothing;
    }
    if UNIT_POS == 0 {
        losses[row] = select(is_ignored, 0.0f32, (largest - scored) + sum.ln());
    }
    if comptime!(is_tracked) {
        let share = 1.0f32 / counted[0];
        let inverse = 1.0f32 / sum;
        let floor = smoothing / (vocab as f32);
        let mut column = UNIT_POS as usize;
        while column < vocab {
            let mut slope = (logits[start + column] - largest).exp() * inverse;
            if comptime!(is_smoothed) {
                slope -= floor;
            }
            if column == target {
                slope -= 1.0f32 - smoothing;
            }
            logits[start + column] = select(is_ignored, 0.0f32, slope * share);
            column += step;
        }
    }
}

/// Mean cross-entropy of `hidden W`, with as many rows of logits at a time as fit the memory of an intermediate result.
pub(crate) fn linear_cross_entropy(
    hidden: BurnTensor<2>,
    weight: BurnTensor<2>,
    is_transposed: bool,
    targets: BurnTensor<1, Int>,
    ignore_index: i32,
    smoothing: f64,
) -> BurnTensor<1> {
    let vocab = weight.dims()[if is_transposed { 0 } else { 1 }];
    let rows = max_numbers(&hidden) / vocab.max(1);
    let settings = (ignore_index, smoothing, rows);
    in_pieces::<CubeBackend>(hidden, weight, is_transposed, targets, settings, score)
}

/// [`Score`](super::pieces::Score) on a GPU.
fn score(logits: BurnTensor<2>, targets: &Targets, is_tracked: bool) -> (BurnTensor<1>, Option<BurnTensor<2>>) {
    let [count, vocab] = logits.dims();
    let logits = writable(primitive(logits));
    let ids = targets
        .ids
        .clone()
        .try_into_primitive::<CubeBackend>()
        .expect("targets are on the logits' device");
    let ids = into_contiguous(ids);
    let counted = primitive(targets.counted.clone());
    let losses = empty_like(&logits, Shape::new([count]), DType::F32);
    let launch = rows(count, vocab, &logits);
    score_rows::launch(
        &logits.client,
        launch.cubes,
        launch.cube,
        logits.clone().into_tensor_arg(),
        ids.into_tensor_arg(),
        counted.into_tensor_arg(),
        losses.clone().into_tensor_arg(),
        count,
        vocab,
        targets.ignore_index,
        targets.smoothing as f32,
        is_tracked,
        targets.smoothing > 0.0,
        launch.units,
    );
    (
        BurnTensor::from_primitive::<CubeBackend>(losses),
        is_tracked.then(|| BurnTensor::from_primitive::<CubeBackend>(logits)),
    )
}
