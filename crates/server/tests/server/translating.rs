//! Translations: equal to the library's, with limits and errors as at every address.

use serde_json::{Value, json};
use taal_inference::{EngineOptions, TranslateOptions, Translation, translate};

use crate::client::{get, post};
use crate::tiny::{Running, causal, masked, options, serve, translator};

/// As a client reads them.
fn as_json(translations: &[Translation]) -> Value {
    let text = serde_json::to_string(translations).expect("JSON");
    serde_json::from_str(&text).expect("JSON")
}

fn server() -> Running {
    serve(
        &[("translator", translator()), ("tiny", causal()), ("masked", masked())],
        EngineOptions::default(),
        options(),
    )
}

#[test]
fn texts_are_translated_as_the_library_translates_them() {
    let server = server();
    let texts = ["the cat sat", "", "the rat"];
    let request = json!({"input": texts, "from": "en", "to": "nl", "beam": 3, "alternatives": 2, "max_tokens": 6, "attention": true});
    let reply = post(server.address, "/v1/translate", &request).json();
    let asked = TranslateOptions {
        alternatives: 2,
        max_tokens: Some(6),
        with_attention: true,
        ..TranslateOptions::default().with_width(3)
    };
    let expected = translate(&translator(), &texts, &asked).expect("translations");
    assert_eq!(reply["data"], as_json(&expected));
    assert_eq!(reply["data"][1]["translation"], "", "empty texts stay empty");
    let tokens: usize = expected.iter().map(|translation| translation.tokens).sum();
    assert_eq!(reply["usage"]["completion_tokens"], tokens);
    assert_eq!(
        (&reply["model"], &reply["warning"]),
        (&json!("translator"), &Value::Null)
    );
    // A text alone is a list of one.
    let one = post(
        server.address,
        "/v1/translate",
        &json!({"input": "the cat sat", "max_tokens": 6}),
    )
    .json();
    let greedy = post(
        server.address,
        "/v1/translate",
        &json!({"input": "the cat sat", "max_tokens": 6, "beam": 1}),
    )
    .json();
    assert_eq!(one["data"].as_array().map(Vec::len), Some(1));
    let expected = translate(
        &translator(),
        &["the cat sat"],
        &TranslateOptions {
            max_tokens: Some(6),
            ..TranslateOptions::greedy()
        },
    );
    assert_eq!(greedy["data"], as_json(&expected.expect("a translation")));
}

#[test]
fn every_line_of_a_text_is_translated_and_cut_translations_say_so() {
    let server = server();
    let ask = |input: Value| {
        post(
            server.address,
            "/v1/translate",
            &json!({"input": input, "max_tokens": 3}),
        )
        .json()
    };
    let found = ask(json!("the cat sat.\nthe rat\n\nthe cat"));
    let alone = ask(json!(["the cat sat.", "the rat", "the cat"]));
    let text = |index: usize| alone["data"][index]["translation"].as_str().expect("a text");
    assert_eq!(
        found["data"][0]["translation"],
        format!("{}\n{}\n\n{}", text(0), text(1), text(2))
    );
    assert_eq!(found["data"][0]["parts"], 3);
    for line in alone["data"].as_array().expect("translations") {
        let is_cut = line["is_complete"] == false;
        assert_eq!(line["cut_by"], if is_cut { json!("max_tokens") } else { Value::Null });
    }
}

#[test]
fn what_cannot_be_translated_is_refused_by_name() {
    let server = server();
    let refused = |request: Value| {
        let reply = post(server.address, "/v1/translate", &request);
        assert_eq!(reply.status, 400, "{request}: {reply:?}");
        let (message, param, code) = reply.error();
        (message, param.as_str().unwrap_or_default().to_owned(), code)
    };
    for (request, param) in [
        (json!({"input": "a", "beam": 0}), "beam"),
        (json!({"input": "a", "beam": 17}), "beam"),
        (json!({"input": "a", "alternatives": 16}), "alternatives"),
        (json!({"input": "a", "beam": 2, "alternatives": 2}), "alternatives"),
        (json!({"input": "a", "max_tokens": 0}), "max_tokens"),
        (json!({"input": "a", "length_penalty": 11}), "length_penalty"),
        (json!({"input": "a", "from": "de"}), "from"),
        (json!({"input": "a", "to": "fr"}), "to"),
        (json!({"input": [1, 2]}), "input"),
        (json!({"input": []}), "input"),
        (json!({"input": vec!["a"; 257]}), "input"),
    ] {
        let (message, found, _) = refused(request);
        assert_eq!(found, param, "{message}");
        assert!(message.starts_with(param), "{message}");
    }
    let (message, param, code) = refused(json!({"input": "cat ".repeat(200)}));
    assert_eq!(
        (param.as_str(), code),
        ("input", json!("context_length_exceeded")),
        "{message}"
    );
    let (message, ..) = refused(json!({"input": ["a", "", "cat ".repeat(200)]}));
    assert!(message.contains("text 3: a sentence has"), "{message}");
    for (model, part) in [("tiny", "translation.json"), ("masked", "masked")] {
        let (message, ..) = refused(json!({"model": model, "input": "a"}));
        assert!(message.contains(part), "{message}");
    }
    // A model with an encoder does not continue texts.
    for (path, request) in [
        ("/v1/completions", json!({"prompt": "a", "model": "translator"})),
        ("/v1/embeddings", json!({"input": "a", "model": "translator"})),
    ] {
        let reply = post(server.address, path, &request);
        assert_eq!(reply.status, 400, "{reply:?}");
        assert!(reply.error().0.contains("taal translate"), "{reply:?}");
    }
}

#[test]
fn models_say_which_languages_they_translate() {
    let server = server();
    let models = get(server.address, "/v1/models").json();
    let of = |index: usize, key: &str| models["data"][index][key].clone();
    assert_eq!(of(0, "kind"), "translator");
    assert_eq!(of(0, "translates"), json!({"from": "en", "to": "nl"}));
    assert_eq!((of(1, "kind"), of(1, "translates")), (json!("causal"), Value::Null));
    assert_eq!((of(2, "kind"), of(2, "translates")), (json!("masked"), Value::Null));
    let page = get(server.address, "/page/translation.js");
    assert_eq!(page.header("content-type"), Some("text/javascript; charset=utf-8"));
}
