//! A user of the crate: causal attention over equal keys.

use burn::tensor::{Device, Tensor};
use taal_attention::{AttentionOptions, scaled_dot_product_attention};

fn main() {
    let device = Device::flex();
    let q = Tensor::<4>::ones([1, 4, 3, 2], &device); // [batch, n_heads, q_len, head_dim]
    let k = Tensor::<4>::ones([1, 2, 3, 2], &device); // two query heads share a key head
    let v = Tensor::<1>::from_floats([0.0, 3.0, 6.0], &device);
    let v = v.reshape([1, 1, 3, 1]).expand([1, 2, 3, 1]);
    let options = AttentionOptions {
        is_causal: true,
        return_weights: true,
        ..AttentionOptions::default()
    };
    let (context, weights) = scaled_dot_product_attention(q, k, v, None, &options);

    let context: Vec<f32> = context.into_data().iter().collect();
    for head in context.chunks(3) {
        for (seen, mean) in head.iter().zip([0.0, 1.5, 3.0]) {
            assert!(
                (seen - mean).abs() < 1e-5,
                "equal keys share the weight of earlier positions"
            );
        }
    }
    assert_eq!(weights.map(|weights| weights.dims()), Some([1, 4, 3, 3]));
    println!("attention: 4 heads averaged earlier positions and saw no later ones");
}
