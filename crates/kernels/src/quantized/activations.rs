//! Activations rounded to eight bits, a scale per block of 32.

use super::blocks::BLOCK;
use crate::cpu::vectorized;

/// Rows of activations for products with integer weights.
pub(super) struct Activations {
    /// `[rows, columns]`: integers from -127 to 127.
    pub(super) integers: Vec<i8>,
    /// `[rows, columns / 32]`: an activation is its integer times the scale of its block.
    pub(super) scales: Vec<f32>,
    /// `[rows, columns / 32]`: the sum of a block's integers times its scale, for weights that have a minimum.
    pub(super) sums: Vec<f32>,
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
            columns,
        };
        round(blocks, &mut rounded.integers, &mut rounded.scales, &mut rounded.sums);
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
    ) {
        let (integers, _) = integers.as_chunks_mut::<BLOCK>();
        for ((block, integers), (scale, sum)) in blocks.iter().zip(integers).zip(scales.iter_mut().zip(sums)) {
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
            // Below this the inverse would not be finite; such a block is zero in eight bits next to any other.
            let inverse = if largest < f32::MIN_POSITIVE { 0.0 } else { 127.0 / largest };
            let mut total = 0_i32;
            for (integer, value) in integers.iter_mut().zip(block) {
                let rounded = (value * inverse).round_ties_even() as i32;
                *integer = rounded as i8;
                total += rounded;
            }
            *scale = if is_finite { largest / 127.0 } else { f32::NAN };
            *sum = total as f32 * *scale;
        }
    }
}
