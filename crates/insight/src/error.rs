//! Errors of tracing; each message says what to do.

use std::path::PathBuf;

use taal_store::ErrorKind;

/// A shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, InsightError>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InsightError {
    /// A setting outside its range.
    #[error("{key}: {detail}")]
    Setting {
        /// The setting.
        key: &'static str,
        /// What was expected and what was given.
        detail: String,
    },
    /// More attention weights than the limit.
    #[error(
        "{tokens} tokens through {n_layers} layers of {n_heads} heads are {weights} attention weights, and at most {limit} are kept; \
         trace a shorter text"
    )]
    TooManyWeights {
        /// Tokens of the text.
        tokens: usize,
        /// Layers of the model.
        n_layers: usize,
        /// Heads of a layer.
        n_heads: usize,
        /// All weights.
        weights: u64,
        /// The limit.
        limit: u64,
    },
    /// A run directory without a checkpoint.
    #[error(
        "{}: no checkpoints here; name the directory of a training run, and train with a larger checkpoint.keep to have several",
        dir.display()
    )]
    NoCheckpoints {
        /// The directory that was named.
        dir: PathBuf,
    },
    /// Checkpoints with another tokenizer.
    #[error(
        "{}: its tokenizer is not that of the traced model, so its guesses cannot be compared; trace a model of this run",
        checkpoint.display()
    )]
    OtherTokenizer {
        /// The checkpoint.
        checkpoint: PathBuf,
    },
    /// A file that is damaged or not a trace.
    #[error("{}: not a trace: {detail}; trace the text again", path.display())]
    BadTrace {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// Opening, tokenizing or predicting failed.
    #[error(transparent)]
    Inference(#[from] taal_inference::InferenceError),
    /// The model refused.
    #[error(transparent)]
    Model(#[from] taal_model::ModelError),
    /// The tokenizer refused.
    #[error(transparent)]
    Tokenizer(#[from] taal_tokenizer::Error),
    /// The run's log cannot be read.
    #[error(transparent)]
    Metrics(#[from] taal_metrics::Error),
    /// Reading or writing failed.
    #[error(transparent)]
    Store(#[from] taal_store::Error),
}

impl InsightError {
    pub(crate) fn setting(key: &'static str, detail: impl Into<String>) -> Self {
        Self::Setting {
            key,
            detail: detail.into(),
        }
    }

    /// The family of the error, from which `taal` takes its exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Setting { .. }
            | Self::TooManyWeights { .. }
            | Self::NoCheckpoints { .. }
            | Self::OtherTokenizer { .. } => ErrorKind::Usage,
            Self::BadTrace { .. } => ErrorKind::Corrupt,
            Self::Inference(error) => error.kind(),
            Self::Model(error) => error.kind(),
            Self::Tokenizer(error) => error.kind(),
            Self::Metrics(error) => error.kind(),
            Self::Store(error) => error.kind(),
        }
    }
}
