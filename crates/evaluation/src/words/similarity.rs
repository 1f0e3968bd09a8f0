//! Human judgments of the similarity of two words, compared with the cosine of their vectors.

use std::path::Path;

use serde::{Deserialize, Serialize};
use taal_metrics::{spearman, spearman_interval};

use super::table::read_columns;
use super::{UnknownWords, WordVectors, stem};
use crate::{EvaluationError, Result};

/// How MEN marks nouns, verbs and adjectives, and others adverbs.
const PART_OF_SPEECH_ENDINGS: [&str; 5] = ["-n", "-v", "-j", "-a", "-r"];

/// A file of word pairs with human judgments.
#[derive(Debug, Clone, PartialEq)]
pub struct WordPairs {
    name: String,
    pairs: Vec<(String, String, f64)>,
    had_endings: bool,
}

/// The agreement of word vectors with human judgments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SimilarityScore {
    /// The file's name without folder and extension.
    pub name: String,
    /// Spearman's rank correlation of cosine and judgment; `None` with too few pairs or if all are equal.
    pub spearman: Option<f64>,
    /// Its 95 % interval, by the bootstrap over pairs.
    pub interval: Option<[f64; 2]>,
    /// Pairs whose words both have a vector.
    pub scored: u64,
    /// All pairs.
    pub total: u64,
    /// The words without a vector, whose pairs are left out.
    pub unknown: UnknownWords,
    /// Whether every word of the file ended in its part of speech (`sun-n`), which was removed.
    pub endings_removed: bool,
}

impl WordPairs {
    /// Reads CSV with the columns `word1`, `word2` and `similarity` in any order; others are ignored. Where every word ends in
    /// its part of speech, as MEN's `sun-n`, it is removed.
    ///
    /// # Errors
    ///
    /// [`EvaluationError::Line`] naming file and line; the store's.
    pub fn read(path: &Path, lowercase: bool) -> Result<Self> {
        let wanted: [&[&str]; 3] = [
            &["word1", "word 1", "word_1"],
            &["word2", "word 2", "word_2"],
            &["similarity", "score", "human (mean)", "simlex999"],
        ];
        let mut pairs = Vec::new();
        for (line, [a, b, similarity]) in read_columns(path, wanted)? {
            let bad = |detail: String| EvaluationError::Line {
                path: path.to_path_buf(),
                line,
                detail,
            };
            if a.is_empty() || b.is_empty() {
                return Err(bad("expected two words, got an empty one".to_owned()));
            }
            let value = similarity.parse::<f64>().ok().filter(|value| value.is_finite());
            let value = value.ok_or_else(|| {
                bad(format!(
                    "expected a number as similarity, got {}",
                    taal_store::excerpt(&similarity)
                ))
            })?;
            pairs.push((a, b, value));
        }
        let without = |word: &str| {
            let ending = PART_OF_SPEECH_ENDINGS
                .iter()
                .find_map(|ending| word.strip_suffix(ending));
            ending.filter(|word| !word.is_empty()).map(str::to_owned)
        };
        let had_endings = pairs
            .iter()
            .all(|(a, b, _)| without(a).is_some() && without(b).is_some());
        for word in pairs.iter_mut().flat_map(|(a, b, _)| [a, b]) {
            if had_endings {
                *word = without(word).unwrap_or_default();
            }
            if lowercase {
                *word = word.to_lowercase();
            }
        }
        Ok(Self {
            name: stem(path),
            pairs,
            had_endings,
        })
    }

    /// All words, with repetitions.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.pairs.iter().flat_map(|(a, b, _)| [a.as_str(), b.as_str()])
    }

    /// Compares the judgments with cosines. The interval comes from `rounds` samples drawn with `seed`.
    pub fn score(&self, vectors: &WordVectors, rounds: usize, seed: u64) -> SimilarityScore {
        let known = self
            .pairs
            .iter()
            .filter_map(|(a, b, judgment)| Some((vectors.cosine(a, b)?, *judgment)));
        let (cosines, judgments): (Vec<f64>, Vec<f64>) = known.unzip();
        SimilarityScore {
            name: self.name.clone(),
            spearman: spearman(&cosines, &judgments),
            interval: spearman_interval(&cosines, &judgments, rounds, seed),
            scored: cosines.len() as u64,
            total: self.pairs.len() as u64,
            unknown: UnknownWords::among(self.words(), vectors),
            endings_removed: self.had_endings,
        }
    }
}
