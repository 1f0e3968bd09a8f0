//! Decoding ids one by one without ever splitting a character.

use crate::{Result, Tokenizer};

/// Decodes ids one by one, as a model makes them.
///
/// A character whose bytes are spread over several tokens comes out with the last of them. All parts put together are what
/// [`Tokenizer::decode`] gives for all ids.
///
/// # Example
///
/// ```
/// use taal_tokenizer::{Kind, TrainerConfig};
///
/// let tokenizer = TrainerConfig::new(Kind::Bpe, 257).train(["geen merges"])?;
/// let ids = tokenizer.encode("é!")?; // two bytes and one
/// let mut stream = tokenizer.decode_stream();
/// assert_eq!(stream.push(ids[0])?, None);
/// assert_eq!(stream.push(ids[1])?.as_deref(), Some("é"));
/// assert_eq!(stream.push(ids[2])?.as_deref(), Some("!"));
/// assert_eq!(stream.finish()?, "");
/// # Ok::<(), taal_tokenizer::Error>(())
/// ```
#[derive(Debug)]
pub struct DecodeStream<'a> {
    tokenizer: &'a Tokenizer,
    /// Bytes that do not make a whole character yet, for decoders that put bytes one after another.
    bytes: Vec<u8>,
    /// Ids whose text depends on each other, for all other decoders: those of the text that was given out last, then the new ones.
    ids: Vec<u32>,
    /// How many of `ids` were given out.
    given_ids: usize,
    /// The text of the given ids.
    given: String,
}

impl<'a> DecodeStream<'a> {
    pub(crate) fn new(tokenizer: &'a Tokenizer) -> Self {
        Self {
            tokenizer,
            bytes: Vec::new(),
            ids: Vec::new(),
            given_ids: 0,
            given: String::new(),
        }
    }

    /// Adds an id and returns the text that is complete with it, if any.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchToken`](crate::Error::NoSuchToken) for an id outside the vocabulary; the stream is then as before.
    pub fn push(&mut self, id: u32) -> Result<Option<String>> {
        self.tokenizer.check_id(id)?;
        if self.tokenizer.is_left_out(id) {
            return Ok(None);
        }
        let text = match &self.tokenizer.bytes {
            Some(all) => {
                self.bytes.extend_from_slice(all.of(id));
                take_complete(&mut self.bytes)
            }
            None => self.push_to_window(id)?,
        };
        Ok((!text.is_empty()).then_some(text))
    }

    /// Ends the stream and returns what is left: bytes of a character that never became whole, as U+FFFD.
    ///
    /// # Errors
    ///
    /// [`Error::Library`](crate::Error::Library) when a decoder made elsewhere fails.
    pub fn finish(self) -> Result<String> {
        if self.tokenizer.bytes.is_some() {
            return Ok(String::from_utf8_lossy(&self.bytes).into_owned());
        }
        let text = self.tokenizer.decode_kept(&self.ids)?;
        Ok(text.get(self.given.len()..).unwrap_or_default().to_owned())
    }

    /// Decodes the ids since the text before the last one, because most decoders treat the first token of a text differently; the method
    /// of the library's `DecodeStream`.
    fn push_to_window(&mut self, id: u32) -> Result<String> {
        self.ids.push(id);
        let text = self.tokenizer.decode_kept(&self.ids)?;
        let Some(new) = text.strip_prefix(self.given.as_str()) else {
            return Ok(String::new());
        };
        // The replacement character at the end may be the beginning of a character of several tokens.
        if new.is_empty() || new.ends_with(char::REPLACEMENT_CHARACTER) {
            return Ok(String::new());
        }
        let new = new.to_owned();
        self.ids.drain(..self.given_ids);
        self.given_ids = self.ids.len();
        self.given = self.tokenizer.decode_kept(&self.ids)?;
        Ok(new)
    }
}

/// Takes the text at the front of the bytes and leaves the beginning of a character that more bytes can complete.
fn take_complete(bytes: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut end = 0;
    for chunk in bytes.utf8_chunks() {
        let is_last = end + chunk.valid().len() + chunk.invalid().len() == bytes.len();
        text.push_str(chunk.valid());
        end += chunk.valid().len();
        if is_last && can_continue(chunk.invalid()) {
            break;
        }
        if !chunk.invalid().is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
            end += chunk.invalid().len();
        }
    }
    bytes.drain(..end);
    text
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
            let mut pending = Vec::new();
            let mut text = String::new();
            for part in bytes.chunks(portion) {
                pending.extend_from_slice(part);
                text.push_str(&take_complete(&mut pending));
                assert!(pending.len() < 4, "only the beginning of one character is kept");
            }
            text.push_str(&String::from_utf8_lossy(&pending));
            assert_eq!(text, whole, "portions of {portion} bytes");
        }
    }
}
