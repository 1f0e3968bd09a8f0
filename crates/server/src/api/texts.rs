//! Requests about texts that generate nothing: tokens, vectors, gaps.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use taal_inference::{FillOptions, Filled, InferenceError, LanguageModel, Prompt};
use taal_tokenizer::Tokenizer;
use utoipa::ToSchema;

use super::Texts;
use super::openapi::merge;
use crate::app::App;
use crate::body::Object;
use crate::energy::{Carbon, UsedEnergy};
use crate::failure::Refusal;
use crate::parse;

/// Texts of a request.
const MAX_TEXTS: usize = 2048;

/// Guesses per gap.
const MAX_GUESSES: usize = 100;

/// The model of a request.
#[derive(Deserialize, ToSchema)]
pub(super) struct Named {
    /// A name of /v1/models; without it, the first model answers.
    pub(super) model: Option<String>,
}

merge!(EmbeddingRequest: Named, Vectorize);
merge!(FillRequest: Named, Fill);
merge!(TokenizeRequest: Named, Split);
merge!(DetokenizeRequest: Named, Join);

/// Answers a request to the model that it names.
async fn answered<T: DeserializeOwned, A: Send + 'static>(
    app: Arc<App>,
    body: Vec<u8>,
    answer: impl FnOnce(&LanguageModel, &str, T) -> Result<A, Refusal> + Send + 'static,
) -> Result<Json<A>, Refusal> {
    answered_while_awaited(app, body, |lm, name, request, _| answer(lm, name, request)).await
}

/// [`answered`] by work that looks at a flag, which is set once nobody waits for the answer.
pub(super) async fn answered_while_awaited<T: DeserializeOwned, A: Send + 'static>(
    app: Arc<App>,
    body: Vec<u8>,
    answer: impl FnOnce(&LanguageModel, &str, T, &AtomicBool) -> Result<A, Refusal> + Send + 'static,
) -> Result<Json<A>, Refusal> {
    super::computed_while_awaited(move |is_left| {
        let named: Named = parse::part(&body)?;
        let request: T = parse::part(&body)?;
        let model = app.model(named.model.as_deref())?;
        Ok(Json(answer(&model.newest().lm, &model.name, request, is_left)?))
    })
    .await
}

/// Answers a request that computes, with the application to meter it.
pub(super) async fn computed_answer<T: DeserializeOwned, A: Send + 'static>(
    app: Arc<App>,
    body: Vec<u8>,
    answer: impl FnOnce(&App, &LanguageModel, &str, T) -> Result<A, Refusal> + Send + 'static,
) -> Result<Json<A>, Refusal> {
    let metered = app.clone();
    answered(app, body, move |lm, name, request| answer(&metered, lm, name, request)).await
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

/// Texts to turn into vectors.
#[derive(Deserialize, ToSchema)]
pub(crate) struct Vectorize {
    /// Texts, or token ids.
    #[schema(schema_with = super::texts_schema)]
    input: Texts,
    /// `float` or `base64`.
    encoding_format: Option<String>,
    /// Must equal the width of the model.
    dimensions: Option<usize>,
}

/// Vectors.
#[derive(Serialize, ToSchema)]
pub(crate) struct Embeddings {
    object: &'static str,
    data: Vec<Embedding>,
    model: String,
    usage: EmbeddingUsage,
}

/// The vector of a text.
#[derive(Serialize, ToSchema)]
pub(crate) struct Embedding {
    object: &'static str,
    index: usize,
    embedding: Vector,
}

/// Numbers, or the base64 of their bytes as little-endian float32.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Vector {
    Numbers(Vec<f32>),
    Coded(String),
}

/// Tokens that were read.
#[derive(Serialize, ToSchema)]
pub(crate) struct EmbeddingUsage {
    prompt_tokens: usize,
    total_tokens: usize,
    #[serde(flatten)]
    energy: UsedEnergy,
}

impl EmbeddingUsage {
    pub(super) fn new(tokens: usize, carbon: Option<Carbon>) -> Self {
        Self {
            prompt_tokens: tokens,
            total_tokens: tokens,
            energy: carbon.into(),
        }
    }
}

pub(crate) async fn embeddings(State(app): State<Arc<App>>, Object(body): Object) -> Result<Json<Embeddings>, Refusal> {
    computed_answer(app, body, |app, lm, name, request: Vectorize| {
        let begin = app.begin_energy();
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
            let (vector, count) = embedded(lm, tokenizer, input).map_err(Refusal::of_input)?;
            tokens += count;
            let embedding = match is_coded {
                true => {
                    let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
                    Vector::Coded(STANDARD.encode(bytes))
                }
                false => Vector::Numbers(vector),
            };
            data.push(Embedding {
                object: "embedding",
                index,
                embedding,
            });
        }
        Ok(Embeddings {
            object: "list",
            data,
            model: name.to_owned(),
            usage: EmbeddingUsage::new(tokens, app.energy_since(begin, tokens)),
        })
    })
    .await
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
                }));
            }
            Ok((taal_inference::embed(lm, text, None)?, count))
        }
        Prompt::Ids(ids) => {
            lm.check_ids(ids, "token id")
                .map_err(|error| Refusal::from(error).of("input"))?;
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

/// Texts with gaps.
#[derive(Deserialize, ToSchema)]
pub(crate) struct Fill {
    /// Texts, each with at least one [MASK].
    #[serde(alias = "inputs", alias = "text")]
    #[schema(schema_with = super::texts_schema)]
    input: Texts,
    /// Guesses per gap; 5 without it.
    #[serde(alias = "top_k")]
    #[schema(minimum = 1, maximum = 100)]
    top: Option<usize>,
    /// Whether to leave out pieces that only continue a word; true without it.
    whole_words: Option<bool>,
    /// Words whose rank at the first gap is wanted.
    rank: Option<Vec<String>>,
}

/// Texts with their gaps filled.
#[derive(Serialize, ToSchema)]
pub(crate) struct Fillings {
    object: &'static str,
    model: String,
    /// One per text: `text`, `filled`, `gaps` with guesses and their probabilities, `ranks`.
    #[schema(value_type = Vec<Object>)]
    data: Vec<Filled>,
    usage: EmbeddingUsage,
}

pub(crate) async fn fill_mask(State(app): State<Arc<App>>, Object(body): Object) -> Result<Json<Fillings>, Refusal> {
    computed_answer(app, body, |app, lm, name, request: Fill| {
        let begin = app.begin_energy();
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
        let tokenizer = tokenizer_of(lm, "filling gaps")?;
        let (mut data, mut tokens) = (Vec::new(), 0);
        for input in &request.input.all {
            let Prompt::Text(text) = input else {
                return Err(Refusal::field("input", "expected texts with [MASK], got token ids"));
            };
            let filled = taal_inference::fill(lm, text, &options);
            data.push(filled.map_err(|error| Refusal::from(error).of_input())?);
            let ids = tokenizer.encode(&lm.normalized(text)).map_err(InferenceError::from)?;
            tokens += ids.len();
        }
        Ok(Fillings {
            object: "list",
            model: name.to_owned(),
            data,
            usage: EmbeddingUsage::new(tokens, app.energy_since(begin, tokens)),
        })
    })
    .await
}

/// A text to turn into tokens.
#[derive(Deserialize, ToSchema)]
pub(crate) struct Split {
    #[serde(alias = "text", alias = "content")]
    prompt: String,
    /// Whether the tokens begin as a prompt's do; true without it.
    add_special_tokens: Option<bool>,
}

/// The tokens of a text.
#[derive(Serialize, ToSchema)]
pub(crate) struct Tokens {
    model: String,
    count: usize,
    max_model_len: Option<usize>,
    /// The text of each token.
    token_strs: Vec<String>,
    tokens: Vec<u32>,
}

pub(crate) async fn tokenize(State(app): State<Arc<App>>, Object(body): Object) -> Result<Json<Tokens>, Refusal> {
    answered(app, body, |lm, name, request: Split| {
        let tokenizer = tokenizer_of(lm, "tokenizing")?;
        let is_alone = request.prompt.is_empty() || request.add_special_tokens == Some(false);
        let ids = match is_alone {
            true => tokenizer
                .encode(&lm.normalized(&request.prompt))
                .map_err(InferenceError::from)?,
            false => lm.prompt_ids(&Prompt::Text(request.prompt))?,
        };
        Ok(Tokens {
            model: name.to_owned(),
            count: ids.len(),
            max_model_len: lm.model.config().context_limit(),
            token_strs: ids.iter().map(|id| crate::answering::token_text(lm, *id)).collect(),
            tokens: ids,
        })
    })
    .await
}

/// Tokens to turn into a text.
#[derive(Deserialize, ToSchema)]
pub(crate) struct Join {
    tokens: Vec<u32>,
}

/// The text of tokens.
#[derive(Serialize, ToSchema)]
pub(crate) struct Text {
    model: String,
    prompt: String,
}

pub(crate) async fn detokenize(State(app): State<Arc<App>>, Object(body): Object) -> Result<Json<Text>, Refusal> {
    answered(app, body, |lm, name, request: Join| {
        let tokenizer = tokenizer_of(lm, "detokenizing")?;
        let text = tokenizer
            .decode_with_special(&request.tokens)
            .map_err(|error| Refusal::from(InferenceError::from(error)).of("tokens"))?;
        Ok(Text {
            model: name.to_owned(),
            prompt: text,
        })
    })
    .await
}
