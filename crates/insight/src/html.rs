//! The trace as one self-contained page: no network, light and dark, by pointer, keyboard or screen reader.

use std::collections::HashMap;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use taal_draw::Language;

use crate::trace::{Guess, LensCell, Token};
use crate::{Result, Trace};

/// Guesses per layer and position; the model's own answers have as many as the trace.
const LENS_GUESSES: usize = 5;

/// The first numbers of each vector.
const FIRST_NUMBERS: usize = 32;

/// What a page says besides its trace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PageOptions<'a> {
    /// The name of the traced model, for the heading.
    pub model: Option<&'a str>,
    /// The page's language.
    pub language: Language,
}

/// Writes a trace as one HTML page, which shows it stage by stage and follows the token that is pointed at.
///
/// The page needs no other file. All text of the trace is data that the page's script reads, not part of its markup. Attention weights
/// are rounded to 255ths, so 64 tokens through 12 layers of 12 heads stay below 1 MB.
pub fn html(trace: &Trace, options: PageOptions<'_>) -> String {
    taal_draw::trace(page_data(trace), options.model, options.language)
}

impl Trace {
    /// Writes [`html`] to a file; an old one is replaced in one step.
    ///
    /// # Errors
    ///
    /// [`InsightError::Store`](crate::InsightError::Store).
    pub fn save_html(&self, path: &Path, options: PageOptions<'_>) -> Result<()> {
        Ok(taal_store::write_atomic(path, html(self, options).as_bytes())?)
    }
}

/// What the script of a page reads: a trace as JSON in fewer bytes.
///
/// - `model`, `text`, `tokens`, `focus`, `predictions`, `filled` as in the trace; spans count characters;
/// - `attention`: base64 of a byte per weight, in 255ths, layer after layer, head after head, row after row; for a causal model each row
///   ends with its own position;
/// - `lens`: `[state][place]` as `[[word, probability, ..], rank, probability, entropy]`, where a word is an index of `words`;
/// - `norms`: `[state][place]`; `embedding`: lengths and first numbers of the vectors.
pub fn page_data(trace: &Trace) -> Value {
    let mut words = Words::default();
    let lens: Vec<Vec<Value>> = trace
        .lens
        .iter()
        .map(|row| row.iter().map(|cell| lens_cell(cell, &mut words)).collect())
        .collect();
    let embedding = &trace.embedding;
    let lengths = |rows: &[Vec<f32>]| -> Vec<f64> { rows.iter().map(|row| rounded(norm(row))).collect() };
    let first = |row: &Vec<f32>| -> Vec<f64> {
        let numbers = row.iter().take(FIRST_NUMBERS);
        numbers.map(|value| rounded(f64::from(*value))).collect()
    };
    let turns = &embedding.positions.wavelengths;
    json!({
        "model": trace.model,
        "text": trace.text,
        "tokens": trace.tokens.iter().map(|token| of_token(token, trace.text.as_deref())).collect::<Vec<_>>(),
        "embedding": {
            "tokens": lengths(&embedding.tokens),
            "places": lengths(&embedding.places),
            "first": embedding.sum.iter().map(first).collect::<Vec<_>>(),
            "positions": {
                "kind": embedding.positions.kind,
                "shortest": turns.iter().copied().reduce(f64::min),
                "longest": turns.iter().copied().reduce(f64::max),
            },
        },
        "norms": trace.residual_norms.iter().map(|row| row.iter().copied().map(rounded).collect()).collect::<Vec<Vec<f64>>>(),
        "lens": lens,
        "words": words.texts,
        "focus": trace.focus,
        "predictions": trace.predictions.iter().map(|prediction| json!({
            "place": prediction.place,
            "bits": prediction.entropy_bits,
            "guesses": pairs(&prediction.guesses),
        })).collect::<Vec<_>>(),
        "filled": trace.filled,
        "checkpoints": trace.checkpoints.iter().map(|checkpoint| json!({
            "step": checkpoint.step,
            "train_loss": checkpoint.train_loss,
            "val_loss": checkpoint.val_loss,
            "rank": checkpoint.final_rank,
            "probability": checkpoint.final_probability,
            "guesses": pairs(&checkpoint.guesses[..1.min(checkpoint.guesses.len())]),
        })).collect::<Vec<_>>(),
        "attention": STANDARD.encode(packed(trace)),
        "source": trace.source.as_ref().map(|source| json!({
            "text": source.text,
            "tokens": source.tokens.iter().map(|token| of_token(token, Some(&source.text))).collect::<Vec<_>>(),
            "attention": STANDARD.encode(bytes_of(source.attention.iter().flatten().flatten().flatten())),
        })),
    })
}

fn of_token(token: &Token, text: Option<&str>) -> Value {
    // The script counts characters.
    let characters = |end: usize| text.and_then(|text| text.get(..end)).map(|part| part.chars().count());
    let span = token.span.map(|[start, end]| [characters(start), characters(end)]);
    json!({
        "id": token.id,
        "text": token.text,
        "bytes": token.bytes.iter().map(|byte| format!("{byte:02X}")).collect::<String>(),
        "special": token.is_special,
        "span": span,
        "merges": token.merges.iter().map(|merge| [&merge.left, &merge.right]).collect::<Vec<_>>(),
    })
}

/// Indices of words alternating with probabilities; rank and probability of the last layer's choice; entropy.
fn lens_cell(cell: &LensCell, words: &mut Words) -> Value {
    let guesses: Vec<Value> = cell
        .guesses
        .iter()
        .take(LENS_GUESSES)
        .flat_map(|guess| [json!(words.number(guess)), json!(rounded(guess.probability))])
        .collect();
    json!([
        guesses,
        cell.final_rank,
        rounded(cell.final_probability),
        rounded(cell.entropy_bits)
    ])
}

/// Texts of guesses, each once.
#[derive(Default)]
struct Words {
    texts: Vec<String>,
    numbers: HashMap<u32, usize>,
}

impl Words {
    fn number(&mut self, guess: &Guess) -> usize {
        let texts = &mut self.texts;
        *self.numbers.entry(guess.id).or_insert_with(|| {
            texts.push(guess.text.clone());
            texts.len() - 1
        })
    }
}

fn pairs(guesses: &[Guess]) -> Vec<Value> {
    let pair = |guess: &Guess| json!([guess.text, rounded(guess.probability)]);
    guesses.iter().map(pair).collect()
}

/// Attention weights as bytes; for a causal model without those of later keys.
fn packed(trace: &Trace) -> Vec<u8> {
    let mut bytes = Vec::new();
    for head in trace.attention.iter().flatten() {
        for (query, row) in head.iter().enumerate() {
            let end = if trace.model.is_causal { query + 1 } else { row.len() };
            bytes.extend(bytes_of(&row[..end]));
        }
    }
    bytes
}

/// Weights in 255ths.
fn bytes_of<'a>(weights: impl IntoIterator<Item = &'a f32>) -> Vec<u8> {
    // Between 0 and 255, so only the fraction is lost.
    let weights = weights.into_iter();
    weights.map(|weight| (weight * 255.0).round() as u8).collect()
}

fn norm(row: &[f32]) -> f64 {
    row.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt()
}

/// Five decimals, which is more than the page shows.
fn rounded(value: f64) -> f64 {
    (value * 1e5).round() / 1e5
}
