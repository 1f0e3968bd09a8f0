//! Softmax cross-entropy with its gradient, and the same together with the output matrix in chunks of rows.

use super::products::{Hidden, Rows};
use crate::cpu::math::{exp, max, sum};
use crate::cpu::matmul::Write;
use crate::cpu::{parallel, uninitialized, vectorized};

/// How many logits are held at a time by [`linear_cross_entropy`]: 64 MiB.
const CHUNK_LOGITS: usize = 1 << 24;

/// How targets are read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Settings {
    pub(crate) vocab: usize,
    pub(crate) ignore_index: i32,
    pub(crate) smoothing: f32,
}

vectorized! {
    /// The loss of a row, and where `slope` is given, the logits replaced by their gradient times it.
    fn row_loss<'a>(logits: &'a mut [f32], target: usize, smoothing: f32, slope: Option<f32>) -> f32 {
        let largest = max(logits);
        let largest = if largest.is_finite() { largest } else { 0.0 };
        let picked = logits[target] - largest;
        let level = if smoothing > 0.0 {
            sum(logits, |x| x - largest) / logits.len() as f32
        } else {
            0.0
        };
        let vocab = logits.len() as f32;
        let log_sum = match slope {
            None => sum(logits, |x| exp(x - largest)).ln(),
            Some(slope) => {
                for x in logits.iter_mut() {
                    *x = exp(*x - largest);
                }
                let total = sum(logits, |x| x);
                let scale = slope / total;
                let uniform = slope * smoothing / vocab;
                for x in logits.iter_mut() {
                    *x = *x * scale - uniform;
                }
                logits[target] -= slope * (1.0 - smoothing);
                total.ln()
            }
        };
        log_sum - (1.0 - smoothing) * picked - smoothing * level
    }
}

/// How many targets count.
pub(crate) fn counted(targets: &[i32], settings: Settings) -> usize {
    targets
        .iter()
        .filter(|target| **target != settings.ignore_index)
        .count()
}

/// The loss of each row in nats, 0 where the target is ignored; where `slope` is given, `logits` become their own
/// gradient times it.
pub(crate) fn rows(logits: &mut [f32], targets: &[i32], settings: Settings, slope: Option<f32>) -> Vec<f32> {
    rows_then(logits, targets, settings, slope, |_| ())
}

/// As [`rows`], and calls `work` with each row while it is in the cache.
fn rows_then(
    logits: &mut [f32],
    targets: &[i32],
    settings: Settings,
    slope: Option<f32>,
    work: impl Fn(&mut [f32]) + Sync + Send,
) -> Vec<f32> {
    let vocab = settings.vocab;
    let mut losses = uninitialized(targets.len());
    let logits = parallel::Parts::new(logits);
    let loss_parts = parallel::Parts::new(&mut losses);
    let per_task = parallel::rows_per_task(targets.len(), vocab);
    parallel::for_each(targets.len().div_ceil(per_task), |task| {
        let first = task * per_task;
        let count = per_task.min(targets.len() - first);
        // SAFETY: tasks have different rows.
        let (losses, logits) = unsafe { (loss_parts.part(first, count), logits.part(first * vocab, count * vocab)) };
        let rows = logits.chunks_exact_mut(vocab).zip(&targets[first..first + count]);
        for (loss, (logits, target)) in losses.iter_mut().zip(rows) {
            *loss = if *target == settings.ignore_index {
                if slope.is_some() {
                    logits.fill(0.0);
                }
                0.0
            } else {
                row_loss(logits, index(*target, vocab), settings.smoothing, slope)
            };
            work(logits);
        }
    });
    losses
}

/// A target as an index; outside the vocabulary it is the caller's bug, found before anything is read.
fn index(target: i32, vocab: usize) -> usize {
    let index = usize::try_from(target).unwrap_or(usize::MAX);
    assert!(index < vocab, "target {target} is outside of the vocabulary of {vocab}");
    index
}

/// The sum of losses in double precision, in order.
pub(crate) fn total(losses: &[f32]) -> f64 {
    losses.iter().map(|loss| f64::from(*loss)).sum()
}

/// The output matrix: `[d_model, vocab]`, or `[vocab, d_model]` where it is the tied embedding.
#[derive(Clone, Copy)]
pub(crate) struct OutputMatrix<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) is_transposed: bool,
}

/// What [`linear_cross_entropy`] found: the mean loss, and the gradients of it for hidden states and matrix that were asked for.
pub(crate) struct LinearLoss {
    pub(crate) loss: f32,
    pub(crate) dhidden: Option<Vec<f32>>,
    pub(crate) dweight: Option<Vec<f32>>,
}

/// Which gradients [`linear_cross_entropy`] computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gradients {
    None,
    /// Of a frozen output matrix there is none.
    OfHidden,
    OfBoth,
}

/// Mean cross-entropy of `hidden W`, `hidden` having `width` columns, never holding more than
/// [`CHUNK_LOGITS`] logits. Gradients are computed on the way, because the logits are gone afterwards. Products are in
/// bfloat16 where `is_half`; losses and slopes are not.
pub(crate) fn linear_cross_entropy(
    hidden: &[f32],
    width: usize,
    matrix: OutputMatrix<'_>,
    targets: &[i32],
    settings: Settings,
    gradients: Gradients,
    is_half: bool,
) -> LinearLoss {
    let needs_gradients = gradients != Gradients::None;
    let vocab = settings.vocab;
    let rows_at_once = (CHUNK_LOGITS / vocab).clamp(1, targets.len().max(1));
    let counted = counted(targets, settings).max(1);
    let slope = needs_gradients.then_some(1.0 / counted as f32);
    let mut logits = uninitialized(rows_at_once * vocab);
    let mut dhidden = needs_gradients.then(|| uninitialized(hidden.len()));
    let mut dweights = (gradients == Gradients::OfBoth).then(|| uninitialized(matrix.values.len()));
    let hidden = Hidden::new(hidden, is_half);
    let mut total_loss = 0.0;
    let mut write = Write::Replace;
    for first in (0..targets.len()).step_by(rows_at_once) {
        let count = rows_at_once.min(targets.len() - first);
        let rows = Rows {
            first,
            count,
            width,
            vocab,
        };
        let targets = &targets[first..first + count];
        let logits = &mut logits[..count * vocab];
        hidden.logits(rows, matrix, logits);
        let prepare = |slopes: &mut [f32]| {
            if needs_gradients {
                hidden.prepare(slopes);
            }
        };
        total_loss += total(&rows_then(logits, targets, settings, slope, prepare));
        if let Some(dhidden) = &mut dhidden {
            hidden.gradients(rows, matrix, logits, dhidden, dweights.as_deref_mut(), write);
        }
        write = Write::Add;
    }
    if targets.is_empty()
        && let Some(dweights) = &mut dweights
    {
        dweights.fill(0.0);
    }
    LinearLoss {
        loss: (total_loss / counted as f64) as f32,
        dhidden,
        dweight: dweights,
    }
}
