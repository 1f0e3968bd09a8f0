//! Layouts of examples, and where their answers are.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use taal_data::{
    ChatFormat, Columns, ConversationOptions, Conversations, Layout, Message, Role, conversation_texts,
    has_conversations, plain_chat,
};
use taal_tokenizer::Tokenizer;
use taal_tokenizer::chat::{ChatFiles, ChatTemplate, Json};

use super::{assert_says, characters, write};

const BLOCK: usize = 256;

pub(super) fn tokenizer() -> Tokenizer {
    characters("abcdefghijklmnopqrstuvwxyzSUATE0123456789 ?!:,\n[](){}/<>|_\"\r")
}

fn options() -> ConversationOptions {
    ConversationOptions {
        validation_fraction: 0.0,
        ..ConversationOptions::default()
    }
}

fn open_with(
    name: &str,
    content: &str,
    block_size: usize,
    options: &ConversationOptions,
) -> taal_data::Result<Conversations> {
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = write(dir.path(), name, content);
    Conversations::open_with(&tokenizer(), &[path], block_size, options)
}

pub(super) fn open(name: &str, content: &str) -> taal_data::Result<Conversations> {
    open_with(name, content, BLOCK, &options())
}

/// Every example with `{ }` around what is learned and `$` for the end of a text.
pub(super) fn shown(conversations: &Conversations) -> Vec<String> {
    let tokenizer = tokenizer();
    let examples = conversations.train.first(usize::MAX).into_iter();
    examples
        .map(|example| {
            let mut text = String::new();
            for (position, &id) in example.ids.iter().enumerate() {
                if example.learned.iter().any(|range| range.start == position) {
                    text.push('{');
                }
                text += &match Some(id) == tokenizer.eos_id() {
                    true => "$".to_owned(),
                    false => tokenizer.decode(&[id]).unwrap(),
                };
                if example.learned.iter().any(|range| range.end == position + 1) {
                    text.push('}');
                }
            }
            text
        })
        .collect()
}

pub(super) const MESSAGES: &str = concat!(
    r#"{"messages": [{"role": "system", "content": "kort"}, {"role": "user", "content": "hoi?"}, "#,
    r#"{"role": "assistant", "content": "dag"}, {"role": "user", "content": "en?"}, {"role": "assistant", "content": "niks"}, "#,
    r#"{"role": "user", "content": "weg"}]}"#,
    "\n"
);

#[test]
fn of_messages_every_answer_and_its_end_have_a_loss_and_nothing_else() {
    let conversations = open("a.jsonl", MESSAGES).unwrap();
    assert_eq!(
        shown(&conversations),
        ["System: kort\nUser: hoi?\nAssistant:{ dag$}\nUser: en?\nAssistant:{ niks$}"]
    );
    let counts = &conversations.counts;
    assert_eq!(counts.layouts[0].1, Layout::Messages);
    // What follows the last answer is left out.
    let messages: Vec<_> = counts
        .roles
        .iter()
        .map(|(role, count)| (*role, count.messages, count.bytes))
        .collect();
    assert_eq!(messages, [("assistant", 2, 7), ("system", 1, 4), ("user", 2, 7)]);
    assert_eq!((counts.examples, counts.learned_tokens, counts.ended), (1, 11, 1));
    let batch = conversations.train.in_order(1).next().unwrap();
    assert_eq!(batch.counted_targets(), 11);
    assert_eq!(conversations.train.completion_bytes(), " dag niks".len() as u64);
}

#[test]
fn every_layout_is_recognized_by_its_columns() {
    let pair = "hoi?{ja$}";
    let chat = "User: hoi?\nAssistant:{ ja$}";
    let cases = [
        (
            "a.jsonl",
            r#"{"prompt": "hoi?", "completion": "ja", "id": 3}"#,
            Layout::Completion,
            pair,
        ),
        (
            "a.jsonl",
            r#"{"prompt": [{"role": "user", "content": "hoi?"}], "completion": [{"role": "assistant", "content": "ja"}]}"#,
            Layout::Completion,
            chat,
        ),
        (
            "a.ndjson",
            r#"{"conversations": [{"from": "human", "value": "hoi?"}, {"from": "gpt", "value": "ja"}]}"#,
            Layout::ShareGpt,
            chat,
        ),
        (
            "a.jsonl",
            r#"{"instruction": "hoi?", "input": "", "output": "ja"}"#,
            Layout::Alpaca,
            chat,
        ),
        (
            "a.jsonl",
            r#"{"instruction": "wat?", "input": "hoi", "output": "ja"}"#,
            Layout::Alpaca,
            "User: wat?\n\nhoi\nAssistant:{ ja$}",
        ),
        (
            "a.jsonl",
            r#"{"prompt": "hoi?", "chosen": "ja", "rejected": "nee"}"#,
            Layout::Preference,
            pair,
        ),
        (
            "a.jsonl",
            concat!(
                r#"{"chosen": [{"role": "user", "content": "hoi?"}, {"role": "assistant", "content": "ja"}], "#,
                r#""rejected": [{"role": "user", "content": "hoi?"}, {"role": "assistant", "content": "nee"}]}"#
            ),
            Layout::Preference,
            chat,
        ),
        (
            "a.jsonl",
            r#"{"messages": [{"role": "user", "content": [{"type": "text", "text": "hoi?"}]}, {"role": "assistant", "content": "ja"}]}"#,
            Layout::Messages,
            chat,
        ),
        ("a.csv", "prompt,completion\nhoi?,ja", Layout::Completion, pair),
        (
            "a.csv",
            "\"completion\";prompt\r\nja;\"hoi?\"\r\n",
            Layout::Completion,
            pair,
        ),
        ("a.tsv", "instruction\toutput\nhoi?\tja\n", Layout::Alpaca, chat),
        (
            "a.csv",
            "messages\n\"[{\"\"role\"\": \"\"user\"\", \"\"content\"\": \"\"hoi?\"\"}, {\"\"role\"\": \"\"assistant\"\", \"\"content\"\": \"\"ja\"\"}]\"\n",
            Layout::Messages,
            chat,
        ),
    ];
    for (name, content, layout, expected) in cases {
        let conversations = open(name, content).unwrap_or_else(|error| panic!("{content}: {error}"));
        assert_eq!(shown(&conversations), [expected], "{content}");
        assert_eq!(conversations.counts.layouts[0].1, layout, "{content}");
        let dir = tempfile::tempdir().unwrap();
        assert!(
            has_conversations(&write(dir.path(), name, content)).unwrap(),
            "{content}"
        );
    }
}

#[test]
fn columns_of_other_names_are_mapped() {
    let columns = Columns {
        prompt: Some("vraag".to_owned()),
        completion: Some("antwoord".to_owned()),
        ..Columns::default()
    };
    let mapped = ConversationOptions { columns, ..options() };
    let content = "antwoord\tvraag\nja\thoi?\n";
    assert_eq!(
        shown(&open_with("a.tsv", content, BLOCK, &mapped).unwrap()),
        ["hoi?{ja$}"]
    );
    assert_says(
        open("a.tsv", content),
        &[
            "a.tsv, line 2",
            "antwoord, vraag",
            "data.prompt_column",
            "data.completion_column",
        ],
    );
    let alpaca = ConversationOptions {
        layout: Some(Layout::Alpaca),
        ..mapped
    };
    let conversations = open_with("a.tsv", content, BLOCK, &alpaca).unwrap();
    assert_eq!(shown(&conversations), ["User: hoi?\nAssistant:{ ja$}"]);
    let said = Columns {
        messages: Some("said".to_owned()),
        ..Columns::default()
    };
    let said = ConversationOptions {
        columns: said,
        ..options()
    };
    let renamed = MESSAGES.replace("messages", "said");
    assert_eq!(open_with("a.jsonl", &renamed, BLOCK, &said).unwrap().counts.examples, 1);
    let dir = tempfile::tempdir().unwrap();
    let texts = conversation_texts(&[write(dir.path(), "a.jsonl", &renamed)], &said).unwrap();
    assert_eq!(
        texts,
        ["System: kort\nUser: hoi?\nAssistant: dag\nUser: en?\nAssistant: niks\n"]
    );
}

#[test]
fn a_pair_without_a_prompt_has_the_messages_with_which_both_begin_as_one() {
    let said = |role: &str, content: &str| format!("{{\"role\": {role:?}, \"content\": {content:?}}}");
    let before = [said("user", "hoi?"), said("assistant", "dag"), said("user", "en?")];
    let with = |last: &str| [&before[..], &[said("assistant", last)]].concat().join(", ");
    let line = |chosen: &str, rejected: &str| format!("{{\"chosen\": [{chosen}], \"rejected\": [{rejected}]}}\n");
    let with_prompt = format!(
        "{{\"prompt\": [{}], \"chosen\": [{}], \"rejected\": [{}]}}\n",
        before.join(", "),
        said("assistant", "ja"),
        said("assistant", "nee")
    );
    let chosen = ConversationOptions {
        layout: Some(Layout::Preference),
        ..options()
    };
    let rejected = ConversationOptions {
        columns: chosen.columns.of_rejected(),
        ..chosen.clone()
    };
    // As in UltraFeedback, whose prompt is the text of a message that both lists have.
    let with_text = line(&with("ja"), &with("nee")).replacen('{', "{\"prompt\": \"en?\", ", 1);
    for content in [line(&with("ja"), &with("nee")), with_prompt, with_text] {
        let sides = [&chosen, &rejected].map(|options| shown(&open_with("a.jsonl", &content, BLOCK, options).unwrap()));
        let expected = ["ja", "nee"].map(|last| {
            vec![format!(
                "User: hoi?\nAssistant: dag$\nUser: en?\nAssistant:{{ {last}$}}"
            )]
        });
        assert_eq!(sides, expected, "{content}");
    }
    let same = line(&with("ja"), &with("ja"));
    assert_says(
        open_with("a.jsonl", &same, BLOCK, &chosen),
        &[
            "a.jsonl, line 1",
            "`chosen` and `rejected` do not differ",
            "leave the row out",
        ],
    );
    let shorter = line(&with("ja"), &before.join(", "));
    for options in [&chosen, &rejected] {
        assert_says(
            open_with("a.jsonl", &shorter, BLOCK, options),
            &["a.jsonl, line 1", "do not differ in an answer"],
        );
    }
}

#[test]
fn a_message_of_weight_0_has_no_loss() {
    let content = MESSAGES.replace(r#""content": "dag""#, r#""content": "dag", "weight": 0"#);
    assert_eq!(
        shown(&open("a.jsonl", &content).unwrap()),
        ["System: kort\nUser: hoi?\nAssistant: dag$\nUser: en?\nAssistant:{ niks$}"]
    );
}

#[test]
fn a_table_keeps_quoted_line_breaks_and_says_where_a_row_begins() {
    let good = "prompt,completion\n\"a\nb?\",\"\"\"ja\"\"\nc\"\n";
    let conversations = open("a.csv", &format!("{good}\nd?,nee\n")).unwrap();
    assert_eq!(shown(&conversations), ["a\nb?{\"ja\"\nc$}", "d?{nee$}"]);
    let lines: Vec<u64> = conversations
        .train
        .first(9)
        .iter()
        .map(|example| example.line)
        .collect();
    assert_eq!(lines, [2, 6]);
    let cases: [(&str, &[&str]); 6] = [
        ("d?,ja,nee\n", &["a.csv, line 5", "expected 2 fields", "found 3"]),
        ("\nd?\n", &["a.csv, line 6", "expected 2 fields", "found 1"]),
        ("d?,\n", &["a.csv, line 5", "`completion` is empty"]),
        ("\"d?,ja\ne?,nee\n", &["a.csv, line 5", "a quote that is not closed"]),
        // Another field that begins with a quote ends the first one.
        (
            "\"d?,ja\ne?,nee\n\"f?,ja\n",
            &["a.csv, line 5", "text follows a quote that closes a field"],
        ),
        ("d?,Q\n", &["a.csv, line 5", "'Q'"]),
    ];
    for (more, parts) in cases {
        assert_says(open("a.csv", &format!("{good}{more}")), parts);
    }
    assert_says(
        open("a.csv", &format!("{good}d?,\"ja\ne?\nf")),
        &["a.csv, line 5", "a quote that is not closed"],
    );
    assert_says(open("a.csv", "prompt,completion\n"), &["a.csv is empty"]);
    assert_says(open("a.csv", ""), &["a.csv is empty"]);
    assert_says(
        open("a.csv", "prompt,prompt\na,b\n"),
        &["line 1", "two columns are named", "prompt"],
    );
    assert_says(
        open("a.csv", "prompt,,completion\na,b,c\n"),
        &["line 1", "column 2 has no name"],
    );
    assert_says(open("a.csv", "prompt,completion\na,\0\n"), &["a.csv is a binary file"]);
}

#[test]
fn quotes_of_a_tsv_file_are_text() {
    let content = "prompt\tcompletion\n\"a?\tja\nb?\t\"nee\nc\t\"ja\"\n";
    let conversations = open("a.tsv", content).unwrap();
    assert_eq!(shown(&conversations), ["\"a?{ja$}", "b?{\"nee$}", "c{\"ja\"$}"]);
    assert_says(
        open("a.tsv", "prompt\tcompletion\n\"a\tb?\"\tja\n"),
        &["a.tsv, line 2", "found 3", "cannot have a tab"],
    );
}

#[test]
fn carriage_returns_of_a_table_are_counted_and_become_line_feeds() {
    let conversations = open("a.csv", "prompt,completion\r\n\"a\r\nb?\",ja\r\n").unwrap();
    assert_eq!(
        (shown(&conversations), conversations.carriage_returns),
        (vec!["a\nb?{ja$}".to_owned()], 1)
    );
}

#[test]
fn a_row_that_teaches_nothing_is_refused_by_its_line() {
    let good = "{\"prompt\": \"a?\", \"completion\": \"b\"}\n";
    let chat = MESSAGES;
    let cases: [(&str, &str, &[&str]); 17] = [
        (
            good,
            r#"{"prompt": "a", "completion": null}"#,
            &["line 2", "`completion` is null"],
        ),
        (
            good,
            r#"{"prompt": ["a"], "completion": "b"}"#,
            &["line 2", "`prompt[0]`", "found a string"],
        ),
        (
            good,
            r#"{"prompt": {"a": 1}, "completion": "b"}"#,
            &["line 2", "`prompt`", "found an object"],
        ),
        (
            good,
            r#"{"question": "a"}"#,
            &["line 2", "`prompt` is missing", "question"],
        ),
        (chat, r#"{"messages": []}"#, &["line 2", "no message of the assistant"]),
        (
            chat,
            r#"{"messages": [[{"role": "user", "content": "a"}]]}"#,
            &["line 2", "`messages[0]`", "a list", "one conversation per row"],
        ),
        (
            chat,
            r#"{"messages": [{"role": "user", "content": "a"}]}"#,
            &["line 2", "no message of the assistant"],
        ),
        (
            chat,
            r#"{"messages": [{"role": "assistant", "content": " "}]}"#,
            &["line 2", "message 1 (assistant) is empty"],
        ),
        (
            chat,
            r#"{"messages": [{"role": "bard", "content": "a"}]}"#,
            &["line 2", "`messages[0]`", "bard", "expected system, developer, user"],
        ),
        (
            chat,
            r#"{"messages": [{"content": "a"}]}"#,
            &["line 2", "`messages[0]`", "`role`"],
        ),
        (
            chat,
            r#"{"messages": [{"role": "user"}]}"#,
            &["line 2", "`messages[0]`", "`content`", "found nothing"],
        ),
        (
            chat,
            r#"{"messages": [{"role": "user", "content": [[1]]}]}"#,
            &["line 2", "`messages[0]`", "parts"],
        ),
        (
            chat,
            r#"{"messages": [{"role": "user", "content": [{"type": "image", "text": "a"}]}]}"#,
            &["line 2", "parts"],
        ),
        (
            chat,
            r#"{"messages": [{"role": "assistant", "content": null, "tool_calls": [1]}]}"#,
            &["line 2", "`messages[0]`, `tool_calls`", "a list of something else"],
        ),
        (chat, r#"{"messages": "hoi"}"#, &["line 2", "`messages`", "in JSON"]),
        (
            chat,
            r#"{"messages": {"role": "user"}}"#,
            &["line 2", "`messages`", "found an object"],
        ),
        (
            chat,
            r#"{"prompt": "a", "completion": "b"}"#,
            &["line 2", "`messages` is missing", "same layout"],
        ),
    ];
    for (before, line, parts) in cases {
        assert_says(open("a.jsonl", &format!("{before}{line}\n")), parts);
    }
    // The first token has nothing before it, and a block may have no room.
    let alone = r#"{"prompt": "", "completion": "b"}"#;
    let bare = characters("ab?");
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "a.jsonl", format!("{good}{alone}\n"));
    assert!(
        Conversations::open_with(&bare, &[path], 8, &options()).is_ok(),
        "this one is after the beginning of the text"
    );
    assert_says(
        open_with(
            "a.jsonl",
            &format!("{good}{good}{}\n", r#"{"prompt": "abcd", "completion": "x"}"#),
            1,
            &options(),
        ),
        &["train.block_size"],
    );
}

#[test]
fn a_row_of_10_mb_is_refused_by_its_line_and_a_long_one_is_cut_and_counted() {
    let row = |bytes: usize| format!("{{\"prompt\": \"a?\", \"completion\": \"{}\"}}\n", "b".repeat(bytes));
    assert_says(
        open("a.jsonl", &format!("{}{}", row(1), row(10_000_000))),
        &["a.jsonl, line 2", "9.5 MiB", "8 MiB", "data.files"],
    );
    let csv = format!("prompt,completion\na?,{}\n", "b".repeat(10_000_000));
    assert_says(open("a.csv", &csv), &["a.csv, line 2", "9.5 MiB"]);
    let conversations = open_with("a.jsonl", &format!("{}{}", row(1), row(100_000)), 16, &options()).unwrap();
    let counts = &conversations.counts;
    assert_eq!(
        (counts.truncated, counts.answers_cut, counts.lost_tokens),
        (1, 1, 100_003 - 16)
    );
    assert_eq!((counts.ended, counts.tokens), (1, 4 + 16));
}

#[test]
fn a_conversation_that_is_too_long_loses_its_beginning_and_keeps_the_last_answer() {
    let conversations = open_with("a.jsonl", MESSAGES, 32, &options()).unwrap();
    // The first answer has lost its question, so it is not learned any more.
    assert_eq!(shown(&conversations), [" dag$\nUser: en?\nAssistant:{ niks$}"]);
    assert_eq!(
        (conversations.train.truncated(), conversations.counts.answers_cut),
        (1, 0)
    );
}

/// Writes answers between brackets, and only the last one with what was thought.
#[derive(Debug, Default)]
struct Template {
    loses: bool,
    marks: bool,
    fails: bool,
}

impl Template {
    fn ranges(&self, messages: &[Message]) -> (String, Vec<Range<usize>>) {
        let (mut text, mut ranges) = (String::new(), Vec::new());
        for (index, message) in messages.iter().enumerate() {
            if message.role != Role::Assistant {
                text += &format!("[{}]", message.content);
                continue;
            }
            text.push('>');
            let thought = if index + 1 == messages.len() { "<t>" } else { "" };
            let start = text.len();
            text += &match self.loses {
                true => thought.to_owned(),
                false => format!("{thought}{}/", message.content),
            };
            ranges.push(start..text.len());
            text.push('\n');
        }
        (text, ranges)
    }
}

impl ChatFormat for Template {
    fn render(&self, messages: &[Message], _tools: &[Json], with_answer_start: bool) -> Result<String, String> {
        if self.fails {
            return Err("the chat template refuses: roles must alternate".to_owned());
        }
        Ok(self.ranges(messages).0 + if with_answer_start { ">" } else { "" })
    }

    fn marked(&self, messages: &[Message], tools: &[Json]) -> Result<(String, Vec<Range<usize>>), String> {
        match self.marks {
            true => Ok(self.ranges(messages)),
            false => Ok((self.render(messages, tools, false)?, Vec::new())),
        }
    }
}

#[test]
fn the_answers_of_any_chat_template_are_found_or_it_is_refused() {
    let with = |template: Template| ConversationOptions {
        format: Some(Arc::new(template)),
        ..options()
    };
    // The first answer is written otherwise as the last message of a conversation, so only what was said is sure of it.
    let open = |template| open_with("a.jsonl", MESSAGES, BLOCK, &with(template));
    assert_eq!(
        shown(&open(Template::default()).unwrap()),
        ["[kort][hoi?]>{dag}/\n[en?]>{<t>niks/$}"]
    );
    let marks = Template {
        marks: true,
        ..Template::default()
    };
    assert_eq!(shown(&open(marks).unwrap()), ["[kort][hoi?]>{dag/}\n[en?]>{<t>niks/$}"]);
    let loses = Template {
        loses: true,
        ..Template::default()
    };
    assert_says(open(loses), &["a.jsonl, line 1", "loses message 3 (assistant)", "dag"]);
    let fails = Template {
        fails: true,
        ..Template::default()
    };
    assert_says(open(fails), &["a.jsonl, line 1", "roles must alternate"]);
}

/// `messages.jsonl` as a chat template in Jinja writes it.
pub(super) fn templated(source: &str, content: &str) -> taal_data::Result<Conversations> {
    formatted(template(source), "a.jsonl", content, BLOCK)
}

/// A file as a chat format writes it.
pub(super) fn formatted(
    format: impl ChatFormat + 'static,
    name: &str,
    content: &str,
    block_size: usize,
) -> taal_data::Result<Conversations> {
    let with_format = ConversationOptions {
        format: Some(Arc::new(format)),
        ..options()
    };
    open_with(name, content, block_size, &with_format)
}

pub(super) fn template(source: &str) -> ChatTemplate {
    let files = ChatFiles::new(source).with_token("eos_token", "<|endoftext|>");
    files.template().unwrap()
}

#[test]
fn rows_are_trained_as_a_chat_template_in_jinja_writes_them() {
    let turns = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{{ eos_token }}\n{% endfor %}";
    let source = format!("{turns}{{% if add_generation_prompt %}}<|assistant|>{{% endif %}}");
    assert_eq!(
        shown(&templated(&source, MESSAGES).unwrap()),
        ["<|system|>kort$\n<|user|>hoi?$\n<|assistant|>{dag$}\n<|user|>en?$\n<|assistant|>{niks$}"]
    );
    // Marks say what is learned, here without the end of an answer; the end of the last one is learned always.
    let marked = "{% for m in messages %}{% if m.role == 'assistant' %}>{% generation %}{{ m.content }}{% endgeneration %}/\
                  {% else %}[{{ m.content }}]{% endif %}{% endfor %}";
    assert_eq!(
        shown(&templated(marked, MESSAGES).unwrap()),
        ["[kort][hoi?]>{dag}/[en?]>{niks$}"]
    );
    // One that writes only conversations that end with a question, and no other part of them.
    let strict = "{% if messages | length != 5 %}{{ raise_exception('five messages') }}{% endif %}\
                  {% for m in messages %}[{{ m.content }}]{% endfor %}";
    assert_eq!(
        shown(&templated(strict, MESSAGES).unwrap()),
        ["[kort][hoi?][{dag}][en?][{niks]$}"]
    );
}

#[test]
fn a_chat_template_that_loses_answers_or_refuses_a_row_is_named_with_the_line() {
    let hoi = "{\"messages\": [{\"role\": \"user\", \"content\": \"hoi\"}, {\"role\": \"assistant\", \"content\": \"dag\"}]}\n";
    let second = format!("{hoi}{MESSAGES}");
    // Earlier answers without what was thought, as templates of reasoning models have it.
    let forgets =
        "{% for m in messages %}{% if loop.last or m.role != 'assistant' %}[{{ m.content }}]{% endif %}{% endfor %}";
    assert_says(
        templated(forgets, &second),
        &[
            "a.jsonl, line 2",
            "loses message 3 (assistant)",
            "dag",
            "data.chat_template",
        ],
    );
    let refuses = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}\
                   [{{ m.content }}]{% endfor %}";
    assert_says(
        templated(refuses, &second),
        &["a.jsonl, line 2", "no system", "leave the row out"],
    );
    let few = "{% set ns = namespace(done=false) %}{% for m in messages %}{% if m.role == 'assistant' and not ns.done %}\
               {% generation %}{{ m.content }}{% endgeneration %}{% set ns.done = true %}\
               {% else %}[{{ m.content }}]{% endif %}{% endfor %}";
    assert_says(
        templated(few, &second),
        &["a.jsonl, line 2", "marks 1 part", "has 2 answers"],
    );
}

#[test]
fn the_plain_template_is_what_its_page_says() {
    let message = |role, content: &str| Message::new(role, content);
    let messages = [
        message(Role::System, "Answer briefly."),
        message(Role::User, "What is the capital of France?"),
        message(Role::Assistant, "Paris."),
        message(Role::Tool, "sunny"),
    ];
    let plain = plain_chat(&tokenizer()).template().unwrap();
    assert_eq!(
        ChatFormat::render(&plain, &messages, &[], false).unwrap(),
        "System: Answer briefly.\nUser: What is the capital of France?\nAssistant: Paris.<|endoftext|>\nTool: sunny\n"
    );
    assert!(
        ChatFormat::render(&plain, &messages[..2], &[], true)
            .unwrap()
            .ends_with("France?\nAssistant:")
    );
}
