//! `cargo xtask equal REF`: whether a change of the code changes results.
//!
//! Runs short trainings and commands with their models twice, with the `taal` of another commit and with this working tree's, on
//! the same machine. Weights, moments and outputs must be equal byte for byte.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::Value;

use crate::command::show;
use crate::revision::Pair;
use crate::workspace::Workspace;

/// Arguments of `cargo xtask equal`.
#[derive(Debug, Args)]
pub struct Equal {
    /// The commit to compare with
    #[arg(value_name = "REF", required_unless_present = "before")]
    revision: Option<String>,
    /// Run this `taal` instead of building that of REF
    #[arg(long, value_name = "FILE", requires = "after")]
    before: Option<PathBuf>,
    /// Run this `taal` instead of building that of the working tree
    #[arg(long, value_name = "FILE", requires = "before")]
    after: Option<PathBuf>,
    /// Only cases whose name contains this
    #[arg(long, value_name = "PART")]
    filter: Option<String>,
}

/// A training, and commands that use its model.
struct Case {
    name: &'static str,
    recipe: &'static str,
    /// `KEY=VALUE`, each after a `--set`.
    set: &'static [&'static str],
    /// Command lines of `taal`, with `{model}` for the run directory. Dots join the words of a text.
    ask: &'static [&'static str],
}

const PROMPTS: &str = concat!(
    "{\"prompt\": \"Hoeveel poten heeft een kat?\", \"completion\": \" Vier.\"}\n",
    "{\"prompt\": \"Wat zegt een hond?\", \"completion\": \" Woef.\"}\n",
    "{\"prompt\": \"Waar slaapt de hond graag op een koude dag?\", \"completion\": \" Bij het vuur.\"}\n",
);
const PAIRS: &str = "De kat slaapt.\tDe kat slapen.\nDe katten slapen.\tDe katten slaapt.\n";
const CHOICES: &str = concat!(
    "{\"context\": \"De kat zat op de\", \"choices\": [\" mat.\", \" maan.\"], \"answer\": 0}\n",
    "{\"context\": \"Het regent, dus ik neem\", \"choices\": [\" een paraplu.\", \" een lepel.\", \" niets.\"], \"answer\": 0}\n",
);
const TEXT: &str = "De kat zat op de mat.\nHet was een lange dag en de zon scheen nog.\n\nDe hond sliep.\n";

/// The files next to the runs.
const FILES: [(&str, &str); 4] = [
    ("prompts.jsonl", PROMPTS),
    ("pairs.tsv", PAIRS),
    ("choices.jsonl", CHOICES),
    ("text.txt", TEXT),
];

/// Commands for a causal model of Dutch.
const CAUSAL: &[&str] = &[
    "generate --model {model} --temperature 0 --max-tokens 150 --json --prompt",
    "generate --model {model} --seed 7 --max-tokens 60 --json --prompt De",
    "eval --model {model} --json --text text.txt",
    "eval --model {model} --json --pairs pairs.tsv",
    "eval --model {model} --json --choices choices.jsonl",
    "embed --model {model} --json --lines text.txt",
    "similar --model {model} --json --lines text.txt kat",
    "trace --model {model} --json - De.kat.zat",
];

const MASKED: &[&str] = &[
    "fill --model {model} --json De.kat.[MASK].op.de.[MASK].",
    "eval --model {model} --json --pairs pairs.tsv",
    "eval --model {model} --json --choices choices.jsonl",
    "embed --model {model} --json --lines text.txt",
    "trace --model {model} --json - De.[MASK].zat",
];

/// One short training of each kind; later ones may start from an earlier one's model.
const CASES: &[Case] = &[
    Case {
        name: "nanogpt-cpu",
        recipe: "nanogpt-cpu",
        set: &["train.steps=60"],
        ask: &[
            "generate --model {model} --temperature 0 --max-tokens 100 --json --prompt ROMEO:",
            "trace --model {model} --json - ROMEO:",
        ],
    },
    Case {
        name: "shakespeare-char, Muon",
        recipe: "shakespeare-char",
        set: &["train.steps=20", "train.optimizer=\"muon\""],
        ask: &["generate --model {model} --temperature 0 --max-tokens 100 --json --prompt ROMEO:"],
    },
    Case {
        name: "dutch-bpe",
        recipe: "dutch-bpe",
        set: &["train.steps=20"],
        ask: CAUSAL,
    },
    Case {
        name: "dutch-mlm",
        recipe: "dutch-mlm",
        set: &["train.steps=30"],
        ask: MASKED,
    },
    Case {
        name: "bert, spans",
        recipe: "dutch-mlm",
        set: &[
            "train.steps=10",
            "model.preset=\"bert\"",
            "masking.unit=\"span\"",
            "train.optimizer=\"adamw\"",
            "model.dropout=0.1",
        ],
        ask: MASKED,
    },
    Case {
        name: "names",
        recipe: "names",
        set: &["train.steps=200"],
        ask: &["generate --model {model} --temperature 0 --max-tokens 100 --json --prompt a"],
    },
    Case {
        name: "lstm",
        recipe: "names",
        set: &[
            "train.steps=40",
            "model.preset=\"lstm\"",
            "train.optimizer=\"adamw\"",
            "model.dropout=0.1",
        ],
        ask: &[
            "generate --model {model} --temperature 0 --max-tokens 100 --json --prompt a",
            "trace --model {model} --json - anna",
        ],
    },
    Case {
        name: "dropout",
        recipe: "nanogpt-cpu",
        set: &["train.steps=30", "model.dropout=0.2"],
        ask: &[],
    },
    Case {
        name: "accumulation of 3",
        recipe: "nanogpt-cpu",
        set: &["train.steps=20", "train.accumulation=3"],
        ask: &[],
    },
    Case {
        name: "sliding window",
        recipe: "dutch-bpe",
        set: &[
            "train.steps=15",
            "model.window=12",
            "model.global_every=2",
            "model.n_kv_heads=1",
        ],
        ask: CAUSAL,
    },
    Case {
        name: "gpt2, alibi, untied, softcaps",
        recipe: "dutch-bpe",
        set: &[
            "train.steps=10",
            "model.preset=\"gpt2\"",
            "model.position=\"alibi\"",
            "model.tie_embeddings=false",
            "model.logit_softcap=30",
            "model.attention_softcap=20",
        ],
        ask: CAUSAL,
    },
    Case {
        name: "sinusoidal, post-norm, gelu",
        recipe: "dutch-bpe",
        set: &[
            "train.steps=10",
            "model.preset=\"gpt2\"",
            "model.position=\"sinusoidal\"",
            "model.norm_place=\"post\"",
            "model.activation=\"geglu\"",
        ],
        ask: &["eval --model {model} --json --text text.txt"],
    },
    Case {
        name: "init_from",
        recipe: "dutch-bpe",
        set: &["train.steps=10", "train.init_from=\"dutch-bpe\""],
        ask: &[],
    },
    Case {
        name: "prompts with completions",
        recipe: "prompts.toml",
        set: &[],
        ask: &["generate --model {model} --temperature 0 --max-tokens 20 --json --prompt Dag!"],
    },
];

/// A recipe that starts from dutch-bpe and computes the loss only on completions.
const PROMPTS_RECIPE: &str = r#"
[data]
conversations = "prompts.jsonl"
validation_fraction = 0.0

[train]
init_from = "dutch-bpe"
steps = 20
batch_size = 2
block_size = 128
lr = 1e-3

[sample]
prompts = ["Dag!"]
max_tokens = 10
temperature = 0.0
"#;

/// Runs every case with both programs, prints the table, and fails if anything differs.
pub fn equal(workspace: &Workspace, arguments: &Equal) -> Result<()> {
    let home = workspace.metadata()?.target_directory.join("equal");
    let pair = match (&arguments.before, &arguments.after, &arguments.revision) {
        (Some(before), Some(after), _) => Pair {
            before: std::path::absolute(before)?,
            after: std::path::absolute(after)?,
        },
        (_, _, Some(revision)) => Pair::build(workspace, revision, &home)?,
        _ => bail!("name a commit to compare with"),
    };
    let mut table = String::from("| case | threads | weights, BLAKE3 | compared | equal |\n|---|---|---|---|---|\n");
    let mut differing = Vec::new();
    for threads in [2, 1] {
        let before = Side::new(&pair.before, home.join(format!("before-{threads}")), threads)?;
        let after = Side::new(&pair.after, home.join(format!("after-{threads}")), threads)?;
        for case in CASES {
            // Cases from which chosen ones start are also needed.
            let is_base = case.name == "dutch-bpe";
            if arguments
                .filter
                .as_ref()
                .is_some_and(|part| !case.name.contains(part.as_str()) && !is_base)
            {
                continue;
            }
            let (was, is) = (before.measure(case)?, after.measure(case)?);
            let other: Vec<&str> = is
                .iter()
                .filter(|(what, value)| was.get(*what) != Some(*value))
                .map(|(what, _)| what.as_str())
                .chain(was.keys().filter(|what| !is.contains_key(*what)).map(String::as_str))
                .collect();
            let weights = was.get(WEIGHTS).map_or("none", |hash| &hash[..hash.len().min(16)]);
            let verdict = if other.is_empty() {
                "yes".to_owned()
            } else {
                format!("NO: {}", other.join(", "))
            };
            let row = format!("| {} | {threads} | {weights} | {} | {verdict} |", case.name, was.len());
            eprintln!("{row}");
            writeln!(table, "{row}")?;
            if !other.is_empty() {
                differing.push(format!("{} ({threads} threads)", case.name));
            }
        }
    }
    print!("{table}");
    ensure!(
        differing.is_empty(),
        "not equal: {}; the output of each program is in {}",
        differing.join(", "),
        home.display()
    );
    Ok(())
}

const WEIGHTS: &str = "model/model.safetensors";

/// One of the two programs, with its folder.
struct Side<'a> {
    taal: &'a Path,
    folder: PathBuf,
    threads: usize,
}

impl<'a> Side<'a> {
    fn new(taal: &'a Path, folder: PathBuf, threads: usize) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
        }
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        for (name, text) in FILES.into_iter().chain([("prompts.toml", PROMPTS_RECIPE)]) {
            fs::write(folder.join(name), text).with_context(|| format!("cannot write {name}"))?;
        }
        Ok(Self { taal, folder, threads })
    }

    /// The results of a case: a digest of each file and output, by name.
    fn measure(&self, case: &Case) -> Result<BTreeMap<String, String>> {
        let run_dir = case.name.replace([',', ' '], "_");
        let mut train = vec!["train", "--recipe", case.recipe, "--run-dir", &run_dir];
        case.set.iter().for_each(|set| train.extend(["--set", set]));
        self.taal(&train)?;
        let mut found = BTreeMap::new();
        let last = self.last_checkpoint(&run_dir)?;
        for file in [WEIGHTS, "optimizer.safetensors"] {
            let path = last.join(file);
            let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            found.insert(file.to_owned(), blake3::hash(&bytes).to_hex().to_string());
        }
        found.insert("losses".to_owned(), self.losses(&run_dir)?);
        for line in case.ask {
            let words: Vec<String> = line
                .split(' ')
                .map(|word| match word {
                    "{model}" => run_dir.clone(),
                    // The words of a text are joined by dots, since spaces separate arguments.
                    word if word.contains('.') && !word.contains(".t") && !word.contains(".j") => {
                        word.replace('.', " ")
                    }
                    word => word.to_owned(),
                })
                .collect();
            // The last argument of `--prompt` may be empty.
            let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
            if words.last() == Some(&"--prompt") {
                words.push("");
            }
            let answer = self.taal(&words)?;
            found.insert(
                (*line).replace("{model} ", ""),
                blake3::hash(&without_times(&answer)?).to_hex().to_string(),
            );
        }
        Ok(found)
    }

    /// Runs the program in this side's folder and returns its output.
    fn taal(&self, arguments: &[&str]) -> Result<Vec<u8>> {
        let mut command = Command::new(self.taal);
        command
            .current_dir(&self.folder)
            .args(arguments)
            .env("RAYON_NUM_THREADS", self.threads.to_string())
            .stderr(Stdio::piped());
        show(&command);
        let output = command
            .output()
            .with_context(|| format!("cannot run {}", self.taal.display()))?;
        ensure!(
            output.status.success(),
            "{}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(output.stdout)
    }

    fn last_checkpoint(&self, run_dir: &str) -> Result<PathBuf> {
        let folder = self.folder.join(run_dir).join("checkpoints");
        let entries = folder
            .read_dir()
            .with_context(|| format!("cannot list {}", folder.display()))?;
        let mut names: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        names.sort();
        let is_step = |path: &PathBuf| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("step-"))
        };
        let last = names.into_iter().rfind(is_step);
        last.with_context(|| format!("{}: no checkpoint", folder.display()))
    }

    /// A digest of every loss and gradient norm of log.jsonl.
    fn losses(&self, run_dir: &str) -> Result<String> {
        let path = self.folder.join(run_dir).join("log.jsonl");
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(blake3::hash(&without_times(&text)?).to_hex().to_string())
    }
}

/// JSON or JSON Lines without values that depend on time or the machine, and without the paths of the two folders.
fn without_times(answer: &[u8]) -> Result<Vec<u8>> {
    let values = serde_json::Deserializer::from_slice(answer).into_iter::<Value>();
    let mut kept = String::new();
    for value in values {
        let mut value = value.context("the answer is not JSON")?;
        forget_times(&mut value);
        writeln!(kept, "{value}")?;
    }
    Ok(kept.into_bytes())
}

fn forget_times(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|key, _| !is_of_the_machine(key));
            object.values_mut().for_each(forget_times);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_times),
        _ => (),
    }
}

/// Times, memory and energy differ from run to run.
fn is_of_the_machine(key: &str) -> bool {
    const KEYS: [&str; 7] = ["mfu", "time", "energy", "ledger", "forecast", "version", "commit"];
    const ENDINGS: [&str; 6] = ["_s", "_j", "_ms", "_seconds", "_rss_bytes", "_time"];
    KEYS.contains(&key) || ENDINGS.iter().any(|ending| key.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_not_compared_and_everything_else_is() {
        let was =
            without_times(br#"{"loss": 1.25, "tokens_per_s": 10.0, "steps": [{"step_ms": 3, "grad_norm": 0.5}]}"#)
                .unwrap();
        let same =
            without_times(br#"{"loss": 1.25, "tokens_per_s": 99.0, "steps": [{"step_ms": 4, "grad_norm": 0.5}]}"#)
                .unwrap();
        let other =
            without_times(br#"{"loss": 1.25, "tokens_per_s": 10.0, "steps": [{"step_ms": 3, "grad_norm": 0.6}]}"#)
                .unwrap();
        assert_eq!(was, same);
        assert_ne!(was, other);
    }
}
