//! The log-likelihood of token ids, from which loss, perplexity and bits per byte follow.

use std::convert::Infallible;
use std::ops::{ControlFlow, Range};

use serde::{Deserialize, Serialize};
use taal_inference::{InferenceError, Probe, Rows, check_causal, check_ids, losses};
use taal_model::Transformer;

use crate::{EvaluationError, Result};

/// Default tokens per forward pass: enough to keep the device busy.
const TOKENS_AT_ONCE: usize = 4096;

/// The summed negative log-likelihood of some tokens. Scores can be added, so files are scored separately and reported together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Negative log-likelihood, summed, in nats.
    pub nats: f64,
    /// How many tokens were scored.
    pub tokens: u64,
}

impl Score {
    /// Nats per token; NaN without tokens.
    pub fn loss(&self) -> f64 {
        self.nats / self.tokens as f64
    }
}

impl Score {
    /// Checks that the score is finite.
    ///
    /// # Errors
    ///
    /// [`InferenceError::NotFinite`].
    pub(crate) fn finite(self, name: &str) -> Result<Self> {
        match self.nats.is_finite() {
            true => Ok(self),
            false => Err(InferenceError::NotFinite {
                what: format!("the model's loss on {name} is {}, which is", self.nats),
            }
            .into()),
        }
    }
}

impl std::ops::Add for Score {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            nats: self.nats + other.nats,
            tokens: self.tokens + other.tokens,
        }
    }
}

/// The default number of windows per forward pass.
pub fn default_batch_size(window: usize) -> usize {
    (TOKENS_AT_ONCE / window.max(1)).max(1)
}

/// Scores ids in windows of the model's context, `batch_size` windows at a time; see [`score_windows`].
///
/// # Errors
///
/// As [`score_windows`].
pub fn score_ids(model: &Transformer, ids: &[u32], batch_size: usize) -> Result<Score> {
    let read = |range: Range<usize>| ids[range].to_vec();
    score_windows(model, ids.len(), model.config().max_seq_len, batch_size, read)
}

/// Scores a source of `len` ids, of which `read` returns any range.
///
/// Every id but the first is predicted once, from the ids before it in its window. The windows have `window` inputs,
/// do not overlap, and the last one may be short: window `k` reads ids `k * window ..` and predicts ids
/// `k * window + 1 ..`. So `len` ids give a score over `len - 1` tokens, and fewer than 2 ids a score over no tokens.
///
/// The sum is in f64 and in the order of the ids, so equal arguments give equal bits. Pass a model without autodiff (`model.valid()`).
///
/// # Errors
///
/// [`InferenceError::Setting`] where `window` is not in `1..=max_seq_len` or `batch_size` is 0, [`InferenceError::NotCausal`],
/// [`InferenceError::UnknownId`], [`EvaluationError::Source`] where `read` returns the wrong number of ids,
/// [`InferenceError::Device`]. Loss that is not finite is not an error here.
pub fn score_windows(
    model: &Transformer,
    len: usize,
    window: usize,
    batch_size: usize,
    mut read: impl FnMut(Range<usize>) -> Vec<u32>,
) -> Result<Score> {
    let read = |range| ControlFlow::<Infallible, _>::Continue(read(range));
    match try_score_windows(model, len, window, batch_size, read)? {
        ControlFlow::Continue(score) => Ok(score),
        ControlFlow::Break(never) => match never {},
    }
}

/// As [`score_windows`], until `read`, which is called once per batch, breaks.
///
/// # Errors
///
/// As [`score_windows`].
pub fn try_score_windows<B>(
    model: &Transformer,
    len: usize,
    window: usize,
    batch_size: usize,
    mut read: impl FnMut(Range<usize>) -> ControlFlow<B, Vec<u32>>,
) -> Result<ControlFlow<B, Score>> {
    check_causal(model, "scoring text")?;
    let limit = model.config().max_seq_len;
    if window == 0 || window > limit {
        return Err(EvaluationError::setting(
            "window",
            format!("expected 1 to {limit} tokens, the model's context, got {window}"),
        ));
    }
    if batch_size == 0 {
        return Err(EvaluationError::setting(
            "batch_size",
            "expected at least 1 window at a time, got 0",
        ));
    }
    let scored = len.saturating_sub(1);
    let mut score = Score {
        nats: 0.0,
        tokens: scored as u64,
    };
    let mut start = 0;
    while start < scored {
        // Full windows are rows of one batch; the short last one is scored alone.
        let left = scored - start;
        let [rows, width] = if left < window {
            [1, left]
        } else {
            [batch_size.min(left / window), window]
        };
        let end = start + rows * width + 1;
        let ids = match read(start..end) {
            ControlFlow::Continue(ids) => ids,
            ControlFlow::Break(reason) => return Ok(ControlFlow::Break(reason)),
        };
        if ids.len() != end - start {
            return Err(EvaluationError::Source {
                start,
                end,
                given: ids.len(),
            });
        }
        check_ids(&ids, model.config().vocab_size, "token id")?;
        let rows = Rows::new(&ids[..rows * width], width);
        let blocks = Probe::new(model).ask(&rows, None, |logits, places| {
            let targets = ids[1..][places].iter().map(|&id| id as i32);
            // Not checked here, since training continues when an evaluation is not finite; other callers check.
            Ok(losses(logits, targets)?.into_iter().map(f64::from).sum::<f64>())
        })?;
        score.nats += blocks.iter().sum::<f64>();
        start = end - 1;
    }
    Ok(ControlFlow::Continue(score))
}
