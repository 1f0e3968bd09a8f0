//! Linear layers as functions of their weights, in the precision that [`with_precision`](crate::with_precision) says.

use burn::tensor::{Int, Tensor};

use crate::{fused, plain, precision};

/// `x W + bias`.
///
/// # Shapes
///
/// - `x`: `[.., d_input]`; `weight`: `[d_input, d_output]`; `bias`: `[d_output]`; result: `[.., d_output]`
pub fn linear<const D: usize>(x: Tensor<D>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<D> {
    if let Some(half) = precision::half_of(&x) {
        precision::linear(x, weight, half, bias, None)
    } else if fused::is_fused(&x) {
        fused::linear(x, weight, false, bias, None)
    } else {
        plain::linear(x, weight, bias)
    }
}

/// `x W^T`: the tied output layer, whose weight is the token embedding.
///
/// # Shapes
///
/// - `x`: `[.., d_input]`; `weight`: `[d_output, d_input]`; result: `[.., d_output]`
pub fn linear_transposed<const D: usize>(x: Tensor<D>, weight: Tensor<2>) -> Tensor<D> {
    if let Some(half) = precision::half_of(&x) {
        precision::linear(x, weight.transpose(), half, None, None)
    } else if fused::is_fused(&x) {
        fused::linear(x, weight, true, None, None)
    } else {
        plain::linear_transposed(x, weight)
    }
}

/// `residual + x W + bias`: the projections back into the residual stream.
///
/// # Shapes
///
/// - `x`: `[.., d_input]`; `weight`: `[d_input, d_output]`; `bias`: `[d_output]`; `residual` and result: `[.., d_output]`
pub fn linear_add<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    residual: Tensor<D>,
) -> Tensor<D> {
    if let Some(half) = precision::half_of(&x) {
        precision::linear(x, weight, half, bias, Some(residual))
    } else if fused::is_fused(&x) {
        fused::linear(x, weight, false, bias, Some(residual))
    } else {
        plain::linear_add(x, weight, bias, residual)
    }
}

/// Mean cross-entropy in nats of the logits `hidden W` over the targets that are not `ignore_index`, as
/// [`cross_entropy_smoothed`](crate::cross_entropy_smoothed) of them; 0 when all are ignored.
///
/// Fused, at most 64 MiB of logits exist at a time (256 MiB on a GPU), and none after the forward pass: the gradients
/// are computed beside the loss.
///
/// # Shapes
///
/// - `hidden`: `[n, d_model]`; `weight`: `[d_model, vocab]`, or `[vocab, d_model]` where it `is_transposed`;
///   `targets`: `[n]`, each in `0..vocab` or `ignore_index`; result: `[1]`
pub fn linear_cross_entropy(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    is_transposed: bool,
    targets: Tensor<1, Int>,
    ignore_index: i32,
    smoothing: f64,
) -> Tensor<1> {
    if fused::is_fused(&hidden) {
        return fused::linear_cross_entropy(hidden, weight, is_transposed, targets, ignore_index, smoothing);
    }
    #[cfg(feature = "cubecl")]
    if crate::gpu::is_gpu(&hidden) {
        let vocab = weight.dims()[if is_transposed { 0 } else { 1 }];
        let rows = crate::gpu::max_numbers(&hidden) / vocab.max(1);
        return crate::composed::loss::in_pieces::<burn_cubecl::CubeBackend>(
            hidden,
            weight,
            is_transposed,
            targets,
            (ignore_index, smoothing, rows),
            crate::gpu::score,
        );
    }
    plain::linear_cross_entropy(hidden, weight, is_transposed, targets, ignore_index, smoothing)
}
