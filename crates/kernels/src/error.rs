//! What can go wrong when a device or a precision is asked for.

/// An error of this crate; all of them are the caller's choice of a device or precision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// The text names no device.
    #[error("unknown device {given:?}: expected flex, ndarray, wgpu, wgpu:N, cuda or cuda:N")]
    UnknownDevice {
        /// What was typed.
        given: String,
    },
    /// The text names no precision.
    #[error("unknown precision {given:?}: expected fp32, bf16 or f16")]
    UnknownPrecision {
        /// What was typed.
        given: String,
    },
    /// The device exists but this program was built without it.
    #[error("device {device:?} is not compiled into this program: its feature {feature:?} is off")]
    NotCompiled {
        /// The device asked for, as typed after `--device`.
        device: String,
        /// The Cargo feature that brings it.
        feature: &'static str,
    },
    /// Weights cannot be stored as asked for.
    #[error("{reason}")]
    Quantize {
        /// What and why.
        reason: String,
    },
    /// The backend is there, an adapter is not.
    #[error("no GPU was found: install its Vulkan driver (docs/devices.md says how, and how to try without a GPU)")]
    NoAdapter,
    /// The backend is there, the numbered adapter is not.
    #[error("device {device:?} does not exist: this machine has {found} such adapter(s), numbered from 0")]
    NoSuchAdapter {
        /// The device asked for, as typed after `--device`.
        device: String,
        /// How many adapters the backend found.
        found: usize,
    },
}

impl KernelError {
    pub(crate) fn quantize(reason: String) -> Self {
        Self::Quantize { reason }
    }

    /// Whether the fault is in what was asked for (exit code 2 of `taal`). True of every error here;
    /// a method, so that callers need no change when another kind joins.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::UnknownDevice { .. }
            | Self::UnknownPrecision { .. }
            | Self::NotCompiled { .. }
            | Self::NoAdapter
            | Self::Quantize { .. }
            | Self::NoSuchAdapter { .. } => true,
        }
    }
}
