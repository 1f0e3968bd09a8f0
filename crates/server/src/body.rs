//! Bodies of requests: bounded in size and time.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, Path, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};

use crate::app::App;
use crate::failure::Refusal;
use crate::parse;

/// The body of a request: the text of one JSON object.
pub(crate) struct Object(pub(crate) Vec<u8>);

impl FromRequest<Arc<App>> for Object {
    type Rejection = Refusal;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Refusal> {
        object(request, app, app.max_body).await
    }
}

/// Bytes of a body with conversations.
const LARGE_BODY: usize = 16 << 20;

/// A body with conversations, which may be longer than a prompt.
pub(crate) struct LargeObject(pub(crate) Object);

impl FromRequest<Arc<App>> for LargeObject {
    type Rejection = Refusal;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Refusal> {
        let most = app.max_body.max(LARGE_BODY);
        object(request, app, most).await.map(Self)
    }
}

async fn object(request: Request, app: &App, most: usize) -> Result<Object, Refusal> {
    check_type(request.headers())?;
    let reading = whole(request.into_body(), most);
    let body = tokio::time::timeout(app.body_timeout, reading).await;
    let body = body.map_err(|_| Refusal::status(StatusCode::REQUEST_TIMEOUT, "the body took too long"))??;
    parse::check_object(&body)?;
    Ok(Object(body))
}

/// A page of another site can send other types than JSON without asking first.
fn check_type(fields: &HeaderMap) -> Result<(), Refusal> {
    let kind = fields.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.unwrap_or_default().split(';').next().unwrap_or_default();
    match kind.trim().eq_ignore_ascii_case("application/json") {
        true => Ok(()),
        false => Err(Refusal::status(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the Content-Type must be application/json",
        )),
    }
}

/// All of a body, of at most `most` bytes. One that says that it is longer is refused before it is read.
async fn whole(mut body: Body, most: usize) -> Result<Vec<u8>, Refusal> {
    let too_large = || {
        let message = format!("the body is larger than {most} bytes");
        Refusal::status(StatusCode::PAYLOAD_TOO_LARGE, message)
    };
    if body.size_hint().lower() > most as u64 {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame = frame.map_err(|_| Refusal::bad("the body ended early, or its chunks have wrong lengths"))?;
        // What may follow the last chunk means nothing here.
        let Ok(data) = frame.into_data() else { continue };
        if data.len() > most - bytes.len() {
            return Err(too_large());
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// The part of an address that names something.
pub(crate) fn name(path: Result<Path<String>, PathRejection>) -> Result<String, Refusal> {
    match path {
        Ok(Path(name)) => Ok(name),
        Err(_) => Err(Refusal::bad("the address is not valid UTF-8")),
    }
}
