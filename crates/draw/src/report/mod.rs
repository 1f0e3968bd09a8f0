//! A run as one self-contained page: no network, light and dark, from a phone's width to a desk's.

mod cards;
pub(crate) mod curves;
mod live;
mod samples;

use std::time::SystemTime;

use taal_metrics::{Report, RunNote, StepRecord};

use crate::page::marked;
use crate::texts::fill;
use crate::{Language, Page, escape};

/// The page of a run: key figures, loss curve, learning rate and gradient norm, samples and recipe.
///
/// It needs no other file and allows itself no network. All text is escaped; values that are not finite are left out of the curves and
/// counted below them.
#[derive(Debug, Clone, Copy)]
pub struct RunPage<'a> {
    /// The run's figures so far.
    pub report: &'a Report,
    /// Its steps.
    pub records: &'a [StepRecord],
    /// Its recipe with every value.
    pub recipe_toml: &'a str,
    /// Whether it is still training, and if not, how it ended.
    pub state: RunState<'a>,
    /// The page's language.
    pub language: Language,
}

/// Whether a run is still training, and if not, how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState<'a> {
    /// It was training when the page was written; the page says when that was and reloads itself.
    Live {
        /// When the page was written.
        written: SystemTime,
    },
    /// All steps were done, or the recipe's patience ended it.
    Finished,
    /// It was asked to stop, and can be continued.
    Interrupted,
    /// An error ended it.
    Failed {
        /// What the error says.
        error: &'a str,
    },
}

impl RunPage<'_> {
    /// The page as HTML. Only that of a live run has a script, which reloads it.
    pub fn to_html(&self) -> String {
        let live = match self.state {
            RunState::Live { written } => Some(live::Live::new(self, written)),
            _ => None,
        };
        let body = format!(
            "<header>\n<h1>{}</h1>\n<p class=\"quiet\">{}</p>\n{}</header>\n<main>\n{}{}{}{}</main>\n",
            escape(self.recipe_name()),
            self.facts().join(" · "),
            live.as_ref().map_or_else(|| self.notice(), live::Live::notice) + &self.notes(),
            self.key_figures(),
            self.curves(),
            self.samples(),
            self.recipe_details()
        );
        Page {
            title: &live.as_ref().map_or(self.recipe_name().to_owned(), live::Live::title),
            body: &body,
            language: self.language,
            script: live.as_ref().map(live::Live::script),
        }
        .to_html()
    }

    fn recipe_name(&self) -> &str {
        match self.report.recipe.as_str() {
            "" => self.language.texts().report.a_run,
            name => name,
        }
    }

    /// Device, tokenizer and vocabulary, as markup.
    fn facts(&self) -> Vec<String> {
        let Self { report, language, .. } = self;
        let texts = &language.texts().report;
        let mut facts = Vec::new();
        if !report.device.is_empty() {
            let device = escape(&report.device);
            let device = match report.device.as_str() {
                "flex" | "ndarray" => fill(texts.cpu, &[("device", &device)]),
                _ => device,
            };
            facts.push(fill(texts.device, &[("device", &device)]));
        }
        if !report.tokenizer.is_empty() {
            let tokenizer = match report.tokenizer.strip_prefix("of ") {
                Some("the shards") => texts.tokenizer_of_shards.to_owned(),
                Some("the program") => texts.tokenizer_of_program.to_owned(),
                Some(model) => fill(texts.tokenizer_of, &[("model", &escape(model))]),
                None => escape(&report.tokenizer),
            };
            facts.push(fill(texts.tokenizer, &[("tokenizer", &tokenizer)]));
        }
        if report.vocab_size > 0 {
            facts.push(fill(texts.vocabulary, &[("count", &self.grouped(report.vocab_size))]));
        }
        if let Some(step) = report.resumed_from {
            facts.push(fill(texts.resumed_from, &[("step", &self.grouped(step))]));
        }
        facts
    }

    /// How a run ended that did not do all of its steps.
    fn notice(&self) -> String {
        let Self { report, language, .. } = self;
        let texts = &language.texts().report;
        let (text, error) = match self.state {
            RunState::Finished if report.steps < report.planned_steps => (texts.stopped_early, ""),
            RunState::Interrupted => (texts.interrupted, ""),
            RunState::Failed { error } => (texts.failed, error),
            RunState::Finished | RunState::Live { .. } => return String::new(),
        };
        let values = [
            ("step", self.grouped(report.steps)),
            ("steps", self.grouped(report.planned_steps)),
            ("error", escape(error)),
        ];
        let text = fill(
            &marked(text),
            &values.each_ref().map(|(name, value)| (*name, value.as_str())),
        );
        format!("<p class=\"notice\">{text}</p>\n")
    }

    /// What a reader of the figures should know, a paragraph each.
    fn notes(&self) -> String {
        let paragraph = |note: &RunNote| format!("<p class=\"notice\">{}</p>\n", self.note(note));
        self.report.notes.iter().map(paragraph).collect()
    }

    fn note(&self, note: &RunNote) -> String {
        let texts = &self.language.texts().report;
        let numbers = self.language.numbers();
        let (text, values) = match *note {
            RunNote::LittleText { train_tokens, params } => (
                texts.little_text,
                vec![
                    ("tokens", numbers.grouped(train_tokens)),
                    ("params", numbers.counted(params)),
                ],
            ),
            RunNote::WorseThanGuessing { val_loss, vocab_size } => (
                texts.worse_than_guessing,
                vec![
                    ("loss", numbers.decimals(val_loss, 2)),
                    ("vocabulary", numbers.grouped(vocab_size)),
                    ("guessing", numbers.decimals((vocab_size.max(1) as f64).ln(), 2)),
                ],
            ),
            RunNote::LeftOutPairs { left_out, row_tokens } => (
                texts.left_out_pairs,
                vec![
                    ("count", numbers.grouped(left_out)),
                    ("row", numbers.grouped(row_tokens)),
                ],
            ),
            RunNote::Averaged {
                checkpoints,
                val_loss,
                best_val_loss,
            } => {
                let is_worse = val_loss.zip(best_val_loss).is_some_and(|(mean, best)| mean > best);
                let loss = |loss: Option<f64>| loss.map_or("-".to_string(), |loss| numbers.decimals(loss, 4));
                (
                    if is_worse {
                        texts.averaged_in_vain
                    } else {
                        texts.averaged
                    },
                    vec![
                        ("count", numbers.grouped(checkpoints)),
                        ("loss", loss(val_loss)),
                        ("best", loss(best_val_loss)),
                    ],
                )
            }
            RunNote::CutExamples { cut, row_tokens } => (
                if cut == 1 { texts.one_cut } else { texts.some_cut },
                vec![("count", numbers.grouped(cut)), ("row", numbers.grouped(row_tokens))],
            ),
        };
        let values: Vec<(&str, &str)> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
        fill(&marked(text), &values)
    }

    fn recipe_details(&self) -> String {
        if self.recipe_toml.is_empty() {
            return String::new();
        }
        format!(
            "<details>\n<summary>{}</summary>\n<pre><code>{}</code></pre>\n</details>\n",
            self.language.texts().report.recipe,
            escape(self.recipe_toml.trim_end())
        )
    }

    fn grouped(&self, number: u64) -> String {
        self.language.numbers().grouped(number)
    }
}
