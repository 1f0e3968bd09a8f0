//! What an optimizer does with the gradients: their norm, AdamW and Muon.

use burn::tensor::{Device, Tensor};
use criterion::{BenchmarkId, Criterion};
use taal_kernels::{AdamWStep, MuonMatrix, MuonStep, Precision, reference, with_precision};

use super::{Work, random};

/// A matrix of nanoGPT's CPU model, one of odd size, and one of 124M's.
const LENGTHS: [usize; 3] = [128 * 512, 99_999, 768 * 3072];

/// `[in, out]`: the feed-forward network of the recipe shakespeare-char, and a larger one, tall.
const MATRICES: [[usize; 2]; 2] = [[128, 352], [704, 256]];

/// Newton-Schulz iterations.
const ITERATIONS: usize = 5;

/// One update of a matrix, moments included, in place.
pub(super) fn adamw(c: &mut Criterion) {
    type Update = fn(&AdamWStep, Tensor<1>, Tensor<1>, Tensor<1>, Tensor<1>) -> (Tensor<1>, Tensor<1>, Tensor<1>);
    let step = AdamWStep {
        lr: 1e-3,
        beta1: 0.9,
        beta2: 0.99,
        eps: 1e-8,
        weight_decay: 0.1,
        step: 10,
        gradient_factor: 0.5,
    };
    let mut group = c.benchmark_group("kernels/adamw");
    for len in LENGTHS {
        group.throughput(
            Work {
                flops: 12 * len,
                numbers: 7 * len,
            }
            .throughput(),
        );
        for (implementation, update) in [
            ("fused", taal_kernels::adamw as Update),
            ("reference", reference::adamw as Update),
        ] {
            let device = Device::flex();
            let gradient = random([len], "gradient", &device);
            let zeros = || Tensor::<1>::zeros([len], &device);
            let mut state = Some((random([len], "value", &device), zeros(), zeros()));
            group.bench_function(BenchmarkId::new(implementation, len), |b| {
                b.iter(|| {
                    let (value, first, second) = state.take().expect("put back below");
                    state = Some(update(&step, value, gradient.clone(), first, second));
                });
            });
        }
    }
    group.finish();
}

/// What the norm of all gradients adds up.
pub(super) fn sum_of_squares(c: &mut Criterion) {
    type Sum = fn(Tensor<1>) -> f64;
    let mut group = c.benchmark_group("kernels/sum_of_squares");
    for len in LENGTHS {
        group.throughput(
            Work {
                flops: 2 * len,
                numbers: len,
            }
            .throughput(),
        );
        let gradient = random([len], "gradient", &Device::flex());
        for (implementation, sum) in [
            ("fused", taal_kernels::sum_of_squares as Sum),
            ("reference", reference::sum_of_squares as Sum),
        ] {
            group.bench_function(BenchmarkId::new(implementation, len), |b| {
                b.iter(|| sum(gradient.clone()));
            });
        }
    }
    group.finish();
}

/// The operations of the Newton-Schulz iteration: with the smaller side s and the larger one l, products of s x l x s, s x s x s and
/// s x s x l.
fn iteration_flops([rows, columns]: [usize; 2]) -> usize {
    let (small, large) = (rows.min(columns), rows.max(columns));
    ITERATIONS * 2 * small * small * (2 * large + small)
}

/// The step of which the reference implementation has no version in bf16: it is next to the one in single precision.
pub(super) fn muon(c: &mut Criterion) {
    type Update = fn(&MuonStep, Vec<MuonMatrix>) -> Vec<(Tensor<2>, Tensor<1>)>;
    let step = MuonStep {
        lr: 0.02,
        momentum: 0.95,
        weight_decay: 0.1,
        iterations: ITERATIONS,
        gradient_factor: 0.5,
    };
    let implementations: [(&str, Precision, Update); 3] = [
        ("fused", Precision::Fp32, taal_kernels::muon),
        ("fused/bf16", Precision::Bf16, taal_kernels::muon),
        ("reference", Precision::Fp32, reference::muon),
    ];
    let mut group = c.benchmark_group("kernels/muon");
    for shape in MATRICES {
        let [rows, columns] = shape;
        group.throughput(
            Work {
                flops: iteration_flops(shape) + 8 * rows * columns,
                numbers: 5 * rows * columns,
            }
            .throughput(),
        );
        for (implementation, precision, update) in implementations {
            let device = Device::flex();
            let gradient = random(shape, "gradient", &device);
            let zeros = Tensor::<1>::zeros([rows * columns], &device);
            let mut state = Some((random(shape, "value", &device), zeros));
            group.bench_function(BenchmarkId::new(implementation, format!("{rows}x{columns}")), |b| {
                b.iter(|| {
                    let (value, momentum) = state.take().expect("put back below");
                    let matrix = MuonMatrix {
                        widths: vec![columns],
                        value,
                        gradient: gradient.clone(),
                        momentum,
                    };
                    state = with_precision(precision, || update(&step, vec![matrix])).pop();
                });
            });
        }
    }
    group.finish();
}

pub(super) fn orthogonalize(c: &mut Criterion) {
    type Iterate = fn(Tensor<2>, usize) -> Tensor<2>;
    let mut group = c.benchmark_group("kernels/orthogonalize");
    for shape in MATRICES {
        let [rows, columns] = shape;
        group.throughput(
            Work {
                flops: iteration_flops(shape),
                numbers: 2 * rows * columns,
            }
            .throughput(),
        );
        let x = random(shape, "gradient", &Device::flex());
        for (implementation, iterate) in [
            ("fused", taal_kernels::orthogonalize as Iterate),
            ("reference", reference::orthogonalize as Iterate),
        ] {
            group.bench_function(BenchmarkId::new(implementation, format!("{rows}x{columns}")), |b| {
                b.iter(|| iterate(x.clone(), ITERATIONS));
            });
        }
    }
    group.finish();
}
