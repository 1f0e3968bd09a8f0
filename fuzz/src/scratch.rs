//! A folder in memory for parsers that read files only.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

static FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// A folder in memory.
const SHARED_MEMORY: &str = "/dev/shm";

/// A temporary folder, in memory if the system supports it.
///
/// # Errors
///
/// Errors of creating it.
pub fn temporary() -> std::io::Result<tempfile::TempDir> {
    let builder = || {
        let mut builder = tempfile::Builder::new();
        builder.prefix("taal-fuzz-");
        builder
    };
    builder().tempdir_in(SHARED_MEMORY).or_else(|_| builder().tempdir())
}

/// Lets targets write into `folder`, which belongs to the caller. Only the first call counts.
pub fn use_folder(folder: &Path) {
    FOLDER.get_or_init(|| folder.to_path_buf());
}

/// A separate folder inside the scratch folder.
pub(crate) fn folder(name: &str) -> PathBuf {
    let root = FOLDER.get_or_init(|| {
        // If no caller has set a folder, for example under a debugger or libFuzzer, the temporary one is kept.
        temporary().expect("a temporary folder").keep()
    });
    let folder = root.join(format!("{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder inside the temporary one");
    folder
}
