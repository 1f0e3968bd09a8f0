//! Pairs for an encoder-decoder: the prompt is what the encoder reads, the completion is what the decoder writes. Pairs of similar length
//! share a batch.

use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;

use taal_tokenizer::Tokenizer;

use crate::batch::{Batch, BatchPlan, BatchSource, IGNORE_INDEX, SourceBatch};
use crate::conversation::{
    ConversationCounts, ConversationExample, ConversationOptions, for_each_dialogue, read_parts,
};
use crate::dialogue::Dialogue;
use crate::direction::Direction;
use crate::error::{DataError, Result};
use crate::examples::ExampleSet;
use crate::input::{Content, Input, find_inputs};
use crate::random::{bits, permute};
use crate::text::check_fraction;
use crate::tokenize::tokenizer_error;

/// Separates the order of pairs of equal lengths from other random numbers.
const PURPOSE_PAIRS: u64 = u64::from_be_bytes(*b"\0\0\0pairs");

/// A source and its target as ids.
#[derive(Debug, Clone)]
struct Pair {
    /// With the special tokens that the tokenizer puts around a text.
    source: Vec<u32>,
    /// Without the token that the decoder begins with, with the end-of-text token.
    target: Vec<u32>,
    target_bytes: u64,
    file: u32,
    line: u64,
}

impl Pair {
    fn lengths(&self) -> (usize, usize) {
        (self.target.len(), self.source.len())
    }
}

/// Pairs in the order of their lengths, from which batches are cut.
///
/// A batch has as many rows as fit: rows times the longest source and the longest target together are at most the positions that the plan
/// gives a batch (`batch_size` times `block_size`). Every pair is in one batch per epoch. Each epoch shuffles pairs of equal lengths among
/// themselves, and the order of the batches, as functions of the seed.
#[derive(Debug, Clone)]
pub struct PairSource {
    name: String,
    pairs: Vec<Pair>,
    /// Ranges of pairs of equal lengths.
    runs: Vec<Range<usize>>,
    /// Ranges of the pairs of a training batch.
    cuts: Vec<Range<usize>>,
    /// Positions of a training batch.
    positions: usize,
    /// The most tokens of a side.
    block_size: usize,
    start_id: u32,
    pad_id: u32,
}

/// Pairs to train on and to validate with.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Pairs {
    /// The first pairs of every file.
    pub train: PairSource,
    /// The last pairs of every file, or those that a set holds out; `None` where nothing is held back.
    pub validation: Option<PairSource>,
    /// What the files hold.
    pub counts: ConversationCounts,
    /// The treatment of carriage returns.
    pub line_ends: taal_store::LineEnds,
    /// Carriage returns in the files' texts.
    pub carriage_returns: u64,
}

/// A source sentence with all its translations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct References {
    /// The source.
    pub source: String,
    /// Its translations, each once, in the order of the rows.
    pub references: Vec<String>,
}

/// The sources of rows of pairs, each with all its translations, in the order in which they first occur; `name` is for messages.
///
/// # Errors
/// [`DataError::Line`] naming line and column.
pub fn references(name: &str, rows: &str, direction: &Direction) -> Result<Vec<References>> {
    let options = ConversationOptions {
        direction: Some(direction.clone()),
        ..ConversationOptions::default()
    };
    let (mut found, mut places) = (Vec::<References>::new(), HashMap::new());
    for_each_dialogue(
        &Input::lines(name, rows, options.line_ends),
        &options,
        |_, _, dialogue| {
            if let Dialogue::Completion { prompt, completion } = dialogue {
                let place = *places.entry(prompt.clone()).or_insert(found.len());
                if place == found.len() {
                    found.push(References {
                        source: prompt,
                        references: Vec::new(),
                    });
                }
                if !found[place].references.contains(&completion) {
                    found[place].references.push(completion);
                }
            }
            Ok(())
        },
    )?;
    Ok(found)
}

/// What makes ids of pairs.
struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    eos_id: u32,
    /// The most tokens of a side.
    block_size: usize,
}

impl Encoder<'_> {
    /// The pairs of one file, and its carriage returns.
    fn read(
        &self,
        input: &Input<'_>,
        options: &ConversationOptions,
        counts: &mut ConversationCounts,
    ) -> Result<(Vec<Pair>, u64)> {
        let (mut pairs, file) = (Vec::new(), counts.layouts.len() as u32);
        let frame = self.tokenizer.frame();
        let read = for_each_dialogue(input, options, |records, line, dialogue| {
            counts.add_roles(&dialogue);
            let Dialogue::Completion { prompt, completion } = dialogue else {
                let detail =
                    "an encoder-decoder reads a prompt and writes a completion: expected two texts, found messages";
                return Err(records.bad(detail));
            };
            let ids_of = |tokenizer: &Tokenizer, text: &str| {
                let ids = tokenizer.encode(text);
                ids.map_err(|source| tokenizer_error(&records.place(line), source))
            };
            let source = frame.around(&ids_of(self.tokenizer, &prompt)?);
            let mut target = ids_of(self.tokenizer.of_targets(), &completion)?;
            if target.is_empty() || source.is_empty() {
                let detail = "one of the two texts has no token the tokenizer knows: leave the row out";
                return Err(records.bad(detail));
            }
            target.push(self.eos_id);
            if source.len().max(target.len()) > self.block_size {
                counts.left_out += 1;
                return Ok(());
            }
            counts.examples += 1;
            counts.tokens += (source.len() + target.len()) as u64;
            counts.learned_tokens += target.len() as u64;
            counts.ended += 1;
            pairs.push(Pair {
                source,
                target,
                target_bytes: completion.len() as u64,
                file,
                line,
            });
            Ok(())
        })?;
        counts.add_file(&input.name, &read);
        Ok((pairs, read.carriage_returns))
    }
}

impl Pairs {
    /// Reads files of pairs or folders of them; the last `validation_fraction` of each file's pairs is held back. A pair of which one side
    /// has more than the plan's `block_size` tokens is left out.
    ///
    /// # Errors
    /// [`DataError::Line`] naming file, line and column; [`DataError::Empty`], [`DataError::TooShortToSplit`], [`DataError::Setting`],
    /// [`DataError::Tokenizer`]; the store's.
    pub fn open_with(
        tokenizer: &Tokenizer,
        paths: &[PathBuf],
        plan: &BatchPlan,
        options: &ConversationOptions,
    ) -> Result<Self> {
        check_fraction(options.validation_fraction)?;
        let inputs = find_inputs(paths, Content::Conversations, options.line_ends)?;
        let mut found = Self::of_inputs(tokenizer, &inputs, None, plan, options)?;
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
        plan: &BatchPlan,
        options: &ConversationOptions,
    ) -> Result<Self> {
        let (train, held_out) = (set.train_rows(), set.held_out_rows());
        let [train, held_out] = set.inputs([&train, &held_out], options.line_ends);
        Self::of_inputs(tokenizer, &[train], Some(&held_out), plan, options)
    }

    fn of_inputs(
        tokenizer: &Tokenizer,
        inputs: &[Input<'_>],
        held_out: Option<&Input<'_>>,
        plan: &BatchPlan,
        options: &ConversationOptions,
    ) -> Result<Self> {
        plan.check_sizes()?;
        let Some(eos_id) = tokenizer.eos_id() else {
            return Err(DataError::Setting {
                key: "tokenizer",
                detail: "it has no end-of-text token, and an encoder-decoder must learn where a text ends: take another kind, or add \
                         one to tokenizer.special_tokens, such as \"<|endoftext|>\""
                    .to_owned(),
            });
        };
        let encoder = Encoder {
            tokenizer,
            eos_id,
            block_size: plan.block_size,
        };
        let read = |input: &Input<'_>, counts: &mut _| encoder.read(input, options, counts);
        let parts = read_parts(inputs, held_out, options.validation_fraction, "pair", read)?;
        if parts.train.is_empty() {
            let detail = format!(
                "every pair of {} is longer than {} tokens on one side, so none is left; make it larger",
                parts.name, plan.block_size
            );
            return Err(DataError::Setting {
                key: "train.block_size",
                detail,
            });
        }
        let start_id = tokenizer.bos_id().unwrap_or(eos_id);
        let pad_id = tokenizer.pad_id().unwrap_or(eos_id);
        let source = |pairs| PairSource::new(&parts.name, pairs, plan, [start_id, pad_id]);
        Ok(Self {
            train: source(parts.train),
            validation: (!parts.validation.is_empty()).then(|| source(parts.validation)),
            counts: parts.counts,
            line_ends: options.line_ends,
            carriage_returns: parts.carriage_returns,
        })
    }

    /// The same pairs for a decoder that begins its texts with this id, instead of the tokenizer's beginning-of-text token.
    pub fn start_with(&mut self, id: u32) {
        self.train.start_id = id;
        if let Some(validation) = &mut self.validation {
            validation.start_id = id;
        }
    }

    /// A hash of all pairs, those to train on and those to validate with: equal for equal data.
    pub fn fingerprint(&self) -> String {
        let sources = std::iter::once(&self.train).chain(&self.validation);
        taal_store::blake3_hex_of(sources.map(PairSource::fingerprint))
    }
}

impl PairSource {
    fn new(name: &str, mut pairs: Vec<Pair>, plan: &BatchPlan, [start_id, pad_id]: [u32; 2]) -> Self {
        pairs.sort_by_key(Pair::lengths);
        let mut runs: Vec<Range<usize>> = Vec::new();
        for run in pairs.chunk_by(|a, b| a.lengths() == b.lengths()) {
            let start = runs.last().map_or(0, |before| before.end);
            runs.push(start..start + run.len());
        }
        let positions = plan.batch_size * plan.block_size;
        Self {
            name: name.to_owned(),
            cuts: cut(&pairs, positions),
            pairs,
            runs,
            positions,
            block_size: plan.block_size,
            start_id,
            pad_id,
        }
    }

    /// The name of the source in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Number of pairs.
    pub fn pairs(&self) -> usize {
        self.pairs.len()
    }

    /// Positions of all training batches of an epoch, with their padding.
    pub fn positions_per_epoch(&self) -> u64 {
        let positions = self.cuts.iter().map(|cut| {
            let longest = |length: fn(&Pair) -> usize| self.pairs[cut.clone()].iter().map(length).max().unwrap_or(0);
            cut.len() * (longest(|pair| pair.source.len()) + longest(|pair| pair.target.len()))
        });
        positions.sum::<usize>() as u64
    }

    /// The most tokens of a side.
    pub fn block_size(&self) -> usize {
        self.block_size
    }

    /// Bytes of text of all targets.
    pub fn target_bytes(&self) -> u64 {
        self.pairs.iter().map(|pair| pair.target_bytes).sum()
    }

    /// All target ids, for statistics.
    pub fn target_ids(&self) -> impl Iterator<Item = u32> + '_ {
        self.pairs.iter().flat_map(|pair| pair.target.iter().copied())
    }

    /// Keeps some of the pairs, evenly over their files, so that their targets have about `max_tokens` tokens; returns whether pairs were
    /// dropped.
    pub fn limit(&mut self, max_tokens: u64) -> bool {
        let total: u64 = self.pairs.iter().map(|pair| pair.target.len() as u64).sum();
        if total <= max_tokens {
            return false;
        }
        self.pairs.sort_by_key(|pair| (pair.file, pair.line));
        let all = self.pairs.len() as u64;
        let kept = (all * max_tokens / total).max(1);
        let chosen = (0..kept).map(|index| self.pairs[(index * all / kept) as usize].clone());
        let chosen = chosen.collect();
        let plan = BatchPlan::new(0, self.positions / self.block_size, self.block_size);
        *self = Self::new(&self.name, chosen, &plan, [self.start_id, self.pad_id]);
        true
    }

    /// The first pairs in the order of their files and lines. The ids are the source's and the target's, and the target is learned.
    pub fn first(&self, count: usize) -> Vec<ConversationExample> {
        let mut pairs: Vec<&Pair> = self.pairs.iter().collect();
        pairs.sort_by_key(|pair| (pair.file, pair.line));
        let shown = pairs.into_iter().take(count);
        shown
            .map(|pair| {
                let answer = pair.source.len()..pair.source.len() + pair.target.len();
                ConversationExample {
                    file: pair.file as usize,
                    line: pair.line,
                    ids: [&pair.source[..], &pair.target].concat(),
                    learned: vec![answer.clone()],
                    answer,
                    lost: 0,
                }
            })
            .collect()
    }

    /// All pairs once, in batches of at most `positions` positions, for evaluation.
    pub fn in_order(&self, positions: usize) -> impl Iterator<Item = Batch> + '_ {
        cut(&self.pairs, positions)
            .into_iter()
            .map(|range| self.rows(range.map(|index| &self.pairs[index])))
    }

    /// A hash of every pair.
    pub fn fingerprint(&self) -> String {
        let numbers = |pair: &Pair| {
            let lengths = [pair.source.len() as u64, pair.target.len() as u64];
            let mut bytes: Vec<u8> = lengths.iter().flat_map(|number| number.to_le_bytes()).collect();
            bytes.extend(pair.source.iter().chain(&pair.target).flat_map(|id| id.to_le_bytes()));
            bytes
        };
        taal_store::blake3_hex_of(self.pairs.iter().map(numbers))
    }

    /// The pair in a place of the order of an epoch: pairs of equal lengths change places with each other.
    fn in_epoch(&self, place: usize, seed: u64, epoch: u64) -> &Pair {
        let index = self.runs.partition_point(|run| run.end <= place);
        let run = &self.runs[index];
        let key = bits(&[PURPOSE_PAIRS, seed, epoch, run.start as u64]);
        let moved = permute((place - run.start) as u64, run.len() as u64, key);
        &self.pairs[run.start + moved as usize]
    }

    fn rows<'a>(&self, pairs: impl Iterator<Item = &'a Pair> + Clone) -> Batch {
        let longest = |length: fn(&Pair) -> usize| pairs.clone().map(length).max().unwrap_or(0);
        let (source_len, seq_len) = (longest(|pair| pair.source.len()), longest(|pair| pair.target.len()));
        let mut batch = Batch::with_capacity(pairs.clone().count(), seq_len);
        let mut source = SourceBatch {
            ids: Vec::with_capacity(batch.batch_size * source_len),
            lengths: Vec::with_capacity(batch.batch_size),
            seq_len: source_len,
        };
        for (row, pair) in pairs.enumerate() {
            source.ids.extend(pair.source.iter().map(|id| *id as i32));
            source.ids.resize((row + 1) * source_len, self.pad_id as i32);
            source.lengths.push(pair.source.len());
            let read = &pair.target[..pair.target.len() - 1];
            batch.inputs.push(self.start_id as i32);
            batch.inputs.extend(read.iter().map(|id| *id as i32));
            batch.inputs.resize((row + 1) * seq_len, self.pad_id as i32);
            batch.targets.extend(pair.target.iter().map(|id| *id as i32));
            batch.targets.resize((row + 1) * seq_len, IGNORE_INDEX);
        }
        batch.source = Some(source);
        batch
    }
}

/// Cuts pairs in the order of their lengths into batches of at most `positions` positions; a longer pair is alone.
fn cut(pairs: &[Pair], positions: usize) -> Vec<Range<usize>> {
    let mut cuts = Vec::new();
    let (mut start, mut longest) = (0, [0; 2]);
    for (index, pair) in pairs.iter().enumerate() {
        let with = [longest[0].max(pair.source.len()), longest[1].max(pair.target.len())];
        if index > start && (index + 1 - start) * (with[0] + with[1]) > positions {
            cuts.push(start..index);
            start = index;
            longest = [pair.source.len(), pair.target.len()];
        } else {
            longest = with;
        }
    }
    if start < pairs.len() {
        cuts.push(start..pairs.len());
    }
    cuts
}

impl BatchSource for PairSource {
    fn check(&self, plan: &BatchPlan) -> Result<()> {
        plan.check_sizes()?;
        let asked = plan.batch_size * plan.block_size;
        if asked == self.positions {
            return Ok(());
        }
        Err(DataError::Setting {
            key: "train.batch_size",
            detail: format!(
                "expected {} positions, for which the batches were cut, got {asked}",
                self.positions
            ),
        })
    }

    /// Batches are always visited in epochs.
    fn batch(&self, plan: &BatchPlan, step: u64) -> Result<Batch> {
        self.check(plan)?;
        let (epoch, index) = plan.shuffled(u128::from(step), self.cuts.len() as u64);
        let places = self.cuts[index as usize].clone();
        let pairs: Vec<&Pair> = places.map(|place| self.in_epoch(place, plan.seed, epoch)).collect();
        Ok(self.rows(pairs.into_iter()))
    }

    fn batches_per_epoch(&self, plan: &BatchPlan) -> Result<u64> {
        self.check(plan)?;
        Ok(self.cuts.len() as u64)
    }
}
