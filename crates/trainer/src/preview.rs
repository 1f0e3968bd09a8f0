//! What a recipe's data are, without a model: rows as they are trained, and counts.

use serde::Serialize;
use taal_data::{ConversationCounts, ConversationExample};
use taal_tokenizer::Tokenizer;

use crate::chat::Chat;
use crate::dry_run::{inputs, joined_texts, rows};
use crate::prepare::{self, Corpus};
use crate::progress::Progress;
use crate::recipe::{Objective, Resolved};
use crate::{InputSize, Row, RowToken, TrainError, learnable, objective};

/// A recipe's data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DataPreview {
    /// The recipe's name.
    pub recipe: String,
    /// What is read.
    pub inputs: Vec<InputSize>,
    /// The tokenizer in words.
    pub tokenizer: String,
    /// Tokens it knows.
    pub vocab_size: usize,
    /// Tokens per row.
    pub block_size: usize,
    /// Rows to train on.
    pub train_rows: u64,
    /// Rows held back to validate with.
    pub val_rows: u64,
    /// What files of conversations hold; `None` for running text.
    pub conversations: Option<ConversationCounts>,
    /// The first examples of the training part; of running text, the first rows of the first batches.
    pub rows: Vec<ExampleRow>,
}

/// An example, or a row of running text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExampleRow {
    /// The file of an example.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line on which it begins, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Whether it is the rejected answer of a pair; that of the chosen one comes before it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_rejected: bool,
    /// Tokens that truncation took away.
    pub lost: usize,
    /// Its tokens.
    #[serde(flatten)]
    pub row: Row,
}

/// Prepares a recipe's data, and shows the first `count` rows. No model is made, and nothing is written.
///
/// # Errors
///
/// Those of the data, the tokenizer and the objective that [`train`](crate::train) has before its first step.
pub fn preview(resolved: &Resolved, count: usize, progress: &mut dyn Progress) -> Result<DataPreview, TrainError> {
    let recipe = &resolved.recipe;
    for note in &resolved.notes {
        progress.note(note);
    }
    let inputs = inputs(recipe)?;
    let tokenizer = prepare::tokenizer(recipe)?;
    if let Some(note) = prepare::added_tokens_note(recipe)? {
        progress.note(&note);
    }
    let corpus = Corpus::prepare(recipe, &tokenizer, |message| progress.note(&message))?;
    objective::check(recipe, &tokenizer)?;
    learnable::check(recipe, &corpus, &tokenizer, &mut |message| progress.note(&message))?;
    let block_size = recipe.train.block_size;
    let (train_rows, val_rows) = corpus.rows(block_size, block_size);
    let (conversations, rows) = match &corpus {
        Corpus::Conversations(found) => {
            let mut rows = Vec::new();
            if let Objective::Preference(_) = recipe.train.objective {
                // Both answers of a pair are trained.
                let chat = Chat::of(recipe, &tokenizer, None)?;
                let (pairs, _, _) = objective::pairs(recipe, &tokenizer, &chat, found)?;
                for [chosen, rejected] in pairs.examples.iter().take(count) {
                    rows.push(example_row(chosen, &found.counts, &tokenizer)?);
                    rows.push(ExampleRow {
                        is_rejected: true,
                        ..example_row(rejected, &found.counts, &tokenizer)?
                    });
                }
            } else {
                for example in &found.train.first(count) {
                    rows.push(example_row(example, &found.counts, &tokenizer)?);
                }
            }
            (Some(found.counts.clone()), rows)
        }
        Corpus::Pairs(found) => {
            let examples = found.train.first(count).into_iter();
            let rows = examples.map(|example| example_row(&example, &found.counts, &tokenizer));
            (Some(found.counts.clone()), rows.collect::<Result<_, _>>()?)
        }
        Corpus::Text(_) => (None, text_rows(resolved, &tokenizer, corpus, count)?),
    };
    Ok(DataPreview {
        recipe: recipe.name.clone(),
        inputs,
        tokenizer: prepare::tokenizer_words(recipe),
        vocab_size: tokenizer.vocab_size(),
        block_size,
        train_rows,
        val_rows,
        conversations,
        rows,
    })
}

pub(crate) fn example_row(
    example: &ConversationExample,
    counts: &ConversationCounts,
    tokenizer: &Tokenizer,
) -> Result<ExampleRow, TrainError> {
    let ids: Vec<i32> = example.ids.iter().map(|id| *id as i32).collect();
    let tokens = joined_texts(&ids, tokenizer)?
        .into_iter()
        .enumerate()
        .map(|(position, text)| RowToken {
            id: example.ids[position],
            text,
            is_learned: position > 0 && example.learned.iter().any(|range| range.contains(&position)),
            hidden: None,
            starts_text: position == 0,
        });
    Ok(ExampleRow {
        file: counts.layouts.get(example.file).map(|(name, _)| name.clone()),
        line: Some(example.line),
        is_rejected: false,
        lost: example.lost,
        row: Row {
            tokens: tokens.collect(),
            padding: 0,
        },
    })
}

/// Rows of running text in the order in which a run would see them.
fn text_rows(
    resolved: &Resolved,
    tokenizer: &Tokenizer,
    corpus: Corpus,
    count: usize,
) -> Result<Vec<ExampleRow>, TrainError> {
    let recipe = &resolved.recipe;
    let plan = prepare::batch_plan(recipe);
    let is_masked = recipe.train.objective.masking().is_some();
    let task = objective::of(recipe, tokenizer, &Chat::default(), corpus)?;
    let mut found = Vec::new();
    for micro_step in 0.. {
        let left = count - found.len();
        if left == 0 {
            break;
        }
        let batch = task.batch(&plan, micro_step)?;
        found.extend(rows(&batch, tokenizer, is_masked, left)?);
    }
    let row = |row| ExampleRow {
        file: None,
        line: None,
        is_rejected: false,
        lost: 0,
        row,
    };
    Ok(found.into_iter().map(row).collect())
}
