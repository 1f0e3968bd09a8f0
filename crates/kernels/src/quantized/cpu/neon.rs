//! Products of integers with NEON: a panel of eight columns, four neighbors of each in every lane of 32 bits.
//!
//! Products are added in 16 bits as long as the sum fits, then in 32. `sdot`, which adds four products to a lane at once, is not
//! used: its functions in `std::arch` (`vdotq_s32`) are not stable in Rust 1.95.

use std::arch::aarch64::*;
use std::arch::asm;

use super::kinds::{HALF, Q4_0, Q4K, Q5K, Q6K, Q8_0, for_kind, has_minimum, kind, scales};
use super::panel::{Line, MINIMUM, SCALE, SECOND_SCALE, STRIDE};
use super::{COLUMNS, ROWS};
use crate::quantized::Matrix;
use crate::quantized::activations::Activations;
use crate::quantized::blocks::{BLOCK, WeightType, q4k_scales};

/// Rows of a tile: with its columns, as many sums as fit in the registers.
const AT_ONCE: usize = 2;

const ONE: usize = 1;

/// Numbers of a vector of 32-bit floats.
const LANES: usize = 4;

pub(super) fn is_present() -> bool {
    // The panel has four bytes as the number that a little-endian CPU reads them as.
    cfg!(target_endian = "little") && std::arch::is_aarch64_feature_detected!("neon")
}

/// The largest absolute value of a type's integers.
const fn largest(kind: u8) -> usize {
    match kind {
        Q8_0 => 128,
        Q4_0 => 8,
        Q4K => 15,
        Q5K => 31,
        _ => 32,
    }
}

/// Parts of a block of 32 that have their own scale.
const fn parts_of(kind: u8) -> usize {
    if kind == Q6K { 2 } else { 1 }
}

/// How many products of a type's integers with activations, which are at most 127, are added in 16 bits: all of a part, or as
/// many as fit.
const fn in_16_bits(kind: u8) -> usize {
    let all = 8 / parts_of(kind);
    let most = i16::MAX as usize / (127 * largest(kind));
    if most < all {
        assert!(all.is_multiple_of(most));
        most
    } else {
        all
    }
}

/// Unpacks some columns, from the first and how many.
pub(super) fn pack(weight: Matrix<'_>, [first, columns]: [usize; 2], panel: &mut [Line]) {
    assert!(0 < columns && first + columns <= weight.rows && panel.len() >= weight.columns / BLOCK * STRIDE);
    let lines = weight.lines([first, columns]);
    // SAFETY: this function is only chosen where `is_present`; the rows and the panel are as long as the sizes say.
    unsafe { for_kind!(pack_lines, weight.kind, (weight, lines, panel.as_mut_ptr())) }
}

/// # Safety
///
/// The lines are rows of the matrix, and the panel holds all their blocks.
#[target_feature(enable = "neon")]
unsafe fn pack_lines<const KIND: u8>(weight: Matrix<'_>, lines: [*const u8; HALF], panel: *mut Line) {
    let blocks = weight.columns / BLOCK;
    let (values, bytes) = kind(KIND).block();
    let parts = values / BLOCK;
    let low = vdupq_n_u8(0x0f);
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
                prefetch(ahead);
                ahead = ahead.wrapping_add(64);
            }
            let (at, index) = (block / parts * bytes, block % parts);
            let out = panel.add(block * STRIDE);
            // Two vectors per four bytes of each column.
            let mut quads = [vdupq_n_u8(0); 16];
            match KIND {
                Q8_0 => columns_of(&lines, at + 2, &mut quads),
                Q4_0 => {
                    half_columns_of(&lines, at + 2, &mut quads[..8]);
                    for i in 0..8 {
                        quads[8 + i] = vshrq_n_u8::<4>(quads[i]);
                        quads[i] = vandq_u8(quads[i], low);
                    }
                }
                Q4K | Q5K => {
                    let nibbles = if KIND == Q5K { 48 } else { 16 };
                    columns_of(&lines, at + nibbles + index / 2 * 32, &mut quads);
                    for i in 0..16 {
                        quads[i] = vandq_u8(right(quads[i], index % 2 * 4), low);
                    }
                    if KIND == Q5K {
                        let mut fifths = quads;
                        columns_of(&lines, at + 16, &mut fifths);
                        for i in 0..16 {
                            let fifth = vandq_u8(right(fifths[i], index), vdupq_n_u8(1));
                            quads[i] = vorrq_u8(quads[i], vshlq_n_u8::<4>(fifth));
                        }
                    }
                }
                _ => {
                    let (half_of_block, quarter) = (index / 4, index % 4);
                    columns_of(&lines, at + half_of_block * 64 + quarter % 2 * 32, &mut quads);
                    let mut high = quads;
                    columns_of(&lines, at + 128 + half_of_block * 32, &mut high);
                    for i in 0..16 {
                        let nibble = vandq_u8(right(quads[i], quarter / 2 * 4), low);
                        let high = vandq_u8(right(high[i], quarter * 2), vdupq_n_u8(3));
                        quads[i] = vorrq_u8(nibble, vshlq_n_u8::<4>(high));
                    }
                }
            }
            // Q8_0 is stored with a sign, the others without one.
            let shift = match KIND {
                Q4_0 => 8,
                Q6K => 32,
                _ => 0,
            };
            for i in 0..8 {
                let out = out.add(i).cast::<u8>();
                for half in 0..2 {
                    vst1q_u8(out.add(16 * half), vsubq_u8(quads[2 * i + half], vdupq_n_u8(shift)));
                }
            }
        }
    }
}

scales!("neon");

/// Bytes shifted to the right by so many bits.
#[inline]
#[target_feature(enable = "neon")]
fn right(bytes: uint8x16_t, bits: usize) -> uint8x16_t {
    vshlq_u8(bytes, vdupq_n_s8(-(bits as i8)))
}

/// 32 bytes of each line from `at`: two vectors per four bytes, a lane per line.
///
/// # Safety
///
/// The bytes are readable.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn columns_of(lines: &[*const u8; HALF], at: usize, quads: &mut [uint8x16_t; 16]) {
    let (first, second) = quads.split_at_mut(8);
    // SAFETY: the caller's promise.
    unsafe {
        half_columns_of(lines, at, first);
        half_columns_of(lines, at + 16, second);
    }
}

/// 16 bytes of each line from `at`, in eight vectors.
///
/// # Safety
///
/// The bytes are readable.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn half_columns_of(lines: &[*const u8; HALF], at: usize, quads: &mut [uint8x16_t]) {
    for half in 0..2 {
        let mut fours = [vdupq_n_u32(0); 4];
        for i in 0..4 {
            // SAFETY: the caller's promise.
            fours[i] = vreinterpretq_u32_u8(unsafe { vld1q_u8(lines[4 * half + i].add(at)) });
        }
        let [a, b, c, d] = fours;
        let (ab_low, ab_high) = (pairs(vzip1q_u32(a, b)), pairs(vzip2q_u32(a, b)));
        let (cd_low, cd_high) = (pairs(vzip1q_u32(c, d)), pairs(vzip2q_u32(c, d)));
        quads[half] = vreinterpretq_u8_u64(vzip1q_u64(ab_low, cd_low));
        quads[2 + half] = vreinterpretq_u8_u64(vzip2q_u64(ab_low, cd_low));
        quads[4 + half] = vreinterpretq_u8_u64(vzip1q_u64(ab_high, cd_high));
        quads[6 + half] = vreinterpretq_u8_u64(vzip2q_u64(ab_high, cd_high));
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn pairs(lanes: uint32x4_t) -> uint64x2_t {
    vreinterpretq_u64_u32(lanes)
}

/// The sums of some rows and the columns of a panel.
pub(super) fn rows(
    kind: WeightType,
    x: &Activations,
    panel: &[Line],
    [row, rows]: [usize; 2],
    sums: &mut [[f32; COLUMNS]; ROWS],
) {
    let blocks = x.columns / BLOCK;
    assert!(0 < rows && rows <= ROWS && row + rows <= x.rows() && panel.len() >= blocks * STRIDE);
    // SAFETY: this function is only chosen where `is_present`, and the assertion keeps all reads within the operands.
    unsafe {
        for first in (0..rows).step_by(AT_ONCE) {
            let sums = &mut sums[first..];
            if rows - first >= AT_ONCE {
                for_kind!(tile::AT_ONCE, kind, (x, panel.as_ptr(), row + first, sums));
            } else {
                for_kind!(tile::ONE, kind, (x, panel.as_ptr(), row + first, sums));
            }
        }
    }
}

/// # Safety
///
/// Rows must be within the activations and the sums, and the panel must hold as many blocks.
#[target_feature(enable = "neon")]
unsafe fn tile<const KIND: u8, const R: usize>(
    x: &Activations,
    panel: *const Line,
    row: usize,
    sums: &mut [[f32; COLUMNS]],
) {
    let blocks = x.columns / BLOCK;
    let mut totals = [[vdupq_n_f32(0.0); 2]; R];
    let mut minima = [[vdupq_n_f32(0.0); 2]; R];
    let quads = 8 / parts_of(KIND);
    for block in 0..blocks {
        // SAFETY: the block is within the panel and the rows.
        unsafe {
            let from = panel.add(block * STRIDE);
            for part in 0..parts_of(KIND) {
                // Two columns per vector of eight bytes, so two lanes per column.
                let mut integers = [[vdupq_n_s32(0); 4]; R];
                let at_once = const { in_16_bits(KIND) };
                for first in (part * quads..(part + 1) * quads).step_by(at_once) {
                    let mut products = [[vdupq_n_s16(0); 4]; R];
                    for i in first..first + at_once {
                        let line = from.add(i).cast::<i8>();
                        let mut quad = [vdup_n_s8(0); 4];
                        for pair in 0..4 {
                            quad[pair] = vld1_s8(line.add(8 * pair));
                        }
                        for r in 0..R {
                            let place = ((row + r) * blocks + block) * BLOCK + 4 * i;
                            let four = x.integers.as_ptr().add(place).cast::<i32>().read_unaligned();
                            let four = vreinterpret_s8_s32(vdup_n_s32(four));
                            for pair in 0..4 {
                                products[r][pair] = vmlal_s8(products[r][pair], quad[pair], four);
                            }
                        }
                    }
                    for r in 0..R {
                        for pair in 0..4 {
                            integers[r][pair] = vpadalq_s16(integers[r][pair], products[r][pair]);
                        }
                    }
                }
                let line = from.add(if part == 0 { SCALE } else { SECOND_SCALE }).cast::<f32>();
                for half in 0..2 {
                    let scale = vld1q_f32(line.add(LANES * half));
                    for r in 0..R {
                        let scale = vmulq_n_f32(scale, *x.scales.get_unchecked((row + r) * blocks + block));
                        let sum = vcvtq_f32_s32(vpaddq_s32(integers[r][2 * half], integers[r][2 * half + 1]));
                        totals[r][half] = vfmaq_f32(totals[r][half], sum, scale);
                    }
                }
            }
            if has_minimum(KIND) {
                let line = from.add(MINIMUM).cast::<f32>();
                for half in 0..2 {
                    let least = vld1q_f32(line.add(LANES * half));
                    for r in 0..R {
                        let sum = *x.sums.get_unchecked((row + r) * blocks + block);
                        minima[r][half] = vfmaq_n_f32(minima[r][half], least, sum);
                    }
                }
            }
        }
    }
    for r in 0..R {
        for half in 0..2 {
            let sum = vsubq_f32(totals[r][half], minima[r][half]);
            // SAFETY: a row of sums has room for two vectors.
            unsafe { vst1q_f32(sums[r].as_mut_ptr().add(LANES * half), sum) };
        }
    }
}

/// # Safety
///
/// Two bytes must be readable.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn half(bytes: *const u8) -> f32 {
    // SAFETY: the caller's promise.
    let bits = unsafe { bytes.cast::<u16>().read_unaligned() };
    vgetq_lane_f32::<0>(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(bits))))
}

/// Asks memory for a line of the cache. Assembly, because the function of `std::arch` is not stable in Rust 1.95 either.
#[inline]
fn prefetch(address: *const u8) {
    // SAFETY: the instruction never faults and changes no register.
    unsafe { asm!("prfm pldl1keep, [{}]", in(reg) address, options(readonly, nostack, preserves_flags)) };
}
