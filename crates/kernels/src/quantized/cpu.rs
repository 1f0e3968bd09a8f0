//! The fused products: which instructions compute them is chosen when the program runs.

use std::cell::RefCell;

use self::panel::{Line, STRIDE};
use super::activations::Activations;
use super::blocks::BLOCK;
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
#[cfg(target_arch = "x86_64")]
mod avx_vnni;
mod floats;
#[cfg(target_arch = "x86_64")]
#[expect(
    clippy::needless_range_loop,
    reason = "an iterator's closure is compiled without the instructions of its function"
)]
mod floats256;
#[cfg(target_arch = "x86_64")]
#[expect(
    clippy::needless_range_loop,
    reason = "an iterator's closure is compiled without the instructions of its function"
)]
mod floats512;
#[cfg(target_arch = "aarch64")]
mod floats_neon;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod kinds;
#[cfg(target_arch = "aarch64")]
#[expect(clippy::needless_range_loop, reason = "the same loops as in the other sets")]
mod neon;
mod panel;

/// Columns of the result that a task computes at most.
const TASK_COLUMNS: usize = 256;

/// Columns of a panel.
const COLUMNS: usize = 16;

/// Rows of the result that are computed at a time.
const ROWS: usize = 8;

/// Products smaller than this many multiplications run on the calling thread.
const PARALLEL_WORK: usize = 1 << 16;

/// The instructions that a product of integers uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Instructions {
    /// `vpdpbusd` on 64 bytes.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    /// `vpdpbusd` on 32 bytes.
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    /// `vpmaddubsw` on 32 bytes.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// `smlal` on 16 bytes.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// What the compiler makes of the plain loops.
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
            if avx_vnni::is_present() {
                return Self::AvxVnni;
            }
            if avx2::is_present() {
                return Self::Avx2;
            }
        }
        #[cfg(target_arch = "aarch64")]
        if neon::is_present() {
            return Self::Neon;
        }
        Self::Portable
    }

    /// All that this CPU has, the widest last, for tests.
    #[cfg(test)]
    pub(super) fn all() -> Vec<Self> {
        let mut all = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(avx2::is_present().then_some(Self::Avx2));
            all.extend(avx_vnni::is_present().then_some(Self::AvxVnni));
            all.extend(avx512::is_present().then_some(Self::Avx512Vnni));
        }
        #[cfg(target_arch = "aarch64")]
        all.extend(neon::is_present().then_some(Self::Neon));
        all
    }

    /// Columns of a panel.
    fn columns(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni | Self::Avx2 => kinds::HALF,
            #[cfg(target_arch = "aarch64")]
            Self::Neon => kinds::HALF,
            _ => COLUMNS,
        }
    }
}

thread_local! {
    /// The panel that this thread multiplies with; kept, so that no product allocates.
    static PANEL: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
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
    if !weight.kind.is_integer() {
        return floats::product(instructions, x, weight, epilogue, y);
    }
    let x = Activations::of(x, k);
    let product = Product {
        instructions,
        #[cfg(target_arch = "x86_64")]
        starts: starts(instructions, &x, weight),
        x: &x,
        weight,
    };
    let columns = task_columns(m, n, k);
    let out = parallel::Parts::new(y);
    let height = m.div_ceil(m.div_ceil(ROWS));
    parallel::for_each(n.div_ceil(columns), |task| {
        let from = task * columns;
        let to = (from + columns).min(n);
        let mut sums = [[0.0; COLUMNS]; ROWS];
        PANEL.with_borrow_mut(|panel| {
            panel.resize(panel.len().max(k / BLOCK * STRIDE), Line([0; COLUMNS]));
            for first in (from..to).step_by(instructions.columns()) {
                let count = instructions.columns().min(to - first);
                let is_direct = product.is_direct();
                if !is_direct {
                    product.unpack([first, count], panel);
                }
                for row in (0..m).step_by(height) {
                    let rows = height.min(m - row);
                    match is_direct {
                        true => product.direct(panel, [first, count], &mut sums),
                        false => product.tile(panel, [row, rows], [first, count], &mut sums),
                    }
                    for (i, sums) in sums.iter().enumerate().take(rows) {
                        // SAFETY: tasks have different columns.
                        let out = unsafe { out.part((row + i) * n + first, count) };
                        epilogue.write(&sums[..count], row + i, first, out);
                    }
                }
            }
        });
    });
}

/// How many columns a task computes.
fn task_columns(m: usize, n: usize, k: usize) -> usize {
    if m * n * k < PARALLEL_WORK {
        return n;
    }
    // As many tasks for each thread, so that none waits for another; whole panels, so that none is unpacked twice.
    let share = n.div_ceil(rayon::current_num_threads());
    share.div_ceil(share.div_ceil(TASK_COLUMNS)).next_multiple_of(COLUMNS)
}

/// What the sums of each row and block begin at: the part of what [`added`](avx2::added) was added to the weights for.
#[cfg(target_arch = "x86_64")]
fn starts(instructions: Instructions, x: &Activations, weight: Matrix<'_>) -> Vec<i32> {
    match instructions {
        Instructions::Avx512Vnni | Instructions::AvxVnni => {
            let added = avx2::added(weight.kind);
            let (halves, _) = x.halves.as_chunks::<2>();
            if weight.kind.has_two_scales() {
                x.halves.iter().map(|sum| -added * sum).collect()
            } else {
                halves.iter().map(|[first, second]| -added * (first + second)).collect()
            }
        }
        _ => Vec::new(),
    }
}

/// A product of integers.
struct Product<'a> {
    instructions: Instructions,
    x: &'a Activations,
    #[cfg(target_arch = "x86_64")]
    starts: Vec<i32>,
    weight: Matrix<'a>,
}

impl Product<'_> {
    /// Whether weights are multiplied where they are unpacked, because one tile has all rows.
    fn is_direct(&self) -> bool {
        #[cfg(target_arch = "x86_64")]
        if self.instructions == Instructions::Avx512Vnni {
            return self.x.rows() <= ROWS;
        }
        false
    }

    /// The sums of all rows and some columns, where [`is_direct`](Self::is_direct).
    fn direct(&self, panel: &mut [Line], columns: [usize; 2], sums: &mut [[f32; COLUMNS]; ROWS]) {
        #[cfg(target_arch = "x86_64")]
        avx512::direct(self.weight, self.x, &self.starts, columns, panel, sums);
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (panel, columns, sums);
    }

    /// Some columns, from the first and how many, as the panel of the instructions.
    fn unpack(&self, columns: [usize; 2], panel: &mut [Line]) {
        match self.instructions {
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512Vnni => avx512::pack(self.weight, columns, panel),
            #[cfg(target_arch = "x86_64")]
            Instructions::AvxVnni => avx2::pack::<true>(self.weight, columns, panel),
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => avx2::pack::<false>(self.weight, columns, panel),
            #[cfg(target_arch = "aarch64")]
            Instructions::Neon => neon::pack(self.weight, columns, panel),
            Instructions::Portable => {}
        }
    }

    /// The sums of some rows, from the first and how many, and the columns of the panel.
    fn tile(&self, panel: &[Line], rows: [usize; 2], [first, columns]: [usize; 2], sums: &mut [[f32; COLUMNS]; ROWS]) {
        match self.instructions {
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512Vnni => avx512::rows(self.weight.kind, self.x, &self.starts, panel, rows, sums),
            #[cfg(target_arch = "x86_64")]
            Instructions::AvxVnni => avx_vnni::rows(self.weight.kind, self.x, &self.starts, panel, rows, sums),
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => avx2::rows(self.weight.kind, self.x, &self.starts, panel, rows, sums),
            #[cfg(target_arch = "aarch64")]
            Instructions::Neon => neon::rows(self.weight.kind, self.x, panel, rows, sums),
            Instructions::Portable => {
                for (i, sums) in sums.iter_mut().enumerate().take(rows[1]) {
                    for (j, sum) in sums.iter_mut().enumerate().take(columns) {
                        *sum = reference::integers(self.x, self.weight, rows[0] + i, first + j);
                    }
                }
            }
        }
    }
}
