//! What is typed in the first hour: what works without reading the help, and what every mistake answers.

use crate::{Place, done, stderr};

/// A place with a run in `runs/tiny` and recipes with common slips.
fn place() -> Place {
    let place = Place::new();
    done(place.taal(&["train", "tiny.toml"]));
    // A folder with the name of a built-in recipe does not hide the recipe.
    std::fs::create_dir(place.path("names")).expect("a folder");
    done(place.taal(&["train", "names", "--dry-run"]));
    std::fs::remove_dir(place.path("names")).expect("a folder");
    let tiny = place.read("tiny.toml");
    place.write("trian.toml", tiny.replace("[train]", "[trian]"));
    place.write("comma.toml", tiny.replace("steps = 6", "lr = 0,001"));
    place.write("words.toml", tiny.replace("\"char\"", "char"));
    place.write(
        "windows.toml",
        tiny.replace("\"text.txt\"", "\"C:\\Users\\me\\text.txt\""),
    );
    place.write("model.gguf", "GGUF");
    place
}

#[test]
fn what_is_typed_first_works() {
    let place = place();
    for (command, words) in [
        ("help", "Usage: taal <COMMAND>"),
        ("help train", "Usage: taal train [OPTIONS] [RECIPE]"),
        ("help embeddings plot", "Usage: taal embeddings plot"),
        ("recipes help", "Usage: taal recipes"),
        ("version", "taal 0."),
        ("recipes list", "shakespeare-char"),
        ("inspect runs/tiny", "4,752"),
        ("inspect -m runs/tiny", "4,752"),
        ("generate runs/tiny de --max-tokens 2 --device cpu", "\n"),
        ("generate -m runs/tiny -p de --max-new-tokens 2", "\n"),
        ("generate -m runs/tiny de --max-tokens 2", "\n"),
        ("generate runs/tiny --prompt-ids 1,2 --max-tokens 2", "\n"),
        ("eval runs/tiny text.txt", "bits/byte"),
        ("eval runs/tiny --text text.txt", "bits/byte"),
        ("trace runs/tiny de", "tokens"),
        ("trace --checkpoints runs/tiny de", "tokens"),
        ("embed runs/tiny de kat", "\n"),
        ("similar runs/tiny k", "\n"),
        ("export runs/tiny --to hf -o hf", "hf"),
    ] {
        let arguments: Vec<&str> = command.split(' ').collect();
        let said = done(place.taal(&arguments));
        assert!(said.contains(words), "taal {command}: no {words:?} in: {said}");
    }
    let plain = ["--temperature", "0", "--max-tokens", "5"];
    let options = done(place.taal(&[&["generate", "--model", "runs/tiny", "--prompt", "de kat"], &plain[..]].concat()));
    let words = done(place.taal(&[&["generate", "runs/tiny", "de kat"], &plain[..]].concat()));
    assert_eq!(options, words, "both forms ask the same");
}

/// What is typed after `taal`, the exit code, and the words of its message that lead on.
const MISTAKES: [(&[&str], i32, &[&str]); 50] = [
    // Verbs.
    (&["run", "runs/tiny"], 2, &["taal generate DIR PROMPT"]),
    (&["predict"], 2, &["taal generate DIR PROMPT"]),
    (&["evaluate"], 2, &["taal eval DIR FILE"]),
    (&["tokenize", "hello"], 2, &["taal tokenizer encode"]),
    (&["convert", "model.gguf"], 2, &["taal import --from FILE"]),
    (&["info", "runs/tiny"], 2, &["taal inspect DIR"]),
    (&["ls"], 2, &["taal recipes"]),
    (&["download", "gpt2"], 2, &["Taal itself downloads nothing"]),
    (&["trian"], 2, &["'trace', 'train'"]),
    (&["tiny.toml"], 2, &["taal train tiny.toml"]),
    (&["runs/tiny"], 2, &["taal generate runs/tiny PROMPT"]),
    (&["recipes", "names"], 2, &["taal recipes show names"]),
    (&["help", "nonsense"], 2, &["nonsense", "--help"]),
    // Recipes.
    (
        &["train", "shakespeare"],
        2,
        &["did you mean shakespeare-char?", "`taal recipes`"],
    ),
    (&["train", "nowhere.toml"], 2, &["nowhere.toml"]),
    (&["train", "text.txt"], 2, &["taal train --set", "text.txt"]),
    (&["train", "runs/tiny"], 2, &["taal train --resume --run-dir runs/tiny"]),
    (&["train", "steps=10"], 2, &["--set steps=10"]),
    (
        &["train", "trian.toml"],
        2,
        &["trian: unknown key; did you mean [train]?", "taal recipes keys"],
    ),
    (&["train", "comma.toml"], 2, &["decimals take a point: 0.001"]),
    (&["train", "words.toml"], 2, &["texts are in quotes: \"char\""]),
    (&["train", "windows.toml"], 2, &["put the path in single quotes"]),
    (
        &["train", "tiny.toml", "--recipe", "tiny.toml"],
        2,
        &["cannot be used with"],
    ),
    // Settings.
    (&["train", "--set", "steps=10"], 2, &["did you mean train.steps?"]),
    (&["train", "--set", "train.step=10"], 2, &["did you mean train.steps?"]),
    (&["train", "--set", "trian.steps=10"], 2, &["did you mean train.steps?"]),
    (&["train", "--set", "learning_rate=0.1"], 2, &["did you mean train.lr?"]),
    (&["train", "--set", "file=a.txt"], 2, &["tokenizer.file"]),
    (
        &["train", "--set", "train.lr=0,001"],
        2,
        &["decimals take a point: 0.001"],
    ),
    (&["train", "--set", "train.lr"], 2, &["key=value"]),
    (&["train", "--set", "train.steps", "10"], 2, &["--set train.steps=10"]),
    (&["train", "--steps", "10"], 2, &["--set train.steps=10"]),
    (&["train", "--learning-rate=0.1"], 2, &["--set train.lr=0.1"]),
    (&["train", "--data", "text.txt"], 2, &["--set 'data.files="]),
    (&["train", "--output", "here"], 2, &["--run-dir DIR"]),
    (
        &["train", "--checkpoint", "runs/tiny"],
        2,
        &["taal finetune --model DIR", "--set train.init_from=DIR"],
    ),
    (&["train", "--gpu"], 2, &["--device wgpu"]),
    (&["train", "--device", "tpu"], 2, &["expected flex", "taal doctor"]),
    // Models.
    (&["generate"], 2, &["taal generate DIR TEXT", "runs/tiny"]),
    (&["generate", "ROMEO:"], 2, &["taal generate DIR ROMEO:", "runs/tiny"]),
    (&["generate", "runs/tiny"], 2, &["taal generate runs/tiny TEXT"]),
    (
        &["generate", "runs/tiny", "de", "kat"],
        2,
        &["in quotes: taal generate runs/tiny 'de kat'"],
    ),
    (&["generate", "runs", "de"], 2, &["models that are there: runs/tiny"]),
    (&["generate", "tiny", "de"], 2, &["models that are there: runs/tiny"]),
    (
        &["generate", "-m", "missing.gguf", "-p", "de"],
        2,
        &[
            "missing.gguf: no model here: no file or directory",
            "models that are there: runs/tiny",
        ],
    ),
    (
        &["generate", "model.gguf", "de"],
        65,
        &["model.gguf: is cut off", "copy the file again"],
    ),
    (
        &["generate", "runs/tiny", "--temperature", "0,8", "-p", "de"],
        2,
        &["decimals take a point: 0.8"],
    ),
    (&["generate", "runs/tiny", "-n", "5"], 2, &["--max-tokens N"]),
    (
        &["generate", "runs/tiny", ""],
        2,
        &["a new text can begin with a line break"],
    ),
    (&["inspect"], 2, &["--model <DIR>"]),
];

#[test]
fn every_first_mistake_is_answered_with_a_way_out() {
    let place = place();
    let mut unanswered = Vec::new();
    for (arguments, code, words) in MISTAKES {
        let output = place.taal(arguments);
        let said = stderr(&output);
        let is_answered = output.status.code() == Some(code)
            && said.starts_with("error: ")
            && said.lines().filter(|line| line.starts_with("hint: ")).count() <= 1
            && words.iter().all(|word| said.contains(word));
        if !is_answered {
            unanswered.push(format!(
                "taal {}: {words:?}\n[{:?}] {said}",
                arguments.join(" "),
                output.status.code()
            ));
        }
    }
    assert!(unanswered.is_empty(), "{}", unanswered.join("\n"));
}
