//! Model directories as Hugging Face has them: `config.json`, `model.safetensors`, `tokenizer.json`.
//!
//! Everything that knows Hugging Face's names lives here. GPT-2, LLaMA, Qwen3 and BERT layouts are read and
//! written, so `transformers`, llama.cpp's converter and candle open what Taal trained; RoBERTa and DistilBERT
//! are read, and written as BERT. A model that no family can express is written with `model_type: "taal"` under Taal's own names. What a family's
//! layout demands but the model lacks (GPT-2 without biases) is written as zeros, and a `taal` object in
//! `config.json` says the true configuration.

mod config;
mod encoders;
mod layout;
mod pickle;
mod weights;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use burn::tensor::Device;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use taal_store::Map;

pub use config::Family;
pub use pickle::refuse_pickle;

use crate::ModelError;
use crate::config::TransformerConfig;
use crate::parameters;
use crate::transformer::Transformer;
use layout::{Layout, Parameter};
use weights::{shown, to_f32};

/// Name of the configuration file in a model directory.
pub const CONFIG_FILE: &str = "config.json";
/// Name of the weights file in a model directory.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// Name of the tokenizer file in a model directory.
pub const TOKENIZER_FILE: &str = "tokenizer.json";

/// A configuration file above this size is not one.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// What stands in a model directory beside the weights.
#[derive(Debug, Clone, Copy, Default)]
pub struct Companions<'a> {
    /// The bytes of `tokenizer.json`.
    pub tokenizer_json: Option<&'a [u8]>,
    /// The id that begins a text.
    pub bos_token_id: Option<u32>,
    /// The id that ends a text.
    pub eos_token_id: Option<u32>,
    /// The id that fills up short rows.
    pub pad_token_id: Option<u32>,
}

/// Writes a model directory as one atomic step: it is there whole, or not at all.
///
/// # Errors
///
/// [`ModelError::Store`] where writing fails, or the directory exists already.
pub fn save(model: &Transformer, dir: &Path, companions: Companions<'_>) -> Result<(), ModelError> {
    let target = taal_store::AtomicDir::create(dir)?;
    for (name, bytes) in files(model, companions)? {
        target.write(name, &bytes)?;
    }
    target.commit()?;
    Ok(())
}

/// The files of a model directory, by name: for callers that publish them together with something else, or write them while the
/// model goes on changing.
///
/// # Errors
///
/// [`ModelError::Input`] where a tensor cannot be written.
pub fn files(model: &Transformer, companions: Companions<'_>) -> Result<Vec<(&'static str, Vec<u8>)>, ModelError> {
    let family = Family::of(model.config());
    let mut files = vec![
        (CONFIG_FILE, config::to_json(model.config(), family, companions)),
        (WEIGHTS_FILE, weights_bytes(model, family)?),
    ];
    files.extend(companions.tokenizer_json.map(|json| (TOKENIZER_FILE, json.to_vec())));
    Ok(files)
}

/// The configuration of a model directory.
///
/// # Errors
///
/// [`ModelError::File`] names the key that is missing, of a wrong type or not supported.
pub fn open_config(dir: &Path) -> Result<TransformerConfig, ModelError> {
    Ok(read_config(dir)?.0)
}

/// Opens a model directory: the configuration is checked first, then every tensor's name, shape, type and values; nothing is accepted
/// in part, and memory is taken only for weights that are there.
///
/// # Errors
///
/// [`ModelError::File`] names the file and the key or tensor.
pub fn open(dir: &Path, device: &Device) -> Result<Transformer, ModelError> {
    let (config, family) = read_config(dir)?;
    let path = dir.join(WEIGHTS_FILE);
    let map = Map::open(&path).map_err(|error| missing_weights(dir, error))?;
    build(&config, family, &path, &map, device)
}

/// Builds a model from the contents of its `config.json` and `model.safetensors`, as [`open`] does from their files.
///
/// # Errors
///
/// As [`open`].
pub fn from_bytes(config_json: &str, weights: &[u8], device: &Device) -> Result<Transformer, ModelError> {
    let (config, family) = parse_config(Path::new(CONFIG_FILE), config_json)?;
    build(&config, family, Path::new(WEIGHTS_FILE), weights, device)
}

fn build(
    config: &TransformerConfig,
    family: Family,
    path: &Path,
    weights: &[u8],
    device: &Device,
) -> Result<Transformer, ModelError> {
    // Before the model: its blocks and tables of positions take memory, and only now is it known that there are weights to fill them.
    let tensors = weights::parse(path, weights, config)?;
    let model = config.empty(device)?;
    let layout = Layout::new(config, family);
    let parameters = parameters::list(&model);
    check_names(path, &tensors, &layout, &parameters)?;
    let model = parameters::replace(model, |name, shape| -> Result<Vec<f32>, ModelError> {
        let parameter = layout.parameter(name, shape);
        let mut values = read_parameter(path, &tensors, &layout, &parameter)?;
        if let Some(table) = layout.added_table(name) {
            add_first_row(path, &tensors, &layout, table, &mut values)?;
        }
        Ok(values)
    })?;
    check_zeros(path, &tensors, &layout)?;
    Ok(model)
}

/// Says what the directory has instead of its weights.
fn missing_weights(dir: &Path, error: taal_store::Error) -> ModelError {
    let index = dir.join(format!("{WEIGHTS_FILE}.index.json"));
    match error {
        taal_store::Error::NotFound { .. } if taal_store::exists(&index) => ModelError::file(
            index,
            format!(
                "weights in several files are not opened; save them as one {WEIGHTS_FILE}, with max_shard_size in Python"
            ),
        ),
        error => error.into(),
    }
}

fn read_config(dir: &Path) -> Result<(TransformerConfig, Family), ModelError> {
    refuse_pickle(dir)?;
    let path = dir.join(CONFIG_FILE);
    let text = taal_store::read_text(&path, MAX_CONFIG_BYTES)?;
    parse_config(&path, &text)
}

fn parse_config(path: &Path, text: &str) -> Result<(TransformerConfig, Family), ModelError> {
    let (config, family) = config::from_json(text).map_err(|detail| ModelError::file(path, detail))?;
    config
        .validate()
        .map_err(|error| ModelError::file(path, error.to_string()))?;
    Ok((config, family))
}

/// The whole safetensors file, with the metadata that transformers expects and nothing else, so that
/// equal weights are equal bytes.
fn weights_bytes(model: &Transformer, family: Family) -> Result<Vec<u8>, ModelError> {
    let layout = Layout::new(model.config(), family);
    let mut tensors: BTreeMap<String, (Vec<usize>, Vec<u8>)> = BTreeMap::new();
    parameters::read(model, |name, shape, values| {
        for (stored, shape, values) in layout.parameter(name, shape).split(&values) {
            let bytes = to_bytes(&values);
            if let Some(second) = layout.second_name(name) {
                tensors.insert(second.to_string(), (shape.clone(), bytes.clone()));
            }
            tensors.insert(stored, (shape, bytes));
        }
    });
    for (name, shape) in layout.written_zeros() {
        let bytes = vec![0; 4 * shape.iter().product::<usize>()];
        tensors.insert(name, (shape, bytes));
    }
    let views = tensors
        .iter()
        .map(|(name, (shape, bytes))| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>();
    let metadata = Some([("format".to_string(), "pt".to_string())].into());
    views
        .and_then(|views| safetensors::serialize(views, metadata))
        .map_err(|error| ModelError::Input(format!("the model cannot be written as safetensors: {error}")))
}

fn to_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Every expected tensor is there, and no other.
fn check_names(
    path: &Path,
    tensors: &SafeTensors<'_>,
    layout: &Layout,
    parameters: &[parameters::ParameterInfo],
) -> Result<(), ModelError> {
    let stored: BTreeSet<&str> = tensors.names().into_iter().collect();
    let mut expected = BTreeSet::new();
    for parameter in parameters {
        let parts = layout.parameter(&parameter.name, &parameter.shape).parts;
        let table = layout.added_table(&parameter.name).map(str::to_string);
        for name in parts.into_iter().map(|part| part.name).chain(table) {
            let found = layout.stored_name(&name, |name| stored.contains(name));
            expected.insert(found.ok_or_else(|| missing_tensor(path, &name))?);
        }
    }
    for (name, _) in layout.zeros() {
        expected.extend(layout.stored_name(&name, |name| stored.contains(name)));
    }
    match stored
        .iter()
        .find(|name| !expected.contains(**name) && !layout.is_ignored(name))
    {
        Some(name) => Err(ModelError::file(
            path,
            format!(
                "tensor `{}` has no place in the model that config.json describes",
                shown(name)
            ),
        )),
        None => Ok(()),
    }
}

fn read_parameter(
    path: &Path,
    tensors: &SafeTensors<'_>,
    layout: &Layout,
    parameter: &Parameter,
) -> Result<Vec<f32>, ModelError> {
    let mut parts = Vec::with_capacity(parameter.parts.len());
    for part in &parameter.parts {
        let view = find(path, tensors, layout, &part.name)?;
        if view.shape() != part.shape {
            return Err(ModelError::file(
                path,
                format!(
                    "tensor `{}` has shape {:?}, but config.json asks for {:?}",
                    part.name,
                    view.shape(),
                    part.shape
                ),
            ));
        }
        parts.push(to_f32(path, &part.name, &view)?);
    }
    Ok(parameter.join(parts))
}

/// Adds the first row of a table, of whatever length, to every row of `values`.
fn add_first_row(
    path: &Path,
    tensors: &SafeTensors<'_>,
    layout: &Layout,
    table: &str,
    values: &mut [f32],
) -> Result<(), ModelError> {
    let view = find(path, tensors, layout, table)?;
    let width = layout.width();
    if !matches!(*view.shape(), [rows, columns] if rows > 0 && columns == width) {
        return Err(ModelError::file(
            path,
            format!(
                "tensor `{table}` has shape {:?}, but config.json asks for rows of {width}",
                view.shape()
            ),
        ));
    }
    let row = &to_f32(path, table, &view)?[..width];
    for (value, added) in values.iter_mut().zip(row.iter().cycle()) {
        *value += added;
    }
    Ok(())
}

fn find<'data>(
    path: &Path,
    tensors: &SafeTensors<'data>,
    layout: &Layout,
    name: &str,
) -> Result<TensorView<'data>, ModelError> {
    layout
        .stored_name(name, |name| tensors.tensor(name).is_ok())
        .and_then(|name| tensors.tensor(&name).ok())
        .ok_or_else(|| missing_tensor(path, name))
}

fn missing_tensor(path: &Path, name: &str) -> ModelError {
    ModelError::file(path, format!("tensor `{name}` is missing; config.json asks for it"))
}

/// Tensors that stand for something the model does not have must say so: all zero.
fn check_zeros(path: &Path, tensors: &SafeTensors<'_>, layout: &Layout) -> Result<(), ModelError> {
    for (name, _) in layout.zeros() {
        let Some(view) = layout
            .stored_name(&name, |name| tensors.tensor(name).is_ok())
            .and_then(|name| tensors.tensor(&name).ok())
        else {
            continue;
        };
        if to_f32(path, &name, &view)?.iter().any(|value| *value != 0.0) {
            return Err(ModelError::file(
                path,
                format!("tensor `{name}` is not zero, but the `taal` object of config.json says the model has none"),
            ));
        }
    }
    Ok(())
}
