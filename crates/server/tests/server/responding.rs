//! OpenAI's newer interface: the same answers in another shape.

use serde_json::{Value, json};

use crate::chatting::{TEMPLATE, with_template};
use crate::client::post;
use crate::tiny::{CONTEXT, Running, causal, options, serve};

const PATH: &str = "/v1/responses";

fn server() -> Running {
    let models = [("tiny", with_template(TEMPLATE)), ("bare", causal())];
    serve(&models, taal_inference::EngineOptions::default(), options())
}

#[test]
fn a_response_has_the_text_and_the_counts_of_a_chat() {
    let server = server();
    let messages = json!([{"role": "system", "content": "sit"}, {"role": "user", "content": "the cat"}]);
    let chat = json!({"messages": messages, "max_tokens": 12, "seed": 4, "logprobs": true, "top_logprobs": 2});
    let chat = post(server.address, "/v1/chat/completions", &chat).json();
    for input in [
        json!("the cat"),
        json!([{"role": "user", "content": "the cat"}]),
        json!([{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "the "},
            {"type": "input_text", "text": "cat"}]}]),
    ] {
        let request = json!({"input": input, "instructions": "sit", "max_output_tokens": 12, "seed": 4,
            "top_logprobs": 2, "include": ["message.output_text.logprobs"], "metadata": {"a": "b"}, "store": true});
        let reply = post(server.address, PATH, &request).json();
        let text = &reply["output"][0]["content"][0];
        assert_eq!(text["text"], chat["choices"][0]["message"]["content"], "{input}");
        assert_eq!(text["logprobs"], chat["choices"][0]["logprobs"]["content"]);
        let counts = [
            ("input_tokens", "prompt_tokens"),
            ("output_tokens", "completion_tokens"),
            ("total_tokens", "total_tokens"),
        ];
        for (own, other) in counts {
            assert_eq!(reply["usage"][own], chat["usage"][other]);
        }
        assert_eq!(
            (&reply["object"], &reply["metadata"]),
            (&json!("response"), &json!({"a": "b"}))
        );
        // A full limit is said.
        let is_cut = chat["choices"][0]["finish_reason"] == "length";
        assert_eq!(reply["status"] == "incomplete", is_cut);
        assert_eq!(reply["incomplete_details"]["reason"] == "max_output_tokens", is_cut);
    }
}

#[test]
fn a_stream_of_a_response_has_openais_events_and_ends_with_the_whole() {
    let server = server();
    let mut request = json!({"input": "the cat", "max_output_tokens": 12, "seed": 4});
    let whole = post(server.address, PATH, &request).json();
    request["stream"] = json!(true);
    let reply = post(server.address, PATH, &request);
    let lines = |prefix: &str| -> Vec<String> {
        let lines = reply.body.lines().filter_map(|line| line.strip_prefix(prefix));
        lines.map(str::to_owned).collect()
    };
    let names = lines("event: ");
    let events: Vec<Value> = lines("data: ")
        .iter()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert!(names.len() > 9 && names.len() == events.len(), "{}", reply.body);
    for (index, (name, event)) in names.iter().zip(&events).enumerate() {
        assert_eq!(
            (&event["type"], &event["sequence_number"]),
            (&json!(name), &json!(index))
        );
    }
    let begin = [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ];
    assert_eq!(names[..4], begin);
    let (deltas, rest): (Vec<_>, Vec<_>) = events[4..].iter().partition(|event| event["delta"].is_string());
    let text: String = deltas.iter().filter_map(|event| event["delta"].as_str()).collect();
    assert_eq!(whole["output"][0]["content"][0]["text"], text);
    let kinds: Vec<&str> = rest.iter().filter_map(|event| event["type"].as_str()).collect();
    let end = format!("response.{}", whole["status"].as_str().expect("a status"));
    assert_eq!(
        kinds,
        [
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            &end
        ]
    );
    assert_eq!(rest[0]["text"], text);
    let last = &rest[3]["response"];
    assert_eq!(
        (&last["usage"]["output_tokens"], &last["status"]),
        (&whole["usage"]["output_tokens"], &whole["status"])
    );
    assert_eq!(last["output"][0]["content"], whole["output"][0]["content"]);
    assert_eq!(last["id"], events[0]["response"]["id"]);
}

#[test]
fn what_a_response_cannot_do_is_refused_by_name() {
    let server = server();
    for (field, value) in [
        ("input", json!(7)),
        ("input", json!([])),
        ("input", json!([{"role": "user"}])),
        (
            "input",
            json!([{"type": "function_call_output", "role": "tool", "content": "x"}]),
        ),
        (
            "input",
            json!([{"role": "user", "content": [{"type": "input_image", "image_url": "http://x"}]}]),
        ),
        ("input", json!("x".repeat(10 * CONTEXT))),
        ("n", json!(2)),
        ("include", json!(["file_search_call.results"])),
        ("truncation", json!("auto")),
        ("previous_response_id", json!("resp_1")),
        ("top_logprobs", json!(21)),
        ("max_output_tokens", json!(-1)),
        ("temperature", json!("hot")),
        ("metadata", json!({"a": 1})),
        ("tools", json!([{"type": "function", "name": "f"}])),
        ("tool_choice", json!("required")),
        ("tool_choice", json!({"type": "function", "name": "f"})),
        ("conversation", json!("conv_1")),
        ("prompt", json!({"id": "pmpt_1"})),
        ("background", json!(true)),
        ("text", json!([])),
    ] {
        let mut request = json!({"input": "the cat", "max_output_tokens": 1});
        request[field] = value.clone();
        let reply = post(server.address, PATH, &request);
        assert_eq!(reply.status, 400, "{field} {value}: {reply:?}");
        let (message, param, _) = reply.error();
        assert!(
            param.as_str().is_some_and(|param| param.starts_with(field)),
            "{field}: {param}: {message}"
        );
    }
    let request = json!({"input": "a", "max_output_tokens": 1, "tools": [], "tool_choice": "auto", "background": false,
        "conversation": null, "prompt": null, "text": null});
    assert_eq!(post(server.address, PATH, &request).status, 200);
    let reply = post(server.address, PATH, &json!({"input": "a", "model": "bare"}));
    assert_eq!((reply.status, reply.error().2), (400, json!("no_chat_template")));
}
