//! Baselines for guessing hidden tokens without a network: the most common token, and counts of tokens between their
//! neighbors.

use std::collections::HashMap;

use taal_data::{Batch, Dataset, IGNORE_INDEX, TokenSource};

use super::masked::Masker;

/// The maximum number of training tokens that are counted; the counts of more would not fit in memory next to a model.
const MAX_COUNTED: u64 = 20_000_000;

/// Tokens that are read at a time.
const AT_ONCE: usize = 1 << 16;

/// Weights of the counts by both neighbors, by the left one, by the right one, and by none, if all of them were seen.
const WEIGHTS: [f64; 4] = [0.45, 0.25, 0.25, 0.05];

/// Counts of tokens in a context.
#[derive(Debug, Default)]
struct Counts {
    total: u64,
    by_id: HashMap<u32, u64>,
}

impl Counts {
    fn add(&mut self, id: u32) {
        self.total += 1;
        *self.by_id.entry(id).or_default() += 1;
    }

    fn share(&self, id: u32) -> f64 {
        self.by_id.get(&id).copied().unwrap_or(0) as f64 / self.total.max(1) as f64
    }
}

/// Counts over the training text.
#[derive(Debug, Default)]
struct NeighborCounts {
    alone: Counts,
    left: HashMap<u32, Counts>,
    right: HashMap<u32, Counts>,
    both: HashMap<(u32, u32), Counts>,
}

/// A baseline's result.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Baseline {
    pub(super) correct: u64,
    pub(super) nats: f64,
}

/// Both baselines on the hidden tokens of the validation split.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Baselines {
    pub(super) tokens: u64,
    pub(super) commonest: Baseline,
    pub(super) neighbors: Baseline,
}

impl NeighborCounts {
    fn of(source: &TokenSource) -> Self {
        let mut counts = Self::default();
        let len = source.len().min(MAX_COUNTED);
        let mut window: Vec<u32> = Vec::new();
        for start in (0..len).step_by(AT_ONCE) {
            window.extend(source.read(start, AT_ONCE.min((len - start) as usize)));
            for triple in window.windows(3) {
                let [left, id, right] = [triple[0], triple[1], triple[2]];
                counts.alone.add(id);
                counts.left.entry(left).or_default().add(id);
                counts.right.entry(right).or_default().add(id);
                counts.both.entry((left, right)).or_default().add(id);
            }
            // The last two tokens begin the next triples.
            window.drain(..window.len().saturating_sub(2));
        }
        counts
    }

    /// The contexts of a hidden token that were seen in training, with their weights, which sum to 1. A neighbor that
    /// is hidden too is `None`.
    fn contexts(&self, left: Option<u32>, right: Option<u32>) -> Vec<(f64, &Counts)> {
        let both = left.zip(right).and_then(|pair| self.both.get(&pair));
        let found = [
            both,
            left.and_then(|id| self.left.get(&id)),
            right.and_then(|id| self.right.get(&id)),
            Some(&self.alone),
        ];
        let seen: Vec<(f64, &Counts)> = WEIGHTS
            .into_iter()
            .zip(found)
            .filter_map(|(w, c)| Some((w, c?)))
            .collect();
        let total: f64 = seen.iter().map(|(weight, _)| weight).sum();
        seen.into_iter()
            .map(|(weight, counts)| (weight / total, counts))
            .collect()
    }

    /// A token's probability without context. It is above 0, because every count is increased by 1.
    fn alone(&self, id: u32, vocab_size: usize) -> f64 {
        let seen = self.alone.by_id.get(&id).copied().unwrap_or(0);
        (seen + 1) as f64 / (self.alone.total + vocab_size as u64) as f64
    }

    fn probability(&self, contexts: &[(f64, &Counts)], id: u32, vocab_size: usize) -> f64 {
        let (last, others) = match contexts.split_last() {
            Some((last, others)) => (last.0, others),
            None => (1.0, contexts),
        };
        let sum: f64 = others.iter().map(|(weight, counts)| weight * counts.share(id)).sum();
        sum + last * self.alone(id, vocab_size)
    }

    /// The most probable token; of equally probable ones, that with the smallest id.
    fn guess(&self, contexts: &[(f64, &Counts)], vocab_size: usize) -> u32 {
        // Only tokens seen in the narrowest context are candidates.
        let candidates = contexts.first().map_or(&self.alone, |(_, counts)| counts);
        let best = candidates
            .by_id
            .keys()
            .map(|id| (self.probability(contexts, *id, vocab_size), *id))
            .max_by(|(p, a), (q, b)| p.total_cmp(q).then(b.cmp(a)));
        best.map_or(0, |(_, id)| id)
    }
}

/// Scores both baselines on the hidden tokens that the model is scored on.
pub(super) fn measure(masker: &Masker, data: &Dataset, window: usize, vocab_size: usize) -> Baselines {
    let counts = NeighborCounts::of(&data.train);
    let alone = counts.contexts(None, None);
    let commonest = counts.guess(&alone, vocab_size);
    let mut found = Baselines::default();
    for batch in masker.validation(&data.validation, window, 64) {
        for row in 0..batch.batch_size {
            for position in 0..batch.seq_len {
                let at = |position: Option<usize>| visible(&batch, row, position?, masker);
                let target = batch.targets[row * batch.seq_len + position];
                if target == IGNORE_INDEX {
                    continue;
                }
                let target = target as u32;
                let contexts = counts.contexts(at(position.checked_sub(1)), at(Some(position + 1)));
                found.tokens += 1;
                found.commonest.correct += u64::from(target == commonest);
                found.commonest.nats -= counts.alone(target, vocab_size).ln();
                found.neighbors.correct += u64::from(target == counts.guess(&contexts, vocab_size));
                found.neighbors.nats -= counts.probability(&contexts, target, vocab_size).ln();
            }
        }
    }
    found
}

/// The token at a position, unless it is hidden.
fn visible(batch: &Batch, row: usize, position: usize, masker: &Masker) -> Option<u32> {
    let id = (position < batch.seq_len).then(|| batch.inputs[row * batch.seq_len + position] as u32)?;
    masker.vocabulary.is_ordinary(id).then_some(id)
}
