//! Rows of transposed weights on AVX-512: sixteen of them become columns in the registers and are multiplied there, without a way through memory.

use std::arch::x86_64::*;

use super::super::chains::prefetch;
use super::Operand;

/// The most rows of A, whose sums stay in registers.
pub(super) const MOST_ROWS: usize = 8;

/// How far ahead a row of weights is asked for, in numbers.
const AHEAD: usize = 128;

/// The products of `m` rows of A with 16 rows of weights, `count` numbers each, as chains along these; a row of weights is `k` long.
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
    // SAFETY: the caller's promise; a prefetch past the end is harmless.
    unsafe {
        for at in (0..whole).step_by(4) {
            let line = |row: usize| b.ptr.add(row * k + at);
            if at.is_multiple_of(16) {
                // At the end of these rows the next sixteen begin.
                let ahead = if at + AHEAD < count { AHEAD } else { AHEAD + 15 * k };
                (0..16).for_each(|row| prefetch(line(row).wrapping_add(ahead)));
            }
            // Quarters of a register: four numbers of the rows i, i + 4, i + 8, i + 12.
            let mut fours = [_mm512_setzero_ps(); 4];
            for (i, four_rows) in fours.iter_mut().enumerate() {
                let four = _mm512_castps128_ps512(_mm_loadu_ps(line(i)));
                let four = _mm512_insertf32x4::<1>(four, _mm_loadu_ps(line(i + 4)));
                let four = _mm512_insertf32x4::<2>(four, _mm_loadu_ps(line(i + 8)));
                *four_rows = _mm512_insertf32x4::<3>(four, _mm_loadu_ps(line(i + 12)));
            }
            for (i, column) in columns_of(fours).into_iter().enumerate() {
                for (row, sum) in sums.iter_mut().enumerate() {
                    let factor = _mm512_set1_ps(*a.ptr.offset(row as isize * a.row_stride + (at + i) as isize));
                    *sum = _mm512_fmadd_ps(factor, column, *sum);
                }
            }
        }
        for at in whole..count {
            let column: [f32; 16] = std::array::from_fn(|row| *b.ptr.add(row * k + at));
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

/// Four columns of 16 rows from registers whose quarters are four numbers of the rows i, i + 4, i + 8, i + 12.
#[inline]
#[target_feature(enable = "avx512f")]
fn columns_of([a, b, c, d]: [__m512; 4]) -> [__m512; 4] {
    let (ab_low, ab_high) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    let (cd_low, cd_high) = (_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    let low = (_mm512_castps_pd(ab_low), _mm512_castps_pd(cd_low));
    let high = (_mm512_castps_pd(ab_high), _mm512_castps_pd(cd_high));
    [
        _mm512_unpacklo_pd(low.0, low.1),
        _mm512_unpackhi_pd(low.0, low.1),
        _mm512_unpacklo_pd(high.0, high.1),
        _mm512_unpackhi_pd(high.0, high.1),
    ]
    .map(|column| _mm512_castpd_ps(column))
}
