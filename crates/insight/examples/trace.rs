//! What every layer of a model would predict: `cargo run -p taal-insight --example trace -- DIR "Once upon a time"`.
//! Without arguments, a tiny model with random weights is used.

use std::path::Path;

use burn::tensor::Device;
use taal_inference::{LanguageModel, Prompt};
use taal_insight::{TraceOptions, trace};
use taal_model::{ModelSize, TransformerConfig};
use taal_tokenizer::{Kind, TrainerConfig};

fn random_model() -> Result<LanguageModel, Box<dyn std::error::Error>> {
    let tokenizer = TrainerConfig::new(Kind::Bpe, 300).train(["once upon a time there was a model"])?;
    let config = TransformerConfig::llama(ModelSize {
        vocab_size: tokenizer.vocab_size(),
        max_seq_len: 64,
        n_layers: 4,
        n_heads: 4,
        d_model: 32,
    });
    Ok(LanguageModel::new(config.init(1337, &Device::flex())?, Some(tokenizer)))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let lm = match arguments.next() {
        Some(dir) => LanguageModel::open(Path::new(&dir), &Device::flex())?,
        None => random_model()?,
    };
    let prompt = Prompt::Text(arguments.next().unwrap_or_else(|| "once upon".to_owned()));
    let trace = trace(&lm, &prompt, &TraceOptions::default())?;
    let place = trace.focus[0];
    for (state, row) in trace.lens.iter().enumerate() {
        let guess = &row[place].guesses[0];
        println!(
            "after layer {state}: {:?} ({:.1} %)",
            guess.text,
            100.0 * guess.probability
        );
    }
    Ok(())
}
