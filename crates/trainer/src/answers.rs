//! The metric of answers by which a run's best checkpoint is chosen: held-out prompts are answered and compared with what was said.

use std::collections::HashMap;
use std::ops::ControlFlow;

use taal_data::ConversationExample;
use taal_evaluation::{Nearest, Task, TaskItem, evaluate_task};
use taal_inference::LanguageModel;
use taal_metrics::{AnswerFigures, AnswerMetric, AnswerScore};
use taal_model::Transformer;
use taal_model::hugging_face::SpecialIds;
use taal_tokenizer::Tokenizer;

use crate::TrainError;
use crate::chat::Chat;
use crate::checkpoint::TrainState;
use crate::objective::Ask;
use crate::prepare::Corpus;
use crate::recipe::Recipe;

/// Held-out prompts with the last answer of each.
#[derive(Debug)]
pub(crate) struct Answers {
    task: Task,
    /// The answers to the prompts that the run trains on.
    nearest: Nearest,
    tokenizer: Tokenizer,
    special_ids: SpecialIds,
}

/// Training examples that are searched for the nearest prompt, the first ones.
const MAX_KNOWN: usize = 50_000;

impl Answers {
    /// Those of the recipe's metric, if it has one.
    ///
    /// # Errors
    ///
    /// The tokenizer's.
    pub(crate) fn of(
        recipe: &Recipe,
        tokenizer: &Tokenizer,
        chat: &Chat,
        corpus: &Corpus,
    ) -> Result<Option<Self>, TrainError> {
        let Some(metric) = recipe.eval.metric else {
            return Ok(None);
        };
        let (examples, known, as_item): (_, _, ItemOf) = match corpus {
            Corpus::Conversations(found) => match &found.validation {
                Some(held_out) => (held_out.first(usize::MAX), found.train.first(MAX_KNOWN), item),
                None => return Ok(None),
            },
            Corpus::Pairs(found) => match &found.validation {
                Some(held_out) => (held_out.first(usize::MAX), found.train.first(MAX_KNOWN), source_item),
                None => return Ok(None),
            },
            Corpus::Text(_) => return Ok(None),
        };
        let items = examples.iter().map(|example| as_item(example, tokenizer));
        let items = items.collect::<Result<Vec<_>, _>>()?;
        let items = match recipe.data.direction.is_some() || matches!(corpus, Corpus::Pairs(_)) {
            true => with_all_references(items),
            false => items,
        };
        // Evenly over all of them, which may be sorted.
        let count = items.len().min(recipe.eval.answers);
        let items: Vec<TaskItem> = (0..count)
            .map(|index| items[index * items.len() / count].clone())
            .collect();
        let known = known.iter().map(|example| {
            let item = as_item(example, tokenizer)?;
            Ok((item.prompt, item.references.concat()))
        });
        let known: Vec<(String, String)> = known.collect::<Result<_, TrainError>>()?;
        Ok(Some(Self {
            nearest: Nearest::new(known),
            task: Task {
                name: recipe.name.clone(),
                metric,
                labels: labels(metric, &items),
                ignore_case: false,
                max_tokens: recipe.eval.answer_tokens,
                stop: Vec::new(),
                beam: None,
                has_template: true,
                chat: Some(false),
                data: None,
                notes: Vec::new(),
                items,
            },
            tokenizer: tokenizer.clone(),
            special_ids: chat.special_ids().cloned().unwrap_or_default(),
        }))
    }

    /// The figures so far, for the report.
    pub(crate) fn figures(&self, state: &TrainState) -> AnswerFigures {
        AnswerFigures {
            metric: self.task.metric,
            questions: self.task.items.len() as u64,
            last: state.val_metric,
            best: state.best_metric,
            model: None,
            nearest: None,
        }
    }

    /// The score of a model's answers, and that of the answers to the nearest prompts of the training part.
    pub(crate) fn compare(&self, model: &Transformer) -> Result<[AnswerScore; 2], TrainError> {
        let found = evaluate_task(&self.model(model), &self.task, &mut |_| ControlFlow::Continue(()))?;
        let nearest = self
            .task
            .evaluate(|item| self.nearest.answer(&item.prompt).unwrap_or_default().to_owned());
        Ok([found, nearest].map(|found| AnswerScore {
            value: found.value,
            interval: found.interval,
            first_word: found.first_word_share(),
        }))
    }

    /// The figure of a model, 0 to 1.
    pub(crate) fn score(&self, model: &Transformer, ask: &mut Ask<'_>) -> Result<ControlFlow<(), f64>, TrainError> {
        let mut is_stopped = false;
        let found = evaluate_task(&self.model(model), &self.task, &mut |_| {
            let asked = ask();
            is_stopped = asked.is_break();
            asked
        })?;
        Ok(match is_stopped {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(found.value),
        })
    }

    fn model(&self, model: &Transformer) -> LanguageModel {
        LanguageModel::with_special_ids(
            // As the model answers afterwards, and as fast.
            model.clone().with_exact_products(false),
            Some(self.tokenizer.clone()),
            self.special_ids.clone(),
        )
    }
}

/// Makes an item of an example.
type ItemOf = fn(&ConversationExample, &Tokenizer) -> Result<TaskItem, TrainError>;

/// A source for an encoder, and its translation.
pub(crate) fn source_item(example: &ConversationExample, tokenizer: &Tokenizer) -> Result<TaskItem, TrainError> {
    let item = item(example, tokenizer)?;
    let source = item.prompt_ids.unwrap_or_default();
    let text: Vec<u32> = source.into_iter().filter(|id| !tokenizer.is_special(*id)).collect();
    Ok(TaskItem::new(tokenizer.decode(&text)?, item.references))
}

/// Each source once, with all its translations.
fn with_all_references(items: Vec<TaskItem>) -> Vec<TaskItem> {
    let (mut joined, mut places) = (Vec::<TaskItem>::new(), HashMap::new());
    for item in items {
        let place = *places.entry(item.prompt.clone()).or_insert(joined.len());
        match joined.get_mut(place) {
            Some(known) => known.references.extend(item.references),
            None => joined.push(item),
        }
    }
    joined
}

/// What comes before the last answer of an example, and that answer.
pub(crate) fn item(example: &ConversationExample, tokenizer: &Tokenizer) -> Result<TaskItem, TrainError> {
    let prompt = example.prompt_ids();
    Ok(TaskItem {
        prompt_ids: Some(prompt.to_vec()),
        ..TaskItem::new(tokenizer.decode(prompt)?, vec![example.answer_text(tokenizer)?])
    })
}

/// The answers as labels, where the metric has labels.
fn labels(metric: AnswerMetric, items: &[TaskItem]) -> Vec<String> {
    if !matches!(metric, AnswerMetric::Accuracy | AnswerMetric::MacroF1) {
        return Vec::new();
    }
    let mut labels: Vec<String> = items
        .iter()
        .flat_map(|item| &item.references)
        .map(|text| text.trim().to_owned())
        .collect();
    labels.sort();
    labels.dedup();
    labels
}
