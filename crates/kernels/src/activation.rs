//! Activation functions of feed-forward layers.

use burn::tensor::Tensor;

use crate::cpu::activation::Activation;
use crate::{fused, plain};

/// GELU with the error function, `x * Phi(x)` (Hendrycks and Gimpel, 2016): BERT, and `gelu` in transformers.
///
/// # Shapes
///
/// - `x`: any; the result has the same.
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if fused::is_fused(&x) {
        fused::activation(Activation::Gelu, x)
    } else {
        plain::gelu(x)
    }
}

/// GELU's tanh approximation, `0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`: GPT-2, and `gelu_new` or
/// `gelu_pytorch_tanh` in transformers.
///
/// # Shapes
///
/// - `x`: any; the result has the same.
pub fn gelu_tanh<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if fused::is_fused(&x) {
        fused::activation(Activation::GeluTanh, x)
    } else {
        plain::gelu_tanh(x)
    }
}

/// SiLU, also called swish: `x * sigmoid(x)` (Elfwing et al., 2017): LLaMA, Qwen.
///
/// # Shapes
///
/// - `x`: any; the result has the same.
pub fn silu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if fused::is_fused(&x) {
        fused::activation(Activation::Silu, x)
    } else {
        plain::silu(x)
    }
}

/// Squared ReLU, `max(x, 0)^2` (So et al., "Primer", 2021): nanochat.
///
/// # Shapes
///
/// - `x`: any; the result has the same.
pub fn relu_squared<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if fused::is_fused(&x) {
        fused::activation(Activation::ReluSquared, x)
    } else {
        plain::relu_squared(x)
    }
}

/// The gate of SwiGLU layers (Shazeer, 2020): `silu(gate) * up`.
///
/// # Shapes
///
/// - `gate`, `up` and the result: one shape.
pub fn swiglu<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    if fused::is_fused(&gate) {
        fused::gated_activation(Activation::Silu, gate, up)
    } else {
        plain::swiglu(gate, up)
    }
}

/// The gate of GeGLU layers (Shazeer, 2020): `gelu(gate) * up` with the exact GELU.
///
/// # Shapes
///
/// - `gate`, `up` and the result: one shape.
pub fn geglu<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    if fused::is_fused(&gate) {
        fused::gated_activation(Activation::Gelu, gate, up)
    } else {
        plain::geglu(gate, up)
    }
}
