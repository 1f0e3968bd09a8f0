//! A user of the crate: embeds three tokens with sinusoidal positions, and rotates queries and keys.

use std::error::Error;

use burn::tensor::{Device, Int, Tensor};
use taal_embeddings::{Rotary, TokenEmbeddingConfig, sinusoidal};

fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::flex();
    let config = TokenEmbeddingConfig {
        vocab_size: 10,
        d_model: 6,
    };
    let positions = sinusoidal(3, 6, &device); // [seq, d_model]
    let first: Vec<f32> = positions.clone().slice([0..1, 0..6]).into_data().iter().collect();
    assert_eq!(
        first,
        [0.0, 1.0, 0.0, 1.0, 0.0, 1.0],
        "position 0 is sin(0), cos(0), ..."
    );
    let ids = Tensor::<2, Int>::from_ints([[3, 1, 4]], &device);
    let hidden = config.init(0, &device).forward(ids) + positions.unsqueeze::<3>(); // [batch, seq, d_model]
    assert_eq!(hidden.dims(), [1, 3, 6]);

    let rotary = Rotary::new(4, 16, 10_000.0, &device)?;
    let score = |query_at: usize, key_at: usize| -> Result<f32, Box<dyn Error>> {
        let query = Tensor::<1>::from_floats([0.5, -1.0, 2.0, 0.25], &device).reshape([1, 1, 1, 4]);
        let key = Tensor::<1>::from_floats([1.0, 0.75, -0.5, 2.0], &device).reshape([1, 1, 1, 4]);
        let product = rotary.apply(query, query_at)? * rotary.apply(key, key_at)?;
        Ok(product.sum().into_scalar())
    };
    let distance_two = score(3, 1)?;
    assert!(
        (score(12, 10)? - distance_two).abs() < 1e-4,
        "only the distance matters"
    );
    assert!((score(3, 2)? - distance_two).abs() > 1e-2, "and it does matter");
    println!("embeddings: tokens became vectors with positions");
    Ok(())
}
