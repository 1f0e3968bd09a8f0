//! Which models there are, and whether and how the server answers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use serde::Serialize;
use taal_inference::{LanguageModel, check_translator};
use utoipa::ToSchema;

use crate::app::App;
use crate::failure::Refusal;
use crate::model::ServedModel;

/// All models.
#[derive(Serialize, ToSchema)]
pub(crate) struct Models {
    object: &'static str,
    data: Vec<Model>,
}

/// A model.
#[derive(Serialize, ToSchema)]
pub(crate) struct Model {
    /// The name that requests use.
    id: String,
    object: &'static str,
    /// Seconds since 1970.
    created: u64,
    owned_by: &'static str,
    /// The model that this one is an adapter of.
    parent: Option<String>,
    /// Tokens of a prompt and its answer together; `null` where there is no limit.
    max_model_len: Option<usize>,
    /// `causal`, `masked`, or `translator` for a model with an encoder.
    kind: &'static str,
    has_tokenizer: bool,
    has_chat_template: bool,
    /// The languages of `/v1/translate`; `null` where the model does not translate.
    translates: Option<Languages>,
}

/// The languages of a model that translates.
#[derive(Serialize, ToSchema)]
pub(crate) struct Languages {
    /// Of its texts, such as `en`; `null` where its files do not say.
    from: Option<String>,
    /// Of its translations.
    to: Option<String>,
}

impl Languages {
    fn of(lm: &LanguageModel) -> Option<Self> {
        check_translator(lm).ok()?;
        let (from, to) = lm
            .translation
            .as_ref()
            .map(|facts| (facts.from.clone(), facts.to.clone()))
            .unzip();
        Some(Self { from, to })
    }
}

impl From<&ServedModel> for Model {
    fn from(served: &ServedModel) -> Self {
        let model = served.current();
        let config = model.lm.model.config();
        Self {
            id: served.name.clone(),
            object: "model",
            created: model.created,
            owned_by: "taal",
            parent: served.parent.clone(),
            max_model_len: match &model.engine {
                Some(engine) => engine.context(),
                None => config.context_limit(),
            },
            kind: match (model.lm.model.is_encoder_decoder(), config.is_causal) {
                (true, _) => "translator",
                (false, true) => "causal",
                (false, false) => "masked",
            },
            translates: Languages::of(&model.lm),
            has_tokenizer: model.lm.tokenizer.is_some(),
            has_chat_template: !model.lm.chat.is_empty(),
        }
    }
}

pub(crate) async fn models(State(app): State<Arc<App>>) -> Json<Models> {
    Json(Models {
        object: "list",
        data: app.models.iter().map(Model::from).collect(),
    })
}

pub(crate) async fn model(
    State(app): State<Arc<App>>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<Model>, Refusal> {
    let name = crate::body::name(name)?;
    Ok(Json(app.model(Some(&name))?.into()))
}

/// Whether the server answers.
#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    status: &'static str,
}

pub(crate) async fn health(State(app): State<Arc<App>>) -> Result<Json<Health>, Refusal> {
    match app.is_stopping.load(Ordering::Relaxed) {
        true => Err(Refusal::overloaded(
            StatusCode::SERVICE_UNAVAILABLE,
            "the server is stopping".to_owned(),
        )),
        false => Ok(Json(Health { status: "ok" })),
    }
}

pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Result<impl IntoResponse, Refusal> {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    // The meter may read its sensors.
    let text = super::computed(move || Ok(crate::metrics::text(&app))).await?;
    Ok(([(CONTENT_TYPE, kind)], text))
}
