//! Importing tokenizer files: each becomes a `tokenizer.json` that gives the same ids as its own program.
//!
//! One module per format reads it and converts it to the parts of a `tokenizer.json`. Settings outside the format (special
//! tokens, case) come from the JSON files that Hugging Face puts next to it, see [`sidecar`].
//!
//! Left out, and refused by name: word models and suffix spaces of SentencePiece, vocabularies with GPT-1's end-of-word marks.

mod bert;
mod class;
mod gpt2;
mod llama2c;
mod marian;
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
/// All ways to split a token in two are tried, so the work per token grows with the square of its length.
const MAX_TOKEN_BYTES: usize = 512;

/// The most merges derived from a vocabulary; the largest in public use give 700 thousand.
const MAX_MERGES: usize = 3_000_000;

/// Settings that the files do not contain.
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
    /// How text is split into words: a regular expression, or the name of a tiktoken encoding (`gpt2`, `r50k_base`, `p50k_base`,
    /// `p50k_edit`, `cl100k_base`, `o200k_base`, `o200k_harmony`), which also gives a rank file its special tokens.
    ///
    /// Without it, the encoding of a rank file is recognized from its name or its number of tokens, and GPT-2's two files use
    /// GPT-2's pattern. The other formats do not need it.
    pub pattern: Option<String>,
}

/// The formats of tokenizer files that [`Tokenizer::import`] recognizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// A Hugging Face `tokenizer.json`.
    TokenizerJson,
    /// Byte-level BPE like GPT-2's: `encoder.json` with `vocab.bpe`, or `vocab.json` with `merges.txt`.
    Gpt2,
    /// WordPiece like BERT's: `vocab.txt`, one token per line.
    Bert,
    /// A tiktoken rank file: a token in base64 and its rank per line.
    Tiktoken,
    /// A SentencePiece `.model`, or Marian's `source.spm` and `target.spm` with `vocab.json`.
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

/// A recognized file, with the other files it needs.
enum Found {
    TokenizerJson(PathBuf),
    Gpt2 { vocabulary: PathBuf, merges: PathBuf },
    Bert(PathBuf),
    Tiktoken(PathBuf),
    SentencePiece(PathBuf),
    Marian(PathBuf),
    Llama2c(PathBuf),
}

impl Tokenizer {
    /// Opens the tokenizer file of another program, recognized by its content and name; or the folder that holds it.
    ///
    /// The result is saved as a `tokenizer.json` like any other tokenizer, and the Python package `tokenizers` gives the same ids
    /// with it. Special tokens in a text become their ids, even if the other program treats them differently.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] when a file cannot be read or is too large, [`Error::Unrecognized`] with the list of formats,
    /// [`Error::Import`] when a file of a known format is damaged or uses something that a `tokenizer.json` cannot express, and
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

    /// [`import`](Self::import) that also returns the format.
    ///
    /// # Errors
    ///
    /// As [`import`](Self::import).
    pub fn import_reported(path: &Path, options: &ImportOptions) -> Result<(Self, Format)> {
        let found = if taal_store::is_dir(path) {
            in_folder(path)?
        } else {
            recognize(path)?
        };
        let has_pattern = !matches!(found, Found::Tiktoken(_) | Found::Gpt2 { .. });
        let pattern = options.pattern.as_deref();
        if let Some(pattern) = pattern.filter(|_| has_pattern) {
            let expected = "none, because only tiktoken rank files and GPT-2's files need it";
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
            Found::Marian(path) => marian_pair(&path),
            Found::Llama2c(path) => finish(llama2c::read(&path)?, &path, Format::Llama2c),
        }
    }
}

/// Opens the converted file as any `tokenizer.json`, so that all formats pass the same checks.
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

/// Marian's model of the source, with that of the target where it is next to it.
fn marian_pair(path: &Path) -> Result<(Tokenizer, Format)> {
    let (source, format) = finish(marian::read(path)?, path, Format::SentencePiece)?;
    let target = path.with_file_name(marian::TARGET_FILE);
    if !taal_store::exists(&target) {
        return Ok((source, format));
    }
    refuse_stand_in(&target, &taal_store::read(&target, MAX_FILE_BYTES)?)?;
    let (target, _) = finish(marian::read(&target)?, &target, format)?;
    Ok((source.with_target(&target)?, format))
}

fn problem(path: &Path, format: Format, detail: impl Into<String>) -> Error {
    Error::Import {
        path: path.to_path_buf(),
        format,
        detail: detail.into(),
    }
}

fn unrecognized(path: &Path, detail: impl Into<String>) -> Error {
    Error::Unrecognized {
        path: path.to_path_buf(),
        detail: detail.into(),
    }
}

/// Refuses what failed downloads leave instead of a file, which some formats would report as damaged.
fn refuse_stand_in(path: &Path, bytes: &[u8]) -> Result<()> {
    match FileFormat::of(bytes) {
        Some(format @ (FileFormat::GitLfsPointer | FileFormat::Html)) => {
            Err(unrecognized(path, format.in_place_of("a tokenizer's file")))
        }
        _ => Ok(()),
    }
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// The tokenizer of a folder: by the well-known names, else by the only file with a tokenizer's extension.
fn in_folder(folder: &Path) -> Result<Found> {
    for name in [
        "tokenizer.json",
        "vocab.json",
        "encoder.json",
        "tokenizer.model",
        "spiece.model",
        marian::SOURCE_FILE,
        "vocab.txt",
        "tokenizer.bin",
    ] {
        let path = folder.join(name);
        // A vocab.json without merges is skipped: not only GPT-2 uses that name.
        let is_whole = !matches!(name, "vocab.json" | "encoder.json") || gpt2::pair(&path).is_some();
        if taal_store::exists(&path) && is_whole {
            return recognize(&path);
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
        [name] => recognize(&folder.join(name)),
        [] => Err(unrecognized(folder, "a folder without a tokenizer file")),
        several => {
            let some = several.iter().take(8).copied().collect::<Vec<_>>().join(", ");
            let detail = format!("a folder with several tokenizer files ({some}): name one of them");
            Err(unrecognized(folder, detail))
        }
    }
}

/// Recognizes a file, first by content, then by name.
fn recognize(path: &Path) -> Result<Found> {
    let bytes = taal_store::read(path, MAX_FILE_BYTES)?;
    refuse_stand_in(path, &bytes)?;
    let text = std::str::from_utf8(&bytes).ok();
    let name = name_of(path);
    let path = path.to_path_buf();
    if let Some(text) = text {
        let start = text.trim_start();
        if start.starts_with('{') {
            return recognize_json(path, text);
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
    // SentencePiece's first bytes, read as a length, are far larger than llama2.c's longest token.
    if llama2c::looks_like(&bytes) {
        return Ok(Found::Llama2c(path));
    }
    if sentencepiece::looks_like(&bytes) && name == marian::SOURCE_FILE {
        return Ok(Found::Marian(path));
    }
    if sentencepiece::looks_like(&bytes) {
        return Ok(Found::SentencePiece(path));
    }
    let detail = match FileFormat::of(&bytes) {
        _ if bytes.is_empty() => "an empty file".to_owned(),
        Some(format) => format.in_place_of("a tokenizer"),
        None => "an unknown kind of file".to_owned(),
    };
    Err(unrecognized(&path, detail))
}

fn recognize_json(path: PathBuf, text: &str) -> Result<Found> {
    // A damaged file is reported later when it is read; the relevant keys are near the start or the end.
    let is_tokenizer = text.contains("\"model\"") && text.contains("\"vocab\"");
    if !is_tokenizer && gpt2::pair(&path).is_some() || gpt2::is_vocabulary_name(name_of(&path)) {
        return gpt2_pair(&path);
    }
    Ok(Found::TokenizerJson(path))
}

fn gpt2_pair(path: &Path) -> Result<Found> {
    let pair = gpt2::pair(path);
    let (vocabulary, merges) = pair.ok_or_else(|| {
        let detail = "half of a tokenizer: the other file (vocab.bpe or merges.txt, encoder.json or vocab.json) is not next to it";
        problem(path, Format::Gpt2, detail)
    })?;
    Ok(Found::Gpt2 { vocabulary, merges })
}

/// All ways to make tokens from two others, in the order of the tokens, which are sorted by priority.
///
/// tiktoken and SentencePiece merge any two neighbors whose text is a token, in order of priority; a `tokenizer.json` lists
/// pairs. All pairs of a token are adjacent, so that it does not matter which of them a text contains.
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
