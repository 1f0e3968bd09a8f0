//! Tests of the public interface.

use std::path::{Path, PathBuf};

use taal_tokenizer::{Error, Kind, Tokenizer, TrainerConfig, Unknown, compression};

mod tokenizer {
    mod chat;
    mod golden;
    mod hostile;
    mod import;
    mod opening;
    mod reports_files;
    mod training;
}

const CORPUS: &str = include_str!("golden/corpus.txt");

/// Texts that are hard for tokenizers.
const HARD: &[&str] = &[
    "",
    " ",
    "  twee spaties  ervoor en erna  ",
    "één idee, naïef: Curaçao\r\n\tIJsselmeer\r\n\r\n",
    "losse accenten e\u{301}, nul\u{200b}breed, \u{feff}, niet\u{a0}breken",
    "👩\u{200d}👩\u{200d}👧 🇳🇱 ❤\u{fe0f} ▁▂▃ <0x41> <0xE2>",
    "日本語 العربية \u{1}\u{7f}\u{2028}\u{10ffff}",
    "   \n\n\n   x\t\t",
];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn train(kind: Kind, vocab_size: usize) -> Tokenizer {
    TrainerConfig::new(kind, vocab_size).train([CORPUS]).unwrap()
}

/// Mixed texts: hard ones, slices of the corpus at odd positions, repetitions.
fn texts() -> Vec<String> {
    let mut texts: Vec<String> = HARD.iter().map(ToString::to_string).collect();
    texts.extend(
        HARD.iter()
            .map(|text| format!("{text}{}{text}", &CORPUS[..CORPUS.floor_char_boundary(101)])),
    );
    texts.push("a".repeat(5000));
    texts.push(format!("{}x", " ".repeat(5000)));
    texts.push("🦜".repeat(3000));
    texts
}

#[test]
fn byte_level_bpe_and_unigram_restore_every_text_exactly() {
    for tokenizer in [train(Kind::Bpe, 500), train(Kind::Unigram, 500)] {
        for text in texts() {
            let ids = tokenizer.encode(&text).unwrap();
            assert_eq!(tokenizer.decode(&ids).unwrap(), text);
        }
    }
}

#[test]
fn a_char_tokenizer_has_the_sorted_characters_as_ids_and_nothing_else() {
    let mut characters: Vec<char> = CORPUS.chars().collect();
    characters.sort_unstable();
    characters.dedup();
    let tokenizer = train(Kind::Char, characters.len());
    assert_eq!(tokenizer.vocab_size(), characters.len());
    let expected: Vec<u32> = CORPUS
        .chars()
        .map(|c| characters.binary_search(&c).unwrap() as u32)
        .collect();
    assert_eq!(tokenizer.encode(CORPUS).unwrap(), expected);
    assert_eq!(tokenizer.decode(&expected).unwrap(), CORPUS);
    assert_eq!(tokenizer.bos_id(), None);
    assert_eq!(tokenizer.token_to_id("\n"), Some(0));
}

#[test]
fn a_word_tokenizer_restores_text_of_known_words_exactly() {
    let tokenizer = train(Kind::Word, 100_000);
    let ids = tokenizer.encode(CORPUS).unwrap();
    assert_eq!(tokenizer.decode(&ids).unwrap(), CORPUS);
    assert_eq!(tokenizer.unk_id(), Some(0));
    let ids = tokenizer.encode("de xyzzy").unwrap();
    assert_eq!(tokenizer.tokens(&ids), ["de", " ", "[UNK]"]);
    assert_eq!(
        tokenizer.decode(&ids).unwrap(),
        "de [UNK]",
        "unknown text stays visible"
    );
}

#[test]
fn a_wordpiece_tokenizer_keeps_case_and_marks_pieces_that_continue_a_word() {
    let tokenizer = train(Kind::WordPiece, 500);
    let ids = tokenizer.encode("De deuren, De").unwrap();
    assert_eq!(tokenizer.decode(&ids).unwrap(), "De deuren , De");
    let tokens = tokenizer.tokens(&ids);
    assert!(tokens.iter().any(|token| token.starts_with("##")), "{tokens:?}");
    let with_special = tokenizer.encode_with_special("De deuren, De").unwrap();
    let (first, last) = (tokenizer.bos_id().unwrap(), tokenizer.eos_id().unwrap());
    assert_eq!(with_special, [vec![first], ids, vec![last]].concat());
    let unknown = tokenizer.encode("日").unwrap();
    assert_eq!(unknown, [tokenizer.unk_id().unwrap()]);
}

#[test]
fn an_unknown_character_is_an_error_with_its_code_point_and_position() {
    let tokenizer = train(Kind::Char, 200);
    let error = tokenizer.encode("één kat, 🐈").unwrap_err();
    assert!(matches!(&error, Error::Unknown { position: 9, .. }), "{error}");
    let message = error.to_string();
    assert!(
        message.contains('🐈') && message.contains("U+1F408") && message.contains("9"),
        "{message}"
    );
}

#[test]
fn an_unknown_word_is_an_error_that_names_it_where_there_is_no_unknown_token() {
    let mut config = TrainerConfig::new(Kind::Word, 100_000);
    config.unknown = Unknown::Error;
    let tokenizer = config.train([CORPUS]).unwrap();
    let error = tokenizer.encode("één xyzzy").unwrap_err();
    assert!(
        matches!(&error, Error::Unknown { what, position: 4 } if what.contains("xyzzy")),
        "{error}"
    );

    config.kind = Kind::WordPiece;
    let error = config.train([CORPUS]).unwrap().encode("De 日本").unwrap_err();
    assert!(
        matches!(&error, Error::Unknown { what, position: 3 } if what.contains("日本")),
        "{error}"
    );
}

#[test]
fn unknown_characters_become_the_unknown_token_by_choice_and_the_rarest_ones_first() {
    let mut config = TrainerConfig::new(Kind::Char, 3);
    config.unknown = Unknown::Token;
    let tokenizer = config.train(["aaabbc"]).unwrap();
    assert_eq!(tokenizer.vocab_size(), 3);
    let ids = tokenizer.encode("abcé").unwrap();
    assert_eq!(tokenizer.tokens(&ids), ["a", "b", "[UNK]", "[UNK]"]);
    assert_eq!(compression(&tokenizer, "abcé").unwrap().unknown, 2);
}

#[test]
fn a_stream_gives_the_text_of_all_ids_and_never_splits_a_character() {
    for (kind, vocab_size) in [
        (Kind::Bpe, 257),
        (Kind::Unigram, 400),
        (Kind::WordPiece, 500),
        (Kind::Word, 500),
    ] {
        let tokenizer = train(kind, vocab_size);
        for text in texts() {
            let ids = tokenizer.encode(&text).unwrap();
            let ids = &ids[..ids.len().min(2000)];
            let mut stream = tokenizer.decode_stream();
            let mut streamed = String::new();
            for &id in ids {
                let part = stream.push(id).unwrap().unwrap_or_default();
                assert!(!part.contains('\u{fffd}'), "a split character");
                streamed.push_str(&part);
            }
            streamed.push_str(&stream.finish().unwrap());
            assert_eq!(streamed, tokenizer.decode(ids).unwrap(), "{kind}");
        }
    }
}

#[test]
fn a_stream_of_arbitrary_ids_ends_in_the_same_text_as_decoding_them_at_once() {
    for tokenizer in [train(Kind::Bpe, 300), train(Kind::Unigram, 400)] {
        let mut state = 7_u32;
        let random = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % tokenizer.vocab_size() as u32
        });
        let ids: Vec<u32> = random.take(3000).collect();
        let mut stream = tokenizer.decode_stream();
        let mut streamed = String::new();
        for &id in &ids {
            streamed.push_str(&stream.push(id).unwrap().unwrap_or_default());
        }
        streamed.push_str(&stream.finish().unwrap());
        assert_eq!(streamed, tokenizer.decode(&ids).unwrap());
    }
}

#[test]
fn special_tokens_come_first_are_found_in_text_and_left_out_of_decoded_text() {
    let mut config = TrainerConfig::new(Kind::Bpe, 300);
    config.special_tokens = vec!["<|bos|>".into(), "<|eos|>".into(), "<pad>".into(), "<mask>".into()];
    let tokenizer = config.train([CORPUS]).unwrap();
    assert_eq!((tokenizer.bos_id(), tokenizer.eos_id()), (Some(0), Some(1)));
    assert_eq!(
        (tokenizer.pad_id(), tokenizer.mask_id(), tokenizer.unk_id()),
        (Some(2), Some(3), None)
    );
    let ids = tokenizer.encode("<|bos|>de<|eos|>").unwrap();
    assert_eq!((ids[0], ids[ids.len() - 1]), (0, 1));
    assert_eq!(tokenizer.decode(&ids).unwrap(), "de");
    let default = TrainerConfig::new(Kind::Bpe, 300).train([CORPUS]).unwrap();
    assert_eq!((default.bos_id(), default.eos_id()), (Some(0), Some(0)));
}

#[test]
fn an_ordinary_token_that_looks_special_is_not() {
    let tokenizer = TrainerConfig::new(Kind::Word, 100).train(["s s s"]).unwrap();
    assert_eq!(tokenizer.bos_id(), None);
    assert_eq!(train(Kind::Char, 200).unk_id(), None);
}

#[test]
fn ids_without_a_token_are_an_error_with_the_size_of_the_vocabulary() {
    let tokenizer = train(Kind::Bpe, 300);
    for decoded in [
        tokenizer.decode(&[0, 300]).map(|_| ()),
        tokenizer.decode_stream().push(300).map(|_| ()),
    ] {
        assert!(matches!(
            decoded,
            Err(Error::NoSuchToken {
                id: 300,
                vocab_size: 300
            })
        ));
    }
    assert_eq!(tokenizer.tokens(&[300]), ["<no token 300>"]);
    assert_eq!(tokenizer.id_to_token(300), None);
}

#[test]
fn long_texts_encode_to_the_same_ids_as_in_one_piece() {
    let long = CORPUS.repeat(8);
    for (kind, vocab_size) in [
        (Kind::Bpe, 400),
        (Kind::WordPiece, 400),
        (Kind::Unigram, 400),
        (Kind::Char, 200),
        (Kind::Word, 400),
    ] {
        let tokenizer = train(kind, vocab_size);
        let in_parts = tokenizer.encode(&long).unwrap();
        let library: tokenizers::Tokenizer = serde_json::from_slice(&tokenizer.to_json()).unwrap();
        assert!(
            in_parts == library.encode_fast(long.as_str(), false).unwrap().get_ids(),
            "{kind}"
        );
    }
}

#[test]
fn compression_counts_bytes_characters_and_tokens() {
    let report = compression(&train(Kind::Char, 200), "één\n").unwrap();
    assert_eq!(
        (report.bytes, report.characters, report.tokens, report.unknown),
        (6, 4, 4, 0)
    );
    assert!((report.bytes_per_token - 1.5).abs() < 1e-12);
    assert_eq!(compression(&train(Kind::Char, 200), "").unwrap().bytes_per_token, 0.0);
    assert!(compression(&train(Kind::Bpe, 600), CORPUS).unwrap().bytes_per_token > 2.0);
}

/// Two neighbors that merge.
type Pair = (String, String);

/// A token and the merges inside it, each with its step number.
type Made = (String, Vec<(usize, Pair)>);

/// Byte-pair encoding of one word by definition, and the merges inside each resulting token.
fn merges_by_definition(word: &str, ranks: &[Pair]) -> Vec<(String, Vec<Pair>)> {
    let mut tokens: Vec<Made> = word.chars().map(|c| (c.to_string(), Vec::new())).collect();
    for time in 0.. {
        let rank = |pair: &[(String, Vec<_>)]| ranks.iter().position(|(a, b)| *a == pair[0].0 && *b == pair[1].0);
        let places = tokens.windows(2).enumerate();
        let Some((_, place)) = places.filter_map(|(place, pair)| Some((rank(pair)?, place))).min() else {
            break;
        };
        let (right, later) = tokens.remove(place + 1);
        let (left, merges) = &mut tokens[place];
        merges.extend(later);
        merges.push((time, (left.clone(), right.clone())));
        left.push_str(&right);
    }
    let in_order = |mut merges: Vec<(usize, Pair)>| {
        merges.sort();
        merges.into_iter().map(|merge| merge.1).collect()
    };
    tokens
        .into_iter()
        .map(|(token, merges)| (token, in_order(merges)))
        .collect()
}

#[test]
fn the_merges_of_tokens_are_those_of_their_word() {
    let tokenizer = train(Kind::Bpe, 500);
    let file: serde_json::Value = serde_json::from_slice(&tokenizer.to_json()).unwrap();
    let ranks: Vec<(String, String)> = serde_json::from_value(file["model"]["merges"].clone()).unwrap();
    let mut several = 0;
    for word in CORPUS.split_whitespace().take(300) {
        let ids = tokenizer.encode(word).unwrap();
        let spelled = tokenizer.tokens(&ids);
        let merges = tokenizer.merges(&ids).unwrap();
        // A word with punctuation is several words for the tokenizer, without merges between them.
        let Some(expected) = Some(merges_by_definition(&spelled.concat(), &ranks))
            .filter(|expected| expected.iter().map(|token| &token.0).eq(&spelled))
        else {
            continue;
        };
        for (own, (token, expected)) in merges.iter().zip(expected) {
            let own: Vec<(String, String)> = own
                .iter()
                .map(|merge| (merge.left.clone(), merge.right.clone()))
                .collect();
            assert_eq!(own, expected, "{token}");
            several += usize::from(own.len() > 2);
        }
    }
    assert!(several > 15, "{several} tokens of more than two merges");
    assert_eq!(train(Kind::Unigram, 400).merges(&[1]), None);
}

#[test]
fn merges_handle_prefixes_suffixes_and_files_that_skip_them() {
    let with = |change: fn(&mut serde_json::Value)| {
        let mut file: serde_json::Value = serde_json::from_str(
            r#"{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
                "pre_tokenizer": null, "post_processor": null, "decoder": null, "model": {"type": "BPE", "dropout": null,
                "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
                "byte_fallback": false, "ignore_merges": false, "vocab": {}, "merges": []}}"#,
        )
        .unwrap();
        change(&mut file);
        Tokenizer::from_json(&serde_json::to_vec(&file).unwrap()).unwrap()
    };
    let pairs = |tokenizer: &Tokenizer, text: &str| {
        let ids = tokenizer.encode(text).unwrap();
        let merges = tokenizer.merges(&ids).unwrap();
        let pairs = merges.concat().into_iter();
        pairs
            .map(|merge| format!("{}+{}", merge.left, merge.right))
            .collect::<Vec<_>>()
    };
    let prefix = with(|file| {
        file["model"]["continuing_subword_prefix"] = "##".into();
        file["model"]["vocab"] = serde_json::json!({"a": 0, "##b": 1, "##c": 2, "##bc": 3, "abc": 4});
        file["model"]["merges"] = serde_json::json!([["##b", "##c"], ["a", "##bc"]]);
    });
    assert_eq!(pairs(&prefix, "abc"), ["##b+##c", "a+##bc"]);
    let suffix = with(|file| {
        file["model"]["end_of_word_suffix"] = "</w>".into();
        file["model"]["vocab"] = serde_json::json!({"a": 0, "b": 1, "b</w>": 2, "ab</w>": 3});
        file["model"]["merges"] = serde_json::json!(["#version: 0.2", "a b</w>"]);
    });
    assert_eq!(pairs(&suffix, "ab"), ["a+b</w>"]);
    let whole = with(|file| {
        file["model"]["ignore_merges"] = true.into();
        file["model"]["vocab"] = serde_json::json!({"a": 0, "b": 1, "ab": 2});
    });
    assert_eq!(whole.encode("ab").unwrap(), [2]);
    assert!(pairs(&whole, "ab").is_empty());
}

#[test]
fn spans_are_the_parts_of_the_text_of_each_token() {
    for kind in [Kind::Bpe, Kind::WordPiece, Kind::Unigram, Kind::Char, Kind::Word] {
        let tokenizer = train(kind, 1000);
        let text = &CORPUS[..CORPUS.floor_char_boundary(300)];
        let ids = tokenizer.encode(text).unwrap();
        let spans = tokenizer.spans(text, &ids).unwrap();
        assert_eq!(spans.len(), ids.len());
        let mut covered = vec![false; text.len()];
        for (span, &id) in spans.iter().zip(&ids) {
            covered[span.clone()].fill(true);
            if let Some(bytes) = tokenizer
                .token_bytes(id)
                .filter(|_| kind != Kind::Unigram && Some(id) != tokenizer.unk_id())
            {
                let part = &text.as_bytes()[span.clone()];
                assert!(part.windows(bytes.len()).any(|part| part == bytes), "{kind}");
            }
        }
        let is_left_out = |index: usize| !covered[index] && !text.as_bytes()[index].is_ascii_whitespace();
        assert!(!(0..text.len()).any(is_left_out), "{kind}");
        assert_eq!(tokenizer.spans(text, &ids[1..]), None, "other ids");
    }
}
