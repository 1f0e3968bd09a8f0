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
const MISTAKES: [(&[&str], i32, &[&str]); 112] = [
    // Verbs.
    (&["run", "runs/tiny"], 2, &["taal generate DIR PROMPT"]),
    (&["predict"], 2, &["taal generate DIR PROMPT"]),
    (&["evaluate"], 2, &["taal eval DIR FILE"]),
    (&["tokenize", "hello"], 2, &["taal tokenizer encode"]),
    (&["convert", "model.gguf"], 2, &["taal import --from FILE"]),
    (&["info", "runs/tiny"], 2, &["taal inspect DIR"]),
    (&["ls"], 2, &["taal recipes"]),
    (&["download", "gpt2"], 2, &["Taal itself downloads nothing"]),
    (&["trian"], 2, &["'trace', 'translate', 'train'"]),
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
    (
        &["train", "--weights", "q8_0"],
        2,
        &["--set train.precision=bf16", "taal finetune --model DIR"],
    ),
    (&["finetune", "--weights", "f16"], 2, &["--set train.precision=bf16"]),
    (&["bench", "train", "--weights", "q8_0"], 2, &["taal bench generate"]),
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
    // Fine-tuning and adapters.
    (
        &["finetune", "runs/tiny"],
        2,
        &["taal finetune --model runs/tiny --recipe FILE"],
    ),
    (
        &["finetune", "tiny.toml"],
        2,
        &["taal finetune --model DIR --recipe tiny.toml"],
    ),
    (
        &["finetune", "--model", "runs/tiny"],
        2,
        &["--recipe <NAME|FILE>", "`taal recipes` lists"],
    ),
    (
        &["finetune", "--recipe", "tiny.toml"],
        2,
        &["--model <DIR>", "models that are there: runs/tiny"],
    ),
    (
        &["finetune", "-m", "runs/tiny", "--recipe", "tiny.toml", "--lora", "8"],
        2,
        &["--set lora.rank=8"],
    ),
    (
        &[
            "finetune",
            "-m",
            "runs/tiny",
            "--recipe",
            "tiny.toml",
            "--set",
            "lora.r=8",
        ],
        2,
        &["lora.r: unknown key", "`rank`"],
    ),
    (
        &["finetune", "-m", "runs/tiny", "--recipe", "tiny.toml", "--epochs", "3"],
        2,
        &["--set train.steps=1000"],
    ),
    (
        &["finetune", "-m", "runs/tiny", "--recipe", "tiny.toml", "--steps", "3"],
        2,
        &["--set train.steps=3"],
    ),
    (
        &[
            "finetune",
            "-m",
            "runs/tiny",
            "--recipe",
            "tiny.toml",
            "--data",
            "rows.jsonl",
        ],
        2,
        &["--set data.conversations=my.jsonl"],
    ),
    (
        &["finetune", "-m", "runs/tiny", "--recipe", "tiny.toml", "--resume"],
        2,
        &["taal train --resume --run-dir DIR"],
    ),
    (
        &[
            "finetune",
            "-m",
            "runs/tiny",
            "--recipe",
            "tiny.toml",
            "--forget-budget",
            "0,02",
        ],
        2,
        &["decimals take a point: 0.02"],
    ),
    (
        &["train", "--lora", "8"],
        2,
        &["taal finetune --model DIR --recipe FILE --set lora.rank=8"],
    ),
    (
        &["lora"],
        2,
        &["taal finetune --model DIR --recipe FILE --set lora.rank=8"],
    ),
    (&["merge", "runs/tiny"], 2, &["taal adapter merge DIR --out DIR"]),
    (
        &["quantize", "model.gguf"],
        2,
        &["taal export DIR --to gguf --type q4_k_m"],
    ),
    (&["adapter", "runs/tiny"], 2, &["taal adapter list runs/tiny"]),
    (
        &["adapter", "apply", "runs/tiny"],
        2,
        &["taal generate --model DIR --adapter DIR"],
    ),
    (
        &["adapter", "list", "nowhere"],
        2,
        &["nowhere: no such file or directory"],
    ),
    (&["adapter", "merge", "runs/tiny"], 2, &["--out <PATH>"]),
    (
        &["adapter", "merge", "runs/tiny", "--out", "m"],
        2,
        &["runs/tiny: no adapter here", "lora.rank"],
    ),
    (
        &["adapter", "diff", "runs/tiny"],
        2,
        &["runs/tiny: no adapter here", "lora.rank"],
    ),
    (&["generate", "runs/tiny", "de", "--lora", "a"], 2, &["--adapter DIR"]),
    (
        &["generate", "runs/tiny", "de", "--adapter", "runs/tiny"],
        2,
        &["runs/tiny: no adapter here"],
    ),
    // Cards, receipts and gaps.
    (&["ledger", "runs/tiny"], 2, &["taal card DIR"]),
    (&["card"], 2, &["--model <DIR>", "models that are there: runs/tiny"]),
    (
        &["card", "nowhere"],
        2,
        &["nowhere: no model here", "models that are there: runs/tiny"],
    ),
    (
        &["card", "model.gguf"],
        2,
        &["a card goes into a model directory", "taal export"],
    ),
    (&["card", "runs/tiny", "--out", "card.md"], 2, &["hint: --print"]),
    (
        &["replay", "receipt.json"],
        2,
        &["--model <DIR>", "models that are there: runs/tiny"],
    ),
    (
        &["replay", "receipt.json", "runs/tiny"],
        2,
        &["taal replay RECEIPT --model runs/tiny"],
    ),
    (
        &["replay", "none.json", "-m", "runs/tiny"],
        2,
        &["none.json: no such file", "--receipt FILE"],
    ),
    (
        &["replay", "text.txt", "-m", "runs/tiny"],
        65,
        &["text.txt: not a receipt", "--receipt FILE"],
    ),
    (
        &["eval", "runs/tiny", "--gaps", "nowhere"],
        2,
        &["nowhere: no such file", "--gaps dutch"],
    ),
    (
        &["eval", "runs/tiny", "--gaps", "text.txt"],
        65,
        &["text.txt: line 1", "a tab"],
    ),
    (
        &["eval", "runs/tiny", "text.txt", "--gaps", "dutch"],
        2,
        &["\"text.txt\" is a text to score", "leave one of them out"],
    ),
    (
        &["eval", "runs/tiny", "text.txt", "--metric", "accuracy"],
        2,
        &["--task FILE"],
    ),
    // Data, energy and measurements.
    (&["data", "tiny.toml"], 2, &["taal data preview --recipe tiny.toml"]),
    (&["data", "show"], 2, &["taal data preview --recipe FILE"]),
    (
        &["data", "preview"],
        2,
        &["--recipe <NAME|FILE>", "`taal recipes` lists"],
    ),
    (
        &["data", "preview", "tiny.toml"],
        2,
        &["taal data preview --recipe tiny.toml"],
    ),
    (
        &["data", "preview", "--recipe", "none.toml"],
        2,
        &["none.toml: no such file"],
    ),
    (&["runs", "list"], 2, &["hint: taal runs"]),
    (&["footprint"], 2, &["taal energy estimate, or taal energy watch"]),
    (&["energy", "sleep", "1"], 2, &["taal energy watch -- sleep"]),
    (&["energy", "watch"], 2, &["<COMMAND>"]),
    (
        &["energy", "watch", "--grid", "Nederland", "--", "true"],
        2,
        &["Nederland", "NL or NLD"],
    ),
    (&["energy", "estimate", "--country", "NL"], 2, &["--grid COUNTRY"]),
    (&["energy", "estimate", "--params", "124M"], 2, &["--tokens <N>"]),
    (&["energy", "estimate", "--preset", "gpt4"], 2, &["gpt3", "bloom"]),
    (
        &["energy", "estimate", "--params", "1M", "--tokens", "2,3B"],
        2,
        &["decimals take a point: 2.3B"],
    ),
    (&["bench", "runs/tiny"], 2, &["taal bench generate --model runs/tiny"]),
    (
        &["bench", "generate", "runs/tiny"],
        2,
        &["taal bench generate --model runs/tiny"],
    ),
    (
        &["bench", "train", "tiny.toml"],
        2,
        &["taal train --recipe tiny.toml --dry-run"],
    ),
    (
        &["bench", "train", "--shape", "huge"],
        2,
        &["expected cpu, baby, small or gpt2"],
    ),
    (
        &["bench", "paradigm", "tiny.toml"],
        2,
        &["taal bench paradigm --recipe tiny.toml"],
    ),
    (
        &["bench", "transfer", "runs/tiny"],
        2,
        &["taal bench transfer --model runs/tiny --task RECIPE"],
    ),
    (
        &["bench", "transfer", "--model", "nowhere", "--task", "chat-tldr"],
        2,
        &["nowhere: no run here", "models that are there: runs/tiny"],
    ),
    (
        &["bench", "forecast", "--runs", "0"],
        2,
        &["--runs 0: expected at least 1"],
    ),
    (
        &["bench", "green", "--only", "nonsense"],
        2,
        &["nonsense", "expected one of default"],
    ),
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
