//! `eval.max_tokens`: evaluates only part of the validation split, always the same part.

use taal_data::TokenSource;
use taal_tokenizer::Tokenizer;

use crate::TrainError;
use crate::prepare::Corpus;

impl Corpus {
    /// Keeps the first `max_tokens` validation tokens, in the order of the texts, and returns a note if it leaves any
    /// out. Call it after the data have been compared with those of a checkpoint: how much is evaluated may change when
    /// a run is resumed.
    pub(crate) fn limit_validation(
        &mut self,
        max_tokens: Option<u64>,
        tokenizer: &Tokenizer,
    ) -> Result<Option<String>, TrainError> {
        let Some(max_tokens) = max_tokens else {
            return Ok(None);
        };
        let is_limited = match self {
            Self::Text(dataset) => {
                let whole: u64 = dataset.validation.iter().map(TokenSource::len).sum();
                dataset.validation = heads(&dataset.validation, max_tokens, tokenizer)?;
                whole > max_tokens
            }
            Self::Conversations(conversations) => conversations
                .validation
                .as_mut()
                .is_some_and(|held_back| held_back.head(max_tokens)),
            Self::Pairs(pairs) => {
                let is_limited = pairs
                    .validation
                    .as_mut()
                    .is_some_and(|held_back| held_back.limit(max_tokens));
                let words = format!(
                    "evaluations score only about {max_tokens} validation tokens, evenly chosen (eval.max_tokens)"
                );
                return Ok(is_limited.then_some(words));
            }
        };
        Ok(is_limited
            .then(|| format!("evaluations score only the first {max_tokens} validation tokens (eval.max_tokens)")))
    }
}

fn heads(sources: &[TokenSource], max_tokens: u64, tokenizer: &Tokenizer) -> Result<Vec<TokenSource>, TrainError> {
    let mut left = max_tokens;
    let mut heads = Vec::new();
    for source in sources {
        if left == 0 {
            break;
        }
        let len = source.len().min(left);
        left -= len;
        heads.push(match len == source.len() {
            true => source.clone(),
            false => {
                let ids = source.read(0, usize::try_from(len).unwrap_or(usize::MAX));
                source.head(len, tokenizer.decode(&ids)?.len() as u64)
            }
        });
    }
    Ok(heads)
}
