//! A tile of the product with `vdpbf16ps`, and packing with AVX-512.

use std::arch::x86_64::*;

use half::bf16;

use super::{BLOCK_DEPTH, Block, LINES, Operands, TILE};

/// Rows of a tile that are summed in registers at a time, two vectors each.
const ROWS: usize = 8;

pub(super) fn is_present() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bf16")
}

/// `to = from + A B`, 32 x 32 numbers.
///
/// # Safety
///
/// The CPU must have the instructions, and all pointers reach over a whole tile.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) unsafe fn tile(operands: &Operands, from: Option<(*const f32, usize)>, to: (*mut f32, usize)) {
    for row in (0..TILE).step_by(ROWS) {
        let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
        // SAFETY: the caller's promise.
        unsafe {
            if let Some((from, stride)) = from {
                for i in 0..ROWS {
                    let from = from.add((row + i) * stride);
                    sums[i] = [_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(LINES))];
                }
            }
            let mut a = operands.a[row / LINES].byte_add(row % LINES * operands.row_bytes);
            let [mut b0, mut b1]: [*const i32; 2] = [operands.b[0].cast(), operands.b[1].cast()];
            for _ in 0..operands.blocks {
                for pair in 0..BLOCK_DEPTH / 2 {
                    let b = [_mm512_loadu_si512(b0.cast()), _mm512_loadu_si512(b1.cast())];
                    for i in 0..ROWS {
                        let factors = a.byte_add(i * operands.row_bytes).cast::<i32>().add(pair);
                        let factors = to_bh(_mm512_set1_epi32(factors.read_unaligned()));
                        sums[i][0] = _mm512_dpbf16_ps(sums[i][0], factors, to_bh(b[0]));
                        sums[i][1] = _mm512_dpbf16_ps(sums[i][1], factors, to_bh(b[1]));
                    }
                    (b0, b1) = (b0.add(LINES), b1.add(LINES));
                }
                a = a.byte_add(operands.step_bytes);
            }
            for i in 0..ROWS {
                let to = to.0.add((row + i) * to.1);
                _mm512_storeu_ps(to, sums[i][0]);
                _mm512_storeu_ps(to.add(LINES), sums[i][1]);
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn to_bh(x: __m512i) -> __m512bh {
    // SAFETY: 64 bytes of any kind are 32 numbers.
    unsafe { std::mem::transmute::<__m512i, __m512bh>(x) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn from_bh(x: __m512bh) -> __m512i {
    // SAFETY: as above.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(x) }
}

/// The low `count` bits.
fn mask(count: usize) -> u32 {
    if count >= 32 { u32::MAX } else { (1 << count) - 1 }
}

/// Where one block is read: its first number, the numbers between lines, and between neighbors of a line.
#[derive(Clone, Copy)]
pub(super) struct Place<T> {
    pub(super) ptr: *const T,
    pub(super) line_stride: usize,
    pub(super) depth_stride: usize,
}

/// A block line by line where `PAIRS` is false, else pair by pair; what is past `lines` and `depth` is zeros. Lines or
/// depth must be contiguous.
///
/// # Safety
///
/// The CPU must have the instructions, and the place must reach over `lines` and `depth`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) unsafe fn block_of_singles<const PAIRS: bool>(
    place: Place<f32>,
    [lines, depth]: [usize; 2],
    out: &mut Block,
) {
    let mut rows = [_mm512_setzero_si512(); LINES];
    let Place {
        ptr,
        line_stride,
        depth_stride,
    } = place;
    // SAFETY: masked parts of a vector are not read.
    unsafe {
        if depth_stride == 1 {
            let mask = mask(depth);
            for line in 0..lines.min(LINES) {
                let from = ptr.add(line * line_stride);
                let low = _mm512_maskz_loadu_ps(mask as u16, from);
                let high = _mm512_maskz_loadu_ps((mask >> 16) as u16, from.wrapping_add(LINES));
                rows[line] = from_bh(_mm512_cvtne2ps_pbh(high, low));
            }
        } else {
            let mask = mask(lines) as u16;
            let pairs = interleaved();
            for pair in 0..depth.min(BLOCK_DEPTH).div_ceil(2) {
                let from = ptr.add(2 * pair * depth_stride);
                let first = _mm512_maskz_loadu_ps(mask, from);
                let mask = if 2 * pair + 1 < depth { mask } else { 0 };
                let second = _mm512_maskz_loadu_ps(mask, from.wrapping_add(depth_stride));
                let both = from_bh(_mm512_cvtne2ps_pbh(second, first));
                rows[pair] = _mm512_permutexvar_epi16(pairs, both);
            }
        }
    }
    store(&mut rows, PAIRS == (depth_stride == 1), out);
}

/// As [`block_of_singles`] of numbers that are rounded already.
///
/// # Safety
///
/// As there.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) unsafe fn block_of_halves<const PAIRS: bool>(
    place: Place<bf16>,
    [lines, depth]: [usize; 2],
    out: &mut Block,
) {
    let mut rows = [_mm512_setzero_si512(); LINES];
    let Place {
        ptr,
        line_stride,
        depth_stride,
    } = place;
    let ptr: *const i16 = ptr.cast();
    // SAFETY: masked parts of a vector are not read.
    unsafe {
        if depth_stride == 1 {
            let mask = mask(depth);
            for line in 0..lines.min(LINES) {
                rows[line] = _mm512_maskz_loadu_epi16(mask, ptr.add(line * line_stride));
            }
        } else {
            let mask = mask(lines) as u16;
            for pair in 0..depth.min(BLOCK_DEPTH).div_ceil(2) {
                let from = ptr.add(2 * pair * depth_stride);
                let first = _mm256_maskz_loadu_epi16(mask, from);
                let mask = if 2 * pair + 1 < depth { mask } else { 0 };
                let second = _mm256_maskz_loadu_epi16(mask, from.wrapping_add(depth_stride));
                let second = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(second));
                rows[pair] = _mm512_or_si512(_mm512_cvtepu16_epi32(first), second);
            }
        }
    }
    store(&mut rows, PAIRS == (depth_stride == 1), out);
}

/// Takes number `i` of the low half and number `i` of the high half next to each other.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn interleaved() -> __m512i {
    let mut order = [0_i16; 32];
    for (i, order) in order.iter_mut().enumerate() {
        *order = (i / 2 + i % 2 * LINES) as i16;
    }
    // SAFETY: 64 bytes are there.
    unsafe { _mm512_loadu_si512(order.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn store(rows: &mut [__m512i; LINES], is_transposed: bool, out: &mut Block) {
    if is_transposed {
        transpose(rows);
    }
    for i in 0..LINES {
        // SAFETY: a block is 16 vectors.
        unsafe { _mm512_store_si512(out.0.as_mut_ptr().add(i * BLOCK_DEPTH).cast(), rows[i]) };
    }
}

/// 16 x 16 pairs of numbers: by pairs of rows, pairs of pairs, and quarters.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn transpose(rows: &mut [__m512i; LINES]) {
    let mut next = [_mm512_setzero_si512(); LINES];
    for i in 0..LINES / 2 {
        next[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
        next[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
    }
    for i in 0..LINES / 4 {
        let at = 4 * i;
        rows[at] = _mm512_unpacklo_epi64(next[at], next[at + 2]);
        rows[at + 1] = _mm512_unpackhi_epi64(next[at], next[at + 2]);
        rows[at + 2] = _mm512_unpacklo_epi64(next[at + 1], next[at + 3]);
        rows[at + 3] = _mm512_unpackhi_epi64(next[at + 1], next[at + 3]);
    }
    // Now quarter q of row 4 i + j holds column 4 q + j of rows 4 i to 4 i + 3.
    for j in 0..4 {
        let near = _mm512_shuffle_i32x4::<0x44>(rows[j], rows[4 + j]);
        let near_far = _mm512_shuffle_i32x4::<0xee>(rows[j], rows[4 + j]);
        let far = _mm512_shuffle_i32x4::<0x44>(rows[8 + j], rows[12 + j]);
        let far_far = _mm512_shuffle_i32x4::<0xee>(rows[8 + j], rows[12 + j]);
        next[j] = _mm512_shuffle_i32x4::<0x88>(near, far);
        next[4 + j] = _mm512_shuffle_i32x4::<0xdd>(near, far);
        next[8 + j] = _mm512_shuffle_i32x4::<0x88>(near_far, far_far);
        next[12 + j] = _mm512_shuffle_i32x4::<0xdd>(near_far, far_far);
    }
    *rows = next;
}

/// Rounds `len` numbers; `to` may begin where `from` does.
///
/// # Safety
///
/// The CPU must have the instructions, and both pointers reach over `len` numbers.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) unsafe fn round(from: *const f32, to: *mut bf16, len: usize) {
    for at in (0..len).step_by(BLOCK_DEPTH) {
        let mask = mask(len - at);
        // SAFETY: masked parts are neither read nor written; a vector is read before it is written, and writing is never ahead.
        unsafe {
            let from = from.add(at);
            let low = _mm512_maskz_loadu_ps(mask as u16, from);
            let high = _mm512_maskz_loadu_ps((mask >> 16) as u16, from.wrapping_add(LINES));
            let both = from_bh(_mm512_cvtne2ps_pbh(high, low));
            _mm512_mask_storeu_epi16(to.add(at).cast(), mask, both);
        }
    }
}
