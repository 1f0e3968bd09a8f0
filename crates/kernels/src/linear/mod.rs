//! Linear layers as functions of their weights, in the precision that [`with_precision`](crate::with_precision) says. On a GPU Burn's own
//! products, the reference implementation, are the fast ones.

pub(crate) mod autodiff;
mod bf16;
pub(crate) mod reference;

use burn::tensor::{FloatDType, Tensor};

use self::autodiff::Linear;
use self::bf16::LinearBf16;
use crate::backend::Backend;
use crate::precision;

/// `x W + bias`.
///
/// # Shapes
///
/// - `x`: `[.., d_input]`; `weight`: `[d_input, d_output]`; `bias`: `[d_output]`; result: `[.., d_output]`
pub fn linear<const D: usize>(x: Tensor<D>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<D> {
    if let Some(half) = precision::half_of(&x) {
        return in_half(x, weight, false, half, bias, None);
    }
    match Backend::of(&x) {
        Backend::Flex => autodiff::linear(Linear { is_transposed: false }, x, weight, bias, None),
        #[cfg(feature = "cubecl")]
        Backend::Gpu => reference::linear(x, weight, bias),
        Backend::Other => reference::linear(x, weight, bias),
    }
}

/// `x W^T`: the tied output layer, whose weight is the token embedding.
///
/// # Shapes
///
/// - `x`: `[.., d_input]`; `weight`: `[d_output, d_input]`; result: `[.., d_output]`
pub fn linear_transposed<const D: usize>(x: Tensor<D>, weight: Tensor<2>) -> Tensor<D> {
    if let Some(half) = precision::half_of(&x) {
        return in_half(x, weight, true, half, None, None);
    }
    match Backend::of(&x) {
        Backend::Flex => autodiff::linear(Linear { is_transposed: true }, x, weight, None, None),
        #[cfg(feature = "cubecl")]
        Backend::Gpu => reference::linear_transposed(x, weight),
        Backend::Other => reference::linear_transposed(x, weight),
    }
}

/// `residual + x W + bias`: the projections back into the residual stream.
///
/// # Shapes
///
/// - `x`: `[.., d_input]`; `weight`: `[d_input, d_output]`; `bias`: `[d_output]`; `residual` and result: `[.., d_output]`
pub fn linear_add<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    residual: Tensor<D>,
) -> Tensor<D> {
    if let Some(half) = precision::half_of(&x) {
        return in_half(x, weight, false, half, bias, Some(residual));
    }
    match Backend::of(&x) {
        Backend::Flex => autodiff::linear(Linear { is_transposed: false }, x, weight, bias, Some(residual)),
        #[cfg(feature = "cubecl")]
        Backend::Gpu => reference::linear_add(x, weight, bias, residual),
        Backend::Other => reference::linear_add(x, weight, bias, residual),
    }
}

/// `x W (+ bias) (+ residual)` with the product in half precision.
fn in_half<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    is_transposed: bool,
    half: FloatDType,
    bias: Option<Tensor<1>>,
    residual: Option<Tensor<D>>,
) -> Tensor<D> {
    let as_needed = |weight: Tensor<2>| if is_transposed { weight.transpose() } else { weight };
    match (half, Backend::of(&x)) {
        (FloatDType::BF16, Backend::Flex) => autodiff::linear(LinearBf16 { is_transposed }, x, weight, bias, residual),
        (FloatDType::BF16, Backend::Other) => reference::linear_bf16(x, as_needed(weight), bias, residual),
        _ => precision::linear(x, as_needed(weight), half, bias, residual),
    }
}
