//! The arithmetic of AdamW, and sums of squares for the global norm.

use burn::tensor::Tensor;

use crate::cpu;
use crate::{fused, plain};

/// One update of AdamW (Loshchilov and Hutter, 2019) with PyTorch's arithmetic.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWStep {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Which update this is, counted from 1.
    pub step: u64,
    /// What the gradient is multiplied by first (clipping).
    pub gradient_factor: f64,
}

impl AdamWStep {
    /// `1 - beta^step` for both moments.
    pub(crate) fn bias_corrections(&self) -> (f64, f64) {
        let steps = i32::try_from(self.step).unwrap_or(i32::MAX);
        (1.0 - self.beta1.powi(steps), 1.0 - self.beta2.powi(steps))
    }

    fn fused(&self) -> cpu::optimizer::AdamW {
        let (correction1, correction2) = self.bias_corrections();
        cpu::optimizer::AdamW {
            beta1: self.beta1 as f32,
            beta2: self.beta2 as f32,
            one_minus_beta1: (1.0 - self.beta1) as f32,
            one_minus_beta2: (1.0 - self.beta2) as f32,
            rate: (self.lr / correction1) as f32,
            inverse_correction2: (1.0 / correction2.sqrt()) as f32,
            eps: self.eps as f32,
            keep: (1.0 - self.lr * self.weight_decay) as f32,
            gradient_factor: self.gradient_factor as f32,
        }
    }
}

/// Value, first and second moment after one update. Memory that nobody else holds is updated in place, so give the
/// tensors away.
///
/// # Shapes
///
/// - `value` and `gradient`: any one shape; `first` and `second`: as many elements, flat
pub fn adamw<const D: usize>(
    step: &AdamWStep,
    value: Tensor<D>,
    gradient: Tensor<D>,
    first: Tensor<1>,
    second: Tensor<1>,
) -> (Tensor<D>, Tensor<1>, Tensor<1>) {
    if fused::is_fused(&value) {
        fused::adamw(step.fused(), value, gradient, first, second)
    } else {
        plain::adamw(step, value, gradient, first, second)
    }
}

/// The sum of squares of all elements, for the global norm of gradients. Two runs give equal bits, whatever the
/// number of threads.
pub fn sum_of_squares<const D: usize>(x: Tensor<D>) -> f64 {
    if fused::is_fused(&x) {
        fused::sum_of_squares(x)
    } else {
        plain::sum_of_squares(x)
    }
}
