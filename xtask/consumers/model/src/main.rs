//! A user of the crate: builds a small LLaMA, saves it as a Hugging Face directory and opens it again.

use std::error::Error;
use std::{env, fs, process};

use burn::tensor::{Device, Int, Tensor};
use taal_model::hugging_face::{self, Companions};
use taal_model::{ModelSize, Transformer, TransformerConfig};

fn logits(model: &Transformer) -> Result<Vec<f32>, Box<dyn Error>> {
    let ids = Tensor::<2, Int>::from_ints([[1, 2, 3, 5, 8]], &model.device());
    let logits = model.forward(ids)?; // [batch, seq, vocab_size]
    assert_eq!(logits.dims(), [1, 5, 50]);
    Ok(logits.into_data().iter().collect())
}

fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::flex();
    let model = TransformerConfig::llama(ModelSize {
        vocab_size: 50,
        max_seq_len: 16,
        n_layers: 2,
        n_heads: 4,
        d_model: 32,
    })
    .init(42, &device)?;
    let before = logits(&model)?;
    assert!(before.iter().all(|logit| logit.is_finite()));

    let dir = env::temp_dir().join(format!("taal-model-consumer-{}", process::id()));
    hugging_face::save(&model, &dir, Companions::default())?;
    let opened = hugging_face::open(&dir, &device)?;
    fs::remove_dir_all(&dir)?;
    assert_eq!(logits(&opened)?, before, "a saved model gives the same logits");
    println!(
        "model: {} parameters saved and loaded again",
        opened.config().n_params()
    );
    Ok(())
}
