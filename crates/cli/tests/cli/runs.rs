//! `taal runs`: the list, the comparison, and what is removed.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use crate::{Place, done, fails, json, stderr, stdout};

/// `taal train` with the tiny recipe below `runs/`.
fn trained(place: &Place, more: &[&str]) {
    done(place.taal(&[&["train", "--recipe", "tiny.toml"], more].concat()));
}

/// A run that does not end by itself, after its second checkpoint was begun.
pub fn endless(place: &Place, dir: &str) -> Child {
    let settings = [
        "train.steps=1000000",
        "eval.every=1000000",
        "checkpoint.every=1",
        "checkpoint.keep=3",
    ];
    let mut arguments = vec!["train", "--recipe", "tiny.toml", "--run-dir", dir];
    arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    let mut child = place
        .command(&arguments)
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("taal starts");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let saved = lines
        .by_ref()
        .map_while(Result::ok)
        .filter(|line| line.ends_with("checkpoint"));
    assert!(saved.take(2).count() == 2, "two checkpoints are begun");
    // Its messages are read on, so that it does not end for want of a reader.
    std::thread::spawn(move || lines.for_each(drop));
    child
}

fn checkpoints(place: &Place, run: &str) -> Vec<String> {
    let entries = fs::read_dir(place.path(&format!("{run}/checkpoints"))).expect("checkpoints");
    let name =
        |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name().into_string().expect("a name");
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort();
    names
}

#[test]
fn runs_are_listed_newest_first_with_their_figures_and_other_directories_are_named() {
    let place = Place::new();
    let empty = place.taal(&["runs"]);
    assert!(stderr(&empty).contains("no runs in runs"), "{}", stderr(&empty));
    assert_eq!(done(empty), "");
    trained(&place, &[]);
    trained(&place, &["--set", "train.steps=4"]);
    fs::create_dir_all(place.path("runs/notes")).expect("a folder");
    place.write("runs/notes/todo.txt", "mine");
    let lock = fs::metadata(place.path("runs/tiny/.lock"))
        .and_then(|it| it.modified())
        .expect("a time");

    let output = place.taal(&["runs"]);
    let said = stderr(&output).to_string();
    assert!(said.contains("skipped runs/notes: not a run directory"), "{said}");
    let text = done(output);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("run ") && lines.len() == 3, "{text}");
    let is_row = |line: &str, words: &[&str]| words.iter().all(|word| line.contains(word));
    assert!(is_row(lines[1], &["runs/tiny-2 ", "finished", " 4 "]), "{text}");
    assert!(is_row(lines[2], &["runs/tiny ", "finished", " 6 ", "tiny"]), "{text}");

    let found = json(place.taal(&["runs", "--json"]));
    let report: serde_json::Value = serde_json::from_str(&place.read("runs/tiny/report.json")).expect("a report");
    let run = &found["runs"][1];
    assert_eq!(run["state"], "finished");
    for key in ["params", "tokens", "best_val_loss", "best_step", "train_loss", "wall_s"] {
        assert_eq!(run[key], report[key], "{key}");
    }
    assert_eq!(
        (&run["steps"], &run["planned_steps"]),
        (&report["steps"], &report["planned_steps"])
    );
    let now = fs::metadata(place.path("runs/tiny/.lock"))
        .and_then(|it| it.modified())
        .expect("a time");
    assert_eq!(now, lock, "looking changes nothing");
    fails(place.taal(&["runs", "elsewhere"]), 2, &["elsewhere"]);
}

#[test]
fn a_run_in_use_is_listed_so_is_left_alone_and_is_stopped_when_it_was_killed() {
    let place = Place::new();
    let mut child = endless(&place, "runs/long");
    let found = json(place.taal(&["runs", "--json"]));
    let cleaned = place.taal(&["runs", "clean", "--yes"]);
    child.kill().expect("SIGKILL");
    child.wait().expect("an end");
    assert_eq!(found["runs"][0]["state"], "in_use");
    assert!(
        stderr(&cleaned).contains("runs/long is in use and left alone"),
        "{}",
        stderr(&cleaned)
    );
    assert!(stderr(&cleaned).contains("nothing to remove"));
    let found = json(place.taal(&["runs", "--json"]));
    assert_eq!(found["runs"][0]["state"], "stopped");
    assert!(found["runs"][0]["saved_step"].as_u64() >= Some(1), "{found}");
}

#[test]
fn a_broken_run_is_named_with_its_damage_and_the_others_are_listed() {
    let place = Place::new();
    for _ in 0..3 {
        trained(&place, &["--set", "train.steps=2"]);
    }
    place.truncate("runs/tiny/checkpoints/step-00000002/model/model.safetensors");
    place.write("runs/tiny-2/recipe.resolved.toml", "[train\n");
    let output = place.taal(&["runs"]);
    let said = stderr(&output).to_string();
    for words in [
        "runs/tiny is broken: ",
        "wrong size",
        "runs/tiny-2 is broken: ",
        "not TOML",
    ] {
        assert!(said.contains(words), "no {words} in {said}");
    }
    let text = done(output);
    assert_eq!(text.lines().count(), 4, "{text}");
    assert_eq!(text.matches(" broken ").count(), 2, "{text}");
    assert_eq!(text.matches(" finished ").count(), 1, "{text}");
}

#[test]
fn two_runs_are_compared_by_their_keys_figures_and_curves() {
    let place = Place::new();
    trained(&place, &[]);
    trained(&place, &["--set", "train.lr=0.01"]);
    let text = done(place.taal(&["runs", "compare", "tiny", "runs/tiny-2", "--html", "both.html"]));
    let row = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        let words: Vec<&str> = line.expect(name).split_whitespace().collect();
        words
    };
    assert_eq!(row("train.lr"), ["train.lr", "0.001", "0.01"]);
    assert_eq!(row("best val loss").len(), 5);
    let losses = row("step 3");
    assert!(losses.len() == 4 && losses[2] != losses[3], "{losses:?}");
    assert!(!text.contains("model.d_model"), "equal keys are left out: {text}");
    let page = place.read("both.html");
    assert!(page.contains("<span class=\"legend run1\">tiny-2</span>") && page.contains("train.lr"));
    assert!(page.matches("run1-line\"").count() >= 3, "a curve in each chart");

    place.write("text.txt", "een heel andere tekst, met kat en rat. ".repeat(12));
    trained(
        &place,
        &["--set", "tokenizer.kind=bpe", "--set", "tokenizer.vocab_size=270"],
    );
    let output = place.taal(&["runs", "compare", "tiny", "tiny-3"]);
    assert!(stderr(&output).contains("tokenizers differ"), "{}", stderr(&output));
    fails(
        place.taal(&["runs", "compare", "tiny", "tinny"]),
        2,
        &["tinny", "runs/tiny-3"],
    );
    fails(place.taal(&["runs", "compare", "tiny"]), 2, &["RUN"]);
}

#[test]
fn clean_says_what_would_go_and_removes_it_only_when_told() {
    let place = Place::new();
    trained(&place, &["--set", "checkpoint.every=1", "--set", "checkpoint.keep=9"]);
    trained(&place, &["--set", "train.steps=1"]);
    fs::create_dir_all(place.path("runs/tiny/checkpoints/.tmp-step-00000009-1-0")).expect("a folder");
    place.write("runs/tiny/checkpoints/.tmp-step-00000009-1-0/half", "half");
    place.write("runs/tiny/checkpoints/step-00000002/notes.txt", "mine");
    place.write("runs/tiny/checkpoints/notes.txt", "mine");
    let before = checkpoints(&place, "runs/tiny");
    let report: serde_json::Value = serde_json::from_str(&place.read("runs/tiny/report.json")).expect("a report");
    let best = format!("step-{:08}", report["best_step"].as_u64().expect("a step"));

    // Nobody can be asked here.
    let output = place.taal(&["runs", "clean"]);
    assert!(
        stdout(&output).contains("runs/tiny ") && stdout(&output).contains("checkpoints"),
        "{}",
        stdout(&output)
    );
    assert!(!stdout(&output).contains("runs/tiny-2"), "{}", stdout(&output));
    fails(output, 2, &["nothing was removed", "--yes", "step-00000002"]);
    assert_eq!(checkpoints(&place, "runs/tiny"), before);

    let output = place.taal(&["runs", "clean", "--yes"]);
    assert!(stderr(&output).contains("removed "), "{}", stderr(&output));
    done(output);
    let mut kept = vec![
        "notes.txt".to_string(),
        "step-00000002".to_string(),
        "step-00000006".to_string(),
        best,
    ];
    kept.sort();
    kept.dedup();
    assert_eq!(checkpoints(&place, "runs/tiny"), kept);
    assert!(stderr(&place.taal(&["runs", "clean"])).contains("nothing to remove"));
    // The newest run is the same as before, and what was cleaned still works.
    let listed = done(place.taal(&["runs"]));
    assert!(
        listed
            .lines()
            .nth(1)
            .is_some_and(|line| line.starts_with("runs/tiny-2")),
        "{listed}"
    );
    done(place.taal(&[
        "generate",
        "--model",
        "runs/tiny",
        "--prompt",
        "de",
        "--max-tokens",
        "2",
    ]));
    done(place.taal(&["train", "--resume", "--run-dir", "runs/tiny", "--set", "train.steps=8"]));
}

#[test]
fn a_dry_run_says_what_a_run_would_be_and_leaves_nothing_behind() {
    let place = Place::new();
    let names = |place: &Place| {
        let mut names: Vec<_> = fs::read_dir(place.path(""))
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        names.sort();
        names
    };
    let before = names(&place);
    let dry = ["train", "--recipe", "tiny.toml", "--dry-run"];
    let found = json(place.taal(&[&dry[..], &["--json"]].concat()));
    let text = done(place.taal(&dry));
    assert_eq!(names(&place), before);
    for words in [
        "text.txt",
        "passes over the training text",
        "checkpoints",
        "nothing was written",
        "the next free one in runs/",
        "|t|",
    ] {
        assert!(text.contains(words), "no {words:?} in {text}");
    }
    done(place.train(&[]));
    let report: serde_json::Value = serde_json::from_str(&place.read("run/report.json")).expect("a report");
    assert_eq!(found["params"], report["params"]);
    assert_eq!(found["passes"], report["epochs"]);
    assert_eq!(found["vocab_size"], report["vocab_size"]);
    let saved: u64 = ["model/model.safetensors", "optimizer.safetensors"]
        .iter()
        .map(|file| {
            fs::metadata(place.path(&format!("run/checkpoints/step-00000006/{file}")))
                .expect("a file")
                .len()
        })
        .sum();
    let planned = found["checkpoints"]["each_bytes"].as_u64().expect("a size");
    assert!(
        (planned..planned + 8192).contains(&saved),
        "{planned} planned, {saved} saved"
    );
    assert!(found["time"]["total_s"].as_f64() > Some(0.0) && found["time"]["timed_steps"].as_u64() >= Some(3));
    assert_eq!(found["rows"].as_array().map(Vec::len), Some(2));
    fails(
        place.taal(&[&dry[..], &["--run-dir", "run"]].concat()),
        2,
        &["a run is here already"],
    );

    // The prompt is read only, and what is after it is learned.
    place.write(
        "pairs.jsonl",
        "{\"prompt\": \"kat: \", \"completion\": \"dier\"}\n".repeat(30),
    );
    place.write(
        "pairs.toml",
        place
            .read("tiny.toml")
            .replace("files = [\"text.txt\"]", "conversations = \"pairs.jsonl\""),
    );
    let text = done(place.taal(&[
        "train",
        "--recipe",
        "pairs.toml",
        "--set",
        "train.block_size=16",
        "--dry-run",
    ]));
    assert!(text.contains("(k|a|t|:|␣)|d|i|e|r"), "{text}");

    // What a masked model must guess is after an arrow.
    let text = done(
        place.taal(
            &[
                &dry[..],
                &[
                    "--set",
                    "train.objective=\"masked\"",
                    "--set",
                    "tokenizer.special_tokens=[\"[MASK]\"]",
                    "--set",
                    "sample.prompts=[]",
                    "--run-dir",
                    "gaps",
                ],
            ]
            .concat(),
        ),
    );
    assert!(
        text.contains("[MASK]→") && text.contains("what it must guess"),
        "{text}"
    );
    assert!(text.contains("gaps"), "{text}");
    assert!(stderr(&place.taal(&["train", "--json"])).contains("--dry-run"));
}
