//! The operations of this thread's [`Vfs`](crate::Vfs), as plain functions.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::vfs::on_disk;
pub(crate) use crate::vfs::{Kind, Pages};

/// An open file.
pub(crate) type File = Box<dyn crate::VfsFile>;

pub(crate) fn open(path: &Path) -> io::Result<File> {
    on_disk(|disk| disk.open(path))
}

pub(crate) fn create_new(path: &Path) -> io::Result<File> {
    on_disk(|disk| disk.create_new(path))
}

pub(crate) fn open_update(path: &Path) -> io::Result<File> {
    on_disk(|disk| disk.open_update(path))
}

pub(crate) fn fsync(path: &Path) -> io::Result<()> {
    on_disk(|disk| disk.fsync(path))
}

pub(crate) fn fsync_dir(path: &Path) -> io::Result<()> {
    on_disk(|disk| disk.fsync_dir(path))
}

pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    on_disk(|disk| disk.rename(from, to))
}

pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    on_disk(|disk| disk.remove_file(path))
}

pub(crate) fn remove_dir_all(path: &Path) -> io::Result<()> {
    on_disk(|disk| disk.remove_dir_all(path))
}

pub(crate) fn remove_dir(path: &Path) -> io::Result<()> {
    on_disk(|disk| disk.remove_dir(path))
}

pub(crate) fn modified(path: &Path) -> io::Result<SystemTime> {
    on_disk(|disk| disk.modified(path))
}

pub(crate) fn create_dir(path: &Path) -> io::Result<()> {
    on_disk(|disk| disk.create_dir(path))
}

pub(crate) fn kind(path: &Path) -> io::Result<Kind> {
    on_disk(|disk| disk.kind(path))
}

pub(crate) fn is_dir(path: &Path) -> bool {
    on_disk(|disk| disk.is_dir(path))
}

pub(crate) fn stream_kind(path: &Path) -> Option<&'static str> {
    on_disk(|disk| disk.stream_kind(path))
}

pub(crate) fn size_bytes(path: &Path) -> io::Result<u64> {
    on_disk(|disk| disk.size_bytes(path))
}

pub(crate) fn entries(path: &Path) -> io::Result<Vec<PathBuf>> {
    on_disk(|disk| disk.entries(path))
}

pub(crate) fn canonicalize(path: &Path) -> io::Result<PathBuf> {
    on_disk(|disk| disk.canonicalize(path))
}

pub(crate) fn symlink_dir(target: &Path, link: &Path) -> io::Result<()> {
    on_disk(|disk| disk.symlink_dir(target, link))
}

pub(crate) fn available_bytes(path: &Path) -> io::Result<u64> {
    on_disk(|disk| disk.available_bytes(path))
}
