//! The only code that accesses files: a small trait, each operation about one system call.
//!
//! Everything else in this crate is written in terms of [`Vfs`], and everything else in Taal in terms of this crate. So a file
//! system that fails on purpose can replace the real one and interrupt a save between any two operations, as in SQLite's VFS
//! tests (`test6.c`): see [`FaultVfs`](crate::FaultVfs), with the feature `faults`.

#[cfg(feature = "faults")]
pub(crate) mod faulty;
mod real;

use std::cell::RefCell;
use std::fmt::Debug;
use std::io::{self, Read, Seek, Write};
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use real::RealVfs;

/// The kind of a path; symbolic links are not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Link,
    /// A device, a pipe, a socket.
    Other,
}

/// A file's bytes in memory.
#[derive(Debug)]
pub enum Pages {
    /// Memory-mapped; memmap2 gives an empty slice for an empty file.
    Mapped(memmap2::Mmap),
    /// A copy, from a file system in memory.
    Copied(Vec<u8>),
}

impl Pages {
    /// Returns the memory of the mapped pages in `range` to the system; they are read from the disk again on the next access.
    #[allow(unsafe_code)]
    pub fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Self::Mapped(map) = self
            && range.start < range.end
            && range.end <= map.len()
        {
            // SAFETY: the range is not empty and is inside the map. The map is shared with its file and was never written to, so
            // a dropped page is read again with the same bytes.
            let advised =
                unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len()) };
            // If the system refuses, the memory stays in use, with no other effect.
            let _ = advised;
        }
        #[cfg(not(unix))]
        let _ = range;
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Copied(bytes) => bytes,
        }
    }
}

/// An open file.
pub trait VfsFile: Read + Write + Seek + Send + Debug {
    /// Makes the content written so far durable.
    fn fsync(&self) -> io::Result<()>;
    /// Truncates or extends the file.
    fn set_len(&self, length_bytes: u64) -> io::Result<()>;
    /// The file's size; 0 for pipes and the like.
    fn size_bytes(&self) -> io::Result<u64>;
    /// Takes the exclusive advisory lock without waiting, until the file is closed; false when another open file holds it.
    fn try_lock(&self) -> io::Result<bool>;
    /// The whole file for reading.
    fn map(&self) -> io::Result<Pages>;
}

/// A file system.
///
/// Content is durable after [`VfsFile::fsync`] of the file, names after [`Vfs::fsync_dir`] of their directory: exactly the
/// guarantees of POSIX.
pub trait Vfs: Send + Sync + Debug {
    /// Opens a file for reading.
    fn open(&self, path: &Path) -> io::Result<Box<dyn VfsFile>>;
    /// Creates a file that must not exist yet and opens it for writing.
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn VfsFile>>;
    /// Opens a file for reading and writing, creates it if missing and keeps its content.
    fn open_update(&self, path: &Path) -> io::Result<Box<dyn VfsFile>>;
    /// Makes an already written file durable.
    fn fsync(&self, path: &Path) -> io::Result<()>;
    /// Makes the entries of a directory durable; without effect where the system has no such operation.
    fn fsync_dir(&self, path: &Path) -> io::Result<()>;
    /// Renames a file or a directory; a file at `to` is replaced atomically.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file or a symbolic link.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and everything in it, without following links.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// When the file at the path was last modified, following links; not every file system knows.
    fn modified(&self, _path: &Path) -> io::Result<SystemTime> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Creates one directory; its parent must exist.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// The kind of the path itself.
    fn kind(&self, path: &Path) -> io::Result<Kind>;
    /// Whether the path is a directory, following links.
    fn is_dir(&self, path: &Path) -> bool;
    /// The kind of a stream at the path, following links, whose content may never come or never end: a named pipe, a device, a socket.
    /// `None` for pipes that this process was started with, such as a shell's `<(...)`, which have a writer and a number as name.
    fn stream_kind(&self, path: &Path) -> Option<&'static str> {
        let _ = path;
        None
    }
    /// The size of the file at the path, following links.
    fn size_bytes(&self, path: &Path) -> io::Result<u64>;
    /// The paths of a directory's entries, in the file system's order.
    fn entries(&self, path: &Path) -> io::Result<Vec<PathBuf>>;
    /// The absolute path with all links resolved.
    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf>;
    /// Creates a symbolic link at `link` with the target `target`.
    fn symlink_dir(&self, target: &Path, link: &Path) -> io::Result<()>;
    /// The free bytes for this user on the file system of the path.
    fn available_bytes(&self, path: &Path) -> io::Result<u64>;
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<dyn Vfs>>> = const { RefCell::new(None) };
}

/// The file system of this thread, to be passed to threads that it starts, with [`with_vfs`].
///
/// `None` is the real one.
pub fn current_vfs() -> Option<Arc<dyn Vfs>> {
    CURRENT.with_borrow(Clone::clone)
}

/// Runs `work` with all file operations of this thread on `vfs`; `None` is the real file system.
pub fn with_vfs<T>(vfs: Option<Arc<dyn Vfs>>, work: impl FnOnce() -> T) -> T {
    /// Restores the previous one, even when `work` panics.
    struct Restore(Option<Arc<dyn Vfs>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.set(self.0.take());
        }
    }
    let _restore = Restore(CURRENT.replace(vfs));
    work()
}

/// The file system of this thread, for one operation.
pub(crate) fn on_disk<T>(operation: impl FnOnce(&dyn Vfs) -> T) -> T {
    match current_vfs() {
        Some(vfs) => operation(vfs.as_ref()),
        None => operation(&RealVfs),
    }
}
