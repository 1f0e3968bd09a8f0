//! The fused CPU kernels on flex's tensors: AdamW and Muon in place, and sums of squares. Nothing here is differentiated.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;

use super::cpu::muon::{self, Job, Muon};
use super::cpu::{self, AdamW};
use crate::MuonMatrix;
use crate::autodiff::{contiguous, dims, numbers, primitive, tensor};
use crate::cpu::matmul::{bf16, matmul, matmul_columns};
use crate::profile;

/// Value and moments after one update; memory that is not shared is updated in place.
pub(crate) fn adamw<const D: usize>(
    settings: AdamW,
    value: Tensor<D>,
    gradient: Tensor<D>,
    first: Tensor<1>,
    second: Tensor<1>,
) -> (Tensor<D>, Tensor<1>, Tensor<1>) {
    let [mut value, gradient, mut first, mut second] = contiguous([
        primitive(value),
        primitive(gradient),
        primitive(first),
        primitive(second),
    ]);
    assert_eq!(dims(&value), dims(&gradient), "value and gradient must have one shape");
    profile::count("adamw", || {
        let (first, second) = (first.storage_mut::<f32>(), second.storage_mut::<f32>());
        cpu::adamw(settings, value.storage_mut::<f32>(), numbers(&gradient), first, second);
    });
    (
        Tensor::from_primitive::<Flex>(value),
        Tensor::from_primitive::<Flex>(first),
        Tensor::from_primitive::<Flex>(second),
    )
}

/// The sum of squares of all elements.
pub(crate) fn sum_of_squares<const D: usize>(x: Tensor<D>) -> f64 {
    let [x] = contiguous([primitive(x)]);
    profile::count("gradient norm", || cpu::sum_of_squares(numbers(&x)))
}

/// Values and momenta after one update of Muon, in place as [`adamw`]; the products in bfloat16 or in single precision.
pub(crate) fn muon(settings: Muon, in_bf16: bool, matrices: Vec<MuonMatrix>) -> Vec<(Tensor<2>, Tensor<1>)> {
    let mut found: Vec<_> = matrices
        .into_iter()
        .map(|matrix| {
            let rows = matrix.value.dims()[0];
            let tensors = [
                primitive(matrix.value),
                primitive(matrix.gradient),
                primitive(matrix.momentum),
            ];
            (rows, matrix.widths, contiguous(tensors))
        })
        .collect();
    profile::count("muon", || {
        let mut jobs: Vec<Job<'_>> = found
            .iter_mut()
            .map(|(rows, widths, [value, gradient, momentum])| Job {
                rows: *rows,
                widths,
                value: value.storage_mut::<f32>(),
                gradient: numbers(gradient),
                momentum: momentum.storage_mut::<f32>(),
            })
            .collect();
        let product = if in_bf16 { bf16::matmul_columns } else { matmul_columns };
        muon::muon(settings, product, &mut jobs);
    });
    let tensors = |(_, _, [value, _, momentum]): (usize, Vec<usize>, [FlexTensor; 3])| {
        (
            Tensor::from_primitive::<Flex>(value),
            Tensor::from_primitive::<Flex>(momentum),
        )
    };
    found.into_iter().map(tensors).collect()
}

/// The orthogonalized matrix.
pub(crate) fn orthogonalize(x: Tensor<2>, iterations: usize) -> Tensor<2> {
    let [rows, columns] = x.dims();
    let [x] = contiguous([primitive(x)]);
    let matrix = muon::Matrix {
        values: numbers(&x),
        stride: columns,
        from: 0,
        rows,
        columns,
    };
    Tensor::from_primitive::<Flex>(tensor(muon::orthogonalize(&matrix, iterations, matmul), dims(&x)))
}
