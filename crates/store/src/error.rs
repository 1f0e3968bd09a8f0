//! Errors of file access, with paths and advice.

use std::io;
use std::path::{Path, PathBuf};

use crate::space;

/// A shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// The kind of an error; `taal` maps each to one exit code.
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
    /// A computation diverged to numbers that are not finite: exit code 86.
    Diverged,
}

/// An error of file access, always with its path.
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
    /// The path does not exist.
    #[error("{}: no such file or directory; {}", path.display(), advice_on(path))]
    NotFound {
        /// The path.
        path: PathBuf,
    },
    /// A file was expected, and the path is something else.
    #[error("{} is not a file; name a file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The path exists already, and replacing it could lose data.
    #[error("{} already exists; choose another name or remove it first", path.display())]
    AlreadyExists {
        /// The occupied path.
        path: PathBuf,
    },
    /// A named pipe, a device or a socket, whose content may never come or never end.
    #[error("{} is {what}, not a file; write its content to a file and name that, or use standard input where - is read", path.display())]
    Stream {
        /// The path.
        path: PathBuf,
        /// What it is, with its article.
        what: &'static str,
    },
    /// A file with a NUL byte, which text does not contain.
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
        /// What is wrong, and what to do.
        detail: String,
    },
    /// Another process holds the lock of a directory.
    #[error("{} is in use by {holder}; wait for it, stop it, or choose another directory", path.display())]
    Locked {
        /// The locked directory.
        path: PathBuf,
        /// The holder, with its process id if known.
        holder: String,
    },
    /// The disk is full.
    #[error("{}: no space left: {}; free some space or choose another disk", path.display(), space_words(*needed_bytes, *free_bytes))]
    NoSpace {
        /// The file or directory that did not fit.
        path: PathBuf,
        /// A lower bound of what it needs; 0 if unknown.
        needed_bytes: u64,
        /// The free space for this user, as reported by the file system.
        free_bytes: u64,
    },
    /// A relative path that could lead outside its directory, or is not portable.
    #[error("unsafe path {:?}: {detail}", path)]
    UnsafePath {
        /// The path.
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

    /// Like [`Error::io`] for a write of a known size, which the message about a full disk includes.
    pub(crate) fn io_sized(action: &'static str, path: &Path, needed_bytes: u64, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { path },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                // The free space may exceed the user's quota, and the report itself must not fail.
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

    /// The kind of this error.
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

    /// The file or directory of the error.
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

/// The kind of an error of the operating system: a failing disk, or a wrong or forbidden path of the user.
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

/// A loop of links; the standard library's kind for it is not stable.
fn is_link_loop(source: &io::Error) -> bool {
    const LINUX: i32 = 40;
    const BSD: i32 = 62;
    let code = if cfg!(target_os = "linux") { LINUX } else { BSD };
    cfg!(unix) && source.raw_os_error() == Some(code)
}

/// Advice on an error of the operating system, if any.
fn way_out(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => "; check the permissions, or choose another directory",
        io::ErrorKind::ReadOnlyFilesystem => "; choose a directory that can be written to",
        _ if is_link_loop(source) => "; the links form a loop: name the file itself",
        _ => "",
    }
}

/// The two figures of the message about a full disk; unknown ones are left out.
fn space_words(needed_bytes: u64, free_bytes: u64) -> String {
    match (needed_bytes, free_bytes) {
        (0, 0) => "the disk is full".to_owned(),
        (0, free) => format!("{free} bytes free, but the system allows no more files or bytes here"),
        (needed, free) => format!("at least {needed} bytes needed, {free} bytes free"),
    }
}

/// Advice on a missing path: shells replace some characters, but recipes are not read by a shell.
fn advice_on(path: &Path) -> &'static str {
    let text = path.to_string_lossy();
    if text == "-" {
        return "standard input is not read here; name a file";
    }
    if text.starts_with('~') {
        return "only a shell replaces ~ by your home folder; write the whole path";
    }
    if text.contains(['*', '?', '[']) {
        return "only a shell expands patterns such as *; name the folder, or each file";
    }
    if text.contains('$') {
        return "only a shell expands variables such as $HOME; write the whole path";
    }
    "check the path"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_35_a_full_disk_reports_only_known_figures() {
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
    fn report_21_only_a_failing_disk_is_a_disk_error() {
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
