//! `taal train --dry-run`: what a run would be.

use std::path::Path;
use std::time::Duration;

use anyhow::anyhow;
use taal_kernels::DeviceSpec;
use taal_trainer::{DryRun, Resolved, Row, is_run};

use crate::columns::visible;
use crate::failure::Failure;
use crate::progress::Screen;
use crate::terminal;
use crate::train::RUNS;

/// Files that are named.
const MAX_FILES: usize = 8;
/// Tokens of a row that are shown; `--json` has all.
const MAX_TOKENS: usize = 64;

/// Prepares a run, makes some steps, and says what it found. Nothing is written.
pub fn run(
    resolved: &Resolved,
    run_dir: Option<&Path>,
    device: DeviceSpec,
    mut screen: Screen,
    is_json: bool,
) -> Result<(), Failure> {
    if let Some(dir) = run_dir.filter(|dir| is_run(dir)) {
        return Err(anyhow!("{}: a run is here already; choose another --run-dir", dir.display()).into());
    }
    let found = taal_trainer::dry_run(resolved, device, &mut screen);
    screen.finish();
    let found = found?;
    if is_json {
        return Ok(terminal::print_json(&found)?);
    }
    for note in &found.notes {
        terminal::message(&format!("note: {note}"));
    }
    Ok(terminal::print(&text(&found, run_dir))?)
}

fn text(found: &DryRun, run_dir: Option<&Path>) -> String {
    let directory = match run_dir {
        Some(dir) => dir.display().to_string(),
        None => format!("the next free one in {RUNS}/"),
    };
    let mut rows = vec![("recipe", found.recipe.clone()), ("run directory", directory)];
    rows.extend(input_rows(found));
    let held_back = match found.val_tokens {
        0 => "none held back".to_string(),
        tokens => format!(
            "{} in {} rows held back",
            terminal::grouped(tokens),
            terminal::grouped(found.val_rows)
        ),
    };
    rows.extend([
        (
            "tokenizer",
            format!(
                "{}, vocabulary of {}",
                found.tokenizer,
                terminal::grouped(found.vocab_size as u64)
            ),
        ),
        (
            "tokens",
            format!(
                "{} in {} rows to train on, {held_back}",
                terminal::grouped(found.train_tokens),
                terminal::grouped(found.train_rows)
            ),
        ),
        (
            "steps",
            format!(
                "{} of {} tokens: {:.2} passes over the training text",
                terminal::grouped(found.steps),
                terminal::grouped(found.tokens_per_step),
                found.passes
            ),
        ),
        ("parameters", terminal::grouped(found.params)),
        (
            "memory",
            format!(
                "about {}: weights, gradients and moments {}, activations {}, saving {}",
                terminal::size(found.memory.total_bytes),
                terminal::size(found.memory.state_bytes),
                terminal::size(found.memory.activation_bytes),
                terminal::size(found.memory.snapshot_bytes)
            ),
        ),
        (
            "checkpoints",
            format!(
                "at most {} x {} = {} on disk; the model itself is {}",
                found.checkpoints.most,
                terminal::size(found.checkpoints.each_bytes),
                terminal::size(found.checkpoints.total_bytes()),
                terminal::size(found.checkpoints.model_bytes)
            ),
        ),
        ("time", time_words(found)),
    ]);
    let mut text = terminal::table(&rows);
    let is_masked = found
        .rows
        .iter()
        .flat_map(|row| &row.tokens)
        .any(|token| token.hidden.is_some());
    text += match is_masked {
        true => "\nrows as the model sees them; after an arrow is what it must guess\n",
        false => "\nrows as the model sees them; what is in ( ) is read only, all else is predicted\n",
    };
    for row in &found.rows {
        text += &row_words(row);
        text.push('\n');
    }
    text + "\nnothing was written\n"
}

fn input_rows(found: &DryRun) -> Vec<(&'static str, String)> {
    let named = found.inputs.iter().take(MAX_FILES);
    let mut rows: Vec<(&'static str, String)> = named
        .map(|input| ("reads", format!("{}, {}", input.name, terminal::size(input.bytes))))
        .collect();
    if found.inputs.len() > MAX_FILES {
        let bytes = found.inputs.iter().map(|input| input.bytes).sum();
        rows.push((
            "",
            format!("{} files in all, {}", found.inputs.len(), terminal::size(bytes)),
        ));
    }
    rows
}

fn time_words(found: &DryRun) -> String {
    let words = |seconds: f64| terminal::duration(Duration::try_from_secs_f64(seconds).unwrap_or_default());
    let time = &found.time;
    let steps = found.steps as f64 * time.step_s;
    let evaluations = time.evaluations as f64 * time.evaluation_s;
    format!(
        "about {} on {}: steps {}, {} evaluations {} (from {} steps and an evaluation batch)",
        words(time.total_s),
        found.device,
        words(steps),
        terminal::grouped(time.evaluations),
        words(evaluations),
        time.timed_steps
    )
}

/// The tokens of a row between bars; what is only read in parentheses, what is hidden behind an arrow.
fn row_words(row: &Row) -> String {
    let mut text = String::new();
    let is_masked = row.tokens.iter().any(|token| token.hidden.is_some());
    let mut is_open = false;
    for (position, token) in row.tokens.iter().take(MAX_TOKENS).enumerate() {
        let is_read_only = !is_masked && !token.is_learned;
        if is_open && (!is_read_only || token.starts_text) {
            text.push(')');
            is_open = false;
        }
        if position > 0 {
            text.push('|');
        }
        if is_read_only && !is_open {
            text.push('(');
            is_open = true;
        }
        text += &visible(&token.text);
        if let Some(hidden) = &token.hidden {
            text += &format!("→{}", visible(hidden));
        }
    }
    if is_open {
        text.push(')');
    }
    if row.tokens.len() > MAX_TOKENS {
        text += &format!(" … {} more tokens", row.tokens.len() - MAX_TOKENS);
    }
    if row.padding > 0 {
        text += &format!(" and {} of padding", row.padding);
    }
    text
}
