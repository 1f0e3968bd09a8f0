//! Products with AVX-512: integers by VNNI, two columns per vector; 16-bit floats sixteen at a time.

use std::arch::x86_64::*;

use super::avx2::{Q4_0, Q4K, Q5K, Q6K, Q8_0, for_kind_and_rows, for_rows, has_minimum, kind, part};
use super::{GROUP, ROWS};
use crate::quantized::Matrix;
use crate::quantized::activations::Activations;
use crate::quantized::blocks::{BLOCK, WeightType};
use crate::quantized::reference::{FLOAT_LANES, sum_of_lanes};

/// Rows of a tile of floats: with four columns, as many sums as fit in the registers.
const FLOAT_ROWS: usize = 4;

pub(super) fn is_present() -> bool {
    super::avx2::is_present()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vnni")
}

pub(super) fn integers(
    x: &Activations,
    weight: Matrix<'_>,
    [row, rows]: [usize; 2],
    columns: [usize; 2],
    sums: &mut [[f32; GROUP]; ROWS],
) {
    assert!(row + rows <= x.rows() && columns[0] + columns[1] <= weight.rows && rows <= ROWS);
    // SAFETY: this function is only chosen where `is_present`, and the assertion keeps all reads within the operands.
    unsafe { for_kind_and_rows!(tile, weight, rows, (x, weight, row, columns, sums)) }
}

/// # Safety
///
/// Rows and columns must be within the operands.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn tile<const KIND: u8, const R: usize>(
    x: &Activations,
    weight: Matrix<'_>,
    row: usize,
    [first, columns]: [usize; 2],
    sums: &mut [[f32; GROUP]; ROWS],
) {
    let blocks = weight.columns / BLOCK;
    let (values, bytes) = kind(KIND).block();
    let parts = values / BLOCK;
    // A column past the end is the last one again and is not used.
    let lines: [*const u8; GROUP] = std::array::from_fn(|i| weight.row(first + i.min(columns - 1)).as_ptr());
    let ahead = GROUP * weight.row_bytes;
    let sign = _mm512_set1_epi8(-128);
    let mut lanes = [[_mm512_setzero_ps(); GROUP / 2]; R];
    let mut minima = [[0.0_f32; GROUP]; R];
    for block in 0..blocks {
        // SAFETY: the block is within the rows, and so are the activations.
        unsafe {
            // Loops, not closures: a closure that another function calls is not compiled into this one with its instructions.
            let mut integers = [_mm512_setzero_si512(); GROUP / 2];
            let mut scales = [_mm512_setzero_ps(); GROUP / 2];
            let mut offsets = integers;
            let mut least = [0.0_f32; GROUP];
            for pair in 0..GROUP / 2 {
                let place = block / parts * bytes;
                // The next group of columns is what memory has to bring next; a prefetch past the end is harmless.
                _mm_prefetch::<_MM_HINT_T0>(lines[2 * pair].wrapping_add(ahead + place).cast());
                _mm_prefetch::<_MM_HINT_T0>(lines[2 * pair + 1].wrapping_add(ahead + place).cast());
                let (a, a_scales, a_least) = part::<KIND>(lines[2 * pair].add(place), block % parts);
                let (b, b_scales, b_least) = part::<KIND>(lines[2 * pair + 1].add(place), block % parts);
                integers[pair] = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(a), b);
                scales[pair] = _mm512_insertf32x8::<1>(_mm512_castps256_ps512(a_scales), b_scales);
                least[2 * pair] = a_least;
                least[2 * pair + 1] = b_least;
                // The activations get 128 added, because one factor must be without a sign; this takes it away again.
                let added = _mm512_dpbusd_epi32(_mm512_setzero_si512(), sign, integers[pair]);
                offsets[pair] = _mm512_sub_epi32(_mm512_setzero_si512(), added);
            }
            for r in 0..R {
                let place = (row + r) * blocks + block;
                let activation = _mm256_loadu_si256(x.integers.as_ptr().add(place * BLOCK).cast());
                let activation = _mm512_xor_si512(_mm512_broadcast_i64x4(activation), sign);
                let scale = _mm512_set1_ps(*x.scales.get_unchecked(place));
                for pair in 0..GROUP / 2 {
                    let fours = _mm512_dpbusd_epi32(offsets[pair], activation, integers[pair]);
                    let scale = _mm512_mul_ps(scales[pair], scale);
                    lanes[r][pair] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(fours), scale, lanes[r][pair]);
                }
                if has_minimum(KIND) {
                    let sum = *x.sums.get_unchecked(place);
                    for column in 0..GROUP {
                        minima[r][column] = least[column].mul_add(sum, minima[r][column]);
                    }
                }
            }
        }
    }
    for r in 0..R {
        for pair in 0..GROUP / 2 {
            let mut both = [[0.0_f32; 8]; 2];
            // SAFETY: sixteen numbers fit.
            unsafe { _mm512_storeu_ps(both.as_mut_ptr().cast(), lanes[r][pair]) };
            for (i, lanes) in both.into_iter().enumerate() {
                sums[r][2 * pair + i] = sum_of_lanes(lanes) - minima[r][2 * pair + i];
            }
        }
    }
}

const F16: u8 = 5;
const BF16: u8 = 6;

pub(super) fn floats(
    x: &[f32],
    weight: Matrix<'_>,
    [row, rows]: [usize; 2],
    columns: [usize; 2],
    sums: &mut [[f32; GROUP]; ROWS],
) {
    assert!((row + rows) * weight.columns <= x.len() && columns[0] + columns[1] <= weight.rows && rows <= ROWS);
    for (part, sums) in sums.chunks_mut(FLOAT_ROWS).enumerate() {
        let (row, rows) = (row + part * FLOAT_ROWS, rows.saturating_sub(part * FLOAT_ROWS));
        // SAFETY: this function is only chosen where `is_present`, and the assertion keeps all reads within the operands.
        unsafe {
            match (weight.kind, rows) {
                (_, 0) => {}
                (WeightType::F16, 1) => float_tile::<F16, 1>(x, weight, row, columns, sums),
                (WeightType::F16, 2) => float_tile::<F16, 2>(x, weight, row, columns, sums),
                (WeightType::F16, 3) => float_tile::<F16, 3>(x, weight, row, columns, sums),
                (WeightType::F16, _) => float_tile::<F16, 4>(x, weight, row, columns, sums),
                (_, 1) => float_tile::<BF16, 1>(x, weight, row, columns, sums),
                (_, 2) => float_tile::<BF16, 2>(x, weight, row, columns, sums),
                (_, 3) => float_tile::<BF16, 3>(x, weight, row, columns, sums),
                (_, _) => float_tile::<BF16, 4>(x, weight, row, columns, sums),
            }
        }
    }
}

/// # Safety
///
/// Rows and columns must be within the operands.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn float_tile<const KIND: u8, const R: usize>(
    x: &[f32],
    weight: Matrix<'_>,
    row: usize,
    [first, columns]: [usize; 2],
    sums: &mut [[f32; GROUP]],
) {
    let width = weight.columns;
    let lines: [*const u8; GROUP] = std::array::from_fn(|i| weight.row(first + i.min(columns - 1)).as_ptr());
    let ahead = GROUP * weight.row_bytes;
    let mut lanes = [[_mm512_setzero_ps(); GROUP]; R];
    for from in (0..width).step_by(FLOAT_LANES) {
        let mask = u16::MAX >> (FLOAT_LANES - FLOAT_LANES.min(width - from));
        // SAFETY: the mask keeps what is past the end of a row from being read.
        unsafe {
            let mut weights = [_mm512_setzero_ps(); GROUP];
            for column in 0..GROUP {
                _mm_prefetch::<_MM_HINT_T0>(lines[column].wrapping_add(ahead + 2 * from).cast());
                let bits = _mm256_maskz_loadu_epi16(mask, lines[column].add(2 * from).cast());
                weights[column] = match KIND {
                    F16 => _mm512_cvtph_ps(bits),
                    _ => _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(bits))),
                };
            }
            for r in 0..R {
                let x = _mm512_maskz_loadu_ps(mask, x.as_ptr().add((row + r) * width + from));
                for column in 0..GROUP {
                    lanes[r][column] = _mm512_fmadd_ps(weights[column], x, lanes[r][column]);
                }
            }
        }
    }
    for (lanes, sums) in lanes.into_iter().zip(sums) {
        for (lanes, sum) in lanes.into_iter().zip(sums) {
            let mut numbers = [0.0_f32; FLOAT_LANES];
            // SAFETY: sixteen numbers fit.
            unsafe { _mm512_storeu_ps(numbers.as_mut_ptr(), lanes) };
            *sum = sum_of_lanes(numbers);
        }
    }
}
