//! Errors of evaluation; each message says what to do.

use std::path::PathBuf;

use taal_inference::InferenceError;
use taal_store::ErrorKind;

/// A shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, EvaluationError>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluationError {
    /// An invalid line of a test file (minimal pairs, choices, words).
    #[error("{}: line {line}: {detail}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        detail: String,
    },
    /// An invalid task file.
    #[error("{}: {detail}", path.display())]
    Task {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// Items of a test that could not be scored; the others were scored.
    #[error("{count} of {total} could not be scored and were left out: {named}")]
    LeftOut {
        /// How many.
        count: usize,
        /// How many there are.
        total: u64,
        /// Files, lines and reasons.
        named: String,
    },
    /// A text too short to score.
    #[error(
        "{name} has {tokens} token(s): the first token of a text is not scored, so at least 2 are needed; \
         give a longer text"
    )]
    TooShort {
        /// The name of the text.
        name: String,
        /// Its length in tokens.
        tokens: usize,
    },
    /// A tokenizer error with the name of the text.
    #[error("{name}: {source}")]
    Text {
        /// The name of the text.
        name: String,
        /// The tokenizer's message.
        source: taal_tokenizer::Error,
    },
    /// A source of tokens that returned the wrong number of ids.
    #[error("the source of tokens gave {given} ids for positions {start}..{end}: expected {}", end - start)]
    Source {
        /// First position asked for.
        start: usize,
        /// The position after the last one asked for.
        end: usize,
        /// How many ids it returned.
        given: usize,
    },
    /// A table of questions could not be read.
    #[error(transparent)]
    Data(#[from] taal_data::DataError),
    /// Inference failed.
    #[error(transparent)]
    Inference(#[from] InferenceError),
    /// The tokenizer refused.
    #[error(transparent)]
    Tokenizer(#[from] taal_tokenizer::Error),
    /// Reading failed.
    #[error(transparent)]
    Store(#[from] taal_store::Error),
}

impl EvaluationError {
    /// A setting outside its range.
    pub(crate) fn setting(key: &'static str, detail: impl Into<String>) -> Self {
        InferenceError::setting(key, detail).into()
    }

    /// The family of the error, from which `taal` takes its exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::TooShort { .. } | Self::Source { .. } | Self::Task { .. } => ErrorKind::Usage,
            Self::LeftOut { .. } | Self::Line { .. } => ErrorKind::Corrupt,
            Self::Text { source, .. } => source.kind(),
            Self::Data(error) => error.kind(),
            Self::Inference(error) => error.kind(),
            Self::Tokenizer(error) => error.kind(),
            Self::Store(error) => error.kind(),
        }
    }
}
