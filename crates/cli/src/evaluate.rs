//! `taal eval`: how well a model predicts texts.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use taal_evaluation::{ChoiceAccuracy, ChoiceFile, ChoiceOptions, LeftOut, PairEvaluation, Task, TaskEvaluation};
use taal_inference::LanguageModel;
use taal_metrics::AnswerMetric;
use taal_model::hugging_face;

use crate::arguments::{AdapterArgument, EvalArguments, twice};
use crate::failure::Failure;
use crate::{gaps, models, progress, terminal};

/// Evaluates.
pub fn run(arguments: &EvalArguments) -> Result<(), Failure> {
    let (model, texts) = model_and_texts(arguments)?;
    if arguments.against.is_some() && arguments.task.is_none() {
        let detail = "--against compares the answers to a task: give --task, or evaluate each model by itself";
        return Err(anyhow::anyhow!(detail).into());
    }
    let lm = models::open_adapted_with(model, arguments.device.device, &arguments.adapter, arguments.weights)?;
    if let Some(file) = &arguments.task {
        return task(&lm, model, file, arguments);
    }
    if let Some(file) = &arguments.gaps {
        return gaps::run(&lm, model, file, arguments);
    }
    if !arguments.pairs.is_empty() {
        return pairs(&lm, arguments);
    }
    if !arguments.choices.is_empty() {
        return choices(&lm, arguments);
    }
    let evaluation = match arguments.bos {
        true => taal_evaluation::evaluate_files_after_bos(&lm, &texts)?,
        false => taal_evaluation::evaluate_files(&lm, &texts)?,
    };
    if *arguments.json {
        return Ok(terminal::print_json(&evaluation)?);
    }
    Ok(terminal::print(&terminal::table(&[
        ("loss", format!("{:.4} nats/token", evaluation.loss)),
        ("perplexity", format!("{:.3}", evaluation.perplexity)),
        ("bits/byte", format!("{:.4}", evaluation.bits_per_byte)),
        ("tokens", terminal::grouped(evaluation.tokens)),
        ("bytes", terminal::grouped(evaluation.bytes)),
    ]))?)
}

/// The model, and the texts where nothing else is to be scored.
fn model_and_texts(arguments: &EvalArguments) -> Result<(&Path, Vec<PathBuf>), Failure> {
    let (model, words) = arguments.asked.split("eval")?;
    let task: Vec<PathBuf> = arguments.task.clone().into_iter().collect();
    let gaps: Vec<PathBuf> = arguments.gaps.clone().into_iter().collect();
    let given = [
        ("--task", &task),
        ("--gaps", &gaps),
        ("--text", &arguments.text),
        ("--pairs", &arguments.pairs),
        ("--choices", &arguments.choices),
    ];
    let option = given.into_iter().find(|(_, files)| !files.is_empty());
    match (option, words) {
        (Some((option @ "--text", _)), [word, ..]) => Err(twice(word, option)),
        (Some((option, _)), [word, ..]) => {
            let word = taal_store::excerpt(word);
            let detail =
                format!("{word} is a text to score, and {option} asks for something else: leave one of them out");
            Err(anyhow::anyhow!(detail).into())
        }
        (Some((option, files)), []) => Ok((model, if option == "--text" { files.clone() } else { Vec::new() })),
        (None, []) => Err(arguments.asked.no_text("eval", model)),
        (None, words) => Ok((model, words.iter().map(PathBuf::from).collect())),
    }
}

fn task(lm: &LanguageModel, model: &Path, file: &Path, arguments: &EvalArguments) -> Result<(), Failure> {
    let task = Task::open_with(file, &embedded_rows())?;
    for note in &task.notes {
        terminal::message(&format!("note: {note}"));
    }
    let found = answers(lm, &task)?;
    if let Some(warning) = &found.warning {
        terminal::message(&format!("warning: {warning}"));
    }
    let other = match &arguments.against {
        None => None,
        Some(dir) => {
            let lm = compared(dir, model, arguments)?;
            let theirs = answers(&lm, &task)?;
            if let Some(warning) = theirs.warning.as_ref().filter(|_| theirs.warning != found.warning) {
                terminal::message(&format!("warning: {}: {warning}", dir.display()));
            }
            let difference = taal_evaluation::compare_tasks(&theirs, &found);
            difference.map(|difference| (theirs, difference))
        }
    };
    if *arguments.json {
        let printed = match &other {
            None => terminal::print_json(&found),
            Some((against, difference)) => terminal::print_json(&serde_json::json!({
                "model": found, "against": against, "difference": difference,
            })),
        };
        return Ok(printed?);
    }
    let mut rows = vec![
        (
            "task",
            format!("{}, {} questions", found.name, terminal::grouped(found.total)),
        ),
        (
            "metric",
            format!(
                "{} {}",
                found.metric,
                with_interval(found.metric, found.value, found.interval)
            ),
        ),
    ];
    if task.is_chat_with(lm) {
        let how = match (task.has_messages(), lm.chat.is_empty()) {
            (true, true) => "messages in the plain template, because the model has none",
            (true, false) => "messages in the model's chat template",
            (false, _) => "messages in the model's chat template; chat = false in the task gives them as they are",
        };
        rows.push(("prompts", how.to_owned()));
    }
    if let Some(signature) = &found.signature {
        rows.push(("signature", signature.clone()));
    }
    if let Some((theirs, difference)) = &other {
        rows.push(("against", with_interval(theirs.metric, theirs.value, theirs.interval)));
        let shown = with_interval(found.metric, difference.difference, difference.interval);
        rows.push(("difference", format!("{shown}, p = {:.3}", difference.p_value)));
    }
    let lost = match lm.model.config().context_limit() {
        Some(limit) => format!(
            "prompts lost their beginning: the model reads at most {} tokens",
            terminal::grouped(limit as u64)
        ),
        None => "prompts lost their beginning".to_owned(),
    };
    for (name, count, what) in [
        ("truncated", found.truncated, lost.as_str()),
        ("unfinished", found.unfinished, "answers ended at max_tokens"),
    ] {
        if count > 0 {
            rows.push((name, format!("{} {what}", terminal::grouped(count))));
        }
    }
    Ok(terminal::print(&terminal::table(&rows))?)
}

/// The model to compare with. An adapter whose base is not where it was made is put on the model that is evaluated.
fn compared(dir: &Path, model: &Path, arguments: &EvalArguments) -> Result<LanguageModel, Failure> {
    let (device, weights) = (arguments.device.device, arguments.weights);
    let is_alone = taal_inference::adapter_dir(dir).is_ok_and(|dir| hugging_face::base_dir(&dir).is_err());
    if !is_alone {
        return models::open_with(dir, device, weights);
    }
    let adapter = AdapterArgument {
        adapter: Some(dir.to_path_buf()),
    };
    models::open_adapted_with(model, device, &adapter, weights)
}

/// The name of each embedded set, and its rows for tests, or those that are held out where it has no others.
fn embedded_rows() -> Vec<(&'static str, String)> {
    let sets = taal_data::example_sets().iter();
    sets.map(|set| (set.name, set.test_rows().unwrap_or_else(|| set.held_out_rows())))
        .collect()
}

fn answers(lm: &LanguageModel, task: &Task) -> Result<TaskEvaluation, Failure> {
    let bar = progress::count_bar(task.items.len() as u64);
    let found = taal_evaluation::evaluate_task(lm, task, &mut |done| {
        bar.set_position(done as u64);
        ControlFlow::Continue(())
    });
    bar.finish_and_clear();
    Ok(found?)
}

/// Shares in percent; the mean of an F-measure, and figures from 0 to 100, as they are.
fn with_interval(metric: AnswerMetric, value: f64, [low, high]: [f64; 2]) -> String {
    match metric {
        AnswerMetric::ExactMatch | AnswerMetric::Accuracy => {
            format!("{:.1} % ({:.1} to {:.1})", 100.0 * value, 100.0 * low, 100.0 * high)
        }
        AnswerMetric::RougeL | AnswerMetric::MacroF1 => format!("{value:.4} ({low:.4} to {high:.4})"),
        AnswerMetric::Bleu | AnswerMetric::Chrf | AnswerMetric::ChrfPlusPlus => {
            format!("{value:.2} ({low:.2} to {high:.2})")
        }
    }
}

fn pairs(lm: &LanguageModel, arguments: &EvalArguments) -> Result<(), Failure> {
    let evaluation = taal_evaluation::evaluate_pairs(lm, &arguments.pairs)?;
    match *arguments.json {
        true => terminal::print_json(&evaluation)?,
        false => terminal::print(&pair_words(&evaluation))?,
    }
    Ok(LeftOut::check(&evaluation.left_out, evaluation.all.total)?)
}

fn pair_words(evaluation: &PairEvaluation) -> String {
    let is_one = evaluation.files.len() == 1;
    let rows = evaluation.files.iter().chain((!is_one).then_some(&evaluation.all));
    rows.map(|score| {
        let [low, high] = score.interval.map(|share| 100.0 * share);
        format!(
            "{:5.1} % of {} pairs ({low:.1} to {high:.1})  {}\n",
            100.0 * score.accuracy,
            terminal::grouped(score.total),
            score.name
        )
    })
    .collect()
}

fn choices(lm: &LanguageModel, arguments: &EvalArguments) -> Result<(), Failure> {
    let options = ChoiceOptions {
        normalize: arguments.normalize,
        with_bos: arguments.bos,
        ..ChoiceOptions::default()
    };
    let evaluation = taal_evaluation::evaluate_choices(lm, &arguments.choices, &options)?;
    if evaluation.all.truncated > 0 {
        terminal::message(&format!(
            "{} of {} contexts did not fit the model and lost their beginning",
            terminal::grouped(evaluation.all.truncated),
            terminal::grouped(evaluation.all.total)
        ));
    }
    let is_one = evaluation.files.len() == 1;
    let files = evaluation.files.iter().chain((!is_one).then_some(&evaluation.all));
    match *arguments.json {
        true => terminal::print_json(&evaluation)?,
        false => terminal::print(&files.map(choice_words).collect::<String>())?,
    }
    Ok(LeftOut::check(&evaluation.left_out, evaluation.all.total)?)
}

fn choice_words(file: &ChoiceFile) -> String {
    let line = |accuracy: &ChoiceAccuracy, what: &str| {
        let [low, high] = accuracy.interval.map(|share| 100.0 * share);
        let ties = match accuracy.ties {
            0 => String::new(),
            ties => format!(", {} undecided", terminal::grouped(ties)),
        };
        format!(
            "{:5.1} % by {what} ({low:.1} to {high:.1}{ties})\n",
            100.0 * accuracy.accuracy
        )
    };
    let normalized = file.normalized.iter();
    let normalized: String = normalized
        .map(|it| line(it, &format!("that over {}", it.normalize)))
        .collect();
    format!(
        "{}: {} items\n{}{normalized}{:5.1} % by chance\n",
        file.name,
        terminal::grouped(file.total),
        line(&file.plain, "log-likelihood"),
        100.0 * file.chance
    )
}
