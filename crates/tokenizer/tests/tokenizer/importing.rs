//! Files of other programs, small enough that their ids follow from reading them.

use std::fs;

use taal_tokenizer::ImportOptions;

use super::super::*;

fn import(name: &str, content: &[u8]) -> Result<Tokenizer, Error> {
    let place = tempfile::TempDir::new().expect("a temporary folder");
    let path = place.path().join(name);
    fs::write(&path, content).expect("a file");
    Tokenizer::import(&path, &ImportOptions::default())
}

#[test]
fn the_longest_pieces_of_a_vocabulary_of_bert() {
    let vocab = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nde\nkat\nvoorbeeld\n##zin\n##ten\n";
    let tokenizer = import("vocab.txt", vocab).expect("a vocabulary");
    assert_eq!(tokenizer.vocab_size(), 10);
    assert_eq!(
        tokenizer.encode("De katten voorbeeldzin").expect("ids"),
        [5, 6, 9, 7, 8]
    );
    assert_eq!(tokenizer.encode("de xyz").expect("ids"), [5, 1]);
}

/// Base64 and rank a line; `ab` merges before `bc`.
#[test]
fn the_lowest_rank_of_tiktoken_merges_first() {
    let mut lines = String::new();
    for byte in 0..=255_u8 {
        lines.push_str(&format!("{} {byte}\n", base64_of(&[byte])));
    }
    lines.push_str(&format!("{} 256\n{} 257\n", base64_of(b"ab"), base64_of(b"bc")));
    let place = tempfile::TempDir::new().expect("a temporary folder");
    let path = place.path().join("small.tiktoken");
    fs::write(&path, lines).expect("a file");
    let options = ImportOptions {
        pattern: Some("gpt2".to_owned()),
    };
    let tokenizer = Tokenizer::import(&path, &options).expect("ranks");
    let ids = tokenizer.encode("abc xbc").expect("ids");
    assert_eq!(ids, [256, 99, 32, 120, 257]);
    assert_eq!(tokenizer.decode(&ids).expect("text"), "abc xbc");
}

fn base64_of(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut word = [0_u8; 3];
    word[..bytes.len()].copy_from_slice(bytes);
    let bits = u32::from(word[0]) << 16 | u32::from(word[1]) << 8 | u32::from(word[2]);
    let digit = |i: usize| char::from(DIGITS[(bits >> (18 - 6 * i) & 63) as usize]);
    (0..4).map(|i| if i <= bytes.len() { digit(i) } else { '=' }).collect()
}

#[test]
fn a_file_of_no_known_kind_is_refused_by_name() {
    for (name, content) in [
        ("empty.model", &b""[..]),
        ("noise.bin", &b"\xff\xfe\x00\x01\x02"[..]),
        ("half.tiktoken", &b"IQ== 0\nnot-a-rank"[..]),
    ] {
        let error = import(name, content).expect_err(name).to_string();
        assert!(error.contains(name), "{error}");
    }
}
