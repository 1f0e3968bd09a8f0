//! `taal embed` and `taal similar`: texts as vectors, and the lines that are nearest to a text.

use serde::Serialize;
use taal_inference::{LanguageModel, embed, similarity};

use crate::arguments::{EmbedArguments, SimilarArguments};
use crate::failure::Failure;
use crate::terminal;

/// A file of lines to compare with, at most so large.
const MAX_LINES_BYTES: u64 = 256 << 20;

/// A text with its vector.
#[derive(Debug, Serialize)]
struct Embedded {
    text: String,
    embedding: Vec<f32>,
}

/// A line and how near it is.
#[derive(Debug, Serialize)]
struct Near {
    similarity: f64,
    line: usize,
    text: String,
}

/// Prints the vector of every text.
pub fn run(arguments: &EmbedArguments) -> Result<(), Failure> {
    let mut texts = arguments.texts.clone();
    for path in &arguments.lines {
        texts.extend(lines(path)?.into_iter().map(|(_, line)| line));
    }
    if texts.is_empty() {
        return Err(anyhow::anyhow!("no text was given: name at least one, or a file with --lines").into());
    }
    let lm = LanguageModel::open(&arguments.model, &arguments.device.open()?)?;
    for text in texts {
        let embedding = embed(&lm, &text, arguments.pool)?;
        if arguments.json {
            // One object a line, so that a large file can be read as it comes.
            let line = serde_json::to_string(&Embedded { text, embedding })?;
            terminal::print(&format!("{line}\n"))?;
            continue;
        }
        let numbers: Vec<String> = embedding.iter().map(ToString::to_string).collect();
        terminal::print(&format!("{}\n", numbers.join(" ")))?;
    }
    Ok(())
}

/// Prints the lines of a file that are nearest to a text.
pub fn similar(arguments: &SimilarArguments) -> Result<(), Failure> {
    let lines = lines(&arguments.lines)?;
    let text = terminal::text_or_stdin(&arguments.text)?;
    let lm = LanguageModel::open(&arguments.model, &arguments.device.open()?)?;
    let wanted = embed(&lm, &text, arguments.pool)?;
    let mut found = Vec::with_capacity(lines.len());
    for (line, text) in lines {
        let similarity = similarity(&wanted, &embed(&lm, &text, arguments.pool)?);
        found.push(Near { similarity, line, text });
    }
    // Of equals the earlier line first.
    found.sort_by(|a, b| b.similarity.total_cmp(&a.similarity).then(a.line.cmp(&b.line)));
    found.truncate(arguments.top);
    if arguments.json {
        return Ok(terminal::print_json(&found)?);
    }
    let words: String = found
        .iter()
        .map(|near| format!("{:7.4}  {}\n", near.similarity, near.text))
        .collect();
    Ok(terminal::print(&words)?)
}

/// The lines of a file that hold something, with their numbers from 1.
fn lines(path: &std::path::Path) -> Result<Vec<(usize, String)>, Failure> {
    let text = taal_store::read_text(path, MAX_LINES_BYTES)?;
    let numbered = (1..).zip(text.lines());
    let lines: Vec<(usize, String)> = numbered
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(number, line)| (number, line.to_owned()))
        .collect();
    if lines.is_empty() {
        return Err(anyhow::anyhow!("{}: no line with text in it", path.display()).into());
    }
    Ok(lines)
}
