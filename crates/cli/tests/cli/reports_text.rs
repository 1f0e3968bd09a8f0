//! Public reports about standard input, line ends, what a file holds and input without an end, each with its number in issue 15's list.

use std::fs;
use std::io::Write;
use std::process::{Child, Output, Stdio};
use std::thread;

use serde_json::Value;

use crate::{Place, done, fails, json, stderr, stdout};

/// What a command makes of these bytes on standard input.
fn fed(place: &Place, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = started(place, arguments);
    let mut pipe = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    // A command that is refused at once does not read.
    let writer = thread::spawn(move || drop(pipe.write_all(&input)));
    let output = child.wait_with_output().expect("an end");
    writer.join().expect("a writer");
    output
}

fn started(place: &Place, arguments: &[&str]) -> Child {
    let mut command = place.command(arguments);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().expect("taal starts")
}

/// With a causal model in `run` and a masked one in `masked`, both trained on lines that end with CR LF.
fn trained_on(line_ends: &str) -> Place {
    let place = Place::new();
    place.write("text.txt", "de kat krabt de trap\r\nde rat ziet het\r\n".repeat(12));
    let line_ends = format!("data.line_ends={line_ends}");
    done(place.train_with(&[&line_ends, "train.block_size=64"]));
    let masked = [
        &line_ends,
        "tokenizer.kind=bpe",
        "tokenizer.vocab_size=280",
        "tokenizer.special_tokens=[\"[PAD]\", \"[UNK]\", \"[CLS]\", \"[SEP]\", \"[MASK]\"]",
        "model.preset=encoder",
        "train.objective=masked",
        "train.block_size=64",
        "sample.prompts=[\"de [MASK]\"]",
    ];
    let more: Vec<&str> = masked.iter().flat_map(|setting| ["--set", setting]).collect();
    let train = ["train", "--recipe", "tiny.toml", "--run-dir", "masked"];
    done(place.taal(&[&train[..], &more].concat()));
    place
}

const GREEDY: [&str; 7] = ["generate", "--model", "run", "--temperature", "0", "--max-tokens", "5"];

#[test]
fn report_12_one_line_break_at_the_end_of_standard_input_is_not_part_of_a_text() {
    let place = Place::trained();
    let encode = ["tokenizer", "encode", "--tokenizer", "run", "--json", "-"];
    let ids = |input: &str, more: &[&str]| {
        let output = fed(&place, &[&encode[..], more].concat(), input.as_bytes());
        json(output)["ids"].as_array().expect("ids").len()
    };
    assert_eq!(ids("de", &[]), 2);
    assert_eq!(ids("de\n", &[]), 2);
    assert_eq!(ids("de\n\n", &[]), 3, "exactly one");
    assert_eq!(ids("de\n", &["--raw"]), 3);
    assert_eq!(
        ids("\u{feff}de\n", &[]),
        2,
        "a byte order mark is not part of it either"
    );

    // Each verb gives for `-` what it gives for the same text as an argument.
    for verb in [
        &[&GREEDY[..], &["--json", "--prompt"]].concat()[..],
        &["embed", "--model", "run", "--json"],
        &["similar", "--model", "run", "--lines", "text.txt", "--json"],
        &["trace", "--model", "run", "--json", "-"],
        &["tokenizer", "encode", "--tokenizer", "run", "--json"],
    ] {
        let typed = |text: &str| done(place.taal(&[verb, &[text]].concat()));
        let piped = |input: &str, more: &[&str]| {
            // An option may not come between `--prompt` and its text.
            let arguments = [&verb[..1], more, &verb[1..], &["-"]].concat();
            let arguments = match verb[0] {
                "tokenizer" => [&verb[..2], more, &verb[2..], &["-"]].concat(),
                _ => arguments,
            };
            done(fed(&place, &arguments, input.as_bytes()))
        };
        let without = typed("de kat");
        let with = typed("de kat\n");
        assert_ne!(without, with, "{verb:?} sees the line break");
        assert_eq!(piped("de kat\n", &[]), without, "{verb:?}");
        assert_eq!(piped("de kat\r\n", &[]), without, "{verb:?}");
        assert_eq!(piped("de kat\n\n", &[]), with, "{verb:?}");
        assert_eq!(piped("de kat\n", &["--raw"]), with, "{verb:?}");
    }
}

#[test]
fn report_12_fill_reads_standard_input_alike() {
    let place = trained_on("lf");
    let fill = ["fill", "--model", "masked", "--json"];
    let typed = |text: &str| done(place.taal(&[&fill[..], &[text]].concat()));
    let piped = |more: &[&str]| done(fed(&place, &[&fill[..], more, &["-"]].concat(), b"de [MASK] krabt\n"));
    assert_eq!(piped(&[]), typed("de [MASK] krabt"));
    assert_eq!(piped(&["--raw"]), typed("de [MASK] krabt\n"));
    assert_ne!(piped(&[]), piped(&["--raw"]));
}

/// What every verb that reads text says of the same text with one line end and the other.
fn of_both_line_ends(place: &Place) -> Vec<(&'static str, [String; 2])> {
    let texts = ["de kat\nde rat [MASK]\nziet", "de kat\r\nde rat [MASK]\r\nziet"];
    let each = |make: &dyn Fn(&str) -> Output| texts.map(|text| done(make(text)));
    let file = |name: &str, text: &str| {
        place.write(name, text);
        place.path(name).display().to_string()
    };
    let escaped = |text: &str| serde_json::to_string(text).expect("a string");
    let mut found = Vec::new();
    // A causal model of characters knows no [MASK].
    let plain = |text: &str| text.replace(" [MASK]", "");
    found.push((
        "eval --text",
        each(&|text| {
            place.taal(&[
                "eval",
                "--model",
                "run",
                "--json",
                "--text",
                &file("a.txt", &plain(text)),
            ])
        }),
    ));
    found.push((
        "eval --text x.jsonl",
        each(&|text| {
            let line = format!("{{\"text\": {}}}\n", escaped(&plain(text)));
            place.taal(&["eval", "--model", "run", "--json", "--text", &file("a.jsonl", &line)])
        }),
    ));
    found.push((
        "generate",
        each(&|text| {
            let output = place.taal(&[&GREEDY[..], &["--json", "--prompt", &plain(text)]].concat());
            let found = json(output);
            let mut output = place.taal(&["recipes"]);
            output.stdout = format!("{} {}", found["prompt_tokens"], found["token_ids"]).into_bytes();
            output
        }),
    ));
    found.push(("embed", each(&|text| place.taal(&["embed", "--model", "masked", text]))));
    found.push((
        "similar",
        each(&|text| place.taal(&["similar", "--model", "masked", "--lines", "text.txt", text])),
    ));
    found.push((
        "fill",
        each(&|text| {
            let found = json(place.taal(&["fill", "--model", "masked", "--json", text]));
            let mut output = place.taal(&["recipes"]);
            output.stdout = found["gaps"].to_string().into_bytes();
            output
        }),
    ));
    found
}

#[test]
fn report_27_texts_get_the_line_ends_that_a_model_was_trained_on() {
    let place = trained_on("lf");
    for model in ["run", "masked"] {
        let policy: Value = serde_json::from_str(&place.read(&format!("{model}/model/text.json"))).expect("JSON");
        assert_eq!(policy["line_ends"], "lf");
    }
    for (verb, [lf, crlf]) in of_both_line_ends(&place) {
        assert_eq!(lf, crlf, "{verb}");
    }
    // Without the policy the characters of this model would not have the carriage returns of these.
    place.write(
        "c.jsonl",
        r#"{"context": "de\r\nkat", "choices": [" de\r\nrat", "\r\nde"], "answer": 0}"#,
    );
    place.write(
        "p.jsonl",
        r#"{"sentence_good": "de\r\nkat", "sentence_bad": "kat\r\nde"}"#,
    );
    for (option, file) in [("--choices", "c.jsonl"), ("--pairs", "p.jsonl")] {
        let found = json(place.taal(&["eval", "--model", "run", "--json", option, file]));
        assert_eq!(found["all"]["total"], 1, "{option}: {found}");
    }
    let place = trained_on("keep");
    for (verb, [lf, crlf]) in of_both_line_ends(&place) {
        assert_ne!(lf, crlf, "{verb}");
    }
}

#[test]
fn report_35_json_lines_are_scored_by_their_texts() {
    let place = Place::trained();
    place.write("a.txt", "de kat ziet de rat");
    place.write("b.txt", "de rat krabt het");
    let lines = "{\"id\": 1, \"text\": \"de kat ziet de rat\"}\n{\"text\": \"de rat krabt het\"}\n";
    let score = |files: &[&str]| json(place.taal(&[&["eval", "--model", "run", "--json", "--text"], files].concat()));
    let texts = score(&["a.txt", "b.txt"]);
    for name in ["c.jsonl", "c.ndjson"] {
        place.write(name, lines);
        assert_eq!(score(&[name]), texts, "{name}");
    }
    place.write("c.json", lines);
    fails(
        place.taal(&["eval", "--model", "run", "--text", "c.json"]),
        65,
        &["c.json", ".jsonl"],
    );
    place.write("d.jsonl", "{\"text\": \"de kat\"}\n{\"id\": 1}\n");
    fails(
        place.taal(&["eval", "--model", "run", "--text", "d.jsonl"]),
        65,
        &["d.jsonl: line 2: missing field `text` (column"],
    );
}

#[test]
fn report_32_an_endless_standard_input_ends_at_its_limit() {
    let place = Place::trained();
    let verbs: [&[&str]; 6] = [
        &["generate", "--model", "run", "--prompt", "-"],
        &["fill", "--model", "run", "-"],
        &["embed", "--model", "run", "-"],
        &["similar", "--model", "run", "-"],
        &["trace", "--model", "run", "-"],
        &["tokenizer", "encode", "--tokenizer", "run", "-"],
    ];
    let children = verbs.map(|verb| {
        let mut child = started(&place, verb);
        let mut pipe = child.stdin.take().expect("a pipe");
        // It ends when the command does.
        let writer = thread::spawn(move || {
            let block = vec![b'a'; 1 << 20];
            let mut written = 0_u64;
            while pipe.write_all(&block).is_ok() {
                written += block.len() as u64;
            }
            written
        });
        (verb, child, writer)
    });
    for (verb, child, writer) in children {
        let output = child.wait_with_output().expect("an end");
        let written = writer.join().expect("a writer");
        assert!(written <= 65 << 20, "{verb:?} read {written} bytes");
        assert!(output.stdout.is_empty(), "{verb:?}: {}", stdout(&output));
        fails(output, 65, &["standard input", "67108864"]);
    }
}

#[test]
fn report_32_a_dash_where_files_are_read_is_refused_with_a_word() {
    let place = Place::trained();
    place.write("words.csv", "word1,word2,similarity\nde,kat,5\n");
    for arguments in [
        &["eval", "--model", "run", "--text", "-"][..],
        &["eval", "--model", "run", "--pairs", "-"],
        &["eval", "--model", "run", "--choices", "-"],
        &["embed", "--model", "run", "--lines", "-"],
        &["similar", "--model", "run", "--lines", "-", "de"],
        &["embeddings", "score", "--vectors", "-", "--similarity", "words.csv"],
        &["data", "build", "--tokenizer", "run", "--out", "shards", "-"],
    ] {
        let output = fed(&place, arguments, b"de kat\n");
        assert!(
            stderr(&output).contains("standard input is not read"),
            "{arguments:?}: {}",
            stderr(&output)
        );
        fails(output, 2, &[]);
    }
    fails(fed(&place, &["embed", "--model", "run", "-", "-"], b"de"), 2, &["once"]);
    let train = [
        "tokenizer",
        "train",
        "--kind",
        "char",
        "--vocab-size",
        "50",
        "--out",
        "t.json",
    ];
    fails(
        fed(&place, &[&train[..], &["-", "text.txt"]].concat(), b"de"),
        2,
        &["-"],
    );
    assert!(!place.path("t.json").exists());
    done(fed(&place, &[&train[..], &["-"]].concat(), b"\xef\xbb\xbfde kat"));
    let tokenizer: Value = serde_json::from_str(&place.read("t.json")).expect("JSON");
    let vocab = tokenizer["model"]["vocab"].as_object().expect("a vocabulary");
    assert!(vocab.contains_key("k") && !vocab.contains_key("\u{feff}"), "{vocab:?}");
}

#[cfg(unix)]
#[test]
fn report_32_a_named_pipe_is_refused_at_once_wherever_it_is_named() {
    let place = Place::trained();
    place.write("words.csv", "word1,word2,similarity\nde,kat,5\n");
    for name in [
        "pipe",
        "pipe.txt",
        "pipe.jsonl",
        "pipe.toml",
        "folder/config.json",
        "folder/model.safetensors",
    ] {
        fs::create_dir_all(place.path("folder")).expect("a folder");
        let made = std::process::Command::new("mkfifo").arg(place.path(name)).status();
        assert!(made.expect("mkfifo starts").success());
    }
    let train = ["train", "--recipe", "tiny.toml", "--run-dir", "new", "--set"];
    for arguments in [
        &["eval", "--model", "run", "--text", "pipe.txt"][..],
        &["eval", "--model", "run", "--text", "pipe.jsonl"],
        &["eval", "--model", "run", "--pairs", "pipe"],
        &["eval", "--model", "run", "--choices", "pipe.jsonl"],
        &["embed", "--model", "run", "--lines", "pipe"],
        &["similar", "--model", "run", "--lines", "pipe", "de"],
        &["embeddings", "score", "--vectors", "pipe", "--similarity", "words.csv"],
        &["embeddings", "score", "--model", "run", "--similarity", "pipe"],
        &[
            "embeddings",
            "plot",
            "--model",
            "run",
            "--words",
            "pipe",
            "--out",
            "x.svg",
        ],
        &[
            "tokenizer",
            "train",
            "--kind",
            "char",
            "--vocab-size",
            "50",
            "--out",
            "t.json",
            "pipe.txt",
        ],
        &["tokenizer", "encode", "--tokenizer", "pipe", "de"],
        &["tokenizer", "compounds", "--tokenizer", "run", "--words", "pipe"],
        &["tokenizer", "import", "--from", "pipe", "--out", "t.json"],
        &["data", "build", "--tokenizer", "run", "--out", "shards", "pipe.txt"],
        &["import", "--from", "pipe", "--out", "model"],
        &["import", "--from", "folder", "--out", "model"],
        &["generate", "--model", "folder", "--prompt", "de"],
        &["train", "--recipe", "pipe.toml"],
        &[&train[..], &["data.files=[\"pipe.txt\"]"]].concat(),
        &[&train[..], &["tokenizer.file=\"pipe\""]].concat(),
    ] {
        let output = place.taal(arguments);
        assert!(
            stderr(&output).contains("named pipe"),
            "{arguments:?}: {}",
            stderr(&output)
        );
        fails(output, 2, &["pipe"]);
    }
    for left in ["t.json", "shards", "model", "new", "runs", "x.svg"] {
        assert!(!place.path(left).exists(), "{left}");
    }
}
