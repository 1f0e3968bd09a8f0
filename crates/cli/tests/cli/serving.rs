//! `taal serve`: runs while they train, adapters, and what it keeps.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::adapters::{train_other, tuned};
use crate::runs::endless;
use crate::{Place, done, fails, json};

/// A program that ends with the test.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server on any free port, its address, and its messages.
fn serve(place: &Place, arguments: &[&str]) -> (Ending, String, Receiver<String>) {
    let mut child = place
        .command(&[&["serve", "--port", "0"], arguments].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("taal starts");
    let messages = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let (send, received) = channel();
    std::thread::spawn(move || messages.map_while(Result::ok).try_for_each(|line| send.send(line)));
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let child = Ending(child);
    let line = lines.next().and_then(Result::ok);
    let line = line.unwrap_or_else(|| panic!("no address; {:?}", received.try_iter().collect::<Vec<_>>()));
    let address = line.split("http://").nth(1).expect("an address").to_owned();
    (child, address, received)
}

/// The answer to a request without its head.
fn asked(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    answer.split("\r\n\r\n").nth(1).expect("a body").to_owned()
}

/// The answer to a request with a body, as JSON.
fn posted(address: &str, path: &str, body: &serde_json::Value) -> serde_json::Value {
    let body = body.to_string();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    serde_json::from_str(&asked(address, &request)).expect("JSON")
}

fn got(address: &str, path: &str) -> serde_json::Value {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    serde_json::from_str(&asked(address, &request)).expect("JSON")
}

#[test]
fn an_adapter_answers_under_its_own_name_as_the_merged_model_does() {
    let place = tuned();
    done(place.taal(&["adapter", "merge", "tuned", "--out", "merged"]));
    let expected = json(place.taal(&[
        "generate",
        "--model",
        "merged",
        "--prompt",
        "de",
        "--max-tokens",
        "5",
        "--temperature",
        "0",
        "--json",
    ]));
    let adapter = ["--adapter", "tuned=tuned", "--adapter", "base:again=tuned"];
    let arguments = ["--model", "base", "--context", "100000"];
    let (_server, address, messages) = serve(&place, &[&arguments[..], &adapter[..]].concat());
    let mut messages = std::iter::from_fn(|| messages.recv_timeout(Duration::from_secs(20)).ok());
    assert!(messages.any(|line| line.contains("--context 100000 is more than base has")));
    let models = got(&address, "/v1/models");
    let names = |field: &str| -> Vec<serde_json::Value> {
        let models = models["data"].as_array().expect("models").iter();
        models.map(|model| model[field].clone()).collect()
    };
    assert_eq!(names("id"), ["base", "base:tuned", "base:again"]);
    assert_eq!(names("parent"), [serde_json::Value::Null, "base".into(), "base".into()]);
    let ask = |model: &str| {
        let request = serde_json::json!({"model": model, "prompt": "de", "max_tokens": 5, "temperature": 0,
            "logprobs": 1, "receipt": true});
        posted(&address, "/v1/completions", &request)["choices"][0].clone()
    };
    let (base, tuned, again) = (ask("base"), ask("base:tuned"), ask("base:again"));
    assert_eq!(tuned["text"], expected["text"]);
    assert_eq!(tuned["logprobs"], again["logprobs"]);
    assert_ne!(tuned["logprobs"], base["logprobs"], "the adapter does something");

    // Receipts of a server are those of the library, and name the adapter by the weights.
    let receipt = |name: &str, choice: &serde_json::Value| place.write(name, choice["receipt"].to_string());
    receipt("base.json", &base);
    receipt("tuned.json", &tuned);
    let line = |choice: &serde_json::Value| format!("{}\n", choice["text"].as_str().expect("a text"));
    assert_eq!(
        done(place.taal(&["replay", "base.json", "--model", "base"])),
        line(&base)
    );
    let replay = ["replay", "tuned.json", "--model", "base"];
    assert_eq!(
        done(place.taal(&[&replay[..], &["--adapter", "tuned"]].concat())),
        line(&tuned)
    );
    fails(place.taal(&replay), 65, &["the answer is of another model", "weights"]);
}

#[test]
fn adapters_of_another_model_or_none_are_refused() {
    let place = tuned();
    train_other(&place);
    let serve =
        |model: &str, adapter: &str| place.taal(&["serve", "--port", "0", "--model", model, "--adapter", adapter]);
    fails(serve("other", "tuned=tuned"), 65, &["BLAKE3", "those of this one have"]);
    fails(
        serve("base", "nobody:tuned=tuned"),
        2,
        &["nobody:tuned", "there are base"],
    );
    fails(serve("base", "tuned"), 2, &["NAME=DIR"]);
    fails(serve("base", "tuned=nowhere"), 2, &["no adapter here"]);
}

#[test]
fn a_model_with_a_draft_gives_the_answers_of_one_without_and_counts_right_guesses() {
    let place = Place::new();
    for (run, settings) in [
        ("run", ["seed=7", "model.d_model=16"]),
        ("small", ["seed=9", "model.d_model=8"]),
    ] {
        let settings = settings.map(|setting| ["--set", setting]).concat();
        let train = [
            "train",
            "--recipe",
            "tiny.toml",
            "--run-dir",
            run,
            "--set",
            "train.block_size=40",
        ];
        done(place.taal(&[&train[..], &settings].concat()));
    }
    let models = ["--model", "plain=run", "--model", "same=run", "--model", "small=run"];
    let drafts = ["--draft", "same=run", "--draft", "small=small", "--draft-tokens", "6"];
    let (_server, address, _) = serve(&place, &[models, drafts].concat());
    let ask = |model: &str| {
        let request =
            serde_json::json!({"model": model, "prompt": "de kat", "max_tokens": 20, "seed": 3, "receipt": true});
        let answer = posted(&address, "/v1/completions", &request);
        let details = &answer["usage"]["completion_tokens_details"];
        let of = |key: &str| details[key].as_u64().expect("a number");
        let counted = [of("accepted_prediction_tokens"), of("rejected_prediction_tokens")];
        (answer["choices"].clone(), counted)
    };
    let (plain, none) = ask("plain");
    assert_eq!(none, [0, 0]);
    let (same, [accepted, rejected]) = ask("same");
    assert!(same == plain && accepted > 9 && rejected == 0, "{accepted} {rejected}");
    let (small, [accepted, rejected]) = ask("small");
    assert!(small == plain && accepted + rejected > 0, "{accepted} {rejected}");
    place.write("receipt.json", same[0]["receipt"].to_string());
    let text = same[0]["text"].as_str().expect("a text");
    let replay = ["replay", "receipt.json", "--model", "run"];
    assert_eq!(done(place.taal(&replay)), format!("{text}\n"));
}

#[test]
fn drafts_of_other_tokens_of_no_model_or_two_for_one_are_refused() {
    let place = Place::trained();
    place.write("other.txt", "een hond blaft naar de poes.\n".repeat(16));
    let other = ["--run-dir", "other", "--set", "data.files=[\"other.txt\"]"];
    done(place.taal(&[&["train", "--recipe", "tiny.toml"][..], &other].concat()));
    let refusals: [(&[&str], &[&str]); 5] = [
        (
            &["--draft", "other"],
            &["other cannot draft for run: draft: the draft's tokenizer has"],
        ),
        (&["--draft", "nobody=other"], &["--draft nobody=other", "there are run"]),
        (
            &["--draft", "other", "--draft", "run=run"],
            &["other and run are both for run"],
        ),
        (
            &["--draft", "run", "--draft-tokens", "65"],
            &["expected 1..=64, got 65"],
        ),
        (&["--draft-tokens", "2"], &["--draft"]),
    ];
    for (more, words) in refusals {
        fails(
            place.taal(&[&["serve", "--port", "0", "--model", "run"][..], more].concat()),
            2,
            words,
        );
    }
}

#[test]
fn conversations_are_kept_in_the_users_folder_and_runs_shown() {
    let place = Place::trained();
    let conversation = serde_json::json!({"id": "a", "kind": "text", "text": "de kat"});
    for revision in 1..=2 {
        let (_server, address, _) = serve(&place, &["--model", "run", "--runs", "."]);
        let kept = got(&address, "/conversations");
        assert_eq!(kept["data"].as_array().expect("a list").len(), revision - 1, "{kept}");
        let mut changed = conversation.clone();
        changed["revision"] = serde_json::json!(revision - 1);
        assert_eq!(posted(&address, "/conversations", &changed)["revision"], revision);
        let runs = got(&address, "/runs");
        assert_eq!(runs["data"][0]["name"], "run", "{runs}");
    }
    let (_server, address, _) = serve(&place, &["--model", "run", "--conversations", "none", "--runs", "none"]);
    assert_eq!(got(&address, "/conversations")["is_kept"], false);
    assert_eq!(got(&address, "/runs")["is_shown"], false);
    // A folder that was named must be usable.
    place.write("file", "");
    let named = ["serve", "--port", "0", "--model", "run", "--conversations", "file"];
    assert_ne!(place.taal(&named).status.code(), Some(0));
}

#[test]
fn the_newest_checkpoint_of_a_run_under_way_answers() {
    let place = Place::new();
    let _training = Ending(endless(&place, "runs/live"));
    let (_server, address, messages) = serve(&place, &["--run", "runs/live", "--context", "8"]);
    let models = got(&address, "/v1/models");
    assert_eq!(models["data"][0]["id"], "live", "{models}");
    let request = serde_json::json!({"prompt": "de kat", "max_tokens": 1, "temperature": 0});
    let limit = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = posted(&address, "/v1/completions", &request);
        assert!(answer["usage"]["carbon"]["joules"].is_number(), "{answer}");
        // A checkpoint that the run has removed in the meantime is passed over.
        if messages
            .try_iter()
            .any(|line| line.starts_with("serving the checkpoint of step "))
        {
            break;
        }
        assert!(Instant::now() < limit, "no newer checkpoint was served");
        std::thread::sleep(Duration::from_millis(300));
    }
}

#[test]
fn a_run_without_a_checkpoint_and_a_priority_without_a_run_are_refused() {
    let place = Place::new();
    std::fs::create_dir_all(place.path("runs/new")).expect("a folder");
    place.write("runs/new/recipe.toml", "");
    fails(
        place.taal(&["serve", "--port", "0", "--run", "runs/new"]),
        2,
        &["runs/new"],
    );
    let without_run = ["serve", "--port", "0", "--model", "runs/new", "--priority", "serve"];
    fails(place.taal(&without_run), 2, &["--run"]);
}

/// Linux would otherwise fill huge pages again of which most was given back.
#[cfg(target_os = "linux")]
#[test]
fn a_server_takes_no_huge_pages_once_its_models_are_open() {
    let place = Place::new();
    done(place.train_with(&["train.steps=1"]));
    let (child, ..) = serve(&place, &["--model", "run", "--conversations", "none"]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.0.id())).expect("its status");
    let setting = status.lines().find_map(|line| line.strip_prefix("THP_enabled:"));
    assert!(setting.is_none_or(|setting| setting.trim() == "0"), "{status}");
}
