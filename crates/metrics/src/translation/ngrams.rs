//! Runs of items, and how often each occurs.

use std::collections::HashMap;
use std::hash::Hash;

/// How often each run of `order` items occurs.
pub(super) fn ngrams<T: Hash + Eq>(items: &[T], order: usize) -> HashMap<&[T], u64> {
    let mut counts = HashMap::new();
    for run in items.windows(order) {
        *counts.entry(run).or_default() += 1;
    }
    counts
}

/// White space as Python's `str.split` and `str.rstrip` have it: that of Unicode and the four information separators.
pub(super) fn is_space(letter: char) -> bool {
    letter.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&letter)
}

/// The words between white space.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}
