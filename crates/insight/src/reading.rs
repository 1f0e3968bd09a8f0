//! From the input to the ids that the model reads, with details of each.

use taal_inference::{InferenceError, LanguageModel, Prompt, framed, with_own_mask};
use taal_tokenizer::Tokenizer;

use crate::trace::{MergeStep, Token};
use crate::{InsightError, Result};

/// The model's input, and the positions of interest.
pub(crate) struct Reading {
    /// The text as the tokenizer reads it: with its own mask token for `[MASK]`.
    pub(crate) text: Option<String>,
    pub(crate) ids: Vec<u32>,
    /// Ids before those of the text.
    pub(crate) first: usize,
    /// Positions whose predictions are wanted: the last one, or the masks.
    pub(crate) focus: Vec<usize>,
}

/// Tokenizes and checks.
pub(crate) fn read(lm: &LanguageModel, prompt: &Prompt) -> Result<Reading> {
    let is_causal = lm.model.config().is_causal;
    let (text, ids, first) = match prompt {
        Prompt::Ids(ids) if ids.is_empty() => {
            return Err(InsightError::setting("ids", "expected at least one id, got none"));
        }
        Prompt::Ids(ids) => (None, ids.clone(), 0),
        Prompt::Text(text) if text.is_empty() => {
            return Err(InsightError::setting(
                "text",
                "expected at least one character, got none",
            ));
        }
        Prompt::Text(text) => {
            let tokenizer = lm.tokenizer.as_ref().ok_or(InferenceError::NoTokenizer {
                purpose: "tracing a text",
            })?;
            let text = if is_causal {
                lm.normalized(text).into_owned()
            } else {
                with_own_mask(tokenizer, &lm.normalized(text))
            };
            let ids = tokenizer.encode(&text)?;
            if ids.is_empty() {
                return Err(InsightError::setting(
                    "text",
                    format!(
                        "expected at least one token, and the tokenizer gives none for {}",
                        taal_store::excerpt(&text)
                    ),
                ));
            }
            match is_causal {
                true => {
                    // As in generation: after a beginning-of-sequence token, if the tokenizer begins every text with one.
                    let whole = lm.prompt_ids(&Prompt::from(text.as_str()))?;
                    let first = whole.len().saturating_sub(ids.len());
                    (Some(text), whole, first)
                }
                false => {
                    let first = tokenizer.frame().before.len();
                    let framed = framed(tokenizer, &text)?;
                    (Some(text), framed, first)
                }
            }
        }
    };
    let ids = lm.prompt_ids(&Prompt::Ids(ids))?;
    let focus = focus(lm, &ids);
    Ok(Reading {
        text,
        ids,
        first,
        focus,
    })
}

/// The last position of a causal model; the masks of a masked one, or without a mask its last token that is not special.
fn focus(lm: &LanguageModel, ids: &[u32]) -> Vec<usize> {
    let last = ids.len().saturating_sub(1);
    let tokenizer = lm.tokenizer.as_ref().filter(|_| !lm.model.config().is_causal);
    let Some(tokenizer) = tokenizer else { return vec![last] };
    let mask = tokenizer.mask_id();
    let masks: Vec<usize> = (0..ids.len()).filter(|place| mask == Some(ids[*place])).collect();
    match masks.is_empty() {
        true => vec![
            (0..ids.len())
                .rfind(|place| !tokenizer.is_special(ids[*place]))
                .unwrap_or(last),
        ],
        false => masks,
    }
}

/// The details of each id.
pub(crate) fn tokens(tokenizer: Option<&Tokenizer>, reading: &Reading) -> Vec<Token> {
    let Some(tokenizer) = tokenizer else {
        return reading.ids.iter().map(|&id| Token::unnamed(id)).collect();
    };
    let spans = reading.text.as_deref().and_then(|text| {
        let inside = reading.ids.len().saturating_sub(reading.first);
        // After the text come only the tokens that end it.
        let count = tokenizer.encode(text).ok()?.len().min(inside);
        tokenizer.spans(text, &reading.ids[reading.first..][..count])
    });
    let merges = tokenizer.merges(&reading.ids);
    let token = |(place, &id): (usize, &u32)| {
        let span = place
            .checked_sub(reading.first)
            .and_then(|index| spans.as_ref()?.get(index).cloned());
        let own_bytes = tokenizer.token_bytes(id).map(<[u8]>::to_vec);
        let text_bytes = || Some(reading.text.as_deref()?.get(span.clone()?)?.as_bytes().to_vec());
        Token {
            id,
            token: tokenizer.tokens(&[id]).concat(),
            text: label(Some(tokenizer), id),
            bytes: own_bytes.or_else(text_bytes).unwrap_or_default(),
            span: span.clone().map(|span| [span.start, span.end]),
            is_special: tokenizer.is_special(id),
            merges: merges.as_ref().map_or_else(Vec::new, |merges| {
                merges[place]
                    .iter()
                    .map(|merge| MergeStep {
                        left: spelled(tokenizer, &merge.left),
                        right: spelled(tokenizer, &merge.right),
                        rank: merge.rank,
                    })
                    .collect()
            }),
        }
    };
    reading.ids.iter().enumerate().map(token).collect()
}

/// An id as readable text: its text if its bytes are text, else its bytes; the vocabulary's spelling if the bytes are unknown;
/// the number if nothing is known.
pub fn label(tokenizer: Option<&Tokenizer>, id: u32) -> String {
    let Some(tokenizer) = tokenizer.filter(|tokenizer| (id as usize) < tokenizer.vocab_size()) else {
        return format!("#{id}");
    };
    match tokenizer.token_bytes(id) {
        Some(bytes) if !tokenizer.is_special(id) => shown(bytes),
        _ => tokenizer.tokens(&[id]).concat(),
    }
}

/// A part of a merge in the spelling of [`label`].
fn spelled(tokenizer: &Tokenizer, token: &str) -> String {
    match tokenizer.token_to_id(token) {
        Some(id) => label(Some(tokenizer), id),
        None => token.to_owned(),
    }
}

/// Bytes as text; invalid ones as `\xC3`.
fn shown(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02X}"));
        }
    }
    text
}
