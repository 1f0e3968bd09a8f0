//! Products with 16-bit floats on AVX-512: tiles of six rows and four columns, sixteen lanes each.

use std::arch::x86_64::*;

use super::floats::{GROUP, ROWS};
use crate::quantized::reference::FLOAT_LANES;
use crate::quantized::{Matrix, WeightType};

/// Numbers of a row in one turn of the loop: a cache line of halves.
const STEP: usize = 2 * FLOAT_LANES;

const F16: u8 = 0;
const BF16: u8 = 1;
const F32: u8 = 2;

/// Sixteen weights of a row from `from`.
///
/// # Safety
///
/// Those in the mask must be readable.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn load<const KIND: u8>(row: *const u8, from: usize, mask: u16) -> __m512 {
    // SAFETY: the caller's promise.
    unsafe {
        match KIND {
            F16 => _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, row.add(2 * from).cast())),
            BF16 => {
                let bits = _mm256_maskz_loadu_epi16(mask, row.add(2 * from).cast());
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(bits)))
            }
            _ => _mm512_maskz_loadu_ps(mask, row.add(4 * from).cast()),
        }
    }
}

/// A tile, with weights as they are stored: to widen them again for every six rows costs less than a copy in single precision. Rows and columns
/// are the first and how many.
pub(super) fn sums_of(
    x: &[f32],
    weight: Matrix<'_>,
    [row, rows]: [usize; 2],
    [first, columns]: [usize; 2],
    sums: &mut [[f32; GROUP]; ROWS],
) {
    assert!((row + rows) * weight.columns <= x.len() && first + columns <= weight.rows);
    let lines = weight.lines([first, columns]);
    let x = &x[row * weight.columns..];
    let ahead = GROUP * weight.row_bytes;
    match weight.kind {
        WeightType::F16 => of_rows::<F16>(x, weight.columns, lines, ahead, rows, sums),
        WeightType::Bf16 => of_rows::<BF16>(x, weight.columns, lines, ahead, rows, sums),
        WeightType::F32 => of_rows::<F32>(x, weight.columns, lines, ahead, rows, sums),
        other => unreachable!("{other} has integers"),
    }
}

fn of_rows<const KIND: u8>(
    x: &[f32],
    k: usize,
    lines: [*const u8; GROUP],
    ahead: usize,
    rows: usize,
    sums: &mut [[f32; GROUP]; ROWS],
) {
    // SAFETY: this is only called where AVX-512 is present, with as many rows in `x` and lines of `k` weights.
    unsafe {
        match rows {
            1 => tile::<KIND, 1>(x.as_ptr(), k, lines, ahead, sums),
            2 => tile::<KIND, 2>(x.as_ptr(), k, lines, ahead, sums),
            3 => tile::<KIND, 3>(x.as_ptr(), k, lines, ahead, sums),
            4 => tile::<KIND, 4>(x.as_ptr(), k, lines, ahead, sums),
            5 => tile::<KIND, 5>(x.as_ptr(), k, lines, ahead, sums),
            _ => tile::<KIND, 6>(x.as_ptr(), k, lines, ahead, sums),
        }
    }
}

/// # Safety
///
/// `R` rows of `k` numbers of `x`, and `k` weights of each line, must be readable.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn tile<const KIND: u8, const R: usize>(
    x: *const f32,
    k: usize,
    lines: [*const u8; GROUP],
    ahead: usize,
    sums: &mut [[f32; GROUP]; ROWS],
) {
    let mut lanes = [[_mm512_setzero_ps(); GROUP]; R];
    let whole = k / STEP * STEP;
    // SAFETY: whole vectors are within the rows, and masks keep what is past their ends from being read; a prefetch past the end is harmless.
    unsafe {
        for start in (0..whole).step_by(STEP) {
            for column in 0..GROUP {
                let bytes = if KIND == F32 { 4 } else { 2 };
                let next = lines[column].wrapping_add(ahead + bytes * start);
                _mm_prefetch::<_MM_HINT_T0>(next.cast());
                if KIND == F32 {
                    _mm_prefetch::<_MM_HINT_T0>(next.wrapping_add(64).cast());
                }
            }
            add::<KIND, R>(x, k, lines, start, u16::MAX, &mut lanes);
            add::<KIND, R>(x, k, lines, start + FLOAT_LANES, u16::MAX, &mut lanes);
        }
        for from in (whole..k).step_by(FLOAT_LANES) {
            let mask = u16::MAX >> (FLOAT_LANES - FLOAT_LANES.min(k - from));
            add::<KIND, R>(x, k, lines, from, mask, &mut lanes);
        }
    }
    for first in (0..R).step_by(4) {
        let mut rows = [_mm512_setzero_ps(); 4];
        for r in first..R.min(first + 4) {
            rows[r - first] = quarters(lanes[r]);
        }
        // Two more halvings, of four rows together: a lane per column, a number per row.
        let pairs = [halves_of_two(rows[0], rows[1]), halves_of_two(rows[2], rows[3])];
        let even = _mm512_shuffle_ps::<0x88>(pairs[0], pairs[1]);
        let odd = _mm512_shuffle_ps::<0xdd>(pairs[0], pairs[1]);
        let mut columns = [[0.0_f32; 4]; GROUP];
        // SAFETY: sixteen numbers fit.
        unsafe { _mm512_storeu_ps(columns.as_mut_ptr().cast(), _mm512_add_ps(even, odd)) };
        for r in first..R.min(first + 4) {
            for column in 0..GROUP {
                sums[r][column] = columns[column][r - first];
            }
        }
    }
}

/// Adds the products of sixteen numbers of each row and line.
///
/// # Safety
///
/// The numbers in the mask must be readable.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn add<const KIND: u8, const R: usize>(
    x: *const f32,
    k: usize,
    lines: [*const u8; GROUP],
    from: usize,
    mask: u16,
    lanes: &mut [[__m512; GROUP]; R],
) {
    // Loops, not closures: a closure that another function calls is not compiled into this one with its instructions.
    let mut weights = [_mm512_setzero_ps(); GROUP];
    // SAFETY: the caller's promise.
    unsafe {
        for column in 0..GROUP {
            weights[column] = load::<KIND>(lines[column], from, mask);
        }
        for r in 0..R {
            let x = _mm512_maskz_loadu_ps(mask, x.add(r * k + from));
            for column in 0..GROUP {
                lanes[r][column] = _mm512_fmadd_ps(weights[column], x, lanes[r][column]);
            }
        }
    }
}

/// The sixteen lanes of four sums added by halves to four lanes each, side by side.
#[inline]
#[target_feature(enable = "avx512f")]
fn quarters([a, b, c, d]: [__m512; GROUP]) -> __m512 {
    let first = _mm512_add_ps(_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xee>(a, b));
    let second = _mm512_add_ps(_mm512_shuffle_f32x4::<0x44>(c, d), _mm512_shuffle_f32x4::<0xee>(c, d));
    _mm512_add_ps(
        _mm512_shuffle_f32x4::<0x88>(first, second),
        _mm512_shuffle_f32x4::<0xdd>(first, second),
    )
}

/// Four lanes added by halves to two, of two rows side by side.
#[inline]
#[target_feature(enable = "avx512f")]
fn halves_of_two(a: __m512, b: __m512) -> __m512 {
    let (a, b) = (_mm512_castps_pd(a), _mm512_castps_pd(b));
    let (low, high) = (_mm512_unpacklo_pd(a, b), _mm512_unpackhi_pd(a, b));
    _mm512_add_ps(_mm512_castpd_ps(low), _mm512_castpd_ps(high))
}
