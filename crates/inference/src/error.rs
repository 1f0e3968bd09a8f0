//! What can go wrong when a model generates or scores, each as one sentence with a way out.

use std::path::PathBuf;

use taal_store::ErrorKind;

/// A shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, InferenceError>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InferenceError {
    /// No model directory where one was named.
    #[error(
        "{}: no model here: neither {} nor {} exists; name a model directory, or a run directory that holds one",
        dir.display(), dir.join("config.json").display(), dir.join("model").join("config.json").display()
    )]
    NoModel {
        /// The directory that was named.
        dir: PathBuf,
    },
    /// A run directory that has no model, with what happened.
    #[error("{}: no model here: {detail}", dir.display())]
    NoModelYet {
        /// The directory that was named.
        dir: PathBuf,
        /// Why, and what to do.
        detail: String,
    },
    /// A tokenizer that knows ids which the model does not.
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
    /// Text was asked for or given, and the model has no tokenizer.
    #[error(
        "{purpose} needs a tokenizer, and this model has none: put its tokenizer.json into the model directory, \
         or give the prompt as token ids"
    )]
    NoTokenizer {
        /// What needs it, as the beginning of a sentence.
        purpose: &'static str,
    },
    /// Nothing to continue.
    #[error("the prompt is empty and {reason}: give a prompt of at least one token, for example a line break")]
    EmptyPrompt {
        /// Why nothing stands in for it.
        reason: &'static str,
    },
    /// A prompt that may not be cut and does not fit.
    #[error(
        "the prompt has {tokens} tokens and the model's context holds {context}: give a shorter prompt, or let its beginning be left out"
    )]
    PromptTooLong {
        /// Number of tokens of the prompt.
        tokens: usize,
        /// Number of tokens of the context.
        context: usize,
    },
    /// A token id that the model does not know.
    #[error("{what} {id} is not in the model's vocabulary: expected an id from 0 to {}", vocab_size.saturating_sub(1))]
    UnknownId {
        /// Where the id stands, as the beginning of a sentence.
        what: &'static str,
        /// The id.
        id: u32,
        /// Number of ids of the model.
        vocab_size: usize,
    },
    /// A token of the tokenizer's that the model has no vector for.
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
    /// A model that is in none of the formats that are read.
    #[error("{}: {detail}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is, and what was expected.
        detail: String,
    },
    /// A tokenizer that the target of an export cannot express.
    #[error("{}: {detail}", what.display())]
    Inexpressible {
        /// The file.
        what: PathBuf,
        /// The part of it, and why.
        detail: String,
    },
    /// A line of a test's file (minimal pairs, choices, words) that is not what it should be.
    #[error("{}: line {line}: {detail}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        detail: String,
    },
    /// Items of a test that could not be scored; the others were.
    #[error("{count} of {total} could not be scored and were left out: {named}")]
    LeftOut {
        /// How many.
        count: usize,
        /// How many there are.
        total: u64,
        /// Files, lines and reasons.
        named: String,
    },
    /// A causal model where a masked one is needed.
    #[error(
        "filling gaps needs a masked language model, and this one is causal: train one with train.objective = \"masked\" \
         (recipe dutch-mlm), or continue a text with generate"
    )]
    NotMasked,
    /// A model that sees both sides of a token, where one that predicts the next token is needed.
    #[error(
        "{purpose} needs a causal model, and this one is bidirectional (is_causal = false): \
         use a model that was trained to predict the next token"
    )]
    NotCausal {
        /// What needs it, as the beginning of a sentence.
        purpose: &'static str,
    },
    /// A text too short to score.
    #[error(
        "{name} has {tokens} token(s): the first token of a text is not scored, so at least 2 are needed; \
         give a longer text"
    )]
    TooShort {
        /// The text, as it was named.
        name: String,
        /// Its length in tokens.
        tokens: usize,
    },
    /// A text with a NUL byte, which no text has.
    #[error("{name} is a binary file (byte {offset} is NUL): give plain text")]
    Binary {
        /// The file, as it was named.
        name: String,
        /// The position of the NUL byte, counted from 0.
        offset: usize,
    },
    /// A tokenizer's complaint about a named text.
    #[error("{name}: {source}")]
    Text {
        /// The text, as it was named.
        name: String,
        /// What the tokenizer said.
        source: taal_tokenizer::Error,
    },
    /// The model computed numbers that mean nothing.
    #[error(
        "{what} not finite: the model's weights have diverged or are damaged; use an earlier checkpoint, \
         or train again with a smaller train.lr"
    )]
    NotFinite {
        /// What is not finite, with its verb.
        what: String,
    },
    /// The device gave up.
    #[error(
        "the device failed while computing ({detail}); if its memory is full, use a smaller model or --device flex"
    )]
    Device {
        /// What the device said.
        detail: String,
    },
    /// A source of tokens that did not hand out what was asked for.
    #[error("the source of tokens gave {given} ids for positions {start}..{end}: expected {}", end - start)]
    Source {
        /// First position asked for.
        start: usize,
        /// The position after the last one asked for.
        end: usize,
        /// How many ids came.
        given: usize,
    },
    /// The tokenizer refused.
    #[error(transparent)]
    Tokenizer(#[from] taal_tokenizer::Error),
    /// The model refused, or its files are not what they should be.
    #[error(transparent)]
    Model(#[from] taal_model::ModelError),
    /// Reading failed.
    #[error(transparent)]
    Store(#[from] taal_store::Error),
}

impl InferenceError {
    pub(crate) fn setting(key: &'static str, detail: impl Into<String>) -> Self {
        Self::Setting {
            key,
            detail: detail.into(),
        }
    }

    /// The error with the name of the text that it is about, where it has place for one.
    pub(crate) fn of_text(mut self, name: &str) -> Self {
        if let Self::NoRow { place, .. } = &mut self {
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
            | Self::NotMasked
            | Self::Inexpressible { .. }
            | Self::NotCausal { .. }
            | Self::TooShort { .. }
            | Self::Source { .. } => ErrorKind::Usage,
            Self::TokenizerMismatch { .. }
            | Self::Foreign { .. }
            | Self::Binary { .. }
            | Self::LeftOut { .. }
            | Self::Line { .. } => ErrorKind::Corrupt,
            Self::NotFinite { .. } => ErrorKind::Diverged,
            Self::Device { .. } => ErrorKind::Memory,
            Self::Text { source, .. } => source.kind(),
            Self::Tokenizer(error) => error.kind(),
            Self::Model(error) => error.kind(),
            Self::Store(error) => error.kind(),
        }
    }
}
