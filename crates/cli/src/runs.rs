//! `taal runs`: the runs there are, some of them side by side, and what can be removed.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::anyhow;
use taal_draw::Comparison;
use taal_trainer::{
    Cleaning, Compared, Removal, RunComparison, RunState, RunSummary, compare_runs, find_run, list_runs, plan_cleaning,
};

use crate::arguments::{RunsArguments, RunsCleanArguments, RunsCommand, RunsCompareArguments};
use crate::columns::{cut, grid};
use crate::failure::Failure;
use crate::train::RUNS;
use crate::{terminal, usage};

/// Rows of the table of validation losses.
const MAX_EVALUATIONS: usize = 12;
/// A longer value of a key is cut.
const MAX_VALUE_COLUMNS: usize = 40;
/// What stands where there is no figure.
const NONE: &str = "-";

/// Lists runs, compares some, or removes what is not needed.
pub fn run(arguments: &RunsArguments) -> Result<(), Failure> {
    match &arguments.command {
        Some(RunsCommand::Compare(arguments)) => compare(arguments),
        Some(RunsCommand::Clean(arguments)) => clean(arguments),
        None => list(arguments),
    }
}

fn list(arguments: &RunsArguments) -> Result<(), Failure> {
    let dir = &arguments.dir;
    check_exists(dir).map_err(|failure| match usage::of_runs(dir) {
        Some(meant) => failure.with_hint(meant),
        None => failure,
    })?;
    let found = list_runs(dir)?;
    for skipped in &found.skipped {
        terminal::message(&format!("skipped {}: {}", skipped.dir.display(), skipped.why));
    }
    for run in &found.runs {
        if let RunState::Broken { why } = &run.state {
            terminal::message(&format!("{} is broken: {why}", run.dir.display()));
        }
    }
    if *arguments.json {
        return Ok(terminal::print_json(&found)?);
    }
    if found.runs.is_empty() {
        terminal::message(&format!("no runs in {}: `taal train` starts one", dir.display()));
        return Ok(());
    }
    let mut rows = vec![
        [
            "run", "state", "steps", "loss", "best val", "bits/B", "tokens", "time", "size", "recipe",
        ]
        .map(str::to_string)
        .to_vec(),
    ];
    rows.extend(found.runs.iter().map(row));
    Ok(terminal::print(&grid(&rows, 2))?)
}

/// A directory that was named must be there; the default one need not.
fn check_exists(dir: &Path) -> Result<(), Failure> {
    if dir != Path::new(RUNS) && !taal_store::exists(dir) {
        return Err(taal_store::Error::NotFound {
            path: dir.to_path_buf(),
        }
        .into());
    }
    Ok(())
}

fn row(run: &RunSummary) -> Vec<String> {
    vec![
        run.dir.display().to_string(),
        state_words(run),
        steps_words(run),
        decimals(run.train_loss, 3),
        decimals(run.best_val_loss, 3),
        decimals(run.best_val_bits_per_byte, 3),
        or_none(run.tokens.map(|tokens| terminal::short(tokens as f64))),
        or_none(run.wall_s.map(time)),
        terminal::size(run.size_bytes),
        run.recipe.clone(),
    ]
}

fn state_words(run: &RunSummary) -> String {
    match &run.state {
        RunState::Finished => "finished".to_string(),
        RunState::Stopped { saved_step } => format!("stopped at step {}", terminal::grouped(*saved_step)),
        RunState::InUse => "in use".to_string(),
        RunState::Broken { .. } => "broken".to_string(),
    }
}

fn steps_words(run: &RunSummary) -> String {
    let steps = terminal::grouped(run.steps);
    match run.planned_steps {
        Some(planned) if planned != run.steps => format!("{steps}/{}", terminal::grouped(planned)),
        _ => steps,
    }
}

fn time(seconds: f64) -> String {
    terminal::duration(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

fn decimals(value: Option<f64>, n_decimals: usize) -> String {
    or_none(value.map(|value| format!("{value:.n_decimals$}")))
}

fn or_none(text: Option<String>) -> String {
    text.unwrap_or_else(|| NONE.to_string())
}

fn compare(arguments: &RunsCompareArguments) -> Result<(), Failure> {
    let base = Path::new(RUNS);
    let dirs: Vec<PathBuf> = arguments
        .runs
        .iter()
        .map(|name| find_run(base, name))
        .collect::<Result<_, _>>()?;
    let found = compare_runs(&dirs)?;
    for note in &found.notes {
        terminal::message(&format!("note: {note}"));
    }
    let figures = figures(&found.runs);
    let keys = key_rows(&found);
    if let Some(path) = &arguments.html {
        let runs: Vec<_> = found
            .runs
            .iter()
            .map(|run| (run.label.as_str(), run.records.as_slice()))
            .collect();
        let page = Comparison {
            runs: &runs,
            figures: &figures,
            keys: &keys,
            notes: &found.notes,
        };
        taal_store::write_atomic(path, page.to_html().as_bytes())?;
    }
    if *arguments.json {
        return Ok(terminal::print_json(&found)?);
    }
    terminal::print(&comparison_text(&found, figures, keys))?;
    if let Some(path) = &arguments.html {
        terminal::message(&format!("wrote {}", path.display()));
    }
    Ok(())
}

fn comparison_text(
    found: &RunComparison,
    figures: Vec<(String, Vec<String>)>,
    keys: Vec<(String, Vec<String>)>,
) -> String {
    let head = found.runs.iter().map(|run| run.label.clone()).collect();
    let mut rows = vec![(String::new(), head)];
    rows.extend(figures);
    rows.push((String::new(), Vec::new()));
    rows.push(match keys.is_empty() {
        true => ("the recipes are the same".to_string(), Vec::new()),
        false => ("keys that differ".to_string(), Vec::new()),
    });
    rows.extend(keys);
    let evaluations = evaluation_rows(&found.runs);
    if !evaluations.is_empty() {
        rows.push((String::new(), Vec::new()));
        rows.push(("validation loss".to_string(), Vec::new()));
        rows.extend(evaluations);
    }
    let cells = |(name, values): (String, Vec<String>)| {
        let values = values.iter().map(|value| cut(value, MAX_VALUE_COLUMNS));
        std::iter::once(name).chain(values).collect::<Vec<String>>()
    };
    grid(&rows.into_iter().map(cells).collect::<Vec<_>>(), usize::MAX)
}

/// Names of figures, and their values in each run.
fn figures(runs: &[Compared]) -> Vec<(String, Vec<String>)> {
    type Figure = fn(&RunSummary) -> String;
    let figures: [(&str, Figure); 12] = [
        ("recipe", |run| run.recipe.clone()),
        ("state", state_words),
        ("steps", steps_words),
        ("parameters", |run| {
            or_none(run.params.map(|params| terminal::short(params as f64)))
        }),
        ("training tokens", |run| {
            or_none(run.tokens.map(|tokens| terminal::short(tokens as f64)))
        }),
        ("train loss", |run| decimals(run.train_loss, 4)),
        ("best val loss", |run| decimals(run.best_val_loss, 4)),
        ("at step", |run| or_none(run.best_step.map(terminal::grouped))),
        ("bits per byte", |run| decimals(run.best_val_bits_per_byte, 4)),
        ("tokens per second", |run| {
            or_none(run.tokens_per_s.map(|speed| terminal::grouped(speed.round() as u64)))
        }),
        ("time", |run| or_none(run.wall_s.map(time))),
        ("size on disk", |run| terminal::size(run.size_bytes)),
    ];
    let row = |(name, figure): (&str, Figure)| {
        let values = runs.iter().map(|run| figure(&run.summary)).collect();
        (name.to_string(), values)
    };
    figures.into_iter().map(row).collect()
}

fn key_rows(found: &RunComparison) -> Vec<(String, Vec<String>)> {
    let row = |key: &taal_trainer::KeyDifference| (key.key.clone(), key.values.iter().cloned().map(or_none).collect());
    found.keys.iter().map(row).collect()
}

/// Validation losses by step: all of them, or some spread over the runs.
fn evaluation_rows(runs: &[Compared]) -> Vec<(String, Vec<String>)> {
    let mut steps: Vec<u64> = runs
        .iter()
        .flat_map(|run| run.evaluations.iter().map(|record| record.step))
        .collect();
    steps.sort_unstable();
    steps.dedup();
    let last = steps.len().saturating_sub(1);
    let shown: Vec<u64> = match steps.len() <= MAX_EVALUATIONS {
        true => steps,
        false => (0..MAX_EVALUATIONS)
            .map(|row| steps[row * last / (MAX_EVALUATIONS - 1)])
            .collect(),
    };
    let loss = |run: &Compared, step: u64| {
        let found = run.evaluations.iter().find(|record| record.step == step);
        decimals(found.and_then(|record| record.val_loss), 4)
    };
    shown
        .into_iter()
        .map(|step| {
            let losses = runs.iter().map(|run| loss(run, step)).collect();
            (format!("step {}", terminal::grouped(step)), losses)
        })
        .collect()
}

fn clean(arguments: &RunsCleanArguments) -> Result<(), Failure> {
    check_exists(&arguments.dir)?;
    let found = plan_cleaning(&arguments.dir)?;
    found
        .notes
        .iter()
        .for_each(|note| terminal::message(&format!("note: {note}")));
    if found.removals.is_empty() {
        terminal::message("nothing to remove");
        return Ok(());
    }
    terminal::print(&plan_text(&found))?;
    if !arguments.yes && !is_agreed()? {
        terminal::message("nothing was removed");
        return Ok(());
    }
    let removed = found.remove()?;
    for note in &removed.notes {
        terminal::message(&format!("note: {note}"));
    }
    terminal::message(&format!("removed {}", terminal::size(removed.size_bytes)));
    Ok(())
}

fn plan_text(found: &Cleaning) -> String {
    let mut rows: Vec<Vec<String>> = found.removals.iter().map(removal_row).collect();
    rows.push(vec!["in all".to_string(), terminal::size(found.size_bytes())]);
    grid(&rows, 1)
}

fn removal_row(removal: &Removal) -> Vec<String> {
    let mut words = Vec::new();
    if removal.is_whole {
        words.push("a start that ended before its first step".to_string());
    }
    match removal.steps.as_slice() {
        [] => {}
        [step] => words.push(format!("the checkpoint of step {}", terminal::grouped(*step))),
        [first, .., last] => words.push(format!(
            "{} checkpoints, of steps {} to {}",
            removal.steps.len(),
            terminal::grouped(*first),
            terminal::grouped(*last)
        )),
    }
    if !removal.steps.is_empty() {
        let kept: Vec<String> = removal.kept.iter().map(|step| terminal::grouped(*step)).collect();
        words.push(format!("kept: {}", kept.join(" and ")));
    }
    if !removal.temporaries.is_empty() {
        words.push(format!("{} left unfinished", removal.temporaries.len()));
    }
    vec![
        removal.dir.display().to_string(),
        terminal::size(removal.size_bytes),
        words.join("; "),
    ]
}

/// Asks on the terminal.
fn is_agreed() -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        let error = anyhow!("nothing was removed: standard input is not a terminal, so nobody can be asked");
        return Err(Failure::from(error).with_hint("--yes removes it without asking"));
    }
    let mut stderr = io::stderr();
    write!(stderr, "remove this? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}
