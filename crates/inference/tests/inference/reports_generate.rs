//! Reports of users of other programs about generating, by their number in the list.

use burn::tensor::Device;
use serde_json::{Value, json};
use taal_inference::{
    FinishReason, GenerateOptions, Generation, InferenceError, LanguageModel, Prompt, Sampling, generate,
};
use taal_store::ErrorKind;
use taal_tokenizer::Tokenizer;

use crate::scripted::{self, byte_tokenizer, chain, qwen, qwen_directory, sentence_piece_tokenizer};
use crate::size;

fn greedy(max_tokens: usize) -> GenerateOptions {
    GenerateOptions {
        max_tokens,
        sampling: Sampling::greedy(),
        ..GenerateOptions::default()
    }
}

/// The continuation; checks that its pieces make its text.
fn streamed(lm: &LanguageModel, prompt: &Prompt, options: &GenerateOptions) -> Generation {
    let mut pieces = String::new();
    let generation = generate(lm, prompt, options, &mut |piece| {
        pieces.push_str(piece);
        std::ops::ControlFlow::Continue(())
    })
    .expect("a generation");
    assert_eq!(generation.text.as_deref().unwrap_or_default(), pieces);
    generation
}

/// Files of a model directory, by name.
type Files<'a> = &'a [(&'a str, Value)];

#[test]
fn a_scripted_model_follows_its_script() {
    let tokenizer = byte_tokenizer(&["\u{120}cat"], &["<s>"]);
    assert_eq!(tokenizer.token_to_id("<s>"), Some(257));
    let script = chain(&[b'a'.into(), 256, b'!'.into(), b'?'.into()]);
    let lm = LanguageModel::new(scripted::model(258, 32, &script), Some(tokenizer));
    let generation = streamed(&lm, &Prompt::from("a"), &greedy(3));
    assert_eq!(generation.text.as_deref(), Some(" cat!?"));

    let tokenizer = sentence_piece_tokenizer(&["\u{2581}a", "\u{2581}sat"]);
    let lm = LanguageModel::new(scripted::model(261, 32, &chain(&[259, 260, 259])), Some(tokenizer));
    let generation = streamed(&lm, &Prompt::Ids(vec![259]), &greedy(2));
    assert_eq!(generation.text.as_deref(), Some(" sat a"));
}

#[test]
fn report_1_the_first_file_with_the_key_decides_what_ends_a_text() {
    let (generation, tokens) = ("generation_config.json", "tokenizer_config.json");
    let cases: [(Value, Files<'_>, usize); 13] = [
        // By names, `<|endoftext|>` comes first.
        (json!({}), &[], 4),
        (json!({"eos_token_id": 258}), &[], 3),
        (json!({"eos_token_id": [256, 258]}), &[], 3),
        (json!({"eos_token_id": null}), &[], 9),
        (json!({"eos_token_id": []}), &[], 9),
        (
            json!({"eos_token_id": 256}),
            &[(generation, json!({"eos_token_id": [258, 256]}))],
            3,
        ),
        (
            json!({"eos_token_id": 258}),
            &[(generation, json!({"eos_token_id": null}))],
            9,
        ),
        (
            json!({"eos_token_id": 258}),
            &[(generation, json!({"temperature": 1.0}))],
            3,
        ),
        (json!({}), &[(tokens, json!({"eos_token": "<|im_end|>"}))], 3),
        (
            json!({}),
            &[(tokens, json!({"eos_token": {"content": "<|im_end|>", "special": true}}))],
            3,
        ),
        (json!({}), &[(tokens, json!({"eos_token": null}))], 9),
        (
            json!({"eos_token_id": 256}),
            &[(tokens, json!({"eos_token": "<|im_end|>"}))],
            4,
        ),
        // An id without a token is never generated.
        (json!({"eos_token_id": [999, -1, 258]}), &[], 3),
    ];
    for (config, files, expected) in cases {
        for tokenizer in [Some(qwen()), None] {
            let needs_tokenizer =
                config.get("eos_token_id").is_none() && !files.iter().any(|(name, _)| *name == generation);
            if tokenizer.is_none() && needs_tokenizer {
                continue;
            }
            let folder = tempfile::tempdir().expect("a folder");
            let lm = qwen_directory(&folder.path().join("model"), config.clone(), files, tokenizer.as_ref());
            let generation = streamed(&lm, &Prompt::Ids(vec![63]), &greedy(9));
            assert_eq!(generation.token_ids.len(), expected, "{config} {files:?}");
            let reason = if expected == 9 {
                FinishReason::Length
            } else {
                FinishReason::Eos
            };
            assert_eq!(generation.finish_reason, reason, "{config} {files:?}");
            let has_unknown = config["eos_token_id"][0] == 999;
            assert_eq!(lm.unknown_end_ids, if has_unknown { vec![999, -1] } else { vec![] });
            if tokenizer.is_some() && expected == 3 {
                assert_eq!(generation.text.as_deref(), Some("ab"));
            }
        }
    }
}

#[test]
fn report_1_an_empty_prompt_begins_with_the_id_that_the_files_name() {
    let cases: [(Value, Files<'_>, Option<u32>); 6] = [
        (json!({}), &[], Some(256)),
        (json!({"bos_token_id": 63}), &[], Some(63)),
        (
            json!({"bos_token_id": 97}),
            &[("generation_config.json", json!({"bos_token_id": 63}))],
            Some(63),
        ),
        (json!({"bos_token_id": null}), &[], None),
        (json!({"bos_token_id": 999}), &[], None),
        (
            json!({}),
            &[("tokenizer_config.json", json!({"bos_token": "<|im_start|>"}))],
            Some(257),
        ),
    ];
    for (config, files, expected) in cases {
        let folder = tempfile::tempdir().expect("a folder");
        let lm = qwen_directory(&folder.path().join("model"), config.clone(), files, Some(&qwen()));
        match (lm.prompt_ids(&Prompt::from("")), expected) {
            (Ok(ids), Some(id)) => assert_eq!(ids, [id], "{config}"),
            (Err(error @ InferenceError::EmptyPrompt { .. }), None) => assert_eq!(error.kind(), ErrorKind::Usage),
            (found, expected) => panic!("{config}: {found:?} instead of {expected:?}"),
        }
    }
}

#[test]
fn report_1_an_invalid_id_is_refused_by_file_and_key() {
    for (config, files, words) in [
        (json!({"eos_token_id": "</s>"}), vec![], ["config.json", "eos_token_id"]),
        (
            json!({}),
            vec![("generation_config.json", json!({"bos_token_id": 1.5}))],
            ["generation_config.json", "bos_token_id"],
        ),
        (
            json!({}),
            vec![("tokenizer_config.json", json!({"eos_token": 3}))],
            ["tokenizer_config.json", "eos_token"],
        ),
        (
            json!({}),
            vec![("generation_config.json", json!([]))],
            ["generation_config.json", "object"],
        ),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("model");
        scripted::save(&scripted::model(259, 64, &[]), Some(&qwen()), &dir, config, &files);
        let error = LanguageModel::open(&dir, &Device::flex()).expect_err("not an id");
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        let message = error.to_string();
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
    }
}

/// Bytes, " user" (256), then `</s>` (257), `<|eot_id|>` (258) and `<|im_start|>` (259).
fn chat() -> Tokenizer {
    byte_tokenizer(&["\u{120}user"], &["</s>", "<|eot_id|>", "<|im_start|>"])
}

#[test]
fn report_2_a_stop_string_names_special_tokens_and_the_text_leaves_them_out() {
    // "?" leads to "ab<|eot_id|>c<|im_start|> userd</s>".
    let script = chain(&[63, 97, 98, 258, 99, 259, 256, 100, 257]);
    let lm = LanguageModel::new(scripted::model(260, 64, &script), Some(chat()));
    let cases: [(&[&str], &str, &str, usize); 9] = [
        (&[], "abc userd", "ab<|eot_id|>c<|im_start|> userd</s>", 8),
        (&["<|eot_id|>"], "ab", "ab", 3),
        (&["b<|eot_id|>c"], "a", "a", 4),
        (&["<|im_start|> us"], "abc", "ab<|eot_id|>c", 6),
        (&["<|im_start|>x", "userd"], "abc ", "ab<|eot_id|>c<|im_start|> ", 7),
        (&["eot"], "ab", "ab<|", 3),
        (&["c us", "rd"], "abc use", "ab<|eot_id|>c<|im_start|> use", 7),
        (
            &["<|im_start|>y"],
            "abc userd",
            "ab<|eot_id|>c<|im_start|> userd</s>",
            8,
        ),
        (&["</s>"], "abc userd", "ab<|eot_id|>c<|im_start|> userd", 8),
    ];
    for (stop, hidden, shown, tokens) in cases {
        for (show_special, expected) in [(false, hidden), (true, shown)] {
            let options = GenerateOptions {
                stop: stop.iter().map(|stop| (*stop).to_owned()).collect(),
                show_special,
                ..greedy(12)
            };
            let generation = streamed(&lm, &Prompt::Ids(vec![63]), &options);
            assert_eq!(generation.text.as_deref(), Some(expected), "{stop:?}");
            assert_eq!(generation.token_ids.len(), tokens, "{stop:?}");
            let reason = if tokens == 8 {
                FinishReason::Eos
            } else {
                FinishReason::Stop
            };
            assert_eq!(generation.finish_reason, reason, "{stop:?}");
        }
    }
}

#[test]
fn report_3_nothing_is_lost_after_a_byte_that_does_not_fit() {
    let tokenizer = sentence_piece_tokenizer(&["a", "b", "END", "\u{2581}sat"]);
    // "a", a byte that begins a character, then "b", " sat", "END".
    let script = chain(&[259, 3 + 0xE2, 260, 262, 261]);
    let lm = LanguageModel::new(scripted::model(263, 64, &script), Some(tokenizer));
    let generation = streamed(&lm, &Prompt::Ids(vec![259]), &greedy(4));
    assert_eq!(generation.text.as_deref(), Some("\u{fffd}b satEND"));
    let options = GenerateOptions {
        stop: vec!["END".to_owned()],
        ..greedy(9)
    };
    let generation = streamed(&lm, &Prompt::Ids(vec![259]), &options);
    assert_eq!(generation.text.as_deref(), Some("\u{fffd}b sat"));
    assert_eq!(
        (generation.finish_reason, generation.token_ids.len()),
        (FinishReason::Stop, 4)
    );
}

#[test]
fn report_4_a_prompts_last_character_is_not_repeated() {
    let tokenizer = || sentence_piece_tokenizer(&["a", "\u{fffd}", "\u{2581}sat"]);
    let script = chain(&[260, 261, 259]);
    let lm = LanguageModel::new(scripted::model(262, 64, &script), Some(tokenizer()));
    let generation = streamed(&lm, &Prompt::Ids(vec![259, 260]), &greedy(2));
    assert_eq!(generation.text.as_deref(), Some(" sata"), "after U+FFFD");
    let script = chain(&[3 + 0xE2, 261, 259]);
    let lm = LanguageModel::new(scripted::model(262, 64, &script), Some(tokenizer()));
    let generation = streamed(&lm, &Prompt::Ids(vec![259, 3 + 0xE2]), &greedy(2));
    assert_eq!(generation.text.as_deref(), Some(" sata"), "after half a character");
    let script = chain(&[3 + 0xE2, 3 + 0x82, 3 + 0xAC, 261]);
    let lm = LanguageModel::new(scripted::model(262, 64, &script), Some(tokenizer()));
    let generation = streamed(&lm, &Prompt::Ids(vec![259, 3 + 0xE2]), &greedy(3));
    assert_eq!(
        generation.text.as_deref(),
        Some("€ sat"),
        "a character that the new tokens complete"
    );
}

#[test]
fn report_5_a_prompt_longer_than_the_context_keeps_its_end_and_its_first_id_and_says_so() {
    let ids: Vec<u32> = (40..79).collect();
    let begun = [&[256], ids.as_slice()].concat();
    let greedy = |truncate| GenerateOptions {
        truncate,
        stop_at_eos: false,
        ..greedy(2)
    };
    let mut differences = 0;
    for seed in 1..=30 {
        let config = taal_model::TransformerConfig::llama(size(258, 32, 2, 4, 32));
        let tokenizer = byte_tokenizer(&[], &["<s>", "</s>"]);
        let lm = LanguageModel::new(crate::tiny::model(&config, seed), Some(tokenizer));
        let continued = |ids: &[u32], truncate| {
            generate(&lm, &Prompt::Ids(ids.to_vec()), &greedy(truncate), &mut |_| {
                std::ops::ControlFlow::Continue(())
            })
        };
        for (long, short) in [(&ids, ids[8..].to_vec()), (&begun, [&[256], &ids[9..]].concat())] {
            assert_eq!(short.len(), 31);
            let generation = continued(long, true).expect("a generation");
            let counts = (
                generation.prompt_tokens,
                generation.dropped_prompt_tokens,
                generation.slid_tokens,
            );
            // The second new id does not fit in the full context and is never read.
            assert_eq!(counts, (long.len(), long.len() - 31, 0));
            let alone = continued(&short, true).expect("a generation");
            assert_eq!(generation.token_ids, alone.token_ids, "seed {seed}");
            assert_eq!((alone.prompt_tokens, alone.dropped_prompt_tokens), (31, 0));
            let error = continued(long, false).expect_err("too long");
            assert_eq!(error.kind(), ErrorKind::Usage);
            assert!(error.to_string().contains("32"), "{error}");
        }
        let kept = continued(&begun, true).expect("a generation").token_ids;
        differences += usize::from(kept != continued(&begun[9..], true).expect("a generation").token_ids);
        // A prompt of 32 ids fits; with the id after it, 17 leave the window at once.
        let full = continued(&begun[..32], false).expect("a prompt that fits");
        assert_eq!((full.dropped_prompt_tokens, full.slid_tokens), (0, 17));
    }
    assert!(differences > 0, "the first id matters in at least one model");
}
