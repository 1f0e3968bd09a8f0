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
        ("--top-p", "-0.1", "top_p: expected a number above 0 and at most 1"),
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
