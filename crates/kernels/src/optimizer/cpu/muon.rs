//! Muon's update: momentum, and the Newton-Schulz iteration on products of our own.

use rayon::prelude::*;

use super::sum_of_squares;
use crate::cpu::matmul::{Operand, Sizes, Target, Write};
use crate::cpu::{parallel, uninitialized, vectorized};

/// The coefficients of Keller Jordan's iteration of degree five.
pub(crate) const COEFFICIENTS: [f32; 3] = [3.4445, -4.7750, 2.0315];

/// The constants of one update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Muon {
    pub(crate) lr: f32,
    pub(crate) momentum: f32,
    /// `1 - lr * weight_decay`.
    pub(crate) keep: f32,
    pub(crate) gradient_factor: f32,
    pub(crate) iterations: usize,
}

vectorized! {
    /// Momentum in place, and the direction that looks one step ahead of it.
    fn momentum_chunk<'a>(settings: Muon, gradient: &'a [f32], momentum: &'a mut [f32], direction: &'a mut [f32]) {
        let beta = settings.momentum;
        for ((gradient, momentum), direction) in gradient.iter().zip(momentum).zip(direction) {
            let gradient = gradient * settings.gradient_factor;
            *momentum = momentum.mul_add(beta, gradient * (1.0 - beta));
            *direction = momentum.mul_add(beta, gradient * (1.0 - beta));
        }
    }
}

/// A matrix that is updated: `rows` rows whose columns, cut into `widths`, are orthogonalized separately.
pub(crate) struct Job<'a> {
    pub(crate) rows: usize,
    pub(crate) widths: &'a [usize],
    pub(crate) value: &'a mut [f32],
    pub(crate) gradient: &'a [f32],
    pub(crate) momentum: &'a mut [f32],
}

/// One update of all matrices in place, with products on the calling thread. Each part of a matrix is one task: they are
/// many and small, so sharing out a single product would cost more than it gains.
pub(crate) fn muon(settings: Muon, product: Product, jobs: &mut [Job<'_>]) {
    let directions: Vec<Vec<f32>> = jobs.iter_mut().map(|job| look_ahead(settings, job)).collect();
    let parts: Vec<(usize, usize, usize)> = jobs
        .iter()
        .enumerate()
        .flat_map(|(index, job)| {
            let mut from = 0;
            job.widths.iter().map(move |width| {
                from += width;
                (index, from - width, *width)
            })
        })
        .collect();
    let change = |(index, from, columns): &(usize, usize, usize)| {
        let rows = jobs[*index].rows;
        let stride = jobs[*index].value.len() / rows;
        let matrix = Matrix {
            values: &directions[*index],
            stride,
            from: *from,
            rows,
            columns: *columns,
        };
        orthogonalize(&matrix, settings.iterations, product)
    };
    let changes: Vec<Vec<f32>> = parts.par_iter().with_max_len(1).map(change).collect();
    for ((index, from, width), change) in parts.iter().zip(changes) {
        let job = &mut jobs[*index];
        let columns = job.value.len() / job.rows;
        // Wide and tall matrices are to change their outputs alike.
        let factor = settings.lr * (*width as f32 / job.rows as f32).max(1.0).sqrt();
        for (row, change) in change.chunks_exact(*width).enumerate() {
            for (value, change) in job.value[row * columns + from..][..*width].iter_mut().zip(change) {
                *value = *value * settings.keep - factor * change;
            }
        }
    }
}

/// Updates the momentum and returns the direction.
fn look_ahead(settings: Muon, job: &mut Job<'_>) -> Vec<f32> {
    let count = job.rows * job.widths.iter().sum::<usize>();
    assert!(job.value.len() == count && job.gradient.len() == count && job.momentum.len() == count);
    let mut direction = uninitialized(count);
    let momentum_parts = parallel::Parts::new(job.momentum);
    let gradient = job.gradient;
    parallel::elementwise(&mut direction, |start, direction| {
        // SAFETY: the chunks of `elementwise` are disjoint.
        let momentum = unsafe { momentum_parts.part(start, direction.len()) };
        momentum_chunk(settings, &gradient[start..start + direction.len()], momentum, direction);
    });
    direction
}

/// Columns of a row-major matrix.
pub(crate) struct Matrix<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) stride: usize,
    pub(crate) from: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

impl Matrix<'_> {
    /// A contiguous copy, transposed where the rows are more than the columns: the products below are as large as the
    /// first side squared.
    fn short_side_first(&self) -> (Vec<f32>, usize, usize) {
        let Self {
            values,
            stride,
            from,
            rows,
            columns,
        } = *self;
        let lines = (0..rows).map(|row| &values[row * stride + from..][..columns]);
        if rows <= columns {
            return (lines.flatten().copied().collect(), rows, columns);
        }
        let mut copy = uninitialized(rows * columns);
        for (row, line) in lines.enumerate() {
            for (column, value) in line.iter().enumerate() {
                copy[column * rows + row] = *value;
            }
        }
        (copy, columns, rows)
    }
}

/// How to multiply: with all threads or on the calling one, in single precision or in bfloat16.
pub(crate) type Product = unsafe fn(Sizes, Operand, Operand, Target, Write);

/// Columns of a symmetric product that are computed at a time, from the block on the diagonal down.
const SYMMETRIC_COLUMNS: usize = 128;

/// Rows that are mirrored at a time, so that the lines read stay in the first-level cache.
const MIRRORED_ROWS: usize = 16;

/// A product that is known to be symmetric, `size x size` and row-major: the blocks above the diagonal are copied.
///
/// # Safety
///
/// As the product; with [`Write::Add`], the numbers of `c` in and below the blocks on the diagonal must be there.
unsafe fn symmetric(product: Product, [size, k]: [usize; 2], a: Operand, b: Operand, c: &mut [f32], write: Write) {
    for from in (0..size).step_by(SYMMETRIC_COLUMNS) {
        let end = size.min(from + SYMMETRIC_COLUMNS);
        let sizes = Sizes {
            m: size - from,
            n: end - from,
            k,
        };
        let target = Target::row_major(c, size, size);
        // SAFETY: the offsets are within the sizes.
        unsafe { product(sizes, a.from(from, 0), b.from(0, from), target.from(from, from), write) };
        for rows in (end..size).step_by(MIRRORED_ROWS) {
            for column in from..end {
                for row in rows..size.min(rows + MIRRORED_ROWS) {
                    c[column * size + row] = c[row * size + column];
                }
            }
        }
    }
}

/// `iterations` steps towards the nearest matrix with orthonormal rows or columns, row-major without gaps.
pub(crate) fn orthogonalize(matrix: &Matrix<'_>, iterations: usize, product: Product) -> Vec<f32> {
    let [a, b, c] = COEFFICIENTS;
    let (mut x, short, long) = matrix.short_side_first();
    let norm = sum_of_squares(&x).sqrt();
    let scale = (1.0 / (norm + 1e-7)) as f32;
    x.iter_mut().for_each(|x| *x *= scale);
    let mut next = uninitialized(short * long);
    let [mut gram, mut scaled, mut polynomial] = [(); 3].map(|()| uninitialized(short * short));
    for _ in 0..iterations {
        let rows = Operand::row_major(&x, short, long);
        // SAFETY: operands and targets are slices of these sizes, and no target is an operand.
        unsafe {
            symmetric(
                product,
                [short, long],
                rows,
                rows.transposed(),
                &mut gram,
                Write::Replace,
            )
        };
        // x' = (a I + b G + c G^2) x, so a is on the diagonal and x is multiplied once.
        for (row, (gram, (scaled, polynomial))) in gram
            .chunks_exact(short)
            .zip(scaled.chunks_exact_mut(short).zip(polynomial.chunks_exact_mut(short)))
            .enumerate()
        {
            for ((gram, scaled), polynomial) in gram.iter().zip(scaled).zip(polynomial.iter_mut()) {
                *scaled = c * gram;
                *polynomial = b * gram;
            }
            polynomial[row] += a;
        }
        // SAFETY: as above.
        unsafe {
            let left = Operand::row_major(&scaled, short, short);
            let right = Operand::row_major(&gram, short, short);
            symmetric(product, [short; 2], left, right, &mut polynomial, Write::Add);
            let left = Operand::row_major(&polynomial, short, short);
            let sizes = Sizes {
                m: short,
                n: long,
                k: short,
            };
            product(
                sizes,
                left,
                rows,
                Target::row_major(&mut next, short, long),
                Write::Replace,
            );
        }
        std::mem::swap(&mut x, &mut next);
    }
    if matrix.rows <= matrix.columns {
        return x;
    }
    for (line, values) in x.chunks_exact(long).enumerate() {
        for (row, value) in values.iter().enumerate() {
            next[row * short + line] = *value;
        }
    }
    next
}
