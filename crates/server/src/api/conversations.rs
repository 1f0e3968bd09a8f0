//! `/conversations`: what the page keeps on the server's disk.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::computed;
use crate::app::App;
use crate::body::{LargeObject, Object, name};
use crate::conversations::{Conversation, Conversations, Summary};
use crate::failure::Refusal;
use crate::parse;

/// What a file with conversations says that it is.
const FORMAT: &str = "taal-conversations-1";

/// The conversations there are.
#[derive(Serialize, ToSchema)]
pub(crate) struct ConversationList {
    object: &'static str,
    /// Whether this server keeps conversations.
    is_kept: bool,
    /// The one that changed last comes first.
    data: Vec<Summary>,
}

/// A conversation that was kept.
#[derive(Serialize, ToSchema)]
pub(crate) struct Kept {
    id: String,
    /// What the next change must name.
    revision: u64,
}

/// A conversation that was removed.
#[derive(Serialize, ToSchema)]
pub(crate) struct Removed {
    id: String,
    removed: bool,
}

/// Conversations in a file.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct ConversationFile {
    /// `taal-conversations-1`
    format: String,
    conversations: Vec<Conversation>,
}

/// Conversations that were kept.
#[derive(Serialize, ToSchema)]
pub(crate) struct Imported {
    /// Their new ids, in the order of the file.
    ids: Vec<String>,
}

fn kept(app: &App) -> Result<&Conversations, Refusal> {
    let none = || Refusal::not_found("this server keeps no conversations (--conversations none)");
    app.conversations.as_ref().ok_or_else(none)
}

pub(crate) async fn list(State(app): State<Arc<App>>) -> Result<Json<ConversationList>, Refusal> {
    let data = match app.conversations.clone() {
        Some(conversations) => computed(move || conversations.list()).await?,
        None => Vec::new(),
    };
    Ok(Json(ConversationList {
        object: "list",
        is_kept: app.conversations.is_some(),
        data,
    }))
}

pub(crate) async fn get(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Conversation>, Refusal> {
    let id = name(id)?;
    computed(move || Ok(Json(kept(&app)?.get(&id)?))).await
}

pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Removed>, Refusal> {
    let id = name(id)?;
    computed(move || {
        kept(&app)?.remove(&id)?;
        Ok(Json(Removed { id, removed: true }))
    })
    .await
}

pub(crate) async fn keep(
    State(app): State<Arc<App>>,
    LargeObject(Object(body)): LargeObject,
) -> Result<Json<Kept>, Refusal> {
    computed(move || {
        let conversation: Conversation = parse::part(&body)?;
        conversation.check("")?;
        let id = conversation.id.clone();
        let revisions = kept(&app)?.put(vec![conversation])?;
        let revision = revisions.into_iter().next().unwrap_or_default();
        Ok(Json(Kept { id, revision }))
    })
    .await
}

pub(crate) async fn export(State(app): State<Arc<App>>) -> Result<Json<ConversationFile>, Refusal> {
    computed(move || {
        Ok(Json(ConversationFile {
            format: FORMAT.to_owned(),
            conversations: kept(&app)?.all()?,
        }))
    })
    .await
}

/// Each becomes a new conversation, so that nothing is overwritten.
pub(crate) async fn import(
    State(app): State<Arc<App>>,
    LargeObject(Object(body)): LargeObject,
) -> Result<Json<Imported>, Refusal> {
    computed(move || {
        let file: ConversationFile = parse::part(&body)?;
        if file.format != FORMAT {
            let given = taal_store::excerpt(&file.format);
            return Err(Refusal::field("format", format!("expected {FORMAT}, got {given}")));
        }
        let mut all = file.conversations;
        for (index, conversation) in all.iter_mut().enumerate() {
            conversation.check(&format!("conversations[{index}]."))?;
            conversation.id = format!("{:016x}", app.request_number());
            conversation.revision = 0;
        }
        let ids = all.iter().map(|conversation| conversation.id.clone()).collect();
        kept(&app)?.put(all)?;
        Ok(Json(Imported { ids }))
    })
    .await
}
