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
