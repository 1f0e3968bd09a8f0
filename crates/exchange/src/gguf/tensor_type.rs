//! How the values of a tensor are stored: as floats, or in blocks of small integers with a scale. The blocks equal those of
//! llama.cpp's `ggml-quants.c` bit for bit.

use std::borrow::Cow;
use std::fmt;

use half::f16;
use taal_kernels::{WeightType, encode_q5_0, q8_0_of_q5_0};
use taal_model::Rounding;

/// Values per block of the types without a `K`.
const BLOCK: usize = 32;

/// The storage of one tensor's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorType {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// The upper half of 32-bit floats.
    Bf16,
    /// Blocks of 32 values: a 16-bit scale and 8-bit integers.
    Q8_0,
    /// Blocks of 32 values: a 16-bit scale and 4-bit integers.
    Q4_0,
    /// The same with a 16-bit minimum. Read only.
    Q4_1,
    /// Blocks of 32 values: a 16-bit scale and 5-bit integers.
    Q5_0,
    /// The same with a 16-bit minimum. Read only.
    Q5_1,
    /// Blocks of 256 values: 6-bit scales and minima of 8 parts, 4-bit integers.
    Q4K,
    /// The same with 5-bit integers.
    Q5K,
    /// Blocks of 256 values: 8-bit scales of 16 parts, 6-bit integers.
    Q6K,
    /// An unsupported type, by its number in the format.
    Other(u32),
}

impl TensorType {
    /// The types that can be read.
    pub(super) const READ: [Self; 11] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q8_0,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// Its number in the format.
    pub(super) fn number(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q5_0 => 6,
            Self::Q5_1 => 7,
            Self::Q8_0 => 8,
            Self::Q4K => 12,
            Self::Q5K => 13,
            Self::Q6K => 14,
            Self::Bf16 => 30,
            Self::Other(number) => number,
        }
    }

    pub(super) fn of(number: u32) -> Self {
        let found = Self::READ
            .into_iter()
            .find(|tensor_type| tensor_type.number() == number);
        found.unwrap_or(Self::Other(number))
    }

    /// The same type in the kernels, which own its layout.
    pub(super) fn weight_type(self) -> Option<WeightType> {
        Some(match self {
            Self::F32 => WeightType::F32,
            Self::F16 => WeightType::F16,
            Self::Bf16 => WeightType::Bf16,
            Self::Q8_0 => WeightType::Q8_0,
            Self::Q4_0 => WeightType::Q4_0,
            Self::Q4K => WeightType::Q4K,
            Self::Q5K => WeightType::Q5K,
            Self::Q6K => WeightType::Q6K,
            Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Other(_) => return None,
        })
    }

    /// Values and bytes of a block; none of a type that is not read.
    pub(super) fn block(self) -> Option<(usize, usize)> {
        Some(match self {
            Self::Q4_1 => (BLOCK, 20),
            Self::Q5_0 => (BLOCK, 22),
            Self::Q5_1 => (BLOCK, 24),
            other => other.weight_type()?.block(),
        })
    }

    /// The values of whole blocks; `None` of a type that is not read.
    pub(super) fn decode(self, bytes: &[u8]) -> Option<Vec<f32>> {
        Some(match self {
            Self::Q4_1 => blocks::<20>(bytes, |block, values| {
                let (scale, least) = (half(block, 0), half(block, 2));
                for (i, value) in values.iter_mut().enumerate() {
                    *value = f32::from(nibble(&block[4..], i)) * scale + least;
                }
            }),
            Self::Q5_0 => blocks::<22>(bytes, |block, values| {
                let scale = half(block, 0);
                for (i, value) in values.iter_mut().enumerate() {
                    *value = f32::from(i16::from(five_bits(&block[2..], i)) - 16) * scale;
                }
            }),
            Self::Q5_1 => blocks::<24>(bytes, |block, values| {
                let (scale, least) = (half(block, 0), half(block, 2));
                for (i, value) in values.iter_mut().enumerate() {
                    *value = f32::from(five_bits(&block[4..], i)) * scale + least;
                }
            }),
            other => {
                let kind = other.weight_type()?;
                let (block_values, block_bytes) = kind.block();
                let blocks = bytes.len() / block_bytes;
                let mut values = vec![0.0; blocks * block_values];
                kind.decode(&bytes[..blocks * block_bytes], &mut values);
                values
            }
        })
    }

    /// The bytes of values, which are whole blocks; `None` where a value is too large for the type, or the type is not written.
    pub(super) fn encode(self, values: &[f32]) -> Option<Vec<u8>> {
        match self {
            Self::Q5_0 => encode_q5_0(values),
            other => other.weight_type()?.encode(values),
        }
    }

    /// The bytes of a tensor as the kernels multiply it, with their type, where they can: F32 is better unpacked once.
    pub(super) fn multiplied(self, bytes: &[u8]) -> Option<(WeightType, Cow<'_, [u8]>)> {
        match self {
            Self::F32 => None,
            Self::Q5_0 => Some((WeightType::Q8_0, Cow::Owned(q8_0_of_q5_0(bytes)))),
            other => Some((other.weight_type()?, Cow::Borrowed(bytes))),
        }
    }
}

fn blocks<const N: usize>(bytes: &[u8], decode: impl Fn(&[u8; N], &mut [f32; BLOCK])) -> Vec<f32> {
    let (stored, _) = bytes.as_chunks::<N>();
    let mut values = vec![0.0; BLOCK * stored.len()];
    let (decoded, _) = values.as_chunks_mut::<BLOCK>();
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
    if i < BLOCK / 2 {
        bytes[i] & 0x0f
    } else {
        bytes[i - BLOCK / 2] >> 4
    }
}

/// Four bytes with each value's fifth bit, then the other four.
fn five_bits(bytes: &[u8], i: usize) -> u8 {
    let fifth = bytes[i / 8] >> (i % 8) & 1;
    nibble(&bytes[4..], i) | fifth << 4
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q8_0 => "Q8_0",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
            Self::Other(10) => "Q2_K",
            Self::Other(11) => "Q3_K",
            Self::Other(15) => "Q8_K",
            Self::Other(number) => return write!(f, "number {number}"),
        };
        f.write_str(name)
    }
}

impl From<WeightType> for TensorType {
    fn from(kind: WeightType) -> Self {
        let found = Self::READ.into_iter().find(|it| it.weight_type() == Some(kind));
        found.unwrap_or(Self::F32)
    }
}

impl From<Rounding> for TensorType {
    fn from(rounding: Rounding) -> Self {
        match rounding {
            Rounding::To(kind) => kind.into(),
            Rounding::Q5_0 => Self::Q5_0,
        }
    }
}
