//! llama2.c's `tokenizer.bin`: the length of the longest token, then for each token its score, its length and its bytes.
//!
//! It is a SentencePiece BPE model with byte fallback, exported by llama2.c's `tokenizer.py`: U+2581 is replaced by a space, `<s>` and
//! `</s>` are surrounded by line ends, and the kinds of pieces are lost. llama2.c recognizes them by their ids: 0 is unknown, 1 begins
//! and 2 ends a text, and the bytes start at 3. U+2581 in a text is a space in SentencePiece and here, but three bytes in llama2.c.

use std::path::Path;

use super::pieces::{Kind, Piece, PieceModel, SPACE, Search};
use super::sidecar::Sidecar;
use super::{Format, MAX_TOKEN_BYTES, problem};
use crate::Result;
use crate::bytes::fallback_byte;
use crate::file::File;
use crate::open::{MAX_FILE_BYTES, MAX_VOCAB_SIZE};

const FIRST_BYTE: usize = 3;

/// Whether bytes are such a file: tokens up to the end, none longer than the first number.
pub(super) fn looks_like(bytes: &[u8]) -> bool {
    read_tokens(bytes).is_ok_and(|tokens| !tokens.is_empty())
}

pub(super) fn read(path: &Path) -> Result<File> {
    let wrong = |detail: String| problem(path, Format::Llama2c, detail);
    let bytes = taal_store::read(path, MAX_FILE_BYTES)?;
    let tokens = read_tokens(&bytes).map_err(wrong)?;
    let pieces: std::result::Result<Vec<Piece>, String> = tokens
        .into_iter()
        .enumerate()
        .map(|(id, (score, token))| to_piece(id, score, token))
        .collect();
    let model = PieceModel {
        pieces: pieces.map_err(wrong)?,
        search: Search::Bpe,
        byte_fallback: true,
        remove_extra_whitespaces: false,
        begins_texts: true,
        ..PieceModel::default()
    };
    model.to_file(&Sidecar::next_to(path)?).map_err(wrong)
}

/// Scores and bytes.
fn read_tokens(bytes: &[u8]) -> std::result::Result<Vec<(f32, &[u8])>, String> {
    let (longest, mut rest) = bytes.split_first_chunk::<4>().ok_or("shorter than 4 bytes")?;
    let longest = u32::from_le_bytes(*longest) as usize;
    if longest == 0 || longest > MAX_TOKEN_BYTES {
        return Err(format!(
            "a longest token of {longest} bytes; expected 1 to {MAX_TOKEN_BYTES}"
        ));
    }
    let mut tokens = Vec::new();
    while !rest.is_empty() {
        let id = tokens.len();
        if id == MAX_VOCAB_SIZE {
            return Err(format!("more than {MAX_VOCAB_SIZE} tokens"));
        }
        let cut_off = || format!("it ends inside token {id}");
        let (score, after) = rest.split_first_chunk::<4>().ok_or_else(cut_off)?;
        let (length, after) = after.split_first_chunk::<4>().ok_or_else(cut_off)?;
        let length = u32::from_le_bytes(*length) as usize;
        if length > longest {
            return Err(format!(
                "token {id} has {length} bytes, and the longest should have {longest}"
            ));
        }
        let (token, after) = after.split_at_checked(length).ok_or_else(cut_off)?;
        tokens.push((f32::from_le_bytes(*score), token));
        rest = after;
    }
    Ok(tokens)
}

fn to_piece(id: usize, score: f32, token: &[u8]) -> std::result::Result<Piece, String> {
    let text = std::str::from_utf8(token).map_err(|_| format!("token {id} is not UTF-8"))?;
    let byte = fallback_byte(text).map(usize::from);
    let kind = match id {
        0 => Kind::Unknown,
        1 | 2 => Kind::Control,
        _ if byte.is_some_and(|byte| byte + FIRST_BYTE == id) => Kind::Byte,
        _ => Kind::Normal,
    };
    let text = match kind {
        Kind::Control => text.trim().to_owned(),
        _ => text.replace(' ', SPACE),
    };
    Ok(Piece { text, score, kind })
}
