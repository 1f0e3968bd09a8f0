//! Run directories: claiming a place for a new one, finding the latest, and entering one to begin or to continue.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use taal_store::layout::{
    CHECKPOINTS_DIR, EVENTS_FILE, LOCK_NAME, LOG_NAME, LOG_TABLE_FILE, MODEL_DIR, RECIPE_FILE, REPORT_FIGURES_FILE,
    REPORT_FILE, RESOLVED_FILE, RUN_FILE,
};
use taal_store::{ErrorKind, RunLock};

use crate::TrainError;
use crate::checkpoint::{Checkpoint, Checkpoints, Origin};
use crate::progress::Progress;
use crate::recipe::{Recipe, RecipeText, Resolved, differences, resolve_again};

/// A recipe file above this size is not one.
pub(crate) const MAX_RECIPE_BYTES: u64 = 1 << 20;
/// Runs that an error message lists.
const MAX_LISTED: usize = 8;

/// The names that a run writes to and that somebody may use for something of their own.
const OWN_NAMES: [&str; 9] = [
    RECIPE_FILE,
    RESOLVED_FILE,
    LOG_NAME,
    EVENTS_FILE,
    LOG_TABLE_FILE,
    REPORT_FIGURES_FILE,
    REPORT_FILE,
    MODEL_DIR,
    CHECKPOINTS_DIR,
];

/// A run directory that this process has locked.
#[derive(Debug)]
pub struct Claim {
    dir: PathBuf,
    /// Held until the claim goes.
    lock: RunLock,
    start: Start,
}

/// What a start made before there was a run: what goes again where it comes to nothing.
#[derive(Debug, Clone, Default)]
pub struct Start {
    dir: PathBuf,
    /// Directories that were not there before, the innermost first.
    made: Vec<PathBuf>,
}

impl Claim {
    /// Makes the directory where it is missing, locks it and marks it as a run's.
    ///
    /// # Errors
    ///
    /// [`TrainError::Occupied`] where files of another program have the names of a run's, the store's where it is locked or cannot be
    /// written to.
    pub fn of(dir: &Path, recipe: &str) -> Result<Self, TrainError> {
        refuse_foreign(dir)?;
        let missing = |dir: &&Path| !dir.as_os_str().is_empty() && !taal_store::exists(dir);
        let start = Start {
            dir: dir.to_path_buf(),
            made: dir.ancestors().take_while(missing).map(Path::to_path_buf).collect(),
        };
        let mut lock = Self::lock(dir);
        // Whoever held it before may have left nothing behind, the directory included, since it was made here.
        for _ in 0..100 {
            match &lock {
                Err(TrainError::Store(taal_store::Error::NotFound { .. })) => lock = Self::lock(dir),
                _ => break,
            }
        }
        let claim = Self {
            dir: dir.to_path_buf(),
            lock: lock?,
            start,
        };
        match claim.mark(recipe) {
            Ok(()) => Ok(claim),
            Err(error) => {
                claim.abandon();
                Err(error)
            }
        }
    }

    fn lock(dir: &Path) -> Result<RunLock, TrainError> {
        taal_store::create_dir_all(dir)?;
        Ok(RunLock::acquire(dir)?)
    }

    /// Before anything else is written, durably: after a crash it tells a run's own files from somebody else's.
    fn mark(&self, recipe: &str) -> Result<(), TrainError> {
        if is_run(&self.dir) {
            return Ok(());
        }
        let path = self.dir.join(RUN_FILE);
        let recipe = toml::Value::String(recipe.to_string());
        Ok(taal_store::write_atomic(
            &path,
            format!("recipe = {recipe}\n").as_bytes(),
        )?)
    }

    /// Locks the directory of a run that was begun.
    ///
    /// # Errors
    ///
    /// [`TrainError::NothingToResume`] where there is none, or the store's where it is locked.
    pub fn resume(dir: &Path) -> Result<Self, TrainError> {
        if !is_run(dir) {
            return Err(nothing_to_resume(dir, &[parent_of(dir)]));
        }
        Ok(Self {
            dir: dir.to_path_buf(),
            lock: RunLock::acquire(dir)?,
            start: Start::default(),
        })
    }

    /// The next directory below `base` for a run of a recipe: `<base>/<name>`, or the number after the highest there is. Of two starts
    /// at once each gets one of its own. What a start left that came to nothing is taken over.
    ///
    /// # Errors
    ///
    /// As [`of`](Self::of).
    pub fn next(base: &Path, name: &str) -> Result<Self, TrainError> {
        let mut number = 1;
        for path in paths_in(base) {
            if let Some(found) = number_of(&path, name).filter(|_| !is_left_over(&path)) {
                number = number.max(found + 1);
            }
        }
        loop {
            let dir = numbered(base, name, number);
            number += 1;
            if taal_store::exists(&dir) && !is_left_over(&dir) {
                continue;
            }
            match Self::of(&dir, name) {
                // Another start was faster, and may even have ended meanwhile.
                Ok(claim) if is_run(&claim.dir) => {}
                Err(error) if error.kind() == ErrorKind::InUse => {}
                other => return other,
            }
        }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What goes where the start comes to nothing, for a thread that ends the process: see [`Start::clear`].
    pub fn start(&self) -> Start {
        self.start.clone()
    }

    /// Unlocks the directory; where no run was begun, what the start made goes again.
    pub(crate) fn abandon(self) {
        self.start.clear();
        drop(self.lock);
    }
}

impl Start {
    /// Of a directory in which an earlier start came to nothing.
    pub(crate) fn abandoned(dir: &Path) -> Self {
        Self {
            dir: dir.to_path_buf(),
            made: vec![dir.to_path_buf()],
        }
    }

    /// Removes what a start made before there was a run; a run that was begun stays as it is. Only while this process has the lock.
    pub fn clear(&self) {
        let dir = &self.dir;
        if dir.as_os_str().is_empty() || is_run(dir) || !taal_store::exists(&dir.join(RUN_FILE)) {
            return;
        }
        // The next start takes over whatever cannot be removed now.
        let _ = taal_store::remove_temporaries(dir);
        let empty = |name: &str| taal_store::file_size_bytes(&dir.join(name)).is_ok_and(|bytes| bytes == 0);
        let logs = [LOG_NAME, EVENTS_FILE].into_iter().filter(|name| empty(name));
        for name in logs.chain([RECIPE_FILE, RUN_FILE, LOCK_NAME]) {
            let _ = taal_store::remove_file(&dir.join(name));
        }
        for dir in &self.made {
            if !taal_store::remove_dir_if_empty(dir).unwrap_or(false) {
                break;
            }
        }
    }
}

/// Whether a run was begun in the directory.
pub fn is_run(dir: &Path) -> bool {
    taal_store::exists(&dir.join(RESOLVED_FILE)) || Checkpoints::of(dir).steps().is_ok_and(|steps| !steps.is_empty())
}

/// Whether the directory holds nothing but what a start left that came to nothing.
fn is_left_over(dir: &Path) -> bool {
    if !taal_store::is_dir(dir) || is_run(dir) {
        return false;
    }
    let is_marked = taal_store::exists(&dir.join(RUN_FILE));
    paths_in(dir).iter().all(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_empty_log = [LOG_NAME, EVENTS_FILE].contains(&name.as_ref())
            && taal_store::file_size_bytes(path).is_ok_and(|bytes| bytes == 0);
        name.starts_with('.') || is_empty_log || (is_marked && name == RECIPE_FILE)
    })
}

/// Refuses a directory in which files that are no run's have a run's names.
fn refuse_foreign(dir: &Path) -> Result<(), TrainError> {
    if taal_store::exists(&dir.join(RUN_FILE)) || is_run(dir) || is_left_over(dir) {
        return Ok(());
    }
    let found: Vec<&str> = OWN_NAMES
        .into_iter()
        .filter(|name| taal_store::exists(&dir.join(name)))
        .collect();
    if found.is_empty() {
        return Ok(());
    }
    Err(TrainError::Occupied {
        path: dir.to_path_buf(),
        detail: format!(
            "this is not a run directory of Taal, and a run would replace what is there under {}",
            found.join(", ")
        ),
        is_run: false,
    })
}

fn paths_in(dir: &Path) -> Vec<PathBuf> {
    taal_store::list_paths(dir).unwrap_or_default()
}

fn parent_of(dir: &Path) -> &Path {
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn numbered(base: &Path, name: &str, number: u64) -> PathBuf {
    match number {
        1 => base.join(name),
        number => base.join(format!("{name}-{number}")),
    }
}

/// The number of a directory that was named after a recipe: 1 without one.
fn number_of(dir: &Path, name: &str) -> Option<u64> {
    let rest = dir.file_name()?.to_str()?.strip_prefix(name)?;
    match rest {
        "" => Some(1),
        rest => rest.strip_prefix('-')?.parse().ok().filter(|number| *number < u64::MAX),
    }
}

/// A run that was begun.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) dir: PathBuf,
    /// When it was last started or made a step, as far as the file system knows.
    touched: Option<SystemTime>,
    number: u64,
}

/// The runs in a folder, the newest first: by time, of equals by number. With a name, those of that recipe.
pub(crate) fn runs_in(base: &Path, recipe: Option<&str>) -> Vec<Found> {
    let of_recipe = |dir: &Path| match (recipe, recipe_of(dir)) {
        (None, _) => true,
        (Some(name), Some(found)) => found == name,
        // A run of Taal before 0.2 says its recipe by its directory only.
        (Some(name), None) => number_of(dir, name).is_some(),
    };
    let mut runs: Vec<Found> = paths_in(base)
        .into_iter()
        .filter(|dir| is_run(dir) && of_recipe(dir))
        .map(|dir| Found {
            touched: touched(&dir),
            number: last_number(&dir),
            dir,
        })
        .collect();
    runs.sort_by(|a, b| (b.touched, b.number, &b.dir).cmp(&(a.touched, a.number, &a.dir)));
    runs
}

/// When a run was last started or made a step, as far as the file system knows.
pub(crate) fn touched(dir: &Path) -> Option<SystemTime> {
    [LOCK_NAME, LOG_NAME, RESOLVED_FILE]
        .iter()
        .filter_map(|name| taal_store::modified(&dir.join(name)).ok())
        .max()
}

/// Whether the directory holds nothing but what a start of Taal left that came to nothing.
pub(crate) fn is_abandoned_start(dir: &Path) -> bool {
    taal_store::exists(&dir.join(RUN_FILE)) && is_left_over(dir)
}

fn last_number(dir: &Path) -> u64 {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let last = name.rsplit_once('-').and_then(|(_, number)| number.parse().ok());
    last.unwrap_or(1)
}

/// The recipe that a run directory was made for.
pub(crate) fn recipe_of(dir: &Path) -> Option<String> {
    let text = taal_store::read_text(&dir.join(RUN_FILE), MAX_RECIPE_BYTES).ok()?;
    let table: toml::Table = text.parse().ok()?;
    Some(table.get("recipe")?.as_str()?.to_string())
}

/// The latest run in a folder; with a name, the latest of that recipe. Gaps in the numbers and runs of other recipes whose names look
/// alike make no difference.
pub fn latest(base: &Path, recipe: Option<&str>) -> Option<PathBuf> {
    runs_in(base, recipe).into_iter().next().map(|run| run.dir)
}

/// That there is nothing to resume at a path, with what there is in some folders.
pub fn nothing_to_resume(path: &Path, folders: &[&Path]) -> TrainError {
    let folder = folders.iter().find(|folder| !runs_in(folder, None).is_empty());
    let runs = folder.map(|folder| runs_in(folder, None)).unwrap_or_default();
    let mut listed: Vec<String> = runs
        .iter()
        .take(MAX_LISTED)
        .map(|run| {
            let step = Checkpoints::of(&run.dir)
                .steps()
                .ok()
                .and_then(|steps| steps.last().copied());
            let step = step.map_or("no checkpoint".to_string(), |step| format!("step {step}"));
            format!("{} ({step})", run.dir.display())
        })
        .collect();
    if runs.len() > MAX_LISTED {
        listed.push(format!("{} more", runs.len() - MAX_LISTED));
    }
    let why = match is_left_over(path) {
        true => "there is no run to resume here: a start ended before its first step",
        false => "there is no run to resume here",
    };
    TrainError::NothingToResume {
        path: path.to_path_buf(),
        detail: match listed.is_empty() {
            true => why.to_string(),
            false => format!("{why}; the runs that are there: {}", listed.join(", ")),
        },
    }
}

/// The recipe that a run directory was begun with, every value of it.
///
/// # Errors
///
/// [`TrainError::NothingToResume`] where there is none.
pub fn stored_recipe(run_dir: &Path) -> Result<RecipeText, TrainError> {
    let path = run_dir.join(RESOLVED_FILE);
    if !taal_store::exists(&path) {
        return Err(TrainError::NothingToResume {
            path: run_dir.to_path_buf(),
            detail: format!("it has no {RESOLVED_FILE}, so there is no run to resume"),
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

/// Begins a run in an empty directory or continues the one that is there; gives the checkpoint to continue from, and the recipe with
/// what the run keeps.
pub(crate) fn enter(
    dir: &Path,
    is_resume: bool,
    resolved: &Resolved,
    checkpoints: &Checkpoints,
    progress: &mut dyn Progress,
) -> Result<(Option<Checkpoint>, Resolved), TrainError> {
    let is_begun = is_run(dir);
    if is_begun && !is_resume {
        return Err(TrainError::Occupied {
            path: dir.to_path_buf(),
            detail: "a run is here already".to_string(),
            is_run: true,
        });
    }
    let mut resolved = resolved.clone();
    if !is_begun {
        return Ok((None, resolved));
    }
    if taal_store::exists(&dir.join(RESOLVED_FILE)) {
        let before = resolve_again(&stored_recipe(dir)?, &resolved)?;
        let kept = before.recipe.train.schedule.warmup_steps;
        if resolved.has_derived_warmup && resolved.recipe.train.schedule.warmup_steps != kept {
            progress.note(&format!(
                "train.warmup_steps stays {kept}, as the run was begun with; the recipe does not set it"
            ));
            resolved = resolved.with_warmup(kept);
        }
        let line_ends = before.recipe.data.line_ends;
        if resolved.has_default_line_ends && resolved.recipe.data.line_ends != line_ends {
            progress.note(&format!(
                "data.line_ends stays \"{line_ends}\", as the run was begun with; the recipe does not set it"
            ));
            resolved = resolved.with_line_ends(line_ends);
        }
        check_changes(dir, &before, &resolved, progress)?;
    }
    let checkpoint = checkpoints.newest(|message| progress.note(&message))?;
    match &checkpoint {
        Some(checkpoint) => progress.note(&format!("resuming from the checkpoint of step {}", checkpoint.step)),
        None => progress.note("no complete checkpoint to resume from: starting at step 0"),
    }
    Ok((checkpoint, resolved))
}

/// Says that a resumed run has nothing left to train, and why.
pub(crate) fn note_nothing_left(done: u64, asked: u64, progress: &mut dyn Progress) {
    if done > asked {
        progress.note(&format!(
            "step {done} is done already, and train.steps = {asked} asks for fewer: nothing is trained, the weights stay those of step {done}"
        ));
    } else if done == asked {
        progress.note(&format!(
            "all {done} steps are done already: nothing is trained; a larger train.steps goes on"
        ));
    }
}

/// Puts the recipe into the run directory, from then on a run that was begun. Not before tokenizer, data and model
/// stand: a mistyped file name must not leave a directory that refuses the corrected recipe. A resumed run whose
/// values are the same keeps what is there, which says more about where they came from.
pub(crate) fn write_recipe(dir: &Path, resolved: &Resolved, recipe_text: &str) -> Result<(), TrainError> {
    if taal_store::exists(&dir.join(RESOLVED_FILE)) {
        let before = resolve_again(&stored_recipe(dir)?, resolved)?;
        if differences(&before, resolved).is_empty() {
            return Ok(());
        }
    }
    taal_store::write_atomic(&dir.join(RECIPE_FILE), recipe_text.as_bytes())?;
    taal_store::write_atomic(&dir.join(RESOLVED_FILE), resolved.text.as_bytes())?;
    Ok(())
}

/// Keys that a resumed run may change: they say how long and how often, not what is learnt from what. Line ends may, because runs from before
/// the key kept carriage returns; where the ids differ, [`check_origin`] refuses.
fn may_change(key: &str) -> bool {
    ["train.steps", "train.patience", "data.line_ends", "name", "description"].contains(&key)
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
    if !before.is_empty() && before != now.data && !taal_store::is_broken("data-check") {
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
