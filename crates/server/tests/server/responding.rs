//! OpenAI's newer interface: the same answers in another shape.

use serde_json::{Value, json};

use crate::chatting::{TEMPLATE, with_template};
use crate::client::{get, post};
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
        ("include", json!(["no.such.thing"])),
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
        ("input", Value::Null),
        ("messages", json!([{"role": "user", "content": "the cat"}])),
        ("functions", json!([{"name": "f"}])),
        ("function_call", json!({"name": "f"})),
        ("echo", json!(true)),
        ("suffix", json!("the end")),
        ("best_of", json!(2)),
        ("modalities", json!(["text", "audio"])),
        ("audio", json!({"voice": "alloy", "format": "wav"})),
        ("web_search_options", json!({})),
        ("logprobs", json!(2)),
        ("response_format", json!({"type": "yaml"})),
        ("guided_regex", json!("(")),
        ("guided_grammar", json!("no grammar")),
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
        "conversation": null, "prompt": null, "text": null, "messages": null, "echo": false, "suffix": "", "best_of": 1,
        "function_call": "none", "modalities": ["text"]});
    assert_eq!(post(server.address, PATH, &request).status, 200);
    let reply = post(server.address, PATH, &json!({"input": "a", "model": "bare"}));
    assert_eq!((reply.status, reply.error().2), (400, json!("no_chat_template")));
}

/// Each is a field of another address too.
#[test]
fn a_response_takes_the_forms_and_the_settings_of_a_chat() {
    let server = server();
    let response = |more: Value| {
        let mut request = json!({"input": "the cat", "seed": 1});
        for (field, value) in more.as_object().expect("fields") {
            request[field] = value.clone();
        }
        let reply = post(server.address, PATH, &request);
        assert_eq!(reply.status, 200, "{more}: {reply:?}");
        reply.json()
    };
    let text = |more: Value| response(more)["output"][0]["content"][0]["text"].clone();
    let digits = text(json!({"guided_regex": "[0-9]{3}"}));
    let digits = digits.as_str().expect("a text");
    assert!(
        digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit()),
        "{digits}"
    );
    let word = text(json!({"guided_grammar": "start: \"ja\" | \"nee\""}));
    assert!(word == "ja" || word == "nee", "{word}");
    let format = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": {"enum": ["x", "y"]}}});
    let value = text(json!({"response_format": format}));
    assert!(value == "\"x\"" || value == "\"y\"", "{value}");
    let both = json!({"input": "a", "guided_regex": "a", "text": {"format": {"type": "json_object"}}});
    assert_eq!(post(server.address, PATH, &both).error().1, "guided_regex");
    for field in ["max_tokens", "max_completion_tokens", "max_output_tokens"] {
        let mut limited = json!({});
        limited[field] = json!(2);
        let reply = response(limited);
        assert_eq!(reply["max_output_tokens"], 2, "{field}");
        assert!(
            reply["usage"]["output_tokens"].as_u64().is_some_and(|count| count <= 2),
            "{reply}"
        );
    }
    let scored = response(json!({"logprobs": true, "max_tokens": 2}));
    assert!(
        scored["output"][0]["content"][0]["logprobs"][0]["logprob"].is_number(),
        "{scored}"
    );
}

#[test]
fn a_response_gives_the_template_the_variables_of_a_chat() {
    let template = "{% for m in messages %}{{ m.content }}{% endfor %}|{{ reasoning_effort }}|{{ x }}|";
    let models = [("tiny", with_template(template))];
    let server = serve(&models, taal_inference::EngineOptions::default(), options());
    let settings = json!({"seed": 4, "max_tokens": 9, "chat_template_kwargs": {"x": "y"}});
    let mut chat = settings.clone();
    chat["messages"] = json!([{"role": "user", "content": "the cat"}]);
    chat["reasoning_effort"] = json!("low");
    let rendered = post(server.address, "/v1/chat/render", &chat).json();
    assert_eq!(rendered["prompt"], "the cat|low|y|");
    let chat = post(server.address, "/v1/chat/completions", &chat).json();
    for (field, value) in [
        ("reasoning", json!({"effort": "low", "summary": "auto"})),
        ("reasoning_effort", json!("low")),
    ] {
        let mut request = settings.clone();
        request["input"] = json!("the cat");
        request[field] = value;
        let reply = post(server.address, PATH, &request).json();
        assert_eq!(
            reply["output"][0]["content"][0]["text"],
            chat["choices"][0]["message"]["content"]
        );
        assert_eq!(reply["usage"]["input_tokens"], chat["usage"]["prompt_tokens"]);
    }
}

/// What OpenAI's description allows and what changes no answer here.
#[test]
fn what_earlier_answers_of_other_servers_had_is_read_or_left_out() {
    let server = server();
    let mut request = json!({"input": "the cat", "instructions": "sit", "seed": 1, "max_output_tokens": 5});
    let plain = post(server.address, PATH, &request).json();
    request["input"] = json!([
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
        {"type": null, "role": "user", "content": [{"type": "input_text", "text": "the cat"}]},
    ]);
    for (field, value) in [
        ("include", json!(["reasoning.encrypted_content"])),
        ("max_tool_calls", json!(3)),
        ("parallel_tool_calls", json!(false)),
        ("prompt_cache_key", json!("k")),
        ("reasoning", json!({"summary": "auto"})),
        ("safety_identifier", json!("s")),
        ("service_tier", json!("flex")),
        ("stream_options", json!({"include_obfuscation": false})),
        ("text", json!({"format": {"type": "text"}, "verbosity": "low"})),
        ("user", json!("u")),
    ] {
        request[field] = value;
    }
    let reply = post(server.address, PATH, &request).json();
    assert_eq!(reply["output"][0]["content"], plain["output"][0]["content"]);
    request["input"] = json!([{"role": "assistant", "type": "message", "id": "m", "status": "completed",
        "content": [{"type": "refusal", "refusal": "no"}]}]);
    let refusal = post(server.address, PATH, &request).json();
    request["input"] = json!([{"role": "assistant", "content": "no"}]);
    let text = post(server.address, PATH, &request).json();
    assert_eq!(refusal["output"][0]["content"], text["output"][0]["content"]);
    let only = json!({"input": null, "instructions": "sit", "max_output_tokens": 1});
    assert_eq!(post(server.address, PATH, &only).status, 200);
}

#[test]
fn every_field_of_a_response_is_refused_by_name_when_its_type_is_wrong() {
    let server = server();
    let all = get(server.address, "/openapi.json").json();
    let fields = all["components"]["schemas"]["ResponseRequest"]["properties"].as_object();
    for field in fields.expect("fields").keys() {
        let mut request = json!({"input": "the cat", "max_output_tokens": 1});
        request[field] = json!([[{"no": "such thing"}]]);
        let reply = post(server.address, PATH, &request);
        assert_eq!(reply.status, 400, "{field}: {reply:?}");
        let (message, param, _) = reply.error();
        assert!(
            param.as_str().is_some_and(|param| param.starts_with(field.as_str())),
            "{field}: {message}"
        );
    }
}
