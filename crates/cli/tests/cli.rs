//! `taal` as scripts meet it: its output, its files, its exit codes and its words.

#[path = "cli/about.rs"]
mod about;
#[path = "cli/adapters.rs"]
mod adapters;
#[path = "cli/chatting.rs"]
mod chatting;
#[path = "cli/energy.rs"]
mod energy;
#[path = "cli/energy_runs.rs"]
mod energy_runs;
#[path = "cli/first_things.rs"]
mod first_things;
#[path = "cli/gaps.rs"]
mod gaps;
#[path = "cli/generating.rs"]
mod generating;
#[cfg(unix)]
#[path = "cli/terminal.rs"]
mod terminal;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

#[path = "cli/quantized.rs"]
mod quantized;
#[path = "cli/reports_run.rs"]
mod reports_run;
#[path = "cli/reports_text.rs"]
mod reports_text;
#[path = "cli/runs.rs"]
mod runs;
#[path = "cli/serving.rs"]
mod serving;
#[path = "cli/translating.rs"]
mod translating;
#[path = "cli/tuning.rs"]
mod tuning;

const TAAL: &str = env!("CARGO_BIN_EXE_taal");

/// A run that takes a moment: one layer of width 16 on characters.
const TINY: &str = r#"
description = "as small as it gets"
seed = 7

[data]
files = ["text.txt"]
validation_fraction = 0.2

[tokenizer]
kind = "char"

[model]
n_layers = 1
n_heads = 2
d_model = 16

[train]
steps = 6
batch_size = 2
block_size = 8
schedule = "constant"
warmup_steps = 0

[eval]
every = 3
batch_size = 4

[checkpoint]
every = 2

[sample]
prompts = ["de kat"]
max_tokens = 8
"#;

/// A folder with a recipe and its text, in which `taal` runs.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self {
            dir: TempDir::new().expect("a temporary folder"),
        };
        place.write(
            "text.txt",
            "de kat krabt de krullen van de trap, en de rat ziet het.\n".repeat(8),
        );
        place.write("tiny.toml", TINY);
        place
    }

    /// With a model in `run`.
    fn trained() -> Self {
        let place = Self::new();
        done(place.train(&[]));
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).expect("a file");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("a text file")
    }

    /// Keeps only the first half of a file.
    fn truncate(&self, name: &str) {
        let bytes = fs::read(self.path(name)).expect("a file");
        self.write(name, &bytes[..bytes.len() / 2]);
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(TAAL);
        command
            .args(arguments)
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .env_remove("COLUMNS")
            .env("XDG_DATA_HOME", self.path("data"));
        command
    }

    fn taal(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("taal starts")
    }

    /// `taal train --recipe tiny.toml --run-dir run` and more.
    fn train(&self, more: &[&str]) -> Output {
        self.taal(&[&["train", "--recipe", "tiny.toml", "--run-dir", "run"], more].concat())
    }

    /// The same with `--set`.
    fn train_with(&self, settings: &[&str]) -> Output {
        let more: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        self.train(&more)
    }

    /// Loss, gradient norm and learning rate of every step of a run, as they were logged.
    fn losses(&self, run: &str) -> Vec<[serde_json::Value; 4]> {
        let records = self.read(&format!("{run}/log.jsonl"));
        let record = |line| serde_json::from_str::<serde_json::Value>(line).expect("a record");
        let values = |record: serde_json::Value| ["step", "loss", "grad_norm", "lr"].map(|key| record[key].clone());
        records.lines().map(record).map(values).collect()
    }
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("UTF-8")
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).expect("UTF-8")
}

/// Standard output of a command that must succeed.
fn done(output: Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    stdout(&output).to_string()
}

fn json(output: Output) -> serde_json::Value {
    serde_json::from_str(&done(output)).expect("JSON on standard output")
}

/// A command that must fail, with an exit code and with words in its `error:` or `hint:`.
#[track_caller]
fn fails(output: Output, code: i32, words: &[&str]) {
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(
        said.lines().any(|line| line.starts_with("error: ")),
        "no error line in: {said}"
    );
    for word in words {
        assert!(said.contains(word), "no {word:?} in: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
    assert!(!said.contains('\x1b'), "color without a terminal: {said:?}");
}

fn equal_files(left: &Path, right: &Path) -> bool {
    fs::read(left).expect("a file") == fs::read(right).expect("a file")
}

// Training, and what follows it.

#[test]
fn a_model_is_trained_generates_and_is_evaluated() {
    let place = Place::new();
    let trained = place.train(&[]);
    assert!(
        stderr(&trained).contains("step 3/6"),
        "plain progress lines: {}",
        stderr(&trained)
    );
    let summary = done(trained);
    for word in [
        "de kat",
        "val loss",
        "bits/byte",
        "tokens/s",
        "run/report.html",
        "taal generate --model run",
    ] {
        assert!(summary.contains(word), "no {word:?} in: {summary}");
    }
    for file in [
        "recipe.toml",
        "recipe.resolved.toml",
        "log.jsonl",
        "report.json",
        "report.html",
        "model/config.json",
    ] {
        assert!(place.path("run").join(file).exists(), "{file}");
    }
    assert_eq!(place.read("run/recipe.toml"), TINY);
    assert_eq!(place.losses("run").len(), 6);

    let generate = [
        "generate",
        "--model",
        "run",
        "--prompt",
        "de kat",
        "--max-tokens",
        "12",
        "--seed",
        "3",
    ];
    let text = done(place.taal(&generate));
    let generation = json(place.taal(&[&generate[..], &["--json"]].concat()));
    assert_eq!(generation["prompt"], "de kat");
    assert_eq!(generation["finish_reason"], "length");
    assert_eq!(generation["token_ids"].as_array().map(Vec::len), Some(12));
    assert_eq!(text, format!("{}\n", generation["text"].as_str().expect("text")));
    assert_eq!(
        text,
        done(place.taal(&[&generate[..], &["--no-cache"]].concat())),
        "a cache changes nothing"
    );

    place.write("other.txt", "de rat krabt de kat.");
    let evaluation = json(place.taal(&["eval", "--model", "run/model", "--text", "other.txt", "--json"]));
    assert_eq!(evaluation["tokens"], 19);
    assert_eq!(
        evaluation["bytes"], 19,
        "without the first character, which nothing predicts"
    );
    let [loss, perplexity, bits] = ["loss", "perplexity", "bits_per_byte"].map(|key| evaluation[key].as_f64());
    let loss = loss.expect("a number");
    assert!((perplexity.expect("a number") - loss.exp()).abs() < 1e-9);
    assert!((bits.expect("a number") - loss / std::f64::consts::LN_2).abs() < 1e-9);
    let table = done(place.taal(&["eval", "--model", "run", "--text", "other.txt"]));
    assert!(table.contains(&format!("{loss:.4} nats/token")), "{table}");
}

#[test]
fn a_prompt_may_be_ids_or_standard_input() {
    let place = Place::trained();
    let greedy = ["--model", "run", "--max-tokens", "5", "--temperature", "0", "--json"];
    let ids = json(place.taal(&["tokenizer", "encode", "--tokenizer", "run", "--json", "de kat"]))["ids"].to_string();
    let ids = ids.trim_matches(['[', ']']);
    let by_text = json(place.taal(&[&["generate", "--prompt", "de kat"], &greedy[..]].concat()));
    let by_ids = json(place.taal(&[&["generate", "--prompt-ids", ids], &greedy[..]].concat()));
    assert_eq!(by_text["token_ids"], by_ids["token_ids"]);
    assert!(by_ids["prompt"].is_array());

    place.write("prompt", "de kat");
    let mut command = place.command(&[&["generate", "--prompt", "-"], &greedy[..]].concat());
    command.stdin(fs::File::open(place.path("prompt")).expect("a file"));
    assert_eq!(json(command.output().expect("taal starts")), by_text);
}

#[test]
fn a_stop_text_ends_the_continuation_before_it() {
    let place = Place::trained();
    let generate = [
        "generate",
        "--model",
        "run",
        "--prompt",
        "de",
        "--temperature",
        "0",
        "--max-tokens",
        "20",
        "--json",
    ];
    let whole = json(place.taal(&generate))["text"].as_str().expect("text").to_string();
    let stop = whole.chars().next_back().expect("a character").to_string();
    let stopped = json(place.taal(&[&generate[..], &["--stop", &stop]].concat()));
    assert_eq!(stopped["finish_reason"], "stop");
    assert_eq!(stopped["text"].as_str(), whole.split(&stop).next());
}

#[test]
fn runs_without_a_directory_are_numbered_and_the_latest_is_resumed() {
    let place = Place::new();
    let train = [
        "train",
        "--recipe",
        "tiny.toml",
        "--set",
        "train.steps=2",
        "--set",
        "sample.max_tokens=0",
    ];
    done(place.taal(&train));
    done(place.taal(&train));
    assert!(place.path("runs/tiny/report.json").exists() && place.path("runs/tiny-2/report.json").exists());
    let resumed = place.taal(&[&train[..], &["--resume"]].concat());
    assert!(stderr(&resumed).contains("runs/tiny-2"), "{}", stderr(&resumed));
    done(resumed);
    assert!(!place.path("runs/tiny-3").exists());
}

#[test]
fn a_killed_run_resumes_to_the_same_bits() {
    let place = Place::new();
    let endless = [
        "--set",
        "train.steps=1000000",
        "--set",
        "eval.every=1000000",
        "--set",
        "checkpoint.every=1",
    ];
    let mut child = place.command(&[&["train", "--recipe", "tiny.toml", "--run-dir", "run"], &endless[..]].concat());
    let mut child = child
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("taal starts");
    let lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    assert!(
        lines
            .map_while(Result::ok)
            .filter(|line| line.ends_with("checkpoint"))
            .nth(1)
            .is_some(),
        "the second checkpoint is begun, so the first is there"
    );
    child.kill().expect("SIGKILL");
    child.wait().expect("an end");

    resumes_to_the_same_bits(&place);
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_saves_says_how_to_resume_and_resumes_to_the_same_bits() {
    for signal in ["-INT", "-TERM"] {
        let place = Place::new();
        let endless = [
            "--set",
            "train.steps=1000000",
            "--set",
            "eval.every=1000000",
            "--set",
            "checkpoint.every=1000",
        ];
        // A line each step is not needed: the first one comes before the first step.
        let mut child =
            place.command(&[&["train", "--recipe", "tiny.toml", "--run-dir", "run"], &endless[..]].concat());
        let mut child = child
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("taal starts");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe"))
            .lines()
            .map_while(Result::ok);
        assert!(lines.any(|line| line.contains("live page")), "training begins");
        let killed = Command::new("kill")
            .args([signal, &child.id().to_string()])
            .status()
            .expect("kill starts");
        assert!(killed.success());
        let rest: Vec<String> = lines.collect();
        let status = child.wait().expect("an end");
        assert_eq!(status.code(), Some(75), "{rest:?}");
        assert!(
            rest.iter()
                .any(|line| line.contains("taal train --resume --run-dir run")),
            "{rest:?}"
        );
        assert!(place.path("run/report.html").exists());
        resumes_to_the_same_bits(&place);
    }
}

/// Goes on with the run for a few steps and compares with one that was never interrupted.
fn resumes_to_the_same_bits(place: &Place) {
    let names = fs::read_dir(place.path("run/checkpoints")).expect("checkpoints");
    let name =
        |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name().into_string().expect("UTF-8");
    let saved = names
        .map(name)
        .filter_map(|name| name.strip_prefix("step-")?.parse::<u64>().ok())
        .max();
    let saved = saved.expect("a checkpoint");
    let steps = format!("train.steps={}", saved + 4);
    let rest = [
        "--set",
        &steps,
        "--set",
        "eval.every=1000000",
        "--set",
        "checkpoint.every=1000000",
    ];

    let resumed = place.taal(&[&["train", "--resume", "--run-dir", "run"], &rest[..]].concat());
    assert!(
        stderr(&resumed).contains(&format!("resuming from the checkpoint of step {saved}")),
        "{}",
        stderr(&resumed)
    );
    done(resumed);
    done(place.taal(&[&["train", "--recipe", "tiny.toml", "--run-dir", "whole"], &rest[..]].concat()));

    assert_eq!(place.losses("run"), place.losses("whole"));
    let last = format!("checkpoints/step-{:08}", saved + 4);
    for file in ["model/model.safetensors", "optimizer.safetensors"] {
        let [resumed, whole] = ["run", "whole"].map(|run| place.path(run).join(&last).join(file));
        assert!(equal_files(&resumed, &whole), "{file} differs");
    }
}

#[test]
fn a_damaged_checkpoint_is_passed_over_for_an_older_one() {
    let place = Place::trained();
    place.truncate("run/checkpoints/step-00000006/model/model.safetensors");
    let output = place.taal(&["train", "--resume", "--run-dir", "run", "--set", "train.steps=8"]);
    let said = stderr(&output);
    assert!(said.contains("checkpoint of step 6 is passed over"), "{said}");
    assert!(said.contains("resuming from the checkpoint of step 4"), "{said}");
    done(output);
    assert_eq!(place.losses("run").len(), 8);
}

#[test]
fn a_run_without_an_intact_checkpoint_starts_at_step_0_and_says_so() {
    let place = Place::trained();
    for checkpoint in ["step-00000004", "step-00000006"] {
        place.truncate(&format!("run/checkpoints/{checkpoint}/train_state.json"));
    }
    let before = place.losses("run");
    let output = place.taal(&["train", "--resume", "--run-dir", "run"]);
    assert!(
        stderr(&output).contains("no complete checkpoint to resume from: starting at step 0"),
        "{}",
        stderr(&output)
    );
    done(output);
    assert_eq!(place.losses("run"), before);
}

// Tokenizers and data.

#[test]
fn a_tokenizer_is_trained_encodes_and_decodes() {
    let place = Place::new();
    let train = [
        "tokenizer",
        "train",
        "--kind",
        "bpe",
        "--vocab-size",
        "280",
        "--out",
        "bpe.json",
    ];
    let summary = done(
        place.taal(
            &[
                &train[..],
                &["--special-token", "<s>", "--special-token", "</s>", "text.txt"],
            ]
            .concat(),
        ),
    );
    assert!(
        summary.contains("bytes/token") && summary.contains("forgotten"),
        "{summary}"
    );

    let encoded = json(place.taal(&["tokenizer", "encode", "--tokenizer", "bpe.json", "--json", "de kat"]));
    let ids: Vec<String> = encoded["ids"]
        .as_array()
        .expect("ids")
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(encoded["tokens"].as_array().map(Vec::len), Some(ids.len()));
    let plain = done(place.taal(&["tokenizer", "encode", "--tokenizer", "bpe.json", "de kat"]));
    assert_eq!(plain.trim_end(), ids.join(","));
    assert_eq!(
        done(place.taal(&["tokenizer", "decode", "--tokenizer", "bpe.json", &ids.join(",")])),
        "de kat\n"
    );
    let apart: Vec<&str> = ids.iter().map(String::as_str).collect();
    assert_eq!(
        done(place.taal(&[&["tokenizer", "decode", "--tokenizer", "bpe.json"], &apart[..]].concat())),
        "de kat\n"
    );
    let special = json(place.taal(&["tokenizer", "encode", "--tokenizer", "bpe.json", "--json", "<s>"]));
    assert_eq!(
        special["ids"],
        serde_json::json!([0]),
        "the first special token has the first id"
    );
}

#[test]
fn another_programs_tokenizer_is_imported_and_encodes() {
    let place = Place::new();
    place.write("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nvoorbeeld\n##zin\n");
    let summary = done(place.taal(&["tokenizer", "import", "--from", "vocab.txt", "--out", "."]));
    assert!(
        summary.contains("BERT vocab.txt") && summary.contains("7 tokens"),
        "{summary}"
    );
    let encode = ["tokenizer", "encode", "--tokenizer", "tokenizer.json"];
    assert_eq!(done(place.taal(&[&encode[..], &["Voorbeeldzin"]].concat())), "5,6\n");
    let import = ["tokenizer", "import", "--out", "new.json", "--from"];
    fails(
        place.taal(&[&import[..], &["text.txt"]].concat()),
        65,
        &["text.txt", "tiktoken", "SentencePiece", "merges.txt"],
    );
    fails(
        place.taal(&[&import[..], &["vocab.txt", "--pattern", "gpt2"]].concat()),
        2,
        &["pattern"],
    );
    fails(
        place.taal(&[&import[..], &["nothing.model"]].concat()),
        2,
        &["nothing.model"],
    );
    assert!(!place.path("new.json").exists());
}

#[test]
fn another_programs_model_is_imported_generates_and_is_exported() {
    let place = Place::new();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../exchange/tests/golden");
    for name in [
        "byte-level.gguf",
        "stories260k/stories260K.bin",
        "stories260k/tok512.bin",
    ] {
        let from = golden.join(name);
        let to = place.path(&from.file_name().expect("a name").to_string_lossy());
        fs::copy(from, to).expect("a golden file");
    }
    let generate = |model: &str, prompt: &str| {
        let arguments = [
            "generate",
            "--model",
            model,
            "--prompt",
            prompt,
            "--max-tokens",
            "20",
            "--temperature",
            "0",
        ];
        done(place.taal(&arguments))
    };

    let summary = done(place.taal(&["import", "--from", "byte-level.gguf", "--out", "models/bytes"]));
    assert!(summary.contains("GGUF file") && summary.contains("gpt2"), "{summary}");
    let stories = [
        "import",
        "--from",
        "stories260K.bin",
        "--tokenizer",
        "tok512.bin",
        "--out",
        "stories",
        "--json",
    ];
    let imported = json(place.taal(&stories));
    assert_eq!(
        (
            &imported["source"],
            &imported["params"],
            &imported["tokenizer_vocab_size"]
        ),
        (&"llama2c".into(), &260_032.into(), &512.into())
    );
    let story = generate("stories", "Once upon a time");
    assert!(story.contains(", there was a little girl named Lily."), "{story}");

    for (kind, most) in [("f32", 1_060_000), ("f16", 540_000), ("q8_0", 350_000)] {
        let file = format!("stories-{kind}.gguf");
        let arguments = [
            "export", "--model", "stories", "--to", "gguf", "--type", kind, "--out", &file, "--json",
        ];
        let exported = json(place.taal(&arguments));
        assert_eq!(exported["tokenizer"], "llama", "{exported}");
        assert!(
            exported["bytes"].as_u64().is_some_and(|bytes| bytes < most),
            "{exported}"
        );
        let back = format!("back-{kind}");
        done(place.taal(&["import", "--from", &file, "--out", &back]));
        let again = generate(&back, "Once upon a time");
        assert!(kind == "q8_0" || again == story, "{kind}: {again}");
    }
    done(place.taal(&["export", "--model", "stories", "--to", "hf", "--out", "copy"]));
    assert_eq!(generate("copy", "Once upon"), generate("stories", "Once upon"));
    let output = place.taal(&[
        "export",
        "--model",
        "stories",
        "--to",
        "llama2c",
        "--out",
        "stories.bin",
    ]);
    assert!(stderr(&output).contains("hint: ") && output.status.success());

    let export = ["export", "--model", "stories", "--out"];
    fails(
        place.taal(&[&export[..], &["copy", "--to", "gguf"]].concat()),
        2,
        &["copy", "exists"],
    );
    fails(
        place.taal(&[&export[..], &["new", "--to", "onnx"]].concat()),
        2,
        &["onnx", "hf, gguf or llama2c"],
    );
    fails(
        place.taal(&[&export[..], &["new", "--to", "gguf", "--type", "q4"]].concat()),
        2,
        &["q4", "f32, f16, bf16, q8_0, q4_0 or q4_k_m"],
    );
    fails(
        place.taal(&[&export[..], &["new", "--to", "llama2c", "--type", "f16"]].concat()),
        2,
        &["type", "expected f32"],
    );
    fails(
        place.taal(&["export", "--model", "models/bytes", "--to", "llama2c", "--out", "new"]),
        2,
        &["llama2.c", "GPT-2"],
    );
    place.truncate("byte-level.gguf");
    let import = ["import", "--out", "new", "--from"];
    fails(
        place.taal(&[&import[..], &["byte-level.gguf"]].concat()),
        65,
        &["byte-level.gguf", "copy the file again"],
    );
    fails(
        place.taal(&[&import[..], &["nothing.gguf"]].concat()),
        2,
        &["nothing.gguf"],
    );
    fails(
        place.taal(&[&import[..], &["text.txt"]].concat()),
        65,
        &["text.txt", "GGUF"],
    );
    place.write("model.pth", "anything");
    fails(
        place.taal(&[&import[..], &["model.pth"]].concat()),
        65,
        &["model.pth", "pickle", "safetensors"],
    );
    assert!(!place.path("new").exists());
}

#[test]
fn compounds_are_scored_by_their_parts() {
    let place = Place::new();
    place.write("vocab.txt", "[UNK]\nvoorbeeld\n##zin\nhui\n##sdeur\n");
    done(place.taal(&["tokenizer", "import", "--from", "vocab.txt", "--out", "whole.json"]));
    place.write(
        "letters.txt",
        "[UNK]\nv\nh\n##".to_owned() + &["o", "r", "b", "e", "l", "d", "z", "i", "n", "u", "s"].join("\n##") + "\n",
    );
    done(place.taal(&["tokenizer", "import", "--from", "letters.txt", "--out", "letters.json"]));
    place.write("words.tsv", "voorbeeldzin\tvoorbeeld zin\nhuisdeur\thuis deur\n");
    let score = [
        "tokenizer",
        "compounds",
        "--words",
        "words.tsv",
        "--tokenizer",
        "whole.json",
        "letters.json",
    ];
    let scores = json(place.taal(&[&score[..], &["--json"]].concat()));
    assert_eq!((&scores["words"], &scores["boundaries"]), (&2.into(), &2.into()));
    let of = |index: usize, key: &str| scores["tokenizers"][index][key].as_f64().expect("a number");
    assert_eq!(
        [
            of(0, "respected"),
            of(0, "false_splits_per_word"),
            of(0, "tokens_per_word")
        ],
        [0.5, 0.5, 2.0]
    );
    assert_eq!(
        [
            of(1, "respected"),
            of(1, "false_splits_per_word"),
            of(1, "tokens_per_word")
        ],
        [1.0, 8.0, 10.0]
    );
    let table = done(place.taal(&score));
    assert!(table.contains("50.0 %") && table.contains("letters.json"), "{table}");
    place.write("none.tsv", "aprilgek\t1 aprilgek\n");
    fails(
        place.taal(&[
            "tokenizer",
            "compounds",
            "--words",
            "none.tsv",
            "--tokenizer",
            "whole.json",
        ]),
        2,
        &["none.tsv", "voorbeeldzin"],
    );
}

#[test]
fn text_becomes_shards_that_a_recipe_trains_on() {
    let place = Place::new();
    done(place.taal(&[
        "tokenizer",
        "train",
        "--kind",
        "char",
        "--vocab-size",
        "64",
        "--out",
        "char.json",
        "text.txt",
    ]));
    let build = [
        "data",
        "build",
        "--tokenizer",
        "char.json",
        "--out",
        "shards",
        "--validation-fraction",
        "0.25",
        "text.txt",
    ];
    let summary = done(place.taal(&build));
    assert!(summary.contains("[data]\nshards = \"shards\"\n"), "{summary}");
    assert!(summary.contains("bytes/token"), "{summary}");
    fails(place.taal(&build), 2, &["shards", "already exists"]);

    let recipe = TINY
        .replace("files = [\"text.txt\"]", "shards = \"shards\"")
        .replace("validation_fraction = 0.2", "");
    place.write("tiny.toml", recipe.replace("[tokenizer]\nkind = \"char\"", ""));
    done(place.train(&[]));
    let shard = place.path("shards").join("train-00000.shard");
    let bytes = fs::read(&shard).expect("a shard");
    fs::write(&shard, &bytes[..bytes.len() - 7]).expect("a shard");
    fails(
        place.taal(&["train", "--recipe", "tiny.toml", "--run-dir", "again"]),
        65,
        &["train-00000.shard", "taal data build"],
    );
}

// What is wrong, in words and exit codes.

#[test]
fn mistakes_in_a_recipe_name_the_key_and_what_was_expected() {
    let place = Place::new();
    fails(
        place.train_with(&["train.stepps=3"]),
        2,
        &[
            "train.stepps: unknown key; did you mean train.steps?",
            "taal recipes keys",
        ],
    );
    fails(place.train_with(&["train.steps=soon"]), 2, &["train.steps", "soon"]);
    fails(
        place.train_with(&["train.batch_size=0"]),
        2,
        &["train.batch_size: expected 1..=4096, got 0"],
    );
    fails(place.train_with(&["model.n_heads=3"]), 2, &["model.n_heads", "16"]);
    fails(
        place.train_with(&["model.max_seq_len=4"]),
        2,
        &["train.block_size", "model.max_seq_len"],
    );
    fails(place.train_with(&["train.steps"]), 2, &["key=value"]);
    fails(
        place.taal(&["train", "--recipe", "nonsuch"]),
        2,
        &["nonsuch", "shakespeare-char"],
    );
    fails(
        place.taal(&["train", "--recipe", "nonsuch.toml"]),
        2,
        &["nonsuch.toml", "no such file"],
    );
    place.write("broken.toml", "[train\nsteps = 1");
    fails(
        place.taal(&["train", "--recipe", "broken.toml"]),
        2,
        &["broken.toml", "TOML"],
    );
    assert!(
        !place.path("run").exists() && !place.path("runs").exists(),
        "nothing was begun"
    );
}

#[test]
fn text_that_cannot_be_trained_on_is_named_with_what_is_wrong() {
    let place = Place::new();
    let with_text = |text: &[u8]| {
        place.write("text.txt", text);
        let _ = fs::remove_dir_all(place.path("run"));
        place.train(&[])
    };
    fails(with_text(b""), 2, &["text.txt is empty"]);
    fails(with_text(b"caf\xe9 au lait"), 65, &["text.txt", "UTF-8", "3"]);
    fails(with_text(b"text\0with a zero in it"), 65, &["text.txt", "binary"]);
    fails(with_text(b"a"), 2, &["text.txt", "too few"]);
    fails(
        with_text(b"nine char"),
        2,
        &["text.txt", "block of 8", "train.block_size"],
    );
    let _ = fs::remove_dir_all(place.path("run"));
    fs::remove_file(place.path("text.txt")).expect("a file");
    fails(place.train(&[]), 2, &["text.txt", "no such file"]);
}

#[test]
fn a_run_directory_is_neither_overwritten_nor_shared() {
    let place = Place::trained();
    fails(place.train(&[]), 2, &["run", "--resume", "--run-dir"]);
    fails(
        place.train(&["--resume", "--set", "model.n_layers=2"]),
        2,
        &["model.n_layers was 1 and is now 2"],
    );
    let lock = taal_store::RunLock::acquire(&place.path("run")).expect("the lock");
    fails(
        place.train(&["--resume"]),
        77,
        &["in use", &std::process::id().to_string()],
    );
    drop(lock);
    done(place.train(&["--resume"]));
    place.write("text-file", "");
    fails(
        place.taal(&["train", "--recipe", "tiny.toml", "--run-dir", "text-file"]),
        2,
        &["text-file"],
    );
    fs::create_dir(place.path("elsewhere")).expect("a folder");
    place.write("elsewhere/letter.txt", "not a run");
    fails(
        place.taal(&["train", "--resume", "--run-dir", "elsewhere"]),
        2,
        &["elsewhere", "no run to resume"],
    );
}

#[test]
fn models_and_tokenizers_that_are_missing_or_damaged_are_named() {
    let place = Place::trained();
    fails(
        place.taal(&["generate", "--model", "nowhere", "--prompt", "a"]),
        2,
        &["nowhere", "no model here"],
    );
    fails(
        place.taal(&["eval", "--model", "run", "--text", "nothing.txt"]),
        2,
        &["nothing.txt", "no such file"],
    );
    fails(
        place.taal(&["generate", "--model", "run", "--prompt", "Q"]),
        2,
        &["'Q'", "not in the vocabulary"],
    );
    fails(
        place.taal(&["generate", "--model", "run", "--prompt", ""]),
        2,
        &["the prompt is empty"],
    );
    fails(
        place.taal(&["generate", "--model", "run", "--prompt-ids", "1,9999"]),
        2,
        &["9999"],
    );
    fails(
        place.taal(&["generate", "--model", "run", "--prompt", "d", "--top-p", "2"]),
        2,
        &["top_p", "2"],
    );
    fails(
        place.taal(&["tokenizer", "decode", "--tokenizer", "run", "9999"]),
        2,
        &["9999"],
    );
    fails(
        place.taal(&["tokenizer", "encode", "--tokenizer", "nothing.json", "a"]),
        2,
        &["nothing.json"],
    );
    place.write("binary.txt", b"de\0kat");
    fails(
        place.taal(&["eval", "--model", "run", "--text", "binary.txt"]),
        65,
        &["binary.txt", "binary"],
    );
    fs::copy(place.path("run/model/tokenizer.json"), place.path("cut.json")).expect("a copy");
    place.truncate("cut.json");
    fails(
        place.taal(&["tokenizer", "encode", "--tokenizer", "cut.json", "a"]),
        65,
        &["cut.json"],
    );
    fails(
        place.taal(&[
            "data",
            "build",
            "--tokenizer",
            "cut.json",
            "--out",
            "shards",
            "text.txt",
        ]),
        65,
        &["cut.json"],
    );
    place.truncate("run/model/model.safetensors");
    fails(
        place.taal(&["generate", "--model", "run", "--prompt", "de"]),
        65,
        &["model.safetensors"],
    );
}

#[test]
fn wrong_arguments_end_with_2_before_anything_is_done() {
    let place = Place::new();
    fails(place.taal(&["trian"]), 2, &["trian"]);
    fails(place.taal(&["train", "--device", "abacus"]), 2, &["abacus", "flex"]);
    fails(
        place.taal(&[
            "tokenizer",
            "train",
            "--kind",
            "runes",
            "--vocab-size",
            "9",
            "--out",
            "t",
            "text.txt",
        ]),
        2,
        &["runes"],
    );
    assert_eq!(place.taal(&[]).status.code(), Some(2));
    for (device, is_compiled) in [
        ("ndarray", cfg!(feature = "ndarray")),
        ("wgpu", cfg!(feature = "wgpu")),
        ("cuda", cfg!(feature = "cuda")),
    ] {
        if !is_compiled {
            let way_out = format!("cargo xtask train --device {device}");
            fails(
                place.train(&["--device", device]),
                2,
                &[device, "not compiled", &way_out],
            );
        }
    }
    // Compiled in or not, with a graphics driver or without: there is no such adapter.
    fails(place.train(&["--device", "wgpu:99"]), 2, &["--device flex"]);
    assert!(!place.path("run").exists(), "a run that cannot start takes no name");
}

#[test]
fn texts_become_vectors_and_the_nearest_line_is_found() {
    let place = Place::trained();
    let vectors = done(place.taal(&["embed", "--model", "run", "de kat", "de rat", "--json"]));
    let vectors: Vec<serde_json::Value> = vectors
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!((vectors.len(), &vectors[1]["text"]), (2, &serde_json::json!("de rat")));
    assert_eq!(vectors[0]["embedding"].as_array().map(Vec::len), Some(16));
    let plain = done(place.taal(&["embed", "--model", "run", "--pool", "last", "de kat"]));
    assert_eq!(plain.split_whitespace().count(), 16, "{plain}");

    place.write("lines.txt", "de rat\n\nhet ziet\nde kat\n");
    let similar = [
        "similar",
        "--model",
        "run",
        "--lines",
        "lines.txt",
        "de kat",
        "--top",
        "2",
    ];
    let words = done(place.taal(&similar));
    assert!(
        words.starts_with(" 1.0000  de kat\n") && words.lines().count() == 2,
        "{words}"
    );
    let found = json(place.taal(&[&similar[..], &["--json"]].concat()));
    assert_eq!(found[0]["line"], 4);

    fails(place.taal(&["embed", "--model", "run"]), 2, &["--lines"]);
    fails(
        place.taal(&["embed", "--model", "run", "x", "--pool", "median"]),
        2,
        &["mean, cls, max, last or input"],
    );
    place.write("empty.txt", "\n");
    fails(
        place.taal(&["similar", "--model", "run", "--lines", "empty.txt", "de"]),
        2,
        &["empty.txt"],
    );
    // The model reads characters, so its words are letters.
    let letters = done(place.taal(&["similar", "--model", "run", "k", "--top", "3"]));
    assert_eq!(letters.lines().count(), 3, "{letters}");
    assert!(
        !letters.contains("  k\n"),
        "a word is no neighbour of itself: {letters}"
    );
    fails(
        place.taal(&["similar", "--model", "run", "Q"]),
        2,
        &["does not know \"Q\""],
    );
}

#[test]
fn vectors_of_words_are_scored_against_people() {
    let place = Place::trained();
    place.write(
        "pairs.csv",
        "word1,word2,similarity\nkat,rat,9\ntrap,kat,2\nrat,ziet,1\nkat,Q,5\n",
    );
    place.write("analogies.txt", ": animals\nkat rat trap ziet\nkat rat ziet trap\n");
    place.write("kinds.csv", "category,word\nanimal,kat\nanimal,rat\nthing,trap\n");
    let score = [
        "embeddings",
        "score",
        "--model",
        "run",
        "--similarity",
        "pairs.csv",
        "--analogies",
        "analogies.txt",
        "--categories",
        "kinds.csv",
    ];
    let words = done(place.taal(&score));
    for part in [
        "pairs: Spearman ",
        "3 of 4 pairs",
        "words without a vector: 1 (Q)",
        "2 of 2 questions  animals",
        "chosen from 4 words",
        "kinds: purity ",
        "3 of 3 words",
    ] {
        assert!(words.contains(part), "{part}: {words}");
    }
    let found = json(place.taal(&[&score[..], &["--json", "--pool", "input"]].concat()));
    assert_eq!(found["similarity"][0]["scored"], 3);
    assert_eq!(found["analogies"][0]["all"]["scored"], 2);

    place.write("vectors.txt", "3 2\nkat 1 0\nrat 1 0.1\ntrap 0 1\n");
    let of_file = [
        "embeddings",
        "score",
        "--vectors",
        "vectors.txt",
        "--similarity",
        "pairs.csv",
    ];
    assert_eq!(
        json(place.taal(&[&of_file[..], &["--json"]].concat()))["similarity"][0]["spearman"],
        1.0
    );
    fails(
        place.taal(&[&of_file[..4], &["--model", "run"]].concat()),
        2,
        &["--vectors"],
    );
    fails(
        place.taal(&["embeddings", "score", "--model", "run"]),
        2,
        &["--similarity"],
    );
    place.write("bad.csv", "word1,word2,similarity\nkat,rat,9\ntrap,kat\n");
    fails(
        place.taal(&["embeddings", "score", "--model", "run", "--similarity", "bad.csv"]),
        65,
        &["bad.csv", "line 3", "expected 3 fields"],
    );
}

#[test]
fn pages_are_in_the_language_of_the_locale_unless_one_is_named() {
    let place = Place::new();
    let run = |locale: &[(&str, &str)], arguments: &[&str]| {
        let mut command = place.command(arguments);
        for name in ["LC_ALL", "LC_MESSAGES", "LANG"] {
            command.env_remove(name);
        }
        command.envs(locale.iter().copied()).output().expect("taal starts")
    };
    let train = [
        "train",
        "--recipe",
        "tiny.toml",
        "--run-dir",
        "run",
        "--set",
        "train.steps=2",
    ];
    let output = run(
        &[("LC_ALL", ""), ("LC_MESSAGES", "nl_BE.UTF-8"), ("LANG", "en_US")],
        &train,
    );
    let said = stderr(&output).to_owned();
    done(output);
    assert!(said.contains("live page for the browser: run/report.html\n"), "{said}");
    assert!(place.read("run/report.html").contains("<html lang=\"nl\">"));
    let trace = ["trace", "--model", "run", "de kat", "--html", "trace.html"];
    for (locale, more, language) in [
        ("nl_NL", &[][..], "nl"),
        ("nl_NL", &["--lang", "en"][..], "en"),
        ("C.UTF-8", &[][..], "en"),
        ("fr_FR", &["--lang", "nl"][..], "nl"),
    ] {
        done(run(&[("LANG", locale)], &[&trace[..], more].concat()));
        let page = place.read("trace.html");
        assert!(
            page.contains(&format!("<html lang=\"{language}\">")),
            "{locale} {more:?}"
        );
    }
    let wrong = run(&[], &[&trace[..], &["--lang", "fr"]].concat());
    fails(wrong, 2, &["--lang", "expected one of en, nl, got \"fr\""]);
}

#[test]
fn words_and_lines_become_a_map() {
    let place = Place::trained();
    place.write("words.txt", "kat rat\ntrap ziet kat Q\n");
    let plot = ["embeddings", "plot", "--model", "run", "--words", "words.txt", "het"];
    let words = done(place.taal(&[&plot[..], &["--out", "map.svg"]].concat()));
    assert!(
        words.starts_with("map.svg: 5 points, ") && words.ends_with("% of the variance\n"),
        "{words}"
    );
    let svg = place.read("map.svg");
    assert!(svg.starts_with("<svg ") && svg.contains(">trap</text>") && svg.contains("5 words by run"));
    let found = json(place.taal(&[&plot[..], &["--out", "map.html", "--json"]].concat()));
    assert_eq!(
        (&found["points"][0]["text"], &found["unknown"][0]),
        (&"het".into(), &"Q".into())
    );
    assert!(place.read("map.html").starts_with("<!DOCTYPE html>"));
    let lines = [
        "embeddings",
        "plot",
        "--model",
        "run",
        "--lines",
        "lines.txt",
        "--out",
        "lines.svg",
    ];
    place.write("lines.txt", "de kat\n\nde rat ziet het\nvan de trap\n");
    done(place.taal(&lines));
    assert!(place.read("lines.svg").contains(">de rat ziet het</text>"));

    let map = |more: &[&str]| place.taal(&[&["embeddings", "plot", "--model", "run"], more].concat());
    fails(
        map(&["kat", "rat", "het", "--out", "map.png"]),
        2,
        &["map.png", ".svg or .html"],
    );
    fails(
        map(&["kat", "Q", "rat", "--out", "few.svg"]),
        2,
        &["at least 3 known words", "got 2"],
    );
    fails(map(&["--out", "none.svg"]), 2, &["no word"]);
    fails(
        map(&["kat", "--lines", "lines.txt", "--out", "both.svg"]),
        2,
        &["--lines"],
    );
    assert!(!place.path("few.svg").exists() && !place.path("map.png").exists());
}

#[test]
fn a_model_directory_is_inspected() {
    let place = Place::trained();
    let words = done(place.taal(&["inspect", "--model", "run", "--svg", "layers.svg"]));
    assert!(words.lines().all(|line| line.chars().count() <= 80), "{words}");
    let drawing = std::fs::read_to_string(place.path("layers.svg")).unwrap();
    assert!(drawing.starts_with("<svg") && drawing.contains("feed_forward"));
    for part in [
        "family",
        "llama",
        "└─ output",
        "│     ├─ attention",
        "FLOPs",
        "bytes per token",
        "tokenizer of",
    ] {
        assert!(words.contains(part), "{part}: {words}");
    }
    let found = json(place.taal(&["inspect", "--model", "run/model", "--json"]));
    let tensors = found["tensors"].as_array().expect("tensors");
    let total: u64 = tensors.iter().filter_map(|tensor| tensor["params"].as_u64()).sum();
    assert_eq!(found["params"].as_u64(), Some(total), "every parameter is in a tensor");
    assert_eq!(found["weight_bytes"].as_u64(), Some(4 * total));
    assert_eq!(found["anatomy"]["params"].as_u64(), Some(total));
    fails(
        place.taal(&["inspect", "--model", "nowhere"]),
        2,
        &["nowhere", "no model here"],
    );
    place.truncate("run/model/model.safetensors");
    fails(place.taal(&["inspect", "--model", "run"]), 65, &["model.safetensors"]);
}

#[test]
fn gaps_are_filled_by_a_masked_model_and_by_no_other() {
    let place = Place::trained();
    let masked = [
        "tokenizer.kind=wordpiece",
        "tokenizer.vocab_size=60",
        "model.preset=bert",
        "train.objective=masked",
        "train.block_size=24",
        "sample.prompts=[\"de kat krabt de [MASK]\"]",
    ];
    let more: Vec<&str> = masked.iter().flat_map(|setting| ["--set", setting]).collect();
    let train = ["train", "--recipe", "tiny.toml", "--run-dir", "masked"];
    let summary = done(place.taal(&[&train[..], &more].concat()));
    assert!(
        summary.contains("hidden tokens") && summary.contains("taal fill --model masked"),
        "{summary}"
    );
    assert!(!summary.contains("taal generate"), "report 17: {summary}");
    let hint = summary
        .lines()
        .find_map(|line| line.split_once("taal fill "))
        .expect("a hint")
        .1;
    assert_eq!(hint, "--model masked 'de kat krabt de [MASK]'");
    done(place.taal(&["fill", "--model", "masked", "de kat krabt de [MASK]"]));

    let sentence = "de kat krabt de [MASK] van de [MASK]";
    let fill = ["fill", "--model", "masked", sentence, "--top", "3", "--rank", "trap"];
    let words = done(place.taal(&fill));
    assert_eq!(words.matches(" %  ").count(), 6, "{words}");
    assert!(
        words.starts_with("de kat krabt de ") && words.contains("gap 2:") && words.contains("rank of trap: "),
        "{words}"
    );
    let found = json(place.taal(&[&fill[..], &["--json"]].concat()));
    assert_eq!(found["gaps"].as_array().map(Vec::len), Some(2));
    let guesses = found["gaps"][0]["guesses"].as_array().expect("guesses");
    let probabilities: Vec<f64> = guesses
        .iter()
        .filter_map(|guess| guess["probability"].as_f64())
        .collect();
    assert!(
        probabilities.len() == 3 && probabilities.is_sorted_by(|a, b| a >= b),
        "{probabilities:?}"
    );

    fails(
        place.taal(&["fill", "--model", "run", sentence]),
        2,
        &["causal", "train.objective"],
    );
    fails(place.taal(&["fill", "--model", "masked", "de kat"]), 2, &["[MASK]"]);
    fails(
        place.taal(&["generate", "--model", "masked", "--prompt", "de"]),
        2,
        &["bidirectional"],
    );
    fails(
        place.taal(&["eval", "--model", "masked", "--text", "text.txt"]),
        2,
        &["bidirectional"],
    );

    place.write("order.tsv", "de kat krabt\tkrabt kat de\nvan de trap\ttrap de van\n");
    for model in ["masked", "run"] {
        let words = done(place.taal(&["eval", "--model", model, "--pairs", "order.tsv"]));
        assert!(words.contains("% of 2 pairs") && words.contains("order"), "{words}");
    }
    let found = json(place.taal(&["eval", "--model", "run", "--pairs", "order.tsv", "--json"]));
    assert_eq!(found["all"]["total"], 2);
    fails(
        place.taal(&["eval", "--model", "run", "--pairs", "text.txt"]),
        65,
        &["text.txt", "line 1", "tab"],
    );

    place.write(
        "next.jsonl",
        "{\"context\": \"de kat\", \"choices\": [\"krabt\", \"de de\"], \"answer\": 0}\n\
         {\"question\": \"de kat krabt de krullen van de\", \"choices\": [\"rat\", \"trap\"], \"answer\": \"B\"}\n",
    );
    for model in ["masked", "run"] {
        let words = done(place.taal(&["eval", "--model", model, "--choices", "next.jsonl"]));
        for part in [
            "next: 2 items",
            "% by log-likelihood (",
            "% by that over characters (",
            " 50.0 % by chance",
        ] {
            assert!(words.contains(part), "{part}: {words}");
        }
    }
    let choices = ["eval", "--model", "run", "--choices", "next.jsonl"];
    let found = json(place.taal(&[&choices[..], &["--normalise", "none", "--json"]].concat()));
    assert_eq!(
        (&found["all"]["total"], &found["all"]["normalised"]),
        (&2.into(), &serde_json::Value::Null)
    );
    fails(
        place.taal(&[&choices[..], &["--normalise", "words"]].concat()),
        2,
        &["none, tokens, characters or bytes"],
    );
    place.write(
        "next.jsonl",
        "{\"context\": \"de kat\", \"choices\": [\"krabt\", \"de\"], \"answer\": 2}\n",
    );
    fails(
        place.taal(&choices),
        65,
        &["next.jsonl", "line 1", "the answer 2 is none of the 2 choices"],
    );
}

#[test]
fn a_text_is_followed_through_every_stage_of_a_model_and_its_checkpoints() {
    let place = Place::new();
    done(place.train(&["--set", "checkpoint.keep=9"]));
    let trace = ["trace", "--checkpoints", "run", "de kat"];
    let words = done(place.taal(&trace));
    for heading in [
        "1 Text",
        "2 Bytes, tokens and ids",
        "3 Embedding and position",
        "4 Attention: which tokens each token attends to",
        "5 Residual stream",
        "6 Guess after every layer",
        "7 What comes next",
        "8 Over the checkpoints of the run",
    ] {
        assert!(words.contains(heading), "no {heading:?} in: {words}");
    }
    assert!(words.lines().all(|line| line.chars().count() <= 80), "{words}");

    let saved = [
        &trace[..],
        &["--json", "trace.json", "--html", "trace.html", "--top", "3"],
    ]
    .concat();
    let output = place.taal(&saved);
    assert!(stderr(&output).contains("wrote trace.html"), "{}", stderr(&output));
    done(output);
    assert!(place.read("trace.html").contains("<h1>A text through run</h1>"));
    let printed = done(place.taal(&[&trace[..], &["--json", "-", "--top", "3"]].concat()));
    assert_eq!(printed, place.read("trace.json"));
    let found: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!(found["tokens"].as_array().map(Vec::len), Some(6));
    assert_eq!(found["attention"][0].as_array().map(Vec::len), Some(2));
    assert_eq!(found["lens"][1][5]["guesses"], found["predictions"][0]["guesses"]);
    let steps: Vec<u64> = found["checkpoints"]
        .as_array()
        .expect("checkpoints")
        .iter()
        .filter_map(|checkpoint| checkpoint["step"].as_u64())
        .collect();
    assert_eq!(steps, [2, 3, 4, 6]);
    // The best model of the run is one of its checkpoints, whose answer is then the traced one.
    let choice = &found["predictions"][0]["guesses"][0];
    let answers = found["checkpoints"].as_array().expect("checkpoints").iter();
    assert!(
        answers
            .map(|checkpoint| &checkpoint["guesses"][0])
            .any(|answer| answer == choice),
        "{found}"
    );
    let logged = place.losses("run");
    assert_eq!(found["checkpoints"][0]["train_loss"], logged[1][1]);
    let page = place.read("trace.html");
    assert!(
        page.starts_with("<!DOCTYPE html>") && !page.replace("http-equiv", "").contains("http"),
        "a page of its own"
    );

    let bpe = ["tokenizer.kind=bpe", "tokenizer.vocab_size=300", "train.block_size=32"];
    let settings = bpe.iter().flat_map(|setting| ["--set", setting]);
    let train = ["train", "--recipe", "tiny.toml", "--run-dir", "bpe"];
    done(place.taal(&train.into_iter().chain(settings).collect::<Vec<_>>()));
    let words = done(place.taal(&["trace", "--model", "bpe", "één kat krabt\x1b[31m"]));
    for line in ["a+t", "é", "krabt\\u{1B}[31m"] {
        assert!(words.contains(line), "no {line:?} in: {words}");
    }
    assert!(words.lines().all(|line| line.chars().count() <= 80), "{words}");

    let ids = ["trace", "--model", "run", "--ids", "1,2,3"];
    assert!(done(place.taal(&ids)).contains("3 tokens"));
}

#[test]
fn what_cannot_be_traced_is_said_in_one_sentence() {
    let place = Place::trained();
    let trace = |more: &[&str]| place.taal(&[&["trace", "--model", "run"], more].concat());
    fails(trace(&[""]), 2, &["text", "at least one character"]);
    fails(trace(&["de kat krabt de krullen"]), 2, &["context of 8"]);
    fails(trace(&["--ids", "1,99"]), 2, &["99", "vocabulary"]);
    fails(trace(&["de", "--top", "0"]), 2, &["top", "1..=1000"]);
    fails(trace(&["de XYZ"]), 2, &["'X'"]);
    fails(trace(&["de", "--checkpoints", "."]), 2, &["no checkpoints"]);
    for format in ["--html", "--json"] {
        let output = trace(&["de", format, "missing/trace"]);
        assert_eq!(stdout(&output), "");
        fails(output, 2, &["missing"]);
    }
    // A model without a tokenizer; taken out of a checkpoint it would be damage.
    fs::create_dir(place.path("bare")).expect("a folder");
    for file in ["config.json", "model.safetensors"] {
        fs::copy(place.path("run/model").join(file), place.path("bare").join(file)).expect("a copy");
    }
    fails(place.taal(&["trace", "--model", "bare", "de"]), 2, &["tokenizer"]);
    assert!(done(place.taal(&["trace", "--model", "bare", "--ids", "1,2"])).contains("#1"));
    place.truncate("run/checkpoints/step-00000006/optimizer.safetensors");
    let damaged = ["trace", "--model", "run", "--ids", "1,2", "--checkpoints", "run"];
    fails(place.taal(&damaged), 65, &["step-0000000"]);
}

#[test]
fn training_that_diverges_ends_with_86_and_a_way_out() {
    let place = Place::new();
    let wild = [
        "train.lr=10.0",
        "model.init_std=10.0",
        "train.weight_decay=10.0",
        "train.steps=500",
        "checkpoint.every=1000",
    ];
    fails(place.train_with(&wild), 86, &["diverged", "train.lr"]);
}

#[cfg(not(target_env = "msvc"))]
#[test]
fn memory_that_nobody_has_ends_with_71() {
    let place = Place::new();
    // The query projection alone has 2^46 x 16 numbers, more than a processor can address.
    let vast = ["model.n_heads=16777216", "model.head_dim=4194304"];
    fails(
        place.train_with(&vast),
        71,
        &["needed", "free", "model.n_heads", "model.head_dim"],
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_ends_with_74() {
    let place = Place::new();
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .expect("the full device");
    let mut command = place.command(&["recipes"]);
    fails(
        command
            .stdout(full)
            .stderr(Stdio::piped())
            .spawn()
            .and_then(|child| child.wait_with_output())
            .expect("taal starts"),
        74,
        &[],
    );
}

#[test]
fn output_that_nobody_reads_is_no_error() {
    let place = Place::trained();
    let commands: [&[&str]; 3] = [
        &["recipes"],
        &["--help"],
        &[
            "generate",
            "--model",
            "run",
            "--prompt",
            "de",
            "--max-tokens",
            "1000000",
        ],
    ];
    for arguments in commands {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = place.command(arguments).stdout(writer).stderr(Stdio::piped()).spawn();
        let output = output.and_then(|child| child.wait_with_output()).expect("taal starts");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
        assert_eq!(stderr(&output), "", "{arguments:?}");
    }
}

// What is said about the program and the machine.

#[test]
fn recipes_are_listed_and_shown_as_they_are_written() {
    let place = Place::new();
    let list = done(place.taal(&["recipes"]));
    for (name, text) in taal_trainer::embedded() {
        assert!(
            list.lines()
                .any(|line| line.starts_with(name) && line.len() > name.len() + 10),
            "{name} in: {list}"
        );
        assert_eq!(done(place.taal(&["recipes", "show", name])), text);
    }
    let resolved = done(place.taal(&["recipes", "show", "names", "--resolved", "--set", "seed=42"]));
    assert!(resolved.contains("seed = 42 # --set"), "{resolved}");
    place.write("again.toml", &resolved);
    done(place.taal(&["recipes", "show", "again.toml", "--resolved"]));
    fails(place.taal(&["recipes", "show", "nonsuch"]), 2, &["nonsuch"]);
}

#[test]
fn the_doctor_reports_the_machine() {
    let place = Place::new();
    let found = json(place.taal(&["doctor", "--json"]));
    assert_eq!(found["version"], env!("CARGO_PKG_VERSION"));
    assert!(found["cores"].as_u64().is_some_and(|cores| cores > 0));
    assert!(found["peak_flops_per_s"].as_f64().is_some_and(|peak| peak > 1e6));
    assert!(found["disk_free_bytes"].as_u64().is_some());
    assert_eq!(found["devices"][0]["name"], "flex");
    assert_eq!(found["devices"][0]["is_available"], true);
    assert!(done(place.taal(&["doctor"])).contains("cores"));
}

#[test]
fn the_benchmarks_report_what_they_measured() {
    let place = Place::trained();
    let found = json(place.taal(&["bench", "train", "--shape", "cpu", "--steps", "1", "--json"]));
    assert_eq!(found["params"], 813_568);
    for key in ["tokens_per_s", "mfu", "peak_rss_bytes", "step_time_ms"] {
        assert!(found[key].as_f64().is_some_and(|value| value > 0.0), "{key} in {found}");
    }
    let shares = found["time_shares"].as_array().expect("a list");
    let total: f64 = shares.iter().filter_map(|share| share["share"].as_f64()).sum();
    assert!((total - 1.0).abs() < 1e-6, "shares of {total} in {found}");

    let arguments = [
        "bench",
        "generate",
        "--model",
        "run",
        "--batch",
        "1,3",
        "--max-tokens",
        "2",
        "--json",
    ];
    let found = json(place.taal(&arguments));
    assert_eq!(found["batches"][1]["batch_size"], 3);
    assert!(
        found["batches"][0]["decode_tokens_per_s"]
            .as_f64()
            .is_some_and(|rate| rate > 0.0)
    );

    fails(place.taal(&["bench", "train", "--shape", "huge"]), 2, &["huge", "baby"]);
    let found = json(place.taal(&[
        "bench",
        "paradigm",
        "--recipe",
        "names",
        "--seconds",
        "0.01",
        "--lengths",
        "8",
        "--copy-steps",
        "1",
        "--svg",
        "positions.svg",
        "--json",
    ]));
    assert_eq!(found["networks"][1]["name"], "lstm");
    assert!(
        found["networks"][0]["speed"][0]["microseconds_per_token"]
            .as_f64()
            .unwrap()
            > 0.0
    );
    assert!(
        std::fs::read_to_string(place.path("positions.svg"))
            .unwrap()
            .starts_with("<svg")
    );
    fails(
        place.taal(&["bench", "paradigm", "--recipe", "dutch-mlm"]),
        2,
        &["train.objective", "next_token"],
    );
    fails(place.taal(&["bench", "paradigm", "--seconds", "0"]), 2, &["above 0"]);
}

/// The recipe of every family of operations: the reference implementations train as the fused kernels do.
#[test]
fn reference_and_fused_kernels_train_alike() {
    let place = Place::new();
    for preset in ["nanogpt", "qwen3"] {
        let mut curves = Vec::new();
        for kernels in ["fused", "reference"] {
            let run = format!("{preset}-{kernels}");
            let sets = [format!("model.preset={preset}"), "train.steps=60".to_string()];
            let mut command = place.command(&["train", "--recipe", "tiny.toml", "--run-dir", &run]);
            for set in &sets {
                command.args(["--set", set]);
            }
            if kernels == "reference" {
                command.env("TAAL_PLAIN_KERNELS", "1");
            } else {
                command.env_remove("TAAL_PLAIN_KERNELS");
            }
            done(command.output().expect("taal starts"));
            curves.push(place.losses(&run));
        }
        assert_eq!(curves[0].len(), 60);
        for (fused, reference) in curves[0].iter().zip(&curves[1]) {
            let difference = (fused[1].as_f64().unwrap() - reference[1].as_f64().unwrap()).abs();
            assert!(difference < 1e-3, "{preset}: {fused:?} against {reference:?}");
        }
    }
}

/// `UPDATE=1` rewrites the stored copies.
#[test]
fn the_help_is_what_it_was() {
    let place = Place::new();
    let commands = [
        "",
        "train",
        "finetune",
        "generate",
        "replay",
        "chat",
        "serve",
        "fill",
        "eval",
        "trace",
        "inspect",
        "embed",
        "similar",
        "import",
        "export",
        "adapter",
        "adapter list",
        "adapter merge",
        "adapter diff",
        "card",
        "embeddings",
        "embeddings score",
        "embeddings plot",
        "tokenizer",
        "tokenizer train",
        "tokenizer encode",
        "tokenizer decode",
        "tokenizer import",
        "tokenizer compounds",
        "data",
        "data build",
        "data preview",
        "recipes",
        "recipes list",
        "recipes show",
        "recipes keys",
        "runs",
        "runs compare",
        "runs clean",
        "bench",
        "bench train",
        "bench generate",
        "bench serve",
        "bench paradigm",
        "bench transfer",
        "bench meter",
        "bench forecast",
        "bench speedrun",
        "bench green",
        "energy",
        "energy watch",
        "energy estimate",
        "energy calibrate",
        "energy selftest",
        "doctor",
        "glossary",
        "completions",
        "man",
    ];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/help");
    for command in commands {
        let arguments: Vec<&str> = command.split_whitespace().chain(["--help"]).collect();
        let help = done(place.taal(&arguments));
        let name = if command.is_empty() {
            "taal".to_string()
        } else {
            command.replace(' ', "-")
        };
        let path = folder.join(name).with_extension("txt");
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&path, &help).expect("a stored copy");
        }
        let stored = fs::read_to_string(&path).unwrap_or_default().replace("\r\n", "\n");
        assert_eq!(
            help.replace("taal.exe", "taal"),
            stored,
            "taal {command} --help changed; UPDATE=1 accepts it"
        );
        assert!(
            help.contains("Example:\n  taal"),
            "taal {command} --help ends with an example"
        );
    }
}

/// The settings reach jemalloc, which otherwise gives memory back and gets it anew in every step.
#[cfg(target_os = "linux")]
#[test]
fn the_allocator_keeps_its_pages() {
    let place = Place::new();
    let mut command = place.command(&["recipes"]);
    let output = command
        .env("_RJEM_MALLOC_CONF", "stats_print:true")
        .output()
        .expect("taal starts");
    let statistics = stderr(&output);
    for setting in [
        "opt.dirty_decay_ms: -1 ",
        "opt.muzzy_decay_ms: -1 ",
        "opt.thp: \"always\"",
    ] {
        assert!(statistics.contains(setting), "{setting}");
    }
}
