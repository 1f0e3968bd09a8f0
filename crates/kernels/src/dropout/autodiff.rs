//! Dropout without a mask in memory: the backward pass draws the same factors again.

use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;

use super::cpu::times_factors;
use crate::autodiff::{Fused, Input, apply, contiguous, dims, numbers, tensor};
use crate::cpu::{parallel, uninitialized};
use crate::random;

#[derive(Debug, Clone, Copy)]
struct Drop {
    probability: f64,
    key: u64,
}

impl Drop {
    fn times_mask(&self, x: &FlexTensor) -> FlexTensor {
        let dropout = random::Dropout::new(self.probability, self.key);
        let values = numbers(x);
        let mut y = uninitialized(values.len());
        parallel::elementwise(&mut y, |start, y| {
            times_factors(dropout, start, &values[start..start + y.len()], y);
        });
        tensor(y, dims(x))
    }
}

impl Fused<1> for Drop {
    const NAMES: [&'static str; 2] = ["dropout", "dropout backward"];

    type Saved = ();

    fn forward(&self, inputs: [FlexTensor; 1], _is_tracked: bool) -> (FlexTensor, Option<()>) {
        let [x] = contiguous(inputs);
        (self.times_mask(&x), Some(()))
    }

    fn backward(&self, (): (), gradient: FlexTensor, _wanted: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let [gradient] = contiguous([gradient]);
        [Some(self.times_mask(&gradient))]
    }
}

/// `x` with elements dropped.
pub(crate) fn dropout<const D: usize>(x: Tensor<D>, probability: f64, key: u64) -> Tensor<D> {
    apply(Drop { probability, key }, [Input::new(x)])
}
