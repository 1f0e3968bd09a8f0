use std::cell::RefCell;

use taal_data::{Dataset, Separator, TokenizeOptions, corpus};
use taal_tokenizer::{Kind, Tokenizer};

use super::{assert_says, characters, train, write};

const ALL_TRAIN: TokenizeOptions<'static> = TokenizeOptions {
    validation_fraction: 0.0,
    line_ends: taal_data::LineEnds::Keep,
    separator: Separator::EndOfText,
    threads: 0,
    progress: None,
};

/// Real text of several chunks: prose, verse with blank lines, a list, and other content of files.
fn hard_text() -> String {
    let [verse, names, dutch] = ["tinyshakespeare", "names", "dutch-alpino"].map(|name| corpus(name).unwrap().text());
    let head = |text: &str, bytes: usize| text[..text.floor_char_boundary(bytes)].to_owned();
    let odd = "  ingesprongen\tmet tabs ,\r\nen   spaties\n\n\n- €3,50 … 🎉 één  \n".repeat(1_000);
    [head(dutch, 140_000), head(verse, 140_000), head(names, 60_000), odd].concat()
}

#[test]
fn chunks_give_the_ids_of_the_whole_text_for_every_kind_of_tokenizer() {
    let text = hard_text();
    for kind in [Kind::Bpe, Kind::WordPiece, Kind::Unigram, Kind::Char, Kind::Word] {
        // Short pieces of every kind of text train a similar vocabulary in a tenth of the time.
        let sample: String = text.lines().step_by(23).flat_map(|line| [line, "\n"]).collect();
        let tokenizer = if kind == Kind::Char {
            characters(&text)
        } else {
            train(kind, 600, &sample)
        };
        let whole = tokenizer.encode(&text).unwrap();
        let dataset = Dataset::from_texts(&tokenizer, &[("text", &text)], &ALL_TRAIN).unwrap();
        assert!(dataset.train.read(0, usize::MAX) == whole, "{kind:?}");
        assert_eq!(dataset.train.text_bytes(), text.len() as u64);
    }
}

#[test]
fn ids_do_not_depend_on_the_number_of_threads() {
    let text = hard_text();
    let tokenizer = train(Kind::Bpe, 500, &text[..100_000]);
    let ids = |threads| {
        let options = TokenizeOptions {
            threads,
            ..TokenizeOptions::default()
        };
        let dataset = Dataset::from_texts(&tokenizer, &[("text", &text)], &options).unwrap();
        (
            dataset.train.read(0, usize::MAX),
            dataset.validation[0].read(0, usize::MAX),
        )
    };
    let one = ids(1);
    assert!(one == ids(2) && one == ids(5));
}

#[test]
fn a_file_gives_the_same_ids_as_its_text_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let text = hard_text();
    let tokenizer = train(Kind::Bpe, 500, &text[..100_000]);
    let path = write(dir.path(), "text.txt", &text);
    let from_file = Dataset::from_files(&tokenizer, &[path], &TokenizeOptions::default()).unwrap();
    let from_text = Dataset::from_texts(&tokenizer, &[("text", &text)], &TokenizeOptions::default()).unwrap();
    assert!(from_file.train.read(0, usize::MAX) == from_text.train.read(0, usize::MAX));
    assert!(from_file.validation[0].read(0, usize::MAX) == from_text.validation[0].read(0, usize::MAX));
    assert_eq!(
        from_file.validation[0].text_bytes(),
        from_text.validation[0].text_bytes()
    );
}

#[test]
fn each_file_is_split_alone_and_a_separator_is_between_training_parts() {
    let dir = tempfile::tempdir().unwrap();
    let paths = [
        write(dir.path(), "a.txt", "aaaaaaaaab"),
        write(dir.path(), "b.txt", "ccccccccccccccccccdd"),
    ];
    let tokenizer = characters("abcd");
    let [a, b, c, d, end] = ["a", "b", "c", "d", "<|endoftext|>"].map(|token| tokenizer.token_to_id(token).unwrap());
    let dataset = Dataset::from_files(&tokenizer, &paths, &TokenizeOptions::default()).unwrap();
    assert_eq!(
        dataset.train.read(0, 100),
        [vec![a; 9], vec![end], vec![c; 18]].concat()
    );
    assert_eq!(
        dataset
            .validation
            .iter()
            .map(|source| source.read(0, 100))
            .collect::<Vec<_>>(),
        [vec![b], vec![d, d]]
    );
    assert_eq!(
        dataset
            .inputs
            .iter()
            .map(|input| input.train_tokens)
            .collect::<Vec<_>>(),
        [9, 19]
    );

    let none = TokenizeOptions {
        separator: Separator::None,
        ..TokenizeOptions::default()
    };
    assert_eq!(Dataset::from_files(&tokenizer, &paths, &none).unwrap().train.len(), 27);
    let wrong = TokenizeOptions {
        separator: Separator::Id(999),
        ..TokenizeOptions::default()
    };
    assert_says(Dataset::from_files(&tokenizer, &paths, &wrong), &["separator", "999"]);
}

#[test]
fn jsonl_documents_are_split_by_document_and_separated() {
    let dir = tempfile::tempdir().unwrap();
    let lines: String = (0..10)
        .map(|i| format!("{{\"text\": \"{}\", \"id\": {i}}}\n", "ab".repeat(i + 1)))
        .collect();
    let path = write(dir.path(), "documents.jsonl", lines + "\n");
    let tokenizer = characters("ab");
    let dataset = Dataset::from_files(&tokenizer, &[path], &TokenizeOptions::default()).unwrap();
    assert_eq!((dataset.train.len(), dataset.train.text_bytes()), (90 + 8, 90));
    assert_eq!(
        (dataset.validation[0].len(), dataset.validation[0].text_bytes()),
        (20, 20)
    );
}

#[test]
fn progress_reaches_the_total() {
    let text = hard_text().repeat(2);
    let tokenizer = characters(&text);
    let seen = RefCell::new(Vec::new());
    let report = |progress: taal_data::Progress<'_>| {
        seen.borrow_mut()
            .push((progress.bytes_done, progress.bytes_total, progress.tokens));
    };
    let options = TokenizeOptions {
        threads: 1,
        // The hard text has carriage returns, and all its bytes are counted.
        line_ends: taal_data::LineEnds::Keep,
        progress: Some(&report),
        ..TokenizeOptions::default()
    };
    Dataset::from_texts(&tokenizer, &[("text", &text)], &options).unwrap();
    let (bytes, tokens) = (text.len() as u64, text.chars().count() as u64);
    assert_eq!(seen.borrow().last(), Some(&(bytes, bytes, tokens)));
    assert!(seen.borrow().len() > 1 && seen.borrow().is_sorted());
}

#[test]
fn an_unknown_character_is_reported_with_its_position_in_the_whole_file() {
    let dir = tempfile::tempdir().unwrap();
    let text = "een twee drie ".repeat(40_000) + "Q" + &" vier".repeat(1_000);
    let path = write(dir.path(), "big.txt", &text);
    let tokenizer = characters(&text.replace('Q', ""));
    assert_says(
        Dataset::from_files(&tokenizer, &[path], &ALL_TRAIN),
        &["big.txt", "'Q'", "560000"],
    );
}

/// A tokenizer like published ones: "▁" for spaces and before the start of a text.
fn sentencepiece(normalizer: &str, pre_tokenizer: &str) -> Tokenizer {
    let letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,'\n";
    let pieces = [
        "<unk>", "▁", "▁de", "de", "▁het", "het", "▁een", "een", "en", "er", "▁van",
    ]
    .map(str::to_owned);
    let pieces: Vec<_> = pieces.into_iter().chain(letters.chars().map(String::from)).collect();
    let vocab: Vec<_> = pieces.iter().map(|piece| (piece, -10.0 + piece.len() as f64)).collect();
    let vocab = serde_json::to_string(&vocab).unwrap();
    let json = format!(
        r#"{{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": {normalizer},
        "pre_tokenizer": {pre_tokenizer}, "post_processor": null, "decoder": null,
        "model": {{"type": "Unigram", "unk_id": 0, "vocab": {vocab}, "byte_fallback": false}}}}"#
    );
    Tokenizer::from_json(json.as_bytes()).unwrap()
}

#[test]
fn tokenizers_that_mark_the_start_of_a_text_see_no_start_in_the_middle() {
    let text = corpus("dutch-alpino").unwrap().text();
    let text = &text[..text.floor_char_boundary(280_000)];
    let metaspace = |scheme: &str| {
        let pre_tokenizer =
            format!(r#"{{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "{scheme}", "split": true}}"#);
        sentencepiece("null", &pre_tokenizer)
    };
    let legacy = r#"{"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}"#;
    for tokenizer in [
        metaspace("always"),
        metaspace("first"),
        metaspace("never"),
        sentencepiece(legacy, "null"),
    ] {
        let dataset = Dataset::from_texts(&tokenizer, &[("text", text)], &ALL_TRAIN).unwrap();
        assert!(dataset.train.read(0, usize::MAX) == tokenizer.encode(text).unwrap());
    }
}
