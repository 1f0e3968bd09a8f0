//! Texts as vectors: the last hidden states of a model, pooled into one.

use serde::{Deserialize, Serialize};
use taal_tokenizer::{Frame, Tokenizer};

use crate::probe::{Probe, Rows, to_host};
use crate::sentence::SentenceConfig;
use crate::{InferenceError, LanguageModel, Result};

/// How the states of all tokens become one vector. As in sentence-transformers, the tokens that begin and end a text are included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// Their mean.
    #[default]
    Mean,
    /// The first one: BERT's `[CLS]`.
    Cls,
    /// The maximum of each coordinate.
    Max,
    /// The last one, for causal models.
    Last,
    /// Their sum divided by the square root of their number.
    MeanSqrtLen,
    /// Their mean, weighted 1, 2, 3 and so on (SGPT, Muennighoff 2022).
    WeightedMean,
    /// The mean of the token embeddings, without the tokens that begin and end a text; does not depend on context.
    Input,
}

impl std::str::FromStr for Pooling {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "mean" => Ok(Self::Mean),
            "cls" => Ok(Self::Cls),
            "max" => Ok(Self::Max),
            "last" => Ok(Self::Last),
            "input" => Ok(Self::Input),
            other => Err(format!(
                "unknown pooling {other:?}: expected mean, cls, max, last or input"
            )),
        }
    }
}

/// The vector of a text.
///
/// `pooling` defaults to that of the model's `modules.json`, or to the mean without that file. Without it, the vector is as wide as the
/// model and has length 1; with it, the vector has length 1 if the file names Normalize, and several poolings are concatenated.
///
/// The tokenizer's post-processor adds special tokens; without one, bidirectional models get [`Tokenizer::frame`]. With a
/// `modules.json`, a text longer than `max_seq_length` or the context is truncated, as in sentence-transformers; [`cut_tokens`] returns
/// by how much. Otherwise the mean of a longer text is taken over windows that do not overlap, and the other poolings refuse it.
///
/// # Errors
///
/// [`InferenceError::NoTokenizer`], [`InferenceError::Setting`] for a text without a token, a text too long for its pooling, or
/// an unsupported `modules.json`; [`InferenceError::NotFinite`], the tokenizer's and the model's.
pub fn embed(lm: &LanguageModel, text: &str, pooling: impl Into<Option<Pooling>>) -> Result<Vec<f32>> {
    let (tokenizer, ids) = text_ids(lm, text)?;
    embed_ids(lm, tokenizer, &ids, pooling.into())
}

/// The number of tokens of a text that [`embed`] truncates.
///
/// # Errors
///
/// As [`embed`].
pub fn cut_tokens(lm: &LanguageModel, text: &str) -> Result<usize> {
    let (tokenizer, ids) = text_ids(lm, text)?;
    let plan = Plan::new(lm, tokenizer, None)?;
    Ok(ids.len() - plan.kept(&ids).len())
}

fn text_ids<'a>(lm: &'a LanguageModel, text: &str) -> Result<(&'a Tokenizer, Vec<u32>)> {
    let tokenizer = lm.tokenizer.as_ref().ok_or(InferenceError::NoTokenizer {
        purpose: "the vector of a text",
    })?;
    let text = lm.normalized(text);
    let ids = match config(lm)? {
        Some(config) if config.is_lowercase => tokenizer.encode(&text.to_lowercase())?,
        _ => tokenizer.encode(&text)?,
    };
    lm.check_ids(&ids, "token id")?;
    if ids.is_empty() {
        return Err(InferenceError::setting(
            "text",
            format!("expected at least one token, got {}", taal_store::excerpt(&text)),
        ));
    }
    Ok((tokenizer, ids))
}

/// The model directory's sentence configuration.
fn config(lm: &LanguageModel) -> Result<Option<&SentenceConfig>> {
    match &lm.sentence {
        None => Ok(None),
        Some(Ok(config)) => Ok(Some(config)),
        Some(Err(detail)) => Err(InferenceError::setting("modules.json", detail.clone())),
    }
}

/// How a vector is made.
struct Plan {
    poolings: Vec<Pooling>,
    is_normalized: bool,
    frame: Frame,
    /// Tokens of a text that fit the context inside the frame.
    window: usize,
    /// Tokens of a text that are read; `None` where longer texts are read in windows.
    most: Option<usize>,
}

impl Plan {
    fn new(lm: &LanguageModel, tokenizer: &Tokenizer, pooling: Option<Pooling>) -> Result<Self> {
        let config = config(lm)?;
        let frame = match lm.model.config().is_causal {
            true => tokenizer.template(),
            false => tokenizer.frame(),
        };
        let inside = |room: usize| room.saturating_sub(frame.len()).max(1);
        let window = inside(lm.model.config().max_seq_len);
        let of_files = || config.map_or(vec![Pooling::Mean], |config| config.poolings.clone());
        Ok(Self {
            poolings: pooling.map_or_else(of_files, |pooling| vec![pooling]),
            is_normalized: config.is_none_or(|config| config.is_normalized),
            window,
            most: config.map(|config| config.max_tokens.map_or(window, |most| inside(most).min(window))),
            frame,
        })
    }

    fn kept<'a>(&self, ids: &'a [u32]) -> &'a [u32] {
        &ids[..self.most.unwrap_or(ids.len()).min(ids.len())]
    }
}

/// The vector of the ids of a text, of at least one and without special tokens; see [`embed`].
///
/// # Errors
///
/// As [`embed`].
pub fn embed_ids(lm: &LanguageModel, tokenizer: &Tokenizer, ids: &[u32], pooling: Option<Pooling>) -> Result<Vec<f32>> {
    let plan = Plan::new(lm, tokenizer, pooling)?;
    let ids = plan.kept(ids);
    let width = lm.model.config().d_model;
    if plan.poolings == [Pooling::Input] {
        let ids = Rows::new(ids, ids.len()).tensor(&lm.model.device());
        let rows = to_host(lm.model.embeddings.tokens.forward(ids))?;
        let rows: Vec<&[f32]> = rows.chunks_exact(width).collect();
        return finished(pooled(&rows, Pooling::Mean), plan.is_normalized);
    }
    if plan.poolings != [Pooling::Mean] && ids.len() > plan.window {
        return Err(InferenceError::setting(
            "text",
            format!(
                "expected at most {} tokens with this pooling, got {}; pool by mean",
                plan.window,
                ids.len()
            ),
        ));
    }
    let mut states = Vec::new();
    for part in ids.chunks(plan.window) {
        let framed = plan.frame.around(part);
        lm.check_ids(&framed, "token id")?;
        states.extend(Probe::new(&lm.model).hidden(&Rows::new(&framed, framed.len()))?); // seq * d_model
    }
    let rows: Vec<&[f32]> = states.chunks_exact(width).collect();
    let vectors = plan.poolings.iter().map(|pooling| pooled(&rows, *pooling));
    finished(vectors.collect::<Vec<_>>().concat(), plan.is_normalized)
}

/// Pools the states of at least one token.
fn pooled(rows: &[&[f32]], pooling: Pooling) -> Vec<f64> {
    let count = rows.len() as f64;
    let [first, last] = [rows[0], rows[rows.len() - 1]];
    let wide = |row: &[f32]| row.iter().map(|value| f64::from(*value)).collect();
    match pooling {
        Pooling::Cls => wide(first),
        Pooling::Last => wide(last),
        Pooling::Max => {
            let mut most: Vec<f64> = wide(first);
            for row in rows {
                for (most, value) in most.iter_mut().zip(*row) {
                    *most = most.max(f64::from(*value));
                }
            }
            most
        }
        Pooling::Mean | Pooling::Input => weighted_sum(rows, |_| 1.0 / count),
        Pooling::MeanSqrtLen => weighted_sum(rows, |_| 1.0 / count.sqrt()),
        Pooling::WeightedMean => {
            let all = count * (count + 1.0) / 2.0;
            weighted_sum(rows, |index| (index + 1) as f64 / all)
        }
    }
}

fn weighted_sum(rows: &[&[f32]], weight: impl Fn(usize) -> f64) -> Vec<f64> {
    let mut sum = vec![0.0; rows[0].len()];
    for (index, row) in rows.iter().enumerate() {
        let weight = weight(index);
        for (sum, value) in sum.iter_mut().zip(*row) {
            *sum += weight * f64::from(*value);
        }
    }
    sum
}

fn finished(vector: Vec<f64>, is_normalized: bool) -> Result<Vec<f32>> {
    if vector.iter().any(|value| !value.is_finite()) {
        return Err(InferenceError::NotFinite {
            what: "the numbers of the vector are".to_owned(),
        });
    }
    let norm = match is_normalized {
        true => vector.iter().map(|value| value * value).sum::<f64>().sqrt(),
        false => 1.0,
    };
    Ok(vector
        .iter()
        .map(|value| (value / norm.max(f64::MIN_POSITIVE)) as f32)
        .collect())
}

/// The cosine of the angle between two vectors; 0 where one of them is zero.
pub fn similarity(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum() };
    let norms = (dot(a, a) * dot(b, b)).sqrt();
    match norms > 0.0 {
        true => dot(a, b) / norms,
        false => 0.0,
    }
}
