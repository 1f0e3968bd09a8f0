//! Rotary position embedding: queries and keys turned by an angle that grows with their position.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};

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

impl Rotary {
    /// The tables for positions `0..max_len`. LLaMA 2 has a `theta` of 10,000.
    ///
    /// # Errors
    ///
    /// [`EmbeddingError::OddHeadDim`] unless `head_dim` is even and positive.
    pub fn new(head_dim: usize, max_len: usize, theta: f64, device: &Device) -> Result<Self, EmbeddingError> {
        if head_dim == 0 || head_dim % 2 == 1 {
            return Err(EmbeddingError::OddHeadDim { head_dim });
        }
        let half = head_dim / 2;
        // Frequencies and angles are rounded to single precision where transformers rounds them, so that far
        // positions, whose angles are large, agree with the models trained there.
        let frequencies: Vec<f32> = (0..half)
            .map(|i| theta.powf(-((2 * i) as f64) / head_dim as f64) as f32)
            .collect();
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
}
