//! Builds a folder of token shards: from inputs of any size to one self-contained folder, or nothing on failure.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use taal_store::layout::{SHARDS_INDEX_FILE, TOKENIZER_FILE};
use taal_store::{AtomicDir, LineEnds, blake3_hex};
use taal_tokenizer::Tokenizer;

use crate::error::{DataError, Result};
use crate::input::{Content, find_inputs};
use crate::shard::{ShardOrigin, ShardWriter};
use crate::tokenize::{InputTotals, Part, PartTotals, Sink, TokenizeOptions, Totals, tokenize};

pub(crate) const INDEX_FORMAT: &str = "taal-shards";
pub(crate) const INDEX_VERSION: u32 = 1;

/// Tokens per shard before the next one starts: 128 MiB for small vocabularies.
pub const DEFAULT_SHARD_TOKENS: u64 = 64 << 20;

/// Options of [`build_shards`].
#[derive(Debug, Clone, Copy)]
pub struct BuildOptions<'a> {
    /// How inputs become tokens.
    pub tokenize: TokenizeOptions<'a>,
    /// Tokens after which a shard is closed; it still gets the rest of the text being encoded.
    pub shard_tokens: u64,
}

impl Default for BuildOptions<'_> {
    fn default() -> Self {
        Self {
            tokenize: TokenizeOptions::default(),
            shard_tokens: DEFAULT_SHARD_TOKENS,
        }
    }
}

/// The result of [`build_shards`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BuildReport {
    /// Each input with its share of the tokens.
    pub inputs: Vec<InputSummary>,
    /// Tokens of the training part, separators included.
    pub train_tokens: u64,
    /// Bytes of text of the training part.
    pub train_bytes: u64,
    /// Tokens of the validation part.
    pub validation_tokens: u64,
    /// Bytes of text of the validation part.
    pub validation_bytes: u64,
    /// Number of shard files.
    pub shards: usize,
    /// Cuts of a long text for parallel work around which the ids may differ from those of the whole text. 0 for any text with
    /// spaces or line ends.
    pub inexact_cuts: u64,
    /// Carriage returns in the inputs.
    pub carriage_returns: u64,
}

/// One input of a folder of shards or a dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputSummary {
    /// The name of the input.
    pub name: String,
    /// Tokens in the training part.
    pub train_tokens: u64,
    /// Bytes of text in the training part.
    pub train_bytes: u64,
    /// Tokens in the validation part.
    pub validation_tokens: u64,
    /// Bytes of text in the validation part.
    pub validation_bytes: u64,
}

impl From<&InputTotals> for InputSummary {
    fn from(totals: &InputTotals) -> Self {
        Self {
            name: totals.name.clone(),
            train_tokens: totals.train.tokens,
            train_bytes: totals.train.bytes,
            validation_tokens: totals.validation.tokens,
            validation_bytes: totals.validation.bytes,
        }
    }
}

/// `index.json`: the map of a folder of shards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Index {
    pub(crate) format: String,
    pub(crate) version: u32,
    pub(crate) tokenizer_hash: String,
    pub(crate) vocab_size: usize,
    pub(crate) validation_fraction: f64,
    /// Missing in folders of Taal before 0.3, which kept carriage returns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) line_ends: Option<LineEnds>,
    pub(crate) train: Vec<ShardEntry>,
    pub(crate) validation: Vec<ShardEntry>,
    pub(crate) inputs: Vec<InputSummary>,
    /// BLAKE3 of the index in compact JSON with this field empty.
    pub(crate) blake3: String,
}

/// One shard of a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShardEntry {
    pub(crate) file: String,
    pub(crate) tokens: u64,
    pub(crate) text_bytes: u64,
}

impl Index {
    /// The checksum for `blake3`.
    pub(crate) fn checksum(&self) -> serde_json::Result<String> {
        let unsigned = Self {
            blake3: String::new(),
            ..self.clone()
        };
        Ok(blake3_hex(&serde_json::to_vec(&unsigned)?))
    }
}

/// Builds token shards from texts, in a new folder `out` that appears only when it is complete.
///
/// The folder holds `train-00000.shard`, `validation-00000.shard` and so on, the `tokenizer.json` that made them, and
/// `index.json`, which says which ids belong to which input.
///
/// Inputs are text files, JSONL files with one `{"text": ...}` per line, or folders, which are searched as by
/// [`find_files`](crate::find_files). The last part of each file is held back for validation. Files may be larger than memory:
/// they are read twice, first to check and measure them, then to encode them.
///
/// # Errors
/// Any error in an input, with its position; the store's, such as [`taal_store::Error::AlreadyExists`] for `out` and
/// a full disk. Nothing is left behind.
pub fn build_shards(
    tokenizer: &Tokenizer,
    inputs: &[PathBuf],
    out: &Path,
    options: &BuildOptions<'_>,
) -> Result<BuildReport> {
    if options.shard_tokens == 0 {
        return Err(DataError::Setting {
            key: "shard_tokens",
            detail: "expected at least 1, got 0".to_owned(),
        });
    }
    let inputs = find_inputs(inputs, Content::Text, options.tokenize.line_ends)?;
    taal_store::remove_leftovers_of(out)?;
    let dir = AtomicDir::create(out)?;
    let mut sink = ShardSink {
        train: ShardSet::new(&dir, "train", ShardOrigin::of(tokenizer), options.shard_tokens),
        validation: ShardSet::new(&dir, "validation", ShardOrigin::of(tokenizer), options.shard_tokens),
    };
    let totals = tokenize(tokenizer, &inputs, &options.tokenize, &mut sink)?;
    let (train, validation) = (sink.train.finish()?, sink.validation.finish()?);
    let report = report(&totals, train.len() + validation.len());
    let index = Index {
        format: INDEX_FORMAT.to_owned(),
        version: INDEX_VERSION,
        tokenizer_hash: tokenizer.hash().to_owned(),
        vocab_size: tokenizer.vocab_size(),
        validation_fraction: options.tokenize.validation_fraction,
        line_ends: Some(options.tokenize.line_ends),
        train,
        validation,
        inputs: report.inputs.clone(),
        blake3: String::new(),
    };
    let index_json = index_json(index).map_err(|error| DataError::Index {
        path: out.join(SHARDS_INDEX_FILE),
        detail: format!("cannot be written as JSON ({error})"),
    })?;
    dir.write(TOKENIZER_FILE, &tokenizer.to_json())?;
    dir.write(SHARDS_INDEX_FILE, &index_json)?;
    dir.commit()?;
    Ok(report)
}

fn index_json(mut index: Index) -> serde_json::Result<Vec<u8>> {
    index.blake3 = index.checksum()?;
    let mut json = serde_json::to_vec_pretty(&index)?;
    json.push(b'\n');
    Ok(json)
}

fn report(totals: &Totals, shards: usize) -> BuildReport {
    let sum = |part: fn(&InputTotals) -> PartTotals| {
        totals
            .inputs
            .iter()
            .map(part)
            .fold(PartTotals::default(), |sum, part| PartTotals {
                tokens: sum.tokens + part.tokens,
                bytes: sum.bytes + part.bytes,
            })
    };
    let (train, validation) = (sum(|input| input.train), sum(|input| input.validation));
    BuildReport {
        inputs: totals.inputs.iter().map(InputSummary::from).collect(),
        train_tokens: train.tokens,
        train_bytes: train.bytes,
        validation_tokens: validation.tokens,
        validation_bytes: validation.bytes,
        shards,
        inexact_cuts: totals.inexact_cuts,
        carriage_returns: totals.carriage_returns,
    }
}

struct ShardSink<'d> {
    train: ShardSet<'d>,
    validation: ShardSet<'d>,
}

impl Sink for ShardSink<'_> {
    fn push(&mut self, part: Part, ids: &[u32], text_bytes: u64) -> Result<()> {
        match part {
            Part::Train => self.train.push(ids, text_bytes),
            Part::Validation => self.validation.push(ids, text_bytes),
        }
    }
}

/// The shards of one part, one being written at a time.
struct ShardSet<'d> {
    dir: &'d AtomicDir,
    stem: &'static str,
    origin: ShardOrigin,
    shard_tokens: u64,
    open: Option<ShardWriter>,
    entries: Vec<ShardEntry>,
}

impl<'d> ShardSet<'d> {
    fn new(dir: &'d AtomicDir, stem: &'static str, origin: ShardOrigin, shard_tokens: u64) -> Self {
        Self {
            dir,
            stem,
            origin,
            shard_tokens,
            open: None,
            entries: Vec::new(),
        }
    }

    fn push(&mut self, ids: &[u32], text_bytes: u64) -> Result<()> {
        if self
            .open
            .as_ref()
            .is_some_and(|open| open.tokens() >= self.shard_tokens)
        {
            self.close()?;
        }
        let writer = match self.open.take() {
            Some(writer) => writer,
            None => {
                let file = format!("{}-{:05}.shard", self.stem, self.entries.len());
                let writer = ShardWriter::in_dir(self.dir, &file, &self.origin)?;
                self.entries.push(ShardEntry {
                    file,
                    tokens: 0,
                    text_bytes: 0,
                });
                writer
            }
        };
        let writer = self.open.insert(writer);
        writer.push(ids, text_bytes)?;
        if let Some(entry) = self.entries.last_mut() {
            entry.tokens += ids.len() as u64;
            entry.text_bytes += text_bytes;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        self.open.take().map_or(Ok(()), ShardWriter::finish)
    }

    fn finish(mut self) -> Result<Vec<ShardEntry>> {
        self.close()?;
        Ok(self.entries)
    }
}
