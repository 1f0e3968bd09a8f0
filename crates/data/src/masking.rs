//! Masking tokens for a masked language model to predict: a pure function of a key.
//!
//! BERT (Devlin et al. 2019) chooses 15 % of the tokens; of those 80 % become the mask token, 10 % a random one and 10 % stay.
//! Drawing them again at every step is RoBERTa's dynamic masking (Liu et al. 2019). The units are single tokens, whole words
//! (BERT's later checkpoints), or spans of words (SpanBERT, Joshi et al. 2020).

use serde::{Deserialize, Serialize};
use taal_tokenizer::{Frame, Tokenizer, WordMarks};

use crate::batch::{Batch, IGNORE_INDEX};
use crate::error::{DataError, Result};
use crate::random::{below, bits};

/// First key words, as in batches.
const PURPOSE_UNITS: u64 = u64::from_be_bytes(*b"\0\0\0units");
const PURPOSE_LENGTH: u64 = u64::from_be_bytes(*b"\0\0length");
const PURPOSE_FATE: u64 = u64::from_be_bytes(*b"\0\0\0\0fate");
const PURPOSE_OTHER: u64 = u64::from_be_bytes(*b"\0\0\0other");

/// SpanBERT's geometric distribution: probability of ending after each word, and the longest span.
const SPAN_END: f64 = 0.2;
const SPAN_LIMIT: usize = 10;

/// The unit of masking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskUnit {
    /// Single tokens.
    Token,
    /// All tokens of a word together.
    Word,
    /// Up to ten consecutive words, 3.8 on average, all replaced in the same way.
    Span,
}

/// How much is masked, and how.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Masking {
    /// Share of the ordinary tokens that are chosen.
    pub fraction: f64,
    /// The unit of masking.
    pub unit: MaskUnit,
    /// Share of the chosen that becomes the mask token.
    pub masked: f64,
    /// Share of the chosen that becomes a random token; the rest is unchanged.
    pub random: f64,
}

impl Default for Masking {
    /// BERT's numbers, on whole words.
    fn default() -> Self {
        Self {
            fraction: 0.15,
            unit: MaskUnit::Word,
            masked: 0.8,
            random: 0.1,
        }
    }
}

/// The facts about a tokenizer that masking needs.
#[derive(Debug, Clone)]
pub struct MaskVocabulary {
    mask_id: u32,
    frame: Frame,
    /// By id: whether it may be masked; special tokens may not.
    is_ordinary: Vec<bool>,
    marks: WordMarks,
    ordinary: Vec<u32>,
}

impl MaskVocabulary {
    /// Reads a tokenizer's vocabulary; [`Tokenizer::word_marks`] tells which tokens make up a word, and [`Tokenizer::frame`]
    /// which begin and end a text.
    ///
    /// # Errors
    /// [`DataError::Setting`] for a tokenizer without a mask token.
    pub fn of(tokenizer: &Tokenizer) -> Result<Self> {
        let mask_id = tokenizer.mask_id().ok_or_else(|| DataError::Setting {
            key: "train.objective",
            detail: "a masked model needs a tokenizer with a mask token; use kind = \"wordpiece\", or add [MASK] to \
                     tokenizer.special_tokens"
                .to_owned(),
        })?;
        let ids = 0..u32::try_from(tokenizer.vocab_size()).unwrap_or(u32::MAX);
        let is_ordinary: Vec<bool> = ids.clone().map(|id| !tokenizer.is_special(id)).collect();
        Ok(Self {
            mask_id,
            frame: tokenizer.frame(),
            marks: tokenizer.word_marks(),
            ordinary: ids.filter(|id| is_ordinary[*id as usize]).collect(),
            is_ordinary,
        })
    }

    /// The id of the mask token.
    pub fn mask_id(&self) -> u32 {
        self.mask_id
    }

    /// Whether an id may be masked.
    pub fn is_ordinary(&self, id: u32) -> bool {
        self.is_ordinary.get(id as usize).copied().unwrap_or(false)
    }

    /// Whether an id continues the word of the token before it.
    pub fn continues(&self, before: u32, id: u32) -> bool {
        self.marks.continues(before, id)
    }
}

impl Masking {
    /// Masks tokens of rows of running text and makes them the targets; all other targets are [`IGNORE_INDEX`].
    ///
    /// The special tokens that the tokenizer puts around a text replace each row's first and last tokens, as in later use of the
    /// model. Rows are masked differently, and equal arguments give equal batches. At least one token per row is masked.
    pub fn apply(&self, batch: &mut Batch, vocabulary: &MaskVocabulary, key: u64) {
        batch.targets.fill(IGNORE_INDEX);
        for row in 0..batch.batch_size {
            let place = row * batch.seq_len..(row + 1) * batch.seq_len;
            let (inputs, targets) = (&mut batch.inputs[place.clone()], &mut batch.targets[place]);
            frame(inputs, vocabulary);
            self.mask(inputs, targets, vocabulary, bits(&[key, row as u64]));
        }
    }

    fn mask(&self, inputs: &mut [i32], targets: &mut [i32], vocabulary: &MaskVocabulary, key: u64) {
        let units = self.units(inputs, vocabulary);
        let ordinary: usize = units.iter().map(|(_, len)| len).sum();
        let budget = ((ordinary as f64 * self.fraction).round() as usize).max(1);
        let mut order: Vec<usize> = (0..units.len()).collect();
        order.sort_by_key(|&unit| (bits(&[PURPOSE_UNITS, key, unit as u64]), unit));
        let mut left = budget;
        for first in order {
            let span = match self.unit {
                MaskUnit::Span => span_length(key, first),
                _ => 1,
            };
            for &(start, len) in units[first..].iter().take(span) {
                // Units longer than the remaining budget are skipped, unless nothing would be masked at all.
                if left == 0 || targets[start] != IGNORE_INDEX || (len > left && left < budget) {
                    break;
                }
                left = left.saturating_sub(len);
                for position in start..start + len {
                    let one_fate = if self.unit == MaskUnit::Span { first } else { position };
                    targets[position] = inputs[position];
                    inputs[position] = self.fate(inputs[position], vocabulary, [key, one_fate as u64, position as u64]);
                }
            }
            if left == 0 {
                break;
            }
        }
    }

    /// Start and length of every unit.
    fn units(&self, inputs: &[i32], vocabulary: &MaskVocabulary) -> Vec<(usize, usize)> {
        let mut units: Vec<(usize, usize)> = Vec::new();
        for (position, &id) in inputs.iter().enumerate() {
            let id = id as u32;
            if !vocabulary.is_ordinary(id) {
                continue;
            }
            match units.last_mut() {
                Some((start, len))
                    if self.unit != MaskUnit::Token
                        && *start + *len == position
                        && vocabulary.continues(inputs[position - 1] as u32, id) =>
                {
                    *len += 1;
                }
                _ => units.push((position, 1)),
            }
        }
        units
    }

    fn fate(&self, id: i32, vocabulary: &MaskVocabulary, [key, draw, position]: [u64; 3]) -> i32 {
        const PARTS: u64 = 1 << 32;
        let share = below(bits(&[PURPOSE_FATE, key, draw]), PARTS) as f64 / PARTS as f64;
        if share < self.masked {
            vocabulary.mask_id as i32
        } else if share < self.masked + self.random {
            let choice = below(bits(&[PURPOSE_OTHER, key, position]), vocabulary.ordinary.len() as u64);
            vocabulary.ordinary[choice as usize] as i32
        } else {
            id
        }
    }
}

/// Replaces the first and last tokens by those that begin and end a text; a row too short for them and one more token is unchanged.
fn frame(inputs: &mut [i32], vocabulary: &MaskVocabulary) {
    let Frame { before, after } = &vocabulary.frame;
    if inputs.len() <= before.len() + after.len() {
        return;
    }
    let last = inputs.len() - after.len();
    for (input, id) in inputs.iter_mut().zip(before) {
        *input = *id as i32;
    }
    for (input, id) in inputs[last..].iter_mut().zip(after) {
        *input = *id as i32;
    }
}

fn span_length(key: u64, unit: usize) -> usize {
    const PARTS: u64 = 1 << 32;
    let goes_on = |words: &usize| {
        let share = below(bits(&[PURPOSE_LENGTH, key, unit as u64, *words as u64]), PARTS) as f64 / PARTS as f64;
        share >= SPAN_END
    };
    1 + (1..SPAN_LIMIT).take_while(goes_on).count()
}
