//! Word counts in bounded memory.

use std::collections::{BTreeMap, HashMap};

use rayon::prelude::*;

use super::{Plan, TrainingReport};
use crate::{Error, Result};

/// Chunks that are counted at the same time. A constant, so that results do not depend on the number of threads.
const CHUNKS_AT_ONCE: usize = 16;

/// A word in the table takes its bytes, its entry in the hash table (25 bytes, at 7/16 to 7/8 full, half as much again while the
/// table grows) and the rounding of its allocation.
const TABLE_BYTES_PER_WORD: u64 = 112;

/// The memory per word in training in addition to the table, by which the table's size is limited.
#[derive(Debug, Clone, Copy)]
pub(super) struct WordCost {
    /// Bytes of memory per word.
    pub(super) per_word: u64,
    /// Bytes of memory per byte of a word.
    pub(super) per_byte: u64,
    /// Additional bytes of memory per byte of a word after the first [`LONG_WORD_BYTES`]: text without spaces is cut into long
    /// pieces that share hardly anything, while words share almost all their parts with others.
    pub(super) per_long_byte: u64,
}

impl WordCost {
    fn of(&self, word: &str) -> u64 {
        let long_bytes = word.len().saturating_sub(LONG_WORD_BYTES) as u64;
        self.per_word + self.per_byte * word.len() as u64 + self.per_long_byte * long_bytes
    }
}

/// Words are hardly ever longer; longer ones are mostly pieces of a text without spaces.
pub(super) const LONG_WORD_BYTES: usize = 48;

/// Counts of words; the rarest are dropped when the table is full.
pub(super) struct WordTable {
    counts: HashMap<Box<str>, u64>,
    cost: WordCost,
    used_bytes: u64,
    budget_bytes: u64,
    report: TrainingReport,
}

/// The words of a text with their counts, most frequent first and in byte order where counts are equal.
pub(super) type WordCounts = Vec<(Box<str>, u64)>;

impl WordTable {
    pub(super) fn new(budget_bytes: u64, cost: WordCost) -> Self {
        let cost = WordCost {
            per_word: cost.per_word + TABLE_BYTES_PER_WORD,
            per_byte: cost.per_byte + 1,
            ..cost
        };
        Self {
            counts: HashMap::new(),
            cost,
            used_bytes: 0,
            budget_bytes,
            report: TrainingReport::default(),
        }
    }

    fn cost_of(&self, word: &str) -> u64 {
        self.cost.of(word)
    }

    fn add(&mut self, word: &str, count: u64) {
        self.report.occurrences += count;
        if let Some(known) = self.counts.get_mut(word) {
            *known += count;
        } else {
            self.used_bytes += self.cost_of(word);
            self.counts.insert(word.into(), count);
        }
    }

    /// Drops the rarest words until at most half of the budget is used, if it is exceeded.
    ///
    /// All words of one count are dropped or kept together, so the result does not depend on the order of the hash table. If all
    /// words would be dropped, for example if none occurs twice, about half of them are kept, chosen by a hash of the word.
    fn prune(&mut self) {
        if self.used_bytes <= self.budget_bytes {
            return;
        }
        let mut bytes_by_count: BTreeMap<u64, u64> = BTreeMap::new();
        for (word, &count) in &self.counts {
            *bytes_by_count.entry(count).or_default() += self.cost_of(word);
        }
        let mut kept_bytes = self.used_bytes;
        let mut threshold = 0;
        for (count, bytes) in bytes_by_count {
            if kept_bytes <= self.budget_bytes / 2 {
                break;
            }
            kept_bytes -= bytes;
            threshold = count;
        }
        let would_all_go = kept_bytes == 0;
        let cost = self.cost;
        self.counts.retain(|word, count| {
            let is_chosen = || taal_store::blake3_hex(word.as_bytes()).as_bytes()[0] < b'8';
            let is_kept = *count > threshold || (would_all_go && is_chosen());
            if !is_kept {
                self.report.forgotten_occurrences += *count;
            } else if would_all_go {
                kept_bytes += cost.of(word);
            }
            is_kept
        });
        self.used_bytes = kept_bytes;
        self.report.forgotten_up_to += threshold;
    }

    /// Counts the words that `split` finds in chunks; `split` is given text without special tokens.
    pub(super) fn count(
        &mut self,
        plan: &Plan,
        mut chunks: impl Iterator<Item = Result<String>>,
        split: impl Fn(&str, &mut dyn FnMut(&str)) + Sync,
    ) -> Result<()> {
        loop {
            let batch: Vec<String> = chunks.by_ref().take(CHUNKS_AT_ONCE).collect::<Result<_>>()?;
            if batch.is_empty() {
                return Ok(());
            }
            let counted: Vec<HashMap<Box<str>, u64>> = batch
                .par_iter()
                .map(|chunk| {
                    let mut counts: HashMap<Box<str>, u64> = HashMap::new();
                    let mut add = |word: &str| match counts.get_mut(word) {
                        Some(count) => *count += 1,
                        None => {
                            counts.insert(word.into(), 1);
                        }
                    };
                    for_each_plain_part(chunk, &plan.special_tokens, &mut |part| split(part, &mut add));
                    counts
                })
                .collect();
            for (chunk, counts) in batch.iter().zip(counted) {
                self.report.bytes += chunk.len() as u64;
                for (word, count) in counts {
                    self.add(&word, count);
                }
                self.prune();
            }
        }
    }

    /// The counts in a fixed order, and the statistics.
    ///
    /// # Errors
    ///
    /// [`Error::Empty`] when there is no word.
    pub(super) fn finish(mut self, origin: &str) -> Result<(WordCounts, TrainingReport)> {
        if self.report.occurrences == 0 {
            let unit = if self.report.bytes == 0 { "character" } else { "word" };
            return Err(Error::Empty {
                origin: origin.to_owned(),
                unit,
            });
        }
        self.report.distinct = self.counts.len() as u64;
        let mut counts: WordCounts = self.counts.into_iter().collect();
        counts.sort_unstable_by(|(word, count), (other, other_count)| {
            other_count.cmp(count).then_with(|| word.cmp(other))
        });
        Ok((counts, self.report))
    }
}

/// Calls `visit` with the text between special tokens, because encoding matches these before words.
pub(super) fn for_each_plain_part(text: &str, special_tokens: &[String], visit: &mut dyn FnMut(&str)) {
    let Some((token, others)) = special_tokens.split_first() else {
        if !text.is_empty() {
            visit(text);
        }
        return;
    };
    for part in text.split(token.as_str()) {
        for_each_plain_part(part, others, visit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(budget_words: u64) -> WordTable {
        let cost = WordCost {
            per_word: 0,
            per_byte: 0,
            per_long_byte: 0,
        };
        WordTable::new(budget_words * (TABLE_BYTES_PER_WORD + 1), cost)
    }

    #[test]
    fn a_full_table_drops_all_words_of_the_lowest_counts_and_keeps_frequent_ones_exactly() {
        let mut table = table(4);
        for (word, count) in [("a", 9), ("b", 5), ("c", 1), ("d", 1), ("e", 2)] {
            table.add(word, count);
        }
        table.prune();
        let (counts, report) = table.finish("test").unwrap();
        assert_eq!(counts, [("a".into(), 9), ("b".into(), 5)]);
        assert_eq!((report.occurrences, report.distinct), (18, 2));
        assert_eq!((report.forgotten_occurrences, report.forgotten_up_to), (4, 2));
    }

    #[test]
    fn report_32_a_full_table_of_words_that_occur_once_keeps_some_of_them() {
        let mut table = table(100);
        for number in 0..150 {
            table.add(
                &char::from(b'a' + (number % 26) as u8)
                    .to_string()
                    .repeat(1 + number / 26),
                1,
            );
        }
        table.prune();
        let (counts, report) = table.finish("test").unwrap();
        assert!((40..110).contains(&counts.len()), "{}", counts.len());
        assert_eq!(report.forgotten_occurrences, 150 - counts.len() as u64);
    }

    #[test]
    fn words_of_equal_count_are_in_byte_order() {
        let mut table = table(9);
        for word in ["c", "a", "b", "a"] {
            table.add(word, 1);
        }
        let (counts, report) = table.finish("test").unwrap();
        assert_eq!(counts, [("a".into(), 2), ("b".into(), 1), ("c".into(), 1)]);
        assert_eq!(report.forgotten_occurrences, 0);
    }
}
