//! Prompts continued: equal to the library's continuations, whole and in pieces, alone and among others.

use std::ops::ControlFlow;

use serde_json::{Value, json};
use taal_inference::{
    Draft, EngineOptions, GenerateOptions, LanguageModel, Prompt, Sampling, SpeculativeOptions, generate,
};

use crate::client::{get, post};
use crate::tiny::{CONTEXT, causal, options, serve, server};

const PROMPTS: [&str; 4] = ["the cat", "and", "the rat sat on the mat; é", " "];

fn request(index: usize) -> Value {
    json!({
        "model": "tiny",
        "prompt": PROMPTS[index % PROMPTS.len()],
        "max_tokens": ([7, 40, 1, 23][index % 4]),
        "temperature": ([0.0, 0.8, 1.2][index % 3]),
        "top_p": 0.95,
        "seed": index,
    })
}

/// The answer of the library.
fn alone(lm: &LanguageModel, index: usize) -> (String, usize) {
    let request = request(index);
    let options = GenerateOptions {
        max_tokens: request["max_tokens"].as_u64().expect("a number") as usize,
        sampling: Sampling {
            temperature: request["temperature"].as_f64().expect("a number"),
            top_p: Some(0.95),
            seed: index as u64,
            ..Sampling::default()
        },
        ..GenerateOptions::default()
    };
    let prompt = Prompt::from(PROMPTS[index % PROMPTS.len()]);
    let generation = generate(lm, &prompt, &options, &mut |_| ControlFlow::Continue(())).expect("a continuation");
    (generation.text.expect("a text"), generation.token_ids.len())
}

#[test]
fn one_8_and_64_clients_at_once_get_the_answers_that_each_gets_alone() {
    let lm = causal();
    let server = server();
    let address = server.address;
    for clients in [1, 8, 64] {
        let threads: Vec<_> = (0..clients)
            .map(|index| std::thread::spawn(move || post(address, "/v1/completions", &request(index))))
            .collect();
        for (index, thread) in threads.into_iter().enumerate() {
            let reply = thread.join().expect("no panic");
            assert_eq!(reply.status, 200, "{reply:?}");
            let (text, tokens) = alone(&lm, index);
            let object = reply.json();
            assert_eq!(object["choices"][0]["text"], text, "client {index} of {clients}");
            assert_eq!(object["usage"]["completion_tokens"], tokens);
        }
    }
    let stats = server.stats();
    assert_eq!((stats.accepted, stats.refused), (73, 0));
}

#[test]
fn a_stream_has_the_pieces_of_the_whole_answer() {
    let server = server();
    for index in 0..6 {
        let whole = post(server.address, "/v1/completions", &request(index)).json();
        let mut request = request(index);
        request["stream"] = json!(true);
        request["stream_options"] = json!({"include_usage": true});
        let reply = post(server.address, "/v1/completions", &request);
        assert_eq!(reply.header("content-type"), Some("text/event-stream"));
        let mut events = reply.events();
        let usage = events.pop().expect("a last event");
        assert_eq!(usage["choices"], json!([]));
        assert_eq!(usage["usage"]["completion_tokens"], whole["usage"]["completion_tokens"]);
        assert_eq!(usage["usage"]["prompt_tokens"], whole["usage"]["prompt_tokens"]);
        let text: String = events
            .iter()
            .map(|event| event["choices"][0]["text"].as_str().expect("a text"))
            .collect();
        assert_eq!(whole["choices"][0]["text"], text);
        let reasons: Vec<&Value> = events
            .iter()
            .map(|event| &event["choices"][0]["finish_reason"])
            .collect();
        let (last, others) = reasons.split_last().expect("an event");
        assert_eq!(**last, whole["choices"][0]["finish_reason"]);
        assert!(others.iter().all(|reason| reason.is_null()));
        assert!(
            events
                .iter()
                .all(|event| event["usage"].is_null() && event["id"] == events[0]["id"])
        );
    }
}

#[test]
fn prompts_are_texts_ids_or_lists_of_either_and_each_may_have_several_answers() {
    let lm = causal();
    let tokenizer = lm.tokenizer.as_ref().expect("a tokenizer");
    let ids = |text: &str| tokenizer.encode(text).expect("ids");
    let server = server();
    let ask = |prompt: Value, n: usize| {
        let request = json!({"prompt": prompt, "n": n, "seed": 3, "max_tokens": 9});
        let object = post(server.address, "/v1/completions", &request).json();
        let texts = object["choices"].as_array().expect("choices").iter();
        let texts: Vec<String> = texts
            .map(|choice| choice["text"].as_str().expect("a text").to_owned())
            .collect();
        (texts, object["usage"]["prompt_tokens"].as_u64().expect("a number"))
    };
    let (one, one_tokens) = ask(json!("the cat"), 1);
    assert_eq!(ask(json!(ids("the cat")), 1), (one.clone(), one_tokens));
    let (two, two_tokens) = ask(json!("and"), 1);
    let both = (vec![one[0].clone(), two[0].clone()], one_tokens + two_tokens);
    assert_eq!(ask(json!(["the cat", "and"]), 1), both);
    assert_eq!(ask(json!([ids("the cat"), ids("and")]), 1), both);
    let (several, tokens) = ask(json!(["the cat", "and"]), 2);
    assert_eq!(
        (&several[0], &several[2], tokens),
        (&one[0], &two[0], one_tokens + two_tokens)
    );
    assert_ne!(several[0], several[1], "answers of one prompt have different seeds");
    assert_eq!(ask(json!(["the cat", "and"]), 2).0, several);
}

#[test]
fn a_stop_string_is_found_across_tokens_and_is_not_part_of_the_text() {
    let server = server();
    let mut request = json!({"prompt": "the cat", "max_tokens": 30, "seed": 3, "logprobs": 0});
    let free = post(server.address, "/v1/completions", &request).json();
    let text = free["choices"][0]["text"].as_str().expect("a text").to_owned();
    let tokens: Vec<&str> = free["choices"][0]["logprobs"]["tokens"]
        .as_array()
        .expect("tokens")
        .iter()
        .map(|token| token.as_str().expect("a text"))
        .collect();
    // The end of one token and the beginning of the next.
    let (place, pair) = tokens
        .windows(2)
        .enumerate()
        .skip(2)
        .find(|(_, pair)| {
            pair.iter()
                .all(|token| !token.starts_with("bytes:") && !token.is_empty())
        })
        .expect("two tokens of whole characters");
    let stop: String = pair[0].chars().rev().take(1).chain(pair[1].chars().take(1)).collect();
    let before = text.find(&stop).expect("it is in the text");
    request["stop"] = json!(["not in it", stop]);
    let stopped = post(server.address, "/v1/completions", &request).json();
    assert_eq!(stopped["choices"][0]["text"], text[..before]);
    assert_eq!(stopped["choices"][0]["finish_reason"], "stop");
    assert!(stopped["usage"]["completion_tokens"].as_u64().expect("a number") <= place as u64 + 2);
    assert_eq!(free["choices"][0]["finish_reason"], "length");
    request["stream"] = json!(true);
    let events = post(server.address, "/v1/completions", &request).events();
    let streamed: String = events
        .iter()
        .map(|event| event["choices"][0]["text"].as_str().expect("a text"))
        .collect();
    assert_eq!(streamed, text[..before]);
}

/// As lm-evaluation-harness asks for the log-likelihood of a text.
#[test]
fn echo_and_logprobs_score_the_prompt() {
    let lm = causal();
    let tokenizer = lm.tokenizer.as_ref().expect("a tokenizer");
    let server = server();
    let text = "the cat sat on the mat; é";
    let ids = tokenizer.encode(text).expect("ids");
    let request =
        json!({"prompt": [ids], "echo": true, "logprobs": 1, "max_tokens": 1, "temperature": 0, "seed": 1234});
    let reply = post(server.address, "/v1/completions", &request).json();
    let choice = &reply["choices"][0];
    let found = choice["logprobs"]["token_logprobs"].as_array().expect("a list");
    assert_eq!(found.len(), ids.len() + 1);
    assert!(found[0].is_null() && choice["logprobs"]["top_logprobs"][0].is_null());
    let rows = taal_inference::Rows::new(&ids[..ids.len() - 1], ids.len() - 1);
    let places: Vec<usize> = (0..ids.len() - 1).collect();
    let losses = taal_inference::Probe::new(&lm.model)
        .losses(&rows, &places, &ids[1..])
        .expect("losses");
    for (position, (found, loss)) in found[1..].iter().zip(losses).enumerate() {
        let found = found.as_f64().expect("a number");
        assert!((found + f64::from(loss)).abs() < 1e-4, "{position}: {found} {loss}");
        let top = choice["logprobs"]["top_logprobs"][position + 1]
            .as_object()
            .expect("alternatives");
        let best = top.values().filter_map(Value::as_f64).fold(f64::NEG_INFINITY, f64::max);
        assert!((1..=2).contains(&top.len()) && best >= found);
    }
    let whole = choice["text"].as_str().expect("a text");
    assert!(whole.starts_with(text));
    let offsets: Vec<u64> = choice["logprobs"]["text_offset"]
        .as_array()
        .expect("offsets")
        .iter()
        .filter_map(Value::as_u64)
        .collect();
    assert_eq!(offsets[0], 0);
    assert!(offsets.is_sorted());
    // Tokens that are parts of a character begin where it does.
    let text = "a 😀 b c";
    let ids = tokenizer.encode(text).expect("ids");
    let request = json!({"prompt": text, "echo": true, "logprobs": 0, "max_tokens": 0});
    let reply = post(server.address, "/v1/completions", &request).json();
    let mut length = 0;
    let expected: Vec<usize> = ids
        .iter()
        .map(|id| {
            let before = text
                .char_indices()
                .filter(|(at, character)| at + character.len_utf8() <= length);
            let offset = before.count();
            length += tokenizer.token_bytes(*id).expect("bytes").len();
            offset
        })
        .collect();
    assert_eq!(
        expected.iter().filter(|offset| **offset == 2).count(),
        4,
        "{expected:?}"
    );
    assert_eq!(reply["choices"][0]["logprobs"]["text_offset"], json!(expected));
    let text = "the cat sat on the mat; é";
    let ids = tokenizer.encode(text).expect("ids");
    // Without a new token, and in a stream.
    let request = json!({"prompt": text, "echo": true, "logprobs": 2, "max_tokens": 0});
    let reply = post(server.address, "/v1/completions", &request).json();
    assert_eq!(reply["choices"][0]["text"], text);
    assert_eq!(
        reply["choices"][0]["logprobs"]["tokens"]
            .as_array()
            .expect("tokens")
            .len(),
        ids.len()
    );
    let mut request = json!({"prompt": text, "echo": true, "max_tokens": 3, "seed": 5});
    let whole = post(server.address, "/v1/completions", &request).json();
    request["stream"] = json!(true);
    let events = post(server.address, "/v1/completions", &request).events();
    let streamed: String = events
        .iter()
        .map(|event| event["choices"][0]["text"].as_str().expect("a text"))
        .collect();
    assert_eq!(whole["choices"][0]["text"], streamed);
    assert!(streamed.starts_with(text));
}

#[test]
fn a_prompt_that_does_not_fit_is_refused_with_both_counts_and_a_full_context_ends_an_answer() {
    let server = server();
    for stream in [false, true] {
        for (length, new) in [
            (CONTEXT - 1, Some(2)),
            (CONTEXT, Some(1)),
            (CONTEXT + 1, None),
            (10 * CONTEXT, None),
        ] {
            let request = json!({"prompt": vec![65; length], "max_tokens": 50, "stream": stream, "ignore_eos": true,
                "stream_options": {"include_usage": true}});
            let reply = post(server.address, "/v1/completions", &request);
            let Some(new) = new else {
                let (message, param, code) = reply.error();
                assert_eq!(
                    (reply.status, code, param),
                    (400, json!("context_length_exceeded"), json!("prompt"))
                );
                for number in [length, CONTEXT] {
                    assert!(message.contains(&number.to_string()), "{message}");
                }
                continue;
            };
            let usage = match stream {
                true => reply.events().pop().expect("an event")["usage"].clone(),
                false => reply.json()["usage"].clone(),
            };
            assert_eq!(
                (&usage["prompt_tokens"], &usage["completion_tokens"]),
                (&json!(length), &json!(new))
            );
        }
    }
}

#[test]
fn tokens_of_an_earlier_prompt_are_counted_as_cached() {
    let server = server();
    let ask = || {
        post(
            server.address,
            "/v1/completions",
            &json!({"prompt": vec![65; 40], "max_tokens": 1}),
        )
        .json()
    };
    let cached = |object: &Value| object["usage"]["prompt_tokens_details"]["cached_tokens"].clone();
    let (first, second) = (ask(), ask());
    assert_eq!((cached(&first), cached(&second)), (json!(0), json!(39)));
    let metrics = get(server.address, "/metrics").body;
    for line in [
        "taal_engine_cached_tokens_total{model=\"tiny\"} 39",
        "taal_first_token_seconds_count 2",
    ] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
}

#[test]
fn a_draft_changes_no_answer_and_usage_and_metrics_count_its_guesses() {
    let lm = causal();
    let engine = EngineOptions {
        speculation: Some(SpeculativeOptions::new(Draft::Model(lm.clone()))),
        ..EngineOptions::default()
    };
    let drafting = serve(&[("tiny", lm)], engine, options());
    let plain = server();
    let of = |object: &Value, key: &str| {
        object["usage"]["completion_tokens_details"][key]
            .as_u64()
            .expect("a number")
    };
    let guesses =
        |object: &Value| ["accepted_prediction_tokens", "rejected_prediction_tokens"].map(|key| of(object, key));
    let (mut accepted, mut rejected) = (0, 0);
    for index in 0..8 {
        let mut request = request(index);
        request["receipt"] = json!(true);
        request["n"] = json!(1 + index % 3);
        let [found, expected] =
            [&drafting, &plain].map(|server| post(server.address, "/v1/completions", &request).json());
        assert_eq!(found["choices"], expected["choices"], "{request}");
        for key in ["prompt_tokens", "completion_tokens", "total_tokens"] {
            assert_eq!(found["usage"][key], expected["usage"][key], "{request}");
        }
        assert_eq!(guesses(&expected), [0, 0]);
        let [right, wrong] = guesses(&found);
        (accepted, rejected) = (accepted + right, rejected + wrong);
    }
    assert!(accepted > 30, "{accepted} accepted");
    let metrics = get(drafting.address, "/metrics").body;
    for (name, count) in [("accepted", accepted), ("rejected", rejected)] {
        let line = format!("taal_engine_draft_tokens_{name}_total{{model=\"tiny\"}} {count}\n");
        assert!(metrics.contains(&line), "{line} in\n{metrics}");
    }
    let mut streamed = request(1);
    streamed["stream"] = json!(true);
    streamed["stream_options"] = json!({"include_usage": true});
    let events = post(drafting.address, "/v1/completions", &streamed).events();
    assert!(guesses(events.last().expect("an event"))[0] > 0);
}

#[test]
fn a_bias_forces_and_forbids_tokens() {
    let server = server();
    let mut request = json!({"prompt": "the cat", "max_tokens": 4, "temperature": 0, "logit_bias": {"66": 100}});
    let forced = post(server.address, "/v1/completions", &request).json();
    let text = forced["choices"][0]["text"].as_str().expect("a text").to_owned();
    assert!(text.chars().all(|character| text.starts_with(character)), "{text:?}");
    request["logit_bias"] = json!({"66": -100});
    let free = post(server.address, "/v1/completions", &request).json();
    assert!(
        !free["choices"][0]["text"]
            .as_str()
            .expect("a text")
            .contains(&text[..1])
    );
}

#[test]
fn ids_that_the_model_does_not_have_are_refused_with_their_field() {
    let server = server();
    for (field, value) in [
        ("prompt", json!([1_000_000])),
        ("prompt", json!([[1], [1_000_000]])),
        ("logit_bias", json!({"1": 1, "1000000": 1})),
    ] {
        let mut request = json!({"prompt": "the cat", "max_tokens": 1});
        request[field] = value;
        let reply = post(server.address, "/v1/completions", &request);
        let (message, param, _) = reply.error();
        assert_eq!((reply.status, param), (400, json!(field)), "{message}");
        assert!(message.contains("1000000"), "{message}");
    }
}
