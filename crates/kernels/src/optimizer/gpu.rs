//! AdamW in one launch per parameter, in place.

use burn::tensor::Tensor as BurnTensor;
use burn_cubecl::CubeBackend;
use cubecl::prelude::*;

use super::cpu::AdamW;
use crate::gpu::{launch_over, primitive, writable};

#[cube(launch)]
fn update(
    value: &mut Tensor<f32>,
    gradient: &Tensor<f32>,
    first: &mut Tensor<f32>,
    second: &mut Tensor<f32>,
    count: usize,
    beta1: f32,
    beta2: f32,
    one_minus_beta1: f32,
    one_minus_beta2: f32,
    rate: f32,
    inverse_correction2: f32,
    eps: f32,
    keep: f32,
    gradient_factor: f32,
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let i = ABSOLUTE_POS;
    let slope = gradient[i] * gradient_factor;
    let m = first[i] * beta1 + slope * one_minus_beta1;
    let v = second[i] * beta2 + slope * slope * one_minus_beta2;
    first[i] = m;
    second[i] = v;
    value[i] = value[i] * keep - rate * m / (v.sqrt() * inverse_correction2 + eps);
}

/// Value and moments after one update; memory that is not shared is updated in place.
pub(crate) fn adamw<const D: usize>(
    settings: AdamW,
    value: BurnTensor<D>,
    gradient: BurnTensor<D>,
    first: BurnTensor<1>,
    second: BurnTensor<1>,
) -> (BurnTensor<D>, BurnTensor<1>, BurnTensor<1>) {
    let [value, first, second] = [primitive(value), primitive(first), primitive(second)].map(writable);
    let gradient = primitive(gradient);
    let count = value.meta.num_elements();
    assert_eq!(
        count,
        gradient.meta.num_elements(),
        "value and gradient must have one shape"
    );
    let (cubes, cube) = launch_over(count, &value);
    update::launch(
        &value.client,
        cubes,
        cube,
        value.clone().into_tensor_arg(),
        gradient.into_tensor_arg(),
        first.clone().into_tensor_arg(),
        second.clone().into_tensor_arg(),
        count,
        settings.beta1,
        settings.beta2,
        settings.one_minus_beta1,
        settings.one_minus_beta2,
        settings.rate,
        settings.inverse_correction2,
        settings.eps,
        settings.keep,
        settings.gradient_factor,
    );
    (
        BurnTensor::from_primitive::<CubeBackend>(value),
        BurnTensor::from_primitive::<CubeBackend>(first),
        BurnTensor::from_primitive::<CubeBackend>(second),
    )
}
