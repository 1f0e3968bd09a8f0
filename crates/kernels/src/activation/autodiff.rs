//! Activations, and the product of an activation with a second input.

use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;

use super::cpu::{self, Activation};
use crate::autodiff::{Fused, Input, Kept, apply, contiguous, dims, numbers, tensor};

#[derive(Debug, Clone)]
struct Elementwise(Activation);

impl Fused<1> for Elementwise {
    const NAMES: [&'static str; 2] = ["activation", "activation backward"];

    type Saved = Kept;

    fn forward(&self, inputs: [FlexTensor; 1], is_tracked: bool) -> (FlexTensor, Option<Kept>) {
        let [x] = contiguous(inputs);
        let y = tensor(cpu::forward(self.0, numbers(&x)), dims(&x));
        (y, is_tracked.then(|| Kept::new(x)))
    }

    fn backward(&self, x: Kept, gradient: FlexTensor, _wanted: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let [gradient] = contiguous([gradient]);
        let dx = match x {
            Kept::Single(x) => cpu::backward(self.0, numbers(&x), numbers(&gradient)),
            Kept::Half(x, _) => cpu::backward_half(self.0, &x, numbers(&gradient)),
        };
        [Some(tensor(dx, dims(&gradient)))]
    }
}

#[derive(Debug, Clone)]
struct Gated(Activation);

impl Fused<2> for Gated {
    const NAMES: [&'static str; 2] = ["gated activation", "gated activation backward"];

    type Saved = [Kept; 2];

    fn forward(&self, inputs: [FlexTensor; 2], is_tracked: bool) -> (FlexTensor, Option<[Kept; 2]>) {
        let [gate, up] = contiguous(inputs);
        assert_eq!(dims(&gate), dims(&up), "gate and up must have one shape");
        let y = tensor(cpu::gated_forward(self.0, numbers(&gate), numbers(&up)), dims(&gate));
        (y, is_tracked.then(|| [Kept::new(gate), Kept::new(up)]))
    }

    fn backward(&self, saved: [Kept; 2], gradient: FlexTensor, _wanted: [bool; 2]) -> [Option<FlexTensor>; 2] {
        let [gradient] = contiguous([gradient]);
        let slopes = numbers(&gradient);
        let (dgate, dup) = match saved {
            [Kept::Half(gate, _), Kept::Half(up, _)] => cpu::gated_backward_half(self.0, &gate, &up, slopes),
            [gate, up] => {
                let [gate, up] = [gate, up].map(Kept::into_tensor);
                cpu::gated_backward(self.0, numbers(&gate), numbers(&up), slopes)
            }
        };
        [dgate, dup].map(|gradient_of_one| Some(tensor(gradient_of_one, dims(&gradient))))
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
