//! Layer norm and RMS norm as functions of their weights.

mod autodiff;
mod cpu;
#[cfg(feature = "cubecl")]
mod gpu;
pub(crate) mod reference;

use burn::tensor::Tensor;

use self::cpu::Norm;
use crate::backend::Backend;

/// Layer norm over the last dimension (Ba, Kiros and Hinton, 2016): `(x - mean) / sqrt(variance + eps) * weight + bias`.
///
/// # Shapes
///
/// - `x`: `[.., d]`; `weight` and `bias`: `[d]`; the result has the shape of `x`.
pub fn layer_norm<const D: usize>(x: Tensor<D>, weight: Tensor<1>, bias: Option<Tensor<1>>, eps: f64) -> Tensor<D> {
    match Backend::of(&x) {
        Backend::Flex => autodiff::norm(Norm::Layer, x, weight, bias, eps),
        #[cfg(feature = "cubecl")]
        Backend::Gpu => gpu::norm(Norm::Layer, x, weight, bias, eps),
        Backend::Other => reference::layer_norm(x, weight, bias, eps),
    }
}

/// RMS norm over the last dimension (Zhang and Sennrich, 2019): `x / sqrt(mean(x^2) + eps) * weight`.
///
/// # Shapes
///
/// - `x`: `[.., d]`; `weight`: `[d]`; the result has the shape of `x`.
pub fn rms_norm<const D: usize>(x: Tensor<D>, weight: Tensor<1>, eps: f64) -> Tensor<D> {
    match Backend::of(&x) {
        Backend::Flex => autodiff::norm(Norm::Rms, x, weight, None, eps),
        #[cfg(feature = "cubecl")]
        Backend::Gpu => gpu::norm(Norm::Rms, x, weight, None, eps),
        Backend::Other => reference::rms_norm(x, weight, eps),
    }
}
