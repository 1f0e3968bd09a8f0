//! Tests of the public interface.

#[path = "store/append_log.rs"]
mod append_log;
#[path = "store/atomic.rs"]
mod atomic;
#[path = "store/directory.rs"]
mod directory;
#[cfg(feature = "faults")]
#[path = "store/faulty.rs"]
mod faulty;
#[path = "store/link.rs"]
mod link;
#[path = "store/lock.rs"]
mod lock;
#[path = "store/manifest.rs"]
mod manifest;
#[path = "store/new_folders.rs"]
mod new_folders;
#[path = "store/reading.rs"]
mod reading;
#[path = "store/rel_path.rs"]
mod rel_path;
#[path = "store/sniff.rs"]
mod sniff;
#[path = "store/table.rs"]
mod table;

use std::path::Path;

use tempfile::TempDir;

/// A scratch directory that is removed when the test ends.
fn scratch() -> TempDir {
    tempfile::tempdir().expect("a scratch directory")
}

/// The names in a directory, sorted.
fn names(dir: &Path) -> Vec<String> {
    taal_store::list_dir(dir).expect("a directory that lists")
}
