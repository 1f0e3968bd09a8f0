//! The rows of the key/value cache: which texts they hold, and which of them a new prompt continues.

use std::ops::Range;

use rayon::prelude::*;
use taal_kernels::with_adapters_of_rows;
use taal_model::{Cache, ForwardOptions, Transformer};

use super::request::Job;
use crate::probe::{Probe, Rows, values};
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
}

impl Table {
    pub(super) fn new(slots: usize, capacity: usize) -> Self {
        Self {
            cache: None,
            capacity,
            rows: (0..slots).map(|_| Row::default()).collect(),
            decoding: 0,
            reading: None,
            clock: 0,
        }
    }

    /// Gives the memory of all texts back; no row may generate or read.
    pub(super) fn rest(&mut self) {
        self.cache = None;
        self.rows.fill_with(Row::default);
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

    /// Gives the job of each generating row its numbers of `logits`, all rows at once.
    pub(super) fn each_job(
        &mut self,
        logits: &[f32],
        take: impl Fn(&mut Job, &[f32]) -> Result<()> + Sync,
    ) -> Vec<Result<()>> {
        let rows = &mut self.rows[..self.decoding];
        let of_one = logits.len() / rows.len();
        let outcomes = rows.par_iter_mut().zip(logits.par_chunks_exact(of_one));
        let outcome = |(row, logits): (&mut Row, &[f32])| row.job.as_mut().map_or(Ok(()), |job| take(job, logits));
        outcomes.map(outcome).collect()
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
            self.rows.swap(a, b);
            self.reading = match self.reading {
                Some(row) if row == a => Some(b),
                Some(row) if row == b => Some(a),
                reading => reading,
            };
        }
    }

    /// Reads one more token in each generating row, or several in one row, and returns the logits after the last token of each, or after
    /// every token.
    pub(super) fn read(
        &mut self,
        lm: &LanguageModel,
        rows: Range<usize>,
        new: &[u32],
        everywhere: bool,
    ) -> Result<Vec<f32>> {
        let width = new.len() / rows.len();
        let adapters = self.rows[rows.clone()].iter().map(|row| row.adapter).collect();
        let (slots, capacity) = (self.rows.len(), self.capacity);
        let cache = self.cache.get_or_insert_with(|| lm.model.new_cache(slots, capacity));
        let logits = read_rows(&lm.model, cache, rows.clone(), new, everywhere, adapters)?;
        for (row, new) in rows.zip(new.chunks(width)) {
            self.rows[row].tokens.extend_from_slice(new);
        }
        Ok(logits)
    }
}

/// Reads the same number of tokens in some rows of a cache, each with the adapter of its number or none; returns the logits after the
/// last token of each, or after every token.
pub(crate) fn read_rows(
    model: &Transformer,
    cache: &mut Cache,
    rows: Range<usize>,
    new: &[u32],
    everywhere: bool,
    adapters: Vec<Option<usize>>,
) -> Result<Vec<f32>> {
    let width = new.len() / rows.len();
    Probe::run(&model.device(), || {
        with_adapters_of_rows(adapters, || {
            let options = ForwardOptions {
                cache: Some(cache),
                rows: Some(rows),
                ..ForwardOptions::default()
            };
            let hidden = Probe::new(model).states(&Rows::new(new, width), options)?.hidden; // [rows, width, d_model]
            let asked = match everywhere {
                true => hidden,
                false => hidden.narrow(1, width - 1, 1),
            };
            // What is not finite ends only the request that it belongs to.
            values(model.logits(asked))
        })
    })
}
