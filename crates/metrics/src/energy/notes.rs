//! What a figure misses: each thing that went wrong while metering, in a sentence, with how often.

use std::collections::BTreeMap;

/// Sentences about what went wrong, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes(BTreeMap<String, u64>);

impl Notes {
    /// Adds one more time.
    pub(super) fn add(&mut self, sentence: impl Into<String>) {
        *self.0.entry(sentence.into()).or_default() += 1;
    }

    /// Adds what does not happen several times.
    pub(super) fn set(&mut self, sentence: impl Into<String>) {
        self.0.insert(sentence.into(), 1);
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The sentences, with the number of times where it is above one.
    pub fn sentences(&self) -> Vec<String> {
        let with_count = |(sentence, count): (&String, &u64)| match count {
            1 => sentence.clone(),
            count => format!("{sentence} ({count} times)"),
        };
        self.0.iter().map(with_count).collect()
    }

    /// The sentences that earlier notes lack, and those that were added again since.
    pub fn since(&self, earlier: &Self) -> Vec<String> {
        let is_new =
            |(sentence, count): &(&String, &u64)| earlier.0.get(*sentence).is_none_or(|before| before < *count);
        self.0
            .iter()
            .filter(is_new)
            .map(|(sentence, _)| sentence.clone())
            .collect()
    }

    /// Whether a sentence has these words.
    pub fn mention(&self, words: &str) -> bool {
        self.0.keys().any(|sentence| sentence.contains(words))
    }
}
