//! What was probably meant by a word that clap does not know.

use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::hints::{has_model, models_near};
use crate::terminal;

/// What other programs, or habit, call a verb.
const VERBS: [(&[&str], &str); 24] = [
    (&["talk", "converse", "repl"], "taal chat DIR"),
    (
        &["run", "sample", "predict", "complete", "prompt", "infer"],
        "taal generate DIR PROMPT",
    ),
    (&["fit", "learn", "pretrain"], "taal train"),
    (&["fine-tune", "tune", "sft"], "taal finetune --model DIR --recipe FILE"),
    (
        &["lora", "peft", "qlora", "adapt"],
        "taal finetune --model DIR --recipe FILE --set lora.rank=8",
    ),
    (
        &["dpo", "rlhf", "align"],
        "taal finetune --model DIR --recipe FILE --set train.objective=preference",
    ),
    (&["merge", "unload"], "taal adapter merge DIR --out DIR"),
    (
        &["quantize", "quantise"],
        "taal export DIR --to gguf --type q4_k_m --out FILE",
    ),
    (
        &["carbon", "footprint", "emissions", "co2", "power", "watt"],
        "taal energy estimate, or taal energy watch -- COMMAND",
    ),
    (&["ledger", "model-card", "readme"], "taal card DIR"),
    (&["gaps", "gap", "cloze"], "taal eval DIR --gaps FILE"),
    (&["receipt", "verify", "reproduce"], "taal replay FILE --model DIR"),
    (&["resume", "continue"], "taal train --resume"),
    (
        &["evaluate", "test", "score", "perplexity", "ppl", "validate"],
        "taal eval DIR FILE",
    ),
    (&["tokenize", "encode"], "taal tokenizer encode --tokenizer DIR TEXT"),
    (&["decode", "detokenize"], "taal tokenizer decode --tokenizer DIR IDS"),
    (
        &["convert"],
        "taal import --from FILE --out DIR, or taal export DIR --to FORMAT --out FILE",
    ),
    (&["info", "show", "summary", "model", "describe"], "taal inspect DIR"),
    (&["list", "ls", "recipe", "presets"], "taal recipes"),
    (
        &["explain", "visualize", "attention", "look", "debug"],
        "taal trace DIR TEXT --html page.html",
    ),
    (&["benchmark", "speed", "time"], "taal bench train"),
    (&["devices", "device", "gpu", "check", "system"], "taal doctor"),
    (
        &["prepare", "dataset", "shards", "preview"],
        "taal data preview --recipe FILE, or taal data build --tokenizer DIR --out shards FILE",
    ),
    (
        &["download", "pull", "get"],
        "taal import --from FILE --out DIR; Taal itself downloads nothing",
    ),
];

/// The same of the verbs below a verb.
const SUBCOMMANDS: [(&str, &[&str], &str); 13] = [
    (
        "adapter",
        &["apply", "use", "load", "run"],
        "taal generate --model DIR --adapter DIR --prompt TEXT",
    ),
    (
        "adapter",
        &["train", "new", "create", "make"],
        "taal finetune --model DIR --recipe FILE --set lora.rank=8",
    ),
    ("adapter", &["show", "info", "inspect", "ls"], "taal adapter list DIR"),
    (
        "adapter",
        &["export", "convert", "fuse"],
        "taal adapter merge DIR --to gguf --out FILE",
    ),
    ("adapter", &["compare"], "taal adapter diff DIR DIR"),
    ("bench", &["finetune", "tune", "lora"], "taal bench train --lora 8"),
    (
        "bench",
        &["inference", "decode", "prompt", "model"],
        "taal bench generate --model DIR",
    ),
    (
        "bench",
        &["energy", "power", "carbon"],
        "taal bench green, or taal bench meter",
    ),
    ("bench", &["server", "http", "api"], "taal bench serve --model DIR"),
    (
        "data",
        &["show", "head", "view", "inspect", "look"],
        "taal data preview --recipe FILE",
    ),
    (
        "data",
        &["prepare", "tokenize", "shards", "make"],
        "taal data build --tokenizer DIR --out shards FILE",
    ),
    ("energy", &["measure", "meter", "run"], "taal energy watch -- COMMAND"),
    (
        "energy",
        &["status", "show", "grid", "settings"],
        "taal energy calibrate",
    ),
];

/// What other programs, or habit, call an option: the verb, the words, and what to type. A verb of `""` is any.
const OPTIONS: [(&str, &[&str], &str); 36] = [
    ("train", &["--config", "--file", "-c", "-r"], "--recipe FILE"),
    (
        "train",
        &["--data", "--text", "--input", "--dataset", "--corpus", "-i"],
        "--set 'data.files=[\"my.txt\"]'",
    ),
    (
        "train",
        &["--out", "--output", "--dir", "--name", "-o"],
        "--run-dir DIR",
    ),
    ("train", &["--continue"], "--resume"),
    (
        "train",
        &["--model", "-m", "--init-from", "--from", "--checkpoint"],
        "taal finetune --model DIR --recipe FILE, or --set train.init_from=DIR",
    ),
    (
        "train",
        &["--weights"],
        "--set train.precision=bf16, or taal finetune --model DIR --recipe FILE",
    ),
    ("finetune", &["--weights"], "--set train.precision=bf16"),
    (
        "bench",
        &["--weights", "--cache"],
        "taal bench generate --weights q8_0, or taal bench train --precision bf16",
    ),
    (
        "generate",
        &["--length", "--tokens", "--max-length", "--n-predict", "-n", "-l"],
        "--max-tokens N",
    ),
    ("generate", &["--text", "--input", "-i"], "--prompt TEXT"),
    (
        "train",
        &["--lora", "--rank", "--lora-rank"],
        "taal finetune --model DIR --recipe FILE --set lora.rank=8",
    ),
    ("train", &["--epochs", "--num-epochs"], "--set train.steps=1000"),
    (
        "finetune",
        &[
            "--base",
            "--from",
            "--init-from",
            "--checkpoint",
            "--config",
            "--file",
            "-c",
            "-r",
        ],
        "taal finetune --model DIR --recipe FILE",
    ),
    (
        "finetune",
        &["--data", "--dataset", "--text", "--input", "-i"],
        "--set data.conversations=my.jsonl",
    ),
    ("finetune", &["--lora", "--rank", "--lora-rank"], "--set lora.rank=8"),
    ("finetune", &["--freeze"], "--set 'train.freeze=[\"blocks.0\"]'"),
    ("finetune", &["--epochs", "--num-epochs"], "--set train.steps=1000"),
    (
        "finetune",
        &["--out", "--output", "--dir", "--name", "-o"],
        "--run-dir DIR",
    ),
    (
        "finetune",
        &["--resume", "--continue"],
        "taal train --resume --run-dir DIR",
    ),
    ("eval", &["--file", "--data", "--input", "-t", "-f"], "--text FILE"),
    ("eval", &["--cloze", "--mask"], "--gaps FILE"),
    ("eval", &["--metric", "--metrics"], "--task FILE"),
    ("card", &["--out", "--output", "-o"], "--print"),
    ("adapter", &["--base"], "--model DIR"),
    ("adapter", &["--format", "-f"], "--to FORMAT"),
    ("data", &["--limit", "--count", "--head"], "-n N"),
    ("energy", &["--country", "--region", "--location"], "--grid COUNTRY"),
    ("generate", &["--lora", "--peft"], "--adapter DIR"),
    ("generate", &["--grammar"], "--lark FILE"),
    ("generate", &["-t", "--temp"], "--temperature T"),
    ("generate", &["-k"], "--top-k K"),
    ("generate", &["-s"], "--seed S"),
    ("", &["--gpu", "--cuda", "--wgpu", "--metal"], "--device wgpu"),
    ("", &["--cpu"], "--device cpu"),
    ("", &["--checkpoint", "--run"], "--model DIR"),
    ("", &["--output", "--file"], "--out FILE"),
];

/// What was probably meant where clap refuses a word of the command line.
pub fn of_usage(error: &clap::Error, typed: &[String]) -> Option<String> {
    let word = |kind| match error.get(kind) {
        Some(ContextValue::String(word)) => Some(word.as_str()),
        _ => None,
    };
    let verb = typed.get(1).map_or("", String::as_str);
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let word = word(ContextKind::InvalidSubcommand)?;
            match typed.get(1).is_some_and(|verb| verb == word) {
                true => meant_verb(word),
                false => meant_subcommand(verb, word),
            }
        }
        ErrorKind::UnknownArgument => match word(ContextKind::InvalidArg)? {
            option if option.starts_with('-') => meant_option(verb, option, typed),
            word => meant_word(&verbs(typed), word),
        },
        ErrorKind::MissingRequiredArgument => match error.get(ContextKind::InvalidArg) {
            Some(ContextValue::Strings(missing)) => what_is_there(missing),
            _ => None,
        },
        ErrorKind::ValueValidation if word(ContextKind::InvalidArg)?.starts_with("--device") => {
            Some("`taal doctor` lists the devices of this machine".to_string())
        }
        _ => None,
    }
}

fn meant_verb(word: &str) -> Option<String> {
    let path = Path::new(word);
    let name = terminal::shell_word(word);
    if word.ends_with(".toml") {
        return Some(format!("taal train {name}"));
    }
    if has_model(path) {
        return Some(format!("taal generate {name} PROMPT"));
    }
    let known = VERBS.iter().find(|(words, _)| words.contains(&word))?;
    Some(known.1.to_string())
}

/// What was meant by the word after `taal runs`, which takes the name of a directory there.
pub fn of_runs(word: &Path) -> Option<&'static str> {
    match word.to_str()? {
        "list" | "ls" | "show" => Some("taal runs"),
        "diff" => Some("taal runs compare RUN RUN"),
        "rm" | "remove" | "delete" | "prune" => Some("taal runs clean"),
        _ => None,
    }
}

fn meant_subcommand(verb: &str, word: &str) -> Option<String> {
    let name = terminal::shell_word(word);
    let known = SUBCOMMANDS
        .iter()
        .find(|(of, words, _)| *of == verb && words.contains(&word));
    if let Some((_, _, meant)) = known {
        return Some((*meant).to_string());
    }
    match verb {
        "recipes" => Some(format!("taal recipes show {name}")),
        "adapter" if taal_store::exists(Path::new(word)) => Some(format!("taal adapter list {name}")),
        "bench" if has_model(Path::new(word)) => Some(format!("taal bench generate --model {name}")),
        "data" if word.ends_with(".toml") => Some(format!("taal data preview --recipe {name}")),
        "energy" => Some(format!(
            "a program to meter follows `watch --`: taal energy watch -- {name}"
        )),
        _ => None,
    }
}

/// The option that a word should follow, for verbs that take none.
fn meant_word(verbs: &str, word: &str) -> Option<String> {
    let is_recipe = word.ends_with(".toml");
    let word = terminal::shell_word(word);
    Some(match (verbs, is_recipe) {
        ("finetune", false) => format!("taal finetune --model {word} --recipe FILE"),
        ("finetune", true) => format!("taal finetune --model DIR --recipe {word}"),
        ("replay", _) => format!("taal replay RECEIPT --model {word}"),
        ("serve" | "bench generate" | "bench serve", _) => format!("taal {verbs} --model {word}"),
        ("bench transfer", false) => format!("taal bench transfer --model {word} --task RECIPE"),
        ("bench transfer", true) => format!("taal bench transfer --model RUN --task {word}"),
        ("data preview" | "bench paradigm" | "bench green", _) => format!("taal {verbs} --recipe {word}"),
        ("bench speedrun", _) => format!("another program follows `--`: taal bench speedrun -- {word}"),
        ("bench train", _) => {
            format!("taal bench train times shapes that are known; taal train --recipe {word} --dry-run times a recipe")
        }
        _ => return None,
    })
}

/// What there is of the things that were not named.
fn what_is_there(missing: &[String]) -> Option<String> {
    let lacks = |name: &str| missing.iter().any(|argument| argument.contains(name));
    if lacks("--model") {
        return models_near(None);
    }
    lacks("--recipe")
        .then(|| "`taal recipes` lists the recipes that come along; a TOML file is one of your own".to_string())
}

fn meant_option(verb: &str, option: &str, typed: &[String]) -> Option<String> {
    let known = OPTIONS.iter().find(|(of, words, meant)| {
        words.contains(&option) && (*of == verb || (of.is_empty() && has_option(typed, meant)))
    });
    if let Some((_, _, meant)) = known {
        return Some((*meant).to_string());
    }
    if !["train", "finetune"].contains(&verb) || !option.starts_with("--") {
        return None;
    }
    // The keys of a recipe are not options of their own: `--steps 10`, `--steps=10`.
    let key = taal_trainer::nearest_keys(option.trim_start_matches('-'))
        .into_iter()
        .next()?;
    let value = typed
        .iter()
        .enumerate()
        .find_map(|(index, word)| match word.split_once('=') {
            Some((name, value)) if name == option => Some(value),
            None if word == option => typed.get(index + 1).map(String::as_str),
            _ => None,
        });
    let value = value.filter(|value| !value.starts_with("--")).unwrap_or("VALUE");
    Some(format!(
        "keys of a recipe follow --set: --set {}",
        terminal::shell_word(&format!("{key}={value}"))
    ))
}

/// The verbs that were typed, as in `bench train`.
fn verbs(typed: &[String]) -> String {
    let all = crate::arguments::command();
    let (_, names) = verb_of(&all, typed);
    names.join(" ")
}

/// The verb that was typed, and the names on the way to it.
fn verb_of<'c>(all: &'c clap::Command, typed: &'c [String]) -> (&'c clap::Command, Vec<&'c str>) {
    let mut command = all;
    let mut names = Vec::new();
    for word in typed.iter().skip(1) {
        match command.find_subcommand(word) {
            Some(verb) => {
                command = verb;
                names.push(word.as_str());
            }
            None => break,
        }
    }
    (command, names)
}

/// Whether the verb that was typed has the option with which a text begins.
fn has_option(typed: &[String], meant: &str) -> bool {
    let all = crate::arguments::command();
    let (command, _) = verb_of(&all, typed);
    let name = meant.trim_start_matches('-').split(' ').next();
    command.get_arguments().any(|argument| argument.get_long() == name)
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;

    use super::*;

    /// What clap makes of a hint, its placeholders filled in.
    fn parses(command: &str) -> Result<(), ErrorKind> {
        let words = command
            .replace("'data.files=[\"my.txt\"]'", "data.files=my.txt")
            .replace("'train.freeze=[\"blocks.0\"]'", "train.freeze=blocks.0")
            .replace("IDS", "1")
            .replace("FORMAT", "gguf")
            .replace(" N", " 1")
            .replace(" T", " 1")
            .replace(" K", " 1")
            .replace(" S", " 1");
        let words: Vec<&str> = words.split_whitespace().collect();
        crate::arguments::command()
            .try_get_matches_from(words)
            .map(|_| ())
            .map_err(|error| error.kind())
    }

    #[test]
    fn every_verb_that_is_suggested_can_be_typed() {
        for (words, meant) in VERBS {
            for command in meant.split("; ").flat_map(|part| part.split(", or ")) {
                if command.starts_with("taal ") {
                    assert_eq!(parses(command), Ok(()), "{command}");
                }
            }
            for word in words {
                let typed = ["taal".to_string(), (*word).to_string()];
                let error = crate::arguments::command()
                    .try_get_matches_from(&typed)
                    .expect_err(word);
                assert_eq!(of_usage(&error, &typed).as_deref(), Some(meant), "{word}");
            }
        }
    }

    #[test]
    fn every_verb_below_another_that_is_suggested_can_be_typed() {
        for (verb, words, meant) in SUBCOMMANDS {
            for command in meant.split(", or ") {
                assert_eq!(parses(command), Ok(()), "{command}");
            }
            for word in words {
                let typed = ["taal", verb, *word].map(str::to_string);
                let error = crate::arguments::command()
                    .try_get_matches_from(&typed)
                    .expect_err(word);
                assert_eq!(of_usage(&error, &typed).as_deref(), Some(meant), "{verb} {word}");
            }
        }
    }

    #[test]
    fn every_option_that_is_suggested_can_be_typed() {
        for (verb, words, meant) in OPTIONS {
            let verbs = match (verb, meant.starts_with("--out")) {
                ("", true) => "export x --to gguf",
                ("", false) if meant.starts_with("--model") => "inspect",
                ("", false) => "train",
                ("finetune", _) => "finetune --model x --recipe y",
                ("adapter", _) => "adapter merge x --out y",
                ("card", _) => "card x",
                ("data", _) => "data preview --recipe x",
                ("energy", _) => "energy estimate",
                (verb, _) => verb,
            };
            for way in meant.split(", or ") {
                let line = match way.starts_with("taal ") {
                    true => way.to_string(),
                    false => format!("taal {verbs} {way}"),
                };
                assert_eq!(parses(&line), Ok(()), "{verb} {way}");
            }
            for word in words {
                let typed: Vec<String> = format!("taal {verbs} {word}").split(' ').map(String::from).collect();
                let error = crate::arguments::command()
                    .try_get_matches_from(&typed)
                    .expect_err(word);
                assert_eq!(of_usage(&error, &typed).as_deref(), Some(meant), "{verb} {word}");
            }
        }
    }
}
