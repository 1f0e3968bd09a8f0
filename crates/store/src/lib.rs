//! Durable, bounded file access: atomic files and directories, manifests, locks and memory maps.
//!
//! A training run must survive `kill -9`, a full disk and a flipped bit. This crate has the few file operations that make this
//! possible; no other library crate opens files for writing:
//!
//! - [`write_atomic`], [`AtomicFile`] and [`AtomicDir`]: the final name shows either the old state or the complete new one;
//! - [`NewFolders`]: the parent folders of an output, which go again where it does not come;
//! - [`Manifest`]: sizes and BLAKE3 hashes of a directory's files, verified before anything in it is used;
//! - [`RunLock`]: one process per directory; the kernel releases the lock when the process ends for any reason;
//! - [`AppendLog`]: one line per record; a torn last line after a crash is dropped;
//! - [`Table`]: named values in one file, changed in transactions;
//! - [`read`], [`read_text`], [`Reread`], [`Reader`] and [`Map`]: reading with a stated limit, again and again, as a stream, or through a
//!   read-only memory map;
//! - [`TextReader`] and [`TextLines`]: the only reader of text, which drops a byte order mark and refuses other formats by name;
//! - [`misquoted`]: quotes of CSV that would take in the rows after them;
//! - [`RelPath`]: paths found inside files, parsed before they are joined to anything;
//! - [`layout`]: the names of files and folders in run directories, checkpoints and model directories;
//! - [`Vfs`]: the file system below all of this; with the feature `faults`, a `FaultVfs` that fails or crashes on request;
//! - [`Error`] and [`ErrorKind`]: every error names its file; the kind decides the exit code of `taal`.
//!
//! Left out: asynchronous access, file permissions, network file systems without working locks.
//!
//! # Example
//!
//! A directory that exists only when it is complete:
//!
//! ```
//! # fn main() -> taal_store::Result<()> {
//! # let scratch = tempfile::tempdir().expect("a scratch directory");
//! # let root = scratch.path();
//! let final_path = root.join("step-00000010");
//! let directory = taal_store::AtomicDir::create(&final_path)?;
//! directory.write("model/weights.bin", &[1, 2, 3])?;
//! taal_store::Manifest::write(directory.path(), serde_json::json!({ "step": 10 }))?;
//! assert!(!taal_store::exists(&final_path));
//! directory.commit()?;
//!
//! let manifest = taal_store::Manifest::verify(&final_path)?;
//! assert_eq!(manifest.extra["step"], 10);
//! assert_eq!(manifest.files[0].path, "model/weights.bin");
//! # Ok(())
//! # }
//! ```
#![deny(unsafe_code)]

mod append_log;
mod atomic;
mod directory;
mod disk;
mod error;
pub mod layout;
mod link;
mod lock;
mod manifest;
mod map;
mod mutants;
mod new_folders;
mod quotes;
mod reading;
mod rel_path;
mod sniff;
mod space;
mod table;
mod text;
mod vfs;

pub use append_log::AppendLog;
pub use atomic::{AtomicDir, AtomicFile, DirFile, remove_leftovers_of, remove_unfinished_of, write_atomic};
pub use directory::{
    create_dir_all, exists, file_size_bytes, is_dir, is_file, is_link, list_dir, list_paths, modified, remove_dir_all,
    remove_dir_if_empty, remove_file, remove_temporaries, resolve, retire_dir, set_aside, sync_dir, sync_file,
    temporaries, total_size_bytes,
};
pub use error::{Error, ErrorKind, Result, kind_of_io};
pub use layout::{LOCK_NAME, MANIFEST_NAME};
pub use link::{publish_link, unpublish_link};
pub use lock::RunLock;
pub use manifest::{FileEntry, Manifest};
pub use map::{Map, MapPart};
#[doc(hidden)]
pub use mutants::is_broken;
pub use new_folders::NewFolders;
pub use quotes::misquoted;
pub use reading::{Reader, Reread, read, read_text};
pub use rel_path::RelPath;
pub use sniff::{FileFormat, SNIFFED_BYTES};
pub use space::{ensure_space, free_space_bytes};
pub use table::{Changes, Table};
pub use text::{EXCERPT_CHARACTERS, LineEnds, TextLines, TextReader, excerpt, shorten};
#[cfg(feature = "faults")]
pub use vfs::faulty::{Dice, Fate, Fault, FaultVfs};
pub use vfs::{Kind, Pages, Vfs, VfsFile, current_vfs, with_vfs};

/// The BLAKE3 hash of `bytes` as 64 lower-case hexadecimal digits.
pub fn blake3_hex(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// The BLAKE3 hash of the concatenated `parts`, as 64 lower-case hexadecimal digits.
pub fn blake3_hex_of<B: AsRef<[u8]>>(parts: impl IntoIterator<Item = B>) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part.as_ref());
    }
    hasher.finalize().to_hex().to_string()
}
