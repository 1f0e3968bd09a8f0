//! What guesses the next tokens, for speculative decoding.

use std::path::{Path, PathBuf};

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
    /// Tokens that are guessed at once
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
        let draft = Draft::PromptLookup {
            ngram: self.draft_ngram.unwrap_or(1),
        };
        Ok(self.with(draft).validate()?)
    }

    /// Opens the draft model, as its files have it.
    pub fn open(&self, device: DeviceSpec) -> Result<Option<LanguageModel>, Failure> {
        self.draft.as_ref().map(|dir| models::open(dir, device)).transpose()
    }

    /// The settings, if guesses were asked for, with the model of [`open`](Self::open) as the draft of `lm`, which `model` names.
    pub fn options<'a>(
        &self,
        draft: Option<&'a LanguageModel>,
        lm: &LanguageModel,
        model: &Path,
    ) -> Result<Option<SpeculativeOptions<'a>>, Failure> {
        let options = match (draft, self.draft_ngram) {
            (Some(draft), _) => self.with(Draft::Model(draft)),
            (None, Some(ngram)) => self.with(Draft::PromptLookup { ngram }),
            (None, None) => return Ok(None),
        };
        options.check_for(lm).map_err(|error| {
            let error = anyhow::Error::from(error);
            Failure::from(match &self.draft {
                Some(dir) => error.context(format!("{} cannot draft for {}", dir.display(), model.display())),
                None => error,
            })
        })?;
        Ok(Some(options))
    }

    fn with<'a>(&self, draft: Draft<'a>) -> SpeculativeOptions<'a> {
        SpeculativeOptions {
            draft,
            tokens: self.draft_tokens,
        }
    }
}
