//! Cross-entropy of next-token predictions, in nats.

mod autodiff;
mod cpu;
#[cfg(feature = "cubecl")]
mod gpu;
#[cfg(any(feature = "cubecl", test))]
mod pieces;
mod products;
pub(crate) mod reference;

use burn::tensor::{Int, Tensor};

use crate::backend::Backend;
use crate::precision;

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
    match Backend::of(&logits) {
        Backend::Flex => autodiff::cross_entropy(logits, targets, ignore_index, smoothing),
        #[cfg(feature = "cubecl")]
        Backend::Gpu => reference::cross_entropy_smoothed(logits, targets, ignore_index, smoothing),
        Backend::Other => reference::cross_entropy_smoothed(logits, targets, ignore_index, smoothing),
    }
}

/// Mean cross-entropy in nats of the logits `hidden W` over the targets that are not `ignore_index`, as
/// [`cross_entropy_smoothed`] of them; 0 when all are ignored.
///
/// With [`Precision::Bf16`](crate::Precision) on the CPU the three products with hidden states, matrix and the logits' gradient are in
/// bfloat16; the logits, their softmax and the loss are not.
///
/// A kernel holds at most 64 MiB of logits at a time (256 MiB on a GPU), and none after the forward pass: the gradients
/// are computed with the loss.
///
/// # Shapes
///
/// - `hidden`: `[n, d_model]`; `weight`: `[d_model, vocab]`, or `[vocab, d_model]` where it `is_transposed`;
///   `targets`: `[n]`, each in `0..vocab` or `ignore_index`; result: `[1]`
pub fn linear_cross_entropy(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    is_transposed: bool,
    targets: Tensor<1, Int>,
    ignore_index: i32,
    smoothing: f64,
) -> Tensor<1> {
    match Backend::of(&hidden) {
        Backend::Flex => {
            autodiff::linear_cross_entropy(hidden, weight, is_transposed, targets, ignore_index, smoothing)
        }
        #[cfg(feature = "cubecl")]
        Backend::Gpu => gpu::linear_cross_entropy(hidden, weight, is_transposed, targets, ignore_index, smoothing),
        Backend::Other if precision::is_bf16(&hidden) => {
            reference::linear_cross_entropy_bf16(hidden, weight, is_transposed, targets, ignore_index, smoothing)
        }
        Backend::Other => {
            reference::linear_cross_entropy(hidden, weight, is_transposed, targets, ignore_index, smoothing)
        }
    }
}

/// Negative log-likelihood in nats of each target, `ln(sum(exp(logits))) - logits[target]`.
///
/// # Shapes
///
/// - `logits`: `[n, vocab]`; `targets`: `[n]`, each in `0..vocab`; result: `[n]`.
pub fn negative_log_likelihood(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    match Backend::of(&logits) {
        // This kernel has no backward pass.
        Backend::Flex if !logits.is_autodiff() => autodiff::token_losses(logits, targets),
        Backend::Flex => reference::negative_log_likelihood(logits, targets),
        #[cfg(feature = "cubecl")]
        Backend::Gpu => reference::negative_log_likelihood(logits, targets),
        Backend::Other => reference::negative_log_likelihood(logits, targets),
    }
}
