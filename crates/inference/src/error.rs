//! Errors of inference; each message says what to do.

use std::path::PathBuf;

use taal_store::ErrorKind;
use taal_store::layout::{CONFIG_FILE, MODEL_DIR};

/// A shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, InferenceError>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InferenceError {
    /// No model directory where one was named.
    #[error(
        "{}: no model here: neither {} nor {} exists; name a model directory, or a run directory that holds one",
        dir.display(), dir.join(CONFIG_FILE).display(), dir.join(MODEL_DIR).join(CONFIG_FILE).display()
    )]
    NoModel {
        /// The directory that was named.
        dir: PathBuf,
    },
    /// A run directory that has no model, a file, or a path that does not exist.
    #[error("{}: no model here: {why}", dir.display())]
    NoModelYet {
        /// The directory that was named.
        dir: PathBuf,
        /// What became of it.
        why: MissingModel,
    },
    /// A tokenizer with ids that the model does not have.
    #[error(
        "{} has {tokenizer_vocab_size} token ids, but {} has a vocab_size of {model_vocab_size}: \
         they belong to different models; copy the tokenizer.json that this model was trained with",
        tokenizer.display(), config.display()
    )]
    TokenizerMismatch {
        /// The tokenizer's file.
        tokenizer: PathBuf,
        /// Number of ids of the tokenizer.
        tokenizer_vocab_size: usize,
        /// The model's configuration file.
        config: PathBuf,
        /// Number of ids of the model.
        model_vocab_size: usize,
    },
    /// A setting outside its range.
    #[error("{key}: {detail}")]
    Setting {
        /// The setting.
        key: &'static str,
        /// What was expected and what was given.
        detail: String,
    },
    /// Text input or output for a model without a tokenizer.
    #[error(
        "{purpose} needs a tokenizer, and this model has none: put its tokenizer.json into the model directory \
         (`taal tokenizer import` makes one of other files, such as vocab.json with merges.txt), or give the prompt as \
         token ids"
    )]
    NoTokenizer {
        /// What needs it, as the beginning of a sentence.
        purpose: &'static str,
    },
    /// Nothing to continue.
    #[error("the prompt is empty and {reason}: give a prompt of at least one token, for example a line break")]
    EmptyPrompt {
        /// Why there is no default.
        reason: &'static str,
    },
    /// A prompt that does not fit and may not be truncated.
    #[error("the prompt has {tokens} tokens and the model's context holds {context}: give a shorter prompt")]
    PromptTooLong {
        /// Number of tokens of the prompt.
        tokens: usize,
        /// Number of tokens of the context.
        context: usize,
    },
    /// A token id outside the model's vocabulary.
    #[error("{what} {id} is not in the model's vocabulary: expected an id from 0 to {}", vocab_size.saturating_sub(1))]
    UnknownId {
        /// What kind of id it is, as the beginning of a sentence.
        what: &'static str,
        /// The id.
        id: u32,
        /// Number of ids of the model.
        vocab_size: usize,
    },
    /// A token of the tokenizer for which the model has no vector.
    #[error(
        "{place}token {} (id {id}) has no row in the model's embedding, which has ids from 0 to {}: leave it out of the text, or take a model \
         that was saved after the token was added",
        taal_store::excerpt(token),
        vocab_size.saturating_sub(1)
    )]
    NoRow {
        /// The text that has the token, as the beginning of a sentence; empty where there is one text only.
        place: String,
        /// The token.
        token: String,
        /// Its id.
        id: u32,
        /// Number of ids of the model.
        vocab_size: usize,
    },
    /// A constraint that is invalid, cannot be satisfied or is too large.
    #[error("the {kind} cannot be used: {detail}")]
    Constraint {
        /// What it is.
        kind: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// A vocabulary without a token for what a constraint asks for next.
    #[error(
        "no token of the vocabulary can continue an answer that the {kind} allows: allow other characters in it, or use a model whose \
         tokenizer can write every byte"
    )]
    NoTokenFits {
        /// What the constraint is.
        kind: &'static str,
    },
    /// A tokenizer whose tokens have no text of their own.
    #[error(
        "answers of a given form need a tokenizer in which every token has a text of its own, and in this one the text depends on the \
         neighboring tokens: use another model"
    )]
    NoTokenTexts,
    /// A causal model where a masked one is needed.
    #[error(
        "filling gaps needs a masked language model, and this one is causal: train one with train.objective = \"masked\" \
         (recipe dutch-mlm), or continue a text with generate"
    )]
    NotMasked,
    /// A bidirectional model where a causal one is needed.
    #[error(
        "{purpose} needs a causal model, and this one is bidirectional (is_causal = false): \
         use a model that was trained to predict the next token"
    )]
    NotCausal {
        /// What needs it, as the beginning of a sentence.
        purpose: &'static str,
    },
    /// An encoder-decoder where a model that continues its text is needed.
    #[error(
        "{purpose} needs a model that continues a text, and this one has an encoder that reads a source: \
         translate with it (taal translate), or use a model without an encoder"
    )]
    NeedsSource {
        /// What needs it, as the beginning of a sentence.
        purpose: &'static str,
    },
    /// A model that does not translate.
    #[error(
        "this model does not translate: {why}; use one with an encoder (such as Marian's and T5's), or train one: \
         taal train --recipe translate-en-nl"
    )]
    NotTranslator {
        /// Why not.
        why: &'static str,
    },
    /// A sentence that the model cannot read whole.
    #[error(
        "{place}a sentence has {tokens} tokens and the model reads at most {context}: shorten it, or break it in two"
    )]
    SentenceTooLong {
        /// The text that has it, as the beginning of a sentence; empty where there is one text only.
        place: String,
        /// Number of tokens of the sentence.
        tokens: usize,
        /// Number of tokens that are read.
        context: usize,
    },
    /// The model computed numbers that are not finite.
    #[error(
        "{what} not finite: the model's weights have diverged or are damaged; use an earlier checkpoint, \
         or train again with a smaller train.lr"
    )]
    NotFinite {
        /// What is not finite, with its verb.
        what: String,
    },
    /// Nobody waits for the result.
    #[error("the work was cancelled before its end")]
    Cancelled,
    /// The device failed.
    #[error("the device failed while computing ({detail}); if its memory is full, use a smaller model, or the CPU")]
    Device {
        /// What the device said.
        detail: String,
    },
    /// An engine whose queue is full.
    #[error("{limit} requests wait already: try again later")]
    QueueFull {
        /// How many may wait.
        limit: usize,
    },
    /// A request that did not start in time.
    #[error("the request waited too long for a place: try again later")]
    WaitedTooLong,
    /// An engine that is ending.
    #[error("the engine is stopping")]
    Stopping,
    /// The tokenizer refused.
    #[error(transparent)]
    Tokenizer(#[from] taal_tokenizer::Error),
    /// The model refused, or its files are invalid.
    #[error(transparent)]
    Model(#[from] taal_model::ModelError),
    /// Reading failed.
    #[error(transparent)]
    Store(#[from] taal_store::Error),
}

/// What became of the model of a run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MissingModel {
    /// A link to it leads nowhere.
    #[error("{} is a broken link: copy a run as a whole, or a model with `cp -rL`", link.display())]
    DanglingLink {
        /// The link.
        link: PathBuf,
    },
    /// The run has saved none.
    #[error("this run has not saved a complete model yet: the first one comes with the first checkpoint")]
    NotSaved,
    /// The run has not made a step.
    #[error("a run was started here and ended before its first step")]
    NotBegun,
    /// It is a file.
    #[error("this is a file; name a model directory, or a run directory that holds one")]
    IsFile,
    /// The path does not exist.
    #[error("no file or directory has this name")]
    NoSuchPath,
}

impl InferenceError {
    /// A setting outside its range.
    pub fn setting(key: &'static str, detail: impl Into<String>) -> Self {
        Self::Setting {
            key,
            detail: detail.into(),
        }
    }

    /// Adds the name of the text to errors that have a field for it.
    pub fn of_text(mut self, name: &str) -> Self {
        if let Self::NoRow { place, .. } | Self::SentenceTooLong { place, .. } = &mut self {
            *place = format!("{name}: ");
        }
        self
    }

    /// The family of the error, from which `taal` takes its exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoModel { .. }
            | Self::NoModelYet { .. }
            | Self::Setting { .. }
            | Self::NoTokenizer { .. }
            | Self::EmptyPrompt { .. }
            | Self::PromptTooLong { .. }
            | Self::UnknownId { .. }
            | Self::NoRow { .. }
            | Self::Constraint { .. }
            | Self::NoTokenFits { .. }
            | Self::NoTokenTexts
            | Self::NotMasked
            | Self::NotCausal { .. }
            | Self::NeedsSource { .. }
            | Self::NotTranslator { .. }
            | Self::SentenceTooLong { .. }
            | Self::QueueFull { .. }
            | Self::WaitedTooLong
            | Self::Cancelled
            | Self::Stopping => ErrorKind::Usage,
            Self::TokenizerMismatch { .. } => ErrorKind::Corrupt,
            Self::NotFinite { .. } => ErrorKind::Diverged,
            Self::Device { .. } => ErrorKind::Memory,
            Self::Tokenizer(error) => error.kind(),
            Self::Model(error) => error.kind(),
            Self::Store(error) => error.kind(),
        }
    }
}
