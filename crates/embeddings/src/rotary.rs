//! Rotary position embedding: queries and keys turned by an angle that grows with their position.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::EmbeddingError;

/// Rotary positions (Su et al., "RoFormer", 2021) in the layout of Hugging Face's transformers: coordinate `i` is
/// paired with `i + head_dim / 2`, and the pair at position `pos` turns by `pos / theta^(2i / head_dim)`.
///
/// The tables are constants, not parameters: no checkpoint holds them.
#[derive(Module, Debug)]
pub struct Rotary {
    /// `[max_len, head_dim]`.
    cos: Tensor<2>,
    /// `[max_len, head_dim]`, the first half of each row negated.
    signed_sin: Tensor<2>,
}

/// How the angles of a model are changed so that it reads texts longer than those it was first trained on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RotaryScaling {
    /// All pairs turn `factor` times slower (Chen et al., "Extending Context Window via Positional Interpolation", 2023).
    Linear {
        /// How many times slower.
        factor: f64,
    },
    /// Pairs that turn slowly turn `factor` times slower still, fast ones as before, and those between by a mixture of both
    /// (LLaMA 3.1, Grattafiori et al. 2024, in the form of Hugging Face's transformers).
    Llama3 {
        /// How many times slower.
        factor: f64,
        /// Pairs are slow below this number of turns in `original_max_len` positions.
        low_freq_factor: f64,
        /// Pairs are fast above this number of turns in `original_max_len` positions; above `low_freq_factor`.
        high_freq_factor: f64,
        /// The longest text of the first training, in tokens.
        original_max_len: usize,
    },
}

impl RotaryScaling {
    /// Single precision at every operation, as in transformers.
    fn apply(self, frequency: f32) -> f32 {
        match self {
            Self::Linear { factor } => frequency / factor as f32,
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

/// The angle by which each pair of coordinates turns from one position to the next. Exponent, power and reciprocal are rounded to
/// single precision one by one, as transformers does it: the last bit of an angle is 0.008 at position 131,071, and models were
/// trained with that bit.
fn frequencies(head_dim: usize, theta: f64, scaling: Option<RotaryScaling>) -> Vec<f32> {
    (0..head_dim / 2)
        .map(|i| {
            let exponent = (2 * i) as f32 / head_dim as f32;
            let frequency = 1.0 / theta.powf(f64::from(exponent)) as f32;
            scaling.map_or(frequency, |scaling| scaling.apply(frequency))
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

    /// [`new`](Self::new) with the angles of a model that was made to read longer texts.
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
        let frequencies = frequencies(head_dim, theta, scaling);
        // Angles too are rounded where transformers rounds them.
        let mut cos = vec![0.0_f32; max_len * head_dim];
        let mut signed_sin = vec![0.0_f32; max_len * head_dim];
        for position in 0..max_len {
            for (i, frequency) in frequencies.iter().enumerate() {
                let (sin_angle, cos_angle) = f64::from(position as f32 * frequency).sin_cos();
                let row = position * head_dim;
                cos[row + i] = cos_angle as f32;
                cos[row + half + i] = cos_angle as f32;
                signed_sin[row + i] = -sin_angle as f32;
                signed_sin[row + half + i] = sin_angle as f32;
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

    /// Turns queries or keys whose first position is `start`.
    ///
    /// # Shapes
    ///
    /// - `x`: `[batch, heads, seq, head_dim]`; the result has the same.
    ///
    /// # Errors
    ///
    /// [`EmbeddingError::TooLong`] when a position lies outside the tables.
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
    /// [`EmbeddingError::TooLong`] when a position lies outside the tables.
    pub fn rows(&self, start: usize, seq: usize) -> Result<(Tensor<2>, Tensor<2>), EmbeddingError> {
        EmbeddingError::check_length(start, seq, self.max_len())?;
        Ok((
            self.cos.clone().narrow(0, start, seq),
            self.signed_sin.clone().narrow(0, start, seq),
        ))
    }

    /// The tables' rows for any positions below [`max_len`](Self::max_len), as those of texts that share a row.
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
