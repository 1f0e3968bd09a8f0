//! What every page and picture has: the skeleton, the style, and text that cannot become markup.

use serde_json::Value;

use crate::Language;
use crate::texts::fill;

/// The colors, light and dark, and what a drawing looks like in them.
pub(crate) const PICTURE_STYLE: &str = include_str!("picture.css");
const PAGE_STYLE: &str = include_str!("page.css");

/// A page that needs nothing but itself.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    /// Its title, as text.
    pub title: &'a str,
    /// Markup from the header to the end of `<main>`; its texts went through [`escape`].
    pub body: &'a str,
    /// The language of its texts.
    pub language: Language,
    /// What makes it interactive.
    pub script: Option<Script<'a>>,
}

/// A script and what it reads.
#[derive(Debug, Clone, Copy)]
pub struct Script<'a> {
    /// JavaScript, which may not contain `</script`.
    pub code: &'a str,
    /// What it finds as JSON in the element `data`.
    pub data: &'a Value,
}

impl Page<'_> {
    /// The page as HTML. It tells the browser to load nothing, and to run a script only where there is one.
    pub fn to_html(&self) -> String {
        let title = escape(self.title);
        let body = self.body;
        let language = self.language.code();
        let written_by = fill(
            self.language.texts().page.written_by,
            &[("version", env!("CARGO_PKG_VERSION"))],
        );
        let (policy, scripts) = match self.script {
            Some(Script { code, data }) => (
                " script-src 'unsafe-inline';",
                format!(
                    "<script type=\"application/json\" id=\"data\">{}</script>\n<script>\n{code}</script>\n",
                    safe_json(data)
                ),
            ),
            None => ("", String::new()),
        };
        format!(
            "<!DOCTYPE html>\n<html lang=\"{language}\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline';{policy} \
             base-uri 'none'; form-action 'none'\">\n<title>{title} · Taal</title>\n<style>\n{PICTURE_STYLE}{PAGE_STYLE}</style>\n\
             </head>\n<body>\n{body}<footer>{written_by}</footer>\n{scripts}</body>\n</html>\n"
        )
    }
}

/// Text in which `code` between backticks is marked as such; the rest is escaped.
pub(crate) fn marked(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let mark = |(index, part): (usize, &str)| match index % 2 {
        0 => escape(part),
        _ => format!("<code>{}</code>", escape(part)),
    };
    parts.map(mark).collect()
}

/// Text as HTML and SVG show it letter by letter, also inside a quoted attribute. Control characters, which XML cannot hold, become U+FFFD.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\t' | '\n' | '\r' => escaped.push(character),
            other if other.is_control() || matches!(other, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

/// JSON that cannot end its script element, whatever the text is. `http` is broken up as well, so that a search for it finds only what a
/// browser would fetch.
fn safe_json(value: &Value) -> String {
    let json = value.to_string();
    let mut safe = String::with_capacity(json.len());
    for (index, character) in json.char_indices() {
        let begins_address = || {
            let ahead = json.as_bytes().get(index..index + 4);
            ahead.is_some_and(|ahead| ahead.eq_ignore_ascii_case(b"http"))
        };
        match character {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => safe.push_str(&format!("\\u{:04x}", character as u32)),
            'h' | 'H' if begins_address() => safe.push_str(&format!("\\u{:04x}", character as u32)),
            _ => safe.push(character),
        }
    }
    safe
}
