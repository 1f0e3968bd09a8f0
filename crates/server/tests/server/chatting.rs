//! Conversations, by the model's template.

use std::sync::Arc;

use serde_json::{Value, json};
use taal_inference::{EngineOptions, LanguageModel};
use taal_tokenizer::chat::ChatFiles;

use crate::client::{get, post};
use crate::tiny::{CONTEXT, Running, causal, masked, options, serve};

const PATH: &str = "/v1/chat/completions";

pub const TEMPLATE: &str = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}\
                        {% if add_generation_prompt %}assistant: {% endif %}";

/// The model `tiny` with a chat template.
pub fn with_template(template: &str) -> Arc<LanguageModel> {
    let mut lm = Arc::into_inner(causal()).expect("one owner");
    lm.chat = ChatFiles::new(template);
    Arc::new(lm)
}

fn server() -> Running {
    let faulty = "{{ raise_exception('roles must alternate') }}";
    let models = [
        ("tiny", with_template(TEMPLATE)),
        ("faulty", with_template(faulty)),
        ("bare", causal()),
        ("masked", masked()),
    ];
    serve(&models, EngineOptions::default(), options())
}

fn conversation() -> Value {
    json!([{"role": "user", "content": "the cat"}, {"role": "assistant", "content": "sat"},
           {"role": "user", "content": [{"type": "text", "text": "on"}]}])
}

#[test]
fn an_answer_is_the_continuation_of_the_rendered_conversation() {
    let server = server();
    let messages = json!([{"role": "user", "content": "the cat"}]);
    let rendered = post(server.address, "/v1/chat/render", &json!({"messages": messages})).json();
    let prompt = "user: the cat\nassistant: ";
    assert_eq!(rendered["prompt"], prompt);
    let joined: String = rendered["tokens"]
        .as_array()
        .expect("tokens")
        .iter()
        .map(|token| token["text"].as_str().expect("a text"))
        .collect();
    assert_eq!(joined, prompt);
    let settings = json!({"max_tokens": 12, "seed": 4, "temperature": 0.7});
    let mut chat = settings.clone();
    chat["messages"] = messages;
    let mut completion = settings;
    completion["prompt"] = json!(prompt);
    let reply = post(server.address, PATH, &chat).json();
    let expected = post(server.address, "/v1/completions", &completion).json();
    assert_eq!(reply["object"], "chat.completion");
    assert_eq!(reply["choices"][0]["message"]["role"], "assistant");
    assert_eq!(
        reply["choices"][0]["message"]["content"],
        expected["choices"][0]["text"]
    );
    for count in ["prompt_tokens", "completion_tokens", "total_tokens"] {
        assert_eq!(reply["usage"][count], expected["usage"][count]);
    }
    // The newer name of the limit.
    chat["max_completion_tokens"] = json!(3);
    assert_eq!(
        post(server.address, PATH, &chat).json()["usage"]["completion_tokens"],
        3
    );
}

#[test]
fn parts_of_text_are_read_as_one_text_and_a_developer_as_the_system() {
    let server = server();
    let prompt = |messages: Value| post(server.address, "/v1/chat/render", &json!({"messages": messages}));
    let parts = json!([{"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "the "}, {"type": "text", "text": "cat"}]}]);
    assert_eq!(
        prompt(parts).json()["prompt"],
        "system: be brief\nuser: the cat\nassistant: "
    );
    let picture = json!({"type": "image_url", "image_url": {"url": "x"}});
    for (part, kind) in [(picture, "image_url"), (json!("cat"), "string")] {
        let reply = prompt(json!([{"role": "user", "content": "see"}, {"role": "user", "content": [part]}]));
        let (message, param, _) = reply.error();
        assert_eq!((reply.status, param), (400, json!("messages[1].content")));
        assert!(message.contains(kind), "{message}");
    }
    for (content, kind) in [(json!(5), "number"), (json!(true), "bool"), (json!({"a": 1}), "map")] {
        let (message, param, _) = prompt(json!([{"role": "user", "content": content}])).error();
        assert_eq!(param, json!("messages[0].content"));
        assert!(message.contains(kind), "{message}");
    }
}

#[test]
fn a_template_that_names_the_developer_sees_it() {
    let template = "{% for m in messages %}{{ '<instructions>' if m.role == 'developer' else m.role }}: {{ m.content }}\n{% endfor %}";
    let server = serve(
        &[("tiny", with_template(template))],
        EngineOptions::default(),
        options(),
    );
    let messages = json!([{"role": "developer", "content": [{"type": "text", "text": "be brief"}]},
        {"role": "system", "content": "sit"}, {"role": "function", "content": "1"}]);
    let rendered = post(server.address, "/v1/chat/render", &json!({"messages": messages})).json();
    assert_eq!(rendered["prompt"], "<instructions>: be brief\nsystem: sit\ntool: 1\n");
}

/// An overflow of a stack would end the server.
#[test]
fn a_template_of_values_within_values_leaves_the_server_alone() {
    let (open, close) = ("[".repeat(40), "]".repeat(40));
    let deep = format!("{{% set x = {open}x{close} %}}").repeat(1000) + "the cat";
    let endless = "{% set ns = namespace(l=[]) %}{% for i in range(9999) %}{% set ns.l = [ns.l] %}{% endfor %}";
    let long = "{{ 1".to_owned() + &"+1".repeat(100_000) + " }}";
    let models = [deep.as_str(), endless, &long].map(with_template);
    let [deep, endless, long] = models;
    let server = serve(
        &[("deep", deep), ("endless", endless), ("long", long)],
        EngineOptions::default(),
        options(),
    );
    for (model, status, said) in [
        ("endless", 400, "values of at most 128 levels"),
        ("long", 400, "more than 2000 operators in one tag"),
        ("deep", 200, ""),
    ] {
        let request = json!({"model": model, "messages": [{"role": "user", "content": "x"}], "max_tokens": 1});
        let reply = post(server.address, PATH, &request);
        assert_eq!(reply.status, status, "{reply:?}");
        if status == 400 {
            let (message, _, code) = reply.error();
            assert!(message.contains(said), "{message}");
            assert_eq!(code, json!("chat_template_failed"));
        }
    }
}

/// OpenAI's clients send arguments as a text; templates want the object.
#[test]
fn arguments_of_called_functions_reach_the_template_as_an_object() {
    let template = "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ c.id }} {{ c.function.name }}:\
                    {% if c.function.arguments is mapping %}{% for k, v in c.function.arguments | items %} {{ k }}={{ v | tojson }}\
                    {% endfor %}{% else %} {{ c.function.arguments }}{% endif %};{% endfor %}{% endfor %}";
    let server = serve(
        &[("tiny", with_template(template))],
        EngineOptions::default(),
        options(),
    );
    let call =
        |arguments: Value| json!({"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}});
    let calls = [
        json!("{\"z\": 1, \"a\": [\"é\"]}"),
        json!({"z": 1}),
        json!(""),
        json!("no {"),
        json!("3"),
    ]
    .map(call);
    let messages =
        json!([{"role": "user", "content": "x"}, {"role": "assistant", "content": null, "tool_calls": calls}]);
    let rendered = post(server.address, "/v1/chat/render", &json!({"messages": messages})).json();
    assert_eq!(rendered["prompt"], "1 f: z=1 a=[\"é\"];1 f: z=1;1 f:;1 f: no {;1 f: 3;");
}

#[test]
fn a_stream_of_a_chat_has_the_pieces_and_the_scores_of_the_whole() {
    let server = server();
    let mut request =
        json!({"messages": conversation(), "max_tokens": 20, "seed": 2, "logprobs": true, "top_logprobs": 2, "n": 2});
    let whole = post(server.address, PATH, &request).json();
    request["stream"] = json!(true);
    request["stream_options"] = json!({"include_usage": true});
    let mut events = post(server.address, PATH, &request).events();
    let usage = events.pop().expect("a last event");
    assert_eq!(usage["usage"]["completion_tokens"], whole["usage"]["completion_tokens"]);
    for index in 0..2 {
        let own: Vec<&Value> = events
            .iter()
            .map(|event| &event["choices"][0])
            .filter(|choice| choice["index"] == index)
            .collect();
        assert_eq!(own[0]["delta"], json!({"role": "assistant", "content": ""}));
        let text: String = own
            .iter()
            .filter_map(|choice| choice["delta"]["content"].as_str())
            .collect();
        assert_eq!(whole["choices"][index]["message"]["content"], text);
        let scores: Vec<Value> = own
            .iter()
            .flat_map(|choice| choice["logprobs"]["content"].as_array().cloned().unwrap_or_default())
            .collect();
        assert_eq!(whole["choices"][index]["logprobs"]["content"], json!(scores));
        assert_eq!(scores[0]["top_logprobs"].as_array().expect("alternatives").len(), 2);
        assert!(scores[0]["logprob"].as_f64().expect("a number") <= 0.0);
        let last = own.last().expect("an event");
        assert_eq!(
            (&last["delta"], &last["finish_reason"]),
            (&json!({}), &whole["choices"][index]["finish_reason"])
        );
    }
}

#[test]
fn a_conversation_that_cannot_be_rendered_or_does_not_fit_is_refused() {
    let server = server();
    let refused = |request: Value| {
        let reply = post(server.address, PATH, &request);
        assert_eq!(reply.status, 400, "{reply:?}");
        reply.error()
    };
    let messages = conversation();
    let (message, _, code) = refused(json!({"model": "bare", "messages": messages}));
    assert_eq!(code, "no_chat_template");
    assert!(message.contains("no chat template"), "{message}");
    let (message, param, _) = refused(json!({"model": "masked", "messages": messages}));
    assert_eq!(param, json!("model"));
    assert!(message.contains("bidirectional"), "{message}");
    let (message, _, code) = refused(json!({"model": "faulty", "messages": messages}));
    assert_eq!(code, "chat_template_failed");
    assert!(message.contains("roles must alternate"), "{message}");
    let long = json!([{"role": "user", "content": "x".repeat(10 * CONTEXT)}]);
    let (message, param, code) = refused(json!({"messages": long}));
    assert_eq!((param, code), (json!("messages"), json!("context_length_exceeded")));
    assert!(message.contains(&CONTEXT.to_string()), "{message}");
    for (field, value) in [
        ("messages", json!("hello")),
        ("messages", json!([{"content": "no role"}])),
        ("messages", json!([7])),
        ("tools", json!([{"type": "function"}])),
        ("response_format", json!({"type": "yaml"})),
        ("top_logprobs", json!(2)),
        ("n", json!(1000)),
        ("temperature", json!("hot")),
    ] {
        let mut request = json!({"messages": conversation()});
        request[field] = value.clone();
        let (message, param, _) = refused(request);
        assert!(
            param.as_str().is_some_and(|param| param.starts_with(field)),
            "{field} {value}: {param} {message}"
        );
    }
    let (message, ..) = refused(json!({"model": "tiny"}));
    assert!(message.contains("messages"), "{message}");
}

#[test]
fn every_field_of_a_conversation_is_refused_by_name_when_its_type_is_wrong() {
    let server = server();
    let all = get(server.address, "/openapi.json").json();
    for (name, path) in [("ChatRequest", PATH), ("RenderRequest", "/v1/chat/render")] {
        let fields = all["components"]["schemas"][name]["properties"].as_object();
        for field in fields.expect("fields").keys() {
            let mut request = json!({"messages": conversation(), "max_tokens": 1});
            request[field] = json!([[{"no": "such thing"}]]);
            let reply = post(server.address, path, &request);
            assert_eq!(reply.status, 400, "{path} {field}: {reply:?}");
            let (message, param, _) = reply.error();
            assert!(
                param.as_str().is_some_and(|param| param.starts_with(field.as_str())),
                "{path} {field}: {message}"
            );
        }
    }
}

/// What OpenAI's description allows: `null` for what may be left out, and fields that change no answer here.
#[test]
fn requests_that_openais_description_allows_are_answered() {
    let server = server();
    let mut request =
        json!({"messages": [{"role": "user", "content": "the cat", "name": "u"}], "max_tokens": 3, "seed": 1});
    let plain = post(server.address, PATH, &request).json();
    for (field, value) in [
        ("function_call", json!("auto")),
        ("logit_bias", json!({"65": null})),
        ("metadata", json!({"a": "b"})),
        ("modalities", json!(["text"])),
        ("parallel_tool_calls", json!(false)),
        ("prediction", json!({"type": "content", "content": "the cat"})),
        ("prompt_cache_key", json!("k")),
        ("response_format", json!({"type": "text"})),
        ("safety_identifier", json!("s")),
        ("service_tier", json!("auto")),
        ("stop", json!([])),
        ("store", json!(true)),
        ("stream_options", json!({"include_usage": null})),
        ("tool_choice", json!("none")),
        ("tools", json!([])),
        ("top_logprobs", json!(0)),
        ("user", json!("u")),
        ("verbosity", json!("low")),
    ] {
        request[field] = value;
    }
    for field in [
        "audio",
        "frequency_penalty",
        "functions",
        "logprobs",
        "max_completion_tokens",
        "n",
        "presence_penalty",
        "prompt",
        "reasoning_effort",
        "stream",
        "temperature",
        "top_p",
        "web_search_options",
    ] {
        request[field] = Value::Null;
    }
    let reply = post(server.address, PATH, &request);
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(
        reply.json()["choices"][0]["message"]["content"],
        plain["choices"][0]["message"]["content"]
    );
    // A schema may be left out.
    request["response_format"] = json!({"type": "json_schema", "json_schema": {"name": "any", "schema": null}});
    assert_eq!(post(server.address, PATH, &request).status, 200);
    let messages = json!([
        {"role": "developer", "content": [{"type": "text", "text": "be brief"}], "name": "d"},
        {"role": "assistant", "content": null, "refusal": "no"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "never"}]},
        {"role": "assistant", "content": null, "audio": null, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "1"},
        {"role": "user", "content": []},
    ]);
    let rendered = post(server.address, "/v1/chat/render", &json!({"messages": messages})).json();
    assert_eq!(
        rendered["prompt"],
        "system: be brief\nassistant: no\nassistant: never\nassistant: \ntool: 1\nuser: \nassistant: "
    );
}

#[test]
fn what_a_chat_cannot_do_and_fields_of_other_addresses_are_refused_by_name() {
    let server = server();
    let message = json!([{"role": "user", "content": "the cat"}]);
    for (path, field, value) in [
        (PATH, "audio", json!({"voice": "alloy", "format": "wav"})),
        (PATH, "modalities", json!(["text", "audio"])),
        (PATH, "web_search_options", json!({})),
        (PATH, "function_call", json!({"name": "f"})),
        (PATH, "prompt", json!("the cat")),
        (PATH, "input", json!("the cat")),
        (PATH, "instructions", json!("sit")),
        (PATH, "max_output_tokens", json!(2)),
        (PATH, "text", json!({"format": {"type": "json_object"}})),
        (PATH, "echo", json!(true)),
        (PATH, "suffix", json!("the end")),
        (PATH, "previous_response_id", json!("resp_1")),
        (PATH, "reasoning", json!({"effort": "low"})),
        (PATH, "include", json!(["message.output_text.logprobs"])),
        (PATH, "truncation", json!("auto")),
        ("/v1/completions", "messages", message.clone()),
        ("/v1/completions", "tools", json!([{"type": "function"}])),
        ("/v1/completions", "max_completion_tokens", json!(2)),
        ("/v1/completions", "top_logprobs", json!(2)),
        ("/v1/completions", "chat_template_kwargs", json!({"x": 1})),
        ("/v1/completions", "audio", json!({})),
        ("/v1/completions", "reasoning", json!({"effort": "low"})),
        ("/v1/completions", "reasoning_effort", json!("low")),
        ("/v1/completions", "include", json!(["message.output_text.logprobs"])),
        ("/v1/completions", "truncation", json!("auto")),
    ] {
        let mut request = match path {
            PATH => json!({"messages": message, "max_tokens": 1}),
            _ => json!({"prompt": "the cat", "max_tokens": 1}),
        };
        request[field] = value.clone();
        let reply = post(server.address, path, &request);
        assert_eq!(reply.status, 400, "{path} {field} {value}: {reply:?}");
        let (said, param, _) = reply.error();
        assert_eq!(param, field, "{said}");
        assert!(said.starts_with(field), "{said}");
    }
    let harmless = json!({"prompt": "a", "max_tokens": 1, "tools": [], "tool_choice": "auto", "top_logprobs": 0, "text": {},
        "chat_template_kwargs": {}, "continue_final_message": false, "messages": null, "background": false,
        "truncation": "disabled", "reasoning": {"summary": "auto"}, "include": ["reasoning.encrypted_content"]});
    assert_eq!(post(server.address, "/v1/completions", &harmless).status, 200);
    let audio = json!([{"role": "assistant", "audio": {"id": "a"}}]);
    let reply = post(server.address, PATH, &json!({"messages": audio}));
    assert_eq!((reply.status, reply.error().1), (400, json!("messages[0].content")));
}
