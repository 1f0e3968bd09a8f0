//! Speculative decoding: the same text as without, whatever guesses, in fewer passes where the guesses are right.

use std::ops::ControlFlow;
use std::sync::Arc;

use taal_inference::{
    Constraint, Draft, FinishReason, GenerateOptions, Generation, InferenceError, LanguageModel, Prompt, Sampling,
    Session, Speculated, SpeculativeOptions, generate, generate_speculatively,
};
use taal_model::{CacheType, TransformerConfig, WeightFormat};
use taal_store::ErrorKind;

use crate::tiny::{CONTEXT, VOCAB_SIZE, char_model, char_tokenizer, configs, model, recurrent_model};
use crate::{scripted, size};

fn greedy(max_tokens: usize) -> GenerateOptions {
    GenerateOptions {
        max_tokens,
        sampling: Sampling::greedy(),
        ..GenerateOptions::default()
    }
}

/// Greedy, seeded, and with everything that depends on earlier tokens.
fn samplings() -> [Sampling; 3] {
    let seeded = Sampling {
        seed: 11,
        ..Sampling::default()
    };
    let penalized = Sampling {
        repetition_penalty: 1.3,
        frequency_penalty: 0.4,
        presence_penalty: -0.2,
        top_k: Some(9),
        top_p: Some(0.9),
        temperature: 1.5,
        seed: 12,
        ..Sampling::default()
    };
    [Sampling::greedy(), seeded, penalized]
}

fn drafted(tokens: usize, draft: Draft) -> SpeculativeOptions {
    SpeculativeOptions { draft, tokens }
}

/// The draft that a model is.
fn of(lm: &Arc<LanguageModel>) -> Draft {
    Draft::Model(lm.clone())
}

fn lookup(ngram: usize) -> Draft {
    Draft::PromptLookup { ngram }
}

/// The generation and its pieces.
fn plain(lm: &LanguageModel, prompt: &Prompt, options: &GenerateOptions) -> (Generation, Vec<String>) {
    let mut pieces = Vec::new();
    let generation = generate(lm, prompt, options, &mut |piece| {
        pieces.push(piece.to_owned());
        ControlFlow::Continue(())
    });
    (generation.expect("a generation"), pieces)
}

/// Checks that a draft changes neither the generation nor its pieces.
fn checked(
    lm: &LanguageModel,
    prompt: &Prompt,
    options: &GenerateOptions,
    speculation: SpeculativeOptions,
    what: &str,
) -> (Generation, Speculated) {
    let mut pieces = Vec::new();
    let found = generate_speculatively(lm, prompt, options, speculation, &mut |piece| {
        pieces.push(piece.to_owned());
        ControlFlow::Continue(())
    });
    let (generation, speculated) = found.expect("a generation");
    let found = (generation, pieces);
    assert_eq!(found, plain(lm, prompt, options), "{what}");
    (found.0, speculated)
}

#[test]
fn a_text_with_a_draft_is_the_text_without_one() {
    // Shorter than the context and longer; the text goes on beyond it.
    let prompts = [vec![5, 1, 19], (0..20).collect::<Vec<u32>>()].map(Prompt::Ids);
    let mut accepted = 0;
    for (name, config) in configs() {
        let lm = Arc::new(LanguageModel::new(model(&config, 3), None));
        let other = model(&TransformerConfig::gpt2(size(VOCAB_SIZE, 7, 1, 2, 16)), 4);
        let other = Arc::new(LanguageModel::new(other, None));
        let drafts = [
            drafted(4, of(&lm)),
            drafted(3, of(&other)),
            drafted(1, lookup(1)),
            drafted(20, lookup(2)),
        ];
        for sampling in samplings() {
            for (prompt, speculation) in prompts
                .iter()
                .flat_map(|prompt| drafts.clone().map(|draft| (prompt, draft)))
            {
                let options = GenerateOptions {
                    max_tokens: 40,
                    sampling: sampling.clone(),
                    ..GenerateOptions::default()
                };
                let what = format!("{name}, {sampling:?}, {prompt:?}");
                accepted += checked(&lm, prompt, &options, speculation, &what).1.accepted;
            }
        }
    }
    assert!(accepted > 500, "{accepted} accepted tokens test little");
}

#[test]
fn caches_and_weights_in_16_bits_and_no_cache_give_the_text_without_a_draft() {
    let (name, config) = configs().swap_remove(8);
    assert_eq!((name, config.window), ("window", Some(3)));
    let config = TransformerConfig {
        max_seq_len: 64,
        ..config
    };
    let whole = || LanguageModel::new(model(&config, 3), None);
    let other = Arc::new(LanguageModel::new(model(&config, 4), None));
    let prompt = Prompt::Ids(vec![5, 1, 19]);
    let check = |lm: LanguageModel, use_cache: bool, what: &str| {
        let lm = Arc::new(lm);
        for sampling in samplings() {
            let options = GenerateOptions {
                max_tokens: 50,
                sampling,
                use_cache,
                ..GenerateOptions::default()
            };
            for draft in [of(&lm), of(&other), lookup(1)] {
                checked(&lm, &prompt, &options, drafted(4, draft), what);
            }
        }
    };
    check(
        whole().with_cache(CacheType::F16).expect("a cache"),
        true,
        "cache in f16",
    );
    for format in [WeightFormat::F16, WeightFormat::Bf16] {
        check(
            whole().with_weights(format).expect("weights"),
            true,
            "weights in 16 bits",
        );
    }
    check(whole(), false, "no cache");
}

/// 60 tokens of context are never full here.
fn roomy() -> Arc<LanguageModel> {
    let config = TransformerConfig::llama(size(VOCAB_SIZE, 60, 2, 4, 24));
    Arc::new(LanguageModel::new(model(&config, 7), Some(char_tokenizer())))
}

#[test]
fn a_draft_that_is_the_model_is_always_right() {
    let lm = roomy();
    for sampling in samplings() {
        let options = GenerateOptions {
            max_tokens: 25,
            sampling,
            ..GenerateOptions::default()
        };
        for (tokens, passes) in [(1, 13), (4, 6), (5, 5), (64, 2)] {
            let speculation = drafted(tokens, of(&lm));
            let (_, speculated) = checked(&lm, &Prompt::from("abc"), &options, speculation, "the model itself");
            // The prompt's pass gives a token, and each other one more than it has guesses.
            let guesses = 25 - passes;
            let expected = Speculated {
                drafted: guesses,
                accepted: guesses,
                passes,
            };
            assert_eq!(speculated, expected, "{tokens} tokens at once");
        }
    }
}

#[test]
fn a_draft_that_is_always_wrong_changes_nothing_and_guesses_less() {
    let ring = |step: u32| -> Vec<(u32, u32)> { (0..20).map(|id| (id, (id + step) % 20)).collect() };
    let lm = LanguageModel::new(scripted::model(20, 64, &ring(1)), None);
    let wrong = Arc::new(LanguageModel::new(scripted::model(20, 64, &ring(2)), None));
    let speculation = drafted(4, of(&wrong));
    let (generation, speculated) = checked(&lm, &Prompt::Ids(vec![3]), &greedy(30), speculation, "wrong");
    assert_eq!(generation.token_ids[..3], [4, 5, 6]);
    assert_eq!((speculated.accepted, speculated.passes), (0, 30));
    // Four, then half as many, then one in each pass; none in the first, which has the prompt only, and in the last, where it would be of
    // no use.
    assert_eq!(speculated.drafted, 4 + 2 + 26);
}

#[test]
fn a_text_that_repeats_itself_is_looked_up() {
    let ring: Vec<(u32, u32)> = (0..5).map(|id| (id, (id + 1) % 5)).collect();
    let lm = LanguageModel::new(scripted::model(20, 64, &ring), None);
    let speculation = drafted(8, lookup(2));
    let prompt = Prompt::Ids(vec![0, 1, 2, 3, 4, 0]);
    let (_, speculated) = checked(&lm, &prompt, &greedy(28), speculation, "a ring");
    // One from the prompt and nine of each other pass, though the text has only five different tokens to copy.
    let all = Speculated {
        drafted: 24,
        accepted: 24,
        passes: 4,
    };
    assert_eq!(speculated, all);
    let never = drafted(8, lookup(40));
    let (_, speculated) = checked(&lm, &prompt, &greedy(20), never, "longer than the text");
    assert_eq!((speculated.drafted, speculated.passes), (0, 20));
}

#[test]
fn a_stop_string_ends_the_text_within_accepted_tokens() {
    let lm = roomy();
    let free = GenerateOptions {
        max_tokens: 40,
        ..GenerateOptions::default()
    };
    let text = plain(&lm, &Prompt::from("abc"), &free).0.text.expect("a text");
    for range in [0..1, 0..4, 7..9, 20..25, 38..40] {
        let options = GenerateOptions {
            stop: vec!["not there".to_owned(), text[range].to_owned()],
            ..free.clone()
        };
        for tokens in [3, 6] {
            let speculation = drafted(tokens, of(&lm));
            let (generation, speculated) = checked(&lm, &Prompt::from("abc"), &options, speculation, "a stop string");
            assert_eq!(generation.finish_reason, FinishReason::Stop);
            // Every pass but the last gives a token more than it has accepted guesses; the last may end with a guess.
            let given = generation.token_ids.len();
            assert!(
                [given, given + 1].contains(&(speculated.accepted + speculated.passes)),
                "{speculated:?}"
            );
        }
    }
}

#[test]
fn every_length_and_every_end_is_that_of_the_text_without_a_draft() {
    let draft = roomy();
    let mut lm = Arc::into_inner(roomy()).expect("one owner");
    for max_tokens in 0..=13 {
        let speculation = drafted(5, of(&draft));
        let (generation, speculated) = checked(&lm, &Prompt::from("abc"), &greedy(max_tokens), speculation, "a length");
        assert_eq!(generation.token_ids.len(), max_tokens);
        assert_eq!(speculated.drafted, speculated.accepted, "{max_tokens} tokens");
    }
    let ids = plain(&lm, &Prompt::from("abc"), &greedy(13)).0.token_ids;
    for id in ids {
        lm.end_ids = vec![id];
        let speculation = drafted(5, of(&draft));
        let (generation, _) = checked(&lm, &Prompt::from("abc"), &greedy(13), speculation, "an end");
        assert_eq!(
            (generation.finish_reason, generation.token_ids.last()),
            (FinishReason::Eos, Some(&id))
        );
    }
}

#[test]
fn a_constraint_holds_and_guides_the_draft() {
    let lm = roomy();
    let options = GenerateOptions {
        max_tokens: 30,
        constraint: Some(Constraint::Regex("[a-f]{3}( [g-k]{2}){2,4}m".to_owned())),
        ..GenerateOptions::default()
    };
    for seed in 0..5 {
        let mut options = options.clone();
        options.sampling.seed = seed;
        let same = drafted(4, of(&lm));
        let (_, speculated) = checked(&lm, &Prompt::from("abc"), &options, same, "a constraint");
        let looked_up = drafted(4, lookup(1));
        checked(&lm, &Prompt::from("abc"), &options, looked_up, "a constraint");
        assert!(speculated.accepted >= 4, "{speculated:?}");
        assert_eq!(speculated.drafted, speculated.accepted, "seed {seed}");
    }
}

#[test]
fn a_draft_with_a_smaller_context_keeps_guessing() {
    let ring: Vec<(u32, u32)> = (0..20).map(|id| (id, (id + 1) % 20)).collect();
    let lm = LanguageModel::new(scripted::model(20, 64, &ring), None);
    for context in [1, 2, 3, 5, 8] {
        let draft = Arc::new(LanguageModel::new(scripted::model(20, context, &ring), None));
        let prompt = Prompt::Ids(vec![3, 4, 5, 6, 7, 8]);
        let (_, speculated) = checked(&lm, &prompt, &greedy(50), drafted(4, of(&draft)), "a small context");
        assert_eq!(speculated.accepted, speculated.drafted, "context {context}");
        assert_eq!(speculated.accepted + speculated.passes, 50, "context {context}");
        assert!(speculated.passes <= 26, "context {context}: {speculated:?}");
    }
}

#[test]
fn a_draft_without_a_row_for_an_id_guesses_nothing() {
    let rows = model(&TransformerConfig::llama(size(64, CONTEXT, 1, 2, 16)), 1);
    let rows = Arc::new(LanguageModel::new(rows, Some(char_tokenizer())));
    let draft = Arc::new(char_model());
    let speculation = drafted(4, of(&draft));
    let (_, speculated) = checked(
        &rows,
        &Prompt::Ids(vec![1, 60]),
        &greedy(5),
        speculation.clone(),
        "an unknown id",
    );
    assert_eq!(speculated.drafted, 0);
    let (_, speculated) = checked(&rows, &Prompt::Ids(vec![1, 2]), &greedy(5), speculation, "known ids");
    assert!(speculated.drafted > 0);
    // The other way round, the draft has rows that it never guesses.
    checked(
        &draft,
        &Prompt::Ids(vec![1, 2]),
        &greedy(5),
        drafted(4, of(&rows)),
        "more rows",
    );
}

#[test]
fn a_session_with_a_draft_reuses_what_it_has_read() {
    let (lm, other) = (roomy(), Arc::new(char_model()));
    for draft in [of(&lm), of(&other), lookup(1)] {
        let mut alone = Session::new(&lm).expect("a session");
        let with = Session::new(&lm).expect("a session");
        let mut with = with.with_speculation(drafted(4, draft)).expect("a draft");
        let mut prompt = vec![1, 2, 3];
        for turn in 0..4 {
            let answer = |session: &mut Session<'_>| {
                let prompt = Prompt::Ids(prompt.clone());
                let generation = session.generate(&prompt, &greedy(7), &mut |_| ControlFlow::Continue(()));
                (generation.expect("a generation"), session.reused_tokens())
            };
            let expected = answer(&mut alone);
            assert_eq!(answer(&mut with), expected, "turn {turn}");
            prompt.extend(expected.0.token_ids);
            prompt.push(9);
        }
    }
}

#[test]
fn a_caller_stops_a_text_within_accepted_tokens() {
    let lm = roomy();
    for wanted in 1..8 {
        let stopped = |speculation: Option<SpeculativeOptions>| {
            let mut pieces = 0;
            let on_text = &mut |_: &str| {
                pieces += 1;
                match pieces == wanted {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            };
            let prompt = Prompt::from("abc");
            match speculation {
                Some(speculation) => {
                    generate_speculatively(&lm, &prompt, &greedy(20), speculation, on_text)
                        .expect("a generation")
                        .0
                }
                None => generate(&lm, &prompt, &greedy(20), on_text).expect("a generation"),
            }
        };
        let found = stopped(Some(drafted(4, of(&lm))));
        assert_eq!(found, stopped(None));
        assert_eq!(
            (found.finish_reason, found.token_ids.len()),
            (FinishReason::Cancelled, wanted)
        );
    }
}

#[test]
fn drafts_that_cannot_guess_are_refused_with_a_way_out() {
    let lm = Arc::new(char_model());
    let without = |model| Arc::new(LanguageModel::new(model, None));
    let mut letters = taal_tokenizer::TrainerConfig::new(taal_tokenizer::Kind::Char, 100);
    let other = letters.train(["abcdefghijklm nopqrstx\n"]).expect("a tokenizer");
    letters.special_tokens = vec!["<s>".to_owned()];
    let more = letters.train(["abcdefghijklm nopqrstu\n"]).expect("a tokenizer");
    let config = |rows| TransformerConfig::llama(size(rows, CONTEXT, 1, 2, 16));
    let other = Arc::new(LanguageModel::new(model(&config(VOCAB_SIZE), 1), Some(other)));
    let more = Arc::new(LanguageModel::new(model(&config(VOCAB_SIZE + 1), 1), Some(more)));
    let wider = without(model(&config(30), 1));
    let masked = without(model(&TransformerConfig::bert(size(VOCAB_SIZE, CONTEXT, 1, 2, 16)), 1));
    let recurrent = Arc::new(recurrent_model());
    let cases = [
        (
            &lm,
            drafted(4, of(&other)),
            "is \"x\" in the draft and \"u\" in the model",
        ),
        (
            &lm,
            drafted(4, of(&more)),
            "the draft's tokenizer has 24 tokens and the model's 23",
        ),
        (
            &lm,
            drafted(4, of(&wider)),
            "the draft has 30 token ids and the model 23",
        ),
        (&lm, drafted(4, of(&masked)), "needs a causal model"),
        (&lm, drafted(4, of(&recurrent)), "the draft is recurrent"),
        (&recurrent, drafted(4, lookup(2)), "the model is recurrent"),
        (
            &lm,
            drafted(4, lookup(0)),
            "draft_ngram: expected a number of tokens from 1",
        ),
        (&lm, drafted(0, lookup(2)), "draft_tokens: expected 1..=64, got 0"),
        (&lm, drafted(65, lookup(2)), "draft_tokens: expected 1..=64, got 65"),
    ];
    for (lm, speculation, words) in cases {
        let all = &mut |_: &str| ControlFlow::Continue(());
        let error: InferenceError =
            generate_speculatively(lm, &Prompt::from("a"), &greedy(3), speculation, all).expect_err("a refusal");
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    }
    // A draft without a tokenizer is taken at its number of ids.
    let ids_only = without(char_model().model);
    checked(
        &lm,
        &Prompt::from("a"),
        &greedy(3),
        drafted(4, of(&ids_only)),
        "ids only",
    );
}
