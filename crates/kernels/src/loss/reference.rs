//! Cross-entropy composed of Burn's operations.

use burn::tensor::{Int, Tensor};

use crate::reference;

/// The reference implementation of [`cross_entropy`](crate::cross_entropy).
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>, ignore_index: i32) -> Tensor<1> {
    cross_entropy_smoothed(logits, targets, ignore_index, 0.0)
}

/// The reference implementation of [`cross_entropy_smoothed`](crate::cross_entropy_smoothed).
pub fn cross_entropy_smoothed(
    logits: Tensor<2>,
    targets: Tensor<1, Int>,
    ignore_index: i32,
    smoothing: f64,
) -> Tensor<1> {
    let is_ignored = targets.clone().equal_scalar(ignore_index);
    // An ignored position scores token 0; its loss and gradient are replaced by zeros below.
    let targets = targets.mask_fill(is_ignored.clone(), 0);
    let losses = smoothed_losses(logits, targets, smoothing).mask_fill(is_ignored.clone(), 0.0);
    let counted = is_ignored.bool_not().float().cast(losses.dtype()).sum_dim(0); // [1]
    losses.sum_dim(0) / counted.clamp_min(1.0)
}

/// The reference implementation of [`linear_cross_entropy`](crate::linear_cross_entropy).
pub fn linear_cross_entropy(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    is_transposed: bool,
    targets: Tensor<1, Int>,
    ignore_index: i32,
    smoothing: f64,
) -> Tensor<1> {
    let logits = if is_transposed {
        reference::linear_transposed(hidden, weight)
    } else {
        reference::linear(hidden, weight, None)
    };
    cross_entropy_smoothed(logits, targets, ignore_index, smoothing)
}

/// The reference implementation of [`linear_cross_entropy`](crate::linear_cross_entropy) with
/// [`Precision::Bf16`](crate::Precision): rounded hidden states times a rounded matrix.
pub fn linear_cross_entropy_bf16(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    is_transposed: bool,
    targets: Tensor<1, Int>,
    ignore_index: i32,
    smoothing: f64,
) -> Tensor<1> {
    let weight = if is_transposed { weight.transpose() } else { weight };
    let logits = reference::linear_bf16(hidden, weight, None, None);
    cross_entropy_smoothed(logits, targets, ignore_index, smoothing)
}

/// The reference implementation of [`negative_log_likelihood`](crate::negative_log_likelihood).
pub fn negative_log_likelihood(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    smoothed_losses(logits, targets, 0.0)
}

/// The loss of each position. One walk each over `[n, vocab]` for maximum, shift, exponential and sum; all that
/// follows has one number per row.
fn smoothed_losses(logits: Tensor<2>, targets: Tensor<1, Int>, smoothing: f64) -> Tensor<1> {
    let [n, vocab] = logits.dims();
    let max = logits.clone().detach().max_dim(1);
    let shifted = logits - max;
    let picked = shifted.clone().gather(1, targets.reshape([n, 1])); // [n, 1]
    let scored = if smoothing > 0.0 {
        let mean = shifted.clone().sum_dim(1).mul_scalar(smoothing / vocab as f64);
        picked.mul_scalar(1.0 - smoothing) + mean
    } else {
        picked
    };
    let log_sum_exp = shifted.exp().sum_dim(1).log();
    (log_sum_exp - scored).reshape([n])
}
