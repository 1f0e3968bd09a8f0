//! Tools: functions that an answer may call.

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use taal_inference::Constraint;
use utoipa::ToSchema;

use crate::failure::Refusal;
use crate::form::Wanted;

/// Tools of a request.
const MAX_TOOLS: usize = 128;

/// White space between the parts of a call, at most once in each place: more only fills the context.
const WHITE_SPACE: &str = r"\x20";

/// What templates of several families put around a call.
const MARKS: (&str, &str) = ("<tool_call>", "</tool_call>");

/// The tools of a request.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(super) struct Tools {
    /// Functions that an answer may call.
    tools: Option<Vec<Tool>>,
    /// `none`, `auto`, `required`, or a function by name; `auto` without it.
    #[schema(value_type = Option<Value>)]
    tool_choice: Option<Choice>,
    #[schema(ignore)]
    functions: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize, ToSchema)]
struct Tool {
    /// `function`.
    #[serde(rename = "type")]
    kind: String,
    function: Function,
}

/// A function.
#[derive(Debug, Deserialize, ToSchema)]
struct Function {
    name: String,
    /// The JSON schema of its arguments; any object without it.
    parameters: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected none, auto, required, or a function by name")]
enum Choice {
    Mode(String),
    Named { function: Named },
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
}

/// A call of a function.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct ToolCall {
    /// Its place among the calls; only in streams.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    function: CalledFunction,
}

/// A function and its arguments as JSON text.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
struct CalledFunction {
    name: String,
    arguments: String,
}

impl ToolCall {
    /// The same as a part of a stream.
    pub(crate) fn at(self, index: usize) -> Self {
        Self {
            index: Some(index),
            ..self
        }
    }
}

/// What an answer may call.
#[derive(Debug, Default)]
pub(super) struct Callable {
    names: Vec<String>,
}

impl Tools {
    /// Whether the template sees the tools.
    pub(super) fn are_shown(&self) -> bool {
        !matches!(&self.tool_choice, Some(Choice::Mode(mode)) if mode == "none")
    }

    /// What an answer may call, and the form that it must have where it must call something.
    ///
    /// # Errors
    ///
    /// 400 with the name of the field.
    pub(super) fn read(self) -> Result<(Callable, Option<Wanted>), Refusal> {
        if self.functions.is_some() {
            return Err(Refusal::field(
                "functions",
                "this older field is not supported: use tools",
            ));
        }
        let tools = self.tools.unwrap_or_default();
        if tools.len() > MAX_TOOLS {
            let message = format!("expected at most {MAX_TOOLS} tools, got {}", tools.len());
            return Err(Refusal::field("tools", message));
        }
        if let Some(index) = tools.iter().position(|tool| tool.kind != "function") {
            let given = taal_store::excerpt(&tools[index].kind);
            return Err(Refusal::field(
                format!("tools[{index}].type"),
                format!("expected function, got {given}"),
            ));
        }
        let all: Vec<Function> = tools.into_iter().map(|tool| tool.function).collect();
        let is_empty = all.is_empty();
        let wrong = |message: String| Err(Refusal::field("tool_choice", message));
        let must_call = match self.tool_choice {
            None => false,
            Some(Choice::Mode(mode)) => match mode.as_str() {
                "none" => return Ok((Callable::default(), None)),
                "auto" => false,
                "required" if is_empty => return wrong("there are no tools".to_owned()),
                "required" => true,
                other => {
                    let given = taal_store::excerpt(other);
                    return wrong(format!(
                        "expected none, auto, required, or a function by name, got {given}"
                    ));
                }
            },
            Some(Choice::Named { function }) => {
                let Some(found) = all.iter().find(|known| known.name == function.name) else {
                    let given = taal_store::excerpt(&function.name);
                    return wrong(format!("{given} is not among the tools"));
                };
                let wanted = form([found]);
                let names = vec![found.name.clone()];
                return Ok((Callable { names }, Some(wanted)));
            }
        };
        let wanted = must_call.then(|| form(&all));
        let names = all.into_iter().map(|function| function.name).collect();
        Ok((Callable { names }, wanted))
    }
}

/// The form of a call of one of several functions.
fn form<'a>(functions: impl IntoIterator<Item = &'a Function>) -> Wanted {
    let one = |function: &Function| {
        let parameters = function.parameters.clone();
        json!({
            "type": "object",
            "properties": {
                "name": {"const": function.name},
                "arguments": parameters.unwrap_or_else(|| json!({"type": "object"})),
            },
            "required": ["name", "arguments"],
            "additionalProperties": false,
        })
    };
    let mut all: Vec<Value> = functions.into_iter().map(one).collect();
    let mut schema = match all.len() {
        1 => all.swap_remove(0),
        _ => json!({"anyOf": all}),
    };
    schema["x-guidance"] = json!({"whitespace_pattern": WHITE_SPACE});
    Wanted {
        field: "tools",
        constraint: Constraint::JsonSchema(schema),
    }
}

impl Callable {
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Whether an answer that begins so may be a call.
    pub(super) fn may_begin(&self, text: &str) -> bool {
        let text = text.trim_start();
        !self.is_empty()
            && (text.is_empty() || text.starts_with('{') || MARKS.0.starts_with(text) || text.starts_with(MARKS.0))
    }

    /// The calls of an answer that consists of calls; none for any other text. `id` makes them unlike those of other answers.
    pub(super) fn calls(&self, text: &str, id: &str) -> Option<Vec<ToolCall>> {
        if self.is_empty() {
            return None;
        }
        let text = text.trim();
        let parts: Vec<&str> = match text.strip_prefix(MARKS.0) {
            Some(rest) => rest
                .split(MARKS.0)
                .map(|part| part.trim().trim_end_matches(MARKS.1))
                .collect(),
            None => vec![text],
        };
        let call = |(index, part): (usize, &str)| {
            let mut object: Map<String, Value> = serde_json::from_str(part.trim()).ok()?;
            let name = object
                .get("name")?
                .as_str()
                .filter(|name| self.names.iter().any(|known| known == name))?;
            let name = name.to_owned();
            let arguments = object.remove("arguments").or_else(|| object.remove("parameters"))?;
            Some(ToolCall {
                index: None,
                id: format!("call_{id}_{index}"),
                kind: "function",
                function: CalledFunction {
                    name,
                    arguments: arguments.to_string(),
                },
            })
        };
        parts.into_iter().enumerate().map(call).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn callable() -> Callable {
        Callable {
            names: vec!["add".to_owned(), "get".to_owned()],
        }
    }

    #[test]
    fn calls_are_read_with_and_without_marks_and_other_texts_are_texts() {
        let names = |text: &str| -> Option<Vec<(String, String)>> {
            let calls = callable().calls(text, "x")?;
            Some(
                calls
                    .into_iter()
                    .map(|call| (call.function.name, call.function.arguments))
                    .collect(),
            )
        };
        let one = |name: &str, arguments: &str| (name.to_owned(), arguments.to_owned());
        let plain = "{\"name\": \"add\", \"arguments\": {\"a\": 1}}";
        assert_eq!(names(plain), Some(vec![one("add", "{\"a\":1}")]));
        let marked = format!(
            "<tool_call>\n{plain}\n</tool_call>\n<tool_call>{{\"name\":\"get\",\"parameters\":{{}}}}</tool_call>"
        );
        assert_eq!(names(&marked), Some(vec![one("add", "{\"a\":1}"), one("get", "{}")]));
        for text in [
            "",
            "hello",
            "{}",
            "{\"name\": \"other\", \"arguments\": {}}",
            "{\"name\": \"add\"",
            "<tool_call>",
            "{\"name\": \"add\"}",
        ] {
            assert_eq!(names(text), None, "{text}");
        }
        assert_eq!(Callable::default().calls(plain, "x"), None);
    }

    #[test]
    fn a_text_is_held_back_only_while_it_may_be_a_call() {
        for text in ["", " ", "{", "{\"na", "<", "<tool", "\n<tool_call>{"] {
            assert!(callable().may_begin(text), "{text}");
        }
        for text in ["a", " The", "<b>", "[1]"] {
            assert!(!callable().may_begin(text), "{text}");
        }
        assert!(!Callable::default().may_begin("{"));
    }
}
