//! The operating system's file system.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Kind, Pages, Vfs, VfsFile};

/// The operating system's file system.
#[derive(Debug, Clone, Copy)]
pub(super) struct RealVfs;

#[derive(Debug)]
struct RealFile(fs::File);

fn opened(file: io::Result<fs::File>) -> io::Result<Box<dyn VfsFile>> {
    Ok(Box::new(RealFile(file?)))
}

impl VfsFile for RealFile {
    fn fsync(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn set_len(&self, length_bytes: u64) -> io::Result<()> {
        self.0.set_len(length_bytes)
    }

    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn try_lock(&self) -> io::Result<bool> {
        match self.0.try_lock() {
            Ok(()) => Ok(true),
            Err(fs::TryLockError::WouldBlock) => Ok(false),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    #[allow(unsafe_code)]
    fn map(&self) -> io::Result<Pages> {
        // SAFETY: the map is read-only and private to this process. Its bytes could still change if someone else wrote to the
        // file in place; this crate never does that (files are replaced by rename), and `Map` documents it for its users.
        unsafe { memmap2::Mmap::map(&self.0) }.map(Pages::Mapped)
    }
}

impl Read for RealFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for RealFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Seek for RealFile {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.0.seek(position)
    }
}

impl Vfs for RealVfs {
    fn open(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        opened(fs::File::open(path))
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        opened(fs::File::create_new(path))
    }

    fn open_update(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        let mut options = fs::OpenOptions::new();
        opened(options.read(true).write(true).create(true).truncate(false).open(path))
    }

    fn fsync(&self, path: &Path) -> io::Result<()> {
        // Windows flushes only writable handles; elsewhere a read-only handle is enough, even for read-only files.
        let file = fs::OpenOptions::new().read(true).write(cfg!(windows)).open(path)?;
        file.sync_all()
    }

    fn fsync_dir(&self, path: &Path) -> io::Result<()> {
        if cfg!(windows) {
            return Ok(());
        }
        match fs::File::open(path)?.sync_all() {
            // Some file systems (FUSE, network) refuse to sync a directory; they have no stronger guarantee.
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
            other => other,
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            // On Windows a link to a directory is removed like a directory.
            Err(_) if cfg!(windows) && self.kind(path)? == Kind::Link => fs::remove_dir(path),
            other => other,
        }
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn modified(&self, path: &Path) -> io::Result<SystemTime> {
        fs::metadata(path)?.modified()
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn kind(&self, path: &Path) -> io::Result<Kind> {
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

    fn is_dir(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|metadata| metadata.is_dir())
    }

    #[cfg(unix)]
    fn stream_kind(&self, path: &Path) -> Option<&'static str> {
        use std::os::unix::fs::FileTypeExt;

        let file_type = fs::metadata(path).ok()?.file_type();
        if file_type.is_char_device() || file_type.is_block_device() {
            Some("a device")
        } else if file_type.is_socket() {
            Some("a socket")
        } else if file_type.is_fifo() && fs::canonicalize(path).is_ok() {
            Some("a named pipe")
        } else {
            None
        }
    }

    fn size_bytes(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.len())
    }

    fn entries(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect()
    }

    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        fs::canonicalize(path)
    }

    fn symlink_dir(&self, target: &Path, link: &Path) -> io::Result<()> {
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

    fn available_bytes(&self, path: &Path) -> io::Result<u64> {
        fs4::available_space(path)
    }
}
