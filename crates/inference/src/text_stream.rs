//! From new tokens to text, with stop strings.

use std::collections::VecDeque;

use taal_tokenizer::DecodeStream;

use crate::generate::GenerateOptions;
use crate::stop::{Passed, StopFilter};
use crate::{LanguageModel, Result};

/// The text of a continuation, as a stream.
pub(crate) struct TextStream<'a> {
    /// `None` without a tokenizer, or after a stop string.
    words: Option<Words<'a>>,
    text: Option<String>,
}

/// The output text, and the text that is searched for stop strings.
struct Words<'a> {
    output: DecodeStream<'a>,
    watched: Option<Watched<'a>>,
}

/// The text with its special tokens, so that a stop string can name them.
struct Watched<'a> {
    /// `None` where the output includes special tokens: it is the same text.
    stream: Option<DecodeStream<'a>>,
    filter: StopFilter<'a>,
    held: VecDeque<Held>,
}

/// The text of a token that is held back.
struct Held {
    watched: String,
    output: String,
    /// Whether the two differ, so that offsets in one do not apply to the other.
    is_apart: bool,
}

impl<'a> TextStream<'a> {
    pub(crate) fn new(lm: &'a LanguageModel, prompt_ids: &[u32], options: &'a GenerateOptions) -> Result<Self> {
        let words = match &lm.tokenizer {
            None => None,
            Some(tokenizer) => {
                let shown = || tokenizer.decode_stream().with_special().after(prompt_ids);
                let watched = || -> Result<Watched<'a>> {
                    Ok(Watched {
                        stream: (!options.show_special).then(shown).transpose()?,
                        filter: StopFilter::new(&options.stop),
                        held: VecDeque::new(),
                    })
                };
                Some(Words {
                    output: match options.show_special {
                        true => shown()?,
                        false => tokenizer.decode_stream().after(prompt_ids)?,
                    },
                    watched: (!options.stop.is_empty()).then(watched).transpose()?,
                })
            }
        };
        Ok(Self {
            text: words.as_ref().map(|_| String::new()),
            words,
        })
    }

    /// Takes a new token; returns the text that is certain now, and whether the token completes a stop string.
    pub(crate) fn push(&mut self, id: u32) -> Result<(String, bool)> {
        let Some(mut words) = self.words.take() else {
            return Ok((String::new(), false));
        };
        let output = words.output.push(id)?.unwrap_or_default();
        let Some(watched) = &mut words.watched else {
            self.words = Some(words);
            return Ok((self.output(output), false));
        };
        let shown = match &mut watched.stream {
            Some(stream) => stream.push(id)?.unwrap_or_default(),
            None => output.clone(),
        };
        let (text, is_stopped) = watched.take(shown, output);
        self.words = (!is_stopped).then_some(words);
        Ok((self.output(text), is_stopped))
    }

    /// The text that was still held back, and whether its last characters completed a stop string.
    pub(crate) fn finish(&mut self) -> Result<(String, bool)> {
        let Some(words) = self.words.take() else {
            return Ok((String::new(), false));
        };
        let output = words.output.finish()?;
        let Some(mut watched) = words.watched else {
            return Ok((self.output(output), false));
        };
        let shown = match watched.stream.take() {
            Some(stream) => stream.finish()?,
            None => output.clone(),
        };
        let (mut text, is_stopped) = watched.take(shown, output);
        if !is_stopped {
            text.extend(watched.held.into_iter().map(|held| held.output));
        }
        Ok((self.output(text), is_stopped))
    }

    /// All text so far; `None` without a tokenizer.
    pub(crate) fn text(&self) -> Option<String> {
        self.text.clone()
    }

    fn output(&mut self, piece: String) -> String {
        if let Some(text) = &mut self.text {
            text.push_str(&piece);
        }
        piece
    }
}

impl Watched<'_> {
    /// The text that may be output now, and whether a stop string follows.
    fn take(&mut self, watched: String, output: String) -> (String, bool) {
        let passed = self.filter.push(&watched);
        self.held.push_back(Held {
            watched,
            output,
            is_apart: false,
        });
        match passed {
            Passed::Text(text) => (self.release(text.len()), false),
            Passed::Stopped(text) => (self.release(text.len()), true),
        }
    }

    /// The output text of the tokens within the first `bytes` of the watched text. Of a token that is cut, only what both texts
    /// have in common is released, so nothing of a hidden special token.
    fn release(&mut self, mut bytes: usize) -> String {
        let mut text = String::new();
        while let Some(held) = self.held.front_mut() {
            if held.watched.len() > bytes {
                text.push_str(&held.split_off(bytes));
                break;
            }
            bytes -= held.watched.len();
            text.extend(self.held.pop_front().map(|held| held.output));
        }
        text
    }
}

impl Held {
    fn split_off(&mut self, bytes: usize) -> String {
        let rest = self.watched.split_off(bytes);
        let watched = std::mem::replace(&mut self.watched, rest);
        self.is_apart |= !self.output.starts_with(&watched);
        match self.is_apart {
            true => String::new(),
            false => {
                let rest = self.output.split_off(bytes);
                std::mem::replace(&mut self.output, rest)
            }
        }
    }
}
