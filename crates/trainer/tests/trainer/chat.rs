//! Chat templates of fine-tuned models: rows are written by them, and every directory carries its own.

use std::path::Path;

use burn::tensor::Device;
use taal_inference::LanguageModel;
use taal_tokenizer::chat::{ChatInput, Message};
use taal_trainer::{Outcome, Progress, RecipeText, Silent, TrainError, preview, resolve};

use crate::watchers::{Notes, StopAfter};
use crate::{finished, run_recipe};

/// The manner of ChatML, whose answers end with a token of their own.
const TEMPLATE: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
                        {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

const ROWS: &str = r#"{"messages": [{"role": "user", "content": "hoi"}, {"role": "assistant", "content": "dag"}]}
{"messages": [{"role": "user", "content": "en?"}, {"role": "assistant", "content": "niks"}]}
"#;

const TINY: &str = r#"
[model]
n_layers = 1
d_model = 16
n_heads = 2
max_seq_len = 64
[train]
steps = 4
batch_size = 2
block_size = 64
[eval]
every = 2
"#;

const TOKENIZER: &str = r#"
[tokenizer]
kind = "bpe"
vocab_size = 260
special_tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
"#;

fn recipe(text: &str) -> RecipeText {
    RecipeText::new("chat", text)
}

fn run(text: &str, run_dir: &Path, is_resume: bool, progress: &mut dyn Progress) -> Result<Outcome, TrainError> {
    run_recipe(&recipe(text), &[], run_dir, is_resume, progress)
}

/// A folder with rows, and a model of running text in `own` that has a template, and says twice which id ends a text.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("rows.jsonl"), ROWS.repeat(5)).unwrap();
    std::fs::write(path("text.txt"), "de kat zat op de mat. ".repeat(40)).unwrap();
    let text = format!("[data]\nfiles = [{:?}]\n{TOKENIZER}{TINY}", path("text.txt"));
    run(&text, &path("base"), false, &mut Silent).unwrap();
    std::fs::create_dir(path("own")).unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(path("base/model").join(name), path("own").join(name)).unwrap();
    }
    std::fs::write(path("own/chat_template.jinja"), TEMPLATE).unwrap();
    std::fs::write(
        path("own/generation_config.json"),
        r#"{"eos_token_id": 0, "temperature": 0.6}"#,
    )
    .unwrap();
    folder
}

fn tuned(folder: &Path, data: &str) -> String {
    let rows = folder.join("rows.jsonl");
    let train = TINY.split_once("[train]").unwrap().1;
    let init = folder.join("own");
    format!("[data]\nconversations = {rows:?}\n{data}[train]\ninit_from = {init:?}\n{train}")
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_fine_tuned_directory_has_the_template_it_was_trained_with_and_stops_where_answers_end() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    let text = tuned(folder.path(), "");
    let rows = preview(&resolve(&recipe(&text), &[]).unwrap(), 1, &mut Silent)
        .unwrap()
        .rows;
    let learned: String = rows[0]
        .row
        .tokens
        .iter()
        .filter(|token| token.is_learned)
        .map(|token| token.text.as_str())
        .collect();
    let whole: String = rows[0].row.tokens.iter().map(|token| token.text.as_str()).collect();
    assert_eq!(
        whole,
        "<|im_start|>user\nhoi<|im_end|>\n<|im_start|>assistant\ndag<|im_end|>"
    );
    assert_eq!(learned, "dag<|im_end|>");

    run(&text, &path("tuned"), false, &mut Silent).unwrap();
    let model = path("tuned/model");
    assert_eq!(
        std::fs::read_to_string(model.join("chat_template.jinja")).unwrap(),
        TEMPLATE
    );
    assert_eq!(json(&model.join("tokenizer_config.json"))["eos_token"], "<|endoftext|>");
    assert_eq!(
        json(&model.join("config.json"))["eos_token_id"],
        serde_json::json!([0, 2])
    );
    let generation = json(&model.join("generation_config.json"));
    assert_eq!(
        (&generation["eos_token_id"], &generation["temperature"]),
        (&serde_json::json!([0, 2]), &0.6.into())
    );
    let lm = LanguageModel::open(&model, &Device::flex()).unwrap();
    assert_eq!(lm.end_ids, [0, 2]);
    // The prompt of a chat is what was trained, up to the answer.
    let input = ChatInput {
        messages: vec![Message::new("user", "hoi")],
        ..ChatInput::default()
    };
    let prompt = lm
        .chat_ids(&lm.chat_template().unwrap().render(&input).unwrap().text)
        .unwrap();
    let trained: Vec<u32> = rows[0].row.tokens.iter().map(|token| token.id).collect();
    assert!(trained.starts_with(&prompt) && trained.len() > prompt.len());

    // A run that was stopped and resumed has the same bytes in every file, also where the first model is gone.
    run(&text, &path("again"), false, &mut StopAfter::step(2)).unwrap();
    std::fs::remove_dir_all(path("own")).unwrap();
    run(&text, &path("again"), true, &mut Silent).unwrap();
    for entry in std::fs::read_dir(&model).unwrap() {
        let name = entry.unwrap().file_name();
        // The model card and the ledger name the run and what it took.
        if ["README.md", "ledger.json"].iter().any(|file| name == *file) {
            continue;
        }
        let [one, other] = ["tuned", "again"].map(|run| std::fs::read(path(run).join("model").join(&name)).unwrap());
        assert!(one == other, "{name:?}");
    }
}

#[test]
fn a_recipe_names_another_template_and_a_model_without_one_gets_the_plain_one() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(
        path("short.jinja"),
        "{% for m in messages %}[{{ m.content }}]{% endfor %}",
    )
    .unwrap();
    let named = tuned(folder.path(), &format!("chat_template = {:?}\n", path("short.jinja")));
    run(&named, &path("named"), false, &mut Silent).unwrap();
    let template = |run: &str| std::fs::read_to_string(path(run).join("model/chat_template.jinja"));
    assert_eq!(
        template("named").unwrap(),
        "{% for m in messages %}[{{ m.content }}]{% endfor %}"
    );

    std::fs::remove_file(path("own/chat_template.jinja")).unwrap();
    run(&tuned(folder.path(), ""), &path("plain"), false, &mut Silent).unwrap();
    let lm = LanguageModel::open(&path("plain"), &Device::flex()).unwrap();
    let input = ChatInput {
        messages: vec![
            Message::new("user", "hoi"),
            Message::new("assistant", "dag"),
            Message::new("user", "en?"),
        ],
        ..ChatInput::default()
    };
    let text = lm.chat_template().unwrap().render(&input).unwrap().text;
    assert_eq!(text, "User: hoi\nAssistant: dag<|endoftext|>\nUser: en?\nAssistant:");

    // Running text is no conversation, and a model that has no template gets none by it.
    assert!(template("base").is_err());

    std::fs::write(path("short.jinja"), "{% for %}").unwrap();
    let error = run(&named, &path("bad"), false, &mut Silent).unwrap_err().to_string();
    assert!(
        error.contains("data.chat_template") && error.contains("short.jinja"),
        "{error}"
    );
    let stray = format!("[data]\nfiles = [\"a.txt\"]\nchat_template = \"a\"\n{TOKENIZER}{TINY}");
    let error = resolve(&recipe(&stray), &[]).unwrap_err().to_string();
    assert!(
        error.contains("data.chat_template") && error.contains("data.conversations"),
        "{error}"
    );
}

#[test]
fn characters_of_several_tokens_are_shown_whole_and_ordinary_tokens_that_become_special_are_told() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    let row = "{\"messages\": [{\"role\": \"user\", \"content\": \"één €?\"}, {\"role\": \"assistant\", \"content\": \"café 🦜\"}]}\n";
    std::fs::write(path("rows.jsonl"), row.repeat(10)).unwrap();
    let rows_of =
        |text: &str, notes: &mut Notes| preview(&resolve(&recipe(text), &[]).unwrap(), 1, notes).unwrap().rows;
    let mut notes = Notes::default();
    let rows = rows_of(&tuned(folder.path(), ""), &mut notes);
    let tokens = &rows[0].row.tokens;
    let text = |is_learned: bool| -> String {
        let tokens = tokens.iter().filter(|token| token.is_learned == is_learned);
        tokens.map(|token| token.text.as_str()).collect()
    };
    // Each byte is a token of this tokenizer, so no token has one of these characters alone.
    assert_eq!(text(true), "café 🦜<|im_end|>");
    assert_eq!(
        text(false),
        "<|im_start|>user\néén €?<|im_end|>\n<|im_start|>assistant\n"
    );
    assert!(tokens.iter().any(|token| token.text == "🦜") && tokens.iter().any(|token| token.text.is_empty()));

    let added = |tokens: &str| tuned(folder.path(), "") + &format!("[tokenizer]\nadded_tokens = {tokens}\n");
    assert!(
        !notes.0.iter().any(|note| note.contains("added_tokens")),
        "{:?}",
        notes.0
    );
    rows_of(&added("[\"d\", \"<|end|>\"]"), &mut notes);
    let note = notes
        .0
        .iter()
        .find(|note| note.contains("added_tokens"))
        .expect("a note");
    assert!(note.contains("\"d\"") && !note.contains("<|end|>"), "{note}");
    let error = resolve(&recipe(&added("[\"<|a|>\", \"<|b|>\", \"<|a|>\"]")), &[])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("tokenizer.added_tokens") && error.contains("\"<|a|>\" twice"),
        "{error}"
    );
}

#[test]
fn rows_with_tools_are_shown_trained_and_answered_as_the_template_writes_them() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    let template = "{% for t in tools or [] %}{{ t.name }}\n{% endfor %}{% for m in messages %}<|im_start|>{{ m.role }}\n\
                    {% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}\
                    {% for call in m.tool_calls or [] %}<call>{% generation %}{{ call.function.name }}\
                    {{ call.function.arguments | tojson }}{% endgeneration %}{% endfor %}{% generation %}<|im_end|>{% endgeneration %}\
                    {% else %}{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}\
                    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    std::fs::write(path("own/chat_template.jinja"), template).unwrap();
    let row = "{\"messages\": [{\"role\": \"user\", \"content\": \"weer?\"}, {\"role\": \"assistant\", \"content\": \"even\", \
               \"tool_calls\": [{\"type\": \"function\", \"function\": {\"name\": \"weer\", \"arguments\": \"{}\"}}]}], \
               \"tools\": [{\"name\": \"weer\"}], \"id\": 7}\n";
    std::fs::write(path("rows.jsonl"), row.repeat(10)).unwrap();
    let text = tuned(folder.path(), "validation_fraction = 0.5\n");
    let resolved = resolve(&recipe(&text), &[]).unwrap();
    let mut notes = Notes::default();
    let rows = preview(&resolved, 1, &mut notes).unwrap().rows;
    let text_of = |is_wanted: &dyn Fn(bool) -> bool| -> String {
        let tokens = rows[0].row.tokens.iter().filter(|token| is_wanted(token.is_learned));
        tokens.map(|token| token.text.as_str()).collect()
    };
    assert_eq!(
        text_of(&|_| true),
        "weer\n<|im_start|>user\nweer?<|im_end|>\n<|im_start|>assistant\neven<call>weer{}<|im_end|>"
    );
    assert_eq!(text_of(&|is_learned| is_learned), "evenweer{}<|im_end|>");
    let unused: Vec<&String> = notes.0.iter().filter(|note| note.contains("not used")).collect();
    assert_eq!(unused, ["1 key of rows is not used: `id`"]);

    // The held-out rows are asked with their tools, and their answer is all that the model writes.
    let settings = ["eval.metric=exact_match", "eval.answers=2"];
    let report = finished(run_recipe(
        &recipe(&text),
        &settings,
        &path("tuned"),
        false,
        &mut Silent,
    ));
    let answers = report.answers.expect("a metric of answers");
    assert_eq!(answers.questions, 2);
    let nearest = answers.nearest.expect("the nearest row");
    assert_eq!(nearest.value, 1.0, "equal rows have equal answers");

    std::fs::write(path("own/chat_template.jinja"), TEMPLATE).unwrap();
    let mut notes = Notes::default();
    let plain = row.replace("\"tool_calls\"", "\"calls\"");
    std::fs::write(path("rows.jsonl"), plain.repeat(3)).unwrap();
    preview(&resolved, 1, &mut notes).unwrap();
    let note = notes.0.iter().find(|note| note.contains("not shown to the model"));
    assert!(
        note.is_some_and(|note| note.contains("`tools` of 3 rows")),
        "{:?}",
        notes.0
    );
}
