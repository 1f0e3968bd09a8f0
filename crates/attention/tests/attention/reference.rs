//! Reference results: PyTorch's numbers and a loop over every score in double precision.

use burn::tensor::Tensor;
use taal_attention::AttentionOptions;

use super::values;

// torch 2.15, double precision, F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True) with
// q, k, v = sin(0.7 i), 1.3 sin(0.7 i), sin(0.7 i) + 0.5 for i = 1, 2, .. in shapes [1, 4, 3, 2], [1, 2, 3, 2] and
// [1, 2, 3, 5]; gradients of the sum of the context times cos(0.3 i).

pub const PYTORCH_CONTEXT: [f32; 60] = [
    1.1442177, 1.4854497, 1.3632094, 0.8349882, 0.1492168, 0.396374, 0.5145501, 0.625883, 0.6780112, 0.6464179,
    1.1119738, 1.0372654, 0.7098727, 0.2837736, -0.0406308, 1.1442177, 1.4854497, 1.3632094, 0.8349882, 0.1492168,
    0.5320638, 0.6907115, 0.7596646, 0.7064933, 0.5562051, 0.5543985, 0.6899328, 0.7361388, 0.671285, 0.5258731,
    -0.4791777, -0.1181371, 0.533623, 1.1695698, 1.4906074, -0.2553587, -0.0051491, 0.4826399, 0.9785937, 1.2494574,
    0.1442994, 0.2814492, 0.5213869, 0.751266, 0.8629707, -0.4791777, -0.1181371, 0.533623, 1.1695698, 1.4906074,
    0.9021316, 0.5791732, 0.2189785, -0.0090475, 0.0023395, -0.1172772, 0.1157502, 0.5294964, 0.9293699, 1.127304,
];

pub const PYTORCH_D_Q: [f32; 24] = [
    0.0, 0.0, 0.0870426, -0.2585388, 0.491786, 0.3766615, 0.0, 0.0, -0.2156157, 0.6404341, -0.03233, -0.1487771, 0.0,
    0.0, -0.3053979, -0.3937186, 0.374586, 0.2201603, 0.0, 0.0, 0.0964215, 0.1243064, -0.3253845, -0.4572062,
];

pub const PYTORCH_D_K: [f32; 12] = [
    -0.3184754, 0.3934186, 0.1767855, -0.6828351, 0.1416899, 0.2894165, -0.3124168, -0.5021836, 0.4413914, 0.5201589,
    -0.1289746, -0.0179754,
];

pub const PYTORCH_D_V: [f32; 30] = [
    1.4394623, 1.2772392, 1.0009242, 0.6351996, 0.2127345, 0.1346362, -0.1252124, -0.3738762, -0.5891427, -0.7517828,
    -0.6921308, -0.6436295, -0.5376348, -0.3836147, -0.1953275, -0.885803, -0.7077696, -0.4665132, -0.1835846,
    0.1157431, -0.5053106, -0.4659067, -0.3848846, -0.269482, -0.1300074, 0.1214965, 0.1578307, 0.1800663, 0.1862172,
    0.1757338,
];

/// Context and weights by the definition, one score at a time.
pub fn attention(q: &Tensor<4>, k: &Tensor<4>, v: &Tensor<4>, options: &AttentionOptions) -> (Vec<f32>, Vec<f32>) {
    let [batch, n_heads, q_len, head_dim] = q.dims();
    let [_, n_kv_heads, kv_len, value_dim] = v.dims();
    let [q, k, v] = [q, k, v].map(|x| values(x.clone()));
    let (mut contexts, mut all_weights) = (Vec::new(), Vec::new());
    for row in 0..batch * n_heads * q_len {
        let (batch, head, i) = (row / q_len / n_heads, row / q_len % n_heads, row % q_len);
        let kv_row = (batch * n_kv_heads + head / (n_heads / n_kv_heads)) * kv_len;
        let position = kv_len - q_len + i;
        let exps: Vec<f64> = (0..kv_len)
            .map(|key| {
                let is_ahead = key > position;
                let is_far = options.window.is_some_and(|window| position.abs_diff(key) >= window);
                if is_far || (options.is_causal && is_ahead) {
                    return 0.0;
                }
                let dot: f64 = (0..head_dim)
                    .map(|c| f64::from(q[row * head_dim + c]) * f64::from(k[(kv_row + key) * head_dim + c]))
                    .sum();
                let score = dot * options.scale.unwrap();
                options.softcap.map_or(score, |cap| (score / cap).tanh() * cap).exp()
            })
            .collect();
        let total: f64 = exps.iter().sum();
        for c in 0..value_dim {
            let sum: f64 = (0..kv_len)
                .map(|key| exps[key] * f64::from(v[(kv_row + key) * value_dim + c]))
                .sum();
            contexts.push((sum / total) as f32);
        }
        all_weights.extend(exps.iter().map(|exp| (exp / total) as f32));
    }
    (contexts, all_weights)
}
