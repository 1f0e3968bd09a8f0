//! What can go wrong with files, each error with its path and a way out.

use std::io;
use std::path::{Path, PathBuf};

use crate::space;

/// A shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What an error means to the person or script that started the program; `taal` maps each kind to one exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// A wrong argument, recipe or path: exit code 2.
    Usage,
    /// Input that is damaged or not what it claims to be: exit code 65.
    Corrupt,
    /// The disk is full, unreadable or unwritable: exit code 74.
    Disk,
    /// Another process holds the directory: exit code 77.
    InUse,
    /// Not enough memory: exit code 71.
    Memory,
    /// A computation left the finite numbers and could not be brought back: exit code 86.
    Diverged,
}

/// An error of file access, always with the path it is about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused an operation.
    #[error("cannot {action} {}: {source}{}", path.display(), way_out(source))]
    Io {
        /// The operation, as a verb that fits after "cannot".
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// Nothing stands at the path.
    #[error("{}: no such file or directory; {}", path.display(), advice_on(path))]
    NotFound {
        /// The path that was asked for.
        path: PathBuf,
    },
    /// A file was expected, and something else stands there.
    #[error("{} is not a file; name a file", path.display())]
    NotAFile {
        /// The path that was asked for.
        path: PathBuf,
    },
    /// Something stands where a new thing was to be made, and replacing it could lose data.
    #[error("{} already exists; choose another name or remove it first", path.display())]
    AlreadyExists {
        /// The occupied path.
        path: PathBuf,
    },
    /// A named pipe, a device or a socket, whose content may never come or never end.
    #[error("{} is {what}, not a file; write its content to a file and name that, or use standard input where - is read", path.display())]
    Stream {
        /// The path that was asked for.
        path: PathBuf,
        /// What it is, with its article.
        what: &'static str,
    },
    /// A text with a NUL byte, which no text has.
    #[error("{} is a binary file (byte {offset} is NUL); give plain text", path.display())]
    Binary {
        /// The file.
        path: PathBuf,
        /// The position of the NUL byte, counted from 0.
        offset: u64,
    },
    /// A line that is longer than its reader accepts.
    #[error("{}, line {line}: longer than {limit_bytes} bytes; is it the right file?", path.display())]
    LongLine {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// The reader's limit.
        limit_bytes: u64,
    },
    /// A text file is not UTF-8.
    #[error("{}: not UTF-8 text: invalid byte at offset {offset}; convert the file to UTF-8, for example with iconv", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Offset of the first byte that is not part of valid UTF-8, in bytes from the start.
        offset: u64,
    },
    /// A file is larger than its reader accepts.
    #[error("{}: at least {actual_bytes} bytes, but at most {limit_bytes} are accepted here; is it the right file?", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The reader's limit.
        limit_bytes: u64,
        /// The size found; a lower bound when the file does not know its own size (a pipe).
        actual_bytes: u64,
    },
    /// Content that is damaged or does not match its description.
    #[error("{}: {detail}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong, what was expected and what to do.
        detail: String,
    },
    /// Another process holds the lock of a directory.
    #[error("{} is in use by {holder}; wait for it, stop it, or choose another directory", path.display())]
    Locked {
        /// The locked directory.
        path: PathBuf,
        /// The holder in words, with its process id where it is known.
        holder: String,
    },
    /// The disk is full.
    #[error("{}: no space left: {}; free some space or choose another disk", path.display(), space_words(*needed_bytes, *free_bytes))]
    NoSpace {
        /// The file or directory that did not fit.
        path: PathBuf,
        /// A lower bound of what it needs; 0 where nothing is known of it.
        needed_bytes: u64,
        /// What the file system reported as free for this user.
        free_bytes: u64,
    },
    /// A relative path that could lead outside its directory, or cannot be written down portably.
    #[error("unsafe path {:?}: {detail}", path)]
    UnsafePath {
        /// The path as it was found.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
}

impl Error {
    /// Wraps an error of the operating system; a missing file and a full disk become [`Error::NotFound`] and [`Error::NoSpace`].
    ///
    /// `action` is a verb that fits after "cannot", such as `"read"`.
    pub fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::io_sized(action, path, 0, source)
    }

    /// Like [`Error::io`] for a write of a known size, which a full disk's message then tells.
    pub(crate) fn io_sized(action: &'static str, path: &Path, needed_bytes: u64, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { path },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                // A quota leaves space on the disk that is not ours, and the report itself must not fail.
                let free_bytes = space::free_space_bytes(&path).unwrap_or(0);
                Self::NoSpace {
                    path,
                    needed_bytes,
                    free_bytes,
                }
            }
            _ => Self::Io { action, path, source },
        }
    }

    /// A [`Error::Corrupt`] in fewer words.
    pub(crate) fn corrupt(path: &Path, detail: impl Into<String>) -> Self {
        Self::Corrupt {
            path: path.to_path_buf(),
            detail: detail.into(),
        }
    }

    /// What this error means to the caller of the program.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } => kind_of_io(source),
            Self::NoSpace { .. } => ErrorKind::Disk,
            Self::NotFound { .. } | Self::NotAFile { .. } | Self::Stream { .. } | Self::AlreadyExists { .. } => {
                ErrorKind::Usage
            }
            Self::NotUtf8 { .. }
            | Self::Binary { .. }
            | Self::LongLine { .. }
            | Self::TooLarge { .. }
            | Self::Corrupt { .. }
            | Self::UnsafePath { .. } => ErrorKind::Corrupt,
            Self::Locked { .. } => ErrorKind::InUse,
        }
    }

    /// The file or directory the error is about.
    pub fn path(&self) -> &Path {
        match self {
            Self::Io { path, .. }
            | Self::NotFound { path }
            | Self::NotAFile { path }
            | Self::AlreadyExists { path }
            | Self::NotUtf8 { path, .. }
            | Self::Stream { path, .. }
            | Self::Binary { path, .. }
            | Self::LongLine { path, .. }
            | Self::TooLarge { path, .. }
            | Self::Corrupt { path, .. }
            | Self::Locked { path, .. }
            | Self::NoSpace { path, .. }
            | Self::UnsafePath { path, .. } => path,
        }
    }
}

/// Whose fault it is that the operating system refused an operation: a disk that fails is not the user's, a path that may not be used,
/// or leads nowhere, is.
pub fn kind_of_io(source: &io::Error) -> ErrorKind {
    match source.kind() {
        io::ErrorKind::OutOfMemory => ErrorKind::Memory,
        io::ErrorKind::PermissionDenied
        | io::ErrorKind::NotFound
        | io::ErrorKind::AlreadyExists
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::DirectoryNotEmpty
        | io::ErrorKind::InvalidInput
        | io::ErrorKind::InvalidFilename
        | io::ErrorKind::ResourceBusy => ErrorKind::Usage,
        _ if is_link_loop(source) => ErrorKind::Usage,
        _ => ErrorKind::Disk,
    }
}

/// Links that lead to one another; the standard library's own kind for it is not stable.
fn is_link_loop(source: &io::Error) -> bool {
    const LINUX: i32 = 40;
    const BSD: i32 = 62;
    let code = if cfg!(target_os = "linux") { LINUX } else { BSD };
    cfg!(unix) && source.raw_os_error() == Some(code)
}

/// What to do about an error of the operating system, where that is known.
fn way_out(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => "; check the permissions, or choose another place",
        io::ErrorKind::ReadOnlyFilesystem => "; choose a place that can be written to",
        _ if is_link_loop(source) => "; the links lead to one another: name the file itself",
        _ => "",
    }
}

/// What a full disk's message says of its two figures: a figure that nobody knows is left out.
fn space_words(needed_bytes: u64, free_bytes: u64) -> String {
    match (needed_bytes, free_bytes) {
        (0, 0) => "the disk is full".to_owned(),
        (0, free) => format!("{free} bytes free, but the system allows no more files or bytes here"),
        (needed, free) => format!("at least {needed} bytes needed, {free} bytes free"),
    }
}

/// What to do about a path that leads nowhere: shells replace some characters, and a recipe is not read by a shell.
fn advice_on(path: &Path) -> &'static str {
    let text = path.to_string_lossy();
    if text == "-" {
        return "standard input is not read in this place; name a file";
    }
    if text.starts_with('~') {
        return "~ means your home folder to a shell only; write the whole path";
    }
    if text.contains(['*', '?', '[']) {
        return "patterns such as * are replaced by a shell only; name the folder, or each file";
    }
    if text.contains('$') {
        return "variables such as $HOME are replaced by a shell only; write the whole path";
    }
    "check the path"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_35_a_full_disk_says_no_figure_that_is_not_known() {
        let words = |needed_bytes, free_bytes| {
            Error::NoSpace {
                path: PathBuf::from("run"),
                needed_bytes,
                free_bytes,
            }
            .to_string()
        };
        assert!(!words(0, 0).contains(" 0 bytes"), "{}", words(0, 0));
        assert!(words(0, 512).contains("512 bytes free"));
        assert!(words(900, 0).contains("at least 900 bytes needed, 0 bytes free"));
    }

    #[test]
    fn report_21_only_a_failing_disk_is_the_disks_fault() {
        let kind = |kind: io::ErrorKind| Error::io("open", Path::new("a"), kind.into()).kind();
        for usage in [
            io::ErrorKind::PermissionDenied,
            io::ErrorKind::NotADirectory,
            io::ErrorKind::NotFound,
        ] {
            assert_eq!(kind(usage), ErrorKind::Usage, "{usage}");
        }
        for disk in [
            io::ErrorKind::StorageFull,
            io::ErrorKind::ReadOnlyFilesystem,
            io::ErrorKind::TimedOut,
        ] {
            assert_eq!(kind(disk), ErrorKind::Disk, "{disk}");
        }
        assert_eq!(kind(io::ErrorKind::OutOfMemory), ErrorKind::Memory);
    }
}
