//! chrF's counts and figure.

use std::collections::HashMap;
use std::hash::Hash;

use super::N_COUNTS;
use super::ngrams::{ngrams, words};

/// The longest run of characters.
const CHAR_ORDER: usize = 6;

/// The longest run of words of chrF++.
pub(super) const MAX_WORD_ORDER: usize = 2;

/// How much more recall counts than precision, squared.
const BETA_SQUARED: f64 = 4.0;

/// A text without white space, and its words with punctuation apart.
struct Text<'a> {
    letters: Vec<char>,
    words: Vec<&'a str>,
}

impl<'a> Text<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            letters: words(text).flat_map(str::chars).collect(),
            words: words(text).flat_map(apart).collect(),
        }
    }
}

/// The settings in a signature.
pub(super) fn settings(word_order: usize) -> String {
    format!("eff:yes|nc:{CHAR_ORDER}|nw:{word_order}|space:no")
}

/// Of each order: runs of the translation, runs of the reference, matches. Of several references those of the best one.
pub(super) fn counts(translation: &str, references: &[&str], word_order: usize) -> [u64; N_COUNTS] {
    let said = Text::new(translation);
    let mut best = ([0; N_COUNTS], f64::NEG_INFINITY);
    for reference in references {
        let counts = counts_of(&said, &Text::new(reference), word_order);
        let score = score(&counts, word_order);
        if score > best.1 {
            best = (counts, score);
        }
    }
    best.0
}

fn counts_of(said: &Text<'_>, reference: &Text<'_>, word_order: usize) -> [u64; N_COUNTS] {
    let letters =
        (1..=CHAR_ORDER).map(|order| matches(&ngrams(&said.letters, order), &ngrams(&reference.letters, order)));
    let words = (1..=word_order).map(|order| matches(&ngrams(&said.words, order), &ngrams(&reference.words, order)));
    let mut counts = [0; N_COUNTS];
    for (place, found) in counts.chunks_exact_mut(3).zip(letters.chain(words)) {
        place.copy_from_slice(&found);
    }
    counts
}

/// Runs of the translation, of the reference, and of both. Runs of the translation count only where the reference has some of that length.
fn matches<T: Hash + Eq>(said: &HashMap<&[T], u64>, reference: &HashMap<&[T], u64>) -> [u64; 3] {
    let common = said
        .iter()
        .filter_map(|(run, count)| Some(*reference.get(run)?.min(count)));
    let n_said = if reference.is_empty() { 0 } else { said.values().sum() };
    [n_said, reference.values().sum(), common.sum()]
}

/// The F-measure of the mean precision and the mean recall over the orders that both texts have, in percent.
pub(super) fn score(counts: &[u64; N_COUNTS], word_order: usize) -> f64 {
    let (mut precision, mut recall, mut n_orders) = (0.0, 0.0, 0.0);
    for order in counts.chunks_exact(3).take(CHAR_ORDER + word_order) {
        let [said, reference, common] = [order[0], order[1], order[2]].map(|count| count as f64);
        if said > 0.0 && reference > 0.0 {
            precision += common / said;
            recall += common / reference;
            n_orders += 1.0;
        }
    }
    if precision + recall == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (precision / n_orders, recall / n_orders);
    100.0 * (1.0 + BETA_SQUARED) * precision * recall / (BETA_SQUARED * precision + recall)
}

/// A word without the punctuation mark at its end, or else at its beginning, and that mark; in the order of the text.
fn apart(word: &str) -> impl Iterator<Item = &str> {
    let first = word.chars().next().map_or(0, char::len_utf8);
    let last = word.chars().next_back().map_or(0, char::len_utf8);
    let is_mark = |part: &str| part.chars().all(|letter| letter.is_ascii_punctuation());
    let (before_last, of_last) = word.split_at(word.len() - last);
    let (of_first, after_first) = word.split_at(first);
    let (left, right) = match word.len() > first {
        true if is_mark(of_last) => (before_last, of_last),
        true if is_mark(of_first) => (of_first, after_first),
        _ => (word, ""),
    };
    [left, right].into_iter().filter(|part| !part.is_empty())
}
