//! Saving beside training: the snapshot is taken at once, written by a thread of its own.
//!
//! One checkpoint at a time is under way; the next one waits for it. What the thread does, in this order: the log of steps is made
//! durable, the checkpoint is written and put in place, it is read back and verified, the link to the best model is replaced, and only
//! then do older checkpoints go.

use std::path::PathBuf;
use std::thread::JoinHandle;

use taal_store::layout::MODEL_DIR;

use crate::TrainError;
use crate::checkpoint::{Checkpoints, Snapshot};

/// Failed saves in a row after which a full or broken disk ends the run.
const MAX_FAILURES: u32 = 3;

/// One checkpoint to be written, with what follows from it.
#[derive(Debug)]
pub(crate) struct Save {
    pub(crate) checkpoints: Checkpoints,
    pub(crate) snapshot: Snapshot,
    /// The logs that the checkpoint counts on.
    pub(crate) logs: Vec<PathBuf>,
    /// The link to the best model.
    pub(crate) link: PathBuf,
    pub(crate) best_step: Option<u64>,
    pub(crate) keep: usize,
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
        if taal_store::is_broken("prune-first") {
            self.checkpoints.prune(step, self.keep.saturating_sub(1), best)?;
        }
        self.checkpoints.save(&self.snapshot)?;
        let shown = self.checkpoints.path(best.unwrap_or(step)).join(MODEL_DIR);
        taal_store::publish_link(&shown, &self.link)?;
        self.checkpoints.prune(step, self.keep, best)
    }
}

/// The thread that saves, and how it went lately.
#[derive(Debug, Default)]
pub(crate) struct Saver {
    under_way: Option<(u64, JoinHandle<Result<(), TrainError>>)>,
    failures: u32,
}

impl Saver {
    /// Starts a save, after the one before has ended; where it is not to run beside training, it is over on return.
    pub(crate) fn start(
        &mut self,
        save: Save,
        is_beside: bool,
        mut note: impl FnMut(String),
    ) -> Result<(), TrainError> {
        self.wait(&mut note)?;
        let step = save.snapshot.step;
        if !is_beside {
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

    /// Waits for the save that is under way. A disk that is full or broken is noted and tolerated, until it has failed several times
    /// in a row; what was saved before is whole.
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

    /// Counts a failure of the disk, which is an error only when it was not the first ones.
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
            "{what}: {error}; training goes on (failure {} of {MAX_FAILURES} in a row), and the checkpoint before is whole",
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
        // A run that ends by an error leaves no thread behind that still writes to its directory, which it unlocks.
        if let Some((_, thread)) = self.under_way.take() {
            let _ = thread.join();
        }
    }
}
