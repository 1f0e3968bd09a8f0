//! The parent folders of an output, which go again where the output does not come.

use std::path::{Path, PathBuf};

use crate::directory::{create_missing, parent_of};
use crate::{Result, remove_dir_if_empty};

/// The parent folders of an output that were missing and were made for it.
///
/// Dropped without [`keep`](NewFolders::keep), those that are empty are removed, so that a failure leaves nothing behind.
///
/// ```
/// # fn main() -> taal_store::Result<()> {
/// # let scratch = tempfile::tempdir().expect("a scratch directory");
/// # let root = scratch.path();
/// let path = root.join("models/dutch/weights.bin");
/// drop(taal_store::NewFolders::above(&path)?);
/// assert!(!taal_store::exists(&root.join("models")));
///
/// let folders = taal_store::NewFolders::above(&path)?;
/// taal_store::write_atomic(&path, &[1, 2, 3])?;
/// folders.keep();
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
#[must_use = "folders are removed again where they are not kept"]
pub struct NewFolders {
    /// A parent before what is in it.
    made: Vec<PathBuf>,
}

impl NewFolders {
    /// Makes the missing parent folders of a path, durably.
    ///
    /// # Errors
    ///
    /// As [`create_dir_all`](crate::create_dir_all); folders that were made before the error are removed.
    pub fn above(path: &Path) -> Result<Self> {
        let mut folders = Self::default();
        create_missing(&parent_of(path), &mut folders.made)?;
        Ok(folders)
    }

    /// Leaves the folders where they are: the output is in them.
    pub fn keep(mut self) {
        self.made.clear();
    }
}

impl Drop for NewFolders {
    fn drop(&mut self) {
        for folder in self.made.drain(..).rev() {
            // One that something else is in by now stays, and so do its parents.
            if !matches!(remove_dir_if_empty(&folder), Ok(true)) {
                break;
            }
        }
    }
}
