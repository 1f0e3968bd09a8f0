//! Texts as vectors: the last hidden states of a model, pooled into one.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use taal_model::ForwardOptions;
use taal_tokenizer::Tokenizer;

use crate::decoder::{ids_tensor, to_host};
use crate::language_model::check_ids;
use crate::{InferenceError, LanguageModel, Result};

/// How the states of all tokens become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// Their mean, without the tokens that begin and end a text.
    #[default]
    Mean,
    /// The first one: BERT's `[CLS]`.
    Cls,
    /// The last one: all that a causal model has read.
    Last,
    /// The mean of the tokens' own vectors, before any layer: a word whatever stands around it.
    Input,
}

impl std::str::FromStr for Pooling {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "mean" => Ok(Self::Mean),
            "cls" => Ok(Self::Cls),
            "last" => Ok(Self::Last),
            "input" => Ok(Self::Input),
            other => Err(format!("unknown pooling {other:?}: expected mean, cls, last or input")),
        }
    }
}

/// The vector of a text, of length 1 and as wide as the model.
///
/// A model that sees both sides gets the tokens that begin and end a text around it, where its tokenizer has them. The mean of a text
/// that is longer than the context is taken over windows that do not overlap; the other poolings refuse such a text.
///
/// # Errors
///
/// [`InferenceError::NoTokenizer`], [`InferenceError::Setting`] for a text without a token or one too long for its pooling, the
/// tokenizer's and the model's.
pub fn embed(lm: &LanguageModel, text: &str, pooling: Pooling) -> Result<Vec<f32>> {
    let tokenizer = lm.tokenizer.as_ref().ok_or(InferenceError::NoTokenizer {
        purpose: "the vector of a text",
    })?;
    let ids = tokenizer.encode(text)?;
    check_ids(&ids, lm.model.config().vocab_size, "token id")?;
    if ids.is_empty() {
        return Err(InferenceError::setting(
            "text",
            format!("expected at least one token, got {text:?}"),
        ));
    }
    embed_ids(lm, tokenizer, &ids, pooling)
}

/// The vector of a text of at least one token; see [`embed`].
pub(crate) fn embed_ids(lm: &LanguageModel, tokenizer: &Tokenizer, ids: &[u32], pooling: Pooling) -> Result<Vec<f32>> {
    let mut sum = vec![0.0_f64; lm.model.config().d_model];
    if pooling == Pooling::Input {
        let rows = lm
            .model
            .token_embedding
            .forward(ids_tensor(ids, [1, ids.len()], &lm.model.device()));
        add_rows(&mut sum, to_host(rows)?.chunks_exact(lm.model.config().d_model));
        return Ok(of_length_1(&sum));
    }
    let is_framed = !lm.model.config().is_causal;
    let begin = tokenizer.bos_id().filter(|_| is_framed);
    let end = tokenizer.eos_id().filter(|_| is_framed);
    let room = lm.model.config().max_seq_len;
    let frame = usize::from(begin.is_some()) + usize::from(end.is_some());
    let window = room.saturating_sub(frame).max(1);
    if pooling != Pooling::Mean && ids.len() > window {
        return Err(InferenceError::setting(
            "text",
            format!(
                "expected at most {window} tokens with this pooling, got {}; pool by mean",
                ids.len()
            ),
        ));
    }
    for part in ids.chunks(window) {
        let mut framed: Vec<u32> = Vec::with_capacity(part.len() + frame);
        framed.extend(begin);
        framed.extend(part);
        framed.extend(end);
        let states = taal_kernels::on_pool(&lm.model.device(), || hidden(lm, &framed))?; // seq * d_model
        let rows: Vec<&[f32]> = states.chunks_exact(sum.len()).collect();
        let first = usize::from(begin.is_some());
        let chosen = match pooling {
            Pooling::Mean => &rows[first..first + part.len()],
            Pooling::Cls => &rows[..1],
            // Of a framed text the last token is the one that ends it.
            Pooling::Last | Pooling::Input => &rows[rows.len() - 1..],
        };
        add_rows(&mut sum, chosen.iter().copied());
    }
    Ok(of_length_1(&sum))
}

fn add_rows<'a>(sum: &mut [f64], rows: impl Iterator<Item = &'a [f32]>) {
    for row in rows {
        for (sum, value) in sum.iter_mut().zip(row) {
            *sum += f64::from(*value);
        }
    }
}

fn of_length_1(sum: &[f64]) -> Vec<f32> {
    let norm = sum.iter().map(|value| value * value).sum::<f64>().sqrt();
    sum.iter()
        .map(|value| (value / norm.max(f64::MIN_POSITIVE)) as f32)
        .collect()
}

/// # Shapes
///
/// - output: `[seq, d_model]`, row by row
fn hidden(lm: &LanguageModel, ids: &[u32]) -> Result<Vec<f32>> {
    let inputs = ids_tensor(ids, [1, ids.len()], &lm.model.device());
    let states: Tensor<3> = lm.model.forward_with(inputs, ForwardOptions::default())?.hidden;
    to_host(states)
}

/// The cosine of the angle between two vectors of length 1.
pub fn similarity(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}
