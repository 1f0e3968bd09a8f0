//! Products of integers with AVX2, and the blocks of all types as vectors of 32 bytes.

use std::arch::x86_64::*;

use super::{GROUP, ROWS};
use crate::quantized::Matrix;
use crate::quantized::activations::Activations;
use crate::quantized::blocks::{BLOCK, WeightType, q4k_scales};
use crate::quantized::reference::sum_of_lanes;

/// The types as constants of functions.
pub(super) const Q8_0: u8 = 0;
pub(super) const Q4_0: u8 = 1;
pub(super) const Q4K: u8 = 2;
pub(super) const Q5K: u8 = 3;
pub(super) const Q6K: u8 = 4;

pub(super) const fn kind(kind: u8) -> WeightType {
    match kind {
        Q8_0 => WeightType::Q8_0,
        Q4_0 => WeightType::Q4_0,
        Q4K => WeightType::Q4K,
        Q5K => WeightType::Q5K,
        _ => WeightType::Q6K,
    }
}

/// Whether blocks of a type have a minimum that is subtracted.
pub(super) const fn has_minimum(kind: u8) -> bool {
    matches!(kind, Q4K | Q5K)
}

pub(super) fn is_present() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}

/// Calls a function for a type and a number of rows, as constants.
macro_rules! for_kind_and_rows {
    ($function:ident, $weight:expr, $rows:expr, $arguments:tt) => {
        match $weight.kind {
            WeightType::Q8_0 => for_rows!($function, { Q8_0 }, $rows, $arguments),
            WeightType::Q4_0 => for_rows!($function, { Q4_0 }, $rows, $arguments),
            WeightType::Q4K => for_rows!($function, { Q4K }, $rows, $arguments),
            WeightType::Q5K => for_rows!($function, { Q5K }, $rows, $arguments),
            WeightType::Q6K => for_rows!($function, { Q6K }, $rows, $arguments),
            other => unreachable!("{other} has no integers"),
        }
    };
}

macro_rules! for_rows {
    ($function:ident, $kind:tt, $rows:expr, $arguments:tt) => {
        match $rows {
            1 => $function::<$kind, 1> $arguments,
            2 => $function::<$kind, 2> $arguments,
            3 => $function::<$kind, 3> $arguments,
            4 => $function::<$kind, 4> $arguments,
            5 => $function::<$kind, 5> $arguments,
            6 => $function::<$kind, 6> $arguments,
            7 => $function::<$kind, 7> $arguments,
            _ => $function::<$kind, 8> $arguments,
        }
    };
}

pub(super) use {for_kind_and_rows, for_rows};

pub(super) fn integers(
    x: &Activations,
    weight: Matrix<'_>,
    [row, rows]: [usize; 2],
    columns: [usize; 2],
    sums: &mut [[f32; GROUP]; ROWS],
) {
    assert!(row + rows <= x.rows() && columns[0] + columns[1] <= weight.rows && rows <= ROWS && columns[1] <= GROUP);
    // SAFETY: this function is only chosen where `is_present`, and the assertion keeps all reads within the operands.
    unsafe { for_kind_and_rows!(tile, weight, rows, (x, weight, row, columns, sums)) }
}

/// # Safety
///
/// Rows and columns must be within the operands.
#[target_feature(enable = "avx2,fma,f16c")]
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
    let ones = _mm256_set1_epi16(1);
    for column in 0..columns {
        let line = weight.row(first + column).as_ptr();
        let mut lanes = [_mm256_setzero_ps(); R];
        let mut minima = [0.0_f32; R];
        for block in 0..blocks {
            // SAFETY: the block is within the row, and so are the activations.
            unsafe {
                let (integers, scales, minimum) = part::<KIND>(line.add(block / parts * bytes), block % parts);
                let sizes = _mm256_abs_epi8(integers);
                for r in 0..R {
                    let place = (row + r) * blocks + block;
                    let activation = _mm256_loadu_si256(x.integers.as_ptr().add(place * BLOCK).cast());
                    // The first factor must be without a sign, so that of the weight goes to the activation. The sum of two products
                    // stays within 16 bits because an activation is at most 127.
                    let pairs = _mm256_maddubs_epi16(sizes, _mm256_sign_epi8(activation, integers));
                    let fours = _mm256_cvtepi32_ps(_mm256_madd_epi16(pairs, ones));
                    let scale = _mm256_mul_ps(scales, _mm256_set1_ps(*x.scales.get_unchecked(place)));
                    lanes[r] = _mm256_fmadd_ps(fours, scale, lanes[r]);
                    if has_minimum(KIND) {
                        minima[r] = minimum.mul_add(*x.sums.get_unchecked(place), minima[r]);
                    }
                }
            }
        }
        for r in 0..R {
            let mut sum = [0.0; 8];
            // SAFETY: eight numbers fit.
            unsafe { _mm256_storeu_ps(sum.as_mut_ptr(), lanes[r]) };
            sums[r][column] = sum_of_lanes(sum) - minima[r];
        }
    }
}

/// One part of a block: its integers, their scales lane by lane of four, and its minimum.
///
/// # Safety
///
/// `block` must be a whole block of the type.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn part<const KIND: u8>(block: *const u8, index: usize) -> (__m256i, __m256, f32) {
    let low = _mm256_set1_epi8(0x0f);
    // SAFETY: the caller's promise; the offsets are those of the layouts.
    unsafe {
        match KIND {
            Q8_0 => (
                _mm256_loadu_si256(block.add(2).cast()),
                _mm256_set1_ps(half(block)),
                0.0,
            ),
            Q4_0 => {
                let packed = _mm_loadu_si128(block.add(2).cast());
                let both = _mm256_set_m128i(_mm_srli_epi16::<4>(packed), packed);
                let integers = _mm256_sub_epi8(_mm256_and_si256(both, low), _mm256_set1_epi8(8));
                (integers, _mm256_set1_ps(half(block)), 0.0)
            }
            Q4K | Q5K => {
                let nibbles = if KIND == Q5K { 48 } else { 16 };
                let packed = _mm256_loadu_si256(block.add(nibbles + index / 2 * 32).cast());
                let shifted = _mm256_srl_epi16(packed, _mm_cvtsi32_si128((index % 2 * 4) as i32));
                let (scale, least) = q4k_scales(std::slice::from_raw_parts(block.add(4), 12), index);
                let scales = _mm256_set1_ps(half(block) * f32::from(scale));
                let mut integers = _mm256_and_si256(shifted, low);
                if KIND == Q5K {
                    let fifths = _mm256_loadu_si256(block.add(16).cast());
                    let fifths = _mm256_srl_epi16(fifths, _mm_cvtsi32_si128(index as i32));
                    let fifths = _mm256_slli_epi16::<4>(_mm256_and_si256(fifths, _mm256_set1_epi8(1)));
                    integers = _mm256_or_si256(integers, fifths);
                }
                (integers, scales, half(block.add(2)) * f32::from(least))
            }
            _ => {
                let (half_of_block, quarter) = (index / 4, index % 4);
                let packed = _mm256_loadu_si256(block.add(half_of_block * 64 + quarter % 2 * 32).cast());
                let high = _mm256_loadu_si256(block.add(128 + half_of_block * 32).cast());
                let packed = _mm256_srl_epi16(packed, _mm_cvtsi32_si128((quarter / 2 * 4) as i32));
                let high = _mm256_srl_epi16(high, _mm_cvtsi32_si128((quarter * 2) as i32));
                let high = _mm256_slli_epi16::<4>(_mm256_and_si256(high, _mm256_set1_epi8(3)));
                let integers = _mm256_or_si256(_mm256_and_si256(packed, low), high);
                let integers = _mm256_sub_epi8(integers, _mm256_set1_epi8(32));
                let scale = half(block.add(208));
                let scales = block.add(192 + half_of_block * 8 + quarter * 2);
                let first = _mm_set1_ps(scale * f32::from(*scales as i8));
                let second = _mm_set1_ps(scale * f32::from(*scales.add(1) as i8));
                (integers, _mm256_set_m128(second, first), 0.0)
            }
        }
    }
}

/// # Safety
///
/// Two bytes must be readable.
#[inline]
#[target_feature(enable = "f16c")]
unsafe fn half(bytes: *const u8) -> f32 {
    // SAFETY: the caller's promise.
    let bits = unsafe { bytes.cast::<u16>().read_unaligned() };
    _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(bits))))
}
