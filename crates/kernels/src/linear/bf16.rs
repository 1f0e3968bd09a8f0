//! The linear layer with its products in bfloat16. What is kept for the backward pass is the rounded input.

use std::sync::Arc;

use burn::backend::flex::FlexTensor;
use burn::tensor::Shape;
use half::bf16;

use super::autodiff::{add_bias, written_onto};
use crate::autodiff::{Fused, contiguous, dims, numbers, optional, tensor};
use crate::cpu::matmul::bf16::{Matrix, matmul, rounded};
use crate::cpu::matmul::{Sizes, Target, Write};
use crate::cpu::{parallel, uninitialized};

#[derive(Debug, Clone)]
pub(super) struct LinearBf16 {
    /// Whether the weight is `[d_output, d_input]`.
    pub(super) is_transposed: bool,
}

/// What the backward pass needs: the weight is the layer's own.
#[derive(Debug, Clone)]
pub(super) struct Saved {
    x: Arc<Vec<bf16>>,
    x_shape: Shape,
    weight: FlexTensor,
}

impl LinearBf16 {
    /// Width in, width out, and the weight as `[d_input, d_output]`.
    fn weight(&self, weight: &FlexTensor) -> (usize, usize, Matrix) {
        let weight_dims = dims(weight);
        let [rows, columns] = [weight_dims[0], weight_dims[1]];
        let matrix = Matrix::single(numbers(weight), rows, columns);
        if self.is_transposed {
            (columns, rows, matrix.transposed())
        } else {
            (rows, columns, matrix)
        }
    }
}

impl Fused<4> for LinearBf16 {
    const NAMES: [&'static str; 2] = ["linear", "linear backward"];

    type Saved = Saved;

    fn forward(&self, inputs: [FlexTensor; 4], is_tracked: bool) -> (FlexTensor, Option<Saved>) {
        let [x, weight, bias, residual] = contiguous(inputs);
        let (k, n, matrix) = self.weight(&weight);
        let x_shape = dims(&x);
        let mut shape = x_shape.clone();
        let last = shape.num_dims() - 1;
        assert!(
            k > 0 && shape[last] == k,
            "input rows must be as wide as the weight is high"
        );
        shape[last] = n;
        let m = x.layout().num_elements() / k;
        let x = Arc::new(rounded(numbers(&x)));
        let mut y = uninitialized(m * n);
        let (residual, bias) = (optional(&residual), optional(&bias));
        let write = written_onto(residual, bias, [m, n]);
        let target = Target::row_major(&mut y, m, n);
        // SAFETY: operands and target were made from slices of these sizes; the result is fresh.
        unsafe { matmul(Sizes { m, n, k }, Matrix::half(&x, m, k), matrix, target, write) };
        if let (Some(_), Some(bias)) = (residual, bias) {
            add_bias(&mut y, n, bias);
        }
        (tensor(y, shape), is_tracked.then_some(Saved { x, x_shape, weight }))
    }

    fn backward(&self, saved: Saved, gradient: FlexTensor, wanted: [bool; 4]) -> [Option<FlexTensor>; 4] {
        let [gradient] = contiguous([gradient]);
        let (k, n, matrix) = self.weight(&saved.weight);
        let m = saved.x.len() / k;
        let rounded_gradient = rounded(numbers(&gradient));
        let slopes = Matrix::half(&rounded_gradient, m, n);
        let input = Matrix::half(&saved.x, m, k);
        let dx = wanted[0].then(|| {
            let mut dx = uninitialized(m * k);
            let target = Target::row_major(&mut dx, m, k);
            // SAFETY: as in `forward`.
            unsafe {
                matmul(
                    Sizes { m, n: k, k: n },
                    slopes,
                    matrix.transposed(),
                    target,
                    Write::Replace,
                )
            };
            tensor(dx, saved.x_shape)
        });
        let dweight = wanted[1].then(|| {
            let mut dweight = uninitialized(k * n);
            let (rows, columns, a, b) = if self.is_transposed {
                (n, k, slopes.transposed(), input)
            } else {
                (k, n, input.transposed(), slopes)
            };
            let sizes = Sizes {
                m: rows,
                n: columns,
                k: m,
            };
            let target = Target::row_major(&mut dweight, rows, columns);
            // SAFETY: as in `forward`.
            unsafe { matmul(sizes, a, b, target, Write::Replace) };
            tensor(dweight, dims(&saved.weight))
        });
        let dbias = wanted[2].then(|| tensor(parallel::column_sums(numbers(&gradient), n), Shape::new([n])));
        [dx, dweight, dbias, wanted[3].then_some(gradient)]
    }
}
