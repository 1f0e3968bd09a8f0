//! Chat templates as chat formats: rows are trained as the template writes them when the model is asked.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use taal_tokenizer::Tokenizer;
use taal_tokenizer::chat::{self, ChatFiles, ChatInput, ChatTemplate, Json, Rendered};

use crate::chat::{ChatFormat, Marked};
use crate::message::{Message, Role};

impl ChatFormat for ChatTemplate {
    fn render(&self, messages: &[Message], tools: &[Json], with_answer_start: bool) -> Result<String, String> {
        Ok(run(self, messages, tools, with_answer_start)?.text)
    }

    fn marked(&self, messages: &[Message], tools: &[Json]) -> Result<Marked, String> {
        let Rendered { text, generated } = run(self, messages, tools, false)?;
        Ok((text, generated))
    }
}

fn run(
    template: &ChatTemplate,
    messages: &[Message],
    tools: &[Json],
    add_generation_prompt: bool,
) -> Result<Rendered, String> {
    let mut input = ChatInput {
        messages: messages.iter().map(|message| said(template, message)).collect(),
        tools: tools.to_vec(),
        add_generation_prompt,
        // With the time of the clock, rows would be others when a run is resumed the next day.
        now: SystemTime::UNIX_EPOCH + Duration::from_secs(chat::FIXED_NOW_S),
        ..ChatInput::default()
    };
    if messages.iter().all(|message| message.tool_calls.is_none()) {
        return template.render(&input).map_err(|error| error.to_string());
    }
    // As the server does: the arguments of calls are an object, unless the template puts their text together with others.
    let plain = input.messages.iter().cloned();
    let plain = plain.map(|message| message.into_plain(template));
    let plain = plain.collect::<Result<Vec<chat::Message>, String>>()?;
    let given = std::mem::replace(&mut input.messages, plain);
    template.render(&input).or_else(|error| {
        input.messages = given;
        template.render(&input).map_err(|_| error.to_string())
    })
}

/// A message as a template reads it.
fn said(template: &ChatTemplate, message: &Message) -> chat::Message {
    let role = template.role(message.role.name());
    let mut said = match (&message.tool_calls, message.content.is_empty()) {
        (Some(_), true) => chat::Message::without_content(role),
        _ => chat::Message::new(role, &message.content),
    };
    if let Some(calls) = &message.tool_calls {
        said = said.with("tool_calls", calls.clone());
    }
    let more = message.more.iter();
    more.fold(said, |said, (key, text)| said.with(key, Json::from(text.as_str())))
}

/// The chat template of models that have none: each message is a line `Role: content`, and the assistant's end with the end-of-text
/// token where the tokenizer has one. The text begins with the special tokens with which the tokenizer begins every text.
///
/// ```text
/// System: Answer briefly.
/// User: What is the capital of France?
/// Assistant: Paris.<|endoftext|>
/// ```
///
/// A prompt ends in `Assistant:`; the answer begins with a space.
pub fn plain_chat(tokenizer: &Tokenizer) -> ChatFiles {
    let name = |id: u32| tokenizer.id_to_token(id).unwrap_or_default();
    let before: String = tokenizer.template().before.into_iter().map(name).collect();
    let end = tokenizer.eos_id().map(name);
    let mut source = String::new();
    if !before.is_empty() {
        // Writing to a string cannot fail.
        let _ = write!(source, "{{{{ {} }}}}", quoted(&before));
    }
    source += "{% for message in messages %}";
    for (keyword, role) in [("if", Role::System), ("elif", Role::Assistant), ("elif", Role::Tool)] {
        let _ = write!(
            source,
            "{{% {keyword} message['role'] == '{}' %}}{}",
            role.name(),
            label(role)
        );
    }
    let _ = write!(source, "{{% else %}}{}{{% endif %}}", label(Role::User));
    source += ": {% if message['role'] == 'assistant' %}{{ message['content'] | trim }}";
    if let Some(end) = &end {
        let _ = write!(source, "{{{{ {} }}}}", quoted(end));
    }
    source += "{% else %}{{ message['content'] }}{% endif %}{{ '\\n' }}{% endfor %}";
    let _ = write!(
        source,
        "{{% if add_generation_prompt %}}{}:{{% endif %}}",
        label(Role::Assistant)
    );
    ChatFiles::new(&source)
}

/// What [`plain_chat`] writes before a message.
pub(crate) fn label(role: Role) -> &'static str {
    match role {
        Role::System | Role::Developer => "System",
        Role::User => "User",
        Role::Assistant => "Assistant",
        Role::Tool => "Tool",
    }
}

/// A text as Jinja writes it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
