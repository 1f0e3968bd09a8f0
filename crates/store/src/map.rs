//! Read-only memory maps.

use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;

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
        if let Some(range) = self.range_of(part) {
            self.pages.release(range);
        }
    }

    /// A part of the map that keeps the whole of it; none where `part` is a slice of something else.
    pub fn part(self: &Arc<Self>, part: &[u8]) -> Option<MapPart> {
        let range = self.range_of(part)?;
        let map = Arc::clone(self);
        Some(MapPart { map, range })
    }

    /// Where a slice of this map is in it.
    fn range_of(&self, part: &[u8]) -> Option<Range<usize>> {
        let start = (part.as_ptr() as usize).checked_sub(self.pages.as_ptr() as usize)?;
        let end = start.checked_add(part.len()).filter(|end| *end <= self.pages.len())?;
        Some(start..end)
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

/// A part of a [`Map`], which stays mapped as long as any of its parts exists.
#[derive(Debug, Clone)]
pub struct MapPart {
    map: Arc<Map>,
    range: Range<usize>,
}

impl AsRef<[u8]> for MapPart {
    fn as_ref(&self) -> &[u8] {
        &self.map[self.range.clone()]
    }
}
