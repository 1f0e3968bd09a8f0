//! The fused products: which instructions compute them is chosen when the program runs.

use super::activations::Activations;
use super::blocks::WeightType;
use super::{Epilogue, Matrix, reference};
use crate::cpu::parallel;

#[cfg(target_arch = "x86_64")]
#[expect(
    clippy::needless_range_loop,
    reason = "an iterator's closure is compiled without the instructions of its function"
)]
mod avx2;
#[cfg(target_arch = "x86_64")]
#[expect(
    clippy::needless_range_loop,
    reason = "an iterator's closure is compiled without the instructions of its function"
)]
mod avx512;

/// Columns of the result that a task computes at most.
const COLUMNS: usize = 256;

/// Products smaller than this many multiplications run on the calling thread.
const PARALLEL_WORK: usize = 1 << 16;

/// The instructions that a product of integers uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Instructions {
    /// `vpdpbusd` on 64 bytes.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    /// `vpmaddubsw` on 32 bytes.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// What the compiler makes of the plain loops: NEON on Arm.
    Portable,
}

impl Instructions {
    /// The widest that this CPU has.
    pub(super) fn of_this_cpu() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if avx512::is_present() {
                return Self::Avx512Vnni;
            }
            if avx2::is_present() {
                return Self::Avx2;
            }
        }
        Self::Portable
    }

    /// All that this CPU has, for tests.
    #[cfg(test)]
    pub(super) fn all() -> Vec<Self> {
        let mut all = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(avx2::is_present().then_some(Self::Avx2));
            all.extend(avx512::is_present().then_some(Self::Avx512Vnni));
        }
        all
    }
}

/// What the rows of the result are multiplied from.
#[derive(Clone, Copy)]
enum Left<'a> {
    Rounded(&'a Activations),
    Floats(&'a [f32]),
}

/// `y = x W^T`, what the epilogue adds included.
pub(super) fn product(x: &[f32], weight: Matrix<'_>, epilogue: Epilogue<'_>, y: &mut [f32]) {
    product_with(Instructions::of_this_cpu(), x, weight, epilogue, y);
}

pub(super) fn product_with(
    instructions: Instructions,
    x: &[f32],
    weight: Matrix<'_>,
    epilogue: Epilogue<'_>,
    y: &mut [f32],
) {
    let (n, k) = (weight.rows, weight.columns);
    if n == 0 || y.is_empty() {
        return;
    }
    let m = y.len() / n;
    assert!(x.len() == m * k, "operands do not fit each other");
    let rounded = weight.kind.is_integer().then(|| Activations::of(x, k));
    let left = rounded.as_ref().map_or(Left::Floats(x), Left::Rounded);
    let columns = if m * n * k < PARALLEL_WORK {
        n
    } else {
        // As many tasks for each thread, so that none waits for another; whole groups of columns, so that none is computed in part.
        let share = n.div_ceil(rayon::current_num_threads());
        share.div_ceil(share.div_ceil(COLUMNS)).next_multiple_of(GROUP)
    };
    let out = parallel::Parts::new(y);
    parallel::for_each(n.div_ceil(columns), |task| {
        let from = task * columns;
        let to = (from + columns).min(n);
        let mut sums = [[0.0; GROUP]; ROWS];
        for first in (from..to).step_by(GROUP) {
            let group = GROUP.min(to - first);
            for row in (0..m).step_by(ROWS) {
                let rows = ROWS.min(m - row);
                tile(instructions, left, weight, [row, rows], [first, group], &mut sums);
                for (i, sums) in sums.iter().enumerate().take(rows) {
                    // SAFETY: tasks have different columns.
                    let out = unsafe { out.part((row + i) * n + first, group) };
                    for (j, (out, sum)) in out.iter_mut().zip(sums).enumerate() {
                        *out = epilogue.add(*sum, row + i, first + j);
                    }
                }
            }
        }
    });
}

/// Rows of the result in a tile.
pub(super) const ROWS: usize = 8;

/// Columns of the result in a tile.
pub(super) const GROUP: usize = 4;

/// One tile of sums: `rows` and `columns` are the first and how many. Sums past these are not written or not used.
#[inline(always)]
fn tile(
    instructions: Instructions,
    left: Left<'_>,
    weight: Matrix<'_>,
    rows: [usize; 2],
    columns: [usize; 2],
    sums: &mut [[f32; GROUP]; ROWS],
) {
    match (instructions, left) {
        #[cfg(target_arch = "x86_64")]
        (Instructions::Avx512Vnni, Left::Rounded(x)) => avx512::integers(x, weight, rows, columns, sums),
        #[cfg(target_arch = "x86_64")]
        (Instructions::Avx512Vnni, Left::Floats(x)) if weight.kind != WeightType::F32 => {
            avx512::floats(x, weight, rows, columns, sums);
        }
        #[cfg(target_arch = "x86_64")]
        (Instructions::Avx2, Left::Rounded(x)) => avx2::integers(x, weight, rows, columns, sums),
        (_, Left::Rounded(x)) => each(rows, columns, sums, |row, column| {
            reference::integers(x, weight, row, column)
        }),
        (_, Left::Floats(x)) => each(rows, columns, sums, |row, column| {
            reference::floats(x, weight, row, column)
        }),
    }
}

fn each(
    [row, rows]: [usize; 2],
    [column, columns]: [usize; 2],
    sums: &mut [[f32; GROUP]; ROWS],
    sum: impl Fn(usize, usize) -> f32,
) {
    for (i, sums) in sums.iter_mut().enumerate().take(rows) {
        for (j, out) in sums.iter_mut().enumerate().take(columns) {
            *out = sum(row + i, column + j);
        }
    }
}
