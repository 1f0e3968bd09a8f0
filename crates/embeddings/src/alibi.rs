//! Attention with linear biases: scores fall with distance, at a rate per head.

use burn::tensor::{Device, Tensor, TensorData};

/// The slope of each head (Press, Smith and Lewis, "Train Short, Test Long", 2021): for `n` heads, a power of two,
/// the geometric sequence that starts at `2^(-8 / n)` with that ratio; otherwise the slopes of the largest power
/// of two below, followed by every other slope of the next one, as in the authors' code.
pub fn alibi_slopes(n_heads: usize) -> Vec<f32> {
    fn geometric(n: usize) -> impl Iterator<Item = f32> {
        (1..=n).map(move |i| (-8.0 * i as f64 / n as f64).exp2() as f32)
    }
    if n_heads == 0 {
        return Vec::new();
    }
    let below = 1_usize << n_heads.ilog2();
    geometric(below)
        .chain(geometric(2 * below).step_by(2))
        .take(n_heads)
        .collect()
}

/// The numbers to add to attention scores: `-slope * distance`. The queries are the last `q_len` of `kv_len` positions, as with a
/// key/value cache; keys after the query, which only a bidirectional model sees, are penalized by distance too.
///
/// # Shapes
///
/// - result: `[1, n_heads, q_len, kv_len]`
pub fn alibi_bias(n_heads: usize, q_len: usize, kv_len: usize, device: &Device) -> Tensor<4> {
    let start = kv_len.saturating_sub(q_len);
    alibi_bias_at(n_heads, &[start], q_len, kv_len, device)
}

/// [`alibi_bias`] where each row's queries start at a different position.
///
/// # Shapes
///
/// - `starts`: `[batch]`; result: `[batch, n_heads, q_len, kv_len]`
pub fn alibi_bias_at(n_heads: usize, starts: &[usize], q_len: usize, kv_len: usize, device: &Device) -> Tensor<4> {
    let mut distances = Vec::with_capacity(starts.len() * q_len * kv_len);
    for query in starts.iter().flat_map(|start| *start..start + q_len) {
        distances.extend((0..kv_len).map(|key| -(query.abs_diff(key) as f32)));
    }
    let shape = [starts.len(), 1, q_len, kv_len];
    let distances = Tensor::<4>::from_data(TensorData::new(distances, shape), device);
    let slopes = TensorData::new(alibi_slopes(n_heads), [1, n_heads, 1, 1]);
    distances * Tensor::from_data(slopes, device)
}
