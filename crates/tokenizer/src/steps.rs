//! A file's decoders as a stream: text that no later token can change passes from step to step at once, the rest is buffered in
//! its step.
//!
//! The library decodes a list of tokens as a whole. Most of its decoders process one token at a time, and are called for one;
//! those that need several (bytes of a character, the ends of a text) are implemented here. Text of the prompt and of the
//! continuation is kept apart, see [`DecodeStream::after`](crate::DecodeStream::after).

use tokenizers::Decoder as _;
use tokenizers::decoders::DecoderWrapper;

/// What passes from one step to the next: parts of a token's text, first the prompt's, then the continuation's, and the token's end.
#[derive(Debug)]
pub(crate) enum Event {
    Text { text: String, is_prompt: bool },
    End,
}

/// Why the library could not decode.
type Decoded<T> = Result<T, String>;

/// All steps of a file.
#[derive(Debug)]
pub(crate) struct Steps<'a>(Vec<Step<'a>>);

#[derive(Debug)]
enum Step<'a> {
    /// A file without a decoder: spaces between the tokens.
    Join { has_token: bool, is_inside: bool },
    /// All tokens are bytes of one text.
    Bytes { token: Buffer, bytes: PendingBytes },
    /// Neighbors such as `<0x0A>` are bytes, which are text only all together.
    Fallback { token: Buffer, run: Vec<u8>, prompt: usize },
    /// All tokens are joined into one.
    Fuse,
    /// A character is stripped from both ends of each token.
    Strip(Strip),
    /// A decoder of the library, token by token.
    Each {
        decoder: &'a DecoderWrapper,
        token: Buffer,
        neighbors: Neighbors,
    },
}

/// What a decoder needs in addition to the token.
#[derive(Debug)]
enum Neighbors {
    Nothing,
    /// Whether it is the first.
    First {
        has_token: bool,
    },
    /// Whether it is the last.
    Last {
        held: Option<Buffer>,
    },
    /// Whether it repeats the previous token.
    Repeated {
        last: Option<String>,
    },
}

impl<'a> Steps<'a> {
    pub(crate) fn new(decoder: Option<&'a DecoderWrapper>) -> Self {
        let mut steps = Vec::new();
        match decoder {
            Some(decoder) => add(decoder, &mut steps),
            None => steps.push(Step::Join {
                has_token: false,
                is_inside: false,
            }),
        }
        Self(steps)
    }

    /// Adds a token; returns the text of the continuation that is now certain.
    pub(crate) fn push(&mut self, token: &str, is_prompt: bool) -> Decoded<String> {
        let text = token.to_owned();
        let events = vec![Event::Text { text, is_prompt }, Event::End];
        Ok(continuation(self.pass(0, events)?))
    }

    /// Ends the text; returns the rest.
    pub(crate) fn finish(mut self) -> Decoded<String> {
        let mut text = String::new();
        for index in 0..self.0.len() {
            let mut events = Vec::new();
            self.0[index].flush(&mut events)?;
            text.push_str(&continuation(self.pass(index + 1, events)?));
        }
        Ok(text)
    }

    fn pass(&mut self, from: usize, mut events: Vec<Event>) -> Decoded<Vec<Event>> {
        for step in &mut self.0[from..] {
            let mut out = Vec::new();
            for event in events {
                step.take(event, &mut out)?;
            }
            events = out;
        }
        Ok(events)
    }
}

/// What is known of decoders that give every token a text of its own.
pub(crate) struct OwnTexts {
    /// Whether tokens such as `<0x0A>` are bytes.
    pub(crate) has_bytes: bool,
}

/// Whether every token has a text of its own, which depends at most on whether it is the first.
pub(crate) fn texts_of_tokens(decoder: Option<&DecoderWrapper>) -> Option<OwnTexts> {
    let (mut has_bytes, mut is_fused) = (false, false);
    let is_own = |step: &Step<'_>| match step {
        Step::Join { .. } => true,
        Step::Fuse => {
            is_fused = true;
            true
        }
        Step::Fallback { .. } => {
            has_bytes = true;
            !is_fused
        }
        // Bytes of several tokens would be decoded, and then changed, together.
        Step::Bytes { .. } => false,
        // At the end of the text the last token's characters would be stripped.
        Step::Strip(strip) => is_fused && strip.start <= 1 && strip.stop == 0,
        Step::Each { decoder, neighbors, .. } => match neighbors {
            Neighbors::Nothing => !is_fused,
            // Bytes would be put together to words first.
            Neighbors::First { .. } => !(is_fused || has_bytes && matches!(decoder, DecoderWrapper::WordPiece(_))),
            Neighbors::Last { .. } | Neighbors::Repeated { .. } => false,
        },
    };
    let is_own = Steps::new(decoder).0.iter().all(is_own);
    is_own.then_some(OwnTexts { has_bytes })
}

fn add<'a>(decoder: &'a DecoderWrapper, steps: &mut Vec<Step<'a>>) {
    let each = |neighbors| Step::Each {
        decoder,
        token: Buffer::default(),
        neighbors,
    };
    steps.push(match decoder {
        DecoderWrapper::Sequence(sequence) => {
            sequence.get_decoders().iter().for_each(|decoder| add(decoder, steps));
            return;
        }
        DecoderWrapper::ByteLevel(_) => Step::Bytes {
            token: Buffer::default(),
            bytes: PendingBytes::default(),
        },
        DecoderWrapper::ByteFallback(_) => Step::Fallback {
            token: Buffer::default(),
            run: Vec::new(),
            prompt: 0,
        },
        DecoderWrapper::Fuse(_) => Step::Fuse,
        DecoderWrapper::Strip(strip) => Step::Strip(Strip {
            content: strip.content,
            start: strip.start,
            stop: strip.stop,
            ..Strip::default()
        }),
        DecoderWrapper::Replace(_) => each(Neighbors::Nothing),
        DecoderWrapper::WordPiece(_) | DecoderWrapper::Metaspace(_) => each(Neighbors::First { has_token: false }),
        DecoderWrapper::BPE(_) => each(Neighbors::Last { held: None }),
        DecoderWrapper::CTC(_) => each(Neighbors::Repeated { last: None }),
    });
}

fn continuation(events: Vec<Event>) -> String {
    let texts = events.into_iter().filter_map(|event| match event {
        Event::Text { text, is_prompt: false } => Some(text),
        _ => None,
    });
    texts.collect()
}

impl Step<'_> {
    fn take(&mut self, event: Event, out: &mut Vec<Event>) -> Decoded<()> {
        match self {
            Step::Join { has_token, is_inside } => {
                match &event {
                    Event::Text { is_prompt, .. } if *has_token && !*is_inside => out.push(Event::Text {
                        text: " ".to_owned(),
                        is_prompt: *is_prompt,
                    }),
                    _ => {}
                }
                *is_inside = matches!(event, Event::Text { .. });
                *has_token = true;
                out.push(event);
            }
            Step::Fuse => out.extend(matches!(event, Event::Text { .. }).then_some(event)),
            Step::Strip(strip) => strip.take(event, out),
            Step::Bytes { token, bytes } => {
                if let Some(token) = token.whole(event) {
                    bytes.extend(&crate::bytes::byte_level_bytes(&token.text), token.prompt > 0);
                    bytes.take_complete(out);
                }
            }
            Step::Fallback { token, run, prompt } => {
                let Some(token) = token.whole(event) else {
                    return Ok(());
                };
                if let Some(byte) = crate::bytes::library_fallback_byte(&token.text) {
                    run.push(byte);
                    *prompt += usize::from(token.prompt > 0);
                } else {
                    end_run(run, prompt, out);
                    token.put(out);
                }
            }
            Step::Each {
                decoder,
                token,
                neighbors,
            } => {
                if let Some(token) = token.whole(event) {
                    each(decoder, neighbors, token, out)?;
                }
            }
        }
        Ok(())
    }

    fn flush(&mut self, out: &mut Vec<Event>) -> Decoded<()> {
        match self {
            Step::Join { .. } | Step::Strip(_) => {}
            Step::Fuse => out.push(Event::End),
            Step::Bytes { bytes, .. } => {
                bytes.take_all(out);
                out.push(Event::End);
            }
            Step::Fallback { run, prompt, .. } => end_run(run, prompt, out),
            Step::Each { decoder, neighbors, .. } => {
                if let Neighbors::Last { held } = neighbors
                    && let Some(token) = held.take()
                {
                    token.replaced(|text| one(decoder, vec![text]), out)?;
                }
            }
        }
        Ok(())
    }
}

/// Decodes a token with the library.
fn each(decoder: &DecoderWrapper, neighbors: &mut Neighbors, token: Buffer, out: &mut Vec<Event>) -> Decoded<()> {
    match neighbors {
        Neighbors::Nothing => token.replaced(|text| one(decoder, vec![text]), out),
        Neighbors::First { has_token } => match std::mem::replace(has_token, true) {
            false => token.replaced(|text| one(decoder, vec![text]), out),
            true => token.replaced(|text| one(decoder, vec![String::new(), text]), out),
        },
        Neighbors::Repeated { last } => {
            let is_repeated = last.as_deref() == Some(token.text.as_str());
            *last = Some(token.text.clone());
            match is_repeated || one(decoder, vec![token.text.clone()])?.is_empty() {
                true => Ok(()),
                false => token.replaced(|text| one(decoder, vec![text]), out),
            }
        }
        Neighbors::Last { held } => {
            let is_prompt = token.prompt > 0;
            let Some(before) = held.replace(token) else {
                return Ok(());
            };
            let inside = one(decoder, vec![before.text.clone(), String::new()])?;
            // Text added to the token because another one follows belongs to the following one.
            let known = match (before.prompt > 0, is_prompt) {
                (false, _) => 0,
                (true, true) => inside.len(),
                (true, false) => common(&one(decoder, vec![before.text])?, &inside),
            };
            split(&inside, known, out);
            out.push(Event::End);
            Ok(())
        }
    }
}

/// The last token of a list, decoded; a token before it only serves to make it not the first.
fn one(decoder: &DecoderWrapper, tokens: Vec<String>) -> Decoded<String> {
    let is_last_asked = tokens.first().is_some_and(String::is_empty);
    let decoded = decoder.decode_chain(tokens).map_err(|error| error.to_string())?;
    let mut decoded = decoded.into_iter();
    let found = match is_last_asked {
        true => decoded.next_back(),
        false => decoded.next(),
    };
    Ok(found.unwrap_or_default())
}

/// Ends a run of byte tokens: one token of text, or a replacement character for each.
fn end_run(run: &mut Vec<u8>, prompt: &mut usize, out: &mut Vec<Event>) {
    let (bytes, prompt) = (std::mem::take(run), std::mem::take(prompt));
    if bytes.is_empty() {
        return;
    }
    match String::from_utf8(bytes) {
        Ok(text) => {
            split(&text, prompt, out);
            out.push(Event::End);
        }
        Err(error) => {
            for index in 0..error.as_bytes().len() {
                out.push(Event::Text {
                    text: char::REPLACEMENT_CHARACTER.to_string(),
                    is_prompt: index < prompt,
                });
                out.push(Event::End);
            }
        }
    }
}

/// Passes on a text whose first bytes are the prompt's; a character with bytes of both belongs to the continuation.
fn split(text: &str, prompt: usize, out: &mut Vec<Event>) {
    let mut at = prompt.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    for (text, is_prompt) in [(&text[..at], true), (&text[at..], false)] {
        if !text.is_empty() {
            let text = text.to_owned();
            out.push(Event::Text { text, is_prompt });
        }
    }
}

/// Length of the longest common prefix of whole characters, in bytes.
fn common(left: &str, right: &str) -> usize {
    let pairs = left.chars().zip(right.chars());
    pairs
        .take_while(|(left, right)| left == right)
        .map(|(character, _)| character.len_utf8())
        .sum()
}

/// The text of a token so far.
#[derive(Debug, Default)]
struct Buffer {
    text: String,
    /// How many of its bytes are the prompt's.
    prompt: usize,
}

impl Buffer {
    /// Adds to the text; returns the whole token once it ends.
    fn whole(&mut self, event: Event) -> Option<Self> {
        match event {
            Event::Text { text, is_prompt } => {
                self.text.push_str(&text);
                if is_prompt {
                    self.prompt = self.text.len();
                }
                None
            }
            Event::End => Some(std::mem::take(self)),
        }
    }

    fn put(self, out: &mut Vec<Event>) {
        split(&self.text, self.prompt, out);
        out.push(Event::End);
    }

    /// Passes on the decoded text. If part of it is the prompt's, the common prefix with the prompt's part decoded alone is the
    /// prompt's.
    fn replaced(self, decode: impl Fn(String) -> Decoded<String>, out: &mut Vec<Event>) -> Decoded<()> {
        let prompt = match self.prompt {
            0 => None,
            prompt if prompt == self.text.len() => Some(None),
            prompt => Some(Some(decode(self.text[..prompt].to_owned())?)),
        };
        let text = decode(self.text)?;
        let known = match prompt {
            None => 0,
            Some(None) => text.len(),
            Some(Some(alone)) => common(&alone, &text),
        };
        split(&text, known, out);
        out.push(Event::End);
        Ok(())
    }
}

/// Strips up to a number of a character from both ends of each token.
#[derive(Debug, Default)]
struct Strip {
    content: char,
    start: usize,
    stop: usize,
    /// How many were stripped from the front.
    taken: usize,
    is_past_front: bool,
    /// How many are at the end so far, which are stripped if nothing follows.
    tail: usize,
}

impl Strip {
    fn take(&mut self, event: Event, out: &mut Vec<Event>) {
        let Event::Text { text, is_prompt } = event else {
            (self.taken, self.is_past_front, self.tail) = (0, false, 0);
            out.push(Event::End);
            return;
        };
        for character in text.chars() {
            if character != self.content {
                self.release(self.tail, is_prompt, out);
                self.is_past_front = true;
                put_character(character, is_prompt, out);
            } else if !self.is_past_front && self.taken < self.start {
                self.taken += 1;
            } else {
                self.is_past_front = true;
                self.tail += 1;
                self.release(self.tail.saturating_sub(self.stop), is_prompt, out);
            }
        }
    }

    /// Passes on the first of the tail. They belong to the following text, without which they would have been stripped.
    fn release(&mut self, count: usize, is_prompt: bool, out: &mut Vec<Event>) {
        self.tail -= count;
        (0..count).for_each(|_| put_character(self.content, is_prompt, out));
    }
}

fn put_character(character: char, is_prompt: bool, out: &mut Vec<Event>) {
    match out.last_mut() {
        Some(Event::Text { text, is_prompt: last }) if *last == is_prompt => text.push(character),
        _ => out.push(Event::Text {
            text: character.to_string(),
            is_prompt,
        }),
    }
}

/// Bytes of a text, which may end with the beginning of a character.
#[derive(Debug, Default)]
pub(crate) struct PendingBytes {
    bytes: Vec<u8>,
    /// How many of them are the prompt's.
    prompt: usize,
}

impl PendingBytes {
    pub(crate) fn extend(&mut self, bytes: &[u8], is_prompt: bool) {
        self.bytes.extend_from_slice(bytes);
        if is_prompt {
            self.prompt = self.bytes.len();
        }
    }

    /// Takes complete text from the front and leaves an incomplete character at the end.
    fn take_complete(&mut self, out: &mut Vec<Event>) {
        self.take(false, out);
    }

    fn take_all(&mut self, out: &mut Vec<Event>) {
        self.take(true, out);
    }

    /// The continuation's text in what is taken.
    pub(crate) fn taken(&mut self, is_end: bool) -> String {
        let mut out = Vec::new();
        self.take(is_end, &mut out);
        continuation(out)
    }

    fn take(&mut self, is_end: bool, out: &mut Vec<Event>) {
        let mut end = 0;
        for chunk in self.bytes.utf8_chunks() {
            let (valid, invalid) = (chunk.valid(), chunk.invalid());
            split(valid, self.prompt.saturating_sub(end), out);
            end += valid.len();
            let is_last = end + invalid.len() == self.bytes.len();
            if invalid.is_empty() || is_last && !is_end && can_continue(invalid) {
                break;
            }
            // A prompt that ends here already shows this character.
            out.push(Event::Text {
                text: char::REPLACEMENT_CHARACTER.to_string(),
                is_prompt: end < self.prompt,
            });
            end += invalid.len();
        }
        self.bytes.drain(..end);
        self.prompt = self.prompt.saturating_sub(end);
    }
}

/// Whether bytes at the end of a text are the beginning of a character.
fn can_continue(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_in_any_portions_become_the_same_text_as_all_at_once() {
        let bytes = b"a\xC3\xA9\xF0\x9F\x98\x80\xFF\xC3(\xE2\x82\xE2\x82\xAC\xF0\x9F";
        let whole = String::from_utf8_lossy(bytes);
        for portion in 1..bytes.len() {
            let mut pending = PendingBytes::default();
            let mut text = String::new();
            for part in bytes.chunks(portion) {
                pending.extend(part, false);
                text.push_str(&pending.taken(false));
                assert!(pending.bytes.len() < 4, "only the beginning of one character is kept");
            }
            text.push_str(&pending.taken(true));
            assert_eq!(text, whole, "portions of {portion} bytes");
        }
    }
}
