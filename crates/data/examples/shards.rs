//! Builds token shards of your text and draws a batch from them.
//!
//! ```text
//! cargo run -p taal-data --example shards                    # the embedded Dutch corpus
//! cargo run -p taal-data --example shards -- OUT INPUT...    # your files or folders, kept in the new folder OUT
//! ```

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use taal_data::{BatchPlan, BuildOptions, Dataset, Order, Progress, TokenizeOptions, build_shards, corpus};
use taal_tokenizer::{Kind, TrainerConfig};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    match arguments.as_slice() {
        [] => {
            let scratch = tempfile::tempdir()?;
            let input = scratch.path().join("dutch.txt");
            std::fs::write(
                &input,
                corpus("dutch-alpino").ok_or("the Dutch corpus is embedded")?.text(),
            )?;
            run(&scratch.path().join("shards"), &[input])
        }
        [out, inputs @ ..] => run(out, inputs),
    }
}

fn run(out: &Path, inputs: &[PathBuf]) -> Result<(), Box<dyn Error>> {
    let sample = corpus("dutch-alpino").ok_or("the Dutch corpus is embedded")?.text();
    let tokenizer = TrainerConfig::new(Kind::Bpe, 2_000).train([sample])?;

    let show = |progress: Progress<'_>| {
        let percent = 100 * progress.bytes_done / progress.bytes_total.max(1);
        eprintln!("{percent:>3} % {} tokens, {}", progress.tokens, progress.name);
    };
    let tokenize = TokenizeOptions {
        progress: Some(&show),
        ..TokenizeOptions::default()
    };
    let start = Instant::now();
    let report = build_shards(
        &tokenizer,
        inputs,
        out,
        &BuildOptions {
            tokenize,
            ..BuildOptions::default()
        },
    )?;
    let bytes = report.train_bytes + report.validation_bytes;
    println!(
        "{} tokens for training, {} for validation",
        report.train_tokens, report.validation_tokens
    );
    println!("{:.1} MB/s", bytes as f64 / 1e6 / start.elapsed().as_secs_f64());

    let start = Instant::now();
    let dataset = Dataset::open(out)?;
    println!("opened and verified in {:.1} ms", 1e3 * start.elapsed().as_secs_f64());
    let batch = BatchPlan::new(1337, 4, 32)
        .with_order(Order::Shuffled)
        .batch(&dataset.train, 0)?;
    let first_row: Vec<u32> = batch.inputs[..batch.seq_len].iter().map(|&id| id as u32).collect();
    println!("a row: {:?}", tokenizer.decode(&first_row)?);
    Ok(())
}
