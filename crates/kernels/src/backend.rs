//! Which implementation of an operation a tensor gets.

use std::sync::OnceLock;

#[cfg(feature = "cubecl")]
use burn::backend::DispatchDevice;
use burn::tensor::{DType, Device, Tensor};

/// The environment variable that leaves only the reference implementations.
const REFERENCE_ONLY: &str = "TAAL_PLAIN_KERNELS";

/// Which implementation of an operation a tensor gets. Every operation matches on it without `_`, so that the compiler names what a
/// new backend has to be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    /// The fused CPU kernel: single precision, on flex, on a CPU with vectors.
    Flex,
    /// The GPU kernel: single precision on a device of CubeCL.
    #[cfg(feature = "cubecl")]
    Gpu,
    /// The reference implementation: everything else, and everything where `TAAL_PLAIN_KERNELS` is set.
    Other,
}

impl Backend {
    /// That of operations on a tensor.
    pub(crate) fn of<const D: usize>(x: &Tensor<D>) -> Self {
        if !are_kernels_on() || x.dtype() != DType::F32 {
            return Self::Other;
        }
        let device = x.device();
        // Devices compare by hardware: autodiff and gradient checkpointing may be on or off.
        if device == Device::flex() && crate::cpu::has_vectors() {
            return Self::Flex;
        }
        #[cfg(feature = "cubecl")]
        if matches!(device.inner().as_dispatch(), DispatchDevice::Cube(_)) {
            return Self::Gpu;
        }
        Self::Other
    }
}

/// Whether `TAAL_PLAIN_KERNELS` is unset.
fn are_kernels_on() -> bool {
    static IS_ON: OnceLock<bool> = OnceLock::new();
    *IS_ON.get_or_init(|| std::env::var_os(REFERENCE_ONLY).is_none())
}
