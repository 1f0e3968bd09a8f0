//! A second tokenizer for the texts that a model writes: Marian's models split the two languages by different SentencePiece models, whose
//! tokens are in one list.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use taal_store::layout::{TARGET_TOKENIZER_FILE, TOKENIZER_FILE};

use crate::{Error, Result, Tokenizer};

impl Tokenizer {
    /// The tokenizer of the texts that a model writes, such as translations: itself, unless [`with_target`](Self::with_target) gave it
    /// another one. An id is the same token in both.
    pub fn of_targets(&self) -> &Self {
        self.target.as_deref().unwrap_or(self)
    }

    /// The same tokenizer with another one for the texts that a model writes; with one that is equal to it, without.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] where the two do not have the same tokens.
    ///
    /// # Example
    ///
    /// ```
    /// use taal_tokenizer::{Kind, Tokenizer, TrainerConfig};
    ///
    /// let text = "de kat krabt de krullen van de trap, de kat krabt de krullen";
    /// let source = TrainerConfig::new(Kind::Bpe, 300).train([text])?;
    /// // The same tokens without merges.
    /// let mut file: serde_json::Value = serde_json::from_slice(&source.to_json())?;
    /// file["model"]["merges"] = serde_json::json!([]);
    /// let target = Tokenizer::from_json(file.to_string().as_bytes())?;
    /// let both = source.with_target(&target)?;
    /// assert!(both.encode("de kat")?.len() < both.of_targets().encode("de kat")?.len());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_target(mut self, target: &Self) -> Result<Self> {
        let count = self.vocab_size().max(target.vocab_size());
        if let Some(id) = (0..count).find(|id| self.tokens.get(*id) != target.tokens.get(*id)) {
            let name = |tokenizer: &Self| match tokenizer.tokens.get(id) {
                Some(token) => taal_store::excerpt(token),
                None => "no token".to_owned(),
            };
            let detail = format!(
                "the tokenizer of targets must have the tokens of {} in the same order, and id {id} is {} instead of {}; take both files from \
                 one model, or remove this one",
                self.origin,
                name(target),
                name(&self)
            );
            return Err(Error::Corrupt {
                origin: target.origin.clone(),
                detail,
            });
        }
        let own_hash = taal_store::blake3_hex(&self.json);
        if self.json == target.json {
            (self.hash, self.target) = (own_hash, None);
            return Ok(self);
        }
        let mut alone = target.clone();
        (alone.hash, alone.target) = (taal_store::blake3_hex(&target.json), None);
        self.hash = taal_store::blake3_hex_of([&own_hash, &alone.hash]);
        self.target = Some(Arc::new(alone));
        Ok(self)
    }

    /// The bytes of the `target_tokenizer.json`, where there is another tokenizer for targets.
    pub fn target_json(&self) -> Option<Vec<u8>> {
        self.target.as_ref().map(|target| target.json.clone())
    }

    /// The file of the tokenizer of targets that belongs to a `tokenizer.json`, where there is one: it is next to it.
    pub fn target_file(path: &Path) -> Option<PathBuf> {
        place_next_to(path).filter(|place| taal_store::exists(place))
    }

    /// A changed copy of this tokenizer with its tokenizer of targets, changed alike.
    pub(crate) fn with_target_as(&self, changed: Self, change: impl FnOnce(&Self) -> Result<Self>) -> Result<Self> {
        match &self.target {
            Some(target) => changed.with_target(&change(target)?),
            None => Ok(changed),
        }
    }

    pub(crate) fn save_target_next_to(&self, path: &Path) -> Result<()> {
        let Some(place) = place_next_to(path) else {
            return Ok(());
        };
        match &self.target {
            Some(target) => Ok(taal_store::write_atomic(&place, &target.json)?),
            None if taal_store::exists(&place) => Ok(taal_store::remove_file(&place)?),
            None => Ok(()),
        }
    }
}

/// Files of other names stand alone.
fn place_next_to(path: &Path) -> Option<PathBuf> {
    let is_usual = path.file_name().is_some_and(|name| name == TOKENIZER_FILE);
    is_usual.then(|| path.with_file_name(TARGET_TOKENIZER_FILE))
}
