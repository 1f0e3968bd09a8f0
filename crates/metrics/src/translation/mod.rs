//! BLEU, chrF and chrF++: how well translations agree with references, as sacrebleu computes it (Post 2018).

mod bleu;
mod chrf;
mod ngrams;

use std::iter::Sum;
use std::ops::{Add, AddAssign};

use serde::{Deserialize, Serialize};

/// The most numbers that a metric counts in a sentence: hypothesis, reference and matches of eight orders.
const N_COUNTS: usize = 24;

/// A metric of a whole text: what is counted in each sentence is added, and the figure is that of the sums, from 0 to 100.
///
/// ```
/// use taal_metrics::{CorpusMetric, SentenceCounts};
///
/// let pairs = [("The cat sat.", "The cat sat."), ("A dog barks.", "A dog barked.")];
/// let counts: SentenceCounts = pairs
///     .iter()
///     .map(|(translation, reference)| CorpusMetric::Chrf.counts(translation, &[*reference]))
///     .sum();
/// let score = CorpusMetric::Chrf.score(&counts);
/// assert!(score > 80.0 && score < 100.0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CorpusMetric {
    /// BLEU (Papineni et al. 2002): up to four words, tokenizer 13a, exponential smoothing.
    #[serde(rename = "bleu")]
    Bleu,
    /// chrF (Popović 2015): up to six characters without white space, beta 2.
    #[serde(rename = "chrf")]
    Chrf,
    /// chrF++ (Popović 2017): chrF with one and two words as well.
    #[serde(rename = "chrf++")]
    ChrfPlusPlus,
}

impl std::fmt::Display for CorpusMetric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Bleu => "bleu",
            Self::Chrf => "chrf",
            Self::ChrfPlusPlus => "chrf++",
        })
    }
}

/// What a [`CorpusMetric`] counts in one sentence or, added up, in several. Only counts of one metric may be added.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SentenceCounts([u64; N_COUNTS]);

impl AddAssign<&Self> for SentenceCounts {
    fn add_assign(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, count)| *sum += count);
    }
}

impl Add for SentenceCounts {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self += &other;
        self
    }
}

impl Sum for SentenceCounts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), Add::add)
    }
}

impl<'a> Sum<&'a Self> for SentenceCounts {
    fn sum<I: Iterator<Item = &'a Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |mut sum, counts| {
            sum += counts;
            sum
        })
    }
}

impl CorpusMetric {
    /// What is counted in a translation and all references of its source. BLEU takes of every n-gram the most that one reference has, and
    /// the length of the reference whose length is nearest; chrF takes the reference with the best figure.
    pub fn counts<R: AsRef<str>>(self, translation: &str, references: &[R]) -> SentenceCounts {
        let references: Vec<&str> = references.iter().map(AsRef::as_ref).collect();
        SentenceCounts(match self {
            Self::Bleu => bleu::counts(translation, &references),
            Self::Chrf => chrf::counts(translation, &references, 0),
            Self::ChrfPlusPlus => chrf::counts(translation, &references, chrf::MAX_WORD_ORDER),
        })
    }

    /// The figure of added counts, 0 to 100: sacrebleu's `corpus_score`.
    pub fn score(self, counts: &SentenceCounts) -> f64 {
        match self {
            Self::Bleu => bleu::score(&counts.0, false),
            Self::Chrf => chrf::score(&counts.0, 0),
            Self::ChrfPlusPlus => chrf::score(&counts.0, chrf::MAX_WORD_ORDER),
        }
    }

    /// The figure of one sentence, 0 to 100: sacrebleu's `sentence_score`, for BLEU with the orders that a sentence this short has
    /// (`effective_order`).
    pub fn sentence_score(self, counts: &SentenceCounts) -> f64 {
        match self {
            Self::Bleu => bleu::score(&counts.0, true),
            Self::Chrf | Self::ChrfPlusPlus => self.score(counts),
        }
    }

    /// The settings as in sacrebleu's signature, so that a figure can be reproduced. The version is that of Taal. `n_references`: of every
    /// source, `None` where they differ; `bootstrap`: rounds and seed of an interval; `is_lower_case`: whether all texts were in lower case.
    ///
    /// ```
    /// let signature = taal_metrics::CorpusMetric::Bleu.signature(Some(1), None, false);
    /// assert!(signature.starts_with("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:taal-"));
    /// ```
    pub fn signature(
        self,
        n_references: Option<usize>,
        bootstrap: Option<(usize, u64)>,
        is_lower_case: bool,
    ) -> String {
        let case = if is_lower_case { "lc" } else { "mixed" };
        let references = n_references.map_or_else(|| "var".to_owned(), |count| count.to_string());
        let bootstrap = bootstrap.map_or_else(String::new, |(rounds, seed)| format!("|bs:{rounds}|seed:{seed}"));
        let settings = match self {
            Self::Bleu => "eff:no|tok:13a|smooth:exp".to_owned(),
            Self::Chrf => chrf::settings(0),
            Self::ChrfPlusPlus => chrf::settings(chrf::MAX_WORD_ORDER),
        };
        let version = env!("CARGO_PKG_VERSION");
        format!("nrefs:{references}{bootstrap}|case:{case}|{settings}|version:taal-{version}")
    }
}
