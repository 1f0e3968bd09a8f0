//! Embeddings composed of Burn's operations.

use burn::tensor::{Int, Tensor, module};

/// The reference implementation of [`embedding`](crate::embedding).
pub fn embedding(weight: Tensor<2>, ids: Tensor<2, Int>) -> Tensor<3> {
    module::embedding(weight, ids)
}
