//! How the values of a tensor are stored: as floats, or in blocks of small integers with a scale. The blocks equal those of
//! llama.cpp's `ggml-quants.c` bit for bit.

use std::borrow::Cow;
use std::fmt;

use taal_kernels::{WeightType, encode_q5_0};
use taal_model::Rounding;

use super::read_only;

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
    /// Blocks of 32 values: a 16-bit scale and 4-bit integers into a table of 8-bit ones. Read only.
    Iq4Nl,
    /// Blocks of 256 values: 4-bit scales and minima of 16 parts, 2-bit integers. Read only.
    Q2K,
    /// Blocks of 256 values: 6-bit scales of 16 parts, 3-bit integers. Read only.
    Q3K,
    /// Blocks of 256 values: 6-bit scales and minima of 8 parts, 4-bit integers.
    Q4K,
    /// The same with 5-bit integers.
    Q5K,
    /// Blocks of 256 values: 8-bit scales of 16 parts, 6-bit integers.
    Q6K,
    /// Blocks of 256 values: 6-bit scales of 8 parts, 4-bit integers into the table of IQ4_NL. Read only.
    Iq4Xs,
    /// An unsupported type, by its number in the format.
    Other(u32),
}

impl TensorType {
    /// The types that can be read.
    pub(super) const READ: [Self; 15] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q8_0,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::Iq4Nl,
        Self::Iq4Xs,
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
            Self::Q2K => 10,
            Self::Q3K => 11,
            Self::Q4K => 12,
            Self::Q5K => 13,
            Self::Q6K => 14,
            Self::Iq4Nl => 20,
            Self::Iq4Xs => 23,
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
            Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q2K | Self::Q3K | Self::Iq4Nl | Self::Iq4Xs => return None,
            Self::Other(_) => return None,
        })
    }

    /// Values and bytes of a block; none of a type that is not read.
    pub(super) fn block(self) -> Option<(usize, usize)> {
        read_only::block(self).or_else(|| Some(self.weight_type()?.block()))
    }

    /// The values of whole blocks; `None` of a type that is not read.
    pub(super) fn decode(self, bytes: &[u8]) -> Option<Vec<f32>> {
        let Some(kind) = self.weight_type() else {
            return read_only::decode(self, bytes);
        };
        let (block_values, block_bytes) = kind.block();
        let blocks = bytes.len() / block_bytes;
        let mut values = vec![0.0; blocks * block_values];
        kind.decode(&bytes[..blocks * block_bytes], &mut values);
        Some(values)
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
            other => match other.weight_type() {
                Some(kind) => Some((kind, Cow::Borrowed(bytes))),
                None => read_only::without_rounding(other, bytes).map(|(kind, bytes)| (kind, Cow::Owned(bytes))),
            },
        }
    }
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
            Self::Q2K => "Q2_K",
            Self::Q3K => "Q3_K",
            Self::Iq4Nl => "IQ4_NL",
            Self::Iq4Xs => "IQ4_XS",
            Self::Other(9) => "Q8_1",
            Self::Other(15) => "Q8_K",
            Self::Other(16) => "IQ2_XXS",
            Self::Other(17) => "IQ2_XS",
            Self::Other(18) => "IQ3_XXS",
            Self::Other(19) => "IQ1_S",
            Self::Other(21) => "IQ3_S",
            Self::Other(22) => "IQ2_S",
            Self::Other(24) => "I8",
            Self::Other(25) => "I16",
            Self::Other(26) => "I32",
            Self::Other(27) => "I64",
            Self::Other(28) => "F64",
            Self::Other(29) => "IQ1_M",
            Self::Other(34) => "TQ1_0",
            Self::Other(35) => "TQ2_0",
            Self::Other(39) => "MXFP4",
            Self::Other(40) => "NVFP4",
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
