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
    fails(
        place.taal(&["eval", &file, "text.txt", "--weights", "q3"]),
        2,
        &["expected f32, f16, bf16, q8_0, q4_0 or q4_k_m"],
    );
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
