//! A tile of the product in plain loops, in the order of AMX and with its rounding.

use half::bf16;

use super::{BLOCK_DEPTH, LINES, Operands, TILE};

/// `to = from + A B`, 32 x 32 numbers. A product of two numbers of eight bits is exact in single precision. Even and odd
/// products of a block are two sums from zero, and their sum is added to the result. Numbers too small for full precision
/// are zeros for AMX and are not here.
///
/// # Safety
///
/// All pointers must reach over a whole tile.
pub(super) unsafe fn tile(operands: &Operands, from: Option<(*const f32, usize)>, to: (*mut f32, usize)) {
    for row in 0..TILE {
        let mut sums = [0.0_f32; TILE];
        // SAFETY: the caller's promise.
        unsafe {
            if let Some((from, stride)) = from {
                sums.copy_from_slice(std::slice::from_raw_parts(from.add(row * stride), TILE));
            }
            let a = operands.a[row / LINES].byte_add(row % LINES * operands.row_bytes);
            for (half, sums) in sums.as_chunks_mut::<LINES>().0.iter_mut().enumerate() {
                for block in 0..operands.blocks {
                    let a = a.byte_add(block * operands.step_bytes);
                    let b = &(*operands.b[half].add(block)).0;
                    add(std::slice::from_raw_parts(a, BLOCK_DEPTH), b, sums);
                }
            }
            std::slice::from_raw_parts_mut(to.0.add(row * to.1), TILE).copy_from_slice(&sums);
        }
    }
}

/// Adds a row of A times a block of B.
fn add(a: &[bf16], b: &[bf16; LINES * BLOCK_DEPTH], sums: &mut [f32; LINES]) {
    let mut even = [0.0_f32; LINES];
    let mut odd = [0.0_f32; LINES];
    let (pairs, _) = a.as_chunks::<2>();
    for ([first, second], b) in pairs.iter().zip(b.chunks_exact(2 * LINES)) {
        let (first, second) = (first.to_f32(), second.to_f32());
        for (i, [near, far]) in b.as_chunks::<2>().0.iter().enumerate() {
            even[i] += first * near.to_f32();
            odd[i] += second * far.to_f32();
        }
    }
    for ((sum, even), odd) in sums.iter_mut().zip(even).zip(odd) {
        *sum += even + odd;
    }
}
