//! Training: determinism, limits, equal results from files and memory, and helpful errors.

use std::path::PathBuf;

use taal_store::ErrorKind;
use tokenizers::Model as _;
use tokenizers::models::bpe::{BPE, BpeTrainer};

use crate::{CORPUS, Error, Kind, TrainerConfig, Unknown};

const KINDS: [(Kind, usize); 5] = [
    (Kind::Bpe, 400),
    (Kind::WordPiece, 400),
    (Kind::Unigram, 400),
    (Kind::Char, 200),
    (Kind::Word, 400),
];

fn in_pool<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap()
        .install(work)
}

/// A corpus of words in a few forms each, so that many pairs are equally frequent.
fn ties() -> String {
    let mut text = String::new();
    for first in "bdfgklmnprstvwz".chars() {
        for second in "aeiou".chars() {
            for third in ["n", "nt", "rde", "lend", "sel"] {
                text.push_str(&format!("{first}{second}{third} {second}{third}{first}\n"));
            }
        }
    }
    text.repeat(2)
}

#[test]
fn equal_text_gives_equal_bytes_for_any_number_of_threads() {
    for text in [CORPUS.to_owned(), ties()] {
        for (kind, vocab_size) in KINDS {
            let train = || {
                TrainerConfig::new(kind, vocab_size * 2)
                    .train([&text])
                    .unwrap()
                    .to_json()
            };
            let first = in_pool(1, train);
            for threads in [2, 5] {
                assert!(in_pool(threads, train) == first, "{kind} on {threads} threads");
            }
        }
    }
}

#[test]
fn files_and_memory_give_the_same_tokenizer() {
    let directory = tempfile::tempdir().unwrap();
    // Larger than several chunks, so that files and texts are cut at different positions.
    let text = CORPUS.repeat(40);
    let middle = text.floor_char_boundary(text.len() / 2);
    let paths: Vec<PathBuf> = ["een.txt", "twee.txt"]
        .iter()
        .map(|name| directory.path().join(name))
        .collect();
    std::fs::write(&paths[0], &text[..middle]).unwrap();
    std::fs::write(&paths[1], &text[middle..]).unwrap();
    for (kind, vocab_size) in KINDS {
        let config = TrainerConfig::new(kind, vocab_size);
        let from_files = config.train_files(&paths).unwrap();
        let from_texts = config.train([&text[..middle], &text[middle..]]).unwrap();
        assert!(from_files.to_json() == from_texts.to_json(), "{kind}");
    }
}

#[test]
fn merges_equal_the_librarys_without_ties() {
    let tokenizer = TrainerConfig::new(Kind::Bpe, 500).train([CORPUS]).unwrap();
    let ours: tokenizers::Tokenizer = serde_json::from_slice(&tokenizer.to_json()).unwrap();
    let mut trainer = BpeTrainer::builder()
        .vocab_size(499)
        .min_frequency(2)
        .show_progress(false)
        .initial_alphabet(
            tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet()
                .into_iter()
                .collect(),
        )
        .build();
    let words = |text: &str| {
        let mut words = tokenizers::PreTokenizedString::from(text);
        tokenizers::PreTokenizer::pre_tokenize(ours.get_pre_tokenizer().unwrap(), &mut words)?;
        let splits = words.get_splits(tokenizers::OffsetReferential::Normalized, tokenizers::OffsetType::None);
        Ok(splits.into_iter().map(|(word, _, _)| word.to_owned()).collect())
    };
    tokenizers::Trainer::feed(&mut trainer, [CORPUS].iter(), words).unwrap();
    let mut library = BPE::default();
    tokenizers::Trainer::train(&trainer, &mut library).unwrap();
    for id in 0..499 {
        // Ours begin with the special token.
        assert_eq!(tokenizer.id_to_token(id + 1), library.id_to_token(id));
    }
}

#[test]
fn memory_stays_bounded_by_dropping_the_rarest_words() {
    // Frequent words among more unique words than fit in the smallest limit.
    let texts = (0..700).map(|chunk| {
        let rare: String = (0..700).map(|word| format!(" w{chunk}x{word}")).collect();
        format!("de kat zit op de mat{rare}\n")
    });
    let mut config = TrainerConfig::new(Kind::Word, 50);
    config.memory_limit_bytes = 128 << 20;
    let (tokenizer, report) = config.train_reported(texts).unwrap();
    assert!(
        report.forgotten_occurrences > 0 && report.forgotten_up_to > 0,
        "{report:?}"
    );
    assert_eq!(report.occurrences, 700 * (6 + 5 + 2 * 700 + 1));
    for word in ["de", "kat", "zit", "op", "mat", " "] {
        assert!(tokenizer.token_to_id(word).is_some_and(|id| id < 9), "{word}");
    }
    config.unknown = Unknown::Error;
    let texts = (0..700).map(|chunk| (0..700).map(|word| format!(" w{chunk}x{word}")).collect::<String>());
    assert!(matches!(
        config.train(texts),
        Err(Error::Setting {
            key: "memory_limit_bytes",
            ..
        })
    ));
}

#[test]
fn a_vocabulary_that_is_too_small_is_an_error_with_the_minimum() {
    let least = [
        (Kind::Bpe, 257),
        (Kind::Unigram, 280),
        (Kind::WordPiece, 7),
        (Kind::Word, 2),
    ];
    for (kind, least) in least {
        let error = TrainerConfig::new(kind, least - 1).train([CORPUS]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        let message = error.to_string();
        assert!(
            message.contains("vocab_size") && message.contains(&format!("at least {least} ")),
            "{message}"
        );
        assert!(TrainerConfig::new(kind, least).train([CORPUS]).is_ok(), "{kind}");
    }
    let error = TrainerConfig::new(Kind::Char, 2)
        .train(["abc"])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("at least 3") && error.contains("unknown = token"),
        "{error}"
    );
    for vocab_size in [0, 1_000_001] {
        assert!(TrainerConfig::new(Kind::Bpe, vocab_size).train([CORPUS]).is_err());
    }
}

#[test]
fn small_texts_give_small_vocabularies_and_no_panic() {
    for text in [
        "a",
        "aaaaaaaa",
        "a b a b a b",
        "\u{0}",
        "日",
        "\n",
        "####",
        "##a ##a",
        "ab",
        "aa aa",
    ] {
        for kind in Kind::ALL {
            let tokenizer = match TrainerConfig::new(kind, 1000).train([text]) {
                Ok(tokenizer) => tokenizer,
                // BERT's words have no whitespace, so there may be no words.
                Err(Error::NoWord { .. }) if kind == Kind::WordPiece => continue,
                Err(error) => panic!("{kind} {text:?}: {error}"),
            };
            let ids = tokenizer.encode(text).unwrap();
            if kind != Kind::WordPiece {
                assert_eq!(tokenizer.decode(&ids).unwrap(), text, "{kind}");
            }
        }
    }
}

#[test]
fn text_without_anything_to_learn_is_an_error() {
    for kind in Kind::ALL {
        let config = TrainerConfig::new(kind, 1000);
        assert!(matches!(
            config.train([""; 3]),
            Err(Error::Empty { unit: "character", .. })
        ));
        assert!(matches!(config.train(Vec::<String>::new()), Err(Error::Empty { .. })));
        assert!(matches!(config.train_files(&[]), Err(Error::Empty { .. })));
    }
}

#[test]
fn files_that_are_not_text_are_errors_with_file_and_offset() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("invoer.txt");
    let paths = [path.clone()];
    for kind in Kind::ALL {
        let config = TrainerConfig::new(kind, 1000);
        let far = "é".repeat(400_000);
        std::fs::write(&path, [far.as_bytes(), b"\xE9n", far.as_bytes()].concat()).unwrap();
        let error = config.train_files(&paths).unwrap_err();
        assert!(
            error.to_string().contains("invoer.txt") && error.to_string().contains("800000"),
            "{error}"
        );
        assert_eq!(error.kind(), ErrorKind::Corrupt);

        std::fs::write(&path, [far.as_bytes(), &b"\xC3"[..]].concat()).unwrap();
        let error = config.train_files(&paths).unwrap_err();
        assert!(
            error.to_string().contains("800000"),
            "a character cut off by the end of the file: {error}"
        );

        std::fs::write(&path, [far.as_bytes(), &b"a\0b"[..]].concat()).unwrap();
        let error = config.train_files(&paths).unwrap_err();
        assert!(matches!(&error, Error::Binary { offset: 800_001, .. }), "{error}");

        std::fs::write(&path, "").unwrap();
        let error = config.train_files(&paths).unwrap_err();
        assert!(
            matches!(&error, Error::Empty { origin, .. } if origin.contains("invoer.txt")),
            "{error}"
        );

        std::fs::remove_file(&path).unwrap();
        let error = config.train_files(&paths).unwrap_err();
        assert!(error.to_string().contains("invoer.txt"), "{error}");
        assert_eq!(error.kind(), ErrorKind::Usage);
    }
}

#[test]
fn invalid_special_tokens_are_errors() {
    let unusable: [&[&str]; 5] = [&[""], &["twee woorden"], &["<s>", "<s>"], &["Ġ"], &["<0x41>"]];
    for tokens in unusable {
        let refused = [Kind::Bpe, Kind::Unigram].into_iter().filter(|&kind| {
            let mut config = TrainerConfig::new(kind, 500);
            config.special_tokens = tokens.iter().map(ToString::to_string).collect();
            matches!(
                config.train([CORPUS]),
                Err(Error::Setting {
                    key: "special_tokens",
                    ..
                })
            )
        });
        assert!(refused.count() >= 1, "{tokens:?}");
    }
    let mut config = TrainerConfig::new(Kind::Bpe, 500);
    config.memory_limit_bytes = 1 << 20;
    assert!(matches!(
        config.train([CORPUS]),
        Err(Error::Setting {
            key: "memory_limit_bytes",
            ..
        })
    ));
}

#[test]
fn special_tokens_in_the_training_text_are_not_learned() {
    for kind in Kind::ALL {
        let mut config = TrainerConfig::new(kind, 400);
        config.special_tokens.push("<|einde|>".into());
        let with = config.train([CORPUS.replace(".\n", ".<|einde|>\n")]).unwrap();
        let without = config.train([CORPUS]).unwrap();
        // Words of unigram and word cross from the end of a sentence over the line end.
        if matches!(kind, Kind::Bpe | Kind::Char) {
            assert!(with.to_json() == without.to_json(), "{kind}");
        }
        assert!(
            (0..with.vocab_size() as u32)
                .filter_map(|id| with.id_to_token(id))
                .all(|token| !token.contains("einde|") || token == "<|einde|>")
        );
    }
}

#[test]
fn special_tokens_are_added_after_the_vocabulary_and_those_that_are_there_keep_their_ids() {
    for kind in Kind::ALL {
        let tokenizer = TrainerConfig::new(kind, 400).train([CORPUS]).unwrap();
        let added = ["<|im_start|>", "<|im_end|>", "<|im_start|>"];
        let more = tokenizer.with_special_tokens(added).unwrap();
        let next = tokenizer.vocab_size() as u32;
        assert_eq!(more.vocab_size() as u32, next + 2, "{kind}");
        assert!(more.is_special(next) && more.is_special(next + 1), "{kind}");
        let sentence = CORPUS.lines().next().unwrap();
        let expected = [tokenizer.encode(sentence).unwrap(), vec![next + 1]].concat();
        assert_eq!(
            more.encode(&format!("{sentence}<|im_end|>")).unwrap(),
            expected,
            "{kind}"
        );
        assert_ne!(more.hash(), tokenizer.hash());
        let again = more.with_special_tokens(["<|im_end|>"]).unwrap();
        assert_eq!(again.vocab_size(), more.vocab_size(), "{kind}");
        assert!(matches!(
            more.with_special_tokens(["im end"]),
            Err(Error::Setting {
                key: "special_tokens",
                ..
            })
        ));
    }
}

#[test]
fn names_of_kinds_parse() {
    for kind in Kind::ALL {
        assert_eq!(kind.to_string().parse::<Kind>().unwrap(), kind);
    }
    let error = "sentencepiece".parse::<Kind>().unwrap_err().to_string();
    assert!(error.contains("sentencepiece") && error.contains("unigram"), "{error}");
    for unknown in [Unknown::Error, Unknown::Token] {
        assert_eq!(unknown.to_string().parse::<Unknown>().unwrap(), unknown);
    }
}

#[test]
fn a_frame_that_names_tell_is_in_the_file_on_request() {
    let tokenizer = TrainerConfig::new(Kind::Bpe, 400).train([CORPUS]).unwrap();
    let end = tokenizer.eos_id().unwrap();
    let ids = tokenizer.encode("de kat").unwrap();
    assert_eq!(tokenizer.encode_with_special("de kat").unwrap(), ids);
    let framed = tokenizer.with_frame().unwrap();
    let expected = [&[end], ids.as_slice(), &[end]].concat();
    assert_eq!(framed.encode_with_special("de kat").unwrap(), expected);
    assert_eq!(framed.encode("de kat").unwrap(), ids);
    assert_eq!(framed.frame(), tokenizer.frame());
    // What a file says stays as it is.
    let again = framed.with_frame().unwrap();
    assert_eq!(again.to_json(), framed.to_json());
}
