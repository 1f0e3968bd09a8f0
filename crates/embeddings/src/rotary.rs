//! Rotary position embedding: queries and keys rotated by an angle that grows with their position.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::EmbeddingError;

/// Rotary positions (Su et al., "RoFormer", 2021) in the layout of Hugging Face's transformers: coordinate `i` is
/// paired with `i + head_dim / 2`, and the pair at position `pos` is rotated by `pos / theta^(2i / head_dim)`.
///
/// The tables are constants, not parameters: no checkpoint holds them.
#[derive(Module, Debug)]
pub struct Rotary {
    /// `[max_len, head_dim]`.
    cos: Tensor<2>,
    /// `[max_len, head_dim]`, the first half of each row negated.
    signed_sin: Tensor<2>,
}

/// How the angles of a model are changed to extend its context beyond its original training length.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RotaryScaling {
    /// All pairs rotate `factor` times slower (Chen et al., "Extending Context Window via Positional Interpolation", 2023).
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Slow pairs rotate `factor` times slower, fast ones as before, and those in between by a mixture of both
    /// (LLaMA 3.1, Grattafiori et al. 2024, in the form of Hugging Face's transformers).
    Llama3 {
        /// The factor.
        factor: f64,
        /// Pairs are slow below this number of turns in `original_max_len` positions.
        low_freq_factor: f64,
        /// Pairs are fast above this number of turns in `original_max_len` positions; above `low_freq_factor`.
        high_freq_factor: f64,
        /// The original context length, in tokens.
        original_max_len: usize,
    },
    /// A larger base for texts longer than the original context: fast pairs rotate as before and the slowest one slower by the ratio of
    /// the lengths ("dynamic NTK" of Hugging Face's transformers). Tables of up to `original_max_len` positions are unscaled.
    Dynamic {
        /// How fast the base grows with the length.
        factor: f64,
        /// The original context length, in tokens.
        original_max_len: usize,
    },
    /// As [`Llama3`](Self::Llama3) with the mixture linear in the index of the pair, and all queries and keys scaled by
    /// `attention_factor` (Peng et al., "YaRN", 2023, in the form of Hugging Face's transformers).
    Yarn {
        /// The factor.
        factor: f64,
        /// The factor on cosines and sines.
        attention_factor: f64,
        /// Pairs are fast above this number of turns in `original_max_len` positions.
        beta_fast: f64,
        /// Pairs are slow below this number of turns in `original_max_len` positions.
        beta_slow: f64,
        /// The original context length, in tokens.
        original_max_len: usize,
        /// Whether the first and the last pair of the mixture are rounded outwards to whole pairs.
        truncate: bool,
    },
}

impl RotaryScaling {
    /// The base for tables of `max_len` positions.
    fn theta(self, theta: f64, head_dim: usize, max_len: usize) -> f64 {
        match self {
            Self::Dynamic {
                factor,
                original_max_len,
            } if max_len > original_max_len => {
                let ratio = max_len as f64 / original_max_len as f64;
                let dim = head_dim as f64;
                theta * (factor * ratio - (factor - 1.0)).powf(dim / (dim - 2.0))
            }
            _ => theta,
        }
    }

    /// The factor on cosines and sines.
    fn attention_factor(self) -> f64 {
        match self {
            Self::Yarn { attention_factor, .. } => attention_factor,
            Self::Linear { .. } | Self::Llama3 { .. } | Self::Dynamic { .. } => 1.0,
        }
    }

    /// The pairs at which YaRN's mixture begins and ends.
    fn mixed_pairs(self, head_dim: usize, theta: f64) -> Option<(f64, f64)> {
        let Self::Yarn {
            beta_fast,
            beta_slow,
            original_max_len,
            truncate,
            ..
        } = self
        else {
            return None;
        };
        let dim = head_dim as f64;
        let pair_of = |turns: f64| {
            let share = original_max_len as f64 / (turns * 2.0 * std::f64::consts::PI);
            (dim * share.ln()) / (2.0 * theta.ln())
        };
        let (low, high) = (pair_of(beta_fast), pair_of(beta_slow));
        let (low, high) = if truncate {
            (low.floor(), high.ceil())
        } else {
            (low, high)
        };
        // transformers bounds the end by the width, not by the number of pairs.
        let (low, high) = (low.max(0.0), high.min(dim - 1.0));
        // As in transformers, to avoid a division by 0.
        Some((low, if low == high { high + 0.001 } else { high }))
    }

    /// The angle of pair `i`; `power` is its wavelength over a whole turn without scaling. Single precision at every operation, as in transformers.
    fn apply(self, i: usize, power: f32, mixed: Option<(f64, f64)>) -> f32 {
        let frequency = 1.0 / power;
        match self {
            Self::Linear { factor } => frequency / factor as f32,
            Self::Dynamic { .. } => frequency,
            Self::Yarn { factor, .. } => {
                let Some((low, high)) = mixed else { return frequency };
                let ramp = ((i as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
                let unchanged = 1.0 - ramp;
                1.0 / (factor as f32 * power) * (1.0 - unchanged) + frequency * unchanged
            }
            Self::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_len,
            } => {
                let wavelength = 2.0 * std::f32::consts::PI / frequency;
                let original = original_max_len as f64;
                let slow = frequency / factor as f32;
                if wavelength > (original / low_freq_factor) as f32 {
                    slow
                } else if wavelength < (original / high_freq_factor) as f32 {
                    frequency
                } else {
                    let turns = original as f32 / wavelength;
                    let share = (turns - low_freq_factor as f32) / (high_freq_factor - low_freq_factor) as f32;
                    (1.0 - share) * frequency / factor as f32 + share * frequency
                }
            }
        }
    }
}

/// The rotation of each pair of coordinates from one position to the next. Exponent, power and reciprocal are rounded to
/// single precision one by one, as transformers does it: the last bit of an angle is 0.008 at position 131,071, and models were
/// trained with that bit.
fn frequencies(head_dim: usize, max_len: usize, theta: f64, scaling: Option<RotaryScaling>) -> Vec<f32> {
    let theta = scaling.map_or(theta, |scaling| scaling.theta(theta, head_dim, max_len));
    let mixed = scaling.and_then(|scaling| scaling.mixed_pairs(head_dim, theta));
    (0..head_dim / 2)
        .map(|i| {
            let exponent = (2 * i) as f32 / head_dim as f32;
            let power = theta.powf(f64::from(exponent)) as f32;
            scaling.map_or(1.0 / power, |scaling| scaling.apply(i, power, mixed))
        })
        .collect()
}

impl Rotary {
    /// The tables for positions `0..max_len`. LLaMA 2 has a `theta` of 10,000.
    ///
    /// # Errors
    ///
    /// [`EmbeddingError::OddHeadDim`] unless `head_dim` is even and positive.
    pub fn new(head_dim: usize, max_len: usize, theta: f64, device: &Device) -> Result<Self, EmbeddingError> {
        Self::scaled(head_dim, max_len, theta, None, device)
    }

    /// [`new`](Self::new) with scaled angles. [`Yarn`](RotaryScaling::Yarn) also makes the rotated vectors longer.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn scaled(
        head_dim: usize,
        max_len: usize,
        theta: f64,
        scaling: Option<RotaryScaling>,
        device: &Device,
    ) -> Result<Self, EmbeddingError> {
        if head_dim == 0 || head_dim % 2 == 1 {
            return Err(EmbeddingError::OddHeadDim { head_dim });
        }
        let half = head_dim / 2;
        let frequencies = frequencies(head_dim, max_len, theta, scaling);
        let length = scaling.map_or(1.0, RotaryScaling::attention_factor) as f32;
        // Angles are rounded where transformers rounds them.
        let mut cos = vec![0.0_f32; max_len * head_dim];
        let mut signed_sin = vec![0.0_f32; max_len * head_dim];
        for position in 0..max_len {
            for (i, frequency) in frequencies.iter().enumerate() {
                let (sin_angle, cos_angle) = f64::from(position as f32 * frequency).sin_cos();
                let row = position * head_dim;
                let (cos_angle, sin_angle) = (cos_angle as f32 * length, sin_angle as f32 * length);
                cos[row + i] = cos_angle;
                cos[row + half + i] = cos_angle;
                signed_sin[row + i] = -sin_angle;
                signed_sin[row + half + i] = sin_angle;
            }
        }
        let shape = [max_len, head_dim];
        Ok(Self {
            cos: Tensor::from_data(TensorData::new(cos, shape), device),
            signed_sin: Tensor::from_data(TensorData::new(signed_sin, shape), device),
        })
    }

    /// How many positions the tables hold.
    pub fn max_len(&self) -> usize {
        self.cos.dims()[0]
    }

    /// Rotates queries or keys whose first position is `start`.
    ///
    /// # Shapes
    ///
    /// - `x`: `[batch, heads, seq, head_dim]`; the result has the same.
    ///
    /// # Errors
    ///
    /// [`EmbeddingError::TooLong`] when a position is outside the tables.
    pub fn apply(&self, x: Tensor<4>, start: usize) -> Result<Tensor<4>, EmbeddingError> {
        let [_, _, seq, _] = x.dims();
        let (cos, signed_sin) = self.rows(start, seq)?;
        Ok(taal_kernels::rotary(x, cos, signed_sin))
    }

    /// The tables' rows for positions `start..start + seq`: cosines and signed sines, as
    /// [`taal_kernels::rotary`] takes them.
    ///
    /// # Shapes
    ///
    /// - results: `[seq, head_dim]`
    ///
    /// # Errors
    ///
    /// [`EmbeddingError::TooLong`] when a position is outside the tables.
    pub fn rows(&self, start: usize, seq: usize) -> Result<(Tensor<2>, Tensor<2>), EmbeddingError> {
        EmbeddingError::check_length(start, seq, self.max_len())?;
        Ok((
            self.cos.clone().narrow(0, start, seq),
            self.signed_sin.clone().narrow(0, start, seq),
        ))
    }

    /// The tables' rows for any positions below [`max_len`](Self::max_len), for example of texts that share a row.
    ///
    /// # Shapes
    ///
    /// - `positions`: `[n]`; results: `[n, head_dim]`
    pub fn rows_at(&self, positions: Tensor<1, Int>) -> (Tensor<2>, Tensor<2>) {
        (
            self.cos.clone().select(0, positions.clone()),
            self.signed_sin.clone().select(0, positions),
        )
    }
}
