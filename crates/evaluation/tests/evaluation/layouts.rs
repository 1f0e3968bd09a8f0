//! The questions of tasks in the layouts of rows that training reads.

use std::sync::Arc;

use taal_data::{ConversationExample, ConversationOptions, Conversations};
use taal_evaluation::{Task, TaskItem};
use taal_inference::LanguageModel;

use crate::messages::{METRIC, chat_model, evaluate, open, write};

const TEMPLATE: &str = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<|endoftext|>\n{% endfor %}\
    {% if add_generation_prompt %}<assistant>{% endif %}";
const ALPACA: &str = "{\"instruction\": \"vertaal\", \"input\": \"kat\", \"output\": \"cat\"}\n\
    {\"instruction\": \"zeg hoi\", \"input\": \"\", \"output\": \"hoi\"}\n\
    {\"instruction\": \"zeg dag\", \"output\": \"dag\", \"system\": \"kort\"}\n";

fn refused(keys: &str, name: &str, rows: &str) -> String {
    open(keys, name, rows).expect_err(rows).to_string()
}

fn asked(task: &Task) -> Vec<(&str, &str)> {
    let items = task.items.iter();
    items
        .map(|item| (item.prompt.as_str(), item.references[0].as_str()))
        .collect()
}

/// The same rows as training reads them.
fn trained(lm: &LanguageModel, rows: &str) -> Vec<ConversationExample> {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "a.jsonl", rows);
    let template = || -> Arc<dyn taal_data::ChatFormat> { Arc::new(lm.chat_template().unwrap()) };
    let options = ConversationOptions {
        validation_fraction: 0.0,
        format: (!lm.chat.is_empty()).then(template),
        ..ConversationOptions::default()
    };
    let tokenizer = lm.tokenizer.as_ref().unwrap();
    let found = Conversations::open_with(tokenizer, &[path], 4096, &options).unwrap();
    found.train.first(usize::MAX)
}

#[test]
fn rows_of_every_layout_of_messages_are_asked_as_training_writes_them_and_no_column_has_to_be_named() {
    let lists = "{\"prompt\": [{\"role\": \"user\", \"content\": \"en?\"}], \
        \"chosen\": [{\"role\": \"assistant\", \"content\": \"ja\"}], \"rejected\": [{\"role\": \"assistant\", \"content\": \"nee\"}]}\n";
    let sharegpt = "{\"system\": \"kort\", \"conversations\": [{\"from\": \"human\", \"value\": \"en?\"}, \
        {\"from\": \"gpt\", \"value\": \"ja\"}]}\n";
    for lm in [chat_model(Some(TEMPLATE)), chat_model(None)] {
        for rows in [ALPACA, lists, sharegpt] {
            let task = open("", "a.jsonl", rows).unwrap();
            assert!(task.is_chat_with(&lm));
            let (found, examples) = (evaluate(&lm, &task), trained(&lm, rows));
            assert_eq!(found.answers.len(), examples.len());
            for (answer, example) in found.answers.iter().zip(&examples) {
                let right = example.answer_text(lm.tokenizer.as_ref().unwrap()).unwrap();
                assert_eq!(answer.written, std::slice::from_ref(&right));
                let item = TaskItem {
                    prompt_ids: Some(example.prompt_ids().to_vec()),
                    ..TaskItem::new("", vec![right])
                };
                let same = Task {
                    items: vec![item],
                    ..task.clone()
                };
                assert_eq!(answer.answer, evaluate(&lm, &same).answers[0].answer);
            }
        }
    }
    let task = open("", "a.jsonl", ALPACA).unwrap();
    assert_eq!(
        asked(&task),
        [
            ("User: vertaal\n\nkat\n", "cat"),
            ("User: zeg hoi\n", "hoi"),
            ("System: kort\nUser: zeg dag\n", "dag")
        ]
    );
}

#[test]
fn an_instruction_and_its_input_are_one_prompt_of_text_where_the_task_says_how_prompts_are_written() {
    let rows: String = ALPACA.lines().take(2).map(|row| format!("{row}\n")).collect();
    let framed = open("template = \"V: {prompt}\\nA:\"\n", "a.jsonl", &rows).unwrap();
    assert_eq!(
        asked(&framed),
        [("V: vertaal\n\nkat\nA:", "cat"), ("V: zeg hoi\nA:", "hoi")]
    );
    let plain = open("chat = false\n", "a.jsonl", &rows).unwrap();
    assert_eq!(asked(&plain), [("vertaal\n\nkat", "cat"), ("zeg hoi", "hoi")]);
    assert!(!plain.is_chat_with(&chat_model(Some(TEMPLATE))));
    // What only a chat template writes is not lost without a word.
    let error = refused("chat = false\n", "a.jsonl", ALPACA);
    assert!(
        error.contains("a.jsonl, line 3") && error.contains("leave out `template` and `chat = false`"),
        "{error}"
    );
}

#[test]
fn columns_are_mapped_as_in_a_recipe() {
    let table = "vraag;over;antwoord;id\nvertaal;kat;cat;1\nzeg hoi;;hoi;2\n";
    let keys = "prompt_column = \"vraag\"\nreference_column = \"antwoord\"\n";
    let whole = format!("{keys}input_column = \"over\"\n");
    let task = open(&whole, "a.csv", table).unwrap();
    assert_eq!(
        asked(&task),
        [("User: vertaal\n\nkat\n", "cat"), ("User: zeg hoi\n", "hoi")]
    );
    assert_eq!(task.notes, ["1 key of rows is not used: `id`"]);
    // Two named columns are a pair of texts, and what is not read is said.
    let pair = open(keys, "a.csv", table).unwrap();
    assert_eq!(asked(&pair), [("vertaal", "cat"), ("zeg hoi", "hoi")]);
    assert_eq!(pair.notes, ["2 keys of rows are not used: `id`, `over`"]);
    let other = "{\"vraag\": \"zeg hoi\", \"output\": \"hoi\"}\n";
    let named = "layout = \"alpaca\"\nprompt_column = \"vraag\"\n";
    assert_eq!(
        asked(&open(named, "a.jsonl", other).unwrap()),
        [("User: zeg hoi\n", "hoi")]
    );
    // Of preferences the chosen answer is the right one.
    let texts = "{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"c\"}\n";
    assert_eq!(asked(&open("", "a.jsonl", texts).unwrap()), [("a", "b")]);
    // A prompt that is named next to a completion is a pair, whatever else the row has.
    let both = "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}], \"completion\": [\"b\", \"c\"]}\n";
    let pair = open("prompt_column = \"messages\"\n", "a.jsonl", both).unwrap();
    assert_eq!(pair.items[0].references, ["b", "c"]);
}

#[test]
fn turns_and_thoughts_that_are_not_read_are_counted_in_notes() {
    let rows = "{\"instruction\": \"a\", \"output\": \"b\", \"history\": [[\"c\", \"d\"]]}\n";
    let notes = open("", "a.jsonl", rows).unwrap().notes;
    assert!(
        notes.len() == 1 && notes[0].contains("a.jsonl: `history` is left out in 1 place"),
        "{notes:?}"
    );
}

#[test]
fn rows_of_a_set_with_one_instruction_are_one_question_with_all_their_answers() {
    let rows = "{\"instruction\": \"a\", \"output\": \"b\"}\n{\"instruction\": \"a\", \"output\": \"c\"}\n";
    let folder = tempfile::tempdir().unwrap();
    let text = format!("data = \"set\"\n{METRIC}");
    let path = write(folder.path(), "task.toml", &text);
    let mut task = Task::open_with(&path, &[("set", rows.to_owned())]).unwrap();
    assert_eq!(task.items.len(), 1);
    assert_eq!(task.items[0].references, ["b", "c"]);
    let lm = chat_model(Some(TEMPLATE));
    let said = evaluate(&lm, &task).answers.remove(0);
    assert_eq!(said.written, ["b", "c"]);
    task.items[0].references[1].clone_from(&said.answer);
    assert_eq!(evaluate(&lm, &task).value, 1.0);
}

#[test]
fn rows_that_no_layout_fits_are_refused_with_keys_that_a_task_has() {
    let long = "a ".repeat(5 << 20);
    let row = format!("{{\"instruction\": \"{long}\", \"output\": \"b\"}}\n");
    let good = "{\"instruction\": \"a\", \"output\": \"b\"}\n";
    for (keys, name, rows, parts) in [
        (
            "",
            "a.jsonl",
            "{\"question\": \"a\", \"answer\": \"b\"}\n",
            ["a.jsonl, line 1", "name others in prompt_column and reference_column"],
        ),
        (
            "",
            "a.csv",
            "vraag,antwoord\na,b\n",
            ["a.csv: line 1", "name others in prompt_column and reference_column"],
        ),
        (
            "",
            "a.jsonl",
            "{\"instruction\": \"a\", \"output\": \" \"}\n",
            ["a.jsonl, line 1", "`output` is empty"],
        ),
        ("", "a.jsonl", &row, ["a.jsonl, line 1", "10.0 MiB of text"]),
        ("", "a.jsonl", &row, ["shorten it, or leave the row out", "8 MiB"]),
        ("", "a.jsonl", "", ["a.jsonl", "empty"]),
        ("", "a.json", "[]", ["a.json", "jq -c"]),
        (
            "input_column = \"over\"\n",
            "a.jsonl",
            good,
            ["a.jsonl, line 1", "`over` is missing"],
        ),
        (
            "input_column = \"over\"\nlayout = \"completion\"\n",
            "a.jsonl",
            good,
            ["task.toml", "layout \"alpaca\""],
        ),
        (
            "input_column = \"over\"\nmessages_column = \"m\"\n",
            "a.jsonl",
            good,
            ["task.toml", "leave out `prompt_column`"],
        ),
        (
            "layout = \"messages\"\nprompt_column = \"m\"\n",
            "a.jsonl",
            good,
            ["task.toml", "leave out `prompt_column`"],
        ),
        (
            "layout = \"alpaca\"\nmessages_column = \"m\"\n",
            "a.jsonl",
            good,
            ["task.toml", "layout \"messages\""],
        ),
        (
            "layout = \"qa\"\n",
            "a.jsonl",
            good,
            ["task.toml: line 4", "expected one of `completion`"],
        ),
    ] {
        let error = refused(keys, name, rows);
        assert!(
            parts.iter().all(|part| error.contains(part)) && !error.contains("data."),
            "{error} does not say {parts:?}"
        );
    }
}
