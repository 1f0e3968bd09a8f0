//! Cross-entropy of logits, and of hidden states together with the output matrix.

use std::sync::Arc;

use burn::backend::flex::FlexTensor;
use burn::tensor::{Int, Shape, Tensor};

use super::cpu::{self, Gradients, OutputMatrix, Settings};
use crate::autodiff::{Fused, Input, apply, contiguous, dims, int_primitive, numbers, primitive, tensor};
use crate::cpu::parallel;
use crate::precision::Precision;

/// Target ids of the CPU, shared with the graph.
type Targets = Arc<Vec<i32>>;

fn ids(targets: Tensor<1, Int>) -> Targets {
    let [targets] = contiguous([int_primitive(targets)]);
    let found = targets.into_data().iter::<i32>().collect();
    Arc::new(found)
}

#[derive(Debug, Clone)]
struct CrossEntropy {
    targets: Targets,
    settings: Settings,
}

impl Fused<1> for CrossEntropy {
    const NAMES: [&'static str; 2] = ["cross-entropy", "cross-entropy backward"];

    /// The gradient for a slope of one.
    type Saved = FlexTensor;

    fn forward(&self, inputs: [FlexTensor; 1], is_tracked: bool) -> (FlexTensor, Option<FlexTensor>) {
        let [logits] = contiguous(inputs);
        let counted = cpu::counted(&self.targets, self.settings).max(1);
        let mut slopes = numbers(&logits).to_vec();
        let slope = is_tracked.then_some(1.0 / counted as f32);
        let losses = cpu::rows(&mut slopes, &self.targets, self.settings, slope);
        let loss = (cpu::total(&losses) / counted as f64) as f32;
        let shape = dims(&logits);
        (
            tensor(vec![loss], Shape::new([1])),
            is_tracked.then(|| tensor(slopes, shape)),
        )
    }

    fn backward(&self, slopes: FlexTensor, gradient: FlexTensor, _wanted: [bool; 1]) -> [Option<FlexTensor>; 1] {
        [Some(scaled(slopes, &gradient))]
    }
}

/// A tensor times a number that is nearly always 1.
fn scaled(mut values: FlexTensor, factor: &FlexTensor) -> FlexTensor {
    let factor = numbers(factor)[0];
    if factor != 1.0 {
        parallel::elementwise(values.storage_mut::<f32>(), |_, values| {
            values.iter_mut().for_each(|value| *value *= factor);
        });
    }
    values
}

#[derive(Debug, Clone)]
struct LinearCrossEntropy {
    targets: Targets,
    settings: Settings,
    is_transposed: bool,
    /// Whether the matrix is trained.
    is_weight_wanted: bool,
    /// Whether products are in bfloat16.
    is_half: bool,
}

impl Fused<2> for LinearCrossEntropy {
    const NAMES: [&'static str; 2] = ["linear cross-entropy", "linear cross-entropy backward"];

    /// The gradients for a slope of one; that of a frozen matrix is not there.
    type Saved = (FlexTensor, Option<FlexTensor>);

    fn forward(&self, inputs: [FlexTensor; 2], is_tracked: bool) -> (FlexTensor, Option<Self::Saved>) {
        let [hidden, weight] = contiguous(inputs);
        let shape = dims(&hidden);
        let matrix = OutputMatrix {
            values: numbers(&weight),
            is_transposed: self.is_transposed,
        };
        let width = shape[1];
        let found = cpu::linear_cross_entropy(
            numbers(&hidden),
            width,
            matrix,
            &self.targets,
            self.settings,
            match (is_tracked, self.is_weight_wanted) {
                (false, _) => Gradients::None,
                (true, false) => Gradients::OfHidden,
                (true, true) => Gradients::OfBoth,
            },
            self.is_half,
        );
        let dweight = found.dweight.map(|dweight| tensor(dweight, dims(&weight)));
        let saved = found.dhidden.map(|dhidden| (tensor(dhidden, shape), dweight));
        (tensor(vec![found.loss], Shape::new([1])), saved)
    }

    fn backward(
        &self,
        (dhidden, dweight): Self::Saved,
        gradient: FlexTensor,
        wanted: [bool; 2],
    ) -> [Option<FlexTensor>; 2] {
        [
            wanted[0].then(|| scaled(dhidden, &gradient)),
            dweight.map(|dweight| scaled(dweight, &gradient)),
        ]
    }
}

/// Mean cross-entropy over the targets that count.
pub(crate) fn cross_entropy(
    logits: Tensor<2>,
    targets: Tensor<1, Int>,
    ignore_index: i32,
    smoothing: f64,
) -> Tensor<1> {
    let settings = Settings {
        vocab: logits.dims()[1],
        ignore_index,
        smoothing: smoothing as f32,
    };
    let operation = CrossEntropy {
        targets: ids(targets),
        settings,
    };
    apply(operation, [Input::new(logits)])
}

/// Mean cross-entropy of `hidden W`.
pub(crate) fn linear_cross_entropy(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    is_transposed: bool,
    targets: Tensor<1, Int>,
    ignore_index: i32,
    smoothing: f64,
) -> Tensor<1> {
    let [rows, columns] = weight.dims();
    let (width, vocab) = if is_transposed {
        (columns, rows)
    } else {
        (rows, columns)
    };
    assert_eq!(
        hidden.dims(),
        [targets.dims()[0], width],
        "hidden states, weight and targets must fit"
    );
    let settings = Settings {
        vocab,
        ignore_index,
        smoothing: smoothing as f32,
    };
    let operation = LinearCrossEntropy {
        targets: ids(targets),
        settings,
        is_transposed,
        is_weight_wanted: weight.is_tracked(),
        is_half: Precision::current() == Precision::Bf16,
    };
    apply(operation, [Input::new(hidden), Input::new(weight)])
}

/// The loss of each position, without gradient.
pub(crate) fn token_losses(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    let settings = Settings {
        vocab: logits.dims()[1],
        ignore_index: i32::MIN,
        smoothing: 0.0,
    };
    let [logits] = contiguous([primitive(logits)]);
    let mut values = numbers(&logits).to_vec();
    let losses = cpu::rows(&mut values, &ids(targets), settings, None);
    let count = losses.len();
    Tensor::from_primitive::<burn::backend::Flex>(tensor(losses, Shape::new([count])))
}
