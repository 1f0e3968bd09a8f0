//! Products of few rows with lines that are read in place: every number is one chain of fused multiply-adds, as it is in a tile.

use super::*;

/// The most rows of a block: with the vectors of [`wide_vectors`], as many sums as fit in the registers.
const MAX_ROWS: usize = 6;

/// Vectors of a wide block's row.
#[inline(always)]
const fn wide_vectors<S: Simd>() -> usize {
    if S::F32_LANES == 8 { 2 } else { 4 }
}

/// How many columns a wide block has.
#[inline(always)]
pub(crate) const fn wide_columns<S: Simd>() -> usize {
    wide_vectors::<S>() * S::F32_LANES
}

/// Where the sums of [`chains`] start.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// At zero; C may be uninitialized.
    Zero,
    /// At what is in C: the chains continue.
    Continue,
}

/// Adds the products of `k` columns of A and lines of B to the sums in C, in order, each sum by one chain of fused multiply-adds. Rows of
/// all three are contiguous.
///
/// A sum does not depend on how many rows and columns there are, nor on where a chain was interrupted.
///
/// # Safety
///
/// As [`matmul`].
#[inline(always)]
pub(crate) unsafe fn chains<S: Simd>(simd: S, sizes: Sizes, a: Operand, b: Operand, c: Target, start: Start) {
    // SAFETY: the caller's promise.
    unsafe { chains_of::<S, false>(simd, sizes, a, b, c, start) }
}

/// [`chains`] over lines that are read from memory one after another: the same columns of the next `k` lines are prefetched.
///
/// # Safety
///
/// As [`matmul`].
#[inline(always)]
pub(crate) unsafe fn streamed_chains<S: Simd>(simd: S, sizes: Sizes, a: Operand, b: Operand, c: Target, start: Start) {
    // SAFETY: the caller's promise.
    unsafe { chains_of::<S, true>(simd, sizes, a, b, c, start) }
}

#[inline(always)]
unsafe fn chains_of<S: Simd, const IS_STREAM: bool>(
    simd: S,
    sizes: Sizes,
    a: Operand,
    b: Operand,
    c: Target,
    start: Start,
) {
    debug_assert!(a.column_stride == 1 && b.column_stride == 1, "rows are contiguous");
    let Sizes { m, n, k } = sizes;
    let lanes = S::F32_LANES;
    let wide = n / wide_columns::<S>() * wide_columns::<S>();
    let whole = n / lanes * lanes;
    // SAFETY: columns are within the sizes.
    unsafe {
        for column in (0..wide).step_by(wide_columns::<S>()) {
            let (b, c) = (b.from(0, column), c.from(0, column));
            if S::F32_LANES == 8 {
                column_block::<S, 2, IS_STREAM>(simd, m, k, a, b, c, start);
            } else {
                column_block::<S, 4, IS_STREAM>(simd, m, k, a, b, c, start);
            }
        }
        for column in (wide..whole).step_by(lanes) {
            column_block::<S, 1, IS_STREAM>(simd, m, k, a, b.from(0, column), c.from(0, column), start);
        }
        if whole < n {
            let sizes = Sizes { n: n - whole, ..sizes };
            simd.vectorize(Rest {
                sizes,
                a,
                b: b.from(0, whole),
                c: c.from(0, whole),
                start,
            });
        }
    }
}

/// All rows of `V` vectors.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn column_block<S: Simd, const V: usize, const IS_STREAM: bool>(
    simd: S,
    m: usize,
    k: usize,
    a: Operand,
    b: Operand,
    c: Target,
    start: Start,
) {
    let height = m.div_ceil(m.div_ceil(MAX_ROWS).max(1));
    for row in (0..m).step_by(height.max(1)) {
        // SAFETY: rows are within the sizes.
        let (a, c) = unsafe { (a.from(row, 0), c.from(row, 0)) };
        macro_rules! of_rows {
            ($rows:literal) => {
                simd.vectorize(Block::<$rows, V, IS_STREAM> { k, a, b, c, start })
            };
        }
        match height.min(m - row) {
            1 => of_rows!(1),
            2 => of_rows!(2),
            3 => of_rows!(3),
            4 => of_rows!(4),
            5 => of_rows!(5),
            _ => of_rows!(6),
        }
    }
}

/// `R` rows of `V` vectors, summed in registers.
struct Block<const R: usize, const V: usize, const IS_STREAM: bool> {
    k: usize,
    a: Operand,
    b: Operand,
    c: Target,
    start: Start,
}

impl<const R: usize, const V: usize, const IS_STREAM: bool> WithSimd for Block<R, V, IS_STREAM> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { k, a, b, c, start } = self;
        let lanes = S::F32_LANES;
        let mut sums = [[simd.splat_f32s(0.0); V]; R];
        // SAFETY: `chains` hands out blocks within the operands.
        unsafe {
            if start == Start::Continue {
                for (i, sums) in sums.iter_mut().enumerate() {
                    for (j, sum) in sums.iter_mut().enumerate() {
                        *sum = load::<S>(c.ptr.add(i * c.row_stride + j * lanes));
                    }
                }
            }
            let mut line = b.ptr;
            for depth in 0..k {
                let mut vectors = [simd.splat_f32s(0.0); V];
                for (j, vector) in vectors.iter_mut().enumerate() {
                    if IS_STREAM {
                        prefetch(line.wrapping_offset(k as isize * b.row_stride + (j * lanes) as isize));
                    }
                    *vector = load::<S>(line.add(j * lanes));
                }
                for (i, sums) in sums.iter_mut().enumerate() {
                    let factor = simd.splat_f32s(*a.ptr.offset(i as isize * a.row_stride + depth as isize));
                    for (sum, vector) in sums.iter_mut().zip(vectors) {
                        *sum = simd.mul_add_f32s(factor, vector, *sum);
                    }
                }
                line = line.wrapping_offset(b.row_stride);
            }
            for (i, sums) in sums.into_iter().enumerate() {
                for (j, sum) in sums.into_iter().enumerate() {
                    store::<S>(c.ptr.add(i * c.row_stride + j * lanes), sum);
                }
            }
        }
    }
}

/// The columns after the last whole vector.
struct Rest {
    sizes: Sizes,
    a: Operand,
    b: Operand,
    c: Target,
    start: Start,
}

impl WithSimd for Rest {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let Self { sizes, a, b, c, start } = self;
        for row in 0..sizes.m {
            for column in 0..sizes.n {
                // SAFETY: rows, columns and depths are within the sizes.
                unsafe {
                    let c = c.ptr.add(row * c.row_stride + column);
                    let mut sum = if start == Start::Zero { 0.0 } else { *c };
                    for depth in 0..sizes.k as isize {
                        let factor = *a.ptr.offset(row as isize * a.row_stride + depth);
                        sum = factor.mul_add(*b.ptr.offset(depth * b.row_stride + column as isize), sum);
                    }
                    c.write(sum);
                }
            }
        }
    }
}

/// Asks for the cache line of an address, which need not be one that may be read.
#[inline(always)]
pub(crate) fn prefetch(address: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every CPU of this architecture has the instruction, and it reads nothing.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
