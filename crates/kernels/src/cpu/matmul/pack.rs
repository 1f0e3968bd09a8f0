//! Panels and strips: the order in which tiles read their operands.

use super::transpose::transpose;
use super::*;

/// Copies `k x n` of B into panels: `panel_width` columns of one row next to each other, then those of the next row;
/// what is past the last column is any number.
///
/// # Safety
///
/// `b` must reach over `k x n`.
#[inline(always)]
pub(crate) unsafe fn pack_panels<S: Simd>(simd: S, b: Operand, k: usize, n: usize, packed: &mut Vec<f32>) {
    let width = panel_width::<S>();
    let len = n.div_ceil(width) * width * k;
    if packed.len() < len {
        packed.resize(len, 0.0);
    }
    let packed = &mut packed[..len];
    if b.column_stride == 1 {
        simd.vectorize(PackRows { b, k, n, packed });
        return;
    }
    for (panel, column) in (0..n).step_by(width).enumerate() {
        simd.vectorize(PackPanel {
            // SAFETY: the column is within B.
            b: unsafe { b.from(0, column) },
            k,
            columns: width.min(n - column),
            packed: &mut packed[panel * width * k..(panel + 1) * width * k],
        });
    }
}

/// Panels of a matrix whose rows are contiguous: each row is read once from front to back.
struct PackRows<'a> {
    b: Operand,
    k: usize,
    n: usize,
    packed: &'a mut [f32],
}

impl WithSimd for PackRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let width = panel_width::<S>();
        let Self { b, k, n, packed } = self;
        let whole = n / width * width;
        for row in 0..k {
            // SAFETY: the sizes are `pack_panels`'.
            let line = unsafe { std::slice::from_raw_parts(b.ptr.offset(row as isize * b.row_stride), n) };
            for (panel, line) in line[..whole].chunks_exact(width).enumerate() {
                packed[(panel * k + row) * width..][..width].copy_from_slice(line);
            }
            if whole < n {
                let out = &mut packed[(whole / width * k + row) * width..][..width];
                let (filled, rest) = out.split_at_mut(n - whole);
                filled.copy_from_slice(&line[whole..]);
                rest.fill(0.0);
            }
        }
    }
}

struct PackPanel<'a> {
    b: Operand,
    k: usize,
    columns: usize,
    packed: &'a mut [f32],
}

impl WithSimd for PackPanel<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let width = panel_width::<S>();
        let Self { b, k, columns, packed } = self;
        // SAFETY: the sizes are `pack_panels`'.
        unsafe {
            if b.row_stride == 1 {
                transpose(simd, b.transposed(), [columns, k], packed.as_mut_ptr(), width);
            } else {
                for (row, packed) in packed.chunks_exact_mut(width).enumerate() {
                    let line = b.ptr.offset(row as isize * b.row_stride);
                    for (column, packed) in packed.iter_mut().enumerate() {
                        *packed = if column < columns {
                            *line.offset(column as isize * b.column_stride)
                        } else {
                            0.0
                        };
                    }
                }
            }
        }
    }
}

/// Copies `m x k` of A into strips: `tile_rows` rows of one column next to each other, then those of the next column;
/// rows past the end are zeros.
#[inline(always)]
pub(super) unsafe fn pack_strips<S: Simd>(simd: S, a: Operand, m: usize, k: usize, packed: &mut Vec<f32>) {
    let height = tile_rows::<S>();
    let len = m.div_ceil(height) * height * k;
    if packed.len() < len {
        packed.resize(len, 0.0);
    }
    simd.vectorize(PackStrips {
        a,
        m,
        k,
        packed: &mut packed[..len],
    });
}

struct PackStrips<'a> {
    a: Operand,
    m: usize,
    k: usize,
    packed: &'a mut [f32],
}

impl WithSimd for PackStrips<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let height = tile_rows::<S>();
        let Self { a, m, k, packed } = self;
        let whole = if a.row_stride == 1 { m / height * height } else { 0 };
        // SAFETY: rows and columns are within A, and the strips hold them all.
        unsafe {
            let out = packed.as_mut_ptr();
            for column in 0..k {
                // Contiguous along the rows: each column of A is read once from front to back.
                let line = a.ptr.offset(column as isize * a.column_stride);
                for row in (0..whole).step_by(height) {
                    let out = out.add(row * k + column * height);
                    std::ptr::copy_nonoverlapping(line.add(row), out, height);
                }
            }
            for row in (whole..m).step_by(height) {
                let rows = height.min(m - row);
                for column in 0..k {
                    let line = a
                        .ptr
                        .offset(row as isize * a.row_stride + column as isize * a.column_stride);
                    let out = std::slice::from_raw_parts_mut(out.add(row * k + column * height), height);
                    for (i, out) in out.iter_mut().enumerate() {
                        *out = if i < rows {
                            *line.offset(i as isize * a.row_stride)
                        } else {
                            0.0
                        };
                    }
                }
            }
        }
    }
}
