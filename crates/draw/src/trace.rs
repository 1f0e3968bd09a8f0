//! The page of a trace: its markup, and the script that fills it.

use serde_json::Value;

use crate::{Page, Script};

/// The page of a trace, which shows it stage by stage and follows the token that is pointed at: by pointer, keyboard or screen reader.
///
/// `data` is what `trace.js` reads; `taal_insight::html` makes it. No text of it becomes markup.
pub fn trace(data: &Value) -> String {
    Page {
        title: "A text through a language model",
        body: include_str!("trace.html"),
        script: Some(Script {
            code: include_str!("trace.js"),
            data,
        }),
    }
    .to_html()
}
