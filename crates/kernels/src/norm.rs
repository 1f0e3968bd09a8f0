//! Layer norm and RMS norm as functions of their weights.

use burn::tensor::Tensor;

use crate::cpu::norm::Norm;
use crate::{fused, plain};

/// Layer norm over the last dimension (Ba, Kiros and Hinton, 2016): `(x - mean) / sqrt(variance + eps) * weight + bias`.
///
/// # Shapes
///
/// - `x`: `[.., d]`; `weight` and `bias`: `[d]`; the result has the shape of `x`.
pub fn layer_norm<const D: usize>(x: Tensor<D>, weight: Tensor<1>, bias: Option<Tensor<1>>, eps: f64) -> Tensor<D> {
    if fused::is_fused(&x) {
        return fused::norm(Norm::Layer, x, weight, bias, eps);
    }
    #[cfg(feature = "cubecl")]
    if crate::gpu::is_gpu(&x) {
        return crate::gpu::norm(Norm::Layer, x, weight, bias, eps);
    }
    plain::layer_norm(x, weight, bias, eps)
}

/// RMS norm over the last dimension (Zhang and Sennrich, 2019): `x / sqrt(mean(x^2) + eps) * weight`.
///
/// # Shapes
///
/// - `x`: `[.., d]`; `weight`: `[d]`; the result has the shape of `x`.
pub fn rms_norm<const D: usize>(x: Tensor<D>, weight: Tensor<1>, eps: f64) -> Tensor<D> {
    if fused::is_fused(&x) {
        return fused::norm(Norm::Rms, x, weight, None, eps);
    }
    #[cfg(feature = "cubecl")]
    if crate::gpu::is_gpu(&x) {
        return crate::gpu::norm(Norm::Rms, x, weight, None, eps);
    }
    plain::rms_norm(x, weight, eps)
}
