//! `taal data preview`: what a recipe's data are.

use taal_data::ConversationCounts;
use taal_trainer::{DataPreview, ExampleRow, RecipeText, resolve};

use crate::arguments::{DataPreviewArguments, start_from};
use crate::failure::Failure;
use crate::progress::Screen;
use crate::terminal;

/// Tokens of a row that are shown; `--json` has all.
const MAX_TOKENS: usize = 400;
/// Files that are named.
const MAX_FILES: usize = 8;

/// What stands around what is learned: a color, or brackets where there are no colors.
const GREEN: [&str; 2] = ["\u{1b}[32m", "\u{1b}[0m"];
const BRACKETS: [&str; 2] = ["[", "]"];

/// Shows.
pub fn run(arguments: &DataPreviewArguments) -> Result<(), Failure> {
    let recipe = RecipeText::find(&arguments.recipe)?;
    let model = arguments.model.as_deref().map(start_from);
    let settings: Vec<String> = model.into_iter().chain(arguments.set.iter().cloned()).collect();
    let resolved = resolve(&recipe, &settings)?;
    let mut screen = Screen::new();
    let found = taal_trainer::preview(&resolved, arguments.rows, &mut screen);
    screen.finish();
    let found = found?;
    if *arguments.json {
        return Ok(terminal::print_json(&found)?);
    }
    let has_color = terminal::has_color_on_stdout();
    Ok(terminal::print_raw(&text(
        &found,
        if has_color { GREEN } else { BRACKETS },
    ))?)
}

fn text(found: &DataPreview, marks: [&str; 2]) -> String {
    let mut rows = vec![("recipe", found.recipe.clone())];
    for (index, input) in found.inputs.iter().take(MAX_FILES).enumerate() {
        let layout = found
            .conversations
            .as_ref()
            .and_then(|counts| counts.layouts.get(index));
        let layout = layout.map_or(String::new(), |(_, layout)| format!(", read as {layout}"));
        rows.push((
            "reads",
            format!("{}, {}{layout}", input.name, terminal::size(input.bytes)),
        ));
    }
    if found.inputs.len() > MAX_FILES {
        rows.push((
            "",
            format!("{} files in all", terminal::grouped(found.inputs.len() as u64)),
        ));
    }
    let vocab = terminal::grouped(found.vocab_size as u64);
    rows.push(("tokenizer", format!("{}, vocabulary of {vocab}", found.tokenizer)));
    rows.push((
        "rows",
        format!(
            "{} of {} tokens to train on, {} held back",
            terminal::grouped(found.train_rows),
            terminal::grouped(found.block_size as u64),
            terminal::grouped(found.val_rows)
        ),
    ));
    if let Some(counts) = &found.conversations {
        rows.extend(count_rows(counts, found.block_size));
    }
    let table = terminal::table(&rows);
    let mut text = terminal::shown(&table).into_owned();
    let is_masked = found
        .rows
        .iter()
        .flat_map(|row| &row.row.tokens)
        .any(|token| token.hidden.is_some());
    let [open, close] = marks;
    text += &match is_masked {
        true => format!("\n{open}this{close} is learned; after an arrow is what the model must guess\n"),
        false => format!("\n{open}this{close} is learned, all else is only read\n"),
    };
    for (index, row) in found.rows.iter().enumerate() {
        text += &format!("\n{}\n", terminal::shown(&heading(index, row)));
        text += &row_words(row, marks);
        text.push('\n');
    }
    text
}

fn count_rows(counts: &ConversationCounts, block_size: usize) -> Vec<(&'static str, String)> {
    let grouped = terminal::grouped;
    let percent = 100.0 * counts.learned_tokens as f64 / counts.tokens.max(1) as f64;
    let mut rows = vec![
        ("examples", grouped(counts.examples)),
        (
            "tokens",
            format!(
                "{}, {} of them learned ({percent:.1} %)",
                grouped(counts.tokens),
                grouped(counts.learned_tokens)
            ),
        ),
    ];
    rows.extend(counts.roles.iter().map(|(role, count)| {
        let messages = grouped(count.messages);
        (
            *role,
            format!("{messages} messages, {} of text", terminal::size(count.bytes)),
        )
    }));
    rows.push((
        "truncated",
        match counts.truncated {
            0 => format!("none: all fit {} tokens", grouped(block_size as u64)),
            truncated => format!(
                "{} of {}, longer than train.block_size = {block_size}: {} tokens lost, {} answers without their end",
                grouped(truncated),
                grouped(counts.examples),
                grouped(counts.lost_tokens),
                grouped(counts.answers_cut)
            ),
        },
    ));
    if counts.left_out > 0 {
        let left_out = format!(
            "{} pairs with a side longer than train.block_size = {block_size}",
            grouped(counts.left_out)
        );
        rows.push(("left out", left_out));
    }
    rows.push((
        "ends",
        format!(
            "{} of {} examples end with a special token that is learned",
            grouped(counts.ended),
            grouped(counts.examples)
        ),
    ));
    rows
}

fn heading(index: usize, row: &ExampleRow) -> String {
    let place = match (&row.file, row.line) {
        (Some(file), Some(row)) if file.ends_with(".parquet") => format!("{file}, row {row}"),
        (Some(file), Some(line)) => format!("{file}, line {line}"),
        _ => format!("row {}", index + 1),
    };
    let learned = row.row.tokens.iter().filter(|token| token.is_learned).count();
    let lost = match row.lost {
        0 => String::new(),
        lost => format!(", {} lost to truncation", terminal::grouped(lost as u64)),
    };
    let rejected = if row.is_rejected { " (rejected)" } else { "" };
    format!(
        "{place}{rejected}: {} tokens, {learned} learned{lost}",
        row.row.tokens.len()
    )
}

/// The text of a row with marks around what is learned.
fn row_words(row: &ExampleRow, [open, close]: [&str; 2]) -> String {
    let mut text = String::new();
    let mut is_open = false;
    for token in row.row.tokens.iter().take(MAX_TOKENS) {
        if token.is_learned != is_open {
            text += if token.is_learned { open } else { close };
            is_open = token.is_learned;
        }
        text += &terminal::shown(&token.text);
        if let Some(hidden) = &token.hidden {
            text += &format!("→{}", terminal::shown(hidden));
        }
    }
    if is_open {
        text += close;
    }
    if row.row.tokens.len() > MAX_TOKENS {
        text += &format!(" … {} more tokens", row.row.tokens.len() - MAX_TOKENS);
    }
    text
}
