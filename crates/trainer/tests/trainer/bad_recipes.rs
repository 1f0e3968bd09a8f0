//! Every key of a recipe with a wrong value. The keys are those that the parser itself lists, so a new one is tested
//! automatically.

use taal_store::ErrorKind;
use taal_trainer::resolve;

use crate::typed;

/// What every case is added to: the minimum that a recipe needs.
const SMALL: [&str; 3] = [
    "data.corpus=\"names\"",
    "tokenizer.kind=\"char\"",
    "tokenizer.vocab_size=100",
];

/// The messages about values of a wrong type.
const WRONG_TYPE: [&str; 7] = [
    "expected a whole number of 0 or more, got",
    "expected a number, got",
    "expected true or false, got",
    "expected a text in quotes, got",
    "expected a list, as in",
    "expected a section with keys",
    "expected a word in quotes, got",
];

/// The message about a recipe with one more setting, or `None` if it is accepted.
fn refusal(setting: &str) -> Option<String> {
    let source = typed("test", "");
    let sets: Vec<String> = SMALL.iter().chain([&setting]).map(ToString::to_string).collect();
    let error = resolve(&source, &sets).err()?;
    assert_eq!(error.kind(), ErrorKind::Usage, "{setting}: {error}");
    let message = error.to_string();
    assert!(!message.contains('\n') && message.len() < 600, "{setting}: {message}");
    Some(message)
}

/// The fields that the parser expects instead of an unknown one.
fn expected_fields(setting: &str) -> Vec<String> {
    let message = refusal(setting).expect("an unknown key");
    // "expected one of `a`, `b`, `c`", "expected `a` or `b`"; of a value that has no fields: "expected a string".
    match message.split_once("expected ") {
        Some((before, fields)) if before.contains("unknown key") => {
            fields.split('`').skip(1).step_by(2).map(str::to_string).collect()
        }
        _ => Vec::new(),
    }
}

/// Every key, dotted.
fn keys() -> Vec<String> {
    let mut keys = Vec::new();
    for name in expected_fields("no_such_key=1") {
        let inner = expected_fields(&format!("{name}.no_such_key=1"));
        if inner.is_empty() {
            keys.push(name);
        } else {
            keys.extend(inner.iter().map(|key| format!("{name}.{key}")));
        }
    }
    keys
}

#[test]
fn r19_the_parser_names_all_its_keys() {
    let keys = keys();
    for key in [
        "name",
        "seed",
        "data.validation_fraction",
        "tokenizer.unknown",
        "model.residual_std",
        "train.patience",
        "eval.batch_size",
        "checkpoint.keep",
        "sample.top_k",
    ] {
        assert!(keys.iter().any(|known| known == key), "{key} is not among {keys:?}");
    }
    assert!(keys.len() > 70, "{keys:?}");
}

#[test]
fn r19_every_key_refuses_a_value_of_a_wrong_type_by_its_name() {
    for key in keys() {
        for value in ["[[1]]", "{ a = 1 }"] {
            let setting = format!("{key}={value}");
            let message = refusal(&setting).unwrap_or_else(|| panic!("{setting} was accepted"));
            assert!(message.contains(&key), "{setting}: {message}");
        }
    }
}

#[test]
fn r19_every_number_refuses_what_is_out_of_its_range_by_its_name() {
    let mut numbers = 0;
    for key in keys() {
        let is_wrong_type = |message: String| WRONG_TYPE.iter().any(|words| message.contains(words));
        let takes = |value: &str| refusal(&format!("{key}={value}")).is_none_or(|message| !is_wrong_type(message));
        let invalid: &[&str] = match (takes("1"), takes("0.5")) {
            // Every number from 0 up is a valid seed.
            (true, false) => &["-1", "-9223372036854775808"],
            (true, true) => &["nan", "inf", "-inf", "-1.5e300"],
            _ => continue,
        };
        numbers += 1;
        for value in invalid {
            let setting = format!("{key}={value}");
            let message = refusal(&setting).unwrap_or_else(|| panic!("{setting} was accepted"));
            assert!(message.contains(&key), "{setting}: {message}");
        }
        // Accepted or refused, but never a panic, and never a message without the key.
        for value in ["0", "1", "4294967296", "9223372036854775807", "1e300", "5e-324"] {
            let setting = format!("{key}={value}");
            if let Some(message) = refusal(&setting) {
                let section = key.split('.').next().unwrap_or(&key);
                assert!(message.contains(section), "{setting}: {message}");
            }
        }
    }
    assert!(numbers > 40, "{numbers} keys were taken for numbers");
}

#[test]
fn r19_a_mistyped_key_is_refused_by_its_name() {
    for key in keys() {
        for wrong in [format!("{key}z"), format!("{key}.deeper"), key.to_uppercase()] {
            let setting = format!("{wrong}=1");
            let message = refusal(&setting).unwrap_or_else(|| panic!("{setting} was accepted"));
            // The message names the first wrong part.
            assert!(
                wrong.split('.').any(|part| message.contains(&format!("`{part}`"))) || message.contains(&key),
                "{setting}: {message}"
            );
        }
    }
}

#[test]
fn r19_an_unknown_word_is_refused_with_the_choices() {
    for (key, choice) in [
        ("data.order", "shuffled"),
        ("tokenizer.kind", "bpe"),
        ("tokenizer.unknown", "token"),
        ("model.preset", "llama"),
        ("model.position", "rotary"),
        ("model.norm", "rms_norm"),
        ("model.norm_place", "pre"),
        ("model.activation", "swiglu"),
        ("train.schedule", "cosine"),
        ("train.optimizer", "muon"),
        ("train.precision", "bf16"),
    ] {
        let message = refusal(&format!("{key}=\"zzz\"")).unwrap_or_else(|| panic!("{key} takes zzz"));
        assert!(
            [key, choice, "zzz"].iter().all(|word| message.contains(word)),
            "{key}: {message}"
        );
    }
}

#[test]
fn r19_a_name_is_one_line() {
    // The resolved recipe begins with a comment that contains the name, which these would end. Found by the fuzzer.
    for name in ["", "a\\u0000", "a\\n[train]", "a\\u001b[2J", "a\\u007fb"] {
        let setting = format!("name=\"{name}\"");
        let message = refusal(&setting).unwrap_or_else(|| panic!("{setting} was accepted"));
        assert!(message.contains("name: expected one line"), "{setting}: {message}");
        assert!(!message.chars().any(char::is_control), "{message:?}");
    }
    assert!(refusal(&format!("name=\"{}\"", "x".repeat(201))).is_some());
    assert_eq!(refusal("name=\"één: run-2 / b\""), None);
}

#[test]
fn r19_a_setting_of_many_parts_is_refused_and_needs_no_stack() {
    // Found by the fuzzer, which crashed on it.
    let message = refusal(&format!("{}a=1", "a.".repeat(60_000))).expect("no such key");
    assert!(
        message.contains("a.a...: expected a key of at most 8 parts, got 60001"),
        "{message}"
    );
}
