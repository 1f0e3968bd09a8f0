//! One example as ids, with what is learned of it, cut to a block.

use std::ops::Range;

use taal_tokenizer::Tokenizer;

use crate::chat::{Writer, Written};
use crate::conversation::ConversationExample;
use crate::dialogue::{Conversation, Dialogue};
use crate::error::Result;
use crate::records::Records;
use crate::tokenize::tokenizer_error;

/// An example to train on.
#[derive(Debug, Clone)]
pub(crate) struct Example {
    pub(crate) ids: Vec<u32>,
    /// Positions of ids with a loss, in order. The first id of an example has nothing before it, so it never has one.
    pub(crate) learned: Vec<Range<usize>>,
    /// The last answer, from its first position with a loss to its last.
    pub(crate) answer: Range<usize>,
    /// Bytes of text of the ids with a loss.
    pub(crate) learned_bytes: u64,
    /// Ids that truncation took away.
    pub(crate) lost: usize,
    /// Whether they include the end of the last answer.
    pub(crate) is_answer_cut: bool,
    /// Which file it is from.
    pub(crate) file: u32,
    /// The line on which it begins.
    pub(crate) line: u64,
}

/// What makes ids of rows.
pub(crate) struct Encoder<'a> {
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) writer: Writer<'a>,
    pub(crate) block_size: usize,
}

impl Encoder<'_> {
    /// # Errors
    /// [`DataError::Line`](crate::DataError::Line) where the chat format refuses or loses an answer, and where no token is learned;
    /// the tokenizer's with the line.
    pub(crate) fn encode(&self, records: &mut Records<'_>, line: u64, dialogue: Dialogue) -> Result<Example> {
        let place = records.place(line);
        let ids_of = |text: &str| {
            self.tokenizer
                .encode(text)
                .map_err(|source| tokenizer_error(&place, source))
        };
        let mut example = match dialogue {
            Dialogue::Completion { prompt, completion } => {
                self.completion(ids_of(&prompt)?, ids_of(&completion)?, completion.len() as u64)
            }
            Dialogue::Messages(conversation) => self.messages(records, &conversation, ids_of)?,
        };
        example.line = line;
        if example.counted().next().is_some() {
            return Ok(example);
        }
        Err(records.bad(match example.lost {
            0 => "no token of it is learned: the first token of an example has nothing before it, so an answer of one token needs a \
                  prompt; add one, or leave the row out"
                .to_owned(),
            _ => format!(
                "no token of it is learned: a block of {} has no room for the answer; make train.block_size larger, or leave the row \
                 out",
                self.block_size
            ),
        }))
    }

    /// A prompt and its completion, which are encoded separately.
    fn completion(&self, mut prompt: Vec<u32>, completion: Vec<u32>, completion_bytes: u64) -> Example {
        let begin = beginning(self.tokenizer, &prompt);
        let begin_len = begin.len();
        prompt.splice(0..0, begin);
        let start = prompt.len();
        prompt.extend(completion);
        prompt.extend(self.tokenizer.eos_id());
        let learned = start..prompt.len();
        let mut example = Example::cut(prompt, vec![vec![learned]], begin_len, self.block_size);
        example.learned_bytes = match example.lost > 0 || start == 0 {
            true => example.text_bytes(self.tokenizer),
            false => completion_bytes,
        };
        example
    }

    /// Messages as the chat format writes them.
    fn messages(
        &self,
        records: &mut Records<'_>,
        conversation: &Conversation,
        ids_of: impl Fn(&str) -> Result<Vec<u32>>,
    ) -> Result<Example> {
        let written = self.writer.write(conversation).map_err(|detail| records.bad(detail))?;
        for &key in &written.not_shown {
            records.not_shown(key);
        }
        self.written(written, ids_of)
    }

    /// What a chat format has written.
    pub(crate) fn written(&self, written: Written, ids_of: impl Fn(&str) -> Result<Vec<u32>>) -> Result<Example> {
        let (text, answers) = (written.text, written.answers);
        let (mut ids, mut learned) = (Vec::new(), Vec::with_capacity(answers.len()));
        let mut end = 0;
        for parts in answers {
            let mut positions = Vec::with_capacity(parts.len());
            for part in parts {
                extend(&mut ids, &text[..part.start], &text[end..part.start], &ids_of)?;
                let start = ids.len();
                extend(&mut ids, &text[..part.end], &text[part.clone()], &ids_of)?;
                positions.push(start..ids.len());
                end = part.end;
            }
            learned.push(positions);
        }
        // A model must learn where to stop.
        let eos = self
            .tokenizer
            .eos_id()
            .filter(|_| ids.last().is_none_or(|id| !self.tokenizer.is_special(*id)));
        if let (Some(eos), Some(last)) = (eos, learned.last_mut().and_then(|parts| parts.last_mut())) {
            ids.push(eos);
            last.end = ids.len();
        }
        // As in a chat, the format writes the special tokens that begin a text; they stay where the example is cut.
        let before = self.tokenizer.template().before;
        let begin_len = if ids.starts_with(&before) { before.len() } else { 0 };
        let mut example = Example::cut(ids, learned, begin_len, self.block_size);
        example.learned_bytes = example.text_bytes(self.tokenizer);
        Ok(example)
    }
}

/// Appends the ids of `next`, the end of `text`, to those of the text before it: what the whole text adds where its ids begin with those
/// before, as they do after a special token; otherwise the ids of `next` alone.
fn extend(ids: &mut Vec<u32>, text: &str, next: &str, ids_of: impl Fn(&str) -> Result<Vec<u32>>) -> Result<()> {
    let whole = ids_of(text)?;
    match whole.strip_prefix(ids.as_slice()) {
        Some(added) => ids.extend(added),
        None => ids.extend(ids_of(next)?),
    }
    Ok(())
}

impl Example {
    /// One example of at most `block_size` ids, with the parts of each answer that are learned. A longer one loses its beginning after
    /// the `begin_len` tokens that begin a text, because an answer answers what is before it; a last answer that is too long alone loses
    /// its end. One id stays before the last answer.
    fn cut(mut ids: Vec<u32>, mut answers: Vec<Vec<Range<usize>>>, begin_len: usize, block_size: usize) -> Self {
        let lost = ids.len().saturating_sub(block_size);
        let start_of = |parts: &Vec<Range<usize>>| parts.first().map_or(0, |range| range.start);
        let answer_start = answers.last().map_or(0, start_of);
        let from_front = lost.min(answer_start.saturating_sub(begin_len.max(1)));
        ids.drain(begin_len..begin_len + from_front);
        ids.truncate(block_size);
        let len = ids.len();
        if from_front > 0 {
            // An earlier answer that lost its beginning or its question teaches nothing.
            answers.retain(|parts| start_of(parts) > begin_len + from_front || start_of(parts) == answer_start);
        }
        for parts in &mut answers {
            let moved = |position: usize| position.saturating_sub(from_front).clamp(begin_len, len.max(begin_len));
            parts
                .iter_mut()
                .for_each(|range| *range = moved(range.start)..moved(range.end));
            parts.retain(|range| !range.is_empty());
        }
        let ends = |parts: &Vec<Range<usize>>| Some(parts.first()?.start..parts.last()?.end);
        let answer = answers.last().and_then(ends).unwrap_or_default();
        Self {
            ids,
            learned: answers.into_iter().flatten().collect(),
            answer,
            learned_bytes: 0,
            lost,
            is_answer_cut: lost > from_front,
            file: 0,
            line: 0,
        }
    }

    /// The ids with a loss.
    pub(crate) fn counted(&self) -> impl DoubleEndedIterator<Item = u32> + '_ {
        let positions = self.learned.iter().cloned().flatten();
        positions
            .filter(|position| *position > 0)
            .map(|position| self.ids[position])
    }

    fn text_bytes(&self, tokenizer: &Tokenizer) -> u64 {
        self.counted().map(|id| tokenizer.text_bytes_of(id)).sum()
    }

    /// What identifies the example in row `row`.
    pub(crate) fn bytes_to_hash(&self, row: usize) -> Vec<u8> {
        let start = self.learned.first().map_or(0, |range| range.start);
        let mut numbers = vec![row as u64, start as u64, self.ids.len() as u64];
        if self.learned != std::slice::from_ref(&(start..self.ids.len())) {
            numbers.extend(
                self.learned
                    .iter()
                    .flat_map(|range| [range.start as u64, range.end as u64]),
            );
        }
        let mut bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        bytes.extend(self.ids.iter().flat_map(|id| id.to_le_bytes()));
        bytes
    }
}

impl ConversationExample {
    /// What comes before the last answer, as ids.
    pub fn prompt_ids(&self) -> &[u32] {
        &self.ids[..self.answer.start]
    }

    /// The text of the last answer, without special tokens.
    ///
    /// # Errors
    /// The tokenizer's.
    pub fn answer_text(&self, tokenizer: &Tokenizer) -> taal_tokenizer::Result<String> {
        let ids = self.ids[self.answer.clone()].iter().copied();
        let said: Vec<u32> = ids.filter(|id| !tokenizer.is_special(*id)).collect();
        tokenizer.decode(&said)
    }
}

impl From<Example> for ConversationExample {
    fn from(example: Example) -> Self {
        Self {
            file: example.file as usize,
            line: example.line,
            ids: example.ids,
            learned: example.learned,
            answer: example.answer,
            lost: example.lost,
        }
    }
}

/// The tokens that generation puts before a prompt: the special tokens with which the tokenizer's file begins every text, or, for
/// an empty prompt, the beginning-of-text token.
fn beginning(tokenizer: &Tokenizer, prompt: &[u32]) -> Vec<u32> {
    if prompt.is_empty() {
        return tokenizer.bos_id().into_iter().collect();
    }
    let before = tokenizer.template().before;
    if prompt.starts_with(&before) {
        Vec::new()
    } else {
        before
    }
}
