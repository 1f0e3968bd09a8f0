//! How a model is asked the questions of a task: with a text as it is, or with messages that a chat template writes as in training.

use std::borrow::Cow;
use std::collections::BTreeMap;

use taal_data::{Conversation, Message, Role};
use taal_inference::{InferenceError, LanguageModel, Prompt};
use taal_tokenizer::Tokenizer;
use taal_tokenizer::chat::{ChatTemplate, Json};

use crate::task::Task;
use crate::{EvaluationError, Result};

/// A question.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskItem {
    /// What the model continues, the template around it; of messages their text after the names of their roles.
    pub prompt: String,
    /// The same as ids, where they are not those of the text.
    pub prompt_ids: Option<Vec<u32>>,
    /// The messages that are the prompt, and the right answer where it is a message too; `None` where the prompt is a text.
    pub conversation: Option<Conversation>,
    /// Functions that the answer to a text may call, as JSON schemas.
    pub tools: Vec<Json>,
    /// Right answers, at least one; of a message its text, and its calls as JSON.
    pub references: Vec<String>,
    /// The line of the task's data that has it, or the first one of several.
    pub line: Option<usize>,
}

impl TaskItem {
    /// A text and its right answers.
    pub fn new(prompt: impl Into<String>, references: Vec<String>) -> Self {
        Self {
            prompt: prompt.into(),
            prompt_ids: None,
            conversation: None,
            tools: Vec::new(),
            references,
            line: None,
        }
    }

    /// Messages, and right answers where they do not end with one.
    pub(crate) fn of_conversation(conversation: Conversation, references: Vec<String>, line: u64) -> Self {
        let answer = conversation.answer().map(Message::text);
        let references = answer.map_or(references, |answer| vec![answer]);
        let prompt = conversation.asked_text();
        Self {
            conversation: Some(conversation),
            line: Some(usize::try_from(line).unwrap_or(usize::MAX)),
            ..Self::new(prompt, references)
        }
    }

    fn has_tools(&self) -> bool {
        let of_messages = self.conversation.as_ref();
        !self.tools.is_empty() || of_messages.is_some_and(|conversation| !conversation.tools.is_empty())
    }
}

/// What a model is given.
pub(crate) struct Asked {
    pub(crate) prompt: Prompt,
    /// The right answer as the chat template writes it, where it is a message, and others as they are.
    pub(crate) written: Vec<String>,
}

/// Asks a model the questions of a task.
pub(crate) struct Asker<'a> {
    lm: &'a LanguageModel,
    task: &'a Task,
    /// The chat template and the tokenizer of its text, if it writes the prompts.
    chat: Option<(ChatTemplate, &'a Tokenizer)>,
    /// Questions of which the model is not shown what each key of their rows has.
    not_shown: BTreeMap<&'static str, usize>,
}

impl<'a> Asker<'a> {
    /// # Errors
    ///
    /// The tokenizer crate's, where there is no template or it is faulty; [`InferenceError::NoTokenizer`].
    pub(crate) fn new(lm: &'a LanguageModel, task: &'a Task) -> Result<Self> {
        let tokenizer = || {
            let tokenizer = lm.tokenizer.as_ref();
            tokenizer.ok_or(InferenceError::NoTokenizer { purpose: "a chat" })
        };
        let chat = match task.is_chat_with(lm) {
            false => None,
            // As training writes messages for a model without a template.
            true if lm.chat.is_empty() && task.has_messages() => {
                let tokenizer = tokenizer()?;
                Some((taal_data::plain_chat(tokenizer).template()?, tokenizer))
            }
            true => Some((lm.chat_template()?, tokenizer()?)),
        };
        Ok(Self {
            lm,
            task,
            chat,
            not_shown: BTreeMap::new(),
        })
    }

    /// The special token that ends an answer.
    pub(crate) fn end_of_turn(&self) -> Option<String> {
        let (template, _) = self.chat.as_ref()?;
        self.lm.end_of_turn(template)
    }

    /// The `number`th question.
    ///
    /// # Errors
    ///
    /// [`EvaluationError::Line`] where the chat template refuses a question or loses its answer.
    pub(crate) fn asked(&mut self, item: &TaskItem, number: usize) -> Result<Asked> {
        let as_it_is = |prompt| Asked {
            prompt,
            written: Vec::new(),
        };
        if let Some(ids) = &item.prompt_ids {
            return Ok(as_it_is(Prompt::Ids(ids.clone())));
        }
        let Some((template, tokenizer)) = &self.chat else {
            if item.has_tools() {
                *self.not_shown.entry("tools").or_default() += 1;
            }
            return Ok(as_it_is(Prompt::Text(item.prompt.clone())));
        };
        let conversation = match &item.conversation {
            Some(conversation) => self.normalized(conversation),
            None => Cow::Owned(Conversation {
                messages: vec![Message::new(Role::User, self.lm.normalized(&item.prompt))],
                tools: item.tools.clone(),
            }),
        };
        let question = conversation.question(tokenizer, template);
        let question = question.map_err(|detail| self.task.bad_item(detail, item, number))?;
        for key in question.not_shown {
            *self.not_shown.entry(key).or_default() += 1;
        }
        Ok(Asked {
            prompt: Prompt::Ids(question.prompt_ids),
            // Rows of a set with the same prompt have one question, each with its own answer.
            written: match question.answer {
                Some(answer) => std::iter::once(answer)
                    .chain(item.references.iter().skip(1).cloned())
                    .collect(),
                None => Vec::new(),
            },
        })
    }

    /// A sentence about what the model is not shown.
    pub(crate) fn warning(&self) -> Option<String> {
        let why = match self.chat {
            Some(_) => "the chat template does not write them",
            None => "no chat template writes the prompts",
        };
        let keys = self.not_shown.iter().map(|(key, count)| {
            let questions = if *count == 1 { "question" } else { "questions" };
            format!("the `{key}` of {count} {questions} are not shown to the model, because {why}")
        });
        let warning = keys.collect::<Vec<String>>().join("; ");
        (!warning.is_empty()).then_some(warning)
    }

    /// A conversation with the line ends that the model reads.
    fn normalized<'c>(&self, conversation: &'c Conversation) -> Cow<'c, Conversation> {
        let is_same = |message: &Message| matches!(self.lm.normalized(&message.content), Cow::Borrowed(_));
        if conversation.messages.iter().all(is_same) {
            return Cow::Borrowed(conversation);
        }
        let mut changed = conversation.clone();
        for message in &mut changed.messages {
            message.content = self.lm.normalized(&message.content).into_owned();
        }
        Cow::Owned(changed)
    }
}

impl Task {
    /// Whether prompts or answers are messages, which a chat template writes.
    pub fn has_messages(&self) -> bool {
        self.items.iter().any(|item| item.conversation.is_some())
    }

    /// An error about a question, the `number`th, with its file and line.
    fn bad_item(&self, detail: String, item: &TaskItem, number: usize) -> EvaluationError {
        match (&self.data, item.line) {
            (Some(path), Some(line)) => EvaluationError::Line {
                path: path.clone(),
                line,
                detail,
            },
            _ => EvaluationError::Task {
                path: self.name.clone().into(),
                detail: format!("question {number}: {detail}"),
            },
        }
    }
}
