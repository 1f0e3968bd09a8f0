//! `taal chat` from a script: what it answers, keeps, refuses and survives.

use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};

use crate::{Place, done, stderr, stdout};

/// A template of the characters that the model knows.
const TEMPLATE: &str =
    "{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}.{% endif %}{{ '\\n' }}{% endfor %}";

/// A model of 40 tokens of context in `model`, with a chat template or without.
fn place(template: Option<&str>) -> Place {
    let place = Place::new();
    done(place.train_with(&["train.block_size=40"]));
    done(place.taal(&["export", "--model", "run", "--to", "hf", "--out", "model"]));
    if let Some(template) = template {
        place.write("model/chat_template.jinja", template);
    }
    place
}

/// `taal chat` with these lines on standard input.
fn chat(place: &Place, arguments: &[&str], lines: impl AsRef<[u8]>) -> Output {
    let mut child = start(place, arguments);
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(lines.as_ref()).expect("written");
    drop(input);
    child.wait_with_output().expect("an end")
}

fn start(place: &Place, arguments: &[&str]) -> std::process::Child {
    let base = ["chat", "--model", "model", "--seed", "5"];
    let mut command = place.command(&[&base, arguments].concat());
    let command = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().expect("taal starts")
}

#[test]
fn a_scripted_chat_answers_saves_and_says_the_same_again() {
    let place = place(Some(TEMPLATE));
    let short = ["--max-tokens", "5"];
    let output = chat(
        &place,
        &short,
        "de kat\n\n/save a.json\nde rat\n/save a.json\n/stats\n/quit\nde trap\n",
    );
    let said = stderr(&output);
    assert!(
        said.contains("the answer ends here because it has 5 tokens (--max-tokens)"),
        "{said}"
    );
    let text = done(output);
    let saved: serde_json::Value = serde_json::from_str(&place.read("a.json")).expect("JSON");
    let messages = saved["messages"].as_array().expect("messages");
    let [roles, texts] = ["role", "content"].map(|key| {
        messages
            .iter()
            .map(|message| message[key].as_str().expect("a text"))
            .collect::<Vec<_>>()
    });
    assert_eq!(roles, ["user", "assistant", "user", "assistant"]);
    assert_eq!([texts[0], texts[2]], ["de kat", "de rat"]);
    assert_eq!([texts[1], texts[3]].map(|text| text.chars().count()), [5, 5]);
    assert!(text.starts_with(&format!("{}\n{}\n", texts[1], texts[3])), "{text}");
    // 7 + 5 + 2 + 7 tokens, of which the first 11 were read already.
    assert!(
        text.contains("last prompt  21 tokens, of which 11 were in the cache"),
        "{text}"
    );
    assert!(text.contains("] 26 of 40 tokens"), "{text}");
    let again = chat(&place, &short, "de kat\nde rat\n");
    assert!(text.starts_with(&done(again)), "equal seeds give equal answers");
}

#[test]
fn a_draft_changes_no_answer_of_a_chat_and_stats_say_how_it_guessed() {
    let place = place(Some(TEMPLATE));
    let lines = "de kat\nde rat\n";
    let short = ["--max-tokens", "8"];
    let plain = done(chat(&place, &short, lines));
    let drafts = [["--draft", "model"], ["--draft-ngram", "1"]];
    for draft in drafts {
        let text = done(chat(&place, &[&short[..], &draft].concat(), format!("{lines}/stats\n")));
        assert!(text.starts_with(&plain), "{text}");
        assert!(
            text.contains(" guessed tokens of the last answer were right and "),
            "{text}"
        );
    }
    // The prompt gives the first token, a pass with four guesses five more, and one with a guess the last two.
    let text = done(chat(&place, &[&short[..], &drafts[0]].concat(), "de kat\n/stats\n"));
    let all = "5 guessed tokens of the last answer were right and 0 wrong, in 3 passes of the model";
    assert!(text.contains(all), "{text}");
    let output = chat(&place, &["--draft", "nowhere"], "");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("nowhere: no model here"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn regenerate_replaces_the_answer_and_instructions_come_first() {
    let place = place(Some(TEMPLATE));
    let lines = "/system het\nde kat\n/regenerate\n/system\n/save b.json\n/new\nde\n/save c.json\n";
    let text = done(chat(&place, &["--max-tokens", "8"], lines));
    let lines: Vec<&str> = text.lines().collect();
    assert_ne!(lines[0], lines[1], "another answer");
    let b: serde_json::Value = serde_json::from_str(&place.read("b.json")).expect("JSON");
    let said = |text: &str| serde_json::json!({"role": "user", "content": text});
    let system = serde_json::json!({"role": "system", "content": "het"});
    assert_eq!(b["messages"][0], system);
    assert_eq!(b["messages"][1], said("de kat"));
    assert_eq!(b["messages"].as_array().map(Vec::len), Some(3));
    let answer = b["messages"][2]["content"].as_str().expect("a text");
    assert!(text.contains(&format!("{answer}\nhet\n")), "{text:?} {answer:?}");
    let c: serde_json::Value = serde_json::from_str(&place.read("c.json")).expect("JSON");
    assert_eq!(c["messages"][0], system);
    assert_eq!(c["messages"][1], said("de"));
}

#[test]
fn what_does_not_fit_is_refused_with_both_counts_and_a_full_context_is_said() {
    let place = place(Some(TEMPLATE));
    let long = "de kat ".repeat(9);
    let output = chat(&place, &[], &long);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("the prompt has 64 tokens and the model's context holds 40"),
        "{}",
        stderr(&output)
    );
    assert!(
        stderr(&output).contains("hint: /new starts a new conversation"),
        "{}",
        stderr(&output)
    );
    let output = chat(&place, &[], "de kat\n/stats\n");
    assert!(
        stderr(&output).contains("the answer ends here because the context is full"),
        "{}",
        stderr(&output)
    );
    assert!(done(output).contains("[##########] 40 of 40 tokens"));
}

#[test]
fn a_model_without_a_template_continues_texts_and_says_so() {
    let place = place(None);
    let output = chat(&place, &["--max-tokens", "6"], "de kat\n\n/save d.json\n");
    assert!(
        stderr(&output).contains("it continues what you type"),
        "{}",
        stderr(&output)
    );
    let text = done(output);
    let saved: serde_json::Value = serde_json::from_str(&place.read("d.json")).expect("JSON");
    let continued = saved["text"].as_str().expect("a text");
    assert!(continued.starts_with("de kat"));
    assert_eq!(continued.chars().count(), 6 + 6 + 6);
    assert_eq!(text.replace('\n', ""), continued[6..].replace('\n', ""));
    let output = chat(&place, &[], "/system het\n");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("instructions need a model with a chat template"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn bad_input_is_one_clear_error() {
    let place = place(Some("{{ raise_exception('geen gesprek') }}"));
    for (arguments, lines, code, said) in [
        (vec![], "de kat\n", 2, "refuses this conversation: geen gesprek"),
        (
            vec!["--system", "het"],
            "",
            2,
            "refuses this conversation: geen gesprek",
        ),
        (vec![], "/regenerate\n", 2, "nothing was said yet"),
        (vec![], "/sytem x\n", 2, "is not a command"),
        (vec![], "/save\n", 2, "needs the name of a file"),
        (vec![], "/save model/config.json\n", 2, "already exists"),
        (vec!["--temperature", "-1"], "", 2, "temperature: expected"),
        (vec!["--stop", ""], "", 2, "stop: expected"),
        (
            vec!["--frequency-penalty", "3"],
            "",
            2,
            "frequency_penalty: expected a number from -2 to 2",
        ),
        (
            vec!["--logit-bias", "x"],
            "",
            2,
            "expected a token id and a number, as in 17=-100",
        ),
    ] {
        let output = chat(&place, &arguments, lines);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?} {lines}: {}",
            stderr(&output)
        );
        assert!(
            stderr(&output).contains(said),
            "{arguments:?} {lines}: {}",
            stderr(&output)
        );
    }
    place.write(
        "model/chat_template.jinja",
        "{% for x in range(9999) %}{% for y in range(9999) %}x{% endfor %}{% endfor %}",
    );
    let output = chat(&place, &[], "de kat\n");
    assert_eq!(output.status.code(), Some(65));
    assert!(
        stderr(&output).contains("it takes too many steps"),
        "{}",
        stderr(&output)
    );
    place.write("model/chat_template.jinja", "{% if %}");
    let output = chat(&place, &[], "de kat\n");
    assert_eq!(output.status.code(), Some(65));
    assert!(stderr(&output).contains("line 1: syntax error"), "{}", stderr(&output));
    let output = chat(&place, &["--no-template"], b"de kat\nde \xff\n");
    assert_eq!(output.status.code(), Some(65));
    assert!(
        stderr(&output).contains("standard input: line 2 is no text in UTF-8"),
        "{}",
        stderr(&output)
    );
    // The model itself is whole.
    done(chat(&place, &["--no-template", "--max-tokens", "3"], "de kat\n"));
}

#[test]
fn a_masked_model_is_refused_in_one_sentence() {
    let place = Place::new();
    let masked = [
        "tokenizer.kind=wordpiece",
        "tokenizer.vocab_size=60",
        "model.preset=bert",
        "train.objective=masked",
        "train.block_size=24",
        "sample.prompts=[\"de kat krabt de [MASK]\"]",
    ];
    done(place.train_with(&masked));
    let output = place.taal(&["chat", "--model", "run"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("a chat needs a causal model, and this one is bidirectional"),
        "{}",
        stderr(&output)
    );
}

#[cfg(unix)]
#[test]
fn an_interrupt_stops_the_answer_and_not_the_program() {
    let place = place(None);
    let mut child = start(&place, &["--max-tokens", "1000000000"]);
    let mut input = child.stdin.take().expect("a pipe");
    let mut output = child.stdout.take().expect("a pipe");
    input.write_all(b"de kat\n").expect("written");
    output.read_exact(&mut [0; 20]).expect("an answer under way");
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(sent.expect("kill").success());
    input.write_all(b"/stats\n/quit\n").expect("still there");
    let mut rest = String::new();
    output.read_to_string(&mut rest).expect("text");
    assert!(rest.contains("last answer"), "{rest}");
    let output = child.wait_with_output().expect("an end");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("(stopped)"), "{}", stderr(&output));
    assert_eq!(stdout(&output), "");
}
