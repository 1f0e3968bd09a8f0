//! Rows with tools: the chat template writes them, calls are learned, and what a template does not write is said.

use super::assert_says;
use super::layouts::{MESSAGES, formatted, open, shown, template, templated};

/// Writes tools, calls and results, as those of Qwen do.
const TEMPLATE: &str = "{% if tools %}T:{% for t in tools %}{{ t | tojson }}\n{% endfor %}{% endif %}\
    {% for m in messages %}<|{{ m.role }}|>{{ m.content }}\
    {% for call in m.tool_calls or [] %}<call>{{ call.function.name }}{{ call.function.arguments | tojson }}</call>{% endfor %}\
    {% if m.role == 'tool' %}({{ m.name }}/{{ m.tool_call_id }}){% endif %}<|end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|assistant|>{% endif %}";

const TOOLS: &str =
    r#"[{"type": "function", "function": {"name": "weer", "description": "het weer", "parameters": {}}}]"#;

const CALL: &str = r#"[{"id": "c1", "type": "function", "function": {"name": "weer", "arguments": "{\"stad\": \"Ede\", \"dag\": 1}"}}]"#;

const ASKED: &str = r#"{"role": "user", "content": "weer?"}"#;

const RESULT: &str = r#"{"role": "tool", "tool_call_id": "c1", "name": "weer", "content": "zon"}"#;

const SAID: &str = r#"{"role": "assistant", "content": "zonnig"}"#;

fn row(tools: &str, messages: &[&str]) -> String {
    format!("{{\"messages\": [{}]{tools}}}\n", messages.join(", "))
}

fn calls(more: &str) -> String {
    format!("{{\"role\": \"assistant\", \"tool_calls\": {CALL}{more}}}")
}

fn with_tools() -> String {
    let tools = format!(", \"tools\": {TOOLS}, \"parallel_tool_calls\": false");
    row(&tools, &[ASKED, &calls(", \"content\": null"), RESULT, SAID])
}

const WRITTEN: &str = concat!(
    "T:{\"type\": \"function\", \"function\": {\"name\": \"weer\", \"description\": \"het weer\", \"parameters\": {}}}\n",
    "<|user|>weer?<|end|>\n<|assistant|>{<call>weer{\"stad\": \"Ede\", \"dag\": 1}</call><|end|>}\n",
    "<|tool|>zon(weer/c1)<|end|>\n<|assistant|>{zonnig<|end|>$}"
);

#[test]
fn tools_are_given_to_the_chat_template_in_their_order_and_calls_are_learned() {
    let found = templated(TEMPLATE, &with_tools()).unwrap();
    assert_eq!(shown(&found), [WRITTEN]);
    assert_eq!(found.counts.notes, ["1 key of rows is not used: `parallel_tool_calls`"]);
    // Arguments may be an object, tools a text of JSON, and a message may say something besides its call.
    let arguments = CALL.replace(r#""{\"stad\": \"Ede\", \"dag\": 1}""#, r#"{"stad": "Ede", "dag": 1}"#);
    let quoted = format!(", \"tools\": {TOOLS:?}");
    let content = row(&quoted, &[ASKED, &calls(", \"content\": \"even\""), RESULT, SAID]).replace(CALL, &arguments);
    assert_eq!(
        shown(&templated(TEMPLATE, &content).unwrap()),
        [WRITTEN.replace("{<call>", "{even<call>")]
    );
    // An answer may be a call alone, in a text of JSON in a table too.
    let cell = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let table = format!(
        "messages,tools\n{},{}\n{},\n",
        cell(&format!("[{ASKED}, {}]", calls(""))),
        cell(TOOLS),
        cell(&format!("[{ASKED}, {SAID}]"))
    );
    assert_eq!(
        shown(&formatted(template(TEMPLATE), "a.csv", &table, 256).unwrap()),
        [
            WRITTEN.split_once("}\n<|tool|>").unwrap().0.to_owned() + "$}",
            "<|user|>weer?<|end|>\n<|assistant|>{zonnig<|end|>$}".to_owned()
        ]
    );
}

#[test]
fn tools_that_the_chat_template_does_not_write_are_counted_in_a_note() {
    let plain = "{% for m in messages %}[{{ m.content }}]{% endfor %}";
    let content =
        row(&format!(", \"tools\": {TOOLS}"), &[ASKED, SAID]).repeat(3) + &row(", \"tools\": []", &[ASKED, SAID]);
    let found = templated(plain, &content).unwrap();
    assert_eq!(shown(&found)[0], "[weer?]{[zonnig]$}");
    let [note] = found.counts.notes.as_slice() else {
        panic!("one note: {:?}", found.counts.notes)
    };
    assert!(
        note.contains("a.jsonl: the `tools` of 3 rows are not shown to the model")
            && note.contains("data.chat_template"),
        "{note}"
    );
    // No template writes two texts.
    let texts = format!("{{\"prompt\": \"hoi?\", \"completion\": \"ja\", \"tools\": {TOOLS}}}\n");
    assert_eq!(
        open("a.jsonl", &texts).unwrap().counts.notes,
        ["1 key of rows is not used: `tools`"]
    );
    // A call before the answer that is learned is part of what the model reads.
    let before = row(
        "",
        &[ASKED, &calls(", \"weight\": 0, \"content\": \"even\""), RESULT, SAID],
    );
    let notes = templated(plain, &before).unwrap().counts.notes;
    assert!(
        notes.len() == 1 && notes[0].contains("the `tool_calls` of 1 row are not shown"),
        "{notes:?}"
    );
    assert!(templated(TEMPLATE, &before).unwrap().counts.notes.is_empty());
}

#[test]
fn calls_that_a_chat_template_loses_and_tools_that_are_no_list_of_functions_are_refused_by_line() {
    let good = row("", &[ASKED, SAID]);
    let lost = |more: &str| good.clone() + &row("", &[ASKED, &calls(more)]);
    for more in ["", ", \"content\": \"even\""] {
        assert_says(
            open("a.jsonl", &lost(more)),
            &[
                "a.jsonl, line 2",
                "loses the calls of message 2 (assistant)",
                "data.chat_template",
            ],
        );
    }
    let marked = "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}\
                  {{ m.tool_calls }}{% else %}[{{ m.content }}]{% endif %}{% endfor %}";
    assert_says(
        templated(marked, &lost(", \"content\": \"even\"")),
        &["a.jsonl, line 2", "loses the calls of message 2", "generation"],
    );
    for (tools, found) in [
        ("\"weer\"", "another text"),
        ("{\"name\": \"weer\"}", "an object"),
        ("[\"weer\"]", "something else"),
        ("3", "a number"),
    ] {
        let content = good.clone() + &row(&format!(", \"tools\": {tools}"), &[ASKED, SAID]);
        assert_says(open("a.jsonl", &content), &["a.jsonl, line 2", "key `tools`", found]);
    }
    let twice = good.clone() + &row(", \"tools\": [{\"name\": \"a\", \"name\": \"b\"}]", &[ASKED, SAID]);
    assert_says(open("a.jsonl", &twice), &["a.jsonl, line 2", "\"name\" twice"]);
    let older =
        "{\"role\": \"assistant\", \"content\": null, \"function_call\": {\"name\": \"weer\", \"arguments\": \"{}\"}}";
    assert_says(
        open("a.jsonl", &(good + &row("", &[ASKED, older]))),
        &["a.jsonl, line 2", "`messages[1]`", "`content`", "`tool_calls`"],
    );
}

#[test]
fn calls_in_the_middle_of_a_conversation_end_where_they_do_at_its_end_or_are_refused() {
    // As Qwen3's: the last message begins with a thought.
    let thinks = "{% for m in messages %}<|{{ m.role }}|>{% if loop.last and m.role == 'assistant' %}<think></think>{% endif %}\
                  {{ m.content }}{% for call in m.tool_calls or [] %}<call>{{ call.function.arguments | tojson }}</call>{% endfor %}\
                  <|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}";
    let content = row("", &[ASKED, &calls(""), RESULT, SAID]);
    assert_eq!(
        shown(&templated(thinks, &content).unwrap()),
        [
            "<|user|>weer?<|end|><|assistant|>{<call>{\"stad\": \"Ede\", \"dag\": 1}</call><|end|>}<|tool|>zon<|end|>\
             <|assistant|>{<think></think>zonnig<|end|>$}"
        ]
    );
    let other = thinks.replace(
        "<|end|>{% endfor %}",
        "{% if not loop.last %}!{% endif %}<|end|>{% endfor %}",
    );
    assert_says(
        templated(&other, &content),
        &["a.jsonl, line 1", "calls of message 2", "not known", "generation"],
    );
}

#[test]
fn every_part_that_a_chat_template_marks_in_an_answer_is_learned() {
    let marked = |before: &str, between: &str| {
        format!(
            "{{% for m in messages %}}{{% if m.role == 'assistant' %}}{before}{{% generation %}}{{{{ m.content }}}}{{% endgeneration %}}\
             {between}{{% generation %}}<|end|>{{% endgeneration %}}{{% else %}}[{{{{ m.content }}}}]{{% endif %}}{{% endfor %}}"
        )
    };
    let found = templated(&marked(">", "/"), MESSAGES).unwrap();
    assert_eq!(shown(&found), ["[kort][hoi?]>{dag}/{<|end|>}[en?]>{niks}/{<|end|>$}"]);
    let example = &found.train.first(1)[0];
    let length = "niks/<|end|>$".len();
    assert_eq!(example.answer, example.ids.len() - length..example.ids.len());
    // Parts that touch are one.
    assert_eq!(
        shown(&templated(&marked(">", ""), MESSAGES).unwrap()),
        ["[kort][hoi?]>{dag<|end|>}[en?]>{niks<|end|>$}"]
    );
    // Those of an answer without a loss are left out, also where the marks come before what is said.
    let weightless = MESSAGES.replace(r#""content": "dag""#, r#""content": "dag", "weight": 0"#);
    assert_eq!(
        shown(&templated(&marked(">", "/"), &weightless).unwrap()),
        ["[kort][hoi?]>dag/<|end|>[en?]>{niks}/{<|end|>$}"]
    );
    let thought = marked("{% generation %}<t>{% endgeneration %}!", "/");
    assert_eq!(
        shown(&templated(&thought, &weightless).unwrap()),
        ["[kort][hoi?]<t>!dag/<|end|>[en?]{<t>}!{niks}/{<|end|>$}"]
    );
    // A row that is too long keeps its last answer with all of its parts, and no part of an answer that lost its beginning.
    let cut = formatted(template(&marked(">", "/")), "a.jsonl", MESSAGES, 28).unwrap();
    assert_eq!(shown(&cut), ["g/<|end|>[en?]>{niks}/{<|end|>$}"]);
    assert_eq!(cut.counts.answers_cut, 0);
}
