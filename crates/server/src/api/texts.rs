//! Requests about texts that generate nothing: tokens, vectors, gaps.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use taal_inference::{FillOptions, InferenceError, LanguageModel, Prompt};
use taal_tokenizer::Tokenizer;

use super::Texts;
use crate::app::App;
use crate::failure::Refusal;
use crate::http::Reply;
use crate::parse;

/// Texts of a request.
const MAX_TEXTS: usize = 2048;

/// Guesses per gap.
const MAX_GUESSES: usize = 100;

/// Answers a request to the model that it names.
fn answered<T: serde::de::DeserializeOwned>(
    app: &App,
    body: &[u8],
    answer: impl FnOnce(&LanguageModel, &str, T) -> Result<Value, Refusal>,
) -> Result<Reply, Refusal> {
    #[derive(Deserialize)]
    struct Named {
        model: Option<String>,
    }
    let named: Named = parse::part(body)?;
    let request: T = parse::part(body)?;
    let model = app.model(named.model.as_deref())?;
    Ok(super::json(&answer(&model.lm, &model.name, request)?))
}

fn tokenizer_of<'a>(lm: &'a LanguageModel, purpose: &'static str) -> Result<&'a Tokenizer, Refusal> {
    let tokenizer = lm.tokenizer.as_ref();
    tokenizer.ok_or_else(|| InferenceError::NoTokenizer { purpose }.into())
}

fn check_count(param: &str, count: usize) -> Result<(), Refusal> {
    match count <= MAX_TEXTS {
        true => Ok(()),
        false => Err(Refusal::field(
            param,
            format!("expected at most {MAX_TEXTS} texts, got {count}"),
        )),
    }
}

#[derive(Deserialize)]
struct EmbeddingRequest {
    input: Texts,
    encoding_format: Option<String>,
    dimensions: Option<usize>,
}

pub(crate) fn embeddings(app: &App, body: &[u8]) -> Result<Reply, Refusal> {
    answered(app, body, |lm, name, request: EmbeddingRequest| {
        check_count("input", request.input.all.len())?;
        let width = lm.model.config().d_model;
        if let Some(dimensions) = request.dimensions.filter(|dimensions| *dimensions != width) {
            let message = format!("this model's vectors have {width} numbers, got {dimensions}");
            return Err(Refusal::field("dimensions", message));
        }
        let is_coded = match request.encoding_format.as_deref() {
            None | Some("float") => false,
            Some("base64") => true,
            Some(other) => {
                let message = format!("expected float or base64, got {}", taal_store::excerpt(other));
                return Err(Refusal::field("encoding_format", message));
            }
        };
        let tokenizer = tokenizer_of(lm, "the vector of a text")?;
        let (mut data, mut tokens) = (Vec::new(), 0);
        for (index, input) in request.input.all.iter().enumerate() {
            let (vector, count) = embedded(lm, tokenizer, input)?;
            tokens += count;
            let embedding = match is_coded {
                true => {
                    let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
                    json!(STANDARD.encode(bytes))
                }
                false => json!(vector),
            };
            data.push(json!({"object": "embedding", "index": index, "embedding": embedding}));
        }
        let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
        Ok(json!({"object": "list", "data": data, "model": name, "usage": usage}))
    })
}

/// A vector, and how many tokens were read. A text that is longer than the model reads is refused.
fn embedded(lm: &LanguageModel, tokenizer: &Tokenizer, input: &Prompt) -> Result<(Vec<f32>, usize), Refusal> {
    match input {
        Prompt::Text(text) => {
            let count = tokenizer
                .encode(&lm.normalized(text))
                .map_err(InferenceError::from)?
                .len();
            let cut = taal_inference::cut_tokens(lm, text)?;
            if cut > 0 {
                return Err(Refusal::from(InferenceError::PromptTooLong {
                    tokens: count,
                    context: count - cut.min(count),
                })
                .of("input"));
            }
            Ok((taal_inference::embed(lm, text, None)?, count))
        }
        Prompt::Ids(ids) => {
            lm.check_ids(ids, "token id")?;
            if ids.is_empty() {
                return Err(Refusal::field(
                    "input",
                    "expected at least one token id, got an empty list",
                ));
            }
            Ok((taal_inference::embed_ids(lm, tokenizer, ids, None)?, ids.len()))
        }
    }
}

#[derive(Deserialize)]
struct FillRequest {
    #[serde(alias = "inputs", alias = "text")]
    input: Texts,
    #[serde(alias = "top_k")]
    top: Option<usize>,
    whole_words: Option<bool>,
    rank: Option<Vec<String>>,
}

pub(crate) fn fill_mask(app: &App, body: &[u8]) -> Result<Reply, Refusal> {
    answered(app, body, |lm, name, request: FillRequest| {
        check_count("input", request.input.all.len())?;
        let defaults = FillOptions::default();
        let options = FillOptions {
            top: request.top.unwrap_or(defaults.top),
            whole_words: request.whole_words.unwrap_or(defaults.whole_words),
            rank: request.rank.unwrap_or_default(),
        };
        if options.top > MAX_GUESSES {
            let message = format!("expected at most {MAX_GUESSES} guesses, got {}", options.top);
            return Err(Refusal::field("top", message));
        }
        check_count("rank", options.rank.len())?;
        let mut data = Vec::new();
        for input in &request.input.all {
            let Prompt::Text(text) = input else {
                return Err(Refusal::field("input", "expected texts with [MASK], got token ids"));
            };
            let filled = taal_inference::fill(lm, text, &options)?;
            data.push(serde_json::to_value(&filled).map_err(|error| Refusal::internal(error.to_string()))?);
        }
        Ok(json!({"object": "list", "model": name, "data": data}))
    })
}

#[derive(Deserialize)]
struct TokenizeRequest {
    #[serde(alias = "text", alias = "content")]
    prompt: String,
    add_special_tokens: Option<bool>,
}

pub(crate) fn tokenize(app: &App, body: &[u8]) -> Result<Reply, Refusal> {
    answered(app, body, |lm, name, request: TokenizeRequest| {
        let tokenizer = tokenizer_of(lm, "tokenizing")?;
        let is_alone = request.prompt.is_empty() || request.add_special_tokens == Some(false);
        let ids = match is_alone {
            true => tokenizer
                .encode(&lm.normalized(&request.prompt))
                .map_err(InferenceError::from)?,
            false => lm.prompt_ids(&Prompt::Text(request.prompt))?,
        };
        Ok(json!({
            "model": name,
            "count": ids.len(),
            "max_model_len": lm.model.config().context_limit(),
            "token_strs": ids.iter().map(|id| crate::answering::token_text(lm, *id)).collect::<Vec<_>>(),
            "tokens": ids,
        }))
    })
}

#[derive(Deserialize)]
struct DetokenizeRequest {
    tokens: Vec<u32>,
}

pub(crate) fn detokenize(app: &App, body: &[u8]) -> Result<Reply, Refusal> {
    answered(app, body, |lm, name, request: DetokenizeRequest| {
        let tokenizer = tokenizer_of(lm, "detokenizing")?;
        let text = tokenizer
            .decode_with_special(&request.tokens)
            .map_err(InferenceError::from)?;
        Ok(json!({"model": name, "prompt": text}))
    })
}
