//! Turns the tokenizer file of another program into a tokenizer.json.
//!
//! ```text
//! cargo run --release -p taal-tokenizer --example import -- FILE OUT [PATTERN]
//! ```

use std::path::Path;

use taal_tokenizer::{ImportOptions, Tokenizer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, out, pattern @ ..] = arguments.as_slice() else {
        return Err("usage: import FILE OUT [PATTERN]".into());
    };
    let options = ImportOptions {
        pattern: pattern.first().cloned(),
    };
    let (tokenizer, format) = Tokenizer::import_reported(Path::new(file), &options)?;
    tokenizer.save(Path::new(out))?;
    println!("{format}: {} tokens, {out}", tokenizer.vocab_size());
    Ok(())
}
