//! Prints the compounds of a word list with their parts, as used by `taal tokenizer compounds`.
//!
//! `cargo run -p taal-tokenizer --example compounds -- WORDS`, or without arguments on three words.

use std::error::Error;
use std::path::Path;

use taal_tokenizer::Compound;

fn main() -> Result<(), Box<dyn Error>> {
    let compounds = match std::env::args().nth(1) {
        Some(path) => Compound::read_file(Path::new(&path))?,
        None => Compound::new("voorbeeldzin", &["voorbeeld", "zin"])
            .into_iter()
            .collect(),
    };
    for compound in compounds {
        let mut parts = compound.word.clone();
        for boundary in compound.boundaries.iter().rev() {
            // A linking element is between two marks.
            if !boundary.is_empty() {
                parts.insert(boundary.end, '|');
            }
            parts.insert(boundary.start, '|');
        }
        println!("{parts}");
    }
    Ok(())
}
