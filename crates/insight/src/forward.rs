//! The forward pass, computed as in generating and filling, with the numbers of every layer.

use burn::tensor::{Device, Int, Tensor, TensorData};
use taal_inference::InferenceError;
use taal_model::{Capture, ForwardOptions, Output, Transformer};

use crate::Result;

/// Ids as one row; the caller has checked that they are in the vocabulary.
///
/// # Shapes
///
/// - output: `[1, seq]`
pub(crate) fn row(ids: &[u32], device: &Device) -> Tensor<2, Int> {
    let values: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
    Tensor::from_data(TensorData::new(values, [1, ids.len()]), device)
}

/// Reads ids as [`taal_inference::Decoder`] reads a prompt where the model is causal, and as [`taal_inference::fill`] does where it is
/// masked.
pub(crate) fn read(model: &Transformer, ids: &[u32], capture: Capture) -> Result<Output> {
    // Refuses texts that are too long before taking memory for a cache.
    let fits = ids.len() <= model.config().max_seq_len;
    let mut cache = (model.config().is_causal && fits).then(|| model.new_cache(1, ids.len()));
    let options = ForwardOptions {
        cache: cache.as_mut(),
        capture,
        ..ForwardOptions::default()
    };
    Ok(model.forward_with(row(ids, &model.device()), options)?)
}

/// The logits at `places`, in rows of `vocab_size`, computed as in generating (only the last position) and filling (all masks
/// together).
///
/// # Shapes
///
/// - hidden: `[1, seq, d_model]`, after the final norm
pub(crate) fn logits_at(model: &Transformer, hidden: Tensor<3>, places: &[usize]) -> Result<Vec<f32>> {
    let chosen = if model.config().is_causal && places.len() == 1 {
        hidden.narrow(1, places[0], 1)
    } else {
        let places: Vec<u32> = places.iter().map(|&place| place as u32).collect();
        let indices = row(&places, &model.device()).reshape([places.len()]);
        hidden.select(1, indices)
    }; // [1, places, d_model]
    to_host(model.logits(chosen))
}

/// The values of a tensor.
pub(crate) fn to_host<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    let device = |detail: String| InferenceError::Device { detail };
    let data = tensor.try_into_data().map_err(|error| device(error.to_string()))?;
    let values = data.convert::<f32>().try_into_vec();
    Ok(values.map_err(|error| device(format!("{error:?}")))?)
}
