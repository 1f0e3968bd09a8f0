//! A run from its first step to its report: [`train`].

use crate::TrainError;
use crate::checkpoint::Checkpoints;
use crate::precision;
use crate::progress::Progress;
use crate::recipe::Resolved;
use crate::run::{Outcome, Run, RunEnergy, RunOptions};
use crate::run_dir::{self, Claim};

/// Trains a recipe in a run directory, which is locked meanwhile.
///
/// Every random choice is a function of the recipe's seed and the step, and the checkpoint holds the complete state, so
/// on the CPU a run that was interrupted and resumed ends with bit-equal weights.
///
/// # Errors
///
/// [`TrainError`]; everything saved before the error is kept. A start that fails before its run exists leaves no files.
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

/// As [`train`], in a directory that is already locked; `options.run_dir` is that directory.
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
    let outcome = train_locked(&claim, resolved, recipe_text, options, progress);
    claim.abandon();
    outcome
}

fn train_locked(
    claim: &Claim,
    resolved: &Resolved,
    recipe_text: &str,
    options: &RunOptions<'_>,
    progress: &mut dyn Progress,
) -> Result<Outcome, TrainError> {
    // Before anything else: what prepares a training is part of its time and energy.
    let energy = RunEnergy::start(&options.energy, options.device);
    let opened = options.device.open()?;
    let recipe = &resolved.recipe;
    precision::check(
        recipe.train.precision,
        options.device,
        &opened,
        &recipe.name,
        precision::KEY,
    )?;
    for note in &resolved.notes {
        progress.note(note);
    }
    let checkpoints = Checkpoints::of(options.run_dir);
    checkpoints.clean()?;
    let (checkpoint, resolved) = run_dir::enter(options.run_dir, options.is_resume, resolved, &checkpoints, progress)?;
    let mut run = Run::prepare(claim, &resolved, options, checkpoints, checkpoint, energy, progress)?;
    run_dir::write_recipe(options.run_dir, &resolved, recipe_text)?;
    run.go()
}
