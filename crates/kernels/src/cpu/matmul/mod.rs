//! The matrix product on the CPU: `C = A B` or `C += A B` in single precision, operands with any strides.
//!
//! The structure is Goto and van de Geijn's ("Anatomy of High-Performance Matrix Multiplication", 2008): B is copied
//! into panels as wide as a tile, A into strips as high as one where its rows are not contiguous, and a tile of C
//! lives in registers while it is summed. Every number of C is summed in the same order whatever the number of
//! threads, because threads divide rows and columns and never the sum.
//!
//! Burn's flex multiplies with the `gemm` crate, which packs the weights again in one thread where they are
//! transposed, as the gradient of a linear layer needs them; `docs/kernels.md` has both measured.

pub(crate) mod bf16;
mod chains;
mod few_rows;
mod pack;
mod transpose;

use std::cell::RefCell;

use pulp::{Simd, WithSimd};

use super::parallel;

pub(crate) use self::chains::{Start, chains, wide_columns};
pub(crate) use self::few_rows::{FEW_ROWS, few_rows};
pub(crate) use self::pack::pack_panels;
use self::pack::pack_strips;
pub(crate) use self::transpose::transpose;

/// How much of the inner dimension is summed in registers before C is touched.
const DEPTH: usize = 384;

/// How much of an inner dimension of `k` is one sum: every number of a result is a chain of fused multiply-adds for each such block,
/// and the blocks are added in order. [`few_rows`] keeps to the same.
fn block_depth(k: usize) -> usize {
    k.div_ceil(k.div_ceil(DEPTH).max(1))
}

/// Rows of A per block, so that a block of [`DEPTH`] columns stays in the second-level cache.
const ROWS: usize = 192;

/// Columns of B per task, for the same reason.
const COLUMNS: usize = 256;

/// Products smaller than this many multiplications run on the calling thread.
const PARALLEL_WORK: usize = 1 << 18;

/// Rows of a task are a multiple of this, which every tile's height divides.
const ROW_STEP: usize = 24;

/// How many multiplications take as long as packing one number.
const PACKING_WORK: usize = 8;

/// What a task of this many rows and columns costs per number of the sum, in multiplications.
fn task_cost([rows, columns]: [usize; 2], packs_a: bool) -> usize {
    let packed = columns + if packs_a { rows } else { 0 };
    rows * columns + PACKING_WORK * packed
}

/// A matrix that is read: its first element and the distances between rows and between columns.
#[derive(Clone, Copy)]
pub(crate) struct Operand {
    ptr: *const f32,
    row_stride: isize,
    column_stride: isize,
}

// SAFETY: an operand is only read, and its maker guarantees that the memory outlives the call.
unsafe impl Send for Operand {}
// SAFETY: as above.
unsafe impl Sync for Operand {}

impl Operand {
    /// `rows x columns` numbers of `data`, row after row.
    pub(crate) fn row_major(data: &[f32], rows: usize, columns: usize) -> Self {
        assert!(data.len() >= rows * columns, "operand is shorter than its shape");
        // SAFETY: the assertion above.
        unsafe { Self::strided(data.as_ptr(), columns, 1) }
    }

    /// # Safety
    ///
    /// Every element that a product of the sizes it is used with reaches must be readable.
    pub(crate) unsafe fn strided(ptr: *const f32, row_stride: usize, column_stride: usize) -> Self {
        Self {
            ptr,
            row_stride: row_stride as isize,
            column_stride: column_stride as isize,
        }
    }

    /// The transposed matrix.
    pub(crate) fn transposed(self) -> Self {
        Self {
            ptr: self.ptr,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }

    /// The matrix from `row` and `column` on.
    ///
    /// # Safety
    ///
    /// As [`strided`](Self::strided).
    pub(crate) unsafe fn from(self, row: usize, column: usize) -> Self {
        let offset = row as isize * self.row_stride + column as isize * self.column_stride;
        Self {
            ptr: unsafe { self.ptr.offset(offset) },
            ..self
        }
    }
}

/// The matrix that is written, row-major with any distance between rows.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    ptr: *mut f32,
    row_stride: usize,
}

// SAFETY: tasks write disjoint rows and columns, and its maker guarantees the memory.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

impl Target {
    /// `rows x columns` numbers of `data`, row after row.
    pub(crate) fn row_major(data: &mut [f32], rows: usize, columns: usize) -> Self {
        assert!(data.len() >= rows * columns, "target is shorter than its shape");
        Self {
            ptr: data.as_mut_ptr(),
            row_stride: columns,
        }
    }

    /// # Safety
    ///
    /// Every element of the product it is used with must be writable, and not shared.
    pub(crate) unsafe fn strided(ptr: *mut f32, row_stride: usize) -> Self {
        Self { ptr, row_stride }
    }
}

/// Sizes of a product: C is `m x n`, A `m x k`, B `k x n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
}

/// What becomes of the numbers that are in C.
#[derive(Clone, Copy)]
pub(crate) enum Write {
    /// They are overwritten and may be uninitialized.
    Replace,
    /// The product is added to them.
    Add,
    /// They are overwritten with the sum of the product and another matrix, whose columns are contiguous: a residual,
    /// or a bias with a distance of 0 between its rows.
    Onto(Operand),
}

impl Write {
    /// # Safety
    ///
    /// As [`Operand::from`].
    unsafe fn from(self, row: usize, column: usize) -> Self {
        match self {
            // SAFETY: the caller's promise.
            Self::Onto(addend) => Self::Onto(unsafe { addend.from(row, column) }),
            other => other,
        }
    }
}

/// `C = A B` or `C += A B`, with all threads.
///
/// # Safety
///
/// Operands and target must reach over their sizes, and the target must not overlap the operands.
pub(crate) unsafe fn matmul(sizes: Sizes, a: Operand, b: Operand, c: Target, write: Write) {
    let Sizes { m, n, k } = sizes;
    let threads = rayon::current_num_threads();
    let width = super::dispatch(PanelWidth);
    let panels = n.div_ceil(width);
    if threads == 1 || m * n * k < PARALLEL_WORK {
        return unsafe { matmul_columns(sizes, a, b, c, write) };
    }
    // Each task packs its own part, and none waits for another.
    let columns = panels.div_ceil(threads) * width;
    let rows = m.div_ceil(threads).next_multiple_of(ROW_STEP);
    let packs_a = a.column_stride != 1;
    let divides_columns = task_cost([m, columns.min(n)], packs_a) <= task_cost([rows.min(m), n], packs_a);
    if divides_columns {
        let share = panels.div_ceil(threads);
        let pieces = share.div_ceil((COLUMNS / width).max(1));
        let per_task = share.div_ceil(pieces);
        let tasks = panels.div_ceil(per_task);
        parallel::for_each(tasks, |task| {
            let from = task * per_task * width;
            let sizes = Sizes {
                n: (per_task * width).min(n - from),
                ..sizes
            };
            // SAFETY: the caller's promise; tasks have different columns.
            unsafe { matmul_columns(sizes, a, b.from(0, from), c.from(0, from), write.from(0, from)) };
        });
    } else {
        parallel::for_each(m.div_ceil(rows), |task| {
            let from = task * rows;
            let sizes = Sizes {
                m: rows.min(m - from),
                ..sizes
            };
            // SAFETY: the caller's promise; tasks have different rows.
            unsafe { matmul_columns(sizes, a.from(from, 0), b, c.from(from, 0), write.from(from, 0)) };
        });
    }
}

impl Target {
    /// # Safety
    ///
    /// As [`strided`](Self::strided).
    pub(crate) unsafe fn from(self, row: usize, column: usize) -> Self {
        Self {
            ptr: unsafe { self.ptr.add(row * self.row_stride + column) },
            ..self
        }
    }
}

thread_local! {
    /// Packed B and packed A of the product that this thread computes; kept, so that no product allocates.
    static PACKED: RefCell<(Vec<f32>, Vec<f32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// A product on the calling thread; B is cut into pieces of [`COLUMNS`].
///
/// # Safety
///
/// As [`matmul`].
pub(crate) unsafe fn matmul_columns(sizes: Sizes, a: Operand, b: Operand, c: Target, write: Write) {
    PACKED.with_borrow_mut(|(packed_b, packed_a)| {
        for from in (0..sizes.n).step_by(COLUMNS) {
            let columns = Sizes {
                n: COLUMNS.min(sizes.n - from),
                ..sizes
            };
            super::dispatch(Serial {
                sizes: columns,
                a,
                // SAFETY: `from` is within the sizes.
                b: unsafe { b.from(0, from) },
                c: unsafe { c.from(0, from) },
                write: unsafe { write.from(0, from) },
                packed_b,
                packed_a,
            });
        }
    });
}

/// How many columns a tile has on this CPU.
struct PanelWidth;

impl WithSimd for PanelWidth {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> usize {
        panel_width::<S>()
    }
}

/// Vectors of a tile's row: tiles are 6 x 2 vectors where there are 16 registers and 8 x 3 where there are 32.
#[inline(always)]
const fn tile_vectors<S: Simd>() -> usize {
    if S::F32_LANES == 8 { 2 } else { 3 }
}

#[inline(always)]
pub(crate) const fn panel_width<S: Simd>() -> usize {
    tile_vectors::<S>() * S::F32_LANES
}

#[inline(always)]
const fn tile_rows<S: Simd>() -> usize {
    if S::F32_LANES == 8 { 6 } else { 8 }
}

struct Serial<'a> {
    sizes: Sizes,
    a: Operand,
    b: Operand,
    c: Target,
    write: Write,
    packed_b: &'a mut Vec<f32>,
    packed_a: &'a mut Vec<f32>,
}

impl WithSimd for Serial<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Sizes { m, n, k } = self.sizes;
        let depth = block_depth(k);
        let mut write = self.write;
        let mut start = 0;
        loop {
            let depth = depth.min(k - start);
            // SAFETY: start and the blocks below are within the sizes.
            unsafe {
                pack_panels(simd, self.b.from(start, 0), depth, n, self.packed_b);
                for row in (0..m).step_by(ROWS) {
                    let rows = ROWS.min(m - row);
                    let mut a = self.a.from(row, start);
                    if a.column_stride != 1 && n > panel_width::<S>() {
                        pack_strips(simd, a, rows, depth, self.packed_a);
                        a = Operand {
                            ptr: self.packed_a.as_ptr(),
                            row_stride: 0,
                            column_stride: 0,
                        };
                    }
                    tiles(
                        simd,
                        Sizes { m: rows, n, k: depth },
                        a,
                        self.packed_b,
                        depth,
                        self.c.from(row, 0),
                        write.from(row, 0),
                    );
                }
            }
            start += depth;
            write = Write::Add;
            if start >= k {
                break;
            }
        }
    }
}

/// All tiles of a block: B from panels of `panel_depth` rows of which the first `k` are used, A with its strides, or
/// packed in strips where both are 0.
///
/// # Safety
///
/// As [`matmul`]; `panels` must hold what [`pack_panels`] wrote for at least `k x n`.
#[inline(always)]
pub(crate) unsafe fn tiles<S: Simd>(
    simd: S,
    sizes: Sizes,
    a: Operand,
    panels: &[f32],
    panel_depth: usize,
    c: Target,
    write: Write,
) {
    if S::F32_LANES == 8 {
        unsafe { tiles_of::<S, 6, 2>(simd, sizes, a, panels, panel_depth, c, write) }
    } else {
        unsafe { tiles_of::<S, 8, 3>(simd, sizes, a, panels, panel_depth, c, write) }
    }
}

#[inline(always)]
unsafe fn tiles_of<S: Simd, const MR: usize, const NV: usize>(
    simd: S,
    sizes: Sizes,
    a: Operand,
    panels: &[f32],
    panel_depth: usize,
    c: Target,
    write: Write,
) {
    let Sizes { m, n, k } = sizes;
    let width = NV * S::F32_LANES;
    let is_packed = a.column_stride == 0 && a.row_stride == 0;
    debug_assert!(n == 0 || panels.len() >= (n.div_ceil(width) - 1) * panel_depth * width + k * width);
    for (panel, column) in (0..n).step_by(width).enumerate() {
        for (strip, row) in (0..m).step_by(MR).enumerate() {
            // SAFETY: offsets are within the sizes; packed strips are MR x k each.
            unsafe {
                let (ptr, row_stride, column_stride) = if is_packed {
                    (a.ptr.add(strip * MR * k), 1, MR as isize)
                } else {
                    (a.ptr.offset(row as isize * a.row_stride), a.row_stride, a.column_stride)
                };
                let tile = Tile {
                    k,
                    a: Operand {
                        ptr,
                        row_stride,
                        column_stride,
                    },
                    b: panels.as_ptr().add(panel * panel_depth * width),
                    b_stride: width,
                    c: c.from(row, column),
                    rows: MR.min(m - row),
                    columns: width.min(n - column),
                    write: write.from(row, column),
                    is_packed,
                };
                // A thin matrix, such as that of a low-rank part, and the last panel of a width such as 128 do not
                // fill all vectors of a panel's row.
                match (n - column).div_ceil(S::F32_LANES) {
                    1 => simd.vectorize(TileOf::<MR, 1>(tile)),
                    2 if NV > 2 => simd.vectorize(TileOf::<MR, 2>(tile)),
                    _ => simd.vectorize(TileOf::<MR, NV>(tile)),
                }
            }
        }
    }
}

/// One tile of C: `MR` rows of `NV` vectors, summed in registers.
struct TileOf<const MR: usize, const NV: usize>(Tile);

/// Its operands.
struct Tile {
    k: usize,
    a: Operand,
    b: *const f32,
    /// Numbers in a row of the panel, of which the tile may use only the first.
    b_stride: usize,
    c: Target,
    rows: usize,
    columns: usize,
    write: Write,
    is_packed: bool,
}

impl<const MR: usize, const NV: usize> WithSimd for TileOf<MR, NV> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self(tile) = self;
        let lanes = S::F32_LANES;
        let mut sums = [[simd.splat_f32s(0.0); NV]; MR];
        // SAFETY: `tiles_of` hands out tiles within operands, panels and target. A row past the end reads
        // the last one again and is not written.
        unsafe {
            if tile.is_packed {
                let (mut a, mut b) = (tile.a.ptr, tile.b);
                for _ in 0..tile.k {
                    let mut row = [simd.splat_f32s(0.0); NV];
                    for (j, vector) in row.iter_mut().enumerate() {
                        *vector = load::<S>(b.add(j * lanes));
                    }
                    for (i, sums) in sums.iter_mut().enumerate() {
                        let factor = simd.splat_f32s(*a.add(i));
                        for (sum, vector) in sums.iter_mut().zip(row) {
                            *sum = simd.mul_add_f32s(factor, vector, *sum);
                        }
                    }
                    a = a.add(MR);
                    b = b.add(tile.b_stride);
                }
            } else {
                let mut offsets = [0_isize; MR];
                for (i, offset) in offsets.iter_mut().enumerate() {
                    *offset = i.min(tile.rows - 1) as isize * tile.a.row_stride;
                }
                let (mut a, mut b) = (tile.a.ptr, tile.b);
                for _ in 0..tile.k {
                    let mut row = [simd.splat_f32s(0.0); NV];
                    for (j, vector) in row.iter_mut().enumerate() {
                        *vector = load::<S>(b.add(j * lanes));
                    }
                    for (sums, offset) in sums.iter_mut().zip(offsets) {
                        let factor = simd.splat_f32s(*a.offset(offset));
                        for (sum, vector) in sums.iter_mut().zip(row) {
                            *sum = simd.mul_add_f32s(factor, vector, *sum);
                        }
                    }
                    a = a.offset(tile.a.column_stride);
                    b = b.add(tile.b_stride);
                }
            }
            for (i, sums) in sums.into_iter().enumerate() {
                if i >= tile.rows {
                    break;
                }
                let c = tile.c.ptr.add(i * tile.c.row_stride);
                let addend = match tile.write {
                    Write::Replace => None,
                    Write::Add => Some(c.cast_const()),
                    Write::Onto(addend) => Some(addend.ptr.offset(i as isize * addend.row_stride)),
                };
                if tile.columns == NV * lanes {
                    for (j, sum) in sums.into_iter().enumerate() {
                        let sum = match addend {
                            None => sum,
                            Some(addend) => simd.add_f32s(load::<S>(addend.add(j * lanes)), sum),
                        };
                        store::<S>(c.add(j * lanes), sum);
                    }
                } else {
                    let numbers: *const f32 = (&raw const sums).cast();
                    for j in 0..tile.columns {
                        let sum = *numbers.add(j);
                        c.add(j).write(addend.map_or(sum, |addend| *addend.add(j) + sum));
                    }
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn load<S: Simd>(ptr: *const f32) -> S::f32s {
    unsafe { ptr.cast::<S::f32s>().read_unaligned() }
}

#[inline(always)]
unsafe fn store<S: Simd>(ptr: *mut f32, value: S::f32s) {
    unsafe { ptr.cast::<S::f32s>().write_unaligned(value) }
}
