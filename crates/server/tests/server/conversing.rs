//! Conversations of the page are kept on the server's disk.

use std::path::Path;

use serde_json::{Value, json};
use taal_inference::EngineOptions;
use taal_server::{ServedModel, Server, ServerError};
use taal_store::ErrorKind;

use crate::client::{Reply, get, head, post, send};
use crate::tiny::{Running, causal, options, run, server};

const PATH: &str = "/conversations";

fn bound() -> Server {
    let model = ServedModel::start("tiny", causal(), EngineOptions::default()).expect("a model");
    Server::bind(vec![model], options()).expect("an address")
}

/// A server that keeps its conversations in a folder.
fn keeping(folder: &Path) -> Running {
    let mut server = bound();
    server.keep_conversations(folder).expect("a folder");
    run(server, Vec::new())
}

fn conversation(id: &str, updated: u64) -> Value {
    json!({"id": id, "kind": "chat", "title": "the cat", "created": 1, "updated": updated, "text": "", "messages": [
        {"role": "user", "content": "the cat"},
        {"role": "assistant", "versions": [{"content": "sat"}, {"content": "ran \u{1f63a}"}], "at": 1},
    ]})
}

fn kept(server: &Running, conversation: &Value) -> Value {
    let reply = post(server.address, PATH, conversation);
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()["revision"].clone()
}

fn ids(server: &Running) -> Vec<String> {
    let list = get(server.address, PATH).json();
    assert_eq!(list["is_kept"], true);
    let ids = list["data"].as_array().expect("a list").iter();
    ids.map(|one| one["id"].as_str().expect("an id").to_owned()).collect()
}

fn remove(server: &Running, id: &str) -> Reply {
    send(server.address, head("DELETE", &format!("{PATH}/{id}"), "").as_bytes())
}

#[test]
fn conversations_outlive_the_server_and_are_shared_by_several() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().join("not/yet");
    let first = keeping(&folder);
    assert!(ids(&first).is_empty());
    assert_eq!(kept(&first, &conversation("a", 5)), 1);
    // Another one at the same time.
    let second = keeping(&folder);
    assert_eq!(kept(&second, &conversation("b", 7)), 1);
    assert_eq!(
        (ids(&first), ids(&second)),
        (vec!["b".into(), "a".into()], vec!["b".into(), "a".into()])
    );
    drop((first, second));
    let again = keeping(&folder);
    let found = get(again.address, &format!("{PATH}/a")).json();
    let mut expected = conversation("a", 5);
    expected["revision"] = json!(1);
    assert_eq!(found, expected);
    assert_eq!(remove(&again, "a").status, 200);
    assert_eq!(remove(&again, "a").error().2, "no_conversation");
    assert_eq!(get(again.address, &format!("{PATH}/a")).status, 404);
    assert_eq!(ids(&again), ["b"]);
}

#[test]
fn a_change_of_an_older_revision_is_refused_and_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = keeping(folder.path());
    kept(&server, &conversation("a", 1));
    let mut mine = conversation("a", 2);
    mine["revision"] = json!(1);
    mine["title"] = json!("mine");
    assert_eq!(kept(&server, &mine), 2);
    for revision in [0, 1, 3] {
        let mut theirs = conversation("a", 3);
        theirs["revision"] = json!(revision);
        let reply = post(server.address, PATH, &theirs);
        assert_eq!(
            (reply.status, reply.error().2),
            (409, json!("changed_elsewhere")),
            "{reply:?}"
        );
    }
    assert_eq!(get(server.address, &format!("{PATH}/a")).json()["title"], "mine");
    // One that was removed elsewhere is kept again.
    remove(&server, "a");
    assert_eq!(kept(&server, &mine), 2);
}

#[test]
fn all_conversations_leave_as_one_file_and_come_back_as_new_ones() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = keeping(folder.path());
    kept(&server, &conversation("a", 1));
    let text = json!({"id": "b", "kind": "text", "text": "the cat"});
    kept(&server, &text);
    let file = get(server.address, "/conversations/export").json();
    assert_eq!(file["format"], "taal-conversations-1");
    let imported = post(server.address, "/conversations/import", &file).json();
    let new: Vec<String> = serde_json::from_value(imported["ids"].clone()).expect("ids");
    assert_eq!((new.len(), ids(&server).len()), (2, 4));
    for (old, new) in file["conversations"].as_array().expect("a list").iter().zip(&new) {
        let found = get(server.address, &format!("{PATH}/{new}")).json();
        for field in ["kind", "title", "text", "messages", "created", "updated"] {
            assert_eq!(found[field], old[field], "{field}");
        }
    }
    // A file that is not whole adds nothing.
    let mut wrong = file.clone();
    wrong["conversations"][1]["kind"] = json!("song");
    let reply = post(server.address, "/conversations/import", &wrong);
    assert_eq!(
        (reply.status, reply.error().1),
        (400, json!("conversations[1].kind")),
        "{reply:?}"
    );
    let other = json!({"format": "other", "conversations": []});
    assert_eq!(
        post(server.address, "/conversations/import", &other).error().1,
        "format"
    );
    assert_eq!(ids(&server).len(), 4);
}

#[test]
fn conversations_that_cannot_be_kept_are_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = keeping(folder.path());
    for (field, value) in [
        ("id", json!("")),
        ("id", json!("../a")),
        ("id", json!("a".repeat(65))),
        ("kind", json!("song")),
        ("title", json!("a".repeat(201))),
        ("messages", json!([{"role": "user"}])),
        ("messages", json!([{"role": "system", "content": "a"}])),
        (
            "messages",
            json!([{"role": "assistant", "versions": [{"content": "a"}], "at": 1}]),
        ),
        ("revision", json!(-1)),
    ] {
        let mut wrong = conversation("a", 1);
        wrong[field] = value;
        let reply = post(server.address, PATH, &wrong);
        assert_eq!(reply.status, 400, "{reply:?}");
        let (message, param, _) = reply.error();
        assert!(
            param.as_str().is_some_and(|param| param.starts_with(field)),
            "{field}: {message}"
        );
    }
    // A prompt may not be so long, a conversation may; but not without end.
    let mut long = conversation("long", 1);
    long["text"] = json!("a".repeat(3 << 20));
    kept(&server, &long);
    let mut long = conversation("longer", 1);
    long["text"] = json!("a".repeat(5 << 20));
    let reply = post(server.address, PATH, &long);
    assert!(reply.status == 400 && reply.error().0.contains("bytes"), "{reply:?}");
    assert_eq!(ids(&server), ["long"]);
}

#[test]
fn a_server_without_a_folder_keeps_nothing_and_says_so() {
    let server = server();
    let list = get(server.address, PATH).json();
    assert_eq!((&list["is_kept"], &list["data"]), (&json!(false), &json!([])));
    for reply in [
        post(server.address, PATH, &conversation("a", 1)),
        get(server.address, "/conversations/export"),
        remove(&server, "a"),
    ] {
        assert!(
            reply.status == 404 && reply.error().0.contains("--conversations"),
            "{reply:?}"
        );
    }
}

#[test]
fn a_damaged_file_is_named_before_anything_is_served() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = keeping(folder.path());
    kept(&server, &conversation("a", 1));
    drop(server);
    let path = folder.path().join("conversations.redb");
    let whole = std::fs::read(&path).expect("a file");
    std::fs::write(&path, &whole[..whole.len() / 3]).expect("a file");
    let error = bound().keep_conversations(folder.path()).expect_err("a damaged file");
    assert!(
        matches!(error, ServerError::Store(_)) && error.kind() == ErrorKind::Corrupt,
        "{error}"
    );
    assert!(error.to_string().contains("conversations.redb"), "{error}");
    std::fs::write(&path, &whole).expect("a file");
    assert_eq!(ids(&keeping(folder.path())), ["a"]);
}
