//! Linear layers as functions of their weights, in the precision that [`with_precision`](crate::with_precision) says. On a GPU Burn's own
//! products, the reference implementation, are the fast ones.

mod autodiff;
pub(crate) mod reference;

use burn::tensor::Tensor;

use crate::backend::Backend;
use crate::precision;

/// `x W + bias`.
///
/// # Shapes
///
/// - `x`: `[.., d_input]`; `weight`: `[d_input, d_output]`; `bias`: `[d_output]`; result: `[.., d_output]`
pub fn linear<const D: usize>(x: Tensor<D>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<D> {
    if let Some(half) = precision::half_of(&x) {
        return precision::linear(x, weight, half, bias, None);
    }
    match Backend::of(&x) {
        Backend::Flex => autodiff::linear(x, weight, false, bias, None),
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
        return precision::linear(x, weight.transpose(), half, None, None);
    }
    match Backend::of(&x) {
        Backend::Flex => autodiff::linear(x, weight, true, None, None),
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
        return precision::linear(x, weight, half, bias, Some(residual));
    }
    match Backend::of(&x) {
        Backend::Flex => autodiff::linear(x, weight, false, bias, Some(residual)),
        #[cfg(feature = "cubecl")]
        Backend::Gpu => reference::linear_add(x, weight, bias, residual),
        Backend::Other => reference::linear_add(x, weight, bias, residual),
    }
}
