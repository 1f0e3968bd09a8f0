//! Activations and their derivatives, element by element.

use half::bf16;

use crate::cpu::math::{normal_cdf, normal_pdf, sigmoid};
use crate::cpu::matmul::bf16::widen;
use crate::cpu::{parallel, uninitialized, vectorized};

/// `sqrt(2 / pi)`.
pub(crate) const SQRT_2_OVER_PI: f32 = 0.797_884_6;

/// Which function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Activation {
    /// `x * Phi(x)`.
    Gelu,
    /// GELU's tanh approximation.
    GeluTanh,
    /// `x * sigmoid(x)`.
    Silu,
    /// `max(x, 0)^2`.
    ReluSquared,
}

/// Value of an activation and of its derivative.
#[inline(always)]
fn gelu(x: f32) -> (f32, f32) {
    let phi = normal_cdf(x);
    (x * phi, x.mul_add(normal_pdf(x), phi))
}

#[inline(always)]
fn gelu_tanh(x: f32) -> (f32, f32) {
    // 0.5 (1 + tanh(u)) = sigmoid(2u).
    let square = x * x;
    let inner = 2.0 * SQRT_2_OVER_PI * x * square.mul_add(0.044_715, 1.0);
    let gate = sigmoid(inner);
    let slope = 2.0 * SQRT_2_OVER_PI * square.mul_add(3.0 * 0.044_715, 1.0);
    // Where the gate is 0 or 1 the product with a huge x must stay finite.
    let change = gate * (1.0 - gate);
    (
        x * gate,
        if change == 0.0 {
            gate
        } else {
            (x * slope).mul_add(change, gate)
        },
    )
}

#[inline(always)]
fn silu(x: f32) -> (f32, f32) {
    let gate = sigmoid(x);
    let change = gate * (1.0 - gate);
    (x * gate, if change == 0.0 { gate } else { x.mul_add(change, gate) })
}

#[inline(always)]
fn relu_squared(x: f32) -> (f32, f32) {
    let positive = if x > 0.0 { x } else { 0.0 * x };
    (positive * positive, 2.0 * positive)
}

#[inline(always)]
fn map(x: &[f32], y: &mut [f32], f: impl Fn(f32) -> f32) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = f(*x);
    }
}

#[inline(always)]
fn map2(x: &[f32], z: &[f32], y: &mut [f32], f: impl Fn(f32, f32) -> f32) {
    for ((y, x), z) in y.iter_mut().zip(x).zip(z) {
        *y = f(*x, *z);
    }
}

vectorized! {
    fn forward_chunk<'a>(activation: Activation, x: &'a [f32], y: &'a mut [f32]) {
        match activation {
            Activation::Gelu => map(x, y, |x| gelu(x).0),
            Activation::GeluTanh => map(x, y, |x| gelu_tanh(x).0),
            Activation::Silu => map(x, y, |x| silu(x).0),
            Activation::ReluSquared => map(x, y, |x| relu_squared(x).0),
        }
    }

    fn backward_chunk<'a>(activation: Activation, x: &'a [f32], dy: &'a [f32], dx: &'a mut [f32]) {
        match activation {
            Activation::Gelu => map2(x, dy, dx, |x, dy| gelu(x).1 * dy),
            Activation::GeluTanh => map2(x, dy, dx, |x, dy| gelu_tanh(x).1 * dy),
            Activation::Silu => map2(x, dy, dx, |x, dy| silu(x).1 * dy),
            Activation::ReluSquared => map2(x, dy, dx, |x, dy| relu_squared(x).1 * dy),
        }
    }

    /// As `backward_chunk`, where `dx` holds `x` before.
    fn backward_in_place<'a>(activation: Activation, dy: &'a [f32], dx: &'a mut [f32]) {
        match activation {
            Activation::Gelu => multiply_slopes(dy, dx, gelu),
            Activation::GeluTanh => multiply_slopes(dy, dx, gelu_tanh),
            Activation::Silu => multiply_slopes(dy, dx, silu),
            Activation::ReluSquared => multiply_slopes(dy, dx, relu_squared),
        }
    }

    /// As `gated_backward_chunk`, where `dgate` and `dup` hold gate and up before.
    fn gated_backward_in_place<'a>(activation: Activation, dy: &'a [f32], dgate: &'a mut [f32], dup: &'a mut [f32]) {
        match activation {
            Activation::Gelu => gated_in_place(dy, dgate, dup, gelu),
            Activation::GeluTanh => gated_in_place(dy, dgate, dup, gelu_tanh),
            Activation::Silu => gated_in_place(dy, dgate, dup, silu),
            Activation::ReluSquared => gated_in_place(dy, dgate, dup, relu_squared),
        }
    }

    fn gated_chunk<'a>(activation: Activation, gate: &'a [f32], up: &'a [f32], y: &'a mut [f32]) {
        match activation {
            Activation::Gelu => map2(gate, up, y, |g, u| gelu(g).0 * u),
            Activation::GeluTanh => map2(gate, up, y, |g, u| gelu_tanh(g).0 * u),
            Activation::Silu => map2(gate, up, y, |g, u| silu(g).0 * u),
            Activation::ReluSquared => map2(gate, up, y, |g, u| relu_squared(g).0 * u),
        }
    }

    fn gated_backward_chunk<'a>(
        activation: Activation,
        gate: &'a [f32],
        up: &'a [f32],
        dy: &'a [f32],
        dgate: &'a mut [f32],
        dup: &'a mut [f32],
    ) {
        match activation {
            Activation::Gelu => gated_map(gate, up, dy, dgate, dup, gelu),
            Activation::GeluTanh => gated_map(gate, up, dy, dgate, dup, gelu_tanh),
            Activation::Silu => gated_map(gate, up, dy, dgate, dup, silu),
            Activation::ReluSquared => gated_map(gate, up, dy, dgate, dup, relu_squared),
        }
    }
}

#[inline(always)]
fn gated_map(gate: &[f32], up: &[f32], dy: &[f32], dgate: &mut [f32], dup: &mut [f32], f: impl Fn(f32) -> (f32, f32)) {
    for ((((g, u), dy), dg), du) in gate.iter().zip(up).zip(dy).zip(dgate).zip(dup) {
        let (value, slope) = f(*g);
        *dg = slope * *u * *dy;
        *du = value * *dy;
    }
}

#[inline(always)]
fn multiply_slopes(dy: &[f32], dx: &mut [f32], f: impl Fn(f32) -> (f32, f32)) {
    for (dx, dy) in dx.iter_mut().zip(dy) {
        *dx = f(*dx).1 * dy;
    }
}

#[inline(always)]
fn gated_in_place(dy: &[f32], dgate: &mut [f32], dup: &mut [f32], f: impl Fn(f32) -> (f32, f32)) {
    for ((dg, du), dy) in dgate.iter_mut().zip(dup).zip(dy) {
        let (value, slope) = f(*dg);
        *dg = slope * *du * *dy;
        *du = value * *dy;
    }
}

/// `activation(x)`.
pub(crate) fn forward(activation: Activation, x: &[f32]) -> Vec<f32> {
    let mut y = uninitialized(x.len());
    parallel::elementwise(&mut y, |start, y| {
        forward_chunk(activation, &x[start..start + y.len()], y)
    });
    y
}

/// The gradient of [`forward`].
pub(crate) fn backward(activation: Activation, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let mut dx = uninitialized(x.len());
    parallel::elementwise(&mut dx, |start, dx| {
        let range = start..start + dx.len();
        backward_chunk(activation, &x[range.clone()], &dy[range], dx);
    });
    dx
}

/// The gradient of [`forward`] from rounded inputs.
pub(crate) fn backward_half(activation: Activation, x: &[bf16], dy: &[f32]) -> Vec<f32> {
    let mut dx = uninitialized(x.len());
    parallel::elementwise(&mut dx, |start, dx| {
        let range = start..start + dx.len();
        widen(&x[range.clone()], dx);
        backward_in_place(activation, &dy[range], dx);
    });
    dx
}

/// `activation(gate) * up`.
pub(crate) fn gated_forward(activation: Activation, gate: &[f32], up: &[f32]) -> Vec<f32> {
    let mut y = uninitialized(gate.len());
    parallel::elementwise(&mut y, |start, y| {
        let range = start..start + y.len();
        gated_chunk(activation, &gate[range.clone()], &up[range], y);
    });
    y
}

/// The gradients of [`gated_forward`] for gate and up.
pub(crate) fn gated_backward(activation: Activation, gate: &[f32], up: &[f32], dy: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let (mut dgate, mut dup) = (uninitialized(gate.len()), uninitialized(gate.len()));
    let parts = parallel::Parts::new(&mut dup);
    parallel::elementwise(&mut dgate, |start, dgate| {
        let range = start..start + dgate.len();
        // SAFETY: the chunks of `elementwise` are disjoint.
        let dup = unsafe { parts.part(start, dgate.len()) };
        gated_backward_chunk(
            activation,
            &gate[range.clone()],
            &up[range.clone()],
            &dy[range],
            dgate,
            dup,
        );
    });
    (dgate, dup)
}

/// As [`gated_backward`] from rounded inputs.
pub(crate) fn gated_backward_half(
    activation: Activation,
    gate: &[bf16],
    up: &[bf16],
    dy: &[f32],
) -> (Vec<f32>, Vec<f32>) {
    let (mut dgate, mut dup) = (uninitialized(gate.len()), uninitialized(gate.len()));
    let parts = parallel::Parts::new(&mut dup);
    parallel::elementwise(&mut dgate, |start, dgate| {
        let range = start..start + dgate.len();
        // SAFETY: the chunks of `elementwise` are disjoint.
        let dup = unsafe { parts.part(start, dgate.len()) };
        widen(&gate[range.clone()], dgate);
        widen(&up[range.clone()], dup);
        gated_backward_in_place(activation, &dy[range], dgate, dup);
    });
    (dgate, dup)
}
