//! What `taal generate` and `taal tokenizer decode` say of special tokens, long prompts and numbers outside their range.

use crate::{Place, done};

/// What a command says on standard error, and its exit code.
fn refused(place: &Place, arguments: &[&str]) -> (String, Option<i32>) {
    let output = place.taal(arguments);
    (String::from_utf8(output.stderr).expect("text"), output.status.code())
}

#[test]
fn report_14_a_negative_number_is_answered_by_the_range() {
    let place = Place::new();
    let generate = ["generate", "--model", "nothing", "--prompt", "a"];
    for (option, value, words) in [
        ("--temperature", "-1", "temperature: expected 0"),
        ("--temperature", "-0.5", "got -0.5"),
        ("--temperature", "-1e3", "positive number"),
        ("--temperature", "warm", "expected a number"),
        ("--top-p", "-0.1", "top_p: expected a number from 0 to 1"),
        ("--min-p", "-1", "min_p: expected a number from 0 to 1"),
        (
            "--repetition-penalty",
            "-2",
            "repetition_penalty: expected a number from 0.01 to 100",
        ),
        ("--top-k", "-5", "expected a whole number from 1"),
        ("--top-k", "0", "top_k: expected 1 or more"),
        ("--max-tokens", "-1", "expected a whole number from 0"),
        ("--max-tokens", "1.5", "expected a whole number from 0"),
        ("--seed", "-7", "expected a whole number from 0"),
        ("--prompt-ids", "-3", "expected a whole number from 0"),
    ] {
        let (message, code) = refused(&place, &[&generate[..3], &[option, value, "--prompt", "a"]].concat());
        assert!(
            message.contains(words) && !message.contains("unexpected argument"),
            "{option}: {message}"
        );
        assert_eq!(code, Some(2), "{option} {value}: {message}");
    }
    for arguments in [
        ["fill", "--model", "x", "text", "--top", "-1"].as_slice(),
        &["similar", "--model", "x", "text", "--top", "-1"],
        &["trace", "--model", "x", "text", "--top", "-1"],
        &["trace", "--model", "x", "--ids", "-1"],
        &[
            "tokenizer",
            "train",
            "--kind",
            "bpe",
            "--out",
            "x",
            "text.txt",
            "--vocab-size",
            "-1",
        ],
        &["tokenizer", "decode", "--tokenizer", "x", "-1"],
        &["bench", "generate", "--batch", "-1"],
        &["bench", "paradigm", "--seconds", "-1"],
        &["bench", "paradigm", "--lengths", "-1"],
    ] {
        let (message, code) = refused(&place, arguments);
        assert!(!message.contains("unexpected argument"), "{arguments:?}: {message}");
        assert!(message.contains("expected a"), "{arguments:?}: {message}");
        assert_eq!(code, Some(2), "{arguments:?}");
    }
}

#[test]
fn report_5_a_long_prompt_is_cut_with_a_note_or_refused() {
    let place = Place::trained();
    // The context of the tiny recipe is 8.
    let generate = [
        "generate",
        "--model",
        "run",
        "--prompt",
        "de kat krabt",
        "--max-tokens",
        "1",
        "--temperature",
        "0",
    ];
    let output = place.taal(&[&generate[..], &["--json"]].concat());
    let message = String::from_utf8(output.stderr.clone()).expect("text");
    assert!(
        message.contains("12 tokens") && message.contains("holds 8") && message.contains("5 of its first"),
        "{message}"
    );
    let json: serde_json::Value = serde_json::from_str(&done(output)).expect("JSON");
    assert_eq!(
        (&json["prompt_tokens"], &json["dropped_prompt_tokens"]),
        (&12.into(), &5.into())
    );
    assert_eq!(json["slid_tokens"], 0);
    let (message, code) = refused(&place, &[&generate[..], &["--no-truncate"]].concat());
    assert_eq!(code, Some(2));
    assert!(
        message.contains("12 tokens") && message.contains("hint: without --no-truncate"),
        "{message}"
    );
}

#[test]
fn report_2_special_tokens_are_shown_where_that_is_asked() {
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
    done(place.taal(&[&train[..], &["--special-token", "<|im_end|>"]].concat()));
    let ids = done(place.taal(&["tokenizer", "encode", "--tokenizer", "t.json", "de<|im_end|>kat"]));
    let decode = ["tokenizer", "decode", "--tokenizer", "t.json", ids.trim()];
    assert_eq!(done(place.taal(&decode)), "dekat\n");
    assert_eq!(
        done(place.taal(&[&decode[..], &["--show-special"]].concat())),
        "de<|im_end|>kat\n"
    );
}

#[test]
fn weights_in_fewer_bits_generate_and_are_scored_and_what_does_not_fit_is_said() {
    let place = Place::new();
    done(place.train_with(&["model.d_model=32"]));
    let generate = [
        "generate",
        "--model",
        "run",
        "--prompt",
        "de kat",
        "--temperature",
        "0",
        "--max-tokens",
        "8",
    ];
    let eval = ["eval", "--model", "run", "--json", "--text", "text.txt"];
    let loss = |arguments: &[&str]| crate::json(place.taal(arguments))["loss"].as_f64().expect("a loss");
    let exact = loss(&eval);
    for weights in ["f16", "bf16", "q8_0", "Q4_0"] {
        let with = ["--weights", weights];
        done(place.taal(&[&generate[..], &with].concat()));
        let rounded = loss(&[&eval[..], &with].concat());
        assert!(
            rounded != exact && (rounded - exact).abs() < 0.02 * exact,
            "{weights}: {rounded} and {exact}"
        );
    }
    done(place.taal(&[
        "bench",
        "generate",
        "--model",
        "run",
        "--weights",
        "q8_0",
        "--rows",
        "1",
        "--depth",
        "2",
        "--max-tokens",
        "1",
    ]));

    done(place.taal(&["train", "--recipe", "tiny.toml", "--run-dir", "narrow"]));
    let narrow = place.taal(&["eval", "--model", "narrow", "--weights", "q8_0", "--text", "text.txt"]);
    let said = crate::stderr(&narrow).to_owned();
    assert!(
        said.contains("matrices are F16 instead of Q8_0, whose blocks rows of 16 numbers do not fill"),
        "{said}"
    );
    done(narrow);
    let (message, code) = refused(
        &place,
        &["eval", "--model", "run", "--weights", "q5_1", "--text", "text.txt"],
    );
    assert!(
        message.contains("expected f32, f16, bf16, q8_0, q4_0 or q4_k_m"),
        "{message}"
    );
    assert_eq!(code, Some(2));
}

#[test]
fn a_text_has_the_form_that_is_asked_for() {
    let place = Place::trained();
    let generate = ["generate", "--model", "run", "--prompt", "de kat", "--max-tokens", "20"];
    let with = |more: &[&str]| place.taal(&[&generate[..], more].concat());
    for seed in ["1", "2", "3"] {
        let text = done(with(&["--regex", "(de|een) kat( krabt)?", "--seed", seed]));
        let known = ["de kat", "een kat", "de kat krabt", "een kat krabt"];
        assert!(
            known.contains(&text.strip_suffix('\n').expect("a line end")),
            "{text:?}"
        );
    }
    std::fs::write(place.path("grammar.lark"), "start: \"de \" (\"kat\" | \"krab\")").expect("a file");
    let text = done(with(&["--lark", "grammar.lark"]));
    assert!(["de kat\n", "de krab\n"].contains(&text.as_str()), "{text:?}");

    std::fs::write(
        place.path("schema.json"),
        r#"{"type": "integer", "minimum": 5, "maximum": 3}"#,
    )
    .expect("a file");
    std::fs::write(place.path("broken.json"), "{").expect("a file");
    let refusals: [(&[&str], i32, &str); 6] = [
        (&["--json-schema", "schema.json"], 2, "the JSON schema cannot be used"),
        (&["--json-schema", "broken.json"], 65, "broken.json: not a JSON schema"),
        (&["--json-schema", "missing.json"], 2, "missing.json: no such file"),
        (&["--json-object"], 2, "no token of the vocabulary can continue"),
        (&["--regex", "[a"], 2, "the regular expression cannot be used"),
        (&["--regex", "a", "--json-object"], 2, "cannot be used with"),
    ];
    for (more, code, words) in refusals {
        let (message, found) = refused(&place, &[&generate[..], more].concat());
        assert!(message.contains(words), "{more:?}: {message}");
        assert_eq!(found, Some(code), "{more:?}: {message}");
    }
}

#[test]
fn beams_are_printed_best_first() {
    let place = Place::trained();
    let generate = [
        "generate",
        "--model",
        "run",
        "--prompt",
        "de",
        "--max-tokens",
        "5",
        "--beam",
        "3",
    ];
    let best = done(place.taal(&generate));
    let all = crate::json(place.taal(&[&generate[..], &["--json"]].concat()));
    let beams = all["beams"].as_array().expect("beams");
    assert_eq!(beams.len(), 3);
    assert_eq!(beams[0]["text"], best.strip_suffix('\n').expect("a line end"));
    let scores: Vec<f64> = beams
        .iter()
        .map(|beam| beam["score"].as_f64().expect("a score"))
        .collect();
    assert!(scores.is_sorted_by(|left, right| left >= right), "{scores:?}");
    let (message, code) = refused(&place, &[&generate[..], &["--temperature", "1"]].concat());
    assert!(message.contains("--temperature"), "{message}");
    assert_eq!(code, Some(2));
}

#[test]
fn a_receipt_is_replayed_or_what_differs_is_said() {
    let place = Place::trained();
    let text = done(place.taal(&["generate", "run", "de kat", "--max-tokens", "30", "--receipt", "r.json"]));
    let replay = ["replay", "r.json", "--model", "run"];
    assert_eq!(done(place.taal(&replay)), text);
    assert_eq!(
        crate::json(place.taal(&[&replay[..], &["--json"]].concat()))["text"],
        text.strip_suffix('\n').expect("a line end")
    );

    let (message, code) = refused(&place, &[&replay[..], &["--weights", "f16"]].concat());
    assert!(
        message.contains("r.json") && message.contains("another model (weights: "),
        "{message}"
    );
    assert_eq!(code, Some(65));

    let path = place.path("r.json");
    let mut receipt: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).expect("a file")).expect("JSON");
    receipt["kernels"] = "another processor".into();
    std::fs::write(&path, receipt.to_string()).expect("a file");
    let output = place.taal(&replay);
    assert!(
        crate::stderr(&output).contains("the same, though kernels: another processor"),
        "{output:?}"
    );
    assert_eq!(done(output), text);

    receipt["token_ids"][3] = 0.into();
    std::fs::write(&path, receipt.to_string()).expect("a file");
    let (message, code) = refused(&place, &replay);
    assert!(
        message.contains("token 4 is 0") && message.contains("another processor"),
        "{message}"
    );
    assert_eq!(code, Some(65));
    std::fs::write(&path, "{}").expect("a file");
    let (message, code) = refused(&place, &replay);
    assert!(
        message.contains("r.json") && message.contains("not a receipt"),
        "{message}"
    );
    assert_eq!(code, Some(65));
}

#[test]
fn a_draft_changes_no_byte_and_says_how_many_guesses_were_right() {
    let place = Place::trained();
    let small = ["model.d_model=8", "seed=9"].map(|setting| ["--set", setting]).concat();
    done(place.taal(&[&["train", "--recipe", "tiny.toml", "--run-dir", "small"][..], &small].concat()));
    let generate = ["generate", "run", "de kat", "--max-tokens", "30", "--seed", "3"];
    let with = |more: &[&str]| place.taal(&[&generate[..], more].concat());
    let plain = done(with(&[]));
    for draft in [
        &["--draft", "small", "--receipt", "r.json"][..],
        &["--draft", "run", "--draft-tokens", "7"],
        &["--draft-ngram", "1"],
    ] {
        let output = with(draft);
        let said = crate::stderr(&output).to_owned();
        assert_eq!(done(output), plain, "{draft:?}");
        assert!(
            said.contains("draft: ") && said.contains(" guessed tokens were right; "),
            "{said}"
        );
    }
    assert_eq!(done(place.taal(&["replay", "r.json", "--model", "run"])), plain);

    let alone = crate::json(with(&["--json"]));
    assert_eq!(alone.get("speculative"), None);
    let mut guessed = crate::json(with(&["--json", "--draft", "run"]));
    let figures = guessed["speculative"].take();
    let number = |key: &str| figures[key].as_u64().expect("a number");
    assert!(
        number("accepted") > 0 && number("accepted") <= number("drafted"),
        "{figures}"
    );
    assert!(number("passes") < 30, "{figures}");
    guessed.as_object_mut().expect("an object").remove("speculative");
    assert_eq!(guessed, alone);
}

#[test]
fn a_draft_that_cannot_guess_is_refused_by_name() {
    let place = Place::trained();
    place.write("other.txt", "een hond blaft naar de poes.\n".repeat(16));
    let other = ["--run-dir", "other", "--set", "data.files=[\"other.txt\"]"];
    done(place.taal(&[&["train", "--recipe", "tiny.toml"][..], &other].concat()));
    let refusals: [(&[&str], &str); 6] = [
        (
            &["--draft", "other"],
            "other cannot draft for run: draft: the draft's tokenizer has",
        ),
        (&["--draft", "none"], "none: no model here"),
        (
            &["--draft", "run", "--draft-tokens", "0"],
            "draft_tokens: expected 1..=64, got 0",
        ),
        (&["--draft-tokens", "2"], "--draft"),
        (&["--draft", "run", "--draft-ngram", "2"], "cannot be used with"),
        (&["--draft-ngram", "2", "--beam", "2"], "cannot be used with"),
    ];
    for (more, words) in refusals {
        let (message, code) = refused(&place, &[&["generate", "run", "de kat"][..], more].concat());
        assert!(message.contains(words), "{more:?}: {message}");
        assert_eq!(code, Some(2), "{more:?}: {message}");
    }
}

#[test]
fn a_benchmark_says_what_a_draft_gains() {
    let place = Place::trained();
    let bench = [
        "bench",
        "generate",
        "--model",
        "run",
        "--batch",
        "1",
        "--prompt-tokens",
        "2",
        "--max-tokens",
        "6",
    ];
    let plain = done(place.taal(&bench));
    assert!(!plain.contains("draft"), "{plain}");
    let table = done(place.taal(&[&bench[..], &["--draft", "run", "--prompt", "de kat"]].concat()));
    assert!(
        table.contains("with the draft") && table.contains("times as fast") && table.contains(" tokens per pass"),
        "{table}"
    );
    let json = crate::json(place.taal(&[&bench[..], &["--draft-ngram", "1", "--json"]].concat()));
    assert_eq!(json["speculative"]["is_same_text"], true);
    assert_eq!(json["speculative"]["tokens"], 6);
    assert!(json["batches"][0]["decode_tokens_per_s"].as_f64() > Some(0.0), "{json}");

    // Two clients share the guesses of a step.
    let load = [
        "bench",
        "serve",
        "--model",
        "run",
        "--clients",
        "2",
        "--requests",
        "2",
        "--alone",
        "2",
    ];
    let load = [
        &load[..],
        &["--prompt-tokens", "2", "--max-tokens", "5", "--draft", "run"],
    ]
    .concat();
    assert!(done(place.taal(&load)).contains(" guessed tokens were right, "));
    let json = crate::json(place.taal(&[&load[..], &["--json"]].concat()));
    let alone = &json["alone"]["speculative"];
    // Of the four tokens after the first, three are guessed.
    assert_eq!(
        (alone["accepted"].as_u64(), alone["passes"].as_u64()),
        (Some(6), Some(2)),
        "{json}"
    );
}
