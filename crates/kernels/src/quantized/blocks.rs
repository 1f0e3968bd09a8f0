//! How weights are stored in fewer bits: 16-bit floats, or blocks of small integers with a scale. The blocks are those of llama.cpp's
//! `ggml-quants.c`, to the bit, so that its files are read where they are.

use std::fmt;
use std::str::FromStr;

use half::{bf16, f16};

use super::k_types;

/// Values that share one scale of an activation, and of a weight in most types.
pub(super) const BLOCK: usize = 32;

/// Values of a block of the types whose names end in `K`.
pub(super) const SUPER_BLOCK: usize = 256;

/// How the values of a matrix are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WeightType {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// The upper half of 32-bit floats.
    Bf16,
    /// Blocks of 32: a 16-bit scale and 8-bit integers.
    Q8_0,
    /// Blocks of 32: a 16-bit scale and 4-bit integers.
    Q4_0,
    /// Blocks of 256: a 16-bit scale and minimum, 6-bit scales and minima of 8 parts, 4-bit integers.
    Q4K,
    /// The same with 5-bit integers.
    Q5K,
    /// Blocks of 256: a 16-bit scale, 8-bit scales of 16 parts, 6-bit integers.
    Q6K,
}

impl WeightType {
    /// All types.
    pub const ALL: [Self; 8] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q8_0,
        Self::Q4_0,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// Values of a block, and its bytes.
    pub const fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q8_0 => (BLOCK, 34),
            Self::Q4_0 => (BLOCK, 18),
            Self::Q4K => (SUPER_BLOCK, 144),
            Self::Q5K => (SUPER_BLOCK, 176),
            Self::Q6K => (SUPER_BLOCK, 210),
        }
    }

    /// Bytes of a row of `columns` values; none where these are not whole blocks.
    pub const fn row_bytes(self, columns: usize) -> Option<usize> {
        let (values, bytes) = self.block();
        if columns.is_multiple_of(values) {
            Some(columns / values * bytes)
        } else {
            None
        }
    }

    /// Whether products of this type round activations to eight bits.
    pub const fn is_integer(self) -> bool {
        matches!(self, Self::Q8_0 | Self::Q4_0 | Self::Q4K | Self::Q5K | Self::Q6K)
    }

    /// Whether the first and the last 16 integers of a block of 32 have scales of their own.
    pub(super) const fn has_two_scales(self) -> bool {
        matches!(self, Self::Q6K)
    }

    /// The values of whole blocks.
    ///
    /// # Panics
    ///
    /// Where `bytes` and `values` are not as many blocks.
    pub fn decode(self, bytes: &[u8], values: &mut [f32]) {
        let (block_values, block_bytes) = self.block();
        assert!(
            bytes.len().is_multiple_of(block_bytes) && bytes.len() / block_bytes * block_values == values.len(),
            "bytes and values are not as many blocks of {self}"
        );
        let blocks = bytes
            .chunks_exact(block_bytes)
            .zip(values.chunks_exact_mut(block_values));
        match self {
            Self::F32 => blocks.for_each(|(b, v)| v[0] = f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
            Self::F16 => blocks.for_each(|(b, v)| v[0] = half(b)),
            Self::Bf16 => blocks.for_each(|(b, v)| v[0] = bf16::from_le_bytes([b[0], b[1]]).to_f32()),
            Self::Q8_0 | Self::Q4_0 | Self::Q4K | Self::Q5K | Self::Q6K => blocks.for_each(|(bytes, values)| {
                for (part, values) in values.chunks_exact_mut(BLOCK).enumerate() {
                    let part = self.part(bytes, part);
                    for (i, value) in values.iter_mut().enumerate() {
                        *value = f32::from(part.integers[i]) * part.scales[i / 16] - part.minimum;
                    }
                }
            }),
        }
    }

    /// One part of a block: 32 integers with their scales. The only place where the layouts are spelled out.
    pub(super) fn part(self, block: &[u8], index: usize) -> Part {
        let mut integers = [0_i8; BLOCK];
        let mut minimum = 0.0;
        let scales = match self {
            Self::Q8_0 => {
                for (integer, byte) in integers.iter_mut().zip(&block[2..34]) {
                    *integer = *byte as i8;
                }
                [half(block); 2]
            }
            Self::Q4_0 => {
                for i in 0..BLOCK {
                    integers[i] = (block[2 + i % 16] >> (i / 16 * 4) & 0x0f) as i8 - 8;
                }
                [half(block); 2]
            }
            Self::Q4K | Self::Q5K => {
                let (scale, least) = q4k_scales(&block[4..16], index);
                // Q5_K has the fifth bits of all parts before the nibbles, a bit per part in each byte.
                let (fifths, nibbles) = block[16..].split_at(if self == Self::Q5K { 32 } else { 0 });
                for i in 0..BLOCK {
                    let fifth = fifths.get(i).map_or(0, |byte| (byte >> index & 1) << 4);
                    integers[i] = (nibbles[index / 2 * 32 + i] >> (index % 2 * 4) & 0x0f | fifth) as i8;
                }
                minimum = half(&block[2..]) * f32::from(least);
                [half(block) * f32::from(scale); 2]
            }
            Self::Q6K => {
                let (half_of_block, quarter) = (index / 4, index % 4);
                let low = &block[half_of_block * 64 + quarter % 2 * 32..][..BLOCK];
                let high = &block[128 + half_of_block * 32..][..BLOCK];
                for i in 0..BLOCK {
                    integers[i] =
                        ((low[i] >> (quarter / 2 * 4) & 0x0f) | (high[i] >> (quarter * 2) & 3) << 4) as i8 - 32;
                }
                let scale = half(&block[208..]);
                let scales = &block[192 + half_of_block * 8 + quarter * 2..];
                [scale * f32::from(scales[0] as i8), scale * f32::from(scales[1] as i8)]
            }
            Self::F32 | Self::F16 | Self::Bf16 => unreachable!("{self} has no blocks"),
        };
        Part {
            integers,
            scales,
            minimum,
        }
    }

    /// Rounds values, whole blocks, to this type as llama.cpp does; `None` where one is too large for it or not a number.
    pub fn encode(self, values: &[f32]) -> Option<Vec<u8>> {
        match self {
            Self::F32 => Some(values.iter().flat_map(|value| value.to_le_bytes()).collect()),
            Self::F16 => each_half(values, |value| {
                Some(f16::from_f32(value))
                    .filter(|x| x.is_finite())
                    .map(f16::to_le_bytes)
            }),
            Self::Bf16 => each_half(values, |value| {
                Some(bf16::from_f32(value))
                    .filter(|x| x.is_finite())
                    .map(bf16::to_le_bytes)
            }),
            Self::Q8_0 => each_block(values, 34, encode_q8_0),
            Self::Q4_0 => each_block(values, 18, encode_q4_0),
            Self::Q4K | Self::Q5K | Self::Q6K => k_types::encode(self, values),
        }
    }
}

/// 32 integers of a block. Their values are `integer * scale - minimum`, with one scale for the first 16 and one for the others.
pub(super) struct Part {
    pub(super) integers: [i8; BLOCK],
    pub(super) scales: [f32; 2],
    pub(super) minimum: f32,
}

/// `get_scale_min_k4`: the 6-bit scale and minimum of one of 8 parts, packed in 12 bytes.
pub(super) fn q4k_scales(packed: &[u8], index: usize) -> (u8, u8) {
    if index < 4 {
        (packed[index] & 63, packed[index + 4] & 63)
    } else {
        let both = packed[index + 4];
        (
            both & 0x0f | packed[index - 4] >> 6 << 4,
            both >> 4 | packed[index] >> 6 << 4,
        )
    }
}

fn half(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

fn each_half(values: &[f32], stored: impl Fn(f32) -> Option<[u8; 2]>) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(2 * values.len());
    for value in values {
        bytes.extend_from_slice(&stored(*value)?);
    }
    Some(bytes)
}

fn each_block(
    values: &[f32],
    block_bytes: usize,
    encode: impl Fn(&[f32; BLOCK], &mut Vec<u8>) -> Option<()>,
) -> Option<Vec<u8>> {
    let (blocks, rest) = values.as_chunks::<BLOCK>();
    assert!(rest.is_empty(), "values are not whole blocks");
    let mut bytes = Vec::with_capacity(block_bytes * blocks.len());
    for block in blocks {
        encode(block, &mut bytes)?;
    }
    Some(bytes)
}

/// The scale as it is stored; `None` where it is not a finite half.
fn stored_scale(scale: f32, bytes: &mut Vec<u8>) -> Option<()> {
    let stored = f16::from_f32(scale);
    bytes.extend_from_slice(&stored.to_le_bytes());
    stored.is_finite().then_some(())
}

fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// `quantize_row_q8_0_ref`: the largest value becomes 127 or -127, halves are rounded away from zero, and the scale is rounded only after it
/// was divided by.
fn encode_q8_0(block: &[f32; BLOCK], bytes: &mut Vec<u8>) -> Option<()> {
    if block.iter().any(|value| value.is_nan()) {
        return None;
    }
    let largest = block.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let scale = largest / 127.0;
    let inverse = inverse(scale);
    stored_scale(scale, bytes)?;
    // A saturating cast: an inverse beyond all floats belongs to values that are zero in eight bits.
    bytes.extend(block.iter().map(|value| (value * inverse).round() as i8 as u8));
    Some(())
}

/// `quantize_row_q4_0_ref`: the value with the largest absolute one becomes -8, so that the scale has its opposite sign.
fn encode_q4_0(block: &[f32; BLOCK], bytes: &mut Vec<u8>) -> Option<()> {
    if block.iter().any(|value| value.is_nan()) {
        return None;
    }
    let extreme = block.iter().fold(
        0.0_f32,
        |extreme, value| if extreme.abs() < value.abs() { *value } else { extreme },
    );
    let scale = extreme / -8.0;
    let inverse = inverse(scale);
    stored_scale(scale, bytes)?;
    let nibble = |value: f32| (value * inverse + 8.5) as i8 as u8;
    let (low, high) = block.split_at(BLOCK / 2);
    bytes.extend(
        low.iter()
            .zip(high)
            .map(|(low, high)| nibble(*low).min(15) | nibble(*high).min(15) << 4),
    );
    Some(())
}

impl fmt::Display for WeightType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q8_0 => "Q8_0",
            Self::Q4_0 => "Q4_0",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
        })
    }
}

impl FromStr for WeightType {
    type Err = String;

    /// A name in any case.
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL
            .into_iter()
            .find(|kind| kind.to_string().eq_ignore_ascii_case(text));
        found.ok_or_else(|| format!("expected one of {}", Self::ALL.map(|kind| kind.to_string()).join(", ")))
    }
}
