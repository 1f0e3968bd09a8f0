//! The order of beam search on given log-probabilities: which continuations go on, which are complete, and when to stop.
//!
//! As `_beam_search` of transformers 5, in 64-bit floats.

use std::cmp::Ordering;

use super::{BeamOptions, EarlyStopping};

/// A continuation that may go on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Running {
    pub(crate) ids: Vec<u32>,
    /// The sum of the log-probabilities of its tokens.
    pub(crate) logprob: f64,
}

/// A continuation that has ended.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Ended {
    pub(crate) ids: Vec<u32>,
    pub(crate) logprob: f64,
    /// The log-probability divided by a power of the length.
    pub(crate) score: f64,
}

/// A running continuation and its next token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Extension {
    /// Which running continuation.
    pub(crate) parent: usize,
    pub(crate) id: u32,
    /// The sum of the log-probabilities, this token included.
    pub(crate) logprob: f64,
}

/// The state of a search.
#[derive(Debug)]
pub(crate) struct Search {
    options: BeamOptions,
    max_tokens: usize,
    /// The most probable first.
    pub(crate) running: Vec<Running>,
    /// The best score first.
    pub(crate) ended: Vec<Ended>,
    /// Whether a running continuation may still become better than the worst that has ended.
    can_improve: bool,
    is_over: bool,
}

impl Search {
    /// A search for continuations of at most `max_tokens` tokens, which are at least one.
    pub(crate) fn new(options: BeamOptions, max_tokens: usize) -> Self {
        Self {
            options,
            max_tokens,
            running: vec![Running::default()],
            ended: Vec::new(),
            can_improve: true,
            is_over: false,
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// The `count` most probable extensions of all running continuations, given possible next tokens of each with their log-probabilities.
    /// Ties go to the first continuation, then to the lowest id. Impossible tokens are left out.
    pub(crate) fn extensions<N>(&self, next: impl IntoIterator<Item = N>, count: usize) -> Vec<Extension>
    where
        N: IntoIterator<Item = (u32, f64)>,
    {
        let by_rank = |left: &Extension, right: &Extension| -> Ordering {
            let order = right.logprob.total_cmp(&left.logprob);
            order.then(left.parent.cmp(&right.parent)).then(left.id.cmp(&right.id))
        };
        let mut best: Vec<Extension> = Vec::new();
        for (parent, (running, next)) in self.running.iter().zip(next).enumerate() {
            let extension = |(id, logprob): (u32, f64)| Extension {
                parent,
                id,
                logprob: running.logprob + logprob,
            };
            let possible = next.into_iter().map(extension);
            best.extend(possible.filter(|extension| extension.logprob > f64::NEG_INFINITY));
            if best.len() > count {
                best.select_nth_unstable_by(count, by_rank);
                best.truncate(count);
            }
        }
        best.sort_unstable_by(by_rank);
        best
    }

    /// Takes the extensions, the most probable first, and which of them end; returns those that are running now.
    pub(crate) fn advance(&mut self, extensions: &[Extension], ends: &[bool]) -> Vec<Extension> {
        let len = self.running.first().map_or(0, |running| running.ids.len()) + 1;
        let is_last = len >= self.max_tokens;
        let extended = |extension: &Extension| {
            let mut ids = self.running[extension.parent].ids.clone();
            ids.push(extension.id);
            ids
        };
        let width = self.options.width;
        let both = || extensions.iter().zip(ends);
        // Only the first are good enough to be a result; the others are there so that enough can go on.
        let ended = both().take(width).filter(|(_, ends)| **ends || is_last);
        let ended = ended.map(|(extension, _)| Ended {
            ids: extended(extension),
            logprob: extension.logprob,
            score: self.options.score(extension.logprob, len),
        });
        let ended: Vec<Ended> = ended.collect();
        let goes_on = both().filter(|(_, ends)| !**ends && !is_last);
        let goes_on: Vec<Extension> = goes_on.map(|(extension, _)| *extension).take(width).collect();
        let running = goes_on.iter().map(|extension| Running {
            ids: extended(extension),
            logprob: extension.logprob,
        });
        self.running = running.collect();
        self.ended.extend(ended);
        // Stable, so that of equal scores the earlier one stays.
        self.ended.sort_by(|left, right| right.score.total_cmp(&left.score));
        self.ended.truncate(width);
        self.check_end(len);
        goes_on
    }

    /// Whether the search is over after `len` tokens.
    fn check_end(&mut self, len: usize) {
        let is_full = self.ended.len() == self.options.width;
        let best_len = match self.options.early_stopping {
            EarlyStopping::Never if self.options.length_penalty > 0.0 => self.max_tokens,
            _ => len,
        };
        let best = self
            .running
            .first()
            .map(|best| self.options.score(best.logprob, best_len));
        let worst = self.ended.last().filter(|_| is_full).map(|worst| worst.score);
        self.can_improve &= match (best, worst) {
            (Some(best), Some(worst)) => best > worst,
            (best, _) => best.is_some(),
        };
        let is_filled = is_full && self.options.early_stopping == EarlyStopping::Filled;
        self.is_over = !self.can_improve || is_filled;
    }
}

/// Log-probabilities of all ids, each with its id.
pub(crate) fn numbered(logprobs: &[f64]) -> impl Iterator<Item = (u32, f64)> {
    (0..).zip(logprobs.iter().copied())
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    /// Runs a search on a table of logits by the last token; -1 is the prompt.
    fn search(
        table: &dyn Fn(Option<u32>) -> Vec<f64>,
        ends: &[u32],
        options: BeamOptions,
        max_tokens: usize,
    ) -> Vec<Ended> {
        let mut search = Search::new(options, max_tokens);
        let count = ends.len().max(1) + 1;
        while !search.is_over() {
            let logprobs = |running: &Running| log_softmax(&table(running.ids.last().copied()));
            let logprobs: Vec<Vec<f64>> = search.running.iter().map(logprobs).collect();
            let next = logprobs.iter().map(|logprobs| numbered(logprobs));
            let extensions = search.extensions(next, count * options.width);
            let is_end: Vec<bool> = extensions.iter().map(|found| ends.contains(&found.id)).collect();
            search.advance(&extensions, &is_end);
        }
        search.ended
    }

    fn log_softmax(logits: &[f64]) -> Vec<f64> {
        let total: f64 = logits.iter().map(|logit| logit.exp()).sum();
        logits.iter().map(|logit| logit - total.ln()).collect()
    }

    /// Logits in [-2, 2) that differ from pair to pair.
    fn hashed(last: Option<u32>, id: u32, seed: u64) -> f64 {
        let last = last.map_or(99, u64::from);
        let mixed = (last * 31 + u64::from(id) * 7 + seed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed >> 40) as f64 / (1 << 24) as f64 * 4.0 - 2.0
    }

    /// Every continuation of up to `len` tokens that ends with id 0, or has `len` tokens.
    fn all(table: &dyn Fn(Option<u32>) -> Vec<f64>, len: usize) -> Vec<(Vec<u32>, f64)> {
        let mut open = vec![(Vec::new(), 0.0)];
        let mut whole = Vec::new();
        for step in 1..=len {
            let mut next = Vec::new();
            for (ids, logprob) in open {
                for (id, more) in (0_u32..).zip(log_softmax(&table(ids.last().copied()))) {
                    let extended = ([&ids[..], &[id]].concat(), logprob + more);
                    match id == 0 || step == len {
                        true => whole.push(extended),
                        false => next.push(extended),
                    }
                }
            }
            open = next;
        }
        whole
    }

    #[test]
    fn a_beam_as_wide_as_all_continuations_finds_the_best() {
        for seed in 0..20 {
            for length_penalty in [0.0, 1.0, 2.0, -0.5] {
                let table = |last| (0..4).map(|id| hashed(last, id, seed)).collect::<Vec<f64>>();
                let options = BeamOptions {
                    width: 256,
                    length_penalty,
                    early_stopping: EarlyStopping::Never,
                };
                let found = search(&table, &[0], options, 4);
                let score = |(ids, logprob): &(Vec<u32>, f64)| options.score(*logprob, ids.len());
                let every = all(&table, 4);
                let best = every.iter().max_by(|a, b| score(a).total_cmp(&score(b))).expect("some");
                assert_eq!(found[0].ids, best.0, "seed {seed}, length penalty {length_penalty}");
                assert!((found[0].score - score(best)).abs() < 1e-12);
                assert_eq!(found.len(), every.len(), "all of them were found");
            }
        }
    }

    /// Case of `make_beams.py`.
    #[derive(Deserialize)]
    struct Case {
        width: usize,
        length_penalty: f64,
        early_stopping: serde_json::Value,
        max_tokens: usize,
        ends: Vec<u32>,
        /// The logits after the prompt, then those after every id.
        logits: Vec<Vec<f64>>,
        beams: Vec<(Vec<u32>, f64)>,
    }

    #[test]
    fn beams_equal_those_of_transformers() {
        let cases: Vec<Case> = serde_json::from_str(include_str!("../../tests/golden/beams.json")).expect("cases");
        assert!(cases.len() >= 100);
        let mut ties = 0;
        for (index, case) in cases.iter().enumerate() {
            let options = BeamOptions {
                width: case.width,
                length_penalty: case.length_penalty,
                early_stopping: match &case.early_stopping {
                    serde_json::Value::Bool(true) => EarlyStopping::Filled,
                    serde_json::Value::Bool(false) => EarlyStopping::Estimate,
                    _ => EarlyStopping::Never,
                },
            };
            let table = |last: Option<u32>| case.logits[last.map_or(0, |id| id as usize + 1)].clone();
            let found = search(&table, &case.ends, options, case.max_tokens);
            assert_eq!(found.len(), case.beams.len(), "case {index}: {options:?}");
            for (ended, (ids, score)) in found.iter().zip(&case.beams) {
                assert!(
                    (ended.score - score).abs() < 1e-5,
                    "case {index}: {} and {score}",
                    ended.score
                );
                ties += usize::from(ended.ids != *ids);
            }
        }
        // Two tables have continuations of the same steps in another order, so that rounding decides which of them is the last beam.
        assert_eq!(ties, 2, "continuations of equal scores");
    }
}
