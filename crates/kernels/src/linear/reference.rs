//! Linear layers composed of Burn's operations.

use burn::tensor::{Tensor, module};

/// The reference implementation of [`linear`](crate::linear).
pub fn linear<const D: usize>(x: Tensor<D>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<D> {
    module::linear(x, weight, bias)
}

/// The reference implementation of [`linear_transposed`](crate::linear_transposed).
pub fn linear_transposed<const D: usize>(x: Tensor<D>, weight: Tensor<2>) -> Tensor<D> {
    module::linear(x, weight.transpose(), None)
}

/// The reference implementation of [`linear_add`](crate::linear_add).
pub fn linear_add<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    residual: Tensor<D>,
) -> Tensor<D> {
    residual + linear(x, weight, bias)
}
