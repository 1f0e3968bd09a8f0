//! What guesses the next tokens, for speculative decoding.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use taal_inference::{Draft, LanguageModel, SpeculativeOptions};
use taal_kernels::DeviceSpec;

use super::from_one;
use crate::failure::Failure;
use crate::models;

/// The settings of speculative decoding.
#[derive(Debug, Clone, Args)]
pub struct DraftArguments {
    /// Let a smaller model with the same tokenizer guess the next tokens, which the model checks several
    /// at a time; the text stays the same, to the byte on the CPU
    #[arg(long, value_name = "DIR", group = "drafts")]
    pub draft: Option<PathBuf>,
    /// Guess the next tokens without a second model: those after the last earlier place of the last N
    /// tokens, for texts that repeat what they have said
    #[arg(long, value_name = "N", value_parser = from_one::<usize>, group = "drafts")]
    pub draft_ngram: Option<usize>,
    /// The most tokens that are guessed at once; after wrong guesses there are fewer
    #[arg(
        long,
        value_name = "N",
        default_value_t = SpeculativeOptions::DEFAULT_TOKENS,
        value_parser = from_one::<usize>,
        requires = "drafts"
    )]
    pub draft_tokens: usize,
}

impl DraftArguments {
    /// Checks the numbers, without a model.
    pub fn validate(&self) -> Result<(), Failure> {
        validate_draft(self.draft_ngram, self.draft_tokens)
    }

    /// What guesses the tokens of `lm`, which `model` names, if it was asked for. A draft model is opened as its files have it.
    pub fn open(
        &self,
        device: DeviceSpec,
        lm: &LanguageModel,
        model: &Path,
    ) -> Result<Option<SpeculativeOptions>, Failure> {
        let tokens = self.draft_tokens;
        match (&self.draft, self.draft_ngram) {
            (Some(dir), _) => open_draft(dir, tokens, device, lm, model).map(Some),
            (None, Some(ngram)) => {
                let draft = Draft::PromptLookup { ngram };
                let options = SpeculativeOptions { draft, tokens };
                options.check_for(lm)?;
                Ok(Some(options))
            }
            (None, None) => Ok(None),
        }
    }
}

/// Checks numbers, without a model.
pub fn validate_draft(ngram: Option<usize>, tokens: usize) -> Result<(), Failure> {
    let draft = Draft::PromptLookup {
        ngram: ngram.unwrap_or(1),
    };
    Ok(SpeculativeOptions { draft, tokens }.validate()?)
}

/// The model at `dir` as the draft of `lm`, which `model` names.
pub fn open_draft(
    dir: &Path,
    tokens: usize,
    device: DeviceSpec,
    lm: &LanguageModel,
    model: &Path,
) -> Result<SpeculativeOptions, Failure> {
    let draft = Draft::Model(Arc::new(models::open(dir, device)?));
    let options = SpeculativeOptions { draft, tokens };
    options.check_for(lm).map_err(|error| {
        let which = format!("{} cannot draft for {}", dir.display(), model.display());
        anyhow::Error::from(error).context(which)
    })?;
    Ok(options)
}
