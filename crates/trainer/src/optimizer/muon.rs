//! Muon (Jordan et al. 2024): momentum whose update is replaced by approximately the nearest orthogonal matrix.
//!
//! Burn has a Muon too, but its scaling assumes `[out, in]` weights while Burn's own layers store `[in, out]`. So this
//! is our own.

use taal_kernels::MuonStep;

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
    /// The constants of one update; `gradient_factor` multiplies gradients first (clipping).
    pub(super) fn step(&self, lr_factor: f64, gradient_factor: f64) -> MuonStep {
        MuonStep {
            lr: self.lr * lr_factor,
            momentum: self.momentum,
            weight_decay: self.weight_decay,
            iterations: self.iterations,
            gradient_factor,
        }
    }
}

/// The key of a matrix's momentum.
pub(super) fn momentum_key(name: &str) -> String {
    format!("{name}.momentum_buffer")
}
