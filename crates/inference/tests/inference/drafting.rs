//! An engine with a draft gives the answers that it gives without one, in fewer steps where the guesses are right.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use taal_inference::{
    Answered, Constraint, Draft, Engine, EngineOptions, EngineStats, Event, FinishReason, GenerateOptions,
    InferenceError, LanguageModel, Prompt, Request, Sampling, Speculated, SpeculativeOptions, Ticket, replay,
};
use taal_model::{CacheType, TransformerConfig, WeightFormat};

use crate::tiny::{self, VOCAB_SIZE, char_tokenizer, recurrent_model};
use crate::{scripted, size};

const TEXT: [&str; 5] = ["a", "abcab cab", "cab a", "abc abc abc abc", "b"];

/// Requests of [`request`] that differ in everything that the choice of a token depends on.
const REQUESTS: usize = 12;

/// Room for 64 tokens.
fn roomy(seed: u64) -> Arc<LanguageModel> {
    let config = TransformerConfig {
        n_kv_heads: 2,
        tie_embeddings: false,
        ..TransformerConfig::llama(size(VOCAB_SIZE, 64, 2, 4, 24))
    };
    Arc::new(LanguageModel::new(tiny::model(&config, seed), Some(char_tokenizer())))
}

fn model(lm: &Arc<LanguageModel>) -> Draft {
    Draft::Model(lm.clone())
}

fn speculative(draft: Draft, tokens: usize) -> EngineOptions {
    EngineOptions {
        speculation: Some(SpeculativeOptions { draft, tokens }),
        ..EngineOptions::default()
    }
}

fn start(lm: &Arc<LanguageModel>, options: EngineOptions) -> Engine {
    Engine::start(lm.clone(), options).expect("an engine")
}

fn greedy(max_tokens: usize) -> GenerateOptions {
    GenerateOptions {
        max_tokens,
        sampling: Sampling::greedy(),
        ..GenerateOptions::default()
    }
}

fn request(index: usize) -> Request {
    let seed = index as u64;
    let sampling = match index % 4 {
        0 => Sampling::greedy(),
        2 => Sampling {
            temperature: 1.2,
            top_k: Some(15),
            top_p: Some(0.95),
            min_p: Some(0.001),
            typical_p: Some(0.97),
            repetition_penalty: 1.3,
            frequency_penalty: 0.4,
            presence_penalty: -0.2,
            logit_bias: [(3, 2.0), (5, -3.0)].into(),
            seed,
        },
        _ => Sampling {
            seed,
            ..Sampling::default()
        },
    };
    let options = GenerateOptions {
        max_tokens: [24, 3, 17, 9, 30, 1][index % 6],
        sampling,
        stop: match index % 5 {
            4 => vec!["not there".to_owned(), "a".to_owned(), "c".to_owned()],
            _ => Vec::new(),
        },
        constraint: (index % 4 == 3).then(|| Constraint::Regex("[a-f]{3}( [g-k]{2}){2,4}m".to_owned())),
        ..GenerateOptions::default()
    };
    Request {
        scores: Some(2),
        prompt_scores: (index % 7 == 5).then_some(1),
        ..Request::new(Prompt::from(TEXT[index % TEXT.len()]), options)
    }
}

/// The answers to all requests, so many at a time, and what the engine counted.
fn answers(lm: &Arc<LanguageModel>, options: EngineOptions, clients: usize) -> (Vec<Answered>, EngineStats) {
    let engine = start(lm, options);
    let mut answers = Vec::new();
    for first in (0..REQUESTS).step_by(clients) {
        let ask = |index| engine.ask(request(index)).expect("room in the queue");
        let asked: Vec<_> = (first..REQUESTS.min(first + clients)).map(ask).collect();
        answers.extend(asked.into_iter().map(|answer| answer.wait().expect("an answer")));
    }
    (answers, engine.stats())
}

fn assert_same(found: &[Answered], expected: &[Answered], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found.generation, expected.generation, "{what}, request {index}");
        assert_eq!(found.scores, expected.scores, "{what}, request {index}");
        assert_eq!(found.prompt_scores, expected.prompt_scores, "{what}, request {index}");
    }
}

/// Greedy, seeded, with every sampler, with a form, stop strings, bias and log-probabilities; alone and beside others.
#[test]
fn answers_with_a_draft_are_those_without_one_and_a_right_one_saves_steps() {
    let (lm, other) = (roomy(11), roomy(12));
    let (expected, plain) = answers(&lm, EngineOptions::default(), 1);
    let drafts = [
        ("the model", model(&lm)),
        ("another model", model(&other)),
        ("the text", Draft::PromptLookup { ngram: 1 }),
    ];
    for (name, draft) in drafts {
        let alone = (1..=8).map(|tokens| (tokens, 1));
        for (tokens, clients) in alone.chain([(4, 3), (8, 4), (9, REQUESTS)]) {
            let what = format!("{name}, {tokens} tokens at once, {clients} clients");
            let (found, stats) = answers(&lm, speculative(draft.clone(), tokens), clients);
            assert_same(&found, &expected, &what);
            assert_eq!(stats.generated_tokens, plain.generated_tokens, "{what}");
            let accepted: usize = found.iter().map(|answered| answered.speculated.accepted).sum();
            let rejected: usize = found.iter().map(|answered| answered.speculated.rejected()).sum();
            let counted = (stats.draft_tokens_accepted, stats.draft_tokens_rejected);
            assert_eq!(counted, (accepted as u64, rejected as u64), "{what}");
            if clients == 1 {
                // A step gives a token more than it has right guesses, unless the answer ends with one of them.
                let ends = plain.steps..=plain.steps + REQUESTS as u64;
                assert!(ends.contains(&(stats.steps + accepted as u64)), "{what}: {stats:?}");
            }
            if name == "the model" && clients < REQUESTS {
                assert!(accepted > 0 && stats.steps < plain.steps, "{what}: {stats:?}");
                assert!(tokens < 4 || 2 * stats.steps < plain.steps, "{what}: {stats:?}");
            }
        }
    }
}

/// 25 tokens of each of some answers that begin at the same time; the steps that they take, and one answer's guesses.
fn together(lm: &Arc<LanguageModel>, tokens: usize, clients: usize) -> (u64, Speculated) {
    let engine = start(lm, speculative(model(lm), tokens));
    let (send, receive) = channel();
    let part = |_| {
        let send = send.clone();
        let request = Request::new(Prompt::from("abc"), greedy(25));
        (request, move |event| {
            if let Event::Finished { speculated, .. } = event {
                let _ = send.send(speculated);
            }
        })
    };
    let _tickets = engine.submit_all((0..clients).map(part)).expect("room");
    let all: Vec<Speculated> = receive.iter().take(clients).collect();
    assert!(all.iter().all(|speculated| *speculated == all[0]), "{all:?}");
    (engine.stats().steps, all[0])
}

#[test]
fn the_rows_of_a_batch_share_the_tokens_that_are_guessed() {
    let lm = roomy(11);
    // The prompt gives the first token. Of the other 24 a step gives one more than it has guesses.
    for (tokens, clients, steps) in [
        (1, 1, 12),
        (2, 1, 8),
        (5, 1, 4),
        (4, 2, 8),
        (11, 2, 4),
        (4, 4, 12),
        (3, 4, 24),
    ] {
        let guessed = 24 - steps as usize;
        let expected = Speculated {
            drafted: guessed,
            accepted: guessed,
            passes: 1 + steps as usize,
        };
        let found = together(&lm, tokens, clients);
        assert_eq!(found, (steps, expected), "{tokens} tokens at once, {clients} clients");
    }
}

#[test]
fn a_draft_that_is_always_wrong_costs_few_guesses() {
    let ring = |step: u32| -> Vec<(u32, u32)> { (0..20).map(|id| (id, (id + step) % 20)).collect() };
    let ringing = |step| Arc::new(LanguageModel::new(scripted::model(20, 64, &ring(step)), None));
    let lm = ringing(1);
    let request = || Request::new(Prompt::Ids(vec![3]), greedy(30));
    let answer = |options| {
        start(&lm, options)
            .ask(request())
            .expect("room")
            .wait()
            .expect("an answer")
    };
    let found = answer(speculative(model(&ringing(2)), 4));
    assert_eq!(found.generation, answer(EngineOptions::default()).generation);
    let expected = Speculated {
        drafted: 4 + 2 + 26,
        accepted: 0,
        passes: 30,
    };
    assert_eq!(found.speculated, expected);
}

#[test]
fn a_later_turn_finds_the_same_tokens_in_the_cache_after_wrong_guesses_and_right_ones() {
    let (lm, other) = (roomy(11), roomy(12));
    let turns = |options: EngineOptions| {
        let engine = start(&lm, options);
        let mut prompts = [vec![1, 2, 3], vec![4, 5], vec![1, 2, 3, 4]];
        let mut all = Vec::new();
        for turn in 0..9 {
            // Three conversations in turns, and each of their turns has two answers, of which one is continued.
            let prompt = &mut prompts[turn % 3];
            let ask = || {
                let request = Request::new(Prompt::Ids(prompt.clone()), greedy(7));
                engine.ask(request).expect("room").wait().expect("an answer")
            };
            let answers = [ask(), ask()];
            prompt.extend(&answers[0].generation.token_ids);
            prompt.push(9);
            all.extend(answers.map(|answered| (answered.generation, answered.cached_tokens)));
        }
        all
    };
    let expected = turns(EngineOptions::default());
    assert!(expected.iter().any(|(_, cached)| *cached > 15));
    for draft in [model(&lm), model(&other), Draft::PromptLookup { ngram: 1 }] {
        assert_eq!(turns(speculative(draft, 4)), expected);
    }
}

#[test]
fn a_full_context_ends_an_answer_where_it_does_without_a_draft() {
    let lm = roomy(11);
    let ask = |len: usize, speculation: Option<SpeculativeOptions>| {
        let options = EngineOptions {
            context: Some(12),
            speculation,
            ..EngineOptions::default()
        };
        let request = Request::new(Prompt::Ids(vec![1; len]), greedy(100));
        start(&lm, options)
            .ask(request)
            .expect("room")
            .wait()
            .expect("an answer")
    };
    for len in 1..=12 {
        let expected = ask(len, None).generation;
        assert_eq!(expected.finish_reason, FinishReason::Length);
        for tokens in [1, 4, 64] {
            let found = ask(len, speculative(model(&lm), tokens).speculation);
            assert_eq!(found.generation, expected, "{len} tokens, {tokens} at once");
            assert_eq!(found.speculated.rejected(), 0, "{len} tokens, {tokens} at once");
        }
    }
}

#[test]
fn a_draft_with_a_smaller_context_and_one_that_reads_long_prompts_in_pieces_guess_on() {
    let ring: Vec<(u32, u32)> = (0..20).map(|id| (id, (id + 1) % 20)).collect();
    let of_context = |context| Arc::new(LanguageModel::new(scripted::model(20, context, &ring), None));
    let lm = of_context(64);
    for (context, prefill_tokens) in [(5, 128), (8, 128), (64, 7)] {
        let options = EngineOptions {
            prefill_tokens,
            slots: 1,
            ..speculative(model(&of_context(context)), 3)
        };
        let engine = start(&lm, options);
        // The second text is another one, in the same row.
        for first in [3, 4] {
            let prompt: Vec<u32> = (first..first + 20).map(|id| id % 20).collect();
            let request = Request::new(Prompt::Ids(prompt.clone()), greedy(40));
            let found = engine.ask(request).expect("room").wait().expect("an answer");
            let expected: Vec<u32> = (first + 20..first + 60).map(|id| id % 20).collect();
            assert_eq!(found.generation.token_ids, expected, "context {context}");
            assert_eq!(found.speculated.rejected(), 0, "context {context}");
            assert!(
                found.speculated.accepted > 20,
                "context {context}: {:?}",
                found.speculated
            );
        }
    }
}

#[test]
fn a_client_that_leaves_within_accepted_tokens_gets_no_further_one_and_its_receipt_is_replayed_without_a_draft() {
    let lm = roomy(11);
    let engine = start(&lm, speculative(model(&lm), 8));
    let ticket: Arc<Mutex<Option<Ticket>>> = Arc::default();
    let (held, (send, receive)) = (ticket.clone(), channel());
    let mut tokens = 0;
    // Nothing happens before the ticket is where the sink looks for it.
    let mut place = ticket.lock().expect("a lock");
    let submitted = engine.submit(Request::new(Prompt::from("abc"), greedy(30)), move |event| {
        let mut held = held.lock().expect("a lock");
        tokens += usize::from(matches!(event, Event::Token { .. }));
        if tokens == 4 {
            *held = None;
        }
        if let Event::Finished {
            generation, speculated, ..
        } = event
        {
            let _ = send.send((generation, speculated));
        }
    });
    *place = Some(submitted.expect("a ticket"));
    drop(place);
    let (generation, speculated) = receive.recv().expect("an end");
    assert_eq!(
        (generation.finish_reason, generation.token_ids.len()),
        (FinishReason::Cancelled, 4)
    );
    // One token of the prompt's pass, and three of eight guesses.
    assert_eq!((speculated.drafted, speculated.accepted), (8, 3));
    let receipt = engine.receipt(None, &greedy(30), &generation).expect("a receipt");
    let again = replay(&lm, &receipt).expect("an answer");
    assert_eq!((again.answer, again.surroundings), (vec![], vec![]));
}

#[test]
fn weights_and_caches_in_fewer_bits_give_the_answers_without_a_draft() {
    let config = TransformerConfig {
        tie_embeddings: false,
        ..TransformerConfig::llama(size(VOCAB_SIZE, 64, 2, 2, 64))
    };
    let whole = || LanguageModel::new(tiny::model(&config, 11), Some(char_tokenizer()));
    let draft = Arc::new(whole());
    let formats = [
        WeightFormat::F16,
        WeightFormat::Bf16,
        WeightFormat::Q8_0,
        WeightFormat::Q4_0,
    ];
    let mut all: Vec<_> = formats
        .map(|format| whole().with_weights(format).expect("weights"))
        .into();
    all.push(whole().with_cache(CacheType::F16).expect("a cache"));
    for lm in all {
        let lm = Arc::new(lm);
        let (expected, _) = answers(&lm, EngineOptions::default(), 1);
        for (draft, clients) in [(model(&draft), 1), (model(&lm), 3)] {
            let (found, stats) = answers(&lm, speculative(draft, 6), clients);
            assert_same(&found, &expected, "fewer bits");
            assert!(stats.draft_tokens_accepted > 0, "{stats:?}");
        }
    }
}

#[test]
fn an_engine_refuses_a_draft_that_cannot_guess() {
    let lm = roomy(11);
    let letters = taal_tokenizer::TrainerConfig::new(taal_tokenizer::Kind::Char, 100);
    let letters = letters.train(["abcdefghijklm nopqrstx\n"]).expect("a tokenizer");
    let config = TransformerConfig::llama(size(VOCAB_SIZE, 64, 1, 2, 16));
    let other = Arc::new(LanguageModel::new(tiny::model(&config, 1), Some(letters)));
    let recurrent = Arc::new(recurrent_model());
    let refusals = [
        (&lm, model(&other), "is \"x\" in the draft and \"u\" in the model"),
        (&lm, model(&recurrent), "the draft is recurrent"),
        (&recurrent, Draft::PromptLookup { ngram: 1 }, "the model is recurrent"),
    ];
    for (lm, draft, words) in refusals {
        let Err(error) = Engine::start(lm.clone(), speculative(draft, 4)) else {
            panic!("{words}");
        };
        assert!(matches!(error, InferenceError::Setting { .. }), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}
