//! Products with weights in 16-bit floats: sixteen lanes along the inner dimension, added by halves at the end.

use std::cell::RefCell;

use super::{Instructions, task_columns};
use crate::cpu::{parallel, vectorized};
#[cfg(target_arch = "aarch64")]
use crate::quantized::WeightType;
use crate::quantized::reference::{FLOAT_LANES, sum_of_lanes};
use crate::quantized::{Epilogue, Matrix};

/// Columns that are unpacked at a time: with the rows of a tile they fit in the first-level cache where they are not too long.
pub(super) const COLUMNS: usize = 8;

/// Columns of a tile.
pub(super) const GROUP: usize = 4;

/// Rows of a tile: with its columns, as many sums as fit in the registers.
pub(super) const ROWS: usize = 6;

thread_local! {
    /// The weights that this thread multiplies with; kept, so that no product allocates.
    static UNPACKED: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

pub(super) fn product(
    instructions: Instructions,
    x: &[f32],
    weight: Matrix<'_>,
    epilogue: Epilogue<'_>,
    y: &mut [f32],
) {
    let (n, k) = (weight.rows, weight.columns);
    let m = y.len() / n;
    let columns = task_columns(m, n, k);
    // A row of unpacked weights is whole lanes, the last ones zeros.
    let stride = k.next_multiple_of(FLOAT_LANES);
    let height = m.div_ceil(m.div_ceil(ROWS));
    let out = parallel::Parts::new(y);
    parallel::for_each(n.div_ceil(columns), |task| {
        let from = task * columns;
        let to = (from + columns).min(n);
        UNPACKED.with_borrow_mut(|unpacked| {
            unpacked.resize(unpacked.len().max(COLUMNS * stride), 0.0);
            for panel in (from..to).step_by(COLUMNS) {
                let panel_end = to.min(panel + COLUMNS);
                let source = match instructions {
                    #[cfg(target_arch = "x86_64")]
                    Instructions::Avx512Vnni | Instructions::AvxVnni | Instructions::Avx2 => None,
                    _ => {
                        unpack(instructions, weight, panel..panel_end, stride, unpacked);
                        Some(&unpacked[..])
                    }
                };
                for row in (0..m).step_by(height) {
                    let rows = height.min(m - row);
                    for first in (panel..panel_end).step_by(GROUP) {
                        let count = GROUP.min(panel_end - first);
                        let source = source.map(|unpacked| &unpacked[(first - panel) * stride..]);
                        let sums = tile(instructions, x, weight, source, [row, rows], [first, count]);
                        for (i, sums) in sums.iter().enumerate().take(rows) {
                            // SAFETY: tasks have different columns.
                            let out = unsafe { out.part((row + i) * n + first, count) };
                            epilogue.write(&sums[..count], row + i, first, out);
                        }
                    }
                }
            }
        });
    });
}

/// Some rows of W in single precision.
fn unpack(
    instructions: Instructions,
    weight: Matrix<'_>,
    columns: std::ops::Range<usize>,
    stride: usize,
    unpacked: &mut [f32],
) {
    for (column, values) in columns.zip(unpacked.chunks_exact_mut(stride)) {
        let (values, rest) = values.split_at_mut(weight.columns);
        rest.fill(0.0);
        #[cfg(target_arch = "aarch64")]
        if instructions == Instructions::Neon && matches!(weight.kind, WeightType::F16 | WeightType::Bf16) {
            super::floats_neon::unpack(weight.kind, weight.row(column), values);
            continue;
        }
        #[cfg(not(target_arch = "aarch64"))]
        let _ = instructions;
        weight.kind.decode(weight.row(column), values);
    }
}

/// The sums of some rows and columns, each the first and how many.
fn tile(
    instructions: Instructions,
    x: &[f32],
    weight: Matrix<'_>,
    unpacked: Option<&[f32]>,
    rows: [usize; 2],
    columns: [usize; 2],
) -> [[f32; GROUP]; ROWS] {
    let mut sums = [[0.0; GROUP]; ROWS];
    match (instructions, unpacked) {
        #[cfg(target_arch = "x86_64")]
        (Instructions::Avx512Vnni, _) => super::floats512::sums_of(x, weight, rows, columns, &mut sums),
        #[cfg(target_arch = "x86_64")]
        (Instructions::AvxVnni | Instructions::Avx2, _) => {
            super::floats256::sums_of(x, weight, rows, columns, &mut sums);
        }
        (_, unpacked) => {
            let unpacked = unpacked.expect("the other instructions read weights as they are stored");
            plain(x, unpacked, weight.columns, rows, columns[1], &mut sums);
        }
    }
    sums
}

vectorized! {
    fn plain<'a>(
        x: &'a [f32],
        unpacked: &'a [f32],
        k: usize,
        rows: [usize; 2],
        columns: usize,
        sums: &'a mut [[f32; GROUP]; ROWS],
    ) {
        let stride = k.next_multiple_of(FLOAT_LANES);
        for (i, sums) in sums.iter_mut().enumerate().take(rows[1]) {
            let x = &x[(rows[0] + i) * k..][..k];
            for (values, sum) in unpacked.chunks_exact(stride).zip(sums.iter_mut()).take(columns) {
                let mut lanes = [0.0_f32; FLOAT_LANES];
                let (chunks, rest) = x.as_chunks::<FLOAT_LANES>();
                let (weights, _) = values.as_chunks::<FLOAT_LANES>();
                for (x, weights) in chunks.iter().zip(weights) {
                    for (i, lane) in lanes.iter_mut().enumerate() {
                        *lane = weights[i].mul_add(x[i], *lane);
                    }
                }
                for ((x, weight), lane) in rest.iter().zip(&values[k - rest.len()..]).zip(&mut lanes) {
                    *lane = weight.mul_add(*x, *lane);
                }
                *sum = sum_of_lanes(lanes);
            }
        }
    }
}
