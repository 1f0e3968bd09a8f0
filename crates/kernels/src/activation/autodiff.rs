//! Activations, and the product of an activation with a second input.

use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;

use super::cpu::{self, Activation};
use crate::autodiff::{Fused, Input, apply, contiguous, dims, numbers, tensor};

#[derive(Debug, Clone)]
struct Elementwise(Activation);

impl Fused<1> for Elementwise {
    const NAMES: [&'static str; 2] = ["activation", "activation backward"];

    type Saved = FlexTensor;

    fn forward(&self, inputs: [FlexTensor; 1], is_tracked: bool) -> (FlexTensor, Option<FlexTensor>) {
        let [x] = contiguous(inputs);
        let y = tensor(cpu::forward(self.0, numbers(&x)), dims(&x));
        (y, is_tracked.then_some(x))
    }

    fn backward(&self, x: FlexTensor, gradient: FlexTensor, _wanted: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let [gradient] = contiguous([gradient]);
        let dx = cpu::backward(self.0, numbers(&x), numbers(&gradient));
        [Some(tensor(dx, dims(&x)))]
    }
}

#[derive(Debug, Clone)]
struct Gated(Activation);

impl Fused<2> for Gated {
    const NAMES: [&'static str; 2] = ["gated activation", "gated activation backward"];

    type Saved = [FlexTensor; 2];

    fn forward(&self, inputs: [FlexTensor; 2], is_tracked: bool) -> (FlexTensor, Option<[FlexTensor; 2]>) {
        let [gate, up] = contiguous(inputs);
        assert_eq!(dims(&gate), dims(&up), "gate and up must have one shape");
        let y = tensor(cpu::gated_forward(self.0, numbers(&gate), numbers(&up)), dims(&gate));
        (y, is_tracked.then_some([gate, up]))
    }

    fn backward(
        &self,
        [gate, up]: [FlexTensor; 2],
        gradient: FlexTensor,
        _wanted: [bool; 2],
    ) -> [Option<FlexTensor>; 2] {
        let [gradient] = contiguous([gradient]);
        let (dgate, dup) = cpu::gated_backward(self.0, numbers(&gate), numbers(&up), numbers(&gradient));
        [Some(tensor(dgate, dims(&gate))), Some(tensor(dup, dims(&up)))]
    }
}

/// `activation(x)`.
pub(crate) fn activation<const D: usize>(activation: Activation, x: Tensor<D>) -> Tensor<D> {
    apply(Elementwise(activation), [Input::new(x)])
}

/// `activation(gate) * up`.
pub(crate) fn gated_activation<const D: usize>(activation: Activation, gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    apply(Gated(activation), [Input::new(gate), Input::new(up)])
}
