//! Opening the model that a verb asks: a directory, a run or a GGUF file.

use std::path::Path;

use taal_exchange::open_model;
use taal_inference::LanguageModel;
use taal_kernels::DeviceSpec;
use taal_model::{Transformer, WeightFormat, parameters};

use crate::arguments::{AdapterArgument, CacheArgument, WeightsArgument};
use crate::failure::Failure;
use crate::terminal;

/// Opens a model as its files have it.
pub fn open(path: &Path, device: DeviceSpec) -> Result<LanguageModel, Failure> {
    let lm = open_model(path, &device.open()?)?;
    for note in &lm.notes {
        terminal::message(&format!("note: {note}"));
    }
    Ok(lm)
}

/// Opens a model with the adapter that was asked for.
fn open_adapted(path: &Path, device: DeviceSpec, adapter: &AdapterArgument) -> Result<LanguageModel, Failure> {
    let lm = open(path, device)?;
    match &adapter.adapter {
        Some(adapter) => Ok(lm.with_adapter(path, adapter)?),
        None => Ok(lm),
    }
}

/// Opens a model with the weights that were asked for.
pub fn open_with(path: &Path, device: DeviceSpec, weights: WeightsArgument) -> Result<LanguageModel, Failure> {
    open_adapted_with(path, device, &AdapterArgument::default(), weights)
}

/// Opens a model with the adapter and the weights that were asked for.
pub fn open_adapted_with(
    path: &Path,
    device: DeviceSpec,
    adapter: &AdapterArgument,
    weights: WeightsArgument,
) -> Result<LanguageModel, Failure> {
    let lm = open_adapted(path, device, adapter)?;
    match weights.weights {
        Some(format) => {
            say_what_is_replaced(&lm.model, format);
            Ok(lm.with_weights(format)?)
        }
        None => Ok(lm),
    }
}

/// The same with the cache that was asked for.
pub fn with_cache(lm: LanguageModel, cache: CacheArgument) -> Result<LanguageModel, Failure> {
    match cache.cache {
        Some(kind) => Ok(lm.with_cache(kind)?),
        None => Ok(lm),
    }
}

/// Says which matrices a format cannot hold and what they get instead.
pub fn say_what_is_replaced(model: &Transformer, format: WeightFormat) {
    if let Some(note) = format.note(model.config(), &parameters::list(model)) {
        terminal::message(&format!("note: {note}"));
    }
}
