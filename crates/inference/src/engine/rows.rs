//! The rows of the key/value cache: which texts they hold, and which of them a new prompt continues.

use std::ops::Range;

use rayon::prelude::*;
use taal_model::Cache;

use super::request::{Job, Taken};
use crate::probe::Probe;
use crate::speculative::Speculation;
use crate::{LanguageModel, Result};

/// A row of the cache.
#[derive(Default)]
pub(super) struct Row {
    /// The tokens whose keys and values it holds.
    pub(super) tokens: Vec<u32>,
    pub(super) job: Option<Job>,
    /// The adapter that its keys and values were computed with.
    adapter: Option<usize>,
    /// When it was used last.
    used: u64,
}

/// The rows in the order of the cache. The first [`decoding`](Self::decoding) ones generate, so that a step is one pass on neighbors;
/// one of the others may be reading its prompt, and the rest keep texts that later prompts may begin with.
pub(super) struct Table {
    /// Made for the first request, and again after a rest.
    cache: Option<Cache>,
    /// Tokens of a row.
    capacity: usize,
    rows: Vec<Row>,
    decoding: usize,
    reading: Option<usize>,
    clock: u64,
    /// What guesses the next tokens of the generating rows.
    speculation: Option<Speculation>,
}

impl Table {
    pub(super) fn new(slots: usize, capacity: usize, speculation: Option<Speculation>) -> Self {
        Self {
            cache: None,
            capacity,
            rows: (0..slots).map(|_| Row::default()).collect(),
            decoding: 0,
            reading: None,
            clock: 0,
            speculation,
        }
    }

    /// Gives the memory of all texts back; no row may generate or read.
    pub(super) fn rest(&mut self) {
        self.cache = None;
        self.rows.fill_with(Row::default);
        if let Some(speculation) = &mut self.speculation {
            speculation.forget();
        }
    }

    /// How many rows generate.
    pub(super) fn decoding(&self) -> usize {
        self.decoding
    }

    /// The row that reads its prompt.
    pub(super) fn reading(&self) -> Option<usize> {
        self.reading
    }

    pub(super) fn is_full(&self) -> bool {
        self.decoding == self.rows.len()
    }

    pub(super) fn row(&self, index: usize) -> &Row {
        &self.rows[index]
    }

    /// Guesses of the next tokens of each generating row. The rows share the tokens that are guessed at once: reading a few more costs a
    /// step next to nothing, and in a full batch there are many already. A draft model reads at most `prefill` tokens of new texts.
    pub(super) fn guesses(&mut self, prefill: usize) -> Vec<Vec<u32>> {
        let mut all = vec![Vec::new(); self.decoding];
        let Some(speculation) = &mut self.speculation else {
            return all;
        };
        let most = speculation.tokens() / self.decoding.max(1);
        if most == 0 {
            return all;
        }
        let rows = self.rows[..self.decoding].iter().enumerate();
        let texts: Vec<_> = rows
            .filter_map(|(index, row)| {
                // The newest token needs a place too.
                let room = self.capacity.saturating_sub(row.tokens.len() + 1);
                Some(row.job.as_ref()?.guessing(index, most.min(room)))
            })
            .collect();
        // A draft that fails guesses nothing, and the answer is the same.
        let found = speculation.guesses(&texts, prefill).unwrap_or_default();
        for (text, found) in texts.iter().zip(found) {
            all[text.row] = found;
        }
        all
    }

    /// Gives the job of each generating row its logits, all rows at once: those after the newest token and after each guess, so many for
    /// each as the row has read new tokens.
    pub(super) fn each_job(
        &mut self,
        mut logits: &[f32],
        new: &[Vec<u32>],
        take: impl Fn(&mut Job, &[f32], &[u32]) -> Result<Taken> + Sync,
    ) -> Vec<Result<Taken>> {
        let of_one = logits.len() / new.iter().map(Vec::len).sum::<usize>().max(1);
        let parts: Vec<&[f32]> = new
            .iter()
            .map(|new| {
                let (part, rest) = logits.split_at(new.len() * of_one);
                logits = rest;
                part
            })
            .collect();
        let rows = self.rows[..self.decoding].par_iter_mut();
        let outcome = |((row, logits), new): ((&mut Row, &[f32]), &Vec<u32>)| {
            let job = row.job.as_mut();
            job.map_or(Ok(Taken::default()), |job| take(job, logits, &new[1..]))
        };
        rows.zip(parts).zip(new).map(outcome).collect()
    }

    /// Drops the last tokens of a row, as if it had not read them.
    pub(super) fn take_back(&mut self, row: usize, tokens: usize) {
        let held = self.rows[row].tokens.len() - tokens;
        self.rows[row].tokens.truncate(held);
        if let Some(cache) = self.cache.as_mut().filter(|_| tokens > 0) {
            cache.truncate_row(row, held);
        }
    }

    pub(super) fn job(&mut self, index: usize) -> Option<&mut Job> {
        self.rows[index].job.as_mut()
    }

    /// Gives a request a free row, which becomes the reading one; returns how many tokens of its prompt the row holds already.
    pub(super) fn begin(&mut self, lm: &LanguageModel, job: Job, reuses: bool) -> usize {
        // The last token is always computed: the logits after it are needed.
        let most = match reuses && job.prompt_scores.is_none() {
            true => job.ids.len() - 1,
            false => 0,
        };
        let shared = |row: &Row| {
            let most = if row.adapter == job.adapter { most } else { 0 };
            let pairs = row.tokens.iter().zip(&job.ids[..most]);
            pairs.take_while(|(left, right)| left == right).count()
        };
        let lens: Vec<usize> = self.rows.iter().map(shared).collect();
        let free = self.decoding..self.rows.len();
        let oldest = free
            .clone()
            .min_by_key(|&row| self.rows[row].used)
            .unwrap_or(free.start);
        // Of equals the first, so that free rows are preferred to running ones.
        let order = free.chain(0..self.decoding);
        let best = order.rev().max_by_key(|&row| lens[row]).unwrap_or(oldest);
        let len = lens[best];
        // A row that would lose most of its text is copied instead of used.
        let is_own = best >= self.decoding && (best == oldest || 2 * len >= self.rows[best].tokens.len());
        let (slots, capacity) = (self.rows.len(), self.capacity);
        let cache = self.cache.get_or_insert_with(|| lm.model.new_cache(slots, capacity));
        let (row, held) = match (len, is_own) {
            (0, _) => (oldest, cache.truncate_row(oldest, 0)),
            (_, true) => (best, cache.truncate_row(best, len)),
            (_, false) => (oldest, cache.copy_within(best, oldest, len)),
        };
        if let Some(speculation) = &mut self.speculation {
            speculation.begin(row, best, len);
        }
        self.rows[row].tokens = job.ids[..held].to_vec();
        self.rows[row].adapter = job.adapter;
        self.rows[row].job = Some(job);
        self.reading = Some(row);
        held
    }

    /// The reading row has read its prompt: it generates from now on. Returns its new index.
    pub(super) fn promote(&mut self) -> Option<usize> {
        let row = self.reading.take()?;
        self.swap(row, self.decoding);
        self.decoding += 1;
        Some(self.decoding - 1)
    }

    /// Takes a request out of its row, which keeps its text.
    pub(super) fn release(&mut self, row: usize) -> Option<Job> {
        self.clock += 1;
        self.rows[row].used = self.clock;
        let job = self.rows[row].job.take();
        if self.reading == Some(row) {
            self.reading = None;
        } else if row < self.decoding {
            self.decoding -= 1;
            self.swap(row, self.decoding);
        }
        job
    }

    /// Forgets the text of a row, of which the cache may hold a part after a failure.
    pub(super) fn forget(&mut self, row: usize) {
        if let Some(cache) = &mut self.cache {
            cache.truncate_row(row, 0);
        }
        self.rows[row].tokens.clear();
    }

    fn swap(&mut self, a: usize, b: usize) {
        if a != b {
            if let Some(cache) = &mut self.cache {
                cache.swap_rows(a, b);
            }
            if let Some(speculation) = &mut self.speculation {
                speculation.swap(a, b);
            }
            self.rows.swap(a, b);
            self.reading = match self.reading {
                Some(row) if row == a => Some(b),
                Some(row) if row == b => Some(a),
                reading => reading,
            };
        }
    }

    /// Reads new tokens in some rows, at least one in each; returns the logits after the last one of each row, or after every one.
    pub(super) fn read(
        &mut self,
        lm: &LanguageModel,
        rows: Range<usize>,
        new: &[Vec<u32>],
        everywhere: bool,
    ) -> Result<Vec<f32>> {
        let adapters = self.rows[rows.clone()].iter().map(|row| row.adapter).collect();
        let (slots, capacity) = (self.rows.len(), self.capacity);
        let cache = self.cache.get_or_insert_with(|| lm.model.new_cache(slots, capacity));
        let tokens: Vec<&[u32]> = new.iter().map(Vec::as_slice).collect();
        let logits = Probe::new(&lm.model).read_rows(cache, rows.clone(), &tokens, everywhere, adapters)?;
        for (row, new) in rows.zip(new) {
            self.rows[row].tokens.extend_from_slice(new);
        }
        Ok(logits)
    }
}
