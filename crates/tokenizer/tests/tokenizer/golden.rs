//! The same files encode and decode the same here and in the Python package.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{CORPUS, Kind, Tokenizer, TrainerConfig, golden};

#[derive(Deserialize)]
struct Expected {
    texts: Vec<String>,
    kinds: BTreeMap<String, Vec<Case>>,
}

#[derive(Deserialize)]
struct Case {
    /// `None` where Python raises an exception.
    ids: Option<Vec<u32>>,
    with_special: Option<Vec<u32>>,
    decoded: Option<String>,
}

const VOCAB_SIZES: [(Kind, usize); 5] = [
    (Kind::Bpe, 600),
    (Kind::WordPiece, 600),
    (Kind::Unigram, 600),
    (Kind::Char, 200),
    (Kind::Word, 600),
];

#[test]
fn every_kind_encodes_hard_texts_to_the_ids_of_the_python_package() {
    let expected = std::fs::read_to_string(golden("expected.json")).unwrap();
    let expected: Expected = serde_json::from_str(&expected).unwrap();
    assert_eq!(expected.kinds.len(), Kind::ALL.len());
    for (kind, cases) in expected.kinds {
        let tokenizer = Tokenizer::open(&golden(&format!("{kind}.tokenizer.json"))).unwrap();
        assert_eq!(cases.len(), expected.texts.len());
        for (text, case) in expected.texts.iter().zip(cases) {
            assert_eq!(tokenizer.encode(text).ok(), case.ids, "{kind} {text:?}");
            assert_eq!(
                tokenizer.encode_with_special(text).ok(),
                case.with_special,
                "{kind} {text:?}"
            );
            if let Some(ids) = &case.ids {
                assert_eq!(tokenizer.decode(ids).ok(), case.decoded, "{kind} {text:?}");
            }
        }
    }
}

#[test]
fn training_gives_the_bytes_of_the_golden_files() {
    for (kind, vocab_size) in VOCAB_SIZES {
        let stored = std::fs::read(golden(&format!("{kind}.tokenizer.json"))).unwrap();
        let trained = TrainerConfig::new(kind, vocab_size).train([CORPUS]).unwrap();
        assert!(
            trained.to_json() == stored,
            "{kind}: run make_golden.py if the change is wanted"
        );
    }
}
