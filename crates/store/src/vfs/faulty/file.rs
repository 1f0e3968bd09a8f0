//! An open file of the file system in memory.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::{FaultVfs, Verdict, crashed};
use crate::vfs::{Pages, VfsFile};

/// An open file: a position in a node.
#[derive(Debug)]
struct FaultFile {
    vfs: FaultVfs,
    id: usize,
    position: u64,
    is_lock_holder: std::sync::atomic::AtomicBool,
    path: PathBuf,
}

impl FaultVfs {
    pub(super) fn opened(&self, id: usize, path: &Path) -> Box<dyn VfsFile> {
        Box::new(FaultFile {
            vfs: self.clone(),
            id,
            position: 0,
            is_lock_holder: false.into(),
            path: path.to_owned(),
        })
    }
}

impl Drop for FaultFile {
    fn drop(&mut self) {
        if self.is_lock_holder.load(std::sync::atomic::Ordering::SeqCst) {
            self.vfs.lock().locked.remove(&self.id);
        }
    }
}

impl Read for FaultFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.vfs.lock();
        if state.is_crashed {
            return Err(crashed());
        }
        let (seen, _) = state.file(self.id)?;
        let start = seen.len().min(self.position as usize);
        let count = buffer.len().min(seen.len() - start);
        buffer[..count].copy_from_slice(&seen[start..start + count]);
        self.position += count as u64;
        Ok(count)
    }
}

impl Write for FaultFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.vfs.lock();
        let words = || format!("write {} bytes to {}", bytes.len(), self.path.display());
        let count = match state.operate(words)? {
            Verdict::Go => bytes.len(),
            Verdict::Half => bytes.len() / 2,
        };
        let (seen, _) = state.file(self.id)?;
        let (start, end) = (self.position as usize, self.position as usize + count);
        if seen.len() < end {
            seen.resize(end, 0);
        }
        seen[start..end].copy_from_slice(&bytes[..count]);
        if state.is_crashed {
            return Err(crashed());
        }
        self.position += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for FaultFile {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        let end = self.size_bytes()?;
        let target = match position {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => end.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

impl VfsFile for FaultFile {
    fn fsync(&self) -> io::Result<()> {
        let mut state = self.vfs.lock();
        state.act(|| format!("fsync {}", self.path.display()))?;
        let (seen, durable) = state.file(self.id)?;
        durable.clone_from(seen);
        Ok(())
    }

    fn set_len(&self, length_bytes: u64) -> io::Result<()> {
        let mut state = self.vfs.lock();
        state.act(|| format!("cut {} to {length_bytes} bytes", self.path.display()))?;
        state.file(self.id)?.0.resize(length_bytes as usize, 0);
        Ok(())
    }

    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.vfs.lock().file(self.id)?.0.len() as u64)
    }

    fn try_lock(&self) -> io::Result<bool> {
        let mut state = self.vfs.lock();
        if state.is_crashed {
            return Err(crashed());
        }
        let is_free = state.locked.insert(self.id);
        self.is_lock_holder
            .fetch_or(is_free, std::sync::atomic::Ordering::SeqCst);
        Ok(is_free)
    }

    fn map(&self) -> io::Result<Pages> {
        Ok(Pages::Copied(self.vfs.lock().file(self.id)?.0.clone()))
    }
}
