//! What the vectors of words know: human judgements of similarity, analogies, and categories.
//!
//! Each test is read from its file first ([`WordPairs`], [`Analogies`], [`Categories`]), so that a model is only asked for the vectors of
//! words that occur. [`WordVectors`] are those of a model or those of a word2vec text file.

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

/// Samples that the bootstrap of an interval draws where the caller has no opinion.
pub const BOOTSTRAP_ROUNDS: usize = 1000;

/// Words without a vector that are named.
const NAMED_UNKNOWN: usize = 10;

/// The words of a test that have no vector.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnknownWords {
    /// How many.
    pub count: u64,
    /// The first ones in the order of the alphabet.
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

/// The file's name without folder and ending.
pub(crate) fn stem(path: &Path) -> String {
    path.file_stem()
        .map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
}
