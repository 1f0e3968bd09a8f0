//! How well generated answers agree with references.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::CorpusMetric;

/// A metric of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerMetric {
    /// The share of answers equal to a reference.
    ExactMatch,
    /// The share of answers that name the right label.
    Accuracy,
    /// The mean F-measure of ROUGE-L.
    RougeL,
    /// The mean over labels of F1.
    MacroF1,
    /// BLEU over all answers, 0 to 100.
    Bleu,
    /// chrF over all answers, 0 to 100.
    Chrf,
    /// chrF++ over all answers, 0 to 100.
    #[serde(rename = "chrf++")]
    ChrfPlusPlus,
}

impl AnswerMetric {
    /// The metric of a whole text that it is; `None` for those that are means over answers, or over labels.
    pub fn of_corpus(self) -> Option<CorpusMetric> {
        match self {
            Self::Bleu => Some(CorpusMetric::Bleu),
            Self::Chrf => Some(CorpusMetric::Chrf),
            Self::ChrfPlusPlus => Some(CorpusMetric::ChrfPlusPlus),
            Self::ExactMatch | Self::Accuracy | Self::RougeL | Self::MacroF1 => None,
        }
    }
}

impl std::fmt::Display for AnswerMetric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ExactMatch => "exact_match",
            Self::Accuracy => "accuracy",
            Self::RougeL => "rouge_l",
            Self::MacroF1 => "macro_f1",
            Self::Bleu => "bleu",
            Self::Chrf => "chrf",
            Self::ChrfPlusPlus => "chrf++",
        })
    }
}

/// Whether an answer equals a reference: runs of white space count as one space, surrounding white space does not count, and capitals
/// only unless `ignore_case`.
///
/// ```
/// assert!(taal_metrics::exact_match(" de  kat\n", "de kat", false));
/// assert!(!taal_metrics::exact_match("De kat", "de kat", false));
/// ```
pub fn exact_match(answer: &str, reference: &str, ignore_case: bool) -> bool {
    let mut words = answer.split_whitespace();
    let mut wanted = reference.split_whitespace();
    loop {
        match (words.next(), wanted.next()) {
            (None, None) => return true,
            (Some(word), Some(wanted)) if word == wanted => {}
            (Some(word), Some(wanted)) if ignore_case && word.to_lowercase() == wanted.to_lowercase() => {}
            _ => return false,
        }
    }
}

/// Precision, recall and F-measure of ROUGE-L.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Rouge {
    /// The longest common subsequence over the answer's length.
    pub precision: f64,
    /// The longest common subsequence over the reference's length.
    pub recall: f64,
    /// Their harmonic mean.
    pub f1: f64,
}

/// ROUGE-L (Lin 2004) of one answer as the Python package rouge_score computes it without stemming: words are runs of the ASCII letters
/// and digits of the lower-cased text, so that other letters separate words; the longest common subsequence of both is compared.
///
/// ```
/// let rouge = taal_metrics::rouge_l("the cat sat", "the cat sat on the mat");
/// assert_eq!((rouge.precision, rouge.recall), (1.0, 0.5));
/// ```
pub fn rouge_l(answer: &str, reference: &str) -> Rouge {
    let (answer, reference) = (answer.to_lowercase(), reference.to_lowercase());
    let (answer, reference) = (rouge_words(&answer), rouge_words(&reference));
    if answer.is_empty() || reference.is_empty() {
        return Rouge::default();
    }
    let common = common_len(&answer, &reference) as f64;
    let (precision, recall) = (common / answer.len() as f64, common / reference.len() as f64);
    let f1 = match precision + recall > 0.0 {
        true => 2.0 * precision * recall / (precision + recall),
        false => 0.0,
    };
    Rouge { precision, recall, f1 }
}

fn rouge_words(text: &str) -> Vec<&str> {
    let words = text.split(|letter: char| !letter.is_ascii_lowercase() && !letter.is_ascii_digit());
    words.filter(|word| !word.is_empty()).collect()
}

/// The length of the longest common subsequence.
fn common_len(a: &[&str], b: &[&str]) -> usize {
    let mut row = vec![0; b.len() + 1];
    for word in a {
        let mut diagonal = 0;
        for (index, other) in b.iter().enumerate() {
            let above = row[index + 1];
            row[index + 1] = match word == other {
                true => diagonal + 1,
                false => above.max(row[index]),
            };
            diagonal = above;
        }
    }
    row[b.len()]
}

/// The mean over labels of F1, over pairs of a predicted and a right label, as in scikit-learn's `f1_score(average="macro",
/// zero_division=0)`: the labels are all that were predicted or right, and one that never was both has an F1 of 0. `None` without pairs.
///
/// ```
/// let f1 = taal_metrics::macro_f1([("a", "a"), ("a", "b"), ("b", "b")]);
/// assert!((f1.unwrap() - 2.0 / 3.0).abs() < 1e-12);
/// ```
pub fn macro_f1<L: Ord + Copy>(pairs: impl IntoIterator<Item = (L, L)>) -> Option<f64> {
    // Of each label: both, predicted, right.
    let mut counts: BTreeMap<L, [u64; 3]> = BTreeMap::new();
    for (predicted, right) in pairs {
        counts.entry(predicted).or_default()[1] += 1;
        let of_right = counts.entry(right).or_default();
        of_right[2] += 1;
        of_right[0] += u64::from(predicted == right);
    }
    let sum: f64 = counts
        .values()
        .map(|[both, predicted, right]| 2.0 * *both as f64 / (predicted + right) as f64)
        .sum();
    (!counts.is_empty()).then(|| sum / counts.len() as f64)
}

/// The label that a text begins with after white space, without regard to capitals; the longest where several do. The label must end
/// where a word does.
///
/// ```
/// let labels = ["neutral", "neg", "negative"].map(String::from);
/// assert_eq!(taal_metrics::label_of(" Negative, I think", &labels), Some(2));
/// assert_eq!(taal_metrics::label_of("negatively", &labels), None);
/// ```
pub fn label_of(text: &str, labels: &[String]) -> Option<usize> {
    let text = text.trim_start().to_lowercase();
    let begins = |label: &String| {
        let rest = text.strip_prefix(&label.trim().to_lowercase());
        rest.is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
    };
    let found = labels.iter().enumerate().filter(|(_, label)| begins(label));
    found
        .max_by_key(|(_, label)| label.trim().len())
        .map(|(index, _)| index)
}
