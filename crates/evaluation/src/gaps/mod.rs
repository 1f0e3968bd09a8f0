//! Gaps: sentences with one word left out, and how high a model ranks that word among candidates.
//!
//! A masked model reads both sides of the gap, a causal one only what is before it. Both rank whole words, by their probability in the
//! gap, so that a word of several tokens competes with one of a single token; see [`evaluate_gaps`].
//!
//! A file of gaps has a sentence with one `[MASK]`, a tab and the expected words (separated by commas) per line; lines that begin with
//! `#` are comments. In JSON Lines, an object has `text` and `words`, a list.

mod counting;
mod words;

use std::collections::HashSet;
use std::path::Path;

use serde::{Deserialize, Serialize};
use taal_inference::LanguageModel;
use taal_metrics::bootstrap_interval;

use self::counting::Neighbors;
use self::words::Scorer;
use crate::left_out::LeftOut;
use crate::lines::{TEST_LIMITS, bad_line, for_each_line, is_json_lines, json_lines};
use crate::words::{BOOTSTRAP_ROUNDS, vocabulary_words};
use crate::{EvaluationError, Result};

/// How a gap is written in a sentence.
const MASK: &str = "[MASK]";

/// The most candidates taken from a text: its commonest words.
const MAX_CANDIDATES: usize = 10_000;

/// Seed of the bootstrap: intervals are a function of the ranks.
const SEED: u64 = 1;

/// The ranks up to which gaps are counted.
const FIRST: [u64; 3] = [1, 5, 10];

/// A sentence with a gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Its line in the file, from 1.
    pub line: usize,
    /// The sentence, with one `[MASK]`.
    pub text: String,
    /// The expected words; the best of them counts.
    pub words: Vec<String>,
}

/// A file of gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GapFile {
    /// Its name, for messages.
    pub name: String,
    /// At least one.
    pub gaps: Vec<Gap>,
}

impl GapFile {
    /// Reads a file of gaps.
    ///
    /// # Errors
    ///
    /// [`EvaluationError::Line`] naming the line without exactly one `[MASK]` or without a word, also for a file without a gap; the store's.
    pub fn open(path: &Path) -> Result<Self> {
        let mut lines = Vec::new();
        if is_json_lines(path) {
            for (number, row) in json_lines::<JsonGap>(path, TEST_LIMITS)? {
                lines.push(gap(path, number, &row.text, row.words)?);
            }
        } else {
            for_each_line(path, TEST_LIMITS, |number, line| {
                lines.extend(gap_of_line(path, number, line)?);
                Ok(())
            })?;
        }
        Self::checked(path, lines)
    }

    /// The gaps of a text in the form of a file with tabs, such as the one of an embedded corpus; `name` names it in messages.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let path = Path::new(name);
        let mut gaps = Vec::new();
        for (index, line) in text.lines().enumerate() {
            gaps.extend(gap_of_line(path, index + 1, line)?);
        }
        Self::checked(path, gaps)
    }

    fn checked(path: &Path, gaps: Vec<Gap>) -> Result<Self> {
        match gaps.is_empty() {
            true => Err(bad_line(path, 1, "expected at least one sentence with a gap, got none")),
            false => Ok(Self {
                name: path.display().to_string(),
                gaps,
            }),
        }
    }
}

/// A line of a file in JSON Lines.
#[derive(Deserialize)]
struct JsonGap {
    text: String,
    words: Vec<String>,
}

/// The gap of a line; `None` for a comment or an empty line.
fn gap_of_line(path: &Path, number: usize, line: &str) -> Result<Option<Gap>> {
    if line.starts_with('#') || line.trim().is_empty() {
        return Ok(None);
    }
    let (text, words) = line
        .split_once('\t')
        .ok_or_else(|| bad_line(path, number, "expected a sentence, a tab and the expected words"))?;
    let words = words.split(',').map(|word| word.trim().to_owned()).collect();
    gap(path, number, text, words).map(Some)
}

fn gap(path: &Path, line: usize, text: &str, words: Vec<String>) -> Result<Gap> {
    let found = text.matches(MASK).count();
    if found != 1 {
        let detail = format!("expected one {MASK} in the sentence, found {found}");
        return Err(bad_line(path, line, &detail));
    }
    if words.is_empty() || words.iter().any(String::is_empty) {
        return Err(bad_line(
            path,
            line,
            "an expected word is empty: name at least one word",
        ));
    }
    if let Some(word) = words.iter().find(|word| word.contains(char::is_whitespace)) {
        let detail = format!("expected single words, got {}", taal_store::excerpt(word));
        return Err(bad_line(path, line, &detail));
    }
    Ok(Gap {
        line,
        text: text.to_owned(),
        words,
    })
}

/// What a model reads to fill a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapReading {
    /// Both sides: a masked model.
    BothSides,
    /// Only what is before the gap: a causal model.
    Left,
}

/// The result for one gap.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GapRank {
    /// The sentence.
    pub text: String,
    /// The expected word, the best ranked one of several.
    pub word: String,
    /// Its rank among the candidates, from 1; the number of candidates if the tokenizer does not know the word.
    pub rank: u64,
    /// Its probability in the gap; none for a word that the tokenizer does not know.
    pub probability: Option<f64>,
    /// The candidate of rank 1.
    pub guess: String,
    /// The rank by counting neighbors.
    pub neighbors_rank: Option<u64>,
}

/// The ranks of all gaps in short.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GapScore {
    /// The median rank.
    pub median_rank: f64,
    /// Its 95 % interval by the bootstrap over gaps.
    pub median_interval: [f64; 2],
    /// Share of the gaps whose word is in the first 1, 5 and 10.
    pub first: [Share; 3],
}

/// A share of the gaps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// Up to this rank.
    pub rank: u64,
    /// 0 to 1.
    pub share: f64,
    /// Its 95 % interval by the bootstrap over gaps.
    pub interval: [f64; 2],
}

impl GapScore {
    fn of(ranks: &[u64]) -> Self {
        let interval = |figure: &dyn Fn(&[u64]) -> f64| {
            let found = bootstrap_interval(ranks.len(), BOOTSTRAP_ROUNDS, SEED, |sample| {
                let drawn: Vec<u64> = sample.iter().map(|index| ranks[*index]).collect();
                Some(figure(&drawn))
            });
            found.unwrap_or([figure(ranks); 2])
        };
        let share = |ranks: &[u64], limit: u64| {
            let within = ranks.iter().filter(|rank| **rank <= limit).count();
            within as f64 / ranks.len().max(1) as f64
        };
        Self {
            median_rank: median(ranks),
            median_interval: interval(&median),
            first: FIRST.map(|rank| Share {
                rank,
                share: share(ranks, rank),
                interval: interval(&|drawn: &[u64]| share(drawn, rank)),
            }),
        }
    }
}

/// The middle one, or the mean of the middle two.
fn median(ranks: &[u64]) -> f64 {
    let mut sorted = ranks.to_vec();
    sorted.sort_unstable();
    match sorted.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => sorted[len / 2] as f64,
        len => (sorted[len / 2 - 1] + sorted[len / 2]) as f64 / 2.0,
    }
}

/// A model's ranks for a file of gaps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GapEvaluation {
    /// The file.
    pub name: String,
    /// What the model reads.
    pub reading: GapReading,
    /// Words that compete in a gap.
    pub candidates: u64,
    /// The model's ranks.
    pub model: GapScore,
    /// Those of counting neighbors in the training text, where that was given.
    pub neighbors: Option<GapScore>,
    /// Each gap.
    pub gaps: Vec<GapRank>,
    /// Gaps that could not be scored.
    pub left_out: Vec<LeftOut>,
}

/// Ranks the expected word of every gap among candidate words.
///
/// **Candidates** are the 10,000 commonest words of `training`, the model's training text, and the expected words of all gaps. Without a
/// training text, they are the words in the tokenizer's vocabulary, of which a larger vocabulary has more: compare ranks of different
/// tokenizers only over the same training text.
///
/// **A masked model** scores a word of *k* tokens in a sentence with *k* masks in the gap: the sum of the log-probabilities of its tokens,
/// each from both sides with the word's later tokens still masked (the within-word left-to-right score of Kauf and Ivanova 2023; with all
/// other tokens visible, the later pieces of a rare word would give away the earlier ones).
///
/// **A causal model** scores a word by the sum of the log-probabilities of its tokens after the text before the gap, and of the word
/// ending there: that the next token does not continue it (Pimentel and Meister 2024). It does not see what is after the gap.
///
/// A word whose spelling the tokenizer does not know ranks last. Ranks are exact: a candidate is dropped only when the tokens so far are
/// already less probable than the expected word.
///
/// **Counting neighbors**, the baseline, ranks the same candidates by how often they were between the same two words in `training`,
/// after the left one, before the right one, and at all; for a causal model after the two words before the gap, after the last one, and
/// at all. Ties count in its favor.
///
/// # Errors
///
/// [`InferenceError::NoTokenizer`](taal_inference::InferenceError::NoTokenizer), [`EvaluationError::LeftOut`] where no gap can be scored, the
/// model's.
pub fn evaluate_gaps(lm: &LanguageModel, file: &GapFile, training: &[&str]) -> Result<GapEvaluation> {
    let scorer = Scorer::new(lm)?;
    let candidates = candidates(lm, &scorer, file, training);
    let reading = scorer.reading();
    let neighbors = (!training.is_empty()).then(|| Neighbors::count(training, &file.gaps, reading));
    let (mut gaps, mut left_out) = (Vec::new(), Vec::new());
    for gap in &file.gaps {
        match scorer.rank(gap, &candidates) {
            Ok(mut found) => {
                found.neighbors_rank = neighbors.as_ref().map(|counts| counts.rank(gap, &candidates));
                gaps.push(found);
            }
            Err(error) => left_out.push(LeftOut::of(error, Path::new(&file.name), gap.line)?),
        }
    }
    if gaps.is_empty() {
        LeftOut::check(&left_out, 0)?;
        return Err(EvaluationError::setting("gaps", "expected at least one gap, got none"));
    }
    let ranks: Vec<u64> = gaps.iter().map(|gap| gap.rank).collect();
    let by_counting: Option<Vec<u64>> = gaps.iter().map(|gap| gap.neighbors_rank).collect();
    Ok(GapEvaluation {
        name: file.name.clone(),
        reading,
        candidates: candidates.len() as u64,
        model: GapScore::of(&ranks),
        neighbors: by_counting.map(|ranks| GapScore::of(&ranks)),
        gaps,
        left_out,
    })
}

/// The words that compete: those of the training text or of the vocabulary, and the expected ones.
fn candidates(lm: &LanguageModel, scorer: &Scorer<'_>, file: &GapFile, training: &[&str]) -> Vec<String> {
    let words = match training.is_empty() {
        true => vocabulary_words(scorer.tokenizer(), lm.model.config().vocab_size),
        false => counting::commonest(training, MAX_CANDIDATES),
    };
    let expected = file.gaps.iter().flat_map(|gap| gap.words.clone());
    let mut seen = HashSet::new();
    let words = words.into_iter().chain(expected);
    words.filter(|word| seen.insert(word.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_score_has_the_median_and_the_shares_of_the_ranks() {
        let score = GapScore::of(&[1, 4, 9, 300]);
        assert_eq!(score.median_rank, 6.5);
        assert_eq!(score.first.map(|it| it.share), [0.25, 0.5, 0.75]);
        let [low, high] = score.first[1].interval;
        assert!(low < 0.5 && high > 0.5 && low >= 0.0 && high <= 1.0);
        assert_eq!(GapScore::of(&[7]).median_interval, [7.0, 7.0]);
    }

    #[test]
    fn bad_lines_name_the_line_and_what_was_expected() {
        for (text, expected) in [
            ("# only a comment\n", "line 1: expected at least one sentence"),
            (
                "De kat zat.\tmat\n",
                "line 1: expected one [MASK] in the sentence, found 0",
            ),
            (
                "[MASK] en [MASK]\tmat\n",
                "line 1: expected one [MASK] in the sentence, found 2",
            ),
            (
                "#\nDe [MASK] zat.\n",
                "line 2: expected a sentence, a tab and the expected words",
            ),
            ("De [MASK] zat.\tkat,,hond\n", "line 1: an expected word is empty"),
            (
                "De [MASK] zat.\tde kat\n",
                "line 1: expected single words, got \"de kat\"",
            ),
        ] {
            let error = GapFile::parse("gaps.tsv", text).expect_err(text).to_string();
            assert!(error.contains("gaps.tsv") && error.contains(expected), "{error}");
        }
        let file = GapFile::parse("gaps.tsv", "# a\n\nDe [MASK] zat.\tkat, hond\n").expect("a gap");
        assert_eq!((file.gaps[0].line, file.gaps[0].words.len()), (3, 2));
    }
}
