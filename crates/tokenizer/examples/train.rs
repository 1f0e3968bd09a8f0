//! Trains a tokenizer on text files, writes its tokenizer.json and reports time and compression.
//!
//! `cargo run -p taal-tokenizer --example train -- KIND VOCAB_SIZE OUT.json FILE...`, or without arguments on three words.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use taal_tokenizer::{Kind, TrainerConfig, compression};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, vocab_size, out, files @ ..] = arguments.as_slice() else {
        let tokenizer = TrainerConfig::new(Kind::Char, 100).train(["drie korte woorden"])?;
        println!("{:?} -> {:?}", "korte", tokenizer.encode("korte")?);
        return Ok(());
    };
    let files: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
    let config = TrainerConfig::new(kind.parse()?, vocab_size.parse()?);

    let start = Instant::now();
    let (tokenizer, report) = config.train_files_reported(&files)?;
    println!(
        "{} tokens in {:.1} s: {report:?}",
        tokenizer.vocab_size(),
        start.elapsed().as_secs_f64()
    );
    tokenizer.save(Path::new(out))?;

    let text = std::fs::read_to_string(&files[0])?;
    let end = text.floor_char_boundary(8 << 20);
    let start = Instant::now();
    let compression = compression(&tokenizer, &text[..end])?;
    println!("encoded in {:.2} s: {compression:?}", start.elapsed().as_secs_f64());
    Ok(())
}
