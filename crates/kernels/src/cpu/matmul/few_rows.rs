//! Products of few rows, as a step of decoding has them.

use super::*;

/// Up to how many rows [`few_rows`] is the faster product.
pub(crate) const FEW_ROWS: usize = 8;

/// The most columns of the result that a task of [`few_rows`] computes.
const FEW_COLUMNS: usize = 1024;

/// Rows of weights that are added up at a time.
const FEW_DEPTH: usize = 8;

/// Products smaller than this many multiplications are not worth a second thread.
const FEW_PARALLEL_WORK: usize = 1 << 16;

/// `C = A B` (`+ addend` where one is given, a bias of `n`) for few rows of A, as in decoding: each number of B is
/// read once, in place, because reading it is all the work there is. B is `[k, n]`, or `[n, k]` where it
/// `is_transposed`.
pub(crate) fn few_rows(sizes: Sizes, a: &[f32], b: &[f32], is_transposed: bool, bias: Option<&[f32]>, c: &mut [f32]) {
    let Sizes { m, n, k } = sizes;
    assert!(
        a.len() >= m * k && b.len() >= k * n && c.len() >= m * n,
        "operands are shorter than their shapes"
    );
    let columns = if m * n * k < FEW_PARALLEL_WORK {
        n
    } else {
        // As many tasks for each thread, so that none waits for another.
        let share = n.div_ceil(rayon::current_num_threads());
        share.div_ceil(share.div_ceil(FEW_COLUMNS)).next_multiple_of(16)
    };
    let c = parallel::Parts::new(c);
    parallel::for_each(n.div_ceil(columns), |task| {
        let from = task * columns;
        let columns = columns.min(n - from);
        few_columns(sizes, a, b, is_transposed, bias, c, from, columns);
    });
}

/// Four dot products with one vector.
#[inline(always)]
fn dot4(lines: [&[f32]; 4], x: &[f32]) -> [f32; 4] {
    let [a, b, c, d] = lines;
    let (x_chunks, x_rest) = x.as_chunks::<LANES>();
    let [a_chunks, b_chunks, c_chunks, d_chunks] = [a, b, c, d].map(|line| line.as_chunks::<LANES>().0);
    let [mut a_sums, mut b_sums, mut c_sums, mut d_sums] = [[0.0_f32; LANES]; 4];
    let chunks = x_chunks.iter().zip(a_chunks).zip(b_chunks).zip(c_chunks).zip(d_chunks);
    for ((((x, a), b), c), d) in chunks {
        for i in 0..LANES {
            a_sums[i] = a[i].mul_add(x[i], a_sums[i]);
        }
        for i in 0..LANES {
            b_sums[i] = b[i].mul_add(x[i], b_sums[i]);
        }
        for i in 0..LANES {
            c_sums[i] = c[i].mul_add(x[i], c_sums[i]);
        }
        for i in 0..LANES {
            d_sums[i] = d[i].mul_add(x[i], d_sums[i]);
        }
    }
    let done = x.len() - x_rest.len();
    let mut sums = [a_sums, b_sums, c_sums, d_sums].map(|sums| sum(&sums, |x| x));
    for (sum, line) in sums.iter_mut().zip(lines) {
        for (line, x) in line[done..].iter().zip(x_rest) {
            *sum = line.mul_add(*x, *sum);
        }
    }
    sums
}

vectorized! {
    fn few_columns<'a>(
        sizes: Sizes,
        a: &'a [f32],
        b: &'a [f32],
        is_transposed: bool,
        bias: Option<&'a [f32]>,
        c: parallel::Parts<'a, f32>,
        from: usize,
        columns: usize,
    ) {
        let Sizes { m, n, k } = sizes;
        if is_transposed {
            let weights = |column: usize| &b[column * k..][..k];
            let write = |row: usize, column: usize, sum: f32| {
                // SAFETY: tasks have different columns.
                let out = unsafe { c.part(row * n + column, 1) };
                out[0] = sum + bias.map_or(0.0, |bias| bias[column]);
            };
            // Four columns at a time, because one sum alone waits for its own additions; all rows of A before the next
            // four, because reading B is the work.
            let whole = columns / 4 * 4;
            for column in (from..from + whole).step_by(4) {
                let lines = [weights(column), weights(column + 1), weights(column + 2), weights(column + 3)];
                for row in 0..m {
                    for (i, sum) in dot4(lines, &a[row * k..][..k]).into_iter().enumerate() {
                        write(row, column + i, sum);
                    }
                }
            }
            for column in from + whole..from + columns {
                for row in 0..m {
                    write(row, column, sum2(&a[row * k..][..k], weights(column), |a, b| a * b));
                }
            }
            return;
        }
        for row in 0..m {
            // SAFETY: tasks have different columns.
            let out = unsafe { c.part(row * n + from, columns) };
            match bias {
                Some(bias) => out.copy_from_slice(&bias[from..from + columns]),
                None => out.fill(0.0),
            }
        }
        let whole = k / FEW_DEPTH * FEW_DEPTH;
        // Rows of B are read once for all rows of A: a block of them stays in the cache.
        for first in (0..whole).step_by(FEW_DEPTH) {
            let lines: [&[f32]; FEW_DEPTH] = std::array::from_fn(|i| &b[(first + i) * n + from..][..columns]);
            for row in 0..m {
                let a = &a[row * k + first..][..FEW_DEPTH];
                // SAFETY: tasks have different columns.
                let out = unsafe { c.part(row * n + from, columns) };
                for (j, out) in out.iter_mut().enumerate() {
                    let mut sum = *out;
                    for i in 0..FEW_DEPTH {
                        sum = lines[i][j].mul_add(a[i], sum);
                    }
                    *out = sum;
                }
            }
        }
        for depth in whole..k {
            let line = &b[depth * n + from..][..columns];
            for row in 0..m {
                let factor = a[row * k + depth];
                // SAFETY: tasks have different columns.
                let out = unsafe { c.part(row * n + from, columns) };
                for (out, b) in out.iter_mut().zip(line) {
                    *out = b.mul_add(factor, *out);
                }
            }
        }
    }
}
