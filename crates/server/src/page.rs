//! The page's files, which the program carries in itself.

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

use crate::failure::Refusal;

/// A file of the page.
struct File {
    name: &'static str,
    kind: &'static str,
    content: &'static [u8],
}

/// A file of the folder `page`.
macro_rules! file {
    ($name:literal, $kind:literal) => {
        File {
            name: $name,
            kind: $kind,
            content: include_bytes!(concat!("../page/", $name)),
        }
    };
}

/// All files of the page.
const FILES: &[File] = &[
    file!("index.html", "text/html; charset=utf-8"),
    file!("favicon.svg", "image/svg+xml"),
    file!("app.css", "text/css; charset=utf-8"),
    file!("app.js", "text/javascript; charset=utf-8"),
    file!("api.js", "text/javascript; charset=utf-8"),
    file!("store.js", "text/javascript; charset=utf-8"),
    file!("settings.js", "text/javascript; charset=utf-8"),
    file!("texts.js", "text/javascript; charset=utf-8"),
    file!("tokens.js", "text/javascript; charset=utf-8"),
    file!("elements.js", "text/javascript; charset=utf-8"),
    file!("inside.js", "text/javascript; charset=utf-8"),
    file!("encoder.js", "text/javascript; charset=utf-8"),
    file!("chart.js", "text/javascript; charset=utf-8"),
    file!("runs.js", "text/javascript; charset=utf-8"),
    file!("translation.js", "text/javascript; charset=utf-8"),
    file!("views.js", "text/javascript; charset=utf-8"),
];

/// The page.
pub(crate) async fn index() -> Result<Response, Refusal> {
    found("index.html")
}

/// A file of the page.
pub(crate) async fn file(name: Result<Path<String>, PathRejection>) -> Result<Response, Refusal> {
    found(&crate::body::name(name)?)
}

/// A file of the page by its name; no other file can be named.
fn found(name: &str) -> Result<Response, Refusal> {
    let found = FILES.iter().find(|file| file.name == name);
    let file = found.ok_or_else(|| Refusal::status(StatusCode::NOT_FOUND, "there is no such page"))?;
    let fields = [(CONTENT_TYPE, file.kind), (CACHE_CONTROL, "no-cache")];
    Ok((fields, file.content).into_response())
}
