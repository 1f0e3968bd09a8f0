//! `taal eval`: how well a model predicts texts.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use taal_inference::{InferenceError, LanguageModel};
use taal_metrics::{bits_per_byte, perplexity};
use taal_store::TextReader;

use crate::lines::{Limits, TEST_LIMITS, bad_line, is_json_lines, json_lines};
use crate::pairs::beginning;
use crate::score::{Score, default_batch_size, score_ids};
use crate::{EvaluationError, Result};

/// Limited because a text and its ids, four bytes each, are held in memory.
const MAX_TEXT_BYTES: u64 = 1 << 30;

/// The limits of many texts in one file.
const DOCUMENT_LIMITS: Limits = Limits {
    bytes: MAX_TEXT_BYTES,
    lines: 1 << 23,
    ..TEST_LIMITS
};

/// The score of one text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct TextScore {
    /// Negative log-likelihood of all tokens but the first, summed, in nats.
    pub nats: f64,
    /// Tokens scored: all but the first.
    pub tokens: u64,
    /// Bytes of the scored tokens: the whole text if it begins with a special token, else all but the first token's.
    pub bytes: u64,
}

/// The score of several texts, in the form that `taal eval --json` prints.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Mean negative log-likelihood, in nats per token.
    pub loss: f64,
    /// `exp(loss)`.
    pub perplexity: f64,
    /// Summed negative log-likelihood in bits divided by `bytes`; comparable between tokenizers.
    pub bits_per_byte: f64,
    /// Tokens scored: all but the first of each text.
    pub tokens: u64,
    /// Bytes of the scored tokens: each text without its first token, unless that is a special one.
    pub bytes: u64,
}

impl From<TextScore> for Evaluation {
    fn from(score: TextScore) -> Self {
        let loss = Score {
            nats: score.nats,
            tokens: score.tokens,
        }
        .loss();
        Self {
            loss,
            perplexity: perplexity(loss),
            bits_per_byte: bits_per_byte(score.nats, score.bytes),
            tokens: score.tokens,
            bytes: score.bytes,
        }
    }
}

/// Scores one text in non-overlapping windows of the model's context, including the short last one; the first token is not
/// scored. `name` names the text in errors. No special tokens are added.
///
/// # Errors
///
/// [`InferenceError::NoTokenizer`], [`EvaluationError::Text`] where the tokenizer refuses,
/// [`EvaluationError::TooShort`], [`InferenceError::NotFinite`], or an error of [`score_ids`].
pub fn evaluate_text(lm: &LanguageModel, name: &str, text: &str) -> Result<TextScore> {
    evaluate_after(lm, name, text, &[])
}

/// Scores one text after tokens that are not scored themselves.
fn evaluate_after(lm: &LanguageModel, name: &str, text: &str, beginning: &[u32]) -> Result<TextScore> {
    let tokenizer = lm.tokenizer.as_ref().ok_or(InferenceError::NoTokenizer {
        purpose: "scoring text",
    })?;
    let text = &lm.normalized(text);
    let ids = tokenizer.encode(text).map_err(|source| EvaluationError::Text {
        name: name.to_owned(),
        source,
    })?;
    let ids = [beginning, ids.as_slice()].concat();
    if ids.len() < 2 {
        return Err(EvaluationError::TooShort {
            name: name.to_owned(),
            tokens: ids.len(),
        });
    }
    lm.check_ids(&ids, "token id").map_err(|error| error.of_text(name))?;
    let score = score_ids(&lm.model, &ids, default_batch_size(lm.model.config().max_seq_len))?.finite(name)?;
    Ok(TextScore {
        nats: score.nats,
        tokens: score.tokens,
        bytes: (text.len() as u64).saturating_sub(tokenizer.text_bytes_of(ids[0])),
    })
}

/// Scores text files separately, and the `text` of each line of JSON Lines, and reports the total.
///
/// # Errors
///
/// The first file that cannot be read or is not text ([`InferenceError::Store`]), [`EvaluationError::Line`] in JSON Lines, and
/// the errors of [`evaluate_text`]; [`InferenceError::Setting`] without files.
pub fn evaluate_files(lm: &LanguageModel, paths: &[PathBuf]) -> Result<Evaluation> {
    evaluate_all(lm, paths, &[])
}

/// [`evaluate_files`] with the token that begins a text before each, so that all tokens of the texts are scored: the token of the
/// tokenizer's post-processor, else the model's beginning of a text.
///
/// # Errors
///
/// As [`evaluate_files`], and [`InferenceError::Setting`] where no token begins a text.
pub fn evaluate_files_after_bos(lm: &LanguageModel, paths: &[PathBuf]) -> Result<Evaluation> {
    let tokenizer = lm.tokenizer.as_ref().ok_or(InferenceError::NoTokenizer {
        purpose: "scoring text",
    })?;
    // Only one token, because all but the first would be scored.
    let beginning = beginning(lm, tokenizer);
    match beginning.last() {
        Some(bos) => evaluate_all(lm, paths, &[*bos]),
        None => Err(EvaluationError::setting(
            "bos",
            "no token of the tokenizer begins a text",
        )),
    }
}

fn evaluate_all(lm: &LanguageModel, paths: &[PathBuf], beginning: &[u32]) -> Result<Evaluation> {
    if paths.is_empty() {
        return Err(EvaluationError::setting(
            "text",
            "expected at least one text file, got none",
        ));
    }
    let mut total = TextScore::default();
    for path in paths {
        for (name, text) in texts(path)? {
            let score = evaluate_after(lm, &name, &text, beginning)?;
            total.nats += score.nats;
            total.tokens += score.tokens;
            total.bytes += score.bytes;
        }
    }
    Ok(total.into())
}

/// The texts of a file: the whole file, or each line's `text` in JSON Lines, with the name that errors use.
///
/// # Errors
///
/// The store's, [`EvaluationError::Line`] for a line without text.
fn texts(path: &Path) -> Result<Vec<(String, String)>> {
    /// A line of a file of documents; its other keys are ignored.
    #[derive(Deserialize)]
    struct Document {
        text: String,
    }
    let name = path.display().to_string();
    if is_json_lines(path) {
        let documents = json_lines::<Document>(path, DOCUMENT_LIMITS)?.into_iter();
        return Ok(documents
            .map(|(line, document)| (format!("{name}, line {line}"), document.text))
            .collect());
    }
    if path
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
    {
        let detail = "one JSON value is not text; write one object per line, {\"text\": \"...\"}, to a .jsonl file";
        return Err(bad_line(path, 1, detail));
    }
    Ok(vec![(name, TextReader::open(path, MAX_TEXT_BYTES)?.read_all()?)])
}
