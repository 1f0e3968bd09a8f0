//! Listing, creating and removing directories and files.

use std::io;
use std::path::{Path, PathBuf};

use crate::atomic::create_next_to;
use crate::disk::{self, Kind};
use crate::mutants::is_broken;
use crate::{Error, Result};

/// The prefix of unfinished files and directories, which are next to their final path.
pub(crate) const TEMPORARY_PREFIX: &str = ".tmp-";

/// The absolute path with all links resolved.
///
/// # Errors
///
/// [`Error::NotFound`] or [`Error::Io`].
pub fn resolve(path: &Path) -> Result<PathBuf> {
    disk::canonicalize(path).map_err(|source| Error::io("resolve", path, source))
}

/// Whether the path exists, including dangling links.
pub fn exists(path: &Path) -> bool {
    disk::kind(path).is_ok()
}

/// Whether the path is a directory, following links.
pub fn is_dir(path: &Path) -> bool {
    disk::is_dir(path)
}

/// Whether the path is a symbolic link.
pub fn is_link(path: &Path) -> bool {
    disk::kind(path).is_ok_and(|kind| kind == Kind::Link)
}

/// When the file at the path was last modified, following links.
///
/// # Errors
///
/// [`Error::NotFound`] or [`Error::Io`].
pub fn modified(path: &Path) -> Result<std::time::SystemTime> {
    disk::modified(path).map_err(|source| Error::io("ask the time of", path, source))
}

/// The size of a file, following links.
///
/// # Errors
///
/// [`Error::NotFound`], [`Error::NotAFile`] for a directory, or [`Error::Io`].
pub fn file_size_bytes(path: &Path) -> Result<u64> {
    if disk::is_dir(path) {
        return Err(Error::NotAFile {
            path: path.to_path_buf(),
        });
    }
    disk::size_bytes(path).map_err(|source| Error::io("ask the size of", path, source))
}

/// The bytes of a file, or of all files below a directory. Links are not followed; what goes while it is counted counts as nothing.
///
/// # Errors
///
/// [`Error::NotFound`] where nothing is at the path, or [`Error::Io`] where a directory cannot be listed.
pub fn total_size_bytes(path: &Path) -> Result<u64> {
    let io_error = |source| Error::io("ask the size of", path, source);
    match disk::kind(path).map_err(io_error)? {
        Kind::File => disk::size_bytes(path).map_err(io_error),
        Kind::Dir => {
            let mut total = 0;
            for entry in entries(path)? {
                total += match total_size_bytes(&entry) {
                    Err(Error::NotFound { .. }) => 0,
                    other => other?,
                };
            }
            Ok(total)
        }
        Kind::Link | Kind::Other => Ok(0),
    }
}

/// The paths of unfinished files and directories of this crate directly in `dir`, which [`remove_temporaries`] would remove.
///
/// # Errors
///
/// [`Error::Io`]. A missing directory has none.
pub fn temporaries(dir: &Path) -> Result<Vec<PathBuf>> {
    if !exists(dir) {
        return Ok(Vec::new());
    }
    let is_temporary = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        name.as_encoded_bytes().starts_with(TEMPORARY_PREFIX.as_bytes())
    };
    let mut found: Vec<PathBuf> = entries(dir)?.into_iter().filter(is_temporary).collect();
    found.sort_unstable();
    Ok(found)
}

/// The names in a directory, sorted by bytes so that the order is the same on every machine.
///
/// # Errors
///
/// [`Error::NotFound`], [`Error::Io`], or [`Error::UnsafePath`] for a name that is not UTF-8.
pub fn list_dir(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for path in entries(dir)? {
        names.push(utf8_name(&path)?.to_owned());
    }
    names.sort_unstable();
    Ok(names)
}

/// The paths of a directory's entries, sorted, including names that are not UTF-8.
///
/// # Errors
///
/// [`Error::NotFound`] or [`Error::Io`].
pub fn list_paths(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = entries(dir)?;
    paths.sort_unstable();
    Ok(paths)
}

/// Whether the path is a regular file, which can be read more than once, following links: not a directory, pipe or device.
pub fn is_file(path: &Path) -> bool {
    let target = disk::canonicalize(path).and_then(|target| disk::kind(&target));
    matches!(target, Ok(Kind::File))
}

/// Creates a directory and its missing parents, durably; an existing directory is fine.
///
/// # Errors
///
/// [`Error::AlreadyExists`] when another kind of file is in the way, [`Error::NoSpace`] or [`Error::Io`].
pub fn create_dir_all(dir: &Path) -> Result<()> {
    create_missing(dir, &mut Vec::new())
}

/// The same; what it made is added to `made`, also where it fails, a parent before what is in it.
pub(crate) fn create_missing(dir: &Path, made: &mut Vec<PathBuf>) -> Result<()> {
    if disk::is_dir(dir) {
        return Ok(());
    }
    if exists(dir) {
        return Err(Error::AlreadyExists {
            path: dir.to_path_buf(),
        });
    }
    let parent = parent_of(dir);
    // If the parent is the directory itself, a root is missing; the system's error explains it.
    if parent != dir {
        create_missing(&parent, made)?;
    }
    match disk::create_dir(dir) {
        Ok(()) => made.push(dir.to_path_buf()),
        // Another process may have created it since the check.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && disk::is_dir(dir) => {}
        Err(source) => return Err(Error::io("create directory", dir, source)),
    }
    if is_broken("create-dir-fsync") {
        return Ok(());
    }
    fsync_dir(&parent)
}

/// Removes a directory so that it is never partly visible under its name: it is renamed, the new name made durable, and only then
/// emptied. [`remove_temporaries`] removes what a crash leaves. A missing directory is fine.
///
/// # Errors
///
/// [`Error::Io`].
pub fn retire_dir(dir: &Path) -> Result<()> {
    if !exists(dir) {
        return Ok(());
    }
    let (temporary, ()) = create_next_to(dir, |temporary| match disk::kind(temporary) {
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => disk::rename(dir, temporary),
        Err(error) => Err(error),
    })?;
    if !is_broken("retire-fsync") {
        fsync_dir(&parent_of(dir))?;
    }
    remove_dir_all(&temporary)
}

/// Renames a directory to `<name>.<word>`, or `<name>.<word>-2` and so on, for manual inspection; returns the new path.
///
/// # Errors
///
/// [`Error::NotFound`] or [`Error::Io`].
pub fn set_aside(dir: &Path, word: &str) -> Result<PathBuf> {
    let place = |number: u64| {
        let mut path = dir.as_os_str().to_owned();
        path.push(format!(".{word}"));
        if number > 1 {
            path.push(format!("-{number}"));
        }
        PathBuf::from(path)
    };
    let aside = (1..).map(place).find(|path| !exists(path)).unwrap_or_else(|| place(1));
    disk::rename(dir, &aside).map_err(|source| Error::io("set aside", dir, source))?;
    fsync_dir(&parent_of(dir))?;
    Ok(aside)
}

/// Makes the content of a file durable after it was written through another handle.
///
/// # Errors
///
/// [`Error::NotFound`] or [`Error::Io`].
pub fn sync_file(path: &Path) -> Result<()> {
    disk::fsync(path).map_err(|source| Error::io("sync", path, source))
}

/// Makes the entries of a directory durable.
///
/// # Errors
///
/// [`Error::NotFound`] or [`Error::Io`].
pub fn sync_dir(dir: &Path) -> Result<()> {
    fsync_dir(dir)
}

/// Removes a directory if it is empty, and returns whether it no longer exists.
///
/// # Errors
///
/// [`Error::Io`].
pub fn remove_dir_if_empty(dir: &Path) -> Result<bool> {
    match disk::remove_dir(dir) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
        Err(source) => Err(Error::io("remove", dir, source)),
    }
}

/// Removes a directory and everything in it; links are removed, not followed. A missing directory is fine.
///
/// # Errors
///
/// [`Error::Io`].
pub fn remove_dir_all(dir: &Path) -> Result<()> {
    match disk::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(|source| Error::io("remove", dir, source)),
    }
}

/// Removes a file or a link; a missing file is fine.
///
/// # Errors
///
/// [`Error::Io`].
pub fn remove_file(path: &Path) -> Result<()> {
    match disk::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(|source| Error::io("remove", path, source)),
    }
}

/// Removes what an interrupted [`AtomicFile`](crate::AtomicFile) or [`AtomicDir`](crate::AtomicDir) left directly in `dir`, and
/// returns their number.
///
/// Call it under the directory's [`RunLock`](crate::RunLock): it cannot distinguish leftovers from another process's work in
/// progress. For a missing directory the number is 0.
///
/// # Errors
///
/// [`Error::Io`].
pub fn remove_temporaries(dir: &Path) -> Result<usize> {
    let found = temporaries(dir)?;
    for path in &found {
        remove_any(path)?;
    }
    Ok(found.len())
}

/// Removes a file or directory.
pub(crate) fn remove_any(path: &Path) -> Result<()> {
    match disk::kind(path) {
        Ok(Kind::Dir) => remove_dir_all(path),
        Ok(_) => remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(Error::io("remove", path, source)),
    }
}

/// The paths of a directory's entries.
pub(crate) fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    disk::entries(dir).map_err(|source| Error::io("list", dir, source))
}

/// The last component as text.
pub(crate) fn utf8_name(path: &Path) -> Result<&str> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.ok_or_else(|| Error::UnsafePath {
        path: path.to_path_buf(),
        detail: "the file name is not UTF-8; rename the file".to_owned(),
    })
}

/// The directory that holds the path's last component; `.` for a bare name.
pub(crate) fn parent_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
        Some(parent) => parent.to_path_buf(),
        None => path.to_path_buf(),
    }
}

/// Makes the entries of a directory durable.
pub(crate) fn fsync_dir(dir: &Path) -> Result<()> {
    disk::fsync_dir(dir).map_err(|source| Error::io("sync directory", dir, source))
}
