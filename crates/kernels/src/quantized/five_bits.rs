//! llama.cpp's Q5_0, which it takes where a row is not whole blocks of Q4_K: blocks of 32 with a 16-bit scale, the fifth bits and 4-bit integers.
//!
//! It is written to files and not multiplied: a block of Q8_0 with the same scale has the same values.

use half::f16;

use super::blocks::BLOCK;

/// Bytes of a block.
const BYTES: usize = 22;

/// `quantize_row_q5_0_ref`: the value with the largest absolute one becomes -16. `None` where a value is too large or not a number.
///
/// # Panics
///
/// Where the values are not whole blocks of 32.
pub fn encode_q5_0(values: &[f32]) -> Option<Vec<u8>> {
    let (blocks, rest) = values.as_chunks::<BLOCK>();
    assert!(rest.is_empty(), "values are not whole blocks");
    let mut bytes = Vec::with_capacity(BYTES * blocks.len());
    for block in blocks {
        if block.iter().any(|value| value.is_nan()) {
            return None;
        }
        let larger = |extreme: f32, value: &f32| if extreme.abs() < value.abs() { *value } else { extreme };
        let scale = block.iter().fold(0.0, larger) / -16.0;
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        let stored = f16::from_f32(scale);
        if !stored.is_finite() {
            return None;
        }
        let integers = block.map(|value| ((value * inverse + 16.5) as i8 as u8).min(31));
        let fifths = (0..BLOCK).fold(0_u32, |bits, i| bits | u32::from(integers[i] >> 4) << i);
        bytes.extend_from_slice(&stored.to_le_bytes());
        bytes.extend_from_slice(&fifths.to_le_bytes());
        bytes.extend((0..BLOCK / 2).map(|i| integers[i] & 0x0f | (integers[i + BLOCK / 2] & 0x0f) << 4));
    }
    Some(bytes)
}

/// Blocks of Q8_0 with the values of whole blocks of Q5_0.
pub fn q8_0_of_q5_0(bytes: &[u8]) -> Vec<u8> {
    let (blocks, _) = bytes.as_chunks::<BYTES>();
    let mut out = Vec::with_capacity(blocks.len() * (2 + BLOCK));
    for block in blocks {
        out.extend_from_slice(&block[..2]);
        let fifths = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
        out.extend((0..BLOCK).map(|i| {
            let nibble = block[6 + i % 16] >> (i / 16 * 4) & 0x0f;
            (nibble | ((fifths >> i & 1) as u8) << 4).wrapping_sub(16)
        }));
    }
    out
}
