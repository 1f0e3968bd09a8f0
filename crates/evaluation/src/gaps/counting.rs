//! Counting neighbors: what can be guessed about a gap from how often words were next to each other.

use std::collections::HashMap;

use super::{Gap, GapReading, MASK};

/// Weights of the counts in both contexts, in the near one, in the far one, and in none, as in a run's baseline. Of those whose
/// context was seen, the weights are scaled to a sum of 1.
const WEIGHTS: [f64; 4] = [0.45, 0.25, 0.25, 0.05];

/// Words and punctuation of a text, in order. A line end is a piece of its own, so that a sentence is no neighbor of the next line.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(|character: char| character.is_whitespace() && character != '\n');
        let first = rest.chars().next()?;
        let len = match first.is_alphanumeric() {
            true => word_len(rest),
            false => first.len_utf8(),
        };
        let (piece, after) = rest.split_at(len);
        rest = after;
        Some(piece)
    })
}

/// The bytes of the word that a text begins with: letters and digits, with single hyphens and apostrophes inside.
fn word_len(text: &str) -> usize {
    let mut len = 0;
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let is_inside =
            matches!(character, '-' | '\'') && characters.peek().is_some_and(|(_, next)| next.is_alphanumeric());
        if !character.is_alphanumeric() && !is_inside {
            break;
        }
        len = at + character.len_utf8();
    }
    len
}

/// The commonest words of some texts, at most `limit`, as they are written; of equally common ones the first by spelling.
pub(super) fn commonest(texts: &[&str], limit: usize) -> Vec<String> {
    let mut counts: HashMap<&str, u64> = HashMap::new();
    let is_word = |piece: &&str| piece.chars().all(|it| it.is_alphabetic() || matches!(it, '-' | '\''));
    for piece in texts.iter().flat_map(|text| pieces(text)).filter(is_word) {
        if piece.starts_with(char::is_alphabetic) {
            *counts.entry(piece).or_default() += 1;
        }
    }
    let mut words: Vec<(&str, u64)> = counts.into_iter().collect();
    words.sort_unstable_by(|(a, many), (b, few)| few.cmp(many).then(a.cmp(b)));
    words.truncate(limit);
    words.into_iter().map(|(word, _)| word.to_owned()).collect()
}

/// The numbers of the two words around a gap by which is counted.
type Context = [u32; 2];

/// The number where there is no word: at the beginning of a text.
const NOTHING: u32 = u32::MAX;

/// The number of all words that are next to no gap.
const OTHER: u32 = u32::MAX - 1;

/// How often words were in the contexts of some gaps.
pub(super) struct Neighbors<'t> {
    reading: GapReading,
    /// The words next to gaps, in lower case, with their numbers.
    numbers: HashMap<String, u32>,
    alone: HashMap<&'t str, u64>,
    by_context: HashMap<(usize, Context), HashMap<&'t str, u64>>,
}

impl<'t> Neighbors<'t> {
    /// Counts the words of `texts` in the contexts of `gaps`.
    pub(super) fn count(texts: &[&'t str], gaps: &[Gap], reading: GapReading) -> Self {
        let mut counts = Self {
            reading,
            numbers: HashMap::new(),
            alone: HashMap::new(),
            by_context: HashMap::new(),
        };
        for word in gaps.iter().flat_map(|gap| around(gap, reading)).flatten() {
            let next = counts.numbers.len() as u32;
            counts.numbers.entry(word).or_insert(next);
        }
        for gap in gaps {
            for key in keys(counts.context_of(gap)) {
                counts.by_context.entry(key).or_default();
            }
        }
        for text in texts {
            counts.add(text);
        }
        counts
    }

    fn add(&mut self, text: &'t str) {
        let words: Vec<&'t str> = pieces(text).collect();
        let number = |word: &&str| self.numbers.get(&word.to_lowercase()).copied().unwrap_or(OTHER);
        let numbers: Vec<u32> = words.iter().map(number).collect();
        let at = |place: Option<usize>| place.and_then(|place| numbers.get(place)).copied().unwrap_or(NOTHING);
        for (place, word) in words.iter().enumerate() {
            *self.alone.entry(*word).or_default() += 1;
            let far = match self.reading {
                GapReading::BothSides => at(place.checked_add(1)),
                GapReading::Left => at(place.checked_sub(2)),
            };
            for key in keys([at(place.checked_sub(1)), far]) {
                if let Some(found) = self.by_context.get_mut(&key) {
                    *found.entry(*word).or_default() += 1;
                }
            }
        }
    }

    /// The rank of the best expected word; candidates with an equal score do not count.
    pub(super) fn rank(&self, gap: &Gap, candidates: &[String]) -> u64 {
        let seen = keys(self.context_of(gap)).into_iter().zip(WEIGHTS);
        let seen = seen.filter_map(|(key, weight)| Some((weight, self.by_context.get(&key)?)));
        // The scale of the weights is the same for all candidates, so ranks do not need it.
        let counts: Vec<(f64, &HashMap<&str, u64>)> = seen
            .chain([(WEIGHTS[3], &self.alone)])
            .map(|(weight, counts)| (weight / counts.values().sum::<u64>().max(1) as f64, counts))
            .collect();
        let score = |word: &str| -> f64 {
            let shares = counts
                .iter()
                .map(|(weight, counts)| weight * counts.get(word).copied().unwrap_or(0) as f64);
            shares.sum()
        };
        let expected = gap.words.iter().map(|word| score(word)).fold(0.0, f64::max);
        1 + candidates.iter().filter(|word| score(word) > expected).count() as u64
    }

    fn context_of(&self, gap: &Gap) -> Context {
        around(gap, self.reading)
            .map(|word| word.map_or(NOTHING, |word| self.numbers.get(&word).copied().unwrap_or(OTHER)))
    }
}

/// The contexts by which words are counted: both words, the first, the second.
fn keys([near, far]: Context) -> [(usize, Context); 3] {
    [(0, [near, far]), (1, [near, NOTHING]), (2, [NOTHING, far])]
}

/// The words next to a gap by which is counted, in lower case: before and after it, or the two before it.
fn around(gap: &Gap, reading: GapReading) -> [Option<String>; 2] {
    let (before, after) = gap.text.split_once(MASK).unwrap_or((&gap.text, ""));
    let left: Vec<&str> = pieces(before).collect();
    let back = |count: usize| Some(left[left.len().checked_sub(count)?].to_lowercase());
    match reading {
        GapReading::BothSides => [back(1), Some(pieces(after).next().unwrap_or("\n").to_lowercase())],
        GapReading::Left => [back(1), back(2)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "De kat zat op de bank.\nDe hond lag op de bank.\nDe hond zat op de mat.\nIk zag de auto's.\n";

    fn gap(text: &str, word: &str) -> Gap {
        Gap {
            line: 1,
            text: text.to_owned(),
            words: vec![word.to_owned()],
        }
    }

    #[test]
    fn a_text_is_cut_into_words_punctuation_and_line_ends() {
        let found: Vec<&str> = pieces("Ja, auto's en zee-egels!\nZo 'n").collect();
        assert_eq!(
            found,
            ["Ja", ",", "auto's", "en", "zee-egels", "!", "\n", "Zo", "'", "n"]
        );
        assert_eq!(commonest(&[TEXT], 3), ["de", "De", "op"]);
    }

    #[test]
    fn counting_ranks_words_by_both_neighbors_and_by_the_two_before() {
        let candidates: Vec<String> = ["bank", "mat", "hond", "kat"].map(str::to_owned).to_vec();
        let gaps = [gap("Zij zat op de [MASK].", "mat"), gap("De [MASK] zat stil.", "kat")];
        let both = Neighbors::count(&[TEXT], &gaps, GapReading::BothSides);
        // "de bank." occurs twice, "de mat." once.
        assert_eq!(both.rank(&gaps[0], &candidates), 2);
        // Between "de" and "zat" are a cat and a dog, and there are more dogs.
        assert_eq!(both.rank(&gaps[1], &candidates), 2);
        let left = Neighbors::count(&[TEXT], &gaps, GapReading::Left);
        assert_eq!(left.rank(&gaps[0], &candidates), 2);
        let last = gap("Zij zat op de [MASK].", "kat");
        assert_eq!(left.rank(&last, &candidates), 4);
    }
}
