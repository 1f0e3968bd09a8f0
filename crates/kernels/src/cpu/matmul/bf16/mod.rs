//! The matrix product in bfloat16: operands are rounded to eight bits of precision while they are packed, and their
//! products are added in single precision. Which instructions do it is chosen when the program runs.
//!
//! Operands are cut into blocks of 16 lines by 32 numbers of the sum, which is what one AMX tile register holds. The
//! lines of A are its rows, those of B its columns. A result is computed in tiles of 32 x 32, each in one order: blocks
//! of the sum one after the other, whatever the number of threads. A in bfloat16 whose rows are contiguous is read in place.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
#[expect(
    clippy::needless_range_loop,
    reason = "an iterator's closure is compiled without the instructions of its function"
)]
mod avx512;
mod pack;
mod portable;
mod round;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::sync::OnceLock;

use half::bf16;

pub(crate) use self::pack::Order;
use self::pack::pack;
pub(crate) use self::round::{round_in_place, rounded, widen, widened};
use super::{Operand, Sizes, Target, Write};
use crate::cpu::parallel;

/// Lines of a block.
const LINES: usize = 16;

/// Numbers of a line in a block.
const BLOCK_DEPTH: usize = 32;

/// Rows and columns of a tile of the result: two blocks each way.
pub(crate) const TILE: usize = 2 * LINES;

/// How much of the sum is packed at a time, so that a tile's columns of B stay in the first-level cache.
const DEPTH: usize = 512;

/// Rows of A at a time, so that they stay in the second-level cache.
const ROWS: usize = 1024;

/// Columns of B that are packed at a time.
const COLUMNS: usize = 128;

/// Products smaller than this many multiplications run on the calling thread.
const PARALLEL_WORK: usize = 1 << 19;

/// The instructions that multiply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Instructions {
    /// `tdpbf16ps` on tile registers.
    #[cfg(target_arch = "x86_64")]
    Amx,
    /// `vdpbf16ps` on 32 numbers.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// Plain loops that round as AMX does; for machines without such instructions, where they are slower than fp32.
    Portable,
}

impl Instructions {
    /// The fastest that this CPU has.
    pub(crate) fn of_this_cpu() -> Self {
        static FOUND: OnceLock<Instructions> = OnceLock::new();
        *FOUND.get_or_init(|| {
            #[cfg(target_arch = "x86_64")]
            if avx512::is_present() {
                return if amx::is_present() { Self::Amx } else { Self::Avx512 };
            }
            Self::Portable
        })
    }

    /// Whether the CPU multiplies in bfloat16 itself.
    pub(crate) fn is_native(self) -> bool {
        self != Self::Portable
    }

    /// All that this CPU has.
    #[cfg(test)]
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(unused_mut, reason = "others have the loops only")
    )]
    fn all() -> Vec<Self> {
        let mut all = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        if avx512::is_present() {
            all.push(Self::Avx512);
            all.extend(amx::is_present().then_some(Self::Amx));
        }
        all
    }
}

/// The first number of an operand, in one of two types.
#[derive(Clone, Copy)]
enum Numbers {
    Single(*const f32),
    Half(*const bf16),
}

/// A matrix that is read, in single precision or bfloat16.
#[derive(Clone, Copy)]
pub(crate) struct Matrix {
    numbers: Numbers,
    row_stride: usize,
    column_stride: usize,
}

// SAFETY: a matrix is only read, and its maker guarantees that the memory outlives the call.
unsafe impl Send for Matrix {}
// SAFETY: as above.
unsafe impl Sync for Matrix {}

impl Matrix {
    /// `rows x columns` numbers, row after row.
    pub(crate) fn single(data: &[f32], rows: usize, columns: usize) -> Self {
        assert!(data.len() >= rows * columns, "operand is shorter than its shape");
        Self {
            numbers: Numbers::Single(data.as_ptr()),
            row_stride: columns,
            column_stride: 1,
        }
    }

    /// Numbers in single precision with any distance between rows.
    ///
    /// # Safety
    ///
    /// Every element that a product of the sizes it is used with reaches must be readable.
    pub(crate) unsafe fn single_strided(ptr: *const f32, row_stride: usize) -> Self {
        Self {
            numbers: Numbers::Single(ptr),
            row_stride,
            column_stride: 1,
        }
    }

    /// `rows x columns` numbers that are rounded already, row after row.
    pub(crate) fn half(data: &[bf16], rows: usize, columns: usize) -> Self {
        assert!(data.len() >= rows * columns, "operand is shorter than its shape");
        // SAFETY: the assertion above.
        unsafe { Self::half_strided(data.as_ptr(), columns) }
    }

    /// Rounded numbers with any distance between rows.
    ///
    /// # Safety
    ///
    /// Every element that a product of the sizes it is used with reaches must be readable.
    pub(crate) unsafe fn half_strided(ptr: *const bf16, row_stride: usize) -> Self {
        Self {
            numbers: Numbers::Half(ptr),
            row_stride,
            column_stride: 1,
        }
    }

    /// An operand of single precision, to be rounded.
    pub(crate) fn of(operand: Operand) -> Self {
        Self {
            numbers: Numbers::Single(operand.ptr),
            row_stride: operand.row_stride as usize,
            column_stride: operand.column_stride as usize,
        }
    }

    /// The transposed matrix.
    pub(crate) fn transposed(self) -> Self {
        Self {
            numbers: self.numbers,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }

    /// The matrix from `row` and `column` on.
    ///
    /// # Safety
    ///
    /// Both must be within the matrix.
    pub(crate) unsafe fn from(self, row: usize, column: usize) -> Self {
        let offset = row * self.row_stride + column * self.column_stride;
        // SAFETY: the caller's promise.
        let numbers = unsafe {
            match self.numbers {
                Numbers::Single(ptr) => Numbers::Single(ptr.add(offset)),
                Numbers::Half(ptr) => Numbers::Half(ptr.add(offset)),
            }
        };
        Self { numbers, ..self }
    }
}

/// 16 lines by 32 numbers: of A line by line, of B pair by pair of each line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Block([bf16; LINES * BLOCK_DEPTH]);

/// `C = A B`, `C += A B` or `C = addend + A B`, with all threads.
///
/// # Safety
///
/// Operands and target must reach over their sizes, and the target must not overlap the operands.
pub(crate) unsafe fn matmul(sizes: Sizes, a: Matrix, b: Matrix, c: Target, write: Write) {
    // SAFETY: the caller's promise.
    unsafe { matmul_with(Instructions::of_this_cpu(), sizes, a, b, c, write) }
}

/// The same for operands in single precision, on the calling thread.
///
/// # Safety
///
/// As [`matmul`].
pub(crate) unsafe fn matmul_columns(sizes: Sizes, a: Operand, b: Operand, c: Target, write: Write) {
    let [a, b] = [a, b].map(Matrix::of);
    // SAFETY: the caller's promise.
    unsafe { matmul_part(Instructions::of_this_cpu(), sizes, a, b, c, write) }
}

/// # Safety
///
/// As [`matmul`].
unsafe fn matmul_with(instructions: Instructions, sizes: Sizes, a: Matrix, b: Matrix, c: Target, write: Write) {
    let Sizes { m, n, k } = sizes;
    let threads = rayon::current_num_threads();
    if threads == 1 || m * n * k < PARALLEL_WORK {
        // SAFETY: the caller's promise.
        return unsafe { matmul_part(instructions, sizes, a, b, c, write) };
    }
    // Every task packs the whole of the operand that is not divided, so the larger one is.
    if m >= n {
        let per_task = m.div_ceil(threads).next_multiple_of(TILE);
        parallel::for_each(m.div_ceil(per_task), |task| {
            let from = task * per_task;
            let sizes = Sizes {
                m: per_task.min(m - from),
                ..sizes
            };
            // SAFETY: the caller's promise; tasks have different rows.
            unsafe {
                matmul_part(
                    instructions,
                    sizes,
                    a.from(from, 0),
                    b,
                    c.from(from, 0),
                    write.from(from, 0),
                )
            };
        });
    } else {
        let per_task = n.div_ceil(threads).next_multiple_of(TILE);
        parallel::for_each(n.div_ceil(per_task), |task| {
            let from = task * per_task;
            let sizes = Sizes {
                n: per_task.min(n - from),
                ..sizes
            };
            // SAFETY: the caller's promise; tasks have different columns.
            unsafe {
                matmul_part(
                    instructions,
                    sizes,
                    a,
                    b.from(0, from),
                    c.from(0, from),
                    write.from(0, from),
                )
            };
        });
    }
}

thread_local! {
    /// Packed A and packed B of the product that this thread computes; kept, so that no product allocates.
    static PACKED: RefCell<(Packed, Packed)> = RefCell::default();
}

/// An operand in blocks: strips of 16 lines, each with its blocks one after the other. The memory is used again.
#[derive(Default)]
pub(crate) struct Packed {
    blocks: Vec<Block>,
    per_strip: usize,
}

impl Packed {
    /// Packs the rows of a matrix as lines.
    ///
    /// # Safety
    ///
    /// The matrix must reach over `lines x depth`.
    pub(crate) unsafe fn pack(
        &mut self,
        instructions: Instructions,
        matrix: Matrix,
        lines: usize,
        depth: usize,
        order: Order,
    ) {
        self.per_strip = blocks_of(depth);
        // SAFETY: the caller's promise.
        unsafe { pack(instructions, matrix, lines, depth, order, &mut self.blocks) };
    }

    /// The block of a line and a place in the sum, multiples of their sizes in a block.
    fn at(&self, line: usize, depth: usize) -> *const Block {
        self.blocks[line / LINES * self.per_strip + depth / BLOCK_DEPTH..].as_ptr()
    }
}

/// Blocks that a sum of this length takes; one of zeros where it is empty.
fn blocks_of(depth: usize) -> usize {
    depth.div_ceil(BLOCK_DEPTH).max(1)
}

/// The rows of A: the first ones in place, those after them packed.
pub(crate) struct Left<'a> {
    /// The first number in place, and the bytes between its rows.
    in_place: (*const bf16, usize),
    rows_in_place: usize,
    rest: &'a Packed,
}

impl<'a> Left<'a> {
    /// All rows packed.
    pub(crate) fn packed(packed: &'a Packed) -> Self {
        Self {
            in_place: (std::ptr::null(), 0),
            rows_in_place: 0,
            rest: packed,
        }
    }

    /// Rows in place, each as long as whole blocks, with any distance between them.
    ///
    /// # Safety
    ///
    /// As many rows as whole tiles need must be readable; what is in those that are not used does not matter.
    pub(crate) unsafe fn in_place(ptr: *const bf16, row_stride: usize, rows: usize, unused: &'a Packed) -> Self {
        Self {
            in_place: (ptr, row_stride * size_of::<bf16>()),
            rows_in_place: rows.next_multiple_of(TILE),
            rest: unused,
        }
    }

    /// In place as far as that is possible, the rest packed.
    ///
    /// # Safety
    ///
    /// `a` must reach over `rows x depth`.
    unsafe fn new(instructions: Instructions, a: Matrix, rows: usize, depth: usize, packed: &'a mut Packed) -> Self {
        let (first, rows_in_place) = match a.numbers {
            Numbers::Half(ptr) if a.column_stride == 1 && depth.is_multiple_of(BLOCK_DEPTH) && depth > 0 => {
                (ptr, rows / TILE * TILE)
            }
            _ => (std::ptr::null(), 0),
        };
        if rows_in_place < rows {
            // SAFETY: the caller's promise.
            unsafe {
                let rest = a.from(rows_in_place, 0);
                packed.pack(instructions, rest, rows - rows_in_place, depth, Order::Lines);
            }
        }
        Self {
            in_place: (first, a.row_stride * size_of::<bf16>()),
            rows_in_place,
            rest: packed,
        }
    }

    /// The two strips of a tile, the bytes between their rows, and those from one block to the next.
    fn strips(&self, row: usize) -> ([*const bf16; 2], usize, usize) {
        if row < self.rows_in_place {
            let (ptr, row_bytes) = self.in_place;
            let strip = |row: usize| ptr.wrapping_byte_add(row * row_bytes);
            return (
                [strip(row), strip(row + LINES)],
                row_bytes,
                BLOCK_DEPTH * size_of::<bf16>(),
            );
        }
        let strip = |row: usize| self.rest.at(row - self.rows_in_place, 0).cast::<bf16>();
        (
            [strip(row), strip(row + LINES)],
            BLOCK_DEPTH * size_of::<bf16>(),
            size_of::<Block>(),
        )
    }
}

/// The columns of B, packed, from one of them and from one place in the sum on.
#[derive(Clone, Copy)]
pub(crate) struct Right<'a> {
    pub(crate) packed: &'a Packed,
    /// A multiple of [`TILE`].
    pub(crate) column: usize,
    /// A multiple of [`BLOCK_DEPTH`].
    pub(crate) depth: usize,
}

/// What a thread needs while it multiplies; it stays on that thread.
pub(crate) struct Session {
    pub(crate) instructions: Instructions,
    #[cfg(target_arch = "x86_64")]
    _tiles: Option<amx::Configured>,
}

impl Session {
    pub(crate) fn new(instructions: Instructions) -> Self {
        Self {
            instructions,
            #[cfg(target_arch = "x86_64")]
            _tiles: (instructions == Instructions::Amx).then(amx::Configured::new),
        }
    }
}

/// A product on the calling thread.
///
/// # Safety
///
/// As [`matmul`].
unsafe fn matmul_part(instructions: Instructions, sizes: Sizes, a: Matrix, b: Matrix, c: Target, write: Write) {
    let Sizes { m, n, k } = sizes;
    let session = Session::new(instructions);
    PACKED.with_borrow_mut(|(packed_a, packed_b)| {
        let pieces = k.div_ceil(DEPTH).max(1);
        let whole = k.div_ceil(pieces).next_multiple_of(BLOCK_DEPTH).max(1);
        let mut write = write;
        for start in (0..k.max(1)).step_by(whole) {
            let depth = whole.min(k - start);
            for row in (0..m).step_by(ROWS) {
                let rows = ROWS.min(m - row);
                // SAFETY: offsets are within the sizes.
                unsafe {
                    let left = Left::new(instructions, a.from(row, start), rows, depth, packed_a);
                    for column in (0..n).step_by(COLUMNS) {
                        let columns = COLUMNS.min(n - column);
                        let right = b.from(start, column).transposed();
                        packed_b.pack(instructions, right, columns, depth, Order::Pairs);
                        let right = Right {
                            packed: packed_b,
                            column: 0,
                            depth: 0,
                        };
                        let sizes = Sizes {
                            m: rows,
                            n: columns,
                            k: depth,
                        };
                        let (c, write) = (c.from(row, column), write.from(row, column));
                        product(&session, sizes, &left, right, c, write);
                    }
                }
            }
            write = Write::Add;
        }
    });
}

/// The product of operands that are packed or in place, on the calling thread.
///
/// # Safety
///
/// `c` and `write` must reach over the sizes, `left` and `right` hold them.
pub(crate) unsafe fn product(
    session: &Session,
    sizes: Sizes,
    left: &Left<'_>,
    right: Right<'_>,
    c: Target,
    write: Write,
) {
    let Sizes { m, n, k } = sizes;
    let blocks = blocks_of(k);
    for column in (0..n).step_by(TILE) {
        let strip = |column: usize| right.packed.at(right.column + column, right.depth);
        let b = [strip(column), strip(column + LINES)];
        for row in (0..m).step_by(TILE) {
            let (a, row_bytes, step_bytes) = left.strips(row);
            let operands = Operands {
                blocks,
                a,
                row_bytes,
                step_bytes,
                b,
            };
            // SAFETY: the tile is within the sizes.
            unsafe {
                let (c, write) = (c.from(row, column), write.from(row, column));
                tile(session.instructions, &operands, [m - row, n - column], c, write);
            }
        }
    }
}

/// What a tile of the result is summed from.
struct Operands {
    /// Blocks along the sum.
    blocks: usize,
    /// The first row of both strips of A.
    a: [*const bf16; 2],
    /// Bytes from one row of A to the next.
    row_bytes: usize,
    /// Bytes from one block of A to the next.
    step_bytes: usize,
    /// Both strips of B.
    b: [*const Block; 2],
}

/// A tile of single-precision numbers.
#[repr(C, align(64))]
struct Scratch([f32; TILE * TILE]);

/// One tile; `rows` and `columns` are what is left from it on.
///
/// # Safety
///
/// `c` and `write` must reach over what is left of the tile.
unsafe fn tile(instructions: Instructions, operands: &Operands, [rows, columns]: [usize; 2], c: Target, write: Write) {
    let addend = match write {
        Write::Replace => None,
        Write::Add => Some((c.ptr.cast_const(), c.row_stride)),
        Write::Onto(Operand { ptr, row_stride, .. }) => Some((ptr, row_stride as usize)),
    };
    if rows >= TILE && columns >= TILE {
        // SAFETY: the whole tile is there.
        return unsafe { whole_tile(instructions, operands, addend, (c.ptr, c.row_stride)) };
    }
    let (rows, columns) = (rows.min(TILE), columns.min(TILE));
    let mut scratch = Scratch([0.0; TILE * TILE]);
    // SAFETY: rows and columns are within the tile and what the caller promises.
    unsafe {
        if let Some((ptr, stride)) = addend {
            for (row, scratch) in scratch.0.chunks_exact_mut(TILE).enumerate().take(rows) {
                scratch[..columns].copy_from_slice(std::slice::from_raw_parts(ptr.add(row * stride), columns));
            }
        }
        let out = scratch.0.as_mut_ptr();
        whole_tile(instructions, operands, Some((out.cast_const(), TILE)), (out, TILE));
        for (row, scratch) in scratch.0.chunks_exact(TILE).enumerate().take(rows) {
            let out = std::slice::from_raw_parts_mut(c.ptr.add(row * c.row_stride), columns);
            out.copy_from_slice(&scratch[..columns]);
        }
    }
}

/// `to = from + A B` for 32 x 32 numbers; pointers come with the numbers between their rows.
///
/// # Safety
///
/// All pointers must reach over a whole tile.
unsafe fn whole_tile(
    instructions: Instructions,
    operands: &Operands,
    from: Option<(*const f32, usize)>,
    to: (*mut f32, usize),
) {
    // SAFETY: instructions are chosen where the CPU has them; the rest is the caller's promise.
    unsafe {
        match instructions {
            #[cfg(target_arch = "x86_64")]
            Instructions::Amx => amx::tile(operands, from, to),
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => avx512::tile(operands, from, to),
            Instructions::Portable => portable::tile(operands, from, to),
        }
    }
}
