//! Run directories: claiming one for a new run, finding the latest, and opening one to start or continue a run.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use taal_store::layout::{
    CHECKPOINTS_DIR, EMISSIONS_FILE, EVENTS_FILE, LOCK_NAME, LOG_NAME, LOG_TABLE_FILE, MODEL_DIR, RECIPE_FILE,
    REPORT_FIGURES_FILE, REPORT_FILE, RESOLVED_FILE, RUN_FILE,
};
use taal_store::{ErrorKind, RunLock};

use crate::TrainError;
use crate::checkpoint::{Checkpoint, Checkpoints, Origin};
use crate::progress::Progress;
use crate::recipe::{Recipe, RecipeText, Resolved, differences, resolve_again};

/// A larger recipe file is refused.
pub(crate) const MAX_RECIPE_BYTES: u64 = 1 << 20;
/// The maximum number of runs that an error message lists.
const MAX_LISTED: usize = 8;

/// Names of files that a run writes and that may already exist for another purpose.
const OWN_NAMES: [&str; 10] = [
    RECIPE_FILE,
    RESOLVED_FILE,
    LOG_NAME,
    EVENTS_FILE,
    LOG_TABLE_FILE,
    EMISSIONS_FILE,
    REPORT_FIGURES_FILE,
    REPORT_FILE,
    MODEL_DIR,
    CHECKPOINTS_DIR,
];

/// A run directory that this process has locked.
#[derive(Debug)]
pub struct Claim {
    dir: PathBuf,
    /// Held until the claim is dropped.
    lock: RunLock,
    start: Start,
}

/// What a start created before there was a run. It is removed if the start fails.
#[derive(Debug, Clone, Default)]
pub struct Start {
    dir: PathBuf,
    /// Directories that did not exist before, innermost first.
    made: Vec<PathBuf>,
}

impl Claim {
    /// Creates the directory if it does not exist, locks it and marks it as a run directory.
    ///
    /// # Errors
    ///
    /// [`TrainError::Occupied`] if files of another program have the names of run files; [`TrainError::Store`] if the
    /// directory is locked or cannot be written to.
    pub fn of(dir: &Path, recipe: &str) -> Result<Self, TrainError> {
        refuse_foreign(dir)?;
        let missing = |dir: &&Path| !dir.as_os_str().is_empty() && !taal_store::exists(dir);
        let start = Start {
            dir: dir.to_path_buf(),
            made: dir.ancestors().take_while(missing).map(Path::to_path_buf).collect(),
        };
        let mut lock = Self::lock(dir);
        // The previous holder of the lock may have removed the directory since it was created here.
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

    /// Written durably before anything else. After a crash it tells files of the run from files of other programs.
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

    /// Locks the directory of an existing run.
    ///
    /// # Errors
    ///
    /// [`TrainError::NothingToResume`] if there is none, or [`TrainError::Store`] if it is locked.
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

    /// The next directory below `base` for a run of a recipe: `<base>/<name>`, or that name with a number one above the
    /// highest. Two starts at the same time get different directories. A directory that a failed start left is reused.
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
                // Another start was faster; it may even have ended already.
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

    /// What to remove if the start fails, for a thread that ends the process: see [`Start::clear`].
    pub fn start(&self) -> Start {
        self.start.clone()
    }

    /// Unlocks the directory. If no run was started, removes what the start created.
    pub(crate) fn abandon(self) {
        self.start.clear();
        drop(self.lock);
    }
}

impl Start {
    /// For the directory of an earlier start that failed.
    pub(crate) fn abandoned(dir: &Path) -> Self {
        Self {
            dir: dir.to_path_buf(),
            made: vec![dir.to_path_buf()],
        }
    }

    /// Removes what a start created before there was a run; an existing run is not changed. Call it only while this
    /// process holds the lock.
    pub fn clear(&self) {
        let dir = &self.dir;
        if dir.as_os_str().is_empty() || is_run(dir) || !taal_store::exists(&dir.join(RUN_FILE)) {
            return;
        }
        // The next start reuses what cannot be removed now.
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

/// Whether the directory has a run.
pub fn is_run(dir: &Path) -> bool {
    taal_store::exists(&dir.join(RESOLVED_FILE)) || Checkpoints::of(dir).steps().is_ok_and(|steps| !steps.is_empty())
}

/// Whether the directory holds only the leftovers of a start that failed.
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

/// Refuses a directory in which files of another program have the names of run files.
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

/// The number of a directory that is named after a recipe; 1 if the name has none.
fn number_of(dir: &Path, name: &str) -> Option<u64> {
    let rest = dir.file_name()?.to_str()?.strip_prefix(name)?;
    match rest {
        "" => Some(1),
        rest => rest.strip_prefix('-')?.parse().ok().filter(|number| *number < u64::MAX),
    }
}

/// A run that was found in a folder.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) dir: PathBuf,
    /// When it was last started or made a step, as far as the file system knows.
    touched: Option<SystemTime>,
    number: u64,
}

/// The runs in a folder, newest first: by time, then by number. With a recipe name, only its runs.
pub(crate) fn runs_in(base: &Path, recipe: Option<&str>) -> Vec<Found> {
    let of_recipe = |dir: &Path| match (recipe, recipe_of(dir)) {
        (None, _) => true,
        (Some(name), Some(found)) => found == name,
        // For a run of Taal before 0.2, only the directory's name tells its recipe.
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

/// Whether the directory holds only the leftovers of a failed start, and Taal's mark.
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

/// The latest run in a folder; with a name, the latest of that recipe. Gaps in the numbers and recipes with similar
/// names do not matter.
pub fn latest(base: &Path, recipe: Option<&str>) -> Option<PathBuf> {
    runs_in(base, recipe).into_iter().next().map(|run| run.dir)
}

/// The error that there is nothing to resume at a path. It lists the runs of the first folder that has any.
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

/// The recipe of a run directory, with every value.
///
/// # Errors
///
/// [`TrainError::NothingToResume`] if there is none.
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

/// Starts a run in an empty directory or continues an existing one. Returns the checkpoint to continue from, and the
/// recipe with the values that the run keeps.
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

/// Notes that a resumed run has nothing left to train, and why.
pub(crate) fn note_nothing_left(done: u64, asked: u64, progress: &mut dyn Progress) {
    if done > asked {
        progress.note(&format!(
            "step {done} is done already, and train.steps = {asked} asks for fewer: nothing is trained, the weights stay those of step {done}"
        ));
    } else if done == asked {
        progress.note(&format!(
            "all {done} steps are done already: nothing is trained; set a larger train.steps to continue"
        ));
    }
}

/// Writes the recipe into the run directory, which makes it an existing run. Call it only once tokenizer, data and
/// model are ready: a mistyped file name must not leave a directory that refuses the corrected recipe. A resumed run
/// with the same values keeps its file, which has more details about their sources.
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

/// Keys that a resumed run may change: they affect how long and how often, not what is learned. `data.line_ends` may
/// change, because runs from before that key kept carriage returns; if the ids differ, [`check_origin`] refuses.
fn may_change(key: &str) -> bool {
    let keys = [
        "train.steps",
        "train.patience",
        "train.stop_loss",
        "data.line_ends",
        "data.license",
        "name",
        "description",
    ];
    keys.contains(&key)
        || ["eval.", "checkpoint.", "health.", "sample."]
            .iter()
            .any(|section| key.starts_with(section))
}

/// Refuses to continue with other ids or another tokenizer than the run started with. Files can change while the recipe
/// stays the same.
pub(crate) fn check_origin(
    recipe: &Recipe,
    checkpoint: &Checkpoint,
    now: &Origin,
    run_dir: &Path,
    progress: &mut dyn Progress,
) -> Result<(), TrainError> {
    let refuse = |what: &str, before: &str, now: &str| changed(what, before, now, checkpoint, run_dir);
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
            "the checkpoint was written by Taal {} with Cargo.lock {}, this is {} with {}: results are bit-equal \
             only with the same versions",
            checkpoint.version(),
            checkpoint.lock_hash(),
            env!("CARGO_PKG_VERSION"),
            env!("TAAL_LOCK_HASH")
        ));
    }
    Ok(())
}

/// Refuses a run whose reference model or rejected answers changed since its checkpoint.
pub(crate) fn check_task(checkpoint: &Checkpoint, now: &Origin, run_dir: &Path) -> Result<(), TrainError> {
    let before = checkpoint.task_hash();
    match before.is_empty() || before == now.task {
        true => Ok(()),
        false => Err(changed(
            "the model of train.init_from or a rejected answer",
            before,
            &now.task,
            checkpoint,
            run_dir,
        )),
    }
}

fn changed(what: &str, before: &str, now: &str, checkpoint: &Checkpoint, run_dir: &Path) -> TrainError {
    TrainError::RunDirectory {
        path: run_dir.to_path_buf(),
        detail: format!(
            "{what} changed since the checkpoint of step {} (BLAKE3 {}, now {}): put the old one back, or start a new run \
             (train.init_from takes over the weights)",
            checkpoint.step,
            short(before),
            short(now)
        ),
    }
}

/// The beginning of a hash, enough to tell two apart.
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
