//! Products of integers with AVX-512 VNNI: a panel of sixteen columns, four neighbors of each in every lane.

use std::arch::x86_64::*;

use super::avx2::{self, for_kind_and_rows, for_rows};
use super::kinds::{Q4_0, Q4K, Q5K, Q6K, Q8_0, for_kind, has_minimum, kind};
use super::panel::{Line, MINIMUM, SCALE, SECOND_SCALE, STRIDE};
use super::{COLUMNS, ROWS};
use crate::quantized::Matrix;
use crate::quantized::activations::Activations;
use crate::quantized::blocks::{BLOCK, WeightType};

pub(super) fn is_present() -> bool {
    avx2::is_present()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vnni")
}

pub(super) fn pack(weight: Matrix<'_>, [first, columns]: [usize; 2], panel: &mut [Line]) {
    assert!(0 < columns && first + columns <= weight.rows && panel.len() >= weight.columns / BLOCK * STRIDE);
    let lines = weight.lines([first, columns]);
    // SAFETY: this function is only chosen where `is_present`; the rows and the panel are as long as the sizes say.
    unsafe { for_kind!(pack_lines, weight.kind, (weight, lines, panel.as_mut_ptr())) }
}

/// # Safety
///
/// The lines are rows of the matrix, and the panel holds all their blocks.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn pack_lines<const KIND: u8>(weight: Matrix<'_>, lines: [*const u8; COLUMNS], panel: *mut Line) {
    let blocks = weight.columns / BLOCK;
    let mut ahead = lines[0].wrapping_add(COLUMNS * weight.row_bytes);
    // SAFETY: the caller's promise.
    unsafe {
        all_scales::<KIND>(blocks, &lines, panel);
        for block in 0..blocks {
            ahead = prefetch::<KIND>(ahead);
            let quads = quads_of::<KIND>(&lines, block);
            let out = panel.add(block * STRIDE);
            for i in 0..8 {
                _mm512_store_si512(out.add(i).cast(), quads[i]);
            }
            if KIND == Q8_0 || KIND == Q4_0 {
                let scale = out.add(SCALE);
                _mm512_store_ps(scale.cast(), widened(scale));
            }
        }
    }
}

/// The scales of all blocks of a panel.
///
/// # Safety
///
/// The lines have as many blocks, and the panel holds them.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn all_scales<const KIND: u8>(blocks: usize, lines: &[*const u8; COLUMNS], panel: *mut Line) {
    let (values, bytes) = kind(KIND).block();
    let parts = values / BLOCK;
    for column in 0..COLUMNS {
        for block in 0..blocks / parts {
            // SAFETY: the caller's promise.
            unsafe {
                scales::<KIND>(
                    lines[column].add(block * bytes),
                    panel.add(block * parts * STRIDE),
                    column,
                )
            };
        }
    }
}

/// Asks for a block's part of the next panel, which is what memory has to bring next, and returns where the next part is; past the end it is
/// harmless.
#[inline]
#[target_feature(enable = "avx512f")]
fn prefetch<const KIND: u8>(mut ahead: *const u8) -> *const u8 {
    let (values, bytes) = kind(KIND).block();
    for _ in 0..(COLUMNS * bytes).div_ceil(64 * values / BLOCK) {
        _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
        ahead = ahead.wrapping_add(64);
    }
    ahead
}

/// Scales of Q8_0 and Q4_0 in single precision from the bits of halves.
///
/// # Safety
///
/// The line is readable.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn widened(scale: *const Line) -> __m512 {
    // SAFETY: the caller's promise.
    unsafe { _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_load_si512(scale.cast()))) }
}

/// The integers of a block of 32 of all lines, what is [`added`](avx2::added) to them included: a vector per four, a lane per line.
///
/// # Safety
///
/// The lines have as many blocks.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn quads_of<const KIND: u8>(lines: &[*const u8; COLUMNS], block: usize) -> [__m512i; 8] {
    let (values, bytes) = kind(KIND).block();
    let parts = values / BLOCK;
    let low = _mm512_set1_epi8(0x0f);
    let (at, index) = (block / parts * bytes, block % parts);
    let mut quads = [_mm512_setzero_si512(); 8];
    // SAFETY: the caller's promise; the offsets are those of the layouts.
    unsafe {
        match KIND {
            Q8_0 => {
                columns_of(lines, at + 2, &mut quads);
                for quad in &mut quads {
                    *quad = _mm512_xor_si512(*quad, _mm512_set1_epi8(-128));
                }
            }
            Q4_0 => {
                half_columns_of(lines, at + 2, &mut quads);
                for i in 0..4 {
                    quads[4 + i] = _mm512_and_si512(_mm512_srli_epi16::<4>(quads[i]), low);
                    quads[i] = _mm512_and_si512(quads[i], low);
                }
            }
            Q4K | Q5K => {
                let nibbles = if KIND == Q5K { 48 } else { 16 };
                columns_of(lines, at + nibbles + index / 2 * 32, &mut quads);
                let shift = _mm_cvtsi32_si128((index % 2 * 4) as i32);
                for quad in &mut quads {
                    *quad = _mm512_and_si512(_mm512_srl_epi16(*quad, shift), low);
                }
                if KIND == Q5K {
                    let mut fifths = quads;
                    columns_of(lines, at + 16, &mut fifths);
                    let shift = _mm_cvtsi32_si128(index as i32);
                    for i in 0..8 {
                        let fifth = _mm512_and_si512(_mm512_srl_epi16(fifths[i], shift), _mm512_set1_epi8(1));
                        quads[i] = _mm512_or_si512(quads[i], _mm512_slli_epi16::<4>(fifth));
                    }
                }
            }
            _ => {
                let (half_of_block, quarter) = (index / 4, index % 4);
                columns_of(lines, at + half_of_block * 64 + quarter % 2 * 32, &mut quads);
                let mut high = quads;
                columns_of(lines, at + 128 + half_of_block * 32, &mut high);
                let low_shift = _mm_cvtsi32_si128((quarter / 2 * 4) as i32);
                let high_shift = _mm_cvtsi32_si128((quarter * 2) as i32);
                for i in 0..8 {
                    let nibble = _mm512_and_si512(_mm512_srl_epi16(quads[i], low_shift), low);
                    let high = _mm512_and_si512(_mm512_srl_epi16(high[i], high_shift), _mm512_set1_epi8(3));
                    quads[i] = _mm512_or_si512(nibble, _mm512_slli_epi16::<4>(high));
                }
            }
        }
    }
    quads
}

/// The scales and minima of one block of one column, for all its parts; those of Q8_0 and Q4_0 still as the bits of a half.
///
/// # Safety
///
/// `block` is a whole block of the type, and `out` has the lines of its parts.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn scales<const KIND: u8>(block: *const u8, out: *mut Line, column: usize) {
    // SAFETY: the caller's promise; the offsets are those of the layouts.
    unsafe {
        match KIND {
            Q8_0 | Q4_0 => (*out.add(SCALE)).0[column] = u32::from(block.cast::<u16>().read_unaligned()),
            _ => avx2::scales::<KIND>(block, out, column),
        }
    }
}

/// 32 bytes of each line from `at`: a vector per four bytes, a lane per line.
///
/// # Safety
///
/// The bytes are readable.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn columns_of(lines: &[*const u8; COLUMNS], at: usize, quads: &mut [__m512i; 8]) {
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
#[target_feature(enable = "avx512f")]
unsafe fn half_columns_of(lines: &[*const u8; COLUMNS], at: usize, quads: &mut [__m512i; 8]) {
    let mut fours = [_mm512_setzero_si512(); 4];
    for i in 0..4 {
        // SAFETY: the caller's promise.
        unsafe {
            let four = _mm512_castsi128_si512(_mm_loadu_si128(lines[i].add(at).cast()));
            let four = _mm512_inserti32x4::<1>(four, _mm_loadu_si128(lines[i + 4].add(at).cast()));
            let four = _mm512_inserti32x4::<2>(four, _mm_loadu_si128(lines[i + 8].add(at).cast()));
            fours[i] = _mm512_inserti32x4::<3>(four, _mm_loadu_si128(lines[i + 12].add(at).cast()));
        }
    }
    let [a, b, c, d] = fours;
    let (ab_low, ab_high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let (cd_low, cd_high) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    quads[0] = _mm512_unpacklo_epi64(ab_low, cd_low);
    quads[1] = _mm512_unpackhi_epi64(ab_low, cd_low);
    quads[2] = _mm512_unpacklo_epi64(ab_high, cd_high);
    quads[3] = _mm512_unpackhi_epi64(ab_high, cd_high);
}

/// The sums of some rows and the columns of a panel. `starts` holds, per row and scale of a block, the sum of the activations times what was
/// added to the weights, negated.
pub(super) fn rows(
    kind: WeightType,
    x: &Activations,
    starts: &[i32],
    panel: &[Line],
    [row, rows]: [usize; 2],
    sums: &mut [[f32; COLUMNS]; ROWS],
) {
    check(kind, x, starts, panel, [row, rows]);
    // SAFETY: this function is only chosen where `is_present`, and the check keeps all reads within the operands.
    unsafe { for_kind_and_rows!(tile, kind, rows, (x, starts, panel.as_ptr(), row, sums)) }
}

/// The same for all rows, at most [`ROWS`], and the columns from the first and how many, without a panel in memory but for its scales: each
/// block is multiplied where it was unpacked.
pub(super) fn direct(
    weight: Matrix<'_>,
    x: &Activations,
    starts: &[i32],
    [first, columns]: [usize; 2],
    panel: &mut [Line],
    sums: &mut [[f32; COLUMNS]; ROWS],
) {
    check(weight.kind, x, starts, panel, [0, x.rows()]);
    assert!(0 < columns && first + columns <= weight.rows && weight.columns == x.columns);
    let lines = weight.lines([first, columns]);
    // SAFETY: as in `rows`; the lines are rows of the matrix.
    unsafe {
        for_kind_and_rows!(
            direct_tile,
            weight.kind,
            x.rows(),
            (weight, lines, x, starts, panel.as_mut_ptr(), sums)
        )
    }
}

fn check(kind: WeightType, x: &Activations, starts: &[i32], panel: &[Line], [row, rows]: [usize; 2]) {
    let blocks = x.columns / BLOCK;
    let scales = if kind == WeightType::Q6K { 2 } else { 1 };
    assert!(0 < rows && rows <= ROWS && row + rows <= x.rows() && panel.len() >= blocks * STRIDE);
    assert!(starts.len() >= x.rows() * blocks * scales);
}

/// # Safety
///
/// Rows must be within the activations, and the panel must hold as many blocks.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn tile<const KIND: u8, const R: usize>(
    x: &Activations,
    starts: &[i32],
    panel: *const Line,
    row: usize,
    sums: &mut [[f32; COLUMNS]; ROWS],
) {
    let mut totals = Totals::<R>::zero();
    for block in 0..x.columns / BLOCK {
        // SAFETY: the block is within the panel and the rows.
        unsafe {
            let from = panel.add(block * STRIDE);
            let mut quads = [_mm512_setzero_si512(); 8];
            for i in 0..8 {
                quads[i] = _mm512_load_si512(from.add(i).cast());
            }
            let scale = _mm512_load_ps(from.add(SCALE).cast());
            totals.add::<KIND>(x, starts, [row, block], &quads, scale, from);
        }
    }
    totals.write(sums);
}

/// # Safety
///
/// The lines are rows of the matrix, as long as those of the activations, of which there are `R`; the panel must hold as many blocks.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn direct_tile<const KIND: u8, const R: usize>(
    weight: Matrix<'_>,
    lines: [*const u8; COLUMNS],
    x: &Activations,
    starts: &[i32],
    panel: *mut Line,
    sums: &mut [[f32; COLUMNS]; ROWS],
) {
    let blocks = x.columns / BLOCK;
    let mut ahead = lines[0].wrapping_add(COLUMNS * weight.row_bytes);
    let mut totals = Totals::<R>::zero();
    // SAFETY: the caller's promise.
    unsafe {
        all_scales::<KIND>(blocks, &lines, panel);
        for block in 0..blocks {
            ahead = prefetch::<KIND>(ahead);
            let quads = quads_of::<KIND>(&lines, block);
            let from = panel.add(block * STRIDE);
            let scale = if KIND == Q8_0 || KIND == Q4_0 {
                widened(from.add(SCALE))
            } else {
                _mm512_load_ps(from.add(SCALE).cast())
            };
            totals.add::<KIND>(x, starts, [0, block], &quads, scale, from);
        }
    }
    totals.write(sums);
}

/// The sums of `R` rows and a panel's columns, and of what minima subtract from them.
struct Totals<const R: usize> {
    products: [__m512; R],
    minima: [__m512; R],
}

impl<const R: usize> Totals<R> {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn zero() -> Self {
        Self {
            products: [_mm512_setzero_ps(); R],
            minima: [_mm512_setzero_ps(); R],
        }
    }

    /// Adds a block, whose scales other than the first are in `panel`.
    ///
    /// # Safety
    ///
    /// The block must be within the rows, and the lines of the panel that its type has must be readable.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn add<const KIND: u8>(
        &mut self,
        x: &Activations,
        starts: &[i32],
        [row, block]: [usize; 2],
        quads: &[__m512i; 8],
        scale: __m512,
        panel: *const Line,
    ) {
        let blocks = x.columns / BLOCK;
        // Loops, not closures: a closure that another function calls is not compiled into this one with its instructions.
        // SAFETY: the caller's promise.
        unsafe {
            for r in 0..R {
                let place = (row + r) * blocks + block;
                let activations = x.integers.as_ptr().add(place * BLOCK).cast::<i32>();
                let factor = _mm512_set1_ps(*x.scales.get_unchecked(place));
                let parts = if KIND == Q6K { 2 } else { 1 };
                for part in 0..parts {
                    let mut sum = _mm512_set1_epi32(*starts.get_unchecked(place * parts + part));
                    for i in part * 4..part * 4 + 8 / parts {
                        let four = _mm512_set1_epi32(activations.add(i).read_unaligned());
                        sum = _mm512_dpbusd_epi32(sum, quads[i], four);
                    }
                    let scale = if part == 0 {
                        scale
                    } else {
                        _mm512_load_ps(panel.add(SECOND_SCALE).cast())
                    };
                    let scale = _mm512_mul_ps(scale, factor);
                    self.products[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale, self.products[r]);
                }
                if has_minimum(KIND) {
                    let least = _mm512_load_ps(panel.add(MINIMUM).cast());
                    let sum = _mm512_set1_ps(*x.sums.get_unchecked(place));
                    self.minima[r] = _mm512_fmadd_ps(least, sum, self.minima[r]);
                }
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn write(&self, sums: &mut [[f32; COLUMNS]; ROWS]) {
        for r in 0..R {
            let total = _mm512_sub_ps(self.products[r], self.minima[r]);
            // SAFETY: a row of sums has as many columns as a vector lanes.
            unsafe { _mm512_storeu_ps(sums[r].as_mut_ptr(), total) };
        }
    }
}
