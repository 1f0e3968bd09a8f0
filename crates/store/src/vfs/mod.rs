//! The one place where files are touched: a small trait, each operation about one system call wide.
//!
//! Everything else in this crate is written in terms of [`Vfs`], and everything else in the product in terms of this crate. So a
//! file system that fails on purpose can stand in for the real one and end a save between any two operations, as SQLite does it
//! with its own VFS (`test6.c`): see [`FaultVfs`](crate::FaultVfs), behind the feature `faults`.

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

/// What stands at a path; a symbolic link is not followed.
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
    /// Mapped from the disk; memmap2 gives an empty slice for an empty file.
    Mapped(memmap2::Mmap),
    /// A copy, from a file system that is no disk.
    Copied(Vec<u8>),
}

impl Pages {
    /// Gives the memory of the mapped pages that `range` touches back to the system; they are read from the disk again where they are
    /// looked at again.
    #[allow(unsafe_code)]
    pub fn let_go(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Self::Mapped(map) = self
            && range.start < range.end
            && range.end <= map.len()
        {
            // SAFETY: the range is not empty and lies inside the map. The map is shared with its file and was never written to, so
            // a page that is dropped comes back with the same bytes.
            let advised =
                unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len()) };
            // Where the system refuses, the memory stays taken, and nothing else is different.
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
    /// Cuts or extends the file.
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
/// What was written is durable after [`VfsFile::fsync`] of the file, what was named after [`Vfs::fsync_dir`] of the directory that
/// holds the name: as POSIX has it, and no more.
pub trait Vfs: Send + Sync + Debug {
    /// Opens a file for reading.
    fn open(&self, path: &Path) -> io::Result<Box<dyn VfsFile>>;
    /// Creates a file that must not exist yet and opens it for writing.
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn VfsFile>>;
    /// Opens a file for reading and writing, creates it where it is missing and leaves its content alone.
    fn open_update(&self, path: &Path) -> io::Result<Box<dyn VfsFile>>;
    /// Makes a file that was written earlier durable.
    fn fsync(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable; without effect where the system has no such operation.
    fn fsync_dir(&self, path: &Path) -> io::Result<()>;
    /// Renames a file or a directory; a file that stands at `to` is replaced in one step.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file or a symbolic link.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and everything in it, without following links.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory that has nothing in it.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// When the file that the path leads to was last written, links followed; not every file system knows.
    fn modified(&self, _path: &Path) -> io::Result<SystemTime> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Creates one directory; its parent must exist.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// What stands at the path itself.
    fn kind(&self, path: &Path) -> io::Result<Kind>;
    /// Whether the path leads to a directory, links followed.
    fn is_dir(&self, path: &Path) -> bool;
    /// What the path leads to, links followed, where its content may never come or never end: a named pipe, a device, a socket. A pipe
    /// that this process was started with, such as a shell's `<(...)`, is none: it has a writer, and its name is a number.
    fn stream_kind(&self, path: &Path) -> Option<&'static str> {
        let _ = path;
        None
    }
    /// The size of the file the path leads to, links followed.
    fn size_bytes(&self, path: &Path) -> io::Result<u64>;
    /// The paths of a directory's entries, in the file system's order.
    fn entries(&self, path: &Path) -> io::Result<Vec<PathBuf>>;
    /// The absolute path with all links resolved.
    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf>;
    /// Makes a symbolic link at `link` whose text is `target`.
    fn symlink_dir(&self, target: &Path, link: &Path) -> io::Result<()>;
    /// The bytes this user may still write to the file system that holds the path.
    fn available_bytes(&self, path: &Path) -> io::Result<u64>;
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<dyn Vfs>>> = const { RefCell::new(None) };
}

/// The file system that this thread uses: to be handed to a thread that it starts, with [`with_vfs`].
///
/// `None` is the real one.
pub fn current_vfs() -> Option<Arc<dyn Vfs>> {
    CURRENT.with_borrow(Clone::clone)
}

/// Runs `work` with every file operation of this thread going to `vfs`; `None` is the real file system.
pub fn with_vfs<T>(vfs: Option<Arc<dyn Vfs>>, work: impl FnOnce() -> T) -> T {
    /// Puts the earlier one back, also when `work` panics.
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
