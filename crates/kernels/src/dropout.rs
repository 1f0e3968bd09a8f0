//! Dropout whose mask is a function of a key and of each element's index.

use burn::tensor::{Device, Shape, Tensor, TensorData};

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
    let mask = dropout_mask(x.dims(), probability, key, &x.device());
    x * mask
}

/// The factors of [`dropout`]: 0 with `probability`, otherwise `1 / (1 - probability)`.
///
/// # Shapes
///
/// - result: `shape`
pub fn dropout_mask<const D: usize>(shape: [usize; D], probability: f64, key: u64, device: &Device) -> Tensor<D> {
    let values = mask_values(shape.iter().product(), probability.clamp(0.0, 1.0), key);
    Tensor::from_data(TensorData::new(values, Shape::new(shape)), device)
}

/// Outside of the generic function so that development builds, which optimise this crate only, optimise the loop.
fn mask_values(len: usize, probability: f64, key: u64) -> Vec<f32> {
    // Elements 2i and 2i + 1 share 64 bits: 32 are plenty to compare with a probability.
    let threshold = (probability * (1_u64 << 32) as f64) as u64;
    let scale = if probability < 1.0 {
        (1.0 / (1.0 - probability)) as f32
    } else {
        0.0
    };
    random::fill(len, |start, chunk| {
        for (pair, values) in chunk.chunks_mut(2).enumerate() {
            let bits = random::bits(key, start / 2 + pair as u64);
            for (value, half) in values.iter_mut().zip([bits & 0xFFFF_FFFF, bits >> 32]) {
                *value = if half < threshold { 0.0 } else { scale };
            }
        }
    })
}
