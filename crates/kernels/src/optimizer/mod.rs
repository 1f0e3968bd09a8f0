//! The arithmetic of AdamW and Muon, and sums of squares for the global norm.

pub(crate) mod cpu;
mod flex;
#[cfg(feature = "cubecl")]
mod gpu;
pub(crate) mod reference;

use burn::tensor::Tensor;

use crate::backend::Backend;
use crate::precision::Precision;

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

    fn constants(&self) -> cpu::AdamW {
        let (correction1, correction2) = self.bias_corrections();
        cpu::AdamW {
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

/// Value, first and second moment after one update. Memory that is not shared is updated in place, so pass
/// the tensors without keeping a clone.
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
    match Backend::of(&value) {
        Backend::Flex => flex::adamw(step.constants(), value, gradient, first, second),
        #[cfg(feature = "cubecl")]
        Backend::Gpu => gpu::adamw(step.constants(), value, gradient, first, second),
        Backend::Other => reference::adamw(step, value, gradient, first, second),
    }
}

/// The sum of squares of all elements, for the global norm of gradients. Two runs give equal bits, whatever the
/// number of threads.
pub fn sum_of_squares<const D: usize>(x: Tensor<D>) -> f64 {
    match Backend::of(&x) {
        Backend::Flex => flex::sum_of_squares(x),
        #[cfg(feature = "cubecl")]
        Backend::Gpu => reference::sum_of_squares(x),
        Backend::Other => reference::sum_of_squares(x),
    }
}

/// One update of Muon (Jordan et al., 2024): momentum whose update is brought near to the nearest orthogonal matrix.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MuonStep {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the momentum.
    pub momentum: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Newton-Schulz iterations.
    pub iterations: usize,
    /// What the gradient is multiplied by first (clipping).
    pub gradient_factor: f64,
}

impl MuonStep {
    /// `sqrt(max(1, out / in))`: wide and tall matrices are to change their outputs alike.
    pub(crate) fn scale_of(&self, d_input: usize, d_output: usize) -> f64 {
        (d_output as f64 / d_input as f64).max(1.0).sqrt()
    }

    fn constants(&self) -> cpu::muon::Muon {
        cpu::muon::Muon {
            lr: self.lr as f32,
            momentum: self.momentum as f32,
            keep: (1.0 - self.lr * self.weight_decay) as f32,
            gradient_factor: self.gradient_factor as f32,
            iterations: self.iterations,
        }
    }
}

/// A matrix and what [`muon`] updates it with.
///
/// # Shapes
///
/// - `value` and `gradient`: `[d_input, d_output]`; `momentum`: as many elements, flat
#[derive(Debug, Clone)]
pub struct MuonMatrix {
    /// Cuts the columns into matrices that are orthogonalized separately (query, key and value of a fused
    /// projection); their sum is `d_output`.
    pub widths: Vec<usize>,
    /// The weights.
    pub value: Tensor<2>,
    /// Their gradient.
    pub gradient: Tensor<2>,
    /// Their momentum.
    pub momentum: Tensor<1>,
}

/// Value and momentum of each matrix after one update. All matrices of a model go together, because that is how they
/// are shared out among threads. Memory that is not shared is updated in place.
///
/// On the CPU with [`Precision::Bf16`](crate::Precision::Bf16) the products of the Newton-Schulz iteration round their
/// operands to bfloat16, as Keller Jordan's do; momentum and weights stay in single precision.
pub fn muon(step: &MuonStep, matrices: Vec<MuonMatrix>) -> Vec<(Tensor<2>, Tensor<1>)> {
    // The kernel takes all of them or none.
    let mut backends = matrices.iter().map(|matrix| Backend::of(&matrix.value));
    match backends
        .find(|backend| *backend != Backend::Flex)
        .unwrap_or(Backend::Flex)
    {
        Backend::Flex => {
            let in_bf16 = Precision::current() == Precision::Bf16;
            flex::muon(step.constants(), in_bf16, matrices)
        }
        #[cfg(feature = "cubecl")]
        Backend::Gpu => reference::muon(step, matrices),
        Backend::Other => reference::muon(step, matrices),
    }
}

/// The Newton-Schulz iteration of degree five with Keller Jordan's coefficients: singular values move to about 1 (0.7
/// to 1.2), singular vectors stay.
///
/// # Shapes
///
/// - `x` and result: `[rows, columns]`
pub fn orthogonalize(x: Tensor<2>, iterations: usize) -> Tensor<2> {
    match Backend::of(&x) {
        Backend::Flex => flex::orthogonalize(x, iterations),
        #[cfg(feature = "cubecl")]
        Backend::Gpu => reference::orthogonalize(x, iterations),
        Backend::Other => reference::orthogonalize(x, iterations),
    }
}
