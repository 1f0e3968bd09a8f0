//! Run directories: naming new ones, finding the latest, and entering one to begin or to go on.

use std::path::{Path, PathBuf};

use taal_store::Mutant;

use crate::TrainError;
use crate::checkpoint::{Checkpoint, Checkpoints, Origin};
use crate::recipe::{Recipe, RecipeText, Resolved, differences, resolve};
use crate::train::{Progress, RunOptions};

/// The recipe as it was given.
pub const RECIPE_FILE: &str = "recipe.toml";
/// The recipe with every value and its source.
pub const RESOLVED_FILE: &str = "recipe.resolved.toml";
/// A recipe file above this size is not one.
const MAX_RECIPE_BYTES: u64 = 1 << 20;

/// The first of `<base>/<name>`, `<base>/<name>-2`, `<base>/<name>-3`, ... that is not there.
pub fn first_free(base: &Path, name: &str) -> PathBuf {
    let mut dir = base.join(name);
    let mut number = 2;
    while taal_store::exists(&dir) {
        dir = base.join(format!("{name}-{number}"));
        number += 1;
    }
    dir
}

/// The latest of the directories that [`first_free`] gave out, by number and not by clock.
pub fn latest(base: &Path, name: &str) -> Option<PathBuf> {
    let mut found = None;
    let mut dir = base.join(name);
    let mut number = 2;
    while taal_store::is_dir(&dir) {
        found = Some(dir);
        dir = base.join(format!("{name}-{number}"));
        number += 1;
    }
    found
}

/// The recipe that a run directory was begun with, every value of it.
///
/// # Errors
///
/// [`TrainError::RunDirectory`] where there is none.
pub fn stored_recipe(run_dir: &Path) -> Result<RecipeText, TrainError> {
    let path = run_dir.join(RESOLVED_FILE);
    if !taal_store::exists(&path) {
        return Err(TrainError::RunDirectory {
            path: run_dir.to_path_buf(),
            detail: format!(
                "it has no {RESOLVED_FILE}, so it is no run to resume; leave --resume out or name the recipe"
            ),
        });
    }
    let text = taal_store::read_text(&path, MAX_RECIPE_BYTES)?;
    let name = run_dir
        .file_name()
        .map_or("run".into(), |name| name.to_string_lossy().into_owned());
    Ok(RecipeText {
        name,
        origin: path.display().to_string(),
        text,
    })
}

/// Begins a run in an empty directory or goes on with the one that is there; gives the checkpoint to go on from.
pub(crate) fn enter(
    options: &RunOptions<'_>,
    resolved: &Resolved,
    checkpoints: &Checkpoints,
    progress: &mut dyn Progress,
) -> Result<Option<Checkpoint>, TrainError> {
    let dir = options.run_dir;
    let is_begun = taal_store::exists(&dir.join(RESOLVED_FILE)) || !checkpoints.steps()?.is_empty();
    if is_begun && !options.is_resume {
        return Err(TrainError::RunDirectory {
            path: dir.to_path_buf(),
            detail: "a run stands here already; add --resume to go on with it, or choose another --run-dir".to_string(),
        });
    }
    if !is_begun {
        if options.is_resume {
            progress.note("nothing to resume: starting at step 0");
        }
        return Ok(None);
    }
    if taal_store::exists(&dir.join(RESOLVED_FILE)) {
        let before = resolve(&stored_recipe(dir)?, &[])?;
        check_changes(dir, &before, resolved, progress)?;
    }
    let checkpoint = checkpoints.newest(|message| progress.note(&message))?;
    match &checkpoint {
        Some(checkpoint) => progress.note(&format!("resuming from the checkpoint of step {}", checkpoint.step)),
        None => progress.note("no complete checkpoint to resume from: starting at step 0"),
    }
    Ok(checkpoint)
}

/// Puts the recipe into the run directory, from then on a run that was begun. Not before tokenizer, data and model
/// stand: a mistyped file name must not leave a directory that refuses the corrected recipe. A resumed run whose
/// values are the same keeps what is there, which says more about where they came from.
pub(crate) fn write_recipe(dir: &Path, resolved: &Resolved, recipe_text: &str) -> Result<(), TrainError> {
    if taal_store::exists(&dir.join(RESOLVED_FILE)) {
        let before = resolve(&stored_recipe(dir)?, &[])?;
        if differences(&before, resolved).is_empty() {
            return Ok(());
        }
    }
    taal_store::write_atomic(&dir.join(RECIPE_FILE), recipe_text.as_bytes())?;
    taal_store::write_atomic(&dir.join(RESOLVED_FILE), resolved.text.as_bytes())?;
    Ok(())
}

/// Keys that a resumed run may change: they say how long and how often, not what is learnt from what.
fn may_change(key: &str) -> bool {
    ["train.steps", "train.patience", "name", "description"].contains(&key)
        || ["eval.", "checkpoint.", "health.", "sample."]
            .iter()
            .any(|section| key.starts_with(section))
}

/// Refuses to go on with other ids or another tokenizer than the run began with, although the recipe's words are the same: files change.
pub(crate) fn check_origin(
    recipe: &Recipe,
    checkpoint: &Checkpoint,
    now: &Origin,
    run_dir: &Path,
    progress: &mut dyn Progress,
) -> Result<(), TrainError> {
    let refuse = |what: &str, before: &str, now: &str| TrainError::RunDirectory {
        path: run_dir.to_path_buf(),
        detail: format!(
            "{what} changed since the checkpoint of step {} (BLAKE3 {}, now {}): put the old one back, or start a new run \
             (train.init_from takes over the weights)",
            checkpoint.step,
            short(before),
            short(now)
        ),
    };
    if let Some(hash) = crate::prepare::given_tokenizer_hash(recipe)?
        && hash != checkpoint.tokenizer_hash()
    {
        return Err(refuse("the tokenizer", checkpoint.tokenizer_hash(), &hash));
    }
    let before = checkpoint.data_hash();
    if !before.is_empty() && before != now.data && !Mutant::DataCheck.is_on() {
        return Err(refuse("the training or validation text", before, &now.data));
    }
    if (checkpoint.version(), checkpoint.lock_hash()) != (env!("CARGO_PKG_VERSION"), env!("TAAL_LOCK_HASH")) {
        progress.note(&format!(
            "the checkpoint was written by Taal {} with Cargo.lock {}, this is {} with {}: equal bits are promised for the same only",
            checkpoint.version(),
            checkpoint.lock_hash(),
            env!("CARGO_PKG_VERSION"),
            env!("TAAL_LOCK_HASH")
        ));
    }
    Ok(())
}

/// Enough of a hash to tell two apart.
fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

fn check_changes(dir: &Path, before: &Resolved, now: &Resolved, progress: &mut dyn Progress) -> Result<(), TrainError> {
    for (key, old, new) in differences(before, now) {
        if !may_change(&key) {
            return Err(TrainError::RunDirectory {
                path: dir.to_path_buf(),
                detail: format!(
                    "{key} was {old} and is now {new}: a resumed run may not change it; undo the change or start a new run \
                     (train.init_from takes over the weights)"
                ),
            });
        }
        progress.note(&format!("{key} changes from {old} to {new}"));
    }
    Ok(())
}
