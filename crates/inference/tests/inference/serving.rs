//! An engine serves many requests at once, and none of them notices the others.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use taal_inference::{
    Answer, Answered, Draft, Engine, EngineOptions, Event, FinishReason, GenerateOptions, InferenceError,
    LanguageModel, Prompt, Request, Sampling, SpeculativeOptions, Ticket, generate, replay,
};
use taal_model::hugging_face::{self, Base, Companions, Lora};
use taal_model::{TransformerConfig, parameters};

use crate::size;
use crate::tiny;

const TEXT: [&str; 5] = ["a", "abcab cab", "cab a", "abc abc abc abc", "b"];

/// A character model with room for more than a few tokens.
fn model() -> Arc<LanguageModel> {
    let config = TransformerConfig {
        n_kv_heads: 2,
        tie_embeddings: false,
        ..TransformerConfig::llama(size(tiny::VOCAB_SIZE, 64, 2, 4, 24))
    };
    let model = tiny::model(&config, 11);
    Arc::new(LanguageModel::new(model, Some(tiny::char_tokenizer())))
}

fn options(index: usize) -> GenerateOptions {
    GenerateOptions {
        max_tokens: [24, 3, 17, 9, 30, 1][index % 6],
        sampling: Sampling {
            temperature: [0.0, 0.9, 1.3][index % 3],
            seed: index as u64,
            ..Sampling::default()
        },
        ..GenerateOptions::default()
    }
}

fn request(index: usize) -> Request {
    Request {
        scores: Some(2),
        ..Request::new(Prompt::from(TEXT[index % TEXT.len()]), options(index))
    }
}

fn engine(lm: &Arc<LanguageModel>, options: EngineOptions) -> Engine {
    Engine::start(lm.clone(), options).expect("an engine")
}

fn few(slots: usize) -> EngineOptions {
    EngineOptions {
        slots,
        ..EngineOptions::default()
    }
}

/// Every answer alone, one after another, and without the texts of others in the cache.
fn alone(lm: &Arc<LanguageModel>, count: usize) -> Vec<Answered> {
    let engine = engine(
        lm,
        EngineOptions {
            reuse_prefixes: false,
            ..few(1)
        },
    );
    let ask = |index| {
        engine
            .ask(request(index))
            .expect("a request")
            .wait()
            .expect("an answer")
    };
    (0..count).map(ask).collect()
}

#[test]
fn an_answer_alone_is_that_of_generate() {
    let lm = model();
    for (index, answered) in alone(&lm, 10).into_iter().enumerate() {
        let prompt = Prompt::from(TEXT[index % TEXT.len()]);
        let expected = generate(&lm, &prompt, &options(index), &mut |_| {
            std::ops::ControlFlow::Continue(())
        });
        assert_eq!(
            answered.generation,
            expected.expect("a continuation"),
            "request {index}"
        );
        assert_eq!(answered.scores.len(), answered.generation.token_ids.len());
    }
}

/// Tokens, texts and probabilities, bit for bit: prompts read at once and in pieces, with and without reuse of prefixes.
#[test]
fn answers_have_the_same_bits_under_any_load() {
    let recurrent = Arc::new(tiny::recurrent_model());
    for (name, lm) in [("llama", model()), ("lstm", recurrent)] {
        let expected = alone(&lm, 64);
        for (clients, slots, prefill_tokens, reuse_prefixes) in [
            (1, 8, 1000, false),
            (8, 8, 1000, false),
            (64, 5, 1000, false),
            (8, 8, 3, true),
            (64, 16, 7, true),
        ] {
            let options = EngineOptions {
                prefill_tokens,
                reuse_prefixes,
                ..few(slots)
            };
            let engine = engine(&lm, options);
            let mut waiting: Vec<(usize, Answer)> = Vec::new();
            for index in 0..64 {
                if waiting.len() == clients {
                    let (index, answer) = waiting.remove(0);
                    assert_same(name, &answer.wait().expect("an answer"), &expected[index]);
                }
                waiting.push((index, engine.ask(request(index)).expect("room in the queue")));
            }
            for (index, answer) in waiting {
                assert_same(name, &answer.wait().expect("an answer"), &expected[index]);
            }
            let stats = engine.stats();
            assert_eq!((stats.accepted, stats.refused, stats.cancelled), (64, 0, 0));
            let is_reused = stats.cached_tokens > 0;
            assert!(is_reused == reuse_prefixes || name == "lstm", "{stats:?}");
        }
    }
}

fn assert_same(name: &str, found: &Answered, expected: &Answered) {
    assert_eq!(found.generation, expected.generation, "{name}");
    assert_eq!(found.scores, expected.scores, "{name}");
}

#[test]
fn a_prompt_continues_from_the_longest_text_that_begins_as_it_does() {
    let lm = model();
    let engine = engine(&lm, few(3));
    let ask = |prompt: &str| {
        let request = Request::new(Prompt::from(prompt), options(0));
        engine.ask(request).expect("a request").wait().expect("an answer")
    };
    assert_eq!(ask("abcab").cached_tokens, 0);
    // The same prompt again: all but the last token, which the answer needs.
    assert_eq!(ask("abcab").cached_tokens, 4);
    let first = ask("abcab");
    // The next turn of a conversation: the prompt, and the answer except its last token, which was never read.
    let turn = format!("abcab{}cab", first.generation.text.as_deref().expect("a text"));
    assert_eq!(ask(&turn).cached_tokens, 5 + 24 - 1);
    // Another text leaves this one in the cache.
    assert_eq!(ask("ca").cached_tokens, 0);
    assert_eq!(ask(&turn).cached_tokens, turn.chars().count() - 1);
    // Only the first two tokens are shared: they are copied, and the long text stays.
    assert_eq!(ask("ab ").cached_tokens, 2);
    assert_eq!(ask(&turn).cached_tokens, turn.chars().count() - 1);
    let stats = engine.stats();
    assert!(stats.cached_tokens < stats.prompt_tokens, "{stats:?}");
}

#[test]
fn scores_are_the_models_log_probabilities() {
    let lm = model();
    let engine = engine(
        &lm,
        EngineOptions {
            prefill_tokens: 4,
            ..few(2)
        },
    );
    let asked = Request {
        prompt_scores: Some(3),
        ..request(1)
    };
    // A text in the cache does not keep the prompt from being scored.
    for _ in 0..2 {
        let answered = engine.ask(asked.clone()).expect("a request").wait().expect("an answer");
        let tokenizer = lm.tokenizer.as_ref().expect("a tokenizer");
        let mut ids = tokenizer.encode(TEXT[1]).expect("ids");
        let prompt_len = ids.len();
        ids.extend(&answered.generation.token_ids);
        let logits = tiny::all_logits(&lm.model, &ids);
        let scores: Vec<_> = answered.prompt_scores.iter().chain(&answered.scores).collect();
        assert_eq!(answered.prompt_scores.len(), prompt_len - 1);
        assert_eq!(scores.len(), ids.len() - 1);
        for (position, score) in scores.into_iter().enumerate() {
            let logits: Vec<f64> = logits[position].iter().map(|logit| f64::from(*logit)).collect();
            let total: f64 = logits.iter().map(|logit| logit.exp()).sum();
            assert_eq!(score.id, ids[position + 1]);
            let expected = logits[score.id as usize] - total.ln();
            assert!((score.logprob - expected).abs() < 1e-5, "{} {expected}", score.logprob);
            let best = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max) - total.ln();
            assert!((score.alternatives[0].1 - best).abs() < 1e-5);
            assert_eq!(score.alternatives.len(), if position < prompt_len - 1 { 3 } else { 2 });
        }
        assert_eq!(answered.cached_tokens, 0);
    }
}

#[test]
fn a_full_context_ends_an_answer_and_a_prompt_beyond_it_is_refused_with_both_counts() {
    let lm = model();
    let engine = engine(
        &lm,
        EngineOptions {
            context: Some(12),
            ..few(2)
        },
    );
    let ask = |len: usize| {
        let options = GenerateOptions {
            max_tokens: 100,
            stop_at_eos: false,
            ..GenerateOptions::default()
        };
        engine.ask(Request::new(Prompt::Ids(vec![1; len]), options))
    };
    for (len, new) in [(10, 3), (11, 2), (12, 1)] {
        let generation = ask(len).expect("it fits").wait().expect("an answer").generation;
        assert_eq!(
            (generation.token_ids.len(), generation.finish_reason),
            (new, FinishReason::Length)
        );
    }
    for len in [13, 120] {
        match ask(len).expect_err("it does not fit") {
            InferenceError::PromptTooLong { tokens, context } => assert_eq!((tokens, context), (len, 12)),
            error => panic!("{error}"),
        }
    }
}

/// Holds the engine's thread in the first event of a request until it is opened.
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn closed() -> Self {
        Self(Arc::new((Mutex::new(false), Condvar::new())))
    }

    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    /// A long request whose sink waits at the gate; its events arrive in the channel.
    fn submit(&self, engine: &Engine) -> (Ticket, Receiver<Event>) {
        let gate = self.0.clone();
        let (send, events) = channel();
        let request = Request::new(
            Prompt::from("ab"),
            GenerateOptions {
                max_tokens: 50,
                stop_at_eos: false,
                ..options(1)
            },
        );
        let ticket = engine.submit(request, move |event| {
            let open = gate.0.lock().unwrap();
            drop(gate.1.wait_while(open, |open| !*open).unwrap());
            let _ = send.send(event);
        });
        (ticket.expect("a request"), events)
    }
}

/// Waits until the engine has nothing that waits.
fn until(is_met: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(30);
    while !is_met() {
        assert!(Instant::now() < limit, "it does not come");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn requests_that_are_submitted_together_wait_as_one() {
    let lm = model();
    let engine = engine(&lm, EngineOptions { queue: 2, ..few(1) });
    let gate = Gate::closed();
    let (_ticket, events) = gate.submit(&engine);
    until(|| engine.stats().waiting == 0);
    let (send, answers) = std::sync::mpsc::channel();
    let part = |index: usize| {
        let send = send.clone();
        let sink = move |event| {
            if let Event::Finished { generation, .. } = event {
                let _ = send.send((index, generation));
            }
        };
        (request(index), sink)
    };
    let tickets = engine.submit_all((0..5).map(part)).expect("room");
    assert_eq!((tickets.len(), engine.stats().waiting), (5, 5));
    let second = engine.ask(request(1)).expect("room for a second request");
    let error = engine.submit_all((0..2).map(part)).expect_err("no room");
    assert!(matches!(error, InferenceError::QueueFull { limit: 2 }), "{error}");
    assert_eq!((engine.stats().waiting, engine.stats().refused), (6, 2));
    // One that is wrong leaves nothing of the others behind.
    let wrong = Request::new(Prompt::Ids(vec![u32::MAX]), request(0).options);
    let sink = |_: Event| ();
    assert!(engine.submit_all([(request(0), sink), (wrong, sink)]).is_err());
    assert_eq!(engine.stats().waiting, 6);
    gate.open();
    second.wait().expect("an answer");
    let mut found: Vec<_> = answers.iter().take(5).collect();
    found.sort_by_key(|(index, _)| *index);
    for ((index, generation), alone) in found.into_iter().zip(alone(&lm, 5)) {
        assert_eq!(*generation, alone.generation, "{index}");
    }
    assert!(matches!(events.iter().last(), Some(Event::Finished { .. })));
}

#[test]
fn a_full_queue_refuses_and_who_waits_too_long_is_told() {
    let lm = model();
    let engine = engine(&lm, EngineOptions { queue: 2, ..few(1) });
    let gate = Gate::closed();
    let (_ticket, events) = gate.submit(&engine);
    until(|| engine.stats().waiting == 0);
    let waits = engine.ask(request(1)).expect("room");
    let impatient = Request {
        start_before: Some(Instant::now()),
        ..request(2)
    };
    let expires = engine.ask(impatient).expect("room");
    let error = engine.ask(request(3)).expect_err("no room");
    assert!(matches!(error, InferenceError::QueueFull { limit: 2 }), "{error}");
    assert_eq!((engine.stats().waiting, engine.stats().refused), (2, 1));
    gate.open();
    assert!(matches!(expires.wait(), Err(InferenceError::WaitedTooLong)));
    assert_eq!(waits.wait().expect("an answer").generation, alone(&lm, 2)[1].generation);
    assert!(matches!(events.iter().last(), Some(Event::Finished { .. })));
    assert_eq!(engine.stats().expired, 1);
}

#[test]
fn a_request_that_is_dropped_frees_its_place_whether_it_waits_or_runs() {
    let lm = model();
    let engine = engine(&lm, few(1));
    let gate = Gate::closed();
    let (ticket, events) = gate.submit(&engine);
    let waiting = engine.ask(request(0)).expect("room");
    let last = engine.ask(request(1)).expect("room");
    drop(waiting);
    drop(ticket);
    gate.open();
    assert_eq!(last.wait().expect("an answer").generation, alone(&lm, 2)[1].generation);
    let Some(Event::Finished { generation, .. }) = events.iter().last() else {
        panic!("a cancelled request ends");
    };
    assert_eq!(generation.finish_reason, FinishReason::Cancelled);
    assert!(generation.token_ids.len() < 50);
    assert_eq!(engine.stats().cancelled, 2);
    until(|| engine.stats().running == 0);
}

#[test]
fn draining_answers_what_was_accepted_and_refuses_the_rest() {
    let lm = model();
    let engine = engine(&lm, few(2));
    let answers: Vec<Answer> = (0..5).map(|index| engine.ask(request(index)).expect("room")).collect();
    assert!(engine.drain(Duration::from_secs(30)));
    assert!(matches!(engine.ask(request(0)), Err(InferenceError::Stopping)));
    for (answer, expected) in answers.into_iter().zip(alone(&lm, 5)) {
        assert_eq!(answer.wait().expect("an answer").generation, expected.generation);
    }
}

#[test]
fn a_dropped_engine_tells_everybody() {
    let lm = model();
    let engine = engine(&lm, few(1));
    let gate = Gate::closed();
    let (_ticket, events) = gate.submit(&engine);
    let waiting = engine.ask(request(0)).expect("room");
    gate.open();
    drop(engine);
    assert!(matches!(waiting.wait(), Err(InferenceError::Stopping) | Ok(_)));
    assert!(matches!(
        events.iter().last(),
        Some(Event::Failed(InferenceError::Stopping) | Event::Finished { .. })
    ));
}

#[test]
fn numbers_that_are_not_finite_end_their_request_and_not_the_engine() {
    let config = TransformerConfig {
        tie_embeddings: false,
        ..TransformerConfig::llama(size(tiny::VOCAB_SIZE, 64, 1, 4, 24))
    };
    let model = tiny::model(&config, 11);
    // The vector of one token is not finite.
    let mut all = std::collections::BTreeMap::new();
    taal_model::parameters::read(&model, |name, _, values| {
        all.insert(name.to_owned(), values);
    });
    let damaged = taal_model::parameters::replace(model, |name, shape| {
        let mut values = all.remove(name).ok_or("a parameter")?;
        if name.starts_with("token_embedding") {
            values[5 * shape[1]] = f32::NAN;
        }
        Ok::<_, &str>(values)
    });
    let lm = Arc::new(LanguageModel::new(damaged.expect("a model"), None));
    let engine = engine(&lm, few(2));
    let ask = |ids: &[u32]| engine.ask(Request::new(Prompt::Ids(ids.to_vec()), options(0)));
    let bad = ask(&[1, 5]).expect("room");
    assert!(matches!(bad.wait(), Err(InferenceError::NotFinite { .. })));
    let good = Request::new(
        Prompt::Ids(vec![1, 2]),
        GenerateOptions {
            max_tokens: 0,
            ..options(0)
        },
    );
    assert!(engine.ask(good).expect("room").wait().is_ok());
}

#[test]
fn settings_without_meaning_are_refused_by_name() {
    let lm = model();
    for (key, options) in [
        ("slots", few(0)),
        ("queue", EngineOptions { queue: 0, ..few(1) }),
        (
            "context",
            EngineOptions {
                context: Some(0),
                ..few(1)
            },
        ),
        (
            "prefill_tokens",
            EngineOptions {
                prefill_tokens: 0,
                ..few(1)
            },
        ),
    ] {
        let Err(error) = Engine::start(lm.clone(), options) else {
            panic!("{key} of 0");
        };
        assert!(error.to_string().starts_with(key), "{error}");
    }
    let masked = TransformerConfig::bert(size(tiny::VOCAB_SIZE, 16, 1, 2, 16));
    let masked = Arc::new(LanguageModel::new(tiny::model(&masked, 1), None));
    assert!(matches!(
        Engine::start(masked, EngineOptions::default()),
        Err(InferenceError::NotCausal { .. })
    ));
}

/// Without requests the cache is freed; what comes afterwards is computed again, to the same bits.
#[test]
fn an_engine_that_rests_forgets_its_texts_and_answers_as_before() {
    let lm = model();
    let hasty = EngineOptions {
        keep_texts: Duration::ZERO,
        ..few(2)
    };
    let engine = engine(&lm, hasty);
    let ask = || engine.ask(request(3)).expect("a request").wait().expect("an answer");
    let first = ask();
    let limit = Instant::now() + Duration::from_secs(60);
    while engine.stats().rests == 0 {
        assert!(Instant::now() < limit, "it does not rest");
        std::thread::yield_now();
    }
    assert_eq!(ask(), first);
    assert_eq!((first.cached_tokens, engine.stats().cached_tokens), (0, 0));
    // It rests once, not again and again.
    assert!(engine.stats().rests <= 2);
    let patient = self::engine(&lm, few(2));
    let ask = || patient.ask(request(3)).expect("a request").wait().expect("an answer");
    assert_eq!(ask().generation, first.generation);
    assert!(ask().cached_tokens > 0, "a text that is kept is found again");
    assert_eq!(patient.stats().rests, 0);
}

/// A base model on disk with two adapters of it.
fn with_adapters(folder: &std::path::Path) -> (std::path::PathBuf, [std::path::PathBuf; 2]) {
    let base = folder.join("base");
    let lm = model();
    hugging_face::save(&lm.model, &base, Companions::default()).expect("a model directory");
    let opened = Base::open(&base).expect("a base");
    let dirs = [1, 2].map(|number| {
        let targets: &[&str] = if number == 1 { &[] } else { &["q_proj", "down_proj"] };
        let lora = Lora {
            rank: 2,
            alpha: 4.0,
            is_rslora: false,
            dropout: 0.0,
            targets: targets.iter().map(|target| (*target).to_owned()).collect(),
            modules_to_save: Vec::new(),
        };
        let adapted = lm
            .model
            .clone()
            .with_lora(&lora, opened.family, number)
            .expect("an adapter");
        // B is zero in a fresh adapter.
        let adapted = parameters::replace(adapted, |name, shape| {
            let count: usize = shape.iter().product();
            let mut values = None;
            if name.contains("lora_") {
                values = Some(
                    (0..count)
                        .map(|index| 0.5 * ((index + 7 * number as usize) as f32).sin())
                        .collect(),
                );
            }
            Ok::<Vec<f32>, InferenceError>(values.unwrap_or_else(|| of_base(&lm, name)))
        });
        let dir = folder.join(format!("adapter-{number}"));
        std::fs::create_dir(&dir).expect("a folder");
        let files = hugging_face::adapter_files(&adapted.expect("values"), &lora, &opened, Companions::default())
            .expect("files");
        for (name, bytes) in files {
            std::fs::write(dir.join(name), bytes).expect("a file");
        }
        dir
    });
    (base, dirs)
}

fn of_base(lm: &LanguageModel, wanted: &str) -> Vec<f32> {
    let mut found = Vec::new();
    parameters::read(&lm.model, |name, _, values| {
        if name == wanted {
            found = values;
        }
    });
    found
}

/// Base and adapters share one batch, and a prompt that all of them read is not taken from the cache of another.
#[test]
fn requests_of_several_adapters_in_one_batch_get_what_each_adapter_alone_gives() {
    let folder = tempfile::tempdir().expect("a folder");
    let (base, adapters) = with_adapters(folder.path());
    let open = || {
        let lm = LanguageModel::open(&base, &burn::tensor::Device::flex()).expect("a model");
        LanguageModel::new(lm.model, Some(tiny::char_tokenizer()))
    };
    let mut served = open();
    for (name, dir) in ["one", "two"].into_iter().zip(&adapters) {
        served = served.with_served_adapter(name, &base, dir).expect("an adapter");
    }
    assert_eq!(served.adapters(), ["one", "two"]);
    let alone: Vec<Vec<Answered>> = [None, Some(0), Some(1)]
        .map(|adapter: Option<usize>| match adapter {
            None => self::alone(&Arc::new(open()), 6),
            Some(index) => self::alone(
                &Arc::new(open().with_adapter(&base, &adapters[index]).expect("an adapter")),
                6,
            ),
        })
        .into();
    let tokens = |answered: &[Answered]| -> Vec<Vec<u32>> {
        answered
            .iter()
            .map(|answered| answered.generation.token_ids.clone())
            .collect()
    };
    assert!(tokens(&alone[0]) != tokens(&alone[1]) && tokens(&alone[1]) != tokens(&alone[2]));
    let served = Arc::new(served);
    let draft = SpeculativeOptions {
        draft: Draft::Model(Arc::new(open())),
        tokens: 21,
    };
    let drafting = EngineOptions {
        speculation: Some(draft),
        ..few(7)
    };
    let [engine, drafting] = [few(7), drafting].map(|options| self::engine(&served, options));
    for engine in [&engine, &drafting] {
        let asked: Vec<(usize, usize, Answer)> = (0..18_usize)
            .map(|number| {
                let (index, which) = (number / 3, number % 3);
                let request = Request {
                    adapter: which.checked_sub(1),
                    ..request(index)
                };
                (index, which, engine.ask(request).expect("a request"))
            })
            .collect();
        for (index, which, answer) in asked {
            let answered = answer.wait().expect("an answer");
            assert_eq!(
                answered.generation, alone[which][index].generation,
                "request {index} of {which}"
            );
        }
    }
    assert!(drafting.stats().draft_tokens_accepted > 0);
    // A receipt of an adapter's answer is one of the base with this adapter, and of no other model.
    let receipt = engine.receipt(Some(0), &options(0), &alone[1][0].generation);
    let receipt = receipt.expect("a receipt");
    let adapted = open().with_adapter(&base, &adapters[0]).expect("an adapter");
    let again = replay(&Arc::new(adapted), &receipt).expect("an answer");
    assert_eq!((again.answer, again.surroundings), (vec![], vec![]));
    let elsewhere = replay(&Arc::new(open()), &receipt).expect("no answer");
    assert!(elsewhere.generation.is_none() && elsewhere.surroundings[0].what == "weights");
    let unknown = Request {
        adapter: Some(2),
        ..request(0)
    };
    assert!(
        engine
            .ask(unknown)
            .expect_err("no such adapter")
            .to_string()
            .contains("adapter")
    );
}
