//! The page's files, which the program carries in itself.

use crate::failure::{Refusal, Status};
use crate::http::Reply;

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
];

/// A file of the page by its name; no other file can be named.
pub(crate) fn file(name: &str) -> Result<Reply, Refusal> {
    let found = FILES.iter().find(|file| file.name == name);
    let file = found.ok_or_else(|| Refusal::status(Status::NotFound, "there is no such page"))?;
    let mut reply = Reply::new(file.kind, file.content);
    reply.fields = "cache-control: no-cache\r\n".to_owned();
    Ok(reply)
}
