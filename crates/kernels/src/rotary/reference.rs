//! Rotary positions composed of Burn's operations.

use burn::tensor::Tensor;

/// [`rotary`](crate::rotary) of Burn's operations.
pub fn rotary(x: Tensor<4>, cos: Tensor<2>, signed_sin: Tensor<2>) -> Tensor<4> {
    let [batch, heads, seq, head_dim] = x.dims();
    let row = |table: Tensor<2>| -> Tensor<4> {
        let rows = table.dims()[0] / seq.max(1);
        table.reshape([rows, 1, seq, head_dim])
    };
    // transformers computes x * cos + rotate_half(x) * sin with rotate_half(x) = [-x2, x1]. Swapping the
    // halves as a flip of an axis of length 2 moves no memory, forward or backward; the sign is in the table.
    let swapped: Tensor<4> = x
        .clone()
        .reshape([batch, heads, seq, 2, head_dim / 2])
        .flip([3])
        .reshape([batch, heads, seq, head_dim]);
    x * row(cos) + swapped * row(signed_sin)
}
