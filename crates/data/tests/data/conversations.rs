use std::path::PathBuf;

use taal_data::{BatchPlan, Conversations, IGNORE_INDEX, Order, has_conversations};
use taal_store::ErrorKind;
use taal_tokenizer::Tokenizer;

use super::{assert_says, characters, write};

fn tokenizer() -> Tokenizer {
    characters("abcdefghijklmnopqrstuvwxyz ?!")
}

fn jsonl(examples: &[(&str, &str)]) -> String {
    let line =
        |(prompt, completion): &(&str, &str)| format!("{{\"prompt\": {prompt:?}, \"completion\": {completion:?}}}\n");
    examples.iter().map(line).collect()
}

/// The same tokenizer, whose file begins every text with `$`.
fn beginning_tokenizer() -> Tokenizer {
    let mut file: serde_json::Value = serde_json::from_slice(&tokenizer().to_json()).unwrap();
    file["post_processor"] = serde_json::json!({
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [tokenizer().eos_id()], "tokens": ["<|endoftext|>"]}},
    });
    Tokenizer::from_json(&serde_json::to_vec(&file).unwrap()).unwrap()
}

fn open(content: &str, block_size: usize, fraction: f64) -> taal_data::Result<Conversations> {
    open_with(&tokenizer(), content, block_size, fraction)
}

fn open_with(
    tokenizer: &Tokenizer,
    content: &str,
    block_size: usize,
    fraction: f64,
) -> taal_data::Result<Conversations> {
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = write(dir.path(), "talk.jsonl", content);
    Conversations::open(tokenizer, &[path], block_size, fraction)
}

/// The rows of a batch with characters for ids, `$` for the end of a text and `.` where there is no loss.
fn rows(batch: &taal_data::Batch) -> Vec<(String, String)> {
    let tokenizer = tokenizer();
    let show = |ids: &[i32]| {
        ids.iter()
            .map(|&id| match id {
                IGNORE_INDEX => ".".to_owned(),
                id if Some(id as u32) == tokenizer.eos_id() => "$".to_owned(),
                id => tokenizer.decode(&[id as u32]).unwrap(),
            })
            .collect::<String>()
    };
    let (inputs, targets) = (batch.inputs.chunks(batch.seq_len), batch.targets.chunks(batch.seq_len));
    inputs
        .zip(targets)
        .map(|(inputs, targets)| (show(inputs), show(targets)))
        .collect()
}

fn all_rows(conversations: &Conversations) -> Vec<(String, String)> {
    conversations.train.in_order(2).flat_map(|batch| rows(&batch)).collect()
}

#[test]
fn only_completions_and_their_end_have_a_loss() {
    let conversations = open(&jsonl(&[("hoi?", "ja"), ("en?", "nee!")]), 20, 0.0).unwrap();
    let inputs = "hoi?ja$en?nee!$$$$$$";
    let targets = "...ja$...nee!$......";
    assert_eq!(all_rows(&conversations), [(inputs.to_owned(), targets.to_owned())]);
}

#[test]
fn report_7_prompts_are_trained_with_the_tokens_that_generation_adds() {
    let pairs = jsonl(&[("hoi?", "ja"), ("waarom?", "nee")]);
    let rows_of = |block_size| all_rows(&open_with(&beginning_tokenizer(), &pairs, block_size, 0.0).unwrap());
    let row = |inputs: &str, targets: &str| (inputs.to_owned(), targets.to_owned());
    assert_eq!(
        rows_of(12),
        [row("$hoi?ja$$$$$", "....ja$....."), row("$waarom?nee$", ".......nee$.")]
    );
    // A truncated prompt loses its beginning, not the token before it.
    assert_eq!(rows_of(9)[1], row("$rom?nee$", "....nee$."));
}

#[test]
fn examples_share_a_row_when_they_fit_and_none_is_lost() {
    let examples = [("aaa?", "b"), ("c?", "dddd"), ("e?", "f"), ("gg?", "hhh"), ("i?", "j")];
    let conversations = open(&jsonl(&examples), 12, 0.0).unwrap();
    let shown = all_rows(&conversations);
    assert_eq!(shown.len(), 3);
    for (prompt, completion) in examples {
        let whole = format!("{prompt}{completion}$");
        assert_eq!(
            shown.iter().filter(|(inputs, _)| inputs.contains(&whole)).count(),
            1,
            "{whole} in {shown:?}"
        );
    }
    assert!(
        shown
            .iter()
            .all(|(inputs, targets)| inputs.len() == 12 && targets.len() == 12)
    );
    let counted: usize = conversations
        .train
        .in_order(10)
        .map(|batch| batch.counted_targets())
        .sum();
    assert_eq!(
        counted,
        examples
            .iter()
            .map(|(_, completion)| completion.len() + 1)
            .sum::<usize>()
    );
    assert_eq!(conversations.train.completion_bytes(), 10);
}

#[test]
fn an_example_that_is_too_long_loses_the_left_of_its_prompt_and_is_counted() {
    let conversations = open(
        &jsonl(&[("abcdefgh?", "xyz"), ("a?", "b"), ("q?", "abcdefghijkl")]),
        8,
        0.0,
    )
    .unwrap();
    assert_eq!(conversations.train.truncated(), 2);
    let shown = all_rows(&conversations);
    assert_eq!(shown[0], ("fgh?xyz$".to_owned(), "...xyz$.".to_owned()));
    assert_eq!(shown[2], ("?abcdefg".to_owned(), "abcdefg.".to_owned()));
}

#[test]
fn the_last_tenth_of_the_examples_is_held_back() {
    let examples: Vec<_> = (0..20)
        .map(|i| (format!("vraag {}", "x".repeat(i)), "ja".to_owned()))
        .collect();
    let examples: Vec<_> = examples
        .iter()
        .map(|(prompt, completion)| (prompt.as_str(), completion.as_str()))
        .collect();
    let conversations = open(&jsonl(&examples), 40, 0.1).unwrap();
    assert_eq!(conversations.train.examples(), 18);
    let validation = conversations.validation.unwrap();
    assert_eq!(
        (validation.examples(), validation.rows(), validation.block_size()),
        (2, 2, 40)
    );
}

#[test]
fn the_order_is_a_function_of_seed_and_step_and_visits_every_row_once_per_epoch() {
    let letters: Vec<String> = ('a'..='t').map(String::from).collect();
    let examples: Vec<_> = letters.iter().map(|letter| (letter.as_str(), "ja")).collect();
    let source = open(&jsonl(&examples), 4, 0.0).unwrap().train;
    let plan = BatchPlan::new(7, 5, 4).with_order(Order::Shuffled);
    let epoch = |first: u64| {
        (first..first + 4)
            .flat_map(|step| rows(&plan.batch(&source, step).unwrap()))
            .map(|row| row.0)
            .collect::<Vec<_>>()
    };
    let (mut first, mut second) = (epoch(0), epoch(4));
    assert_ne!(first, second);
    assert_eq!(first, epoch(0));
    first.sort();
    second.sort();
    assert_eq!(first, second);
    assert_eq!(
        first,
        letters.iter().map(|letter| format!("{letter}ja$")).collect::<Vec<_>>()
    );
    assert_says(
        plan.check(&open(&jsonl(&examples), 5, 0.0).unwrap().train),
        &["train.block_size", "expected 5", "got 4"],
    );
}

#[test]
fn bad_lines_are_named_by_file_line_and_key() {
    let good = "{\"prompt\": \"a\", \"completion\": \"b\"}\n";
    let cases: [(&str, &[&str]); 7] = [
        (
            "{\"prompt\": \"a\"}\n",
            &["talk.jsonl, line 2", "`completion` is missing"],
        ),
        ("{\"completion\": \"a\"}\n", &["line 2", "`prompt` is missing"]),
        (
            "{\"prompt\": \"a\", \"completion\": 3}\n",
            &["line 2", "`completion`", "expected a string, found a number"],
        ),
        (
            "{\"prompt\": \"a\", \"completion\": \"\"}\n",
            &["line 2", "`completion` is empty"],
        ),
        ("[1, 2]\n", &["line 2", "expected a JSON object, found a list"]),
        ("{\"prompt\": \"a\n", &["line 2", "not valid JSON at column"]),
        (
            "{\"prompt\": \"a\", \"completion\": \"Q\"}\n",
            &["talk.jsonl, line 2", "'Q'"],
        ),
    ];
    for (line, parts) in cases {
        assert_says(open(&format!("{good}{line}"), 8, 0.0), parts);
    }
    assert_says(open("\n\n", 8, 0.0), &["talk.jsonl is empty"]);
    assert_says(open(good, 8, 0.1), &["1 example(s)", "too few"]);
    assert_eq!(open("{}", 8, 0.0).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn conversations_and_documents_are_distinguished_by_their_keys() {
    let dir = tempfile::tempdir().unwrap();
    let talk = write(dir.path(), "talk.jsonl", jsonl(&[("a", "b")]));
    let documents = write(dir.path(), "documents.jsonl", "{\"text\": \"abc\"}\n");
    let text = write(dir.path(), "text.txt", "\"completion\"");
    assert!(has_conversations(&talk).unwrap());
    assert!(!has_conversations(&documents).unwrap() && !has_conversations(&text).unwrap());
}
