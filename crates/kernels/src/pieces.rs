//! What operations in pieces have in common: composed of Burn's own, with a backward pass written by hand, for GPUs, which
//! limit the size of a buffer.
//!
//! Burn's autodiff keeps every intermediate result of a composition. These keep what the backward pass cannot do
//! without, and work through large intermediate results in pieces. They are generic over the backend, so that their
//! tests run on the CPU.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, DispatchKindConversion, DispatchTensor};
use burn::tensor::Tensor;

/// How many numbers an intermediate result may have where the device allows more: 256 MiB in single precision.
#[cfg(feature = "cubecl")]
pub(crate) const MAX_NUMBERS: usize = 1 << 26;

/// A primitive as a tensor of Burn's interface.
pub(crate) fn tensor<const D: usize, B: Backend>(x: FloatTensor<B>) -> Tensor<D>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    Tensor::from_primitive::<B>(x)
}

/// The reverse of [`tensor`].
pub(crate) fn primitive<const D: usize, B: Backend>(x: Tensor<D>) -> FloatTensor<B>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    x.try_into_primitive::<B>()
        .expect("results are on the backend of their inputs")
}

/// The pieces of `whole` rows that have at most `rows` each: start and length.
pub(crate) fn pieces(whole: usize, rows: usize) -> impl Iterator<Item = (usize, usize)> {
    let rows = rows.max(1);
    (0..whole)
        .step_by(rows)
        .map(move |start| (start, rows.min(whole - start)))
}

/// Pieces joined again.
pub(crate) fn join<const D: usize>(mut pieces: Vec<Tensor<D>>) -> Tensor<D> {
    match pieces.len() {
        1 => pieces.remove(0),
        _ => Tensor::cat(pieces, 0),
    }
}
