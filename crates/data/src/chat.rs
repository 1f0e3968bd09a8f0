//! Conversations as text: how a chat format writes messages, and where the answers are in what it wrote.

use std::fmt::Debug;
use std::ops::Range;

use taal_tokenizer::chat::{Json, with_other_arguments};

use crate::dialogue::Conversation;
use crate::message::{Message, Role, json_text};
use crate::skeleton::Skeletons;

/// A text, and the byte ranges of it that the assistant generates.
pub type Marked = (String, Vec<Range<usize>>);

/// Turns messages into the text that a model reads, with all special tokens that it needs. `tools` are the JSON schemas of functions that
/// the assistant may call; most conversations have none.
pub trait ChatFormat: Debug + Send + Sync {
    /// The text of messages; `with_answer_start` adds what comes before an answer of the assistant.
    ///
    /// # Errors
    /// What is wrong with the messages, in words.
    fn render(&self, messages: &[Message], tools: &[Json], with_answer_start: bool) -> Result<String, String>;

    /// The text of messages and where it marks what the assistant generates (`{% generation %}` of a chat template); no range where it
    /// marks nothing.
    ///
    /// # Errors
    /// As [`render`](Self::render).
    fn marked(&self, messages: &[Message], tools: &[Json]) -> Result<Marked, String> {
        Ok((self.render(messages, tools, false)?, Vec::new()))
    }
}

/// The parts of an answer that are learned, as bytes of a text, in order.
pub(crate) type Parts = Vec<Range<usize>>;

/// A conversation as text.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) text: String,
    /// The parts of each learned answer.
    pub(crate) answers: Vec<Parts>,
    /// Keys of the row of which the text has nothing.
    pub(crate) not_shown: Vec<&'static str>,
}

/// Writes conversations, and finds the answers in their texts.
///
/// Where the format marks them, these are the marked parts of the learned messages. Otherwise each answer is what the text has after the
/// rendering of all messages before it, up to the rendering that ends with it, without white space after the last sign of its end. Where
/// the text has an answer at all is known by rendering the conversation with two others in its place.
///
/// A conversation with the roles of an earlier one is rendered once where its text is that of the earlier one with its own messages
/// ([`Skeletons`]).
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    format: &'a dyn ChatFormat,
    skeletons: Skeletons,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(format: &'a dyn ChatFormat) -> Self {
        Self {
            format,
            skeletons: Skeletons::default(),
        }
    }

    /// # Errors
    /// The format's words, or which answer the text does not have.
    pub(crate) fn write(&self, conversation: &Conversation) -> Result<Written, String> {
        let Conversation { messages, tools } = conversation;
        let marked = self.format.marked(messages, tools);
        let (text, marks) =
            marked.map_err(|error| format!("{error}; name another template ({TEMPLATES}), or leave the row out"))?;
        let is_plain = tools.is_empty() && messages.iter().all(Message::is_plain);
        let known = is_plain.then(|| self.skeletons.answers(messages, &text, &marks));
        if let Some(answers) = known.flatten() {
            return Ok(Written {
                text,
                answers,
                not_shown: Vec::new(),
            });
        }
        let rendered = Rendered {
            format: self.format,
            messages,
            tools,
            text: &text,
        };
        let answers = rendered.answers(&marks)?;
        if is_plain {
            self.skeletons.see(self.format, messages, &text, &marks, &answers);
        }
        let not_shown = rendered.not_shown();
        Ok(Written {
            text,
            answers,
            not_shown,
        })
    }
}

/// Two answers that no conversation gives, without a letter in common at either end: what differs between their renderings is the answer.
const STAND_INS: [&str; 2] = ["answer", "reply"];

/// Where templates are named.
const TEMPLATES: &str = "data.chat_template of a recipe, chat_template.jinja of a model";

/// What a message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Content,
    Calls,
}

/// Where a text has what a message says; `None` where it loses it.
type Places = Vec<(Said, Option<Range<usize>>)>;

/// A conversation and its text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rendered<'a> {
    pub(crate) format: &'a dyn ChatFormat,
    pub(crate) messages: &'a [Message],
    pub(crate) tools: &'a [Json],
    pub(crate) text: &'a str,
}

impl Rendered<'_> {
    /// The parts of each learned answer; `marks` are those of the format.
    ///
    /// # Errors
    /// The format's words, or which answer the text does not have.
    pub(crate) fn answers(&self, marks: &[Range<usize>]) -> Result<Vec<Parts>, String> {
        if !marks.is_empty() {
            return self.marked(marks);
        }
        let mut from = 0;
        let learned = self.spoken().filter(|index| self.messages[*index].is_learned);
        let found = learned.map(|index| {
            let range = self.answer(index, from)?;
            from = range.end;
            Ok(vec![range])
        });
        found.collect()
    }

    /// The messages of the assistant.
    fn spoken(&self) -> impl Iterator<Item = usize> {
        (0..self.messages.len()).filter(|index| self.messages[*index].role == Role::Assistant)
    }

    /// The marked parts of each learned answer.
    fn marked(&self, marks: &[Range<usize>]) -> Result<Vec<Parts>, String> {
        let spoken: Vec<usize> = self.spoken().collect();
        let n_learned = spoken.iter().filter(|index| self.messages[**index].is_learned).count();
        if marks.len() < n_learned {
            return Err(format!(
                "the chat template marks {} with {{% generation %}}, but the conversation has {n_learned} answers to learn",
                match marks.len() {
                    1 => "1 part of the text".to_owned(),
                    count => format!("{count} parts of the text"),
                }
            ));
        }
        // Most templates have one mark per answer.
        if marks.len() == spoken.len() {
            let found = self.parts_of(&spoken, marks);
            if found.is_ok() {
                return found;
            }
        }
        self.parts_of(&self.owners(&spoken, marks)?, marks)
    }

    /// The marked parts of each learned answer, given the message that each mark belongs to.
    fn parts_of(&self, owners: &[usize], marks: &[Range<usize>]) -> Result<Vec<Parts>, String> {
        let learned = self.spoken().filter(|index| self.messages[*index].is_learned);
        let parts = learned.map(|index| {
            let own = owners.iter().zip(marks).filter(|(owner, _)| **owner == index);
            let mut parts = Parts::new();
            for mark in own.map(|(_, mark)| mark).filter(|mark| !mark.is_empty()) {
                match parts.last_mut() {
                    Some(last) if last.end == mark.start => last.end = mark.end,
                    _ => parts.push(mark.clone()),
                }
            }
            for (said, place) in self.places(index)? {
                let is_in = |part: &Range<usize>, place: &Range<usize>| {
                    place.start < part.end && part.start < place.end.max(place.start + 1)
                };
                if place.is_none_or(|place| !parts.iter().any(|part| is_in(part, &place))) {
                    return Err(format!(
                        "{}, or not between its {{% generation %}} marks",
                        self.lost(index, said)
                    ));
                }
            }
            Ok(parts)
        });
        parts.collect()
    }

    /// The message of the assistant that each mark belongs to: the one that is written in it, or else the one on the same side of what
    /// others say.
    fn owners(&self, spoken: &[usize], marks: &[Range<usize>]) -> Result<Vec<usize>, String> {
        let mut written: Vec<(usize, Range<usize>)> = Vec::with_capacity(spoken.len());
        for &index in spoken {
            for said in [Said::Content, Said::Calls] {
                written.extend(self.place(index, said)?.map(|place| (index, place)));
            }
        }
        let owner = |mark: &Range<usize>| -> Result<usize, String> {
            let is_in = |(_, place): &&(usize, Range<usize>)| place.start < mark.end && mark.start < place.end;
            if let Some((index, _)) = written.iter().find(is_in) {
                return Ok(*index);
            }
            let before = written
                .iter()
                .filter(|(_, place)| place.end <= mark.start)
                .map(|(index, _)| *index);
            let after = written
                .iter()
                .filter(|(_, place)| place.start >= mark.end)
                .map(|(index, _)| *index);
            match (before.max(), after.min()) {
                (Some(before), Some(after)) => {
                    for other in before + 1..after {
                        if let Some(place) = self.place(other, Said::Content)? {
                            return Ok(if place.start >= mark.end { before } else { after });
                        }
                    }
                    Ok(before)
                }
                (Some(only), None) | (None, Some(only)) => Ok(only),
                // The text has no answer at all, which is told of the first learned one.
                (None, None) => Ok(0),
            }
        };
        marks.iter().map(owner).collect()
    }

    /// Where the text has what a message says.
    fn places(&self, index: usize) -> Result<Places, String> {
        let message = &self.messages[index];
        let has_content = !message.content.trim().is_empty() || message.tool_calls.is_none();
        let said = has_content.then_some(Said::Content).into_iter();
        let said = said.chain(message.tool_calls.is_some().then_some(Said::Calls));
        said.map(|said| Ok((said, self.place(index, said)?))).collect()
    }

    /// What to do about an answer that the text does not have.
    fn lost(&self, index: usize, said: Said) -> String {
        let message = &self.messages[index];
        let number = index + 1;
        match (said, &message.tool_calls) {
            (Said::Calls, Some(calls)) => format!(
                "the chat template loses the calls of message {number} (assistant): name a template that writes `tool_calls` \
                 ({TEMPLATES}), write them as text into its content, or leave the row out; {} is not in its text",
                taal_store::excerpt(&json_text(calls))
            ),
            _ => format!(
                "the chat template loses message {number} (assistant): name a template that writes it ({TEMPLATES}), or leave the row \
                 out; {} is not in its text",
                taal_store::excerpt(message.content.trim())
            ),
        }
    }

    /// The part of the text that is another one where the message at `index` says something else; `None` where no part is, or the message
    /// has no such thing.
    fn place(&self, index: usize, said: Said) -> Result<Option<Range<usize>>, String> {
        let mut others = self.messages.to_vec();
        let mut renderings = Vec::with_capacity(STAND_INS.len());
        for stand_in in STAND_INS {
            match (said, &self.messages[index].tool_calls) {
                (Said::Content, _) => stand_in.clone_into(&mut others[index].content),
                (Said::Calls, Some(calls)) => others[index].tool_calls = Some(with_other_arguments(calls, stand_in)),
                (Said::Calls, None) => return Ok(None),
            }
            renderings.push(self.format.render(&others, self.tools, false)?);
        }
        if renderings[0] == renderings[1] {
            return Ok(None);
        }
        let pairs = [
            (self.text, &*renderings[0]),
            (self.text, &*renderings[1]),
            (&*renderings[0], &*renderings[1]),
        ];
        let common = |(a, b): &(&str, &str)| a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
        let mut start = pairs.iter().map(common).min().unwrap_or(0);
        let common = |(a, b): &(&str, &str)| {
            let both = a.bytes().rev().zip(b.bytes().rev());
            both.take(a.len().min(b.len()) - start)
                .take_while(|(a, b)| a == b)
                .count()
        };
        let mut end = self.text.len() - pairs.iter().map(common).min().unwrap_or(0);
        while !self.text.is_char_boundary(start) {
            start -= 1;
        }
        while !self.text.is_char_boundary(end) {
            end += 1;
        }
        Ok(Some(start..end))
    }

    /// Where the text has the answer at `index`, after byte `from`.
    fn answer(&self, index: usize, from: usize) -> Result<Range<usize>, String> {
        let (text, message) = (self.text, &self.messages[index]);
        let places = self.places(index)?;
        // A template may refuse a part of a conversation that it writes as a whole, such as one without a question.
        let before = self.format.render(&self.messages[..index], self.tools, true).ok();
        let before = before.filter(|before| text.starts_with(before.as_str()) && before.len() >= from);
        let begin = before.as_ref().map_or(from, String::len);
        let (mut start, mut end) = (usize::MAX, 0);
        for (said, place) in places {
            let lost = || self.lost(index, said);
            let place = place.ok_or_else(lost)?;
            let found = match said {
                Said::Calls => Some(place).filter(|place| place.end > begin),
                Said::Content => self.content(index, &place, from, begin),
            };
            let found = found.ok_or_else(lost)?;
            (start, end) = (start.min(found.start), end.max(found.end));
        }
        // A template may render an earlier answer differently from the last one, or begin one with a thought that this answer does not
        // have; then only its content is sure.
        if before.is_some() {
            start = begin;
        } else if message.tool_calls.is_some() {
            return Err(self.unsure(index));
        }
        let after = match index + 1 == self.messages.len() {
            true => Some(text.to_owned()),
            false => self.format.render(&self.messages[..=index], self.tools, false).ok(),
        };
        let same = after
            .as_ref()
            .filter(|after| text.starts_with(after.as_str()) && after.len() >= end);
        let tail = match same {
            Some(after) => &text[end..after.len()],
            None if message.tool_calls.is_none() => return Ok(start..end),
            // Of calls, what differs is only the inner part.
            None => {
                let tail = after.and_then(|after| tail_of(text, start..end, &after));
                tail.ok_or_else(|| self.unsure(index))?
            }
        };
        Ok(match tail.trim_end() {
            "" => start..end + tail.len(),
            sign => start..end + sign.len(),
        })
    }

    /// Where the text has the content of a message, which is written around `place`.
    fn content(&self, index: usize, place: &Range<usize>, from: usize, begin: usize) -> Option<Range<usize>> {
        let content = self.messages[index].content.trim();
        let inside = self.text[place.clone()].match_indices(content);
        let inside = inside.map(|(at, _)| place.start + at);
        // A template that splits an answer, at the end of what was thought, may write the beginning of both others with it.
        let across = self.text[from..].match_indices(content).map(|(at, _)| from + at);
        let across = across.filter(|at| *at < place.end && at + content.len() > place.start);
        let found = inside
            .chain(across)
            .find(|at| *at >= from && at + content.len() > begin)?;
        Some(found..found + content.len())
    }

    /// Why the ends of calls are not known.
    fn unsure(&self, index: usize) -> String {
        format!(
            "where the calls of message {} (assistant) begin or end is not known, because the chat template writes a conversation \
             otherwise where it ends with them: name a template with {{% generation %}} marks ({TEMPLATES}), or leave the row out",
            index + 1
        )
    }

    /// Keys of which the text has nothing: tools, and calls that are not learned.
    fn not_shown(&self) -> Vec<&'static str> {
        let mut keys = Vec::new();
        let has_none = |text: String| text == self.text;
        // A template that refuses the conversation without its tools uses them.
        if !self.tools.is_empty() && self.format.render(self.messages, &[], false).is_ok_and(has_none) {
            keys.push("tools");
        }
        let mut others = self.spoken().filter(|index| !self.messages[*index].is_learned);
        let is_lost =
            |index: usize| self.messages[index].tool_calls.is_some() && self.place(index, Said::Calls) == Ok(None);
        if others.any(is_lost) {
            keys.push("tool_calls");
        }
        keys
    }
}

/// What follows the calls in a part of a text, given a rendering that ends with them and may begin with a thought.
fn tail_of<'a>(text: &'a str, part: Range<usize>, after: &str) -> Option<&'a str> {
    let said = text[part.clone()].trim_start();
    let (at, _) = after.rmatch_indices(said).next()?;
    let sign = after[at + said.len()..].trim_end();
    let tail = &text[part.end..];
    tail.starts_with(sign).then(|| &tail[..sign.len()])
}
