//! Conversations and other examples from rows of files: only answers have a loss, and several examples share a row.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use taal_store::LineEnds;
use taal_tokenizer::{Tokenizer, chat};

use crate::batch::{Batch, BatchPlan, BatchSource, IGNORE_INDEX};
use crate::chat::{ChatFormat, Writer};
use crate::dialogue::{self, Columns, Conversation, Dialogue, LONG_ROW, Layout, RECIPE_KEYS};
use crate::direction::{self, Direction, SwappedRows};
use crate::error::{DataError, Result};
use crate::example::{Encoder, Example};
use crate::examples::ExampleSet;
use crate::input::{Content, Input, Rows, find_inputs};
use crate::records::{Records, unused_note};
use crate::template::plain_chat;
use crate::text::{DEFAULT_VALIDATION_FRACTION, check_fraction, checked_train_share};
use crate::tokenize::tokenizer_error;

/// Fills the rest of a row after its last example when the tokenizer has no padding token. Padding comes last and has no loss, so
/// its id does not matter to a causal model.
const FALLBACK_PAD_ID: u32 = 0;

/// Examples of what is read and what is learned, packed into rows.
///
/// All examples are kept in memory: this is for fine-tuning, not for pre-training.
#[derive(Debug, Clone)]
pub struct ConversationSource {
    name: String,
    block_size: usize,
    pad_id: u32,
    rows: Vec<Vec<Example>>,
    examples: usize,
    truncated: usize,
    completion_bytes: u64,
}

/// How files of conversations are read.
#[derive(Debug, Clone)]
pub struct ConversationOptions {
    /// Share at the end of each file's examples that is held back.
    pub validation_fraction: f64,
    /// The treatment of carriage returns.
    pub line_ends: LineEnds,
    /// The layout of every row; `None` recognizes it by the first row of each file.
    pub layout: Option<Layout>,
    /// Columns with other names than their layout's.
    pub columns: Columns,
    /// The languages of pairs for translation. Rows then have two texts, a line break separates them where a decoder alone reads both,
    /// and a file whose languages are swapped is refused.
    pub direction: Option<Direction>,
    /// How messages become text; `None` is [`plain_chat`]. Texts of `prompt` and `completion` are joined as they are.
    pub format: Option<Arc<dyn ChatFormat>>,
}

impl Default for ConversationOptions {
    fn default() -> Self {
        Self {
            validation_fraction: DEFAULT_VALIDATION_FRACTION,
            line_ends: LineEnds::Lf,
            layout: None,
            columns: Columns::default(),
            direction: None,
            format: None,
        }
    }
}

/// What files of conversations hold, training and validation together.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct ConversationCounts {
    /// The layout of each file, by its name.
    pub layouts: Vec<(String, Layout)>,
    /// Examples.
    pub examples: u64,
    /// Tokens of all examples as they are trained, after truncation.
    pub tokens: u64,
    /// Those that have a loss.
    pub learned_tokens: u64,
    /// Examples that were longer than a block.
    pub truncated: u64,
    /// Of these, examples that lost the end of their last answer.
    pub answers_cut: u64,
    /// Tokens that truncation took away.
    pub lost_tokens: u64,
    /// Examples whose last learned token is a special one that ends the answer.
    pub ended: u64,
    /// Messages and bytes of text by role: `system`, `developer`, `user`, `assistant` and `tool`, or `prompt` and `completion`.
    pub roles: BTreeMap<&'static str, RoleCount>,
    /// Pairs that are longer than a block on one side, which are left out.
    #[serde(skip_serializing_if = "is_zero")]
    pub left_out: u64,
    /// Keys of rows and of their messages that have something in them and are not read; of Parquet all columns that are not read.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub unused: BTreeSet<String>,
    /// What is doubtful about single rows, one line per file, and a line about the unused keys of files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// What one role says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct RoleCount {
    /// Messages.
    pub messages: u64,
    /// Bytes of their text.
    pub bytes: u64,
}

/// Conversations to train on and to validate with.
///
/// Each row of a JSONL, CSV, TSV or Parquet file is an example in one of the [layouts](Layout). An example of texts consists of the special
/// tokens that the tokenizer's file puts before a text, as in generation, the prompt's ids, the completion's ids and the end-of-text
/// token where the tokenizer has one. Prompt and completion are encoded separately, so that the targets never depend on how the
/// prompt's last letters merge. An empty prompt becomes the beginning-of-text token where the tokenizer has one; where it has
/// none, the completion's first token has no loss.
///
/// An example of messages is the text that the [`ChatFormat`] makes of them and of the `tools` of their row; the answers of the assistant,
/// which may be calls of tools, have a loss, each with what the format ends it with.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Conversations {
    /// The first examples of every file.
    pub train: ConversationSource,
    /// The last examples of every file; `None` where nothing is held back.
    pub validation: Option<ConversationSource>,
    /// What the files hold.
    pub counts: ConversationCounts,
    /// The treatment of carriage returns.
    pub line_ends: LineEnds,
    /// Carriage returns in the files' texts.
    pub carriage_returns: u64,
}

/// An example as it is trained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConversationExample {
    /// The file, as an index into [`ConversationCounts::layouts`].
    pub file: usize,
    /// The line on which it begins, counted from 1; of Parquet the row.
    pub line: u64,
    /// Its ids.
    pub ids: Vec<u32>,
    /// The positions that have a loss.
    pub learned: Vec<Range<usize>>,
    /// The last answer, from its first position with a loss to its last: a chat template may mark several parts of an answer.
    pub answer: Range<usize>,
    /// Tokens that truncation took away.
    pub lost: usize,
}

/// Whether the first row of a file is a conversation in one of the [layouts](Layout) rather than a plain text. Only JSONL, CSV, TSV
/// and Parquet files hold conversations.
///
/// # Errors
/// [`DataError::Line`], [`DataError::NotUtf8`]; the store's for a missing file.
pub fn has_conversations(path: &std::path::Path) -> Result<bool> {
    let input = Input::file(path.to_owned(), LineEnds::Keep);
    if input.rows() == Rows::None {
        return Ok(false);
    }
    let first = Records::open(&input, &Columns::default())?.next_row()?;
    Ok(first.is_some_and(|(_, object)| dialogue::recognize(&object, &Columns::default()).is_some()))
}

/// Everything that is said in each example, messages as [`plain_chat`] writes them without special tokens, to train a tokenizer on.
///
/// # Errors
/// [`DataError::Line`] naming file, line and key; [`DataError::NoInput`]; the store's.
pub fn conversation_texts(paths: &[PathBuf], options: &ConversationOptions) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    for input in &find_inputs(paths, Content::Conversations, options.line_ends)? {
        add_texts(input, options, &mut texts)?;
    }
    Ok(texts)
}

/// The same of the rows of an embedded set that are not held out.
///
/// # Errors
/// As [`conversation_texts`].
pub fn example_texts(set: &ExampleSet, options: &ConversationOptions) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    let rows = set.train_rows();
    let [train, _] = set.inputs([&rows, ""], options.line_ends);
    add_texts(&train, options, &mut texts)?;
    Ok(texts)
}

fn add_texts(input: &Input<'_>, options: &ConversationOptions, texts: &mut Vec<String>) -> Result<()> {
    let read = for_each_dialogue(input, options, |_, _, dialogue| {
        texts.push(dialogue.separated(options).into_rows());
        Ok(())
    });
    read.map(drop)
}

/// How a file was read.
pub(crate) struct ReadFile {
    pub(crate) layout: Layout,
    pub(crate) carriage_returns: u64,
    /// What is doubtful about its rows.
    pub(crate) notes: Vec<String>,
    /// Keys that are not read.
    pub(crate) unused: Vec<String>,
}

/// Calls `take` with the records, the line and the example of every row.
pub(crate) fn for_each_dialogue(
    input: &Input<'_>,
    options: &ConversationOptions,
    mut take: impl FnMut(&mut Records<'_>, u64, Dialogue) -> Result<()>,
) -> Result<ReadFile> {
    let direction = options.direction.as_ref();
    let columns = direction.map_or_else(|| options.columns.clone(), |it| it.columns(&options.columns));
    let mut records = Records::open(input, &columns)?;
    let mut layout = options.layout.or(direction.map(|_| Layout::Completion));
    let (mut rows, mut swapped) = (0_u64, SwappedRows::default());
    while let Some((line, object)) = records.next_row()? {
        let known = match layout.or_else(|| dialogue::recognize(&object, &columns)) {
            Some(known) => known,
            None => return Err(records.bad(dialogue::unknown_layout(&object, RECIPE_KEYS))),
        };
        layout = Some(known);
        rows += 1;
        if direction.is_some() {
            direction::check_columns(&records, &object, &columns)?;
        }
        let dialogue = dialogue::take(&mut records, object, known, &columns, LONG_ROW)?;
        if let (Some(direction), Dialogue::Completion { prompt, completion }) = (direction, &dialogue) {
            if prompt.trim().is_empty() {
                let column = columns.prompt.as_deref().unwrap_or_default();
                let detail = format!("column `{column}` is empty: there is nothing to translate, leave the row out");
                return Err(records.bad(detail));
            }
            swapped.see(direction, line, [prompt, completion]);
        }
        take(&mut records, line, dialogue)?;
    }
    match layout.filter(|_| rows > 0) {
        Some(layout) => Ok(ReadFile {
            layout,
            carriage_returns: records.carriage_returns(),
            notes: {
                let verdict = direction.map(|direction| swapped.verdict(&input.name, direction));
                let notes = verdict.transpose()?.flatten();
                notes.into_iter().chain(records.left_out_notes()).collect()
            },
            unused: records.unused().cloned().collect(),
        }),
        None => Err(DataError::Empty {
            name: input.name.clone(),
        }),
    }
}

/// What inputs hold, to train on and to validate with.
pub(crate) struct Parts<T> {
    /// What all inputs together are called in messages.
    pub(crate) name: String,
    pub(crate) train: Vec<T>,
    /// Empty where nothing is held back.
    pub(crate) validation: Vec<T>,
    pub(crate) counts: ConversationCounts,
    pub(crate) carriage_returns: u64,
}

/// Reads inputs with `read`, which returns what an input holds and its carriage returns. The last share of each input is held
/// back, or else a whole other input.
pub(crate) fn read_parts<T>(
    inputs: &[Input<'_>],
    held_out: Option<&Input<'_>>,
    validation_fraction: f64,
    unit: &'static str,
    read: impl Fn(&Input<'_>, &mut ConversationCounts) -> Result<(Vec<T>, u64)>,
) -> Result<Parts<T>> {
    let (mut train, mut validation) = (Vec::new(), Vec::new());
    let (mut counts, mut carriage_returns) = (ConversationCounts::default(), 0);
    for input in inputs {
        let (mut found, returns) = read(input, &mut counts)?;
        carriage_returns += returns;
        // Every pair of a file may be too long.
        if held_out.is_none() && !found.is_empty() {
            let share = checked_train_share(&input.name, found.len() as u64, unit, validation_fraction)?;
            validation.extend(found.drain(share as usize..));
        }
        train.append(&mut found);
    }
    if let Some(input) = held_out {
        let (found, returns) = read(input, &mut counts)?;
        carriage_returns += returns;
        validation = found;
    }
    let name = match inputs {
        [one] => one.name.clone(),
        [first, rest @ ..] => format!("{} and {} more", first.name, rest.len()),
        [] => return Err(DataError::NoInput),
    };
    Ok(Parts {
        name,
        train,
        validation,
        counts,
        carriage_returns,
    })
}

impl Conversations {
    /// A hash of all examples, those to train on and those to validate with: equal for equal data.
    pub fn fingerprint(&self) -> String {
        let sources = std::iter::once(&self.train).chain(&self.validation);
        taal_store::blake3_hex_of(sources.map(ConversationSource::fingerprint))
    }

    /// Reads files or folders of them, and recognizes their layouts; the last `validation_fraction` of each file's examples is held
    /// back.
    ///
    /// # Errors
    /// As [`open_with`](Self::open_with).
    pub fn open(tokenizer: &Tokenizer, paths: &[PathBuf], block_size: usize, validation_fraction: f64) -> Result<Self> {
        let options = ConversationOptions {
            validation_fraction,
            ..ConversationOptions::default()
        };
        Self::open_with(tokenizer, paths, block_size, &options)
    }

    /// Reads files or folders of them.
    ///
    /// # Errors
    /// [`DataError::Line`] naming file, line and key, also for a row of which no token is learned; [`DataError::Empty`],
    /// [`DataError::TooShortToSplit`], [`DataError::Setting`], [`DataError::Tokenizer`]; the store's.
    pub fn open_with(
        tokenizer: &Tokenizer,
        paths: &[PathBuf],
        block_size: usize,
        options: &ConversationOptions,
    ) -> Result<Self> {
        check_fraction(options.validation_fraction)?;
        let inputs = find_inputs(paths, Content::Conversations, options.line_ends)?;
        let mut found = Self::of_inputs(tokenizer, &inputs, None, block_size, options)?;
        found.counts.note_unused();
        Ok(found)
    }

    /// Reads an embedded set, whose held-out rows validate; `validation_fraction` has no effect.
    ///
    /// # Errors
    /// As [`open_with`](Self::open_with).
    pub fn of_set(
        tokenizer: &Tokenizer,
        set: &ExampleSet,
        block_size: usize,
        options: &ConversationOptions,
    ) -> Result<Self> {
        let (train, held_out) = (set.train_rows(), set.held_out_rows());
        let [train, held_out] = set.inputs([&train, &held_out], options.line_ends);
        Self::of_inputs(tokenizer, &[train], Some(&held_out), block_size, options)
    }

    fn of_inputs(
        tokenizer: &Tokenizer,
        inputs: &[Input<'_>],
        held_out: Option<&Input<'_>>,
        block_size: usize,
        options: &ConversationOptions,
    ) -> Result<Self> {
        BatchPlan::new(0, 1, block_size).check_sizes()?;
        let plain = plain_chat(tokenizer);
        let plain = plain
            .template()
            .map_err(|source| tokenizer_error("the chat template", source))?;
        // Every row is rendered.
        let parts = chat::on_rendering_thread(|| {
            let encoder = Encoder {
                tokenizer,
                writer: Writer::new(options.format.as_deref().unwrap_or(&plain)),
                block_size,
            };
            let read = |input: &Input<'_>, counts: &mut _| read_examples(&encoder, input, options, counts);
            read_parts(inputs, held_out, options.validation_fraction, "example", read)
        })?;
        let pad_id = tokenizer.pad_id().or(tokenizer.eos_id()).unwrap_or(FALLBACK_PAD_ID);
        let source = |examples| ConversationSource::pack(&parts.name, examples, block_size, pad_id);
        Ok(Self {
            train: source(parts.train),
            validation: (!parts.validation.is_empty()).then(|| source(parts.validation)),
            counts: parts.counts,
            line_ends: options.line_ends,
            carriage_returns: parts.carriage_returns,
        })
    }
}

/// The examples of one file, and the number of carriage returns; what they are is added to `counts`.
fn read_examples(
    encoder: &Encoder<'_>,
    input: &Input<'_>,
    options: &ConversationOptions,
    counts: &mut ConversationCounts,
) -> Result<(Vec<Example>, u64)> {
    let mut examples = Vec::new();
    let file = counts.layouts.len();
    let read = for_each_dialogue(input, options, |records, line, dialogue| {
        counts.add_roles(&dialogue);
        let mut example = encoder.encode(records, line, dialogue.separated(options))?;
        example.file = file as u32;
        counts.add(&example, encoder.tokenizer);
        examples.push(example);
        Ok(())
    });
    let read = read?;
    counts.add_file(&input.name, &read);
    Ok((examples, read.carriage_returns))
}

impl ConversationCounts {
    /// Adds a file that was read.
    pub(crate) fn add_file(&mut self, name: &str, read: &ReadFile) {
        self.layouts.push((name.to_owned(), read.layout));
        self.notes.extend(read.notes.iter().cloned());
        self.unused.extend(read.unused.iter().cloned());
    }

    /// Adds a note about the keys of all files that are not read, if there are any.
    pub(crate) fn note_unused(&mut self) {
        self.notes.extend(unused_note(&self.unused));
    }

    pub(crate) fn add_roles(&mut self, dialogue: &Dialogue) {
        let mut add = |role, text: &str| {
            let count = self.roles.entry(role).or_default();
            count.messages += 1;
            count.bytes += text.len() as u64;
        };
        match dialogue {
            Dialogue::Completion { prompt, completion } => {
                add("prompt", prompt);
                add("completion", completion);
            }
            Dialogue::Messages(Conversation { messages, .. }) => messages
                .iter()
                .for_each(|message| add(message.role.name(), &message.content)),
        }
    }

    fn add(&mut self, example: &Example, tokenizer: &Tokenizer) {
        self.examples += 1;
        self.tokens += example.ids.len() as u64;
        self.learned_tokens += example.counted().count() as u64;
        self.truncated += u64::from(example.lost > 0);
        self.answers_cut += u64::from(example.is_answer_cut);
        self.lost_tokens += example.lost as u64;
        self.ended += u64::from(example.counted().last().is_some_and(|id| tokenizer.is_special(id)));
    }
}

impl ConversationSource {
    /// A hash of every example: its ids, where its loss begins, and its row.
    pub fn fingerprint(&self) -> String {
        let parts = self.rows.iter().enumerate();
        let parts = parts.flat_map(|(row, examples)| examples.iter().map(move |example| example.bytes_to_hash(row)));
        taal_store::blake3_hex_of(parts)
    }

    /// Best fit: each example goes to the fullest row that still has room for it. Rows depend only on the examples and the block
    /// size, so a batch is a function of seed and step.
    fn pack(name: &str, examples: Vec<Example>, block_size: usize, pad_id: u32) -> Self {
        let mut rows: Vec<Vec<Example>> = Vec::new();
        let mut rooms = BTreeSet::new();
        let count = examples.len();
        let truncated = examples.iter().filter(|example| example.lost > 0).count();
        let completion_bytes = examples.iter().map(|example| example.learned_bytes).sum();
        for example in examples {
            let needed = example.ids.len();
            let fitting = rooms.range((needed, 0)..).next().copied();
            let (room, row) = fitting.unwrap_or_else(|| {
                rows.push(Vec::new());
                (block_size, rows.len() - 1)
            });
            rooms.remove(&(room, row));
            rooms.insert((room - needed, row));
            rows[row].push(example);
        }
        let name = name.to_owned();
        Self {
            name,
            block_size,
            pad_id,
            rows,
            examples: count,
            truncated,
            completion_bytes,
        }
    }

    /// The name of the source in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Number of examples.
    pub fn examples(&self) -> usize {
        self.examples
    }

    /// Examples that were longer than a block and lost the beginning of their prompt, or the end of their completion.
    pub fn truncated(&self) -> usize {
        self.truncated
    }

    /// Rows that the examples were packed into.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Positions per row.
    pub fn block_size(&self) -> usize {
        self.block_size
    }

    /// Bytes of text of all tokens with a loss.
    pub fn completion_bytes(&self) -> u64 {
        self.completion_bytes
    }

    /// Keeps the first rows, until they have `max_tokens` tokens with a loss; returns whether rows were dropped. The completion
    /// bytes of a part are not known, so they become 0.
    pub fn head(&mut self, max_tokens: u64) -> bool {
        let mut tokens = 0;
        let enough = self.rows.iter().position(|row| {
            tokens += row.iter().map(|example| example.counted().count() as u64).sum::<u64>();
            tokens >= max_tokens
        });
        match enough {
            Some(last) if last + 1 < self.rows.len() => {
                self.rows.truncate(last + 1);
                self.completion_bytes = 0;
                true
            }
            _ => false,
        }
    }

    /// The first examples in the order of their files and lines.
    pub fn first(&self, count: usize) -> Vec<ConversationExample> {
        let mut examples: Vec<&Example> = self.rows.iter().flatten().collect();
        examples.sort_by_key(|example| (example.file, example.line));
        let shown = examples.into_iter().take(count);
        shown.map(|example| example.clone().into()).collect()
    }

    /// All rows once, in order, at most `batch_size` at a time, for evaluation.
    pub fn in_order(&self, batch_size: usize) -> impl Iterator<Item = Batch> + '_ {
        self.rows.chunks(batch_size.max(1)).map(|rows| {
            let mut batch = Batch::with_capacity(rows.len(), self.block_size);
            rows.iter().for_each(|row| self.append_row(row, &mut batch));
            self.mark_texts(rows.iter(), &mut batch);
            batch
        })
    }

    fn append_row(&self, row: &[Example], batch: &mut Batch) {
        let start = batch.inputs.len();
        for example in row {
            batch.inputs.extend(example.ids.iter().map(|&id| id as i32));
            // After an example's last id comes another example, or padding. The first id has nothing before it.
            let first = batch.targets.len();
            batch.targets.resize(first + example.ids.len(), IGNORE_INDEX);
            for position in example
                .learned
                .iter()
                .cloned()
                .flatten()
                .filter(|position| *position > 0)
            {
                batch.targets[first + position - 1] = example.ids[position] as i32;
            }
        }
        batch.inputs.resize(start + self.block_size, self.pad_id as i32);
        batch.targets.resize(start + self.block_size, IGNORE_INDEX);
    }

    /// Marks where each example begins, unless every row has only one: then only padding follows, which has no loss.
    fn mark_texts<'a>(&self, rows: impl Iterator<Item = &'a Vec<Example>> + Clone, batch: &mut Batch) {
        if rows.clone().all(|row| row.len() <= 1) {
            return;
        }
        let mut starts: Vec<i32> = Vec::with_capacity(batch.inputs.len());
        for (number, row) in rows.enumerate() {
            let before = number * self.block_size;
            for example in row {
                let start = (starts.len() - before) as i32;
                starts.resize(starts.len() + example.ids.len(), start);
            }
            // Padding is a separate text.
            let start = (starts.len() - before) as i32;
            starts.resize(before + self.block_size, start);
        }
        batch.text_starts = Some(starts);
    }
}

impl BatchSource for ConversationSource {
    fn check(&self, plan: &BatchPlan) -> Result<()> {
        plan.check_sizes()?;
        if plan.block_size == self.block_size {
            return Ok(());
        }
        let detail = format!(
            "expected {}, which the examples were packed for, got {}",
            self.block_size, plan.block_size
        );
        Err(DataError::Setting {
            key: "train.block_size",
            detail,
        })
    }

    /// Rows are always visited in epochs, each in a different order: independent draws would repeat some examples before showing
    /// others.
    fn batch(&self, plan: &BatchPlan, step: u64) -> Result<Batch> {
        self.check(plan)?;
        let mut batch = Batch::with_capacity(plan.batch_size, self.block_size);
        let rows: Vec<&Vec<Example>> = (0..plan.batch_size)
            .map(|row| {
                let (_, index) = plan.shuffled(plan.position(step, row), self.rows.len() as u64);
                &self.rows[index as usize]
            })
            .collect();
        rows.iter().for_each(|row| self.append_row(row, &mut batch));
        self.mark_texts(rows.into_iter(), &mut batch);
        Ok(batch)
    }

    fn batches_per_epoch(&self, plan: &BatchPlan) -> Result<u64> {
        self.check(plan)?;
        Ok((self.rows.len() as u64).div_ceil(plan.batch_size as u64))
    }
}
