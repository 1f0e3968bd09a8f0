//! Fresh parameters that are made when they are first used, so that loading a checkpoint draws none.

use burn::module::{Param, ParamId};
use burn::tensor::{Device, Shape, Tensor};

use crate::random;

/// A trainable parameter, normal with standard deviation `std`, a function of `key` (see [`random::key`]).
pub fn normal_param<const D: usize>(shape: [usize; D], std: f64, key: u64, device: &Device) -> Param<Tensor<D>> {
    lazy(shape, device, move |device| random::normal(shape, std, key, device))
}

/// A trainable parameter filled with one value: 0 for biases, 1 for the weights of norms.
pub fn constant_param<const D: usize>(shape: [usize; D], value: f32, device: &Device) -> Param<Tensor<D>> {
    lazy(shape, device, move |device| Tensor::full(shape, value, device))
}

/// The same parameter, whose value is made when it is first used; it is not trained.
pub fn made_when_used<const D: usize>(
    param: &Param<Tensor<D>>,
    make: impl FnOnce(&Device) -> Tensor<D> + Send + Sync + 'static,
) -> Param<Tensor<D>> {
    let device = param.lazy_device();
    Param::uninitialized(
        param.id,
        move |device, _| make(device),
        device,
        false,
        param.lazy_shape(),
    )
}

fn lazy<const D: usize>(
    shape: [usize; D],
    device: &Device,
    make: impl FnOnce(&Device) -> Tensor<D> + Send + Sync + 'static,
) -> Param<Tensor<D>> {
    Param::uninitialized(
        ParamId::new(),
        move |device, is_require_grad| make(device).set_require_grad(is_require_grad),
        device.clone(),
        true,
        Shape::new(shape),
    )
}
