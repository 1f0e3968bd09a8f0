//! What the GPU kernels have in common. They are in CubeCL, for what Burn composes of too many launches, or leaves to too
//! few threads.
//!
//! Each is the `gpu.rs` of its operation; `tests/kernels/gpu.rs` compares it with what flex computes.

pub(crate) mod rows;

use burn::backend::DispatchDevice;
use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::CubeDim;
use cubecl::prelude::*;

use crate::pieces::MAX_NUMBERS;

/// How many numbers an intermediate result may have on a tensor's device: what fits one of its buffers, and 256 MiB at most.
pub(crate) fn max_numbers<const D: usize>(x: &Tensor<D>) -> usize {
    let client = match x.device().inner().as_dispatch() {
        DispatchDevice::Cube(device) => device.client(),
        _ => return MAX_NUMBERS,
    };
    let largest = client.properties().memory.max_page_size / size_of::<f32>() as u64;
    MAX_NUMBERS.min(usize::try_from(largest).unwrap_or(usize::MAX))
}

/// A tensor of the GPU without autodiff, contiguous.
pub(crate) fn primitive<const D: usize>(x: Tensor<D>) -> CubeTensor {
    let x = x
        .without_autodiff()
        .try_into_primitive::<CubeBackend>()
        .expect("the caller saw that this is a GPU");
    into_contiguous(x)
}

/// Memory for a result on the device of `like`, with anything in it.
pub(crate) fn empty_like(like: &CubeTensor, shape: Shape, dtype: DType) -> CubeTensor {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), shape, dtype)
}

/// A tensor's memory for a kernel to write, and as input of what follows: the same where it is not shared.
pub(crate) fn writable(x: CubeTensor) -> CubeTensor {
    if x.can_mut() { x } else { x.copy() }
}

/// How `units` threads are launched, over several dimensions where one has not enough room.
pub(crate) fn launch_over(units: usize, like: &CubeTensor) -> (CubeCount, CubeDim) {
    let cube_dim = CubeDim::new(&like.client, units);
    let cube_count = cubecl::calculate_cube_count_elemwise(&like.client, units, cube_dim);
    (cube_count, cube_dim)
}
