//! Tasks: questions that a model answers with generated text, compared with references.
//!
//! A task is a TOML file:
//!
//! ```toml
//! name = "capitals"                        # [default: the file's name]
//! data = "capitals.jsonl"                  # JSONL, CSV, TSV or Parquet next to this file, or a set that comes along; or [[items]] here
//! layout = "alpaca"                        # completion, messages, sharegpt, alpaca or preference [default: recognized by the first row, as in training]
//! prompt_column = "question"               # [default: by layout, such as prompt]
//! reference_column = "answer"              # [default: by layout, such as completion]; next to a prompt, in JSONL and Parquet, also a list of right answers
//! input_column = "context"                 # what an instruction is about: rows are those of alpaca [default: input]
//! messages_column = "dialog"               # conversations, whose last answer is the right one [default: messages or conversations]
//! template = "Question: {prompt}\nAnswer:" # [default: the prompt alone]
//! chat = false                             # as a message in the model's chat template [default: where it has one, and no template is given]
//! metric = "exact_match"                   # or accuracy, macro_f1, rouge_l, bleu, chrf, chrf++
//! labels = ["yes", "no"]                   # of accuracy and macro_f1 [default: the references]
//! max_tokens = 64
//! stop = ["\n"]                            # [default: only the end of the text]
//! limit = 200                              # only the first items
//! ignore_case = true                       # of exact_match, bleu, chrf and chrf++; the others do so always
//! beam = 5                                 # beam search with so many candidates [default: the likeliest token each time]
//! length_penalty = 1.0                     # of the beam search
//! ```
//!
//! A prompt may also be a list of messages, and a reference a list of messages that ends with the right answer; `tools` of a row are functions
//! that answers may call. The model's chat template writes them as in training, or the plain one where the model has none.
//!
//! A score has the same bits every time. A prompt is the message of a user in the model's chat template where the model has one; `template`
//! or `chat = false` leaves it out. An instruction and its input are one prompt, as in training. A model that translates gets the prompts as sources; one without an encoder only where the task
//! has no template of its own.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use taal_data::{Layout, RowSource};
use taal_inference::{
    BeamOptions, Doubts, FinishReason, GenerateOptions, Generation, InferenceError, LanguageModel, Line, Prompt,
    Sampling, TranslateOptions, Translator,
};
use taal_metrics::{
    AnswerMetric, PairedDifference, SentenceCounts, bootstrap_interval, exact_match, label_of, macro_f1,
    paired_difference, paired_resampling, rouge_l,
};

use crate::asking::{Asked, Asker, TaskItem};
use crate::questions::{Columns, EMPTY_REFERENCE, Questions, References};
use crate::words::{BOOTSTRAP_ROUNDS, stem};
use crate::{EvaluationError, Result};

/// A task file above this size is not one.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Seed of the bootstrap: intervals are a function of the answers.
const SEED: u64 = 1;

/// Sources that are translated before the next report of progress.
const SOURCES_AT_ONCE: usize = 128;

/// Where the prompt goes in a template.
const PLACE: &str = "{prompt}";

/// Questions with references, and how answers are made and compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Its name.
    pub name: String,
    /// The metric.
    pub metric: AnswerMetric,
    /// The labels of [`AnswerMetric::Accuracy`] and [`AnswerMetric::MacroF1`].
    pub labels: Vec<String>,
    /// Whether capitals do not count in [`AnswerMetric::ExactMatch`], and the metrics of a whole text get lower case, as with sacrebleu's `-lc`.
    pub ignore_case: bool,
    /// The most tokens of an answer.
    pub max_tokens: usize,
    /// Texts that end an answer.
    pub stop: Vec<String>,
    /// The beam search that finds answers; `None`: the likeliest token each time.
    pub beam: Option<BeamOptions>,
    /// Whether the prompts have a template of the task around them already.
    pub has_template: bool,
    /// Whether a prompt is the message of a user in the model's chat template; `None`: where the model has one and the task no template.
    pub chat: Option<bool>,
    /// The file or the set of the questions, where they are not in the task file.
    pub data: Option<PathBuf>,
    /// What the rows of its data have that is not read, in sentences.
    pub notes: Vec<String>,
    /// The questions.
    pub items: Vec<TaskItem>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTask {
    name: Option<String>,
    data: Option<PathBuf>,
    layout: Option<Layout>,
    input_column: Option<String>,
    prompt_column: Option<String>,
    reference_column: Option<String>,
    messages_column: Option<String>,
    template: Option<String>,
    chat: Option<bool>,
    metric: AnswerMetric,
    labels: Option<Vec<String>>,
    max_tokens: Option<usize>,
    stop: Option<Vec<String>>,
    limit: Option<usize>,
    #[serde(default)]
    ignore_case: bool,
    beam: Option<usize>,
    length_penalty: Option<f64>,
    items: Option<Vec<RawItem>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawItem {
    prompt: String,
    reference: References,
}

impl Task {
    /// Reads a task file and the data that it names.
    ///
    /// # Errors
    ///
    /// [`EvaluationError::Task`] for an unknown or missing key and for values that contradict one another,
    /// [`EvaluationError::Line`] for a bad line of the data; the store's.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, &[])
    }

    /// [`open`](Self::open) for a task whose `data` may also be the name of a set that the program comes with: each has its name and its
    /// rows as JSON Lines. A file of that name next to the task comes first. Rows of a set with the same prompt are one question with
    /// the references of all of them.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open); [`EvaluationError::Task`] lists the sets where `data` is neither one of them nor a file.
    pub fn open_with(path: &Path, embedded: &[(&str, String)]) -> Result<Self> {
        let bad = |detail: String| EvaluationError::Task {
            path: path.to_path_buf(),
            detail: taal_store::shorten(&detail),
        };
        let text = taal_store::read_text(path, MAX_FILE_BYTES)?;
        let mut raw: RawTask = toml::from_str(&text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            bad(format!("line {line}: {}", error.message()))
        })?;
        let template = raw.template.as_deref().unwrap_or(PLACE);
        raw.check_columns().map_err(|detail| bad(detail.to_owned()))?;
        if !template.contains(PLACE) {
            return Err(bad(format!("template: expected {PLACE} where the prompt goes")));
        }
        let mut data_path = None;
        let Questions { mut items, notes } = match (&raw.data, raw.items.take()) {
            (Some(data), None) => {
                let columns = Columns {
                    layout: raw.layout,
                    input: raw.input_column.as_deref(),
                    is_text: raw.template.is_some() || raw.chat == Some(false),
                    prompt: raw.prompt_column.as_deref(),
                    reference: raw.reference_column.as_deref(),
                    messages: raw.messages_column.as_deref(),
                };
                let file = path.parent().unwrap_or(Path::new(".")).join(data);
                let set = embedded.iter().find(|(name, _)| data.as_path() == Path::new(name));
                match set {
                    _ if embedded.is_empty() || taal_store::exists(&file) => {
                        data_path = Some(file.clone());
                        columns.read(RowSource::File(&file))?
                    }
                    Some((name, rows)) => {
                        data_path = Some(PathBuf::from(name));
                        columns.read_embedded(name, rows)?
                    }
                    None => {
                        let names: Vec<&str> = embedded.iter().map(|(name, _)| *name).collect();
                        let shown = taal_store::excerpt(&data.display().to_string());
                        return Err(bad(format!(
                            "data: there is no file {shown} next to it; sets that come along are {}",
                            names.join(", ")
                        )));
                    }
                }
            }
            (None, Some(items)) => {
                let item = |item: RawItem| TaskItem::new(item.prompt, item.reference.into_list());
                Questions {
                    items: items.into_iter().map(item).collect(),
                    notes: Vec::new(),
                }
            }
            _ => return Err(bad("expected exactly one of data and [[items]]".to_owned())),
        };
        items.truncate(raw.limit.unwrap_or(usize::MAX));
        if items.is_empty() {
            return Err(bad("has no questions".to_owned()));
        }
        if let Some(index) = items.iter().position(|item| item.references.is_empty()) {
            return Err(bad(format!(
                "question {} has no reference: give at least one right answer",
                index + 1
            )));
        }
        let is_empty = |item: &TaskItem| item.references.iter().any(|text| text.trim().is_empty());
        if let (true, Some(index)) = (raw.data.is_none(), items.iter().position(is_empty)) {
            return Err(bad(format!("question {}: {EMPTY_REFERENCE}", index + 1)));
        }
        let is_labeled = matches!(raw.metric, AnswerMetric::Accuracy | AnswerMetric::MacroF1);
        let labels = match (is_labeled, raw.labels.take()) {
            (true, Some(labels)) => labels,
            (true, None) => items.iter().flat_map(|item| item.references.clone()).collect(),
            (false, None) => Vec::new(),
            (false, Some(_)) => {
                return Err(bad(format!(
                    "labels are for accuracy and macro_f1, not for {}",
                    raw.metric
                )));
            }
        };
        let mut labels: Vec<String> = labels.iter().map(|label| label.trim().to_owned()).collect();
        labels.sort();
        labels.dedup();
        if is_labeled {
            let is_unknown = |reference: &&String| label_of(reference, &labels).is_none();
            let unknown = items
                .iter()
                .enumerate()
                .find_map(|(index, item)| Some((index, item.references.iter().find(is_unknown)?)));
            if let Some((index, reference)) = unknown {
                let reference = taal_store::excerpt(reference);
                return Err(bad(format!(
                    "question {}: the reference {reference} is none of the labels",
                    index + 1
                )));
            }
        }
        let beam = beam_of(&raw).map_err(bad)?;
        let has_messages = items.iter().any(|item| item.conversation.is_some());
        if has_messages && (raw.template.is_some() || raw.chat == Some(false)) {
            let detail =
                "prompts of messages are written by the model's chat template: leave out `template` and `chat = false`";
            return Err(bad(detail.to_owned()));
        }
        for item in &mut items {
            item.prompt = template.replace(PLACE, &item.prompt);
        }
        Ok(Self {
            name: raw.name.unwrap_or_else(|| stem(path)),
            metric: raw.metric,
            labels,
            ignore_case: raw.ignore_case,
            max_tokens: raw.max_tokens.unwrap_or(64),
            beam,
            has_template: raw.template.is_some(),
            chat: raw.chat,
            data: data_path,
            notes,
            stop: raw.stop.unwrap_or_default(),
            items,
        })
    }

    /// Whether a model gets the prompts as messages in its chat template.
    pub fn is_chat_with(&self, lm: &LanguageModel) -> bool {
        let has_ids = self.items.iter().any(|item| item.prompt_ids.is_some());
        let is_chat = || self.chat.unwrap_or(!self.has_template && !lm.chat.is_empty());
        !self.is_translation_by(lm) && !has_ids && (self.has_messages() || is_chat())
    }

    /// Whether a model gets the prompts as sources to translate.
    fn is_translation_by(&self, lm: &LanguageModel) -> bool {
        let has_ids = self.items.iter().any(|item| item.prompt_ids.is_some());
        let is_alone = !self.has_template && !has_ids && self.chat != Some(true) && !self.has_messages();
        lm.model.is_encoder_decoder() || (lm.translation.is_some() && is_alone)
    }

    /// The evaluation of answers that no model generated.
    pub fn evaluate(&self, mut answer: impl FnMut(&TaskItem) -> String) -> TaskEvaluation {
        let answers = self
            .items
            .iter()
            .map(|item| self.answered(item, &answer(item), Vec::new()));
        self.evaluation(answers.collect())
    }

    fn evaluation(&self, answers: Vec<TaskAnswer>) -> TaskEvaluation {
        let figure = |sample: &[usize]| figure(self.metric, &answers, sample);
        let whole: Vec<usize> = (0..answers.len()).collect();
        let value = figure(&whole).unwrap_or(f64::NAN);
        let interval = bootstrap_interval(answers.len(), BOOTSTRAP_ROUNDS, SEED, figure);
        TaskEvaluation {
            name: self.name.clone(),
            metric: self.metric,
            value,
            interval: interval.unwrap_or([f64::NAN; 2]),
            signature: self.signature(),
            total: answers.len() as u64,
            truncated: 0,
            unfinished: 0,
            warning: None,
            answers,
        }
    }

    /// An answer; `written` is the right one as the model's chat template writes it, if it is a message.
    fn answered(&self, item: &TaskItem, answer: &str, written: Vec<String>) -> TaskAnswer {
        let answer = answer.trim().to_owned();
        let right = if written.is_empty() { &item.references } else { &written };
        let (score, counted) = self.score(&answer, right);
        TaskAnswer {
            prompt: item.prompt.clone(),
            references: item.references.clone(),
            written,
            answer,
            score,
            counted,
        }
    }

    /// An error about a question, the `number`th, with its file and line.
    fn of_item(&self, error: InferenceError, item: &TaskItem, number: usize) -> EvaluationError {
        match (&self.data, item.line) {
            // Whole: how long a text may be stands at its end.
            (Some(path), Some(line)) => EvaluationError::Line {
                path: path.clone(),
                line,
                detail: error.to_string(),
            },
            _ => error.of_text(&format!("question {number}")).into(),
        }
    }

    /// The settings of a metric of the whole text, as in sacrebleu's signature.
    fn signature(&self) -> Option<String> {
        let count = |item: &TaskItem| item.references.len();
        let first = self.items.first().map(count);
        let is_one = self.items.iter().all(|item| Some(count(item)) == first);
        let metric = self.metric.of_corpus()?;
        Some(metric.signature(
            first.filter(|_| is_one),
            Some((BOOTSTRAP_ROUNDS, SEED)),
            self.ignore_case,
        ))
    }

    /// The score of an answer, and what its metric counts; an answer without a label has the number after the last.
    fn score(&self, answer: &str, references: &[String]) -> (f64, Counted) {
        let label = |text: &str| label_of(text, &self.labels).unwrap_or(self.labels.len());
        if let Some(metric) = self.metric.of_corpus() {
            let counts = match self.ignore_case {
                true => {
                    let references: Vec<String> = references.iter().map(|text| text.to_lowercase()).collect();
                    metric.counts(&answer.to_lowercase(), &references)
                }
                false => metric.counts(answer, references),
            };
            return (metric.sentence_score(&counts), Counted::Runs(counts));
        }
        match self.metric {
            AnswerMetric::ExactMatch => {
                let is_equal = references
                    .iter()
                    .any(|reference| exact_match(answer, reference, self.ignore_case));
                (f64::from(u8::from(is_equal)), Counted::Nothing)
            }
            AnswerMetric::Accuracy | AnswerMetric::MacroF1 => {
                let given = label(answer);
                // Of several right labels the one that was given, else the first.
                let mut right = references.iter().map(|reference| label(reference));
                let first = right.clone().next().unwrap_or(self.labels.len());
                let labels = [given, right.find(|label| *label == given).unwrap_or(first)];
                (f64::from(u8::from(labels[0] == labels[1])), Counted::Labels(labels))
            }
            // The metrics of a whole text have returned.
            _ => {
                let scores = references.iter().map(|reference| rouge_l(answer, reference).f1);
                (scores.fold(0.0, f64::max), Counted::Nothing)
            }
        }
    }
}

impl RawTask {
    /// Refuses columns that contradict one another.
    fn check_columns(&self) -> std::result::Result<(), &'static str> {
        let is_messages =
            matches!(self.layout, Some(Layout::Messages | Layout::ShareGpt)) || self.messages_column.is_some();
        let is_pair = self.prompt_column.is_some() || self.reference_column.is_some();
        if is_messages && (is_pair || self.input_column.is_some()) {
            return Err(
                "a column of messages has prompts and answers: leave out `prompt_column`, `reference_column` and `input_column`, or \
                 `messages_column` and `layout`",
            );
        }
        let is_other = |layout: Layout| layout != Layout::Alpaca;
        if self.input_column.is_some() && self.layout.is_some_and(is_other) {
            return Err("`input_column` is about rows of layout \"alpaca\": leave it or `layout` out");
        }
        let is_other = |layout: Layout| !matches!(layout, Layout::Messages | Layout::ShareGpt);
        if self.messages_column.is_some() && self.layout.is_some_and(is_other) {
            return Err(
                "`messages_column` is about rows of layout \"messages\" or \"sharegpt\": leave it or `layout` out",
            );
        }
        Ok(())
    }
}

/// The beam search that a task asks for.
fn beam_of(raw: &RawTask) -> std::result::Result<Option<BeamOptions>, String> {
    let defaults = BeamOptions::default();
    let beam = match (raw.beam, raw.length_penalty) {
        (None, None) => return Ok(None),
        (None, Some(_)) => return Err("length_penalty is of a beam search: give beam as well".to_owned()),
        (Some(width), penalty) => BeamOptions {
            width,
            length_penalty: penalty.unwrap_or(defaults.length_penalty),
            ..defaults
        },
    };
    let is_set = raw.stop.as_ref().is_some_and(|stop| !stop.is_empty());
    if is_set {
        return Err("beam search has no stop strings: leave out stop or beam".to_owned());
    }
    beam.validate().map_err(|error| format!("beam: {error}"))?;
    Ok(Some(beam))
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskAnswer {
    /// What the model continued.
    pub prompt: String,
    /// Right answers.
    pub references: Vec<String>,
    /// The right answer as the model's chat template writes it, without special tokens, where it is a message: the answer is compared
    /// with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub written: Vec<String>,
    /// What it generated, without surrounding white space.
    pub answer: String,
    /// 0 to 1; of labels whether it is the right one. BLEU, chrF and chrF++ of this answer alone are from 0 to 100.
    pub score: f64,
    #[serde(skip)]
    counted: Counted,
}

/// What the metric takes of an answer besides its score.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum Counted {
    #[default]
    Nothing,
    /// The answer's label and the right one.
    Labels([usize; 2]),
    /// Runs of words or characters.
    Runs(SentenceCounts),
}

/// A model's answers to a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskEvaluation {
    /// The task's name.
    pub name: String,
    /// The metric.
    pub metric: AnswerMetric,
    /// Its value over all questions.
    pub value: f64,
    /// Its 95 % interval by the bootstrap over questions.
    pub interval: [f64; 2],
    /// The settings of BLEU, chrF or chrF++, as in sacrebleu's signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// Questions.
    pub total: u64,
    /// Prompts that did not fit the model's context and lost their beginning.
    pub truncated: u64,
    /// Answers that ended only because `max_tokens` were generated.
    pub unfinished: u64,
    /// Why the prompts may be in another language than a translator's, or what of the rows the model is not shown; `None` where nothing
    /// says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// The answers.
    pub answers: Vec<TaskAnswer>,
}

impl TaskEvaluation {
    /// The share of answers whose first word is that of a reference, such as the name of a program in a command.
    pub fn first_word_share(&self) -> f64 {
        let first = |text: &str| text.split_whitespace().next().map(ToOwned::to_owned);
        let is_right = |answer: &&TaskAnswer| {
            let said = first(&answer.answer);
            said.is_some() && answer.references.iter().any(|reference| first(reference) == said)
        };
        self.answers.iter().filter(is_right).count() as f64 / self.answers.len().max(1) as f64
    }
}

/// Lets a model answer every question of a task. `on_answer` is told how many questions are answered, and may stop it.
///
/// # Errors
///
/// Those of generating: a prompt that cannot be encoded, logits that are not finite, a model that does not generate.
pub fn evaluate_task(
    lm: &LanguageModel,
    task: &Task,
    on_answer: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<TaskEvaluation> {
    let answered = match task.is_translation_by(lm) {
        true => translated(lm, task, on_answer)?,
        false => generated(lm, task, on_answer)?,
    };
    Ok(TaskEvaluation {
        truncated: answered.truncated,
        unfinished: answered.unfinished,
        warning: answered.warning,
        ..task.evaluation(answered.answers)
    })
}

/// Answers so far.
#[derive(Default)]
struct Answered {
    answers: Vec<TaskAnswer>,
    truncated: u64,
    unfinished: u64,
    warning: Option<String>,
}

/// Answers by continuing the prompts.
fn generated(lm: &LanguageModel, task: &Task, on_answer: &mut dyn FnMut(usize) -> ControlFlow<()>) -> Result<Answered> {
    let mut answered = Answered::default();
    let mut asker = Asker::new(lm, task)?;
    // A beam search has no stop strings; the ends of texts that the model's files name hold for both.
    let turn = asker.end_of_turn().filter(|_| task.beam.is_none());
    let stop: Vec<String> = task.stop.iter().cloned().chain(turn).collect();
    for (index, item) in task.items.iter().enumerate() {
        let Asked { prompt, written } = asker.asked(item, index + 1)?;
        let found = generation(lm, task, &stop, &prompt)?;
        answered.truncated += u64::from(found.dropped_prompt_tokens > 0);
        answered.unfinished += u64::from(found.finish_reason == FinishReason::Length);
        let text = found.text.unwrap_or_default();
        answered.answers.push(task.answered(item, &text, written));
        if on_answer(answered.answers.len()).is_break() {
            break;
        }
    }
    answered.warning = asker.warning();
    Ok(answered)
}

fn generation(lm: &LanguageModel, task: &Task, stop: &[String], prompt: &Prompt) -> Result<Generation> {
    let options = GenerateOptions {
        max_tokens: task.max_tokens,
        sampling: Sampling::greedy(),
        stop: stop.to_vec(),
        ..GenerateOptions::default()
    };
    Ok(match &task.beam {
        None => taal_inference::generate(lm, prompt, &options, &mut |_| ControlFlow::Continue(()))?,
        Some(beam) => {
            let beams = taal_inference::beam_search(lm, prompt, &options, beam)?;
            match beams.into_iter().next() {
                Some(best) => best.generation,
                None => return Err(EvaluationError::setting("beam", "no answer was found")),
            }
        }
    })
}

/// Answers of a model that translates, of which the prompts are the sources.
fn translated(
    lm: &LanguageModel,
    task: &Task,
    on_answer: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Answered> {
    if !task.stop.is_empty() {
        return Err(EvaluationError::setting(
            "stop",
            "a translation has no stop strings; leave them out",
        ));
    }
    if task.has_messages() {
        let detail = "the prompts are messages, and a model that translates reads texts: name their columns in prompt_column and \
                      reference_column";
        return Err(EvaluationError::setting("data", detail));
    }
    let greedy = TranslateOptions::greedy();
    let options = TranslateOptions {
        beam: task.beam.unwrap_or(greedy.beam),
        max_tokens: Some(task.max_tokens),
        ..greedy
    };
    let translator = Translator::new(lm, options)?;
    let mut answered = Answered::default();
    let mut doubts = Doubts::default();
    for (chunk, items) in task.items.chunks(SOURCES_AT_ONCE).enumerate() {
        let read = |(place, item): (usize, &TaskItem)| {
            let line = translator.read(&item.prompt);
            line.map_err(|error| task.of_item(error, item, chunk * SOURCES_AT_ONCE + place + 1))
        };
        let lines: Vec<Line> = items.iter().enumerate().map(read).collect::<Result<_>>()?;
        for (item, translation) in items.iter().zip(translator.translate_lines(lines)?) {
            answered.unfinished += u64::from(!translation.is_complete);
            doubts.add(&translation);
            let text = &translation.translation;
            answered.answers.push(task.answered(item, text, Vec::new()));
            if on_answer(answered.answers.len()).is_break() {
                return Ok(answered);
            }
        }
    }
    let doubt = doubts.verdict(translator.facts());
    answered.warning = doubt.map(|doubt| doubt.sentence(translator.facts()));
    Ok(answered)
}

/// The metric over a sample of answers.
fn figure(metric: AnswerMetric, answers: &[TaskAnswer], sample: &[usize]) -> Option<f64> {
    if sample.is_empty() {
        return None;
    }
    let counted = sample.iter().map(|index| &answers[*index].counted);
    if let Some(metric) = metric.of_corpus() {
        let counts = counted.filter_map(|counted| match counted {
            Counted::Runs(counts) => Some(counts),
            _ => None,
        });
        return Some(metric.score(&counts.sum()));
    }
    match metric {
        AnswerMetric::MacroF1 => macro_f1(counted.filter_map(|counted| match counted {
            Counted::Labels([answer, right]) => Some((*answer, *right)),
            _ => None,
        })),
        _ => Some(sample.iter().map(|index| answers[*index].score).sum::<f64>() / sample.len() as f64),
    }
}

/// The difference between two models on the same task: the second's figure minus the first's, by the paired bootstrap; for BLEU, chrF and
/// chrF++ with sacrebleu's p-value. `None` where they did not answer the same questions.
pub fn compare_tasks(first: &TaskEvaluation, second: &TaskEvaluation) -> Option<PairedDifference> {
    let same = |(a, b): (&TaskAnswer, &TaskAnswer)| a.prompt == b.prompt && a.references == b.references;
    let is_same = first.metric == second.metric
        && first.answers.len() == second.answers.len()
        && first.answers.iter().zip(&second.answers).all(same);
    if !is_same {
        return None;
    }
    let difference = |sample: &[usize]| {
        let second = figure(second.metric, &second.answers, sample)?;
        Some(second - figure(first.metric, &first.answers, sample)?)
    };
    match first.metric.of_corpus() {
        Some(_) => paired_resampling(first.answers.len(), BOOTSTRAP_ROUNDS, SEED, difference),
        None => paired_difference(first.answers.len(), BOOTSTRAP_ROUNDS, SEED, difference),
    }
}
