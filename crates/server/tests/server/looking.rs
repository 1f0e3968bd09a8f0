//! What the page shows besides talk: a text through the model, and the runs of a folder.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use taal_inference::{EngineOptions, Prompt};
use taal_insight::TraceOptions;
use taal_server::{ServedModel, Server};
use taal_trainer::{RawRecipe, RecipeText, Trainer};

use crate::chatting::{TEMPLATE, with_template};
use crate::client::{get, post};
use crate::tiny::{Running, causal, masked, options, run, serve, server, translator};

#[test]
fn a_trace_is_that_of_the_library() {
    let models = [("tiny", with_template(TEMPLATE)), ("masked", masked())];
    let server = serve(&models, EngineOptions::default(), options());
    let ask = |request: &Value| {
        let reply = post(server.address, "/trace", request);
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()
    };
    for (index, text) in ["the cat sat", "the [MASK] sat"].into_iter().enumerate() {
        let (name, lm) = &models[index];
        let found = ask(&json!({"model": name, "prompt": text}));
        let expected = taal_insight::trace(lm, &Prompt::from(text), &TraceOptions { top: 5 }).expect("a trace");
        assert_eq!(found["trace"], taal_insight::page_data(&expected), "{name}");
        assert_eq!((&found["model"], &found["left_out"]), (&json!(name), &json!(0)));
    }
    // A conversation is followed as it is read.
    let messages = json!([{"role": "user", "content": "the cat"}]);
    let rendered = post(server.address, "/v1/chat/render", &json!({"messages": messages})).json();
    let count = rendered["tokens"].as_array().expect("tokens").len();
    let found = ask(&json!({"messages": messages}));
    assert_eq!(found["trace"]["tokens"].as_array().expect("tokens").len(), count);
    // Of a long text only its end, if that is asked for, and the answer says so.
    let found = ask(&json!({"messages": messages, "last": 4}));
    assert_eq!(found["left_out"], count - 4);
    let weights = STANDARD.decode(found["trace"]["attention"].as_str().expect("a text"));
    // Two layers of four heads, each a triangle.
    assert_eq!(weights.expect("base64").len(), 2 * 4 * (4 * 5 / 2));
}

#[test]
fn a_sentence_pair_is_followed_with_its_attention_to_the_source() {
    let lm = translator();
    let models = [("translator", lm.clone()), ("tiny", causal())];
    let server = serve(&models, EngineOptions::default(), options());
    let ask = |request: Value| post(server.address, "/trace", &request);
    let (source, target) = ("the cat sat", "the rat ran");
    let found = ask(json!({"prompt": source, "target": target})).json();
    let asked = TraceOptions { top: 5 };
    let expected = taal_insight::trace_pair(&lm, source, Some(target), &asked).expect("a trace");
    assert_eq!(found["trace"], taal_insight::page_data(&expected));
    let crossed = STANDARD.decode(found["trace"]["source"]["attention"].as_str().expect("a text"));
    let sources = found["trace"]["source"]["tokens"].as_array().expect("tokens").len();
    let targets = found["trace"]["tokens"].as_array().expect("tokens").len();
    assert_eq!(crossed.expect("base64").len(), 2 * 4 * sources * targets);
    // Without a translation it is the model's own.
    let own = ask(json!({"prompt": source})).json();
    let expected = taal_insight::trace(&lm, &Prompt::from(source), &asked).expect("a trace");
    assert_eq!(own["trace"], taal_insight::page_data(&expected));
    for (request, field) in [
        (json!({"prompt": source, "target": target, "model": "tiny"}), "target"),
        (json!({"prompt": source, "target": ""}), "target"),
        (json!({"prompt": source, "target": "x".repeat(500)}), "target"),
        (json!({"prompt": source, "last": 3}), "last"),
        (json!({"prompt": [1, 2], "target": target}), "prompt"),
    ] {
        let reply = ask(request);
        assert_eq!((reply.status, reply.error().1), (400, json!(field)), "{reply:?}");
    }
}

#[test]
fn a_text_that_cannot_be_followed_is_refused() {
    let server = server();
    let long = "x".repeat(500);
    for (request, field) in [
        (json!({}), "prompt"),
        (json!({"prompt": ["a", "b"]}), "prompt"),
        (json!({"prompt": "a", "messages": []}), "messages"),
        (json!({"prompt": "a", "last": 0}), "last"),
        (json!({"prompt": long}), "prompt"),
    ] {
        let reply = post(server.address, "/trace", &request);
        assert_eq!((reply.status, reply.error().1), (400, json!(field)), "{reply:?}");
    }
    let reply = post(server.address, "/trace", &json!({"prompt": long}));
    assert_eq!(reply.error().2, "context_length_exceeded");
    assert_eq!(
        post(server.address, "/trace", &json!({"prompt": long, "last": 9})).status,
        200
    );
}

/// A run of a few steps.
fn train(folder: &Path, name: &str, steps: u64) {
    let mut recipe = RawRecipe::default();
    recipe.tokenizer.kind = Some("char".to_owned());
    recipe.model.d_model = Some(16);
    recipe.train.steps = Some(steps);
    recipe.train.block_size = Some(8);
    Trainer::new(RecipeText::of("tiny", &recipe).expect("a recipe"), folder.join(name))
        .set("checkpoint.every=2")
        .set("checkpoint.keep=9")
        .set("eval.every=2")
        .texts(["a cat sat on a mat ".repeat(20)])
        .run()
        .expect("a run");
}

fn showing(folder: &Path) -> Running {
    let model = ServedModel::start("tiny", causal(), EngineOptions::default()).expect("a model");
    let server = Server::bind(vec![model], options()).expect("an address");
    run(server.with_runs(folder), Vec::new())
}

#[test]
fn runs_have_their_curves_and_their_checkpoints_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    train(folder.path(), "short", 4);
    train(folder.path(), "long", 6);
    let server = showing(folder.path());
    let list = get(server.address, "/runs").json();
    assert_eq!(list["is_shown"], true);
    let names: Vec<&Value> = list["data"]
        .as_array()
        .expect("runs")
        .iter()
        .map(|run| &run["name"])
        .collect();
    assert!(
        names.len() == 2 && names.contains(&&json!("short")) && names.contains(&&json!("long")),
        "{list}"
    );

    let long = get(server.address, "/runs/long").json();
    assert_eq!(
        (&long["run"]["state"], &long["run"]["steps"]),
        (&json!("finished"), &json!(6))
    );
    let steps = |curve: &str| -> Vec<f64> {
        let points = long[curve].as_array().expect("points").iter();
        points.map(|point| point["step"].as_f64().expect("a step")).collect()
    };
    assert_eq!(steps("validation").last(), Some(&6.0));
    assert!(!steps("training").is_empty() && steps("training").is_sorted());
    let mut checkpoints: Vec<u64> = serde_json::from_value(long["checkpoints"].clone()).expect("steps");
    // A run may keep what it began with.
    checkpoints.retain(|step| *step > 0);
    assert_eq!(checkpoints, [2, 4, 6]);
    let answers: Vec<String> = checkpoints
        .iter()
        .map(|step| {
            let request = json!({"run": "long", "step": step, "prompt": "a cat", "max_tokens": 7});
            let reply = post(server.address, "/runs/answer", &request);
            assert_eq!(reply.status, 200, "{reply:?}");
            reply.json()["text"].as_str().expect("a text").to_owned()
        })
        .collect();
    assert!(answers.iter().all(|answer| answer.chars().count() == 7), "{answers:?}");

    for (run, step) in [("long", 5), ("other", 2), ("../long", 2), ("", 2)] {
        let reply = post(
            server.address,
            "/runs/answer",
            &json!({"run": run, "step": step, "prompt": "a"}),
        );
        assert_eq!(reply.status, 404, "{run} {step}: {reply:?}");
    }
    let request = json!({"run": "long", "step": 2, "prompt": "a", "max_tokens": 1000});
    assert_eq!(post(server.address, "/runs/answer", &request).error().1, "max_tokens");
    // The prompt has a character that the model does not know.
    let request = json!({"run": "long", "step": 2, "prompt": "Z"});
    assert_eq!(post(server.address, "/runs/answer", &request).status, 400);
}

#[test]
fn a_name_leads_to_a_run_of_the_folder_and_nowhere_else() {
    let folder = tempfile::tempdir().expect("a folder");
    train(folder.path(), "outside", 2);
    let inner = folder.path().join("runs");
    let server = showing(&inner);
    // The folder does not exist yet.
    assert_eq!(get(server.address, "/runs").json()["data"], json!([]));
    std::fs::create_dir(&inner).expect("a folder");
    std::fs::create_dir(inner.join("empty")).expect("a folder");
    for name in ["../outside", "..%2Foutside", "%2e%2e/outside", ".", "", "empty", "no"] {
        let reply = get(server.address, &format!("/runs/{name}"));
        assert_eq!(reply.status, 404, "{name}: {reply:?}");
    }
    let none = crate::tiny::server();
    assert_eq!(get(none.address, "/runs").json()["is_shown"], false);
    assert!(get(none.address, "/runs/a").error().0.contains("--runs"));
}
