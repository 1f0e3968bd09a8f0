//! Answers of a given form: a JSON schema, any JSON object, a regular expression, or a Lark grammar.
//!
//! The crate llguidance finds which bytes may come next; here they become tokens.

mod endless;
mod limits;
mod schema;
mod vocabulary;

use std::sync::Arc;

use llguidance::Matcher;
use llguidance::api::{StopReason, TopLevelGrammar};
use llguidance::toktrie::SimpleVob;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::vocabulary::Vocabulary;
pub(crate) use self::vocabulary::VocabularyCell;
use crate::{InferenceError, LanguageModel, Result};

/// White space between the parts of a JSON answer. A model may otherwise write it forever.
const WHITE_SPACE: &str = r"[\x20\x0A\x0D\x09]{1,32}";

/// What a JSON schema is called in messages.
const SCHEMA: &str = "JSON schema";

/// The form that an answer must have. Tokens that cannot continue an answer of this form are ruled out before any other setting of
/// [`Sampling`](crate::Sampling) applies, and a token that ends texts is possible only once the answer is complete.
///
/// An answer ends with [`FinishReason::Complete`](crate::FinishReason::Complete) where the form allows nothing more. One that ends with
/// [`FinishReason::Length`](crate::FinishReason::Length) may be incomplete.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Constraint {
    /// JSON that is valid by this JSON schema, of at most 2,000 properties. Keys come in the schema's order. Keywords and numbers that
    /// cannot be kept are an error.
    JsonSchema(Value),
    /// Any JSON object.
    JsonObject,
    /// A text that matches a regular expression as a whole, in the syntax of the crate `regex` without look-around.
    Regex(String),
    /// A text of a grammar in llguidance's variant of Lark.
    Lark(String),
}

impl Constraint {
    /// What it is, for messages.
    fn name(&self) -> &'static str {
        match self {
            Self::JsonSchema(_) => SCHEMA,
            Self::JsonObject => "JSON object",
            Self::Regex(_) => "regular expression",
            Self::Lark(_) => "Lark grammar",
        }
    }

    /// The library's grammar, and how many properties of objects it names.
    fn grammar(&self) -> Result<(TopLevelGrammar, usize)> {
        let grammar = match self {
            Self::JsonSchema(schema) => {
                let (schema, properties) = schema::kept(schema.clone()).map_err(|detail| self.invalid(&detail))?;
                return Ok((TopLevelGrammar::from_json_schema(with_white_space(schema)), properties));
            }
            Self::JsonObject => TopLevelGrammar::from_json_schema(with_white_space(json!({"type": "object"}))),
            // In a grammar, two slashes begin a comment.
            Self::Regex(text) if text.is_empty() => TopLevelGrammar::from_lark("start: \"\"".to_owned()),
            Self::Regex(text) => TopLevelGrammar::from_regex(text),
            Self::Lark(text) => TopLevelGrammar::from_lark(text.clone()),
        };
        Ok((grammar, 0))
    }

    fn invalid(&self, detail: &str) -> InferenceError {
        if limits::is_exceeded(detail) {
            return too_large(self.name());
        }
        // The library adds its state after the first paragraph.
        let detail = detail.split("\n<").next().unwrap_or(detail);
        let words: Vec<&str> = detail.split_whitespace().collect();
        InferenceError::Constraint {
            kind: self.name(),
            detail: taal_store::shorten(words.join(" ").trim_end_matches('.')),
        }
    }
}

/// A form beyond a limit of the library.
fn too_large(kind: &'static str) -> InferenceError {
    let detail = match kind {
        SCHEMA => {
            "it allows too many things at one place: make more properties required, list fewer alternatives, or divide it"
        }
        _ => "it allows too many things at one place: make it smaller, or divide it",
    };
    InferenceError::Constraint {
        kind,
        detail: detail.to_owned(),
    }
}

/// A schema with the library's option for white space. A schema that sets options keeps them.
fn with_white_space(schema: Value) -> Value {
    let mut schema = match schema {
        Value::Bool(true) => json!({}),
        schema => schema,
    };
    if let Some(keys) = schema.as_object_mut().filter(|keys| !keys.contains_key("x-guidance")) {
        keys.insert("x-guidance".to_owned(), json!({"whitespace_pattern": WHITE_SPACE}));
    }
    schema
}

/// The state of a constraint on one answer.
pub(crate) struct Matching {
    vocabulary: Arc<Vocabulary>,
    matcher: Matcher,
    kind: &'static str,
    /// How many ids may be drawn.
    vocab_size: u32,
    /// Whether the next token begins the text.
    is_first: bool,
    shows_special: bool,
    /// The entries that may come next.
    next: Result<SimpleVob>,
}

impl Matching {
    /// Reads the constraint, and checks that some token can begin the answer.
    pub(crate) fn new(
        lm: &LanguageModel,
        constraint: &Constraint,
        prompt_ids: &[u32],
        shows_special: bool,
    ) -> Result<Self> {
        let vocabulary = lm.vocabulary()?;
        let matcher = vocabulary.matcher(constraint)?;
        let mut matching = Self {
            is_first: prompt_ids
                .iter()
                .all(|id| !shows_special && vocabulary.is_left_out(*id)),
            next: Ok(SimpleVob::new()),
            vocabulary,
            matcher,
            kind: constraint.name(),
            vocab_size: lm.vocab_size() as u32,
            shows_special,
        };
        matching.next = matching.entries();
        match matching.next {
            Ok(_) => Ok(matching),
            Err(error) => Err(error),
        }
    }

    /// Calls `forbid` with every id that cannot come next. `end_ids` may where the answer may end here, or where the form names them.
    pub(crate) fn forbid(&mut self, end_ids: &[u32], forbid: impl FnMut(u32)) -> Result<()> {
        let next = match &mut self.next {
            Ok(next) => next,
            next => return std::mem::replace(next, Ok(SimpleVob::new())).map(|_| ()),
        };
        let may_end = next.is_allowed(self.vocabulary.end());
        let is_forbidden = |id: &u32| {
            let is_end = may_end && end_ids.contains(id);
            !is_end && !self.vocabulary.allows(next, *id, self.is_first)
        };
        (0..self.vocab_size).filter(is_forbidden).for_each(forbid);
        Ok(())
    }

    /// Whether this id, of a token that ends texts otherwise, is a part of the form here, which goes on after it.
    pub(crate) fn names(&self, id: u32) -> bool {
        self.next.as_ref().is_ok_and(|next| {
            !next.is_allowed(self.vocabulary.end()) && self.vocabulary.allows(next, id, self.is_first)
        })
    }

    /// The state of another answer that begins with the same tokens.
    pub(crate) fn fork(&self) -> Self {
        let mut forked = Self {
            vocabulary: self.vocabulary.clone(),
            matcher: self.matcher.clone(),
            next: Ok(SimpleVob::new()),
            ..*self
        };
        forked.next = match &self.next {
            Ok(next) => Ok(next.clone()),
            Err(_) => forked.entries(),
        };
        forked
    }

    /// Adds a token that does not end the text.
    pub(crate) fn take(&mut self, id: u32) -> Result<()> {
        let entry = self.vocabulary.entry(id, self.is_first);
        self.is_first &= !self.shows_special && self.vocabulary.is_left_out(id);
        let taken = self.matcher.consume_token(entry);
        taken.map_err(|error| self.failed(&error.to_string()))?;
        self.next = self.entries();
        Ok(())
    }

    /// Whether the answer is complete, and nothing more may follow.
    pub(crate) fn is_complete(&self) -> bool {
        let only_end = |next: &SimpleVob| next.is_allowed(self.vocabulary.end()) && !self.has_token(next);
        self.next.as_ref().is_ok_and(only_end)
    }

    /// The entries that may come next, of which at least one is the end or that of a token that may be drawn.
    fn entries(&mut self) -> Result<SimpleVob> {
        let next = match self.matcher.compute_mask_or_eos() {
            Ok(next) => next,
            Err(error) => {
                let detail = error.to_string();
                return Err(match detail.starts_with(&StopReason::NoExtensionBias.to_string()) {
                    true => self.no_token(),
                    false => self.failed(&detail),
                });
            }
        };
        match next.is_allowed(self.vocabulary.end()) || self.has_token(&next) {
            true => Ok(next),
            false => Err(self.no_token()),
        }
    }

    fn has_token(&self, next: &SimpleVob) -> bool {
        (0..self.vocab_size).any(|id| self.vocabulary.allows(next, id, self.is_first))
    }

    fn no_token(&self) -> InferenceError {
        InferenceError::NoTokenFits { kind: self.kind }
    }

    fn failed(&self, detail: &str) -> InferenceError {
        if limits::is_exceeded(detail) {
            return too_large(self.kind);
        }
        let detail = detail.lines().next().unwrap_or_default();
        InferenceError::Constraint {
            kind: self.kind,
            detail: taal_store::shorten(detail),
        }
    }
}
