//! A run from its first step to its report: [`train`].

use std::path::Path;
use std::time::Instant;

use taal_kernels::DeviceSpec;
use taal_metrics::{Report, StepRecord};

use crate::TrainError;
use crate::checkpoint::Checkpoints;
use crate::precision;
use crate::recipe::Resolved;
use crate::run::Run;
use crate::run_dir::{self, Claim};

/// Where and how a recipe is run.
#[derive(Debug, Clone)]
pub struct RunOptions<'a> {
    /// The run directory.
    pub run_dir: &'a Path,
    /// The device.
    pub device: DeviceSpec,
    /// Go on from the newest checkpoint of the run directory.
    pub is_resume: bool,
}

/// What a person watching sees. Every method has an empty default.
pub trait Progress {
    /// Something worth a line.
    fn note(&mut self, _message: &str) {}
    /// Training begins.
    fn begin(&mut self, _run: &RunInfo) {}
    /// A step was made.
    fn step(&mut self, _record: &StepRecord, _info: &StepInfo) {}
    /// A sample was written.
    fn sample(&mut self, _prompt: &str, _text: &str) {}
    /// Asked after every step and during evaluations: save and stop?
    fn should_stop(&mut self) -> bool {
        false
    }
}

/// Nobody watches.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {}

/// What is known before the first step.
#[derive(Debug, Clone, PartialEq)]
pub struct RunInfo {
    /// Parameters.
    pub params: u64,
    /// Tokens that the tokenizer knows.
    pub vocab_size: usize,
    /// Training tokens in the data.
    pub train_tokens: u64,
    /// Validation tokens in the data.
    pub val_tokens: u64,
    /// Step from which this part of the run goes on.
    pub first_step: u64,
    /// Steps in all.
    pub steps: u64,
    /// How often all steps together go through the training tokens.
    pub epochs: f64,
    /// The machine's measured fp32 peak in FLOP/s, as far as it is known before the first step, or 0 where it is not a CPU's.
    pub peak_flops_per_s: f64,
}

/// Figures of a step that the log does not hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepInfo {
    /// Model FLOPs utilisation of this step.
    pub mfu: f64,
    /// Whether a checkpoint of it is being saved; it is there when the next one begins, or the run ends.
    pub is_saved: bool,
    /// Whether the evaluation after it was the best so far.
    pub is_best: bool,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// All steps done, or stopped early by `train.patience`.
    Finished(Report),
    /// Stopped on request after a checkpoint; `--resume` goes on.
    Interrupted(Report),
}

/// Trains a recipe in a run directory, which it locks for the time.
///
/// Every random choice is a function of the recipe's seed and the step, and the checkpoint holds all state there is, so
/// on the CPU a run that was interrupted and resumed ends with bit-equal weights.
///
/// # Errors
///
/// [`TrainError`] of the right kind; whatever was saved before stays. A start that fails before its run is begun leaves nothing behind.
pub fn train(
    resolved: &Resolved,
    recipe_text: &str,
    options: &RunOptions<'_>,
    progress: &mut dyn Progress,
) -> Result<Outcome, TrainError> {
    let claim = match options.is_resume {
        true => Claim::resume(options.run_dir)?,
        false => Claim::of(options.run_dir, &resolved.source_name)?,
    };
    train_in(claim, resolved, recipe_text, options, progress)
}

/// As [`train`], in a directory that was locked before; `options.run_dir` is that directory.
///
/// # Errors
///
/// As [`train`].
pub fn train_in(
    claim: Claim,
    resolved: &Resolved,
    recipe_text: &str,
    options: &RunOptions<'_>,
    progress: &mut dyn Progress,
) -> Result<Outcome, TrainError> {
    let outcome = train_locked(resolved, recipe_text, options, progress);
    claim.abandon();
    outcome
}

fn train_locked(
    resolved: &Resolved,
    recipe_text: &str,
    options: &RunOptions<'_>,
    progress: &mut dyn Progress,
) -> Result<Outcome, TrainError> {
    let started = Instant::now();
    let opened = options.device.open()?;
    let recipe = &resolved.recipe;
    precision::check(
        recipe.train.precision,
        options.device,
        &opened,
        &recipe.name,
        "train.precision",
    )?;
    for note in &resolved.notes {
        progress.note(note);
    }
    let checkpoints = Checkpoints::of(options.run_dir);
    checkpoints.clean()?;
    let (checkpoint, resolved) = run_dir::enter(options.run_dir, options.is_resume, resolved, &checkpoints, progress)?;
    let mut run = Run::prepare(&resolved, options, checkpoints, checkpoint, started, progress)?;
    run_dir::write_recipe(options.run_dir, &resolved, recipe_text)?;
    run.announce(progress);
    run.go(progress)
}
