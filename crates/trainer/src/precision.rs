//! Mixed-precision training: the precision of matrix products, and the loss scale that f16 needs (Micikevicius et al.
//! 2018).
//!
//! Weights, moments, norms, softmax, loss and the update stay fp32. [`taal_kernels::Precision`] documents which
//! products do not.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use taal_kernels::{DeviceSpec, Precision};

use crate::TrainError;

/// The scale of the first step, like `init_scale` of PyTorch's `torch.amp.GradScaler`. All scales are powers of two, so
/// that multiplying and dividing by them is exact for a gradient that stays in range.
pub const INITIAL_LOSS_SCALE: f64 = 65536.0;
/// What the scale is multiplied by after [`GROWTH_INTERVAL`] steps, like `growth_factor` of `GradScaler`.
pub const GROWTH_FACTOR: f64 = 2.0;
/// What the scale is multiplied by after a step that overflows, like `backoff_factor` of `GradScaler`.
pub const BACKOFF_FACTOR: f64 = 0.5;
/// Steps without an overflow after which the scale grows, like `growth_interval` of `GradScaler`.
pub const GROWTH_INTERVAL: u64 = 2000;
/// The lower limit of the scale, like `min_loss_scale` of DeepSpeed. An overflow at this scale, which is no scaling at
/// all, is a bad step.
pub const MIN_LOSS_SCALE: f64 = 1.0;
/// The upper limit of the scale, like `max_loss_scale` of NVIDIA's Apex.
pub const MAX_LOSS_SCALE: f64 = 16_777_216.0;

/// The factor of the loss before the backward pass, so that small gradients do not become 0 in f16. It is part of every
/// checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LossScale {
    /// A power of two.
    pub scale: f64,
    /// Steps without an overflow since it last changed.
    pub good_steps: u64,
}

impl Default for LossScale {
    fn default() -> Self {
        Self {
            scale: INITIAL_LOSS_SCALE,
            good_steps: 0,
        }
    }
}

impl LossScale {
    /// Shrinks after an overflow, grows after many steps without one.
    fn note(&mut self, is_overflow: bool) {
        if is_overflow {
            self.scale = (self.scale * BACKOFF_FACTOR).max(MIN_LOSS_SCALE);
            self.good_steps = 0;
            return;
        }
        self.good_steps += 1;
        if self.good_steps == GROWTH_INTERVAL {
            self.scale = (self.scale * GROWTH_FACTOR).min(MAX_LOSS_SCALE);
            self.good_steps = 0;
        }
    }
}

/// The precision of a learner's matrix products and its loss scale. The default is fp32.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct MixedPrecision {
    /// The precision of the products of linear layers.
    pub products: Precision,
    /// Only f16 has one: bf16 has the same range as fp32.
    pub loss_scale: Option<LossScale>,
}

impl MixedPrecision {
    /// The state before the first step.
    pub fn new(products: Precision) -> Self {
        Self {
            products,
            loss_scale: (products == Precision::F16).then(LossScale::default),
        }
    }

    /// Continues with the loss scale of a checkpoint, if it has one.
    pub(crate) fn resumed(products: Precision, saved: Option<LossScale>) -> Self {
        let fresh = Self::new(products);
        Self {
            loss_scale: fresh.loss_scale.map(|scale| saved.unwrap_or(scale)),
            ..fresh
        }
    }

    /// What the loss of the next step is multiplied by; 1 without a loss scale.
    pub fn scale(&self) -> f64 {
        self.loss_scale.map_or(1.0, |loss_scale| loss_scale.scale)
    }

    /// Adapts the scale after a step.
    pub(crate) fn note(&mut self, loss: f64, grad_norm: f64) {
        // A loss that is not finite was so before scaling, so it is no reason to change the scale.
        if let (Some(loss_scale), true) = (&mut self.loss_scale, loss.is_finite()) {
            loss_scale.note(!grad_norm.is_finite());
        }
    }
}

/// Refuses a precision that the device does not support; `key` is where it was set.
pub(crate) fn check(
    precision: Precision,
    device: DeviceSpec,
    opened: &Device,
    origin: &str,
    key: &str,
) -> Result<(), TrainError> {
    if precision.is_supported(opened) {
        return Ok(());
    }
    let others: Vec<String> = [Precision::Bf16, Precision::F16, Precision::Fp32]
        .into_iter()
        .filter(|other| other.is_supported(opened))
        .map(|other| other.to_string())
        .collect();
    Err(TrainError::recipe(
        origin,
        key,
        format!("{device} does not compute in {precision}; use {}", others.join(" or ")),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loss_scale_halves_at_an_overflow_and_doubles_after_2000_good_steps() {
        let mut precision = MixedPrecision::new(Precision::F16);
        assert_eq!(precision.scale(), 65536.0);
        precision.note(1.0, f64::INFINITY);
        precision.note(1.0, f64::NAN);
        assert_eq!(precision.scale(), 16384.0);
        for _ in 0..1999 {
            precision.note(1.0, 1.0);
        }
        assert_eq!(precision.scale(), 16384.0);
        precision.note(1.0, 1.0);
        assert_eq!(
            (precision.scale(), precision.loss_scale.unwrap().good_steps),
            (32768.0, 0)
        );
        // The 2000 good steps must be in a row: an overflow restarts the count.
        (0..1999).for_each(|_| precision.note(1.0, 1.0));
        precision.note(1.0, f64::INFINITY);
        (0..1999).for_each(|_| precision.note(1.0, 1.0));
        assert_eq!(precision.scale(), 16384.0);
    }

    #[test]
    fn the_loss_scale_stays_between_1_and_2_to_the_24th() {
        let mut precision = MixedPrecision::new(Precision::F16);
        (0..99).for_each(|_| precision.note(1.0, f64::INFINITY));
        assert_eq!(precision.scale(), 1.0);
        (0..99 * GROWTH_INTERVAL).for_each(|_| precision.note(1.0, 1.0));
        assert_eq!(precision.scale(), 2.0_f64.powi(24));
    }

    #[test]
    fn only_f16_has_a_loss_scale() {
        for products in [Precision::Fp32, Precision::Bf16] {
            let mut precision = MixedPrecision::resumed(products, Some(LossScale::default()));
            precision.note(1.0, f64::INFINITY);
            assert_eq!((precision.scale(), precision.loss_scale), (1.0, None));
        }
    }
}
