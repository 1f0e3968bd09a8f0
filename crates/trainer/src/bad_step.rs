//! Why a step is bad, in words.

use std::fmt;

/// Why a step is bad.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum BadStep {
    /// The loss is NaN or infinite.
    Loss(f64),
    /// The gradient norm is NaN or infinite.
    Gradient(f64),
    /// The gradient norm is not finite, and half the loss scale may help.
    Overflow {
        /// The loss scale of this step; the next step uses half of it.
        loss_scale: f64,
    },
    /// Weights or moments are not finite. Only saving checks this.
    State,
    /// The loss is finite, but far above the previous ones.
    Spike {
        /// The loss.
        loss: f64,
        /// The limit that it exceeds.
        limit: f64,
    },
}

impl fmt::Display for BadStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loss(loss) => write!(f, "the loss is {loss}"),
            Self::Gradient(norm) => write!(f, "the gradient norm is {norm}"),
            Self::Overflow { loss_scale } => write!(
                f,
                "the gradient left f16's range with a loss scale of {loss_scale}, which is halved"
            ),
            Self::State => write!(f, "weights or moments are not finite"),
            Self::Spike { loss, limit } => write!(f, "the loss of {loss:.4} is a spike, above {limit:.4}"),
        }
    }
}
