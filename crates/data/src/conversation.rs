//! Prompts and completions from JSONL: only completions have a loss, and several examples share a row.

use std::collections::BTreeSet;
use std::path::PathBuf;

use taal_store::LineEnds;
use taal_tokenizer::Tokenizer;

use crate::batch::{Batch, BatchPlan, BatchSource, IGNORE_INDEX};
use crate::error::{DataError, Result};
use crate::input::{Content, Input, find_inputs};
use crate::text::{Lines, Object, check_fraction, checked_train_share};
use crate::tokenize::tokenizer_error;

/// Fills the rest of a row after its last example when the tokenizer has no padding token. Padding comes last and has no loss, so
/// its id does not matter to a causal model.
const FALLBACK_PAD_ID: u32 = 0;

/// Examples of a prompt and its completion, packed into rows.
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

#[derive(Debug, Clone)]
struct Example {
    ids: Vec<u32>,
    /// Position of the first id with a loss.
    completion_start: usize,
    completion_bytes: u64,
}

/// Conversations to train on and to validate with.
///
/// Each line is `{"prompt": "...", "completion": "..."}`; other keys are ignored. An example consists of the special tokens that
/// the tokenizer's file puts before a text, as in generation, the prompt's ids, the completion's ids and the end-of-text token
/// where the tokenizer has one. Prompt and completion are encoded separately, so that the targets never depend on how the
/// prompt's last letters merge. An empty prompt becomes the beginning-of-text token where the tokenizer has one; where it has
/// none, the completion's first token has no loss.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Conversations {
    /// The first examples of every file.
    pub train: ConversationSource,
    /// The last examples of every file; `None` where nothing is held back.
    pub validation: Option<ConversationSource>,
    /// Examples that were left out because no token of their completion has a loss: one token after an empty prompt, or no room.
    pub without_target: usize,
    /// The treatment of carriage returns.
    pub line_ends: LineEnds,
    /// Carriage returns in the files' texts.
    pub carriage_returns: u64,
}

/// Whether the first line of a JSONL file has a `completion`, that is, whether the file holds conversations rather than plain
/// texts. Only JSONL files do.
///
/// # Errors
/// [`DataError::Line`], [`DataError::NotUtf8`]; the store's for a missing file.
pub fn has_conversations(path: &std::path::Path) -> Result<bool> {
    let input = Input::file(path.to_owned(), LineEnds::Keep);
    if !input.is_jsonl() {
        return Ok(false);
    }
    Ok(Lines::open(&input)?
        .next_object()?
        .is_some_and(|(_, object)| object.contains_key("completion")))
}

/// Every prompt followed by its completion, to train a tokenizer on.
///
/// # Errors
/// [`DataError::Line`] naming file, line and key; [`DataError::NoInput`]; the store's.
pub fn conversation_texts(paths: &[PathBuf], line_ends: LineEnds) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    for input in &find_inputs(paths, Content::Conversations, line_ends)? {
        let mut lines = Lines::open(input)?;
        while let Some((_, mut object)) = lines.next_object()? {
            let prompt = take_string(&mut lines, &mut object, "prompt")?;
            texts.push(prompt + &take_string(&mut lines, &mut object, "completion")?);
        }
    }
    Ok(texts)
}

impl Conversations {
    /// A hash of all examples, those to train on and those to validate with: equal for equal data.
    pub fn fingerprint(&self) -> String {
        let sources = std::iter::once(&self.train).chain(&self.validation);
        taal_store::blake3_hex_of(sources.map(ConversationSource::fingerprint))
    }

    /// Reads JSONL files or folders of them; the last `validation_fraction` of each file's examples is held back.
    ///
    /// # Errors
    /// [`DataError::Line`] naming file, line and key; [`DataError::Empty`], [`DataError::TooShortToSplit`],
    /// [`DataError::Setting`], [`DataError::Tokenizer`]; the store's.
    pub fn open(tokenizer: &Tokenizer, paths: &[PathBuf], block_size: usize, validation_fraction: f64) -> Result<Self> {
        Self::open_with_line_ends(tokenizer, paths, block_size, validation_fraction, LineEnds::Lf)
    }

    /// As [`open`](Self::open), which normalizes line ends, with a choice of line ends.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn open_with_line_ends(
        tokenizer: &Tokenizer,
        paths: &[PathBuf],
        block_size: usize,
        validation_fraction: f64,
        line_ends: LineEnds,
    ) -> Result<Self> {
        check_fraction(validation_fraction)?;
        BatchPlan::new(0, 1, block_size).check_sizes()?;
        let (mut train, mut validation) = (Vec::new(), Vec::new());
        let (mut train_cut, mut validation_cut) = (0, 0);
        let inputs = find_inputs(paths, Content::Conversations, line_ends)?;
        let mut carriage_returns = 0;
        for input in &inputs {
            let (mut examples, cut, found_returns) = read_examples(tokenizer, input, block_size)?;
            carriage_returns += found_returns;
            let share =
                checked_train_share(&input.name, examples.len() as u64, "example", validation_fraction)? as usize;
            validation.extend(examples.drain(share..));
            train.append(&mut examples);
            train_cut += cut.iter().filter(|&&line| line < share).count();
            validation_cut += cut.iter().filter(|&&line| line >= share).count();
        }
        let name = match inputs.as_slice() {
            [one] => one.name.clone(),
            [first, rest @ ..] => format!("{} and {} more", first.name, rest.len()),
            [] => return Err(DataError::NoInput),
        };
        let pad_id = tokenizer.pad_id().or(tokenizer.eos_id()).unwrap_or(FALLBACK_PAD_ID);
        let source = |mut examples: Vec<Example>, truncated| {
            // An example without a target has no loss, and a row of such examples could give a step without loss.
            examples.retain(Example::has_target);
            ConversationSource::pack(&name, examples, truncated, block_size, pad_id)
        };
        let (all, held_back) = (train.len(), validation.len());
        let train = source(train, train_cut);
        if train.examples == 0 {
            return Err(DataError::NothingToLearn { name, examples: all });
        }
        let validation = source(validation, validation_cut);
        Ok(Self {
            without_target: all + held_back - train.examples - validation.examples,
            train,
            validation: (validation.examples > 0).then_some(validation),
            line_ends,
            carriage_returns,
        })
    }
}

/// The examples of one file, the indices of those that were cut to fit, and the number of carriage returns.
fn read_examples(
    tokenizer: &Tokenizer,
    input: &Input<'_>,
    block_size: usize,
) -> Result<(Vec<Example>, Vec<usize>, u64)> {
    let (mut examples, mut cut) = (Vec::new(), Vec::new());
    let mut lines = Lines::open(input)?;
    while let Some((line, mut object)) = lines.next_object()? {
        let prompt = take_string(&mut lines, &mut object, "prompt")?;
        let completion = take_string(&mut lines, &mut object, "completion")?;
        if completion.is_empty() {
            return Err(
                lines.bad("key `completion` is empty: there is nothing to learn, leave the line out".to_owned())
            );
        }
        let encode = |text: &str| {
            tokenizer
                .encode(text)
                .map_err(|source| tokenizer_error(&format!("{}, line {line}", input.name), source))
        };
        let (example, was_cut) = Example::new(
            tokenizer,
            encode(&prompt)?,
            encode(&completion)?,
            completion.len() as u64,
            block_size,
        );
        if was_cut {
            cut.push(examples.len());
        }
        examples.push(example);
    }
    if examples.is_empty() {
        return Err(DataError::Empty {
            name: input.name.clone(),
        });
    }
    Ok((examples, cut, lines.carriage_returns()))
}

fn take_string(lines: &mut Lines<'_>, object: &mut Object, key: &str) -> Result<String> {
    lines.take_string(object, key)?.ok_or_else(|| {
        lines.bad(format!(
            "key `{key}` is missing: each line needs {{\"prompt\": \"...\", \"completion\": \"...\"}}"
        ))
    })
}

impl Example {
    /// One example of at most `block_size` ids. A longer one loses the beginning of its prompt, because the completion answers
    /// its end; a completion that is too long alone loses its end.
    fn new(
        tokenizer: &Tokenizer,
        mut prompt: Vec<u32>,
        mut completion: Vec<u32>,
        completion_bytes: u64,
        block_size: usize,
    ) -> (Self, bool) {
        let begin = beginning(tokenizer, &prompt);
        let begin_len = begin.len();
        prompt.splice(0..0, begin);
        completion.extend(tokenizer.eos_id());
        let too_many = (prompt.len() + completion.len()).saturating_sub(block_size);
        // One id of the prompt stays before the completion, after the tokens that begin texts.
        let from_prompt = too_many.min(prompt.len().saturating_sub(begin_len.max(1)));
        prompt.drain(begin_len..begin_len + from_prompt);
        completion.truncate(completion.len() - (too_many - from_prompt).min(completion.len()));
        let completion_start = prompt.len();
        prompt.append(&mut completion);
        let mut example = Self {
            ids: prompt,
            completion_start,
            completion_bytes,
        };
        if too_many > 0 || completion_start == 0 {
            example.completion_bytes = example.counted().iter().map(|&id| tokenizer.text_bytes_of(id)).sum();
        }
        (example, too_many > 0)
    }

    /// The ids with a loss.
    fn counted(&self) -> &[u32] {
        self.ids.get(self.completion_start.max(1)..).unwrap_or_default()
    }

    fn has_target(&self) -> bool {
        !self.counted().is_empty()
    }
}

/// The tokens that generation puts before a prompt: the special tokens with which the tokenizer's file begins every text, or, for
/// an empty prompt, the beginning-of-text token.
fn beginning(tokenizer: &Tokenizer, prompt: &[u32]) -> Vec<u32> {
    if prompt.is_empty() {
        return tokenizer.bos_id().into_iter().collect();
    }
    let before = tokenizer.template().before;
    if prompt.starts_with(&before) {
        Vec::new()
    } else {
        before
    }
}

impl ConversationSource {
    /// A hash of every example: its ids, where its loss begins, and its row.
    pub fn fingerprint(&self) -> String {
        let parts = self.rows.iter().enumerate().flat_map(|(row, examples)| {
            examples.iter().map(move |example| {
                let numbers = [row as u64, example.completion_start as u64, example.ids.len() as u64];
                let mut bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
                bytes.extend(example.ids.iter().flat_map(|id| id.to_le_bytes()));
                bytes
            })
        });
        taal_store::blake3_hex_of(parts)
    }

    /// Best fit: each example goes to the fullest row that still has room for it. Rows depend only on the examples and the block
    /// size, so a batch is a function of seed and step.
    fn pack(name: &str, examples: Vec<Example>, truncated: usize, block_size: usize, pad_id: u32) -> Self {
        let mut rows: Vec<Vec<Example>> = Vec::new();
        let mut rooms = BTreeSet::new();
        let count = examples.len();
        let completion_bytes = examples.iter().map(|example| example.completion_bytes).sum();
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

    /// Positions a row.
    pub fn block_size(&self) -> usize {
        self.block_size
    }

    /// Bytes of all completions with a loss.
    pub fn completion_bytes(&self) -> u64 {
        self.completion_bytes
    }

    /// Keeps the first rows, until they have `max_tokens` tokens with a loss; returns whether rows were dropped. The completion
    /// bytes of a part are not known, so they become 0.
    pub fn head(&mut self, max_tokens: u64) -> bool {
        let mut tokens = 0;
        let enough = self.rows.iter().position(|row| {
            tokens += row
                .iter()
                .map(|example| (example.ids.len() - example.completion_start.max(1).min(example.ids.len())) as u64)
                .sum::<u64>();
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
            let is_counted = |position: usize| position >= example.completion_start;
            for (position, &id) in example.ids.iter().enumerate().skip(1) {
                batch
                    .targets
                    .push(if is_counted(position) { id as i32 } else { IGNORE_INDEX });
            }
            // After an example's last id comes another example, or padding.
            batch.targets.extend((!example.ids.is_empty()).then_some(IGNORE_INDEX));
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
                let (_, index) = plan.shuffled(step, row, self.rows.len() as u64);
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
