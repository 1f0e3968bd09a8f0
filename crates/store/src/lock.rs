//! One process per directory.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::layout::LOCK_NAME;
use crate::mutants::is_broken;
use crate::{Error, Result, disk};

/// The exclusive lock of a directory, held until this value is dropped or the process ends.
///
/// The lock is the operating system's advisory lock on `.lock` in the directory, so the kernel frees it after `kill -9`. The file
/// contains the holder's process id and is kept when the lock is released. On a network file system without working locks it does
/// not protect.
#[derive(Debug)]
pub struct RunLock {
    // Closing the file releases the lock.
    _file: disk::File,
    dir: PathBuf,
}

impl RunLock {
    /// Takes the lock of an existing directory without waiting. A failure changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] naming the holder, [`Error::NotFound`] without the directory, or [`Error::Io`].
    pub fn acquire(dir: &Path) -> Result<Self> {
        // A holder may remove the file on release: a process that opened it before then locks a file without a name.
        loop {
            let lock = Self::acquire_once(dir)?;
            if lock.is_named() {
                return Ok(lock);
            }
        }
    }

    fn acquire_once(dir: &Path) -> Result<Self> {
        let path = dir.join(LOCK_NAME);
        let io_error = |source| Error::io("lock", &path, source);
        let mut file = disk::open_update(&path).map_err(io_error)?;
        if !is_broken("lock") && !file.try_lock().map_err(io_error)? {
            return Err(Error::Locked {
                path: dir.to_path_buf(),
                holder: holder(&mut file),
            });
        }
        let process_id = format!("{}\n", std::process::id());
        file.set_len(0).map_err(io_error)?;
        file.seek(SeekFrom::Start(0)).map_err(io_error)?;
        file.write_all(process_id.as_bytes()).map_err(io_error)?;
        Ok(Self {
            _file: file,
            dir: dir.to_path_buf(),
        })
    }

    /// Whether the locked file is the one at the lock's path. Windows does not remove open files, and its lock forbids reading.
    fn is_named(&self) -> bool {
        let own = format!("{}\n", std::process::id());
        cfg!(windows)
            || match crate::read(&self.dir.join(LOCK_NAME), 32) {
                Ok(found) => found == own.as_bytes(),
                Err(error) => !matches!(error, Error::NotFound { .. }),
            }
    }

    /// Takes the lock of a directory that was locked before, without writing to its lock file, whose time says when it was last locked
    /// by [`acquire`](Self::acquire).
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] without a lock file, [`Error::Locked`], or [`Error::Io`].
    pub fn acquire_unmarked(dir: &Path) -> Result<Self> {
        let path = dir.join(LOCK_NAME);
        if !crate::exists(&path) {
            return Err(Error::NotFound { path });
        }
        let io_error = |source| Error::io("lock", &path, source);
        let mut file = disk::open_update(&path).map_err(io_error)?;
        match file.try_lock().map_err(io_error)? {
            true => Ok(Self {
                _file: file,
                dir: dir.to_path_buf(),
            }),
            false => Err(Error::Locked {
                path: dir.to_path_buf(),
                holder: holder(&mut file),
            }),
        }
    }

    /// Whether a process holds the lock of a directory. The directory and its lock file are left as they are.
    pub fn is_held(dir: &Path) -> bool {
        let written = crate::read(&dir.join(LOCK_NAME), 32).unwrap_or_default();
        let process_id = std::str::from_utf8(&written).ok().and_then(|id| id.trim().parse().ok());
        // Asking takes the lock for a moment, so it is not asked where the holder is known to have ended.
        if process_id.is_some_and(crate::atomic::is_gone) {
            return false;
        }
        matches!(Self::acquire_unmarked(dir), Err(Error::Locked { .. }))
    }

    /// Removes the lock file, for a directory in which nothing was started.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn remove(self) -> Result<()> {
        // While it is held, so that another process's lock is not removed.
        crate::remove_file(&self.dir.join(LOCK_NAME))
    }

    /// The directory that is locked.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// The holder of the lock, for messages. It may not have written its id yet, and on Windows its lock forbids reading.
fn holder(file: &mut disk::File) -> String {
    let mut text = String::new();
    let is_read = file.take(32).read_to_string(&mut text).is_ok();
    match text.trim().parse::<u32>() {
        Ok(process_id) if is_read => format!("process {process_id}"),
        _ => "another process".to_owned(),
    }
}
