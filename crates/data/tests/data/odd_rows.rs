//! Rows that would be trained on otherwise than they were meant: refused by line, or said in a note.

use taal_data::{Columns, ConversationOptions, Conversations, Layout};
use taal_tokenizer::chat::{self, ChatInput};

use super::layouts::{shown, template, templated, tokenizer};
use super::{assert_says, write};

fn options() -> ConversationOptions {
    ConversationOptions {
        validation_fraction: 0.0,
        ..ConversationOptions::default()
    }
}

fn open_with(name: &str, content: &str, options: &ConversationOptions) -> taal_data::Result<Conversations> {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), name, content);
    Conversations::open_with(&tokenizer(), &[path], 256, options)
}

fn open(name: &str, content: &str) -> taal_data::Result<Conversations> {
    open_with(name, content, &options())
}

const GOOD: &str = "{\"prompt\": \"hoi?\", \"completion\": \"ja\"}\n";

#[test]
fn of_two_values_under_one_name_neither_is_chosen_silently() {
    for header in [
        "prompt,completion,completion",
        "prompt,completion,completion ",
        "prompt,completion, completion",
    ] {
        assert_says(
            open("a.csv", &format!("{header}\nhoi?,ja,nee\n")),
            &["a.csv, line 1", "two columns are named \"completion\""],
        );
    }
    let twice = "{\"prompt\": \"en?\", \"completion\": \"ja\", \"completion\": \"nee\"}\n";
    assert_says(
        open("a.jsonl", &format!("{GOOD}{twice}")),
        &["a.jsonl, line 2", "the key \"completion\" twice"],
    );
    let within = "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\", \
                  \"content\": \"c\"}]}\n";
    assert_says(
        open("a.jsonl", within),
        &["a.jsonl, line 1", "the key \"content\" twice"],
    );
    // The same key in two objects is no repetition, and all kinds of values are read as before.
    let good = "{\"prompt\": \"hoi?\", \"completion\": \"ja\", \"more\": [1, -2, 3.5, true, null, {\"a\": {\"a\": \"\\u00e9\"}}]}\n";
    assert_eq!(shown(&open("a.jsonl", good).unwrap()), ["hoi?{ja$}"]);
}

#[test]
fn a_preference_between_equal_answers_is_refused_by_line() {
    let preference = ConversationOptions {
        layout: Some(Layout::Preference),
        ..options()
    };
    let row = |chosen: &str, rejected: &str| {
        format!("{{\"prompt\": \"hoi?\", \"chosen\": {chosen}, \"rejected\": {rejected}}}\n")
    };
    let good = row("\"ja\"", "\"nee\"");
    let open = |last: &str| open_with("a.jsonl", &format!("{good}{last}"), &preference);
    assert_eq!(open(&row("\"nee\"", "\"ja\"")).unwrap().counts.examples, 2);
    assert_says(
        open(&row("\"ja\"", "\"ja\"")),
        &["a.jsonl, line 2", "`chosen` and `rejected` are the same"],
    );
    let list = "[{\"role\": \"assistant\", \"content\": \"ja\"}]";
    let of_messages = row(list, list).replace("\"hoi?\"", "[{\"role\": \"user\", \"content\": \"hoi?\"}]");
    assert_says(open(&of_messages), &["a.jsonl, line 2", "are the same"]);
}

#[test]
fn a_missing_key_is_told_with_all_keys_of_its_row_and_an_answer_of_spaces_is_empty() {
    assert_says(
        open("a.jsonl", &format!("{GOOD}{{\"prompt\": \"en?\", \"tag\": \"x\"}}\n")),
        &["line 2", "`completion` is missing", "this one has \"prompt, tag\""],
    );
    for answer in [" ", "\\n\\n", ""] {
        let row = format!("{{\"prompt\": \"en?\", \"completion\": \"{answer}\"}}\n");
        assert_says(
            open("a.jsonl", &format!("{GOOD}{row}")),
            &["line 2", "`completion` is empty"],
        );
        let alpaca = format!("{{\"instruction\": \"en?\", \"output\": \"{answer}\"}}\n");
        assert_says(open("a.jsonl", &alpaca), &["line 1", "`output` is empty"]);
    }
}

#[test]
fn instructions_next_to_the_messages_are_trained_and_what_is_left_out_is_counted() {
    let alpaca = "{\"instruction\": \"hoi?\", \"input\": \"\", \"output\": \"ja\", \"system\": \"kort\", \"history\": [[\"a\", \"b\"]]}\n\
                  {\"instruction\": \"en?\", \"output\": \"nee\", \"system\": \"\", \"history\": []}\n";
    let found = open("a.jsonl", alpaca).unwrap();
    assert_eq!(
        shown(&found),
        [
            "System: kort\nUser: hoi?\nAssistant:{ ja$}",
            "User: en?\nAssistant:{ nee$}"
        ]
    );
    let [note] = found.counts.notes.as_slice() else {
        panic!("one note: {:?}", found.counts.notes)
    };
    assert!(note.contains("a.jsonl: `history` is left out in 1 place:"), "{note}");

    let turns = "[{\"from\": \"human\", \"value\": \"hoi?\"}, {\"from\": \"gpt\", \"value\": \"ja\"}]";
    let own = turns.replacen('[', "[{\"from\": \"system\", \"value\": \"lang\"}, ", 1);
    let sharegpt = format!(
        "{{\"system\": \"kort\", \"conversations\": {turns}}}\n{{\"system\": \"kort\", \"conversations\": {own}}}\n\
         {{\"system\": null, \"conversations\": {turns}}}\n"
    );
    let found = open("a.jsonl", &sharegpt).unwrap();
    let rest = "User: hoi?\nAssistant:{ ja$}";
    assert_eq!(
        shown(&found),
        [
            format!("System: kort\n{rest}"),
            format!("System: lang\n{rest}"),
            rest.to_owned()
        ]
    );
    let [note] = found.counts.notes.as_slice() else {
        panic!("one note: {:?}", found.counts.notes)
    };
    assert!(note.contains("a.jsonl: `system` is left out in 1 place:"), "{note}");

    let thought = "{\"messages\": [{\"role\": \"user\", \"content\": \"hoi?\"}, {\"role\": \"assistant\", \"content\": \"ja\", \
                   \"reasoning_content\": \"een groet\"}]}\n";
    let found = open("a.jsonl", &thought.repeat(2)).unwrap();
    assert!(
        found.counts.notes[0].contains("`reasoning_content` is left out in 2 places"),
        "{:?}",
        found.counts.notes
    );
}

#[test]
fn keys_that_are_not_read_are_listed_once_for_all_files() {
    let dir = tempfile::tempdir().unwrap();
    let rows =
        "{\"prompt\": \"hoi?\", \"completion\": \"ja\", \"id\": 3, \"empty\": \"\", \"nothing\": null, \"none\": []}\n";
    write(dir.path(), "a.jsonl", rows.repeat(2));
    write(dir.path(), "b.csv", "prompt,completion,source,empty\nen?,nee,mij,\n");
    let turns = "[{\"role\": \"user\", \"content\": \"hoi?\", \"mood\": \"good\"}, {\"role\": \"assistant\", \"content\": \"ja\", \
                 \"weight\": 1, \"refusal\": null}]";
    write(
        dir.path(),
        "c.jsonl",
        format!("{{\"messages\": {turns}, \"system\": \"kort\"}}\n"),
    );
    let found = Conversations::open_with(&tokenizer(), &[dir.path().to_owned()], 256, &options()).unwrap();
    assert_eq!(
        found.counts.notes,
        ["4 keys of rows are not used: `id`, `messages[].mood`, `source`, `system`"]
    );
    assert!(open("a.jsonl", GOOD).unwrap().counts.notes.is_empty());
    let many: Vec<String> = (0..30).map(|index| format!("\"k{index:02}\": 1")).collect();
    let row = format!("{{\"prompt\": \"a\", \"completion\": \"b\", {}}}\n", many.join(", "));
    let found = open("a.jsonl", &row).unwrap();
    assert!(
        found.counts.notes[0].starts_with("30 keys") && found.counts.notes[0].ends_with("`k19` and 10 more"),
        "{:?}",
        found.counts.notes
    );
}

#[test]
fn the_input_of_an_instruction_and_the_rejected_answer_may_have_other_names() {
    let name = |name: &str| Some(name.to_owned());
    let mapped = ConversationOptions {
        columns: Columns {
            prompt: name("taak"),
            input: name("tekst"),
            completion: name("antwoord"),
            ..Columns::default()
        },
        ..options()
    };
    let found = open_with("a.csv", "taak,tekst,antwoord\nhoi?,en dit,ja\nen?,,nee\n", &mapped).unwrap();
    assert_eq!(
        shown(&found),
        ["User: hoi?\n\nen dit\nAssistant:{ ja$}", "User: en?\nAssistant:{ nee$}"]
    );
    assert_eq!(found.counts.layouts[0].1, Layout::Alpaca);
    let mapped = ConversationOptions {
        columns: Columns {
            completion: name("goed"),
            rejected: name("fout"),
            ..Columns::default()
        },
        ..options()
    };
    let content = "prompt,goed,fout\nhoi?,ja,nee\n";
    let found = open_with("a.csv", content, &mapped).unwrap();
    assert_eq!(
        (found.counts.layouts[0].1, shown(&found)),
        (Layout::Preference, vec!["hoi?{ja$}".to_owned()])
    );
    let rejected = ConversationOptions {
        layout: Some(Layout::Preference),
        columns: mapped.columns.of_rejected(),
        ..options()
    };
    assert_eq!(shown(&open_with("a.csv", content, &rejected).unwrap()), ["hoi?{nee$}"]);
}

#[test]
fn a_developer_is_trained_under_the_role_that_the_server_gives_it() {
    let row = r#"{"messages": [{"role": "developer", "content": "kort"}, {"role": "user", "content": "hoi?"}, {"role": "assistant", "content": "dag"}]}"#;
    let turns = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{{ eos_token }}{% endfor %}\
                 {% if add_generation_prompt %}<|assistant|>{% endif %}";
    for (before, expected) in [
        ("", "<|system|>kort$"),
        ("{% set x = 'developer' %}", "<|developer|>kort$"),
    ] {
        let source = format!("{before}{turns}");
        let found = templated(&source, row).unwrap();
        let trained = shown(&found).remove(0);
        assert!(trained.starts_with(expected), "{trained}");
        let template = template(&source);
        let asked = [("developer", "kort"), ("user", "hoi?")];
        let asked = asked.map(|(role, content)| chat::Message::new(role, content).into_plain(&template).unwrap());
        let input = ChatInput {
            messages: asked.to_vec(),
            ..ChatInput::default()
        };
        let served = template.render(&input).unwrap().text.replace("<|endoftext|>", "$");
        assert_eq!(trained, served + "{dag$}");
        assert_eq!(found.counts.roles["developer"].messages, 1);
    }
    assert_eq!(
        shown(&open("a.jsonl", row).unwrap()),
        ["System: kort\nUser: hoi?\nAssistant:{ dag$}"]
    );
    let sharegpt = r#"{"system": "kort", "conversations": [{"from": "developer", "value": "kort"}, {"from": "human", "value": "hoi?"}, {"from": "gpt", "value": "dag"}]}"#;
    let found = open("a.jsonl", sharegpt).unwrap();
    assert_eq!(shown(&found), ["System: kort\nUser: hoi?\nAssistant:{ dag$}"]);
    assert!(found.counts.notes.is_empty(), "{:?}", found.counts.notes);
}

#[test]
fn a_list_of_rows_is_refused_with_what_makes_lines_of_it_and_a_damaged_byte_by_its_place() {
    let list = "[{\"prompt\": \"a\", \"completion\": \"b\"}]\n";
    for (name, parts) in [
        ("a.json", ["a.json", "`jq -c '.[]' rows.json > rows.jsonl`"]),
        (
            "a.jsonl",
            ["a.jsonl, line 1", "each row as an object on a line of its own"],
        ),
    ] {
        let error = open(name, list).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    std::fs::write(&path, b"{\"prompt\": \"caf\xe9\", \"completion\": \"b\"}\n").unwrap();
    let error = Conversations::open_with(&tokenizer(), &[path], 256, &options()).unwrap_err();
    assert!(error.to_string().contains("a.jsonl is not UTF-8 at byte 15"), "{error}");
}
