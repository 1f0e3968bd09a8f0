//! GGUF files of llama.cpp: reading and writing GPT-2, LLaMA, Mistral, Qwen2 and Qwen3.
//!
//! A GGUF file is one file with everything: a header of keys, the tokenizer, and the tensors. Versions 2 and 3 are read, with
//! tensors of any [`TensorType`], and version 3 is written with F32, F16 or Q8_0. Norms, biases and positions stay F32, as
//! llama.cpp expects. The two coordinates of a rotary pair are adjacent in its LLaMA and half a head apart in its Qwen, as in
//! Hugging Face's files and Taal for all families.
//!
//! Left out: encoders, mixtures of experts, llama.cpp's blocks of 256 values (such as `Q4_K`), and files in several parts.

mod architecture;
mod file;
mod rope;
mod tensor_type;
mod vocabulary;
mod write;

use std::collections::BTreeSet;
use std::path::Path;

use burn::tensor::Device;
use taal_store::Map;

pub use tensor_type::TensorType;
pub use vocabulary::{TokenKind, Vocabulary};

use architecture::Architecture;
use file::File;
use rope::{ROPE_FREQS, llama3_table};
use taal_model::ModelError;
use taal_model::Transformer;
use taal_model::TransformerConfig;
use taal_model::hugging_face::shown;
use taal_model::parameters;
use write::{Entry, Planned, Writer};

/// The fewest bytes for 32 values: those of Q4_0.
const LEAST_BLOCK_BYTES: u64 = 18;

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
}

/// Whether a file begins as GGUF files do.
pub fn is_gguf(bytes: &[u8]) -> bool {
    bytes.starts_with(&file::MAGIC)
}

/// Opens a file: keys and positions of tensors are checked first, then every tensor's name, shape, type and values; partial
/// models are refused, and memory is taken only for weights that exist.
///
/// # Errors
///
/// [`ModelError::File`] names the file and the key or tensor.
pub fn open(path: &Path, device: &Device) -> Result<Contents, ModelError> {
    from_map(path, &Map::open(path)?, device)
}

/// Builds a model from a mapped file; `path` is for messages.
///
/// # Errors
///
/// As [`open`].
pub fn from_map(path: &Path, map: &Map, device: &Device) -> Result<Contents, ModelError> {
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
    let model = parameters::replace(model, |name, shape| -> Result<Vec<f32>, ModelError> {
        let parameter = architecture.parameter(&config, name, shape);
        let mut values = vec![0.0; parameter.count()];
        for (index, part) in parameter.parts.iter().enumerate() {
            let info = file
                .tensor(&part.name)
                .ok_or_else(|| missing_tensor(path, &part.name))?;
            parameter.place(index, 0, &file.values(&part.name, info)?, &mut values);
        }
        Ok(values)
    })?;
    Ok(Contents {
        model,
        vocabulary: vocabulary.map(Vocabulary::without_padding),
    })
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
    if bytes >= n_params / 32 * LEAST_BLOCK_BYTES {
        return Ok(());
    }
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

/// Atomically writes a model with its tokenizer as one file. Matrices are written in `tensor_type`; with Q8_0, those whose row
/// length is not a multiple of 32 are written in F16, as in llama.cpp's converter. Equal models and tokenizers give equal bytes.
///
/// # Errors
///
/// [`ModelError::Config`] names the field that llama.cpp does not support, [`ModelError::Input`] a tensor with values too large
/// for its type; [`ModelError::Store`] where the path exists already, or writing fails.
pub fn save(
    model: &Transformer,
    vocabulary: Option<&Vocabulary>,
    tensor_type: TensorType,
    name: &str,
    path: &Path,
) -> Result<(), ModelError> {
    let config = model.config();
    let architecture = Architecture::of(config)?;
    if !TensorType::WRITTEN.contains(&tensor_type) {
        return Err(ModelError::Input(format!(
            "tensors of type {tensor_type} are read and not written; write F32, F16 or Q8_0"
        )));
    }
    if taal_store::exists(path) {
        return Err(taal_store::Error::AlreadyExists {
            path: path.to_path_buf(),
        }
        .into());
    }
    let mut entries = vec![
        (
            "general.architecture".to_string(),
            Entry::Text(architecture.name().to_string()),
        ),
        ("general.type".to_string(), Entry::Text("model".to_string())),
        ("general.name".to_string(), Entry::Text(name.to_string())),
        (FILE_TYPE.to_string(), Entry::U32(file_type(tensor_type))),
        ("general.quantization_version".to_string(), Entry::U32(2)),
    ];
    entries.extend(architecture.entries(config));
    entries.extend(Vocabulary::entries(vocabulary, config.vocab_size)?);
    let extra = extra_tensors(architecture, config);
    let mut writer = Writer::create(path, &entries, plan(architecture, model, &extra, tensor_type))?;
    for (name, values) in &extra {
        writer.put(name, values)?;
    }
    let mut failure = None;
    parameters::read(model, |name, shape, values| {
        let parameter = architecture.parameter(config, name, shape);
        for (index, part) in parameter.parts.iter().enumerate() {
            if failure.is_none() {
                failure = writer.put(&part.name, &parameter.part_values(index, &values)).err();
            }
        }
    });
    match failure {
        Some(error) => Err(error),
        None => writer.commit(),
    }
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
    tensor_type: TensorType,
) -> Vec<Planned> {
    let mut planned: Vec<Planned> = extra
        .iter()
        .map(|(name, values)| Planned {
            name: name.clone(),
            shape: vec![values.len()],
            tensor_type: TensorType::F32,
        })
        .collect();
    for parameter in parameters::list(model) {
        let parts = architecture
            .parameter(model.config(), &parameter.name, &parameter.shape)
            .parts;
        planned.extend(parts.into_iter().map(|part| Planned {
            tensor_type: stored_type(&part.name, &part.shape, tensor_type),
            name: part.name,
            shape: part.shape,
        }));
    }
    planned
}

/// Norms, biases and positions stay F32, and only whole blocks can be quantized.
fn stored_type(name: &str, shape: &[usize], wanted: TensorType) -> TensorType {
    let row = match shape {
        [_, row] if name != "position_embd.weight" => *row,
        _ => return TensorType::F32,
    };
    match wanted.block() {
        Some((values, _)) if row.is_multiple_of(values) => wanted,
        _ => TensorType::F16,
    }
}

/// llama.cpp's file type number for a type of matrices.
fn file_type(tensor_type: TensorType) -> u32 {
    match tensor_type {
        TensorType::F16 => 1,
        TensorType::Q8_0 => 7,
        _ => 0,
    }
}
