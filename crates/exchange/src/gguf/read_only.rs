//! Types that are read and not written, with the values of ggml's `dequantize_row_*`. Those that another type holds without rounding are
//! put into its blocks, so that they are multiplied like it; the others are unpacked.

use half::f16;
use taal_kernels::{WeightType, q8_0_of_q5_0};

use super::tensor_type::TensorType;

/// Values per block of the types without a `K`, and per scale of some of the others.
const BLOCK: usize = 32;

/// Values per block of the types with a `K`, and of IQ4_XS.
const SUPER_BLOCK: usize = 256;

/// Values per scale of Q2_K, Q3_K and Q6_K.
const GROUP: usize = 16;

/// `kvalues_iq4nl`: what the 4-bit integers of IQ4_NL and IQ4_XS mean.
const IQ4_VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Values and bytes of a block; `None` of a type that is written too, or not read.
pub(super) fn block(tensor_type: TensorType) -> Option<(usize, usize)> {
    Some(match tensor_type {
        TensorType::Q4_1 => (BLOCK, 20),
        TensorType::Q5_0 => (BLOCK, 22),
        TensorType::Q5_1 => (BLOCK, 24),
        TensorType::Iq4Nl => (BLOCK, 18),
        TensorType::Q2K => (SUPER_BLOCK, 84),
        TensorType::Q3K => (SUPER_BLOCK, 110),
        TensorType::Iq4Xs => (SUPER_BLOCK, 136),
        _ => return None,
    })
}

/// The values of whole blocks; `None` of a type that is written too, or not read.
pub(super) fn decode(tensor_type: TensorType, bytes: &[u8]) -> Option<Vec<f32>> {
    if let Some((kind, blocks)) = without_rounding(tensor_type, bytes) {
        let (values, size) = kind.block();
        let mut decoded = vec![0.0; blocks.len() / size * values];
        kind.decode(&blocks, &mut decoded);
        return Some(decoded);
    }
    Some(match tensor_type {
        TensorType::Q4_1 => blocks(bytes, |block: &[u8; 20], values: &mut [f32; BLOCK]| {
            let (scale, least) = (half(block, 0), half(block, 2));
            for (i, value) in values.iter_mut().enumerate() {
                *value = f32::from(nibble(&block[4..], i)) * scale + least;
            }
        }),
        TensorType::Q5_1 => blocks(bytes, |block: &[u8; 24], values: &mut [f32; BLOCK]| {
            let (scale, least) = (half(block, 0), half(block, 2));
            for (i, value) in values.iter_mut().enumerate() {
                *value = f32::from(five_bits(&block[4..], i)) * scale + least;
            }
        }),
        TensorType::Q2K => blocks(bytes, two_bits),
        TensorType::Iq4Xs => blocks(bytes, four_bits_of_a_table),
        _ => return None,
    })
}

/// Blocks of a type that is multiplied, with exactly these values; `None` where there is none.
pub(super) fn without_rounding(tensor_type: TensorType, bytes: &[u8]) -> Option<(WeightType, Vec<u8>)> {
    match tensor_type {
        TensorType::Q5_0 => Some((WeightType::Q8_0, q8_0_of_q5_0(bytes))),
        TensorType::Iq4Nl => Some((WeightType::Q8_0, q8_0_of_iq4_nl(bytes))),
        TensorType::Q3K => Some((WeightType::Q6K, q6_k_of_q3_k(bytes))),
        _ => None,
    }
}

/// Q2_K: 16 groups with a 4-bit scale and a 4-bit minimum, 2-bit integers, and a 16-bit scale of each of both.
fn two_bits(block: &[u8; 84], values: &mut [f32; SUPER_BLOCK]) {
    let (scale, least) = (half(block, 80), half(block, 82));
    for (i, value) in values.iter_mut().enumerate() {
        let both = block[i / GROUP];
        let (byte, shift) = place_of_two_bits(i);
        let integer = block[16 + byte] >> shift & 3;
        *value = scale * f32::from(both & 0x0f) * f32::from(integer) - least * f32::from(both >> 4);
    }
}

/// The byte with two bits of a value, and their place in it: each byte has those of four values, 32 apart.
fn place_of_two_bits(i: usize) -> (usize, usize) {
    (i / 128 * 32 + i % 32, i % 128 / 32 * 2)
}

/// IQ4_XS: 8 parts with a 6-bit scale, and 4-bit integers into [`IQ4_VALUES`].
fn four_bits_of_a_table(block: &[u8; 136], values: &mut [f32; SUPER_BLOCK]) {
    let high = u16::from_le_bytes([block[2], block[3]]);
    for (index, values) in values.chunks_exact_mut(BLOCK).enumerate() {
        let low = block[4 + index / 2] >> (index % 2 * 4) & 0x0f;
        let scale = (low | ((high >> (2 * index) & 3) as u8) << 4) as i8 - 32;
        let scale = half(block, 0) * f32::from(scale);
        let nibbles = &block[8 + 16 * index..];
        for (i, value) in values.iter_mut().enumerate() {
            *value = scale * f32::from(IQ4_VALUES[usize::from(nibble(nibbles, i))]);
        }
    }
}

/// Q3_K has 16 groups with a 6-bit scale and integers from -4 to 3, Q6_K the same with more bits of both.
fn q6_k_of_q3_k(bytes: &[u8]) -> Vec<u8> {
    let (stored, _) = bytes.as_chunks::<110>();
    let mut out = vec![0; 210 * stored.len()];
    for (block, out) in stored.iter().zip(out.chunks_exact_mut(210)) {
        let (thirds, twos, packed) = (&block[..32], &block[32..96], &block[96..108]);
        for i in 0..SUPER_BLOCK {
            let (byte, shift) = place_of_two_bits(i);
            let third = thirds[i % 32] >> (i / BLOCK) & 1;
            // -4 where the third bit is not set; Q6_K stores 32 more.
            let integer = 32 - 4 + (twos[byte] >> shift & 3) + 4 * third;
            let (half_of_block, quarter) = (i / 128, i % 128 / 32);
            out[half_of_block * 64 + quarter % 2 * 32 + i % 32] |= (integer & 0x0f) << (quarter / 2 * 4);
            out[128 + byte] |= integer >> 4 << shift;
        }
        for group in 0..SUPER_BLOCK / GROUP {
            let low = packed[group % 8] >> (group / 8 * 4) & 0x0f;
            let high = packed[8 + group % 4] >> (group / 4 * 2) & 3;
            out[192 + group] = (low | high << 4).wrapping_sub(32);
        }
        out[208..].copy_from_slice(&block[108..]);
    }
    out
}

/// IQ4_NL has a 16-bit scale and 4-bit integers into [`IQ4_VALUES`], which are 8-bit integers.
fn q8_0_of_iq4_nl(bytes: &[u8]) -> Vec<u8> {
    let (stored, _) = bytes.as_chunks::<18>();
    let mut out = Vec::with_capacity(34 * stored.len());
    for block in stored {
        out.extend_from_slice(&block[..2]);
        out.extend((0..BLOCK).map(|i| IQ4_VALUES[usize::from(nibble(&block[2..], i))] as u8));
    }
    out
}

fn blocks<const BYTES: usize, const VALUES: usize>(
    bytes: &[u8],
    decode: impl Fn(&[u8; BYTES], &mut [f32; VALUES]),
) -> Vec<f32> {
    let (stored, _) = bytes.as_chunks::<BYTES>();
    let mut values = vec![0.0; VALUES * stored.len()];
    let (decoded, _) = values.as_chunks_mut::<VALUES>();
    for (block, values) in stored.iter().zip(decoded) {
        decode(block, values);
    }
    values
}

fn half(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// The first half of a block's values is in the lower halves of its bytes, the second in the upper ones.
fn nibble(bytes: &[u8], i: usize) -> u8 {
    bytes[i % (BLOCK / 2)] >> (i / (BLOCK / 2) * 4) & 0x0f
}

/// Four bytes with each value's fifth bit, then the other four.
fn five_bits(bytes: &[u8], i: usize) -> u8 {
    let fifth = bytes[i / 8] >> (i % 8) & 1;
    nibble(&bytes[4..], i) | fifth << 4
}
