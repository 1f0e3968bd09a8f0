//! Opening the tokenizer files of others: each becomes a `tokenizer.json` that gives the ids of the program it was made for.
//!
//! A module a format reads it and says what it means in the parts of a `tokenizer.json`. What the format leaves to the program around it
//! (special tokens, case) is taken from the JSON files that Hugging Face puts beside it, see [`sidecar`].
//!
//! Left out, and refused by name: word models and suffix spaces of SentencePiece, vocabularies with GPT-1's end-of-word marks.

mod bert;
mod class;
mod gpt2;
mod llama2c;
mod pieces;
mod protobuf;
mod sentencepiece;
mod sidecar;
mod tiktoken;

use std::fmt;
use std::path::{Path, PathBuf};

use taal_store::FileFormat;

use crate::file::File;
use crate::open::MAX_FILE_BYTES;
use crate::{Error, Result, Tokenizer};

/// The longest token of the binary formats and of rank files, in bytes; the longest in public use have 128.
///
/// All places where a token can be cut in two are looked at, so the work of a token grows with the square of its length.
const MAX_TOKEN_BYTES: usize = 512;

/// The most merges that are made of a vocabulary; the largest in public use give 700 thousand.
const MAX_MERGES: usize = 3_000_000;

/// What the importer cannot read from the files.
///
/// # Example
///
/// ```
/// use taal_tokenizer::ImportOptions;
///
/// let options = ImportOptions { pattern: Some("cl100k_base".into()) };
/// # assert_ne!(options, ImportOptions::default());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// How text is cut into words: a regular expression, or the name of an encoding of tiktoken's (`gpt2`, `r50k_base`, `p50k_base`,
    /// `p50k_edit`, `cl100k_base`, `o200k_base`, `o200k_harmony`), which gives a rank file its special tokens too.
    ///
    /// Without it, the encoding of a rank file is recognised from its name or its number of tokens, and GPT-2's two files are cut as GPT-2
    /// does. The other formats have no choice.
    pub pattern: Option<String>,
}

/// The formats of tokenizer files that [`Tokenizer::import`] recognises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// A `tokenizer.json` of Hugging Face's.
    TokenizerJson,
    /// Byte-level BPE as GPT-2 has it: `encoder.json` with `vocab.bpe`, or `vocab.json` with `merges.txt`.
    Gpt2,
    /// WordPiece as BERT has it: `vocab.txt`, a token a line.
    Bert,
    /// A rank file of tiktoken: a token in base64 and its rank a line.
    Tiktoken,
    /// A SentencePiece `.model`.
    SentencePiece,
    /// The tokenizer `.bin` of llama2.c.
    Llama2c,
}

impl Format {
    /// Every format, in the order of the documentation.
    pub const ALL: [Format; 6] = [
        Format::TokenizerJson,
        Format::Gpt2,
        Format::Bert,
        Format::Tiktoken,
        Format::SentencePiece,
        Format::Llama2c,
    ];

    /// The format in a few words, for messages.
    pub fn description(self) -> &'static str {
        match self {
            Format::TokenizerJson => "tokenizer.json",
            Format::Gpt2 => "GPT-2 vocabulary and merges (encoder.json + vocab.bpe, or vocab.json + merges.txt)",
            Format::Bert => "BERT vocab.txt",
            Format::Tiktoken => "tiktoken rank file",
            Format::SentencePiece => "SentencePiece model",
            Format::Llama2c => "llama2.c tokenizer.bin",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.description())
    }
}

/// A file that was recognised, with what it needs beside it.
enum Found {
    TokenizerJson(PathBuf),
    Gpt2 { vocabulary: PathBuf, merges: PathBuf },
    Bert(PathBuf),
    Tiktoken(PathBuf),
    SentencePiece(PathBuf),
    Llama2c(PathBuf),
}

impl Tokenizer {
    /// Opens the tokenizer file of another program, recognised by its content and name; or the folder that holds it.
    ///
    /// The result is saved as a `tokenizer.json` like any other tokenizer, and the Python package `tokenizers` gives the same ids with it.
    /// Special tokens that are spelled out in a text become their ids, whatever the other program does with them.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] when a file cannot be read or is too large, [`Error::Unrecognised`] with the list of formats,
    /// [`Error::Import`] when a file of a known format is damaged or asks for something that a `tokenizer.json` cannot say, and
    /// [`Error::Setting`] when the pattern does not fit.
    ///
    /// # Example
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let scratch = tempfile::tempdir()?;
    /// # let vocabulary = scratch.path().join("vocab.txt");
    /// std::fs::write(&vocabulary, "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nvoorbeeld\n##zin\n")?;
    /// let options = taal_tokenizer::ImportOptions::default();
    /// let tokenizer = taal_tokenizer::Tokenizer::import(&vocabulary, &options)?;
    /// assert_eq!(tokenizer.encode("Voorbeeldzin")?, [5, 6]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn import(path: &Path, options: &ImportOptions) -> Result<Self> {
        Ok(Self::import_reported(path, options)?.0)
    }

    /// Does what [`import`](Self::import) does and says which format it was.
    ///
    /// # Errors
    ///
    /// As [`import`](Self::import).
    pub fn import_reported(path: &Path, options: &ImportOptions) -> Result<(Self, Format)> {
        let found = if taal_store::is_dir(path) {
            in_folder(path)?
        } else {
            recognise(path)?
        };
        let has_pattern = !matches!(found, Found::Tiktoken(_) | Found::Gpt2 { .. });
        let pattern = options.pattern.as_deref();
        if let Some(pattern) = pattern.filter(|_| has_pattern) {
            let expected = "none, because only rank files of tiktoken and GPT-2's files leave it open";
            return Err(Error::setting("pattern", expected, pattern));
        }
        match found {
            Found::TokenizerJson(path) => Ok((Self::open(&path)?, Format::TokenizerJson)),
            Found::Gpt2 { vocabulary, merges } => {
                finish(gpt2::read(&vocabulary, &merges, pattern)?, &vocabulary, Format::Gpt2)
            }
            Found::Bert(path) => finish(bert::read(&path)?, &path, Format::Bert),
            Found::Tiktoken(path) => {
                let file = tiktoken::read(&path, pattern)?;
                finish(file, &path, Format::Tiktoken)
            }
            Found::SentencePiece(path) => finish(sentencepiece::read(&path)?, &path, Format::SentencePiece),
            Found::Llama2c(path) => finish(llama2c::read(&path)?, &path, Format::Llama2c),
        }
    }
}

/// Opens what a format became, as any `tokenizer.json` is opened, so that no format gets around the checks.
fn finish(file: File, path: &Path, format: Format) -> Result<(Tokenizer, Format)> {
    let bytes = file
        .to_compact_bytes()
        .map_err(|error| problem(path, format, error.to_string()))?;
    match Tokenizer::from_bytes(bytes, &path.display().to_string()) {
        Ok(tokenizer) => Ok((tokenizer, format)),
        Err(Error::Corrupt { detail, .. }) => Err(problem(path, format, detail)),
        Err(error) => Err(error),
    }
}

fn problem(path: &Path, format: Format, detail: impl Into<String>) -> Error {
    Error::Import {
        path: path.to_path_buf(),
        format,
        detail: detail.into(),
    }
}

fn unrecognised(path: &Path, detail: impl Into<String>) -> Error {
    Error::Unrecognised {
        path: path.to_path_buf(),
        detail: detail.into(),
    }
}

/// Refuses what downloads leave in the place of a file, which some formats would read as one of theirs that is damaged.
fn refuse_stand_in(path: &Path, bytes: &[u8]) -> Result<()> {
    match FileFormat::of(bytes) {
        Some(format @ (FileFormat::GitLfsPointer | FileFormat::Html)) => {
            Err(unrecognised(path, format.in_place_of("a tokenizer's file")))
        }
        _ => Ok(()),
    }
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// The tokenizer of a folder: by the well-known names, else by the one file whose name ends like a tokenizer's.
fn in_folder(folder: &Path) -> Result<Found> {
    for name in [
        "tokenizer.json",
        "vocab.json",
        "encoder.json",
        "tokenizer.model",
        "spiece.model",
        "vocab.txt",
        "tokenizer.bin",
    ] {
        let path = folder.join(name);
        // A vocab.json without merges is left for the names after it: not only GPT-2 calls files so.
        let is_whole = !matches!(name, "vocab.json" | "encoder.json") || gpt2::pair(&path).is_some();
        if taal_store::exists(&path) && is_whole {
            return recognise(&path);
        }
    }
    let endings = [
        ".tiktoken",
        ".model",
        ".tokenizer.json",
        "vocab.txt",
        "vocab.bpe",
        "merges.txt",
    ];
    let has_ending = |name: &&String| endings.iter().any(|ending| name.ends_with(ending));
    let names = taal_store::list_dir(folder)?;
    let candidates: Vec<&str> = names.iter().filter(has_ending).map(String::as_str).collect();
    match candidates.as_slice() {
        [name] => recognise(&folder.join(name)),
        [] => Err(unrecognised(folder, "a folder without a tokenizer file")),
        several => {
            let some = several.iter().take(8).copied().collect::<Vec<_>>().join(", ");
            let detail = format!("a folder with several tokenizer files ({some}): name one of them");
            Err(unrecognised(folder, detail))
        }
    }
}

/// What a file is, by its content first and its name second.
fn recognise(path: &Path) -> Result<Found> {
    let bytes = taal_store::read(path, MAX_FILE_BYTES)?;
    refuse_stand_in(path, &bytes)?;
    let text = std::str::from_utf8(&bytes).ok();
    let name = name_of(path);
    let path = path.to_path_buf();
    if let Some(text) = text {
        let start = text.trim_start();
        if start.starts_with('{') {
            return recognise_json(path, text);
        }
        if text.starts_with("#version") || name.ends_with("merges.txt") || name.ends_with("vocab.bpe") {
            return gpt2_pair(&path);
        }
        if tiktoken::looks_like(text) {
            return Ok(Found::Tiktoken(path));
        }
        if bert::looks_like(text) {
            return Ok(Found::Bert(path));
        }
    }
    // SentencePiece's first bytes, read as a length, are larger than llama2.c's longest token by far.
    if llama2c::looks_like(&bytes) {
        return Ok(Found::Llama2c(path));
    }
    if sentencepiece::looks_like(&bytes) {
        return Ok(Found::SentencePiece(path));
    }
    let detail = match FileFormat::of(&bytes) {
        _ if bytes.is_empty() => "an empty file".to_owned(),
        Some(format) => format.in_place_of("a tokenizer"),
        None => "an unknown kind of file".to_owned(),
    };
    Err(unrecognised(&path, detail))
}

fn recognise_json(path: PathBuf, text: &str) -> Result<Found> {
    // A damaged one is reported by whoever reads it: the names that matter are near the start or the end.
    let is_tokenizer = text.contains("\"model\"") && text.contains("\"vocab\"");
    if !is_tokenizer && gpt2::pair(&path).is_some() || gpt2::is_vocabulary_name(name_of(&path)) {
        return gpt2_pair(&path);
    }
    Ok(Found::TokenizerJson(path))
}

fn gpt2_pair(path: &Path) -> Result<Found> {
    let pair = gpt2::pair(path);
    let (vocabulary, merges) = pair.ok_or_else(|| {
        let detail = "half of a tokenizer: the other file (vocab.bpe or merges.txt, encoder.json or vocab.json) is not beside it";
        problem(path, Format::Gpt2, detail)
    })?;
    Ok(Found::Gpt2 { vocabulary, merges })
}

/// All ways to make tokens of two others, in the order of the tokens, which come most urgent first.
///
/// tiktoken and SentencePiece merge any two neighbours whose text is a token, the most urgent token first; a `tokenizer.json` lists pairs. All
/// pairs of a token stand side by side, so that it does not matter which of them a text has.
///
/// # Errors
///
/// A sentence, when there are more than [`MAX_MERGES`].
fn all_merges<'a>(
    tokens: impl Iterator<Item = &'a [u8]>,
    id_of: impl Fn(&[u8]) -> Option<u32>,
    is_cut: impl Fn(&[u8], usize) -> bool,
) -> std::result::Result<Vec<(u32, u32)>, String> {
    let mut merges = Vec::new();
    let mut ways = Vec::new();
    for token in tokens {
        ways.clear();
        for cut in 1..token.len() {
            if !is_cut(token, cut) {
                continue;
            }
            let (first, second) = token.split_at(cut);
            if let Some(first) = id_of(first)
                && let Some(second) = id_of(second)
            {
                ways.push((first, second));
            }
        }
        ways.sort_unstable();
        merges.append(&mut ways);
        if merges.len() > MAX_MERGES {
            return Err(format!("its tokens can be merged in more than {MAX_MERGES} ways"));
        }
    }
    Ok(merges)
}
