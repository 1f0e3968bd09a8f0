//! Multiple choice: does the model assign the highest probability to the right continuation of a context?
//!
//! Context and continuation are split as in the lm-evaluation-harness (Gao et al. 2021): they are encoded together, white space
//! at the end of the context belongs to the continuation, and if the context alone has `n` tokens, the continuation starts after
//! the first `n`. A context that does not fit loses its beginning.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use taal_inference::{InferenceError, LanguageModel, Probe, Rows};
use taal_store::excerpt;
use taal_tokenizer::Tokenizer;

use crate::left_out::LeftOut;
use crate::lines::{TEST_LIMITS, bad_line, for_each_line, without_place};
use crate::pairs::{TOKENS_AT_ONCE, beginning, finite, hidden_in_turn};
use crate::words::stem;
use crate::{EvaluationError, Result};

/// The length by which log-likelihoods are divided for a second comparison, since longer choices are less likely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalize {
    /// No second comparison.
    None,
    /// The number of its tokens.
    Tokens,
    /// The number of its characters: the harness's `acc_norm`, comparable between tokenizers.
    #[default]
    Characters,
    /// The number of its bytes in UTF-8: the harness's `acc_bytes`.
    Bytes,
}

impl std::fmt::Display for Normalize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Tokens => "tokens",
            Self::Characters => "characters",
            Self::Bytes => "bytes",
        })
    }
}

impl std::str::FromStr for Normalize {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "tokens" => Ok(Self::Tokens),
            "characters" => Ok(Self::Characters),
            "bytes" => Ok(Self::Bytes),
            other => Err(format!(
                "unknown length {other:?}: expected none, tokens, characters or bytes"
            )),
        }
    }
}

/// Options of [`score_choices`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChoiceOptions {
    /// The length for the second comparison.
    pub normalize: Normalize,
    /// The delimiter between a non-empty context and a choice, where neither has white space there.
    pub delimiter: String,
    /// Begin every context with the tokens that begin a text; always on for bidirectional models.
    pub with_bos: bool,
}

impl Default for ChoiceOptions {
    fn default() -> Self {
        Self {
            normalize: Normalize::default(),
            delimiter: " ".to_owned(),
            with_bos: false,
        }
    }
}

/// A question with its answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChoiceItem {
    /// The context that the choices continue.
    pub context: String,
    /// The choices, at least two.
    pub choices: Vec<String>,
    /// The index of the right one.
    pub answer: usize,
}

/// How likely a model finds a choice.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ChoiceScore {
    /// The log-probability of its tokens after the context, in nats; for a masked model the sum over tokens, each masked alone.
    pub log_likelihood: f64,
    /// How many tokens.
    pub tokens: u64,
    /// How many characters, without surrounding white space.
    pub characters: u64,
    /// How many bytes, without surrounding white space.
    pub bytes: u64,
    /// Whether the context was too long and lost its beginning.
    pub is_truncated: bool,
}

impl ChoiceScore {
    fn divided(&self, normalize: Normalize) -> f64 {
        match normalize {
            Normalize::None => self.log_likelihood,
            Normalize::Tokens => self.log_likelihood / self.tokens as f64,
            Normalize::Characters => self.log_likelihood / self.characters as f64,
            Normalize::Bytes => self.log_likelihood / self.bytes as f64,
        }
    }
}

/// How often the likeliest choice is the right one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ChoiceAccuracy {
    /// The length by which log-likelihoods were divided.
    #[serde(rename = "normalise")]
    pub normalize: Normalize,
    /// Items whose right choice is likelier than all others; a tie counts as wrong.
    pub correct: u64,
    /// The share.
    pub accuracy: f64,
    /// Its 95 % interval (Wilson 1927).
    pub interval: [f64; 2],
    /// Items in which two or more choices are equally likely and likelier than all others.
    pub ties: u64,
}

/// The result on one file of items.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChoiceFile {
    /// The file's name without folder and extension.
    pub name: String,
    /// Items.
    pub total: u64,
    /// The accuracy of guessing: the mean of 1 / number of choices.
    pub chance: f64,
    /// By log-likelihood.
    pub plain: ChoiceAccuracy,
    /// By log-likelihood over length, if requested.
    #[serde(rename = "normalised")]
    pub normalized: Option<ChoiceAccuracy>,
    /// Items of which a context was too long and lost its beginning.
    pub truncated: u64,
}

/// The results on several files, and on all of them together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChoiceEvaluation {
    /// Each file.
    pub files: Vec<ChoiceFile>,
    /// All items together.
    pub all: ChoiceFile,
    /// Items that could not be scored; they are not counted, and a file with only such items is omitted.
    pub left_out: Vec<LeftOut>,
}

/// Scores files of multiple choice; see [`read_choices`] and [`score_choices`].
///
/// # Errors
///
/// Those of reading, [`EvaluationError::LeftOut`] where no item can be scored, and those of scoring that concern all items.
pub fn evaluate_choices(lm: &LanguageModel, paths: &[PathBuf], options: &ChoiceOptions) -> Result<ChoiceEvaluation> {
    let (mut tallies, mut left_out) = (Vec::new(), Vec::new());
    for path in paths {
        let mut tally = Tally::new(stem(path));
        for (line, item) in read_choices(path)? {
            match score_choices(lm, &item, options) {
                Ok(scores) => tally.add(&item, &scores, options.normalize),
                Err(error) => left_out.push(LeftOut::of(error, path, line)?),
            }
        }
        if tally.total > 0 {
            tallies.push(tally);
        }
    }
    let mut all = Tally::new("all".to_owned());
    tallies.iter().for_each(|tally| all.add_all(tally));
    if all.total == 0 {
        LeftOut::check(&left_out, 0)?;
    }
    let finish = |tally: &Tally| tally.finish(options.normalize);
    Ok(ChoiceEvaluation {
        files: tallies.iter().map(finish).collect(),
        all: finish(&all),
        left_out,
    })
}

/// Counts of a file.
struct Tally {
    name: String,
    total: u64,
    chances: f64,
    truncated: u64,
    /// Counts of right choices and ties, by log-likelihood and by log-likelihood over length.
    plain: [u64; 2],
    normalized: [u64; 2],
}

impl Tally {
    fn new(name: String) -> Self {
        Self {
            name,
            total: 0,
            chances: 0.0,
            truncated: 0,
            plain: [0; 2],
            normalized: [0; 2],
        }
    }

    fn add(&mut self, item: &ChoiceItem, scores: &[ChoiceScore], normalize: Normalize) {
        self.total += 1;
        self.chances += 1.0 / scores.len() as f64;
        self.truncated += u64::from(scores.iter().any(|score| score.is_truncated));
        for (counts, normalize) in [(&mut self.plain, Normalize::None), (&mut self.normalized, normalize)] {
            let values: Vec<f64> = scores.iter().map(|score| score.divided(normalize)).collect();
            let best = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let is_tied = values.iter().filter(|value| **value == best).count() > 1;
            counts[0] += u64::from(values[item.answer] == best && !is_tied);
            counts[1] += u64::from(is_tied);
        }
    }

    fn add_all(&mut self, other: &Self) {
        self.total += other.total;
        self.chances += other.chances;
        self.truncated += other.truncated;
        for index in 0..2 {
            self.plain[index] += other.plain[index];
            self.normalized[index] += other.normalized[index];
        }
    }

    fn finish(&self, normalize: Normalize) -> ChoiceFile {
        let accuracy = |[correct, ties]: [u64; 2], normalize| ChoiceAccuracy {
            normalize,
            correct,
            accuracy: correct as f64 / self.total as f64,
            interval: taal_metrics::wilson_interval(correct, self.total),
            ties,
        };
        ChoiceFile {
            name: self.name.clone(),
            total: self.total,
            chance: self.chances / self.total as f64,
            plain: accuracy(self.plain, Normalize::None),
            normalized: (normalize != Normalize::None).then(|| accuracy(self.normalized, normalize)),
            truncated: self.truncated,
        }
    }
}

/// A line of a file, with the keys of several collections.
#[derive(Debug, Deserialize)]
struct RawItem {
    #[serde(alias = "ctx")]
    context: Option<String>,
    question: Option<String>,
    #[serde(alias = "endings", alias = "options")]
    choices: RawChoices,
    #[serde(alias = "label", alias = "gold", alias = "answerKey")]
    answer: RawAnswer,
}

#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a list of texts, or an object with the lists text and label"
)]
enum RawChoices {
    Texts(Vec<String>),
    /// ARC's.
    Labeled {
        text: Vec<String>,
        label: Vec<String>,
    },
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected the answer's index or letter")]
enum RawAnswer {
    Index(i64),
    Word(String),
}

/// Reads JSON lines of multiple choice, each item with the number of its line.
///
/// - the context is `context` or `ctx`, or `question`; if both exist, the question follows the context on a new line;
/// - the choices are a list of texts named `choices`, `endings` or `options`, or ARC's object of the lists `text` and `label`;
/// - the answer is `answer`, `label`, `gold` or `answerKey`: the index of the right choice from 0, also as a string, or its
///   letter from A, or one of ARC's labels.
///
/// Other keys are ignored.
///
/// # Errors
///
/// [`EvaluationError::Line`] naming file and line, also for a file without an item; the store's.
pub fn read_choices(path: &Path) -> Result<Vec<(usize, ChoiceItem)>> {
    let mut items = Vec::new();
    for_each_line(path, TEST_LIMITS, |number, line| {
        let bad = |detail: String| bad_line(path, number, &detail);
        let raw: RawItem = serde_json::from_str(line).map_err(|error| bad(without_place(&error)))?;
        items.push((number, raw.check().map_err(bad)?));
        Ok(())
    })?;
    if items.is_empty() {
        return Err(bad_line(path, 1, "expected at least one item, got an empty file"));
    }
    Ok(items)
}

impl RawItem {
    fn check(self) -> std::result::Result<ChoiceItem, String> {
        let context = match (self.context, self.question) {
            (None, None) => return Err("expected a context, ctx or question, got none".to_owned()),
            (Some(context), Some(question)) if !context.is_empty() => format!("{context}\n{question}"),
            (_, Some(text)) | (Some(text), None) => text,
        };
        let (choices, labels) = match self.choices {
            RawChoices::Texts(texts) => (texts, None),
            RawChoices::Labeled { text, label } => (text, Some(label)),
        };
        let n = choices.len();
        if n < 2 {
            return Err(format!("expected at least two choices, got {n}"));
        }
        if let Some(index) = choices.iter().position(|choice| choice.trim().is_empty()) {
            return Err(format!("choice {index} is empty"));
        }
        if let Some(labels) = labels.as_ref().filter(|labels| labels.len() != n) {
            return Err(format!(
                "expected a label for each of {n} choices, got {}",
                labels.len()
            ));
        }
        let answer = match (&self.answer, labels) {
            (RawAnswer::Word(word), Some(labels)) => labels.iter().position(|label| label == word),
            (RawAnswer::Word(word), None) => index_of(word),
            (RawAnswer::Index(index), _) => usize::try_from(*index).ok(),
        };
        let answer = answer.filter(|answer| *answer < n).ok_or_else(|| {
            let given = match &self.answer {
                RawAnswer::Index(index) => index.to_string(),
                RawAnswer::Word(word) => excerpt(word),
            };
            format!(
                "the answer {given} is none of the {n} choices: expected an index from 0 to {} or a letter from A",
                n - 1
            )
        })?;
        Ok(ChoiceItem {
            context,
            choices,
            answer,
        })
    }
}

/// Parses an index from 0 or a letter from A.
fn index_of(word: &str) -> Option<usize> {
    match word.trim().as_bytes() {
        [letter] if letter.is_ascii_alphabetic() => Some(usize::from(letter.to_ascii_uppercase() - b'A')),
        _ => word.trim().parse().ok(),
    }
}

/// The score of every choice of an item.
///
/// A causal model scores the tokens of the continuation; an empty context is replaced by the token that begins a text, or else
/// the one that ends it. For a masked model each of these tokens is masked in turn.
///
/// # Errors
///
/// [`InferenceError::NoTokenizer`], [`InferenceError::Setting`] for a choice that adds no token or does not fit, a masked model
/// without mask token, or an empty context that no token can replace; the tokenizer's and the model's.
pub fn score_choices(lm: &LanguageModel, item: &ChoiceItem, options: &ChoiceOptions) -> Result<Vec<ChoiceScore>> {
    let tokenizer = lm.tokenizer.as_ref().ok_or(InferenceError::NoTokenizer {
        purpose: "scoring choices",
    })?;
    let rows = item
        .choices
        .iter()
        .map(|choice| Row::new(lm, tokenizer, &item.context, choice, options))
        .collect::<Result<Vec<_>>>()?;
    let sums: Vec<f64> = match lm.model.config().is_causal {
        true => causal_sums(lm, &rows)?,
        false => {
            let mask = tokenizer.mask_id().ok_or_else(|| {
                EvaluationError::setting(
                    "tokenizer",
                    "it has no mask token, so the model is not a masked language model",
                )
            })?;
            let sum = |row: &Row| hidden_in_turn(lm, &row.ids, row.places.clone(), mask);
            rows.iter().map(sum).collect::<Result<Vec<_>>>()?
        }
    };
    for sum in &sums {
        finite(*sum)?;
    }
    let score = |((sum, row), choice): ((f64, Row), &String)| ChoiceScore {
        log_likelihood: sum,
        tokens: row.places.len() as u64,
        characters: choice.trim().chars().count() as u64,
        bytes: choice.trim().len() as u64,
        is_truncated: row.is_truncated,
    };
    Ok(sums.into_iter().zip(rows).zip(&item.choices).map(score).collect())
}

/// Context and continuation as token ids.
struct Row {
    ids: Vec<u32>,
    /// The continuation's ids.
    places: std::ops::Range<usize>,
    is_truncated: bool,
}

impl Row {
    fn new(
        lm: &LanguageModel,
        tokenizer: &Tokenizer,
        context: &str,
        choice: &str,
        options: &ChoiceOptions,
    ) -> Result<Self> {
        let config = lm.model.config();
        let (mut before, continuation) = encode_pair(
            tokenizer,
            &lm.normalized(context),
            &lm.normalized(choice),
            &options.delimiter,
        )?;
        lm.check_ids(&before, "token id")?;
        lm.check_ids(&continuation, "token id")?;
        if continuation.is_empty() {
            let detail = format!("the choice {} adds no token to its context", excerpt(choice));
            return Err(EvaluationError::setting("choices", detail));
        }
        let (mut first, end) = match config.is_causal {
            true if options.with_bos || before.is_empty() => (beginning(lm, tokenizer), Vec::new()),
            true => (Vec::new(), Vec::new()),
            false => {
                let frame = tokenizer.frame();
                (frame.before, frame.after)
            }
        };
        if before.is_empty() && config.is_causal && first.is_empty() {
            let end = lm.end_ids.first().ok_or_else(|| {
                let detail = "the context is empty and no token of the tokenizer begins a text";
                EvaluationError::setting("choices", detail)
            })?;
            first.push(*end);
        }
        // The last token of a causal row is only predicted.
        let room = config.max_seq_len + usize::from(config.is_causal);
        let needed = continuation.len() + first.len() + end.len();
        let left = room
            .checked_sub(needed)
            .filter(|left| *left > 0 || !first.is_empty())
            .ok_or_else(|| {
                let detail = format!(
                    "the choice {} has {} tokens, which do not fit the model's context of {}",
                    excerpt(choice),
                    continuation.len(),
                    config.max_seq_len
                );
                EvaluationError::setting("choices", detail)
            })?;
        let lost = before.len().saturating_sub(left);
        before.drain(..lost);
        let mut ids: Vec<u32> = first.into_iter().chain(before).collect();
        let places = ids.len()..ids.len() + continuation.len();
        ids.extend(continuation);
        ids.extend(end);
        Ok(Self {
            ids,
            places,
            is_truncated: lost > 0,
        })
    }
}

/// The tokens of a context and its continuation.
fn encode_pair(tokenizer: &Tokenizer, context: &str, choice: &str, delimiter: &str) -> Result<(Vec<u32>, Vec<u32>)> {
    let trimmed = context.trim_end();
    let space = &context[trimmed.len()..];
    if trimmed.is_empty() {
        return Ok((Vec::new(), tokenizer.encode(choice)?));
    }
    let needs_delimiter = space.is_empty() && !choice.starts_with(char::is_whitespace);
    let delimiter = if needs_delimiter { delimiter } else { space };
    let mut whole = tokenizer.encode(&format!("{trimmed}{delimiter}{choice}"))?;
    let context = tokenizer.encode(trimmed)?;
    let continuation = whole.split_off(context.len().min(whole.len()));
    Ok((context, continuation))
}

/// The summed log-probabilities of the rows' continuations, several rows at once; shorter rows are padded at the end, which a
/// causal model does not see.
fn causal_sums(lm: &LanguageModel, rows: &[Row]) -> Result<Vec<f64>> {
    let width = rows.iter().map(|row| row.ids.len() - 1).max().unwrap_or(0);
    let mut sums = Vec::with_capacity(rows.len());
    for rows in rows.chunks((TOKENS_AT_ONCE / width.max(1)).max(1)) {
        let mut inputs = vec![0; rows.len() * width];
        let (mut flat, mut targets) = (Vec::new(), Vec::new());
        for (index, row) in rows.iter().enumerate() {
            let read = row.ids.len() - 1;
            inputs[index * width..][..read].copy_from_slice(&row.ids[..read]);
            // The prediction for a position comes from the token before it.
            flat.extend(row.places.clone().map(|place| index * width + place - 1));
            targets.extend(&row.ids[row.places.clone()]);
        }
        let losses = Probe::new(&lm.model).losses(&Rows::new(&inputs, width), &flat, &targets)?;
        let mut losses = losses.into_iter().map(f64::from);
        for row in rows {
            sums.push(-losses.by_ref().take(row.places.len()).sum::<f64>());
        }
    }
    Ok(sums)
}
