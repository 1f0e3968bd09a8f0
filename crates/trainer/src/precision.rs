//! Mixed-precision training: the precision of matrix products, and the loss scale that f16 needs (Micikevicius et al.
//! 2018).
//!
//! Weights, moments, norms, softmax, loss and the update stay fp32. [`taal_kernels::Precision`] documents which
//! products do not.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use taal_kernels::{DeviceSpec, KernelError, Precision, bf16_speedup};

use crate::TrainError;
use crate::progress::Progress;

/// What `train.precision` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PrecisionChoice {
    /// This one.
    Fixed(Precision),
    /// bf16 where a product in it is faster on this machine, as measured when the run starts; else fp32.
    Auto,
}

/// [`PrecisionChoice::Auto`] as it is typed.
const AUTO: &str = "auto";

impl Default for PrecisionChoice {
    fn default() -> Self {
        Self::Fixed(Precision::default())
    }
}

impl fmt::Display for PrecisionChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(precision) => precision.fmt(formatter),
            Self::Auto => formatter.write_str(AUTO),
        }
    }
}

impl FromStr for PrecisionChoice {
    type Err = KernelError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            AUTO => Ok(Self::Auto),
            _ => text.parse().map(Self::Fixed),
        }
    }
}

impl PrecisionChoice {
    /// Whether everything is computed in fp32 on every machine.
    pub(crate) fn is_fp32(self) -> bool {
        self == Self::default()
    }

    /// What to compute in: of a run that is resumed what it was begun with, which this machine must have.
    pub(crate) fn settle(
        self,
        begun_with: Option<Precision>,
        device: DeviceSpec,
        opened: &Device,
        origin: &str,
        progress: &mut dyn Progress,
    ) -> Result<Precision, TrainError> {
        let precision = match (self, begun_with) {
            (Self::Fixed(precision), _) => precision,
            (Self::Auto, Some(precision)) => kept(precision, precision.is_supported(opened), device, origin)?,
            (Self::Auto, None) => {
                let (precision, why) = fastest(opened);
                progress.note(&format!("{KEY} = \"{AUTO}\": {precision}, {why}"));
                precision
            }
        };
        Ok(precision)
    }
}

/// A precision in a file is its name.
pub(crate) mod by_name {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use taal_kernels::Precision;

    pub(crate) fn serialize<S: Serializer>(precision: &Option<Precision>, serializer: S) -> Result<S::Ok, S::Error> {
        precision.map(|precision| precision.to_string()).serialize(serializer)
    }

    pub(crate) fn deserialize<'a, D: Deserializer<'a>>(deserializer: D) -> Result<Option<Precision>, D::Error> {
        let name = Option::<String>::deserialize(deserializer)?;
        name.map(|name| name.parse().map_err(D::Error::custom)).transpose()
    }
}

/// The key that asks for a precision.
pub(crate) const KEY: &str = "train.precision";

/// What a run was begun with, where the machine has it: nothing else would go on to the same weights.
fn kept(precision: Precision, is_supported: bool, device: DeviceSpec, origin: &str) -> Result<Precision, TrainError> {
    if is_supported {
        return Ok(precision);
    }
    let detail = format!(
        "this run was begun in {precision}, in which {device} does not compute on this machine; resume it where it does, or start a new \
         run (train.init_from takes over the weights)"
    );
    Err(TrainError::recipe(origin, KEY, detail))
}

/// fp32, or bf16 where a product in it is faster; and why.
fn fastest(opened: &Device) -> (Precision, String) {
    match bf16_speedup(opened) {
        Some(speedup) if speedup > 1.0 => (
            Precision::Bf16,
            format!("in which a product takes 1/{speedup:.1} of the time here"),
        ),
        Some(_) => (Precision::Fp32, "because bf16 is not faster here".to_string()),
        None => (
            Precision::Fp32,
            "because this device has no kernels for bf16".to_string(),
        ),
    }
}

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
    choice: PrecisionChoice,
    device: DeviceSpec,
    opened: &Device,
    origin: &str,
    key: &str,
) -> Result<(), TrainError> {
    let precision = match choice {
        PrecisionChoice::Fixed(precision) if !precision.is_supported(opened) => precision,
        _ => return Ok(()),
    };
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
    fn a_run_that_chose_bf16_is_refused_where_the_machine_has_none() {
        let resume = |is_supported| kept(Precision::Bf16, is_supported, DeviceSpec::Flex, "tiny.toml");
        assert_eq!(resume(true).unwrap(), Precision::Bf16);
        let error = resume(false).unwrap_err();
        assert_eq!(error.kind(), taal_store::ErrorKind::Usage);
        let message = error.to_string();
        assert!(
            ["tiny.toml", KEY, "bf16", "flex", "train.init_from"]
                .iter()
                .all(|word| message.contains(word)),
            "{message}"
        );
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
