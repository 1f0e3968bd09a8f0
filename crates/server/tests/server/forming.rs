//! Answers of a given form, and calls of functions.

use serde_json::{Value, json};
use taal_inference::EngineOptions;

use crate::chatting::{TEMPLATE, with_template};
use crate::client::post;
use crate::tiny::{Running, options, serve};

const CHAT: &str = "/v1/chat/completions";

fn server() -> Running {
    serve(
        &[("tiny", with_template(TEMPLATE))],
        EngineOptions::default(),
        options(),
    )
}

fn schema() -> Value {
    json!({"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"], "additionalProperties": false})
}

fn request() -> Value {
    json!({"messages": [{"role": "user", "content": "the cat"}], "temperature": 1.0})
}

fn tools() -> Value {
    let tool = |name: &str| json!({"type": "function", "function": {"name": name, "description": "d", "parameters": schema()}});
    json!([tool("add"), tool("get")])
}

#[test]
fn answers_have_the_form_that_was_asked_for() {
    let server = server();
    let is_valid = |text: &Value| {
        let value: Value = serde_json::from_str(text.as_str().expect("a text")).expect("JSON");
        assert!(value == json!({"a": "x"}) || value == json!({"a": "y"}), "{value}");
    };
    for seed in 0..4 {
        let mut chat = request();
        chat["seed"] = json!(seed);
        chat["response_format"] =
            json!({"type": "json_schema", "json_schema": {"name": "n", "strict": true, "schema": schema()}});
        let reply = post(server.address, CHAT, &chat).json();
        is_valid(&reply["choices"][0]["message"]["content"]);
        assert_eq!(reply["choices"][0]["finish_reason"], "stop", "{reply}");
        let response = json!({"input": "the cat", "seed": seed,
            "text": {"format": {"type": "json_schema", "name": "n", "schema": schema()}}});
        let reply = post(server.address, "/v1/responses", &response).json();
        is_valid(&reply["output"][0]["content"][0]["text"]);
        assert_eq!(reply["status"], "completed");
        let completion = json!({"prompt": "the cat", "seed": seed, "guided_regex": "[0-9]{3}", "max_tokens": 20});
        let reply = post(server.address, "/v1/completions", &completion).json();
        let text = reply["choices"][0]["text"].as_str().expect("a text");
        assert!(
            text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit()),
            "{text}"
        );
    }
    for (seed, choice) in [(0, json!(["ja", "nee"])), (1, json!(["a \"b\" \\", "één\n", "|"]))] {
        let completion = json!({"prompt": "the cat", "seed": seed, "guided_choice": choice, "max_tokens": 20});
        let reply = post(server.address, "/v1/completions", &completion).json();
        assert!(
            choice.as_array().expect("texts").contains(&reply["choices"][0]["text"]),
            "{reply}"
        );
    }
    for schema in [schema(), json!(schema().to_string())] {
        let mut chat = request();
        chat["seed"] = json!(0);
        chat["guided_json"] = schema;
        is_valid(&post(server.address, CHAT, &chat).json()["choices"][0]["message"]["content"]);
    }
    let mut chat = request();
    // Of other seeds some write white space until the context is full.
    chat["seed"] = json!(0);
    chat["response_format"] = json!({"type": "json_object"});
    let reply = post(server.address, CHAT, &chat).json();
    let text = reply["choices"][0]["message"]["content"].as_str().expect("a text");
    assert!(text.trim_start().starts_with('{'), "{text}");
    chat["response_format"] = json!({"type": "json_object", "schema": schema()});
    is_valid(&post(server.address, CHAT, &chat).json()["choices"][0]["message"]["content"]);
    chat["response_format"] = json!({"type": "text"});
    assert_eq!(post(server.address, CHAT, &chat).status, 200);
}

#[test]
fn forms_that_cannot_be_kept_are_refused_by_name() {
    let server = server();
    for (field, value) in [
        ("response_format", json!({"type": "yaml"})),
        ("response_format", json!({"type": "json_schema"})),
        (
            "response_format",
            json!({"type": "json_schema", "json_schema": {"schema": {"type": "no such type"}}}),
        ),
        ("guided_regex", json!("(")),
        ("guided_grammar", json!("no grammar")),
        ("guided_json", json!("{")),
        ("guided_json", json!({"type": "no such type"})),
        ("guided_choice", json!([])),
        ("guided_choice", json!(["a", ""])),
        ("structured_outputs", json!({"choice": ["a"]})),
        ("json_schema", json!({"type": "object"})),
        ("grammar", json!("root ::= \"a\"")),
        ("tools", json!([{"type": "function"}])),
        ("tools", json!([{"type": "search", "function": {"name": "a"}}])),
        ("tool_choice", json!("required")),
        ("tool_choice", json!("always")),
        (
            "tool_choice",
            json!({"type": "function", "function": {"name": "other"}}),
        ),
        ("functions", json!([])),
    ] {
        let mut chat = request();
        chat[field] = value.clone();
        let reply = post(server.address, CHAT, &chat);
        assert_eq!(reply.status, 400, "{field} {value}: {reply:?}");
        let (message, param, _) = reply.error();
        assert!(
            param.as_str().is_some_and(|param| param.starts_with(field)),
            "{field} {value}: {param}: {message}"
        );
    }
    let mut both = request();
    both["guided_regex"] = json!("a");
    both["guided_grammar"] = json!("start: \"a\"");
    assert_eq!(post(server.address, CHAT, &both).error().1, "guided_grammar");
}

#[test]
fn a_call_that_is_required_names_a_function_and_fits_its_parameters() {
    let server = server();
    for choice in [
        json!("required"),
        json!({"type": "function", "function": {"name": "get"}}),
    ] {
        let mut chat = request();
        chat["tools"] = tools();
        chat["tool_choice"] = choice.clone();
        chat["seed"] = json!(3);
        let whole = post(server.address, CHAT, &chat).json();
        let message = &whole["choices"][0]["message"];
        assert_eq!(
            (&message["content"], &whole["choices"][0]["finish_reason"]),
            (&Value::Null, &json!("tool_calls")),
            "{whole}"
        );
        let call = &message["tool_calls"][0];
        let name = call["function"]["name"].as_str().expect("a name");
        assert!(name == "get" || (name == "add" && choice == "required"), "{call}");
        let arguments: Value =
            serde_json::from_str(call["function"]["arguments"].as_str().expect("a text")).expect("JSON");
        assert!(
            arguments == json!({"a": "x"}) || arguments == json!({"a": "y"}),
            "{arguments}"
        );
        assert!(
            call["type"] == "function" && call["id"].as_str().is_some_and(|id| id.starts_with("call_")),
            "{call}"
        );
        chat["stream"] = json!(true);
        let events = post(server.address, CHAT, &chat).events();
        let deltas: Vec<&Value> = events.iter().map(|event| &event["choices"][0]["delta"]).collect();
        let calls: Vec<&Value> = deltas
            .iter()
            .map(|delta| &delta["tool_calls"])
            .filter(|calls| calls.is_array())
            .collect();
        assert_eq!(calls.len(), 1, "{deltas:?}");
        assert_eq!(
            (&calls[0][0]["index"], &calls[0][0]["function"]),
            (&json!(0), &call["function"])
        );
        let text: String = deltas.iter().filter_map(|delta| delta["content"].as_str()).collect();
        assert_eq!(text, "");
        assert_eq!(
            events.last().expect("an event")["choices"][0]["finish_reason"],
            "tool_calls"
        );
    }
    // Where nothing must be called, a text is a text, whole and in pieces.
    let mut chat = request();
    chat["tools"] = tools();
    chat["max_tokens"] = json!(12);
    chat["seed"] = json!(3);
    let whole = post(server.address, CHAT, &chat).json();
    chat["stream"] = json!(true);
    let events = post(server.address, CHAT, &chat).events();
    let text: String = events
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(whole["choices"][0]["message"]["content"], text);
}

/// As `openai.pydantic_function_tool` writes a model that has another one.
#[test]
fn parameters_may_refer_to_their_own_definitions_and_to_themselves() {
    let server = server();
    let nested = json!({"type": "object", "$defs": {"S": {"enum": ["x"]}}, "required": ["s", "t", "next"],
        "additionalProperties": false, "properties": {"s": {"$ref": "#/$defs/S"}, "t": {"$ref": "#/properties/s"},
            "next": {"anyOf": [{"type": "null"}, {"$ref": "#"}]}}});
    let tool = |name: &str, parameters: &Value| json!({"type": "function", "function": {"name": name, "parameters": parameters}});
    for tools in [
        json!([tool("add", &nested)]),
        json!([tool("add", &nested), tool("get", &nested)]),
    ] {
        let mut chat = request();
        chat["tools"] = tools;
        chat["tool_choice"] = json!("required");
        chat["seed"] = json!(1);
        // The end of the nesting.
        chat["max_tokens"] = json!(80);
        let reply = post(server.address, CHAT, &chat);
        assert_eq!(reply.status, 200, "{reply:?}");
        let choice = &reply.json()["choices"][0];
        let Some(arguments) = choice["message"]["tool_calls"][0]["function"]["arguments"].as_str() else {
            assert_eq!(choice["finish_reason"], "length", "{choice}");
            continue;
        };
        let arguments: Value = serde_json::from_str(arguments).expect("JSON");
        assert_eq!(
            (&arguments["s"], &arguments["t"]),
            (&json!("x"), &json!("x")),
            "{arguments}"
        );
    }
    let mut chat = request();
    chat["tools"] = json!([tool(
        "add",
        &json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/no"}}})
    )]);
    chat["tool_choice"] = json!("required");
    assert_eq!(post(server.address, CHAT, &chat).error().1, "tools");
}

#[test]
fn only_allowed_tools_are_called_and_other_kinds_of_tools_are_refused_by_name() {
    let server = server();
    let mut chat = request();
    chat["tools"] = tools();
    let allowed = |mode: &str, name: &str| {
        let tools = json!([{"type": "function", "function": {"name": name}}]);
        json!({"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}})
    };
    chat["tool_choice"] = allowed("required", "get");
    for seed in 0..3 {
        chat["seed"] = json!(seed);
        let reply = post(server.address, CHAT, &chat).json();
        let call = &reply["choices"][0]["message"]["tool_calls"][0];
        assert_eq!(call["function"]["name"], "get", "{reply}");
    }
    for (choice, tools, field) in [
        (allowed("required", "other"), tools(), "tool_choice"),
        (allowed("often", "get"), tools(), "tool_choice"),
        (json!({"type": "allowed_tools"}), tools(), "tool_choice"),
        (
            json!("auto"),
            json!([{"type": "custom", "custom": {"name": "get"}}]),
            "tools[0].type",
        ),
    ] {
        (chat["tool_choice"], chat["tools"]) = (choice, tools);
        let (message, param, _) = post(server.address, CHAT, &chat).error();
        assert_eq!(param, field, "{message}");
    }
}
