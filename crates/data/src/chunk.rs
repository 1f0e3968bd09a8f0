//! Splits a long text into chunks that can be tokenized in parallel and give the ids of the whole text.
//!
//! The tokenizer decides where a cut is allowed: the text around a candidate is encoded whole and up to the candidate, and the
//! cut is accepted if the second list of ids is a prefix of the first. A chunk is then encoded together with the text before it,
//! whose ids are removed again, so that tokenizers that treat the start of a text specially (SentencePiece's "▁", a prefix space)
//! see no start there. Cuts depend only on the text and the tokenizer, not on threads or on how the text was read.

use taal_tokenizer::{Error as TokenizerError, Tokenizer};

/// Target length of a chunk: small enough that the tokenizer's bookkeeping (tens of bytes per byte of text) fits in a thread's
/// cache, large enough that cuts take no noticeable time.
pub(crate) const CHUNK_BYTES: usize = 128 << 10;

/// How far before the target length a cut is searched.
const SEARCH_BYTES: usize = 32 << 10;

/// Text on either side of a candidate that is encoded to check it.
const WINDOW_BYTES: usize = 128;

/// Candidates tried per kind.
const MAX_TRIALS: usize = 32;

/// The part of a tokenizer that chunking needs.
pub(crate) trait Encode {
    fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError>;
}

impl Encode for Tokenizer {
    fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        Tokenizer::encode(self, text)
    }
}

/// A piece of text to encode separately.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// The text just before, whose ids are removed; empty at the start of a text.
    context: String,
    /// The text whose ids are wanted.
    pub(crate) text: String,
    /// Characters of the whole text before this chunk.
    first_character: usize,
    /// Whether the cut before this chunk was found to leave the ids unchanged; true at the start of a text.
    pub(crate) is_exact: bool,
}

impl Chunk {
    /// The ids of this chunk, and whether they are known to be those it has within the whole text.
    ///
    /// # Errors
    /// The tokenizer's, with positions counted from the start of the whole text.
    pub(crate) fn encode(&self, encoder: &impl Encode) -> Result<(Vec<u32>, bool), TokenizerError> {
        let encode = |text: &str, first_character| encoder.encode(text).map_err(|error| moved(error, first_character));
        if self.context.is_empty() {
            return Ok((encode(&self.text, self.first_character)?, self.is_exact));
        }
        let context_start = self.first_character - self.context.chars().count();
        let prefix = encode(&self.context, context_start)?;
        let mut ids = encode(&[self.context.as_str(), &self.text].concat(), context_start)?;
        if ids.starts_with(&prefix) {
            ids.drain(..prefix.len());
            return Ok((ids, self.is_exact));
        }
        Ok((encode(&self.text, self.first_character)?, false))
    }
}

/// Adjusts an error's position for a text that starts `first_character` characters into a longer one.
fn moved(error: TokenizerError, first_character: usize) -> TokenizerError {
    match error {
        TokenizerError::Unknown { what, position } => TokenizerError::Unknown {
            what,
            position: position + first_character,
        },
        other => other,
    }
}

/// Collects a text as it is read and returns its chunks.
pub(crate) struct Chunker<'e, E> {
    encoder: &'e E,
    pending: String,
    context: String,
    is_exact: bool,
    /// Characters returned.
    characters: usize,
}

impl<'e, E: Encode> Chunker<'e, E> {
    pub(crate) fn new(encoder: &'e E) -> Self {
        Self {
            encoder,
            pending: String::new(),
            context: String::new(),
            is_exact: true,
            characters: 0,
        }
    }

    pub(crate) fn push(&mut self, text: &str) {
        self.pending.push_str(text);
    }

    /// The next complete chunk, or `None` until more text has been read.
    pub(crate) fn next(&mut self) -> Option<Chunk> {
        // Based on exactly this much text, however much is available: cuts must not depend on the size of reads.
        if self.pending.len() < CHUNK_BYTES + WINDOW_BYTES {
            return None;
        }
        let (cut, is_exact) = find_cut(&self.pending, self.encoder);
        let rest = self.pending.split_off(cut);
        let text = std::mem::replace(&mut self.pending, rest);
        let context = text[text.ceil_char_boundary(cut - WINDOW_BYTES)..].to_owned();
        Some(self.chunk(text, context, is_exact))
    }

    /// The rest, `None` if empty. Text pushed afterwards is encoded as the start of a text, but positions in errors continue to count.
    pub(crate) fn finish(&mut self) -> Option<Chunk> {
        let text = std::mem::take(&mut self.pending);
        let chunk = self.chunk(text, String::new(), true);
        (!chunk.text.is_empty()).then_some(chunk)
    }

    /// The chunk of `text`, and sets context and exactness of the cut after it for the next chunk.
    fn chunk(&mut self, text: String, context: String, is_exact: bool) -> Chunk {
        let first_character = self.characters;
        self.characters += text.chars().count();
        Chunk {
            context: std::mem::replace(&mut self.context, context),
            text,
            first_character,
            is_exact: std::mem::replace(&mut self.is_exact, is_exact),
        }
    }
}

/// Kinds of cuts, best first.
#[derive(Clone, Copy)]
enum Place {
    /// Before a space between two words: a boundary in every word-based pre-tokenizer.
    BeforeSpace,
    /// After a letter or digit, before a line end: for lists of single words.
    BeforeLineEnd,
    /// Before any other white space.
    BeforeWhiteSpace,
    /// Between any two characters: for text without white space, as in Chinese.
    Anywhere,
}

impl Place {
    const ALL: [Self; 4] = [
        Self::BeforeSpace,
        Self::BeforeLineEnd,
        Self::BeforeWhiteSpace,
        Self::Anywhere,
    ];

    fn holds(self, before: char, after: char, second: Option<char>) -> bool {
        match self {
            Self::BeforeSpace => after == ' ' && before.is_alphanumeric() && second.is_some_and(char::is_alphanumeric),
            Self::BeforeLineEnd => after == '\n' && before.is_alphanumeric(),
            Self::BeforeWhiteSpace => after.is_whitespace() && !before.is_whitespace(),
            Self::Anywhere => true,
        }
    }
}

/// The best byte to cut `text` at, at most [`CHUNK_BYTES`], and whether the tokenizer confirmed it.
fn find_cut(text: &str, encoder: &impl Encode) -> (usize, bool) {
    let mut fallback = None;
    for place in Place::ALL {
        for cut in candidates(text, place).take(MAX_TRIALS) {
            if leaves_ids_unchanged(text, cut, encoder) {
                return (cut, true);
            }
            fallback.get_or_insert(cut);
        }
    }
    (fallback.unwrap_or_else(|| text.floor_char_boundary(CHUNK_BYTES)), false)
}

/// The cuts of one kind, from the target length backwards.
fn candidates(text: &str, place: Place) -> impl Iterator<Item = usize> {
    let end = text.floor_char_boundary(CHUNK_BYTES);
    let start = text.ceil_char_boundary(CHUNK_BYTES - SEARCH_BYTES);
    text[start..end]
        .char_indices()
        .rev()
        .filter_map(move |(offset, before)| {
            let cut = start + offset + before.len_utf8();
            let mut following = text[cut..].chars();
            let after = following.next()?;
            place.holds(before, after, following.next()).then_some(cut)
        })
}

/// A tokenizer that refuses this text confirms nothing; encoding the chunk will report why.
fn leaves_ids_unchanged(text: &str, cut: usize, encoder: &impl Encode) -> bool {
    let start = text.ceil_char_boundary(cut - WINDOW_BYTES);
    let end = text.floor_char_boundary(cut + WINDOW_BYTES);
    match (encoder.encode(&text[start..cut]), encoder.encode(&text[start..end])) {
        (Ok(before), Ok(around)) => !before.is_empty() && around.starts_with(&before),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs of letters, single other characters, and a start mark at the start of every text: the hard cases of
    /// real tokenizers in one.
    struct Words;

    impl Encode for Words {
        fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
            let mut ids = vec![1_u32];
            let mut in_word = false;
            for character in text.chars() {
                let continues = in_word && character.is_alphanumeric();
                in_word = character.is_alphanumeric();
                match (continues, ids.last_mut()) {
                    (true, Some(id)) => *id = id.wrapping_mul(31).wrapping_add(character as u32),
                    _ => ids.push(character as u32),
                }
            }
            Ok(ids)
        }
    }

    fn encode_in_pieces(text: &str, piece_bytes: usize, encoder: &impl Encode) -> (Vec<u32>, usize, bool) {
        let mut chunker = Chunker::new(encoder);
        let mut chunks = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at(rest.ceil_char_boundary(piece_bytes));
            chunker.push(piece);
            while let Some(chunk) = chunker.next() {
                chunks.push(chunk);
            }
            rest = tail;
        }
        chunks.extend(chunker.finish());
        assert_eq!(chunks.iter().map(|chunk| chunk.text.as_str()).collect::<String>(), text);
        let mut ids = Vec::new();
        let mut all_exact = true;
        for chunk in &chunks {
            let (chunk_ids, is_exact) = chunk.encode(encoder).unwrap();
            ids.extend(chunk_ids);
            all_exact &= is_exact;
        }
        (ids, chunks.len(), all_exact)
    }

    #[test]
    fn chunks_give_the_ids_of_the_whole_text_however_it_is_read() {
        let text = "De één zei: \"Zo'n 3,5 km\n\n  verder — wéér niets!\"\r\n".repeat(9_000);
        let whole = Words.encode(&text).unwrap();
        for piece_bytes in [1_000, 70_001, usize::MAX / 2] {
            let (ids, chunks, is_exact) = encode_in_pieces(&text, piece_bytes, &Words);
            assert!(ids == whole && is_exact, "with pieces of {piece_bytes} bytes");
            assert_eq!(chunks, text.len().div_ceil(CHUNK_BYTES));
        }
    }

    #[test]
    fn words_on_lines_are_cut_between_lines() {
        let text = "emma\nolivia\n".repeat(20_000);
        let (ids, _, is_exact) = encode_in_pieces(&text, 5_000, &Words);
        assert!(is_exact && ids == Words.encode(&text).unwrap());
    }

    #[test]
    fn a_text_without_a_good_cut_is_cut_anyway_and_reported() {
        let text = "é".repeat(200_000);
        let (_, chunks, is_exact) = encode_in_pieces(&text, 10_000, &Words);
        assert_eq!((chunks, is_exact), (4, false));
    }
}
