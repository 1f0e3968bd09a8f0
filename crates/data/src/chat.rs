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

/// Two answers that no conversation gives, without a letter in common at either end: what differs between their renderings is the answer.
const STAND_INS: [&str; 2] = ["answer", "reply"];

/// The text of a conversation and the bytes of it that are learned, in order.
///
/// Where the format marks them, these are the marked ranges of the learned messages. Otherwise each answer is what the text has after
/// the rendering of all messages before it, up to the rendering that ends with it, without white space after the last sign of its end.
/// Where the text has an answer at all is known by rendering the conversation with two others in its place.
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
            .into_iter()
            .zip(ranges)
            .filter(|(index, _)| messages[*index].is_learned);
        let learned: Vec<(usize, Range<usize>)> = learned.collect();
        for (index, range) in &learned {
            if range.is_empty() {
                return Err("the chat template marks an empty answer with {% generation %}".to_owned());
            }
            let place = place(format, messages, *index, &text)?;
            if place.is_none_or(|place| place.start >= range.end || place.end <= range.start) {
                return Err(format!(
                    "{}, or not between its {{% generation %}} marks",
                    lost(messages, *index)
                ));
            }
        }
        return Ok((text, learned.into_iter().map(|(_, range)| range).collect()));
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

/// What to do about an answer that the text does not have.
fn lost(messages: &[Message], index: usize) -> String {
    format!(
        "the chat template loses message {} (assistant): name a template that writes it in data.chat_template, or leave the row out; \
         {} is not in its text",
        index + 1,
        taal_store::excerpt(messages[index].content.trim())
    )
}

/// The part of a text that is another one where the answer at `index` is another one; `None` where no part is.
fn place(
    format: &dyn ChatFormat,
    messages: &[Message],
    index: usize,
    text: &str,
) -> Result<Option<Range<usize>>, String> {
    let mut others = messages.to_vec();
    let mut renderings = Vec::with_capacity(STAND_INS.len());
    for stand_in in STAND_INS {
        stand_in.clone_into(&mut others[index].content);
        renderings.push(format.render(&others, false)?);
    }
    if renderings[0] == renderings[1] {
        return Ok(None);
    }
    let pairs = [
        (text, &*renderings[0]),
        (text, &*renderings[1]),
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
    let mut end = text.len() - pairs.iter().map(common).min().unwrap_or(0);
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    while !text.is_char_boundary(end) {
        end += 1;
    }
    Ok(Some(start..end))
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
    let lost = || lost(messages, index);
    let place = place(format, messages, index, text)?.ok_or_else(lost)?;
    // A template may refuse a part of a conversation that it writes as a whole, such as one without a question.
    let before = format.render(&messages[..index], true).ok();
    let before = before.filter(|before| text.starts_with(before.as_str()) && before.len() >= from);
    let begin = before.as_ref().map_or(from, String::len);
    let inside = text[place.clone()].match_indices(content);
    let inside = inside.map(|(at, _)| place.start + at);
    // A template that splits an answer, at the end of what was thought, may write the beginning of both others with it.
    let across = text[from..].match_indices(content).map(|(at, _)| from + at);
    let across = across.filter(|at| *at < place.end && at + content.len() > place.start);
    let found = inside
        .chain(across)
        .find(|at| *at >= from && at + content.len() > begin)
        .ok_or_else(lost)?;
    let content_end = found + content.len();
    // A template may render an earlier answer differently from the last one, or begin one with a thought that this answer does not
    // have; then only its content is sure.
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
