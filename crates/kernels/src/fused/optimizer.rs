//! AdamW in place, and sums of squares.

use burn::backend::Flex;
use burn::tensor::Tensor;

use super::{contiguous, dims, numbers, primitive};
use crate::cpu::optimizer::{self as cpu, AdamW};
use crate::profile;

/// Value and moments after one update; memory that nobody else holds is updated where it lies.
pub(crate) fn adamw<const D: usize>(
    settings: AdamW,
    value: Tensor<D>,
    gradient: Tensor<D>,
    first: Tensor<1>,
    second: Tensor<1>,
) -> (Tensor<D>, Tensor<1>, Tensor<1>) {
    let [mut value, gradient, mut first, mut second] = contiguous([
        primitive(value),
        primitive(gradient),
        primitive(first),
        primitive(second),
    ]);
    assert_eq!(dims(&value), dims(&gradient), "value and gradient must have one shape");
    profile::count("adamw", || {
        let (first, second) = (first.storage_mut::<f32>(), second.storage_mut::<f32>());
        cpu::adamw(settings, value.storage_mut::<f32>(), numbers(&gradient), first, second);
    });
    (
        Tensor::from_primitive::<Flex>(value),
        Tensor::from_primitive::<Flex>(first),
        Tensor::from_primitive::<Flex>(second),
    )
}

/// The sum of squares of all elements.
pub(crate) fn sum_of_squares<const D: usize>(x: Tensor<D>) -> f64 {
    let [x] = contiguous([primitive(x)]);
    profile::count("gradient norm", || cpu::sum_of_squares(numbers(&x)))
}
