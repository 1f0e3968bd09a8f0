//! The linear layer: product, bias and residual in one pass over the result.

use burn::backend::flex::FlexTensor;
use burn::tensor::{Shape, Tensor};

use crate::autodiff::{Fused, Input, apply, contiguous, dims, is_present, numbers, optional, tensor};
use crate::cpu::matmul::{FEW_ROWS, Operand, Sizes, Target, Write, few_rows, matmul};
use crate::cpu::{parallel, uninitialized};

#[derive(Debug, Clone)]
pub(crate) struct Linear {
    /// Whether the weight is `[d_output, d_input]`.
    pub(crate) is_transposed: bool,
}

impl Linear {
    /// Sizes of the product and the weight as an operand `[d_input, d_output]`.
    fn sizes(&self, x: &FlexTensor, weight: &FlexTensor) -> (Sizes, Operand) {
        let weight_dims = dims(weight);
        let [rows, columns] = [weight_dims[0], weight_dims[1]];
        let operand = Operand::row_major(numbers(weight), rows, columns);
        let (k, n, operand) = if self.is_transposed {
            (columns, rows, operand.transposed())
        } else {
            (rows, columns, operand)
        };
        let count = x.layout().num_elements();
        assert!(
            k > 0 && count.is_multiple_of(k),
            "input rows must be as wide as the weight is high"
        );
        (Sizes { m: count / k, n, k }, operand)
    }
}

impl Fused<4> for Linear {
    const NAMES: [&'static str; 2] = ["linear", "linear backward"];

    type Saved = [FlexTensor; 2];

    fn forward(&self, inputs: [FlexTensor; 4], is_tracked: bool) -> (FlexTensor, Option<[FlexTensor; 2]>) {
        let [x, weight, bias, residual] = contiguous(inputs);
        let (sizes, operand) = self.sizes(&x, &weight);
        let Sizes { m, n, k } = sizes;
        let mut shape = dims(&x);
        let last = shape.num_dims() - 1;
        assert_eq!(shape[last], k, "input rows must be as wide as the weight is high");
        shape[last] = n;
        let mut y = uninitialized(m * n);
        let (residual, bias) = (optional(&residual), optional(&bias));
        let write = written_onto(residual, bias, [m, n]);
        if m <= FEW_ROWS && !is_tracked {
            let bias = bias.filter(|_| residual.is_some());
            let (x, weight) = (numbers(&x), numbers(&weight));
            // SAFETY: the addends are `m x n`.
            unsafe { few_rows(sizes, x, weight, self.is_transposed, write, bias, &mut y) };
            return (tensor(y, shape), None);
        }
        // SAFETY: operands and target were made from slices of these sizes; the result is fresh.
        unsafe {
            matmul(
                sizes,
                Operand::row_major(numbers(&x), m, k),
                operand,
                Target::row_major(&mut y, m, n),
                write,
            )
        };
        if let (Some(_), Some(bias)) = (residual, bias) {
            add_bias(&mut y, n, bias);
        }
        (tensor(y, shape), is_tracked.then_some([x, weight]))
    }

    fn backward(
        &self,
        [x, weight]: [FlexTensor; 2],
        gradient: FlexTensor,
        wanted: [bool; 4],
    ) -> [Option<FlexTensor>; 4] {
        let [gradient] = contiguous([gradient]);
        let (Sizes { m, n, k }, operand) = self.sizes(&x, &weight);
        let slopes = Operand::row_major(numbers(&gradient), m, n);
        let input = Operand::row_major(numbers(&x), m, k);
        let dx = wanted[0].then(|| {
            let mut dx = uninitialized(m * k);
            let sizes = Sizes { m, n: k, k: n };
            // SAFETY: as in `forward`.
            unsafe {
                matmul(
                    sizes,
                    slopes,
                    operand.transposed(),
                    Target::row_major(&mut dx, m, k),
                    Write::Replace,
                )
            };
            tensor(dx, dims(&x))
        });
        let dweight = wanted[1].then(|| {
            let mut dweight = uninitialized(k * n);
            let (sizes, a, b) = if self.is_transposed {
                (Sizes { m: n, n: k, k: m }, slopes.transposed(), input)
            } else {
                (Sizes { m: k, n, k: m }, input.transposed(), slopes)
            };
            let target = Target::row_major(&mut dweight, sizes.m, sizes.n);
            // SAFETY: as in `forward`.
            unsafe { matmul(sizes, a, b, target, Write::Replace) };
            tensor(dweight, dims(&weight))
        });
        let dbias = wanted[2].then(|| tensor(parallel::column_sums(numbers(&gradient), n), Shape::new([n])));
        debug_assert!(is_present(&gradient));
        [dx, dweight, dbias, wanted[3].then_some(gradient)]
    }
}

/// What the product of a layer is written onto: the residual, or else the bias in every row.
pub(super) fn written_onto(residual: Option<&[f32]>, bias: Option<&[f32]>, [rows, width]: [usize; 2]) -> Write {
    match (residual, bias) {
        (Some(residual), _) => Write::Onto(Operand::row_major(residual, rows, width)),
        (None, Some(bias)) => {
            assert!(bias.len() >= width, "the bias is shorter than the rows");
            // SAFETY: a distance of 0 between rows stays within the bias.
            Write::Onto(unsafe { Operand::strided(bias.as_ptr(), 0, 1) })
        }
        (None, None) => Write::Replace,
    }
}

/// Adds the bias to every row, where the product was written onto a residual.
pub(super) fn add_bias(y: &mut [f32], width: usize, bias: &[f32]) {
    parallel::rows(y, width, |_, rows| {
        for row in rows.chunks_exact_mut(width) {
            row.iter_mut().zip(bias).for_each(|(y, bias)| *y += bias);
        }
    });
}

/// `x W (+ bias) (+ residual)`, in the precision of the operation.
pub(super) fn linear<const D: usize>(
    operation: impl Fused<4>,
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    residual: Option<Tensor<D>>,
) -> Tensor<D> {
    let inputs = [
        Input::new(x),
        Input::new(weight),
        Input::optional(bias),
        Input::optional(residual),
    ];
    apply(operation, inputs)
}
