//! A training part and its validation parts, made from texts in memory, from files, or from a folder of shards.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use taal_store::layout::{SHARDS_INDEX_FILE, TOKENIZER_FILE};
use taal_store::{LineEnds, RelPath};
use taal_tokenizer::Tokenizer;

use crate::batch::BatchSource;
use crate::build::{INDEX_FORMAT, INDEX_VERSION, Index, InputSummary, ShardEntry};
use crate::error::{DataError, Result};
use crate::input::{Content, Input, find_inputs};
use crate::mixture::Mixture;
use crate::shard::Shard;
use crate::source::{ShardRun, Storage, TokenSource};
use crate::tokenize::{Part, Sink, TokenizeOptions, tokenize};

/// An index has a few hundred bytes per input; a larger file is not an index.
const MAX_INDEX_BYTES: u64 = 256 << 20;

/// Ids up to this vocabulary are kept in two bytes.
const MAX_NARROW_VOCABULARY: usize = 1 << 16;

/// Token ids to train on and to validate with.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Dataset {
    /// The training parts of all inputs, one after the other. Windows may cross the end of an input: this packs texts shorter
    /// than a block, and weights the inputs by length.
    pub train: TokenSource,
    /// The same with a weight per input, where windows are drawn by weight: see [`with_weights`](Self::with_weights).
    pub mixture: Option<Mixture>,
    /// The validation part of each input, each evaluated separately. Empty where nothing is held back.
    pub validation: Vec<TokenSource>,
    /// Token and byte counts of each input.
    pub inputs: Vec<InputSummary>,
    /// BLAKE3 of the tokenizer that made the ids.
    pub tokenizer_hash: String,
    /// Number of ids in its vocabulary.
    pub vocab_size: usize,
    /// The treatment of carriage returns.
    pub line_ends: LineEnds,
    /// Carriage returns in the inputs; 0 for shards, for which `taal data build` reported it.
    pub carriage_returns: u64,
}

impl Dataset {
    /// Encodes texts in memory, such as an embedded corpus; each comes with its name for messages.
    ///
    /// # Errors
    /// [`DataError::Empty`], [`DataError::TooShortToSplit`], [`DataError::Tokenizer`], [`DataError::Setting`].
    pub fn from_texts(tokenizer: &Tokenizer, texts: &[(&str, &str)], options: &TokenizeOptions<'_>) -> Result<Self> {
        let inputs = texts
            .iter()
            .map(|(name, text)| Input::text(name, text, options.line_ends));
        let inputs: Vec<_> = inputs.collect();
        Self::from_inputs(tokenizer, &inputs, options)
    }

    /// Encodes files and folders as [`build_shards`](crate::build_shards) does, keeping the ids in memory (two bytes per token up
    /// to a vocabulary of 65 536).
    ///
    /// # Errors
    /// Any error in an input, with its position.
    pub fn from_files(tokenizer: &Tokenizer, paths: &[PathBuf], options: &TokenizeOptions<'_>) -> Result<Self> {
        Self::from_inputs(
            tokenizer,
            &find_inputs(paths, Content::Text, options.line_ends)?,
            options,
        )
    }

    fn from_inputs(tokenizer: &Tokenizer, inputs: &[Input<'_>], options: &TokenizeOptions<'_>) -> Result<Self> {
        let vocab_size = tokenizer.vocab_size();
        let mut sink = MemorySink {
            train: empty_storage(vocab_size),
            validation: empty_storage(vocab_size),
        };
        let totals = tokenize(tokenizer, inputs, options, &mut sink)?;
        let inputs = totals.inputs.iter().map(InputSummary::from).collect();
        let hash = tokenizer.hash().to_owned();
        Ok(Self {
            line_ends: options.line_ends,
            carriage_returns: totals.carriage_returns,
            ..Self::assemble(inputs, sink.train, sink.validation, hash, vocab_size)
        })
    }

    fn assemble(
        inputs: Vec<InputSummary>,
        train: Storage,
        validation: Storage,
        tokenizer_hash: String,
        vocab_size: usize,
    ) -> Self {
        let name = match inputs.as_slice() {
            [one] => one.name.clone(),
            [first, rest @ ..] => format!("{} and {} more", first.name, rest.len()),
            [] => String::new(),
        };
        let train = Arc::new(train);
        let train_bytes = inputs.iter().map(|input| input.train_bytes).sum();
        let storage = Arc::new(validation);
        let mut start = 0;
        let mut validation = Vec::new();
        for input in inputs.iter().filter(|input| input.validation_tokens > 0) {
            let (tokens, bytes) = (input.validation_tokens, input.validation_bytes);
            validation.push(TokenSource::part(input.name.clone(), &storage, start, tokens, bytes));
            start += tokens;
        }
        let train = TokenSource::part(name, &train, 0, train.len(), train_bytes);
        Self {
            train,
            mixture: None,
            validation,
            inputs,
            tokenizer_hash,
            vocab_size,
            line_ends: LineEnds::Keep,
            carriage_returns: 0,
        }
    }

    /// The same ids, of which training draws each row from one input, with a probability in proportion to its weight.
    ///
    /// # Errors
    ///
    /// [`DataError::Setting`] where there is not one weight per input, those of [`Mixture::new`].
    pub fn with_weights(mut self, weights: &[f64]) -> Result<Self> {
        if weights.len() != self.inputs.len() {
            let names: Vec<&str> = self.inputs.iter().map(|input| input.name.as_str()).take(10).collect();
            let more = if self.inputs.len() > names.len() { ", ..." } else { "" };
            let detail = format!(
                "expected one weight for each of {} inputs ({}{more}), got {}",
                self.inputs.len(),
                names.join(", "),
                weights.len()
            );
            return Err(DataError::Setting {
                key: "data.weights",
                detail,
            });
        }
        if self.inputs.iter().map(|input| input.train_tokens).sum::<u64>() != self.train.len() {
            return Err(DataError::Setting {
                key: "data.weights",
                detail: "shards were left out, so it is not known which text the others are of: leave the weights out"
                    .to_owned(),
            });
        }
        let mut start = 0;
        let mut sources = Vec::with_capacity(weights.len());
        for (input, weight) in self.inputs.iter().zip(weights) {
            let (tokens, bytes) = (input.train_tokens, input.train_bytes);
            sources.push((self.train.slice(input.name.clone(), start, tokens, bytes), *weight));
            start += tokens;
        }
        self.mixture = Some(Mixture::new(sources)?);
        Ok(self)
    }

    /// What training draws its batches from.
    pub fn training(&self) -> &dyn BatchSource {
        match &self.mixture {
            Some(mixture) => mixture,
            None => &self.train,
        }
    }

    /// Opens a folder that [`build_shards`](crate::build_shards) made, and verifies every byte of it.
    ///
    /// # Errors
    /// [`DataError::Shard`] and [`DataError::Index`] for anything damaged, truncated or of another format; the store's for a
    /// missing file.
    pub fn open(dir: &Path) -> Result<Self> {
        Ok(Self::open_except(dir, false)?.0)
    }

    /// As [`open`](Self::open), but damaged training shards are left out, and their errors are returned. Validation shards are
    /// never left out, because a loss over less text would not be comparable.
    ///
    /// # Errors
    /// As [`open`](Self::open), and [`DataError::Shard`] where all training shards are damaged.
    pub fn open_without_damaged(dir: &Path) -> Result<(Self, Vec<DataError>)> {
        Self::open_except(dir, true)
    }

    fn open_except(dir: &Path, are_damaged_left_out: bool) -> Result<(Self, Vec<DataError>)> {
        let path = dir.join(SHARDS_INDEX_FILE);
        let index = read_index(&path)?;
        let (train, damaged) = open_shards(dir, &path, &index, &index.train, are_damaged_left_out)?;
        let (validation, _) = open_shards(dir, &path, &index, &index.validation, false)?;
        let total = |count: fn(&InputSummary) -> u64| {
            let mut counts = index.inputs.iter().map(count);
            counts.try_fold(0, u64::checked_add)
        };
        let listed = index
            .train
            .iter()
            .try_fold(0, |tokens: u64, entry| tokens.checked_add(entry.tokens));
        let is_sum = total(|input| input.train_tokens) == listed
            && listed.is_some()
            && total(|input| input.validation_tokens) == Some(validation.len())
            && total(|input| input.train_bytes).is_some()
            && total(|input| input.validation_bytes).is_some();
        if !is_sum {
            return Err(DataError::Index {
                path,
                detail: "does not add up to the tokens of its shards".to_owned(),
            });
        }
        let dataset = Self {
            line_ends: index.line_ends.unwrap_or(LineEnds::Keep),
            ..Self::assemble(index.inputs, train, validation, index.tokenizer_hash, index.vocab_size)
        };
        Ok((dataset, damaged))
    }

    /// The tokenizer in a folder of shards.
    ///
    /// # Errors
    /// [`DataError::WrongTokenizer`] where the file was replaced by another; the tokenizer's, [`DataError::Index`] and the
    /// store's.
    pub fn open_tokenizer(dir: &Path) -> Result<Tokenizer> {
        let index = read_index(&dir.join(SHARDS_INDEX_FILE))?;
        let path = dir.join(TOKENIZER_FILE);
        let name = path.display().to_string();
        let tokenizer = Tokenizer::open(&path).map_err(|source| DataError::Tokenizer { name, source })?;
        if tokenizer.hash() != index.tokenizer_hash {
            let (expected, found) = (tokenizer.hash().to_owned(), index.tokenizer_hash);
            return Err(DataError::WrongTokenizer {
                path: dir.to_owned(),
                expected,
                found,
            });
        }
        Ok(tokenizer)
    }

    /// A hash of all ids, those to train on and those to validate with: equal for equal data.
    pub fn fingerprint(&self) -> String {
        let sources = std::iter::once(&self.train).chain(&self.validation);
        taal_store::blake3_hex_of(sources.map(TokenSource::fingerprint))
    }

    /// Checks that the ids were made with `tokenizer`; `path` is the folder that the error names.
    ///
    /// # Errors
    /// [`DataError::WrongTokenizer`].
    pub fn expect_tokenizer(&self, tokenizer: &Tokenizer, path: &Path) -> Result<()> {
        if tokenizer.hash() == self.tokenizer_hash {
            return Ok(());
        }
        Err(DataError::WrongTokenizer {
            path: path.to_owned(),
            expected: tokenizer.hash().to_owned(),
            found: self.tokenizer_hash.clone(),
        })
    }
}

fn empty_storage(vocab_size: usize) -> Storage {
    if vocab_size <= MAX_NARROW_VOCABULARY {
        Storage::Narrow(Vec::new())
    } else {
        Storage::Wide(Vec::new())
    }
}

struct MemorySink {
    train: Storage,
    validation: Storage,
}

impl Sink for MemorySink {
    fn push(&mut self, part: Part, ids: &[u32], _text_bytes: u64) -> Result<()> {
        let storage = match part {
            Part::Train => &mut self.train,
            Part::Validation => &mut self.validation,
        };
        match storage {
            Storage::Narrow(stored) => stored.extend(ids.iter().map(|&id| id as u16)),
            Storage::Wide(stored) => stored.extend_from_slice(ids),
            Storage::Shards(_) => unreachable!("a memory sink starts with storage in memory"),
        }
        Ok(())
    }
}

fn read_index(path: &Path) -> Result<Index> {
    let bad = |detail: String| DataError::Index {
        path: path.to_owned(),
        detail,
    };
    let json = taal_store::read_text(path, MAX_INDEX_BYTES)?;
    let index: Index =
        serde_json::from_str(&json).map_err(|error| bad(format!("is not an index of token shards ({error})")))?;
    if index.format != INDEX_FORMAT || index.version != INDEX_VERSION {
        let (format, version) = (&index.format, index.version);
        return Err(bad(format!(
            "is `{format}` version {version}, expected `{INDEX_FORMAT}` version {INDEX_VERSION}"
        )));
    }
    let checksum = index
        .checksum()
        .map_err(|error| bad(format!("cannot be checked ({error})")))?;
    if checksum != index.blake3 {
        return Err(bad("was damaged or edited: its checksum does not match".to_owned()));
    }
    Ok(index)
}

/// The path of a shard in the index, which must be inside the folder after resolving links.
fn shard_path(dir: &Path, index_path: &Path, file: &str) -> Result<PathBuf> {
    let path = RelPath::parse(file).and_then(|path| {
        path.resolve(dir)?;
        Ok(path.join(dir))
    });
    path.map_err(|error| match error {
        taal_store::Error::UnsafePath { .. } => DataError::Index {
            path: index_path.to_owned(),
            detail: format!("lists a shard by an {error}"),
        },
        error => error.into(),
    })
}

/// The shards of a list as one run; damaged ones are an error, or left out and returned.
fn open_shards(
    dir: &Path,
    index_path: &Path,
    index: &Index,
    entries: &[ShardEntry],
    are_damaged_left_out: bool,
) -> Result<(Storage, Vec<DataError>)> {
    let mut run = ShardRun::default();
    let mut damaged = Vec::new();
    for entry in entries {
        match open_shard(dir, index_path, index, entry) {
            Ok(shard) => run.push(shard),
            Err(error @ DataError::Shard { .. }) if are_damaged_left_out => damaged.push(error),
            Err(error) => return Err(error),
        }
    }
    match damaged.pop() {
        Some(error) if damaged.len() + 1 == entries.len() => Err(error),
        last => {
            damaged.extend(last);
            Ok((Storage::Shards(run), damaged))
        }
    }
}

fn open_shard(dir: &Path, index_path: &Path, index: &Index, entry: &ShardEntry) -> Result<Shard> {
    let path = shard_path(dir, index_path, &entry.file)?;
    let shard = Shard::open(&path, Some(&index.tokenizer_hash))?;
    let is_as_listed = shard.tokens() == entry.tokens
        && shard.text_bytes() == entry.text_bytes
        && shard.origin().vocab_size == index.vocab_size;
    if !is_as_listed {
        let detail = format!("lists {} with other numbers than its header has", entry.file);
        return Err(DataError::Index {
            path: index_path.to_owned(),
            detail,
        });
    }
    shard.verify()?;
    Ok(shard)
}
