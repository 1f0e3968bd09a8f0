//! `taal tokenizer`: train one, and see what it does.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use serde::Serialize;
use taal_data::{Content, DataError};
use taal_metrics::wilson_interval;
use taal_store::LineEnds;
use taal_store::layout::{MODEL_DIR, TOKENIZER_FILE};
use taal_tokenizer::{
    Compound, CompoundReport, Compression, ImportOptions, TextPart, Tokenizer, TrainerConfig, TrainingReport, Unknown,
    compound_report, compression,
};

use crate::arguments::{
    CompoundsArguments, DecodeArguments, EncodeArguments, TokenizerImportArguments, TokenizerTrainArguments,
};
use crate::failure::Failure;
use crate::{columns, data, signals, standard_input, terminal};

/// Compression is measured on so much of the text at most; more would take long and say the same.
const MAX_MEASURED_BYTES: usize = 16 << 20;

/// Text that is encoded at a time to measure: one word of 16 MiB would take 2 GB, whatever the limit for training.
const MEASURED_AT_ONCE_BYTES: usize = 1 << 20;

/// A tokenizer.json, or the one in a model directory, or the one of the best model in a run directory.
pub fn open(path: &Path) -> Result<Tokenizer, taal_tokenizer::Error> {
    let inside = [path.join(TOKENIZER_FILE), path.join(MODEL_DIR).join(TOKENIZER_FILE)];
    let [first, _] = &inside;
    match taal_store::is_dir(path) {
        true => Tokenizer::open(inside.iter().find(|path| taal_store::exists(path)).unwrap_or(first)),
        false => Tokenizer::open(path),
    }
}

/// Text on standard input to train on, at most so large: it is held in memory.
const MAX_STDIN_BYTES: u64 = 1 << 30;

/// What a tokenizer is trained on.
enum Texts {
    Files(Vec<PathBuf>),
    Stdin(String),
}

impl Texts {
    fn find(arguments: &TokenizerTrainArguments) -> Result<Self, Failure> {
        let is_stdin = |path: &PathBuf| path.as_os_str() == "-";
        match arguments.inputs.as_slice() {
            [one] if is_stdin(one) => {
                let text = standard_input::read(MAX_STDIN_BYTES)?;
                Ok(Self::Stdin(text))
            }
            inputs if inputs.iter().any(is_stdin) => Err(anyhow::anyhow!(
                "- reads standard input and cannot be mixed with files: name one or the other"
            )
            .into()),
            inputs => {
                let found = taal_data::find_files(inputs, Content::Text)?;
                if let Some(words) = found.left_out_words() {
                    terminal::message(&words);
                }
                Ok(Self::Files(found.files))
            }
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Stdin(_) => "standard input".to_string(),
            Self::Files(files) => match files.as_slice() {
                [one] => one.display().to_string(),
                [first, rest @ ..] => format!("{} and {} more", first.display(), rest.len()),
                [] => String::new(),
            },
        }
    }

    /// The texts in parts; the carriage returns that were found are added up.
    fn parts<'a>(&'a self, line_ends: LineEnds, carriage_returns: &'a Cell<u64>) -> Result<Parts<'a>, DataError> {
        Ok(match self {
            Self::Files(files) => Box::new(taal_data::tokenizer_texts(files, line_ends, carriage_returns)?),
            Self::Stdin(text) => {
                carriage_returns.set(text.bytes().filter(|byte| *byte == b'\r').count() as u64);
                let text = line_ends.apply(text).into_owned();
                Box::new(std::iter::once(Ok(TextPart { text, is_last: true })))
            }
        })
    }
}

type Parts<'a> = Box<dyn Iterator<Item = Result<TextPart, DataError>> + 'a>;

/// What can go wrong in training: with the texts, or with the tokenizer.
struct TrainFailure(Failure);

impl From<taal_tokenizer::Error> for TrainFailure {
    fn from(error: taal_tokenizer::Error) -> Self {
        Self(error.into())
    }
}

/// `taal tokenizer train`
pub fn train(arguments: &TokenizerTrainArguments) -> Result<(), Failure> {
    let mut config = TrainerConfig::new(arguments.kind, arguments.vocab_size);
    if !arguments.special_token.is_empty() {
        config.special_tokens.clone_from(&arguments.special_token);
    }
    config.unknown = arguments.unknown.unwrap_or(config.unknown);
    config.memory_limit_bytes = arguments.memory_limit.saturating_mul(1 << 20);
    signals::clean_up(&arguments.out)?;
    let texts = Texts::find(arguments)?;
    let carriage_returns = Cell::new(0);
    let parts = texts.parts(arguments.line_ends, &carriage_returns)?;
    let parts = parts.map(|part| part.map_err(|error| TrainFailure(error.into())));
    let trained = config.train_parts_reported(parts, &texts.name());
    let (tokenizer, report) = trained.map_err(|failure| failure.0)?;
    data::say_line_ends(carriage_returns.get(), arguments.line_ends);
    let measured = measure(&tokenizer, texts.parts(arguments.line_ends, &Cell::new(0))?)?;
    tokenizer.save(&arguments.out)?;
    terminal::print(&summary(arguments, &tokenizer, &report, &measured))?;
    Ok(())
}

/// Compression on the training text, or on the beginning of a long one.
fn measure(tokenizer: &Tokenizer, parts: Parts<'_>) -> Result<Compression, Failure> {
    let mut total = Compression {
        bytes: 0,
        characters: 0,
        tokens: 0,
        bytes_per_token: 0.0,
        unknown: 0,
    };
    let mut text = String::new();
    for part in parts {
        let part = part?;
        let room = MAX_MEASURED_BYTES - total.bytes as usize - text.len();
        text.push_str(&part.text[..part.text.floor_char_boundary(room)]);
        let is_full = part.text.len() >= room;
        let is_whole = part.is_last || is_full;
        let mut done = 0;
        while text.len() - done > MEASURED_AT_ONCE_BYTES || (is_whole && done < text.len()) {
            let piece = measured_piece(&text[done..]);
            done += piece.len();
            let part = compression(tokenizer, piece)?;
            total.bytes += part.bytes;
            total.characters += part.characters;
            total.tokens += part.tokens;
            total.unknown += part.unknown;
        }
        text.drain(..done);
        if is_full {
            break;
        }
    }
    total.bytes_per_token = total.bytes as f64 / total.tokens.max(1) as f64;
    Ok(total)
}

/// The beginning of a text, cut where white space follows a word, which changes no token; in a text without white space between characters.
fn measured_piece(text: &str) -> &str {
    if text.len() <= MEASURED_AT_ONCE_BYTES {
        return text;
    }
    let limit = text.floor_char_boundary(MEASURED_AT_ONCE_BYTES);
    let word_ends = text[..limit].trim_end().rfind(char::is_whitespace);
    let cut = word_ends
        .map(|space| text[..space].trim_end().len())
        .filter(|cut| *cut > 0);
    &text[..cut.unwrap_or(limit)]
}

fn summary(
    arguments: &TokenizerTrainArguments,
    tokenizer: &Tokenizer,
    report: &TrainingReport,
    measured: &Compression,
) -> String {
    let mut rows = vec![
        ("tokenizer", arguments.out.display().to_string()),
        ("kind", arguments.kind.to_string()),
        (
            "vocabulary",
            format!("{} tokens", terminal::grouped(tokenizer.vocab_size() as u64)),
        ),
        ("trained on", format!("{} bytes", terminal::grouped(report.bytes))),
        ("compression", format!("{:.3} bytes/token", measured.bytes_per_token)),
        (
            "measured on",
            match measured.bytes < report.bytes {
                true => format!(
                    "the first {} bytes of the training text",
                    terminal::grouped(measured.bytes)
                ),
                false => "the training text".to_string(),
            },
        ),
    ];
    if tokenizer.unk_id().is_some() && arguments.unknown != Some(Unknown::Error) {
        rows.push((
            "unknown",
            format!("{} of {} tokens", measured.unknown, terminal::grouped(measured.tokens)),
        ));
    }
    rows.push((
        "forgotten",
        match report.forgotten_occurrences {
            0 => "nothing: all words were counted exactly".to_string(),
            occurrences => format!(
                "{} of {} occurrences, all of rare words (--memory-limit {})",
                terminal::grouped(occurrences),
                terminal::grouped(report.occurrences),
                arguments.memory_limit
            ),
        },
    ));
    terminal::table(&rows)
}

/// What `taal tokenizer encode --json` prints.
#[derive(Serialize)]
struct Encoded {
    ids: Vec<u32>,
    tokens: Vec<String>,
}

/// `taal tokenizer encode`
pub fn encode(arguments: &EncodeArguments) -> Result<(), Failure> {
    let tokenizer = open(&arguments.tokenizer)?;
    let text = standard_input::text_or_stdin(&arguments.text, arguments.raw)?;
    let ids = match arguments.special {
        true => tokenizer.encode_with_special(&text)?,
        false => tokenizer.encode(&text)?,
    };
    if *arguments.json {
        let tokens = tokenizer.tokens(&ids);
        return Ok(terminal::print_json(&Encoded { ids, tokens })?);
    }
    if arguments.is_text {
        let pieces = ids.iter().map(|id| taal_insight::token_label(Some(&tokenizer), *id));
        let pieces: Vec<String> = pieces.map(|piece| columns::visible(&piece)).collect();
        return Ok(terminal::print(&format!("{}\n", pieces.join("|")))?);
    }
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    Ok(terminal::print(&format!("{}\n", ids.join(",")))?)
}

/// `taal tokenizer decode`
pub fn decode(arguments: &DecodeArguments) -> Result<(), Failure> {
    let tokenizer = open(&arguments.tokenizer)?;
    let text = match arguments.show_special {
        true => tokenizer.decode_with_special(&arguments.ids)?,
        false => tokenizer.decode(&arguments.ids)?,
    };
    Ok(terminal::print(&format!("{text}\n"))?)
}

/// `taal tokenizer import`
pub fn import(arguments: &TokenizerImportArguments) -> Result<(), Failure> {
    let options = ImportOptions {
        pattern: arguments.pattern.clone(),
    };
    let (tokenizer, format) = Tokenizer::import_reported(&arguments.from, &options)?;
    let out = match taal_store::is_dir(&arguments.out) {
        true => arguments.out.join(TOKENIZER_FILE),
        false => arguments.out.clone(),
    };
    tokenizer.save(&out)?;
    let target = tokenizer.target_json().and_then(|_| Tokenizer::target_file(&out));
    if tokenizer.target_json().is_some() && target.is_none() {
        terminal::message(&format!(
            "the tokenizer of the translations is another one and was not written; write to a folder, or to a file named {TOKENIZER_FILE}"
        ));
    }
    let mut rows = vec![("tokenizer", out.display().to_string())];
    rows.extend(target.map(|target| ("of targets", target.display().to_string())));
    rows.extend([
        ("format", format.to_string()),
        (
            "vocabulary",
            format!("{} tokens", terminal::grouped(tokenizer.vocab_size() as u64)),
        ),
    ]);
    Ok(terminal::print(&terminal::table(&rows))?)
}

/// One tokenizer in what `taal tokenizer compounds --json` prints.
#[derive(Serialize)]
struct Scored {
    tokenizer: String,
    vocab_size: usize,
    /// Share of the boundaries between parts that a boundary between tokens falls on.
    respected: f64,
    /// Its 95 % interval (Wilson 1927), as if the boundaries were independent.
    respected_interval: [f64; 2],
    false_splits_per_word: f64,
    tokens_per_word: f64,
    unknown_words: u64,
}

impl Scored {
    fn new(path: &Path, tokenizer: &Tokenizer, report: &CompoundReport) -> Self {
        let words = report.words.max(1) as f64;
        Self {
            tokenizer: path.display().to_string(),
            vocab_size: tokenizer.vocab_size(),
            respected: report.respected as f64 / report.boundaries.max(1) as f64,
            respected_interval: wilson_interval(report.respected, report.boundaries),
            false_splits_per_word: report.false_splits as f64 / words,
            tokens_per_word: report.tokens as f64 / words,
            unknown_words: report.unknown,
        }
    }
}

/// What `taal tokenizer compounds --json` prints.
#[derive(Serialize)]
struct CompoundScores {
    words: usize,
    boundaries: usize,
    tokenizers: Vec<Scored>,
}

/// `taal tokenizer compounds`
pub fn compounds(arguments: &CompoundsArguments) -> Result<(), Failure> {
    let compounds = Compound::read_file(&arguments.words)?;
    let mut scores = CompoundScores {
        words: compounds.len(),
        boundaries: compounds.iter().map(|compound| compound.boundaries.len()).sum(),
        tokenizers: Vec::new(),
    };
    for path in &arguments.tokenizer {
        let tokenizer = open(path)?;
        let report = compound_report(&tokenizer, &compounds)?;
        scores.tokenizers.push(Scored::new(path, &tokenizer, &report));
    }
    if *arguments.json {
        return Ok(terminal::print_json(&scores)?);
    }
    let count = |number: usize| terminal::grouped(number as u64);
    let mut lines = format!(
        "{} compounds with {} boundaries\nrespected (95 % interval)  false splits/word  tokens/word  unknown  tokenizer\n",
        count(scores.words),
        count(scores.boundaries)
    );
    for scored in &scores.tokenizers {
        let [low, high] = scored.respected_interval.map(|bound| 100.0 * bound);
        lines.push_str(&format!(
            "{:6.1} % ({low:5.1} to {high:5.1})  {:17.2}  {:11.2}  {:>7}  {}\n",
            100.0 * scored.respected,
            scored.false_splits_per_word,
            scored.tokens_per_word,
            terminal::grouped(scored.unknown_words),
            scored.tokenizer
        ));
    }
    Ok(terminal::print(&lines)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_32_a_long_word_is_measured_in_pieces_and_others_stay_whole() {
        let word = "é".repeat(MEASURED_AT_ONCE_BYTES);
        assert_eq!(measured_piece(&word).len(), MEASURED_AT_ONCE_BYTES);
        let words = "een  twee ".repeat(MEASURED_AT_ONCE_BYTES / 5);
        let (mut rest, mut pieces) = (words.as_str(), 0);
        while !rest.is_empty() {
            let piece = measured_piece(rest);
            assert!(piece.len() <= MEASURED_AT_ONCE_BYTES);
            assert!(rest.len() == piece.len() || piece.ends_with(['n', 'e']) && rest[piece.len()..].starts_with(' '));
            rest = &rest[piece.len()..];
            pieces += 1;
        }
        assert_eq!(pieces, 3);
    }
}
