//! Linear layers composed of Burn's operations.

use burn::tensor::{FloatDType, Tensor, module};

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

/// The reference implementation of the products of [`linear`](crate::linear) and its relatives with
/// [`Precision::Bf16`](crate::Precision): operands are rounded, products and sums are in single precision. The kernel rounds
/// the result's gradient before its two products; here their results are rounded instead, by the gradient of the casts.
pub fn linear_bf16<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    residual: Option<Tensor<D>>,
) -> Tensor<D> {
    let x = x.cast(FloatDType::BF16).cast(FloatDType::F32);
    let weight = weight.cast(FloatDType::BF16).cast(FloatDType::F32);
    let y = module::linear(x, weight, bias);
    match residual {
        Some(residual) => residual + y,
        None => y,
    }
}
