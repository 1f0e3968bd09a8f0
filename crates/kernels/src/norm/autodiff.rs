//! Layer norm and RMS norm.

use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;

use super::cpu::{self, Norm};
use crate::autodiff::{Fused, Input, apply, contiguous, dims, numbers, optional, tensor};

#[derive(Debug, Clone)]
struct Normalize {
    norm: Norm,
    eps: f32,
}

impl Fused<3> for Normalize {
    const NAMES: [&'static str; 2] = ["norm", "norm backward"];

    type Saved = [FlexTensor; 2];

    fn forward(&self, inputs: [FlexTensor; 3], is_tracked: bool) -> (FlexTensor, Option<[FlexTensor; 2]>) {
        let [x, weight, bias] = contiguous(inputs);
        let y = cpu::forward(self.norm, numbers(&x), numbers(&weight), optional(&bias), self.eps);
        (tensor(y, dims(&x)), is_tracked.then_some([x, weight]))
    }

    fn backward(
        &self,
        [x, weight]: [FlexTensor; 2],
        gradient: FlexTensor,
        wanted: [bool; 3],
    ) -> [Option<FlexTensor>; 3] {
        let [gradient] = contiguous([gradient]);
        let (dx, of_weights) = cpu::backward(
            self.norm,
            numbers(&x),
            numbers(&weight),
            self.eps,
            numbers(&gradient),
            wanted[1] || wanted[2],
        );
        let (dweight, dbias) = of_weights.unzip();
        let vector = |values: Option<Vec<f32>>| values.map(|values| tensor(values, dims(&weight)));
        [
            Some(tensor(dx, dims(&x))),
            vector(dweight).filter(|_| wanted[1]),
            vector(dbias).filter(|_| wanted[2]),
        ]
    }
}

/// The norm over the last dimension.
pub(crate) fn norm<const D: usize>(
    norm: Norm,
    x: Tensor<D>,
    weight: Tensor<1>,
    bias: Option<Tensor<1>>,
    eps: f64,
) -> Tensor<D> {
    let operation = Normalize { norm, eps: eps as f32 };
    apply(operation, [Input::new(x), Input::new(weight), Input::optional(bias)])
}
