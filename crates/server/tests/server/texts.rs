//! Tokens, vectors and gaps: equal to the library's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use taal_inference::{EngineOptions, FillOptions};

use crate::client::post;
use crate::tiny::{Running, causal, masked, options, serve};

fn server() -> Running {
    serve(
        &[("tiny", causal()), ("masked", masked())],
        EngineOptions::default(),
        options(),
    )
}

#[test]
fn vectors_are_those_of_the_library_as_numbers_and_as_base64() {
    let server = server();
    let texts = ["the cat", "the dog ran"];
    for (name, lm) in [("masked", masked()), ("tiny", causal())] {
        let expected = texts.map(|text| taal_inference::embed(&lm, text, None).expect("a vector"));
        let request = json!({"model": name, "input": texts});
        let reply = post(server.address, "/v1/embeddings", &request).json();
        let coded = json!({"model": name, "input": texts, "encoding_format": "base64", "dimensions": 32});
        let coded = post(server.address, "/v1/embeddings", &coded).json();
        for (index, expected) in expected.iter().enumerate() {
            let numbers = reply["data"][index]["embedding"].as_array().expect("numbers");
            let numbers: Vec<f32> = numbers
                .iter()
                .map(|number| number.as_f64().expect("a number") as f32)
                .collect();
            assert_eq!(&numbers, expected);
            let bytes = STANDARD
                .decode(coded["data"][index]["embedding"].as_str().expect("a text"))
                .expect("base64");
            let numbers: Vec<f32> = bytes
                .chunks(4)
                .map(|four| f32::from_le_bytes(four.try_into().unwrap()))
                .collect();
            assert_eq!(&numbers, expected);
        }
        assert!(reply["usage"]["prompt_tokens"].as_u64().expect("a number") >= 5);
    }
    for (request, param) in [
        (json!({"input": "a", "dimensions": 7}), "dimensions"),
        (json!({"input": "a", "encoding_format": "hex"}), "encoding_format"),
        (json!({"input": []}), "input"),
        (json!({"input": [[]]}), "input"),
        (json!({}), "input"),
    ] {
        let reply = post(server.address, "/v1/embeddings", &request);
        assert_eq!(reply.status, 400, "{request}");
        assert_eq!(reply.error().1.as_str().unwrap_or_default(), param, "{reply:?}");
    }
}

#[test]
fn gaps_are_filled_as_the_library_fills_them() {
    let server = server();
    let text = "the [MASK] sat on the [MASK]";
    let request = json!({"model": "masked", "input": [text], "top": 3, "rank": ["cat"]});
    let reply = post(server.address, "/v1/fill-mask", &request).json();
    let options = FillOptions {
        top: 3,
        rank: vec!["cat".to_owned()],
        ..FillOptions::default()
    };
    let expected = taal_inference::fill(&masked(), text, &options).expect("guesses");
    assert_eq!(reply["data"][0]["filled"], expected.filled);
    assert_eq!(
        reply["data"][0]["gaps"][1]["guesses"][2]["id"],
        expected.gaps[1].guesses[2].id
    );
    assert_eq!(reply["data"][0]["ranks"][0]["rank"], json!(expected.ranks[0].rank));
    let refused = |request: Value| {
        let reply = post(server.address, "/v1/fill-mask", &request);
        assert_eq!(reply.status, 400, "{reply:?}");
        reply.error().0
    };
    assert!(refused(json!({"model": "tiny", "input": text})).contains("causal"));
    assert!(refused(json!({"model": "masked", "input": "no gap"})).contains("[MASK]"));
    assert!(refused(json!({"model": "masked", "input": text, "top": 0})).starts_with("top"));
    assert!(refused(json!({"model": "masked", "input": text, "top": 101})).starts_with("top"));
    assert!(refused(json!({"model": "masked", "input": [1, 2]})).starts_with("input"));
    let long = format!("[MASK] {}", "the cat ".repeat(40));
    let reply = post(
        server.address,
        "/v1/fill-mask",
        &json!({"model": "masked", "input": long}),
    );
    let (message, param, code) = reply.error();
    assert_eq!(
        (reply.status, param, code),
        (400, json!("input"), json!("context_length_exceeded"))
    );
    assert!(message.contains("32"), "{message}");
    for (path, input) in [("/v1/fill-mask", "no gap"), ("/v1/embeddings", "")] {
        let reply = post(server.address, path, &json!({"model": "masked", "input": input}));
        let (message, param, _) = reply.error();
        assert_eq!((reply.status, param), (400, json!("input")), "{message}");
        assert!(message.starts_with("input: "), "{message}");
    }
}

#[test]
fn texts_become_tokens_and_texts_again() {
    let server = server();
    let text = "the cat é 😀\n";
    for path in ["/tokenize", "/v1/tokenize"] {
        let tokens = post(server.address, path, &json!({"prompt": text})).json();
        let ids = causal()
            .tokenizer
            .as_ref()
            .expect("a tokenizer")
            .encode(text)
            .expect("ids");
        assert_eq!((&tokens["tokens"], &tokens["count"]), (&json!(ids), &json!(ids.len())));
        assert_eq!(tokens["token_strs"].as_array().expect("texts").len(), ids.len());
        let path = path.replace("tokenize", "detokenize");
        let back = post(server.address, &path, &json!({"tokens": ids})).json();
        assert_eq!(back["prompt"], text);
    }
    let reply = post(server.address, "/detokenize", &json!({"tokens": [1, 99_999]}));
    assert_eq!((reply.status, reply.error().1), (400, json!("tokens")));
    assert!(reply.error().0.contains("99999"), "{reply:?}");
}
