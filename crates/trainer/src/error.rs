//! What can go wrong with a recipe or a run, in sentences.

use std::path::PathBuf;

use taal_store::ErrorKind;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A key of a recipe is unknown, of a wrong type, out of range or contradicts another.
    #[error("{origin}: {key}: {detail}")]
    Recipe {
        /// The recipe's file or name, or `--set`.
        origin: String,
        /// The dotted key.
        key: String,
        /// What was expected and what was found.
        detail: String,
    },
    /// There is no such recipe.
    #[error(
        "no recipe \"{name}\": it is neither an embedded recipe ({embedded}) nor a file; `taal recipes` lists them"
    )]
    NoSuchRecipe {
        /// What was asked for.
        name: String,
        /// The embedded ones.
        embedded: String,
    },
    /// The run directory cannot be used for this.
    #[error("{}: {detail}", path.display())]
    RunDirectory {
        /// The directory.
        path: PathBuf,
        /// What is wrong and what to do.
        detail: String,
    },
    /// A checkpoint does not hold what it should.
    #[error("{}: {detail}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The loss left the finite numbers.
    #[error(
        "the loss of step {step} is {loss}: training diverged; the weights of the last checkpoint are unharmed. \
         Lower train.lr, lengthen train.warmup_steps or set train.clip_norm"
    )]
    Diverged {
        /// The step.
        step: u64,
        /// The loss or gradient norm.
        loss: f64,
    },
    /// Files.
    #[error(transparent)]
    Store(#[from] taal_store::Error),
    /// Model.
    #[error(transparent)]
    Model(#[from] taal_model::ModelError),
    /// Data.
    #[error(transparent)]
    Data(#[from] taal_data::DataError),
    /// Tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] taal_tokenizer::Error),
    /// Evaluation and samples.
    #[error(transparent)]
    Inference(#[from] taal_inference::InferenceError),
    /// Device.
    #[error(transparent)]
    Kernel(#[from] taal_kernels::KernelError),
    /// Logs and reports.
    #[error(transparent)]
    Metrics(#[from] taal_metrics::Error),
}

impl TrainError {
    pub(crate) fn recipe(origin: &str, key: &str, detail: impl Into<String>) -> Self {
        Self::Recipe {
            origin: origin.to_string(),
            key: key.to_string(),
            detail: detail.into(),
        }
    }

    /// Whose fault it is, for exit codes.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Recipe { .. } | Self::NoSuchRecipe { .. } | Self::RunDirectory { .. } | Self::Kernel(_) => {
                ErrorKind::Usage
            }
            Self::Checkpoint { .. } => ErrorKind::Corrupt,
            Self::Diverged { .. } => ErrorKind::Diverged,
            Self::Store(error) => error.kind(),
            Self::Model(error) => error.kind(),
            Self::Data(error) => error.kind(),
            Self::Tokenizer(error) => error.kind(),
            Self::Inference(error) => error.kind(),
            Self::Metrics(error) => error.kind(),
        }
    }
}
