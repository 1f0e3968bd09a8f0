//! Read-only memory maps.

use std::ops::Deref;
use std::path::Path;

use crate::{Error, Result, disk, reading};

/// A file's bytes, mapped into memory for reading; an empty file is an empty slice.
///
/// The file must not be changed in place while it is mapped: its bytes would change under the reader, and cutting it short
/// ends the process. Files written through this crate are replaced by rename, which leaves existing maps intact.
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

    /// Gives the memory of `part`, which was read and is not needed soon, back to the system. Its bytes stay readable: the system
    /// fetches them from the disk again. A slice of something else is left alone.
    ///
    /// Pages that were looked at count as memory of the process until then, so a file larger than what is made of it at a time
    /// would be there whole otherwise.
    pub fn let_go(&self, part: &[u8]) {
        let start = (part.as_ptr() as usize).checked_sub(self.pages.as_ptr() as usize);
        let end = start.and_then(|start| start.checked_add(part.len()));
        if let (Some(start), Some(end)) = (start, end) {
            self.pages.let_go(start..end);
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
