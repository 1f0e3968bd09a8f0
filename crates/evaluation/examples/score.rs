//! Trains a tokenizer, makes a model with random weights, and scores a text: the bits per byte are about those of guessing.
//!
//! Run with: cargo run -p taal-evaluation --example score

use burn::tensor::Device;
use taal_evaluation::{Evaluation, evaluate_text, log_likelihood};
use taal_inference::LanguageModel;
use taal_model::{ModelSize, TransformerConfig};
use taal_tokenizer::{Kind, TrainerConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let text = "the cat sat on the mat and the dog sat on the log";
    let tokenizer = TrainerConfig::new(Kind::Char, 100).train([text])?;
    let model = TransformerConfig::llama(ModelSize {
        vocab_size: tokenizer.vocab_size(),
        max_seq_len: 32,
        n_layers: 2,
        n_heads: 4,
        d_model: 32,
    })
    .init(42, &Device::flex())?;
    let lm = LanguageModel::new(model, Some(tokenizer));

    let evaluation = Evaluation::from(evaluate_text(&lm, "the text", text)?);
    println!("{evaluation:?}");
    for sentence in ["the cat sat", "tac eht tas"] {
        println!("{sentence}: {:.2} nats", log_likelihood(&lm, sentence)?);
    }
    Ok(())
}
