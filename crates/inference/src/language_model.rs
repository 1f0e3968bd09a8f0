//! A model with its tokenizer, opened from a directory.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use taal_model::hugging_face::{self, CONFIG_FILE, TOKENIZER_FILE};
use taal_model::{Transformer, TransformerConfig};
use taal_tokenizer::Tokenizer;

use crate::generate::Prompt;
use crate::{InferenceError, Result};

/// The folder of a run directory in which the best model stands.
const RUN_MODEL_DIR: &str = "model";

/// A transformer and, where there is one, the tokenizer that turns text into its ids.
#[derive(Debug)]
pub struct LanguageModel {
    /// The model.
    pub model: Transformer,
    /// Its tokenizer; without one, prompts and continuations are token ids.
    pub tokenizer: Option<Tokenizer>,
}

impl LanguageModel {
    /// A model and a tokenizer that are in memory already.
    pub fn new(model: Transformer, tokenizer: Option<Tokenizer>) -> Self {
        Self { model, tokenizer }
    }

    /// Opens a Hugging Face model directory (`config.json`, `model.safetensors` or the files that its index lists, and, not
    /// necessarily, `tokenizer.json`), or the one named `model` in a run directory.
    ///
    /// # Errors
    ///
    /// [`InferenceError::NoModel`] where there is neither, [`InferenceError::TokenizerMismatch`] where the tokenizer
    /// has ids that the model lacks, and the errors of the files themselves, by name.
    pub fn open(dir: &Path, device: &Device) -> Result<Self> {
        let dir = &model_dir(dir)?;
        // The small file first: a wrong tokenizer should not cost the loading of all weights.
        let config = hugging_face::open_config(dir)?;
        let tokenizer_path = dir.join(TOKENIZER_FILE);
        let tokenizer = match taal_store::exists(&tokenizer_path) {
            true => Some(Tokenizer::open(&tokenizer_path)?),
            false => None,
        };
        check_tokenizer(tokenizer.as_ref(), &tokenizer_path, &config, &dir.join(CONFIG_FILE))?;
        Ok(Self {
            model: hugging_face::open(dir, device)?,
            tokenizer,
        })
    }

    /// Number of ids that may be drawn: the tokenizer's where there is one, since models often have more rows than
    /// tokens (rounded up for speed) and the surplus ids mean nothing.
    pub fn vocab_size(&self) -> usize {
        let model = self.model.config().vocab_size;
        self.tokenizer
            .as_ref()
            .map_or(model, |tokenizer| tokenizer.vocab_size().min(model))
    }

    /// The ids of a prompt, checked; an empty prompt becomes the tokenizer's beginning-of-sequence token. Where the tokenizer
    /// begins every text with a special token and ends none, as LLaMA's `<s>`, so does a prompt in words. No other special
    /// tokens are added, but those written in the text are recognised.
    ///
    /// # Errors
    ///
    /// [`InferenceError::NoTokenizer`], [`InferenceError::EmptyPrompt`], [`InferenceError::UnknownId`], or the
    /// tokenizer's error.
    pub fn prompt_ids(&self, prompt: &Prompt) -> Result<Vec<u32>> {
        let mut ids = match prompt {
            // No tokenizer is needed to see that nothing was given.
            Prompt::Text(text) if text.is_empty() => Vec::new(),
            Prompt::Text(text) => {
                let tokenizer = self.tokenizer.as_ref();
                let tokenizer = tokenizer.ok_or(InferenceError::NoTokenizer {
                    purpose: "a prompt in words",
                })?;
                with_beginning(tokenizer, text)?
            }
            Prompt::Ids(ids) => ids.clone(),
        };
        if ids.is_empty() {
            ids.push(self.first_id()?);
        }
        check_ids(&ids, self.model.config().vocab_size, "prompt id")?;
        Ok(ids)
    }

    fn first_id(&self) -> Result<u32> {
        let reason = match &self.tokenizer {
            None => "the model has no tokenizer that names a beginning-of-sequence token",
            Some(tokenizer) => match tokenizer.bos_id() {
                Some(id) => return Ok(id),
                None => "the tokenizer has no beginning-of-sequence token",
            },
        };
        Err(InferenceError::EmptyPrompt { reason })
    }
}

/// The ids of a text behind the special tokens that the tokenizer begins every text with, unless it also ends texts: what a model
/// of whole texts was trained on is no prompt.
fn with_beginning(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    let ids = tokenizer.encode(text)?;
    let whole = tokenizer.encode_with_special(text)?;
    let beginning = whole.strip_suffix(ids.as_slice()).unwrap_or_default();
    if beginning.is_empty() || ids.starts_with(beginning) {
        return Ok(ids);
    }
    Ok(whole)
}

/// The tokenizer has no ids that the model lacks; the paths are for the message.
pub(crate) fn check_tokenizer(
    tokenizer: Option<&Tokenizer>,
    tokenizer_path: &Path,
    config: &TransformerConfig,
    config_path: &Path,
) -> Result<()> {
    match tokenizer.filter(|tokenizer| tokenizer.vocab_size() > config.vocab_size) {
        Some(tokenizer) => Err(InferenceError::TokenizerMismatch {
            tokenizer: tokenizer_path.to_path_buf(),
            tokenizer_vocab_size: tokenizer.vocab_size(),
            config: config_path.to_path_buf(),
            model_vocab_size: config.vocab_size,
        }),
        None => Ok(()),
    }
}

/// The model directory that a path means: itself, or the one named `model` in a run directory.
///
/// # Errors
///
/// [`InferenceError::NoModel`] where there is neither, and the model crate's for a pickle.
pub fn model_dir(dir: &Path) -> Result<PathBuf> {
    hugging_face::refuse_pickle(dir)?;
    let in_run = dir.join(RUN_MODEL_DIR);
    [dir, &in_run]
        .into_iter()
        .find(|dir| taal_store::exists(&dir.join(CONFIG_FILE)))
        .map(Path::to_path_buf)
        .ok_or_else(|| InferenceError::NoModel { dir: dir.to_path_buf() })
}

/// Every id has a row in the embedding; a device would read past its end, or stop the program.
pub(crate) fn check_ids(ids: &[u32], vocab_size: usize, what: &'static str) -> Result<()> {
    match ids.iter().find(|id| **id as usize >= vocab_size) {
        Some(&id) => Err(InferenceError::UnknownId { what, id, vocab_size }),
        None => Ok(()),
    }
}

/// Generation and scoring both ask what comes next, which a model that has seen it cannot answer.
pub(crate) fn check_causal(model: &Transformer, purpose: &'static str) -> Result<()> {
    match model.config().is_causal {
        true => Ok(()),
        false => Err(InferenceError::NotCausal { purpose }),
    }
}
