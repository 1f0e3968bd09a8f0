//! A user of the crate: trains a byte-level BPE tokenizer, saves it, opens it again and restores the text.

use std::error::Error;

use taal_tokenizer::{Kind, Tokenizer, TrainerConfig};

fn main() -> Result<(), Box<dyn Error>> {
    let verse = "de kat krabt de krullen van de trap, de kat krabt de krullen";
    let trained = TrainerConfig::new(Kind::Bpe, 300).train([verse])?;
    let opened = Tokenizer::from_json(&trained.to_json())?;
    assert_eq!(opened.hash(), trained.hash(), "a saved tokenizer opens as the same one");

    let ids = opened.encode(verse)?;
    assert!(ids.len() < verse.len() / 2, "a text with repeated words is compressed");
    assert_eq!(opened.decode(&ids)?, verse);
    println!(
        "tokenizer: {} bytes became {} of {} tokens and came back",
        verse.len(),
        ids.len(),
        opened.vocab_size()
    );
    Ok(())
}
