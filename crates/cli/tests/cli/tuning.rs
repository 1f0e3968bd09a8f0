//! Data to fine-tune on, and answers to tasks.

use std::io::Write;
use std::process::Stdio;

use crate::{Place, done, fails, json, stderr};

#[test]
fn data_preview_shows_rows_with_what_is_learned_and_counts_what_is_cut() {
    let place = Place::new();
    let chat = |asked: &str, said: &str| {
        format!(
            "{{\"messages\": [{{\"role\": \"user\", \"content\": \"{asked}\"}}, {{\"role\": \"assistant\", \"content\": \"{said}\"}}]}}\n"
        )
    };
    place.write("chat.jsonl", chat("kat?", "dier") + &chat("mat?", &"ding".repeat(20)));
    let recipe = "[data]\nconversations = \"chat.jsonl\"\nvalidation_fraction = 0.0\n[tokenizer]\nkind = \"bpe\"\nvocab_size = 257\n\
                  [train]\nblock_size = 64\n";
    place.write("chat.toml", recipe);
    let preview = ["data", "preview", "--recipe", "chat.toml"];
    let text = done(place.taal(&preview));
    for part in [
        "chat.jsonl, line 1: 27 tokens, 6 learned\nUser: kat?\nAssistant:[ dier<|endoftext|>]\n",
        "chat.jsonl, line 2: 64 tokens, 63 learned, 39 lost to truncation\n",
        "read as messages",
        "2 messages",
        "1 of 2, longer than train.block_size = 64: 39 tokens lost, 1 answers without their end",
        "1 of 2 examples end with a special token that is learned",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let one = done(place.taal(&[&preview[..], &["-n", "1"]].concat()));
    assert!(one.contains("line 1:") && !one.contains("line 2:"), "{one}");
    let found: serde_json::Value =
        serde_json::from_str(&done(place.taal(&[&preview[..], &["--json"]].concat()))).unwrap();
    assert_eq!(found["conversations"]["roles"]["assistant"]["messages"], 2);
    assert_eq!(found["rows"][0]["tokens"].as_array().map(Vec::len), Some(27));
    assert!(!place.path("runs").exists(), "nothing is written");

    place.write("chat.jsonl", chat("kat?", "dier") + "{\"messages\": []}\n");
    fails(
        place.taal(&preview),
        65,
        &["chat.jsonl, line 2", "no message of the assistant"],
    );
    // Running text has rows, too.
    let text = done(place.taal(&["data", "preview", "--recipe", "names", "-n", "2"]));
    assert!(text.contains("row 2: "), "{text}");
    fails(
        place.taal(&["data", "preview", "--recipe", "names", "--set", "data.layout=messages"]),
        2,
        &["data.layout", "data.conversations"],
    );
}

#[test]
fn finetune_trains_further_from_a_model_as_init_from_does() {
    let place = Place::new();
    done(place.taal(&["train", "--recipe", "tiny.toml", "--run-dir", "base"]));
    // Its [tokenizer] and [model] give way to the model's.
    let tune = [
        "finetune",
        "--model",
        "base",
        "--recipe",
        "tiny.toml",
        "--set",
        "train.steps=2",
        "--run-dir",
        "tuned",
    ];
    done(place.taal(&tune));
    let set = [
        "--set",
        "train.init_from=base",
        "--set",
        "train.steps=2",
        "--run-dir",
        "same",
    ];
    done(place.taal(&[&["train", "--recipe", "tiny.toml"], &set[..]].concat()));
    let weights = |run: &str| std::fs::read(place.path(run).join("model/model.safetensors")).expect("weights");
    assert!(weights("tuned") == weights("same") && weights("tuned") != weights("base"));
    let preview = ["data", "preview", "--recipe", "tiny.toml", "-n", "1", "--json"];
    let [named, set] = [["--model", "base"], ["--set", "train.init_from=base"]]
        .map(|model| json(place.taal(&[&preview[..], &model[..]].concat())));
    assert_eq!(named, set);
    assert_ne!(named["tokenizer"], json(place.taal(&preview))["tokenizer"]);
    let again = place.taal(&["train", "--resume", "--run-dir", "tuned"]);
    assert!(stderr(&again).contains("tuned"), "{}", stderr(&again));
    fails(place.taal(&["finetune", "--recipe", "tiny.toml"]), 2, &["--model"]);
    fails(
        place.taal(&["finetune", "--model", "nothing", "--recipe", "tiny.toml"]),
        2,
        &["nothing"],
    );
}

#[test]
fn a_model_tuned_on_messages_answers_in_a_chat_and_stops_and_its_gguf_file_has_the_template() {
    let place = Place::new();
    let row = r#"{"messages": [{"role": "user", "content": "hoi"}, {"role": "assistant", "content": "dag"}]}"#;
    place.write("chat.jsonl", format!("{row}\n").repeat(10));
    let recipe = "[data]\nconversations = \"chat.jsonl\"\n[tokenizer]\nkind = \"bpe\"\nvocab_size = 257\n[model]\nn_layers = 1\n\
                  d_model = 32\nn_heads = 2\n[train]\nsteps = 60\nbatch_size = 2\nblock_size = 48\nlr = 0.02\nwarmup_steps = 5\n\
                  [eval]\nmetric = \"exact_match\"\n";
    place.write("chat.toml", recipe);
    let trained = place.taal(&["train", "--recipe", "chat.toml", "--run-dir", "talker"]);
    assert!(stderr(&trained).contains("  answers "), "{}", stderr(&trained));
    let summary = done(trained);
    assert!(summary.contains("taal chat --model talker\n"), "{summary}");
    let mut command = place.command(&["chat", "--model", "talker", "--temperature", "0"]);
    let command = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("taal starts");
    child
        .stdin
        .take()
        .expect("a pipe")
        .write_all(b"hoi\n")
        .expect("written");
    let output = child.wait_with_output().expect("an end");
    assert_eq!(done(output).trim(), "dag");

    // Rows of another layout are asked in the same words, and what is not read of them is said.
    place.write(
        "rows.jsonl",
        "{\"instruction\": \"hoi\", \"output\": \"dag\", \"id\": 7}\n",
    );
    place.write("task.toml", "data = \"rows.jsonl\"\nmetric = \"exact_match\"\n");
    let asked = place.taal(&["eval", "--model", "talker", "--task", "task.toml"]);
    assert!(
        stderr(&asked).contains("note: 1 key of rows is not used: `id`"),
        "{}",
        stderr(&asked)
    );
    let table = done(asked);
    assert!(
        table.contains("exact_match 100.0 %") && table.contains("messages in the model's chat template"),
        "{table}"
    );

    // Fine-tuning on text keeps the template of the model.
    let tune = [
        "finetune",
        "--model",
        "talker",
        "--recipe",
        "tiny.toml",
        "--set",
        "train.steps=1",
        "--run-dir",
        "tuned",
    ];
    done(place.taal(&tune));
    let template = |run: &str| place.read(&format!("{run}/model/chat_template.jinja"));
    assert_eq!(template("tuned"), template("talker"));

    done(place.taal(&["export", "--model", "talker", "--to", "gguf", "--out", "talker.gguf"]));
    let file = std::fs::read(place.path("talker.gguf")).expect("a file");
    let has = |text: &str| file.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(has("tokenizer.chat_template") && has(&template("talker")));
}

#[test]
fn finetune_says_what_was_forgotten_and_holds_a_budget() {
    let place = Place::new();
    done(place.taal(&["train", "--recipe", "tiny.toml", "--run-dir", "base"]));
    place.write("other.txt", "tak ed pat ne ket er taz.\n".repeat(20));
    let tune = [
        "finetune",
        "--model",
        "base",
        "--recipe",
        "tiny.toml",
        "--set",
        "data.files=[\"other.txt\"]",
    ];
    let text = done(place.taal(&[&tune[..], &["--run-dir", "free"]].concat()));
    assert!(
        text.contains("old data") && text.contains("nats/token before"),
        "{text}"
    );
    let bound = place.taal(&[&tune[..], &["--run-dir", "bound", "--forget-budget", "0.0"]].concat());
    assert!(stderr(&bound).contains("  old data "), "{}", stderr(&bound));
    let text = done(bound);
    assert!(text.contains("budget 0"), "{text}");
    let report: serde_json::Value = serde_json::from_str(&place.read("bound/report.json")).expect("JSON");
    let [before, after] = ["before", "after"].map(|key| report["forgetting"][key].as_f64().expect("a number"));
    assert!(after <= before, "{before} {after}");
    fails(
        place.taal(&[&tune[..], &["--run-dir", "no", "--forget-budget", "-1"]].concat()),
        2,
        &["replay.budget", "-1"],
    );
}

#[test]
fn eval_task_scores_generated_answers_and_compares_two_models() {
    let place = Place::new();
    for (run, steps) in [("one", "6"), ("two", "1")] {
        let steps = format!("train.steps={steps}");
        done(place.taal(&["train", "--recipe", "tiny.toml", "--run-dir", run, "--set", &steps]));
    }
    let generate = [
        "generate",
        "--model",
        "one",
        "--prompt",
        "de kat",
        "--max-tokens",
        "4",
        "--temperature",
        "0",
        "--json",
    ];
    let said = json(place.taal(&generate))["text"]
        .as_str()
        .expect("a text")
        .trim()
        .to_owned();
    place.write(
        "task.toml",
        format!(
            "metric = \"exact_match\"\nmax_tokens = 4\n[[items]]\nprompt = \"de kat\"\nreference = {said:?}\n[[items]]\nprompt = \"de kat\"\n\
             reference = \"iets anders\"\n"
        ),
    );
    let eval = ["eval", "--model", "one", "--task", "task.toml"];
    let text = done(place.taal(&eval));
    assert!(
        text.contains("exact_match 50.0 % (0.0 to 100.0)") && text.contains("2 answers ended at max_tokens"),
        "{text}"
    );
    let found = json(place.taal(&[&eval[..], &["--json"]].concat()));
    assert_eq!(
        (&found["value"], &found["answers"][0]["answer"]),
        (&0.5.into(), &said.as_str().into())
    );
    let same = done(place.taal(&[&eval[..], &["--against", "one"]].concat()));
    assert!(same.contains("0.0 % (0.0 to 0.0), p = 1.000"), "{same}");
    let both = json(place.taal(&[&eval[..], &["--against", "two", "--json"]].concat()));
    let [model, against] = ["model", "against"].map(|key| both[key]["value"].as_f64().expect("a figure"));
    assert_eq!(both["difference"]["difference"].as_f64(), Some(model - against));
    fails(
        place.taal(&["eval", "--model", "one", "--task", "no.toml"]),
        2,
        &["no.toml"],
    );
    place.write("task.toml", "metric = \"meteor\"");
    fails(place.taal(&eval), 2, &["task.toml", "meteor", "exact_match"]);
    assert!(stderr(&place.taal(&["eval", "--model", "one", "--against", "two"])).contains("--task"));
}

#[test]
fn two_different_budgets_and_a_comparison_without_a_task_are_refused() {
    let place = Place::new();
    done(place.taal(&["train", "--recipe", "tiny.toml", "--run-dir", "base"]));
    let budgets = |set: &str| {
        let arguments = [
            "finetune",
            "--model",
            "base",
            "--recipe",
            "tiny.toml",
            "--run-dir",
            "tuned",
        ];
        place.taal(&[&arguments[..], &["--forget-budget", "0.02", "--set", set, "--dry-run"]].concat())
    };
    fails(
        budgets("replay.budget=0.5"),
        2,
        &["--forget-budget 0.02", "replay.budget=0.5"],
    );
    done(budgets("replay.budget=0.02"));
    place.write("text.txt", "hoi");
    fails(
        place.taal(&["eval", "--model", "base", "--text", "text.txt", "--against", "base"]),
        2,
        &["--against", "--task"],
    );
}
