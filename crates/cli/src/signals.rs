//! Ctrl-C and `kill`: the first asks training to save and stop, the second stops at once.

use std::path::Path;
use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::failure::{Failure, INTERRUPTED, STOPPED};

static IS_ASKED_TO_STOP: AtomicBool = AtomicBool::new(false);
static IS_STEPPING: AtomicBool = AtomicBool::new(false);

/// When a signal came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before the first step, when there is nothing to save: the program ends.
    BeforeFirstStep,
    /// While training, for the first time: the step is finished, then [`is_asked_to_stop`] is heeded.
    WhileTraining,
    /// Once more: the program ends.
    OnceMore,
}

/// Listens for SIGINT, SIGTERM and SIGHUP (on Windows, for Ctrl-C) from now on; `say` tells the person, on a thread of
/// its own.
///
/// # Errors
///
/// The operating system's, if it cannot install the handler.
pub fn listen(say: impl Fn(Moment) + Send + 'static) -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(move || {
        if IS_ASKED_TO_STOP.swap(true, Ordering::SeqCst) {
            say(Moment::OnceMore);
            exit(i32::from(INTERRUPTED));
        }
        if !IS_STEPPING.load(Ordering::SeqCst) {
            say(Moment::BeforeFirstStep);
            exit(i32::from(STOPPED));
        }
        say(Moment::WhileTraining);
    })
}

/// From now on, there is a step to finish and a state to save.
pub fn stepping() {
    IS_STEPPING.store(true, Ordering::SeqCst);
}

/// Whether a signal came.
pub fn is_asked_to_stop() -> bool {
    IS_ASKED_TO_STOP.load(Ordering::SeqCst)
}

/// Makes room for what a verb will write to `out` in one step: what interrupted processes left on their way there goes now, and what this one
/// has begun goes when it is interrupted, with the folders that it made for it.
///
/// # Errors
///
/// The store's; the operating system's, if it cannot install the handler.
pub fn clean_up(out: &Path) -> Result<(), Failure> {
    taal_store::remove_leftovers_of(out)?;
    let out = out.to_path_buf();
    let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && !taal_store::exists(folder);
    let folders = out.ancestors().skip(1).take_while(is_missing);
    let folders: Vec<_> = folders.map(Path::to_path_buf).collect();
    Ok(ctrlc::set_handler(move || {
        // The program ends in any case; the next one removes what is left.
        let _ = taal_store::remove_unfinished_of(&out);
        for folder in &folders {
            let _ = taal_store::remove_dir_if_empty(folder);
        }
        exit(i32::from(INTERRUPTED));
    })?)
}
