//! The page of a trace: its markup, and the script that fills it.

use serde_json::{Value, json};

use crate::page::marked;
use crate::texts::{TraceTexts, fill};
use crate::{Language, Page, Script};

/// The page of a trace, which shows it stage by stage and follows the token that is pointed at: by pointer, keyboard or screen reader.
///
/// `data` is a JSON object, which `trace.js` reads; `taal_insight::html` makes it. `model` names the traced model in the heading. Neither
/// becomes markup.
pub fn trace(mut data: Value, model: Option<&str>, language: Language) -> String {
    let texts = &language.texts().trace;
    let numbers = language.numbers();
    if let Value::Object(entries) = &mut data {
        entries.insert("say".to_owned(), json!(texts));
        entries.insert(
            "signs".to_owned(),
            json!({ "decimal": numbers.decimal, "thousands": numbers.thousands }),
        );
    }
    let title = match model {
        Some(model) => fill(texts.title_of, &[("model", model)]),
        None => texts.title.to_owned(),
    };
    Page {
        title: &title,
        body: &body(texts, &title),
        language,
        script: Some(Script {
            code: include_str!("trace.js"),
            data: &data,
        }),
    }
    .to_html()
}

/// The markup with its texts in place of `{{entry}}`.
fn body(texts: &TraceTexts, title: &str) -> String {
    let entries = json!(texts);
    let mut body = String::new();
    let mut parts = include_str!("trace.html").split("{{");
    body.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let (entry, rest) = part.split_once("}}").unwrap_or((part, ""));
        let text = match entry {
            "heading" => title,
            _ => entries[entry].as_str().unwrap_or_default(),
        };
        body.push_str(&marked(text));
        body.push_str(rest);
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names that follow `before` in a text.
    fn names<'a>(text: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
        text.split(before).skip(1).map(|rest| {
            let end = rest.find(|character: char| !character.is_ascii_lowercase() && character != '_');
            &rest[..end.unwrap_or(rest.len())]
        })
    }

    #[test]
    fn markup_and_script_use_texts_that_exist_and_every_text_is_used() {
        let texts = json!(Language::English.texts().trace);
        let texts = texts.as_object().expect("texts");
        let (markup, script) = (include_str!("trace.html"), include_str!("trace.js"));
        let used: Vec<&str> = names(markup, "{{").chain(names(script, "say.")).collect();
        assert!(used.len() > 80);
        for name in &used {
            assert!(texts.contains_key(*name) || *name == "heading", "no text for {name}");
        }
        for name in texts.keys().filter(|name| !name.starts_with("title")) {
            assert!(used.contains(&name.as_str()), "{name} is not used");
        }
    }

    #[test]
    fn a_model_whose_name_is_markup_stays_text() {
        let page = trace(json!({}), Some("<b>`x`"), Language::Dutch);
        assert!(page.contains("<h1>Een tekst door &lt;b&gt;"), "{page}");
        assert!(page.contains("<html lang=\"nl\">"));
    }
}
