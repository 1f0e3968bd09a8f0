//! Finds and opens the texts that were named: files, folders, or strings in memory.

use std::io::Read;
use std::path::{Path, PathBuf};

use taal_store::{LineEnds, Reader, TextReader, layout};

use crate::error::{DataError, Result};

/// Extensions that a folder is searched for. A file named directly may have any extension.
const TEXT_EXTENSIONS: [&str; 4] = ["txt", "md", "jsonl", "ndjson"];

/// Extensions of files with one JSON object per line.
const LINES_EXTENSIONS: [&str; 2] = ["jsonl", "ndjson"];

/// Extensions of files with one example per row.
const EXAMPLE_EXTENSIONS: [&str; 5] = ["jsonl", "ndjson", "csv", "tsv", "parquet"];

/// The deepest nesting of folders, in case a whole home folder with a mounted archive is named.
const MAX_DEPTH: usize = 32;

/// The most skipped paths to name; the others are only counted.
const NAMED_LEFT_OUT: usize = 5;

/// Names that identify a folder made by Taal: all names of one of these lists.
const OWN_FOLDERS: [(&[&str], &str); 6] = [
    (&[layout::RUN_FILE], "a run"),
    (&[layout::RESOLVED_FILE], "a run"),
    (&[layout::CHECKPOINTS_DIR, layout::LOCK_NAME], "a run"),
    (&[layout::CONFIG_FILE, layout::WEIGHTS_FILE], "a model"),
    (&[layout::CONFIG_FILE, layout::WEIGHTS_INDEX_FILE], "a model"),
    (&[layout::SHARDS_INDEX_FILE, layout::TOKENIZER_FILE], "token shards"),
];

/// The kind of files to search for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Running text, and documents in JSON Lines: `.txt`, `.md`, `.jsonl`, `.ndjson`.
    Text,
    /// Prompts with completions and other conversations, one per line or row: `.jsonl`, `.ndjson`, `.csv`, `.tsv`, `.parquet`.
    Conversations,
}

/// The files at the given paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FoundFiles {
    /// In the given order; those of a folder in the order of their names.
    pub files: Vec<PathBuf>,
    /// How many files and whole folders were left out of the folders.
    pub left_out: u64,
    /// The first of them, each with the reason.
    pub first_left_out: Vec<(PathBuf, &'static str)>,
}

impl FoundFiles {
    /// "12 files, 3 left out: notes.pdf (not a text file), ..."; `None` where nothing was left out.
    pub fn left_out_words(&self) -> Option<String> {
        if self.left_out == 0 {
            return None;
        }
        let named: Vec<String> = self
            .first_left_out
            .iter()
            .map(|(path, why)| format!("{} ({why})", path.display()))
            .collect();
        let files = match self.files.len() {
            1 => "1 file".to_owned(),
            count => format!("{count} files"),
        };
        let more = match self.left_out - named.len() as u64 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Some(format!(
            "{files}, {} left out: {}{more}",
            self.left_out,
            named.join(", ")
        ))
    }

    fn leave_out(&mut self, path: PathBuf, why: &'static str) {
        self.left_out += 1;
        if self.first_left_out.len() < NAMED_LEFT_OUT {
            self.first_left_out.push((path, why));
        }
    }
}

/// One input to tokenize: a file or a text in memory.
pub(crate) struct Input<'a> {
    /// Its name in messages and the index.
    pub(crate) name: String,
    origin: Origin<'a>,
    pub(crate) line_ends: LineEnds,
}

/// How a file holds rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rows {
    /// Running text.
    None,
    /// A JSON object per line.
    Json,
    /// CSV.
    Commas,
    /// TSV.
    Tabs,
    /// Parquet.
    Parquet,
}

enum Origin<'a> {
    File(PathBuf),
    Text(&'a str),
    /// Rows of JSON in memory.
    Lines(&'a str),
}

impl<'a> Input<'a> {
    pub(crate) fn file(path: PathBuf, line_ends: LineEnds) -> Self {
        Self {
            name: path.display().to_string(),
            origin: Origin::File(path),
            line_ends,
        }
    }

    pub(crate) fn text(name: &str, text: &'a str, line_ends: LineEnds) -> Self {
        Self {
            name: name.to_owned(),
            origin: Origin::Text(text),
            line_ends,
        }
    }

    /// Rows of JSON in memory.
    pub(crate) fn lines(name: &str, text: &'a str, line_ends: LineEnds) -> Self {
        Self {
            name: name.to_owned(),
            origin: Origin::Lines(text),
            line_ends,
        }
    }

    /// Whether the input has one JSON object per line; never for a text in memory.
    pub(crate) fn is_jsonl(&self) -> bool {
        self.rows() == Rows::Json
    }

    /// How the input holds rows, by its extension; a text in memory has none.
    pub(crate) fn rows(&self) -> Rows {
        let path = match &self.origin {
            Origin::File(path) => path,
            Origin::Text(_) => return Rows::None,
            Origin::Lines(_) => return Rows::Json,
        };
        match extension(path).as_str() {
            "csv" => Rows::Commas,
            "tsv" => Rows::Tabs,
            "parquet" => Rows::Parquet,
            extension if LINES_EXTENSIONS.contains(&extension) => Rows::Json,
            _ => Rows::None,
        }
    }

    /// The path for messages about the file itself.
    pub(crate) fn path(&self) -> PathBuf {
        match &self.origin {
            Origin::File(path) => path.clone(),
            Origin::Text(_) | Origin::Lines(_) => PathBuf::from(&self.name),
        }
    }

    /// A new reader from the first byte, with unchanged line ends.
    ///
    /// # Errors
    /// The store's, where the file cannot be opened.
    pub(crate) fn open(&self) -> Result<TextReader<Box<dyn Read + 'a>>> {
        let reader: Box<dyn Read + 'a> = match &self.origin {
            Origin::Text(text) | Origin::Lines(text) => Box::new(text.as_bytes()),
            Origin::File(path) => Box::new(Reader::open(path)?),
        };
        Ok(TextReader::new(self.name.as_ref(), reader, u64::MAX))
    }
}

/// The text files at `paths`: [`find_files`] without the list of skipped paths.
///
/// # Errors
/// Those of [`find_files`].
pub fn text_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    Ok(find_files(paths, Content::Text)?.files)
}

/// The files at `paths`. Folders are searched with their subfolders for the extensions of `content`, in the order of names. All
/// other files are left out, as are hidden ones, links to folders, pipes and devices, and folders made by Taal: run directories,
/// models, shards.
///
/// # Errors
/// [`DataError::NoInput`], [`DataError::NoTextFiles`], [`DataError::Format`] for a file named directly that is not text, the
/// store's for a missing path, a pipe or a device.
pub fn find_files(paths: &[PathBuf], content: Content) -> Result<FoundFiles> {
    if paths.is_empty() {
        return Err(DataError::NoInput);
    }
    let mut found = FoundFiles::default();
    for path in paths {
        if !taal_store::is_dir(path) {
            check_named(path, content)?;
            found.files.push(path.clone());
            continue;
        }
        let before = found.files.len();
        search_folder(path, 0, content, &mut found)?;
        if found.files.len() == before {
            return Err(DataError::NoTextFiles {
                path: path.clone(),
                extensions: content.words(),
            });
        }
    }
    Ok(found)
}

/// [`text_files`] as inputs.
pub(crate) fn find_inputs(paths: &[PathBuf], content: Content, line_ends: LineEnds) -> Result<Vec<Input<'static>>> {
    let files = find_files(paths, content)?.files;
    Ok(files.into_iter().map(|path| Input::file(path, line_ends)).collect())
}

/// A file named directly is checked at once, so that a mistyped last path is found before all others are read.
fn check_named(path: &Path, content: Content) -> Result<()> {
    taal_store::file_size_bytes(path)?;
    if !taal_store::is_file(path) {
        // A named pipe or a device is refused here, without waiting for it.
        drop(Reader::open(path)?);
        return Err(DataError::Format {
            path: path.to_owned(),
            detail: "is a pipe, and texts are read more than once: write it to a file first",
        });
    }
    check_extension(path, content)
}

/// Refuses a `.json` file.
pub(crate) fn check_extension(path: &Path, content: Content) -> Result<()> {
    if extension(path) == "json" {
        return Err(DataError::Format {
            path: path.to_owned(),
            detail: match content {
                Content::Text => {
                    "is one JSON value, not text: write one object per line, {\"text\": \"...\"}, to a .jsonl file"
                }
                Content::Conversations => {
                    "is one JSON value, not rows: write each row as an object on a line of its own to a .jsonl file, of a list with \
                     `jq -c '.[]' rows.json > rows.jsonl`"
                }
            },
        });
    }
    Ok(())
}

impl Content {
    fn extensions(self) -> &'static [&'static str] {
        match self {
            Self::Text => &TEXT_EXTENSIONS,
            Self::Conversations => &EXAMPLE_EXTENSIONS,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Text => ".txt, .md, .jsonl or .ndjson",
            Self::Conversations => ".jsonl, .ndjson, .csv, .tsv or .parquet",
        }
    }

    fn why_left_out(self) -> &'static str {
        match self {
            Self::Text => "not .txt, .md, .jsonl or .ndjson",
            Self::Conversations => "not .jsonl, .ndjson, .csv, .tsv or .parquet",
        }
    }
}

fn search_folder(folder: &Path, depth: usize, content: Content, found: &mut FoundFiles) -> Result<()> {
    if depth > MAX_DEPTH {
        let detail = format!(
            "{} is more than {MAX_DEPTH} folders deep: name a folder nearer to its texts",
            folder.display()
        );
        return Err(DataError::Setting { key: "input", detail });
    }
    for path in taal_store::list_paths(folder)? {
        if path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
        {
            found.leave_out(path, "hidden");
        } else if taal_store::is_dir(&path) {
            if path.is_symlink() {
                // A link to a parent folder would make the search find the same files repeatedly.
                found.leave_out(path, "a link to a folder");
            } else if let Some(why) = own_folder(&path) {
                found.leave_out(path, why);
            } else {
                search_folder(&path, depth + 1, content, found)?;
            }
        } else if !content.extensions().contains(&extension(&path).as_str()) {
            found.leave_out(path, content.why_left_out());
        } else if taal_store::is_file(&path) {
            found.files.push(path);
        } else {
            found.leave_out(path, "not a regular file");
        }
    }
    Ok(())
}

/// What a folder made by Taal holds, if it is one: its texts are samples, logs and model cards.
fn own_folder(folder: &Path) -> Option<&'static str> {
    let has_all = |names: &[&str]| names.iter().all(|name| taal_store::exists(&folder.join(name)));
    OWN_FOLDERS
        .iter()
        .find(|(names, _)| has_all(names))
        .map(|(_, what)| *what)
}

fn extension(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_lowercase()
}

/// An error in a text, with its name.
pub(crate) fn text_error(name: &str, error: taal_store::Error) -> DataError {
    let name = name.to_owned();
    match error {
        taal_store::Error::NotUtf8 { offset, .. } => DataError::NotUtf8 { name, offset },
        taal_store::Error::Binary { offset, .. } => DataError::Binary { name, offset },
        taal_store::Error::LongLine { line, limit_bytes, .. } => DataError::Line {
            name,
            line,
            detail: format!(
                "longer than {} MiB: a JSONL file has one JSON object per line",
                limit_bytes >> 20
            ),
        },
        other => DataError::Store(other),
    }
}
