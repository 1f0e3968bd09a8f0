//! Generated answers compared with references.

use std::ops::ControlFlow;
use std::path::Path;

use taal_evaluation::{EvaluationError, Task, TaskEvaluation, compare_tasks, evaluate_task};
use taal_inference::{GenerateOptions, LanguageModel, Prompt, Sampling, TranslateOptions, generate, translate};
use taal_metrics::{AnswerMetric, CorpusMetric, SentenceCounts};
use taal_model::{EncoderConfig, TransformerConfig};
use taal_tokenizer::{Kind, TrainerConfig, Unknown};

use crate::size;
use crate::tiny::{CONTEXT, VOCAB_SIZE, char_model, char_tokenizer, model};

const PROMPTS: [&str; 4] = ["a", "ab", "ba", "bb"];

fn write(folder: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// What the model says after a prompt.
fn said(lm: &LanguageModel, prompt: &str) -> String {
    let options = GenerateOptions {
        max_tokens: 5,
        sampling: Sampling::greedy(),
        ..GenerateOptions::default()
    };
    let prompt = Prompt::from(prompt);
    let found = generate(lm, &prompt, &options, &mut |_| ControlFlow::Continue(())).unwrap();
    found.text.unwrap().trim().to_owned()
}

fn evaluate(lm: &LanguageModel, task: &Task) -> TaskEvaluation {
    evaluate_task(lm, task, &mut |_| ControlFlow::Continue(())).unwrap()
}

/// Lines with the model's own answers as references, but a wrong one for the last.
fn lines(lm: &LanguageModel, template: &str) -> String {
    let line = |(index, prompt): (usize, &&str)| {
        let right = said(lm, &template.replace("{prompt}", prompt));
        let reference = if index == 3 { format!("{right}x") } else { right };
        format!(
            "{}\n",
            serde_json::json!({"question": prompt, "answer": ["never", reference]})
        )
    };
    PROMPTS.iter().enumerate().map(line).collect()
}

#[test]
fn answers_are_the_greedy_continuations_of_the_template_and_any_reference_counts() {
    let lm = char_model();
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "data.jsonl", &lines(&lm, "b{prompt}a"));
    let file = write(
        folder.path(),
        "mine.toml",
        "data = \"data.jsonl\"\nprompt_column = \"question\"\nreference_column = \"answer\"\ntemplate = \"b{prompt}a\"\n\
         metric = \"exact_match\"\nmax_tokens = 5\n",
    );
    let task = Task::open(&file).unwrap();
    let found = evaluate(&lm, &task);
    assert_eq!((found.name.as_str(), found.total, found.value), ("mine", 4, 0.75));
    assert!(
        found.interval[0] < 0.75 && found.interval[1] == 1.0,
        "{:?}",
        found.interval
    );
    assert_eq!(found.answers[0].prompt, "baa");
    assert_eq!(found.answers[0].answer, said(&lm, "baa"));
    assert_eq!(
        found.answers.iter().map(|answer| answer.score).collect::<Vec<_>>(),
        [1.0, 1.0, 1.0, 0.0]
    );
    assert_eq!(found, evaluate(&lm, &task), "a score has the same bits every time");

    let limited = std::fs::read_to_string(&file).unwrap() + "limit = 3\n";
    let limited = Task::open(&write(folder.path(), "limited.toml", &limited)).unwrap();
    assert_eq!(evaluate(&lm, &limited).value, 1.0);
}

#[test]
fn labels_are_read_from_answers_and_scored_by_accuracy_and_macro_f1() {
    let lm = char_model();
    let folder = tempfile::tempdir().unwrap();
    let right = said(&lm, "a");
    assert!(!right.is_empty());
    // Two questions with the same prompt, of which one has a label that the model does not give.
    let task = |metric: &str| {
        let text = format!(
            "metric = \"{metric}\"\nmax_tokens = 5\nlabels = [{right:?}, \"?\"]\n[[items]]\nprompt = \"a\"\nreference = {right:?}\n\
             [[items]]\nprompt = \"a\"\nreference = \"?\"\n"
        );
        Task::open(&write(folder.path(), "labels.toml", &text)).unwrap()
    };
    let accuracy = evaluate(&lm, &task("accuracy"));
    assert_eq!((accuracy.value, accuracy.interval), (0.5, [0.0, 1.0]));
    // F1 of 2/3 and of 0.
    let f1 = evaluate(&lm, &task("macro_f1"));
    assert!((f1.value - 1.0 / 3.0).abs() < 1e-12 && f1.metric == AnswerMetric::MacroF1);
}

#[test]
fn translations_are_scored_over_the_whole_text_with_the_signature_of_their_metric() {
    let folder = tempfile::tempdir().unwrap();
    let data = "{\"prompt\": \"a\", \"completion\": [\"de kat zit op de mat\", \"de poes ligt op het kleed\"]}\n\
                {\"prompt\": \"b\", \"completion\": \"de hond slaapt vandaag niet\"}\n";
    write(folder.path(), "data.jsonl", data);
    let answers = ["de kat ligt op de mat", "de hond slaapt niet"];
    let evaluate = |metric: CorpusMetric| {
        let text = format!("data = \"data.jsonl\"\nmetric = \"{metric}\"\n");
        let task = Task::open(&write(folder.path(), "translate.toml", &text)).unwrap();
        let mut answers = answers.iter();
        task.evaluate(|_| answers.next().unwrap().to_string())
    };
    for metric in [CorpusMetric::Bleu, CorpusMetric::Chrf, CorpusMetric::ChrfPlusPlus] {
        let found = evaluate(metric);
        let counts = |answer: &taal_evaluation::TaskAnswer| metric.counts(&answer.answer, &answer.references);
        let counts: Vec<SentenceCounts> = found.answers.iter().map(counts).collect();
        assert_eq!(found.value, metric.score(&counts.iter().sum()));
        assert_eq!(found.answers[1].score, metric.sentence_score(&counts[1]));
        let mean = found.answers.iter().map(|answer| answer.score).sum::<f64>() / 2.0;
        assert!((found.value - mean).abs() > 1e-6, "no mean over the sentences");
        let signature = found.signature.as_deref().unwrap();
        assert!(
            signature.starts_with("nrefs:var|bs:1000|seed:1|case:mixed|"),
            "{signature}"
        );
        let same = compare_tasks(&found, &found).unwrap();
        assert_eq!((same.difference, same.p_value), (0.0, 1.0));
    }
    // sacrebleu 2.6.0 on the same texts.
    for (metric, wanted) in [
        (CorpusMetric::Bleu, 38.044),
        (CorpusMetric::Chrf, 59.176),
        (CorpusMetric::ChrfPlusPlus, 61.917),
    ] {
        assert!((evaluate(metric).value - wanted).abs() < 0.01, "{metric}");
    }
}

#[test]
fn capitals_do_not_count_in_the_metrics_of_a_whole_text_where_the_task_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let data = "{\"prompt\": \"a\", \"completion\": [\"De kat zit op de mat\", \"de Poes ligt op het kleed\"]}\n\
                {\"prompt\": \"b\", \"completion\": \"De hond slaapt vandaag niet\"}\n";
    write(folder.path(), "data.jsonl", data);
    let answers = ["De Kat ligt op de MAT", "de HOND slaapt Niet"];
    // sacrebleu 2.6.0 on the same texts, with lowercase=True and without.
    for (metric, ignoring, minding) in [
        (CorpusMetric::Bleu, 38.044, 14.453),
        (CorpusMetric::Chrf, 59.176, 25.320),
        (CorpusMetric::ChrfPlusPlus, 61.917, 25.045),
    ] {
        for (key, wanted, case) in [("true", ignoring, "lc"), ("false", minding, "mixed")] {
            let text = format!("data = \"data.jsonl\"\nmetric = \"{metric}\"\nignore_case = {key}\n");
            let task = Task::open(&write(folder.path(), "lower.toml", &text)).unwrap();
            let mut answers = answers.iter();
            let found = task.evaluate(|_| answers.next().unwrap().to_string());
            assert!((found.value - wanted).abs() < 0.01, "{metric} {case}: {}", found.value);
            let signature = found.signature.unwrap();
            assert!(signature.contains(&format!("|case:{case}|")), "{signature}");
            assert_eq!(
                found.answers[0].answer, "De Kat ligt op de MAT",
                "answers stay as they are"
            );
        }
    }
}

#[test]
fn a_source_that_is_too_long_is_named_by_the_file_and_the_line_of_its_question() {
    let folder = tempfile::tempdir().unwrap();
    let config = TransformerConfig {
        encoder: Some(EncoderConfig { n_layers: 1 }),
        decoder_start: Some(0),
        ..TransformerConfig::llama(size(VOCAB_SIZE, CONTEXT, 1, 2, 16))
    };
    let lm = LanguageModel::new(model(&config, 3), Some(char_tokenizer()));
    let long = "ab".repeat(CONTEXT);
    let open = |text: &str| Task::open(&write(folder.path(), "task.toml", text)).unwrap();
    write(
        folder.path(),
        "data.jsonl",
        &format!("{{\"prompt\": \"a\", \"completion\": \"b\"}}\n\n{{\"prompt\": \"{long}\", \"completion\": \"b\"}}\n"),
    );
    write(
        folder.path(),
        "data.tsv",
        &format!("prompt\tcompletion\na\tb\n{long}\tb\n"),
    );
    let item = |prompt: &str| format!("[[items]]\nprompt = \"{prompt}\"\nreference = \"b\"\n");
    for (text, part, is_line) in [
        (
            "metric = \"bleu\"\ndata = \"data.jsonl\"\n".to_owned(),
            "data.jsonl: line 3: a sentence has",
            true,
        ),
        (
            "metric = \"bleu\"\ndata = \"data.tsv\"\n".to_owned(),
            "data.tsv: line 3: a sentence has",
            true,
        ),
        (
            format!("metric = \"bleu\"\n{}{}", item("a"), item(&long)),
            "question 2: a sentence has",
            false,
        ),
    ] {
        let error = evaluate_task(&lm, &open(&text), &mut |_| ControlFlow::Continue(())).unwrap_err();
        assert_eq!(matches!(error, EvaluationError::Line { .. }), is_line, "{error:?}");
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn prompts_that_do_not_look_like_the_models_language_are_warned_about() {
    let folder = tempfile::tempdir().unwrap();
    let mut trainer = TrainerConfig::new(Kind::Char, 100);
    trainer.unknown = Unknown::Token;
    let tokenizer = trainer.train(["abcdefgh "]).unwrap();
    let config = TransformerConfig {
        encoder: Some(EncoderConfig { n_layers: 1 }),
        decoder_start: Some(0),
        ..TransformerConfig::llama(size(tokenizer.vocab_size(), CONTEXT, 1, 2, 16))
    };
    let lm = LanguageModel::new(model(&config, 3), Some(tokenizer));
    let warning = |prompt: &str| {
        let item = format!("[[items]]\nprompt = \"{prompt}\"\nreference = \"b\"\n");
        let text = format!("metric = \"chrf\"\nmax_tokens = 2\n{}", item.repeat(10));
        evaluate(&lm, &Task::open(&write(folder.path(), "task.toml", &text)).unwrap()).warning
    };
    assert_eq!(warning("a bad"), None);
    let found = warning("x y z x y").unwrap();
    assert!(
        found.contains("does not look like the model's language") && found.contains("56 %"),
        "{found}"
    );
}

#[test]
fn a_model_with_an_encoder_gets_the_prompts_as_sources_and_a_beam_search_where_the_task_has_one() {
    let config = TransformerConfig {
        encoder: Some(EncoderConfig { n_layers: 1 }),
        decoder_start: Some(0),
        tie_embeddings: false,
        ..TransformerConfig::llama(size(VOCAB_SIZE, CONTEXT, 1, 2, 16))
    };
    let lm = LanguageModel::new(model(&config, 3), Some(char_tokenizer()));
    let folder = tempfile::tempdir().unwrap();
    let data: String = PROMPTS
        .map(|prompt| format!("{{\"prompt\": \"{prompt}\", \"completion\": \"ab\"}}\n"))
        .concat();
    write(folder.path(), "data.jsonl", &data);
    for (beam, width) in [("", 1), ("beam = 3\nlength_penalty = 0.5\n", 3)] {
        let text = format!("data = \"data.jsonl\"\nmetric = \"chrf\"\nmax_tokens = 4\n{beam}");
        let task = Task::open(&write(folder.path(), "translate.toml", &text)).unwrap();
        let mut options = TranslateOptions {
            max_tokens: Some(4),
            ..TranslateOptions::default().with_width(width)
        };
        if width == 3 {
            options.beam.length_penalty = 0.5;
        }
        let wanted = translate(&lm, &PROMPTS, &options).unwrap();
        let found = evaluate(&lm, &task);
        let answers: Vec<&str> = found.answers.iter().map(|answer| answer.answer.as_str()).collect();
        let wanted: Vec<&str> = wanted.iter().map(|found| found.translation.as_str()).collect();
        assert_eq!(answers, wanted);
        assert_eq!(
            (found.total, found.unfinished),
            (4, 4),
            "the tokenizer has no token that ends a text"
        );
    }
    let stopped = "metric = \"chrf\"\nstop = [\"a\"]\n[[items]]\nprompt = \"a\"\nreference = \"b\"\n";
    let task = Task::open(&write(folder.path(), "stop.toml", stopped)).unwrap();
    let error = evaluate_task(&lm, &task, &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert!(error.to_string().contains("stop"), "{error}");
}

#[test]
fn two_models_are_compared_on_the_same_questions_only() {
    let lm = char_model();
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "data.jsonl", &lines(&lm, "{prompt}"));
    let text = "data = \"data.jsonl\"\nprompt_column = \"question\"\nreference_column = \"answer\"\nmetric = \"rouge_l\"\nmax_tokens = 5\n";
    let task = Task::open(&write(folder.path(), "rouge.toml", text)).unwrap();
    let first = evaluate(&lm, &task);
    let same = compare_tasks(&first, &first).unwrap();
    assert_eq!((same.difference, same.interval, same.p_value), (0.0, [0.0; 2], 1.0));
    let mut worse = first.clone();
    worse.answers.iter_mut().for_each(|answer| answer.score -= 0.25);
    let found = compare_tasks(&first, &worse).unwrap();
    assert!(
        (found.difference + 0.25).abs() < 1e-12 && found.p_value < 0.01,
        "{found:?}"
    );
    let mut other = first.clone();
    other.answers[0].prompt.push('a');
    assert_eq!(compare_tasks(&first, &other), None);
}

#[test]
fn a_task_names_a_set_that_comes_along_and_rows_with_one_prompt_are_one_question() {
    let folder = tempfile::tempdir().unwrap();
    let rows = "{\"en\": \"Hi.\", \"nl\": \"Hoi.\"}\n{\"en\": \"No.\", \"nl\": \"Nee.\"}\n\
                {\"en\": \"Hi.\", \"nl\": [\"Hallo.\", \"Hoi.\"]}\n";
    let sets = [("pairs", rows.to_owned()), ("other", String::new())];
    let task = |data: &str, columns: &str| {
        let text = format!("data = \"{data}\"\nmetric = \"chrf\"\n{columns}");
        Task::open_with(&write(folder.path(), "task.toml", &text), &sets)
    };
    let columns = "prompt_column = \"en\"\nreference_column = \"nl\"\n";
    let asked = |task: Task| -> Vec<(String, Vec<String>)> {
        let items = task.items.into_iter();
        items.map(|item| (item.prompt, item.references)).collect()
    };
    let wanted = |rows: &[(&str, &[&str])]| -> Vec<(String, Vec<String>)> {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        rows.iter()
            .map(|(prompt, references)| ((*prompt).to_owned(), owned(references)))
            .collect()
    };
    assert_eq!(
        asked(task("pairs", columns).unwrap()),
        wanted(&[("Hi.", &["Hoi.", "Hallo."]), ("No.", &["Nee."])])
    );
    // The template comes after the rows are gathered, and the limit counts questions.
    let cut = task("pairs", &format!("{columns}template = \"{{prompt}}!\"\nlimit = 1\n")).unwrap();
    assert_eq!(asked(cut), wanted(&[("Hi.!", &["Hoi.", "Hallo."])]));
    let error = task("pairs", "").unwrap_err().to_string();
    assert!(
        error.contains("pairs, line 1") && error.contains("\"en, nl\" are no layout"),
        "{error}"
    );
    for data in ["none", "none.jsonl", "../pairs"] {
        let error = task(data, columns).unwrap_err();
        assert!(matches!(error, EvaluationError::Task { .. }), "{error:?}");
        let message = error.to_string();
        assert!(
            message.contains(data) && message.contains("come along are pairs, other"),
            "{message}"
        );
    }
    // Without sets a missing file is the store's error, as before.
    let plain = write(folder.path(), "plain.toml", "data = \"pairs\"\nmetric = \"chrf\"\n");
    assert!(matches!(Task::open(&plain), Err(EvaluationError::Store(_))));
    // A file of the same name comes first.
    write(folder.path(), "pairs", "en,nl\nYes.,Ja.\n");
    assert_eq!(asked(task("pairs", columns).unwrap()), wanted(&[("Yes.", &["Ja."])]));
}

#[test]
fn quotes_are_text_in_a_tsv_file_and_have_to_be_closed_in_a_csv_file() {
    let folder = tempfile::tempdir().unwrap();
    let open = |data: &str, rows: &str| {
        write(folder.path(), data, rows);
        let text = format!("data = \"{data}\"\nmetric = \"chrf\"\n");
        Task::open(&write(folder.path(), "task.toml", &text))
    };
    let task = open(
        "a.tsv",
        "prompt\tcompletion\n\"Where is he?\tWaar is hij?\nNo.\tNee.\n\"Yes.\tJa.\n",
    )
    .unwrap();
    let prompts: Vec<&str> = task.items.iter().map(|item| item.prompt.as_str()).collect();
    assert_eq!(prompts, ["\"Where is he?", "No.", "\"Yes."]);
    for rows in [
        "prompt,completion\nNo.,Nee.\n\"Where is he?,Waar is hij?\nNo.,Nee.\n",
        "prompt,completion\nNo.,Nee.\n\"Where is he?,Waar is hij?\n\"Yes.,Ja.\n",
    ] {
        let message = open("a.csv", rows).unwrap_err().to_string();
        assert!(
            message.contains("a.csv, line 3") && message.contains("quote"),
            "{message}"
        );
    }
    assert_eq!(
        open("b.csv", "prompt,completion\n\"No, no.\",Nee.\n").unwrap().items[0].prompt,
        "No, no."
    );
}

#[test]
fn a_bad_task_file_is_named_with_what_is_wrong_and_the_line_of_its_data() {
    let folder = tempfile::tempdir().unwrap();
    write(
        folder.path(),
        "data.jsonl",
        "{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": \"a\"}\n",
    );
    write(
        folder.path(),
        "list.jsonl",
        "{\"prompt\": \"a\", \"completion\": [[\"b\"]]}\n",
    );
    write(folder.path(), "data.csv", "prompt,other\na,b\n");
    let item = "[[items]]\nprompt = \"a\"\nreference = \"b\"\n";
    let exact = "metric = \"exact_match\"\n";
    for (text, parts) in [
        (format!("metric = \"meteor\"\n{item}"), ["meteor", "exact_match"]),
        (item.to_owned(), ["task.toml", "metric"]),
        (format!("{exact}colour = 1\n{item}"), ["colour", "unknown field"]),
        (exact.to_owned(), ["exactly one of data", "items"]),
        (format!("{exact}items = []\n"), ["task.toml", "no questions"]),
        (format!("{exact}template = \"x\"\n{item}"), ["template", "{prompt}"]),
        (
            format!("{exact}labels = [\"b\"]\n{item}"),
            ["labels", "not for exact_match"],
        ),
        (format!("{exact}beam = 0\n{item}"), ["beam", "from 1 to"]),
        (
            format!("{exact}length_penalty = 1\n{item}"),
            ["length_penalty", "give beam"],
        ),
        (format!("{exact}beam = 2\nstop = [\"x\"]\n{item}"), ["beam", "stop"]),
        (
            format!("metric = \"accuracy\"\nlabels = [\"c\"]\n{item}"),
            ["question 1", "none of the labels"],
        ),
        (
            format!("{exact}[[items]]\nprompt = \"a\"\nreference = []\n"),
            ["question 1", "no reference"],
        ),
        (
            format!("{exact}data = \"data.jsonl\"\n"),
            ["data.jsonl, line 2", "`completion` is missing"],
        ),
        (
            format!("{exact}data = \"list.jsonl\"\n"),
            ["list.jsonl, line 1", "a text or a list of texts"],
        ),
        (
            format!("{exact}data = \"data.csv\"\n"),
            ["data.csv: line 1", "completion"],
        ),
    ] {
        let error = Task::open(&write(folder.path(), "task.toml", &text)).expect_err(&text);
        assert!(
            matches!(
                error,
                EvaluationError::Task { .. } | EvaluationError::Line { .. } | EvaluationError::Data(_)
            ),
            "{error:?}"
        );
        let message = error.to_string();
        assert!(
            parts.iter().all(|part| message.contains(part)),
            "{message} does not say {parts:?}"
        );
    }
}
