//! Blocks: the order in which tiles read their operands.

use half::bf16;

use super::round::round;
use super::{BLOCK_DEPTH, Block, Instructions, LINES, Matrix, Numbers, TILE};

/// What is next to each other in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// The numbers of a line: A.
    Lines,
    /// The same pair of numbers of all lines: B.
    Pairs,
}

/// Copies `lines x depth` of a matrix, whose rows are the lines, into blocks: strips of 16 lines one after the other, each
/// with all its blocks; an even number of strips. What is past the end is zeros.
///
/// # Safety
///
/// The matrix must reach over `lines x depth`.
pub(super) unsafe fn pack(
    instructions: Instructions,
    matrix: Matrix,
    lines: usize,
    depth: usize,
    order: Order,
    packed: &mut Vec<Block>,
) {
    let blocks = depth.div_ceil(BLOCK_DEPTH).max(1);
    let strips = lines.div_ceil(TILE) * (TILE / LINES);
    if packed.len() < strips * blocks {
        packed.resize(strips * blocks, Block([bf16::ZERO; LINES * BLOCK_DEPTH]));
    }
    let mut one = |strip: usize, block: usize| {
        let (line, at) = (strip * LINES, block * BLOCK_DEPTH);
        let sizes = [lines.saturating_sub(line).min(LINES), (depth - at).min(BLOCK_DEPTH)];
        // A strip of padding has no place of its own.
        let (line, at) = if sizes[0] == 0 { (0, 0) } else { (line, at) };
        // SAFETY: the place is within the matrix.
        unsafe {
            pack_block(
                instructions,
                matrix.from(line, at),
                sizes,
                order,
                &mut packed[strip * blocks + block],
            )
        };
    };
    // The matrix is read in the order in which it is in memory.
    if matrix.column_stride == 1 {
        (0..strips).for_each(|strip| (0..blocks).for_each(|block| one(strip, block)));
    } else {
        (0..blocks).for_each(|block| (0..strips).for_each(|strip| one(strip, block)));
    }
}

/// # Safety
///
/// The matrix must reach over the sizes, lines and depth.
unsafe fn pack_block(instructions: Instructions, matrix: Matrix, sizes: [usize; 2], order: Order, out: &mut Block) {
    #[cfg(target_arch = "x86_64")]
    if instructions != Instructions::Portable && (matrix.row_stride == 1 || matrix.column_stride == 1) {
        use super::avx512::{Place, block_of_halves, block_of_singles};
        let (line_stride, depth_stride) = (matrix.row_stride, matrix.column_stride);
        // SAFETY: the instructions are there, and the rest is the caller's promise.
        return unsafe {
            match (matrix.numbers, order) {
                (Numbers::Single(ptr), order) => {
                    let place = Place {
                        ptr,
                        line_stride,
                        depth_stride,
                    };
                    match order {
                        Order::Lines => block_of_singles::<false>(place, sizes, out),
                        Order::Pairs => block_of_singles::<true>(place, sizes, out),
                    }
                }
                (Numbers::Half(ptr), order) => {
                    let place = Place {
                        ptr,
                        line_stride,
                        depth_stride,
                    };
                    match order {
                        Order::Lines => block_of_halves::<false>(place, sizes, out),
                        Order::Pairs => block_of_halves::<true>(place, sizes, out),
                    }
                }
            }
        };
    }
    let _ = instructions;
    let [lines, depth] = sizes;
    out.0.fill(bf16::ZERO);
    for line in 0..lines {
        for i in 0..depth {
            // SAFETY: the caller's promise.
            let number = unsafe {
                let at = line * matrix.row_stride + i * matrix.column_stride;
                match matrix.numbers {
                    Numbers::Single(ptr) => round(ptr.add(at).read()),
                    Numbers::Half(ptr) => ptr.add(at).read(),
                }
            };
            let place = match order {
                Order::Lines => line * BLOCK_DEPTH + i,
                Order::Pairs => (i / 2 * LINES + line) * 2 + i % 2,
            };
            out.0[place] = number;
        }
    }
}
