//! The fixed position vectors of "Attention is all you need".

use burn::tensor::{Device, Tensor, TensorData};

/// Sines and cosines of falling frequency (Vaswani et al., 2017, section 3.5), interleaved:
/// `PE(pos, 2i) = sin(pos / 10000^(2i / d))` and `PE(pos, 2i + 1) = cos(pos / 10000^(2i / d))`.
///
/// # Shapes
///
/// - result: `[max_len, d_model]`
pub fn sinusoidal(max_len: usize, d_model: usize, device: &Device) -> Tensor<2> {
    let mut values = Vec::with_capacity(max_len * d_model);
    for position in 0..max_len {
        for column in 0..d_model {
            let exponent = (column / 2 * 2) as f64 / d_model as f64;
            let angle = position as f64 / 10_000_f64.powf(exponent);
            let value = if column % 2 == 0 { angle.sin() } else { angle.cos() };
            values.push(value as f32);
        }
    }
    Tensor::from_data(TensorData::new(values, [max_len, d_model]), device)
}
