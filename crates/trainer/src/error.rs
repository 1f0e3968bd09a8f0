//! Errors of recipes and runs.

use std::path::{Path, PathBuf};

use taal_store::ErrorKind;

use crate::bad_step::BadStep;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A key of a recipe has a wrong type, is out of range, or contradicts another key.
    #[error("{origin}: {key}: {detail}")]
    Recipe {
        /// The recipe's file or name, or `--set`.
        origin: String,
        /// The dotted key.
        key: String,
        /// What was expected and what was found.
        detail: String,
    },
    /// A key is unknown.
    #[error("{origin}: {key}: {detail}")]
    UnknownKey {
        /// The recipe's file or name, or `--set`.
        origin: String,
        /// The dotted key.
        key: String,
        /// The keys that may have been meant.
        detail: String,
    },
    /// There is no such recipe.
    #[error("no recipe \"{name}\": it is neither an embedded recipe ({embedded}) nor a file{}", question(*meant))]
    NoSuchRecipe {
        /// What was asked for.
        name: String,
        /// The embedded ones.
        embedded: String,
        /// The embedded recipe with the most similar name, if any is similar.
        meant: Option<&'static str>,
    },
    /// A run directory has files already.
    #[error("{}: {detail}", path.display())]
    Occupied {
        /// The directory.
        path: PathBuf,
        /// What is there.
        detail: String,
        /// Whether it is a run, which can be resumed.
        is_run: bool,
    },
    /// There is no run to continue.
    #[error("{}: {detail}", path.display())]
    NothingToResume {
        /// The directory.
        path: PathBuf,
        /// Why, and the runs that are there.
        detail: String,
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
    /// Loss, gradient or weights are not finite, and going back did not help.
    #[error(
        "step {step}: {reason}: training diverged, and leaving out bad batches did not help; {}. Lower train.lr, lengthen \
         train.warmup_steps or set train.clip_norm",
        saved_words(*saved)
    )]
    Diverged {
        /// The step.
        step: u64,
        /// What is not finite.
        reason: BadStep,
        /// The newest checkpoint, if one was saved.
        saved: Option<u64>,
    },
    /// A run must go back, but all its checkpoints are damaged.
    #[error(
        "{}: step {step}: {reason}; the run must go back, and every checkpoint is damaged: each is set aside there as \
         step-<step>.damaged, and training can only start again from step 0",
        path.display()
    )]
    NothingWhole {
        /// The directory of checkpoints.
        path: PathBuf,
        /// The step.
        step: u64,
        /// Why the step is bad.
        reason: BadStep,
    },
    /// The last checkpoint could not be written.
    #[error("{}: step {step} could not be saved; the checkpoint before it is whole", path.display())]
    Unsaved {
        /// The run directory.
        path: PathBuf,
        /// The step.
        step: u64,
    },
    /// The run does not fit into memory.
    #[error("about {} needed, but only {} free: {cause}", size(*needed_bytes), size(*available_bytes))]
    Memory {
        /// An estimate.
        needed_bytes: u64,
        /// Free memory, as the system reports it.
        available_bytes: u64,
        /// What needs the memory, and which keys to lower.
        cause: String,
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
    /// Evaluation.
    #[error(transparent)]
    Evaluation(#[from] taal_evaluation::EvaluationError),
    /// Samples, and other inference.
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
    /// The error of a key that cannot be used as it is; `detail` says why and what to do.
    pub fn recipe(origin: &str, key: &str, detail: impl Into<String>) -> Self {
        Self::Recipe {
            origin: origin.to_string(),
            key: key.to_string(),
            detail: detail.into(),
        }
    }

    pub(crate) fn diverged(step: u64, reason: BadStep, saved: Option<u64>) -> Self {
        Self::Diverged { step, reason, saved }
    }

    pub(crate) fn unsaved(run_dir: &Path, step: u64) -> Self {
        Self::Unsaved {
            path: run_dir.to_path_buf(),
            step,
        }
    }

    /// Whether the error is a missing file.
    pub(crate) fn is_missing_file(&self) -> bool {
        use taal_inference::InferenceError;
        if let Self::Inference(InferenceError::NoModel { .. } | InferenceError::NoModelYet { .. }) = self {
            return true;
        }
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            if let Some(taal_store::Error::NotFound { .. }) = error.downcast_ref() {
                return true;
            }
            // Transparent errors show their inner one as themselves.
            if let Some(Self::Store(taal_store::Error::NotFound { .. })) = error.downcast_ref() {
                return true;
            }
            if let Some(taal_tokenizer::Error::Store(taal_store::Error::NotFound { .. })) = error.downcast_ref() {
                return true;
            }
            if let Some(Self::Tokenizer(taal_tokenizer::Error::Store(taal_store::Error::NotFound { .. }))) =
                error.downcast_ref()
            {
                return true;
            }
            cause = error.source();
        }
        false
    }

    /// Whether writing or reading a file failed in a way that may be temporary: a full disk, or changed permissions.
    pub(crate) fn is_of_a_disk(&self) -> bool {
        let is_io = matches!(
            self,
            Self::Store(taal_store::Error::Io { .. })
                | Self::Metrics(taal_metrics::Error::Store(taal_store::Error::Io { .. }))
        );
        is_io || self.kind() == ErrorKind::Disk
    }

    /// The kind of error, for exit codes.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Recipe { .. }
            | Self::UnknownKey { .. }
            | Self::NoSuchRecipe { .. }
            | Self::Occupied { .. }
            | Self::NothingToResume { .. }
            | Self::RunDirectory { .. }
            | Self::Kernel(_) => ErrorKind::Usage,
            Self::Checkpoint { .. } | Self::NothingWhole { .. } => ErrorKind::Corrupt,
            Self::Diverged { .. } => ErrorKind::Diverged,
            Self::Unsaved { .. } => ErrorKind::Disk,
            Self::Memory { .. } => ErrorKind::Memory,
            Self::Store(error) => error.kind(),
            Self::Model(error) => error.kind(),
            Self::Data(error) => error.kind(),
            Self::Tokenizer(error) => error.kind(),
            Self::Evaluation(error) => error.kind(),
            Self::Inference(error) => error.kind(),
            Self::Metrics(error) => error.kind(),
        }
    }
}

/// Bytes as text.
pub(crate) fn size(bytes: u64) -> String {
    const MIB: f64 = (1 << 20) as f64;
    match bytes as f64 / MIB {
        mib if mib < 10.0 => format!("{mib:.1} MiB"),
        mib if mib < 1024.0 => format!("{mib:.0} MiB"),
        mib => format!("{:.2} GiB", mib / 1024.0),
    }
}

fn question(meant: Option<&'static str>) -> String {
    meant.map(|name| format!("; did you mean {name}?")).unwrap_or_default()
}

fn saved_words(saved: Option<u64>) -> String {
    match saved {
        Some(step) => format!("the weights of the last checkpoint, of step {step}, are intact"),
        None => "no checkpoint had been saved".to_string(),
    }
}
