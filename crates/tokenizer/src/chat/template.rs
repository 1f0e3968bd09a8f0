//! A compiled template.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::io;
use std::ops::Range;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, ErrorKind, State, Value};
use minijinja_contrib::globals::{cycler, joiner};

use super::functions::{Raised, charge_lists, print, raise_exception, string, tojson};
use super::operators::PERCENT;
use super::plain::{CHANGED, changed};
use super::source::{GENERATION, prepared};
use super::stack::with_stack;
use super::strftime::strftime;
use super::{ChatInput, Rendered, bounds, json, methods};
use crate::{Error, Result};

/// The longest template.
pub(super) const MAX_SOURCE_BYTES: usize = 256 << 10;
/// The longest text of a conversation.
const MAX_OUTPUT_BYTES: usize = 1 << 20;
/// How deep a template may nest; a call of a macro counts as several levels.
const MAX_RECURSION: usize = 200;
/// Steps of a rendering, of which a template of a published model takes a few hundred; every 64 bytes of a text that it builds are one, ...
const FUEL: u64 = 100_000;
/// ... these in addition per message, ...
const FUEL_PER_MESSAGE: u64 = 2_000;
/// ... one for so many bytes of the conversation, which makes 16 copies of it, ...
const BYTES_PER_FUEL: u64 = 4;
/// ... and never more than these: all texts together have at most 128 MB.
const MAX_FUEL: u64 = 2_000_000;
/// The template that is used unless another one is asked for.
pub(super) const DEFAULT: &str = "default";
/// The template that is used where there are tools.
const FOR_TOOLS: &str = "tool_use";

/// Characters that stand around generated text until its place is known. They are reserved: no text has them.
const MARKS: [char; 2] = ['\u{FDD0}', '\u{FDD1}'];
/// The end of a message that is left open, which is cut off afterwards.
const OPEN_END: &str = "CONTINUE_FINAL_MESSAGE_TAG ";

/// A chat template, ready to make texts of conversations.
///
/// ```
/// use taal_tokenizer::chat::{ChatFiles, ChatInput, Message};
///
/// let source = "{% for m in messages %}<{{ m.role }}> {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
/// let template = ChatFiles::new(source).template()?;
/// let input = ChatInput { messages: vec![Message::new("user", "Dag!")], ..ChatInput::default() };
/// assert_eq!(template.render(&input)?.text, "<user> Dag!\n<assistant>");
/// # Ok::<(), taal_tokenizer::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    tokens: BTreeMap<String, String>,
    knows_developer: bool,
}

impl ChatTemplate {
    /// Compiles templates by name.
    pub(super) fn compile(sources: &[(String, String)], tokens: BTreeMap<String, String>) -> Result<Self> {
        let mut environment = environment();
        for (name, source) in sources {
            if source.len() > MAX_SOURCE_BYTES {
                return Err(Error::Template {
                    detail: format!("it has {} bytes, and at most {MAX_SOURCE_BYTES} are read", source.len()),
                });
            }
            let source = prepared(source).map_err(|detail| Error::Template { detail })?;
            environment
                .add_template_owned(name.clone(), source)
                .map_err(|error| fault(&error))?;
        }
        let names = |source: &str| {
            ["'developer'", "\"developer\""]
                .iter()
                .any(|name| source.contains(name))
        };
        Ok(Self {
            environment,
            tokens,
            knows_developer: sources.iter().any(|(_, source)| names(source)),
        })
    }

    /// Whether it names the role `developer`, which newer models have beside `system`.
    pub fn knows_developer(&self) -> bool {
        self.knows_developer
    }

    /// The role as this template knows it: `developer` is `system` unless the template names it, and the older `function` is `tool`.
    pub fn role<'a>(&self, role: &'a str) -> &'a str {
        match role {
            "developer" if !self.knows_developer => "system",
            "function" => "tool",
            _ => role,
        }
    }

    /// Sets a special token, such as `bos_token`, that the model's files do not name.
    #[must_use]
    pub fn or_token(mut self, name: &str, token: Option<String>) -> Self {
        if let Some(token) = token {
            self.tokens.entry(name.to_owned()).or_insert(token);
        }
        self
    }

    /// The text of a conversation. Equal inputs give equal texts, and the text equals that of transformers' `apply_chat_template`
    /// (of which `strftime_now` tells the local time).
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] where the template refuses the conversation, [`Error::Template`] where the template is faulty, takes too
    /// many steps, builds too long texts or writes more than 1 MiB, and where the library that runs it panics.
    pub fn render(&self, input: &ChatInput) -> Result<Rendered> {
        if input.messages.is_empty() {
            return Err(Error::refused("the conversation is empty; give at least one message"));
        }
        let mut messages: Vec<Value> = input
            .messages
            .iter()
            .map(|message| with_reasoning(&message.0))
            .collect();
        if input.continue_final_message {
            leave_open(&mut messages)?;
        }
        let tools: Vec<Value> = input.tools.iter().map(|tool| tool.0.clone()).collect();
        let bytes: u64 = messages.iter().chain(&tools).map(bytes_of).sum();
        let fuel = FUEL + FUEL_PER_MESSAGE * messages.len() as u64 + bytes / BYTES_PER_FUEL;
        let now = input.now;
        let has_tools = !tools.is_empty();
        let mut variables: BTreeMap<String, Value> = BTreeMap::new();
        for (name, token) in &self.tokens {
            variables.insert(name.clone(), Value::from(token.as_str()));
        }
        for (name, value) in &input.variables {
            variables.insert(name.clone(), value.0.clone());
        }
        let is_open = input.add_generation_prompt && !input.continue_final_message;
        let fixed = [
            ("messages", Value::from(messages)),
            ("tools", if has_tools { Value::from(tools) } else { Value::from(()) }),
            ("documents", Value::from(())),
            ("add_generation_prompt", Value::from(is_open)),
            (
                "strftime_now",
                Value::from_function(move |state: &State, format: &Value| {
                    charge_lists(state, format)?;
                    let format = format.to_string();
                    // A directive of two bytes may stand for up to 24.
                    state.consume_fuel(format.len() as u64 / 4)?;
                    Ok::<String, minijinja::Error>(strftime(now, &format))
                }),
            ),
        ];
        variables.extend(fixed.map(|(name, value)| (name.to_owned(), value)));
        let context = Value::from_pairs(variables);
        let fuel = fuel.min(MAX_FUEL);
        let text = with_stack(fuel, || self.write(has_tools, context, fuel))?;
        let (text, generated) = without_marks(&text);
        match input.continue_final_message {
            true => Ok(Rendered {
                text: cut_open_end(&text)?,
                generated: Vec::new(),
            }),
            false => Ok(Rendered { text, generated }),
        }
    }

    fn write(&self, has_tools: bool, context: Value, fuel: u64) -> Result<String> {
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(fuel));
        let for_tools = environment.get_template(FOR_TOOLS).ok().filter(|_| has_tools);
        let template = match for_tools {
            Some(template) => template,
            None => environment.get_template(DEFAULT).map_err(|_| Error::Template {
                detail: "there are several, and none of them is named default".to_owned(),
            })?,
        };
        let mut output = Bounded(Vec::new());
        if let Err(error) = template.render_captured_to(context, &mut output) {
            return Err(fault(&error));
        }
        String::from_utf8(output.0).map_err(|_| Error::Template {
            detail: "its output is not UTF-8".to_owned(),
        })
    }
}

/// The bytes of all texts of a value.
fn bytes_of(value: &Value) -> u64 {
    match (value.as_str(), value.kind()) {
        (Some(text), _) => text.len() as u64,
        (None, ValueKind::Seq) => value.try_iter().into_iter().flatten().map(|item| bytes_of(&item)).sum(),
        (None, ValueKind::Map) => {
            let entries = json::entries(value).into_iter();
            entries.map(|(key, entry)| key.len() as u64 + bytes_of(&entry)).sum()
        }
        _ => 0,
    }
}

/// Where templates run: as in transformers, with limits.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    // Only delimiters can be wrong.
    environment.set_syntax(syntax.unwrap_or_default());
    environment.set_recursion_limit(MAX_RECURSION);
    environment.set_unknown_method_callback(methods::call);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_formatter(print);
    bounds::add(&mut environment);
    environment.add_filter("string", string);
    environment.add_filter("tojson", tojson);
    environment.add_filter(PERCENT, methods::percent);
    environment.add_test("iterable", methods::is_iterable);
    environment.add_test("sequence", methods::is_sequence);
    environment.add_function("cycler", |items: Rest<Value>| cycler(items.0));
    environment.add_function("joiner", joiner);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function(CHANGED, changed);
    environment.add_function(GENERATION, generated);
    environment
}

/// What a `{% generation %}` block holds, between marks.
fn generated(state: &mut State, options: Kwargs) -> std::result::Result<String, minijinja::Error> {
    let caller: Value = options.get("caller")?;
    let text = caller.call(state, &[])?;
    Ok(format!("{}{text}{}", MARKS[0], MARKS[1]))
}

/// The text without marks, and what was between them.
fn without_marks(marked: &str) -> (String, Vec<Range<usize>>) {
    let mut text = String::with_capacity(marked.len());
    let mut generated = Vec::new();
    let mut start = 0;
    for character in marked.chars() {
        if character == MARKS[0] {
            start = text.len();
        } else if character == MARKS[1] {
            generated.push(start..text.len());
        } else {
            text.push(character);
        }
    }
    (text, generated)
}

/// The names under which templates look for the reasoning of a message.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// A message with its reasoning under the names that transformers gives it.
fn with_reasoning(message: &Value) -> Value {
    let of = |key: &str| {
        let value = message.get_attr(key).ok();
        value.filter(|value| !value.is_undefined() && !value.is_none())
    };
    let Some(reasoning) = REASONING.into_iter().find_map(of) else {
        return message.clone();
    };
    let thinking = of("thinking").unwrap_or_else(|| reasoning.clone());
    with_entries(message, [("thinking", thinking), ("reasoning_content", reasoning)])
}

/// An object with some entries replaced or added.
pub(super) fn with_entries<const N: usize>(message: &Value, entries: [(&str, Value); N]) -> Value {
    let added = entries.map(|(key, value)| (key.to_owned(), value));
    json::object(json::entries(message).into_iter().chain(added))
}

fn leave_open(messages: &mut [Value]) -> Result<()> {
    let Some(last) = messages.last_mut() else { return Ok(()) };
    match last.get_attr("content").ok().as_ref().and_then(Value::as_str) {
        Some(content) => {
            *last = with_entries(last, [("content", Value::from(format!("{content}{OPEN_END}")))]);
            Ok(())
        }
        None => Err(Error::refused("the last message has no text that could be continued")),
    }
}

fn cut_open_end(text: &str) -> Result<String> {
    let missing = || Error::refused("the template does not write the last message as it is, so it cannot be continued");
    let at = text.rfind(OPEN_END.trim_end()).ok_or_else(missing)?;
    let before = &text[..at];
    // A template that trims messages has trimmed the end of this one too.
    Ok(match text[at..].starts_with(OPEN_END) {
        true => before.to_owned(),
        false => before.trim_end().to_owned(),
    })
}

/// Keeps what is written, up to the limit.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT_BYTES {
            return Err(io::Error::other("more than 1 MiB"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What went wrong in a template, in one sentence.
fn fault(error: &minijinja::Error) -> Error {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(Raised(message)) = cause.downcast_ref() {
            return Error::refused(taal_store::shorten(message));
        }
        source = cause.source();
    }
    let place = error.line().map_or(String::new(), |line| format!("line {line}: "));
    let what = match error.kind() {
        ErrorKind::OutOfFuel => "it takes too many steps, or builds too long texts; does it loop?".to_owned(),
        ErrorKind::WriteFailure => "it writes more than 1 MiB".to_owned(),
        kind => match error.detail() {
            Some(detail) => format!("{kind}: {}", taal_store::shorten(detail)),
            None => kind.to_string(),
        },
    };
    Error::Template {
        detail: format!("{place}{what}"),
    }
}
