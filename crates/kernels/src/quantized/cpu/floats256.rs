//! Products with 16-bit floats on AVX2 and F16C: tiles of up to three rows, whose sixteen lanes are two vectors.

use std::arch::x86_64::*;

use super::floats::{GROUP, ROWS};
use crate::quantized::reference::FLOAT_LANES;
use crate::quantized::{Matrix, WeightType};

/// Numbers of a vector.
const LANES: usize = 8;

/// The most rows of a tile: with two columns, as many sums as fit in the registers.
const MOST_ROWS: usize = 3;

const F16: u8 = 0;
const BF16: u8 = 1;
const F32: u8 = 2;

/// As the function of this name for AVX-512: some rows and columns, each the first and how many.
pub(super) fn sums_of(
    x: &[f32],
    weight: Matrix<'_>,
    [row, rows]: [usize; 2],
    [first, columns]: [usize; 2],
    sums: &mut [[f32; GROUP]; ROWS],
) {
    assert!(rows <= ROWS && (row + rows) * weight.columns <= x.len() && 0 < columns && first + columns <= weight.rows);
    let lines: [*const u8; GROUP] = weight.lines([first, columns]);
    let ahead = GROUP * weight.row_bytes;
    for (at, sums) in (0..rows).step_by(MOST_ROWS).zip(sums.chunks_mut(MOST_ROWS)) {
        let x = &x[(row + at) * weight.columns..];
        let tile = Tile {
            x: x.as_ptr(),
            k: weight.columns,
            lines,
            // What comes next is asked for once.
            ahead: (at == 0).then_some(ahead),
        };
        let rows = MOST_ROWS.min(rows - at);
        // SAFETY: this is only called where AVX2, FMA and F16C are present, with as many rows in `x` and lines of `k` weights.
        unsafe {
            match weight.kind {
                WeightType::F16 => tile.of_rows::<F16>(rows, sums),
                WeightType::Bf16 => tile.of_rows::<BF16>(rows, sums),
                WeightType::F32 => tile.of_rows::<F32>(rows, sums),
                other => unreachable!("{other} has integers"),
            }
        }
    }
}

/// What a tile reads.
struct Tile {
    x: *const f32,
    k: usize,
    lines: [*const u8; GROUP],
    ahead: Option<usize>,
}

impl Tile {
    /// # Safety
    ///
    /// `rows` rows of `k` numbers of `x`, and `k` weights of each line, must be readable.
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn of_rows<const KIND: u8>(&self, rows: usize, sums: &mut [[f32; GROUP]]) {
        // SAFETY: the caller's promise.
        unsafe {
            match rows {
                1 => self.sum::<KIND, 1, 4>(0, sums),
                2 => {
                    self.sum::<KIND, 2, 2>(0, sums);
                    self.sum::<KIND, 2, 2>(2, sums);
                }
                _ => {
                    self.sum::<KIND, 3, 2>(0, sums);
                    self.sum::<KIND, 3, 2>(2, sums);
                }
            }
        }
    }

    /// `R` rows and `C` columns from one of them.
    ///
    /// # Safety
    ///
    /// As [`of_rows`](Self::of_rows).
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn sum<const KIND: u8, const R: usize, const C: usize>(&self, first: usize, sums: &mut [[f32; GROUP]]) {
        let mut lanes = [[[_mm256_setzero_ps(); 2]; C]; R];
        let whole = self.k / FLOAT_LANES * FLOAT_LANES;
        let bytes = if KIND == F32 { 4 } else { 2 };
        // SAFETY: whole vectors are within the rows, and the rest is copied; a prefetch past the end is harmless.
        unsafe {
            for from in (0..whole).step_by(FLOAT_LANES) {
                for column in 0..C {
                    let line = self.lines[first + column].add(bytes * from);
                    if let Some(ahead) = self.ahead {
                        _mm_prefetch::<_MM_HINT_T0>(line.wrapping_add(ahead).cast());
                    }
                    for half in 0..2 {
                        let weights = load::<KIND>(line.add(half * bytes * LANES));
                        for row in 0..R {
                            let x = _mm256_loadu_ps(self.x.add(row * self.k + from + half * LANES));
                            lanes[row][column][half] = _mm256_fmadd_ps(weights, x, lanes[row][column][half]);
                        }
                    }
                }
            }
            if whole < self.k {
                let rest = self.k - whole;
                for column in 0..C {
                    let mut line = [0_u8; 4 * FLOAT_LANES];
                    let from = self.lines[first + column].add(bytes * whole);
                    line.as_mut_ptr().copy_from_nonoverlapping(from, bytes * rest);
                    for row in 0..R {
                        let mut x = [0.0_f32; FLOAT_LANES];
                        let from = self.x.add(row * self.k + whole);
                        x.as_mut_ptr().copy_from_nonoverlapping(from, rest);
                        for half in 0..2 {
                            let weights = load::<KIND>(line.as_ptr().add(half * bytes * LANES));
                            let x = _mm256_loadu_ps(x.as_ptr().add(half * LANES));
                            lanes[row][column][half] = _mm256_fmadd_ps(weights, x, lanes[row][column][half]);
                        }
                    }
                }
            }
        }
        for row in 0..R {
            for column in 0..C {
                sums[row][first + column] = by_halves(lanes[row][column]);
            }
        }
    }
}

/// Eight weights.
///
/// # Safety
///
/// They must be readable.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn load<const KIND: u8>(from: *const u8) -> __m256 {
    // SAFETY: the caller's promise.
    unsafe {
        match KIND {
            F16 => _mm256_cvtph_ps(_mm_loadu_si128(from.cast())),
            BF16 => {
                let bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
            }
            _ => _mm256_loadu_ps(from.cast()),
        }
    }
}

/// Sixteen lanes added by halves.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn by_halves([low, high]: [__m256; 2]) -> f32 {
    let eight = _mm256_add_ps(low, high);
    let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}
