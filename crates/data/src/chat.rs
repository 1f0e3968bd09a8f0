//! Conversations as text: how a chat format writes messages, and where the answers are in what it wrote.

use std::fmt::Debug;
use std::ops::Range;

use crate::dialogue::{Message, Role};

/// A text, and the byte ranges of it that the assistant generates.
pub type Marked = (String, Vec<Range<usize>>);

/// Turns messages into the text that a model reads, with all special tokens that it needs.
pub trait ChatFormat: Debug + Send + Sync {
    /// The text of messages; `with_answer_start` adds what comes before an answer of the assistant.
    ///
    /// # Errors
    /// What is wrong with the messages, in words.
    fn render(&self, messages: &[Message], with_answer_start: bool) -> Result<String, String>;

    /// The text of messages and where it marks what the assistant generates (`{% generation %}` of a chat template); `None` where it
    /// marks nothing.
    ///
    /// # Errors
    /// As [`render`](Self::render).
    fn marked(&self, _messages: &[Message]) -> Result<Option<Marked>, String> {
        Ok(None)
    }
}

/// The text of a conversation and the bytes of it that are learned, in order.
///
/// Where the format marks them, these are the marked ranges of the learned messages. Otherwise each answer is what the text has after
/// the rendering of all messages before it, up to the rendering that ends with it, without white space after the last sign of its end.
///
/// # Errors
/// The format's words, or which answer the text does not have.
pub(crate) fn answers(format: &dyn ChatFormat, messages: &[Message]) -> Result<(String, Vec<Range<usize>>), String> {
    let spoken: Vec<usize> = (0..messages.len())
        .filter(|index| messages[*index].role == Role::Assistant)
        .collect();
    if let Some((text, ranges)) = format.marked(messages)? {
        if ranges.len() != spoken.len() {
            return Err(format!(
                "the chat template marks {} answers with {{% generation %}}, but the conversation has {}",
                ranges.len(),
                spoken.len()
            ));
        }
        let learned = spoken
            .iter()
            .zip(ranges)
            .filter(|(index, _)| messages[**index].is_learned);
        let ranges: Vec<Range<usize>> = learned.map(|(_, range)| range).collect();
        return match ranges.iter().any(Range::is_empty) {
            true => Err("the chat template marks an empty answer with {% generation %}".to_owned()),
            false => Ok((text, ranges)),
        };
    }
    let text = format.render(messages, false)?;
    let mut ranges = Vec::new();
    let mut from = 0;
    for index in spoken.into_iter().filter(|index| messages[*index].is_learned) {
        let range = answer(format, messages, index, &text, from)?;
        from = range.end;
        ranges.push(range);
    }
    Ok((text, ranges))
}

/// Where the text of a conversation has the answer at `index`, after byte `from`.
fn answer(
    format: &dyn ChatFormat,
    messages: &[Message],
    index: usize,
    text: &str,
    from: usize,
) -> Result<Range<usize>, String> {
    let content = messages[index].content.trim();
    let lost = || {
        format!(
            "the chat template loses message {} (assistant): {} is not in its text; name a template that writes it in \
             data.chat_template, or leave the row out",
            index + 1,
            taal_store::excerpt(content)
        )
    };
    // A template may refuse a part of a conversation that it writes as a whole, such as one without a question.
    let before = format.render(&messages[..index], true).ok();
    let before = before.filter(|before| text.starts_with(before.as_str()) && before.len() >= from);
    let begin = before.as_ref().map_or(from, String::len);
    let found = begin + text[begin..].find(content).ok_or_else(lost)?;
    let content_end = found + content.len();
    // A template may render an earlier answer differently from the last one; then only its content is sure.
    let start = if before.is_some() { begin } else { found };
    let after = format.render(&messages[..=index], false).ok();
    let after = after.filter(|after| text.starts_with(after.as_str()) && after.len() >= content_end);
    let Some(after) = after else {
        return Ok(start..content_end);
    };
    let tail = &text[content_end..after.len()];
    let end = match tail.trim_end() {
        "" => after.len(),
        sign => content_end + sign.len(),
    };
    Ok(start..end)
}
