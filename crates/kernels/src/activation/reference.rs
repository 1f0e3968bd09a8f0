//! Activation functions composed of Burn's operations.

use burn::tensor::{Tensor, activation};

/// `sqrt(2 / pi)`.
const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;

/// The reference implementation of [`gelu`](crate::gelu).
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    activation::gelu(x)
}

/// The reference implementation of [`gelu_tanh`](crate::gelu_tanh).
pub fn gelu_tanh<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    // 0.5 (1 + tanh(u)) = sigmoid(2u): one operation with a backward of its own instead of three.
    let inner = (x.clone() * x.clone())
        .mul_scalar(2.0 * SQRT_2_OVER_PI * 0.044_715)
        .add_scalar(2.0 * SQRT_2_OVER_PI)
        * x.clone();
    x * activation::sigmoid(inner)
}

/// The reference implementation of [`silu`](crate::silu).
pub fn silu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    activation::silu(x)
}

/// The reference implementation of [`relu_squared`](crate::relu_squared).
pub fn relu_squared<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let positive = activation::relu(x);
    positive.clone() * positive
}

/// The reference implementation of [`swiglu`](crate::swiglu).
pub fn swiglu<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    silu(gate) * up
}

/// The reference implementation of [`geglu`](crate::geglu).
pub fn geglu<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    gelu(gate) * up
}

/// The reference implementation of [`geglu_tanh`](crate::geglu_tanh).
pub fn geglu_tanh<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    gelu_tanh(gate) * up
}
