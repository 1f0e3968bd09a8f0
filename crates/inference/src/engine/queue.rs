//! The requests that wait, and what the engine's thread and its callers know of each other.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::request::Job;
use crate::{InferenceError, Result};

/// How often [`Shared::drain`] looks at its time limit.
const TICK: Duration = Duration::from_millis(100);

/// Parts of requests that may wait beside those of a request that finds the queue empty.
const MAX_PARTS: usize = 1024;

/// What an engine does and has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Requests in the batch.
    pub running: usize,
    /// Requests that wait for a place in it.
    pub waiting: usize,
    /// Requests accepted so far.
    pub accepted: u64,
    /// Requests refused because the queue was full.
    pub refused: u64,
    /// Requests that waited too long.
    pub expired: u64,
    /// Requests that were cancelled.
    pub cancelled: u64,
    /// Tokens of prompts so far, including those that were found in the cache.
    pub prompt_tokens: u64,
    /// Tokens of prompts that were found in the cache.
    pub cached_tokens: u64,
    /// Generated tokens.
    pub generated_tokens: u64,
    /// Passes through the model that generated tokens.
    pub steps: u64,
    /// Guessed tokens that became part of an answer.
    pub draft_tokens_accepted: u64,
    /// Guessed tokens that the model read and that did not.
    pub draft_tokens_rejected: u64,
    /// How often the cache was freed because there were no requests for a while.
    pub rests: u64,
}

/// The counters of [`EngineStats`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) running: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
    pub(super) expired: AtomicU64,
    pub(super) cancelled: AtomicU64,
    pub(super) prompt_tokens: AtomicU64,
    pub(super) cached_tokens: AtomicU64,
    pub(super) generated_tokens: AtomicU64,
    pub(super) steps: AtomicU64,
    pub(super) draft_tokens_accepted: AtomicU64,
    pub(super) draft_tokens_rejected: AtomicU64,
    pub(super) rests: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

/// Whether requests are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Open,
    /// Those that were accepted are finished, others are refused.
    Draining,
    /// All end at once.
    Closed,
}

struct State {
    /// The jobs that wait, each with the number of its request; those of one request follow each other.
    waiting: VecDeque<(u64, Job)>,
    /// The number of the newest request.
    newest: u64,
    mode: Mode,
    /// Whether the thread has requests.
    is_busy: bool,
}

impl State {
    /// How many requests wait, each with all of its parts or some.
    fn requests(&self) -> usize {
        let numbers = self.waiting.iter().map(|(number, _)| number);
        let next = numbers.clone().skip(1);
        // Of each run of equal numbers, all but the first are left out.
        self.waiting.len() - numbers.zip(next).filter(|(one, other)| one == other).count()
    }
}

/// What the thread should do next.
pub(super) enum Turn {
    /// Go on; a request may join.
    Go,
    /// Free the cache: there was nothing to do for a while.
    Rest,
    /// End.
    End,
}

pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    limit: usize,
    pub(super) counters: Counters,
}

impl Shared {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                newest: 0,
                mode: Mode::Open,
                is_busy: false,
            }),
            changed: Condvar::new(),
            limit,
            counters: Counters::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts the jobs of one request, or none of them.
    pub(super) fn push(&self, jobs: Vec<Job>) -> Result<()> {
        let mut state = self.state();
        if state.mode != Mode::Open {
            return Err(InferenceError::Stopping);
        }
        let limit = match state.waiting.len() >= MAX_PARTS.max(self.limit) {
            true => state.requests(),
            false => self.limit,
        };
        if state.requests() >= limit {
            count(&self.counters.refused, jobs.len() as u64);
            return Err(InferenceError::QueueFull { limit });
        }
        count(&self.counters.accepted, jobs.len() as u64);
        state.newest += 1;
        let number = state.newest;
        state.waiting.extend(jobs.into_iter().map(|job| (number, job)));
        self.changed.notify_all();
        Ok(())
    }

    /// Ends requests that were cancelled or have waited too long. With `is_idle`, waits until there is something to do, or for
    /// `rest_after`.
    pub(super) fn turn(&self, is_idle: bool, rest_after: Option<Duration>) -> Turn {
        let mut ended = Vec::new();
        let mut state = self.state();
        state.is_busy = !is_idle;
        loop {
            let now = Instant::now();
            let stays = |(_, job): &(u64, Job)| !job.is_cancelled() && !job.waited_too_long(now);
            if !state.waiting.iter().all(stays) {
                let (stay, go): (VecDeque<_>, VecDeque<_>) =
                    std::mem::take(&mut state.waiting).into_iter().partition(stays);
                state.waiting = stay;
                ended.extend(go.into_iter().map(|(_, job)| job));
            }
            let is_done = state.waiting.is_empty() && is_idle;
            if is_done {
                self.changed.notify_all();
            }
            if state.mode == Mode::Closed || !is_done || !ended.is_empty() {
                break;
            }
            let Some(limit) = rest_after else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let waited = self.changed.wait_timeout(state, limit);
            let (woken, result) = waited.unwrap_or_else(PoisonError::into_inner);
            if result.timed_out() && woken.waiting.is_empty() && woken.mode != Mode::Closed {
                return Turn::Rest;
            }
            state = woken;
        }
        let is_closed = state.mode == Mode::Closed;
        state.is_busy |= !state.waiting.is_empty() && !is_closed;
        drop(state);
        for job in ended {
            self.end_waiting(job);
        }
        match is_closed {
            true => Turn::End,
            false => Turn::Go,
        }
    }

    fn end_waiting(&self, job: Job) {
        match job.is_cancelled() {
            true => {
                count(&self.counters.cancelled, 1);
                job.finish(true);
            }
            false => {
                count(&self.counters.expired, 1);
                job.fail(InferenceError::WaitedTooLong);
            }
        }
    }

    pub(super) fn pop(&self) -> Option<Job> {
        self.state().waiting.pop_front().map(|(_, job)| job)
    }

    /// Accepts nothing more, and ends everything.
    pub(super) fn close(&self) {
        self.state().mode = Mode::Closed;
        self.changed.notify_all();
    }

    /// The requests that still wait once the engine is closed.
    pub(super) fn rest(&self) -> Vec<Job> {
        let mut state = self.state();
        state.mode = Mode::Closed;
        state.is_busy = false;
        self.changed.notify_all();
        let waiting = std::mem::take(&mut state.waiting);
        waiting.into_iter().map(|(_, job)| job).collect()
    }

    pub(super) fn drain(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let mut state = self.state();
        if state.mode == Mode::Open {
            state.mode = Mode::Draining;
        }
        while state.is_busy || !state.waiting.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.changed.wait_timeout(state, left.min(TICK));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    pub(super) fn stats(&self) -> EngineStats {
        let waiting = self.state().waiting.len();
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        EngineStats {
            running: of(&counters.running) as usize,
            waiting,
            accepted: of(&counters.accepted),
            refused: of(&counters.refused),
            expired: of(&counters.expired),
            cancelled: of(&counters.cancelled),
            prompt_tokens: of(&counters.prompt_tokens),
            cached_tokens: of(&counters.cached_tokens),
            generated_tokens: of(&counters.generated_tokens),
            steps: of(&counters.steps),
            draft_tokens_accepted: of(&counters.draft_tokens_accepted),
            draft_tokens_rejected: of(&counters.draft_tokens_rejected),
            rests: of(&counters.rests),
        }
    }
}
