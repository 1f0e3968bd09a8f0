//! Reading sources: lines to token ids, in parts where a line is longer than the model reads.

use std::ops::Range;

use taal_tokenizer::Tokenizer;

use crate::{InferenceError, LanguageModel, Prompt, Result};

/// A source that was read; empty lines have no parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The source as it was given.
    pub(super) text: String,
    pub(super) parts: Vec<Part>,
}

impl Line {
    /// In how many parts it is translated: 0 without text, more than 1 where it is longer than the model reads.
    pub fn n_parts(&self) -> usize {
        self.parts.len()
    }
}

/// A text that the model reads at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Part {
    /// What the model reads.
    pub(super) ids: Vec<u32>,
    /// The text of the ids but the first [`before`](Self::before) of them, and of those after it.
    pub(super) text: String,
    /// Where the source is in that text: all of it, unless it is in a prompt.
    pub(super) source: Range<usize>,
    /// How many special ids are before the text.
    pub(super) before: usize,
    /// How many ids the text has.
    pub(super) n_tokens: usize,
    /// Places of the unknown token among the ids.
    pub(super) unknown: Vec<usize>,
}

/// Turns lines into what a model reads.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    lm: &'a LanguageModel,
    tokenizer: &'a Tokenizer,
    /// The most ids of a part.
    limit: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(lm: &'a LanguageModel, tokenizer: &'a Tokenizer) -> Self {
        let context = lm.model.config().context_limit().unwrap_or(usize::MAX);
        Self {
            lm,
            tokenizer,
            // Without an encoder the translation has to fit as well.
            limit: match lm.model.is_encoder_decoder() {
                true => context,
                false => context / 2,
            },
        }
    }

    pub(super) fn read(&self, source: &str) -> Result<Line> {
        let normalized = self.lm.normalized(source);
        let text = normalized.trim();
        Ok(Line {
            text: source.to_owned(),
            parts: match text.is_empty() {
                true => Vec::new(),
                false => self.parts(text)?,
            },
        })
    }

    /// The text as one part, or as few as possible that end where sentences do.
    fn parts(&self, text: &str) -> Result<Vec<Part>> {
        let whole = self.part(text)?;
        if whole.ids.len() <= self.limit {
            return Ok(if whole.n_tokens == 0 { Vec::new() } else { vec![whole] });
        }
        let mut parts: Vec<Part> = Vec::new();
        let mut open: Option<(Range<usize>, Part)> = None;
        for sentence in sentences(text) {
            let begin = open.as_ref().map_or(sentence.start, |(range, _)| range.start);
            let longer = self.part(&text[begin..sentence.end])?;
            if longer.ids.len() <= self.limit {
                open = Some((begin..sentence.end, longer));
                continue;
            }
            parts.extend(open.take().map(|(_, part)| part));
            let alone = self.part(&text[sentence.clone()])?;
            if alone.ids.len() > self.limit {
                return Err(InferenceError::SentenceTooLong {
                    place: String::new(),
                    tokens: alone.ids.len(),
                    context: self.limit,
                });
            }
            open = Some((sentence, alone));
        }
        parts.extend(open.map(|(_, part)| part));
        Ok(parts)
    }

    fn part(&self, source: &str) -> Result<Part> {
        let (text, start) = match &self.lm.translation {
            Some(facts) if !self.lm.model.is_encoder_decoder() => facts.prompt_of(source),
            _ => (source.to_owned(), 0),
        };
        let inner = self.tokenizer.encode(&text)?;
        let (ids, before) = match self.lm.model.is_encoder_decoder() {
            true => {
                let frame = self.tokenizer.frame();
                (frame.around(&inner), frame.before.len())
            }
            false => {
                let ids = self.lm.prompt_ids(&Prompt::Text(text.clone()))?;
                let before = ids.len().saturating_sub(inner.len());
                (ids, before)
            }
        };
        self.lm.check_ids(&ids, "token id")?;
        let unknown = self.tokenizer.unk_id();
        let places = 0..ids.len();
        Ok(Part {
            unknown: places.filter(|place| unknown == Some(ids[*place])).collect(),
            n_tokens: inner.len(),
            ids,
            source: start..start + source.len(),
            text,
            before,
        })
    }
}

/// The sentences of a text, without the white space between them: one ends with a mark such as a period, after which there may be closing
/// quotes and brackets, before white space.
pub(super) fn sentences(text: &str) -> Vec<Range<usize>> {
    let is_end = |letter: char| matches!(letter, '.' | '!' | '?' | '…' | '。' | '！' | '？');
    let is_closing = |letter: char| matches!(letter, '"' | '\'' | ')' | ']' | '”' | '’' | '»');
    let mut found = Vec::new();
    let mut start = None;
    let mut is_over = false;
    for (place, letter) in text.char_indices() {
        if letter.is_whitespace() {
            if is_over && let Some(start) = start.take() {
                found.push(start..place);
                is_over = false;
            }
            continue;
        }
        start = start.or(Some(place));
        is_over = is_end(letter) || (is_over && is_closing(letter));
    }
    found.extend(start.map(|start| start..text.trim_end().len()));
    found
}

#[cfg(test)]
mod tests {
    use super::sentences;

    #[test]
    fn sentences_end_with_a_mark_before_white_space() {
        let found =
            |text: &'static str| -> Vec<&str> { sentences(text).into_iter().map(|range| &text[range]).collect() };
        assert_eq!(found("Een. Twee!  Drie?"), ["Een.", "Twee!", "Drie?"]);
        assert_eq!(found("Hij zei: \"Ja.\" Toen niets"), ["Hij zei: \"Ja.\"", "Toen niets"]);
        assert_eq!(found("3.5 km ... verder"), ["3.5 km ...", "verder"]);
        assert_eq!(found("zonder einde "), ["zonder einde"]);
        assert_eq!(found("Ja.) nee"), ["Ja.)", "nee"]);
        assert!(found("  ").is_empty());
    }
}
