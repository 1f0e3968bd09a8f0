//! The forward pass, computed as in generating and filling, with the numbers of every layer.

use burn::tensor::{Device, Int, Tensor, TensorData};
use taal_inference::{InferenceError, Probe, Rows};
use taal_model::{Capture, ForwardOptions, Memory, Output, Transformer};

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
/// masked; of a translation with what the encoder made of its source.
pub(crate) fn read(model: &Transformer, ids: &[u32], capture: Capture, memory: Option<&Memory>) -> Result<Output> {
    // Refuses texts that are too long before taking memory for a cache.
    let fits = ids.len() <= model.config().max_seq_len;
    let is_cached = model.config().is_causal && fits && memory.is_none();
    let mut cache = is_cached.then(|| model.new_cache(1, ids.len()));
    let options = ForwardOptions {
        cache: cache.as_mut(),
        memory,
        capture,
        ..ForwardOptions::default()
    };
    Ok(Probe::new(model).states(&Rows::new(ids, ids.len()), options)?)
}

/// The logits at `places`, in rows of `vocab_size`.
///
/// # Shapes
///
/// - hidden: `[1, seq, d_model]`, after the final norm
pub(crate) fn logits_at(model: &Transformer, hidden: Tensor<3>, places: &[usize]) -> Result<Vec<f32>> {
    let blocks = Probe::new(model).logits(hidden, Some(places), |logits, _| values(logits))?;
    Ok(blocks.concat())
}

/// The values of a tensor.
pub(crate) fn to_host<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    Ok(values(tensor)?)
}

/// As [`to_host`], for work inside a [`Probe`].
pub(crate) fn values<const D: usize>(tensor: Tensor<D>) -> taal_inference::Result<Vec<f32>> {
    let device = |detail: String| InferenceError::Device { detail };
    let data = tensor.try_into_data().map_err(|error| device(error.to_string()))?;
    let values = data.convert::<f32>().try_into_vec();
    values.map_err(|error| device(format!("{error:?}")))
}
