//! Cross-entropy of hidden states and the output matrix, some rows of logits at a time.

use std::marker::PhantomData;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, DispatchKindConversion, DispatchTensor};
use burn::tensor::{Int, Tensor};

use crate::autodiff::{Fused, Input, apply};
use crate::pieces::{join, pieces, primitive, tensor};

/// What some rows of logits are scored against.
#[derive(Debug, Clone)]
pub(crate) struct Targets {
    /// One per row.
    pub(crate) ids: Tensor<1, Int>,
    /// The id of rows that do not count.
    pub(crate) ignore_index: i32,
    /// The share of the loss that is spread over all tokens.
    pub(crate) smoothing: f64,
    /// How many rows count in the whole batch, `[1]`.
    pub(crate) counted: Tensor<1>,
}

/// The loss of each row, 0 where it is ignored, and with `true` the gradient of the logits in the mean loss.
pub(crate) type Score = fn(Tensor<2>, &Targets, bool) -> (Tensor<1>, Option<Tensor<2>>);

/// [`Score`] composed of Burn's operations.
#[cfg(test)]
pub(crate) fn score(logits: Tensor<2>, targets: &Targets, is_tracked: bool) -> (Tensor<1>, Option<Tensor<2>>) {
    let [len, vocab] = logits.dims();
    let Targets { smoothing, .. } = *targets;
    let is_ignored = targets.ids.clone().equal_scalar(targets.ignore_index);
    // An ignored position scores token 0; its loss and its slopes are replaced by zeros below.
    let ids = targets.ids.clone().mask_fill(is_ignored.clone(), 0).reshape([len, 1]);
    let max = logits.clone().max_dim(1);
    let shifted = logits - max;
    let mut scored = shifted.clone().gather(1, ids.clone()).mul_scalar(1.0 - smoothing); // [len, 1]
    if smoothing > 0.0 {
        scored = scored + shifted.clone().sum_dim(1).mul_scalar(smoothing / vocab as f64);
    }
    let exponentials = shifted.exp();
    let sums = exponentials.clone().sum_dim(1); // [len, 1]
    let losses = (sums.clone().log() - scored)
        .reshape([len])
        .mask_fill(is_ignored.clone(), 0.0);
    let slopes = is_tracked.then(|| {
        let mut slopes = exponentials * sums.recip();
        if smoothing > 0.0 {
            slopes = slopes.sub_scalar(smoothing / vocab as f64);
        }
        let at_target = Tensor::full([len, 1], -(1.0 - smoothing), &slopes.device());
        let slopes = slopes.scatter(1, ids, at_target, burn::tensor::IndexingUpdateOp::Add);
        let share = is_ignored.bool_not().float().reshape([len, 1]) / targets.counted.clone().reshape([1, 1]);
        slopes * share
    });
    (losses, slopes)
}

#[derive(Debug, Clone)]
struct LinearCrossEntropy<B> {
    targets: Tensor<1, Int>,
    ignore_index: i32,
    smoothing: f64,
    score: Score,
    is_transposed: bool,
    /// How many rows of logits exist at a time.
    rows: usize,
    backend: PhantomData<B>,
}

impl<B: Backend> Fused<2, B> for LinearCrossEntropy<B>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    const NAMES: [&'static str; 2] = ["linear cross-entropy", "linear cross-entropy backward"];

    /// The gradients for a slope of one.
    type Saved = [FloatTensor<B>; 2];

    fn forward(
        &self,
        [hidden, weight]: [FloatTensor<B>; 2],
        is_tracked: bool,
    ) -> (FloatTensor<B>, Option<[FloatTensor<B>; 2]>) {
        let hidden: Tensor<2> = tensor::<2, B>(hidden);
        let weight: Tensor<2> = tensor::<2, B>(weight);
        // [d_model, vocab]
        let matrix = if self.is_transposed { weight.transpose() } else { weight };
        let is_ignored = self.targets.clone().equal_scalar(self.ignore_index);
        let counted = is_ignored.bool_not().float().sum_dim(0).clamp_min(1.0); // [1]

        let mut total = Tensor::zeros([1], &hidden.device());
        let mut dhidden = Vec::new();
        let mut dmatrix: Option<Tensor<2>> = None;
        for (start, len) in pieces(hidden.dims()[0], self.rows) {
            let hidden = hidden.clone().narrow(0, start, len);
            let targets = Targets {
                ids: self.targets.clone().narrow(0, start, len),
                ignore_index: self.ignore_index,
                smoothing: self.smoothing,
                counted: counted.clone(),
            };
            let logits = hidden.clone().matmul(matrix.clone()); // [len, vocab]
            let (losses, slopes) = (self.score)(logits, &targets, is_tracked);
            total = total + losses.sum_dim(0);
            let Some(slopes) = slopes else { continue };
            dhidden.push(slopes.clone().matmul(matrix.clone().transpose()));
            let piece = hidden.transpose().matmul(slopes); // [d_model, vocab]
            dmatrix = Some(match dmatrix {
                Some(sum) => sum + piece,
                None => piece,
            });
        }
        let loss = primitive::<1, B>(total / counted);
        let saved = is_tracked.then(|| {
            let dmatrix = dmatrix.unwrap_or_else(|| matrix.zeros_like());
            let dweight = if self.is_transposed {
                dmatrix.transpose()
            } else {
                dmatrix
            };
            let dhidden = if dhidden.is_empty() {
                hidden.zeros_like()
            } else {
                join(dhidden)
            };
            [primitive::<2, B>(dhidden), primitive::<2, B>(dweight)]
        });
        (loss, saved)
    }

    fn backward(
        &self,
        saved: [FloatTensor<B>; 2],
        gradient: FloatTensor<B>,
        wanted: [bool; 2],
    ) -> [Option<FloatTensor<B>>; 2] {
        let slope: Tensor<2> = tensor::<1, B>(gradient).reshape([1, 1]);
        let mut wanted = wanted.into_iter();
        saved.map(|saved| {
            let is_wanted = wanted.next().unwrap_or(false);
            is_wanted.then(|| primitive::<2, B>(tensor::<2, B>(saved) * slope.clone()))
        })
    }
}

/// Mean cross-entropy of `hidden W`, of which at most `rows` rows of logits exist at a time.
pub(crate) fn in_pieces<B: Backend>(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    is_transposed: bool,
    targets: Tensor<1, Int>,
    (ignore_index, smoothing, rows): (i32, f64, usize),
    score: Score,
) -> Tensor<1>
where
    DispatchTensor: DispatchKindConversion<B> + DispatchKindConversion<Autodiff<B>>,
{
    let operation = LinearCrossEntropy::<B> {
        targets: targets.without_autodiff(),
        ignore_index,
        smoothing,
        score,
        is_transposed,
        rows,
        backend: PhantomData,
    };
    apply(operation, [Input::<B>::new(hidden), Input::<B>::new(weight)])
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;
    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::{random, reference};

    type Lce = fn(Tensor<2>, Tensor<2>, Tensor<1, Int>) -> Tensor<1>;

    /// Loss and both gradients.
    fn run(is_transposed: bool, function: Lce) -> [Vec<f32>; 3] {
        let device = Device::flex().autodiff();
        let shape = if is_transposed { [11, 5] } else { [5, 11] };
        let hidden = random::normal([7, 5], 1.0, 1, &device).require_grad();
        let weight = random::normal(shape, 1.0, 2, &device).require_grad();
        let targets = Tensor::from_data(TensorData::new(vec![3, -100, 0, 10, 3, -100, 7], [7]), &device);
        let loss = function(hidden.clone(), weight.clone(), targets);
        let gradients = loss.clone().mul_scalar(3.0).backward();
        let numbers = |x: Tensor<2>| x.into_data().iter::<f32>().collect::<Vec<_>>();
        [
            loss.into_data().iter::<f32>().collect(),
            numbers(hidden.grad(&gradients).unwrap()),
            numbers(weight.grad(&gradients).unwrap()),
        ]
    }

    fn assert_close(found: &[Vec<f32>; 3], expected: &[Vec<f32>; 3]) {
        for (found, expected) in found.iter().zip(expected) {
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-5, "{found} instead of {expected}");
            }
        }
    }

    #[test]
    fn pieces_of_logits_give_the_loss_and_the_gradients_of_the_whole() {
        for is_transposed in [false, true] {
            let (in_pieces, whole): (Lce, Lce) = if is_transposed {
                (
                    |h, w, t| in_pieces::<Flex>(h, w, true, t, (-100, 0.1, 2), score),
                    |h, w, t| reference::linear_cross_entropy(h, w, true, t, -100, 0.1),
                )
            } else {
                (
                    |h, w, t| in_pieces::<Flex>(h, w, false, t, (-100, 0.0, 3), score),
                    |h, w, t| reference::linear_cross_entropy(h, w, false, t, -100, 0.0),
                )
            };
            assert_close(&run(is_transposed, in_pieces), &run(is_transposed, whole));
        }
    }

    #[test]
    fn ignored_targets_alone_cost_nothing() {
        let device = Device::flex().autodiff();
        let hidden = random::normal([3, 4], 1.0, 1, &device).require_grad();
        let weight = random::normal([4, 6], 1.0, 2, &device);
        let targets = Tensor::from_data(TensorData::new(vec![-100; 3], [3]), &device);
        let loss = in_pieces::<Flex>(hidden.clone(), weight, false, targets, (-100, 0.0, 9), score);
        let gradients = loss.clone().backward();
        assert_eq!(loss.into_scalar::<f32>(), 0.0);
        let gradient = hidden.grad(&gradients).unwrap();
        assert_eq!(gradient.abs().max().into_scalar::<f32>(), 0.0);
    }
}
