//! Questions whose prompts are messages: read and written by a chat template as in training, with tools, calls and their results.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use taal_data::{ConversationExample, ConversationOptions, Conversations, plain_chat};
use taal_evaluation::{EvaluationError, Task, TaskEvaluation, TaskItem, compare_tasks, evaluate_task};
use taal_inference::LanguageModel;
use taal_metrics::exact_match;
use taal_model::TransformerConfig;
use taal_tokenizer::chat::ChatFiles;

use crate::size;
use crate::tiny::{byte_tokenizer, model};

/// Writes tools, calls and results, as those of Qwen do.
const TEMPLATE: &str = "{% if tools %}T:{% for t in tools %}{{ t | tojson }}\n{% endfor %}{% endif %}\
    {% for m in messages %}<{{ m.role }}>{{ m.content }}\
    {% for call in m.tool_calls or [] %}[{{ call.function.name }}{{ call.function.arguments | tojson }}]{% endfor %}\
    {% if m.role == 'tool' %}({{ m.name }}){% endif %}<|endoftext|>\n{% endfor %}\
    {% if add_generation_prompt %}<assistant>{% endif %}";

const TOOLS: &str = r#"[{"type": "function", "function": {"name": "weer", "description": "het weer"}}]"#;
const CALL: &str =
    r#"[{"id": "c1", "type": "function", "function": {"name": "weer", "arguments": "{\"stad\": \"Ede\"}"}}]"#;
const ASKED: &str = r#"{"role": "user", "content": "weer in Ede?"}"#;
const RESULT: &str = r#"{"role": "tool", "tool_call_id": "c1", "name": "weer", "content": "zon"}"#;
const SAID: &str = r#"{"role": "assistant", "content": "zonnig"}"#;
pub(super) const METRIC: &str = "metric = \"exact_match\"\nmax_tokens = 6\n";

/// A model of bytes that reads 512 of them.
pub(super) fn chat_model(template: Option<&str>) -> LanguageModel {
    let tokenizer = byte_tokenizer();
    let config = TransformerConfig::llama(size(tokenizer.vocab_size(), 512, 2, 2, 16));
    let config = TransformerConfig {
        tie_embeddings: false,
        ..config
    };
    let mut lm = LanguageModel::new(model(&config, 3), Some(tokenizer));
    lm.chat = template.map(ChatFiles::new).unwrap_or_default();
    lm
}

fn calling() -> String {
    format!("{{\"role\": \"assistant\", \"content\": null, \"tool_calls\": {CALL}}}")
}

pub(super) fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// The task of these rows.
pub(super) fn open(keys: &str, name: &str, rows: &str) -> Result<Task, EvaluationError> {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), name, rows);
    let text = format!("data = \"{name}\"\n{METRIC}{keys}");
    Task::open(&write(folder.path(), "task.toml", &text))
}

pub(super) fn evaluate(lm: &LanguageModel, task: &Task) -> TaskEvaluation {
    evaluate_task(lm, task, &mut |_| ControlFlow::Continue(())).unwrap()
}

fn said(lm: &LanguageModel, rows: &str) -> Vec<String> {
    let found = evaluate(lm, &open("", "a.jsonl", rows).unwrap());
    found.answers.into_iter().map(|answer| answer.answer).collect()
}

/// The same rows as training reads them.
fn trained(lm: &LanguageModel, rows: &str) -> Vec<ConversationExample> {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "a.jsonl", rows);
    let options = ConversationOptions {
        validation_fraction: 0.0,
        format: match lm.chat.is_empty() {
            true => None,
            false => Some(Arc::new(lm.chat_template().unwrap())),
        },
        ..ConversationOptions::default()
    };
    let tokenizer = lm.tokenizer.as_ref().unwrap();
    let found = Conversations::open_with(tokenizer, &[path], 4096, &options).unwrap();
    found.train.first(usize::MAX)
}

#[test]
fn rows_of_messages_tools_and_calls_are_asked_as_training_writes_them() {
    let rows = [
        format!("{{\"messages\": [{ASKED}, {}], \"tools\": {TOOLS}}}\n", calling()),
        format!(
            "{{\"messages\": [{ASKED}, {}, {RESULT}, {SAID}], \"tools\": {TOOLS}}}\n",
            calling()
        ),
        format!(
            "{{\"messages\": [{{\"role\": \"system\", \"content\": \"kort\"}}, {ASKED}, {SAID}, {ASKED}, {SAID}]}}\n"
        ),
    ]
    .concat();
    // A model without a template reads what a model that was trained on these rows would have read.
    for lm in [chat_model(Some(TEMPLATE)), chat_model(None)] {
        let rows = match lm.chat.is_empty() {
            true => rows.lines().last().unwrap().to_owned(),
            false => rows.clone(),
        };
        let tokenizer = lm.tokenizer.as_ref().unwrap();
        let task = open("", "a.jsonl", &rows).unwrap();
        assert!(task.has_messages() && task.is_chat_with(&lm));
        let found = evaluate(&lm, &task);
        let examples = trained(&lm, &rows);
        assert_eq!(found.answers.len(), examples.len());
        let template = match lm.chat.is_empty() {
            true => plain_chat(tokenizer).template(),
            false => Ok(lm.chat_template().unwrap()),
        };
        let template = template.unwrap();
        for ((item, answer), example) in task.items.iter().zip(&found.answers).zip(&examples) {
            let question = item.conversation.as_ref().unwrap().question(tokenizer, &template);
            assert_eq!(question.unwrap().prompt_ids, example.prompt_ids());
            let right = example.answer_text(tokenizer).unwrap();
            assert_eq!(answer.written, std::slice::from_ref(&right));
            // As the metric of a training asks.
            let item = TaskItem {
                prompt_ids: Some(example.prompt_ids().to_vec()),
                ..TaskItem::new("", vec![right.clone()])
            };
            let same = Task {
                items: vec![item],
                ..task.clone()
            };
            let same = evaluate(&lm, &same);
            assert_eq!(answer.answer, same.answers[0].answer);
            assert_eq!(answer.score, same.value);
            assert_eq!(answer.score == 1.0, exact_match(&answer.answer, &right, false));
        }
        assert_eq!(found.warning, None);
    }
}

#[test]
fn a_right_call_is_one_that_is_written_as_the_template_writes_it_and_models_with_other_templates_are_compared() {
    let row = format!("{{\"messages\": [{ASKED}, {}], \"tools\": {TOOLS}}}\n", calling());
    let task = open("", "a.jsonl", &row).unwrap();
    let first = evaluate(&chat_model(Some(TEMPLATE)), &task);
    assert_eq!(first.answers[0].written, ["[weer{\"stad\": \"Ede\"}]"]);
    // What the question is does not depend on the model.
    assert!(
        first.answers[0].prompt.ends_with("User: weer in Ede?\n"),
        "{}",
        first.answers[0].prompt
    );
    assert!(first.answers[0].references[0].contains("\"name\":\"weer\""));
    let other = TEMPLATE.replace("[{{ call.function.name }}", "[call {{ call.function.name }}");
    let second = evaluate(&chat_model(Some(&other)), &task);
    assert_eq!(second.answers[0].written, ["[call weer{\"stad\": \"Ede\"}]"]);
    assert!(compare_tasks(&first, &second).is_some());
    // Of messages with texts as right answers any of these is right.
    let asked = format!("{{\"prompt\": [{ASKED}], \"completion\": [\"x\", \"y\"], \"tools\": {TOOLS}}}\n");
    let mut task = open("", "a.jsonl", &asked).unwrap();
    let said = evaluate(&chat_model(Some(TEMPLATE)), &task).answers.remove(0);
    assert!(said.written.is_empty() && said.references == ["x", "y"]);
    task.items[0].references[1].clone_from(&said.answer);
    assert_eq!(evaluate(&chat_model(Some(TEMPLATE)), &task).value, 1.0);
}

#[test]
fn tools_reach_the_template_with_prompts_that_are_texts_too() {
    let lm = chat_model(Some(TEMPLATE));
    let places = ["Ede", "Epe", "Goor", "Urk", "Velp", "Weert", "Wijhe", "Zeist"];
    let of = |prompt: fn(&str) -> String, tools: &str| -> String {
        let row = |place: &&str| format!("{{\"prompt\": {}, \"completion\": \"zonnig\"{tools}}}\n", prompt(place));
        places.iter().map(row).collect()
    };
    let text = |place: &str| format!("\"weer in {place}?\"");
    let list = |place: &str| format!("[{{\"role\": \"user\", \"content\": \"weer in {place}?\"}}]");
    let tools = format!(", \"tools\": {TOOLS}");
    let with = said(&lm, &of(text, &tools));
    assert_eq!(with, said(&lm, &of(list, &tools)));
    assert_eq!(said(&lm, &of(text, "")), said(&lm, &of(list, "")));
    assert_ne!(with, said(&lm, &of(text, "")), "tools change answers");
    // Keys of tools keep their order, in a table too, where they are a text of JSON.
    let table = format!(
        "prompt,completion,tools\nweer in Ede?,zonnig,\"{}\"\n",
        TOOLS.replace('"', "\"\"")
    );
    for (name, rows) in [("a.jsonl", of(text, &tools)), ("a.csv", table)] {
        let task = open("", name, &rows).unwrap();
        let tools = serde_json::to_string(&task.items[0].tools).unwrap();
        assert_eq!(tools, TOOLS.replace(": ", ":").replace(", ", ","));
        assert_eq!(evaluate(&lm, &task).answers[0].answer, with[0]);
    }
}

#[test]
fn tools_that_the_model_is_not_shown_are_counted_in_a_warning() {
    let row = |tools: &str| format!("{{\"prompt\": \"weer?\", \"completion\": \"zonnig\"{tools}}}\n");
    let rows = row(&format!(", \"tools\": {TOOLS}")).repeat(2) + &row("");
    let warning = |template: Option<&str>, keys: &str| {
        let task = open(keys, "a.jsonl", &rows).unwrap();
        evaluate(&chat_model(template), &task).warning
    };
    assert_eq!(warning(Some(TEMPLATE), ""), None);
    let plain = "{% for m in messages %}[{{ m.content }}]{% endfor %}";
    for (template, keys, why) in [
        (Some(plain), "", "the chat template does not write them"),
        (Some(TEMPLATE), "chat = false\n", "no chat template writes the prompts"),
        (None, "", "no chat template writes the prompts"),
    ] {
        let found = warning(template, keys).unwrap();
        assert!(
            found.contains("the `tools` of 2 questions are not shown") && found.contains(why),
            "{found}"
        );
    }
}

#[test]
fn conversations_of_files_of_all_kinds_are_questions_and_their_column_may_be_named() {
    let parquet = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/tests/golden/parquet/messages.parquet");
    let folder = tempfile::tempdir().unwrap();
    let text = format!("data = {parquet:?}\n{METRIC}");
    let found = Task::open(&write(folder.path(), "task.toml", &text)).unwrap();
    let questions = |task: &Task| -> Vec<(String, Vec<String>)> {
        let items = task.items.iter();
        items
            .map(|item| (item.prompt.clone(), item.references.clone()))
            .collect()
    };
    assert_eq!(
        questions(&found)[2],
        ("System: kort\nUser: wat?\n".to_owned(), vec!["niks".to_owned()])
    );
    let other = "{\"dialog\": [{\"from\": \"human\", \"value\": \"wat?\"}, {\"from\": \"gpt\", \"value\": \"niks\"}], \"system\": \"kort\", \
                 \"prompt\": \"a\", \"completion\": \"b\"}\n";
    let named = open("messages_column = \"dialog\"\n", "a.jsonl", other).unwrap();
    assert_eq!(questions(&named)[0], questions(&found)[2]);
    // Without the name the pair is the question.
    assert_eq!(
        questions(&open("", "a.jsonl", other).unwrap())[0],
        ("a".to_owned(), vec!["b".to_owned()])
    );
}

#[test]
fn questions_that_cannot_be_asked_are_refused_by_line_with_a_way_out() {
    let good = format!("{{\"messages\": [{ASKED}, {SAID}]}}\n");
    let long = "a ".repeat(5 << 20);
    for (keys, rows, parts) in [
        (
            "",
            format!("{good}{{\"messages\": [{ASKED}]}}\n"),
            ["a.jsonl, line 2", "add one after the user's"],
        ),
        (
            "",
            format!("{good}{{\"messages\": [[{ASKED}]]}}\n"),
            ["a.jsonl, line 2", "one conversation per row"],
        ),
        (
            "",
            format!("{good}{{\"prompt\": \"a\", \"completion\": \"b\"}}\n"),
            ["a.jsonl, line 2", "`messages` is missing"],
        ),
        (
            "",
            format!("{{\"prompt\": [{ASKED}], \"completion\": [{ASKED}]}}\n"),
            ["a.jsonl, line 1", "end with the right answer"],
        ),
        (
            "",
            format!("{{\"prompt\": [{ASKED}], \"completion\": \"\"}}\n"),
            ["a.jsonl, line 1", "a reference is empty"],
        ),
        (
            "",
            "{\"prompt\": null, \"completion\": \"b\"}\n".to_owned(),
            ["a.jsonl, line 1", "is null: fill it"],
        ),
        (
            "",
            "{\"prompt\": [], \"completion\": \"b\"}\n".to_owned(),
            ["a.jsonl, line 1", "a text or a list of messages"],
        ),
        (
            "",
            "{\"prompt\": \"a\", \"prompt\": \"c\", \"completion\": \"b\"}\n".to_owned(),
            ["a.jsonl, line 1", "\"prompt\" twice"],
        ),
        (
            "",
            "{\"prompt\": \"a\", \"completion\": \"b\", \"tools\": 3}\n".to_owned(),
            ["a.jsonl, line 1", "a list of functions"],
        ),
        (
            "",
            format!("{{\"prompt\": \"{long}\", \"completion\": \"b\"}}\n"),
            ["a.jsonl, line 1", "10.0 MiB of text"],
        ),
        (
            "",
            format!("{{\"messages\": [{{\"role\": \"user\", \"content\": \"{long}\"}}, {SAID}]}}\n"),
            ["a.jsonl, line 1", "10.0 MiB of text"],
        ),
        (
            "chat = false\n",
            good.clone(),
            ["task.toml", "leave out `template` and `chat = false`"],
        ),
        (
            "template = \"{prompt}!\"\n",
            good.clone(),
            ["task.toml", "leave out `template` and `chat = false`"],
        ),
        (
            "messages_column = \"dialog\"\n",
            good.clone(),
            ["a.jsonl, line 1", "`dialog` is missing"],
        ),
        (
            "messages_column = \"a\"\nprompt_column = \"b\"\n",
            good.clone(),
            ["task.toml", "leave out `prompt_column`"],
        ),
    ] {
        let error = open(keys, "a.jsonl", &rows).expect_err(parts[1]).to_string();
        assert!(
            parts.iter().all(|part| error.contains(part)),
            "{error} does not say {parts:?}"
        );
    }
    // What the template of a model loses or refuses is known when it is asked.
    let lost = "{% for m in messages %}{{ m.role }}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}";
    let refused = "{% for m in messages %}{{ m.content }}{% endfor %}{{ raise_exception('no system here') }}";
    let task = open("", "a.jsonl", &good.repeat(2)).unwrap();
    for (template, parts) in [
        (lost, ["a.jsonl: line 1", "loses message 2"]),
        (refused, ["a.jsonl: line 1", "no system here"]),
    ] {
        let lm = chat_model(Some(template));
        let error = evaluate_task(&lm, &task, &mut |_| ControlFlow::Continue(()))
            .expect_err(parts[1])
            .to_string();
        assert!(
            parts.iter().all(|part| error.contains(part)),
            "{error} does not say {parts:?}"
        );
    }
}
