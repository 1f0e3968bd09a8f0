//! What can go wrong with logs and reports.

use std::path::PathBuf;

use taal_store::ErrorKind;

/// A shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error about a run's log or report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// File access failed.
    #[error(transparent)]
    Store(#[from] taal_store::Error),
    /// A line of a log is not a record.
    #[error("{}, line {line}: {detail}; repair or remove the line", path.display())]
    BadRecord {
        /// The log.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// What is wrong with it.
        detail: String,
    },
    /// A report file is not a report.
    #[error("{}: not a report: {detail}", path.display())]
    BadReport {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
}

impl Error {
    /// What this error means to the caller of the program.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(error) => error.kind(),
            Self::BadRecord { .. } | Self::BadReport { .. } => ErrorKind::Corrupt,
        }
    }
}
