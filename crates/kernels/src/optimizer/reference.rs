//! AdamW and Muon composed of Burn's operations, and sums of squares.

use burn::tensor::Tensor;

use super::cpu::muon::COEFFICIENTS;
use super::{AdamWStep, MuonMatrix, MuonStep};

/// The reference implementation of [`adamw`](crate::adamw).
pub fn adamw<const D: usize>(
    step: &AdamWStep,
    value: Tensor<D>,
    gradient: Tensor<D>,
    first: Tensor<1>,
    second: Tensor<1>,
) -> (Tensor<D>, Tensor<1>, Tensor<1>) {
    let shape = value.dims();
    let count: usize = shape.iter().product();
    let gradient: Tensor<1> = gradient.mul_scalar(step.gradient_factor).reshape([count]);
    let first = first.mul_scalar(step.beta1) + gradient.clone().mul_scalar(1.0 - step.beta1);
    let second = second.mul_scalar(step.beta2) + (gradient.clone() * gradient).mul_scalar(1.0 - step.beta2);
    let (correction1, correction2) = step.bias_corrections();
    let denominator = second
        .clone()
        .sqrt()
        .div_scalar(correction2.sqrt())
        .add_scalar(step.eps);
    let change = (first.clone() / denominator).mul_scalar(step.lr / correction1);
    let value = if step.weight_decay > 0.0 {
        value.mul_scalar(1.0 - step.lr * step.weight_decay)
    } else {
        value
    };
    (value - change.reshape(shape), first, second)
}

/// How many squares are added in single precision before the partial sums are added in double precision.
const ROW: usize = 4096;

/// The reference implementation of [`sum_of_squares`](crate::sum_of_squares).
///
/// The elements are cut into fixed rows, each added on the device, the rows on the host in order: two runs give
/// equal bits. (Burn's `sum` over 4 Mi elements and more groups them by which thread was free.)
pub fn sum_of_squares<const D: usize>(x: Tensor<D>) -> f64 {
    let sums = row_sums_of_squares(x);
    sums.into_iter()
        .map(|sums| sums.into_data().iter::<f64>().sum::<f64>())
        .sum()
}

/// The sum of squares of all elements on their own device, for devices whose numbers are slow to read: those
/// of all gradients of a model are read together.
///
/// # Shapes
///
/// - result: `[1]`
pub fn sum_of_squares_on_device<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    let device = x.device().inner();
    row_sums_of_squares(x)
        .into_iter()
        .map(|sums| sums.sum_dim(0).reshape([1]))
        .reduce(|sum, more| sum + more)
        .unwrap_or_else(|| Tensor::zeros([1], &device))
}

/// The sums of squares of fixed rows, `[rows, 1]`: those of full length, and what is left.
fn row_sums_of_squares<const D: usize>(x: Tensor<D>) -> Vec<Tensor<2>> {
    let len: usize = x.dims().iter().product();
    let flat: Tensor<1> = x.without_autodiff().reshape([len]);
    let full = len / ROW * ROW;
    let mut sums = Vec::new();
    let mut add = |rows: Tensor<2>| sums.push((rows.clone() * rows).sum_dim(1));
    if full > 0 {
        add(flat.clone().narrow(0, 0, full).reshape([full / ROW, ROW]));
    }
    if full < len {
        add(flat.narrow(0, full, len - full).reshape([1, len - full]));
    }
    sums
}

/// The reference implementation of [`muon`](crate::muon).
pub fn muon(step: &MuonStep, matrices: Vec<MuonMatrix>) -> Vec<(Tensor<2>, Tensor<1>)> {
    matrices.into_iter().map(|matrix| muon_one(step, matrix)).collect()
}

fn muon_one(step: &MuonStep, matrix: MuonMatrix) -> (Tensor<2>, Tensor<1>) {
    let MuonMatrix {
        widths,
        value,
        gradient,
        momentum,
    } = matrix;
    let shape = value.dims();
    let gradient = gradient.mul_scalar(step.gradient_factor);
    let momentum: Tensor<2> = momentum.reshape(shape);
    let momentum = momentum.mul_scalar(step.momentum) + gradient.clone().mul_scalar(1.0 - step.momentum);
    // Nesterov's look-ahead: the step that the momentum would take next.
    let direction = gradient.mul_scalar(1.0 - step.momentum) + momentum.clone().mul_scalar(step.momentum);
    let mut from = 0;
    let mut changes = Vec::with_capacity(widths.len());
    for width in widths {
        let part = direction.clone().narrow(1, from, width);
        changes.push(orthogonalize(part, step.iterations).mul_scalar(step.scale_of(shape[0], width)));
        from += width;
    }
    let change = if changes.len() == 1 {
        changes.remove(0)
    } else {
        Tensor::cat(changes, 1)
    };
    let value = if step.weight_decay > 0.0 {
        value.mul_scalar(1.0 - step.lr * step.weight_decay)
    } else {
        value
    };
    let count = shape[0] * shape[1];
    (value - change.mul_scalar(step.lr), momentum.reshape([count]))
}

/// The reference implementation of [`orthogonalize`](crate::orthogonalize).
pub fn orthogonalize(x: Tensor<2>, iterations: usize) -> Tensor<2> {
    let [a, b, c] = COEFFICIENTS;
    let [rows, columns] = x.dims();
    // The products below are rows x rows, so the shorter side goes first.
    let is_tall = rows > columns;
    let x = if is_tall { x.transpose() } else { x };
    let norm = sum_of_squares(x.clone()).sqrt();
    let mut x = x.div_scalar(norm + 1e-7);
    for _ in 0..iterations {
        let gram = x.clone().matmul(x.clone().transpose()); // [short, short]
        let polynomial = gram.clone().mul_scalar(b) + gram.clone().matmul(gram).mul_scalar(c);
        x = x.clone().mul_scalar(a) + polynomial.matmul(x);
    }
    if is_tall { x.transpose() } else { x }
}
