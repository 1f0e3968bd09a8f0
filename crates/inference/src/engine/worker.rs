//! The thread of an engine.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::queue::{Shared, Turn, count};
use super::request::{Event, Job, Taken};
use super::rows::Table;
use super::scores::score;
use super::{EngineOptions, TokenScore};
use crate::probe::LOGITS_AT_ONCE;
use crate::speculative::Speculation;
use crate::{InferenceError, LanguageModel, Result};

/// A row of this many tokens is allocated where neither the model nor the options set a limit: a recurrent network needs none.
const UNLIMITED: usize = 1;

pub(super) struct Worker {
    lm: Arc<LanguageModel>,
    shared: Arc<Shared>,
    table: Table,
    capacity: usize,
    prefill_tokens: usize,
    reuses: bool,
    /// How long texts are kept while there are no requests.
    keep_texts: Duration,
    /// Whether there are texts to keep.
    has_texts: bool,
}

impl Worker {
    /// Checks the options of the draft.
    pub(super) fn new(
        lm: Arc<LanguageModel>,
        shared: Arc<Shared>,
        options: &EngineOptions,
        capacity: usize,
    ) -> Result<Self> {
        let allocated = if capacity == usize::MAX { UNLIMITED } else { capacity };
        let speculation = options.speculation.clone();
        let speculation = speculation.map(|speculation| Speculation::new(&lm, speculation, options.slots));
        Ok(Self {
            table: Table::new(options.slots, allocated, speculation.transpose()?),
            capacity,
            prefill_tokens: options.prefill_tokens,
            reuses: options.reuse_prefixes,
            keep_texts: options.keep_texts,
            has_texts: false,
            lm,
            shared,
        })
    }

    /// Works until the engine is closed. A panic ends the engine: its requests fail, further ones are refused.
    pub(super) fn run(mut self) {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            loop {
                match self
                    .shared
                    .turn(self.is_idle(), self.has_texts.then_some(self.keep_texts))
                {
                    Turn::Go => self.step(),
                    Turn::Rest => self.rest(),
                    Turn::End => break,
                }
            }
        }));
        let waiting = self.shared.rest();
        let running = (0..self.table.decoding()).rev().chain(self.table.reading());
        let rows: Vec<usize> = running.collect();
        let jobs: Vec<Job> = rows.into_iter().filter_map(|row| self.table.release(row)).collect();
        self.shared.counters.running.store(0, Ordering::Relaxed);
        for job in jobs.into_iter().chain(waiting) {
            job.fail(match outcome {
                Ok(()) => InferenceError::Stopping,
                Err(_) => InferenceError::Device {
                    detail: "the computation ended unexpectedly".to_owned(),
                },
            });
        }
    }

    fn is_idle(&self) -> bool {
        self.table.decoding() == 0 && self.table.reading().is_none()
    }

    /// Nobody has asked for a while: the memory of the texts is free for others.
    fn rest(&mut self) {
        self.table.rest();
        self.has_texts = false;
        count(&self.shared.counters.rests, 1);
    }

    fn step(&mut self) {
        self.has_texts = true;
        self.drop_cancelled();
        self.decode();
        self.prefill();
        let running = self.table.decoding() + usize::from(self.table.reading().is_some());
        self.shared.counters.running.store(running as u64, Ordering::Relaxed);
    }

    fn drop_cancelled(&mut self) {
        let rows = (0..self.table.decoding()).rev().chain(self.table.reading());
        for row in rows.collect::<Vec<_>>() {
            let is_cancelled = self.table.row(row).job.as_ref().is_some_and(Job::is_cancelled);
            if is_cancelled && let Some(job) = self.table.release(row) {
                count(&self.shared.counters.cancelled, 1);
                job.finish(true);
            }
        }
    }

    /// Reads up to `prefill_tokens` tokens of prompts.
    fn prefill(&mut self) {
        let mut left = self.prefill_tokens;
        while left > 0 {
            let row = match self.table.reading() {
                Some(row) => row,
                None if self.table.is_full() => return,
                None => match self.shared.pop() {
                    Some(job) => match self.begin(job) {
                        Some(row) => row,
                        None => continue,
                    },
                    None => return,
                },
            };
            let before = self.table.row(row).tokens.len();
            match self.read_prompt(row, left) {
                Ok(read) => left -= read,
                Err(error) => {
                    let len = self.table.row(row).tokens.len();
                    left -= len.saturating_sub(before).clamp(1, left);
                    self.fail(row, error);
                }
            }
        }
    }

    /// Gives a request its row; `None` where it has ended already.
    fn begin(&mut self, mut job: Job) -> Option<usize> {
        if job.is_cancelled() || (job.is_over() && job.prompt_scores.is_none()) {
            let is_cancelled = job.is_cancelled();
            count(&self.shared.counters.cancelled, u64::from(is_cancelled));
            if !is_cancelled {
                job.tell(Event::Started { cached_tokens: 0 });
            }
            job.finish(is_cancelled);
            return None;
        }
        let counters = &self.shared.counters;
        count(&counters.prompt_tokens, job.ids.len() as u64);
        let cached_tokens = self.table.begin(&self.lm, job, self.reuses);
        count(&counters.cached_tokens, cached_tokens as u64);
        let row = self.table.reading()?;
        self.table.job(row)?.tell(Event::Started { cached_tokens });
        Some(row)
    }

    /// Reads the next tokens of a prompt, at most `most`, and takes the first new token after the last; returns how many it read.
    fn read_prompt(&mut self, row: usize, most: usize) -> Result<usize> {
        let held = self.table.row(row).tokens.len();
        let Some(job) = self.table.job(row) else {
            return Ok(most);
        };
        let scored = job.prompt_scores;
        let vocab_size = self.lm.model.config().vocab_size;
        let most = match scored {
            Some(_) => most.min((LOGITS_AT_ONCE / vocab_size).max(1)),
            None => most,
        };
        let end = job.ids.len().min(held + most);
        let new = job.ids[held..end].to_vec();
        let next: Vec<u32> = job.ids[held + 1..job.ids.len().min(end + 1)].to_vec();
        let is_last = end == job.ids.len();
        let read = new.len();
        let logits = self.table.read(&self.lm, row..row + 1, &[new], scored.is_some())?;
        if let Some(alternatives) = scored {
            let scores = logits.chunks_exact(vocab_size).zip(next);
            let known = self.lm.vocab_size();
            let scores = scores.map(|(logits, id)| finite(score(logits, id, alternatives, known)));
            let scores = scores.collect::<Result<Vec<_>>>()?;
            if let Some(job) = self.table.job(row) {
                job.found.extend(scores);
            }
        }
        if is_last {
            self.first_token(&logits[logits.len() - vocab_size..])?;
        }
        Ok(read)
    }

    /// The prompt of the reading row is read, and these are the logits after it.
    fn first_token(&mut self, logits: &[f32]) -> Result<()> {
        let Some(row) = self.table.reading() else {
            return Ok(());
        };
        if let Some(job) = self.table.job(row)
            && job.prompt_scores.is_some()
        {
            let found = std::mem::take(&mut job.found);
            job.tell(Event::Prompt(found));
        }
        let is_over = self.table.row(row).job.as_ref().is_none_or(Job::is_over);
        if !is_over {
            self.take(row, logits)?;
        }
        match self.is_over(row) {
            true => self.finish(row),
            false => {
                self.table.promote();
            }
        }
        Ok(())
    }

    /// A token for every generating row, and more where the tokens after it were guessed.
    fn decode(&mut self) {
        let count_of = self.table.decoding();
        if count_of == 0 {
            return;
        }
        let guesses = self.table.guesses(self.prefill_tokens).into_iter().enumerate();
        let new: Vec<Vec<u32>> = guesses
            .map(|(row, guesses)| {
                let newest = self.table.row(row).job.as_ref().map_or(0, Job::last);
                [vec![newest], guesses].concat()
            })
            .collect();
        let logits = match self.table.read(&self.lm, 0..count_of, &new, true) {
            Ok(logits) => logits,
            Err(error) => {
                let detail = error.to_string();
                for row in (0..count_of).rev() {
                    let detail = detail.clone();
                    self.fail(row, InferenceError::Device { detail });
                }
                return;
            }
        };
        count(&self.shared.counters.steps, 1);
        let known = self.lm.vocab_size();
        let outcomes = self.table.each_job(&logits, &new, |job, logits, guesses| {
            job.take(logits, guesses, |logits, id, alternatives| {
                score(logits, id, alternatives, known)
            })
        });
        // Backwards, because a row that ends changes places with the last one.
        for (row, outcome) in outcomes.into_iter().enumerate().rev() {
            match outcome {
                Ok(taken) => {
                    self.count_tokens(taken, new[row].len() - 1);
                    // The last token was not read yet, whether it was guessed or not.
                    self.table.take_back(row, new[row].len() - taken.tokens);
                    if self.is_over(row) {
                        self.finish(row);
                    }
                }
                Err(error) => self.fail(row, error),
            }
        }
    }

    /// Counts the tokens of a row's pass that read so many guesses.
    fn count_tokens(&self, taken: Taken, guesses: usize) {
        let counters = &self.shared.counters;
        count(&counters.generated_tokens, taken.tokens as u64);
        count(&counters.draft_tokens_accepted, taken.guessed as u64);
        count(&counters.draft_tokens_rejected, (guesses - taken.guessed) as u64);
    }

    /// Chooses the first token of a row.
    fn take(&mut self, row: usize, logits: &[f32]) -> Result<()> {
        let known = self.lm.vocab_size();
        if let Some(job) = self.table.job(row) {
            let taken = job.take(logits, &[], |logits, id, alternatives| {
                score(logits, id, alternatives, known)
            })?;
            self.count_tokens(taken, 0);
        }
        Ok(())
    }

    /// Whether a row's answer is complete, or has no room for the token after the newest one.
    fn is_over(&self, row: usize) -> bool {
        let row = self.table.row(row);
        row.tokens.len() >= self.capacity || row.job.as_ref().is_none_or(Job::is_over)
    }

    fn finish(&mut self, row: usize) {
        if let Some(job) = self.table.release(row) {
            job.finish(false);
        }
    }

    fn fail(&mut self, row: usize, error: InferenceError) {
        self.table.forget(row);
        if let Some(job) = self.table.release(row) {
            job.fail(error);
        }
    }
}

fn finite(score: TokenScore) -> Result<TokenScore> {
    match score.logprob.is_nan() {
        true => Err(InferenceError::NotFinite {
            what: "the model computed a probability that is".to_owned(),
        }),
        false => Ok(score),
    }
}
