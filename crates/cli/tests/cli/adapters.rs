//! `taal adapter`, and `--adapter` of the verbs that ask a model.

use crate::{Place, done, fails, json, stderr};

const GREEDY: [&str; 7] = [
    "--prompt",
    "de kat",
    "--max-tokens",
    "12",
    "--temperature",
    "0",
    "--json",
];

/// A base model in `base`, and an adapter of it in `tuned` that was trained until it answers something else.
pub fn tuned() -> Place {
    let place = Place::new();
    done(place.taal(&[
        "train",
        "--recipe",
        "tiny.toml",
        "--run-dir",
        "base",
        "--set",
        "tokenizer.kind=bpe",
        "--set",
        "tokenizer.vocab_size=280",
    ]));
    let tune = [
        "finetune",
        "--model",
        "base",
        "--recipe",
        "tiny.toml",
        "--run-dir",
        "tuned",
    ];
    let sets = ["lora.rank=2", "lora.alpha=8", "train.lr=0.05", "train.steps=6"];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    let output = place.taal(&[&tune[..], &sets].concat());
    assert!(stderr(&output).contains("lora: "), "{}", stderr(&output));
    done(output);
    place
}

/// Another base model, in `other`, that the adapter does not fit.
pub fn train_other(place: &Place) {
    done(place.taal(&[
        "train",
        "--recipe",
        "tiny.toml",
        "--run-dir",
        "other",
        "--set",
        "seed=99",
    ]));
}

#[test]
fn a_run_of_an_adapter_its_adapter_on_its_base_and_the_merged_model_say_the_same() {
    let place = tuned();
    let text = |model: &[&str]| {
        json(place.taal(&[&["generate"], model, &GREEDY[..]].concat()))["text"]
            .as_str()
            .expect("a text")
            .to_owned()
    };
    let run = text(&["--model", "tuned"]);
    assert_eq!(text(&["--model", "base", "--adapter", "tuned"]), run);
    assert_ne!(text(&["--model", "base"]), run, "the adapter does something");

    let shown = done(place.taal(&["adapter", "merge", "tuned", "--out", "merged"]));
    assert!(shown.contains("opened again, logits differ by"), "{shown}");
    assert_eq!(text(&["--model", "merged"]), run);
    assert!(!place.path("merged/adapter_config.json").exists());
    let merged = json(place.taal(&[
        "adapter",
        "merge",
        "tuned",
        "--to",
        "gguf",
        "--out",
        "tuned.gguf",
        "--json",
    ]));
    for figure in ["difference", "rounding"] {
        assert!(merged[figure].as_f64().expect("a figure") <= 1e-5, "{merged}");
    }
    assert_eq!(text(&["--model", "tuned.gguf"]), run);

    // Evaluated and turned into vectors, too.
    let loss = |model: &[&str]| {
        let found = json(place.taal(&[&["eval"], model, &["--text", "text.txt", "--json"][..]].concat()));
        found["loss"].as_f64().expect("a loss")
    };
    let (base, adapted) = (
        loss(&["--model", "base"]),
        loss(&["--model", "base", "--adapter", "tuned"]),
    );
    assert!((loss(&["--model", "tuned"]) - adapted).abs() < 1e-5 * adapted && base != adapted);
    let vector = |model: &[&str]| {
        json(place.taal(&[&["embed"], model, &["--json", "de kat"][..]].concat()))["embedding"].clone()
    };
    assert_ne!(
        vector(&["--model", "base"]),
        vector(&["--model", "base", "--adapter", "tuned"])
    );

    // An adapter whose base was moved is compared on the model that is evaluated.
    std::fs::rename(place.path("base"), place.path("moved")).expect("a new name");
    place.write(
        "task.toml",
        "metric = \"exact_match\"\nmax_tokens = 4\n[[items]]\nprompt = \"de kat\"\nreference = \"iets\"\n",
    );
    let asked = ["eval", "--model", "moved", "--task", "task.toml", "--json"];
    let both = json(place.taal(&[&asked[..], &["--against", "tuned"]].concat()));
    let alone = json(place.taal(&[&asked[..], &["--adapter", "tuned"]].concat()));
    assert_eq!(both["against"]["answers"], alone["answers"]);
}

#[test]
fn adapters_are_listed_and_their_changes_shown() {
    let place = tuned();
    let listed = json(place.taal(&["adapter", "list", ".", "--json"]));
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!((&listed[0]["rank"], &listed[0]["alpha"]), (&2.into(), &8.0.into()));
    let hash = listed[0]["base_blake3"].as_str().expect("a hash").to_owned();
    assert_eq!(hash.len(), 64);
    let shown = done(place.taal(&["adapter", "list", "tuned"]));
    assert!(shown.contains("tuned") && shown.contains(&hash[..12]), "{shown}");
    let changes = json(place.taal(&["adapter", "diff", "tuned", "tuned", "--json"]));
    let changes = changes.as_array().expect("a list").clone();
    assert!(!changes.is_empty());
    for change in changes {
        assert!(change["relative"].as_f64().expect("a figure") > 0.0, "{change}");
        assert!(
            (change["cosine"].as_f64().expect("a figure") - 1.0).abs() < 1e-9,
            "{change}"
        );
    }
    let shown = done(place.taal(&["adapter", "diff", "tuned"]));
    assert!(
        shown.contains("blocks.0.attention.qkv") && shown.contains('%'),
        "{shown}"
    );
    assert!(stderr(&place.taal(&["adapter", "list", "base"])).contains("no adapters"));
}

#[test]
fn adapters_that_do_not_fit_are_refused_and_nothing_is_written() {
    let place = tuned();
    train_other(&place);
    let ask = |model: &str, adapter: &str| {
        place.taal(&[&["generate", "--model", model, "--adapter", adapter], &GREEDY[..]].concat())
    };
    let listed = json(place.taal(&["adapter", "list", "tuned", "--json"]));
    fails(
        ask("other", "tuned"),
        65,
        &[
            listed[0]["base_blake3"].as_str().expect("a hash"),
            "BLAKE3",
            "those of this one have",
        ],
    );
    fails(ask("base", "base"), 2, &["adapter: base: no adapter here"]);
    fails(ask("base", "nowhere"), 2, &["no adapter here"]);
    fails(ask("tuned", "tuned"), 2, &["is an adapter itself"]);
    let merge = |more: &[&str]| place.taal(&[&["adapter", "merge", "tuned", "--out", "merged"], more].concat());
    fails(merge(&["--model", "other"]), 65, &["BLAKE3"]);
    fails(merge(&["--to", "llama2c"]), 2, &["expected hf or gguf"]);
    assert!(!place.path("merged").exists());
    fails(
        place.taal(&[
            "finetune",
            "--model",
            "tuned",
            "--recipe",
            "tiny.toml",
            "--run-dir",
            "again",
            "--set",
            "lora.rank=2",
        ]),
        2,
        &["is an adapter", "taal adapter merge"],
    );
}
