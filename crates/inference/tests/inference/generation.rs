//! From prompt to continuation: stop strings, end of sequence, streaming, and invalid prompts.

use taal_inference::{
    Decoder, FinishReason, GenerateOptions, Generation, InferenceError, LanguageModel, Prompt, Sampling, Seen,
    generate, sample,
};
use taal_model::TransformerConfig;
use taal_store::ErrorKind;
use taal_tokenizer::{Kind, TrainerConfig};

use crate::size;
use crate::tiny::{CONTEXT, VOCAB_SIZE, byte_model, char_model, char_tokenizer, model};

fn options(max_tokens: usize, seed: u64) -> GenerateOptions {
    GenerateOptions {
        max_tokens,
        sampling: Sampling {
            seed,
            ..Sampling::default()
        },
        ..GenerateOptions::default()
    }
}

/// The generation, and the streamed pieces.
fn streamed(lm: &LanguageModel, prompt: &Prompt, options: &GenerateOptions) -> (Generation, Vec<String>) {
    let mut pieces = Vec::new();
    let generation = generate(lm, prompt, options, &mut |piece| {
        pieces.push(piece.to_owned());
        std::ops::ControlFlow::Continue(())
    })
    .expect("a generation");
    (generation, pieces)
}

fn refusal(lm: &LanguageModel, prompt: &Prompt, options: &GenerateOptions) -> InferenceError {
    generate(lm, prompt, options, &mut |_| std::ops::ControlFlow::Continue(())).expect_err("a refusal")
}

#[test]
fn the_streamed_pieces_make_the_text() {
    let lm = char_model();
    let (generation, pieces) = streamed(&lm, &Prompt::from("abc"), &options(30, 1));
    let text = generation.text.expect("a text");
    assert_eq!(pieces.concat(), text);
    assert_eq!(pieces.len(), 30, "a character is streamed as soon as it is complete");
    assert_eq!(text.len(), 30);
    assert_eq!(
        lm.tokenizer.expect("a tokenizer").encode(&text).expect("ids"),
        generation.token_ids
    );
    assert_eq!(generation.finish_reason, FinishReason::Length);
    assert_eq!(generation.prompt, Prompt::from("abc"));
}

#[test]
fn pieces_never_split_a_character() {
    let lm = byte_model();
    let tokenizer = lm.tokenizer.as_ref().expect("a tokenizer");
    for seed in 0..20 {
        let no_eos = GenerateOptions {
            stop_at_eos: false,
            ..options(60, seed)
        };
        let (generation, pieces) = streamed(&lm, &Prompt::from("é"), &no_eos);
        // The drawn bytes are mostly not valid text, so the pieces are compared with decoding everything at once.
        assert_eq!(
            pieces.concat(),
            tokenizer.decode(&generation.token_ids).expect("a text"),
            "seed {seed}"
        );
        assert!(pieces.iter().all(|piece| !piece.is_empty()));
    }
    // The first half of a character at the end of the prompt is already shown with the prompt if nothing completes it.
    let half = tokenizer.encode("é").expect("two bytes")[..1].to_vec();
    let (generation, _) = streamed(&lm, &Prompt::Ids(half.clone()), &options(5, 1));
    let whole = [half, generation.token_ids].concat();
    assert_eq!(
        "\u{fffd}".to_owned() + &generation.text.expect("a text"),
        tokenizer.decode(&whole).expect("a text")
    );
}

#[test]
fn a_continuation_keeps_the_space_that_begins_its_first_word() {
    let tokenizer = TrainerConfig::new(Kind::WordPiece, 60)
        .train(["the cat sat on the mat and the dog sat on the log"])
        .expect("a tokenizer");
    let config = TransformerConfig::llama(size(tokenizer.vocab_size(), 32, 1, 2, 16));
    let lm = LanguageModel::new(model(&config, 1), Some(tokenizer));
    let tokenizer = lm.tokenizer.as_ref().expect("a tokenizer");
    let prompt = tokenizer.encode("the cat").expect("ids");
    for seed in 0..10 {
        let (generation, _) = streamed(&lm, &Prompt::from("the cat"), &options(12, seed));
        let together = [prompt.clone(), generation.token_ids].concat();
        let whole = tokenizer.decode(&together).expect("a text");
        assert_eq!(
            "the cat".to_owned() + &generation.text.expect("a text"),
            whole,
            "seed {seed}"
        );
    }
}

#[test]
fn a_stop_string_ends_the_text_and_is_not_part_of_it() {
    let lm = char_model();
    let (free, _) = streamed(&lm, &Prompt::from("abc"), &options(40, 2));
    let text = free.text.expect("a text");
    for range in [0..1, 0..4, 7..9, 20..25, 38..40] {
        let stop = text[range.clone()].to_owned();
        let at = text.find(&stop).expect("the stop string itself");
        let stopping = GenerateOptions {
            stop: vec!["not there".into(), stop.clone()],
            ..options(40, 2)
        };
        let (generation, pieces) = streamed(&lm, &Prompt::from("abc"), &stopping);
        assert_eq!(generation.text.as_deref(), Some(&text[..at]), "stop {stop:?}");
        assert_eq!(pieces.concat(), text[..at]);
        assert_eq!(generation.finish_reason, FinishReason::Stop);
        assert_eq!(
            generation.token_ids,
            free.token_ids[..at + stop.len()],
            "no token after the stop string is made"
        );
    }
}

#[test]
fn a_partial_stop_string_is_streamed_at_the_end() {
    let lm = char_model();
    let (free, _) = streamed(&lm, &Prompt::from("abc"), &options(10, 3));
    let text = free.text.expect("a text");
    let longer = text[8..].to_owned() + "!";
    let stopping = GenerateOptions {
        stop: vec![longer],
        ..options(10, 3)
    };
    let (generation, pieces) = streamed(&lm, &Prompt::from("abc"), &stopping);
    assert_eq!(generation.text, Some(text.clone()));
    assert_eq!(pieces.concat(), text);
    assert_eq!(generation.finish_reason, FinishReason::Length);
}

#[test]
fn the_end_of_sequence_token_ends_the_continuation_and_is_not_streamed() {
    let mut trainer = TrainerConfig::new(Kind::Char, 100);
    trainer.special_tokens = vec!["<s>".into(), "</s>".into()];
    let tokenizer = trainer.train(["abcdef"]).expect("a tokenizer");
    let eos_id = tokenizer.eos_id().expect("an end of sequence");
    let config = TransformerConfig::llama(size(tokenizer.vocab_size(), CONTEXT, 1, 2, 16));
    let lm = LanguageModel::new(model(&config, 1), Some(tokenizer));

    let endless = GenerateOptions {
        stop_at_eos: false,
        ..options(60, 4)
    };
    let (free, _) = streamed(&lm, &Prompt::from("a"), &endless);
    let end = free
        .token_ids
        .iter()
        .position(|id| *id == eos_id)
        .expect("one in sixty draws of eight tokens");
    assert_eq!((free.finish_reason, free.token_ids.len()), (FinishReason::Length, 60));

    let (generation, pieces) = streamed(&lm, &Prompt::from("a"), &options(60, 4));
    assert_eq!(generation.finish_reason, FinishReason::Eos);
    assert_eq!(generation.token_ids, free.token_ids[..=end]);
    assert_eq!(pieces.concat(), generation.text.expect("a text"));
    assert!(!pieces.concat().contains("</s>"));
}

#[test]
fn an_empty_prompt_starts_from_the_beginning_of_sequence_token() {
    let mut trainer = TrainerConfig::new(Kind::Char, 100);
    trainer.special_tokens = vec!["<s>".into()];
    let tokenizer = trainer.train(["abcdef"]).expect("a tokenizer");
    let bos_id = tokenizer.bos_id().expect("a beginning of sequence");
    let config = TransformerConfig::llama(size(tokenizer.vocab_size(), CONTEXT, 1, 2, 16));
    let lm = LanguageModel::new(model(&config, 1), Some(tokenizer));
    let (from_nothing, _) = streamed(&lm, &Prompt::from(""), &options(10, 5));
    let (from_bos, _) = streamed(&lm, &Prompt::Ids(vec![bos_id]), &options(10, 5));
    assert_eq!(from_nothing.token_ids, from_bos.token_ids);
    assert_eq!(from_nothing.text, from_bos.text);
    assert_eq!(
        from_nothing.prompt,
        Prompt::from(""),
        "the prompt is reported as it was given"
    );
}

#[test]
fn equal_seeds_give_equal_continuations_and_longer_ones_begin_alike() {
    let lm = char_model();
    let ids = |max_tokens, seed| {
        streamed(&lm, &Prompt::from("abc"), &options(max_tokens, seed))
            .0
            .token_ids
    };
    assert_eq!(ids(20, 6), ids(20, 6));
    assert_eq!(ids(30, 6)[..20], ids(20, 6));
    assert_ne!(ids(20, 6), ids(20, 7));
}

#[test]
fn each_token_is_drawn_with_the_key_of_its_position() {
    let lm = char_model();
    let (generation, _) = streamed(&lm, &Prompt::Ids(vec![1, 2]), &options(20, 6));
    let sampling = options(20, 6).sampling;
    let mut decoder = Decoder::new(&lm.model, true).expect("a causal model");
    let mut logits = decoder.prefill(&[1, 2]).expect("a prefill");
    for (position, &id) in (0..).zip(&generation.token_ids) {
        let drawn = sample(&logits, Seen::default(), &sampling, sampling.draw_key(position)).expect("a token");
        assert_eq!(drawn, id, "token {position}");
        logits = decoder.decode(id).expect("a step");
    }
}

#[test]
fn zero_tokens_give_an_empty_continuation() {
    let (generation, pieces) = streamed(&char_model(), &Prompt::from("abc"), &options(0, 0));
    assert_eq!((generation.text.as_deref(), generation.token_ids.len()), (Some(""), 0));
    assert_eq!(generation.finish_reason, FinishReason::Length);
    assert!(pieces.is_empty());
}

#[test]
fn without_a_tokenizer_ids_become_ids_and_there_is_no_text() {
    let lm = LanguageModel::new(char_model().model, None);
    let (generation, pieces) = streamed(&lm, &Prompt::Ids(vec![1, 2, 3]), &options(5, 0));
    let json = serde_json::to_value(&generation).expect("JSON");
    let ids = serde_json::json!(generation.token_ids);
    let expected = serde_json::json!({ "prompt": [1, 2, 3], "text": null, "token_ids": ids, "finish_reason": "length",
            "prompt_tokens": 3, "dropped_prompt_tokens": 0, "slid_tokens": 0 });
    assert_eq!(json, expected);
    assert!(pieces.is_empty());
}

#[test]
fn the_json_of_a_generation_has_stable_fields() {
    let generation = Generation {
        prompt: Prompt::from("once"),
        text: Some(" upon".into()),
        token_ids: vec![7],
        finish_reason: FinishReason::Stop,
        prompt_tokens: 9,
        dropped_prompt_tokens: 2,
        slid_tokens: 0,
    };
    let json = serde_json::to_string(&generation).expect("JSON");
    assert_eq!(
        json,
        r#"{"prompt":"once","text":" upon","token_ids":[7],"finish_reason":"stop","prompt_tokens":9,"dropped_prompt_tokens":2,"slid_tokens":0}"#
    );
    assert_eq!(
        serde_json::from_str::<Generation>(&json).expect("a generation"),
        generation
    );
    assert_eq!(serde_json::to_string(&FinishReason::Eos).expect("JSON"), r#""eos""#);
}

#[test]
fn ids_beyond_the_tokenizer_are_never_drawn() {
    // As in many models: the vocabulary rounded up to a multiple of 64.
    let model = model(&TransformerConfig::llama(size(64, CONTEXT, 1, 2, 16)), 1);
    let lm = LanguageModel::new(model, Some(char_tokenizer()));
    let (generation, _) = streamed(&lm, &Prompt::from("abc"), &options(200, 8));
    assert!(
        generation.token_ids.iter().all(|id| (*id as usize) < VOCAB_SIZE),
        "{:?}",
        generation.token_ids
    );
    let (generation, _) = streamed(&lm, &Prompt::Ids(vec![1, 60]), &options(3, 8));
    assert_eq!(generation.token_ids.len(), 3, "such an id may still be given");
}

#[test]
fn invalid_prompts_and_options_are_refused_with_a_hint() {
    let lm = char_model();
    let without = LanguageModel::new(char_model().model, None);
    let stop = |text: &str| GenerateOptions {
        stop: vec![text.into()],
        ..options(5, 0)
    };
    let cases = [
        (refusal(&lm, &Prompt::from(""), &options(5, 0)), "give a prompt"),
        (refusal(&lm, &Prompt::Ids(vec![]), &options(5, 0)), "give a prompt"),
        (refusal(&without, &Prompt::from(""), &options(5, 0)), "give a prompt"),
        (
            refusal(&without, &Prompt::from("abc"), &options(5, 0)),
            "tokenizer.json",
        ),
        (refusal(&without, &Prompt::Ids(vec![1]), &stop("x")), "tokenizer.json"),
        (refusal(&lm, &Prompt::Ids(vec![1, 99]), &options(5, 0)), "prompt id 99"),
        (refusal(&lm, &Prompt::Ids(vec![99]), &options(0, 0)), "from 0 to 22"),
        (refusal(&lm, &Prompt::from("a?"), &options(5, 0)), "'?'"),
        (refusal(&lm, &Prompt::from("abc"), &stop("")), "stop: expected"),
    ];
    for (error, expected) in cases {
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    }
}
