//! The questions of tasks: rows of tables, several right answers, and prompts as messages of a chat.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use taal_evaluation::{EvaluationError, Task, TaskEvaluation, evaluate_task};
use taal_inference::LanguageModel;
use taal_tokenizer::chat::ChatFiles;

use crate::tiny::char_model;

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn task(folder: &Path, text: &str) -> Result<Task, EvaluationError> {
    Task::open(&write(folder, "task.toml", text))
}

fn evaluate(lm: &LanguageModel, task: &Task) -> TaskEvaluation {
    evaluate_task(lm, task, &mut |_| ControlFlow::Continue(())).unwrap()
}

fn said(lm: &LanguageModel, task: &Task) -> Vec<String> {
    evaluate(lm, task)
        .answers
        .into_iter()
        .map(|answer| answer.answer)
        .collect()
}

#[test]
fn prompts_are_messages_in_the_chat_template_of_a_model_that_has_one_unless_the_task_says_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let plain = char_model();
    let mut chat = char_model();
    chat.chat =
        ChatFiles::new("{% for m in messages %}b{{ m.content }}{% endfor %}{% if add_generation_prompt %}a{% endif %}");
    let with = |keys: &str| {
        let items: String = ["a", "ab", "ba", "bb", "cab"]
            .iter()
            .map(|prompt| format!("[[items]]\nprompt = \"{prompt}\"\nreference = \"x\"\n"))
            .collect();
        task(
            folder.path(),
            &format!("metric = \"exact_match\"\nmax_tokens = 5\n{keys}{items}"),
        )
        .unwrap()
    };
    let (bare, framed) = (with(""), with("template = \"b{prompt}a\"\n"));
    assert_ne!(said(&plain, &bare), said(&plain, &framed), "the frame changes answers");
    assert!(bare.is_chat_with(&chat) && !bare.is_chat_with(&plain));
    assert_eq!(said(&chat, &bare), said(&plain, &framed));
    // The prompt of an answer is the question, so that two models can be compared.
    assert_eq!(evaluate(&chat, &bare).answers[1].prompt, "ab");
    let off = with("chat = false\n");
    assert!(!off.is_chat_with(&chat));
    assert_eq!(said(&chat, &off), said(&plain, &bare));
    // A template of the task takes the place of the model's, or is put into it.
    assert_eq!(said(&chat, &framed), said(&plain, &framed));
    let both = with("chat = true\ntemplate = \"c{prompt}\"\n");
    assert_eq!(said(&chat, &both), said(&plain, &with("template = \"bc{prompt}a\"\n")));
    // A model without one cannot do what the task asks for.
    assert!(evaluate_task(&plain, &both, &mut |_| ControlFlow::Continue(())).is_err());
}

#[test]
fn of_several_right_answers_each_counts_as_the_right_label() {
    let folder = tempfile::tempdir().unwrap();
    let figure = |metric: &str, answers: [&str; 2]| {
        let text = format!(
            "metric = \"{metric}\"\n[[items]]\nprompt = \"a\"\nreference = [\"ja\", \"zeker\"]\n\
             [[items]]\nprompt = \"b\"\nreference = \"nee\"\n"
        );
        let task = task(folder.path(), &text).unwrap();
        assert_eq!(task.labels, ["ja", "nee", "zeker"]);
        let mut answers = answers.iter();
        task.evaluate(|_| answers.next().unwrap().to_string()).value
    };
    for metric in ["accuracy", "macro_f1"] {
        assert_eq!(figure(metric, ["ja", "nee"]), 1.0, "{metric}");
        assert_eq!(figure(metric, ["zeker", "nee"]), 1.0, "{metric}");
        assert!(figure(metric, ["nee", "nee"]) < 1.0, "{metric}");
    }
    assert_eq!(figure("accuracy", ["zeker", "ja"]), 0.5);
}

#[test]
fn fields_of_a_table_are_kept_as_they_are_and_a_row_without_an_answer_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let keys = "data = \"data.csv\"\nmetric = \"exact_match\"\n";
    let read = |rows: &str| {
        write(folder.path(), "data.csv", &format!("id,Prompt,completion\n{rows}"));
        task(folder.path(), keys)
    };
    let found = read("1,\"  a\nb \",\" c\"\n2,d,e\n").unwrap();
    let items: Vec<(&str, &str)> = found
        .items
        .iter()
        .map(|item| (item.prompt.as_str(), item.references[0].as_str()))
        .collect();
    assert_eq!(items, [("  a\nb ", " c"), ("d", "e")]);
    for (rows, line) in [("1,a,b\n2,c,\n", 3), ("1,a,b\n2,,\n", 3), ("1,a,\"  \"\n", 2)] {
        let error = read(rows).unwrap_err().to_string();
        assert!(
            error.contains(&format!("data.csv, line {line}")) && error.contains("`completion`: a reference is empty"),
            "{error}"
        );
    }
    // The same in other files.
    let items = "metric = \"exact_match\"\n[[items]]\nprompt = \"a\"\nreference = [\"b\", \"\"]\n";
    let error = task(folder.path(), items).unwrap_err().to_string();
    assert!(error.contains("question 1: a reference is empty"), "{error}");
    write(
        folder.path(),
        "data.jsonl",
        "{\"prompt\": \"a\", \"completion\": \"\"}\n",
    );
    let error = task(folder.path(), &keys.replace("csv", "jsonl"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("data.jsonl, line 1") && error.contains("is empty"),
        "{error}"
    );
}

#[test]
fn questions_are_read_from_parquet() {
    let folder = tempfile::tempdir().unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/tests/golden/parquet/pairs.parquet");
    let text = format!("data = {path:?}\nmetric = \"exact_match\"\n");
    let found = task(folder.path(), &text).unwrap();
    let items: Vec<(&str, &str)> = found
        .items
        .iter()
        .map(|item| (item.prompt.as_str(), item.references[0].as_str()))
        .collect();
    assert_eq!(items.len(), 300);
    assert_eq!(items[..2], [("vraag a?", "j"), ("vraag b?", "ja")]);
    let other = text + "reference_column = \"answer\"\n";
    let error = task(folder.path(), &other).unwrap_err().to_string();
    assert!(
        error.contains("pairs.parquet") && error.contains("no column `answer`") && error.contains("completion"),
        "{error}"
    );
}
