//! Rows of a table by id.

mod autodiff;
mod cpu;
#[cfg(feature = "cubecl")]
mod gpu;
pub(crate) mod reference;

use burn::tensor::{Int, Tensor};

use crate::backend::Backend;

/// The row of `weight` for each id: a token embedding. The gradient of a row is the sum over its places in their order,
/// whatever the number of threads.
///
/// # Shapes
///
/// - `weight`: `[vocab_size, d_model]`; `ids`: `[batch, seq]`, each in `0..vocab_size`;
///   result: `[batch, seq, d_model]`
///
/// # Panics
///
/// When an id is outside the table.
pub fn embedding(weight: Tensor<2>, ids: Tensor<2, Int>) -> Tensor<3> {
    match Backend::of(&weight) {
        Backend::Flex => autodiff::embedding(weight, ids),
        #[cfg(feature = "cubecl")]
        Backend::Gpu => gpu::embedding(weight, ids),
        Backend::Other => reference::embedding(weight, ids),
    }
}
