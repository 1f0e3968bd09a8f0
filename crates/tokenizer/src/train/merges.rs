//! Learning the merges of byte pair encoding from word counts.
//!
//! This is the algorithm of the library's `BpeTrainer` (Sennrich, Haddow and Birch 2016, with the most frequent pair first and
//! the pair of smaller ids first among equals), reimplemented for three reasons. The library takes about 1 KB per distinct word,
//! this about 0.3 KB. The library sums its counts in 32 bits, which overflow with a large corpus. And where two merges give the
//! same token, the library's result depends on the random order of its hash tables, so equal text would not give equal bytes. A
//! test compares the merges of both on a text without such ties.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// Ids of two neighboring symbols.
type Pair = (u32, u32);

/// Words as sequences of symbols, flat in memory.
pub(super) struct Corpus {
    symbols: Vec<u32>,
    words: Vec<Word>,
}

struct Word {
    start: usize,
    length: u32,
    count: u64,
}

impl Corpus {
    pub(super) fn with_capacity(words: usize, symbols: usize) -> Self {
        Self {
            symbols: Vec::with_capacity(symbols),
            words: Vec::with_capacity(words),
        }
    }

    pub(super) fn push(&mut self, symbols: impl Iterator<Item = u32>, count: u64) {
        let start = self.symbols.len();
        self.symbols.extend(symbols);
        // Words have already been cut to a few hundred bytes.
        let length = (self.symbols.len() - start) as u32;
        self.words.push(Word { start, length, count });
    }
}

/// How often a pair occurs and in which words; some of them may be listed twice or no longer contain the pair.
#[derive(Default)]
struct Occurrences {
    count: u64,
    words: Vec<u32>,
}

/// Merges in the order in which they were learned; tokens are appended to `tokens`.
pub(super) struct Learner<'a> {
    corpus: Corpus,
    tokens: &'a mut Vec<String>,
    ids: HashMap<String, u32>,
    /// How many tokens at the start are special; no merge may give one of them, because decoding would leave it out.
    reserved: usize,
    /// The prefix that the second token of a merge loses, such as `##`.
    prefix: &'static str,
    pairs: HashMap<Pair, Occurrences>,
    /// Pairs by count; outdated entries are corrected when they are popped.
    queue: BinaryHeap<(u64, Reverse<Pair>)>,
    /// Pairs whose count the current merge has raised.
    raised: Vec<Pair>,
}

impl<'a> Learner<'a> {
    pub(super) fn new(corpus: Corpus, tokens: &'a mut Vec<String>, reserved: usize, prefix: &'static str) -> Self {
        let ids = tokens.iter().cloned().zip(0..).collect();
        let mut learner = Self {
            corpus,
            tokens,
            ids,
            reserved,
            prefix,
            pairs: HashMap::new(),
            queue: BinaryHeap::new(),
            raised: Vec::new(),
        };
        learner.count_pairs();
        learner
    }

    fn count_pairs(&mut self) {
        for (index, word) in (0..).zip(&self.corpus.words) {
            let symbols = &self.corpus.symbols[word.start..][..word.length as usize];
            for pair in symbols.windows(2) {
                let occurrences = self.pairs.entry((pair[0], pair[1])).or_default();
                occurrences.count += word.count;
                if occurrences.words.last() != Some(&index) {
                    occurrences.words.push(index);
                }
            }
        }
        self.queue = self
            .pairs
            .iter()
            .map(|(&pair, occurrences)| (occurrences.count, Reverse(pair)))
            .collect();
    }

    /// Merges until there are `vocab_size` tokens or no pair occurs `min_frequency` times.
    pub(super) fn run(mut self, vocab_size: usize, min_frequency: u64) -> Vec<(String, String)> {
        let mut merges = Vec::new();
        while self.tokens.len() < vocab_size {
            let Some(pair) = self.pop(min_frequency) else { break };
            let Some(occurrences) = self.pairs.remove(&pair) else {
                break;
            };
            let first = &self.tokens[pair.0 as usize];
            let second = &self.tokens[pair.1 as usize];
            let merged = format!("{first}{}", second.strip_prefix(self.prefix).unwrap_or(second));
            if self.ids.get(&merged).is_some_and(|&id| (id as usize) < self.reserved) {
                continue;
            }
            merges.push((first.clone(), second.clone()));
            let next_id = self.tokens.len() as u32;
            let id = *self.ids.entry(merged.clone()).or_insert(next_id);
            if id == next_id {
                self.tokens.push(merged);
            }
            for &word in &occurrences.words {
                self.merge_in_word(word, pair, id);
            }
            self.queue_raised();
        }
        merges
    }

    /// The most frequent pair.
    fn pop(&mut self, min_frequency: u64) -> Option<Pair> {
        loop {
            let (count, Reverse(pair)) = self.queue.pop()?;
            let current = self.pairs.get(&pair).map_or(0, |occurrences| occurrences.count);
            if current == count && count >= min_frequency {
                return Some(pair);
            }
            if current != count && current >= min_frequency {
                self.queue.push((current, Reverse(pair)));
            }
        }
    }

    fn merge_in_word(&mut self, index: u32, (first, second): Pair, merged: u32) {
        let word = &self.corpus.words[index as usize];
        let (start, length, count) = (word.start, word.length as usize, word.count);
        let mut read = 0;
        let mut written = 0;
        while read < length {
            let symbol = self.corpus.symbols[start + read];
            let is_pair = symbol == first && read + 1 < length && self.corpus.symbols[start + read + 1] == second;
            if is_pair {
                if written > 0 {
                    let before = self.corpus.symbols[start + written - 1];
                    self.lower((before, first), count);
                    self.raise((before, merged), count, index);
                }
                if read + 2 < length {
                    let after = self.corpus.symbols[start + read + 2];
                    self.lower((second, after), count);
                    self.raise((merged, after), count, index);
                }
            }
            self.corpus.symbols[start + written] = if is_pair { merged } else { symbol };
            written += 1;
            read += if is_pair { 2 } else { 1 };
        }
        self.corpus.words[index as usize].length = written as u32;
    }

    fn lower(&mut self, pair: Pair, count: u64) {
        // The pair being merged is no longer in the table.
        if let Some(occurrences) = self.pairs.get_mut(&pair) {
            occurrences.count = occurrences.count.saturating_sub(count);
            if occurrences.count == 0 {
                self.pairs.remove(&pair);
            }
        }
    }

    fn raise(&mut self, pair: Pair, count: u64, word: u32) {
        let occurrences = self.pairs.entry(pair).or_default();
        occurrences.count += count;
        if occurrences.words.last() != Some(&word) {
            occurrences.words.push(word);
        }
        self.raised.push(pair);
    }

    fn queue_raised(&mut self) {
        self.raised.sort_unstable();
        self.raised.dedup();
        for pair in self.raised.drain(..) {
            if let Some(occurrences) = self.pairs.get(&pair) {
                self.queue.push((occurrences.count, Reverse(pair)));
            }
        }
    }
}
