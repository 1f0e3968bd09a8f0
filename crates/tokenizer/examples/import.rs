//! Turns the tokenizer file of another program into a tokenizer.json, and encodes texts with it.
//!
//! `cargo run -p taal-tokenizer --example import -- FILE OUT.json [TEXTS.json [PATTERN]]`, or without arguments on a vocabulary
//! of two words. TEXTS.json is a list of texts; the ids and their decoded text are printed as JSON, one text per line.

use std::error::Error;
use std::path::Path;

use taal_tokenizer::{ImportOptions, Tokenizer};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, out, rest @ ..] = arguments.as_slice() else {
        let path = std::env::temp_dir().join(format!("vocab-{}.txt", std::process::id()));
        std::fs::write(&path, "[UNK]\nvoorbeeld\n##zin\n")?;
        let tokenizer = Tokenizer::import(&path, &ImportOptions::default());
        std::fs::remove_file(&path)?;
        println!("voorbeeldzin -> {:?}", tokenizer?.encode("voorbeeldzin")?);
        return Ok(());
    };
    let options = ImportOptions {
        pattern: rest.get(1).cloned(),
    };
    let (tokenizer, format) = Tokenizer::import_reported(Path::new(file), &options)?;
    tokenizer.save(Path::new(out))?;
    eprintln!("{format}: {} tokens", tokenizer.vocab_size());
    if let Some(texts) = rest.first() {
        let texts: Vec<String> = serde_json::from_slice(&std::fs::read(texts)?)?;
        for text in texts {
            let ids = tokenizer.encode(&text)?;
            println!("{}", serde_json::to_string(&(&ids, tokenizer.decode(&ids)?))?);
        }
    }
    Ok(())
}
