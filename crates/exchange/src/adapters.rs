//! [`merge_adapter`]: a base model and its adapter as one model, compared with the two; [`adapter_changes`]: how much an adapter changes
//! each layer.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::Serialize;
use taal_inference::{InferenceError, LanguageModel, adapter_dir};
use taal_model::hugging_face;
use taal_model::{Activation, ForwardOptions, Transformer, WeightFormat};
use taal_store::NewFolders;

use crate::models::{Exported, Target, export_opened, open_model, refuse_existing};
use crate::{ExchangeError, Result};

/// The largest difference of logits between the merged model as it was written and as it was in memory, relative to the largest logit.
pub const MERGE_TOLERANCE: f32 = 1e-4;

/// The same for llama.cpp's approximation of a GELU that the model computes exactly.
const GELU_TOLERANCE: f32 = 2e-2;

/// Tokens that are compared.
const COMPARED_TOKENS: usize = 32;

/// The result of [`merge_adapter`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Merged {
    /// The base.
    pub base: PathBuf,
    /// The adapter.
    pub adapter: PathBuf,
    /// What was written.
    #[serde(flatten)]
    pub exported: Exported,
    /// The largest difference of logits between what was written, opened again, and the merged weights in memory, relative to the largest
    /// logit.
    pub difference: f32,
    /// The same between the merged weights and the base with its adapter: rounding, which is more for large changes.
    pub rounding: f32,
}

/// The base that an adapter names, or another directory.
///
/// # Errors
///
/// The model crate's where it names none that is there.
pub fn base_of(adapter: &Path, base: Option<&Path>) -> Result<PathBuf> {
    Ok(match base {
        Some(base) => base.to_path_buf(),
        None => hugging_face::base_dir(&adapter_dir(adapter)?)?,
    })
}

/// Opens an adapter with its base, unmerged.
///
/// # Errors
///
/// As [`LanguageModel::open`] and [`LanguageModel::with_adapter`].
pub fn open_with_adapter(base: &Path, adapter: &Path, device: &Device) -> Result<LanguageModel> {
    Ok(open_model(base, device)?.with_adapter(base, adapter)?)
}

/// Adds an adapter to the weights of its base and writes the result as a model directory or a GGUF file, with matrices of a format. The
/// result is opened again, and its logits compared with those of the merged weights in memory (with a format, rounded to it); where they
/// differ it is removed.
///
/// # Errors
///
/// As [`open_with_adapter`] and [`export_model`](crate::export_model); [`ExchangeError::Inexpressible`] where the result computes something
/// else.
pub fn merge_adapter(
    adapter: &Path,
    base: Option<&Path>,
    target: Target,
    format: Option<WeightFormat>,
    out: &Path,
    device: &Device,
) -> Result<Merged> {
    refuse_existing(out)?;
    if target == Target::Llama2c {
        return Err(InferenceError::setting("to", "expected hf or gguf, got llama2c").into());
    }
    let base = base_of(adapter, base)?;
    let mut lm = open_with_adapter(&base, adapter, device)?;
    // The adapter was trained on these products.
    let unmerged = lm.model.clone().with_exact_products(true);
    lm.model = lm.model.merged();
    let rounding = difference(&lm.model.clone().with_exact_products(true), &unmerged)?;
    let expected = match format {
        Some(format) => lm.model.clone().with_weights(format)?,
        None => lm.model.clone(),
    };
    let tolerance = match (target, expected.config().activation) {
        (Target::Gguf, Activation::Gelu) => GELU_TOLERANCE,
        _ => MERGE_TOLERANCE,
    };
    // Made here, because what is written goes again where the comparison fails.
    let folders = NewFolders::above(out)?;
    let exported = export_opened(lm, &base, target, format, out)?;
    let difference = open_model(out, device).and_then(|written| difference(&written.model, &expected));
    match difference {
        Ok(difference) if difference <= tolerance => {
            folders.keep();
            Ok(Merged {
                base,
                adapter: adapter.to_path_buf(),
                exported,
                difference,
                rounding,
            })
        }
        found => {
            match taal_store::is_dir(out) {
                true => taal_store::retire_dir(out)?,
                false => taal_store::remove_file(out)?,
            }
            Err(match found {
                Ok(difference) => ExchangeError::Inexpressible {
                    what: out.to_path_buf(),
                    detail: format!(
                        "opened again, it computes something else than the merged weights: logits differ by {difference:.1e} of the \
                         largest, and at most {tolerance:.0e} is rounding; it is removed"
                    ),
                },
                Err(error) => error,
            })
        }
    }
}

/// The largest difference of logits for some tokens, relative to the largest logit.
fn difference(found: &Transformer, expected: &Transformer) -> Result<f32> {
    let config = expected.config();
    let count = config.context_limit().unwrap_or(COMPARED_TOKENS).min(COMPARED_TOKENS);
    let logits = |model: &Transformer| -> Result<Tensor<3>> {
        let ids = (0..count).map(|place| (place * place * 7 + place * 13 + 1) % config.vocab_size);
        let ids: Vec<i32> = ids.map(|id| id as i32).collect();
        let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [1, count]), &model.device());
        Ok(model.logits(model.forward_with(ids, ForwardOptions::default())?.hidden))
    };
    let (found, expected) = (logits(found)?, logits(expected)?);
    let largest: f32 = expected.clone().abs().max().into_scalar();
    let most: f32 = (found - expected).abs().max().into_scalar();
    Ok(most / largest.max(f32::MIN_POSITIVE))
}

/// How much an adapter changes a layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerChange {
    /// The layer's weight.
    pub layer: String,
    /// The Euclidean norm of the change divided by that of the weight.
    pub relative: f64,
    /// The same of another adapter; none where it does not change the layer.
    pub other: Option<f64>,
    /// The cosine of the angle between both changes; none where one of them is none.
    pub cosine: Option<f64>,
}

/// How much an adapter changes each layer of its base, next to another adapter of the same base where there is one.
///
/// # Errors
///
/// As [`open_with_adapter`].
pub fn adapter_changes(
    adapter: &Path,
    other: Option<&Path>,
    base: Option<&Path>,
    device: &Device,
) -> Result<Vec<LayerChange>> {
    let base = base_of(adapter, base)?;
    let model = open_with_adapter(&base, adapter, device)?.model;
    let other = other.map(|other| open_with_adapter(&base, other, device)).transpose()?;
    let other = other.map(|lm| lm.model.adapter_products()).unwrap_or_default();
    let changes = model.adapter_products();
    let layers = model.adapter_layers();
    let mut found = Vec::new();
    for (layer, weight) in layers {
        let (one, two) = (changes.get(&layer), other.get(&layer));
        let size = norm(&weight);
        let relative = |change: Option<&Vec<f32>>| change.map(|change| norm(change) / size.max(f64::MIN_POSITIVE));
        let (mine, theirs) = (relative(one), relative(two));
        if mine.is_none() && theirs.is_none() {
            continue;
        }
        found.push(LayerChange {
            layer,
            relative: mine.unwrap_or(0.0),
            other: theirs,
            cosine: one.zip(two).and_then(|(one, two)| cosine(one, two)),
        });
    }
    Ok(found)
}

fn norm(values: &[f32]) -> f64 {
    dot(values, values).sqrt()
}

fn dot(one: &[f32], other: &[f32]) -> f64 {
    one.iter()
        .zip(other)
        .map(|(one, other)| f64::from(*one) * f64::from(*other))
        .sum()
}

fn cosine(one: &[f32], other: &[f32]) -> Option<f64> {
    let sizes = norm(one) * norm(other);
    (sizes > 0.0).then(|| dot(one, other) / sizes)
}
