//! AdamW (Loshchilov and Hutter 2019) with PyTorch's defaults and PyTorch's arithmetic.

use burn::tensor::Tensor;

use super::State;

/// AdamW's constants; the default is PyTorch's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Peak learning rate.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay, on matrices only.
    pub weight_decay: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        Self {
            lr: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.01,
        }
    }
}

impl AdamW {
    pub(super) fn update<const D: usize>(
        &self,
        name: &str,
        value: Tensor<D>,
        gradient: Tensor<D>,
        lr_factor: f64,
        state: &mut State,
    ) -> Tensor<D> {
        let lr = self.lr * lr_factor;
        let (first_key, second_key) = (format!("{name}.exp_avg"), format!("{name}.exp_avg_sq"));
        let first =
            state.take(&first_key, &value).mul_scalar(self.beta1) + gradient.clone().mul_scalar(1.0 - self.beta1);
        let second = state.take(&second_key, &value).mul_scalar(self.beta2)
            + (gradient.clone() * gradient).mul_scalar(1.0 - self.beta2);

        let steps = i32::try_from(state.step).unwrap_or(i32::MAX);
        let correction1 = 1.0 - self.beta1.powi(steps);
        let correction2 = (1.0 - self.beta2.powi(steps)).sqrt();
        let denominator = second.clone().sqrt().div_scalar(correction2).add_scalar(self.eps);
        let change = (first.clone() / denominator).mul_scalar(lr / correction1);
        state.put(first_key, first);
        state.put(second_key, second);

        // Norms, biases and other vectors are not decayed.
        let decay = if D >= 2 { self.weight_decay } else { 0.0 };
        let value = if decay > 0.0 {
            value.mul_scalar(1.0 - lr * decay)
        } else {
            value
        };
        value - change
    }
}
