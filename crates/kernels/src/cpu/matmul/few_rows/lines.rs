//! One or two rows times weights that are read in place, line by line: a step of decoding one text or two.

use super::super::chains::{Start, chains};
use super::*;
use crate::cpu::uninitialized;

/// The most rows for which [`product`] is the faster one; with more, the sums of all columns leave the first-level cache.
pub(super) const MOST_ROWS: usize = 2;

/// The most sums that a task keeps.
const SUMS: usize = 1 << 14;

/// Columns of a task are a multiple of this, the widest block of all CPUs.
const LINE: usize = 64;

/// Lines that are added up at a time, and vectors of a block's row.
const DEPTH: usize = 8;
const VECTORS: usize = 4;

/// Each task takes a block of the inner dimension, and all columns unless there would be too few tasks. So it reads memory from front to back,
/// which is faster than reading a part of each line. The sums of the blocks are added in order at the end.
///
/// # Safety
///
/// Operands and addend must reach over the sizes.
pub(super) unsafe fn product(sizes: Sizes, a: Operand, b: Operand, out: Out<'_>, threads: usize) {
    let Sizes { m, n, k } = sizes;
    let depth = block_depth(k);
    let blocks = k.div_ceil(depth);
    // As many tasks for each thread, so that none waits for another.
    let mut pieces = n.div_ceil(SUMS / m);
    while !(blocks * pieces).is_multiple_of(threads) {
        pieces += 1;
    }
    let columns = n.div_ceil(pieces).next_multiple_of(LINE);
    let pieces = n.div_ceil(columns);
    let mut sums = uninitialized(blocks * m * n);
    let parts = Target::row_major(&mut sums, blocks * m, n);
    parallel::for_each(blocks * pieces, |task| {
        let (block, first) = (task / pieces, task % pieces * columns);
        let start = block * depth;
        // SAFETY: block and columns are within the operands; tasks have different sums.
        unsafe {
            crate::cpu::dispatch(Lines {
                sizes: Sizes {
                    m,
                    n: columns.min(n - first),
                    k: depth.min(k - start),
                },
                a: a.from(0, start),
                b: b.from(start, first),
                sums: parts.from(block * m, first),
            });
        }
    });
    crate::cpu::dispatch(Added {
        sums: &sums,
        sizes: [blocks, m, n],
        out,
    });
}

/// The sums of a block of the inner dimension for some columns.
struct Lines {
    sizes: Sizes,
    a: Operand,
    b: Operand,
    sums: Target,
}

impl WithSimd for Lines {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // SAFETY: the maker of the task saw to the sizes.
        unsafe {
            match self.sizes.m {
                1 => self.rows::<S, 1>(simd),
                _ => self.rows::<S, 2>(simd),
            }
        }
    }
}

impl Lines {
    /// # Safety
    ///
    /// Operands and sums must reach over the sizes, of which `R` is the number of rows.
    #[inline(always)]
    unsafe fn rows<S: Simd, const R: usize>(self, simd: S) {
        let Self { sizes, a, b, sums } = self;
        let width = VECTORS * S::F32_LANES;
        let whole = sizes.n / width * width;
        for from in (0..sizes.k).step_by(DEPTH) {
            let begin = if from == 0 { Start::Zero } else { Start::Continue };
            let count = DEPTH.min(sizes.k - from);
            // SAFETY: depth and columns are within the sizes.
            unsafe {
                let (a, b) = (a.from(0, from), b.from(from, 0));
                let unrolled = if count == DEPTH { whole } else { 0 };
                for column in (0..unrolled).step_by(width) {
                    block::<S, R>(simd, a, b.from(0, column), sums.from(0, column), begin);
                }
                if unrolled < sizes.n {
                    let sizes = Sizes {
                        m: R,
                        n: sizes.n - unrolled,
                        k: count,
                    };
                    chains(simd, sizes, a, b.from(0, unrolled), sums.from(0, unrolled), begin);
                }
            }
        }
    }
}

/// Adds [`DEPTH`] lines of [`VECTORS`] vectors to the sums of `R` rows, as [`chains`] does. Its loops have constant lengths, and it is compiled
/// into the loop over columns, so that a core comes to the next loads soon enough to keep memory busy. Asking ahead would only cost time.
///
/// # Safety
///
/// Operands and sums must reach over these sizes.
#[inline(always)]
unsafe fn block<S: Simd, const R: usize>(simd: S, a: Operand, b: Operand, c: Target, start: Start) {
    let lanes = S::F32_LANES;
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; R];
    // SAFETY: the caller's promise.
    unsafe {
        if start == Start::Continue {
            for (row, sums) in sums.iter_mut().enumerate() {
                for (j, sum) in sums.iter_mut().enumerate() {
                    *sum = load::<S>(c.ptr.add(row * c.row_stride + j * lanes));
                }
            }
        }
        let mut line = b.ptr;
        for depth in 0..DEPTH {
            let mut vectors = [simd.splat_f32s(0.0); VECTORS];
            for (j, vector) in vectors.iter_mut().enumerate() {
                *vector = load::<S>(line.add(j * lanes));
            }
            for (row, sums) in sums.iter_mut().enumerate() {
                let factor = simd.splat_f32s(*a.ptr.offset(row as isize * a.row_stride + depth as isize));
                for (sum, vector) in sums.iter_mut().zip(vectors) {
                    *sum = simd.mul_add_f32s(factor, vector, *sum);
                }
            }
            line = line.wrapping_offset(b.row_stride);
        }
        for (row, sums) in sums.into_iter().enumerate() {
            for (j, sum) in sums.into_iter().enumerate() {
                store::<S>(c.ptr.add(row * c.row_stride + j * lanes), sum);
            }
        }
    }
}

/// Adds the sums of all blocks.
struct Added<'a> {
    sums: &'a [f32],
    /// Blocks, rows, columns.
    sizes: [usize; 3],
    out: Out<'a>,
}

impl WithSimd for Added<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let [blocks, m, n] = self.sizes;
        for row in 0..m {
            for block in 0..blocks {
                let sums = &self.sums[(block * m + row) * n..][..n];
                // SAFETY: the result reaches over the sizes, and no task writes it any more.
                unsafe { self.out.add([block == 0, block + 1 == blocks], row, 0, sums) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The chain of each number, as the module of [`matmul`] defines it.
    fn chain(a: &[f32], b: &[f32], [n, k]: [usize; 2], row: usize, column: usize) -> f32 {
        (0..k).fold(0.0, |sum: f32, at| a[row * k + at].mul_add(b[at * n + column], sum))
    }

    #[test]
    fn sums_are_chains_on_all_vectors_of_the_cpu() {
        for m in 1..=MOST_ROWS {
            for [n, k] in [[1, 1], [5, 9], [64, 8], [131, 8], [200, 20], [67, 33]] {
                let a: Vec<f32> = (0..m * k).map(|i| (i as f32 * 0.37).sin()).collect();
                let b: Vec<f32> = (0..k * n).map(|i| (i as f32 * 0.11).cos()).collect();
                let expected: Vec<f32> = (0..m * n).map(|i| chain(&a, &b, [n, k], i / n, i % n)).collect();
                let sums_of = |run: &dyn Fn(Lines)| {
                    let mut sums = vec![f32::NAN; m * n];
                    run(Lines {
                        sizes: Sizes { m, n, k },
                        a: Operand::row_major(&a, m, k),
                        b: Operand::row_major(&b, k, n),
                        sums: Target::row_major(&mut sums, m, n),
                    });
                    sums
                };
                assert_eq!(
                    sums_of(&|lines| crate::cpu::dispatch(lines)),
                    expected,
                    "{m} x {n} x {k}"
                );
                // Narrower vectors than the CPU's widest.
                #[cfg(target_arch = "x86_64")]
                if let Some(simd) = pulp::x86::V3::try_new() {
                    let sums = sums_of(&|lines| Simd::vectorize(simd, lines));
                    assert_eq!(sums, expected, "{m} x {n} x {k} with AVX2");
                }
            }
        }
    }
}
