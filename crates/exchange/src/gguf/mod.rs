//! GGUF files of llama.cpp: reading and writing GPT-2, LLaMA, Mistral, Qwen2 and Qwen3.
//!
//! A GGUF file is one file with everything: a header of keys, the tokenizer, and the tensors. Versions 2 and 3 are read, with
//! tensors of any [`TensorType`], and version 3 is written with the types of a [`WeightFormat`]. Matrices keep their types and stay
//! where they are in the mapped file; those in F32, and of types that are not multiplied, are unpacked to single precision,
//! and [`Contents::note`] says so. Norms, biases
//! and positions stay F32, as llama.cpp expects. The two coordinates of a rotary pair are adjacent in its LLaMA and half a head apart in
//! its Qwen, as in Hugging Face's files and Taal for all families: rows of queries and keys are put into that order when a file is opened.
//!
//! Left out: encoders, mixtures of experts, and files in several parts.

mod architecture;
mod file;
mod read_only;
mod rope;
mod tensor_type;
mod vocabulary;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use taal_store::Map;

pub use tensor_type::TensorType;
pub use vocabulary::{TokenKind, Vocabulary};

use architecture::Architecture;
use file::File;
use rope::{ROPE_FREQS, llama3_table};
use taal_kernels::QuantizedMatrix;
use taal_model::hugging_face::shown;
use taal_model::layout::Parameter;
use taal_model::parameters::{self, Given, Held};
use taal_model::{ModelError, Transformer, TransformerConfig, WeightFormat, can_be_quantized, rows_of};
use write::{Entry, Planned, Writer};

/// The fewest bytes for 256 values: those of Q2_K.
const LEAST_BLOCK_BYTES: u64 = 84;

/// The parameter that is a table of vectors.
const EMBEDDING: &str = "token_embedding.weight";

/// The key of the whole file's type; llama.cpp only displays it.
const FILE_TYPE: &str = "general.file_type";

/// The key of the number of files of a model.
const PARTS: &str = "split.count";

/// The contents of a GGUF file.
#[derive(Debug)]
pub struct Contents {
    /// The model.
    pub model: Transformer,
    /// Its tokenizer, if any, without tokens that only pad the embedding.
    pub vocabulary: Option<Vocabulary>,
    /// What its user should know: which matrices are unpacked, because their types are not multiplied.
    pub note: Option<String>,
}

/// Whether a file begins as GGUF files do.
pub fn is_gguf(bytes: &[u8]) -> bool {
    bytes.starts_with(&file::MAGIC)
}

/// Opens a file: keys and positions of tensors are checked first, then every tensor's name, shape, type and values; partial
/// models are refused, and memory is taken only for weights that exist. Matrices in fewer bits than F32 are multiplied where they are, so
/// the file must not be changed in place as long as the model exists.
///
/// # Errors
///
/// [`ModelError::File`] names the file and the key or tensor.
pub fn open(path: &Path, device: &Device) -> Result<Contents, ModelError> {
    from_map(path, &Arc::new(Map::open(path)?), device)
}

/// Builds a model from a mapped file; `path` is for messages.
///
/// # Errors
///
/// As [`open`].
pub fn from_map(path: &Path, map: &Arc<Map>, device: &Device) -> Result<Contents, ModelError> {
    build(&File::parse_map(path, map)?, device)
}

/// Builds a model from the contents of a file; `path` is for messages.
///
/// # Errors
///
/// As [`open`].
pub fn from_bytes(path: &Path, bytes: &[u8], device: &Device) -> Result<Contents, ModelError> {
    build(&File::parse(path, bytes)?, device)
}

fn build(file: &File<'_>, device: &Device) -> Result<Contents, ModelError> {
    let path = file.path();
    let bad = |detail: String| ModelError::file(path, detail);
    refuse_parts(file)?;
    let vocabulary = Vocabulary::read(file)?;
    if file.names().next().is_none() {
        let what = match &vocabulary {
            Some(vocabulary) => format!("a vocabulary of {} tokens only", vocabulary.tokens.len()),
            None => "keys only".to_string(),
        };
        return Err(bad(format!(
            "this GGUF file holds {what} and no weights; name one with a model"
        )));
    }
    let architecture = Architecture::of_file(file)?;
    let config = architecture.config(file)?;
    config
        .validate()
        .map_err(|error| bad(format!("its keys describe no model that can be: {error}")))?;
    refuse_too_few(file, &config)?;
    let model = config.empty(device)?;
    check_tensors(file, architecture, &model)?;
    let mut unpacked = Unpacked::default();
    let model = parameters::fill(model, |name, shape| -> Result<Given, ModelError> {
        let parameter = architecture.parameter(&config, name, shape);
        if let Some(matrices) = matrices(file, name, &parameter)? {
            return Ok(Given::Quantized(matrices));
        }
        unpacked.count(file, name, &parameter);
        let mut values = vec![0.0; parameter.count()];
        for (index, part) in parameter.parts.iter().enumerate() {
            let info = file
                .tensor(&part.name)
                .ok_or_else(|| missing_tensor(path, &part.name))?;
            parameter.place(index, 0, &file.values(&part.name, info)?, &mut values);
        }
        Ok(Given::Floats(values))
    })?;
    Ok(Contents {
        model,
        vocabulary: vocabulary.map(Vocabulary::without_padding),
        note: unpacked.note(),
    })
}

/// The matrices of a file that are kept in single precision, though the file has them in fewer bits.
#[derive(Debug, Default)]
struct Unpacked {
    types: BTreeSet<String>,
    values: usize,
}

impl Unpacked {
    fn count(&mut self, file: &File<'_>, name: &str, parameter: &Parameter) {
        let parts = parameter.parts.iter().filter(|_| can_be_quantized(name));
        let types = parts.filter_map(|part| Some(file.tensor(&part.name)?.tensor_type));
        let types: Vec<TensorType> = types.filter(|kind| *kind != TensorType::F32).collect();
        if !types.is_empty() {
            self.values += parameter.count();
            self.types.extend(types.iter().map(TensorType::to_string));
        }
    }

    fn note(self) -> Option<String> {
        let names: Vec<String> = self.types.into_iter().collect();
        (!names.is_empty()).then(|| {
            format!(
                "matrices in {} are unpacked to F32 and take {:.1} MB in memory; `taal import` with --weights q8_0 or q4_k_m writes a \
                 model that takes less",
                names.join(" and "),
                4.0 * self.values as f64 / 1e6
            )
        })
    }
}

/// A matrix that is multiplied as it is stored in all of its tensors.
fn matrices(file: &File<'_>, name: &str, parameter: &Parameter) -> Result<Option<Vec<QuantizedMatrix>>, ModelError> {
    if !can_be_quantized(name) {
        return Ok(None);
    }
    let places = parameter.matrix_places(name == EMBEDDING);
    let parts = parameter.parts.iter().zip(places);
    parts.map(|(part, place)| file.matrix(part, place.shape)).collect()
}

/// Each file of a split model has this key.
fn refuse_parts(file: &File<'_>) -> Result<(), ModelError> {
    match file.size_up_to(PARTS, usize::MAX)? {
        Some(parts) if parts > 1 => Err(ModelError::file(
            file.path(),
            format!(
                "key `{PARTS}`: one of {parts} files of a model, which are not read; join them with `llama-gguf-split --merge FIRST.gguf \
                 OUT.gguf`"
            ),
        )),
        _ => Ok(()),
    }
}

fn missing_tensor(path: &Path, name: &str) -> ModelError {
    ModelError::file(path, format!("tensor `{name}` is missing; the keys ask for it"))
}

/// Checks that there are enough bytes for the model before memory is taken for it.
fn refuse_too_few(file: &File<'_>, config: &TransformerConfig) -> Result<(), ModelError> {
    let n_params = config.n_params();
    let bytes = file.tensor_bytes();
    if bytes >= n_params / 256 * LEAST_BLOCK_BYTES {
        return Ok(());
    }
    file.refuse_unread()?;
    Err(ModelError::file(
        file.path(),
        format!(
            "{bytes} bytes of tensors in types that are read are too few for the {n_params} parameters that the keys describe, which \
             are missing, cut off or in a type that is not read"
        ),
    ))
}

/// Checks that every expected tensor exists with its shape, and no other.
fn check_tensors(file: &File<'_>, architecture: Architecture, model: &Transformer) -> Result<(), ModelError> {
    let config = model.config();
    let mut expected = BTreeSet::new();
    for parameter in parameters::list(model) {
        let parts = architecture.parameter(config, &parameter.name, &parameter.shape).parts;
        for part in parts {
            let info = file
                .tensor(&part.name)
                .ok_or_else(|| missing_tensor(file.path(), &part.name))?;
            if info.shape != part.shape {
                let detail = format!(
                    "tensor `{}` has shape {:?}, but the keys ask for {:?}",
                    part.name, info.shape, part.shape
                );
                return Err(ModelError::file(file.path(), detail));
            }
            expected.insert(part.name);
        }
    }
    let is_ignored = |name: &str| name == ROPE_FREQS || name.ends_with(".attn_rot_embd");
    match file.names().find(|name| !expected.contains(*name) && !is_ignored(name)) {
        Some(name) => Err(ModelError::file(
            file.path(),
            format!(
                "tensor `{}` has no place in the model that the keys describe",
                shown(name)
            ),
        )),
        None => Ok(()),
    }
}

/// Atomically writes a model with its tokenizer as one file. With a format, matrices get the types that `llama-quantize` gives them in its
/// file of that name; without one, they keep the types that they have in memory. Equal models and tokenizers give equal bytes.
///
/// # Errors
///
/// [`ModelError::Config`] names the field that llama.cpp does not support, [`ModelError::Input`] a tensor with values too large
/// for its type; [`ModelError::Store`] where the path exists already, or writing fails.
pub fn save(
    model: &Transformer,
    vocabulary: Option<&Vocabulary>,
    format: Option<WeightFormat>,
    name: &str,
    path: &Path,
) -> Result<(), ModelError> {
    let config = model.config();
    let architecture = Architecture::of(config)?;
    if taal_store::exists(path) {
        return Err(taal_store::Error::AlreadyExists {
            path: path.to_path_buf(),
        }
        .into());
    }
    let extra = extra_tensors(architecture, config);
    let planned = plan(architecture, model, &extra, format)?;
    let mut entries = vec![
        (
            "general.architecture".to_string(),
            Entry::Text(architecture.name().to_string()),
        ),
        ("general.type".to_string(), Entry::Text("model".to_string())),
        ("general.name".to_string(), Entry::Text(name.to_string())),
        (FILE_TYPE.to_string(), Entry::U32(file_type(format, &planned))),
        ("general.quantization_version".to_string(), Entry::U32(2)),
    ];
    entries.extend(architecture.entries(config));
    entries.extend(Vocabulary::entries(vocabulary, config.vocab_size)?);
    let types: Vec<TensorType> = planned[extra.len()..].iter().map(|it| it.tensor_type).collect();
    let mut types = types.into_iter();
    let mut writer = Writer::create(path, &entries, planned)?;
    for (name, values) in &extra {
        writer.put(name, values)?;
    }
    let mut failure = None;
    parameters::read_held(model, |name, shape, held| {
        let parameter = architecture.parameter(config, name, shape);
        if failure.is_none() {
            failure = put(&mut writer, name, &parameter, held, &mut types).err();
        }
    });
    match failure {
        Some(error) => Err(error),
        None => writer.commit(),
    }
}

/// Writes the tensors of a parameter, whose types are the next ones.
fn put(
    writer: &mut Writer,
    name: &str,
    parameter: &Parameter,
    held: Held<'_>,
    types: &mut impl Iterator<Item = TensorType>,
) -> Result<(), ModelError> {
    let matrices = match held {
        Held::Floats(values) => {
            for (index, part) in parameter.parts.iter().enumerate() {
                types.next();
                writer.put(&part.name, &parameter.part_values(index, &values))?;
            }
            return Ok(());
        }
        Held::Quantized(matrices) => matrices,
    };
    let places = parameter.matrix_places(name == EMBEDDING);
    for (part, place) in parameter.parts.iter().zip(places) {
        let (kind, rows) = rows_of(matrices, place.outputs).ok_or_else(|| mixed(&part.name))?;
        let row_bytes = kind.row_bytes(place.shape[1]).unwrap_or(1);
        let rows = part.in_file_order(&rows, row_bytes);
        if types.next() == Some(kind.into()) {
            writer.put_stored(&part.name, rows.into_owned())?;
        } else {
            let (values, bytes) = kind.block();
            let mut decoded = vec![0.0; rows.len() / bytes * values];
            kind.decode(&rows, &mut decoded);
            writer.put(&part.name, &decoded)?;
        }
    }
    Ok(())
}

/// Cannot happen with files of Taal: a family's tensors are what its matrices are made of.
fn mixed(name: &str) -> ModelError {
    ModelError::Input(format!(
        "tensor `{name}` cannot be written: its rows have different types"
    ))
}

/// Tensors other than the parameters: zeros for biases, and the table of LLaMA 3's angles.
fn extra_tensors(architecture: Architecture, config: &TransformerConfig) -> Vec<(String, Vec<f32>)> {
    let table = llama3_table(config).map(|table| (ROPE_FREQS.to_string(), table));
    let zeros = architecture.zeros(config).into_iter();
    table
        .into_iter()
        .chain(zeros.map(|(name, width)| (name, vec![0.0; width])))
        .collect()
}

fn plan(
    architecture: Architecture,
    model: &Transformer,
    extra: &[(String, Vec<f32>)],
    format: Option<WeightFormat>,
) -> Result<Vec<Planned>, ModelError> {
    let config = model.config();
    let quantized = model.quantized();
    let mut planned: Vec<Planned> = extra
        .iter()
        .map(|(name, values)| Planned {
            name: name.clone(),
            shape: vec![values.len()],
            tensor_type: TensorType::F32,
        })
        .collect();
    for info in parameters::list(model) {
        let parameter = architecture.parameter(config, &info.name, &info.shape);
        let places = parameter.matrix_places(info.name == EMBEDDING);
        let is_matrix = can_be_quantized(&info.name);
        for (index, part) in parameter.parts.into_iter().enumerate() {
            let place = places.get(index).filter(|_| is_matrix);
            let tensor_type = match (place, format, quantized.get(&info.name)) {
                (Some(place), Some(format), _) => format.rounding(config, &info.name, index, place.shape[1]).into(),
                (Some(place), None, Some(matrices)) => {
                    let rows = rows_of(matrices, place.outputs.clone());
                    rows.ok_or_else(|| mixed(&part.name))?.0.into()
                }
                // Norms, biases and positions.
                _ => TensorType::F32,
            };
            planned.push(Planned {
                name: part.name,
                shape: part.shape,
                tensor_type,
            });
        }
    }
    Ok(planned)
}

/// llama.cpp's number of a file's type: that of the format, or of the type that most matrices have.
fn file_type(format: Option<WeightFormat>, planned: &[Planned]) -> u32 {
    let matrices = planned.iter().filter(|planned| planned.shape.len() == 2);
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    matrices.for_each(|planned| *counts.entry(planned.tensor_type.number()).or_default() += 1);
    let most = counts.into_iter().max_by_key(|(_, count)| *count);
    let most = TensorType::of(most.map_or(0, |(number, _)| number));
    match (format, most) {
        (Some(WeightFormat::F32), _) | (None, TensorType::F32) => 0,
        (Some(WeightFormat::F16), _) | (None, TensorType::F16) => 1,
        (Some(WeightFormat::Q4_0), _) | (None, TensorType::Q4_0) => 2,
        (Some(WeightFormat::Q8_0), _) | (None, TensorType::Q8_0) => 7,
        (Some(WeightFormat::Q4KM), _) | (None, TensorType::Q4K) => 15,
        (None, TensorType::Q5K) => 17,
        (None, TensorType::Q6K) => 18,
        (Some(WeightFormat::Bf16), _) | (None, TensorType::Bf16) => 32,
        (None, _) => 0,
    }
}
