//! Linear layers and embeddings composed of Burn's operations.

use burn::tensor::{Int, Tensor, module};

use super::cross_entropy_smoothed;

/// The plain twin of [`embedding`](crate::embedding).
pub fn embedding(weight: Tensor<2>, ids: Tensor<2, Int>) -> Tensor<3> {
    module::embedding(weight, ids)
}

/// The plain twin of [`linear`](crate::linear).
pub fn linear<const D: usize>(x: Tensor<D>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<D> {
    module::linear(x, weight, bias)
}

/// The plain twin of [`linear_transposed`](crate::linear_transposed).
pub fn linear_transposed<const D: usize>(x: Tensor<D>, weight: Tensor<2>) -> Tensor<D> {
    module::linear(x, weight.transpose(), None)
}

/// The plain twin of [`linear_add`](crate::linear_add).
pub fn linear_add<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    residual: Tensor<D>,
) -> Tensor<D> {
    residual + linear(x, weight, bias)
}

/// The plain twin of [`linear_cross_entropy`](crate::linear_cross_entropy).
pub fn linear_cross_entropy(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    is_transposed: bool,
    targets: Tensor<1, Int>,
    ignore_index: i32,
    smoothing: f64,
) -> Tensor<1> {
    let logits = if is_transposed {
        linear_transposed(hidden, weight)
    } else {
        linear(hidden, weight, None)
    };
    cross_entropy_smoothed(logits, targets, ignore_index, smoothing)
}
