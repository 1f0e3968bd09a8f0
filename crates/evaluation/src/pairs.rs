//! Minimal pairs: does the model find the good one of two similar sentences likelier?
//!
//! BLiMP (Warstadt et al. 2020) asks this of causal models with the sum of log-probabilities of all tokens, and Salazar et al.
//! (2020) of masked ones with the pseudo-log-likelihood: every token is masked in turn, and their log-probabilities are summed.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use taal_inference::{InferenceError, LanguageModel, Probe, Rows};
use taal_tokenizer::Tokenizer;

use crate::left_out::LeftOut;
use crate::lines::{TEST_LIMITS, bad_line, for_each_line, is_json_lines, json_lines};
use crate::score::score_ids;
use crate::words::stem;
use crate::{EvaluationError, Result};

/// Tokens computed at once when every token is masked in turn.
pub(crate) const TOKENS_AT_ONCE: usize = 4096;

/// One pair of a file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Pair {
    #[serde(rename = "sentence_good")]
    good: String,
    #[serde(rename = "sentence_bad")]
    bad: String,
}

/// The result on one file of pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairScore {
    /// The file's name without folder and extension: BLiMP's paradigm.
    pub name: String,
    /// Pairs whose good sentence is likelier.
    pub correct: u64,
    /// All pairs.
    pub total: u64,
    /// The share.
    pub accuracy: f64,
    /// Its 95 % interval (Wilson 1927).
    pub interval: [f64; 2],
}

impl PairScore {
    fn new(name: String, correct: u64, total: u64) -> Self {
        Self {
            name,
            correct,
            total,
            accuracy: correct as f64 / total as f64,
            interval: taal_metrics::wilson_interval(correct, total),
        }
    }
}

/// The scores of some files of minimal pairs, and over all of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairEvaluation {
    /// The score of each file.
    pub files: Vec<PairScore>,
    /// All pairs together.
    pub all: PairScore,
    /// Pairs that could not be scored; they are not counted, and a file with only such pairs is omitted.
    pub left_out: Vec<LeftOut>,
}

/// Scores files of minimal pairs: JSON lines with `sentence_good` and `sentence_bad` (BLiMP's format, other keys are ignored), or, in
/// files with extensions other than `.jsonl` and `.ndjson`, lines of the good sentence, a tab, and the bad one. A tie counts as wrong.
///
/// # Errors
///
/// [`EvaluationError::Line`] naming file and line, also of a file without a pair; [`EvaluationError::LeftOut`] where no pair can be scored,
/// [`InferenceError::Setting`] without a file, and those errors of [`log_likelihood`] that concern all pairs.
pub fn evaluate_pairs(lm: &LanguageModel, paths: &[PathBuf]) -> Result<PairEvaluation> {
    let (mut files, mut left_out) = (Vec::new(), Vec::new());
    for path in paths {
        let (mut correct, mut total) = (0, 0);
        for (line, pair) in read_pairs(path)? {
            let both = log_likelihood(lm, &pair.good).and_then(|good| Ok((good, log_likelihood(lm, &pair.bad)?)));
            match both {
                Ok((good, bad)) => {
                    correct += u64::from(good > bad);
                    total += 1;
                }
                Err(error) => left_out.push(LeftOut::of(error, path, line)?),
            }
        }
        if total > 0 {
            files.push(PairScore::new(stem(path), correct, total));
        }
    }
    let sum = |count: fn(&PairScore) -> u64| files.iter().map(count).sum();
    let all = PairScore::new("all".to_owned(), sum(|file| file.correct), sum(|file| file.total));
    if all.total == 0 {
        LeftOut::check(&left_out, 0)?;
        return Err(EvaluationError::setting(
            "pairs",
            "expected at least one pair of sentences, got none",
        ));
    }
    Ok(PairEvaluation { files, all, left_out })
}

/// Each pair with the number of its line.
fn read_pairs(path: &Path) -> Result<Vec<(usize, Pair)>> {
    let mut pairs = Vec::new();
    if is_json_lines(path) {
        pairs = json_lines(path, TEST_LIMITS)?;
    } else {
        for_each_line(path, TEST_LIMITS, |number, line| {
            let (good, bad) = line
                .split_once('\t')
                .ok_or_else(|| bad_line(path, number, "expected the good sentence, a tab, and the bad one"))?;
            let (good, bad) = (good.to_owned(), bad.to_owned());
            pairs.push((number, Pair { good, bad }));
            Ok(())
        })?;
    }
    match pairs.is_empty() {
        true => Err(bad_line(path, 1, "expected at least one pair, got an empty file")),
        false => Ok(pairs),
    }
}

/// The log-probability of a text in nats: for a causal model of all tokens after the one that begins a text (without such a
/// token, of all but the first), for a masked model the sum over tokens, each masked alone.
///
/// # Errors
///
/// [`InferenceError::NoTokenizer`], [`InferenceError::Setting`] for a masked model without mask token or a text without a token, the
/// tokenizer's and the model's.
pub fn log_likelihood(lm: &LanguageModel, text: &str) -> Result<f64> {
    let tokenizer = lm.tokenizer.as_ref().ok_or(InferenceError::NoTokenizer {
        purpose: "scoring sentences",
    })?;
    let ids = tokenizer.encode(&lm.normalized(text))?;
    lm.check_ids(&ids, "token id")?;
    if ids.is_empty() {
        return Err(EvaluationError::setting(
            "text",
            format!("expected at least one token, got {}", taal_store::excerpt(text)),
        ));
    }
    let sum = match lm.model.config().is_causal {
        true => -score_ids(&lm.model, &[beginning(lm, tokenizer), ids].concat(), 1)?.nats,
        false => pseudo_log_likelihood(lm, tokenizer, &ids)?,
    };
    finite(sum)
}

/// The sum over all ids of a text, each masked alone inside the tokenizer's frame.
fn pseudo_log_likelihood(lm: &LanguageModel, tokenizer: &Tokenizer, ids: &[u32]) -> Result<f64> {
    let mask = tokenizer.mask_id().ok_or_else(|| {
        EvaluationError::setting(
            "tokenizer",
            "it has no mask token, so the model is not a masked language model",
        )
    })?;
    let frame = tokenizer.frame();
    let (framed, context) = (frame.around(ids), lm.model.config().max_seq_len);
    if framed.len() > context {
        let detail = format!(
            "expected at most {context} tokens, the model's context, got {}",
            framed.len()
        );
        return Err(EvaluationError::setting("text", detail));
    }
    let first = frame.before.len();
    hidden_in_turn(lm, &framed, first..first + ids.len(), mask)
}

/// The tokens before a scored text: the special tokens from the tokenizer's file, else the model's beginning of a text, if any.
pub(crate) fn beginning(lm: &LanguageModel, tokenizer: &Tokenizer) -> Vec<u32> {
    let before = tokenizer.template().before;
    match before.is_empty() {
        true => lm.begin_id.into_iter().collect(),
        false => before,
    }
}

/// Checks that a log-probability is finite.
pub(crate) fn finite(sum: f64) -> Result<f64> {
    match sum.is_finite() {
        true => Ok(sum),
        false => Err(InferenceError::NotFinite {
            what: format!("the log-probability of a text is {sum}, which is"),
        }
        .into()),
    }
}

/// The summed log-probabilities of the ids at some positions, each masked alone.
pub(crate) fn hidden_in_turn(
    lm: &LanguageModel,
    ids: &[u32],
    places: std::ops::Range<usize>,
    mask: u32,
) -> Result<f64> {
    let probe = Probe::new(&lm.model);
    let width = ids.len();
    let places: Vec<usize> = places.collect();
    let mut sum = 0.0;
    for places in places.chunks((TOKENS_AT_ONCE / width).max(1)) {
        let mut inputs = ids.repeat(places.len());
        for (row, place) in places.iter().enumerate() {
            inputs[row * width + place] = mask;
        }
        let targets: Vec<u32> = places.iter().map(|place| ids[*place]).collect();
        let flat = places.iter().enumerate().map(|(row, place)| row * width + place);
        let losses = probe.losses(&Rows::new(&inputs, width), &flat.collect::<Vec<_>>(), &targets)?;
        sum -= losses.into_iter().map(f64::from).sum::<f64>();
    }
    Ok(sum)
}
