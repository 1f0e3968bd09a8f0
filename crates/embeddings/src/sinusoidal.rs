//! The fixed position vectors of "Attention is all you need".

use burn::tensor::{Device, Tensor, TensorData};

/// Sines and cosines of falling frequency (Vaswani et al., 2017, section 3.5), interleaved:
/// `PE(pos, 2i) = sin(pos / 10000^(2i / d))` and `PE(pos, 2i + 1) = cos(pos / 10000^(2i / d))`.
///
/// # Shapes
///
/// - result: `[max_len, d_model]`
pub fn sinusoidal(max_len: usize, d_model: usize, device: &Device) -> Tensor<2> {
    waves(max_len, d_model, |column| column, device)
}

/// The vectors of [`sinusoidal`] with all sines first, then all cosines, as Marian has them.
///
/// # Shapes
///
/// - result: `[max_len, d_model]`
pub fn sinusoidal_halves(max_len: usize, d_model: usize, device: &Device) -> Tensor<2> {
    let sines = d_model.div_ceil(2);
    let interleaved = |column: usize| match column < sines {
        true => 2 * column,
        false => 2 * (column - sines) + 1,
    };
    waves(max_len, d_model, interleaved, device)
}

/// The interleaved waves, of which `source` says which each column is.
fn waves(max_len: usize, d_model: usize, source: impl Fn(usize) -> usize, device: &Device) -> Tensor<2> {
    let mut values = Vec::with_capacity(max_len * d_model);
    for position in 0..max_len {
        for column in (0..d_model).map(&source) {
            let exponent = (column / 2 * 2) as f64 / d_model as f64;
            let angle = position as f64 / 10_000_f64.powf(exponent);
            let value = if column % 2 == 0 { angle.sin() } else { angle.cos() };
            values.push(value as f32);
        }
    }
    Tensor::from_data(TensorData::new(values, [max_len, d_model]), device)
}
