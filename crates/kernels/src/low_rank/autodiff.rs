//! The linear layer with a low-rank part on the CPU: the thin products are added where the wide ones were written.

use burn::backend::flex::FlexTensor;
use burn::tensor::{Shape, Tensor};

use super::{LowRankConfig, Pair};
use crate::autodiff::{Fused, Input, apply, contiguous, dims, is_present, numbers, tensor};
use crate::cpu::matmul::{Operand, Sizes, Target, Write, matmul};
use crate::cpu::{parallel, uninitialized};
use crate::linear::autodiff::Linear;

/// Inputs: x, weight, bias, residual, the input of A where it is another than x, A, B.
const INPUTS: usize = 7;

#[derive(Debug, Clone)]
struct LowRankLinear {
    config: LowRankConfig,
}

/// What the backward pass needs.
#[derive(Debug, Clone)]
struct Saved {
    base: [FlexTensor; 2],
    /// The input of A, where it is another than that of the layer.
    input: Option<FlexTensor>,
    a: FlexTensor,
    b: FlexTensor,
    /// `scale x A`.
    down: FlexTensor,
}

/// The layer without its low-rank part.
const BASE: Linear = Linear { is_transposed: false };

fn empty() -> FlexTensor {
    tensor(Vec::new(), Shape::new([0]))
}

/// `[rows, columns]` of a tensor, whose last dimension are the columns.
fn rows_and_columns(x: &FlexTensor) -> (usize, usize) {
    let shape = dims(x);
    let columns = shape[shape.num_dims() - 1];
    (x.layout().num_elements() / columns.max(1), columns)
}

/// Some columns of a row-major matrix, from `column` on.
fn columns(data: &[f32], width: usize, column: usize) -> Operand {
    assert!(column < width && data.len() >= width, "columns are within the matrix");
    // SAFETY: as long as the matrix, less the columns before.
    unsafe { Operand::strided(data[column..].as_ptr(), width, 1) }
}

/// The same of a matrix that is written.
fn columns_mut(data: &mut [f32], width: usize, column: usize) -> Target {
    assert!(column < width && data.len() >= width, "columns are within the matrix");
    // SAFETY: as above.
    unsafe { Target::strided(data[column..].as_mut_ptr(), width) }
}

fn scale(values: &mut FlexTensor, factor: f32) {
    if factor != 1.0 {
        parallel::elementwise(values.storage_mut::<f32>(), |_, values| {
            values.iter_mut().for_each(|value| *value *= factor);
        });
    }
}

impl Fused<INPUTS> for LowRankLinear {
    const NAMES: [&'static str; 2] = ["low-rank linear", "low-rank linear backward"];

    type Saved = Saved;

    fn forward(&self, inputs: [FlexTensor; INPUTS], is_tracked: bool) -> (FlexTensor, Option<Saved>) {
        let [x, weight, bias, residual, input, a, b] = contiguous(inputs);
        let input = is_present(&input).then_some(input);
        let (mut y, base) = BASE.forward([x.clone(), weight, bias, residual], is_tracked);
        let low_input = input.clone().unwrap_or(x);
        let (mut down, _) = BASE.forward([low_input, a.clone(), empty(), empty()], is_tracked);
        scale(&mut down, self.config.scale as f32);
        let (rows, d_output) = rows_and_columns(&y);
        let (_, all_ranks) = rows_and_columns(&down);
        let width = self.config.width();
        let sums = y.storage_mut::<f32>();
        for (of_a, of_b, outputs) in self.config.places() {
            let sizes = Sizes {
                m: rows,
                n: outputs.len(),
                k: of_a.len(),
            };
            let thin = columns(numbers(&down), all_ranks, of_a.start);
            let wide = columns(numbers(&b), width, of_b.start);
            // SAFETY: the ranges are within the matrices.
            unsafe {
                matmul(
                    sizes,
                    thin,
                    wide,
                    columns_mut(sums, d_output, outputs.start),
                    Write::Add,
                )
            };
        }
        let saved = base.map(|base| Saved {
            base,
            input,
            a,
            b,
            down,
        });
        (y, saved)
    }

    fn backward(&self, saved: Saved, gradient: FlexTensor, wanted: [bool; INPUTS]) -> [Option<FlexTensor>; INPUTS] {
        let Saved {
            base,
            input,
            a,
            b,
            down,
        } = saved;
        let [gradient] = contiguous([gradient]);
        let low_input = input.clone().unwrap_or_else(|| base[0].clone());
        let (rows, d_output) = rows_and_columns(&gradient);
        let slopes = numbers(&gradient);
        let ddown = self.ddown(slopes, [rows, d_output], &b);
        let da = wanted[5].then(|| {
            let (d_input, ranks) = rows_and_columns(&a);
            let mut da = uninitialized(d_input * ranks);
            let sizes = Sizes {
                m: d_input,
                n: ranks,
                k: rows,
            };
            let x = Operand::row_major(numbers(&low_input), rows, d_input).transposed();
            let thin = Operand::row_major(&ddown, rows, ranks);
            // SAFETY: operands and target were made from slices of these sizes; the result is fresh.
            unsafe {
                matmul(
                    sizes,
                    x,
                    thin,
                    Target::row_major(&mut da, d_input, ranks),
                    Write::Replace,
                )
            };
            tensor(da, dims(&a))
        });
        let db = wanted[6].then(|| self.db(slopes, [rows, d_output], &down));
        let [mut dx, dweight, dbias, dresidual] =
            BASE.backward(base, gradient.clone(), [wanted[0], wanted[1], wanted[2], wanted[3]]);
        let mut dinput = None;
        if input.is_some() {
            dinput = wanted[4].then(|| {
                let mut dinput = uninitialized(low_input.layout().num_elements());
                through_a(&ddown, rows, &a, &mut dinput, Write::Replace);
                tensor(dinput, dims(&low_input))
            });
        } else if let Some(dx) = &mut dx {
            through_a(&ddown, rows, &a, dx.storage_mut::<f32>(), Write::Add);
        }
        [dx, dweight, dbias, dresidual, dinput, da, db]
    }
}

impl LowRankLinear {
    /// The gradient of `x A`, `[rows, n_parts * rank]`.
    fn ddown(&self, slopes: &[f32], [rows, d_output]: [usize; 2], b: &FlexTensor) -> Vec<f32> {
        let (ranks, width) = (self.config.parts.len() * self.config.rank, self.config.width());
        let mut ddown = uninitialized(rows * ranks);
        for (of_a, of_b, outputs) in self.config.places() {
            let sizes = Sizes {
                m: rows,
                n: of_a.len(),
                k: outputs.len(),
            };
            let wide = columns(numbers(b), width, of_b.start).transposed();
            let target = columns_mut(&mut ddown, ranks, of_a.start);
            // SAFETY: the ranges are within the matrices; parts write different columns.
            unsafe {
                matmul(
                    sizes,
                    columns(slopes, d_output, outputs.start),
                    wide,
                    target,
                    Write::Replace,
                )
            };
        }
        let factor = self.config.scale as f32;
        ddown.iter_mut().for_each(|value| *value *= factor);
        ddown
    }

    /// The gradient of B. `down` is scaled already.
    fn db(&self, slopes: &[f32], [rows, d_output]: [usize; 2], down: &FlexTensor) -> FlexTensor {
        let (ranks, width) = (self.config.parts.len() * self.config.rank, self.config.width());
        let mut db = uninitialized(self.config.rank * width);
        for (of_a, of_b, outputs) in self.config.places() {
            let sizes = Sizes {
                m: of_a.len(),
                n: outputs.len(),
                k: rows,
            };
            let thin = columns(numbers(down), ranks, of_a.start).transposed();
            let target = columns_mut(&mut db, width, of_b.start);
            // SAFETY: as above.
            unsafe {
                matmul(
                    sizes,
                    thin,
                    columns(slopes, d_output, outputs.start),
                    target,
                    Write::Replace,
                )
            };
        }
        tensor(db, Shape::new([self.config.rank, width]))
    }
}

/// The gradient of the input of A, replaced or added.
fn through_a(ddown: &[f32], rows: usize, a: &FlexTensor, dx: &mut [f32], write: Write) {
    let (d_input, ranks) = rows_and_columns(a);
    let sizes = Sizes {
        m: rows,
        n: d_input,
        k: ranks,
    };
    let thin = Operand::row_major(ddown, rows, ranks);
    let wide = Operand::row_major(numbers(a), d_input, ranks).transposed();
    // SAFETY: operands and target are slices of these sizes.
    unsafe { matmul(sizes, thin, wide, Target::row_major(dx, rows, d_input), write) };
}

/// `x W + bias + residual + scale (input A) B`, where `input` is `x` unless another is given.
pub(crate) fn linear<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    residual: Option<Tensor<D>>,
    input: Option<Tensor<D>>,
    pair: Pair,
) -> Tensor<D> {
    let Pair { a, b, config } = pair;
    let inputs = [
        Input::new(x),
        Input::new(weight),
        Input::optional(bias),
        Input::optional(residual),
        Input::optional(input),
        Input::new(a),
        Input::new(b),
    ];
    apply(LowRankLinear { config }, inputs)
}
