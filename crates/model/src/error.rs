//! What can go wrong with a model, in sentences.

use std::path::PathBuf;

use taal_store::ErrorKind;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A field of the configuration is invalid.
    #[error("model.{field}: {detail}")]
    Config {
        /// The field.
        field: String,
        /// What was expected and what was found.
        detail: String,
    },
    /// A file of a model directory is invalid.
    #[error("{}: {detail}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        detail: String,
    },
    /// The input is outside the model's limits.
    #[error("{0}")]
    Input(String),
    /// Reading or writing failed.
    #[error(transparent)]
    Store(#[from] taal_store::Error),
    /// The attention layer refused.
    #[error(transparent)]
    Attention(#[from] taal_attention::AttentionError),
    /// The embeddings refused.
    #[error(transparent)]
    Embedding(#[from] taal_embeddings::EmbeddingError),
}

impl ModelError {
    /// An error about a field of the configuration.
    pub fn config(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Config {
            field: field.into(),
            detail: detail.into(),
        }
    }

    /// An error about a file.
    pub fn file(path: impl Into<PathBuf>, detail: impl Into<String>) -> Self {
        Self::File {
            path: path.into(),
            detail: detail.into(),
        }
    }

    /// The kind of error, for exit codes.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Config { .. } | Self::Input(_) | Self::Attention(_) | Self::Embedding(_) => ErrorKind::Usage,
            Self::File { .. } => ErrorKind::Corrupt,
            Self::Store(error) => error.kind(),
        }
    }
}
