//! Adapters on models that are open.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use taal_model::Transformer;
use taal_model::hugging_face::{self, ADAPTER_CONFIG_FILE, CONFIG_FILE, SpecialIds, TOKENIZER_FILE};
use taal_store::layout::MODEL_DIR;
use taal_tokenizer::Tokenizer;
use taal_tokenizer::chat::ChatFiles;

use crate::{Ends, InferenceError, LanguageModel, Result, check_tokenizer, model_dir};

impl LanguageModel {
    /// The same model, which was opened from `base`, with the adapter of a directory or a run. Where the adapter has a tokenizer, special
    /// ids or chat templates, they replace those of the base.
    ///
    /// # Errors
    ///
    /// [`InferenceError::Setting`] where there is no adapter, or the base is not a model directory; [`InferenceError::Model`] where the adapter
    /// was made for other weights, with both hashes, or does not fit.
    pub fn with_adapter(mut self, base: &Path, adapter: &Path) -> Result<Self> {
        let adapter = adapter_dir(adapter)?;
        self.model = adapted(self.model, base, &adapter)?;
        let path = adapter.join(TOKENIZER_FILE);
        if taal_store::exists(&path) {
            let tokenizer = Tokenizer::open(&path)?;
            check_tokenizer(Some(&tokenizer), &path, self.model.config(), &base.join(CONFIG_FILE))?;
            self.tokenizer = Some(tokenizer);
        }
        if taal_store::exists(&adapter.join(CONFIG_FILE)) {
            self.special_ids = SpecialIds::open(&adapter)?;
            let ends = Ends::of(
                &self.special_ids,
                self.tokenizer.as_ref(),
                self.model.config().vocab_size,
            );
            (self.begin_id, self.end_ids, self.unknown_end_ids) = (ends.begin_id, ends.end_ids, ends.unknown_end_ids);
        }
        let chat = ChatFiles::open(&adapter);
        if !chat.is_empty() {
            self.chat = chat;
        }
        Ok(self)
    }

    /// The same model, which was opened from `base`, with one more adapter that an [`Engine`](crate::Engine)'s requests may name
    /// ([`Request::adapter`](crate::Request)). A request to it has the special ids and the chat template of
    /// [`with_adapter`](Self::with_adapter). Choose weights and cache before.
    ///
    /// # Errors
    ///
    /// As [`with_adapter`](Self::with_adapter), and [`InferenceError::Setting`] for a name that another adapter has, and for an adapter that
    /// changes the model's configuration, which one batch cannot share.
    pub fn with_served_adapter(mut self, name: &str, base: &Path, adapter: &Path) -> Result<Self> {
        if self.adapters.iter().any(|other| other.name == name) {
            return Err(InferenceError::setting(
                "adapter",
                format!("two adapters are named {name:?}"),
            ));
        }
        let dir = adapter_dir(adapter)?;
        if !hugging_face::open_adapter_info(&dir)?.lora.modules_to_save.is_empty() {
            let detail = format!(
                "{} has its own embedding of tokens (modules_to_save), so it cannot share a batch with others; serve the model that \
                 taal adapter merge makes of it",
                dir.display()
            );
            return Err(InferenceError::setting("adapter", detail));
        }
        let adapted = self.shared().with_adapter(base, adapter)?;
        if adapted.model.config() != self.model.config() {
            let detail = format!(
                "{} changes the configuration of its base, so they cannot answer in one batch; \
                 merge it (taal adapter merge) and serve the result as a model",
                adapter.display()
            );
            return Err(InferenceError::setting("adapter", detail));
        }
        self.model = self.model.with_choice(adapted.model.clone());
        self.adapters.push(ServedAdapter {
            name: name.to_owned(),
            lm: Arc::new(adapted),
        });
        Ok(self)
    }

    /// The names of the adapters that requests may name.
    pub fn adapters(&self) -> Vec<&str> {
        self.adapters.iter().map(|adapter| adapter.name.as_str()).collect()
    }

    /// The model with one of [`adapters`](Self::adapters), by its index, as [`with_adapter`](Self::with_adapter) opens it. It shares the
    /// parameters of the base.
    pub fn adapted(&self, adapter: usize) -> Option<&Arc<Self>> {
        self.adapters.get(adapter).map(|adapter| &adapter.lm)
    }

    /// The same model, whose parameters are shared, without the adapters that requests may name.
    fn shared(&self) -> Self {
        Self {
            begin_id: self.begin_id,
            end_ids: self.end_ids.clone(),
            unknown_end_ids: self.unknown_end_ids.clone(),
            line_ends: self.line_ends,
            chat: self.chat.clone(),
            sentence: self.sentence.clone(),
            ..Self::with_special_ids(self.model.clone(), self.tokenizer.clone(), self.special_ids.clone())
        }
    }
}

/// An adapter that requests may name.
#[derive(Debug)]
pub(crate) struct ServedAdapter {
    name: String,
    lm: Arc<LanguageModel>,
}

/// A model that was opened from `base`, with an adapter.
fn adapted(model: Transformer, base: &Path, adapter: &Path) -> Result<Transformer> {
    if taal_store::is_file(base) {
        let detail = "an adapter belongs to a model directory; taal import makes one of a file";
        return Err(InferenceError::setting("adapter", detail));
    }
    let base = model_dir(base)?;
    if hugging_face::is_adapter_dir(&base) {
        let detail = format!(
            "{} is an adapter itself, with its base; name the base with --model, or merge it first (taal adapter merge)",
            base.display()
        );
        return Err(InferenceError::setting("adapter", detail));
    }
    // Without the hash of the base there is nothing to compare, and hashing reads all weights.
    let info = hugging_face::open_adapter_info(adapter)?;
    let hash = info
        .base_blake3
        .map(|_| hugging_face::weights_hash(&base))
        .transpose()?;
    let family = hugging_face::open_family(&base)?;
    Ok(hugging_face::with_adapter(model, family, adapter, hash.as_deref())?)
}

/// The adapter directory at a path: itself, or the one in a run directory.
///
/// # Errors
///
/// [`InferenceError::Setting`] where there is none, and as [`model_dir`] for a run.
pub fn adapter_dir(dir: &Path) -> Result<PathBuf> {
    if taal_store::exists(&dir.join(ADAPTER_CONFIG_FILE)) {
        return Ok(dir.to_path_buf());
    }
    if taal_store::exists(&dir.join(MODEL_DIR).join(ADAPTER_CONFIG_FILE)) {
        return model_dir(dir);
    }
    Err(InferenceError::setting(
        "adapter",
        format!(
            "{}: no adapter here: neither {} nor {} exists; name an adapter directory, or a run that trained one (lora.rank)",
            dir.display(),
            dir.join(ADAPTER_CONFIG_FILE).display(),
            dir.join(MODEL_DIR).join(ADAPTER_CONFIG_FILE).display()
        ),
    ))
}
