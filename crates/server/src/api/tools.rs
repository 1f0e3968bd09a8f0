//! Tools: functions that an answer may call.

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
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
    /// `none`, `auto`, `required`, a function by name, or `allowed_tools`; `auto` without it.
    #[schema(value_type = Option<Value>)]
    tool_choice: Option<Choice>,
    /// Where it is false, an answer of several calls is the first one.
    parallel_tool_calls: Option<bool>,
    #[schema(ignore)]
    functions: Option<IgnoredAny>,
    #[schema(ignore)]
    function_call: Option<Value>,
}

#[derive(Debug, Deserialize, ToSchema)]
struct Tool {
    /// `function`.
    #[serde(rename = "type")]
    kind: String,
    #[schema(value_type = Function, required)]
    function: Option<Function>,
}

/// A function.
#[derive(Debug, Deserialize, ToSchema)]
struct Function {
    name: String,
    /// The JSON schema of its arguments; any object without it.
    parameters: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "expected none, auto, required, a function by name, or allowed_tools with mode and tools"
)]
enum Choice {
    Mode(String),
    Named { function: Named },
    Allowed { allowed_tools: Allowed },
}

/// Some of the tools.
#[derive(Debug, Deserialize)]
struct Allowed {
    mode: String,
    tools: Vec<AllowedTool>,
}

#[derive(Debug, Deserialize)]
struct AllowedTool {
    function: Named,
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
    /// Whether an answer has at most one call.
    is_single: bool,
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
        let is_free = |choice: &Value| *choice == "none" || *choice == "auto";
        if self.function_call.is_some_and(|choice| !is_free(&choice)) {
            return Err(Refusal::field(
                "function_call",
                "this older field is not supported: use tool_choice",
            ));
        }
        let is_single = self.parallel_tool_calls == Some(false);
        let tools = self.tools.unwrap_or_default();
        if tools.len() > MAX_TOOLS {
            let message = format!("expected at most {MAX_TOOLS} tools, got {}", tools.len());
            return Err(Refusal::field("tools", message));
        }
        let mut all = Vec::with_capacity(tools.len());
        for (index, tool) in tools.into_iter().enumerate() {
            if tool.kind != "function" {
                let given = taal_store::excerpt(&tool.kind);
                return Err(Refusal::field(
                    format!("tools[{index}].type"),
                    format!("expected function, the only type that is supported, got {given}"),
                ));
            }
            let missing = || Refusal::field(format!("tools[{index}].function"), "it is missing");
            all.push(tool.function.ok_or_else(missing)?);
        }
        let (callable, wanted) = match self.tool_choice {
            None => Callable::of(all, false),
            Some(Choice::Mode(mode)) => chosen(&mode, all)?,
            Some(Choice::Named { function }) => Callable::of(named(all, &[function])?, true),
            Some(Choice::Allowed { allowed_tools }) => {
                let Allowed { mode, tools } = allowed_tools;
                let names: Vec<Named> = tools.into_iter().map(|tool| tool.function).collect();
                chosen(&mode, named(all, &names)?)?
            }
        };
        Ok((Callable { is_single, ..callable }, wanted))
    }
}

/// What may be called in a mode of `tool_choice`.
fn chosen(mode: &str, all: Vec<Function>) -> Result<(Callable, Option<Wanted>), Refusal> {
    let wrong = |message: String| Err(Refusal::field("tool_choice", message));
    match mode {
        "none" => Ok((Callable::default(), None)),
        "auto" => Ok(Callable::of(all, false)),
        "required" if all.is_empty() => wrong("there are no tools".to_owned()),
        "required" => Ok(Callable::of(all, true)),
        other => wrong(format!(
            "expected none, auto, required, or a function by name, got {}",
            taal_store::excerpt(other)
        )),
    }
}

/// The functions with these names.
fn named(all: Vec<Function>, names: &[Named]) -> Result<Vec<Function>, Refusal> {
    if let Some(unknown) = names
        .iter()
        .find(|wanted| all.iter().all(|known| known.name != wanted.name))
    {
        let given = taal_store::excerpt(&unknown.name);
        return Err(Refusal::field("tool_choice", format!("{given} is not among the tools")));
    }
    let is_wanted = |function: &Function| names.iter().any(|wanted| wanted.name == function.name);
    Ok(all.into_iter().filter(is_wanted).collect())
}

/// The form of a call of one of several functions.
fn form(functions: &[Function]) -> Wanted {
    let one = |(index, function): (usize, &Function)| {
        let place = match functions.len() {
            1 => "#/properties/arguments".to_owned(),
            _ => format!("#/anyOf/{index}/properties/arguments"),
        };
        let mut parameters = function.parameters.clone().unwrap_or_else(|| json!({"type": "object"}));
        move_references(&mut parameters, &place);
        json!({
            "type": "object",
            "properties": {
                "name": {"const": function.name},
                "arguments": parameters,
            },
            "required": ["name", "arguments"],
            "additionalProperties": false,
        })
    };
    let mut all: Vec<Value> = functions.iter().enumerate().map(one).collect();
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

/// Makes references from the root of a schema lead to the same places after the schema has become the part `place` of another one.
fn move_references(schema: &mut Value, place: &str) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(|item| move_references(item, place)),
        Value::Object(keys) => {
            for (key, value) in keys {
                match value {
                    Value::String(reference) if key == "$ref" => {
                        let rest = reference.strip_prefix('#');
                        if let Some(rest) = rest.filter(|rest| rest.is_empty() || rest.starts_with('/')) {
                            *reference = format!("{place}{rest}");
                        }
                    }
                    // Values, not schemas.
                    _ if ["const", "enum", "default", "examples"].contains(&key.as_str()) && !value.is_object() => (),
                    _ => move_references(value, place),
                }
            }
        }
        _ => (),
    }
}

impl Callable {
    /// What an answer may call, and the form of a call where it must.
    fn of(all: Vec<Function>, must_call: bool) -> (Self, Option<Wanted>) {
        let wanted = must_call.then(|| form(&all));
        let names = all.into_iter().map(|function| function.name).collect();
        let is_single = false;
        (Self { names, is_single }, wanted)
    }

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
            let entries = entries(part.trim())?;
            // Of two entries with one key the last counts.
            let of = |key: &str| entries.iter().rev().find(|(found, _)| found == key);
            let name: String = serde_json::from_str(of("name")?.1).ok()?;
            if !self.names.contains(&name) {
                return None;
            }
            let arguments = of("arguments").or_else(|| of("parameters"))?.1;
            Some(ToolCall {
                index: None,
                id: format!("call_{id}_{index}"),
                kind: "function",
                function: CalledFunction {
                    name,
                    arguments: arguments.to_owned(),
                },
            })
        };
        let calls: Option<Vec<ToolCall>> = parts.into_iter().enumerate().map(call).collect();
        calls.map(|mut calls| {
            if self.is_single {
                calls.truncate(1);
            }
            calls
        })
    }
}

/// The entries of a JSON object, the values as they are written; none of another text. Numbers would lose digits if they were read.
fn entries(object: &str) -> Option<Vec<(String, &str)>> {
    let mut rest = object.strip_prefix('{')?.trim_start();
    let mut entries = Vec::new();
    if let Some(end) = rest.strip_prefix('}') {
        return end.is_empty().then_some(entries);
    }
    loop {
        let (key, after) = first::<String>(rest)?;
        let value = after.trim_start().strip_prefix(':')?.trim_start();
        let (_, after) = first::<IgnoredAny>(value)?;
        entries.push((key, &value[..value.len() - after.len()]));
        match after.trim_start().strip_prefix(',') {
            Some(more) => rest = more.trim_start(),
            None => return (after.trim() == "}").then_some(entries),
        }
    }
}

/// The value that a text begins with, and the text after it.
fn first<T: DeserializeOwned>(text: &str) -> Option<(T, &str)> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter();
    let value = values.next()?.ok()?;
    Some((value, &text[values.byte_offset()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn callable() -> Callable {
        Callable {
            names: vec!["add".to_owned(), "get".to_owned()],
            is_single: false,
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
        assert_eq!(names(plain), Some(vec![one("add", "{\"a\": 1}")]));
        let marked = format!(
            "<tool_call>\n{plain}\n</tool_call>\n<tool_call>{{\"name\":\"get\",\"parameters\":{{}}}}</tool_call>"
        );
        assert_eq!(names(&marked), Some(vec![one("add", "{\"a\": 1}"), one("get", "{}")]));
        let single = Callable {
            is_single: true,
            ..callable()
        };
        let calls = single.calls(&marked, "x").expect("a call");
        assert_eq!((calls.len(), calls[0].function.name.as_str()), (1, "add"));
        // The text of the arguments stays as it is.
        let exact = r#"{"z": 12345678901234567890123, "a": [1.0, 1e400, "}, {"], "z": {}}"#;
        let text = format!(r#" {{ "arguments" : {exact} , "name":"\u0061dd" }} "#);
        assert_eq!(names(&text), Some(vec![one("add", exact)]));
        for text in [
            "",
            "hello",
            "{}",
            "{\"name\": \"other\", \"arguments\": {}}",
            "{\"name\": \"add\"",
            "<tool_call>",
            "{\"name\": \"add\"}",
            "{\"name\": \"add\", \"arguments\": {}",
            "{\"name\": \"add\", \"arguments\": {},}",
            "{\"name\": \"add\", \"arguments\": {}} {}",
            "{\"name\": \"add\" \"arguments\": {}}",
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
