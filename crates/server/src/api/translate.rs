//! Requests to translate texts.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use taal_inference::{BeamOptions, Doubts, Line, Prompt, TranslateOptions, Translation, Translator, check_languages};
use utoipa::ToSchema;

use super::Texts;
use super::openapi::merge;
use super::texts::{Named, answered_while_awaited};
use crate::app::App;
use crate::body::Object;
use crate::energy::UsedEnergy;
use crate::failure::Refusal;

/// Sources of a request.
const MAX_SOURCES: usize = 256;

/// Candidates per source.
const MAX_BEAM: usize = 16;

/// Candidates per source, unless another number is asked for.
const BEAM: usize = 5;

merge!(TranslateRequest: Named, Translate);

/// Texts to translate.
#[derive(Deserialize, ToSchema)]
pub(crate) struct Translate {
    /// Texts, at most 256; each is translated alone, line by line.
    #[serde(alias = "inputs", alias = "text")]
    #[schema(schema_with = super::texts_schema)]
    input: Texts,
    /// Language of the texts, such as `en`; another one than the model's is refused.
    from: Option<String>,
    /// Language to translate to, such as `nl`; another one than the model's is refused.
    to: Option<String>,
    /// Candidates that are followed per text; 5 without it, or one more than `alternatives` where that is more.
    #[schema(minimum = 1, maximum = 16)]
    beam: Option<usize>,
    /// A candidate's log-probability is divided by its number of tokens to this power; 1 without it.
    #[schema(minimum = -10.0, maximum = 10.0)]
    length_penalty: Option<f64>,
    /// Further translations per text; 0 without it.
    #[schema(minimum = 0, maximum = 15)]
    alternatives: Option<usize>,
    /// The most tokens of a translation; without it twice those of its text and 50 more.
    #[schema(minimum = 1)]
    max_tokens: Option<usize>,
    /// Whether to return what each word of the translation attends to; false without it.
    attention: Option<bool>,
}

/// Translations of texts.
#[derive(Serialize, ToSchema)]
pub(crate) struct Translations {
    object: &'static str,
    model: String,
    /// One per text: `source`, `translation`, `score`, `logprob`, `alternatives`, `is_complete`, `cut_by` (`max_tokens` or `context`) where it
    /// is cut off, and, where it was asked for, `attention` between words.
    #[schema(value_type = Vec<Object>)]
    data: Vec<Translation>,
    /// Why the texts may be in another language than the model's; `null` where nothing says so.
    warning: Option<String>,
    usage: TranslationUsage,
}

/// Tokens that were read and written.
#[derive(Serialize, ToSchema)]
pub(crate) struct TranslationUsage {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
    #[serde(flatten)]
    energy: UsedEnergy,
}

impl Translate {
    fn options(&self) -> Result<TranslateOptions, Refusal> {
        let alternatives = self.alternatives.unwrap_or(0);
        if alternatives >= MAX_BEAM {
            let message = format!("expected a whole number from 0 to {}, got {alternatives}", MAX_BEAM - 1);
            return Err(Refusal::field("alternatives", message));
        }
        let width = self.beam.unwrap_or(BEAM.max(alternatives + 1));
        if !(1..=MAX_BEAM).contains(&width) {
            let message = format!("expected a whole number from 1 to {MAX_BEAM}, got {width}");
            return Err(Refusal::field("beam", message));
        }
        let options = TranslateOptions {
            beam: BeamOptions {
                width,
                length_penalty: self.length_penalty.unwrap_or(1.0),
                ..BeamOptions::default()
            },
            alternatives,
            max_tokens: self.max_tokens,
            with_attention: self.attention.unwrap_or(false),
            ..TranslateOptions::default()
        };
        options.validate()?;
        Ok(options)
    }

    fn sources(&self) -> Result<Vec<&str>, Refusal> {
        let all = &self.input.all;
        if all.len() > MAX_SOURCES {
            let message = format!("expected at most {MAX_SOURCES} texts, got {}", all.len());
            return Err(Refusal::field("input", message));
        }
        all.iter().map(text).collect()
    }
}

fn text(input: &Prompt) -> Result<&str, Refusal> {
    match input {
        Prompt::Text(text) => Ok(text),
        Prompt::Ids(_) => Err(Refusal::field("input", "expected texts, got token ids")),
    }
}

pub(crate) async fn translate(
    State(app): State<Arc<App>>,
    Object(body): Object,
) -> Result<Json<Translations>, Refusal> {
    let metered = app.clone();
    answered_while_awaited(app, body, move |lm, name, request: Translate, is_left| {
        let app = &metered;
        let begin = app.begin_energy();
        let options = request.options()?;
        let sources = request.sources()?;
        let translator = Translator::new(lm, options)?.with_cancel(is_left);
        check_languages(translator.facts(), request.from.as_deref(), request.to.as_deref())?;
        let read = |(index, source): (usize, &&str)| {
            let line = translator.read(source);
            line.map_err(|error| match sources.len() {
                1 => error,
                _ => error.of_text(&format!("text {}", index + 1)),
            })
        };
        let lines: Vec<Line> = sources.iter().enumerate().map(read).collect::<Result<_, _>>()?;
        let data = translator.translate_lines(lines)?;
        let mut doubts = Doubts::default();
        data.iter().for_each(|translation| doubts.add(translation));
        let prompt_tokens = data.iter().map(|translation| translation.source_tokens).sum();
        let completion_tokens = data.iter().map(|translation| translation.tokens).sum();
        let carbon = app.energy_since(begin, prompt_tokens + completion_tokens);
        Ok(Translations {
            object: "list",
            model: name.to_owned(),
            warning: doubts
                .verdict(translator.facts())
                .map(|doubt| doubt.sentence(translator.facts())),
            data,
            usage: TranslationUsage {
                prompt_tokens,
                completion_tokens,
                total_tokens: prompt_tokens + completion_tokens,
                energy: carbon.into(),
            },
        })
    })
    .await
}
