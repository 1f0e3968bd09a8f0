//! Activation functions of feed-forward layers.

mod autodiff;
mod cpu;
#[cfg(feature = "cubecl")]
mod gpu;
pub(crate) mod reference;

use burn::tensor::Tensor;

use self::cpu::Activation;
use crate::backend::is_fused;

/// GELU with the error function, `x * Phi(x)` (Hendrycks and Gimpel, 2016): BERT, and `gelu` in transformers.
///
/// # Shapes
///
/// - `x`: any; the result has the same.
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    activate(Activation::Gelu, x, reference::gelu)
}

/// GELU's tanh approximation, `0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`: GPT-2, and `gelu_new` or
/// `gelu_pytorch_tanh` in transformers.
///
/// # Shapes
///
/// - `x`: any; the result has the same.
pub fn gelu_tanh<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    activate(Activation::GeluTanh, x, reference::gelu_tanh)
}

/// SiLU, also called swish: `x * sigmoid(x)` (Elfwing et al., 2017): LLaMA, Qwen.
///
/// # Shapes
///
/// - `x`: any; the result has the same.
pub fn silu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    activate(Activation::Silu, x, reference::silu)
}

/// Squared ReLU, `max(x, 0)^2` (So et al., "Primer", 2021): nanochat.
///
/// # Shapes
///
/// - `x`: any; the result has the same.
pub fn relu_squared<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    activate(Activation::ReluSquared, x, reference::relu_squared)
}

/// The gate of SwiGLU layers (Shazeer, 2020): `silu(gate) * up`.
///
/// # Shapes
///
/// - `gate`, `up` and the result: one shape.
pub fn swiglu<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    gate_with(Activation::Silu, gate, up, reference::swiglu)
}

/// The gate of GeGLU layers (Shazeer, 2020): `gelu(gate) * up` with the exact GELU.
///
/// # Shapes
///
/// - `gate`, `up` and the result: one shape.
pub fn geglu<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    gate_with(Activation::Gelu, gate, up, reference::geglu)
}

/// The activation as one operation, or its twin where the device has none.
fn activate<const D: usize>(
    activation: Activation,
    x: Tensor<D>,
    twin: impl FnOnce(Tensor<D>) -> Tensor<D>,
) -> Tensor<D> {
    if is_fused(&x) {
        return autodiff::activation(activation, x);
    }
    #[cfg(feature = "cubecl")]
    if crate::backend::is_gpu(&x) {
        return gpu::activation(activation, x);
    }
    twin(x)
}

/// The product with a second input as one operation, or its twin where the device has none.
fn gate_with<const D: usize>(
    activation: Activation,
    gate: Tensor<D>,
    up: Tensor<D>,
    twin: impl FnOnce(Tensor<D>, Tensor<D>) -> Tensor<D>,
) -> Tensor<D> {
    if is_fused(&gate) {
        return autodiff::gated_activation(activation, gate, up);
    }
    #[cfg(feature = "cubecl")]
    if crate::backend::is_gpu(&gate) {
        return gpu::gated_activation(activation, gate, up);
    }
    twin(gate, up)
}
