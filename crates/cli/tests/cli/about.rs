//! What helps to use the program: the glossary, the completions of shells, the manual, tokens as text.

use std::fs;

use crate::{Place, done, fails};

#[test]
fn the_glossary_explains_a_word_in_two_languages() {
    let place = Place::new();
    let english = done(place.taal(&["glossary", "MFU", "--lang", "en"]));
    assert!(english.starts_with("MFU\n    Model FLOPs utilization"), "{english}");
    let dutch = done(place.taal(&["glossary", "nats", "--lang", "nl"]));
    assert!(dutch.contains("natuurlijke logaritme"), "{dutch}");
    let all = done(place.taal(&["glossary", "--lang", "en"]));
    for word in [
        "bits per byte",
        "perplexity",
        "token",
        "epoch",
        "attention head",
        "checkpoint",
        "loss",
        "encoder-decoder",
        "cross-attention",
        "beam search",
        "label smoothing",
        "BLEU",
        "chrF",
    ] {
        assert!(all.lines().any(|line| line == word), "no {word} in: {all}");
    }
    assert_eq!(
        done(place.taal(&["glossary", "attention", "heads", "--lang", "en"])),
        done(place.taal(&["glossary", "attention head", "--lang", "en"])),
        "a plural, and words without quotes"
    );
    assert!(done(place.taal(&["glossary", "perplexety", "--lang", "en"])).starts_with("perplexity\n"));
    fails(place.taal(&["glossary", "qwertyuiop"]), 2, &["it has: attention"]);
}

#[test]
fn the_glossary_takes_the_language_of_the_locale() {
    let place = Place::new();
    let mut command = place.command(&["glossary", "loss"]);
    command.env("LC_ALL", "nl_NL.UTF-8");
    assert!(done(command.output().expect("taal starts")).starts_with("verlies"));
}

#[test]
fn every_shell_gets_completions_that_know_the_verbs() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = done(place.taal(&["completions", shell]));
        for word in ["generate", "embeddings", "run-dir"] {
            assert!(script.contains(word), "{shell} has no {word}");
        }
    }
    let mut command = place.command(&["completions"]);
    let of_variable = done(command.env("SHELL", "/bin/zsh").output().expect("taal starts"));
    assert!(of_variable.starts_with("#compdef taal"), "{of_variable:.60}");
    fails(place.taal(&["completions", "dos"]), 2, &["bash", "zsh"]);
}

#[test]
fn the_manual_has_a_page_for_every_verb() {
    let place = Place::new();
    let page = done(place.taal(&["man"]));
    assert!(
        page.contains(".SH NAME") && page.contains("taal\\-generate(1)"),
        "{page:.2000}"
    );
    done(place.taal(&["man", "man/man1"]));
    let mut pages: Vec<String> = fs::read_dir(place.path("man/man1"))
        .expect("a folder")
        .map(|entry| entry.expect("a page").file_name().into_string().expect("UTF-8"))
        .collect();
    pages.sort_unstable();
    for page in ["taal.1", "taal-train.1", "taal-embeddings-plot.1", "taal-bench-train.1"] {
        assert!(pages.iter().any(|found| found == page), "{page} is not among {pages:?}");
    }
    assert!(pages.iter().all(|page| !page.contains("help")), "{pages:?}");
    assert!(place.read("man/man1/taal-train.1").contains("run\\-dir"));
    done(place.taal(&["man", "man/man1"]));
}

#[test]
fn tokens_are_printed_as_text() {
    let place = Place::new();
    let train = [
        "tokenizer",
        "train",
        "--kind",
        "bpe",
        "--vocab-size",
        "270",
        "--out",
        "t.json",
        "text.txt",
    ];
    done(place.taal(&train));
    let encode = ["tokenizer", "encode", "--tokenizer", "t.json", "de kat é\n"];
    let shown = done(place.taal(&[&encode[..], &["--text"]].concat()));
    let ids = done(place.taal(&encode));
    assert_eq!(shown.split('|').count(), ids.split(',').count(), "{shown} {ids}");
    assert_eq!(shown.trim_end().replace('|', ""), "de␣kat␣\\xC3\\xA9⏎", "{shown}");
}
