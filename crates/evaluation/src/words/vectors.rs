//! Vectors of words: a model's, or those of a word2vec text file.

use std::collections::HashMap;
use std::path::Path;

use taal_inference::{InferenceError, LanguageModel, Pooling, embed_ids};
use taal_tokenizer::Tokenizer;

use crate::lines::{Limits, for_each_line};
use crate::{EvaluationError, Result};

/// A file of vectors: the largest of GloVe has 5.6 GB and 2.2 M words.
const LIMITS: Limits = Limits {
    bytes: 16 << 30,
    line_bytes: 4 << 20,
    lines: 1 << 24,
};

/// Words, each with one vector.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WordVectors {
    words: Vec<String>,
    places: HashMap<String, usize>,
    width: usize,
    values: Vec<f32>,
    /// Euclidean lengths.
    norms: Vec<f64>,
}

impl WordVectors {
    /// The vectors of words by a model; unknown words are left out, and repeated ones occur once.
    ///
    /// A word is encoded with a space before it, as in a sentence, unless that takes more tokens than the bare word: GPT-2 has
    /// tokens for both, BERT for one, and a character tokenizer needs another token for the space. A word is unknown where the
    /// tokenizer refuses it or has no token but the unknown one for a part of it.
    ///
    /// # Errors
    ///
    /// As [`embed`](taal_inference::embed).
    pub fn of_model<'a>(
        lm: &LanguageModel,
        words: impl IntoIterator<Item = &'a str>,
        pooling: impl Into<Option<Pooling>>,
    ) -> Result<Self> {
        let tokenizer = lm.tokenizer.as_ref().ok_or(InferenceError::NoTokenizer {
            purpose: "the vector of a word",
        })?;
        let pooling = pooling.into();
        let mut vectors = Self::default();
        for word in words {
            if vectors.find(word).is_some() {
                continue;
            }
            if let Some(ids) = word_ids(tokenizer, word)? {
                lm.check_ids(&ids, "token id")?;
                let vector = embed_ids(lm, tokenizer, &ids, pooling)?;
                vectors.width = vector.len();
                vectors.push(word, &vector);
            }
        }
        Ok(vectors)
    }

    /// Reads a file in word2vec's text format: one line per word with its numbers, separated by spaces or tabs. A first line with
    /// the number of words and the length of a vector is optional. For a repeated word the first vector is used.
    ///
    /// # Errors
    ///
    /// [`EvaluationError::Line`] naming file and line; the store's.
    pub fn read(path: &Path) -> Result<Self> {
        let bad = |line: usize, detail: String| EvaluationError::Line {
            path: path.to_path_buf(),
            line,
            detail,
        };
        let mut vectors = Self::default();
        let mut promised = None;
        let (mut last, mut found) = (1, 0);
        for_each_line(path, LIMITS, |number, line| {
            let line = line.trim_end();
            last = number;
            if number == 1 {
                let fields: Vec<&str> = line.split_whitespace().collect();
                if let [count, width] = fields[..]
                    && let (Ok(count), Ok(width)) = (count.parse::<usize>(), width.parse::<usize>())
                {
                    promised = Some(count);
                    vectors.width = width;
                    return Ok(());
                }
                vectors.width = fields.len() - 1;
            }
            if vectors.width == 0 {
                return Err(bad(number, "expected a word and its numbers, got one field".to_owned()));
            }
            let (word, values) = word_and_values(line, vectors.width).map_err(|detail| bad(number, detail))?;
            found += 1;
            if vectors.find(word).is_none() {
                vectors.push(word, &values);
            }
            Ok(())
        })?;
        match promised {
            Some(count) if count != found => Err(bad(
                last,
                format!("the first line promises {count} vectors, but the file has {found}"),
            )),
            _ if found == 0 => Err(bad(1, "expected a word and its numbers, got an empty file".to_owned())),
            _ => Ok(vectors),
        }
    }

    fn push(&mut self, word: &str, vector: &[f32]) {
        self.places.insert(word.to_owned(), self.words.len());
        self.words.push(word.to_owned());
        self.values.extend_from_slice(vector);
        self.norms.push(dot(vector, vector).sqrt());
    }

    /// Number of words.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The words, in their order.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// The vector of a word, not normalized.
    pub fn vector(&self, word: &str) -> Option<&[f32]> {
        self.find(word).map(|place| self.row(place))
    }

    /// The cosine of the angle between the vectors of two words; `None` where a word has none. A zero vector has a cosine of 0
    /// with all.
    pub fn cosine(&self, a: &str, b: &str) -> Option<f64> {
        Some(self.cosine_of(self.find(a)?, self.find(b)?))
    }

    /// The `top` words that are nearest to a vector by the cosine, the nearest first; ties by the earlier word. A zero vector is
    /// equally far from all.
    ///
    /// # Panics
    ///
    /// If the vector has another length.
    pub fn nearest(&self, vector: &[f32], top: usize) -> Vec<(&str, f64)> {
        assert_eq!(vector.len(), self.width, "vectors of one length are compared");
        let norm = dot(vector, vector).sqrt();
        let cosine = |place: usize| {
            let norms = norm * self.norms[place];
            if norms > 0.0 {
                dot(vector, self.row(place)) / norms
            } else {
                0.0
            }
        };
        let mut found: Vec<(usize, f64)> = (0..self.len()).map(|place| (place, cosine(place))).collect();
        found.sort_by(|a, b| b.1.total_cmp(&a.1));
        let named = found
            .into_iter()
            .map(|(place, cosine)| (self.words[place].as_str(), cosine));
        named.take(top).collect()
    }

    pub(super) fn find(&self, word: &str) -> Option<usize> {
        self.places.get(word).copied()
    }

    pub(super) fn cosine_of(&self, a: usize, b: usize) -> f64 {
        let norms = self.norms[a] * self.norms[b];
        if norms > 0.0 {
            dot(self.row(a), self.row(b)) / norms
        } else {
            0.0
        }
    }

    fn row(&self, place: usize) -> &[f32] {
        &self.values[place * self.width..][..self.width]
    }
}

/// The words that are single tokens, in the order of their ids: letters, and marks between them. Pieces that only continue a
/// word, special tokens and numbers are left out, as are ids from `vocab_size` on, for which the model has no vectors.
pub fn vocabulary_words(tokenizer: &Tokenizer, vocab_size: usize) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    let marks = tokenizer.word_marks();
    let all = 0..u32::try_from(tokenizer.vocab_size().min(vocab_size)).unwrap_or(u32::MAX);
    let ids = all.filter(|id| marks.is_word(*id) && !tokenizer.is_special(*id));
    let texts = ids.filter_map(|id| tokenizer.decode(&[id]).ok());
    let words = texts.map(|text| text.trim().to_owned()).filter(|word| is_word(word));
    words.filter(|word| seen.insert(word.clone())).collect()
}

fn is_word(text: &str) -> bool {
    let is_part = |character: char| character.is_alphabetic() || matches!(character, '-' | '\'' | '\u{2019}');
    text.chars().all(is_part) && text.starts_with(char::is_alphabetic) && text.ends_with(char::is_alphabetic)
}

/// The tokens of a word; `None` where the tokenizer does not know it.
fn word_ids(tokenizer: &Tokenizer, word: &str) -> Result<Option<Vec<u32>>> {
    let encode = |text: &str| match tokenizer.encode(text) {
        Ok(ids) => Ok(Some(ids)),
        Err(taal_tokenizer::Error::Unknown { .. }) => Ok(None),
        Err(error) => Err(error),
    };
    let unknown = tokenizer.unk_id();
    let is_known = |ids: &Vec<u32>| !ids.is_empty() && !ids.iter().any(|id| Some(*id) == unknown);
    let bare = encode(word)?.filter(is_known);
    let spaced = encode(&format!(" {word}"))?.filter(is_known);
    Ok(match (spaced, bare) {
        (Some(spaced), Some(bare)) if spaced.len() > bare.len() => Some(bare),
        (Some(spaced), Some(_)) => Some(spaced),
        // A word that is known only with a space before it counts as known.
        (spaced, bare) => bare.or(spaced),
    })
}

/// The numbers come last, so a word may contain spaces (GloVe has `. . .`).
fn word_and_values(line: &str, width: usize) -> std::result::Result<(&str, Vec<f32>), String> {
    let expected = || format!("expected a word and {width} numbers");
    let mut rest = line;
    let mut values = Vec::new();
    for _ in 0..width {
        let (before, field) = rest
            .rsplit_once([' ', '\t'])
            .ok_or_else(|| format!("{}, got {} numbers", expected(), values.len()))?;
        let value = field.parse::<f32>().ok().filter(|value| value.is_finite());
        values.push(value.ok_or_else(|| format!("{}, got {} among them", expected(), taal_store::excerpt(field)))?);
        rest = before;
    }
    if rest
        .rsplit_once([' ', '\t'])
        .is_some_and(|(_, field)| field.parse::<f32>().is_ok())
    {
        return Err(format!("{}, got more numbers", expected()));
    }
    values.reverse();
    Ok((rest, values))
}

/// In f64, with eight partial sums so that additions can run in parallel.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0.0_f64; 8];
    let (a_parts, b_parts) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = a_parts.remainder().iter().zip(b_parts.remainder()).map(product).sum();
    for (a, b) in a_parts.zip(b_parts) {
        for (sum, pair) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += product(pair);
        }
    }
    sums.iter().sum::<f64>() + rest
}

fn product((a, b): (&f32, &f32)) -> f64 {
    f64::from(*a) * f64::from(*b)
}
