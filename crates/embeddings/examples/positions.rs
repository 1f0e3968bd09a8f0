//! Prints what four kinds of positions look like: `cargo run -p taal-embeddings --example positions`.

use burn::tensor::{Device, Tensor};
use taal_embeddings::{EmbeddingError, Rotary, alibi_slopes, sinusoidal};

fn main() -> Result<(), EmbeddingError> {
    let device = Device::flex();

    println!("sinusoidal, 4 positions of width 6:");
    let table = sinusoidal(4, 6, &device).into_data();
    for row in table.iter::<f32>().collect::<Vec<_>>().chunks(6) {
        println!("  {row:6.3?}");
    }

    println!("rotary: the vector (1, 0) rotated to positions 0 to 3:");
    let rotary = Rotary::new(2, 4, 10_000.0, &device)?;
    let x = Tensor::<4>::from_floats([[[[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]]], &device);
    let turned = rotary.apply(x, 0)?.into_data();
    for row in turned.iter::<f32>().collect::<Vec<_>>().chunks(2) {
        println!("  {row:6.3?}");
    }

    println!("ALiBi slopes of 8 heads: {:?}", alibi_slopes(8));
    Ok(())
}
