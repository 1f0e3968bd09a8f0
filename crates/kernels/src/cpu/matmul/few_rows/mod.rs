//! Products of few rows, as a step of decoding has them.

mod lines;
#[cfg(target_arch = "x86_64")]
mod transposed;

use super::chains::{Start, chains, prefetch, streamed_chains};
use super::transpose::transpose;
use super::*;

/// Up to how many rows [`few_rows`] is the faster product.
pub(crate) const FEW_ROWS: usize = 32;

/// The most columns of the result that a task of [`few_rows`] computes.
const FEW_COLUMNS: usize = 1024;

/// Lines of weights that are added up at a time: those of all columns of a task stay in the first-level cache.
const FEW_DEPTH: usize = 8;

/// The same where the weights are transposed: a cache line of each column.
const TRANSPOSED_DEPTH: usize = 16;

/// Columns that are transposed together: more are more streams than the hardware's prefetcher follows.
const TRANSPOSED_COLUMNS: usize = 16;

/// Products smaller than this many multiplications are not worth a second thread.
const FEW_PARALLEL_WORK: usize = 1 << 16;

thread_local! {
    /// Sums, and transposed weights, of the product that this thread computes; kept, so that no product allocates.
    static SCRATCH: RefCell<(Vec<f32>, Vec<f32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// What [`matmul`] computes, to the bit, for few rows of A, as in decoding: each number of B is read once, in place, because reading it is all
/// the work there is. B is `[k, n]`, or `[n, k]` where it `is_transposed`. `bias`, `[n]`, is added at the end.
///
/// # Safety
///
/// Where `write` is onto an operand, it must reach over `m x n`.
pub(crate) unsafe fn few_rows(
    sizes: Sizes,
    a: &[f32],
    b: &[f32],
    is_transposed: bool,
    write: Write,
    bias: Option<&[f32]>,
    c: &mut [f32],
) {
    let Sizes { m, n, k } = sizes;
    assert!(
        a.len() >= m * k && b.len() >= k * n && bias.is_none_or(|bias| bias.len() >= n) && c.len() >= m * n,
        "operands are shorter than their shapes"
    );
    assert!(k > 0, "sums of nothing");
    if m * n == 0 {
        return;
    }
    let threads = match m * n * k < FEW_PARALLEL_WORK {
        true => 1,
        false => rayon::current_num_threads(),
    };
    let b = if is_transposed {
        Operand::row_major(b, n, k)
    } else {
        Operand::row_major(b, k, n)
    };
    let (a, c) = (Operand::row_major(a, m, k), Target::row_major(c, m, n));
    let out = Out { c, write, bias };
    if m <= lines::MOST_ROWS && !is_transposed {
        // SAFETY: the sizes are checked above, and the addend's is the caller's promise.
        return unsafe { lines::product(sizes, a, b, out, threads) };
    }
    // As many tasks for each thread, so that none waits for another.
    let share = n.div_ceil(threads);
    let columns = match threads {
        1 => n,
        _ => share.div_ceil(share.div_ceil(FEW_COLUMNS)).next_multiple_of(16),
    };
    parallel::for_each(n.div_ceil(columns), |task| {
        let from = task * columns;
        SCRATCH.with_borrow_mut(|(sums, lines)| {
            crate::cpu::dispatch(Columns {
                sizes,
                a,
                b,
                is_transposed,
                out,
                from,
                to: n.min(from + columns),
                sums,
                lines,
            });
        });
    });
}

/// What becomes of the sums.
#[derive(Clone, Copy)]
struct Out<'a> {
    c: Target,
    write: Write,
    bias: Option<&'a [f32]>,
}

impl Out<'_> {
    /// Adds the sums of a block of the inner dimension to a row of the result from column `first` on, in the order of [`matmul`].
    ///
    /// # Safety
    ///
    /// Row and columns must be within the result and the addend, and no other thread may write them.
    #[inline(always)]
    unsafe fn add(self, [is_first, is_last]: [bool; 2], row: usize, first: usize, sums: &[f32]) {
        let columns = sums.len();
        // SAFETY: the caller's promise.
        unsafe {
            let out = std::slice::from_raw_parts_mut(self.c.from(row, first).ptr, columns);
            match self.write {
                Write::Replace if is_first => out.copy_from_slice(sums),
                Write::Onto(addend) if is_first => {
                    let addend = std::slice::from_raw_parts(addend.from(row, first).ptr, columns);
                    for ((out, addend), sum) in out.iter_mut().zip(addend).zip(sums) {
                        *out = addend + sum;
                    }
                }
                _ => out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum),
            }
            if let Some(bias) = self.bias.filter(|_| is_last) {
                out.iter_mut().zip(&bias[first..]).for_each(|(out, bias)| *out += bias);
            }
        }
    }
}

/// Some columns of the result; tasks have different ones.
struct Columns<'a> {
    sizes: Sizes,
    a: Operand,
    b: Operand,
    is_transposed: bool,
    out: Out<'a>,
    from: usize,
    to: usize,
    sums: &'a mut Vec<f32>,
    lines: &'a mut Vec<f32>,
}

impl WithSimd for Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        if self.is_transposed {
            let width = TRANSPOSED_COLUMNS;
            for first in (self.from..self.to).step_by(width) {
                self.group(simd, first, width.min(self.to - first), width);
            }
        } else {
            let columns = self.to - self.from;
            self.group(simd, self.from, columns, columns);
        }
    }
}

impl Columns<'_> {
    /// The columns `first..first + columns`, whose sums are in rows of `width`.
    #[inline(always)]
    fn group<S: Simd>(&mut self, simd: S, first: usize, columns: usize, width: usize) {
        let Sizes { m, k, .. } = self.sizes;
        let depth = block_depth(k);
        #[cfg(target_arch = "x86_64")]
        if S::F32_LANES == 16 && self.is_transposed && columns == width && m <= transposed::MOST_ROWS {
            for start in (0..k).step_by(depth) {
                let count = depth.min(k - start);
                // SAFETY: the sizes were checked by `few_rows`, and vectors of 16 numbers are those of AVX-512.
                let sums = unsafe { transposed::sums(m, self.a.from(0, start), self.b.from(first, start), [count, k]) };
                for (row, sums) in sums.iter().enumerate().take(m) {
                    // SAFETY: as below.
                    unsafe { self.out.add([start == 0, start + count == k], row, first, sums) };
                }
            }
            return;
        }
        let step = if self.is_transposed {
            TRANSPOSED_DEPTH
        } else {
            FEW_DEPTH
        };
        reserve(self.sums, m * width);
        reserve(self.lines, step * width);
        let sums = Target {
            ptr: self.sums.as_mut_ptr(),
            row_stride: width,
        };
        for start in (0..k).step_by(depth) {
            let end = k.min(start + depth);
            for from in (start..end).step_by(step) {
                let count = step.min(end - from);
                let lines = self.lines_of(simd, [first, columns], [from, count], width);
                let begin = if from == start { Start::Zero } else { Start::Continue };
                let sizes = Sizes { m, n: width, k: count };
                // SAFETY: the sizes were checked by `few_rows`, and the scratch memory was reserved above.
                unsafe {
                    let a = self.a.from(0, from);
                    match self.is_transposed {
                        true => chains(simd, sizes, a, lines, sums, begin),
                        false => streamed_chains(simd, sizes, a, lines, sums, begin),
                    }
                }
            }
            for row in 0..m {
                let sums = &self.sums[row * width..][..columns];
                // SAFETY: rows and columns are within the result and the addend, and tasks have different columns.
                unsafe { self.out.add([start == 0, end == k], row, first, sums) };
            }
        }
    }

    /// The lines `from..from + count` of B for some columns.
    #[inline(always)]
    fn lines_of<S: Simd>(
        &mut self,
        simd: S,
        [first, columns]: [usize; 2],
        [from, count]: [usize; 2],
        width: usize,
    ) -> Operand {
        // SAFETY: columns and depths are within B; the scratch memory holds `count` lines.
        unsafe {
            if !self.is_transposed {
                return self.b.from(from, first);
            }
            let b = self.b.from(first, from);
            // The next columns are what memory has to bring next; a prefetch past the end is harmless.
            for column in 0..columns {
                prefetch(b.ptr.wrapping_add((width + column) * self.sizes.k));
            }
            transpose(simd, b, [columns, count], self.lines.as_mut_ptr(), width);
            Operand::strided(self.lines.as_ptr(), width, 1)
        }
    }
}

fn reserve(buffer: &mut Vec<f32>, len: usize) {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
}
