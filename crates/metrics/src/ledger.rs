//! What a model took in all: its own training, and the trainings of the models whose weights it started from.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Error, Report, Result};

/// An entry has a recipe and a report; a chain of a thousand trainings fits.
const MAX_LEDGER_BYTES: u64 = 64 << 20;

/// The version of the file that is written.
const VERSION: u32 = 1;

/// The trainings that a model is made of, the oldest first: `ledger.json` in a model directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ledger {
    /// The version of the file.
    pub version: u32,
    /// One entry per training.
    pub entries: Vec<LedgerEntry>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            version: VERSION,
            entries: Vec::new(),
        }
    }
}

/// One training, or a model of which the training is not known.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LedgerEntry {
    /// The same for the same training in every ledger that has it, so that a training is counted once where two models share it.
    pub id: String,
    /// The recipe's name, or the model's.
    pub name: String,
    /// The version of Taal that trained.
    pub taal_version: String,
    /// When it began, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_unix_s: Option<u64>,
    /// The machine in words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub machine: String,
    /// The resolved recipe.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub recipe: String,
    /// The hash of the training and validation ids (BLAKE3).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub data_hash: String,
    /// Where its text came from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<DataSourceFacts>,
    /// Tokens of the training and of the validation split.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split_tokens: Option<[u64; 2]>,
    /// Floating-point operations of the training by PaLM's formula.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flops: Option<f64>,
    /// Its figures without samples; none where the training is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<Report>,
}

/// A text that a model was trained on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DataSourceFacts {
    /// Its name or its file.
    pub name: String,
    /// Its license; none where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// Where it was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
}

/// The sums over the trainings of a ledger.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LedgerTotals {
    /// Trainings.
    pub trainings: u64,
    /// Of them, those without an energy figure, which are missing in the sums.
    pub unknown: u64,
    /// Joules.
    pub joules: f64,
    /// Their lower bound.
    pub low: f64,
    /// Their upper bound.
    pub high: f64,
    /// Grams of CO2 equivalent, each training with its own electricity.
    pub co2e_g: f64,
    /// Grams of making the machines, which are not in `co2e_g`.
    pub co2e_embodied_g: f64,
    /// Tokens that were read.
    pub tokens: u64,
    /// Seconds.
    pub seconds: f64,
    /// Floating-point operations, where all are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flops: Option<f64>,
}

impl Ledger {
    /// Reads a ledger.
    ///
    /// # Errors
    ///
    /// [`Error::BadLedger`] for a file that is not one, or as [`taal_store::read_text`].
    pub fn read(path: &Path) -> Result<Self> {
        let bad = |detail: String| Error::BadLedger {
            path: path.to_path_buf(),
            detail,
        };
        let text = taal_store::read_text(path, MAX_LEDGER_BYTES)?;
        let found: Self = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
        match found.version {
            VERSION => Ok(found),
            version => Err(bad(format!(
                "version {version}, expected {VERSION}; it was written by another version of Taal"
            ))),
        }
    }

    /// Writes the ledger atomically.
    ///
    /// # Errors
    ///
    /// As [`taal_store::write_atomic`].
    pub fn write(&self, path: &Path) -> Result<()> {
        Ok(taal_store::write_atomic(path, &self.to_json(path)?)?)
    }

    /// The bytes of the file.
    ///
    /// # Errors
    ///
    /// [`Error::BadLedger`], which does not happen with numbers and text.
    pub fn to_json(&self, path: &Path) -> Result<Vec<u8>> {
        let text = serde_json::to_string_pretty(self).map_err(|error| Error::BadLedger {
            path: path.to_path_buf(),
            detail: error.to_string(),
        })?;
        Ok((text + "\n").into_bytes())
    }

    /// Adds a training as the last one; one that is there already is replaced.
    pub fn add(&mut self, entry: LedgerEntry) {
        self.entries.retain(|other| other.id != entry.id);
        self.entries.push(entry);
    }

    /// Adds the trainings of another model, such as the other part of a merge; those that both have count once.
    pub fn join(&mut self, other: &Self) {
        for entry in &other.entries {
            if self.entries.iter().all(|known| known.id != entry.id) {
                self.entries.push(entry.clone());
            }
        }
    }

    /// The sums over all trainings.
    pub fn totals(&self) -> LedgerTotals {
        let mut totals = LedgerTotals {
            flops: Some(0.0),
            ..LedgerTotals::default()
        };
        for entry in &self.entries {
            totals.trainings += 1;
            totals.flops = totals.flops.zip(entry.flops).map(|(sum, flops)| sum + flops);
            if let Some(report) = &entry.report {
                totals.tokens += report.tokens;
                totals.seconds += report.wall_s;
            }
            match entry.report.as_ref().and_then(|report| report.energy.as_ref()) {
                Some(energy) => {
                    totals.joules += energy.joules;
                    totals.low += energy.low;
                    totals.high += energy.high;
                    totals.co2e_g += energy.co2e_g;
                    totals.co2e_embodied_g += energy.co2e_embodied_g;
                }
                None => totals.unknown += 1,
            }
        }
        totals
    }
}
