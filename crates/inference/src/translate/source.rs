//! Reading sources: texts to token ids, in parts that are translated one by one.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::OnceLock;

use taal_tokenizer::Tokenizer;

use super::copied::{Copied, Copies, copied, is_unknown, with_plain_punctuation};
use super::doubt::words;
use super::sentences::{lines, marked_parts, sentences};
use super::written::{Manner, as_sentence, has_capitals};
use crate::{InferenceError, LanguageModel, Prompt, Result};

/// A source that was read; an empty one has no parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The source as it was given.
    pub(super) text: String,
    pub(super) pieces: Vec<Piece>,
    /// How many tokens it has.
    pub(super) n_tokens: usize,
    /// How many of them the tokenizer does not know, or are of words of other scripts that are copied.
    pub(super) n_unknown: usize,
    /// How many words begin with a small letter, and how many of these are tokens; 0 where nobody asks.
    pub(super) words: [usize; 2],
    is_long: bool,
}

/// A piece of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// What is in the translation as it is in the source: white space between parts, and words of other scripts without anything else.
    Kept(String),
    /// What is translated.
    Part(Part),
}

impl Line {
    /// In how many parts it is translated: 0 without text.
    pub fn n_parts(&self) -> usize {
        self.parts().count()
    }

    /// Whether it, or a line of it, is longer than the model reads at once.
    pub fn is_longer_than_context(&self) -> bool {
        self.is_long
    }

    /// What the model reads of a source that is one part: with names in the places of words that are copied, and a capital at the beginning.
    pub(super) fn as_read(&self) -> Option<&str> {
        let mut parts = self.parts();
        let part = parts.next()?;
        parts.next().is_none().then(|| part.source())
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = &Part> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Part(part) => Some(part),
            Piece::Kept(_) => None,
        })
    }

    pub(super) fn parts_mut(&mut self) -> impl Iterator<Item = &mut Part> {
        self.pieces.iter_mut().filter_map(|piece| match piece {
            Piece::Part(part) => Some(part),
            Piece::Kept(_) => None,
        })
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
    /// Words of the source in whose places the text has names.
    pub(super) copied: Vec<Copied>,
    /// How the source was written.
    pub(super) manner: Manner,
}

impl Part {
    /// The source without its prompt.
    pub(super) fn source(&self) -> &str {
        &self.text[self.source.clone()]
    }
}

/// A part of a text, and where it is.
type Placed = (Range<usize>, Part);

/// Turns texts into what a model reads.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    lm: &'a LanguageModel,
    tokenizer: &'a Tokenizer,
    /// The most ids of a part.
    limit: usize,
    /// Whether the tokenizer has words with a capital.
    has_capitals: OnceLock<bool>,
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
            has_capitals: OnceLock::new(),
        }
    }

    pub(super) fn read(&self, source: &str) -> Result<Line> {
        let normalized = self.lm.normalized(source);
        let text = normalized.trim();
        let mut line = Line {
            text: source.to_owned(),
            pieces: Vec::new(),
            n_tokens: 0,
            n_unknown: 0,
            words: self.known_words(text),
            is_long: false,
        };
        let mut end = 0;
        for mut place in lines(text) {
            if self.lm.translation.is_some() {
                place.start += bullet(&text[place.clone()]);
            }
            let whole = self.part(&text[place.clone()])?;
            line.is_long |= !self.fits(&whole)?;
            for (place, mut part) in self.parts(text, place, whole)? {
                if place.start > end {
                    line.pieces.push(Piece::Kept(text[end..place.start].to_owned()));
                }
                end = place.end;
                let source = &text[place];
                let (plain, manner) = self.as_in_training(source);
                if let Cow::Owned(plain) = &plain {
                    let plain = self.part(plain)?;
                    if plain.ids.len() <= self.limit {
                        part = Part { manner, ..plain };
                    }
                }
                line.n_tokens += part.n_tokens;
                line.n_unknown += part.unknown.len();
                let piece = self.with_names(part, [source, &plain], &mut line.n_unknown)?;
                line.pieces.push(piece);
            }
        }
        Ok(line)
    }

    /// The parts of a line: its sentences, if the model is known to translate sentences; otherwise as few as possible.
    fn parts(&self, text: &str, line: Range<usize>, whole: Part) -> Result<Vec<Placed>> {
        if whole.n_tokens == 0 {
            return Ok(Vec::new());
        }
        let is_by_sentence = self.lm.translation.is_some();
        if !is_by_sentence && whole.ids.len() <= self.limit {
            return Ok(vec![(line, whole)]);
        }
        let mut parts = Vec::new();
        for sentence in moved(sentences(&text[line.clone()]), line.start) {
            let alone = self.part(&text[sentence.clone()])?;
            if self.fits(&alone)? {
                parts.push((sentence, alone));
                continue;
            }
            // Where the end of a sentence was not seen, a part of a sentence is better than nothing.
            let mut pieces = Vec::new();
            for piece in moved(marked_parts(&text[sentence.clone()]), sentence.start) {
                let alone = self.part(&text[piece.clone()])?;
                if alone.ids.len() > self.limit {
                    return Err(InferenceError::SentenceTooLong {
                        place: String::new(),
                        tokens: alone.ids.len(),
                        context: self.limit,
                    });
                }
                pieces.push((piece, alone));
            }
            parts.extend(self.packed(text, pieces)?);
        }
        match is_by_sentence {
            true => Ok(parts),
            false => self.packed(text, parts),
        }
    }

    /// As few parts as possible of some that are in order.
    fn packed(&self, text: &str, parts: Vec<Placed>) -> Result<Vec<Placed>> {
        let mut packed: Vec<Placed> = Vec::new();
        for (place, part) in parts {
            if let Some((open, longer)) = packed.last_mut() {
                let both = self.part(&text[open.start..place.end])?;
                if both.ids.len() <= self.limit {
                    (open.end, *longer) = (place.end, both);
                    continue;
                }
            }
            packed.push((place, part));
        }
        Ok(packed)
    }

    /// A text as the texts were that the model read in training, and how it is written.
    fn as_in_training<'s>(&self, text: &'s str) -> (Cow<'s, str>, Manner) {
        let plain = with_plain_punctuation(self.tokenizer, text);
        let has_capitals = || *self.has_capitals.get_or_init(|| has_capitals(self.tokenizer));
        let facts = self.lm.translation.as_ref();
        match facts.and_then(|facts| as_sentence(self.tokenizer, &plain, &facts.from, has_capitals)) {
            Some((sentence, manner)) => (Cow::Owned(sentence), manner),
            None => (plain, Manner::default()),
        }
    }

    /// Whether the model can read a part, with names in the places of words that are copied if need be.
    fn fits(&self, part: &Part) -> Result<bool> {
        if part.ids.len() <= self.limit {
            return Ok(true);
        }
        let (plain, _) = self.as_in_training(part.source());
        let named = match copied(self.tokenizer, &plain, self.lm.translation.is_some()) {
            Copies::Nothing => plain.into_owned(),
            Copies::All { .. } => return Ok(true),
            Copies::Some { source, .. } => source,
        };
        Ok(self.part(&named)?.ids.len() <= self.limit)
    }

    /// How many words of a text begin with a small letter, and how many of these are a token.
    fn known_words(&self, text: &str) -> [usize; 2] {
        let is_asked = self
            .lm
            .translation
            .as_ref()
            .is_some_and(|facts| facts.own_loss.is_some());
        if !is_asked {
            return [0; 2];
        }
        let is_token = |word: &&str| {
            let ids = self.tokenizer.encode(&format!(" {word}"));
            ids.is_ok_and(|ids| ids.len() == 1)
        };
        let small = || words(text).filter(|word| word.starts_with(char::is_lowercase));
        [small().count(), small().filter(is_token).count()]
    }

    /// A part with names in the places of the words that are copied, whose tokens are counted where they are of another script. `source` is
    /// the text as it was given, and as it is read.
    fn with_names(&self, part: Part, source: [&str; 2], n_unknown: &mut usize) -> Result<Piece> {
        let mut count = |word: &str| -> Result<()> {
            *n_unknown += self.tokenizer.encode(word)?.len();
            Ok(())
        };
        let [given, read] = source;
        Ok(match copied(self.tokenizer, read, self.lm.translation.is_some()) {
            Copies::Nothing => Piece::Part(part),
            Copies::All { is_unknown } => {
                if is_unknown {
                    count(given)?;
                }
                Piece::Kept(given.to_owned())
            }
            Copies::Some { source: named, words } => {
                let named = self.part(&named)?;
                if named.ids.len() > self.limit {
                    return Ok(Piece::Part(part));
                }
                let mut unknown = words.iter().filter(|copied| is_unknown(&copied.word));
                unknown.try_for_each(|copied| count(&copied.word))?;
                Piece::Part(Part {
                    copied: words,
                    manner: part.manner,
                    ..named
                })
            }
        })
    }

    /// A part with its words instead of names; `None` where the model cannot read it whole.
    pub(super) fn plain(&self, part: &Part) -> Result<Option<Part>> {
        let mut source = part.source().to_owned();
        for Copied { name, word } in &part.copied {
            source = source.replacen(name, word, 1);
        }
        let plain = Part {
            manner: part.manner,
            ..self.part(&source)?
        };
        Ok((plain.ids.len() <= self.limit).then_some(plain))
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
            copied: Vec::new(),
            manner: Manner::default(),
        })
    }
}

/// How many bytes at the beginning of a line are the mark of a list, or the dash of who speaks, with the white space after it.
fn bullet(line: &str) -> usize {
    let rest = line.strip_prefix(['-', '–', '—', '•', '*', '·']).unwrap_or(line);
    match rest.len() < line.len() && rest.starts_with(char::is_whitespace) {
        true => line.len() - rest.trim_start().len(),
        false => 0,
    }
}

fn moved(ranges: Vec<Range<usize>>, by: usize) -> impl Iterator<Item = Range<usize>> {
    ranges.into_iter().map(move |range| range.start + by..range.end + by)
}
