//! Runs side by side: how their recipes and their results differ.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Serialize;
use taal_metrics::StepRecord;

use super::{RunFiles, RunState, RunSummary};
use crate::TrainError;
use crate::run_dir;

/// Keys that do not affect training.
const NAMES: [&str; 2] = ["name", "description"];

/// Runs that were read for a comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunComparison {
    /// The runs, in the requested order.
    pub runs: Vec<Compared>,
    /// The keys of their recipes that differ.
    pub keys: Vec<KeyDifference>,
    /// Warnings about comparing their figures.
    pub notes: Vec<String>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compared {
    /// Its label in the comparison: its name, or its directory if two runs have the same name.
    pub label: String,
    /// Its figures.
    #[serde(flatten)]
    pub summary: RunSummary,
    /// Its steps.
    #[serde(skip)]
    pub records: Vec<StepRecord>,
    /// The steps after which it was evaluated.
    pub evaluations: Vec<StepRecord>,
}

/// A key and its value in each run; `None` if the recipe does not have the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyDifference {
    /// The dotted key.
    pub key: String,
    /// The values as TOML.
    pub values: Vec<Option<String>>,
}

/// Finds a run by name: a run directory, or one below `base`.
///
/// # Errors
///
/// [`TrainError::RunDirectory`] if there is none; the message lists those that exist.
pub fn find_run(base: &Path, name: &Path) -> Result<PathBuf, TrainError> {
    let places = [name.to_path_buf(), base.join(name)];
    let found = places.into_iter().find(|place| run_dir::is_run(place));
    found.ok_or_else(|| {
        let there = run_dir::runs_in(base, None);
        let names: Vec<String> = there.iter().map(|run| run.dir.display().to_string()).collect();
        TrainError::RunDirectory {
            path: name.to_path_buf(),
            detail: match names.is_empty() {
                true => format!("there is no run here, and none in {}", base.display()),
                false => format!("there is no run here; there are {}", names.join(", ")),
            },
        }
    })
}

/// Reads runs to compare them.
///
/// # Errors
///
/// [`TrainError::RunDirectory`] for a directory that is not a run.
pub fn compare_runs(dirs: &[PathBuf]) -> Result<RunComparison, TrainError> {
    for dir in dirs {
        if !run_dir::is_run(dir) {
            return Err(TrainError::RunDirectory {
                path: dir.clone(),
                detail: "there is no run here".to_string(),
            });
        }
    }
    let files: Vec<RunFiles> = dirs.iter().map(|dir| RunFiles::read(dir)).collect();
    let summaries: Vec<RunSummary> = files.iter().map(RunFiles::summary).collect();
    let labels = labels(&summaries);
    let mut notes = cautions(&files);
    for (label, summary) in labels.iter().zip(&summaries) {
        if let RunState::Broken { why } = &summary.state {
            notes.push(format!("{label}: {why}"));
        }
    }
    Ok(RunComparison {
        keys: differing_keys(&files),
        notes,
        runs: labels
            .into_iter()
            .zip(summaries)
            .zip(files)
            .map(|((label, summary), files)| Compared {
                label,
                summary,
                evaluations: evaluations(&files.records),
                records: files.records,
            })
            .collect(),
    })
}

fn labels(summaries: &[RunSummary]) -> Vec<String> {
    let names: BTreeSet<&str> = summaries.iter().map(|summary| summary.name.as_str()).collect();
    let are_distinct = names.len() == summaries.len() && !names.contains("");
    let label = |summary: &RunSummary| match are_distinct {
        true => summary.name.clone(),
        false => summary.dir.display().to_string(),
    };
    summaries.iter().map(label).collect()
}

fn evaluations(records: &[StepRecord]) -> Vec<StepRecord> {
    let evaluated = records.iter().filter(|record| record.val_loss.is_some());
    evaluated.cloned().collect()
}

fn differing_keys(files: &[RunFiles]) -> Vec<KeyDifference> {
    let keys: BTreeSet<&String> = files.iter().flat_map(|files| files.keys.keys()).collect();
    keys.into_iter()
        .filter(|key| !NAMES.contains(&key.as_str()))
        .map(|key| KeyDifference {
            key: key.clone(),
            values: files
                .iter()
                .map(|files| files.keys.get(key).map(ToString::to_string))
                .collect(),
        })
        .filter(|key| key.values.windows(2).any(|pair| pair[0] != pair[1]))
        .collect()
}

/// Why figures of these runs may not be comparable.
fn cautions(files: &[RunFiles]) -> Vec<String> {
    let mut cautions = Vec::new();
    let objective = |files: &RunFiles| files.keys.get("train.objective").map(ToString::to_string);
    if differ(files, objective) {
        cautions.push("the objectives differ: the loss of hidden tokens and that of the next one are not comparable");
    } else if differ(files, |files| files.origin("tokenizer_blake3")) {
        cautions.push("the tokenizers differ: losses per token are not comparable, bits per byte are");
    } else if differ(files, |files| files.origin("data_blake3")) {
        cautions.push("the texts differ: each validation loss is over the run's own text");
    }
    cautions.into_iter().map(str::to_string).collect()
}

/// Whether two runs differ in something that both of them record.
fn differ(files: &[RunFiles], what: impl Fn(&RunFiles) -> Option<String>) -> bool {
    let said: BTreeSet<String> = files.iter().filter_map(what).collect();
    said.len() > 1
}

impl RunFiles {
    /// A hash in the newest checkpoint of what the run was trained with.
    fn origin(&self, key: &str) -> Option<String> {
        let (_, _, manifest) = self.newest.as_ref()?;
        let hash = manifest.extra[key].as_str().unwrap_or_default();
        (!hash.is_empty()).then(|| hash.to_string())
    }
}
