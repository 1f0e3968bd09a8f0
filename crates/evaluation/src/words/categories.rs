//! Categories: do word vectors cluster into human-made categories?

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::table::read_columns;
use super::{UnknownWords, WordVectors, stem};
use crate::{EvaluationError, Result};

/// Clustering takes time cubic in the number of words.
const MAX_WORDS: usize = 3000;

/// A file of words, each with its category.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Categories {
    name: String,
    /// Category and word.
    entries: Vec<(String, String)>,
}

/// The purity of the clusters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CategoryScore {
    /// The file's name without folder and extension.
    pub name: String,
    /// Share of the words that belong to the most common category of their cluster; `None` if no word has a vector.
    pub purity: Option<f64>,
    /// Purity of a single cluster of all words.
    pub baseline: Option<f64>,
    /// Number of categories of the words with vectors, and of clusters.
    pub categories: u64,
    /// Words with a vector.
    pub scored: u64,
    /// All words.
    pub total: u64,
    /// The words without a vector.
    pub unknown: UnknownWords,
}

impl Categories {
    /// Reads CSV with the columns `category` and `word` in any order; others are ignored, and so are rows without a word.
    ///
    /// # Errors
    ///
    /// [`EvaluationError::Line`] naming file and line, also for more than 3,000 words; the store's.
    pub fn read(path: &Path, lowercase: bool) -> Result<Self> {
        let mut entries = Vec::new();
        for (line, [category, word]) in read_columns(path, [&["category"], &["word"]])? {
            let bad = |detail: &str| EvaluationError::Line {
                path: path.to_path_buf(),
                line,
                detail: detail.to_owned(),
            };
            // BLESS has a row without a word for every category.
            if word.is_empty() {
                continue;
            }
            if category.is_empty() {
                return Err(bad("expected a category and a word, got no category"));
            }
            if entries.len() == MAX_WORDS {
                return Err(bad("expected at most 3000 words; split the file"));
            }
            let word = if lowercase { word.to_lowercase() } else { word };
            entries.push((category, word));
        }
        Ok(Self {
            name: stem(path),
            entries,
        })
    }

    /// All words.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(_, word)| word.as_str())
    }

    /// Clusters the words into as many clusters as there are categories by average linkage of cosines (Sokal and Michener 1958),
    /// and counts the words in the majority of their cluster.
    pub fn score(&self, vectors: &WordVectors) -> CategoryScore {
        let known = self
            .entries
            .iter()
            .filter_map(|(category, word)| Some((category.as_str(), vectors.find(word)?)));
        let (categories, places): (Vec<&str>, Vec<usize>) = known.unzip();
        let n_categories = categories.iter().collect::<std::collections::HashSet<_>>().len();
        let clusters = clusters(vectors, &places, n_categories);
        let share = |clusters: &[Vec<usize>]| {
            let right: usize = clusters.iter().map(|cluster| majority(cluster, &categories)).sum();
            (!places.is_empty()).then(|| right as f64 / places.len() as f64)
        };
        CategoryScore {
            name: self.name.clone(),
            purity: share(&clusters),
            baseline: share(&[(0..places.len()).collect()]),
            categories: n_categories as u64,
            scored: places.len() as u64,
            total: self.entries.len() as u64,
            unknown: UnknownWords::among(self.words(), vectors),
        }
    }
}

/// How many members of a cluster have its most common category.
fn majority(cluster: &[usize], categories: &[&str]) -> usize {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for member in cluster {
        *counts.entry(categories[*member]).or_default() += 1;
    }
    counts.into_values().max().unwrap_or(0)
}

/// Indices into `places` in at least `n_clusters` groups.
fn clusters(vectors: &WordVectors, places: &[usize], n_clusters: usize) -> Vec<Vec<usize>> {
    let n = places.len();
    let mut groups: Vec<Vec<usize>> = (0..n).map(|index| vec![index]).collect();
    let mut nearness: Vec<Vec<f64>> = places
        .iter()
        .map(|a| places.iter().map(|b| vectors.cosine_of(*a, *b)).collect())
        .collect();
    let mut open: Vec<usize> = (0..n).collect();
    while open.len() > n_clusters {
        let pairs = open
            .iter()
            .enumerate()
            .flat_map(|(at, a)| open[at + 1..].iter().map(move |b| (*a, *b)));
        // Ties go to the first pair: `>`, not `>=`.
        let nearest = pairs.fold((f64::NEG_INFINITY, None), |best, (a, b)| {
            if nearness[a][b] > best.0 {
                (nearness[a][b], Some((a, b)))
            } else {
                best
            }
        });
        let Some((a, b)) = nearest.1 else { break };
        open.retain(|group| *group != b);
        let sizes = [a, b].map(|group| groups[group].len() as f64);
        for other in &open {
            let mean = (sizes[0] * nearness[a][*other] + sizes[1] * nearness[b][*other]) / (sizes[0] + sizes[1]);
            nearness[a][*other] = mean;
            nearness[*other][a] = mean;
        }
        let joined = std::mem::take(&mut groups[b]);
        groups[a].extend(joined);
    }
    open.into_iter()
        .map(|group| std::mem::take(&mut groups[group]))
        .collect()
}
