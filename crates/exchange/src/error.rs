//! Errors of import and export.

use std::path::PathBuf;

use taal_inference::InferenceError;
use taal_store::ErrorKind;

/// A shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, ExchangeError>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// A model in an unsupported format.
    #[error("{}: {detail}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is, and what was expected.
        detail: String,
    },
    /// A tokenizer that cannot be read, next to or inside of a model that can.
    #[error("{}: {detail}", path.display())]
    ForeignTokenizer {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A tokenizer that the target of an export cannot express.
    #[error("{}: {detail}", what.display())]
    Inexpressible {
        /// The file.
        what: PathBuf,
        /// The part of it, and the reason.
        detail: String,
    },
    /// The model directory cannot be opened, or a setting is outside its range.
    #[error(transparent)]
    Inference(#[from] InferenceError),
    /// A model file is invalid, or its format cannot express the model.
    #[error(transparent)]
    Model(#[from] taal_model::ModelError),
    /// The tokenizer refused.
    #[error(transparent)]
    Tokenizer(#[from] taal_tokenizer::Error),
    /// Reading or writing failed.
    #[error(transparent)]
    Store(#[from] taal_store::Error),
}

impl ExchangeError {
    /// The family of the error, from which `taal` takes its exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Foreign { .. } | Self::ForeignTokenizer { .. } => ErrorKind::Corrupt,
            Self::Inexpressible { .. } => ErrorKind::Usage,
            Self::Inference(error) => error.kind(),
            Self::Model(error) => error.kind(),
            Self::Tokenizer(error) => error.kind(),
            Self::Store(error) => error.kind(),
        }
    }
}
