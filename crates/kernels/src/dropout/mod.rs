//! Dropout whose mask is a function of a key and of each element's index.

mod autodiff;
mod cpu;
#[cfg(feature = "cubecl")]
mod gpu;
pub(crate) mod reference;

use burn::tensor::{Device, Shape, Tensor, TensorData};

use crate::backend::Backend;
use crate::random;

/// Sets each element to zero with `probability` and scales the others by `1 / (1 - probability)`
/// (Srivastava et al., "Dropout", 2014). A probability of 0 returns `x` untouched.
///
/// Whether an element survives depends on `key` and on its row-major index alone: the same on every device, for
/// every number of threads, and again after a resume. Make a fresh key for every place and step with
/// [`random::key`].
///
/// # Shapes
///
/// - `x`: any; the result has the same.
pub fn dropout<const D: usize>(x: Tensor<D>, probability: f64, key: u64) -> Tensor<D> {
    if probability <= 0.0 {
        return x;
    }
    match Backend::of(&x) {
        Backend::Flex => autodiff::dropout(x, probability, key),
        #[cfg(feature = "cubecl")]
        Backend::Gpu => gpu::dropout(x, probability, key),
        Backend::Other => reference::dropout(x, probability, key),
    }
}

/// The factors of [`dropout`]: 0 with `probability`, otherwise `1 / (1 - probability)`.
///
/// # Shapes
///
/// - result: `shape`
pub fn dropout_mask<const D: usize>(shape: [usize; D], probability: f64, key: u64, device: &Device) -> Tensor<D> {
    let values = mask_values(shape.iter().product(), probability, key);
    Tensor::from_data(TensorData::new(values, Shape::new(shape)), device)
}

/// Outside the generic function so that development builds, which optimize this crate only, optimize the loop.
fn mask_values(len: usize, probability: f64, key: u64) -> Vec<f32> {
    let dropout = random::Dropout::new(probability, key);
    random::fill(len, |start, chunk| {
        for (pair, values) in chunk.chunks_mut(2).enumerate() {
            // Chunks start at even elements.
            let factors = dropout.pair(start / 2 + pair as u64);
            values.copy_from_slice(&factors[..values.len()]);
        }
    })
}
