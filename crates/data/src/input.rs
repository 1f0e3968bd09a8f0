//! Finds and opens the texts a person named: files, folders, or strings in memory.

use std::io::BufRead;
use std::path::{Path, PathBuf};

use taal_store::Reader;

use crate::error::{DataError, Result};

/// Extensions that a folder is searched for. A file named by itself may have any extension.
const TEXT_EXTENSIONS: [&str; 3] = ["txt", "md", "jsonl"];

/// Depth of folders in a folder, a bound against surprises such as a whole home folder with a mounted archive.
const MAX_DEPTH: usize = 32;

/// One input to tokenise: a file or a text in memory.
pub(crate) struct Input<'a> {
    /// How messages and the index name it.
    pub(crate) name: String,
    origin: Origin<'a>,
}

enum Origin<'a> {
    File(PathBuf),
    Text(&'a str),
}

impl<'a> Input<'a> {
    pub(crate) fn file(path: PathBuf) -> Self {
        Self {
            name: path.display().to_string(),
            origin: Origin::File(path),
        }
    }

    pub(crate) fn text(name: &str, text: &'a str) -> Self {
        Self {
            name: name.to_owned(),
            origin: Origin::Text(text),
        }
    }

    /// Whether the input has one JSON object a line. A string in memory never has.
    pub(crate) fn is_jsonl(&self) -> bool {
        matches!(&self.origin, Origin::File(path) if extension(path) == "jsonl")
    }

    /// The path for messages about the file itself.
    pub(crate) fn path(&self) -> PathBuf {
        match &self.origin {
            Origin::File(path) => path.clone(),
            Origin::Text(_) => PathBuf::from(&self.name),
        }
    }

    /// A fresh reader from the first byte.
    ///
    /// # Errors
    /// The store's, where the file cannot be opened.
    pub(crate) fn open(&self) -> Result<Box<dyn BufRead + 'a>> {
        Ok(match &self.origin {
            Origin::Text(text) => Box::new(text.as_bytes()),
            Origin::File(path) => Box::new(Reader::open(path)?),
        })
    }
}

/// The files behind `paths`: folders are searched recursively for `.txt`, `.md` and `.jsonl` in the order of their
/// names, hidden files and linked folders left out.
///
/// # Errors
/// [`DataError::NoInput`], [`DataError::NoTextFiles`], the store's for a missing path.
pub fn text_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    if paths.is_empty() {
        return Err(DataError::NoInput);
    }
    let mut files = Vec::new();
    for path in paths {
        if !taal_store::is_dir(path) {
            // Asked for now, so that a mistyped last path does not cost the reading of all others.
            taal_store::file_size_bytes(path)?;
            files.push(path.clone());
            continue;
        }
        let before = files.len();
        search_folder(path, 0, &mut files)?;
        if files.len() == before {
            return Err(DataError::NoTextFiles { path: path.clone() });
        }
    }
    Ok(files)
}

/// [`text_files`] as inputs.
pub(crate) fn find_inputs(paths: &[PathBuf]) -> Result<Vec<Input<'static>>> {
    Ok(text_files(paths)?.into_iter().map(Input::file).collect())
}

fn search_folder(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    if depth > MAX_DEPTH {
        let detail = format!(
            "{} lies over {MAX_DEPTH} folders deep: name a folder nearer to its texts",
            folder.display()
        );
        return Err(DataError::Setting { key: "input", detail });
    }
    for name in taal_store::list_dir(folder)? {
        let path = folder.join(&name);
        if name.starts_with('.') {
            continue;
        }
        if taal_store::is_dir(&path) {
            // A link back up the tree would make the search find the same files again and again.
            if !path.is_symlink() {
                search_folder(&path, depth + 1, files)?;
            }
        } else if TEXT_EXTENSIONS.contains(&extension(&path).as_str()) {
            files.push(path);
        }
    }
    Ok(())
}

fn extension(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_lowercase()
}

/// An error of the operating system in the middle of a file that opened well.
pub(crate) fn read_error(name: &str, source: std::io::Error) -> DataError {
    DataError::Store(taal_store::Error::io("read", name.as_ref(), source))
}
