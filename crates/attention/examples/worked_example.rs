//! Sebastian Raschka's "Life is short, eat dessert first": six words, one head of attention, every weight printed.
//! `cargo run -p taal-attention --example worked_example`

use burn::tensor::{Device, Tensor, TensorData};
use taal_attention::{AttentionOptions, scaled_dot_product_attention};

fn main() -> Result<(), serde_json::Error> {
    let text = include_str!("../tests/data/example.json");
    let example: serde_json::Value = serde_json::from_str(text)?;
    let matrix = |name: &str| -> Result<Tensor<2>, serde_json::Error> {
        let rows: Vec<Vec<f32>> = serde_json::from_value(example[name].clone())?;
        let shape = [rows.len(), rows[0].len()];
        Ok(Tensor::from_data(
            TensorData::new(rows.concat(), shape),
            &Device::flex(),
        ))
    };

    // The six words as vectors, then what each asks (query), offers (key) and says (value).
    let embedded = matrix("embedded")?; // [6, 16]
    let project = |name: &str| -> Result<Tensor<4>, serde_json::Error> {
        Ok(embedded.clone().matmul(matrix(name)?.transpose()).unsqueeze()) // [1, 1, 6, 24 or 28]
    };
    let options = AttentionOptions {
        return_weights: true,
        ..Default::default()
    };
    let (context, weights) = scaled_dot_product_attention(
        project("w_query")?,
        project("w_key")?,
        project("w_value")?,
        None,
        &options,
    );

    let words = ["Life", "is", "short", "eat", "dessert", "first"];
    println!("{:>8}  attends to", "word");
    println!("{:>8}  {}", "", words.map(|word| format!("{word:>7}")).join(" "));
    if let Some(weights) = weights {
        let weights: Vec<f32> = weights.into_data().iter().collect();
        for (word, row) in words.iter().zip(weights.chunks(words.len())) {
            let row: Vec<String> = row.iter().map(|weight| format!("{weight:7.4}")).collect();
            println!("{word:>8}  {}", row.join(" "));
        }
    }
    println!("context vectors: {:?}", context.dims());
    Ok(())
}
