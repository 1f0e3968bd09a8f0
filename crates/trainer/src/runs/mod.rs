//! Run directories on disk: listing them, comparing some, and finding what can be removed.
//!
//! Reading changes nothing, not even the time of a file. A directory that cannot be read affects only its own line.

mod clean;
mod compare;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::Serialize;
use taal_metrics::{Report, StepRecord, best_validation, read_log};
use taal_model::hugging_face;
use taal_store::layout::{LOG_NAME, MODEL_DIR, REPORT_FIGURES_FILE, RESOLVED_FILE, STATE_FILE};
use taal_store::{Manifest, RunLock};
use toml::Value;

pub use self::clean::{Cleaning, Removal, Removed, plan_cleaning};
pub use self::compare::{Compared, KeyDifference, RunComparison, compare_runs, find_run};
use crate::TrainError;
use crate::checkpoint::{Checkpoints, TrainState};
use crate::recipe::flat;
use crate::run_dir::{self, MAX_RECIPE_BYTES};

/// The state of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum RunState {
    /// All steps are done, or it was stopped early by `train.patience`.
    Finished,
    /// It ended before that; `saved_step` is where it would continue, 0 if nothing was saved.
    Stopped {
        /// The step of the newest checkpoint.
        saved_step: u64,
    },
    /// Another process is using the directory.
    InUse,
    /// A file of it is missing or damaged.
    Broken {
        /// Which file, and how.
        why: String,
    },
}

/// The figures of a run; figures that are not in its files are `None`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunSummary {
    /// Its directory.
    pub dir: PathBuf,
    /// The directory's name.
    pub name: String,
    /// The recipe's name.
    pub recipe: String,
    /// Its state.
    #[serde(flatten)]
    pub state: RunState,
    /// Steps done.
    pub steps: u64,
    /// Steps that the recipe asks for.
    pub planned_steps: Option<u64>,
    /// Parameters of the model.
    pub params: Option<u64>,
    /// Training tokens seen.
    pub tokens: Option<u64>,
    /// Loss of the last step, in nats per token.
    pub train_loss: Option<f64>,
    /// Lowest validation loss, in nats per token.
    pub best_val_loss: Option<f64>,
    /// The step of the lowest validation loss.
    pub best_step: Option<u64>,
    /// Bits per byte at that step.
    pub best_val_bits_per_byte: Option<f64>,
    /// Training tokens per second, without start-up and evaluation.
    pub tokens_per_s: Option<f64>,
    /// Seconds of the whole run.
    pub wall_s: Option<f64>,
    /// Bytes of its files.
    pub size_bytes: u64,
    /// When it was last started or made a step, in seconds since 1970.
    pub changed_unix_s: Option<u64>,
}

/// The contents of a directory of runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Runs {
    /// The runs, newest first.
    pub runs: Vec<RunSummary>,
    /// Directories that are not runs.
    pub skipped: Vec<Skipped>,
}

/// A directory that is not a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// The directory.
    pub dir: PathBuf,
    /// What it is instead.
    pub why: String,
}

/// The runs directly below a directory, newest first, or the directory itself if it is a run. A directory that does not
/// exist has no runs.
///
/// # Errors
///
/// [`TrainError::Store`] if the directory cannot be listed.
pub fn list_runs(base: &Path) -> Result<Runs, TrainError> {
    if run_dir::is_run(base) {
        return Ok(Runs {
            runs: vec![RunFiles::read(base).summary()],
            skipped: Vec::new(),
        });
    }
    if !taal_store::exists(base) {
        return Ok(Runs::default());
    }
    let skipped = taal_store::list_paths(base)?
        .into_iter()
        .filter(|dir| taal_store::is_dir(dir) && !is_hidden(dir) && !run_dir::is_run(dir));
    Ok(Runs {
        skipped: skipped.map(Skipped::of).collect(),
        runs: run_dir::runs_in(base, None)
            .into_iter()
            .map(|found| RunFiles::read(&found.dir).summary())
            .collect(),
    })
}

fn is_hidden(dir: &Path) -> bool {
    dir.file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

impl Skipped {
    fn of(dir: PathBuf) -> Self {
        let why = match run_dir::is_abandoned_start(&dir) {
            true => "a start that ended before its first step",
            false => "not a run directory",
        };
        Self {
            dir,
            why: why.to_string(),
        }
    }
}

/// The contents of a run directory's files, as far as they can be read.
#[derive(Debug)]
struct RunFiles {
    dir: PathBuf,
    /// Every key of the recipe.
    keys: BTreeMap<String, Value>,
    records: Vec<StepRecord>,
    /// The newest checkpoint: its step, its figures and its manifest.
    newest: Option<(u64, TrainState, Manifest)>,
    report: Option<Report>,
    /// The first thing that is missing or damaged.
    damage: Option<String>,
}

impl RunFiles {
    fn read(dir: &Path) -> Self {
        let mut damage = None;
        let mut note = |error: TrainError| {
            damage.get_or_insert(error.to_string());
        };
        let keys = recipe_keys(dir).map_err(&mut note).unwrap_or_default();
        let log = dir.join(LOG_NAME);
        let records = match taal_store::exists(&log) {
            true => read_log(&log).map_err(|error| note(error.into())).unwrap_or_default(),
            false => Vec::new(),
        };
        let newest = newest_checkpoint(dir).map_err(&mut note).unwrap_or_default();
        Self {
            dir: dir.to_path_buf(),
            keys,
            records,
            newest,
            report: Report::read_json(&dir.join(REPORT_FIGURES_FILE)).ok(),
            damage,
        }
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.keys.get(key)?.as_integer()?.try_into().ok()
    }

    fn saved_step(&self) -> u64 {
        self.newest.as_ref().map_or(0, |(step, ..)| *step)
    }

    fn state(&self) -> RunState {
        match RunLock::is_held(&self.dir) {
            true => RunState::InUse,
            false => self.state_when_unlocked(),
        }
    }

    /// Its state if no other process has locked it.
    fn state_when_unlocked(&self) -> RunState {
        if let Some(why) = &self.damage {
            return RunState::Broken { why: why.clone() };
        }
        let is_finished = self.newest.as_ref().is_some_and(|(step, state, _)| {
            let is_last = self.number("train.steps").is_some_and(|planned| *step >= planned);
            let patience = self.number("train.patience");
            let is_out_of_patience = patience.is_some_and(|patience| state.evaluations_without_gain >= patience);
            // The report is written last: if there is none of this step, the run ended before writing it.
            let is_reported = self.report.as_ref().is_some_and(|report| report.steps >= *step);
            is_reported && (is_last || is_out_of_patience)
        });
        match is_finished {
            true => RunState::Finished,
            false => RunState::Stopped {
                saved_step: self.saved_step(),
            },
        }
    }

    fn summary(&self) -> RunSummary {
        let last = self.records.last();
        let saved = self.newest.as_ref().map(|(_, state, _)| state);
        let steps = last.map_or(self.saved_step(), |record| record.step);
        // A report of an earlier step is from before the run was resumed.
        let report = self.report.as_ref().filter(|report| report.steps == steps);
        let best = best_validation(&self.records);
        let best_record = best.and_then(|(step, _)| self.records.iter().rev().find(|record| record.step == step));
        let text = |key: &str| Some(self.keys.get(key)?.as_str()?.to_string());
        let name = self.dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        RunSummary {
            recipe: text("name")
                .or_else(|| run_dir::recipe_of(&self.dir))
                .unwrap_or_default(),
            name,
            state: self.state(),
            steps,
            planned_steps: self.number("train.steps"),
            params: report.map(|report| report.params).or_else(|| self.params()),
            tokens: self.tokens_per_step().map(|tokens| tokens.saturating_mul(steps)),
            train_loss: last.map(|record| record.loss).filter(|loss| loss.is_finite()),
            best_val_loss: best.map(|(_, loss)| loss),
            best_step: best.map(|(step, _)| step),
            best_val_bits_per_byte: best_record.and_then(|record| record.val_bits_per_byte),
            tokens_per_s: report
                .map(|report| report.tokens_per_s)
                .or_else(|| saved.map(|state| state.tokens as f64 / state.train_s.max(1e-9)))
                .filter(|speed| speed.is_finite()),
            wall_s: report
                .map(|report| report.wall_s)
                .or_else(|| last.and_then(|record| record.wall_s))
                .filter(|seconds| seconds.is_finite()),
            size_bytes: taal_store::total_size_bytes(&self.dir).unwrap_or(0),
            changed_unix_s: run_dir::touched(&self.dir)
                .and_then(|time| Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs())),
            dir: self.dir.clone(),
        }
    }

    fn tokens_per_step(&self) -> Option<u64> {
        let factors = ["train.batch_size", "train.block_size", "train.accumulation"];
        factors
            .into_iter()
            .map(|key| self.number(key))
            .try_fold(1_u64, |product, factor| product.checked_mul(factor?))
    }

    fn params(&self) -> Option<u64> {
        let model = Checkpoints::of(&self.dir).path(self.newest.as_ref()?.0).join(MODEL_DIR);
        Some(hugging_face::open_config(&model).ok()?.n_params())
    }
}

/// Every key of the recipe that a run started with.
fn recipe_keys(dir: &Path) -> Result<BTreeMap<String, Value>, TrainError> {
    let path = dir.join(RESOLVED_FILE);
    let text = taal_store::read_text(&path, MAX_RECIPE_BYTES)?;
    match text.parse() {
        Ok(table) => Ok(flat(table)),
        Err(error) => Err(TrainError::RunDirectory {
            path,
            detail: format!("not TOML: {}", error.to_string().lines().next().unwrap_or_default()),
        }),
    }
}

/// The newest checkpoint. Its files must have the right sizes; their content is verified only when it is opened for
/// use.
fn newest_checkpoint(dir: &Path) -> Result<Option<(u64, TrainState, Manifest)>, TrainError> {
    let checkpoints = Checkpoints::of(dir);
    let Some(step) = checkpoints.steps()?.last().copied() else {
        return Ok(None);
    };
    let path = checkpoints.path(step);
    let manifest = Manifest::verify_sizes(&path)?;
    let state = TrainState::read(&path.join(STATE_FILE))?;
    Ok(Some((step, state, manifest)))
}
