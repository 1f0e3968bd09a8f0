//! Saving while training continues: the snapshot is taken at once and written by a separate thread.
//!
//! Only one checkpoint is written at a time; the next one waits for it. The thread works in this order: it syncs the
//! log of steps, writes the checkpoint and moves it into place, reads it back and verifies it, replaces the link to the
//! best model, and only then removes older checkpoints.

use std::path::PathBuf;
use std::thread::JoinHandle;

use taal_store::layout::MODEL_DIR;

use crate::TrainError;
use crate::checkpoint::{Checkpoints, Snapshot};

/// After this many failed saves in a row, a full or broken disk ends the run.
const MAX_FAILURES: u32 = 3;

/// One checkpoint to write, and what to update after it.
#[derive(Debug)]
pub(crate) struct Save {
    pub(crate) checkpoints: Checkpoints,
    pub(crate) snapshot: Snapshot,
    /// The logs that the checkpoint depends on.
    pub(crate) logs: Vec<PathBuf>,
    /// The link to the best model.
    pub(crate) link: PathBuf,
    pub(crate) best_step: Option<u64>,
    pub(crate) keep: usize,
    /// Steps whose checkpoints the mean of the last weights needs.
    pub(crate) averaged: Vec<u64>,
}

impl Save {
    pub(crate) fn run(self) -> Result<(), TrainError> {
        if !taal_store::is_broken("log-fsync") {
            for log in &self.logs {
                taal_store::sync_file(log)?;
            }
        }
        let step = self.snapshot.step;
        let is_there = |step: &u64| *step == self.snapshot.step || taal_store::is_dir(&self.checkpoints.path(*step));
        let best = self.best_step.filter(is_there);
        let needed: Vec<u64> = self.averaged.iter().copied().chain(best).collect();
        if taal_store::is_broken("prune-first") {
            self.checkpoints.prune(step, self.keep.saturating_sub(1), &needed)?;
        }
        self.checkpoints.save(&self.snapshot)?;
        let shown = self.checkpoints.path(best.unwrap_or(step)).join(MODEL_DIR);
        taal_store::publish_link(&shown, &self.link)?;
        self.checkpoints.prune(step, self.keep, &needed)
    }
}

/// The saving thread and its recent failures.
#[derive(Debug, Default)]
pub(crate) struct Saver {
    under_way: Option<(u64, JoinHandle<Result<(), TrainError>>)>,
    failures: u32,
}

impl Saver {
    /// Starts a save, after the previous one has ended. If it does not run in the background, it is complete on return.
    pub(crate) fn start(
        &mut self,
        save: Save,
        is_background: bool,
        mut note: impl FnMut(String),
    ) -> Result<(), TrainError> {
        self.wait(&mut note)?;
        let step = save.snapshot.step;
        if !is_background {
            let saved = save.run();
            return self.settle(step, saved, &mut note);
        }
        let vfs = taal_store::current_vfs();
        let thread = std::thread::Builder::new()
            .name("taal-save".to_string())
            .spawn(move || taal_store::with_vfs(vfs, || save.run()))
            .map_err(|source| taal_store::Error::io("start a thread to save in", std::path::Path::new("."), source))?;
        self.under_way = Some((step, thread));
        Ok(())
    }

    /// Waits for the current save. A full or broken disk is noted and tolerated until saving has failed several times
    /// in a row; earlier checkpoints are intact.
    pub(crate) fn wait(&mut self, mut note: impl FnMut(String)) -> Result<(), TrainError> {
        let Some((step, thread)) = self.under_way.take() else {
            return Ok(());
        };
        let saved = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        self.settle(step, saved, &mut note)
    }

    fn settle(
        &mut self,
        step: u64,
        saved: Result<(), TrainError>,
        note: &mut impl FnMut(String),
    ) -> Result<(), TrainError> {
        match saved {
            Ok(()) => {
                self.failures = 0;
                Ok(())
            }
            Err(error) if error.is_of_a_disk() => self.tolerate(&format!("step {step} is not saved"), error, note),
            Err(error) => Err(error),
        }
    }

    /// Counts a disk failure, and returns it as an error after [`MAX_FAILURES`] in a row.
    pub(crate) fn tolerate(
        &mut self,
        what: &str,
        error: TrainError,
        note: &mut impl FnMut(String),
    ) -> Result<(), TrainError> {
        self.failures += 1;
        if self.failures >= MAX_FAILURES || taal_store::is_broken("no-second-save") {
            return Err(error);
        }
        note(format!(
            "{what}: {error}; training continues (failure {} of {MAX_FAILURES} in a row), and the previous checkpoint is intact",
            self.failures
        ));
        Ok(())
    }

    /// Whether the last save failed.
    pub(crate) fn is_failing(&self) -> bool {
        self.failures > 0
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        // A run that ends with an error unlocks its directory, so no thread may still be writing to it.
        if let Some((_, thread)) = self.under_way.take() {
            let _ = thread.join();
        }
    }
}
