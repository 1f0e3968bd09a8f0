//! Answers with receipts: each is enough to compute its answer again.

use std::sync::Arc;

use serde_json::{Value, json};
use taal_inference::{EngineOptions, LanguageModel, Receipt, replay};

use crate::chatting::{TEMPLATE, with_template};
use crate::client::post;
use crate::tiny::{options, serve};

/// The text of a receipt, computed again without a server.
fn again(lm: &Arc<LanguageModel>, receipt: &Value) -> Value {
    let receipt: Receipt = serde_json::from_value(receipt.clone()).unwrap_or_else(|error| panic!("{error}: {receipt}"));
    let replay = replay(lm, &receipt).expect("a replay");
    assert_eq!((replay.answer, replay.surroundings), (vec![], vec![]));
    json!(replay.generation.expect("an answer").text)
}

#[test]
fn every_kind_of_answer_comes_with_a_receipt_that_gives_it_again() {
    let lm = with_template(TEMPLATE);
    let server = serve(&[("tiny", lm.clone())], EngineOptions::default(), options());
    let ask = |path: &str, request: &Value| {
        let reply = post(server.address, path, request);
        assert_eq!(reply.status, 200, "{reply:?}");
        reply
    };
    // Without a seed the server draws one, which the receipt has.
    let mut request = json!({"prompt": ["the cat", "and"], "n": 2, "max_tokens": 9, "receipt": true});
    let choices = ask("/v1/completions", &request).json()["choices"].clone();
    let choices = choices.as_array().expect("choices");
    assert_eq!(choices.len(), 4);
    for choice in choices {
        assert_eq!(again(&lm, &choice["receipt"]), choice["text"]);
    }
    // Such a seed may be sent back, whatever its size.
    let receipt = &choices[1]["receipt"];
    let seed = &receipt["options"]["sampling"]["seed"];
    let one = json!({"prompt": "the cat", "max_tokens": 9, "seed": seed});
    assert_eq!(
        ask("/v1/completions", &one).json()["choices"][0]["text"],
        choices[1]["text"]
    );
    let text = |seed: Value| {
        let one = json!({"prompt": "the cat", "max_tokens": 9, "seed": seed});
        ask("/v1/completions", &one).json()["choices"][0]["text"].clone()
    };
    assert_eq!(text(json!(u64::MAX)), text(json!(-1)));
    // A stream has it in the last part of each answer.
    request["seed"] = json!(5);
    let whole = ask("/v1/completions", &request).json();
    request["stream"] = json!(true);
    let events = ask("/v1/completions", &request).events();
    let with_receipt: Vec<&Value> = events
        .iter()
        .map(|event| &event["choices"][0])
        .filter(|choice| !choice["receipt"].is_null())
        .collect();
    assert_eq!(with_receipt.len(), 4);
    for choice in with_receipt {
        let index = choice["index"].as_u64().expect("a number") as usize;
        assert!(choice["finish_reason"].is_string(), "{choice}");
        assert_eq!(choice["receipt"], whole["choices"][index]["receipt"]);
    }

    let messages = json!([{"role": "user", "content": "the cat"}]);
    let mut request = json!({"messages": messages, "max_tokens": 9, "seed": 2, "receipt": true});
    let choice = ask("/v1/chat/completions", &request).json()["choices"][0].clone();
    assert_eq!(again(&lm, &choice["receipt"]), choice["message"]["content"]);
    request["stream"] = json!(true);
    let events = ask("/v1/chat/completions", &request).events();
    let last = events.last().expect("an event");
    assert_eq!(last["choices"][0]["receipt"], choice["receipt"]);

    let request = json!({"input": "the cat", "max_output_tokens": 9, "seed": 2, "receipt": true});
    let response = ask("/v1/responses", &request).json();
    assert_eq!(response["receipt"], choice["receipt"]);
}

#[test]
fn without_being_asked_an_answer_has_no_receipt() {
    let server = serve(
        &[("tiny", with_template(TEMPLATE))],
        EngineOptions::default(),
        options(),
    );
    let messages = json!([{"role": "user", "content": "the cat"}]);
    for (path, mut request) in [
        ("/v1/completions", json!({"prompt": "the cat"})),
        ("/v1/chat/completions", json!({"messages": messages})),
        ("/v1/responses", json!({"input": "the cat", "max_output_tokens": 4})),
    ] {
        request["max_tokens"] = json!(4);
        for stream in [false, true] {
            request["stream"] = json!(stream);
            let reply = post(server.address, path, &request);
            assert!(reply.status == 200 && !reply.body.contains("receipt"), "{reply:?}");
        }
    }
}
