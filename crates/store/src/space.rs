//! Free disk space.

use std::path::{Path, PathBuf};

use crate::{Error, Result, disk};

/// The free bytes for this user on the disk of `path`, which need not exist yet.
///
/// # Errors
///
/// [`Error::Io`] when the file system does not report it.
pub fn free_space_bytes(path: &Path) -> Result<u64> {
    let place = nearest_existing(path)?;
    disk::available_bytes(&place).map_err(|source| Error::Io {
        action: "ask the free space of",
        path: path.to_path_buf(),
        source,
    })
}

/// Checks that at least `needed_bytes` are free on the disk of `path`, before work that would be lost on a full disk.
///
/// # Errors
///
/// [`Error::NoSpace`] with both figures, or [`Error::Io`] when the file system does not report it.
pub fn ensure_space(path: &Path, needed_bytes: u64) -> Result<()> {
    let free_bytes = free_space_bytes(path)?;
    if free_bytes < needed_bytes {
        return Err(Error::NoSpace {
            path: path.to_path_buf(),
            needed_bytes,
            free_bytes,
        });
    }
    Ok(())
}

/// The path itself or its closest ancestor that exists.
fn nearest_existing(path: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(path).map_err(|source| Error::Io {
        action: "resolve",
        path: path.to_path_buf(),
        source,
    })?;
    let existing = absolute.ancestors().find(|ancestor| disk::size_bytes(ancestor).is_ok());
    Ok(existing.unwrap_or(&absolute).to_path_buf())
}
