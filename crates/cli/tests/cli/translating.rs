//! `taal translate`: lines in, lines out, and what is said about them.

use std::io::{BufRead, BufReader, Write};
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::{Place, done, fails, json, stderr, stdout};

/// As small as an encoder and a decoder get.
const RECIPE: &str = r#"
description = "translates hardly"
seed = 7

[data]
conversations = "pairs.tsv"
from = "en"
to = "nl"
validation_fraction = 0.2

[tokenizer]
kind = "bpe"
vocab_size = 270

[model]
encoder_layers = 1
n_layers = 1
n_heads = 2
d_model = 16

[train]
steps = 4
batch_size = 4
block_size = 32
schedule = "constant"
warmup_steps = 0

[eval]
every = 2
batch_size = 4

[checkpoint]
every = 2

[sample]
prompts = ["the cat sat"]
max_tokens = 8
"#;

/// With a translator in `run`.
fn trained() -> Place {
    trained_for(32)
}

/// The same for sentences of at most so many tokens.
fn trained_for(block_size: usize) -> Place {
    trained_with(&format!("train.block_size={block_size}"))
}

/// The same with another value of a key.
fn trained_with(setting: &str) -> Place {
    let place = Place::new();
    let row = |index: usize| format!("the cat {index} sat\tde kat {index} zat\n");
    let rows: String = (0..30).map(row).collect();
    place.write("pairs.tsv", format!("en\tnl\n{rows}"));
    place.write("pairs.toml", RECIPE);
    let train = ["train", "--recipe", "pairs.toml", "--run-dir", "run", "--set", setting];
    let summary = done(place.taal(&train));
    assert!(summary.contains("taal translate run 'the cat sat'"), "{summary}");
    place
}

/// Standard output and standard error of a command that reads a text.
fn fed(place: &Place, arguments: &[&str], input: &[u8]) -> Output {
    let mut command = place.command(arguments);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("taal starts");
    child.stdin.take().expect("a pipe").write_all(input).expect("it reads");
    child.wait_with_output().expect("it ends")
}

fn objects(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).expect("an object per line"))
        .collect()
}

#[test]
fn lines_of_a_text_a_file_and_standard_input_are_translated_in_order() {
    let place = trained();
    let input = "the cat 1 sat\n\nthe cat 2 sat\r\nsat\n";
    place.write("in.txt", input);
    let asked = ["translate", "run", "--max-tokens", "6"];
    let of_file = done(place.taal(&[&asked[..], &["in.txt"]].concat()));
    assert_eq!(of_file.lines().count(), 4);
    assert_eq!(of_file.lines().nth(1), Some(""), "empty lines stay empty");
    let of_stdin = fed(&place, &asked, input.as_bytes());
    assert_eq!((stdout(&of_stdin), of_stdin.status.code()), (of_file.as_str(), Some(0)));
    let dash = fed(&place, &[&asked[..], &["-"]].concat(), input.as_bytes());
    assert_eq!(stdout(&dash), of_file);
    let of_text = done(place.taal(&[&asked[..], &[input]].concat()));
    assert_eq!(of_text, of_file);
    for more in [["--batch-size", "1"], ["--batch-size", "3"]] {
        let found = done(place.taal(&[&asked[..], &more, &["in.txt"]].concat()));
        assert_eq!(found, of_file, "{more:?}");
    }
    // An empty file has no line, an empty text is an empty one.
    place.write("empty.txt", "");
    for (text, wanted) in [("empty.txt", ""), ("", "\n")] {
        assert_eq!(done(place.taal(&[&asked[..], &[text]].concat())), wanted, "{text:?}");
    }
    assert_eq!(stdout(&fed(&place, &asked, b"")), "");
    let none = place.taal(&["translate", "run", "--beam", "0", "sat"]);
    assert!(
        crate::stderr(&none).contains("beam: expected a number from 1"),
        "{none:?}"
    );
    // A line is answered before the next one comes.
    let mut command = place.command(&asked);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().expect("taal starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    for (line, wanted) in ["the cat 1 sat\n", "\n", "the cat 2 sat\n"].iter().zip(of_file.lines()) {
        stdin.write_all(line.as_bytes()).expect("it reads");
        stdin.flush().expect("it reads");
        assert_eq!(lines.next().expect("a line").expect("text"), wanted);
    }
    drop(stdin);
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn alternatives_and_attention_come_with_scores_and_words() {
    let place = trained();
    let asked = [
        "translate",
        "run",
        "the cat sat",
        "--max-tokens",
        "6",
        "--alternatives",
        "2",
    ];
    let text = done(place.taal(&asked));
    assert_eq!(text.lines().count(), 3);
    assert!(text.lines().skip(1).all(|line| line.starts_with(' ')), "{text}");
    let found = objects(&done(place.taal(&[&asked[..], &["--json", "--attention"]].concat())));
    assert_eq!(found.len(), 1);
    let found = &found[0];
    assert_eq!(found["source"], "the cat sat");
    assert_eq!(found["translation"].as_str(), text.lines().next());
    assert_eq!(found["alternatives"].as_array().map(Vec::len), Some(2));
    assert!(found["score"].as_f64() >= found["alternatives"][0]["score"].as_f64());
    assert_eq!(found["attention"]["source"], serde_json::json!(["the", "cat", "sat"]));
    let plain = objects(&done(place.taal(&[
        "translate",
        "run",
        "--json",
        "a\n\nb",
        "--beam",
        "1",
    ])));
    assert_eq!(plain.len(), 3);
    assert_eq!((&plain[1]["translation"], &plain[1]["parts"]), (&"".into(), &0.into()));
    assert!(plain[0].get("attention").is_none() && plain[0].get("alternatives").is_none());
}

#[test]
fn weights_in_fewer_bits_translate_when_opened_and_from_an_exported_directory() {
    // Rows of whole blocks.
    let place = trained_with("model.d_model=64");
    let translated = |model: &str, more: &[&str]| {
        let asked = [
            "translate",
            model,
            "the cat 1 sat\nsat",
            "--max-tokens",
            "6",
            "--json",
            "--from",
            "en",
        ];
        objects(&done(place.taal(&[&asked[..], more].concat())))
    };
    let exact = translated("run", &[]);
    for kind in ["f16", "q8_0", "q4_0"] {
        let weights = ["--weights", kind];
        let found = translated("run", &weights);
        assert_eq!(found.len(), 2);
        assert_ne!(
            found[0]["logprob"], exact[0]["logprob"],
            "{kind}: the weights are rounded"
        );
        done(place.taal(&["export", "run", "--to", "hf", "--type", kind, "--out", kind]));
        // A directory in f16 is unpacked, unless f16 is asked for.
        let more: &[&str] = if kind == "f16" { &weights } else { &[] };
        assert_eq!(translated(kind, more), found, "{kind}");
        let types = json(place.taal(&["inspect", kind, "--json"]))["weight_types"].clone();
        let types = types.as_str().expect("types").to_owned();
        assert!(kind == "f16" || types.contains(&kind.to_uppercase()), "{kind}: {types}");
        let greedy = translated(kind, &["--beam", "1"]);
        assert_eq!(greedy.len(), 2, "{kind}");
    }
}

#[test]
fn long_lines_are_split_at_sentences_and_long_sentences_are_refused_with_their_line() {
    let place = trained();
    let sentence = "the cat sat on the mat. ";
    let long = sentence.repeat(8);
    place.write("long.txt", format!("the cat\n{long}\n"));
    let output = place.taal(&["translate", "run", "long.txt", "--max-tokens", "4", "--beam", "1"]);
    assert!(
        stderr(&output).contains("line 2 is longer than the model reads"),
        "{}",
        stderr(&output)
    );
    assert_eq!(done(output).lines().count(), 2);
    place.write("endless.txt", format!("the cat\n{}\n", "cat ".repeat(80)));
    let output = place.taal(&["translate", "run", "endless.txt", "--max-tokens", "4"]);
    assert_eq!(stdout(&output), "", "nothing is printed before it is refused");
    fails(output, 2, &["line 2", "a sentence has", "the model reads at most"]);
    // What comes before it is translated.
    let output = fed(&place, &["translate", "run", "--max-tokens", "4"], b"the cat\nb\xff\n");
    assert_eq!(stdout(&output).lines().count(), 1);
    fails(output, 65, &["standard input", "line 2", "UTF-8"]);
}

#[test]
fn other_languages_and_models_that_do_not_translate_are_refused_with_a_way_out() {
    let place = trained();
    done(place.taal(&[
        "translate",
        "run",
        "the cat",
        "--from",
        "en",
        "--to",
        "NL",
        "--max-tokens",
        "3",
    ]));
    fails(
        place.taal(&["translate", "run", "de kat", "--from", "nl"]),
        2,
        &["from", "translates en to nl"],
    );
    fails(
        place.taal(&["translate", "run", "the cat", "--to", "de"]),
        2,
        &["to", "translates en to nl"],
    );
    fails(
        place.taal(&["translate", "run", "no.txt"]),
        2,
        &["no.txt: no such file", "hint: "],
    );
    for name in ["./typo.en", "typo.en", "folder/typo", "no.html"] {
        fails(
            place.taal(&["translate", "run", name]),
            2,
            &[name, "no such file", "hint: "],
        );
    }
    fails(place.taal(&["translate", "run", "run"]), 2, &["run is not a file"]);
    for text in ["3.5", "e.g.", "a/b c", "sat."] {
        let output = place.taal(&["translate", "run", text, "--max-tokens", "2", "--beam", "1"]);
        assert_eq!(done(output).lines().count(), 1, "{text}");
    }
    fails(
        place.taal(&["translate", "run", "a", "--beam", "2", "--alternatives", "2"]),
        2,
        &["alternatives", "fewer than the 2 candidates"],
    );
    fails(place.taal(&["translate", "run", "a", "--attention"]), 2, &["--json"]);
    fails(
        place.taal(&["generate", "run", "the cat"]),
        2,
        &["encoder", "taal translate"],
    );
    fails(
        place.taal(&["eval", "run", "text.txt"]),
        2,
        &["encoder", "taal translate"],
    );
    // Without the file the languages are not known.
    let model =
        std::fs::read_link(place.path("run/model")).map_or(place.path("run/model"), |to| place.path("run").join(to));
    std::fs::create_dir(place.path("bare")).expect("a folder");
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(model.join(name), place.path("bare").join(name)).expect("a file");
    }
    let output = place.taal(&["translate", "bare", "the cat", "--from", "en", "--max-tokens", "3"]);
    assert!(
        stderr(&output).contains("do not say which languages"),
        "{}",
        stderr(&output)
    );
    done(output);
    let causal = Place::trained();
    fails(
        causal.taal(&["translate", "run", "de kat"]),
        2,
        &["does not translate", "translation.json", "taal train"],
    );
}

#[test]
fn a_translator_is_scored_by_bleu_and_compared_with_another() {
    let place = trained();
    place.write(
        "test.jsonl",
        "{\"en\": \"the cat 1 sat\", \"nl\": [\"de kat 1 zat\", \"kat 1 zat\"]}\n{\"en\": \"the cat 3 sat\", \"nl\": \"de kat 3 zat\"}\n",
    );
    place.write(
        "test.toml",
        "data = \"test.jsonl\"\nprompt_column = \"en\"\nreference_column = \"nl\"\nmetric = \"bleu\"\nbeam = 2\nmax_tokens = 6\n",
    );
    let asked = ["eval", "--model", "run", "--task", "test.toml", "--against", "run"];
    let text = done(place.taal(&asked));
    for part in [
        "bleu ",
        "nrefs:var|bs:1000|seed:1|case:mixed|eff:no|tok:13a|smooth:exp|",
        "p = 1.000",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let found = json(place.taal(&[&asked[..], &["--json"]].concat()));
    assert_eq!(found["model"], found["against"]);
    assert!(
        found["model"]["value"]
            .as_f64()
            .is_some_and(|bleu| (0.0..=100.0).contains(&bleu))
    );
}

#[test]
fn eval_task_names_the_held_out_parts_of_the_embedded_sets() {
    let place = trained_for(96);
    let task = |data: &str, columns: [&str; 2], more: &str| {
        let [prompt, reference] = columns;
        place.write(
            "task.toml",
            format!(
                "data = \"{data}\"\nprompt_column = \"{prompt}\"\nreference_column = \"{reference}\"\nmetric = \"chrf\"\n\
                 max_tokens = 1\n{more}"
            ),
        );
        place.taal(&["eval", "run", "--task", "task.toml", "--json"])
    };
    // All references of a sentence of the test part are together.
    let rows = taal_data::example_set("tatoeba-en-nl").and_then(taal_data::ExampleSet::test_rows);
    let rows = objects(&rows.expect("a test part"));
    let found = json(task("tatoeba-en-nl", ["en", "nl"], "limit = 60\n"));
    let answers = found["answers"].as_array().expect("answers");
    assert_eq!((answers.len(), &answers[0]["prompt"]), (60, &rows[0]["en"]));
    for answer in answers {
        let same = rows.iter().filter(|row| row["en"] == answer["prompt"]);
        let references: Vec<&Value> = same.map(|row| &row["nl"]).collect();
        assert_eq!(Value::from_iter(references.into_iter().cloned()), answer["references"]);
    }
    assert!(
        answers
            .iter()
            .any(|answer| answer["references"].as_array().map(Vec::len) > Some(1))
    );
    let rows = taal_data::example_set("tldr").map(taal_data::ExampleSet::held_out_rows);
    let rows = objects(&rows.expect("a set"));
    let found = json(task("tldr", ["instruction", "output"], "limit = 2\n"));
    assert_eq!(found["answers"][1]["prompt"], rows[1]["instruction"]);
    fails(
        task("tatoeba", ["en", "nl"], ""),
        2,
        &["task.toml", "no file \"tatoeba\"", "tldr, tatoeba-en-nl"],
    );
}

#[test]
fn a_sentence_pair_is_traced_with_its_attention_to_the_source() {
    let place = trained();
    let asked = ["trace", "run", "the cat sat", "--target", "de kat zat"];
    let text = done(place.taal(&[&asked[..], &["--html", "pair.html"]].concat()));
    for part in [
        "Source, which the encoder reads:",
        "de kat zat",
        "attends to in the source",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(place.read("pair.html").contains("id=\"cross\""));
    let found = json(place.taal(&[&asked[..], &["--json", "-"]].concat()));
    assert_eq!(found["source"]["text"], "the cat sat");
    assert_eq!(found["source"]["attention"][0].as_array().map(Vec::len), Some(2));
    let causal = Place::trained();
    fails(
        causal.taal(&["trace", "run", "de kat", "--target", "de kat"]),
        2,
        &["target", "encoder"],
    );
}
