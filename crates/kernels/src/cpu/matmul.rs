//! The matrix product on the CPU: `C = A B` or `C += A B` in single precision, operands with any strides.
//!
//! The structure is Goto and van de Geijn's ("Anatomy of High-Performance Matrix Multiplication", 2008): B is copied
//! into panels as wide as a tile, A into strips as high as one where its rows are not contiguous, and a tile of C
//! lives in registers while it is summed. Every number of C is summed in the same order whatever the number of
//! threads, because threads divide rows and columns and never the sum.
//!
//! Burn's flex multiplies with the `gemm` crate, which packs the weights anew in one thread where they stand
//! transposed, as the gradient of a linear layer needs them; `docs/kernels.md` has both measured.

use std::cell::RefCell;

use pulp::{Simd, WithSimd};

use super::math::{LANES, sum, sum2};
use super::parallel;

/// How much of the inner dimension is summed in registers before C is touched.
const DEPTH: usize = 384;

/// Rows of A per block, so that a block of [`DEPTH`] columns stays in the second-level cache.
const ROWS: usize = 192;

/// Columns of B per task, for the same reason.
const COLUMNS: usize = 256;

/// Products smaller than this many multiplications run on the calling thread.
const PARALLEL_WORK: usize = 1 << 18;

/// A matrix that is read: its first element and the distances between rows and between columns.
#[derive(Clone, Copy)]
pub(crate) struct Operand {
    ptr: *const f32,
    row_stride: isize,
    column_stride: isize,
}

// SAFETY: an operand is only read, and whoever makes one vouches that the memory outlives the call.
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

// SAFETY: tasks write disjoint rows and columns, and whoever makes one vouches for the memory.
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
    /// Every element of the product it is used with must be writable, and nobody else's.
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

/// What becomes of the numbers that stand in C.
#[derive(Clone, Copy)]
pub(crate) enum Write {
    /// They are overwritten and may be uninitialised.
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
    // Each task packs its own part, and nobody waits for anybody. Columns of B are divided where they come out even,
    // so that nothing is packed twice; where A must be packed and is the larger one, its rows are.
    let divides_columns = if a.column_stride == 1 {
        panels.is_multiple_of(threads) || panels >= 6 * threads
    } else {
        n >= m && panels >= threads
    };
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
        let per_task = m.div_ceil(threads).next_multiple_of(24);
        parallel::for_each(m.div_ceil(per_task), |task| {
            let from = task * per_task;
            let sizes = Sizes {
                m: per_task.min(m - from),
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
                // SAFETY: `from` lies within the sizes.
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
        let blocks = k.div_ceil(DEPTH).max(1);
        let depth = k.div_ceil(blocks);
        let mut write = self.write;
        let mut start = 0;
        loop {
            let depth = depth.min(k - start);
            // SAFETY: start and the blocks below lie within the sizes.
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
    debug_assert!(panels.len() >= (n.div_ceil(width) - 1) * panel_depth * width + k * width);
    for (panel, column) in (0..n).step_by(width).enumerate() {
        for (strip, row) in (0..m).step_by(MR).enumerate() {
            // SAFETY: offsets lie within the sizes; packed strips are MR x k each.
            unsafe {
                let (ptr, row_stride, column_stride) = if is_packed {
                    (a.ptr.add(strip * MR * k), 1, MR as isize)
                } else {
                    (a.ptr.offset(row as isize * a.row_stride), a.row_stride, a.column_stride)
                };
                simd.vectorize(Tile::<MR, NV> {
                    k,
                    a: Operand {
                        ptr,
                        row_stride,
                        column_stride,
                    },
                    b: panels.as_ptr().add(panel * panel_depth * width),
                    c: c.from(row, column),
                    rows: MR.min(m - row),
                    columns: width.min(n - column),
                    write: write.from(row, column),
                    is_packed,
                });
            }
        }
    }
}

/// One tile of C: `MR` rows of `NV` vectors, summed in registers.
struct Tile<const MR: usize, const NV: usize> {
    k: usize,
    a: Operand,
    b: *const f32,
    c: Target,
    rows: usize,
    columns: usize,
    write: Write,
    is_packed: bool,
}

impl<const MR: usize, const NV: usize> WithSimd for Tile<MR, NV> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let lanes = S::F32_LANES;
        let mut sums = [[simd.splat_f32s(0.0); NV]; MR];
        // SAFETY: `tiles_of` hands out tiles that lie within operands, panels and target. A row past the end reads
        // the last one again and is not written.
        unsafe {
            if self.is_packed {
                let (mut a, mut b) = (self.a.ptr, self.b);
                for _ in 0..self.k {
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
                    b = b.add(NV * lanes);
                }
            } else {
                let mut offsets = [0_isize; MR];
                for (i, offset) in offsets.iter_mut().enumerate() {
                    *offset = i.min(self.rows - 1) as isize * self.a.row_stride;
                }
                let (mut a, mut b) = (self.a.ptr, self.b);
                for _ in 0..self.k {
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
                    a = a.offset(self.a.column_stride);
                    b = b.add(NV * lanes);
                }
            }
            for (i, sums) in sums.into_iter().enumerate() {
                if i >= self.rows {
                    break;
                }
                let c = self.c.ptr.add(i * self.c.row_stride);
                let addend = match self.write {
                    Write::Replace => None,
                    Write::Add => Some(c.cast_const()),
                    Write::Onto(addend) => Some(addend.ptr.offset(i as isize * addend.row_stride)),
                };
                if self.columns == NV * lanes {
                    for (j, sum) in sums.into_iter().enumerate() {
                        let sum = match addend {
                            None => sum,
                            Some(addend) => simd.add_f32s(load::<S>(addend.add(j * lanes)), sum),
                        };
                        store::<S>(c.add(j * lanes), sum);
                    }
                } else {
                    let numbers: *const f32 = (&raw const sums).cast();
                    for j in 0..self.columns {
                        let sum = *numbers.add(j) + addend.map_or(0.0, |addend| *addend.add(j));
                        c.add(j).write(sum);
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

/// Copies `k x n` of B into panels: `panel_width` columns of one row beside each other, then those of the next row;
/// columns past the end are zeros.
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
            // SAFETY: the column lies within B.
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
    fn with_simd<S: Simd>(self, _simd: S) {
        let width = panel_width::<S>();
        let Self { b, k, columns, packed } = self;
        // SAFETY: the sizes are `pack_panels`'.
        unsafe {
            if b.row_stride == 1 && columns == width {
                // Transposed: eight rows at a time, so that a cache line of B is read once.
                let whole = k / 8 * 8;
                for row in (0..whole).step_by(8) {
                    let out = packed.as_mut_ptr().add(row * width);
                    for column in (0..width).step_by(8) {
                        let mut block = [[0.0_f32; 8]; 8];
                        for (j, line) in block.iter_mut().enumerate() {
                            let from = b.ptr.offset((column + j) as isize * b.column_stride + row as isize);
                            *line = from.cast::<[f32; 8]>().read_unaligned();
                        }
                        let block = transpose8(block);
                        for (i, line) in block.into_iter().enumerate() {
                            out.add(i * width + column).cast::<[f32; 8]>().write_unaligned(line);
                        }
                    }
                }
                for row in whole..k {
                    for column in 0..width {
                        packed[row * width + column] = *b.ptr.offset(column as isize * b.column_stride + row as isize);
                    }
                }
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

/// Copies `m x k` of A into strips: `tile_rows` rows of one column beside each other, then those of the next column;
/// rows past the end are zeros.
#[inline(always)]
unsafe fn pack_strips<S: Simd>(simd: S, a: Operand, m: usize, k: usize, packed: &mut Vec<f32>) {
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
        // SAFETY: rows and columns lie within A, and the strips hold them all.
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

/// Up to how many rows [`few_rows`] is the faster product.
pub(crate) const FEW_ROWS: usize = 8;

/// The most columns of the result that a task of [`few_rows`] computes.
const FEW_COLUMNS: usize = 1024;

/// Rows of weights that are added up at a time.
const FEW_DEPTH: usize = 8;

/// Products smaller than this many multiplications are not worth a second thread.
const FEW_PARALLEL_WORK: usize = 1 << 16;

/// `C = A B` (`+ addend` where one is given, a bias of `n`) for few rows of A, as in decoding: each number of B is
/// read once from where it lies, because reading it is all the work there is. B is `[k, n]`, or `[n, k]` where it
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

vectorised! {
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
