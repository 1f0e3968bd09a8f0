//! [`import_model`] and [`export_model`]: the weights and the tokenizer of a model together.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use burn::tensor::Device;
use serde::Serialize;
use taal_inference::{Ends, InferenceError, LanguageModel, check_tokenizer, model_dir, sentence_files};
use taal_model::hugging_face::{self, CONFIG_FILE, Companions, Family, SpecialIds, TranslationFacts};
use taal_model::{Activation, RopeScaling, Transformer, WeightFormat};
use taal_store::{AtomicDir, FileFormat, LineEnds, Map, NewFolders};
use taal_tokenizer::chat::ChatFiles;
use taal_tokenizer::{ImportOptions, Tokenizer};

use crate::gguf;
use crate::{ExchangeError, Result, from_ggml, llama2c, to_ggml};

/// A note for models with dynamic scaling of rotary angles.
const NO_DYNAMIC_ANGLES: &str = "llama.cpp has no dynamic scaling of rotary angles; in the model's context it changes nothing, and beyond it the \
                                 file is one without scaling";

/// A note for models with the exact GELU, as in nanoGPT.
const APPROXIMATE_GELU: &str = "llama.cpp computes GELU by its tanh approximation, and this model has the exact one: activations there differ by \
                                up to 5e-4";

/// A note for directories whose weights are in blocks.
const ONLY_TAAL: &str = "only Taal opens a directory with weights in blocks; llama.cpp opens --to gguf, and others --to hf with --type f32, f16 or bf16";

/// The format of an imported model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A directory with `config.json`, weights and optionally a tokenizer.
    HuggingFace,
    /// A single file of weights next to its `config.json`.
    Safetensors,
    /// A llama.cpp file.
    Gguf,
    /// A llama2.c file.
    Llama2c,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HuggingFace => "Hugging Face directory",
            Self::Safetensors => "safetensors file with config.json",
            Self::Gguf => "GGUF file",
            Self::Llama2c => "llama2.c file",
        })
    }
}

/// The format of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// A directory that `transformers` opens.
    HuggingFace,
    /// A file that llama.cpp opens.
    Gguf,
    /// A file that llama2.c's `run` opens, without its tokenizer.
    Llama2c,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HuggingFace => "Hugging Face directory",
            Self::Gguf => "GGUF file",
            Self::Llama2c => "llama2.c file",
        })
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "hf" => Ok(Self::HuggingFace),
            "gguf" => Ok(Self::Gguf),
            "llama2c" => Ok(Self::Llama2c),
            _ => Err("expected hf, gguf or llama2c".to_string()),
        }
    }
}

/// The result of an import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// The format of the model.
    pub source: Source,
    /// The family of `config.json`.
    pub family: String,
    /// Number of parameters.
    pub params: u64,
    /// The types of the matrices.
    pub weights: String,
    /// Number of tokens of the tokenizer; `None` without a tokenizer.
    pub tokenizer_vocab_size: Option<usize>,
    /// Notes for users of the result.
    pub notes: Vec<String>,
    /// The directory that was written.
    pub out: PathBuf,
}

/// The result of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// The format of the export.
    pub target: Target,
    /// The type of the matrices.
    pub tensor_type: String,
    /// Number of parameters.
    pub params: u64,
    /// Size of the weights' file.
    pub bytes: u64,
    /// llama.cpp's name of the tokenizer; `None` where the file has none.
    pub tokenizer: Option<String>,
    /// Notes for users of the result.
    pub notes: Vec<String>,
    /// What was written.
    pub out: PathBuf,
}

/// Which tokenizer an imported model gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TokenizerChoice<'a> {
    /// The source's, if it has one.
    #[default]
    Own,
    /// Another one, a file or folder of any format that [`Tokenizer::import`] reads.
    File(&'a Path),
    /// None: prompts and continuations are token ids.
    Without,
}

impl<'a> From<Option<&'a Path>> for TokenizerChoice<'a> {
    fn from(path: Option<&'a Path>) -> Self {
        path.map_or(Self::Own, Self::File)
    }
}

/// Opens a model: a directory or a run, as [`LanguageModel::open`] does, or a GGUF file, whose matrices are multiplied where they are in the
/// mapped file.
///
/// # Errors
///
/// Those of [`LanguageModel::open`], of [`gguf::open`], and [`ExchangeError::ForeignTokenizer`].
pub fn open_model(path: &Path, device: &Device) -> Result<LanguageModel> {
    if !is_gguf_file(path)? {
        return Ok(LanguageModel::open(path, device)?);
    }
    let opened = open_gguf(path, &Arc::new(Map::open(path)?), false, device)?;
    check_tokenizer(opened.tokenizer.as_ref(), path, opened.model.config(), path)?;
    let mut lm = LanguageModel::with_special_ids(opened.model, opened.tokenizer, opened.special_ids);
    lm.chat = opened.chat;
    lm.notes = opened.notes;
    Ok(lm)
}

/// Whether there is a file that begins as GGUF files do.
///
/// # Errors
///
/// [`ExchangeError::Store`] where the file cannot be read.
pub fn is_gguf_file(path: &Path) -> Result<bool> {
    Ok(taal_store::is_file(path) && gguf::is_gguf(&Map::open(path)?))
}

/// Opens a model of another program and atomically writes it as a Hugging Face directory, in which its matrices keep their types.
///
/// # Errors
///
/// [`ExchangeError::Foreign`] where the format of the source is not supported, [`InferenceError::TokenizerMismatch`], or the
/// errors of the files themselves, by name.
pub fn import_model<'a>(
    from: &Path,
    tokenizer: impl Into<TokenizerChoice<'a>>,
    out: &Path,
    device: &Device,
) -> Result<Imported> {
    import_model_as(from, tokenizer, None, out, device)
}

/// [`import_model`] with matrices of other types.
///
/// # Errors
///
/// As [`import_model`], and [`Transformer::with_weights`].
pub fn import_model_as<'a>(
    from: &Path,
    tokenizer: impl Into<TokenizerChoice<'a>>,
    weights: Option<WeightFormat>,
    out: &Path,
    device: &Device,
) -> Result<Imported> {
    refuse_existing(out)?;
    let choice = tokenizer.into();
    let tokenizer = match choice {
        TokenizerChoice::File(path) => Some(path),
        TokenizerChoice::Own | TokenizerChoice::Without => None,
    };
    let given = tokenizer
        .map(|path| Tokenizer::import(path, &ImportOptions::default()))
        .transpose()?;
    let Opened {
        source,
        model,
        tokenizer: own,
        special_ids,
        line_ends,
        chat,
        notes,
    } = open_any(from, choice != TokenizerChoice::Own, device)?;
    let tokenizer_path = tokenizer.unwrap_or(from);
    let tokenizer = match source {
        Source::Llama2c => given.or(own).map(from_ggml::with_bos).transpose()?,
        _ => given.or(own),
    };
    check_tokenizer(tokenizer.as_ref(), tokenizer_path, model.config(), from)?;
    let halves = match (weights, source) {
        (None, Source::HuggingFace) if taal_store::is_dir(from) => hugging_face::stored_halves(&model_dir(from)?)?,
        _ => None,
    };
    let (model, notes) = match (weights, halves) {
        // Then they are not kept as they were unpacked.
        (Some(format), _) => {
            let note = format.note(model.config(), &taal_model::parameters::list(&model));
            (model.with_weights(format)?, note.into_iter().collect())
        }
        (None, Some(format)) => (model.with_weights(format)?, notes),
        (None, None) => (model, notes),
    };
    let folders = NewFolders::above(out)?;
    let sentence = match source {
        Source::HuggingFace => own_files(&model_dir(from)?, model.config().d_model)?,
        _ => Vec::new(),
    };
    let others = other_files(&chat, sentence, tokenizer.as_ref());
    save(&model, tokenizer.as_ref(), special_ids, line_ends, others, out)?;
    folders.keep();
    Ok(Imported {
        source,
        family: family_name(&model),
        params: model.config().n_params(),
        weights: model.weight_types(),
        tokenizer_vocab_size: tokenizer.as_ref().map(Tokenizer::vocab_size),
        notes,
        out: out.to_path_buf(),
    })
}

/// Writes a model directory or a GGUF file as a file or directory of another program. With a format, matrices get its types; without one,
/// they keep theirs. llama2.c has F32 only.
///
/// # Errors
///
/// [`ExchangeError::Inexpressible`] where the tokenizer cannot be expressed in the target's format, [`InferenceError::Setting`]
/// for a type that it does not have, the model crate's error with the field of the configuration that it cannot express, and the
/// errors of the files.
pub fn export_model(
    dir: &Path,
    target: Target,
    format: Option<WeightFormat>,
    out: &Path,
    device: &Device,
) -> Result<Exported> {
    refuse_existing(out)?;
    if let (Target::Llama2c, Some(format)) = (target, format.filter(|format| *format != WeightFormat::F32)) {
        return Err(
            InferenceError::setting("type", format!("llama2.c files do not have {format}; expected f32")).into(),
        );
    }
    // What was opened in single precision may be 16-bit floats in the file.
    let format = match (target, format) {
        (Target::HuggingFace | Target::Gguf, None) if taal_store::is_dir(dir) => {
            hugging_face::stored_halves(&model_dir(dir)?)?
        }
        _ => format,
    };
    export_opened(open_model(dir, device)?, dir, target, format, out)
}

/// [`export_model`] of a model that is open already, whose other files are those of `dir`.
pub(crate) fn export_opened(
    mut lm: LanguageModel,
    dir: &Path,
    target: Target,
    format: Option<WeightFormat>,
    out: &Path,
) -> Result<Exported> {
    let tensor_type = match (target, format) {
        (Target::Llama2c, _) => WeightFormat::F32.to_string(),
        (_, Some(format)) => format.to_string(),
        (_, None) => lm.model.weight_types(),
    };
    let mut exported = Exported {
        target,
        tensor_type,
        params: lm.model.config().n_params(),
        bytes: 0,
        tokenizer: None,
        notes: Vec::new(),
        out: out.to_path_buf(),
    };
    let found = taal_model::parameters::list(&lm.model);
    exported
        .notes
        .extend(format.and_then(|format| format.note(lm.model.config(), &found)));
    // Before anything is created: it may refuse. A GGUF file is rounded while it is written.
    if let (Target::HuggingFace, Some(format)) = (target, format) {
        lm = lm.with_weights(format)?;
    }
    let folders = NewFolders::above(out)?;
    let mut weights = out.to_path_buf();
    match target {
        Target::HuggingFace => {
            let sentence = match taal_store::is_dir(dir) {
                true => own_files(&model_dir(dir)?, lm.model.config().d_model)?,
                false => Vec::new(),
            };
            if lm.model.has_blocks() {
                exported.notes.push(ONLY_TAAL.to_string());
            }
            if let Some(field) = Family::obstacle(lm.model.config()) {
                exported.notes.push(format!(
                    "no family of transformers has this model's {field}, so only Taal opens the directory"
                ));
            }
            // An encoder reads the end of a text too, and other programs find that only in the tokenizer's file.
            let framed = match lm.model.is_encoder_decoder() {
                true => lm.tokenizer.as_ref().map(Tokenizer::with_frame).transpose()?,
                false => None,
            };
            let tokenizer = framed.as_ref().or(lm.tokenizer.as_ref());
            save(
                &lm.model,
                tokenizer,
                lm.special_ids.clone(),
                lm.line_ends,
                other_files(&lm.chat, sentence, tokenizer),
                out,
            )?;
            weights = out.join(hugging_face::WEIGHTS_FILE);
        }
        Target::Gguf => {
            let vocabulary = lm
                .tokenizer
                .as_ref()
                .map(|tokenizer| to_ggml::vocabulary(&lm, tokenizer, dir));
            let vocabulary = vocabulary.transpose()?;
            match &vocabulary {
                Some(vocabulary) => {
                    exported.notes.extend(to_ggml::missing_end(vocabulary));
                    exported.notes.extend(to_ggml::unkept_ends(vocabulary, &lm));
                    exported
                        .notes
                        .extend(lm.tokenizer.as_ref().and_then(to_ggml::kept_spaces));
                }
                None => exported
                    .notes
                    .push("the model has no tokenizer, so llama.cpp takes and gives token ids only".to_string()),
            }
            if lm.model.config().activation == Activation::Gelu {
                exported.notes.push(APPROXIMATE_GELU.to_string());
            }
            if let Some(RopeScaling::Dynamic { .. }) = lm.model.config().rope_scaling {
                exported.notes.push(NO_DYNAMIC_ANGLES.to_string());
            }
            let name = if taal_store::is_dir(dir) {
                dir.file_name()
            } else {
                dir.file_stem()
            };
            let name = name.unwrap_or_default().to_string_lossy();
            gguf::save(&lm.model, vocabulary.as_ref(), format, &name, out)?;
            exported.tokenizer = vocabulary.map(|vocabulary| vocabulary.model);
        }
        Target::Llama2c => {
            llama2c::save(&lm.model, out)?;
            exported
                .notes
                .push("llama2.c keeps the tokenizer in another file, which is not written".to_string());
        }
    }
    folders.keep();
    exported.bytes = taal_store::file_size_bytes(&weights)?;
    Ok(exported)
}

/// Called before anything large is read.
pub(crate) fn refuse_existing(out: &Path) -> Result<()> {
    match taal_store::exists(out) {
        true => Err(taal_store::Error::AlreadyExists {
            path: out.to_path_buf(),
        }
        .into()),
        false => Ok(()),
    }
}

/// What a directory says about vectors of texts and about translation, for another directory of the same model.
fn own_files(dir: &Path, d_model: usize) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let mut files = sentence_files(dir, d_model)?;
    files.extend(TranslationFacts::open(dir)?.map(|facts| facts.file()));
    Ok(files)
}

/// The files that belong neither to the model nor to its tokenizer. Without a tokenizer there is nothing for a chat template to do.
fn other_files(
    chat: &ChatFiles,
    sentence: Vec<(&'static str, Vec<u8>)>,
    tokenizer: Option<&Tokenizer>,
) -> Vec<(String, Vec<u8>)> {
    let sentence = sentence.into_iter().map(|(name, bytes)| (name.to_string(), bytes));
    let chat = tokenizer.map(|tokenizer| chat.files(tokenizer)).unwrap_or_default();
    chat.into_iter().chain(sentence).collect()
}

/// Writes a directory; the source's special ids are copied unchanged.
fn save(
    model: &Transformer,
    tokenizer: Option<&Tokenizer>,
    mut special_ids: SpecialIds,
    line_ends: LineEnds,
    others: Vec<(String, Vec<u8>)>,
    out: &Path,
) -> Result<()> {
    let json = tokenizer.map(Tokenizer::to_json);
    let target_json = tokenizer.and_then(Tokenizer::target_json);
    let ends = Ends::of(&special_ids, tokenizer, model.config().vocab_size);
    special_ids.complete(ends.begin_id, &ends.end_ids, tokenizer.and_then(Tokenizer::pad_id));
    let companions = Companions {
        tokenizer_json: json.as_deref(),
        target_tokenizer_json: target_json.as_deref(),
        bos_token_id: ends.begin_id,
        eos_token_id: ends.end_ids.first().copied(),
        pad_token_id: tokenizer.and_then(Tokenizer::pad_id),
        special_ids: Some(&special_ids),
        line_ends,
    };
    let target = AtomicDir::create(out)?;
    for (name, bytes) in hugging_face::files(model, companions)? {
        target.write(name, &bytes)?;
    }
    for (name, bytes) in others {
        target.write(&name, &bytes)?;
    }
    Ok(target.commit()?)
}

fn family_name(model: &Transformer) -> String {
    format!("{:?}", Family::of(model.config())).to_lowercase()
}

/// An opened model of any format.
struct Opened {
    source: Source,
    model: Transformer,
    tokenizer: Option<Tokenizer>,
    special_ids: SpecialIds,
    line_ends: LineEnds,
    chat: ChatFiles,
    notes: Vec<String>,
}

/// Opens the model at a path; its tokenizer is skipped where another one is given or none is wanted.
fn open_any(path: &Path, has_tokenizer: bool, device: &Device) -> Result<Opened> {
    if taal_store::is_dir(path) {
        let dir = model_dir(path)?;
        let tokenizer = match has_tokenizer {
            true => None,
            false => tokenizer_of_folder(&dir)?,
        };
        return Ok(Opened {
            source: Source::HuggingFace,
            model: hugging_face::open(&dir, device)?,
            tokenizer,
            special_ids: SpecialIds::open(&dir)?,
            line_ends: hugging_face::open_line_ends(&dir)?,
            chat: ChatFiles::open(&dir),
            notes: Vec::new(),
        });
    }
    let map = Arc::new(Map::open(path)?);
    if gguf::is_gguf(&map) {
        return open_gguf(path, &map, has_tokenizer, device);
    }
    if llama2c::is_llama2c(&map) {
        return Ok(Opened {
            source: Source::Llama2c,
            model: llama2c::from_bytes(path, &map, device)?,
            tokenizer: None,
            special_ids: SpecialIds::default(),
            line_ends: LineEnds::Keep,
            chat: ChatFiles::default(),
            notes: Vec::new(),
        });
    }
    hugging_face::refuse_pickle(path)?;
    if path.extension().is_some_and(|extension| extension == "safetensors") {
        let config = path.with_file_name(CONFIG_FILE);
        return Ok(Opened {
            source: Source::Safetensors,
            model: hugging_face::open_files(&config, path, device)?,
            tokenizer: None,
            special_ids: SpecialIds::open(config.parent().unwrap_or(path))?,
            line_ends: hugging_face::open_line_ends(config.parent().unwrap_or(path))?,
            chat: ChatFiles::open(config.parent().unwrap_or(path)),
            notes: Vec::new(),
        });
    }
    // The magic numbers of llama.cpp's files of 2023.
    let is_ggml = [b"lmgg", b"fmgg", b"tjgg"].iter().any(|mark| map.starts_with(*mark));
    let detail = match FileFormat::of(&map) {
        _ if is_ggml => {
            "a GGML file from before GGUF; convert it with convert_llama_ggml_to_gguf.py of llama.cpp".to_string()
        }
        Some(format) => format.in_place_of("a model"),
        None => "not in a supported format: a Hugging Face directory, a .safetensors file next to its config.json, \
                 a GGUF file, a llama2.c file"
            .to_string(),
    };
    let path = path.to_path_buf();
    Err(ExchangeError::Foreign { path, detail })
}

/// Opens a mapped GGUF file; its tokenizer is skipped where another one is given or none is wanted.
fn open_gguf(path: &Path, map: &Arc<Map>, has_tokenizer: bool, device: &Device) -> Result<Opened> {
    let contents = gguf::from_map(path, map, device)?;
    let special_ids = contents
        .vocabulary
        .as_ref()
        .map(|vocabulary| SpecialIds::new(vocabulary.bos_id, &vocabulary.end_ids()));
    let chat = contents.vocabulary.as_ref().map(from_ggml::chat_files);
    let vocabulary = contents.vocabulary.filter(|_| !has_tokenizer);
    let tokenizer = vocabulary.map(|vocabulary| from_ggml::tokenizer(path, &vocabulary));
    Ok(Opened {
        source: Source::Gguf,
        model: contents.model,
        tokenizer: tokenizer.transpose()?,
        special_ids: special_ids.unwrap_or_default(),
        line_ends: LineEnds::Keep,
        chat: chat.unwrap_or_default(),
        notes: contents.note.into_iter().collect(),
    })
}

/// Possible names of a directory's tokenizer; the first that exists is used.
const TOKENIZER_FILES: [&str; 8] = [
    hugging_face::TOKENIZER_FILE,
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "source.spm",
    "vocab.json",
    "encoder.json",
    "vocab.txt",
];

/// The tokenizer of a directory, of any format; `None` where there is no such file. A tokenizer file that cannot be read is an
/// error: otherwise the model would silently lose its tokenizer.
fn tokenizer_of_folder(dir: &Path) -> Result<Option<Tokenizer>> {
    let named = TOKENIZER_FILES.iter().map(|name| dir.join(name));
    let named = named.into_iter().find(|path| taal_store::exists(path));
    let found = match &named {
        Some(path) if path.ends_with(hugging_face::TOKENIZER_FILE) => Tokenizer::open(path),
        _ => Tokenizer::import(dir, &ImportOptions::default()),
    };
    match (found, named) {
        (Ok(tokenizer), _) => Ok(Some(tokenizer)),
        (Err(taal_tokenizer::Error::Unrecognized { .. }), None) => Ok(None),
        (Err(error), Some(path)) => Err(ExchangeError::ForeignTokenizer {
            detail: reason(&path, &error).to_string(),
            path,
        }),
        (Err(error), None) => Err(error.into()),
    }
}

/// The message of an error without the name of its file.
fn reason(path: &Path, error: &taal_tokenizer::Error) -> String {
    let said = error.to_string();
    let name = format!("{}: ", path.display());
    said.strip_prefix(&name).unwrap_or(&said).to_string()
}
