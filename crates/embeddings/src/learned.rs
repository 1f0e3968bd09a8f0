//! Trained position vectors.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use taal_kernels::{normal_param, random};

use crate::EmbeddingError;
use crate::token::INIT_STD;

/// The size of [`LearnedPositions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LearnedPositionsConfig {
    /// How many positions there are.
    pub max_len: usize,
    /// The width of a vector.
    pub d_model: usize,
}

impl LearnedPositionsConfig {
    /// A fresh table, normal with standard deviation 0.02, a function of the seed and drawn when first used.
    pub fn init(&self, seed: u64, device: &Device) -> LearnedPositions {
        let key = random::key(seed, 0, "learned positions");
        LearnedPositions {
            weight: normal_param([self.max_len, self.d_model], INIT_STD, key, device),
        }
    }
}

/// One trained vector per position, added to the token's.
#[derive(Module, Debug)]
pub struct LearnedPositions {
    /// `[max_len, d_model]`.
    pub weight: Param<Tensor<2>>,
}

impl LearnedPositions {
    /// The vectors of positions `start..start + seq`.
    ///
    /// # Shapes
    ///
    /// - result: `[seq, d_model]`
    ///
    /// # Errors
    ///
    /// [`EmbeddingError::TooLong`] when a position does not exist.
    pub fn forward(&self, seq: usize, start: usize) -> Result<Tensor<2>, EmbeddingError> {
        let weight = self.weight.val();
        let [max_len, _] = weight.dims();
        EmbeddingError::check_length(start, seq, max_len)?;
        Ok(weight.narrow(0, start, seq))
    }
}
