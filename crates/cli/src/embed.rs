//! `taal embed` and `taal similar`: texts as vectors, and the words or lines that are nearest to a text.

use serde::Serialize;
use taal_evaluation::{WordVectors, vocabulary_words};
use taal_inference::{LanguageModel, embed, similarity};
use taal_store::TextReader;

use crate::arguments::{EmbedArguments, SimilarArguments};
use crate::failure::Failure;
use crate::{models, standard_input, terminal};

/// A file of lines to compare with, at most so large.
const MAX_LINES_BYTES: u64 = 256 << 20;

/// The same in lines: one that is held costs more than its bytes.
const MAX_LINES: usize = 1 << 22;

/// A text with its vector.
#[derive(Debug, Serialize)]
struct Embedded {
    text: String,
    embedding: Vec<f32>,
}

/// A line or word and how near it is.
#[derive(Debug, Serialize)]
struct Near {
    similarity: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    text: String,
}

/// Prints the vector of every text.
pub fn run(arguments: &EmbedArguments) -> Result<(), Failure> {
    let (model, texts) = arguments.asked.split("embed")?;
    let is_stdin = |text: &&String| *text == "-";
    if texts.iter().filter(is_stdin).count() > 1 {
        return Err(anyhow::anyhow!("- may be given once: standard input is one text").into());
    }
    let texts = texts
        .iter()
        .map(|text| standard_input::text_or_stdin(text, arguments.raw));
    let mut texts: Vec<String> = texts.collect::<Result<_, _>>()?;
    for path in arguments.lines.iter() {
        texts.extend(lines(path)?.into_iter().map(|(_, line)| line));
    }
    if texts.is_empty() {
        return Err(anyhow::anyhow!("no text was given: name at least one, or a file with --lines").into());
    }
    let lm = models::open_adapted_with(model, arguments.device.device, &arguments.adapter, arguments.weights)?;
    say_what_is_cut(&lm, texts.iter().map(String::as_str))?;
    for text in texts {
        let embedding = embed(&lm, &text, *arguments.pool)?;
        if *arguments.json {
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

/// Says on standard error how many texts are longer than the model reads.
pub fn say_what_is_cut<'a>(lm: &LanguageModel, texts: impl Iterator<Item = &'a str>) -> Result<(), Failure> {
    let (mut total, mut cut) = (0_u64, 0_u64);
    for text in texts {
        total += 1;
        cut += u64::from(taal_inference::cut_tokens(lm, text)? > 0);
    }
    if cut > 0 {
        terminal::message(&format!(
            "{} of {} texts are longer than the model reads and were cut at the end",
            terminal::grouped(cut),
            terminal::grouped(total)
        ));
    }
    Ok(())
}

/// Prints what is nearest to a text: lines of a file, or words of the vocabulary.
pub fn similar(arguments: &SimilarArguments) -> Result<(), Failure> {
    let lines = arguments.lines.as_deref().map(lines).transpose()?;
    let (model, text) = arguments.asked.model_and_one_text("similar")?;
    let text = standard_input::text_or_stdin(text, arguments.raw)?;
    let lm = models::open_with(model, arguments.device.device, arguments.weights)?;
    let found = match lines {
        Some(lines) => nearest_lines(&lm, &text, lines, arguments)?,
        None => nearest_words(&lm, text.trim(), arguments)?,
    };
    if *arguments.json {
        return Ok(terminal::print_json(&found)?);
    }
    let words: String = found
        .iter()
        .map(|near| format!("{:7.4}  {}\n", near.similarity, near.text))
        .collect();
    Ok(terminal::print(&words)?)
}

fn nearest_lines(
    lm: &LanguageModel,
    text: &str,
    lines: Vec<(usize, String)>,
    arguments: &SimilarArguments,
) -> Result<Vec<Near>, Failure> {
    say_what_is_cut(lm, lines.iter().map(|(_, line)| line.as_str()).chain([text]))?;
    let wanted = embed(lm, text, *arguments.pool)?;
    let mut found = Vec::with_capacity(lines.len());
    for (line, text) in lines {
        let similarity = similarity(&wanted, &embed(lm, &text, *arguments.pool)?);
        let line = Some(line);
        found.push(Near { similarity, line, text });
    }
    // Of equals the earlier line first.
    found.sort_by(|a, b| b.similarity.total_cmp(&a.similarity).then(a.line.cmp(&b.line)));
    found.truncate(arguments.top);
    Ok(found)
}

/// The text itself is left out of its neighbors.
fn nearest_words(lm: &LanguageModel, text: &str, arguments: &SimilarArguments) -> Result<Vec<Near>, Failure> {
    let wanted = WordVectors::of_model(lm, [text], *arguments.pool)?;
    let Some(wanted) = wanted.vector(text) else {
        return Err(anyhow::anyhow!("the model's tokenizer does not know {}", taal_store::excerpt(text)).into());
    };
    let words = lm
        .tokenizer
        .as_ref()
        .map(|tokenizer| vocabulary_words(tokenizer, lm.vocab_size()))
        .unwrap_or_default();
    let others = words.iter().map(String::as_str).filter(|word| *word != text);
    let vectors = WordVectors::of_model(lm, others, *arguments.pool)?;
    if vectors.is_empty() {
        let error = anyhow::anyhow!("no token of the model is another word");
        return Err(Failure::from(error).with_hint("give the words or lines to compare with in a file: --lines FILE"));
    }
    let nearest = vectors.nearest(wanted, arguments.top).into_iter();
    Ok(nearest
        .map(|(word, similarity)| Near {
            similarity,
            line: None,
            text: word.to_owned(),
        })
        .collect())
}

/// The lines of a file that hold something, with their numbers from 1.
pub fn lines(path: &std::path::Path) -> Result<Vec<(usize, String)>, Failure> {
    let text = TextReader::open(path, MAX_LINES_BYTES)?.read_all()?;
    if text.lines().count() > MAX_LINES {
        return Err(taal_store::Error::Corrupt {
            path: path.to_path_buf(),
            detail: format!("more than {MAX_LINES} lines are not accepted here; is it the right file?"),
        }
        .into());
    }
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
