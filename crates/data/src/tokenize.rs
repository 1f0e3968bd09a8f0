//! From inputs to ids: measured first, then streamed, split, encoded in parallel and passed to a sink in order.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use taal_store::LineEnds;
use taal_tokenizer::{TextPart, Tokenizer};

use crate::chunk::{CHUNK_BYTES, Chunk, Chunker};
use crate::dialogue::{self, Columns, LONG_ROW};
use crate::error::{DataError, Result};
use crate::input::{Content, Input, Rows as RowKind, find_inputs};
use crate::records::Records;
use crate::text::{
    DEFAULT_VALIDATION_FRACTION, Lines, Pieces, byte_of_character, check_fraction, checked_train_share,
    count_characters, split_text, train_share, type_name,
};

/// Chunks per thread before the next batch of text is read.
const CHUNKS_PER_THREAD: usize = 4;

/// The most texts waiting to be encoded: with files of tiny documents it could otherwise be hundreds of thousands.
const MAX_WAITING: usize = 4096;

/// The separator between documents in the training part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Separator {
    /// The tokenizer's end-of-text token where it has one, otherwise nothing.
    #[default]
    EndOfText,
    /// This token.
    Id(u32),
    /// Nothing.
    None,
}

/// The progress of tokenization; passed to the callback after every group of chunks.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Progress<'a> {
    /// The input being read.
    pub name: &'a str,
    /// Bytes of text encoded so far, over all inputs.
    pub bytes_done: u64,
    /// Bytes of text in all inputs.
    pub bytes_total: u64,
    /// Tokens so far, over all inputs.
    pub tokens: u64,
}

/// How inputs become tokens.
#[derive(Clone, Copy)]
pub struct TokenizeOptions<'a> {
    /// Share of each input, counted in characters (a text) or documents (JSONL), that is held back from its end.
    pub validation_fraction: f64,
    /// The separator between documents.
    pub separator: Separator,
    /// The treatment of carriage returns.
    pub line_ends: LineEnds,
    /// Number of encoding threads; 0 for one per core. The ids are the same for any number.
    pub threads: usize,
    /// Called regularly, always from the calling thread.
    pub progress: Option<&'a dyn Fn(Progress<'_>)>,
}

impl Default for TokenizeOptions<'_> {
    fn default() -> Self {
        Self {
            validation_fraction: DEFAULT_VALIDATION_FRACTION,
            separator: Separator::EndOfText,
            line_ends: LineEnds::Lf,
            threads: 0,
            progress: None,
        }
    }
}

impl std::fmt::Debug for TokenizeOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenizeOptions")
            .field("validation_fraction", &self.validation_fraction)
            .field("separator", &self.separator)
            .field("line_ends", &self.line_ends)
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}

/// Which side of the split a token belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Train,
    Validation,
}

/// Receives ids in order.
pub(crate) trait Sink {
    /// Takes the ids of `text_bytes` bytes of text.
    fn push(&mut self, part: Part, ids: &[u32], text_bytes: u64) -> Result<()>;
}

/// Counts of one part of an input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PartTotals {
    pub(crate) tokens: u64,
    pub(crate) bytes: u64,
}

/// Counts of one input.
#[derive(Debug, Clone)]
pub(crate) struct InputTotals {
    pub(crate) name: String,
    pub(crate) train: PartTotals,
    pub(crate) validation: PartTotals,
}

/// Counts of all inputs.
#[derive(Debug)]
pub(crate) struct Totals {
    pub(crate) inputs: Vec<InputTotals>,
    pub(crate) inexact_cuts: u64,
    pub(crate) carriage_returns: u64,
}

/// Encodes all inputs into `sink`: the training parts concatenated with separators, and the validation parts separately.
///
/// # Errors
/// Every error in the inputs, reported before encoding where the first pass can detect it.
pub(crate) fn tokenize(
    tokenizer: &Tokenizer,
    inputs: &[Input<'_>],
    options: &TokenizeOptions<'_>,
    sink: &mut dyn Sink,
) -> Result<Totals> {
    check_fraction(options.validation_fraction)?;
    if inputs.is_empty() {
        return Err(DataError::NoInput);
    }
    let separator = match options.separator {
        Separator::EndOfText => tokenizer.eos_id(),
        Separator::Id(id) if (id as usize) < tokenizer.vocab_size() => Some(id),
        Separator::Id(id) => {
            let detail = format!(
                "expected an id below the vocabulary size {}, got {id}",
                tokenizer.vocab_size()
            );
            return Err(DataError::Setting {
                key: "data.separator",
                detail,
            });
        }
        Separator::None => None,
    };
    let measures = measure_all(inputs, options)?;
    let pool = thread_pool(options.threads)?;
    let mut run = Run {
        tokenizer,
        vocab_size: tokenizer.vocab_size(),
        separator,
        pool: &pool,
        options,
        sink,
        waiting: Vec::new(),
        waiting_bytes: 0,
        bytes_done: 0,
        bytes_total: measures.iter().map(|measure| measure.bytes).sum(),
        tokens: 0,
        inexact_cuts: 0,
        totals: None,
    };
    let mut totals = Vec::with_capacity(inputs.len());
    for (input, measure) in inputs.iter().zip(&measures) {
        totals.push(run.input(input, measure, totals.is_empty())?);
    }
    Ok(Totals {
        inputs: totals,
        inexact_cuts: run.inexact_cuts,
        carriage_returns: measures.iter().map(|measure| measure.carriage_returns).sum(),
    })
}

fn thread_pool(threads: usize) -> Result<rayon::ThreadPool> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|error| DataError::Setting {
            key: "threads",
            detail: format!("{threads} threads could not be started ({error}): ask for fewer"),
        })
}

/// The result of the first pass over an input.
#[derive(Debug, PartialEq, Eq)]
struct Measure {
    /// Bytes of text, without byte order mark and JSON syntax.
    bytes: u64,
    /// Characters of a text, documents of a JSONL file.
    units: u64,
    /// How many of the units, from the first, are for training.
    train_units: u64,
    carriage_returns: u64,
}

/// Measures every input; empty ones are reported together, so that all can be fixed at once.
fn measure_all(inputs: &[Input<'_>], options: &TokenizeOptions<'_>) -> Result<Vec<Measure>> {
    let mut measures = Vec::with_capacity(inputs.len());
    let mut empty = Vec::new();
    for input in inputs {
        match measure(input, options) {
            Ok(measure) => measures.push(measure),
            Err(DataError::Empty { name }) => empty.push(name),
            Err(error) => return Err(error),
        }
    }
    refuse_empty(empty)?;
    Ok(measures)
}

/// # Errors
/// [`DataError::Empty`] or [`DataError::AllEmpty`] where `names` is not empty.
fn refuse_empty(mut names: Vec<String>) -> Result<()> {
    match names.len() {
        0 => Ok(()),
        1 => Err(DataError::Empty { name: names.remove(0) }),
        _ => Err(DataError::AllEmpty { names }),
    }
}

/// Reads an input once, so that the second pass knows where to split, and encoding errors are reported early.
fn measure(input: &Input<'_>, options: &TokenizeOptions<'_>) -> Result<Measure> {
    let (mut bytes, mut units) = (0, 0);
    let carriage_returns = if input.is_jsonl() {
        let mut lines = Lines::open(input)?;
        while let Some((_, text)) = next_document(&mut lines)? {
            bytes += text.len() as u64;
            units += 1;
        }
        lines.carriage_returns()
    } else {
        let mut reader = Pieces::open(input)?;
        let mut text = String::new();
        while reader.read_into(&mut text)? {
            bytes += text.len() as u64;
            units += count_characters(text.as_bytes());
            text.clear();
        }
        reader.carriage_returns()
    };
    if units == 0 {
        return Err(DataError::Empty {
            name: input.name.clone(),
        });
    }
    let unit = if input.is_jsonl() { "document" } else { "character" };
    let train_units = checked_train_share(&input.name, units, unit, options.validation_fraction)?;
    Ok(Measure {
        bytes,
        units,
        train_units,
        carriage_returns,
    })
}

/// The number of the next line and its `text`.
fn next_document(lines: &mut Lines<'_>) -> Result<Option<(u64, String)>> {
    let Some((line, mut object)) = lines.next_object()? else {
        return Ok(None);
    };
    match lines.take_string(&mut object, "text")? {
        Some(text) if text.is_empty() => Err(lines.bad("key `text` is empty: leave the line out".to_owned())),
        Some(text) => Ok(Some((line, text))),
        None if object.contains_key("completion") => Err(lines.bad(
            "found `completion` where plain text needs `text`: a file of conversations is not made into shards, name \
             it in a recipe's data.conversations"
                .to_owned(),
        )),
        None => Err(lines.bad("key `text` is missing: each line needs {\"text\": \"...\"}".to_owned())),
    }
}

/// The limit of a tokenizer's training text in memory; `TrainerConfig::train_files` streams larger ones.
const MAX_TRAINING_TEXT_BYTES: u64 = 1 << 30;

/// The training part of every file and folder, split as [`Dataset::from_files`](crate::Dataset::from_files) splits
/// it, for training a tokenizer that has not seen the held-back part.
///
/// # Errors
/// [`DataError::Setting`] above 1 GiB of text, or any error in an input, with its position.
pub fn training_texts(paths: &[PathBuf], validation_fraction: f64, line_ends: LineEnds) -> Result<Vec<String>> {
    check_fraction(validation_fraction)?;
    let mut texts = Vec::new();
    let mut left_bytes = MAX_TRAINING_TEXT_BYTES;
    let mut empty = Vec::new();
    for input in &find_inputs(paths, Content::Text, line_ends)? {
        let bytes = taal_store::file_size_bytes(&input.path())?;
        left_bytes = left_bytes.checked_sub(bytes).ok_or_else(|| DataError::Setting {
            key: "tokenizer.kind",
            detail: format!(
                "{} and the texts before it are more than {MAX_TRAINING_TEXT_BYTES} bytes of text: train the tokenizer \
                 with `taal tokenizer train`, which reads files of any size, and name it in tokenizer.file",
                input.name
            ),
        })?;
        if input.is_jsonl() {
            let mut documents = Vec::new();
            let mut lines = Lines::open(input)?;
            while let Some((_, text)) = next_document(&mut lines)? {
                documents.push(text);
            }
            documents.truncate(train_share(documents.len() as u64, validation_fraction) as usize);
            texts.append(&mut documents);
        } else {
            let mut text = String::new();
            let mut reader = Pieces::open(input)?;
            while reader.read_into(&mut text)? {}
            if text.is_empty() {
                empty.push(input.name.clone());
            }
            texts.push(split_text(&text, validation_fraction).0.to_owned());
        }
    }
    refuse_empty(empty)?;
    Ok(texts)
}

/// The whole text of files, for training a tokenizer on texts of any size: every document of JSON Lines and Parquet, and
/// everything said in a conversation.
///
/// # Errors
/// [`DataError::Empty`] and [`DataError::AllEmpty`] before anything is read; items report errors in files.
pub fn tokenizer_texts<'a>(
    files: &'a [PathBuf],
    line_ends: LineEnds,
    carriage_returns: &'a Cell<u64>,
) -> Result<impl Iterator<Item = Result<TextPart>> + 'a> {
    let mut empty = Vec::new();
    for path in files {
        if taal_store::file_size_bytes(path)? == 0 {
            empty.push(path.display().to_string());
        }
    }
    refuse_empty(empty)?;
    Ok(files
        .iter()
        .flat_map(move |path| FileParts::open(path, line_ends, carriage_returns)))
}

/// The parts of one file, read lazily.
struct FileParts<'a> {
    state: FileState,
    carriage_returns: &'a Cell<u64>,
}

enum FileState {
    Failed(DataError),
    Text(Pieces<'static>),
    Rows(Box<Records<'static>>),
    Ended,
}

impl<'a> FileParts<'a> {
    fn open(path: &Path, line_ends: LineEnds, carriage_returns: &'a Cell<u64>) -> Self {
        let input = Input::file(path.to_owned(), line_ends);
        let state = match matches!(input.rows(), RowKind::Json | RowKind::Parquet) {
            true => Records::open(&input, &Columns::default()).map(|rows| FileState::Rows(Box::new(rows))),
            false => Pieces::open(&input).map(FileState::Text),
        };
        Self {
            state: state.unwrap_or_else(FileState::Failed),
            carriage_returns,
        }
    }

    fn end(&mut self, carriage_returns: u64) {
        self.carriage_returns
            .set(self.carriage_returns.get() + carriage_returns);
        self.state = FileState::Ended;
    }
}

impl Iterator for FileParts<'_> {
    type Item = Result<TextPart>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut text = String::new();
        let found = match &mut self.state {
            FileState::Text(pieces) => pieces.read_into(&mut text).map(|is_more| {
                let part = TextPart {
                    text,
                    is_last: !is_more,
                };
                (Some(part), !is_more, pieces.carriage_returns())
            }),
            FileState::Rows(rows) => next_said(rows).map(|said| {
                let is_ended = said.is_none();
                let part = said.map(|text| TextPart { text, is_last: true });
                (part, is_ended, rows.carriage_returns())
            }),
            FileState::Failed(_) | FileState::Ended => match std::mem::replace(&mut self.state, FileState::Ended) {
                FileState::Failed(error) => Err(error),
                _ => return None,
            },
        };
        match found {
            Ok((part, is_ended, carriage_returns)) => {
                if is_ended {
                    self.end(carriage_returns);
                }
                part.map(Ok)
            }
            Err(error) => {
                self.state = FileState::Ended;
                Some(Err(error))
            }
        }
    }
}

/// What the next row says: its `text`, or everything in its conversation.
fn next_said(records: &mut Records<'_>) -> Result<Option<String>> {
    let Some((_, mut object)) = records.next_row()? else {
        return Ok(None);
    };
    match object.remove("text") {
        Some(serde_json::Value::String(text)) => return Ok(Some(records.text(text))),
        Some(other) => {
            let found = type_name(&other);
            return Err(records.bad(format!("key `text`: expected a string, found {found}")));
        }
        None => {}
    }
    if object.contains_key("completion") {
        // A completion alone is text too.
        object.entry("prompt").or_insert_with(|| String::new().into());
    }
    let columns = Columns::default();
    match dialogue::recognize(&object, &columns) {
        Some(layout) => Ok(Some(dialogue::take_all(records, object, layout, &columns, LONG_ROW)?.into_text())),
        None => Err(records.bad(
            "expected a key `text`, or those of a conversation, such as `messages` or `prompt` and `completion`: nothing else of a \
             line is text",
        )),
    }
}

/// The position of the next chunk.
#[derive(Debug, Clone, Copy)]
struct Place {
    part: Part,
    /// Line of a JSONL file, for errors.
    line: Option<u64>,
    /// Whether a separator precedes the chunk, which begins a document other than the first.
    follows_document: bool,
}

struct Waiting {
    place: Place,
    chunk: Chunk,
}

/// The state of one pass over all inputs.
struct Run<'r> {
    tokenizer: &'r Tokenizer,
    vocab_size: usize,
    separator: Option<u32>,
    pool: &'r rayon::ThreadPool,
    options: &'r TokenizeOptions<'r>,
    sink: &'r mut dyn Sink,
    waiting: Vec<Waiting>,
    waiting_bytes: usize,
    bytes_done: u64,
    bytes_total: u64,
    tokens: u64,
    inexact_cuts: u64,
    /// The counts of the input being read.
    totals: Option<InputTotals>,
}

impl Run<'_> {
    fn input(&mut self, input: &Input<'_>, measure: &Measure, is_first: bool) -> Result<InputTotals> {
        self.totals = Some(InputTotals {
            name: input.name.clone(),
            train: PartTotals::default(),
            validation: PartTotals::default(),
        });
        let found = if input.is_jsonl() {
            self.documents(input, measure, is_first)?
        } else {
            self.text(input, measure, is_first)?
        };
        self.flush(&input.name)?;
        // Only a file can change: a string in memory is borrowed while we read it.
        if found != *measure {
            return Err(DataError::Changed { path: input.path() });
        }
        self.totals
            .take()
            .ok_or_else(|| DataError::Changed { path: input.path() })
    }

    /// One text: the first `train_units` characters are for training.
    fn text(&mut self, input: &Input<'_>, measure: &Measure, is_first: bool) -> Result<Measure> {
        let mut found = Measure {
            bytes: 0,
            units: 0,
            train_units: measure.train_units,
            carriage_returns: 0,
        };
        let mut reader = Pieces::open(input)?;
        let mut chunker = Chunker::new(self.tokenizer);
        let mut place = Place {
            part: Part::Train,
            line: None,
            follows_document: !is_first,
        };
        let mut text = String::new();
        while reader.read_into(&mut text)? {
            let characters = count_characters(text.as_bytes());
            let mut rest = text.as_str();
            let train_left = measure.train_units.saturating_sub(found.units);
            if place.part == Part::Train && characters >= train_left {
                let (train, validation) = rest.split_at(byte_of_character(rest, train_left));
                chunker.push(train);
                self.chunks(&input.name, &mut chunker, &mut place)?;
                self.last_chunk(&input.name, &mut chunker, &place)?;
                place = Place {
                    part: Part::Validation,
                    line: None,
                    follows_document: false,
                };
                rest = validation;
            }
            chunker.push(rest);
            self.chunks(&input.name, &mut chunker, &mut place)?;
            found.bytes += text.len() as u64;
            found.units += characters;
            text.clear();
        }
        self.last_chunk(&input.name, &mut chunker, &place)?;
        found.carriage_returns = reader.carriage_returns();
        Ok(found)
    }

    /// Many texts: the first `train_units` documents are for training.
    fn documents(&mut self, input: &Input<'_>, measure: &Measure, is_first: bool) -> Result<Measure> {
        let mut found = Measure {
            bytes: 0,
            units: 0,
            train_units: measure.train_units,
            carriage_returns: 0,
        };
        let mut lines = Lines::open(input)?;
        while let Some((line, text)) = next_document(&mut lines)? {
            let is_train = found.units < measure.train_units;
            let part = if is_train { Part::Train } else { Part::Validation };
            let starts_part = if is_train {
                is_first && found.units == 0
            } else {
                found.units == measure.train_units
            };
            let mut place = Place {
                part,
                line: Some(line),
                follows_document: !starts_part,
            };
            let mut chunker = Chunker::new(self.tokenizer);
            chunker.push(&text);
            self.chunks(&input.name, &mut chunker, &mut place)?;
            self.last_chunk(&input.name, &mut chunker, &place)?;
            found.bytes += text.len() as u64;
            found.units += 1;
        }
        found.carriage_returns = lines.carriage_returns();
        Ok(found)
    }

    /// Queues the complete chunks; the first of a document takes `follows_document` with it.
    fn chunks(&mut self, name: &str, chunker: &mut Chunker<'_, Tokenizer>, place: &mut Place) -> Result<()> {
        while let Some(chunk) = chunker.next() {
            self.queue(name, Waiting { place: *place, chunk })?;
            place.follows_document = false;
        }
        Ok(())
    }

    fn last_chunk(&mut self, name: &str, chunker: &mut Chunker<'_, Tokenizer>, place: &Place) -> Result<()> {
        match chunker.finish() {
            Some(chunk) => self.queue(name, Waiting { place: *place, chunk }),
            None => Ok(()),
        }
    }

    fn queue(&mut self, name: &str, waiting: Waiting) -> Result<()> {
        self.waiting_bytes += waiting.chunk.text.len();
        self.waiting.push(waiting);
        let group_bytes = self.pool.current_num_threads() * CHUNKS_PER_THREAD * CHUNK_BYTES;
        if self.waiting_bytes >= group_bytes || self.waiting.len() >= MAX_WAITING {
            self.flush(name)?;
        }
        Ok(())
    }

    /// Encodes the waiting chunks and passes them on in order. The error is that of the first failing chunk in the text,
    /// independent of threads.
    fn flush(&mut self, name: &str) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        let tokenizer = self.tokenizer;
        let encoded: Vec<_> = self.pool.install(|| {
            waiting
                .par_iter()
                .map(|waiting| waiting.chunk.encode(tokenizer))
                .collect()
        });
        for (waiting, result) in waiting.iter().zip(encoded) {
            let (ids, is_exact) = result.map_err(|source| match waiting.place.line {
                Some(line) => tokenizer_error(&format!("{name}, line {line}"), source),
                None => tokenizer_error(name, source),
            })?;
            self.inexact_cuts += u64::from(!is_exact);
            if let Some(&id) = ids.iter().find(|&&id| id as usize >= self.vocab_size) {
                return Err(DataError::IdOutsideVocabulary {
                    name: name.to_owned(),
                    id,
                    vocab_size: self.vocab_size,
                });
            }
            if let (true, Some(separator)) = (waiting.place.follows_document, self.separator) {
                self.pass_on(waiting.place.part, &[separator], 0)?;
            }
            self.pass_on(waiting.place.part, &ids, waiting.chunk.text.len() as u64)?;
        }
        if let Some(progress) = self.options.progress {
            let (bytes_done, bytes_total, tokens) = (self.bytes_done, self.bytes_total, self.tokens);
            progress(Progress {
                name,
                bytes_done,
                bytes_total,
                tokens,
            });
        }
        Ok(())
    }

    fn pass_on(&mut self, part: Part, ids: &[u32], bytes: u64) -> Result<()> {
        self.sink.push(part, ids, bytes)?;
        self.bytes_done += bytes;
        self.tokens += ids.len() as u64;
        if let Some(totals) = &mut self.totals {
            let of_part = match part {
                Part::Train => &mut totals.train,
                Part::Validation => &mut totals.validation,
            };
            of_part.tokens += ids.len() as u64;
            of_part.bytes += bytes;
        }
        Ok(())
    }
}

pub(crate) fn tokenizer_error(name: &str, source: taal_tokenizer::Error) -> DataError {
    DataError::Tokenizer {
        name: name.to_owned(),
        source,
    }
}
