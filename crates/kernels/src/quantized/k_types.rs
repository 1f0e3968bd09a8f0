//! Rounding to Q4_K, Q5_K and Q6_K as llama.cpp's `quantize_row_*_ref` does, which is what `llama-quantize` uses without an importance
//! matrix. Each sum is in its order, so that the bytes are equal.

use half::f16;

use super::blocks::{BLOCK, SUPER_BLOCK, WeightType, q4k_scales};
use crate::cpu::parallel;

/// A group of values below this is zero.
const LEAST: f32 = 1e-15;

/// More than any of these types holds: the largest half times the largest scale and integer. Squares of more could be infinite.
const GREATEST: f32 = 1e9;

/// Super-blocks that a thread rounds at a time.
const TASK_BLOCKS: usize = 64;

/// Values of a group of Q6_K, which have one scale.
const GROUP: usize = 16;

/// Rounds whole super-blocks; `None` where a value is not a number or too large for the type.
///
/// # Panics
///
/// Where the values are not whole super-blocks, or the type has none.
pub(super) fn encode(kind: WeightType, values: &[f32]) -> Option<Vec<u8>> {
    let (blocks, rest) = values.as_chunks::<SUPER_BLOCK>();
    assert!(rest.is_empty(), "values are not whole blocks");
    if !values.iter().fold(true, |all, value| all & (value.abs() <= GREATEST)) {
        return None;
    }
    let (_, size) = kind.block();
    let mut bytes = vec![0; blocks.len() * size];
    let out = parallel::Parts::new(&mut bytes);
    parallel::for_each(blocks.len().div_ceil(TASK_BLOCKS), |task| {
        let from = task * TASK_BLOCKS;
        let blocks = &blocks[from..(from + TASK_BLOCKS).min(blocks.len())];
        // SAFETY: tasks have different blocks.
        let out = unsafe { out.part(from * size, blocks.len() * size) };
        for (values, out) in blocks.iter().zip(out.chunks_exact_mut(size)) {
            match kind {
                WeightType::Q4K => with_minima(values, out, 15, -1.0, 20),
                WeightType::Q5K => with_minima(values, out, 31, -0.5, 15),
                WeightType::Q6K => six_bits(values, out),
                other => unreachable!("{other} has no super-blocks"),
            }
        }
    });
    let scale_is_finite = |block: &[u8]| match kind {
        WeightType::Q6K => half(&block[208..]).is_finite(),
        _ => half(block).is_finite() && half(&block[2..]).is_finite(),
    };
    bytes.chunks_exact(size).all(scale_is_finite).then_some(bytes)
}

/// `quantize_row_q4_K_ref` and `quantize_row_q5_K_ref`: integers from 0 to `most`, `steps` + 1 scales tried from `first` on.
fn with_minima(values: &[f32; SUPER_BLOCK], out: &mut [u8], most: u8, first: f32, steps: i32) {
    let (parts, _) = values.as_chunks::<BLOCK>();
    let mut integers = [[0_u8; BLOCK]; SUPER_BLOCK / BLOCK];
    let (mut scales, mut minima) = ([0.0_f32; 8], [0.0_f32; 8]);
    for (index, part) in parts.iter().enumerate() {
        let squares = part.iter().fold(0.0, |sum, value| sum + value * value);
        let usual = (squares / BLOCK as f32).sqrt();
        let weights = part.map(|value| usual + value.abs());
        (scales[index], minima[index]) = scale_and_minimum(part, &weights, &mut integers[index], most, first, steps);
    }
    let largest = |numbers: &[f32; 8]| {
        numbers
            .iter()
            .fold(0.0_f32, |most, x| if *x > most { *x } else { most })
    };
    let (largest_scale, largest_minimum) = (largest(&scales), largest(&minima));
    let inverse = |largest: f32| if largest > 0.0 { 63.0 / largest } else { 0.0 };
    let (inverse_scale, inverse_minimum) = (inverse(largest_scale), inverse(largest_minimum));
    out[..2].copy_from_slice(&f16::from_f32(largest_scale / 63.0).to_le_bytes());
    out[2..4].copy_from_slice(&f16::from_f32(largest_minimum / 63.0).to_le_bytes());
    let packed = &mut out[4..16];
    for index in 0..8 {
        let scale = (nearest(inverse_scale * scales[index]) as u8).min(63);
        let minimum = (nearest(inverse_minimum * minima[index]) as u8).min(63);
        if index < 4 {
            packed[index] = scale;
            packed[index + 4] = minimum;
        } else {
            packed[index + 4] = scale & 0x0f | (minimum & 0x0f) << 4;
            packed[index - 4] |= scale >> 4 << 6;
            packed[index] |= minimum >> 4 << 6;
        }
    }
    for (index, part) in parts.iter().enumerate() {
        let (scale, minimum) = q4k_scales(&out[4..16], index);
        let scale = half(out) * f32::from(scale);
        if scale != 0.0 {
            let minimum = half(&out[2..]) * f32::from(minimum);
            integers[index] = part.map(|value| nearest((value + minimum) / scale).clamp(0, i32::from(most)) as u8);
        }
    }
    let (fifths, nibbles) = out[16..].split_at_mut(if most == 31 { BLOCK } else { 0 });
    for (pair, nibbles) in nibbles.chunks_exact_mut(BLOCK).enumerate() {
        for (i, nibble) in nibbles.iter_mut().enumerate() {
            *nibble = integers[2 * pair][i] & 0x0f | (integers[2 * pair + 1][i] & 0x0f) << 4;
        }
    }
    for (i, fifth) in fifths.iter_mut().enumerate() {
        *fifth = (0..8).fold(0, |bits, index| bits | integers[index][i] >> 4 << index);
    }
}

/// `make_qkx2_quants`: the scale and the minimum (as it is subtracted) with the least weighted squared error among those that are tried.
fn scale_and_minimum(
    values: &[f32; BLOCK],
    weights: &[f32; BLOCK],
    integers: &mut [u8; BLOCK],
    most: u8,
    first: f32,
    steps: i32,
) -> (f32, f32) {
    let (mut least, mut greatest) = (values[0], values[0]);
    let mut sum_of_weights = weights[0];
    let mut sum_of_values = sum_of_weights * values[0];
    for (value, weight) in values.iter().zip(weights).skip(1) {
        least = if *value < least { *value } else { least };
        greatest = if *value > greatest { *value } else { greatest };
        sum_of_weights += weight;
        sum_of_values += weight * value;
    }
    if least > 0.0 {
        least = 0.0;
    }
    if greatest == least {
        integers.fill(0);
        return (0.0, -least);
    }
    // Relative to the value with the least integer as long as no better minimum is found, as in llama.cpp.
    let rounded = |inverse: f32, least: f32| -> [u8; BLOCK] {
        values.map(|value| nearest(inverse * (value - least)).clamp(0, i32::from(most)) as u8)
    };
    let error = |integers: &[u8; BLOCK], scale: f32, least: f32| {
        let terms = integers.iter().zip(values).zip(weights);
        terms.fold(0.0, |sum, ((integer, value), weight)| {
            let difference = scale * f32::from(*integer) + least - value;
            sum + weight * (difference * difference)
        })
    };
    let inverse = f32::from(most) / (greatest - least);
    let mut scale = 1.0 / inverse;
    *integers = rounded(inverse, least);
    let mut best = error(integers, scale, least);
    for step in 0..=steps {
        let inverse = (first + 0.1 * step as f32 + f32::from(most)) / (greatest - least);
        let tried = rounded(inverse, least);
        let (mut sum, mut sum_of_squares, mut sum_of_products) = (0.0_f32, 0.0_f32, 0.0_f32);
        for ((integer, value), weight) in tried.iter().zip(values).zip(weights) {
            let integer = f32::from(*integer);
            sum += weight * integer;
            sum_of_squares += weight * integer * integer;
            sum_of_products += weight * integer * value;
        }
        let determinant = sum_of_weights * sum_of_squares - sum * sum;
        if determinant > 0.0 {
            let mut tried_scale = (sum_of_weights * sum_of_products - sum_of_values * sum) / determinant;
            let mut tried_least = (sum_of_squares * sum_of_values - sum * sum_of_products) / determinant;
            if tried_least > 0.0 {
                tried_least = 0.0;
                tried_scale = sum_of_products / sum_of_squares;
            }
            let found = error(&tried, tried_scale, tried_least);
            if found < best {
                (*integers, best, scale, least) = (tried, found, tried_scale, tried_least);
            }
        }
    }
    (scale, -least)
}

/// `quantize_row_q6_K_ref`.
fn six_bits(values: &[f32; SUPER_BLOCK], out: &mut [u8]) {
    let (groups, _) = values.as_chunks::<GROUP>();
    let mut integers = [0_u8; SUPER_BLOCK];
    let (stored, _) = integers.as_chunks_mut::<GROUP>();
    let mut scales = [0.0_f32; SUPER_BLOCK / GROUP];
    let mut extreme = 0.0_f32;
    for ((group, integers), scale) in groups.iter().zip(stored.iter_mut()).zip(&mut scales) {
        (*integers, *scale) = symmetric(group);
        if scale.abs() > extreme.abs() {
            extreme = *scale;
        }
    }
    if extreme.abs() < LEAST {
        out.fill(0);
        return;
    }
    let inverse = -128.0 / extreme;
    out[208..].copy_from_slice(&f16::from_f32(1.0 / inverse).to_le_bytes());
    for (index, scale) in scales.iter().enumerate() {
        let scale = nearest(inverse * scale).min(127) as i8;
        out[192 + index] = scale as u8;
        let scale = half(&out[208..]) * f32::from(scale);
        if scale != 0.0 {
            stored[index] = groups[index].map(|value| (nearest(value / scale).clamp(-32, 31) + 32) as u8);
        }
    }
    for (half_of_block, integers) in integers.chunks_exact(SUPER_BLOCK / 2).enumerate() {
        for i in 0..BLOCK {
            let [a, b, c, d] = [0, 1, 2, 3].map(|quarter| integers[quarter * BLOCK + i]);
            out[half_of_block * 64 + i] = a & 0x0f | (c & 0x0f) << 4;
            out[half_of_block * 64 + BLOCK + i] = b & 0x0f | (d & 0x0f) << 4;
            out[128 + half_of_block * BLOCK + i] = a >> 4 | b >> 4 << 2 | c >> 4 << 4 | d >> 4 << 6;
        }
    }
}

/// `make_qx_quants` with the squares of the values as weights: integers from 0 to 63 that mean -32 to 31, and their scale.
fn symmetric(values: &[f32; GROUP]) -> ([u8; GROUP], f32) {
    const MOST: i32 = 32;
    let mut extreme = 0.0_f32;
    for value in values {
        if value.abs() > extreme.abs() {
            extreme = *value;
        }
    }
    if extreme.abs() < LEAST {
        return ([0; GROUP], 0.0);
    }
    let rounded = |inverse: f32| values.map(|value| nearest(inverse * value).clamp(-MOST, MOST - 1));
    let sums = |integers: &[i32; GROUP]| {
        let terms = integers.iter().zip(values);
        terms.fold((0.0_f32, 0.0_f32), |(products, squares), (integer, value)| {
            let (weight, integer) = (value * value, *integer as f32);
            (
                products + weight * value * integer,
                squares + weight * integer * integer,
            )
        })
    };
    let mut integers = rounded(-(MOST as f32) / extreme);
    let (products, squares) = sums(&integers);
    let mut scale = if squares == 0.0 { 0.0 } else { products / squares };
    let mut best = scale * products;
    for step in (-9..=9).filter(|step| *step != 0) {
        let tried = rounded(-(MOST as f32 + 0.1 * step as f32) / extreme);
        let (products, squares) = sums(&tried);
        if squares > 0.0 && products * products > best * squares {
            integers = tried;
            scale = products / squares;
            best = scale * products;
        }
    }
    (integers.map(|integer| (integer + MOST) as u8), scale)
}

/// `nearest_int`: halves to even, by the mantissa of a sum, so that values out of its range give llama.cpp's bits too.
fn nearest(value: f32) -> i32 {
    ((value + 12_582_912.0).to_bits() & 0x007f_ffff) as i32 - 0x0040_0000
}

fn half(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}
