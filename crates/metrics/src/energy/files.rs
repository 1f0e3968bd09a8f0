//! Where sensors are read: the kernel's files, or ones made for a test.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use taal_store::Reread;

/// `/proc/stat` has a line per processor and one with a number per interrupt.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Files that stay open. A machine has fewer sensors; the processes of a tree share what is left.
const MAX_OPEN_FILES: usize = 48;

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

    /// The CPU seconds of this process with the exactness of its scheduler, where the system has them: files count in ticks of 10 ms.
    fn process_cpu_s(&self) -> Option<f64> {
        None
    }

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

/// The files of the running kernel. Those that are read again stay open; a clone opens its own.
#[derive(Debug)]
pub struct KernelFiles {
    sys: PathBuf,
    proc: PathBuf,
    open: Mutex<BTreeMap<String, Reread>>,
}

impl Clone for KernelFiles {
    fn clone(&self) -> Self {
        Self {
            sys: self.sys.clone(),
            proc: self.proc.clone(),
            open: Mutex::default(),
        }
    }
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
            open: Mutex::default(),
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
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(text) = open.get_mut(path).map(|file| file.text().map(str::to_owned)) {
            match text {
                Ok(text) => return Ok(text),
                // Its process has ended, or its sensor is gone: perhaps there is another one under the same name.
                Err(_) => open.remove(path),
            };
        }
        // The training that is metered may be on a file system made for tests, and the kernel's files are not.
        let read = || -> taal_store::Result<(Reread, String)> {
            let mut file = Reread::open(&self.path(path), MAX_FILE_BYTES)?;
            let text = file.text()?.to_owned();
            Ok((file, text))
        };
        let (file, text) = taal_store::with_vfs(None, read).map_err(|error| reason(&error))?;
        if open.len() < MAX_OPEN_FILES {
            open.insert(path.to_owned(), file);
        }
        Ok(text)
    }

    fn list(&self, path: &str) -> Vec<String> {
        if !cfg!(target_os = "linux") {
            return Vec::new();
        }
        taal_store::with_vfs(None, || taal_store::list_dir(&self.path(path))).unwrap_or_default()
    }

    #[cfg(target_os = "linux")]
    fn process_cpu_s(&self) -> Option<f64> {
        use nix::time::{ClockId, clock_gettime};

        let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).ok()?;
        Some(std::time::Duration::from(time).as_secs_f64())
    }
}

fn reason(error: &taal_store::Error) -> ReadError {
    match error {
        taal_store::Error::NotFound { .. } => ReadError::Missing,
        taal_store::Error::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => ReadError::Denied,
        taal_store::Error::Io { source, .. } => ReadError::Failed(source.to_string()),
        other => ReadError::Failed(other.to_string()),
    }
}
