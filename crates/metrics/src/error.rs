//! What can go wrong with logs, reports and the energy meter.

use std::path::PathBuf;

use taal_store::ErrorKind;

/// A shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error about a run's log or report, or about energy.
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
    /// A file with the trainings of a model is not one.
    #[error("{}: not a ledger of trainings: {detail}; repair or remove the file", path.display())]
    BadLedger {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// An amount that was given is not one.
    #[error("{}: {detail}", taal_store::excerpt(text))]
    BadQuantity {
        /// What was given.
        text: String,
        /// What is wrong with it, and what was expected.
        detail: String,
    },
    /// Two readings of a wall plug that no machine has.
    #[error("{detail}")]
    BadCalibration {
        /// What is wrong with them.
        detail: String,
    },
    /// A country that does not exist.
    #[error(
        "unknown country {}: expected ISO 3166-1's two or three letters such as NL or NLD, an English name, world, grams of CO2e per kWh, or a .csv file by the hour{}",
        taal_store::excerpt(name),
        similar(closest)
    )]
    UnknownCountry {
        /// What was given.
        name: String,
        /// Countries with a similar name.
        closest: Vec<String>,
    },
    /// A file with the greenhouse gases of electricity by the hour is not one.
    #[error("{}, line {line}: {detail}", path.display())]
    BadGridFile {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// What is wrong with it.
        detail: String,
    },
    /// A file with the settings of machines is not one.
    #[error("{}: not the settings of taal energy: {detail}; repair the file, or run `taal energy calibrate --forget`", path.display())]
    BadSettings {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
}

fn similar(closest: &[String]) -> String {
    match closest {
        [] => String::new(),
        closest => format!("; similar: {}", closest.join(", ")),
    }
}

impl Error {
    /// What this error means to the caller of the program.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(error) => error.kind(),
            Self::BadGridFile { .. }
            | Self::BadRecord { .. }
            | Self::BadReport { .. }
            | Self::BadSettings { .. }
            | Self::BadLedger { .. } => ErrorKind::Corrupt,
            Self::BadQuantity { .. } | Self::BadCalibration { .. } | Self::UnknownCountry { .. } => ErrorKind::Usage,
        }
    }
}
