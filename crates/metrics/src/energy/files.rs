//! Where sensors are read: the kernel's files, or ones made for a test.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// `/proc/stat` has a line per processor and one with a number per interrupt.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Why a sensor gave no number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadError {
    /// It is not there.
    Missing,
    /// This user may not read it.
    Denied,
    /// Anything else, in the system's words.
    Failed(String),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("not there"),
            Self::Denied => f.write_str("no permission"),
            Self::Failed(reason) => f.write_str(reason),
        }
    }
}

/// Small files with one figure or a few. Paths are relative and begin with `sys` or `proc`.
pub trait SensorFiles: Send {
    /// The text of a file.
    ///
    /// # Errors
    ///
    /// Why there is none.
    fn read(&self, path: &str) -> Result<String, ReadError>;

    /// The names in a directory in order; none if it cannot be read.
    fn list(&self, path: &str) -> Vec<String>;

    /// The number in a file.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read), or that it is not a number.
    fn number(&self, path: &str) -> Result<u64, ReadError> {
        let text = self.read(path)?;
        let number = text.trim().parse();
        number.map_err(|_| ReadError::Failed(format!("not a number: {}", taal_store::excerpt(text.trim()))))
    }
}

/// The files of the running kernel.
#[derive(Debug, Clone)]
pub struct KernelFiles {
    sys: PathBuf,
    proc: PathBuf,
}

impl Default for KernelFiles {
    fn default() -> Self {
        Self::with_sys(Path::new("/sys"))
    }
}

impl KernelFiles {
    /// With the directory that takes the place of `/sys`: in a container the host's may be mounted elsewhere.
    pub fn with_sys(sys: &Path) -> Self {
        Self {
            sys: sys.to_path_buf(),
            proc: PathBuf::from("/proc"),
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        match path.split_once('/') {
            Some(("sys", rest)) => self.sys.join(rest),
            Some(("proc", rest)) => self.proc.join(rest),
            _ => PathBuf::from(path),
        }
    }
}

impl SensorFiles for KernelFiles {
    fn read(&self, path: &str) -> Result<String, ReadError> {
        if !cfg!(target_os = "linux") {
            return Err(ReadError::Missing);
        }
        taal_store::read_text(&self.path(path), MAX_FILE_BYTES).map_err(|error| match &error {
            taal_store::Error::NotFound { .. } => ReadError::Missing,
            taal_store::Error::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                ReadError::Denied
            }
            taal_store::Error::Io { source, .. } => ReadError::Failed(source.to_string()),
            other => ReadError::Failed(other.to_string()),
        })
    }

    fn list(&self, path: &str) -> Vec<String> {
        if !cfg!(target_os = "linux") {
            return Vec::new();
        }
        taal_store::list_dir(&self.path(path)).unwrap_or_default()
    }
}
