//! Tokens as bytes, for decoders that concatenate bytes.

use serde_json::Value;

use crate::file::Decoder;

/// The bytes of every token, by id.
#[derive(Debug, Clone)]
pub(crate) struct TokenBytes {
    bytes: Vec<u8>,
    /// The end of each token's bytes; they start at the end of the previous token's.
    ends: Vec<usize>,
}

impl TokenBytes {
    fn new(tokens: &[String], to_bytes: impl Fn(&str) -> Vec<u8>) -> Self {
        let mut all = Self {
            bytes: Vec::new(),
            ends: Vec::with_capacity(tokens.len()),
        };
        for token in tokens {
            all.bytes.extend(to_bytes(token));
            all.ends.push(all.bytes.len());
        }
        all
    }

    /// The bytes of one token; empty for an id without a token.
    pub(crate) fn of(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let start = if id == 0 {
            0
        } else {
            self.ends.get(id - 1).copied().unwrap_or(0)
        };
        self.ends.get(id).map_or(&[], |&end| &self.bytes[start..end])
    }
}

/// The bytes of all tokens, if the file's decoder is a lossless one that this crate trains with.
pub(crate) fn own_token_bytes(file: &Value, tokens: &[String]) -> Option<TokenBytes> {
    let decoder = file.get("decoder")?;
    let is = |own: &Decoder| serde_json::to_value(own).is_ok_and(|own| own == *decoder);
    if is(&Decoder::Fuse) {
        return Some(TokenBytes::new(tokens, |token| token.as_bytes().to_vec()));
    }
    if is(&Decoder::bytes_then_text()) {
        return Some(TokenBytes::new(tokens, |token| match fallback_byte(token) {
            Some(byte) => vec![byte],
            None => token.as_bytes().to_vec(),
        }));
    }
    // The flags of a ByteLevel decoder have no effect on decoding, so GPT-2's own file counts too.
    (decoder.get("type")? == "ByteLevel").then(|| TokenBytes::new(tokens, byte_level_bytes))
}

/// The character for a byte in byte-level tokens; source: `bytes_to_unicode` of GPT-2's `encoder.py`.
pub(crate) fn byte_character(byte: u8) -> char {
    let is_printable = matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if is_printable {
        return char::from(byte);
    }
    // The others take the code points from 256 on, in order.
    let rank = match byte {
        0x00..=0x20 => u32::from(byte),
        0x7F..=0xA0 => u32::from(byte) - 0x7F + 0x21,
        _ => 0x43,
    };
    char::from_u32(256 + rank).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The byte of a character in a byte-level token.
fn character_byte(character: char) -> Option<u8> {
    let byte = match u32::from(character) {
        code @ (0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF) => code,
        code @ 0x100..=0x120 => code - 0x100,
        code @ 0x121..=0x142 => code - 0x121 + 0x7F,
        0x143 => 0xAD,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

/// A token with characters outside the byte alphabet is its own UTF-8, as in the library.
pub(crate) fn byte_level_bytes(token: &str) -> Vec<u8> {
    let bytes: Option<Vec<u8>> = token.chars().map(character_byte).collect();
    bytes.unwrap_or_else(|| token.as_bytes().to_vec())
}

/// The token of a byte in a vocabulary with byte fallback.
pub(crate) fn fallback_token(byte: u8) -> String {
    format!("<0x{byte:02X}>")
}

/// The byte of a token such as `<0x0A>`.
pub(crate) fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() != 2 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u8::from_str_radix(digits, 16).ok()
}

/// The byte of such a token as the library's decoder parses it, which accepts more than is ever written, such as `<0x+A>`.
pub(crate) fn library_fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    let is_byte = token.len() == 6;
    is_byte.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_own_character_and_comes_back() {
        let mut characters: Vec<char> = (0..=255).map(byte_character).collect();
        for byte in 0..=255 {
            assert_eq!(character_byte(byte_character(byte)), Some(byte));
            assert_eq!(fallback_byte(&fallback_token(byte)), Some(byte));
        }
        assert_eq!(
            (byte_character(b' '), byte_character(b'\n'), byte_character(0xAD)),
            ('Ġ', 'Ċ', 'Ń')
        );
        characters.sort_unstable();
        characters.dedup();
        assert_eq!(characters.len(), 256);
    }
}
