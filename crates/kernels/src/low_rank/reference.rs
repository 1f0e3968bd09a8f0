//! The low-rank part composed of linear layers.

use burn::tensor::Tensor;

use super::Pair;
use crate::linear::{linear as base_linear, linear_add};

/// The reference implementation of a linear layer with a low-rank part.
pub(crate) fn linear<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    residual: Option<Tensor<D>>,
    input: Option<Tensor<D>>,
    pair: Pair,
) -> Tensor<D> {
    let y = match residual {
        Some(residual) => linear_add(x.clone(), weight, bias, residual),
        None => base_linear(x.clone(), weight, bias),
    };
    add(y, input.unwrap_or(x), pair)
}

/// `y + scale (x A) B`, each part at its outputs.
pub(crate) fn add<const D: usize>(y: Tensor<D>, x: Tensor<D>, pair: Pair) -> Tensor<D> {
    let Pair { a, b, config } = pair;
    let down = base_linear(x, a, None).mul_scalar(config.scale); // [.., n_parts * rank]
    let d_output = y.dims()[D - 1];
    if matches!(config.parts.as_slice(), [whole] if *whole == (0..d_output)) {
        return linear_add(down, b, None, y);
    }
    let mut columns = Vec::new();
    let mut next = 0;
    for (of_a, of_b, outputs) in config.places() {
        let unchanged = next..outputs.start;
        if !unchanged.is_empty() {
            columns.push(y.clone().narrow(D - 1, unchanged.start, unchanged.len()));
        }
        let down = down.clone().narrow(D - 1, of_a.start, of_a.len());
        let b = b.clone().narrow(1, of_b.start, of_b.len());
        let part = y.clone().narrow(D - 1, outputs.start, outputs.len());
        columns.push(linear_add(down, b, None, part));
        next = outputs.end;
    }
    if next < d_output {
        columns.push(y.clone().narrow(D - 1, next, d_output - next));
    }
    Tensor::cat(columns, D - 1)
}
