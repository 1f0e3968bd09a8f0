//! The bytes that each token adds to a text, for programs that choose tokens by the text they make.

use crate::bytes::library_fallback_byte;
use crate::{Result, Tokenizer};

/// The bytes that every token adds to a text, at its beginning and elsewhere. A token may add a part of a character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenTexts {
    later: Vec<Vec<u8>>,
    /// Those at the beginning that differ, by id in ascending order.
    first: Vec<(u32, Vec<u8>)>,
}

impl TokenTexts {
    /// What a token adds after other text. Empty for tokens that decoding leaves out, for the unknown token, and for ids outside the
    /// vocabulary.
    pub fn later(&self, id: u32) -> &[u8] {
        self.later.get(id as usize).map_or(&[], Vec::as_slice)
    }

    /// What a token adds at the beginning of a text: many tokenizers drop the space there.
    pub fn first(&self, id: u32) -> &[u8] {
        match self.first.binary_search_by_key(&id, |(id, _)| *id) {
            Ok(found) => &self.first[found].1,
            Err(_) => self.later(id),
        }
    }

    /// The ids whose bytes differ at the beginning of a text, in ascending order.
    pub fn differing(&self) -> impl Iterator<Item = u32> {
        self.first.iter().map(|(id, _)| *id)
    }
}

impl Tokenizer {
    /// The bytes that every token adds to a text. Concatenated, they are the text of the tokens, as long as it is valid UTF-8.
    ///
    /// `None` where a token's text depends on more than whether it is the first, as with GPT-1's `</w>`.
    ///
    /// ```
    /// use taal_tokenizer::{Kind, TrainerConfig};
    ///
    /// let tokenizer = TrainerConfig::new(Kind::Bpe, 257).train(["geen merges"])?;
    /// let ids = tokenizer.encode("é")?;
    /// let texts = tokenizer.token_texts()?.expect("bytes are concatenated");
    /// assert_eq!([texts.first(ids[0]), texts.later(ids[1])].concat(), "é".as_bytes());
    /// # Ok::<(), taal_tokenizer::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Library`](crate::Error::Library) when an imported decoder fails.
    pub fn token_texts(&self) -> Result<Option<TokenTexts>> {
        let ids = 0..self.vocab_size() as u32;
        let is_text = |id: u32| !self.is_special(id) && self.unk_id() != Some(id);
        if let Some(bytes) = &self.bytes {
            let of = |id| if is_text(id) { bytes.of(id).to_vec() } else { Vec::new() };
            let later = ids.map(of).collect();
            let first = Vec::new();
            return Ok(Some(TokenTexts { later, first }));
        }
        let Some(steps) = crate::steps::texts_of_tokens(self.inner.get_decoder()) else {
            return Ok(None);
        };
        let has_bytes = steps.has_bytes;
        let Some(before) = ids.clone().find(|&id| is_text(id) && self.is_plain_word(id)) else {
            return Ok(None);
        };
        let (mut later, mut first) = (Vec::with_capacity(self.vocab_size()), Vec::new());
        for id in ids {
            if !is_text(id) {
                later.push(Vec::new());
                continue;
            }
            let byte = library_fallback_byte(&self.token_in_library(id)).filter(|_| has_bytes);
            let (text, at_beginning) = match byte {
                // A part of a character has no text.
                Some(byte) if !byte.is_ascii() => (vec![byte], vec![byte]),
                Some(byte) => (vec![byte], self.decode(&[id])?.into_bytes()),
                None => (self.text_after(before, id)?, self.decode(&[id])?.into_bytes()),
            };
            if text != at_beginning {
                first.push((id, at_beginning));
            }
            later.push(text);
        }
        Ok(Some(TokenTexts { later, first }))
    }

    /// Whether a token is of letters only, so that no decoder strips any of it.
    fn is_plain_word(&self, id: u32) -> bool {
        let text = self.decode(&[id]).unwrap_or_default();
        !text.is_empty() && text.chars().all(char::is_alphanumeric)
    }

    fn text_after(&self, before: u32, id: u32) -> Result<Vec<u8>> {
        let mut stream = self.decode_stream().after(&[before])?;
        let mut text = stream.push(id)?.unwrap_or_default();
        text.push_str(&stream.finish()?);
        Ok(text.into_bytes())
    }
}
