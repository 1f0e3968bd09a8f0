//! Tests of word vectors: human judgments of similarity, analogies, and categories.
//!
//! Tests are read from their files first ([`WordPairs`], [`Analogies`], [`Categories`]), so that a model computes only the
//! vectors of words that occur. [`WordVectors`] come from a model or a word2vec text file.

mod analogies;
mod categories;
mod similarity;
mod table;
mod vectors;

use std::collections::BTreeSet;
use std::path::Path;

pub use analogies::{Analogies, AnalogyScore, SectionScore};
pub use categories::{Categories, CategoryScore};
use serde::{Deserialize, Serialize};
pub use similarity::{SimilarityScore, WordPairs};
pub use vectors::{WordVectors, vocabulary_words};

/// Default number of bootstrap samples for an interval.
pub const BOOTSTRAP_ROUNDS: usize = 1000;

/// The most words without a vector to name.
const NAMED_UNKNOWN: usize = 10;

/// The words of a test that have no vector.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnknownWords {
    /// How many.
    pub count: u64,
    /// The first ones in alphabetical order.
    pub first: Vec<String>,
}

impl UnknownWords {
    fn among<'a>(words: impl Iterator<Item = &'a str>, vectors: &WordVectors) -> Self {
        let unknown: BTreeSet<&str> = words.filter(|word| vectors.find(word).is_none()).collect();
        Self {
            count: unknown.len() as u64,
            first: unknown.into_iter().take(NAMED_UNKNOWN).map(str::to_owned).collect(),
        }
    }
}

/// The file's name without folder and extension.
pub(crate) fn stem(path: &Path) -> String {
    path.file_stem()
        .map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
}
