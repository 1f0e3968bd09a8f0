//! Which implementation of an operation a tensor gets.

use std::sync::OnceLock;

#[cfg(feature = "cubecl")]
use burn::backend::DispatchDevice;
use burn::tensor::{DType, Device, Tensor};

/// The environment variable that leaves only the reference implementations.
const REFERENCE_ONLY: &str = "TAAL_PLAIN_KERNELS";

/// Whether operations on this tensor have a fused CPU kernel: single precision, on flex, on a CPU with vectors, and
/// `TAAL_PLAIN_KERNELS` is unset.
pub(crate) fn is_fused<const D: usize>(x: &Tensor<D>) -> bool {
    // Devices compare by hardware: autodiff and gradient checkpointing may be on or off.
    is_on() && crate::cpu::has_vectors() && x.dtype() == DType::F32 && x.device() == Device::flex()
}

/// Whether operations on this tensor have a GPU kernel: single precision on a device of CubeCL, and
/// `TAAL_PLAIN_KERNELS` is unset.
#[cfg(feature = "cubecl")]
pub(crate) fn is_gpu<const D: usize>(x: &Tensor<D>) -> bool {
    is_on() && x.dtype() == DType::F32 && matches!(x.device().inner().as_dispatch(), DispatchDevice::Cube(_))
}

/// Whether `TAAL_PLAIN_KERNELS` is unset.
fn is_on() -> bool {
    static IS_ON: OnceLock<bool> = OnceLock::new();
    *IS_ON.get_or_init(|| std::env::var_os(REFERENCE_ONLY).is_none())
}
