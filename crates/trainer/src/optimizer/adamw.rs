//! AdamW (Loshchilov and Hutter 2019) with the defaults and the arithmetic of PyTorch.

use burn::tensor::Tensor;
use taal_kernels::AdamWStep;
use taal_model::ParameterInfo;

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
    /// One update. `gradient_factor` multiplies the gradient first (clipping).
    pub(super) fn update<const D: usize>(
        &self,
        parameter: &ParameterInfo,
        value: Tensor<D>,
        gradient: Tensor<D>,
        lr_factor: f64,
        gradient_factor: f64,
        state: &mut State,
    ) -> Tensor<D> {
        let (first_key, second_key) = (
            format!("{}.exp_avg", parameter.name),
            format!("{}.exp_avg_sq", parameter.name),
        );
        let step = AdamWStep {
            lr: self.lr * lr_factor,
            beta1: self.beta1,
            beta2: self.beta2,
            eps: self.eps,
            weight_decay: if parameter.role.is_decayed() {
                self.weight_decay
            } else {
                0.0
            },
            step: state.step,
            gradient_factor,
        };
        let (first, second) = (state.take(&first_key, &value), state.take(&second_key, &value));
        let (value, first, second) = taal_kernels::adamw(&step, value, gradient, first, second);
        state.put(first_key, first);
        state.put(second_key, second);
        value
    }
}
