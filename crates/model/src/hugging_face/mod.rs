//! Model directories in Hugging Face's layout: `config.json`, `model.safetensors`, `tokenizer.json`.
//!
//! Everything that knows Hugging Face's names lives here. GPT-2, LLaMA, Mistral, Qwen2, Qwen3, BERT, ModernBERT, Marian and T5 layouts are
//! read and written, so `transformers`, llama.cpp's converter and candle open what Taal trained; RoBERTa and DistilBERT are read, and written as
//! BERT. A model that no family can express is written with `model_type: "taal"` under Taal's own names. Tensors that a family requires
//! but the model lacks (GPT-2 without biases) are written as zeros, and a `taal` object in `config.json` holds the true configuration.

mod adapter_config;
mod blocks;
mod config;
mod encoders;
mod halves;
mod layout;
mod lora;
mod marian;
mod modernbert;
mod peft;
mod pickle;
mod rope;
mod saved;
mod shards;
mod special_ids;
mod t5;
mod translation;
mod tying;
mod weights;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use taal_kernels::{QuantizedMatrix, WeightType};
use taal_store::{FileFormat, LineEnds, Map};

pub use config::Family;
pub use lora::{Lora, n_adapter_params};
pub use peft::{
    ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE, AdapterInfo, Base, adapter_files, base_dir, is_adapter_dir,
    open_adapter_info, weights_hash, with_adapter,
};
pub use pickle::refuse_pickle;
pub use saved::{n_saved_params, token_modules};
pub use special_ids::{GENERATION_CONFIG_FILE, Mark, SpecialIds, TOKENIZER_CONFIG_FILE};
pub use translation::{OwnLoss, TRANSLATION_FILE, TranslationFacts};

use crate::ModelError;
use crate::config::TransformerConfig;
use crate::layout::{Parameter, Part};
use crate::parameters::{self, Given, Held};
use crate::precision::{can_be_quantized, rows_of};
use crate::transformer::Transformer;
use crate::weight_format::WeightFormat;
use layout::Layout;
use shards::{Shards, Weights};
pub use taal_store::layout::{
    CONFIG_FILE, TARGET_TOKENIZER_FILE, TOKENIZER_FILE, WEIGHTS_FILE, WEIGHTS_INDEX_FILE as INDEX_FILE,
};
use weights::Stored;
pub use weights::shown;

/// The treatment of carriage returns in texts for the model, where they are not kept.
pub const TEXT_FILE: &str = "text.json";

/// Bytes of a number in the files that are written.
const FLOAT_BYTES: usize = size_of::<f32>();

/// A configuration file above this size is not one.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// The parameter that is a table of vectors.
const EMBEDDING: &str = "token_embedding.weight";

/// One key.
const MAX_TEXT_RULES_BYTES: u64 = 1 << 16;

/// The files of a model directory other than the weights.
#[derive(Debug, Clone, Copy, Default)]
pub struct Companions<'a> {
    /// The bytes of `tokenizer.json`.
    pub tokenizer_json: Option<&'a [u8]>,
    /// The bytes of `target_tokenizer.json`.
    pub target_tokenizer_json: Option<&'a [u8]>,
    /// The id that begins a text.
    pub bos_token_id: Option<u32>,
    /// The id that ends a text.
    pub eos_token_id: Option<u32>,
    /// The id that pads short rows.
    pub pad_token_id: Option<u32>,
    /// The ids in the files of another directory, which replace the three above.
    pub special_ids: Option<&'a SpecialIds>,
    /// The treatment of carriage returns in the training text.
    pub line_ends: LineEnds,
}

/// How texts for the model must be changed.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
struct TextRules {
    line_ends: LineEnds,
}

/// The treatment of carriage returns in texts for a model directory: they are kept unless its `text.json` says otherwise.
///
/// # Errors
///
/// [`ModelError::File`] for an invalid `text.json`; [`ModelError::Store`].
pub fn open_line_ends(dir: &Path) -> Result<LineEnds, ModelError> {
    let path = dir.join(TEXT_FILE);
    if !taal_store::exists(&path) {
        return Ok(LineEnds::Keep);
    }
    let text = taal_store::read_text(&path, MAX_TEXT_RULES_BYTES)?;
    let rules: Result<TextRules, _> = serde_json::from_str(&text);
    rules.map(|rules| rules.line_ends).map_err(|error| ModelError::File {
        path,
        detail: taal_store::shorten(&error.to_string()),
    })
}

/// Writes a model directory atomically.
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

/// The files of a model directory, by name: for callers that publish them together with something else, or write them while
/// training continues.
///
/// # Errors
///
/// [`ModelError::Input`] where a tensor cannot be written.
pub fn files(model: &Transformer, companions: Companions<'_>) -> Result<Vec<(&'static str, Vec<u8>)>, ModelError> {
    if model.has_adapter() {
        let detail = "a model with an adapter has no directory of its own; merge the adapter first";
        return Err(ModelError::Input(detail.to_string()));
    }
    let family = Family::of(model.config());
    let mut files = vec![
        (
            CONFIG_FILE,
            config::to_json(model.config(), family, companions, stored_as(model)),
        ),
        (WEIGHTS_FILE, weights_bytes(model, family)?),
    ];
    files.extend(companion_files(companions));
    Ok(files)
}

/// The files of a model directory that do not depend on its weights, by name.
pub fn companion_files(companions: Companions<'_>) -> Vec<(&'static str, Vec<u8>)> {
    let mut files = Vec::new();
    let tokenizers = [
        (TOKENIZER_FILE, companions.tokenizer_json),
        (TARGET_TOKENIZER_FILE, companions.target_tokenizer_json),
    ];
    files.extend(
        tokenizers
            .into_iter()
            .filter_map(|(name, json)| Some((name, json?.to_vec()))),
    );
    let generation_config = companions.special_ids.and_then(SpecialIds::generation_config);
    if companions.line_ends != LineEnds::Keep {
        files.push((
            TEXT_FILE,
            format!("{{\"line_ends\": \"{}\"}}\n", companions.line_ends).into_bytes(),
        ));
    }
    files.extend(generation_config.map(|json| (GENERATION_CONFIG_FILE, json.to_vec())));
    files
}

/// How the matrices of a model are written.
fn stored_as(model: &Transformer) -> config::StoredAs {
    let quantized = model.quantized();
    let kinds: BTreeSet<_> = quantized
        .values()
        .copied()
        .flatten()
        .map(|matrix| matrix.kind().to_string())
        .collect();
    let is_all = |kind: WeightType| kinds.iter().eq([&kind.to_string()]);
    if is_all(WeightType::F16) {
        config::StoredAs::F16
    } else if is_all(WeightType::Bf16) {
        config::StoredAs::Bf16
    } else if model.has_blocks() {
        config::StoredAs::Blocks
    } else {
        config::StoredAs::F32
    }
}

/// Whether the weights of a model directory are in blocks of small integers, which are for inference only.
///
/// # Errors
///
/// As [`open_config`].
pub fn is_quantized(dir: &Path) -> Result<bool, ModelError> {
    let text = taal_store::read_text(&dir.join(CONFIG_FILE), MAX_CONFIG_BYTES)?;
    Ok(blocks::is_quantized(&text))
}

/// Whether the family of a configuration stores queries, keys and values separately.
pub(crate) fn is_qkv_split(config: &TransformerConfig) -> bool {
    let width = (config.n_heads + 2 * config.n_kv_heads) * config.head_dim;
    let layout = Layout::new(config, Family::of(config));
    let qkv = layout.parameter("blocks.0.attention.qkv.weight", &[config.d_model, width]);
    qkv.parts.len() > 1
}

/// The configuration of a model directory.
///
/// # Errors
///
/// [`ModelError::File`] names the key that is missing, of a wrong type or not supported.
pub fn open_config(dir: &Path) -> Result<TransformerConfig, ModelError> {
    Ok(read_config(dir)?.0)
}

/// The family whose names the weights of a model directory have.
///
/// # Errors
///
/// As [`open_config`].
pub fn open_family(dir: &Path) -> Result<Family, ModelError> {
    Ok(read_config(dir)?.1)
}

/// Opens the base model that an adapter directory names, with the adapter.
///
/// # Errors
///
/// As [`open`], where the base is not there, and where its weights are not those that the adapter was made for.
pub fn open_with_adapter(dir: &Path, device: &Device) -> Result<Transformer, ModelError> {
    let base = peft::base_dir(dir)?;
    if is_adapter_dir(&base) {
        let detail = format!("the base model {} is an adapter itself; merge it first", base.display());
        return Err(ModelError::file(dir.join(ADAPTER_CONFIG_FILE), detail));
    }
    let hash = weights_hash(&base)?;
    with_adapter(open(&base, device)?, open_family(&base)?, dir, Some(&hash))
}

/// Opens a model directory: the configuration is checked first, then every tensor's name, shape, type and values; partial models
/// are refused, and memory is taken only for weights that exist. Weights are one file or, if that is missing, the files that an
/// index names. Where the directory has an adapter instead, the base that it names is opened, and the adapter added to its weights.
///
/// # Errors
///
/// [`ModelError::File`] names the file and the key or tensor.
pub fn open(dir: &Path, device: &Device) -> Result<Transformer, ModelError> {
    if is_adapter_dir(dir) {
        return Ok(open_with_adapter(dir, device)?.merged());
    }
    let (config, family) = read_config(dir)?;
    with_weights_of(dir, &config, |weights| build(&config, family, weights, device))
}

/// Opens the weights of a directory, in one file or several.
fn with_weights_of<R>(
    dir: &Path,
    config: &TransformerConfig,
    read: impl FnOnce(&Weights<'_>) -> Result<R, ModelError>,
) -> Result<R, ModelError> {
    let path = dir.join(WEIGHTS_FILE);
    if !taal_store::exists(&path) && taal_store::exists(&dir.join(INDEX_FILE)) {
        let shards = Shards::open(dir, config)?;
        return read(&shards.weights(config)?);
    }
    refuse_shards_without_index(dir, &path)?;
    let map = Arc::new(Map::open(&path)?);
    read(&Weights::of_map(&path, &map, config)?)
}

/// The 16-bit floats in which a directory stores all of its matrices and its token embedding; `None` where some are in another type. [`open`] gives them in
/// single precision, and [`Transformer::with_weights`] back without a change.
///
/// # Errors
///
/// As [`open`], except for what concerns single tensors.
pub fn stored_halves(dir: &Path) -> Result<Option<WeightFormat>, ModelError> {
    if is_adapter_dir(dir) {
        return Ok(None);
    }
    let (config, family) = read_config(dir)?;
    with_weights_of(dir, &config, |weights| {
        let config = &tying::as_stored(&config, family, weights);
        let layout = Layout::new(config, family);
        let parameters = parameters::list(&config.empty(&Device::flex())?);
        let matrices = parameters.iter().filter(|info| can_be_quantized(&info.name));
        let mut types: BTreeSet<Dtype> = BTreeSet::new();
        for info in matrices {
            for part in layout.parameter(&info.name, &info.shape).parts {
                types.insert(find(weights, &layout, &part.name)?.view.dtype());
            }
        }
        Ok(match Vec::from_iter(types)[..] {
            [Dtype::F16] => Some(WeightFormat::F16),
            [Dtype::BF16] => Some(WeightFormat::Bf16),
            _ => None,
        })
    })
}

/// Weights in several files need the index that says which tensor is where.
fn refuse_shards_without_index(dir: &Path, whole: &Path) -> Result<(), ModelError> {
    let is_shard = |name: &String| name.ends_with(".safetensors") && name.contains("-of-");
    if taal_store::exists(whole) {
        return Ok(());
    }
    match taal_store::list_dir(dir)?.into_iter().find(is_shard) {
        Some(shard) => Err(ModelError::file(
            dir.join(INDEX_FILE),
            format!(
                "is missing: the weights are in several files, such as {shard}, and it says which tensor is in which; copy it too"
            ),
        )),
        None => Ok(()),
    }
}

/// [`open`] for a configuration and a single weights file with any names.
///
/// # Errors
///
/// As [`open`].
pub fn open_files(config_path: &Path, weights_path: &Path, device: &Device) -> Result<Transformer, ModelError> {
    let text = taal_store::read_text(config_path, MAX_CONFIG_BYTES)?;
    let (config, family) = parse_config(config_path, &text)?;
    let map = Arc::new(Map::open(weights_path)?);
    build(&config, family, &Weights::of_map(weights_path, &map, &config)?, device)
}

/// [`open`] from the contents of `config.json` and `model.safetensors`.
///
/// # Errors
///
/// As [`open`].
pub fn from_bytes(config_json: &str, weights: &[u8], device: &Device) -> Result<Transformer, ModelError> {
    let (config, family) = parse_config(Path::new(CONFIG_FILE), config_json)?;
    let weights = Weights::of_bytes(Path::new(WEIGHTS_FILE), weights, &config)?;
    build(&config, family, &weights, device)
}

/// Called only after the weights were checked: a model's blocks and position tables take memory.
fn build(
    config: &TransformerConfig,
    family: Family,
    weights: &Weights<'_>,
    device: &Device,
) -> Result<Transformer, ModelError> {
    let config = &tying::as_stored(config, family, weights);
    let model = config.empty(device)?;
    let layout = Layout::new(config, family);
    let parameters = parameters::list(&model);
    check_names(weights, &layout, &parameters)?;
    let has_blocks = weights.has_blocks();
    let model = parameters::fill(model, |name, shape| -> Result<Given, ModelError> {
        let parameter = layout.parameter(name, shape);
        let found = find_parts(weights, &layout, name, &parameter)?;
        if let Some(matrices) = read_matrices(&found, name, &parameter)? {
            return Ok(Given::Quantized(matrices));
        }
        let mut values = read_parameter(weights, &layout, &parameter)?;
        // Next to blocks, what has no whole ones is in 16-bit floats, and stays so.
        if let Some(kind) = blocks::half_of(found.iter()).filter(|_| has_blocks) {
            let matrix = blocks::in_half(&values, kind, shape, name == EMBEDDING)?;
            return Ok(Given::Quantized(vec![matrix]));
        }
        if let Some(table) = layout.added_table(name) {
            add_first_row(weights, &layout, table, &mut values)?;
        }
        Ok(Given::Floats(values))
    })?;
    check_zeros(weights, &layout)?;
    Ok(model)
}

fn read_config(dir: &Path) -> Result<(TransformerConfig, Family), ModelError> {
    refuse_pickle(dir)?;
    let path = dir.join(CONFIG_FILE);
    let text = taal_store::read_text(&path, MAX_CONFIG_BYTES)?;
    let (mut config, family) = parse_config(&path, &text)?;
    // As in transformers, the generation settings come first.
    if config.is_encoder_decoder()
        && let Some(start) = special_ids::decoder_start(dir)?
    {
        config.decoder_start = Some(start);
        let checked = config.validate();
        checked.map_err(|error| ModelError::file(dir.join(GENERATION_CONFIG_FILE), error.to_string()))?;
    }
    Ok((config, family))
}

fn parse_config(path: &Path, text: &str) -> Result<(TransformerConfig, Family), ModelError> {
    weights::refuse_other_format(path, text.as_bytes(), FileFormat::Json, "a config.json")?;
    let (config, family) = config::from_json(text).map_err(|detail| ModelError::file(path, detail))?;
    config
        .validate()
        .map_err(|error| ModelError::file(path, error.to_string()))?;
    Ok((config, family))
}

/// A tensor to be written.
struct Written {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// The whole safetensors file, with only the metadata that transformers expects, so that equal weights give equal bytes.
fn weights_bytes(model: &Transformer, family: Family) -> Result<Vec<u8>, ModelError> {
    let layout = Layout::new(model.config(), family);
    let mut tensors: BTreeMap<String, Written> = BTreeMap::new();
    let mut failure = None;
    parameters::read_held(model, |name, shape, held| {
        let parameter = layout.parameter(name, shape);
        let written = match held {
            Held::Floats(values) => {
                put_floats(&mut tensors, &layout, name, &parameter, &values);
                Ok(())
            }
            Held::Quantized(matrices) => put_matrices(&mut tensors, &layout, name, &parameter, matrices),
        };
        failure = failure.take().or(written.err());
    });
    if let Some(error) = failure {
        return Err(error);
    }
    for (name, shape) in layout.written_zeros() {
        let bytes = vec![0; FLOAT_BYTES * shape.iter().product::<usize>()];
        let dtype = Dtype::F32;
        tensors.insert(name, Written { dtype, shape, bytes });
    }
    let views = tensors
        .iter()
        .map(|(name, it)| Ok((name, TensorView::new(it.dtype, it.shape.clone(), &it.bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>();
    let metadata = Some([("format".to_string(), "pt".to_string())].into());
    views
        .and_then(|views| safetensors::serialize(views, metadata))
        .map_err(|error| ModelError::Input(format!("the model cannot be written as safetensors: {error}")))
}

fn put_floats(
    tensors: &mut BTreeMap<String, Written>,
    layout: &Layout,
    name: &str,
    parameter: &Parameter,
    values: &[f32],
) {
    for (index, part) in parameter.parts.iter().enumerate() {
        let bytes = to_bytes(&parameter.part_values(index, values));
        put(
            tensors,
            layout.second_name(name),
            part,
            Dtype::F32,
            part.shape.clone(),
            FLOAT_BYTES * parameter.range_of(part).start,
            bytes,
        );
    }
}

/// Writes matrices in fewer bits: blocks as they are, floats as the family has them.
fn put_matrices(
    tensors: &mut BTreeMap<String, Written>,
    layout: &Layout,
    name: &str,
    parameter: &Parameter,
    matrices: &[QuantizedMatrix],
) -> Result<(), ModelError> {
    let places = parameter.matrix_places(name == EMBEDDING);
    for (part, place) in parameter.parts.iter().zip(places) {
        let (kind, rows) = rows_of(matrices, place.outputs).ok_or_else(|| {
            ModelError::Input(format!(
                "tensor `{}` cannot be written: its parts have different types",
                part.name
            ))
        })?;
        let [_, columns] = place.shape;
        let row_bytes = kind.row_bytes(columns).unwrap_or(0);
        let (dtype, shape, rows) = match blocks::shape(kind, place.shape) {
            Some(shape) => (Dtype::U8, shape, rows),
            None => {
                let dtype = if kind == WeightType::F16 {
                    Dtype::F16
                } else {
                    Dtype::BF16
                };
                let is_as_stored = parameter.is_transposed() || name == EMBEDDING;
                let rows = if is_as_stored { rows } else { transposed(&rows, columns) };
                (dtype, part.shape.clone(), rows)
            }
        };
        let second = layout.second_name(name).filter(|_| dtype != Dtype::U8);
        put(tensors, second, part, dtype, shape, row_bytes * place.rows.start, rows);
    }
    Ok(())
}

/// Puts bytes of a part at their place in its tensor, whose other rows may hold other parameters.
fn put(
    tensors: &mut BTreeMap<String, Written>,
    second_name: Option<&str>,
    part: &Part,
    dtype: Dtype,
    shape: Vec<usize>,
    start: usize,
    bytes: Vec<u8>,
) {
    let count: usize = shape.iter().product();
    if let Some(second) = second_name {
        let whole = Written {
            dtype,
            shape: shape.clone(),
            bytes: bytes.clone(),
        };
        tensors.insert(second.to_string(), whole);
    }
    let stored = tensors.entry(part.name.clone()).or_insert_with(|| Written {
        dtype,
        shape,
        bytes: vec![0; count * dtype.bitsize() / 8],
    });
    stored.bytes[start..start + bytes.len()].copy_from_slice(&bytes);
}

/// Rows of 16-bit numbers as columns.
fn transposed(rows: &[u8], columns: usize) -> Vec<u8> {
    let (numbers, _) = rows.as_chunks::<2>();
    let column = |column: usize| numbers.iter().skip(column).step_by(columns.max(1));
    (0..columns).flat_map(column).flatten().copied().collect()
}

fn to_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Every expected tensor exists, and no other.
fn check_names(
    weights: &Weights<'_>,
    layout: &Layout,
    parameters: &[parameters::ParameterInfo],
) -> Result<(), ModelError> {
    let mut expected = BTreeSet::new();
    for parameter in parameters {
        let parts = layout.parameter(&parameter.name, &parameter.shape).parts;
        let table = layout.added_table(&parameter.name).map(str::to_string);
        for name in parts.into_iter().map(|part| part.name).chain(table) {
            let found = layout.stored_name(&name, |name| weights.contains(name));
            expected.insert(found.ok_or_else(|| missing_tensor(weights.path(), &name))?);
        }
    }
    for (name, _) in layout.zeros() {
        expected.extend(layout.stored_name(&name, |name| weights.contains(name)));
    }
    match weights
        .names()
        .find(|(name, _)| !expected.contains(*name) && !layout.is_ignored(name))
    {
        Some((name, path)) => Err(ModelError::file(
            path,
            format!(
                "tensor `{}` has no place in the model that config.json describes",
                shown(name)
            ),
        )),
        None => Ok(()),
    }
}

/// The tensors of a matrix that can be in fewer bits; of another parameter none.
fn find_parts<'data>(
    weights: &Weights<'data>,
    layout: &Layout,
    name: &str,
    parameter: &Parameter,
) -> Result<Vec<Stored<'data>>, ModelError> {
    let parts = parameter.parts.iter().filter(|_| can_be_quantized(name));
    parts.map(|part| find(weights, layout, &part.name)).collect()
}

/// A matrix that is stored in blocks in all of its tensors.
fn read_matrices(
    found: &[Stored<'_>],
    name: &str,
    parameter: &Parameter,
) -> Result<Option<Vec<QuantizedMatrix>>, ModelError> {
    if found.is_empty() || !found.iter().all(Stored::is_blocks) {
        return Ok(None);
    }
    let places = parameter.matrix_places(name == EMBEDDING);
    let matrices = found.iter().zip(&parameter.parts).zip(&places);
    let matrices = matrices.map(|((stored, part), place)| stored.matrix(&part.name, place));
    matrices.collect::<Result<_, _>>().map(Some)
}

/// The values of a parameter. The file is read block by block, so only one block is in memory in addition to the model.
fn read_parameter(weights: &Weights<'_>, layout: &Layout, parameter: &Parameter) -> Result<Vec<f32>, ModelError> {
    // Of what is no matrix there are none.
    let places = parameter.matrix_places(false);
    let found: Vec<Stored<'_>> = parameter
        .parts
        .iter()
        .enumerate()
        .map(|(index, part)| {
            let stored = find(weights, layout, &part.name)?;
            let is_matrix_of_blocks = stored.is_blocks() && index < places.len();
            if stored.view.shape() == part.shape || is_matrix_of_blocks {
                return Ok(stored);
            }
            let detail = format!(
                "has shape {:?}, but config.json asks for {:?}",
                stored.view.shape(),
                part.shape
            );
            Err(stored.bad(&part.name, &detail))
        })
        .collect::<Result<_, ModelError>>()?;
    // Allocated only now that all parts are known to exist.
    let mut values = vec![0.0; parameter.count()];
    for (index, (part, stored)) in parameter.parts.iter().zip(found).enumerate() {
        if let Some(place) = places.get(index).filter(|_| stored.is_blocks()) {
            // Next to parts in floats, so that the parameter cannot be multiplied as it is stored.
            let matrix = stored.matrix(&part.name, place)?;
            parameter.place(index, 0, &matrix.dequantize(), &mut values);
            continue;
        }
        let mut start = 0;
        stored.read(&part.name, parameter.range_of(part), part.row_len(), |block| {
            parameter.place(index, start, block, &mut values);
            start += block.len();
        })?;
    }
    Ok(values)
}

/// Adds the first row of a table, of whatever length, to every row of `values`.
fn add_first_row(weights: &Weights<'_>, layout: &Layout, table: &str, values: &mut [f32]) -> Result<(), ModelError> {
    let stored = find(weights, layout, table)?;
    let width = layout.width();
    if !matches!(*stored.view.shape(), [rows, columns] if rows > 0 && columns == width) {
        let detail = format!(
            "has shape {:?}, but config.json asks for rows of {width}",
            stored.view.shape()
        );
        return Err(stored.bad(table, &detail));
    }
    stored.read(table, 0..width, width, |row| {
        for (value, added) in values.iter_mut().zip(row.iter().cycle()) {
            *value += added;
        }
    })
}

/// A tensor under any name that the family has for it.
fn find<'data>(weights: &Weights<'data>, layout: &Layout, name: &str) -> Result<Stored<'data>, ModelError> {
    find_optional(weights, layout, name).ok_or_else(|| missing_tensor(weights.path(), name))
}

fn find_optional<'data>(weights: &Weights<'data>, layout: &Layout, name: &str) -> Option<Stored<'data>> {
    let stored = layout.stored_name(name, |name| weights.contains(name))?;
    weights.get(&stored)
}

fn missing_tensor(path: &Path, name: &str) -> ModelError {
    ModelError::file(path, format!("tensor `{name}` is missing; config.json asks for it"))
}

/// Tensors of parts that the model does not have must be all zero.
fn check_zeros(weights: &Weights<'_>, layout: &Layout) -> Result<(), ModelError> {
    for (name, _) in layout.zeros() {
        let Some(stored) = find_optional(weights, layout, &name) else {
            continue;
        };
        let mut is_zero = true;
        stored.read(&name, 0..stored.count(), 1, |block| {
            is_zero &= block.iter().all(|value| *value == 0.0);
        })?;
        if !is_zero {
            let detail = "is not zero, but the `taal` object of config.json says the model has none";
            return Err(stored.bad(&name, detail));
        }
    }
    Ok(())
}
