//! A small model that guesses the next tokens of the texts in a batch.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;
use taal_model::Cache;

use super::Guessing;
use crate::generate::{GenerateOptions, Written};
use crate::probe::Probe;
use crate::{LanguageModel, Result};

/// A text that the draft knows but for so many tokens is read on together with the others. After a pass whose guesses were all right
/// there are two: the last guess, and the token after it.
const UNREAD: usize = 2;

/// A draft model, and what it has read of the texts in the rows. Before each guess the texts are compared with it, so a right answer
/// does not depend on what it has read.
#[derive(Debug)]
pub(super) struct DraftModel {
    lm: Arc<LanguageModel>,
    /// Grows with the texts.
    cache: Option<Cache>,
    rows: Vec<Row>,
}

/// What a row of the cache holds.
#[derive(Debug, Clone, Default)]
struct Row {
    /// The first token of the text that is in the draft's context.
    start: usize,
    /// The tokens from there on whose keys and values are held.
    tokens: Vec<u32>,
}

/// A text with the guesses so far.
struct Ahead<'a> {
    lm: &'a LanguageModel,
    options: &'a GenerateOptions,
    row: usize,
    written: Written,
    guesses: Vec<u32>,
    /// How many more guesses there may be.
    left: usize,
}

impl DraftModel {
    pub(super) fn new(lm: Arc<LanguageModel>, rows: usize) -> Self {
        Self {
            lm,
            cache: None,
            rows: vec![Row::default(); rows],
        }
    }

    /// [`Speculation::guesses`](super::Speculation::guesses): the tokens that the texts would continue with if the logits were this
    /// model's.
    pub(super) fn guesses(&mut self, texts: &[Guessing<'_>], mut prefill: usize) -> Result<Vec<Vec<u32>>> {
        let mut all = Vec::with_capacity(texts.len());
        for text in texts {
            all.push(Ahead {
                lm: text.lm,
                options: text.options,
                row: text.row,
                left: self.catch_up(text, &mut prefill)?,
                written: text.written.fork(),
                guesses: Vec::new(),
            });
        }
        loop {
            let running: Vec<&mut Ahead<'_>> = all.iter_mut().filter(|text| text.left > 0).collect();
            let (Some(first), Some(last)) = (running.first(), running.last()) else {
                break;
            };
            let rows = first.row..last.row + 1;
            // A row between two others may have nothing to guess.
            let mut new: Vec<&[u32]> = vec![&[]; rows.len()];
            for text in &running {
                let row = &self.rows[text.row];
                new[text.row - rows.start] = &text.written.seen()[row.start + row.tokens.len()..];
            }
            let logits = self.read(rows, &new)?;
            let of_one = logits.len() / running.len();
            let each = running.into_par_iter().zip(logits.par_chunks_exact(of_one));
            each.for_each(|(text, logits)| text.guess(logits));
        }
        Ok(all.into_iter().map(|text| text.guesses).collect())
    }

    /// Reads a text but for its last tokens, where more than those are new; returns how many tokens can be guessed.
    fn catch_up(&mut self, text: &Guessing<'_>, prefill: &mut usize) -> Result<usize> {
        if text.most == 0 {
            return Ok(0);
        }
        let (seen, row) = (text.written.seen(), text.row);
        let count = self.make_room(row, seen.len(), text.most);
        let context = &seen[self.rows[row].start..];
        let known = self.lm.model.config().vocab_size;
        if context.iter().any(|id| *id as usize >= known) {
            // A prompt may have ids beyond the tokenizer's, for which only the model has rows.
            return Ok(0);
        }
        // The last token is always read, because its logits are asked for.
        let pairs = self.rows[row].tokens.iter().zip(&context[..context.len() - 1]);
        let held = pairs.take_while(|(held, token)| held == token).count();
        self.truncate(row, held);
        let unread = &context[held..];
        if unread.len() > UNREAD {
            let len = (unread.len() - 1).min(*prefill);
            *prefill -= len;
            if len > 0 {
                self.read(row..row + 1, &[&unread[..len]])?;
            }
        }
        match context.len() - self.rows[row].tokens.len() <= UNREAD {
            true => Ok(count),
            false => Ok(0),
        }
    }

    /// Moves the context so that the text and all guesses but the last fit. Where it is full, it keeps its last half, as that of the
    /// model does. Returns how many guesses fit.
    fn make_room(&mut self, row: usize, len: usize, count: usize) -> usize {
        let limit = self.limit();
        let count = count.min(limit);
        let most = limit - (count - 1);
        let row = &mut self.rows[row];
        if row.start >= len || len - row.start > most {
            row.start = len - (limit / 2).clamp(1, most).min(len);
            row.tokens.clear();
        }
        count
    }

    /// The most tokens of a context.
    fn limit(&self) -> usize {
        self.lm.model.config().context_limit().unwrap_or(usize::MAX).max(1)
    }

    /// Reads tokens in some rows; returns the logits after the last token of each row that has any.
    fn read(&mut self, rows: Range<usize>, new: &[&[u32]]) -> Result<Vec<f32>> {
        let held = rows.clone().map(|row| self.rows[row].tokens.len());
        let len = held.zip(new).map(|(held, new)| held + new.len()).max().unwrap_or(0);
        let (slots, capacity) = (self.rows.len(), len.next_power_of_two().min(self.limit()));
        let cache = self
            .cache
            .get_or_insert_with(|| self.lm.model.new_cache(slots, capacity));
        cache.grow(capacity);
        let probe = Probe::new(&self.lm.model);
        let logits = probe.read_rows(cache, rows.clone(), new, false, vec![None; new.len()])?;
        for (row, new) in rows.zip(new) {
            self.rows[row].tokens.extend_from_slice(new);
        }
        Ok(logits)
    }

    /// Drops the tokens of a row from `len` on.
    fn truncate(&mut self, row: usize, len: usize) {
        self.rows[row].tokens.truncate(len);
        if let Some(cache) = &mut self.cache {
            cache.truncate_row(row, len);
        }
    }

    /// [`Speculation::begin`](super::Speculation::begin)
    pub(super) fn begin(&mut self, row: usize, from: usize, len: usize) {
        let is_copied = row != from && len > 0 && self.rows[from].start == 0;
        if let Some(cache) = self.cache.as_mut().filter(|_| is_copied) {
            let tokens = &self.rows[from].tokens;
            let held = cache.copy_within(from, row, len.min(tokens.len()));
            self.rows[row].tokens = tokens[..held].to_vec();
            self.rows[row].start = 0;
        } else if self.rows[row].start > 0 {
            self.rows[row].start = 0;
            self.truncate(row, 0);
        }
    }

    /// [`Speculation::swap`](super::Speculation::swap)
    pub(super) fn swap(&mut self, a: usize, b: usize) {
        self.rows.swap(a, b);
        if let Some(cache) = &mut self.cache {
            cache.swap_rows(a, b);
        }
    }

    /// [`Speculation::forget`](super::Speculation::forget)
    pub(super) fn forget(&mut self) {
        self.cache = None;
        self.rows.fill_with(Row::default);
    }
}

impl Ahead<'_> {
    /// Adds a guess by the draft's logits.
    fn guess(&mut self, logits: &[f32]) {
        // A draft may have fewer rows than the tokenizer has tokens, and never guesses the others.
        let mut logits = logits.to_vec();
        logits.resize(self.lm.vocab_size(), f32::NEG_INFINITY);
        self.left -= 1;
        // Logits of which no token may come next are no error: they are only guesses.
        let Ok(id) = self.written.choose(self.lm, self.options, &logits) else {
            self.left = 0;
            return;
        };
        self.guesses.push(id);
        if self.left > 0 && self.written.add(self.lm, self.options, id).unwrap_or(true) {
            self.left = 0;
        }
    }
}
