//! Activation functions of feed-forward layers.

mod autodiff;
mod cpu;
#[cfg(feature = "cubecl")]
mod gpu;
pub(crate) mod reference;

use burn::tensor::Tensor;

use self::cpu::Activation;
use crate::backend::Backend;

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

/// The gate of T5 1.1's layers (Shazeer, 2020): `gelu(gate) * up` with GELU's tanh approximation.
///
/// # Shapes
///
/// - `gate`, `up` and the result: one shape.
pub fn geglu_tanh<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    gate_with(Activation::GeluTanh, gate, up, reference::geglu_tanh)
}

/// The activation by the kernel of the backend, or by its reference implementation.
fn activate<const D: usize>(
    activation: Activation,
    x: Tensor<D>,
    reference: impl FnOnce(Tensor<D>) -> Tensor<D>,
) -> Tensor<D> {
    match Backend::of(&x) {
        Backend::Flex => autodiff::activation(activation, x),
        #[cfg(feature = "cubecl")]
        Backend::Gpu => gpu::activation(activation, x),
        Backend::Other => reference(x),
    }
}

/// The product with a second input, likewise.
fn gate_with<const D: usize>(
    activation: Activation,
    gate: Tensor<D>,
    up: Tensor<D>,
    reference: impl FnOnce(Tensor<D>, Tensor<D>) -> Tensor<D>,
) -> Tensor<D> {
    match Backend::of(&gate) {
        Backend::Flex => autodiff::gated_activation(activation, gate, up),
        #[cfg(feature = "cubecl")]
        Backend::Gpu => gpu::gated_activation(activation, gate, up),
        Backend::Other => reference(gate, up),
    }
}
