//! Softmax, whole and in the halves that attention needs.

use burn::tensor::{Tensor, activation};

/// Softmax along the last dimension.
///
/// # Shapes
///
/// - `x`: `[.., n]`; the result has the same, each row summing to 1.
pub fn softmax<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    activation::softmax(x, D - 1)
}

/// The numerator and the denominator of a softmax along the last dimension, safe for rows that are `-inf`
/// throughout: `(exp(x - max), sum)`. Such a row gives a numerator of zeros and a denominator of 1, so that their
/// quotient, and its gradient, is 0 rather than NaN.
///
/// Attention multiplies the numerator with the values first and divides the much smaller product.
///
/// # Shapes
///
/// - `x`: `[.., n]`; results: `[.., n]` and `[.., 1]`.
pub fn masked_exp<const D: usize>(x: Tensor<D>) -> (Tensor<D>, Tensor<D>) {
    // The shift changes nothing mathematically, so no gradient flows through it. A finite floor keeps
    // `-inf - max` at `-inf` where the whole row is masked.
    let max = x.clone().detach().max_dim(D - 1).clamp_min(f32::MIN);
    let numerator = (x - max).exp();
    let sum = numerator.clone().sum_dim(D - 1);
    let is_empty = sum.clone().detach().equal_scalar(0.0);
    (numerator, sum.mask_fill(is_empty, 1.0))
}
