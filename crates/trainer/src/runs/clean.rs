//! Cleaning run directories: which old checkpoints of finished runs and which unfinished files can be removed.
//!
//! Only files that Taal wrote are removed, recognized by their names and, for a checkpoint, by its manifest. Everything
//! else is kept.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use taal_store::layout::{self, CHECKPOINTS_DIR, MODEL_DIR};
use taal_store::{Manifest, RunLock};

use super::{RunFiles, RunState};
use crate::TrainError;
use crate::checkpoint::Checkpoints;
use crate::run_dir::{self, Start};

/// What would be removed below a directory.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cleaning {
    /// One entry for each directory in which something would be removed.
    pub removals: Vec<Removal>,
    /// What is kept although it could be removed, and why.
    pub notes: Vec<String>,
}

/// What would be removed in one directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// The run directory.
    pub dir: PathBuf,
    /// The steps of the checkpoints to remove.
    pub steps: Vec<u64>,
    /// The steps of the checkpoints to keep, if any are removed.
    pub kept: Vec<u64>,
    /// Unfinished files and directories.
    pub temporaries: Vec<PathBuf>,
    /// Whether the whole directory is removed, because its run ended before the first step.
    pub is_whole: bool,
    /// Bytes on disk.
    pub size_bytes: u64,
}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Bytes on disk.
    pub size_bytes: u64,
    /// What was not removed, and why.
    pub notes: Vec<String>,
}

/// Finds what can be removed in the runs below a directory, or in the directory if it is a run itself. Changes nothing.
///
/// # Errors
///
/// [`TrainError::Store`] if the directory cannot be listed.
pub fn plan_cleaning(base: &Path) -> Result<Cleaning, TrainError> {
    let dirs = match run_dir::is_run(base) {
        true => vec![base.to_path_buf()],
        false if taal_store::exists(base) => taal_store::list_paths(base)?,
        false => Vec::new(),
    };
    let mut cleaning = Cleaning::default();
    for dir in dirs {
        // A link points to a directory that does not belong to this base.
        if taal_store::is_link(&dir) {
            continue;
        }
        let is_abandoned = run_dir::is_abandoned_start(&dir);
        if !is_abandoned && !run_dir::is_run(&dir) {
            continue;
        }
        if RunLock::is_held(&dir) {
            cleaning
                .notes
                .push(format!("{} is in use and left alone", dir.display()));
            continue;
        }
        let found = match is_abandoned {
            true => Removal::of_abandoned_start(&dir),
            false => Removal::of_run(&dir, &mut cleaning.notes),
        };
        cleaning.removals.extend(found?.filter(|found| !found.is_empty()));
    }
    Ok(cleaning)
}

impl Cleaning {
    /// Bytes of everything that would be removed.
    pub fn size_bytes(&self) -> u64 {
        self.removals.iter().map(|removal| removal.size_bytes).sum()
    }

    /// Removes everything in the plan. Each directory is locked and checked again: if it is in use by then, or has
    /// changed, it is left alone. The checkpoints to keep are verified byte for byte first; if one is damaged, nothing
    /// of that run is removed.
    ///
    /// # Errors
    ///
    /// [`TrainError::Store`] if something cannot be removed.
    pub fn remove(&self) -> Result<Removed, TrainError> {
        let mut removed = Removed::default();
        for removal in &self.removals {
            match RunLock::acquire_unmarked(&removal.dir) {
                Ok(_lock) => removal.carry_out(&mut removed)?,
                // Without a lock file this version has never used the directory, so no process can hold its lock.
                Err(taal_store::Error::NotFound { .. }) => removal.carry_out(&mut removed)?,
                Err(taal_store::Error::Locked { .. }) => removed
                    .notes
                    .push(format!("{} is in use by now and left alone", removal.dir.display())),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(removed)
    }
}

impl Removal {
    fn is_empty(&self) -> bool {
        !self.is_whole && self.steps.is_empty() && self.temporaries.is_empty()
    }

    fn of_abandoned_start(dir: &Path) -> Result<Option<Self>, TrainError> {
        Ok(Some(Self {
            dir: dir.to_path_buf(),
            steps: Vec::new(),
            kept: Vec::new(),
            temporaries: Vec::new(),
            is_whole: true,
            size_bytes: taal_store::total_size_bytes(dir)?,
        }))
    }

    /// Call it only if no other process has locked the directory.
    fn of_run(dir: &Path, notes: &mut Vec<String>) -> Result<Option<Self>, TrainError> {
        let mut temporaries = taal_store::temporaries(dir)?;
        temporaries.extend(taal_store::temporaries(&dir.join(CHECKPOINTS_DIR))?);
        let files = RunFiles::read(dir);
        let (mut steps, mut kept) = (Vec::new(), BTreeSet::new());
        if files.state_when_unlocked() == RunState::Finished {
            kept = files.kept_steps();
            steps = files.removable_steps(&kept, notes)?;
        }
        let checkpoints = Checkpoints::of(dir);
        let mut size_bytes = 0;
        for path in steps
            .iter()
            .map(|step| checkpoints.path(*step))
            .chain(temporaries.clone())
        {
            size_bytes += taal_store::total_size_bytes(&path)?;
        }
        Ok(Some(Self {
            dir: dir.to_path_buf(),
            steps,
            kept: kept.into_iter().collect(),
            temporaries,
            is_whole: false,
            size_bytes,
        }))
    }

    /// Call it only while holding the lock of the directory.
    fn carry_out(&self, removed: &mut Removed) -> Result<(), TrainError> {
        if self.is_whole {
            if run_dir::is_abandoned_start(&self.dir) {
                Start::abandoned(&self.dir).clear();
                removed.size_bytes += self.size_bytes;
            }
            return Ok(());
        }
        // A run that was resumed in the meantime may need what the plan would remove.
        let now = Self::of_run(&self.dir, &mut removed.notes)?;
        if now.as_ref() != Some(self) {
            removed
                .notes
                .push(format!("{} has changed and is left alone", self.dir.display()));
            return Ok(());
        }
        let checkpoints = Checkpoints::of(&self.dir);
        for step in self.kept.iter().filter(|_| !self.steps.is_empty()) {
            if let Err(error) = checkpoints.open(*step) {
                removed.notes.push(format!(
                    "{error}; every checkpoint of {} is left alone",
                    self.dir.display()
                ));
                return Ok(());
            }
        }
        for step in &self.steps {
            taal_store::retire_dir(&checkpoints.path(*step))?;
        }
        for dir in [self.dir.clone(), self.dir.join(CHECKPOINTS_DIR)] {
            taal_store::remove_temporaries(&dir)?;
        }
        removed.size_bytes += self.size_bytes;
        Ok(())
    }
}

impl RunFiles {
    /// The newest checkpoint, the best one, and the one that `model` links to.
    fn kept_steps(&self) -> BTreeSet<u64> {
        let mut kept = BTreeSet::from([self.saved_step()]);
        kept.extend(self.newest.as_ref().and_then(|(_, state, _)| state.best_step));
        kept.extend(self.report.as_ref().and_then(|report| report.best_step));
        kept.extend(self.published_step());
        let checkpoints = Checkpoints::of(&self.dir);
        kept.retain(|step| taal_store::exists(&checkpoints.path(*step)));
        kept
    }

    fn published_step(&self) -> Option<u64> {
        let model = taal_store::resolve(&self.dir.join(MODEL_DIR)).ok()?;
        let name = model.parent()?.file_name()?.to_str()?;
        layout::checkpoint_step(name)
    }

    fn removable_steps(&self, kept: &BTreeSet<u64>, notes: &mut Vec<String>) -> Result<Vec<u64>, TrainError> {
        let checkpoints = Checkpoints::of(&self.dir);
        let mut steps = Vec::new();
        for step in checkpoints.steps()?.into_iter().filter(|step| !kept.contains(step)) {
            let path = checkpoints.path(step);
            match is_known(&path) {
                true => steps.push(step),
                false => notes.push(format!(
                    "{} is not what its manifest says and is left alone",
                    path.display()
                )),
            }
        }
        Ok(steps)
    }
}

/// Whether a directory is a checkpoint with nothing else in it.
fn is_known(path: &Path) -> bool {
    !taal_store::is_link(path) && Manifest::verify_sizes(path).is_ok()
}
