//! Dropout as a product with a mask.

use burn::tensor::Tensor;

/// The reference implementation of [`dropout`](crate::dropout).
pub fn dropout<const D: usize>(x: Tensor<D>, probability: f64, key: u64) -> Tensor<D> {
    if probability <= 0.0 {
        return x;
    }
    let mask = crate::dropout_mask(x.dims(), probability, key, &x.device());
    x * mask
}
