//! Activations rounded to eight bits, a scale per block of 32.

use super::blocks::BLOCK;
use crate::cpu::{parallel, vectorized};

/// A block whose values are all below this has an inverse scale that is not finite, or nearly.
const LEAST: f32 = 128.0 / f32::MAX;

/// Blocks that a task rounds.
const TASK_BLOCKS: usize = 512;

/// Rows of activations for products with integer weights.
pub(super) struct Activations {
    /// `[rows, columns]`: integers from -127 to 127.
    pub(super) integers: Vec<i8>,
    /// `[rows, columns / 32]`: an activation is its integer times the scale of its block.
    pub(super) scales: Vec<f32>,
    /// `[rows, columns / 32]`: the sum of a block's integers times its scale, for weights that have a minimum.
    pub(super) sums: Vec<f32>,
    /// `[rows, columns / 16]`: the sums of 16 integers.
    pub(super) halves: Vec<i32>,
    pub(super) columns: usize,
}

impl Activations {
    /// Rounds each block by its largest value, halves to even. A block with a value that is not finite has a scale that is not a number,
    /// so that all it is multiplied with shows it.
    pub(super) fn of(x: &[f32], columns: usize) -> Self {
        let (blocks, rest) = x.as_chunks::<BLOCK>();
        assert!(
            rest.is_empty() && columns.is_multiple_of(BLOCK),
            "activations are not whole blocks"
        );
        let mut rounded = Self {
            integers: vec![0; x.len()],
            scales: vec![0.0; blocks.len()],
            sums: vec![0.0; blocks.len()],
            halves: vec![0; 2 * blocks.len()],
            columns,
        };
        let integers = parallel::Parts::new(&mut rounded.integers);
        let scales = parallel::Parts::new(&mut rounded.scales);
        let sums = parallel::Parts::new(&mut rounded.sums);
        let halves = parallel::Parts::new(&mut rounded.halves);
        parallel::for_each(blocks.len().div_ceil(TASK_BLOCKS), |task| {
            let first = task * TASK_BLOCKS;
            let len = TASK_BLOCKS.min(blocks.len() - first);
            // SAFETY: tasks have different blocks.
            unsafe {
                round(
                    &blocks[first..first + len],
                    integers.part(first * BLOCK, len * BLOCK),
                    scales.part(first, len),
                    sums.part(first, len),
                    halves.part(2 * first, 2 * len),
                );
            }
        });
        rounded
    }

    pub(super) fn rows(&self) -> usize {
        self.integers.len() / self.columns.max(1)
    }
}

vectorized! {
    fn round<'a>(
        blocks: &'a [[f32; BLOCK]],
        integers: &'a mut [i8],
        scales: &'a mut [f32],
        sums: &'a mut [f32],
        halves: &'a mut [i32],
    ) {
        let (integers, _) = integers.as_chunks_mut::<BLOCK>();
        let (halves, _) = halves.as_chunks_mut::<2>();
        let out = scales.iter_mut().zip(sums).zip(halves);
        for ((block, integers), ((scale, sum), halves)) in blocks.iter().zip(integers).zip(out) {
            let mut largest = [0.0_f32; BLOCK];
            let mut is_finite = true;
            for (largest, value) in largest.iter_mut().zip(block) {
                *largest = value.abs();
                is_finite &= value.is_finite();
            }
            let mut width = BLOCK / 2;
            while width > 0 {
                for i in 0..width {
                    largest[i] = if largest[i] > largest[i + width] { largest[i] } else { largest[i + width] };
                }
                width /= 2;
            }
            let largest = largest[0];
            // Such a block is zero in eight bits next to any other.
            let inverse = if largest < LEAST { 0.0 } else { 127.0 / largest };
            for (integer, value) in integers.iter_mut().zip(block) {
                *integer = (value * inverse).round_ties_even() as i32 as i8;
            }
            for (half, integers) in halves.iter_mut().zip(integers.chunks_exact(BLOCK / 2)) {
                *half = integers.iter().map(|x| i32::from(*x)).sum();
            }
            let total = halves[0] + halves[1];
            *scale = if is_finite { largest / 127.0 } else { f32::NAN };
            *sum = total as f32 * *scale;
        }
    }
}
