//! Continues a prompt with a model directory, printing the words as they come:
//! `cargo run -p taal-inference --example generate -- DIR "Once upon a time"`.
//! Without arguments, a tiny model with random weights is used.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;

use burn::tensor::Device;
use taal_inference::{GenerateOptions, LanguageModel, Prompt, Sampling, generate};
use taal_model::{ModelSize, TransformerConfig};
use taal_tokenizer::{Kind, TrainerConfig};

fn random_model() -> Result<LanguageModel, Box<dyn std::error::Error>> {
    let tokenizer = TrainerConfig::new(Kind::Char, 100).train(["once upon a time there was a model"])?;
    let config = TransformerConfig::llama(ModelSize {
        vocab_size: tokenizer.vocab_size(),
        max_seq_len: 64,
        n_layers: 2,
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
    let prompt = Prompt::Text(arguments.next().unwrap_or_else(|| "once".to_owned()));
    let options = GenerateOptions {
        max_tokens: 80,
        sampling: Sampling {
            temperature: 0.8,
            top_p: Some(0.95),
            seed: 1337,
            ..Sampling::default()
        },
        stop: vec!["\n\n".to_owned()],
        ..GenerateOptions::default()
    };
    let mut stdout = std::io::stdout();
    let generation = generate(&lm, &prompt, &options, &mut |text| {
        print!("{text}");
        // Flush so that text appears at once; a closed terminal is noticed by the next print.
        let _ = stdout.flush();
        ControlFlow::Continue(())
    })?;
    println!(
        "\n({} tokens, {:?})",
        generation.token_ids.len(),
        generation.finish_reason
    );
    Ok(())
}
