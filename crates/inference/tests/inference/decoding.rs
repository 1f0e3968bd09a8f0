//! Prefill and decode: equal with and without cache, also when the context is full.

use std::collections::BTreeSet;

use taal_inference::{Decoder, GenerateOptions, InferenceError, LanguageModel, Prompt, Sampling, generate};
use taal_model::{Transformer, TransformerConfig};

use crate::size;
use crate::tiny::{CONTEXT, VOCAB_SIZE, all_logits, configs, model};

fn argmax(logits: &[f32]) -> u32 {
    let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    logits.iter().position(|logit| *logit == best).expect("a best logit") as u32
}

/// A simple reference implementation of greedy decoding.
fn reference(model: &Transformer, prompt: &[u32], max_tokens: usize) -> Vec<u32> {
    let limit = model.config().max_seq_len;
    let mut context = match prompt.len() > limit {
        true => prompt[prompt.len() - (limit - 1).max(1)..].to_vec(),
        false => prompt.to_vec(),
    };
    let mut new = Vec::new();
    for _ in 0..max_tokens {
        if context.len() > limit {
            context = context[context.len() - limit / 2..].to_vec();
        }
        let id = argmax(all_logits(model, &context).last().expect("a last position"));
        context.push(id);
        new.push(id);
    }
    new
}

fn greedy(lm: &LanguageModel, prompt: &[u32], max_tokens: usize, use_cache: bool) -> Vec<u32> {
    let options = GenerateOptions {
        max_tokens,
        sampling: Sampling::greedy(),
        use_cache,
        ..GenerateOptions::default()
    };
    generate(lm, &Prompt::Ids(prompt.to_vec()), &options, &mut |_| {
        std::ops::ControlFlow::Continue(())
    })
    .expect("a generation")
    .token_ids
}

#[test]
fn greedy_tokens_are_the_same_with_and_without_cache_beyond_the_context() {
    // Shorter than the context, exactly as long, and longer.
    let prompts: [Vec<u32>; 3] = [vec![5, 1, 19], (0..CONTEXT as u32).collect(), (0..20).collect()];
    for (name, config) in configs() {
        let mut distinct = BTreeSet::new();
        for seed in 1..=4 {
            let lm = LanguageModel::new(model(&config, seed), None);
            for prompt in &prompts {
                let expected = reference(&lm.model, prompt, 40);
                distinct.extend(expected.iter().copied());
                assert_eq!(
                    greedy(&lm, prompt, 40, false),
                    expected,
                    "{name}, no cache, prompt {prompt:?}"
                );
                assert_eq!(
                    greedy(&lm, prompt, 40, true),
                    expected,
                    "{name}, cache, prompt {prompt:?}"
                );
            }
        }
        assert!(distinct.len() > 5, "{name}: {distinct:?} are too few different tokens");
    }
}

#[test]
fn sampled_tokens_are_the_same_with_and_without_cache() {
    for (name, config) in configs() {
        let lm = LanguageModel::new(model(&config, 3), None);
        let sampling = Sampling {
            top_k: Some(9),
            repetition_penalty: 1.2,
            seed: 11,
            ..Sampling::default()
        };
        let run = |use_cache| {
            let options = GenerateOptions {
                max_tokens: 30,
                use_cache,
                sampling: sampling.clone(),
                ..GenerateOptions::default()
            };
            generate(&lm, &Prompt::Ids(vec![4]), &options, &mut |_| {
                std::ops::ControlFlow::Continue(())
            })
            .expect("a generation")
            .token_ids
        };
        assert_eq!(run(true), run(false), "{name}");
    }
}

#[test]
fn cached_logits_equal_those_of_a_full_pass() {
    for (name, config) in configs() {
        let model = model(&config, 5);
        let ids: Vec<u32> = (0..CONTEXT as u32).map(|n| (7 * n + 3) % VOCAB_SIZE as u32).collect();
        let expected = all_logits(&model, &ids);
        for prefilled in [1, 2, 6, CONTEXT] {
            let mut decoder = Decoder::new(&model, true).expect("a causal model");
            let mut logits = decoder.prefill(&ids[..prefilled]).expect("a prefill");
            for (position, &id) in ids.iter().enumerate().skip(prefilled) {
                assert_close(&logits, &expected[position - 1], name);
                logits = decoder.decode(id).expect("a step");
            }
            assert_close(&logits, &expected[CONTEXT - 1], name);
        }
    }
}

fn assert_close(left: &[f32], right: &[f32], name: &str) {
    assert_eq!(left.len(), right.len(), "{name}");
    let scale = right.iter().map(|logit| logit.abs()).fold(1.0, f32::max);
    let worst = left
        .iter()
        .zip(right)
        .map(|(left, right)| (left - right).abs())
        .fold(0.0, f32::max);
    assert!(
        worst <= 1e-5 * scale,
        "{name}: logits differ by {worst} at a scale of {scale}"
    );
}

#[test]
fn a_full_context_keeps_its_last_half() {
    let model = model(&TransformerConfig::llama(size(VOCAB_SIZE, CONTEXT, 1, 2, 16)), 1);
    for use_cache in [true, false] {
        let mut decoder = Decoder::new(&model, use_cache).expect("a causal model");
        decoder
            .prefill(&(0..CONTEXT as u32).collect::<Vec<_>>())
            .expect("a prefill");
        assert_eq!(decoder.context().len(), CONTEXT, "a prompt that fits is kept whole");
        decoder.decode(20).expect("a step");
        assert_eq!(decoder.context(), [8, 9, 10, 11, 12, 20]);
        decoder.decode(21).expect("a step");
        assert_eq!(decoder.context(), [8, 9, 10, 11, 12, 20, 21]);
        decoder.prefill(&(0..20).collect::<Vec<_>>()).expect("a prefill");
        assert_eq!(
            decoder.context(),
            [14, 15, 16, 17, 18, 19],
            "a prompt that is too long keeps its last half"
        );
    }
}

#[test]
fn a_context_of_one_token_sees_the_last_token_only() {
    let model = model(&TransformerConfig::llama(size(VOCAB_SIZE, 1, 1, 2, 16)), 1);
    let lm = LanguageModel::new(model, None);
    let tokens = greedy(&lm, &[3, 9], 5, true);
    assert_eq!(tokens, greedy(&lm, &[9], 5, false));
    assert_eq!(tokens.len(), 5);
}

#[test]
fn a_decoder_can_be_used_again_and_longer_than_expected() {
    let model = model(&TransformerConfig::llama(size(VOCAB_SIZE, CONTEXT, 2, 2, 16)), 4);
    let mut used = Decoder::new(&model, true).expect("a causal model").with_expected_len(3);
    for id in 0..9 {
        used.decode(id)
            .expect("a step before any prompt is a prompt of one token");
    }
    assert_eq!(used.context(), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    let mut fresh = Decoder::new(&model, true).expect("a causal model");
    assert_close(
        &used.prefill(&[5, 6]).expect("a prefill"),
        &fresh.prefill(&[5, 6]).expect("a prefill"),
        "a second prompt",
    );
}

#[test]
fn a_decoder_refuses_what_the_model_cannot_read() {
    let model = model(&TransformerConfig::llama(size(VOCAB_SIZE, CONTEXT, 1, 2, 16)), 1);
    let mut decoder = Decoder::new(&model, true).expect("a causal model");
    assert!(matches!(decoder.prefill(&[]), Err(InferenceError::EmptyPrompt { .. })));
    assert!(matches!(
        decoder.prefill(&[1, 23]),
        Err(InferenceError::UnknownId {
            id: 23,
            vocab_size: 23,
            ..
        })
    ));
    assert!(matches!(
        decoder.decode(u32::MAX),
        Err(InferenceError::UnknownId { .. })
    ));
    assert!(decoder.context().is_empty(), "a refused token leaves no trace");
    let bidirectional = TransformerConfig::bert(size(VOCAB_SIZE, CONTEXT, 1, 2, 16));
    let error = Decoder::new(&crate::tiny::model(&bidirectional, 1), true).expect_err("a bidirectional model");
    assert!(error.to_string().contains("is_causal"), "{error}");
}
