//! The products of quantized weights, as ordinary loops: what the fused CPU kernels must equal bit for bit.

#[cfg(test)]
use super::Epilogue;
use super::Matrix;
use super::activations::Activations;
use super::blocks::BLOCK;

/// One number of `x W^T` with weights of integers: that of a row of the activations and a row of W.
///
/// It is summed in one order, whatever the number of rows and threads and the instructions: the products of a block of 32, or of 16 where these
/// have their own scale, are added exactly, as integers, and their sum times both scales is added to the running sum, block after block. The
/// minima are summed on their own and subtracted at the end.
pub(super) fn integers(x: &Activations, weight: Matrix<'_>, row: usize, column: usize) -> f32 {
    let blocks = weight.columns / BLOCK;
    let parts = weight.kind.block().0 / BLOCK;
    let bytes = weight.row(column);
    let block_bytes = weight.kind.block().1;
    let scaled = if weight.kind.has_two_scales() { BLOCK / 2 } else { BLOCK };
    let (mut sum, mut minima) = (0.0_f32, 0.0_f32);
    for block in 0..blocks {
        let part = weight
            .kind
            .part(&bytes[block / parts * block_bytes..][..block_bytes], block % parts);
        let activations = &x.integers[row * weight.columns + block * BLOCK..][..BLOCK];
        let scale = x.scales[row * blocks + block];
        let products = part.integers.chunks(scaled).zip(activations.chunks(scaled));
        for ((integers, activations), weight_scale) in products.zip(part.scales) {
            let products = integers
                .iter()
                .zip(activations)
                .map(|(w, x)| i32::from(*w) * i32::from(*x));
            sum = (products.sum::<i32>() as f32).mul_add(weight_scale * scale, sum);
        }
        minima = part.minimum.mul_add(x.sums[row * blocks + block], minima);
    }
    sum - minima
}

/// Partial sums of a product with floats.
pub(super) const FLOAT_LANES: usize = 16;

/// One number of `x W^T` with weights in 16- or 32-bit floats: lane `i` sums the products of the columns `i`, `i + 16`, ..., then the lanes are
/// added by halves.
#[cfg(test)]
pub(super) fn floats(x: &[f32], weight: Matrix<'_>, row: usize, column: usize) -> f32 {
    let mut values = vec![0.0; weight.columns];
    weight.kind.decode(weight.row(column), &mut values);
    let mut lanes = [0.0_f32; FLOAT_LANES];
    for (i, (weight, x)) in values.iter().zip(&x[row * weight.columns..]).enumerate() {
        lanes[i % FLOAT_LANES] = weight.mul_add(*x, lanes[i % FLOAT_LANES]);
    }
    sum_of_lanes(lanes)
}

/// The lanes of the lower half plus those of the upper one, until one is left.
#[inline(always)]
pub(super) fn sum_of_lanes<const N: usize>(mut lanes: [f32; N]) -> f32 {
    let mut width = N / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

#[cfg(test)]
/// All results, one after the other.
pub(super) fn product(x: &[f32], weight: Matrix<'_>, epilogue: Epilogue<'_>, y: &mut [f32]) {
    let rounded = weight.kind.is_integer().then(|| Activations::of(x, weight.columns));
    for (row, out) in y.chunks_exact_mut(weight.rows).enumerate() {
        let sum = |column| match &rounded {
            Some(x) => integers(x, weight, row, column),
            None => floats(x, weight, row, column),
        };
        let sums: Vec<f32> = (0..weight.rows).map(sum).collect();
        epilogue.write(&sums, row, 0, out);
    }
}

/// The matrix in single precision, `[rows, columns]`.
pub(super) fn dequantized(weight: Matrix<'_>) -> Vec<f32> {
    let mut values = vec![0.0; weight.rows * weight.columns];
    for (row, values) in values.chunks_exact_mut(weight.columns.max(1)).enumerate() {
        weight.kind.decode(weight.row(row), values);
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantized::WeightType;

    #[test]
    fn lanes_are_added_by_halves() {
        assert_eq!(sum_of_lanes([1e8, 1.0, -1e8, 1.0]), 2.0);
        assert_eq!(sum_of_lanes([1.0; 8]), 8.0);
    }

    #[test]
    fn all_types_have_a_block() {
        for kind in WeightType::ALL {
            let (values, bytes) = kind.block();
            assert_eq!(kind.row_bytes(4 * values), Some(4 * bytes));
        }
    }
}
