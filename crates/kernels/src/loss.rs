//! Cross-entropy of next-token predictions, in nats.

use burn::tensor::{Int, Tensor};

use crate::{fused, plain};

/// The target that says "no loss here", as in PyTorch: padding, prompts, tokens that were not masked.
pub const IGNORE_INDEX: i32 = -100;

/// Mean cross-entropy in nats over the targets that are not `ignore_index`; 0 when all of them are.
///
/// # Shapes
///
/// - `logits`: `[n, vocab]`; `targets`: `[n]`, each in `0..vocab` or `ignore_index`; result: `[1]`.
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>, ignore_index: i32) -> Tensor<1> {
    cross_entropy_smoothed(logits, targets, ignore_index, 0.0)
}

/// [`cross_entropy`] against targets mixed with the uniform distribution (Szegedy et al., 2015; `label_smoothing`
/// in PyTorch): `(1 - smoothing)` on the target, `smoothing / vocab` on every token.
///
/// # Shapes
///
/// - `logits`: `[n, vocab]`; `targets`: `[n]`, each in `0..vocab` or `ignore_index`; result: `[1]`.
pub fn cross_entropy_smoothed(
    logits: Tensor<2>,
    targets: Tensor<1, Int>,
    ignore_index: i32,
    smoothing: f64,
) -> Tensor<1> {
    if fused::is_fused(&logits) {
        fused::cross_entropy(logits, targets, ignore_index, smoothing)
    } else {
        plain::cross_entropy_smoothed(logits, targets, ignore_index, smoothing)
    }
}

/// Negative log-likelihood in nats of each target, `ln(sum(exp(logits))) - logits[target]`.
///
/// # Shapes
///
/// - `logits`: `[n, vocab]`; `targets`: `[n]`, each in `0..vocab`; result: `[n]`.
pub fn negative_log_likelihood(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    if fused::is_fused(&logits) && !logits.is_autodiff() {
        fused::token_losses(logits, targets)
    } else {
        plain::negative_log_likelihood(logits, targets)
    }
}
