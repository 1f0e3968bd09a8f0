//! Activation functions of feed-forward layers.

use burn::tensor::{Tensor, activation};

/// `sqrt(2 / pi)`.
const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;

/// GELU with the error function, `x * Phi(x)` (Hendrycks and Gimpel, 2016): BERT, and `gelu` in transformers.
///
/// # Shapes
///
/// - `x`: any; the result has the same.
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    activation::gelu(x)
}

/// GELU's tanh approximation, `0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`: GPT-2, and `gelu_new` or
/// `gelu_pytorch_tanh` in transformers.
///
/// # Shapes
///
/// - `x`: any; the result has the same.
pub fn gelu_tanh<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    // 0.5 (1 + tanh(u)) = sigmoid(2u): one operation with a backward of its own instead of three.
    let inner = (x.clone() * x.clone())
        .mul_scalar(2.0 * SQRT_2_OVER_PI * 0.044_715)
        .add_scalar(2.0 * SQRT_2_OVER_PI)
        * x.clone();
    x * activation::sigmoid(inner)
}

/// SiLU, also called swish: `x * sigmoid(x)` (Elfwing et al., 2017): LLaMA, Qwen.
///
/// # Shapes
///
/// - `x`: any; the result has the same.
pub fn silu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    activation::silu(x)
}

/// Squared ReLU, `max(x, 0)^2` (So et al., "Primer", 2021): nanochat.
///
/// # Shapes
///
/// - `x`: any; the result has the same.
pub fn relu_squared<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let positive = activation::relu(x);
    positive.clone() * positive
}

/// The plain twin of [`swiglu`](crate::swiglu).
pub fn swiglu<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    silu(gate) * up
}

/// The plain twin of [`geglu`](crate::geglu).
pub fn geglu<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    gelu(gate) * up
}
