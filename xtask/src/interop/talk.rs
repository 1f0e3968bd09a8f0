//! `taal serve` asked by programs of others: the `openai` client, schemathesis and lm-evaluation-harness.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::load::started;
use super::script;
use crate::command::run;
use crate::workspace::Workspace;

/// What clients send to show that they may ask.
const KEY: &str = "key-of-this-comparison";

/// Requests per address that schemathesis makes up in each of its phases, and the seed that it makes them from.
const MADE_UP: [&str; 4] = ["--max-examples", "60", "--seed", "1"];

/// What schemathesis checks of every answer. Whether what the description allows is accepted is not among them: fields exclude each other.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,\
                      unsupported_method,allow_header_conformance,ignored_auth";

/// Figures of a task, and the largest allowed relative difference of each from those of transformers.
const FIGURES: [(&str, &str, f64); 4] = [
    ("choices", "acc,none", 1e-3),
    ("choices", "acc_norm,none", 1e-3),
    ("texts", "word_perplexity,none", 1e-3),
    ("texts", "bits_per_byte,none", 1e-3),
];

/// What talks.
pub(super) struct Talk<'a> {
    /// The program `taal`.
    pub(super) taal: &'a Path,
    /// A Python with the packages.
    pub(super) python: &'a Path,
    /// Where the scripts are.
    pub(super) workspace: &'a Workspace,
    /// Where models and results are put.
    pub(super) folder: &'a Path,
}

/// Trains two small models, serves them, and lets each of the programs ask.
pub(super) fn compare(talk: &Talk<'_>) -> Result<()> {
    let [chat, encoder] = talk.models()?;
    let key = talk.folder.join("key.txt");
    fs::write(&key, KEY)?;
    let mut command = Command::new(talk.taal);
    command
        .args(["serve", "--runs", "none", "--model"])
        .arg(named("chat", &chat))
        .arg("--model")
        .arg(named("encoder", &encoder))
        .arg("--conversations")
        .arg(talk.folder.join("conversations"))
        .arg("--api-key-file")
        .arg(&key);
    let server = started(command, "--port")?;
    let url = format!("http://{}", server.address);
    run(script(talk.workspace, talk.python, "ask_openai.py").args([&url, KEY]))?;
    talk.schemathesis(&url)?;
    talk.harness(&url, &chat)
}

fn named(name: &str, folder: &Path) -> String {
    format!("{name}={}", folder.display())
}

impl Talk<'_> {
    /// A model with a chat template, and an encoder.
    fn models(&self) -> Result<[PathBuf; 2]> {
        let [base, chat, encoder] = ["base", "chat", "encoder"].map(|name| self.folder.join(name));
        let train = |run_dir: &Path, arguments: &[&str], settings: &[&str]| {
            let settings = settings.iter().flat_map(|setting| ["--set", setting]);
            let mut command = Command::new(self.taal);
            run(command.args(arguments).args(settings).arg("--run-dir").arg(run_dir))
        };
        let small = ["model.n_layers=2", "model.d_model=64", "model.n_heads=4"];
        let [layers, width, heads] = small;
        train(
            &base,
            &["train", "dutch-bpe"],
            &["train.steps=100", layers, width, heads],
        )?;
        let base = base.display().to_string();
        let tune = ["finetune", "--recipe", "chat-tldr", "--model", &base];
        train(&chat, &tune, &["train.steps=20"])?;
        train(
            &encoder,
            &["train", "dutch-mlm"],
            &["train.steps=10", layers, width, heads],
        )?;
        Ok([chat.join("model"), encoder.join("model")])
    }

    /// Requests made up from the server's own description.
    fn schemathesis(&self, url: &str) -> Result<()> {
        let mut command = self.module("schemathesis.cli");
        command
            .args([
                "run",
                &format!("{url}/openapi.json"),
                "--phases",
                "coverage,fuzzing,stateful",
            ])
            .args(MADE_UP)
            .args([
                "--checks",
                CHECKS,
                "--continue-on-failure",
                "--generation-database",
                "none",
            ])
            .args(["--request-timeout", "60", "--no-color", "--header"])
            .arg(format!("Authorization: Bearer {}", KEY))
            .env(
                "SCHEMATHESIS_HOOKS",
                self.workspace.root().join("xtask/interop/server_hooks.py"),
            );
        run(&mut command)
    }

    /// Accuracy and perplexity through the server, with token ids and with texts, and those of transformers.
    fn harness(&self, url: &str, model: &Path) -> Result<()> {
        let tasks = self.folder.join("tasks");
        fs::create_dir_all(&tasks)?;
        run(script(self.workspace, self.python, "make_tasks.py").arg(&tasks))?;
        let model = model.display();
        let server = format!("model=chat,base_url={url}/v1/completions,tokenizer={model},num_concurrent=8");
        let ways = [
            ("transformers", "hf", format!("pretrained={model},dtype=float32")),
            ("ids", "local-completions", format!("{server},tokenized_requests=True")),
            (
                "texts",
                "local-completions",
                format!("{server},tokenized_requests=False"),
            ),
        ];
        let mut all = Vec::new();
        for (name, kind, arguments) in &ways {
            let results = self.folder.join(name);
            let mut command = self.module("lm_eval");
            command
                .args([
                    "run",
                    "--tasks",
                    "choices,texts",
                    "--device",
                    "cpu",
                    "--model",
                    kind,
                    "--model_args",
                    arguments,
                ])
                .arg("--include_path")
                .arg(&tasks)
                .arg("--output_path")
                .arg(&results)
                .env("OPENAI_API_KEY", KEY);
            run(&mut command)?;
            all.push(read(&results)?);
        }
        let mut wrong = Vec::new();
        println!("| task | figure | transformers | ids | texts |\n|---|---|---:|---:|---:|");
        for (task, figure, tolerance) in FIGURES {
            let of = |results: &Value| {
                let value = results["results"][task][figure].as_f64();
                value.with_context(|| format!("no {figure} of {task} among the results"))
            };
            let [theirs, ids, texts] = [of(&all[0])?, of(&all[1])?, of(&all[2])?];
            println!("| {task} | {figure} | {theirs} | {ids} | {texts} |");
            if !(differs(theirs, ids) <= tolerance && differs(theirs, texts) <= tolerance) {
                wrong.push(format!(
                    "{task}: {figure}: {theirs} with transformers, {ids} and {texts} through the server"
                ));
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    }

    /// A module of Python, which finds and writes nothing elsewhere.
    fn module(&self, name: &str) -> Command {
        let mut command = Command::new(self.python);
        for name in ["HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "PYTHONDONTWRITEBYTECODE"] {
            command.env(name, "1");
        }
        command
            .args(["-m", name])
            .current_dir(self.folder)
            .env("HF_HOME", self.folder.join("cache"));
        command
    }
}

/// Relative where the figure is above 1.
fn differs(one: f64, other: f64) -> f64 {
    (one - other).abs() / one.abs().max(1.0)
}

/// The results of a call of lm-evaluation-harness, whose file has the time in its name.
fn read(folder: &Path) -> Result<Value> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "json") {
                let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
                return serde_json::from_str(&text).with_context(|| format!("{}: not JSON", path.display()));
            }
        }
    }
    bail!("no results in {}", folder.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_from_what_is_not_a_number_is_not_a_number() {
        assert!(differs(f64::NAN, 0.5).is_nan() && differs(0.5, f64::NAN).is_nan());
        assert!(differs(88_977.42, 88_977.41) <= 1e-6 && differs(0.21, 0.213) > 1e-3);
    }
}
