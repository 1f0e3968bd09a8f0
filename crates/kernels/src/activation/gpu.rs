//! Activations, and the product of an activation with a second input: one launch forward and one backward.

use burn::tensor::{DType, Tensor as BurnTensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::cpu::{Activation, SQRT_2_OVER_PI};
use crate::autodiff::{Fused, Input, apply};
use crate::gpu::{empty_like, launch_over};

/// `exp` of anything further out is 0, or infinite, with which a compiler of shaders need not reckon.
const FAR: f32 = 87.0;

/// `e^x`, which stays finite.
#[cube]
fn finite_exp(x: f32) -> f32 {
    let near = x.clamp(-FAR, FAR);
    near.exp()
}

/// `1 / (1 + e^-x)`.
#[cube]
fn sigmoid(x: f32) -> f32 {
    1.0f32 / (1.0f32 + finite_exp(-x))
}

/// The normal distribution function, as the CPU computes it: Numerical Recipes' `erfcc`.
#[cube]
fn normal_cdf(x: f32) -> f32 {
    let z = x.abs() * 0.707_106_77f32;
    let t = 1.0f32 / (z * 0.5f32 + 1.0f32);
    let p = 0.170_872_77f32;
    let p = p * t - 0.822_152_23f32;
    let p = p * t + 1.488_515_9f32;
    let p = p * t - 1.135_204f32;
    let p = p * t + 0.278_868_07f32;
    let p = p * t - 0.186_288_06f32;
    let p = p * t + 0.096_784_18f32;
    let p = p * t + 0.374_091_96f32;
    let p = p * t + 1.000_023_7f32;
    let p = p * t - 1.265_512_2f32;
    let tail = 0.5f32 * t * finite_exp(p - z * z);
    select(x < 0.0f32, tail, 1.0f32 - tail)
}

#[cube]
fn value(x: f32, #[comptime] activation: Activation) -> f32 {
    if comptime!(activation == Activation::Gelu) {
        x * normal_cdf(x)
    } else if comptime!(activation == Activation::GeluTanh) {
        x * sigmoid(2.0f32 * SQRT_2_OVER_PI * x * (x * x * 0.044_715f32 + 1.0f32))
    } else if comptime!(activation == Activation::Silu) {
        x * sigmoid(x)
    } else {
        let positive = select(x > 0.0f32, x, 0.0f32 * x);
        positive * positive
    }
}

#[cube]
fn slope(x: f32, #[comptime] activation: Activation) -> f32 {
    if comptime!(activation == Activation::Gelu) {
        normal_cdf(x) + x * 0.398_942_3f32 * finite_exp(-0.5f32 * x * x)
    } else if comptime!(activation == Activation::GeluTanh) {
        let square = x * x;
        let gate = sigmoid(2.0f32 * SQRT_2_OVER_PI * x * (square * 0.044_715f32 + 1.0f32));
        let inner = 2.0f32 * SQRT_2_OVER_PI * (square * 3.0f32 * 0.044_715f32 + 1.0f32);
        let change = gate * (1.0f32 - gate);
        // Where the gate is 0 or 1 the product with a huge x must stay finite.
        select(change == 0.0f32, gate, x * inner * change + gate)
    } else if comptime!(activation == Activation::Silu) {
        let gate = sigmoid(x);
        x * gate * (1.0f32 - gate) + gate
    } else {
        2.0f32 * select(x > 0.0f32, x, 0.0f32 * x)
    }
}

#[cube(launch)]
fn activate(x: &Tensor<f32>, y: &mut Tensor<f32>, count: usize, #[comptime] activation: Activation) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    y[ABSOLUTE_POS] = value(x[ABSOLUTE_POS], activation);
}

#[cube(launch)]
fn activate_slopes(
    x: &Tensor<f32>,
    dy: &Tensor<f32>,
    dx: &mut Tensor<f32>,
    count: usize,
    #[comptime] activation: Activation,
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    dx[ABSOLUTE_POS] = slope(x[ABSOLUTE_POS], activation) * dy[ABSOLUTE_POS];
}

#[cube(launch)]
fn gate(gate: &Tensor<f32>, up: &Tensor<f32>, y: &mut Tensor<f32>, count: usize, #[comptime] activation: Activation) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    y[ABSOLUTE_POS] = value(gate[ABSOLUTE_POS], activation) * up[ABSOLUTE_POS];
}

#[cube(launch)]
fn gate_slopes(
    gate: &Tensor<f32>,
    up: &Tensor<f32>,
    dy: &Tensor<f32>,
    dgate: &mut Tensor<f32>,
    dup: &mut Tensor<f32>,
    count: usize,
    #[comptime] activation: Activation,
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let g = gate[ABSOLUTE_POS];
    let dy = dy[ABSOLUTE_POS];
    dgate[ABSOLUTE_POS] = slope(g, activation) * up[ABSOLUTE_POS] * dy;
    dup[ABSOLUTE_POS] = value(g, activation) * dy;
}

#[derive(Debug, Clone)]
struct Elementwise(Activation);

impl Fused<1, CubeBackend> for Elementwise {
    const NAMES: [&'static str; 2] = ["activation", "activation backward"];

    type Saved = CubeTensor;

    fn forward(&self, [x]: [CubeTensor; 1], is_tracked: bool) -> (CubeTensor, Option<CubeTensor>) {
        let x = into_contiguous(x);
        let count = x.meta.num_elements();
        let y = empty_like(&x, x.meta.shape().clone(), DType::F32);
        let (cubes, cube) = launch_over(count, &x);
        activate::launch(
            &x.client,
            cubes,
            cube,
            x.clone().into_tensor_arg(),
            y.clone().into_tensor_arg(),
            count,
            self.0,
        );
        (y, is_tracked.then_some(x))
    }

    fn backward(&self, x: CubeTensor, gradient: CubeTensor, _wanted: [bool; 1]) -> [Option<CubeTensor>; 1] {
        let gradient = into_contiguous(gradient);
        let count = x.meta.num_elements();
        let dx = empty_like(&x, x.meta.shape().clone(), DType::F32);
        let (cubes, cube) = launch_over(count, &x);
        activate_slopes::launch(
            &gradient.client,
            cubes,
            cube,
            x.into_tensor_arg(),
            gradient.clone().into_tensor_arg(),
            dx.clone().into_tensor_arg(),
            count,
            self.0,
        );
        [Some(dx)]
    }
}

#[derive(Debug, Clone)]
struct Gated(Activation);

impl Fused<2, CubeBackend> for Gated {
    const NAMES: [&'static str; 2] = ["gated activation", "gated activation backward"];

    type Saved = [CubeTensor; 2];

    fn forward(&self, inputs: [CubeTensor; 2], is_tracked: bool) -> (CubeTensor, Option<[CubeTensor; 2]>) {
        let [x, up] = inputs.map(into_contiguous);
        assert_eq!(x.meta.shape(), up.meta.shape(), "gate and up must have one shape");
        let count = x.meta.num_elements();
        let y = empty_like(&x, x.meta.shape().clone(), DType::F32);
        let (cubes, cube) = launch_over(count, &x);
        gate::launch(
            &x.client,
            cubes,
            cube,
            x.clone().into_tensor_arg(),
            up.clone().into_tensor_arg(),
            y.clone().into_tensor_arg(),
            count,
            self.0,
        );
        (y, is_tracked.then_some([x, up]))
    }

    fn backward(&self, [x, up]: [CubeTensor; 2], gradient: CubeTensor, _wanted: [bool; 2]) -> [Option<CubeTensor>; 2] {
        let gradient = into_contiguous(gradient);
        let count = x.meta.num_elements();
        let [dgate, dup] = [(); 2].map(|()| empty_like(&x, x.meta.shape().clone(), DType::F32));
        let (cubes, cube) = launch_over(count, &x);
        gate_slopes::launch(
            &gradient.client,
            cubes,
            cube,
            x.into_tensor_arg(),
            up.into_tensor_arg(),
            gradient.clone().into_tensor_arg(),
            dgate.clone().into_tensor_arg(),
            dup.clone().into_tensor_arg(),
            count,
            self.0,
        );
        [Some(dgate), Some(dup)]
    }
}

/// `activation(x)`.
pub(crate) fn activation<const D: usize>(activation: Activation, x: BurnTensor<D>) -> BurnTensor<D> {
    apply(Elementwise(activation), [Input::new(x)])
}

/// `activation(gate) * up`.
pub(crate) fn gated_activation<const D: usize>(
    activation: Activation,
    gate: BurnTensor<D>,
    up: BurnTensor<D>,
) -> BurnTensor<D> {
    apply(Gated(activation), [Input::new(gate), Input::new(up)])
}
