//! Ways out that only the command line can name: which flag or verb helps after an error of a library, and what was
//! probably meant by a word that clap does not know.

use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use taal_data::DataError;
use taal_exchange::ExchangeError;
use taal_inference::{InferenceError, MissingModel};
use taal_kernels::KernelError;
use taal_trainer::TrainError;

use crate::terminal;

/// No more models than this are listed.
const MAX_LISTED: usize = 8;

/// What to type after an error of a library, where the command line has something to add.
pub fn of_error(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(of_cause)
}

fn of_cause(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    // Errors that show their inner one as themselves are not in the chain of causes twice, so each is looked into.
    let found = error.downcast_ref().and_then(of_train);
    let found = found.or_else(|| error.downcast_ref().and_then(of_exchange));
    let found = found.or_else(|| error.downcast_ref().and_then(of_inference));
    let found = found.or_else(|| error.downcast_ref().and_then(of_data));
    found.or_else(|| error.downcast_ref().and_then(of_kernel))
}

fn of_train(error: &TrainError) -> Option<String> {
    match error {
        TrainError::UnknownKey { .. } => Some("`taal recipes keys` lists every key with its meaning".to_string()),
        TrainError::NoSuchRecipe { .. } => Some("`taal recipes` lists the recipes that come along".to_string()),
        TrainError::Occupied { is_run: true, .. } => {
            Some("add --resume to continue it, or choose another --run-dir".to_string())
        }
        TrainError::Occupied { is_run: false, .. } => Some("choose another --run-dir".to_string()),
        TrainError::NothingToResume { .. } => {
            Some("name a run with --run-dir, or leave --resume out to start a new run".to_string())
        }
        TrainError::Inference(error) => of_inference(error),
        TrainError::Kernel(error) => of_kernel(error),
        TrainError::Data(error) => of_data(error),
        _ => None,
    }
}

fn of_exchange(error: &ExchangeError) -> Option<String> {
    match error {
        ExchangeError::ForeignTokenizer { .. } => {
            Some("--tokenizer FILE names another tokenizer, --without-tokenizer imports the model alone".to_string())
        }
        ExchangeError::Inference(error) => of_inference(error),
        _ => None,
    }
}

fn of_data(error: &DataError) -> Option<String> {
    match error {
        DataError::Shard { .. } | DataError::Index { .. } => {
            Some("`taal data build` makes shards from the texts".to_string())
        }
        _ => None,
    }
}

fn of_inference(error: &InferenceError) -> Option<String> {
    match error {
        InferenceError::NoModel { dir } => {
            let name = terminal::shell_word(&dir.display().to_string());
            match dir.extension().and_then(|extension| extension.to_str()) {
                // Verbs that ask a model open a GGUF file; training needs a directory with weights that are not rounded.
                Some("gguf") => Some(format!(
                    "`taal import --from {name} --weights f32 --out DIR` turns it into a model directory"
                )),
                Some("safetensors" | "bin") => Some(format!(
                    "`taal import --from {name} --out DIR` turns another program's model into a model directory"
                )),
                _ => models_near(Some(dir)),
            }
        }
        InferenceError::NoModelYet { dir, why } => match why {
            MissingModel::DanglingLink { .. } => Some("`taal export --to hf` writes a model without links".to_string()),
            MissingModel::NotSaved => Some(format!(
                "unless it is training now, continue it with: taal train --resume --run-dir {}",
                terminal::shell_word(&dir.display().to_string())
            )),
            MissingModel::NotBegun => Some("start it again with `taal train`".to_string()),
            MissingModel::NoSuchPath => models_near(Some(dir)),
        },
        InferenceError::EmptyPrompt { .. } => {
            Some("a new text can begin with a line break: --prompt $'\\n' (in PowerShell, --prompt \"`n\")".to_string())
        }
        InferenceError::Device { .. } => Some("--device flex computes on the CPU".to_string()),
        _ => None,
    }
}

fn of_kernel(error: &KernelError) -> Option<String> {
    Some(match error {
        KernelError::NotCompiled { device, feature } => format!(
            "build it with `cargo xtask train --device {device}` or `cargo build --release -p taal-cli --features {feature}`, or use \
             --device flex"
        ),
        KernelError::NoAdapter => "--device flex computes on the CPU".to_string(),
        KernelError::NoSuchAdapter { .. } => {
            "`taal doctor` lists the devices of this machine; --device flex computes on the CPU".to_string()
        }
        KernelError::UnknownDevice { .. } => "`taal doctor` lists the devices of this machine".to_string(),
        KernelError::UnknownPrecision { .. } => "--precision fp32 works everywhere".to_string(),
        KernelError::Quantize { .. } => return None,
    })
}

/// The models that are there: in `runs`, in `models`, and one level below the directory that was named, or the current one.
pub fn models_near(named: Option<&Path>) -> Option<String> {
    let mut found: Vec<PathBuf> = Vec::new();
    let here = Path::new("");
    for place in [named.unwrap_or(here), Path::new("runs"), Path::new("models"), here] {
        for path in entries(place) {
            if !found.contains(&path) && has_model(&path) {
                found.push(path);
            }
        }
    }
    if found.is_empty() {
        return None;
    }
    let names = found.iter().take(MAX_LISTED);
    let names: Vec<String> = names
        .map(|path| terminal::shell_word(&path.display().to_string()))
        .collect();
    let more = match found.len().checked_sub(MAX_LISTED) {
        None | Some(0) => String::new(),
        Some(more) => format!(" and {more} more"),
    };
    Some(format!("models that are there: {}{more}", names.join(", ")))
}

/// What is in a directory, by paths that begin as its own; the current one by names alone.
fn entries(dir: &Path) -> Vec<PathBuf> {
    let listed = match dir.as_os_str().is_empty() {
        true => Path::new("."),
        false => dir,
    };
    let names = taal_store::list_paths(listed).unwrap_or_default();
    names
        .iter()
        .filter_map(|path| Some(dir.join(path.file_name()?)))
        .collect()
}

fn has_model(dir: &Path) -> bool {
    let config = Path::new("config.json");
    taal_store::exists(&dir.join(config)) || taal_store::exists(&dir.join("model").join(config))
}

/// What other programs, or habit, call a verb.
const VERBS: [(&[&str], &str); 16] = [
    (&["talk", "converse", "repl"], "taal chat DIR"),
    (
        &["run", "sample", "predict", "complete", "prompt", "infer"],
        "taal generate DIR PROMPT",
    ),
    (&["fit", "learn", "pretrain"], "taal train"),
    (&["fine-tune", "tune", "sft"], "taal finetune --model DIR --recipe FILE"),
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
        &["prepare", "dataset", "shards"],
        "taal data build --tokenizer DIR --out shards FILE",
    ),
    (
        &["download", "pull", "get"],
        "taal import --from FILE --out DIR; Taal itself downloads nothing",
    ),
];

/// What other programs, or habit, call an option: the verb, the words, and what to type. A verb of `""` is any.
const OPTIONS: [(&str, &[&str], &str); 14] = [
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
        &["--model", "-m", "--init-from", "--from", "--checkpoint", "--weights"],
        "taal finetune --model DIR --recipe FILE, or --set train.init_from=DIR",
    ),
    (
        "generate",
        &["--length", "--tokens", "--max-length", "--n-predict", "-n", "-l"],
        "--max-tokens N",
    ),
    ("generate", &["--text", "--input", "-i"], "--prompt TEXT"),
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
        ErrorKind::UnknownArgument => meant_option(verb, word(ContextKind::InvalidArg)?, typed),
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

fn meant_subcommand(verb: &str, word: &str) -> Option<String> {
    match verb {
        "recipes" => Some(format!("taal recipes show {}", terminal::shell_word(word))),
        _ => None,
    }
}

fn meant_option(verb: &str, option: &str, typed: &[String]) -> Option<String> {
    let known = OPTIONS.iter().find(|(of, words, meant)| {
        words.contains(&option) && (*of == verb || (of.is_empty() && has_option(typed, meant)))
    });
    if let Some((_, _, meant)) = known {
        return Some((*meant).to_string());
    }
    if verb != "train" || !option.starts_with("--") {
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

/// Whether the verb that was typed has the option with which a text begins.
fn has_option(typed: &[String], meant: &str) -> bool {
    let all = crate::arguments::command();
    let mut command = &all;
    for word in typed.iter().skip(1) {
        match command.find_subcommand(word) {
            Some(verb) => command = verb,
            None => break,
        }
    }
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
    fn errors_of_libraries_are_followed_by_flags() {
        let path = PathBuf::from("model.gguf");
        let tokenizer = ExchangeError::ForeignTokenizer {
            path: path.clone(),
            detail: String::new(),
        };
        let shard = DataError::Shard {
            path: path.clone(),
            detail: String::new(),
        };
        let occupied = TrainError::Occupied {
            path: path.clone(),
            detail: String::new(),
            is_run: true,
        };
        let device = TrainError::Kernel(KernelError::NoAdapter);
        let model = TrainError::Inference(InferenceError::NoModelYet {
            dir: path,
            why: MissingModel::NotSaved,
        });
        for (error, flag) in [
            (anyhow::Error::from(tokenizer), "--without-tokenizer"),
            (shard.into(), "taal data build"),
            (occupied.into(), "--resume"),
            (device.into(), "--device flex"),
            (model.into(), "taal train --resume --run-dir model.gguf"),
        ] {
            let hint = of_error(&error);
            assert!(
                hint.as_ref().is_some_and(|hint| hint.contains(flag)),
                "{error}: {hint:?}"
            );
        }
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
    fn every_option_that_is_suggested_can_be_typed() {
        for (verb, words, meant) in OPTIONS {
            let verbs = match (verb, meant.starts_with("--out")) {
                ("", true) => "export x --to gguf",
                ("", false) if meant.starts_with("--model") => "inspect",
                ("", false) => "train",
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
