//! Fields of one address in a request to another, and of other servers. They would change the answer there, so they are refused by name; all other fields
//! that an address does not know are ignored.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Value, json};

use super::response_request::LOGPROBS;
use crate::failure::Refusal;
use crate::parse;

use Address::{Chat, Completions, Responses};

/// The addresses that generate text.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Address {
    Completions,
    Chat,
    Responses,
}

/// A field, and why it is refused.
struct Field {
    name: &'static str,
    /// The addresses that do not know it, and what they have instead.
    hints: &'static [(Address, &'static str)],
    /// Whether a value changes nothing, besides `null`.
    is_harmless: fn(&Value) -> bool,
}

const IN_CHATS: &str = "functions are called in /v1/chat/completions only: leave it out";
const NO_TEMPLATE: &str = "a prompt is read as it is: use /v1/chat/completions";
const ONLY_TEXT: &str = "an answer is text: leave it out";
const NOT_KEPT: &str = "nothing is kept between requests: send the whole conversation";

static FIELDS: [Field; 31] = [
    field(
        "prompt",
        &[(Chat, "a conversation is in messages: use them, or /v1/completions")],
    ),
    field(
        "messages",
        &[
            (Completions, "a conversation is for /v1/chat/completions: use prompt"),
            (Responses, "the conversation is in input"),
        ],
    ),
    field(
        "input",
        &[
            (Completions, "the text is in prompt: use it, or /v1/responses"),
            (Chat, "the conversation is in messages: use them, or /v1/responses"),
        ],
    ),
    field(
        "instructions",
        &[
            (Completions, "put them into prompt, or use /v1/responses"),
            (Chat, "send them as a message of the role system, or use /v1/responses"),
        ],
    ),
    field("max_completion_tokens", &[(Completions, "use max_tokens")]),
    field(
        "max_output_tokens",
        &[(Completions, "use max_tokens"), (Chat, "use max_completion_tokens")],
    ),
    or_none(
        "top_logprobs",
        &[(Completions, "use logprobs with a number")],
        |value| *value == 0,
    ),
    or_none("tools", &[(Completions, IN_CHATS)], |value| *value == json!([])),
    or_none("tool_choice", &[(Completions, IN_CHATS)], is_free),
    field("functions", &[(Completions, IN_CHATS), (Responses, IN_CHATS)]),
    or_none(
        "function_call",
        &[(Completions, IN_CHATS), (Responses, IN_CHATS)],
        is_free,
    ),
    or_none(
        "echo",
        &[
            (Chat, "an answer has no prompt before it: leave it out"),
            (Responses, "an answer has no prompt before it: leave it out"),
        ],
        |value| *value == false,
    ),
    or_none(
        "suffix",
        &[
            (Chat, "text before a given end cannot be generated: leave it out"),
            (Responses, "text before a given end cannot be generated: leave it out"),
        ],
        |value| *value == "",
    ),
    or_none(
        "best_of",
        &[
            (Chat, "only answers that are returned are computed: leave it out"),
            (Responses, "only answers that are returned are computed: leave it out"),
        ],
        |value| *value == 1,
    ),
    or_none(
        "text",
        &[(Completions, "use response_format"), (Chat, "use response_format")],
        |value| value.is_object() && value["format"].is_null(),
    ),
    or_none(
        "include",
        &[(Completions, "use logprobs with a number"), (Chat, "use logprobs")],
        |value| value.as_array().is_some_and(|parts| !parts.contains(&json!(LOGPROBS))),
    ),
    or_none(
        "truncation",
        &[
            (Completions, "nothing is cut in silence: expected disabled"),
            (Chat, "nothing is cut in silence: expected disabled"),
        ],
        |value| *value == "disabled",
    ),
    or_none(
        "reasoning",
        &[(Completions, NO_TEMPLATE), (Chat, "use reasoning_effort")],
        |value| value.is_object() && value["effort"].is_null(),
    ),
    field("reasoning_effort", &[(Completions, NO_TEMPLATE)]),
    or_none("chat_template_kwargs", &[(Completions, NO_TEMPLATE)], |value| {
        *value == json!({})
    }),
    or_none("add_generation_prompt", &[(Completions, NO_TEMPLATE)], |_| false),
    or_none("continue_final_message", &[(Completions, NO_TEMPLATE)], |value| {
        *value == false
    }),
    or_none(
        "previous_response_id",
        &[(Completions, NOT_KEPT), (Chat, NOT_KEPT)],
        |value| *value == "",
    ),
    field("conversation", &[(Completions, NOT_KEPT), (Chat, NOT_KEPT)]),
    or_none(
        "background",
        &[
            (Completions, "an answer is given at once: expected false"),
            (Chat, "an answer is given at once: expected false"),
        ],
        |value| *value == false,
    ),
    or_none(
        "modalities",
        &[(Completions, ONLY_TEXT), (Responses, ONLY_TEXT)],
        |value| *value == json!(["text"]),
    ),
    field("audio", &[(Completions, ONLY_TEXT), (Responses, ONLY_TEXT)]),
    field(
        "web_search_options",
        &[
            (Completions, "the server makes no connection: leave it out"),
            (Responses, "the server makes no connection: leave it out"),
        ],
    ),
    field("structured_outputs", &everywhere(OTHER_FORMS)),
    field("json_schema", &everywhere("use guided_json or response_format")),
    field(
        "grammar",
        &everywhere("a grammar in Lark is in guided_grammar, and GBNF is not read"),
    ),
];

const OTHER_FORMS: &str = "use guided_json, guided_choice, guided_regex or guided_grammar";

/// A field that no address knows.
const fn everywhere(hint: &'static str) -> [(Address, &'static str); 3] {
    [(Completions, hint), (Chat, hint), (Responses, hint)]
}

const fn field(name: &'static str, hints: &'static [(Address, &'static str)]) -> Field {
    or_none(name, hints, |_| false)
}

const fn or_none(
    name: &'static str,
    hints: &'static [(Address, &'static str)],
    is_harmless: fn(&Value) -> bool,
) -> Field {
    Field {
        name,
        hints,
        is_harmless,
    }
}

/// A choice that demands nothing.
fn is_free(value: &Value) -> bool {
    *value == "none" || *value == "auto"
}

/// The values of the fields above.
struct Given(BTreeMap<&'static str, Value>);

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct GivenVisitor;

        impl<'de> Visitor<'de> for GivenVisitor {
            type Value = Given;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Given, A::Error> {
                let mut given = BTreeMap::new();
                while let Some(name) = entries.next_key::<String>()? {
                    match FIELDS.iter().find(|field| field.name == name) {
                        Some(field) => drop(given.insert(field.name, entries.next_value()?)),
                        None => drop(entries.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(Given(given))
            }
        }

        deserializer.deserialize_map(GivenVisitor)
    }
}

/// Refuses the fields of other addresses.
///
/// # Errors
///
/// 400 with the name of the field.
pub(super) fn check(body: &[u8], address: Address) -> Result<(), Refusal> {
    let Given(given) = parse::part(body)?;
    for field in &FIELDS {
        let hint = field.hints.iter().find(|(of, _)| *of == address);
        let value = given.get(field.name).filter(|value| !value.is_null());
        if let (Some((_, hint)), Some(value)) = (hint, value)
            && !(field.is_harmless)(value)
        {
            return Err(Refusal::field(field.name, hint));
        }
    }
    Ok(())
}
