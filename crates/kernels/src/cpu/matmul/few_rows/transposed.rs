//! Few rows times transposed weights on AVX-512: sixteen rows of weights are transposed in registers and multiplied there, so that no
//! transposed copy is written to memory.

use std::arch::x86_64::*;

use super::super::chains::prefetch;
use super::super::transpose::four_columns;
use super::Operand;

/// The most rows of A, whose sums stay in registers.
pub(super) const MOST_ROWS: usize = 8;

/// How far ahead a row of weights is asked for, in numbers.
const AHEAD: usize = 128;

/// The products of `m` rows of A with 16 rows of weights: chains along `count` numbers of each. A row of weights has `k` numbers.
///
/// # Safety
///
/// The CPU has AVX-512, and all rows reach over `count` numbers.
#[target_feature(enable = "avx512f")]
#[inline(never)]
pub(super) unsafe fn sums(m: usize, a: Operand, b: Operand, [count, k]: [usize; 2]) -> [[f32; 16]; MOST_ROWS] {
    let mut out = [[0.0; 16]; MOST_ROWS];
    macro_rules! of_rows {
        ($rows:literal) => {
            // SAFETY: the caller's promise.
            unsafe { sums_of::<$rows>(a, b, [count, k], &mut out) }
        };
    }
    match m {
        1 => of_rows!(1),
        2 => of_rows!(2),
        3 => of_rows!(3),
        4 => of_rows!(4),
        5 => of_rows!(5),
        6 => of_rows!(6),
        7 => of_rows!(7),
        _ => of_rows!(8),
    }
    out
}

#[target_feature(enable = "avx512f")]
unsafe fn sums_of<const R: usize>(a: Operand, b: Operand, [count, k]: [usize; 2], out: &mut [[f32; 16]; MOST_ROWS]) {
    let mut sums = [_mm512_setzero_ps(); R];
    let whole = count / 4 * 4;
    let lines: [*const f32; 16] = std::array::from_fn(|row| b.ptr.wrapping_add(row * k));
    // SAFETY: the caller's promise; a prefetch past the end is harmless.
    unsafe {
        for at in (0..whole).step_by(4) {
            if at.is_multiple_of(16) {
                // At the end of these rows the next sixteen begin.
                let ahead = at + if at + AHEAD < count { AHEAD } else { AHEAD + 15 * k };
                lines.iter().for_each(|line| prefetch(line.wrapping_add(ahead)));
            }
            for (i, column) in four_columns(&lines, at).into_iter().enumerate() {
                for (row, sum) in sums.iter_mut().enumerate() {
                    let factor = _mm512_set1_ps(*a.ptr.offset(row as isize * a.row_stride + (at + i) as isize));
                    *sum = _mm512_fmadd_ps(factor, column, *sum);
                }
            }
        }
        for at in whole..count {
            let column: [f32; 16] = lines.map(|line| *line.add(at));
            let column = _mm512_loadu_ps(column.as_ptr());
            for (row, sum) in sums.iter_mut().enumerate() {
                let factor = _mm512_set1_ps(*a.ptr.offset(row as isize * a.row_stride + at as isize));
                *sum = _mm512_fmadd_ps(factor, column, *sum);
            }
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            _mm512_storeu_ps(out.as_mut_ptr(), sum);
        }
    }
}
