//! Rows as columns, in the registers.

use super::*;

/// Writes `rows x depth` numbers of rows that are contiguous as `depth` lines of `width`. Of the numbers after the first `rows` of a line, up
/// to `width`, some repeat the last row, and the others are left as they are.
///
/// # Safety
///
/// `from` must reach over `rows x depth` with a column stride of 1, and `out` over `depth x width`; there must be a row, and `rows <= width`.
#[inline(always)]
pub(crate) unsafe fn transpose<S: Simd>(
    simd: S,
    from: Operand,
    [rows, depth]: [usize; 2],
    out: *mut f32,
    width: usize,
) {
    debug_assert!(
        from.column_stride == 1 && 0 < rows && rows <= width,
        "rows that are contiguous and fit"
    );
    simd.vectorize(Transpose {
        from,
        rows,
        depth,
        out,
        width,
    });
}

struct Transpose {
    from: Operand,
    rows: usize,
    depth: usize,
    out: *mut f32,
    width: usize,
}

impl WithSimd for Transpose {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let Self {
            from,
            rows,
            depth,
            out,
            width,
        } = self;
        // SAFETY: rows past the end are the last one again; whole squares are only written where they fit the width.
        unsafe {
            let line = |row: usize| from.ptr.offset(row.min(rows - 1) as isize * from.row_stride);
            let mut row = 0;
            #[cfg_attr(not(target_arch = "x86_64"), expect(unused_mut, reason = "only AVX-512 sets it"))]
            let mut done = [0, 0];
            #[cfg(target_arch = "x86_64")]
            if S::F32_LANES == 16 {
                let whole = depth / 16 * 16;
                while row < rows && row + 16 <= width && whole > 0 {
                    let lines: [*const f32; 16] = std::array::from_fn(|i| line(row + i));
                    for start in (0..whole).step_by(16) {
                        transpose16(lines, start, out.add(start * width + row), width);
                    }
                    row += 16;
                }
                done = [row.min(rows), whole];
                row = 0;
            }
            let whole = depth / 8 * 8;
            while row < rows && row + 8 <= width {
                let first = if row < done[0] { done[1] } else { 0 };
                for start in (first..whole).step_by(8) {
                    let mut block = [[0.0_f32; 8]; 8];
                    for (i, block) in block.iter_mut().enumerate() {
                        *block = line(row + i).add(start).cast::<[f32; 8]>().read_unaligned();
                    }
                    let block = transpose8(block);
                    for (i, block) in block.into_iter().enumerate() {
                        let out = out.add((start + i) * width + row);
                        out.cast::<[f32; 8]>().write_unaligned(block);
                    }
                }
                row += 8;
            }
            let in_squares = row.min(rows);
            for row in 0..rows {
                let first = if row < in_squares { whole } else { 0 };
                for depth in first..depth {
                    out.add(depth * width + row).write(*line(row).add(depth));
                }
            }
        }
    }
}

/// Three rounds of interleaving, which compilers turn into shuffles.
#[inline(always)]
fn transpose8(mut block: [[f32; 8]; 8]) -> [[f32; 8]; 8] {
    for _ in 0..3 {
        let mut next = [[0.0; 8]; 8];
        for i in 0..4 {
            for j in 0..4 {
                next[2 * i][2 * j] = block[i][j];
                next[2 * i][2 * j + 1] = block[i + 4][j];
                next[2 * i + 1][2 * j] = block[i][j + 4];
                next[2 * i + 1][2 * j + 1] = block[i + 4][j + 4];
            }
        }
        block = next;
    }
    block
}

/// 16 numbers of 16 rows from `start` as 16 lines of `width`.
///
/// # Safety
///
/// The CPU has AVX-512, and the numbers are readable and writable.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn transpose16(lines: [*const f32; 16], start: usize, out: *mut f32, width: usize) {
    use std::arch::x86_64::*;
    // SAFETY: the caller's promise.
    unsafe {
        for quarter in 0..4 {
            for (i, column) in four_columns(&lines, start + 4 * quarter).into_iter().enumerate() {
                _mm512_storeu_ps(out.add((4 * quarter + i) * width), column);
            }
        }
    }
}

/// Four numbers of 16 rows from `at`, as four columns.
///
/// # Safety
///
/// The CPU has AVX-512, and the numbers are readable.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) unsafe fn four_columns(lines: &[*const f32; 16], at: usize) -> [std::arch::x86_64::__m512; 4] {
    use std::arch::x86_64::*;
    // Lanes of four: those of the rows i, i + 4, i + 8, i + 12 in one register; the loads do the work of half the shuffles.
    let mut fours = [_mm512_setzero_ps(); 4];
    // SAFETY: the caller's promise.
    unsafe {
        for (i, rows) in fours.iter_mut().enumerate() {
            let four = _mm512_castps128_ps512(_mm_loadu_ps(lines[i].add(at)));
            let four = _mm512_insertf32x4::<1>(four, _mm_loadu_ps(lines[i + 4].add(at)));
            let four = _mm512_insertf32x4::<2>(four, _mm_loadu_ps(lines[i + 8].add(at)));
            *rows = _mm512_insertf32x4::<3>(four, _mm_loadu_ps(lines[i + 12].add(at)));
        }
    }
    let [a, b, c, d] = fours;
    let (ab_low, ab_high) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    let (cd_low, cd_high) = (_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    let low = (_mm512_castps_pd(ab_low), _mm512_castps_pd(cd_low));
    let high = (_mm512_castps_pd(ab_high), _mm512_castps_pd(cd_high));
    [
        _mm512_castpd_ps(_mm512_unpacklo_pd(low.0, low.1)),
        _mm512_castpd_ps(_mm512_unpackhi_pd(low.0, low.1)),
        _mm512_castpd_ps(_mm512_unpacklo_pd(high.0, high.1)),
        _mm512_castpd_ps(_mm512_unpackhi_pd(high.0, high.1)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Run<'a>(&'a [f32], [usize; 2], &'a mut [f32], usize);

    impl WithSimd for Run<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let Self(from, [rows, depth], out, width) = self;
            let from = Operand::row_major(from, rows, depth);
            // SAFETY: the slices are as long as the sizes say.
            unsafe { transpose(simd, from, [rows, depth], out.as_mut_ptr(), width) };
        }
    }

    #[test]
    fn rows_become_columns_at_every_size() {
        for width in [1, 8, 16, 24, 48, 64, 67] {
            for rows in (1..=width).filter(|rows| rows % 5 == 1 || *rows == width) {
                for depth in [1, 7, 8, 16, 33, 64] {
                    let from: Vec<f32> = (0..rows * depth).map(|i| i as f32).collect();
                    let mut out = vec![-1.0; depth * width];
                    crate::cpu::dispatch(Run(&from, [rows, depth], &mut out, width));
                    for row in 0..rows {
                        for at in 0..depth {
                            assert_eq!(
                                out[at * width + row],
                                from[row * depth + at],
                                "{rows} x {depth} in {width}"
                            );
                        }
                    }
                }
            }
        }
    }
}
