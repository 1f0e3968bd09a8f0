//! `translation.json` of a model directory: which languages a model translates.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::MAX_TEXT_RULES_BYTES;
use crate::ModelError;

/// The languages that a model translates, where it is a translator; other programs ignore the file.
pub const TRANSLATION_FILE: &str = "translation.json";

/// Where the source goes in a prompt.
const PLACE: &str = "{source}";

/// What a model was trained to translate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TranslationFacts {
    /// The language of sources, such as `en`.
    pub from: String,
    /// The language of translations, such as `nl`.
    pub to: String,
    /// The prompt that a source becomes for a model without an encoder, with `{source}` in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// How sure the model is of its own translations, where that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_loss: Option<OwnLoss>,
}

/// The mean loss of a model's own translations, in nats per token.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnLoss {
    /// Of held-out sources.
    pub usual: f64,
    /// Of texts in another language: held-out translations taken as sources.
    pub other: f64,
}

impl OwnLoss {
    /// The loss from which on a text is doubtful: twice as far above the usual one as the other language's, because texts of other kinds than
    /// the held-out ones are above it as well. `None` where the two cannot be told apart.
    pub fn limit(&self) -> Option<f64> {
        (self.other > self.usual).then_some(2.0 * self.other - self.usual)
    }
}

impl TranslationFacts {
    /// Those of a model directory; `None` where it does not say.
    ///
    /// # Errors
    ///
    /// [`ModelError::File`] for an invalid `translation.json`; [`ModelError::Store`].
    pub fn open(dir: &Path) -> Result<Option<Self>, ModelError> {
        let path = dir.join(TRANSLATION_FILE);
        if !taal_store::exists(&path) {
            return Ok(None);
        }
        let text = taal_store::read_text(&path, MAX_TEXT_RULES_BYTES)?;
        let facts: Result<Self, _> = serde_json::from_str(&text);
        let checked = facts.map_err(|error| error.to_string()).and_then(Self::checked);
        checked.map(Some).map_err(|detail| ModelError::File {
            path,
            detail: taal_store::shorten(&detail),
        })
    }

    fn checked(self) -> Result<Self, String> {
        let is_missing = |prompt: &String| !prompt.contains(PLACE);
        if self.prompt.as_ref().is_some_and(is_missing) {
            return Err(format!("prompt: expected {PLACE} where the source goes"));
        }
        let is_loss = |loss: f64| loss.is_finite() && loss >= 0.0;
        if self
            .own_loss
            .is_some_and(|loss| !is_loss(loss.usual) || !is_loss(loss.other))
        {
            return Err("own_loss: expected numbers from 0".to_owned());
        }
        if self.from.is_empty() || self.to.is_empty() {
            return Err("from and to: expected languages such as en, got an empty text".to_owned());
        }
        Ok(self)
    }

    /// The prompt of a source for a model without an encoder, and where the source begins in it, in bytes.
    pub fn prompt_of(&self, source: &str) -> (String, usize) {
        let prompt = self.prompt.as_deref().unwrap_or("{source}\n");
        (prompt.replace(PLACE, source), prompt.find(PLACE).unwrap_or(0))
    }

    /// The file, by name.
    pub fn file(&self) -> (&'static str, Vec<u8>) {
        let mut json = serde_json::to_vec(self).unwrap_or_default();
        json.push(b'\n');
        (TRANSLATION_FILE, json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> TranslationFacts {
        TranslationFacts {
            from: "en".to_owned(),
            to: "nl".to_owned(),
            prompt: Some("a: {source}\nDutch: ".to_owned()),
            own_loss: Some(OwnLoss { usual: 0.5, other: 1.5 }),
        }
    }

    #[test]
    fn facts_are_read_as_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(TranslationFacts::open(dir.path()).unwrap(), None);
        let (name, json) = facts().file();
        std::fs::write(dir.path().join(name), json).unwrap();
        let found = TranslationFacts::open(dir.path()).unwrap().unwrap();
        assert_eq!(found, facts());
        assert_eq!(found.prompt_of("a {cat}"), ("a: a {cat}\nDutch: ".to_owned(), 3));
        assert_eq!(found.own_loss.unwrap().limit(), Some(2.5));
        let same = OwnLoss { usual: 1.0, other: 1.0 };
        assert_eq!(same.limit(), None);
    }

    #[test]
    fn a_bad_file_is_named_with_what_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        for (text, part) in [
            ("{\"from\": \"en\"}", "`to`"),
            ("{\"from\": \"en\", \"to\": \"\"}", "empty text"),
            ("{\"from\": \"en\", \"to\": \"nl\", \"prompt\": \"x\"}", "{source}"),
            (
                "{\"from\": \"en\", \"to\": \"nl\", \"own_loss\": {\"usual\": -1, \"other\": 2}}",
                "own_loss",
            ),
            ("{\"from\": \"en\", \"to\": \"nl\", \"via\": \"de\"}", "via"),
        ] {
            std::fs::write(dir.path().join(TRANSLATION_FILE), text).unwrap();
            let message = TranslationFacts::open(dir.path()).unwrap_err().to_string();
            assert!(
                message.contains(TRANSLATION_FILE) && message.contains(part),
                "{message}"
            );
        }
    }
}
