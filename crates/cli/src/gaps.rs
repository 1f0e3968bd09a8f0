//! `taal eval --gaps`: how high a model ranks the words left out of sentences.

use std::path::{Path, PathBuf};

use taal_data::LineEnds;
use taal_evaluation::{GapEvaluation, GapFile, GapReading, GapScore, LeftOut};
use taal_inference::LanguageModel;
use taal_trainer::{DataRecipe, DataSource};

use crate::arguments::EvalArguments;
use crate::failure::Failure;
use crate::{columns, terminal};

/// Ranks and prints.
pub fn run(lm: &LanguageModel, model: &Path, gaps: &Path, arguments: &EvalArguments) -> Result<(), Failure> {
    let file = match embedded_gaps(gaps) {
        Some((name, text)) => GapFile::parse(name, text)?,
        None => GapFile::open(gaps).map_err(|error| what_is_embedded(error.into(), gaps))?,
    };
    let training = match arguments.training.is_empty() {
        true => training_of_run(model)?,
        false => named_training(&arguments.training)?,
    };
    let texts: Vec<&str> = training.iter().map(String::as_str).collect();
    let found = taal_evaluation::evaluate_gaps(lm, &file, &texts)?;
    match *arguments.json {
        true => terminal::print_json(&found)?,
        false => terminal::print(&words(&found))?,
    }
    Ok(LeftOut::check(&found.left_out, found.gaps.len() as u64)?)
}

/// The gaps of an embedded corpus, where no file has its name.
fn embedded_gaps(name: &Path) -> Option<(&'static str, &'static str)> {
    let corpus = (!taal_store::exists(name)).then(|| taal_data::corpus(name.to_str()?))??;
    Some((corpus.name, corpus.gaps()?))
}

/// Adds the gaps that come along where no file has the name.
fn what_is_embedded(failure: Failure, gaps: &Path) -> Failure {
    if taal_store::exists(gaps) {
        return failure;
    }
    let named = taal_data::corpora().iter().filter(|corpus| corpus.gaps().is_some());
    let named: Vec<String> = named.map(|corpus| format!("--gaps {}", corpus.name)).collect();
    failure.with_hint(format!("these come along: {}", named.join(", ")))
}

/// The texts that `--training` names: files, folders and embedded corpora, of which the training part counts.
fn named_training(names: &[PathBuf]) -> Result<Vec<String>, Failure> {
    let mut texts = Vec::new();
    for name in names {
        let corpus = name.to_str().and_then(taal_data::corpus);
        match corpus.filter(|_| !taal_store::exists(name)) {
            Some(corpus) => texts.extend(training_part(corpus, taal_data::DEFAULT_VALIDATION_FRACTION)),
            None => texts.extend(taal_data::training_texts(
                std::slice::from_ref(name),
                0.0,
                LineEnds::Lf,
            )?),
        }
    }
    Ok(texts)
}

/// What the run of a model was trained on; nothing, with a note, where that is not text that can be read again.
fn training_of_run(model: &Path) -> Result<Vec<String>, Failure> {
    let Ok(stored) = taal_trainer::stored_recipe(model) else {
        return Ok(Vec::new());
    };
    let data = taal_trainer::resolve_stored(&stored, &[])?.recipe.data;
    let texts = match &data.source {
        DataSource::Corpus(name) => {
            taal_data::corpus(name).map(|corpus| training_part(corpus, data.validation_fraction))
        }
        DataSource::Files(files) => files_of(files, &data),
        _ => None,
    };
    if texts.is_none() {
        terminal::message(
            "note: the run's training text cannot be read again, so nothing is counted; name it with --training",
        );
    }
    Ok(texts.unwrap_or_default())
}

fn files_of(files: &[PathBuf], data: &DataRecipe) -> Option<Vec<String>> {
    taal_data::training_texts(files, data.validation_fraction, data.line_ends).ok()
}

fn training_part(corpus: taal_data::Corpus, validation_fraction: f64) -> Vec<String> {
    let texts = corpus.texts().into_iter();
    texts
        .map(|(_, text)| taal_data::split_text(text, validation_fraction).0.to_owned())
        .collect()
}

fn words(found: &GapEvaluation) -> String {
    let counted = |rank: Option<u64>| rank.map_or("-".to_owned(), terminal::grouped);
    let mut lines = format!("{:>6} {:>9}\n", "rank", "counting");
    for gap in &found.gaps {
        lines.push_str(&format!(
            "{:>6} {:>9}  {} {} (first: {})\n",
            terminal::grouped(gap.rank),
            counted(gap.neighbors_rank),
            gap.text,
            columns::visible(&gap.word),
            columns::visible(&gap.guess),
        ));
    }
    let reading = match found.reading {
        GapReading::BothSides => "a masked model, which reads both sides of the gap",
        GapReading::Left => "a causal model, which reads only what is before the gap",
    };
    lines.push('\n');
    lines.push_str(&terminal::table(&[
        (
            "gaps",
            format!("{} of {}", terminal::grouped(found.gaps.len() as u64), found.name),
        ),
        ("ranked by", reading.to_owned()),
        ("candidates", format!("{} words", terminal::grouped(found.candidates))),
        (
            "median rank",
            compared(found, &|score| {
                let [low, high] = score.median_interval.map(tenths);
                format!("{} ({low} to {high})", tenths(score.median_rank))
            }),
        ),
        ("first 1", compared(found, &|score| share(score, 0))),
        ("first 5", compared(found, &|score| share(score, 1))),
        ("first 10", compared(found, &|score| share(score, 2))),
    ]));
    lines
}

/// A figure of the model, next to that of counting.
fn compared(found: &GapEvaluation, figure: &dyn Fn(&GapScore) -> String) -> String {
    let own = figure(&found.model);
    match &found.neighbors {
        Some(neighbors) => format!("{own}, by counting neighbors {}", figure(neighbors)),
        None => own,
    }
}

/// A rank, which may be between two, with at most one decimal.
fn tenths(rank: f64) -> f64 {
    (10.0 * rank).round() / 10.0
}

fn share(score: &GapScore, index: usize) -> String {
    let found = score.first[index];
    let [low, high] = found.interval.map(|share| 100.0 * share);
    format!("{:.1} % ({low:.1} to {high:.1})", 100.0 * found.share)
}
