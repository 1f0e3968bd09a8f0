//! Products of integers with AVX2: a panel of eight columns, four neighbors of each in every lane. AVX-VNNI shares all but the dot product.

use std::arch::x86_64::*;

use super::kinds::{HALF, Q4_0, Q4K, Q5K, Q6K, Q8_0, for_kind, has_minimum, kind, scales};
use super::panel::{Line, MINIMUM, SCALE, SECOND_SCALE, STRIDE};
use super::{COLUMNS, ROWS};
use crate::quantized::Matrix;
use crate::quantized::activations::Activations;
use crate::quantized::blocks::{BLOCK, WeightType, q4k_scales};

/// Rows of a tile.
pub(super) const AT_ONCE: usize = 4;

pub(super) fn is_present() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}

/// What is added to the integers of a type in a panel, because one factor of `vpdpbusd` must be without a sign.
pub(super) const fn added(kind: WeightType) -> i32 {
    match kind {
        WeightType::Q8_0 => 128,
        WeightType::Q4_0 => 8,
        WeightType::Q6K => 32,
        _ => 0,
    }
}

/// Calls a function for a type and a number of rows, as constants.
macro_rules! for_kind_and_rows {
    ($function:ident, $kind:expr, $rows:expr, $arguments:tt) => {
        match $kind {
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

/// The products of a panel of eight columns by the function `dot` of the module, with its instructions and whether something is [`added`]
/// to the weights. A macro, because a function that another one is given is not compiled into it with its instructions.
macro_rules! products {
    ($instructions:tt, $is_added:literal) => {
        /// The sums of some rows and the columns of a panel. `starts` holds, per row and scale of a block, the sum of the activations times
        /// what was added to the weights, negated; where nothing was, it is not read.
        pub(super) fn rows(
            kind: WeightType,
            x: &Activations,
            starts: &[i32],
            panel: &[Line],
            [row, rows]: [usize; 2],
            sums: &mut [[f32; COLUMNS]; ROWS],
        ) {
            let blocks = x.columns / BLOCK;
            let scales = if kind == WeightType::Q6K { 2 } else { 1 };
            let read = if $is_added { x.rows() * blocks * scales } else { 0 };
            assert!(0 < rows && rows <= ROWS && row + rows <= x.rows() && panel.len() >= blocks * STRIDE);
            assert!(starts.len() >= read);
            // SAFETY: this function is only chosen where `is_present`, and the assertions keep all reads within the operands.
            unsafe {
                // As many rows at a time as sums fit in the registers.
                for first in (0..rows).step_by(AT_ONCE) {
                    let sums = &mut sums[first..];
                    let (at, count) = (row + first, AT_ONCE.min(rows - first));
                    for_kind_and_rows!(tile, kind, count, (x, starts, panel.as_ptr(), at, sums));
                }
            }
        }

        /// # Safety
        ///
        /// Rows must be within the activations, the starts and the sums, and the panel must hold as many blocks.
        #[target_feature(enable = $instructions)]
        unsafe fn tile<const KIND: u8, const R: usize>(
            x: &Activations,
            starts: &[i32],
            panel: *const Line,
            row: usize,
            sums: &mut [[f32; COLUMNS]],
        ) {
            let blocks = x.columns / BLOCK;
            let mut totals = [_mm256_setzero_ps(); R];
            let mut minima = [_mm256_setzero_ps(); R];
            for block in 0..blocks {
                // SAFETY: the block is within the panel and the rows.
                unsafe {
                    // Loops, not closures: a closure that another function calls is not compiled into this one with its instructions.
                    let from = panel.add(block * STRIDE);
                    let parts = if KIND == Q6K { 2 } else { 1 };
                    for part in 0..parts {
                        let mut integers = [_mm256_setzero_si256(); R];
                        if $is_added {
                            for r in 0..R {
                                let place = ((row + r) * blocks + block) * parts + part;
                                integers[r] = _mm256_set1_epi32(*starts.get_unchecked(place));
                            }
                        }
                        for i in part * 4..part * 4 + 8 / parts {
                            let quad = _mm256_load_si256(from.add(i).cast());
                            for r in 0..R {
                                let place = ((row + r) * blocks + block) * BLOCK + 4 * i;
                                let four = x.integers.as_ptr().add(place).cast::<i32>().read_unaligned();
                                integers[r] = dot(integers[r], quad, _mm256_set1_epi32(four));
                            }
                        }
                        let line = if part == 0 { SCALE } else { SECOND_SCALE };
                        let scale = _mm256_load_ps(from.add(line).cast());
                        for r in 0..R {
                            let factor = _mm256_set1_ps(*x.scales.get_unchecked((row + r) * blocks + block));
                            let scale = _mm256_mul_ps(scale, factor);
                            totals[r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(integers[r]), scale, totals[r]);
                        }
                    }
                    if has_minimum(KIND) {
                        let least = _mm256_load_ps(from.add(MINIMUM).cast());
                        for r in 0..R {
                            let sum = _mm256_set1_ps(*x.sums.get_unchecked((row + r) * blocks + block));
                            minima[r] = _mm256_fmadd_ps(least, sum, minima[r]);
                        }
                    }
                }
            }
            for r in 0..R {
                // SAFETY: a row of sums has room for more lanes than a vector has.
                unsafe { _mm256_storeu_ps(sums[r].as_mut_ptr(), _mm256_sub_ps(totals[r], minima[r])) };
            }
        }
    };
}

pub(super) use {for_kind_and_rows, for_rows, products};

/// Unpacks some columns, from the first and how many; where `IS_ADDED`, with what is [`added`] to the integers of the type.
pub(super) fn pack<const IS_ADDED: bool>(weight: Matrix<'_>, [first, columns]: [usize; 2], panel: &mut [Line]) {
    assert!(0 < columns && first + columns <= weight.rows && panel.len() >= weight.columns / BLOCK * STRIDE);
    let lines = weight.lines([first, columns]);
    // SAFETY: this function is only chosen where `is_present`; the rows and the panel are as long as the sizes say.
    unsafe { for_kind!(pack_lines::IS_ADDED, weight.kind, (weight, lines, panel.as_mut_ptr())) }
}

/// # Safety
///
/// The lines are rows of the matrix, and the panel holds all their blocks.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn pack_lines<const KIND: u8, const IS_ADDED: bool>(
    weight: Matrix<'_>,
    lines: [*const u8; HALF],
    panel: *mut Line,
) {
    let blocks = weight.columns / BLOCK;
    let (values, bytes) = kind(KIND).block();
    let parts = values / BLOCK;
    let low = _mm256_set1_epi8(0x0f);
    // SAFETY: the caller's promise; the offsets are those of the layouts.
    unsafe {
        for (column, line) in lines.into_iter().enumerate() {
            for block in 0..blocks / parts {
                scales::<KIND>(line.add(block * bytes), panel.add(block * parts * STRIDE), column);
            }
        }
        let mut ahead = lines[0].wrapping_add(HALF * weight.row_bytes);
        for block in 0..blocks {
            // The next panel is what memory has to bring next; a prefetch past the end is harmless.
            for _ in 0..(HALF * bytes).div_ceil(64 * parts) {
                _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
                ahead = ahead.wrapping_add(64);
            }
            let (at, index) = (block / parts * bytes, block % parts);
            let out = panel.add(block * STRIDE);
            let mut quads = [_mm256_setzero_si256(); 8];
            match KIND {
                Q8_0 => columns_of(&lines, at + 2, &mut quads),
                Q4_0 => {
                    half_columns_of(&lines, at + 2, &mut quads);
                    for i in 0..4 {
                        quads[4 + i] = _mm256_and_si256(_mm256_srli_epi16::<4>(quads[i]), low);
                        quads[i] = _mm256_and_si256(quads[i], low);
                    }
                }
                Q4K | Q5K => {
                    let nibbles = if KIND == Q5K { 48 } else { 16 };
                    columns_of(&lines, at + nibbles + index / 2 * 32, &mut quads);
                    let shift = _mm_cvtsi32_si128((index % 2 * 4) as i32);
                    for quad in &mut quads {
                        *quad = _mm256_and_si256(_mm256_srl_epi16(*quad, shift), low);
                    }
                    if KIND == Q5K {
                        let mut fifths = quads;
                        columns_of(&lines, at + 16, &mut fifths);
                        let shift = _mm_cvtsi32_si128(index as i32);
                        for i in 0..8 {
                            let fifth = _mm256_and_si256(_mm256_srl_epi16(fifths[i], shift), _mm256_set1_epi8(1));
                            quads[i] = _mm256_or_si256(quads[i], _mm256_slli_epi16::<4>(fifth));
                        }
                    }
                }
                _ => {
                    let (half_of_block, quarter) = (index / 4, index % 4);
                    columns_of(&lines, at + half_of_block * 64 + quarter % 2 * 32, &mut quads);
                    let mut high = quads;
                    columns_of(&lines, at + 128 + half_of_block * 32, &mut high);
                    let low_shift = _mm_cvtsi32_si128((quarter / 2 * 4) as i32);
                    let high_shift = _mm_cvtsi32_si128((quarter * 2) as i32);
                    for i in 0..8 {
                        let nibble = _mm256_and_si256(_mm256_srl_epi16(quads[i], low_shift), low);
                        let high = _mm256_and_si256(_mm256_srl_epi16(high[i], high_shift), _mm256_set1_epi8(3));
                        quads[i] = _mm256_or_si256(nibble, _mm256_slli_epi16::<4>(high));
                    }
                }
            }
            // Q8_0 is stored with a sign, the others without one.
            let shift: i8 = match KIND {
                Q8_0 if IS_ADDED => -128,
                Q4_0 if !IS_ADDED => -8,
                Q6K if !IS_ADDED => -32,
                _ => 0,
            };
            if shift != 0 {
                for quad in &mut quads {
                    *quad = _mm256_add_epi8(*quad, _mm256_set1_epi8(shift));
                }
            }
            for i in 0..8 {
                _mm256_store_si256(out.add(i).cast(), quads[i]);
            }
        }
    }
}

scales!("avx2,fma,f16c");

/// 32 bytes of each line from `at`: a vector per four bytes, a lane per line.
///
/// # Safety
///
/// The bytes are readable.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn columns_of(lines: &[*const u8; HALF], at: usize, quads: &mut [__m256i; 8]) {
    let mut second = *quads;
    // SAFETY: the caller's promise.
    unsafe {
        half_columns_of(lines, at, quads);
        half_columns_of(lines, at + 16, &mut second);
    }
    quads[4..].copy_from_slice(&second[..4]);
}

/// 16 bytes of each line from `at`, in the first four vectors.
///
/// # Safety
///
/// The bytes are readable.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn half_columns_of(lines: &[*const u8; HALF], at: usize, quads: &mut [__m256i; 8]) {
    let mut fours = [_mm256_setzero_si256(); 4];
    for i in 0..4 {
        // SAFETY: the caller's promise.
        unsafe {
            let four = _mm256_castsi128_si256(_mm_loadu_si128(lines[i].add(at).cast()));
            fours[i] = _mm256_inserti128_si256::<1>(four, _mm_loadu_si128(lines[i + 4].add(at).cast()));
        }
    }
    let [a, b, c, d] = fours;
    let (ab_low, ab_high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let (cd_low, cd_high) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
    quads[0] = _mm256_unpacklo_epi64(ab_low, cd_low);
    quads[1] = _mm256_unpackhi_epi64(ab_low, cd_low);
    quads[2] = _mm256_unpacklo_epi64(ab_high, cd_high);
    quads[3] = _mm256_unpackhi_epi64(ab_high, cd_high);
}

/// The dot products of four weights and activations, added to the lanes of `sum`.
#[inline]
#[target_feature(enable = "avx2")]
fn dot(sum: __m256i, weights: __m256i, activations: __m256i) -> __m256i {
    // The first factor must be without a sign, so that of the weight goes to the activation. The sum of two products stays within 16 bits
    // because an activation is at most 127.
    let signed = _mm256_sign_epi8(activations, weights);
    let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(weights), signed);
    _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
}

products!("avx2,fma,f16c", false);

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
