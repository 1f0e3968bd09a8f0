//! The form that a request wants its answer to have.

use serde::Deserialize;
use serde_json::Value;
use taal_inference::{Constraint, GenerateOptions, InferenceError};
use utoipa::ToSchema;

use crate::failure::Refusal;
use crate::parse;

/// What a request says about the form of its answer. At most one of the fields.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(crate) struct Form {
    #[serde(default, deserialize_with = "parse::object")]
    response_format: Option<Format>,
    /// The JSON schema of the answer, or its text, as vLLM's clients send it.
    guided_json: Option<Value>,
    /// The texts of which the answer is one.
    guided_choice: Option<Vec<String>>,
    /// A regular expression that the whole answer matches.
    guided_regex: Option<String>,
    /// A grammar of the answer in Lark.
    guided_grammar: Option<String>,
}

/// The form of an answer.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ResponseFormat)]
pub(crate) struct Format {
    /// `text`, `json_object` or `json_schema`.
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, deserialize_with = "parse::object")]
    json_schema: Option<JsonSchema>,
    /// The schema, where it is not in `json_schema`; also with `json_object`.
    schema: Option<Value>,
}

/// A JSON schema and its name.
#[derive(Debug, Deserialize, ToSchema)]
struct JsonSchema {
    /// Any object without it.
    schema: Option<Value>,
}

/// A form, and the field that asks for it.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) field: &'static str,
    pub(crate) constraint: Constraint,
}

impl Format {
    /// What an answer must be; none for any text.
    ///
    /// # Errors
    ///
    /// 400 with the field's name, which is `field`.
    pub(crate) fn wanted(self, field: &'static str) -> Result<Option<Wanted>, Refusal> {
        let constraint = match (self.kind.as_str(), self.json_schema, self.schema) {
            ("text", ..) => return Ok(None),
            // A name without a schema allows any object.
            ("json_object", _, None) | ("json_schema", Some(JsonSchema { schema: None }), None) => {
                Constraint::JsonObject
            }
            // As llama.cpp's server reads it.
            ("json_object", _, Some(schema))
            | ("json_schema", Some(JsonSchema { schema: Some(schema) }), _)
            | ("json_schema", _, Some(schema)) => Constraint::JsonSchema(schema),
            ("json_schema", None, None) => return Err(Refusal::field(field, "the schema is missing")),
            (other, ..) => {
                let given = taal_store::excerpt(other);
                let message = format!("expected the type text, json_object or json_schema, got {given}");
                return Err(Refusal::field(field, message));
            }
        };
        Ok(Some(Wanted { field, constraint }))
    }
}

impl Form {
    /// What an answer must be; none for any text.
    ///
    /// # Errors
    ///
    /// 400 where there are two forms, or an unknown one.
    pub(crate) fn wanted(self) -> Result<Option<Wanted>, Refusal> {
        let of_format = match self.response_format {
            Some(format) => format.wanted("response_format")?,
            None => None,
        };
        let of_schema = self.guided_json.map(schema).transpose()?;
        let of_choice = self.guided_choice.map(|texts| choice(&texts)).transpose()?;
        let of_regex = self.guided_regex.map(|text| Wanted {
            field: "guided_regex",
            constraint: Constraint::Regex(text),
        });
        let of_grammar = self.guided_grammar.map(|text| Wanted {
            field: "guided_grammar",
            constraint: Constraint::Lark(text),
        });
        one([of_format, of_schema, of_choice, of_regex, of_grammar])
    }
}

/// A schema, or the text of one.
fn schema(given: Value) -> Result<Wanted, Refusal> {
    let field = "guided_json";
    let schema = match given {
        Value::String(text) => serde_json::from_str(&text)
            .map_err(|error| Refusal::field(field, format!("a text that is no JSON: {error}")))?,
        schema => schema,
    };
    if !schema.is_object() && !schema.is_boolean() {
        return Err(Refusal::field(
            field,
            "expected a JSON schema, which is an object, or its text",
        ));
    }
    Ok(Wanted {
        field,
        constraint: Constraint::JsonSchema(schema),
    })
}

/// One of some texts, as a grammar: its literals are written as JSON writes texts.
fn choice(texts: &[String]) -> Result<Wanted, Refusal> {
    let field = "guided_choice";
    if texts.is_empty() || texts.iter().any(String::is_empty) {
        return Err(Refusal::field(field, "expected texts, none of them empty"));
    }
    let literals: Vec<String> = texts
        .iter()
        .map(|text| Value::from(text.as_str()).to_string())
        .collect();
    Ok(Wanted {
        field,
        constraint: Constraint::Lark(format!("start: {}", literals.join(" | "))),
    })
}

/// The one form of several fields; none where none asks for one.
///
/// # Errors
///
/// 400 where there are two forms.
pub(crate) fn one(all: impl IntoIterator<Item = Option<Wanted>>) -> Result<Option<Wanted>, Refusal> {
    let mut all = all.into_iter().flatten();
    let first = all.next();
    match all.next() {
        Some(second) => Err(Refusal::field(second.field, "an answer has one form: give one of them")),
        None => Ok(first),
    }
}

/// Asks for a form in the options of each answer; returns the field that asked.
pub(crate) fn apply(wanted: Option<Wanted>, options: &mut [GenerateOptions]) -> Option<&'static str> {
    let Wanted { field, constraint } = wanted?;
    for options in options {
        options.constraint = Some(constraint.clone());
    }
    Some(field)
}

/// A form that cannot be kept, with the field that asked for it.
pub(crate) fn refused(refusal: Refusal, field: Option<&'static str>) -> Refusal {
    match field.filter(|_| refusal.is_form()) {
        Some(field) => refusal.of(field),
        None => refusal,
    }
}

/// Whether an error is about the form of an answer.
pub(crate) fn is_about_form(error: &InferenceError) -> bool {
    use InferenceError::{Constraint, NoTokenFits, NoTokenTexts};
    matches!(error, Constraint { .. } | NoTokenFits { .. } | NoTokenTexts)
}
