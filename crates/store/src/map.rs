//! Read-only memory maps.

use std::ops::Deref;
use std::path::Path;

use crate::{Error, Result, disk, reading};

/// A file's bytes, mapped into memory for reading; an empty file is an empty slice.
///
/// The file must not be changed in place while it is mapped: its bytes would change during reading, and truncating it kills the
/// process. Files written through this crate are replaced by rename, which leaves existing maps intact.
#[derive(Debug)]
pub struct Map {
    pages: disk::Pages,
}

impl Map {
    /// Maps a file.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::NotAFile`] or [`Error::Io`].
    pub fn open(path: &Path) -> Result<Self> {
        let pages = reading::open(path)?
            .map()
            .map_err(|source| Error::io("map", path, source))?;
        Ok(Self { pages })
    }

    /// Returns the memory of `part` to the system. Its bytes stay readable: the system reads them from the disk again. A slice of
    /// something else is ignored.
    ///
    /// Pages that were read count as memory of the process until then, so otherwise a large file would be entirely in memory.
    pub fn release(&self, part: &[u8]) {
        let start = (part.as_ptr() as usize).checked_sub(self.pages.as_ptr() as usize);
        let end = start.and_then(|start| start.checked_add(part.len()));
        if let (Some(start), Some(end)) = (start, end) {
            self.pages.release(start..end);
        }
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.pages
    }
}

impl AsRef<[u8]> for Map {
    fn as_ref(&self) -> &[u8] {
        self
    }
}
