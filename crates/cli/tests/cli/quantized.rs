//! Models in fewer bits: GGUF files and directories that verbs open, import, export and train from.

use crate::{Place, done, fails, json, stderr};

/// With a model in `run` whose rows are whole blocks of 32.
fn wide() -> Place {
    let place = Place::new();
    done(place.train_with(&["model.d_model=64"]));
    place
}

fn exported(place: &Place, kind: &str) -> String {
    let name = format!("{kind}.gguf");
    done(place.taal(&["export", "run", "--to", "gguf", "--type", kind, "--out", &name]));
    name
}

#[test]
fn every_verb_that_asks_a_model_opens_a_gguf_file() {
    let place = wide();
    let file = exported(&place, "q8_0");
    let generate = |model: &str| {
        let options = ["--prompt", "de kat", "--temperature", "0", "--max-tokens", "4"];
        done(place.taal(&[&["generate", "--model", model], &options[..]].concat()))
    };
    assert!(generate(&file).starts_with("de kat") || !generate(&file).is_empty());
    done(place.taal(&["import", "--from", &file, "--out", "dir"]));
    assert_eq!(generate(&file), generate("dir"), "a file and the directory made of it");
    done(place.taal(&["eval", &file, "text.txt"]));
    done(place.taal(&["embed", &file, "de kat"]));
    done(place.taal(&["trace", &file, "de kat"]));
    done(place.taal(&[
        "bench",
        "generate",
        "--model",
        &file,
        "--prompt-tokens",
        "4",
        "--max-tokens",
        "2",
    ]));
    let found = json(place.taal(&["inspect", &file, "--json"]));
    assert_eq!(found["weight_types"], "Q8_0");
    let words = done(place.taal(&["inspect", "dir"]));
    assert!(
        words.contains("matrices in Q8_0") && words.contains("  Q8_0"),
        "{words}"
    );
    // A masked model's verb says why it cannot.
    fails(place.taal(&["fill", &file, "de [MASK]"]), 2, &["mask"]);
}

#[test]
fn weights_unpack_and_round_and_the_cache_has_a_type() {
    let place = wide();
    let file = exported(&place, "q8_0");
    let loss = |arguments: &[&str]| {
        let output = place.taal(&[&["eval", &file, "text.txt", "--json"], arguments].concat());
        json(output)["loss"].as_f64().expect("a number")
    };
    let (kept, unpacked, rounded) = (loss(&[]), loss(&["--weights", "f32"]), loss(&["--weights", "q4_k_m"]));
    assert!(kept != unpacked && (kept - unpacked).abs() < 0.01, "{kept} {unpacked}");
    assert!(rounded != kept && (rounded - kept).abs() < 0.5, "{kept} {rounded}");
    // Rows of 64 are not whole blocks of 256, which is said.
    let said = place.taal(&["eval", "run", "text.txt", "--weights", "q4_k_m"]);
    assert!(stderr(&said).contains("Q5_0 instead of Q4_K"), "{}", stderr(&said));
    for cache in ["f32", "f16"] {
        let options = ["--prompt", "de", "--max-tokens", "3", "--cache", cache];
        done(place.taal(&[&["generate", "--model", &file], &options[..]].concat()));
    }
    fails(
        place.taal(&["generate", "--model", &file, "de", "--cache", "f64"]),
        2,
        &["expected f32 or f16"],
    );
    // Without a cache there is no type of it.
    let both = ["generate", "--model", &file, "de", "--no-cache", "--cache", "f16"];
    fails(
        place.taal(&both),
        2,
        &["--no-cache", "cannot be used with", "--cache <TYPE>"],
    );
    fails(
        place.taal(&["eval", &file, "text.txt", "--weights", "q3"]),
        2,
        &["expected f32, f16, bf16, q8_0, q4_0 or q4_k_m"],
    );
}

#[test]
fn fill_embed_similar_and_trace_round_weights_as_generate_does() {
    let place = wide();
    let masked = [
        "tokenizer.kind=wordpiece",
        "tokenizer.vocab_size=60",
        "model.preset=bert",
        "model.d_model=64",
        "train.objective=masked",
        "train.block_size=24",
        "sample.prompts=[\"de kat krabt de [MASK]\"]",
    ];
    let more: Vec<&str> = masked.iter().flat_map(|setting| ["--set", setting]).collect();
    let train = ["train", "--recipe", "tiny.toml", "--run-dir", "masked"];
    done(place.taal(&[&train[..], &more].concat()));

    let trace = ["trace", "--checkpoints", "run", "de kat", "--top", "1", "--json", "-"];
    let checks: [(&[&str], &str); 4] = [
        (
            &["fill", "masked", "de kat krabt de [MASK]", "--json"],
            "/gaps/0/guesses/0/probability",
        ),
        (&["embed", "run", "de kat", "--json"], "/embedding/0"),
        (
            &["similar", "run", "--lines", "text.txt", "de kat", "--json"],
            "/0/similarity",
        ),
        (&trace, "/predictions/0/guesses/0/logit"),
    ];
    for (arguments, figure) in checks {
        let found = |weights: &[&str]| json(place.taal(&[arguments, weights].concat()));
        let number = |weights: &[&str]| found(weights).pointer(figure).and_then(|x| x.as_f64()).expect(figure);
        let (exact, rounded) = (number(&[]), number(&["--weights", "q8_0"]));
        assert!(
            exact != rounded && (exact - rounded).abs() <= 0.1 * exact.abs().max(0.1),
            "{arguments:?}: {exact} and {rounded}"
        );
        assert_eq!(found(&[]), found(&["--weights", "f32"]), "{arguments:?}");
        fails(
            place.taal(&[arguments, &["--weights", "q3"]].concat()),
            2,
            &["expected f32, f16, bf16, q8_0, q4_0 or q4_k_m"],
        );
    }
    // The checkpoints are rounded too, so that the one that is the model answers alike.
    let found = json(place.taal(&[&trace[..], &["--weights", "q4_0"]].concat()));
    let answers = found["checkpoints"].as_array().expect("checkpoints");
    let choice = &found["predictions"][0]["guesses"][0];
    assert!(answers.iter().any(|answer| answer["guesses"][0] == *choice), "{found}");
}

#[test]
fn an_lstm_says_that_its_gates_stay_in_f32() {
    let place = Place::new();
    done(place.train_with(&["model.preset=lstm", "model.d_model=64"]));
    let said = place.taal(&["eval", "run", "text.txt", "--weights", "q8_0"]);
    let note = "note: the matrices of the LSTM's gates stay F32";
    assert!(stderr(&said).contains(note), "{}", stderr(&said));
    done(said);
    let plain = place.taal(&["eval", "run", "text.txt"]);
    assert!(!stderr(&plain).contains("LSTM"), "{}", stderr(&plain));
    done(plain);
    let exported = place.taal(&["export", "run", "--to", "hf", "--type", "q8_0", "--out", "new/rounded"]);
    assert!(stderr(&exported).contains("gates stay F32"), "{}", stderr(&exported));
    done(exported);
    // It has no keys and values, whose type could be chosen.
    let cached = [
        "generate",
        "run",
        "de",
        "--max-tokens",
        "2",
        "--receipt",
        "receipt.json",
    ];
    for cache in ["f32", "f16"] {
        let refused = place.taal(&[&cached[..], &["--cache", cache]].concat());
        fails(refused, 2, &["cache: an LSTM has a state", "leave it out"]);
        assert!(!place.path("receipt.json").exists());
    }
    done(place.taal(&cached));
    // No other format has an LSTM, and nothing of the attempt is left.
    let failed = place.taal(&["export", "run", "--to", "gguf", "--out", "other/folders/run.gguf"]);
    fails(failed, 2, &["mixer"]);
    assert!(!place.path("other").exists());
}

#[test]
fn training_from_quantized_weights_is_refused() {
    let place = wide();
    let file = exported(&place, "q4_0");
    done(place.taal(&["import", "--from", &file, "--out", "dir"]));
    let from = |model: &str| {
        let recipe = "[data]\nfiles = [\"text.txt\"]\n[train]\nsteps = 2\nblock_size = 8\nbatch_size = 2\n";
        place.write(
            "second.toml",
            format!("{recipe}init_from = \"{model}\"\n[sample]\nmax_tokens = 0\n"),
        );
        place.taal(&["train", "--recipe", "second.toml", "--run-dir", "second"])
    };
    fails(
        from("dir"),
        2,
        &["dir are quantized", "needs them in f32", "--type f32"],
    );
    fails(from(&file), 2, &["taal import --from q4_0.gguf --weights f32"]);
    // Also where another program left out the key that says so.
    let config = place.read("dir/config.json");
    place.write(
        "dir/config.json",
        config.replace("quantization_config", "some_other_config"),
    );
    fails(from("dir"), 2, &["dir are quantized", "--type f32"]);
    place.write("dir/config.json", config);
    assert!(!place.path("second").exists(), "nothing is written");
    // Unpacked, it is a model like any other.
    done(place.taal(&["export", "dir", "--to", "hf", "--type", "f32", "--out", "unpacked"]));
    let inspected = json(place.taal(&["inspect", "unpacked", "--json"]));
    assert_eq!(inspected["weight_types"], "F32");
    done(from("unpacked"));
}

#[test]
fn an_adapter_of_a_quantized_base_is_merged_into_what_it_was_trained_to_compute() {
    let place = wide();
    let file = exported(&place, "q8_0");
    done(place.taal(&["import", "--from", &file, "--out", "dir"]));
    let tune = [
        "finetune",
        "--model",
        "dir",
        "--recipe",
        "tiny.toml",
        "--run-dir",
        "tuned",
    ];
    let sets = ["lora.rank=2", "lora.alpha=8", "train.lr=0.05"];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    done(place.taal(&[&tune[..], &sets].concat()));
    let merged = json(place.taal(&["adapter", "merge", "tuned", "--out", "merged", "--json"]));
    let rounding = merged["rounding"].as_f64().expect("a figure");
    assert!(rounding <= 1e-5, "{merged}");
}
