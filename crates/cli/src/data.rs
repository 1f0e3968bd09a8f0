//! `taal data`: texts to token shards.

use taal_data::{BuildOptions, BuildReport, Content, Progress, TokenizeOptions};
use taal_store::LineEnds;

use crate::arguments::DataBuildArguments;
use crate::failure::Failure;
use crate::{progress, signals, terminal, tokenizer};

/// `taal data build`
pub fn build(arguments: &DataBuildArguments) -> Result<(), Failure> {
    let tokenizer = tokenizer::open(&arguments.tokenizer)?;
    let bar = progress::byte_bar();
    let show = |progress: Progress<'_>| {
        bar.set_length(progress.bytes_total);
        bar.set_position(progress.bytes_done);
        bar.set_message(format!("{} tokens", terminal::short(progress.tokens as f64)));
    };
    let tokenize = TokenizeOptions {
        validation_fraction: arguments.validation_fraction,
        line_ends: arguments.line_ends,
        progress: Some(&show),
        ..TokenizeOptions::default()
    };
    let options = BuildOptions {
        tokenize,
        ..BuildOptions::default()
    };
    signals::clean_up(&arguments.out)?;
    let found = taal_data::find_files(&arguments.inputs, Content::Text)?;
    if let Some(words) = found.left_out_words() {
        terminal::message(&words);
    }
    let built = taal_data::build_shards(&tokenizer, &found.files, &arguments.out, &options);
    bar.finish_and_clear();
    let built = built?;
    say_line_ends(built.carriage_returns, arguments.line_ends);
    Ok(terminal::print(&summary(arguments, &built))?)
}

/// What became of carriage returns, where there were any.
pub fn say_line_ends(carriage_returns: u64, line_ends: LineEnds) {
    if carriage_returns > 0 {
        terminal::message(&taal_data::line_ends_words(carriage_returns, line_ends));
    }
}

fn summary(arguments: &DataBuildArguments, report: &BuildReport) -> String {
    let part = |tokens: u64, bytes: u64| {
        format!(
            "{} tokens of {} bytes",
            terminal::grouped(tokens),
            terminal::grouped(bytes)
        )
    };
    let tokens = report.train_tokens + report.validation_tokens;
    let bytes = report.train_bytes + report.validation_bytes;
    let mut rows = vec![
        ("inputs", terminal::grouped(report.inputs.len() as u64)),
        ("training", part(report.train_tokens, report.train_bytes)),
        ("validation", part(report.validation_tokens, report.validation_bytes)),
        (
            "compression",
            format!("{:.3} bytes/token", bytes as f64 / tokens.max(1) as f64),
        ),
        ("shards", format!("{} in {}", report.shards, arguments.out.display())),
    ];
    if report.inexact_cuts > 0 {
        rows.push(("inexact cuts", terminal::grouped(report.inexact_cuts)));
    }
    // A string of Rust is one of TOML, too, but for its way to escape characters that no path has.
    format!(
        "{}\nTo train on it, a recipe says:\n\n[data]\nshards = {:?}\n",
        terminal::table(&rows),
        arguments.out.display().to_string()
    )
}
