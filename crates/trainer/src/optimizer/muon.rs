//! Muon (Jordan et al. 2024): momentum whose update is brought near to the nearest orthogonal matrix.
//!
//! Burn has a Muon too; its scaling reads `[out, in]` weights while Burn's own lie `[in, out]`, so this is ours.

use burn::tensor::Tensor;

use super::State;

/// Muon's constants; the default is Keller Jordan's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Muon {
    /// Peak learning rate.
    pub lr: f64,
    /// Decay of the momentum.
    pub momentum: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Newton-Schulz iterations.
    pub iterations: usize,
}

impl Default for Muon {
    fn default() -> Self {
        Self {
            lr: 0.02,
            momentum: 0.95,
            weight_decay: 0.0,
            iterations: 5,
        }
    }
}

impl Muon {
    /// `widths` cuts the columns into matrices that are orthogonalised each for itself.
    pub(super) fn update(
        &self,
        name: &str,
        value: Tensor<2>,
        gradient: Tensor<2>,
        widths: &[usize],
        lr_factor: f64,
        state: &mut State,
    ) -> Tensor<2> {
        let lr = self.lr * lr_factor;
        let key = format!("{name}.momentum_buffer");
        let momentum: Tensor<2> = state.take(&key, &value).reshape(value.dims());
        let momentum = momentum.mul_scalar(self.momentum) + gradient.clone().mul_scalar(1.0 - self.momentum);
        // Nesterov's look-ahead: the step that the momentum would take next.
        let direction = gradient.mul_scalar(1.0 - self.momentum) + momentum.clone().mul_scalar(self.momentum);
        state.put(key, momentum.reshape([value.dims().iter().product::<usize>()]));

        let mut from = 0;
        let mut changes = Vec::with_capacity(widths.len());
        for width in widths {
            let part = direction.clone().narrow(1, from, *width);
            changes.push(self.change(part));
            from += width;
        }
        let change = if changes.len() == 1 {
            changes.remove(0)
        } else {
            Tensor::cat(changes, 1)
        };
        let value = if self.weight_decay > 0.0 {
            value.mul_scalar(1.0 - lr * self.weight_decay)
        } else {
            value
        };
        value - change.mul_scalar(lr)
    }

    /// The orthogonalised direction, scaled by `sqrt(max(1, out / in))` so that wide and tall matrices
    /// change their outputs alike.
    fn change(&self, direction: Tensor<2>) -> Tensor<2> {
        let [d_input, d_output] = direction.dims();
        let scale = (d_output as f64 / d_input as f64).max(1.0).sqrt();
        orthogonalise(direction, self.iterations).mul_scalar(scale)
    }
}

/// The Newton-Schulz iteration of degree five with Keller Jordan's coefficients: singular values move to
/// about 1 (0.7 to 1.2), singular vectors stay.
///
/// # Shapes
///
/// - x and output: `[rows, columns]`
pub fn orthogonalise(x: Tensor<2>, iterations: usize) -> Tensor<2> {
    const A: f64 = 3.4445;
    const B: f64 = -4.7750;
    const C: f64 = 2.0315;
    let [rows, columns] = x.dims();
    // The products below are rows x rows, so the shorter side goes first.
    let is_tall = rows > columns;
    let x = if is_tall { x.transpose() } else { x };
    let norm = taal_kernels::sum_of_squares(x.clone()).sqrt();
    let mut x = x.div_scalar(norm + 1e-7);
    for _ in 0..iterations {
        let gram = x.clone().matmul(x.clone().transpose()); // [short, short]
        let polynomial = gram.clone().mul_scalar(B) + gram.clone().matmul(gram).mul_scalar(C);
        x = x.clone().mul_scalar(A) + polynomial.matmul(x);
    }
    if is_tall { x.transpose() } else { x }
}
