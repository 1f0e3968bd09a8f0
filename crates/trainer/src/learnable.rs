//! Checks before the first step whether a recipe's data contain anything to learn.

use taal_data::{IGNORE_INDEX, TokenSource};
use taal_tokenizer::Tokenizer;

use crate::TrainError;
use crate::prepare::Corpus;
use crate::recipe::Recipe;

/// The number of tokens that are counted: enough to estimate a share, and quick for a corpus of any size.
const MAX_TOKENS: u64 = 1 << 22;

/// Above this share of unknown tokens the data are refused.
const MAX_UNKNOWN_SHARE: f64 = 0.99;

/// Above this share there is a note.
const MANY_UNKNOWN_SHARE: f64 = 0.05;

/// Refuses data with nothing to learn, and notes data with little to learn.
pub(crate) fn check(
    recipe: &Recipe,
    corpus: &Corpus,
    tokenizer: &Tokenizer,
    note: &mut dyn FnMut(String),
) -> Result<(), TrainError> {
    if recipe.train.block_size < 2 {
        return Err(TrainError::recipe(
            &recipe.name,
            "train.block_size",
            "expected at least 2 tokens: with 1 no token is predicted from one before it",
        ));
    }
    let Some(share) = tokenizer.unk_id().and_then(|unknown| unknown_share(corpus, unknown)) else {
        return Ok(());
    };
    let percent = 100.0 * share;
    if share > MAX_UNKNOWN_SHARE {
        return Err(TrainError::recipe(
            &recipe.name,
            "tokenizer",
            format!(
                "{percent:.1} % of the training tokens are the unknown token, so there is nothing to learn; the tokenizer was made for \
                 other text: train one on this text, or take one that knows bytes (tokenizer.kind = \"bpe\")"
            ),
        ));
    }
    if share > MANY_UNKNOWN_SHARE {
        note(format!(
            "{percent:.1} % of the training tokens are the unknown token: the tokenizer does not know much of this text"
        ));
    }
    Ok(())
}

/// The error for batch after batch without a target.
pub(crate) fn nothing(recipe: &Recipe) -> TrainError {
    TrainError::recipe(
        &recipe.name,
        "data",
        "batch after batch has no token to learn; most of the text is special or unknown tokens",
    )
}

/// The share of an id among the tokens that count in the loss.
fn unknown_share(corpus: &Corpus, unknown: u32) -> Option<f64> {
    let (count, total) = match corpus {
        Corpus::Text(dataset) => count_in_text(&dataset.train, unknown),
        Corpus::Conversations(conversations) => {
            let batches = conversations.train.in_order(64).take(MAX_TOKENS as usize / 64);
            batches.fold((0, 0), |(count, total), batch| {
                let learned = batch.targets.iter().filter(|target| **target != IGNORE_INDEX);
                let (found, all) = learned.fold((0, 0), |(found, all), target| {
                    (found + u64::from(*target == unknown as i32), all + 1)
                });
                (count + found, total + all)
            })
        }
        Corpus::Pairs(pairs) => {
            let ids = pairs.train.target_ids().take(MAX_TOKENS as usize);
            ids.fold((0, 0), |(count, total), id| {
                (count + u64::from(id == unknown), total + 1)
            })
        }
    };
    (total > 0).then(|| count as f64 / total as f64)
}

/// How often an id occurs among the first tokens, and how many those are.
fn count_in_text(source: &TokenSource, id: u32) -> (u64, u64) {
    const AT_ONCE: usize = 1 << 16;
    let total = source.len().min(MAX_TOKENS);
    let count = (0..total)
        .step_by(AT_ONCE)
        .map(|start| {
            let ids = source.read(start, AT_ONCE.min((total - start) as usize));
            ids.iter().filter(|other| **other == id).count() as u64
        })
        .sum();
    (count, total)
}

impl Corpus {
    /// Excludes the bytes of the first token of every validation text from bits per byte, unless it is a special token:
    /// nothing predicts that token.
    pub(crate) fn leave_out_unscored_bytes(&mut self, tokenizer: &Tokenizer) {
        let Self::Text(dataset) = self else {
            return;
        };
        for source in &mut dataset.validation {
            let unscored: u64 = source.read(0, 1).iter().map(|&id| tokenizer.text_bytes_of(id)).sum();
            let bytes = source.text_bytes().saturating_sub(unscored);
            *source = source.clone().with_text_bytes(bytes);
        }
    }
}
