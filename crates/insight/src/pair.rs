//! A sentence pair through a model with an encoder: the translation stage by stage, and what it attends to in the source.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use taal_inference::{InferenceError, LanguageModel, Probe, TranslateOptions, check_translator, translate};
use taal_model::{Memory, Transformer};
use taal_tokenizer::Tokenizer;

use crate::forward::row;
use crate::reading::{self, Reading};
use crate::trace::{self, Token, Trace, TraceOptions};
use crate::{InsightError, Result};

/// The source of a traced translation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// Its text as the tokenizer read it.
    pub text: String,
    /// Its tokens, including those around the text.
    pub tokens: Vec<Token>,
    /// Cross-attention weights, `[layer][head][query][key]`: what each token of the translation attends to among those of the source while
    /// the next token is predicted. Each row sums to 1.
    pub attention: Vec<Vec<Vec<Vec<f32>>>>,
}

/// Reads a source and its translation, and returns the intermediate results of every stage of the decoder, with its attention to the
/// source. Without a `target` it is the model's own translation, the likeliest token each time, by the ids that were generated, and the
/// source as the model read it then.
///
/// # Errors
///
/// [`InsightError::Setting`] for a model without an encoder and for a text without a token; otherwise as [`trace`](crate::trace()).
pub fn trace_pair(lm: &LanguageModel, source: &str, target: Option<&str>, options: &TraceOptions) -> Result<Trace> {
    options.validate()?;
    if !lm.model.is_encoder_decoder() {
        let detail = "only a model with an encoder translates a source; leave it out";
        return Err(InsightError::setting("target", detail));
    }
    check_translator(lm)?;
    let mut source = source_reading(lm, source)?;
    let reading = match target {
        Some(target) => {
            let (text, ids) = encoded(lm, Tokenizer::of_targets, target, "target")?;
            lm.check_ids(&ids, "token id")?;
            target_reading(lm, text, ids)
        }
        None => {
            let text = source.text.clone().unwrap_or_default();
            let found = translate(lm, &[&text], &TranslateOptions::greedy())?.pop();
            let read = found.as_ref().and_then(|found| found.read.clone());
            let (mut translation, ids) = found
                .map(|found| (found.translation, found.token_ids))
                .unwrap_or_default();
            if let Some(read) = read.filter(|read| *read != text) {
                source = source_reading(lm, &read)?;
                translation = decoded(lm, &ids)?;
            }
            target_reading(lm, translation, ids)
        }
    };
    trace::check_weights(&lm.model, [reading.ids.len(), reading.ids.len().max(source.ids.len())])?;
    Probe::run(&lm.model.device(), || {
        let memory = memory(&lm.model, &source.ids)?;
        let (mut trace, crossed) = trace::pass(lm, &reading, options, Some(&memory))?;
        trace.source = Some(Source {
            text: source.text.clone().unwrap_or_default(),
            tokens: reading::tokens(lm.tokenizer.as_ref(), &source),
            attention: trace::weights(&crossed)?,
        });
        Ok(trace)
    })
}

/// What the encoder makes of ids.
pub(crate) fn memory(model: &Transformer, ids: &[u32]) -> Result<Memory> {
    Ok(model.encode(row(ids, &model.device()), &[ids.len()], None)?)
}

/// The source as the encoder reads it, with the special tokens around a text.
fn source_reading(lm: &LanguageModel, source: &str) -> Result<Reading> {
    let (text, ids) = encoded(lm, |tokenizer| tokenizer, source, "text")?;
    let tokenizer = lm.tokenizer.as_ref();
    let frame = tokenizer.map(|tokenizer| tokenizer.frame()).unwrap_or_default();
    let ids = frame.around(&ids);
    lm.check_ids(&ids, "token id")?;
    Ok(Reading {
        text: Some(text),
        ids,
        first: frame.before.len(),
        focus: Vec::new(),
    })
}

/// The translation as the decoder reads it, after the token that it begins with.
fn target_reading(lm: &LanguageModel, text: String, ids: Vec<u32>) -> Reading {
    let start = lm.model.config().decoder_start.into_iter();
    let ids: Vec<u32> = start.chain(ids).collect();
    Reading {
        text: Some(text),
        focus: vec![ids.len().saturating_sub(1)],
        ids,
        first: 1,
    }
}

/// The text of ids that were generated.
fn decoded(lm: &LanguageModel, ids: &[u32]) -> Result<String> {
    let tokenizer = lm.tokenizer.as_ref().map(Tokenizer::of_targets);
    let text = tokenizer.map(|tokenizer| tokenizer.decode(ids)).transpose()?;
    Ok(text.unwrap_or_default())
}

fn encoded(
    lm: &LanguageModel,
    side: impl Fn(&Tokenizer) -> &Tokenizer,
    text: &str,
    key: &'static str,
) -> Result<(String, Vec<u32>)> {
    let tokenizer = lm.tokenizer.as_ref().ok_or(InferenceError::NoTokenizer {
        purpose: "tracing a text",
    })?;
    let text = lm.normalized(text).trim().to_owned();
    let ids = side(tokenizer).encode(&text)?;
    match ids.is_empty() {
        true => Err(InsightError::setting(
            key,
            format!("expected at least one token, got {}", taal_store::excerpt(&text)),
        )),
        false => Ok((text, ids)),
    }
}

/// The cross-attention of a pass, `[1, n_heads, target, source]` per layer.
pub(crate) type Crossed = Vec<Tensor<4>>;
