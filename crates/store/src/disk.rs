//! The only module that touches the file system: small operations, each one system call wide.
//!
//! Everything else in this crate is written in terms of these, so a file system that fails on purpose can stand in for the
//! real one and crash a save between any two of them.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// What stands at a path; a symbolic link is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Dir,
    Link,
    Other,
}

/// A file's bytes in memory; memmap2 gives an empty slice for an empty file.
pub(crate) type Pages = memmap2::Mmap;

/// An open file.
#[derive(Debug)]
pub(crate) struct File(fs::File);

impl File {
    /// Makes the content written so far durable.
    pub(crate) fn fsync(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    /// Cuts or extends the file.
    pub(crate) fn set_len(&self, length_bytes: u64) -> io::Result<()> {
        self.0.set_len(length_bytes)
    }

    /// The file's size; 0 for pipes and the like.
    pub(crate) fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    /// Takes the exclusive advisory lock without waiting; false when another open file holds it.
    pub(crate) fn try_lock(&self) -> io::Result<bool> {
        match self.0.try_lock() {
            Ok(()) => Ok(true),
            Err(fs::TryLockError::WouldBlock) => Ok(false),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// Maps the whole file for reading.
    #[allow(unsafe_code)]
    pub(crate) fn map(&self) -> io::Result<Pages> {
        // SAFETY: the map is read-only and private to this process. Its bytes could still change if someone else wrote to the
        // file in place; this crate never does that (files are replaced by rename), and `Map` documents it for its users.
        unsafe { Pages::map(&self.0) }
    }
}

impl Read for File {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Seek for File {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.0.seek(position)
    }
}

/// Opens a file for reading.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    fs::File::open(path).map(File)
}

/// Creates a file that must not exist yet and opens it for writing.
pub(crate) fn create_new(path: &Path) -> io::Result<File> {
    fs::File::create_new(path).map(File)
}

/// Opens a file for reading and writing, creates it where it is missing and leaves its content alone.
pub(crate) fn open_update(path: &Path) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map(File)
}

/// Makes a file that was written earlier durable.
pub(crate) fn fsync(path: &Path) -> io::Result<()> {
    // Windows flushes only handles that may write; elsewhere a read-only handle does, also for read-only files.
    let file = fs::OpenOptions::new().read(true).write(cfg!(windows)).open(path)?;
    file.sync_all()
}

/// Makes the names in a directory durable; without effect where the system has no such operation.
pub(crate) fn fsync_dir(path: &Path) -> io::Result<()> {
    if cfg!(windows) {
        return Ok(());
    }
    match fs::File::open(path)?.sync_all() {
        // Some file systems (FUSE, network) refuse to sync a directory; they offer no stronger promise to ask for.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        other => other,
    }
}

/// Renames a file or a directory; a file that stands at `to` is replaced in one step.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)
}

/// Removes a file or a symbolic link.
pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        // On Windows a link to a directory is removed like a directory.
        Err(_) if cfg!(windows) && kind(path)? == Kind::Link => fs::remove_dir(path),
        other => other,
    }
}

/// Removes a directory and everything in it, without following links.
pub(crate) fn remove_dir_all(path: &Path) -> io::Result<()> {
    fs::remove_dir_all(path)
}

/// Creates one directory; its parent must exist.
pub(crate) fn create_dir(path: &Path) -> io::Result<()> {
    fs::create_dir(path)
}

/// What stands at the path itself.
pub(crate) fn kind(path: &Path) -> io::Result<Kind> {
    let file_type = fs::symlink_metadata(path)?.file_type();
    Ok(if file_type.is_symlink() {
        Kind::Link
    } else if file_type.is_dir() {
        Kind::Dir
    } else if file_type.is_file() {
        Kind::File
    } else {
        Kind::Other
    })
}

/// Whether the path leads to a directory, links followed.
pub(crate) fn is_dir(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

/// The size of the file the path leads to, links followed.
pub(crate) fn size_bytes(path: &Path) -> io::Result<u64> {
    Ok(fs::metadata(path)?.len())
}

/// The paths of a directory's entries, in the file system's order.
pub(crate) fn entries(path: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect()
}

/// The absolute path with all links resolved.
pub(crate) fn canonicalize(path: &Path) -> io::Result<PathBuf> {
    fs::canonicalize(path)
}

/// Makes a symbolic link at `link` whose text is `target`.
pub(crate) fn symlink_dir(target: &Path, link: &Path) -> io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::symlink(target, link);
    #[cfg(windows)]
    return std::os::windows::fs::symlink_dir(target, link);
    #[cfg(not(any(unix, windows)))]
    {
        let _ = (target, link);
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The bytes this user may still write to the file system that holds the path.
pub(crate) fn available_bytes(path: &Path) -> io::Result<u64> {
    fs4::available_space(path)
}
