//! The description of the interface is true: its addresses exist, and its fields have the types that it says.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use taal_inference::EngineOptions;
use taal_server::ServerOptions;

use crate::client::{get, head, post, send};
use crate::tiny::{causal, masked, options, serve, server, translator};

fn description(address: std::net::SocketAddr) -> Value {
    get(address, "/openapi.json").json()
}

/// A wrong value for every field of every request is refused by name; so is a right one not.
#[test]
fn every_field_is_refused_by_name_when_its_type_is_wrong() {
    let server = serve(&[("tiny", causal())], EngineOptions::default(), options());
    let all = description(server.address);
    let mut seen = 0;
    for (path, operations) in all["paths"].as_object().expect("paths") {
        let schema = &operations["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"];
        let Some(name) = schema.as_str().and_then(|name| name.rsplit('/').next()) else {
            continue;
        };
        // A conversation needs a model with a template; its fields are tested with one.
        if ["ChatRequest", "RenderRequest", "ResponseRequest"].contains(&name) {
            continue;
        }
        let schema = &all["components"]["schemas"][name];
        let required = schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str);
        let mut good = json!({});
        for field in required {
            good[field] = match field {
                "tokens" => json!([65]),
                "conversations" => json!([]),
                "step" => json!(1),
                _ => json!("the cat"),
            };
        }
        for field in schema["properties"].as_object().expect("fields").keys() {
            let mut request = good.clone();
            request[field] = json!([{"no": "such thing"}]);
            let reply = post(server.address, path, &request);
            assert_eq!(reply.status, 400, "{path} {field}: {reply:?}");
            let (message, param, _) = reply.error();
            let param = param.as_str().unwrap_or_default();
            assert!(
                param == field || param.starts_with(&format!("{field}[")),
                "{path} {field}: {message}"
            );
            assert!(message.starts_with(field.as_str()), "{message}");
            seen += 1;
        }
    }
    assert!(seen > 30, "{seen}");
}

#[test]
fn values_outside_their_range_are_refused_by_name() {
    let server = server();
    for (field, values) in [
        ("temperature", vec![json!(-0.1), json!(-1)]),
        ("top_p", vec![json!(-0.1), json!(1.1), json!(-1)]),
        ("top_k", vec![json!(0), json!(-1), json!(1.5)]),
        ("min_p", vec![json!(-0.1), json!(2)]),
        ("typical_p", vec![json!(0), json!(1.5)]),
        ("repetition_penalty", vec![json!(0), json!(1e308)]),
        ("frequency_penalty", vec![json!(-2.1), json!(3)]),
        ("presence_penalty", vec![json!(-3), json!(2.1)]),
        (
            "n",
            vec![json!(0), json!(17), json!(1_000_000), json!(-1), json!(i64::MIN)],
        ),
        (
            "stop",
            vec![
                json!(""),
                json!([""]),
                json!("x".repeat(257)),
                json!(vec!["a"; 17]),
                json!(5),
            ],
        ),
        ("logprobs", vec![json!(21), json!(-1), json!(true)]),
        (
            "logit_bias",
            vec![
                json!({"the": 1}),
                json!({"1": 101}),
                json!({"1": "much"}),
                json!({"-1": 1}),
            ],
        ),
        ("seed", vec![json!(0.5), json!("1"), json!(1e20)]),
        (
            "stream_options",
            vec![json!([]), json!("usage"), json!({"include_usage": 1})],
        ),
        ("response_format", vec![json!([]), json!(["text"]), json!("json")]),
        ("max_tokens", vec![json!(-1), json!("many"), json!(1e3)]),
        ("best_of", vec![json!(2)]),
        ("suffix", vec![json!("the end")]),
        (
            "prompt",
            vec![
                json!([]),
                json!([1, "a"]),
                json!([[1], 2]),
                json!([-1]),
                json!(7),
                json!([[1.5]]),
            ],
        ),
    ] {
        for value in values {
            let mut request = json!({"prompt": "a", "max_tokens": 1});
            request[field] = value.clone();
            let reply = post(server.address, "/v1/completions", &request);
            assert_eq!(reply.status, 400, "{field} {value}: {reply:?}");
            let (message, param, _) = reply.error();
            let param = param.as_str().unwrap_or_default();
            assert!(
                param.starts_with(field) && message.starts_with(field),
                "{value}: {param}: {message}"
            );
            assert!(!message.contains("f64") && !message.contains("usize"), "{message}");
        }
    }
    // Ids that the model does not have.
    let reply = post(server.address, "/v1/completions", &json!({"prompt": [1, 100_000]}));
    assert_eq!(reply.status, 400);
    assert!(reply.error().0.contains("100000"), "{reply:?}");
    // Unknown fields and nulls are ignored.
    let request = json!({"prompt": "a", "max_tokens": 1, "user": "me", "what": [{}], "stop": null, "temperature": null,
        "logit_bias": null, "stream": null, "seed": null});
    assert_eq!(post(server.address, "/v1/completions", &request).status, 200);
}

/// Files of the page have no secrets, and `/health` is asked by programs without a key.
const OPEN: [&str; 3] = ["/", "/page/{name}", "/health"];

#[test]
fn with_a_key_every_address_but_the_page_and_the_health_check_needs_it() {
    let with_key = ServerOptions {
        key: Some("open-sesame".to_owned()),
        ..options()
    };
    let server = serve(&[("tiny", causal())], EngineOptions::default(), with_key);
    let keyed = |method: &str, path: &str, key: &str| {
        send(
            server.address,
            head(method, path, &format!("Authorization: {key}\r\n")).as_bytes(),
        )
    };
    let all = keyed("GET", "/openapi.json", "Bearer open-sesame").json();
    let paths = all["paths"].as_object().expect("paths");
    let open: BTreeSet<&str> = paths
        .keys()
        .map(String::as_str)
        .filter(|path| OPEN.contains(path))
        .collect();
    assert_eq!(open.len(), OPEN.len());
    for (path, operations) in paths {
        let (method, path) = match operations.get("post") {
            Some(_) => ("POST", path.replace("{name}", "tiny")),
            None => ("GET", path.replace("{name}", "tiny")),
        };
        let is_open = OPEN.contains(&path.replace("tiny", "{name}").as_str());
        for key in [
            "",
            "Bearer wrong",
            "open-sesame",
            "Bearer open-sesame2",
            "Basic open-sesame",
        ] {
            let reply = keyed(method, &path, key);
            assert_eq!(reply.status == 401, !is_open, "{method} {path} with {key:?}: {reply:?}");
            if !is_open {
                assert_eq!(reply.error().2, "invalid_api_key");
                assert!(!reply.body.contains("sesame"));
            }
        }
        assert_ne!(keyed(method, &path, "Bearer open-sesame").status, 401, "{path}");
        assert_ne!(keyed(method, &path, "bearer open-sesame").status, 401, "{path}");
    }
}

/// The addresses that answer are those that are described.
#[test]
fn every_described_address_exists_and_others_are_errors_in_the_same_shape() {
    let server = server();
    let all = description(server.address);
    for (path, operations) in all["paths"].as_object().expect("paths") {
        let path = path.replace("{name}", "tiny");
        let is_described = |method: &str| operations.get(method.to_ascii_lowercase()).is_some();
        let all = ["GET", "POST", "PUT", "PATCH", "DELETE"];
        let (right, wrong): (Vec<&str>, Vec<&str>) = all.into_iter().partition(|method| is_described(method));
        for method in wrong {
            let reply = send(server.address, head(method, &path, "").as_bytes());
            assert_eq!(reply.status, 405, "{method} {path}");
            reply.error();
        }
        // A name that nothing has is an answer of the address.
        let may_lack = ["/page/", "/conversations/", "/runs/"];
        for method in right {
            let reply = send(server.address, head(method, &path, "").as_bytes());
            let is_there = reply.status != 404 || may_lack.iter().any(|start| path.starts_with(start));
            assert!(reply.status != 405 && is_there, "{path}: {reply:?}");
        }
    }
    for path in [
        "/v2/models",
        "/v1/completions/",
        "/page/../Cargo.toml",
        "/page/%2e%2e%2fCargo.toml",
        "/page/",
        "/etc/passwd",
    ] {
        let reply = get(server.address, path);
        assert_eq!(reply.status, 404, "{path}");
        reply.error();
    }
}

#[test]
fn every_module_that_the_page_imports_is_served() {
    let server = serve(&[("tiny", causal())], EngineOptions::default(), options());
    let mut known = vec!["app.js".to_owned()];
    let mut read = 0;
    while let Some(name) = known.get(read).cloned() {
        let reply = get(server.address, &format!("/page/{name}"));
        assert_eq!(reply.status, 200, "{name}");
        for part in reply.body.split(" from \"./").skip(1) {
            let import = part.split('"').next().unwrap_or_default().to_owned();
            if !known.contains(&import) {
                known.push(import);
            }
        }
        read += 1;
    }
    assert!(known.contains(&"views.js".to_owned()) && known.len() > 10, "{known:?}");
}

/// The object that a reference names.
fn resolved<'a>(all: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(name) => {
            let found = all.pointer(name.trim_start_matches('#'));
            resolved(all, found.unwrap_or_else(|| panic!("{name} is not described")))
        }
        None => schema,
    }
}

/// Whether a value has the fields and types of a schema, as far as this description uses schemas.
fn check(all: &Value, schema: &Value, value: &Value, path: &str) {
    let schema = resolved(all, schema);
    for part in schema["allOf"].as_array().into_iter().flatten() {
        check_fields(all, part, value, path);
    }
    if let Some(either) = schema["oneOf"].as_array() {
        let fitting: Vec<&Value> = either.iter().filter(|part| is_of(resolved(all, part), value)).collect();
        assert!(!fitting.is_empty(), "{path}: {value} is none of {either:?}");
        fitting.iter().for_each(|part| check(all, part, value, path));
    }
    assert!(is_of(schema, value), "{path}: {value} is not of {}", schema["type"]);
    if value.is_null() {
        return;
    }
    if let Some(values) = value.as_array().filter(|_| schema["items"].is_object()) {
        for (index, value) in values.iter().enumerate() {
            check(all, &schema["items"], value, &format!("{path}[{index}]"));
        }
    }
    check_fields(all, schema, value, path);
}

/// Whether a value is of a schema's type.
fn is_of(schema: &Value, value: &Value) -> bool {
    let is_of = |kind: &str| match kind {
        "null" => value.is_null(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("type {other}"),
    };
    match &schema["type"] {
        Value::String(kind) => is_of(kind),
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).any(is_of),
        _ if schema["allOf"].is_array() => value.is_object(),
        _ => true,
    }
}

/// The same for what is described of an object.
fn check_fields(all: &Value, schema: &Value, value: &Value, path: &str) {
    let schema = resolved(all, schema);
    for field in schema["required"].as_array().into_iter().flatten() {
        let field = field.as_str().expect("a name");
        assert!(value.get(field).is_some(), "{path} lacks {field}: {value}");
    }
    for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(value) = value.get(field) {
            check(all, schema, value, &format!("{path}.{field}"));
        }
    }
}

#[test]
fn answers_are_as_described() {
    let tiny = crate::chatting::with_template(crate::chatting::TEMPLATE);
    let server = serve(
        &[("tiny", tiny), ("masked", masked()), ("translator", translator())],
        EngineOptions::default(),
        options(),
    );
    let all = description(server.address);
    let messages = json!([{"role": "user", "content": "the cat"}]);
    for (path, request) in [
        ("/health", Value::Null),
        ("/v1/models", Value::Null),
        ("/v1/models/masked", Value::Null),
        (
            "/v1/completions",
            json!({"prompt": "the cat", "max_tokens": 4, "echo": true, "logprobs": 2, "receipt": true}),
        ),
        (
            "/v1/chat/completions",
            json!({"messages": messages, "max_tokens": 4, "logprobs": true, "top_logprobs": 2}),
        ),
        ("/v1/chat/render", json!({"messages": messages})),
        (
            "/v1/responses",
            json!({"input": "the cat", "max_output_tokens": 4, "top_logprobs": 2}),
        ),
        ("/conversations", Value::Null),
        ("/runs", Value::Null),
        ("/trace", json!({"prompt": "the cat"})),
        ("/v1/embeddings", json!({"input": ["the", "cat"]})),
        ("/v1/fill-mask", json!({"input": "the [MASK] sat", "model": "masked"})),
        (
            "/v1/translate",
            json!({"input": ["the cat", ""], "model": "translator", "alternatives": 1, "attention": true, "max_tokens": 4}),
        ),
        ("/v1/tokenize", json!({"prompt": "the cat"})),
        ("/detokenize", json!({"tokens": [65, 66]})),
    ] {
        let described = &all["paths"][path.replace("masked", "{name}")];
        let (reply, method) = match &request {
            Value::Null => (get(server.address, path), "get"),
            request => (post(server.address, path, request), "post"),
        };
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        let schema = &described[method]["responses"]["200"]["content"]["application/json"]["schema"];
        assert!(schema.is_object(), "{path}");
        check(&all, schema, &reply.json(), path);
        // Errors have one shape.
        let failed = post(server.address, "/v1/completions", &json!({"n": 0}));
        let schema = &described[method]["responses"]["403"]["content"]["application/json"]["schema"];
        check(&all, schema, &failed.json(), "error");
    }
    for (path, request) in [
        (
            "/v1/completions",
            json!({"prompt": "the", "max_tokens": 3, "logprobs": 1}),
        ),
        ("/v1/chat/completions", json!({"messages": messages, "max_tokens": 3})),
    ] {
        let mut request = request;
        request["stream"] = json!(true);
        request["stream_options"] = json!({"include_usage": true});
        let schema = &all["paths"][path]["post"]["responses"]["200"]["content"]["text/event-stream"]["schema"];
        for event in post(server.address, path, &request).events() {
            check(&all, schema, &event, path);
        }
    }
}

#[test]
fn models_are_listed_and_named() {
    let server = serve(
        &[("tiny", causal()), ("org/gap-filler:1", masked())],
        EngineOptions::default(),
        options(),
    );
    let list = get(server.address, "/v1/models").json();
    let ids: Vec<&Value> = list["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|model| &model["id"])
        .collect();
    assert_eq!(ids, ["tiny", "org/gap-filler:1"]);
    let one = get(server.address, "/v1/models/org/gap-filler:1").json();
    assert_eq!((&one["kind"], &one["max_model_len"]), (&json!("masked"), &json!(32)));
    assert_eq!(get(server.address, "/v1/models/no").status, 404);
    let reply = post(
        server.address,
        "/v1/completions",
        &json!({"model": "../../etc", "prompt": "a"}),
    );
    let (message, param, code) = reply.error();
    assert_eq!(
        (reply.status, param, code),
        (404, json!("model"), json!("model_not_found"))
    );
    assert!(message.contains("tiny, org/gap-filler:1"), "{message}");
    let reply = post(
        server.address,
        "/v1/completions",
        &json!({"model": "org/gap-filler:1", "prompt": "a"}),
    );
    assert_eq!(reply.status, 400);
    assert!(reply.error().0.contains("bidirectional"), "{reply:?}");
}

#[test]
fn the_page_may_load_only_what_the_server_has() {
    let server = server();
    let reply = get(server.address, "/");
    assert_eq!(reply.header("content-type"), Some("text/html; charset=utf-8"));
    for reply in [
        reply,
        get(server.address, "/v1/models"),
        get(server.address, "/nothing"),
    ] {
        let policy = reply.header("content-security-policy").expect("a policy");
        assert!(
            policy.starts_with("default-src 'self'") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(reply.header("access-control-allow-origin"), None);
    }
}
