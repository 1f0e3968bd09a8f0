//! Layer norm and RMS norm composed of Burn's operations.

use burn::tensor::{Shape, Tensor, module};

/// The reference implementation of [`layer_norm`](crate::layer_norm).
pub fn layer_norm<const D: usize>(x: Tensor<D>, weight: Tensor<1>, bias: Option<Tensor<1>>, eps: f64) -> Tensor<D> {
    if !x.is_autodiff() {
        // Fused on flex when nothing has to be differentiated.
        return module::layer_norm(x, weight, bias, eps);
    }
    let mean = x.clone().mean_dim(D - 1);
    let centered = x - mean;
    let variance = (centered.clone() * centered.clone()).mean_dim(D - 1);
    let normalized = centered * inverse_sqrt(variance, eps);
    let scaled = normalized * as_row(weight);
    match bias {
        Some(bias) => scaled + as_row(bias),
        None => scaled,
    }
}

/// The reference implementation of [`rms_norm`](crate::rms_norm).
pub fn rms_norm<const D: usize>(x: Tensor<D>, weight: Tensor<1>, eps: f64) -> Tensor<D> {
    let mean_square = (x.clone() * x.clone()).mean_dim(D - 1);
    x * inverse_sqrt(mean_square, eps) * as_row(weight)
}

/// `1 / sqrt(x + eps)` of one number per row. Multiplying by it costs less than dividing by the root: the gradient
/// of a division walks the large operand twice more.
fn inverse_sqrt<const D: usize>(x: Tensor<D>, eps: f64) -> Tensor<D> {
    x.add_scalar(eps).sqrt().recip()
}

/// `[d]` as `[1, .., 1, d]`.
fn as_row<const D: usize>(x: Tensor<1>) -> Tensor<D> {
    let [d] = x.dims();
    let mut shape = [1; D];
    shape[D - 1] = d;
    x.reshape(Shape::new(shape))
}
