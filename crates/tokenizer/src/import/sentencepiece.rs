//! SentencePiece's `.model`: a protocol buffer with the pieces, the normalizer and the trainer's settings.
//!
//! Source of the field numbers and defaults: `sentencepiece_model.proto`.

use std::path::Path;

use super::pieces::{Kind, Piece, PieceModel, Search};
use super::protobuf::{Field, Fields};
use super::sidecar::Sidecar;
use super::{Format, problem};
use crate::Result;
use crate::file::File;
use crate::open::MAX_VOCAB_SIZE;

/// The largest model that is read; the largest in public use have about 5 MB.
const MAX_MODEL_BYTES: u64 = 32 << 20;

/// Whether bytes begin like a model, with a piece.
pub(super) fn looks_like(bytes: &[u8]) -> bool {
    let first = Fields::new(bytes).next();
    matches!(first, Some(Ok((1, Field::Bytes(piece)))) if read_piece(piece).is_ok())
}

pub(super) fn read(path: &Path) -> Result<File> {
    let model = read_pieces(path)?;
    let file = model.to_file(&Sidecar::next_to(path)?);
    file.map_err(|detail| problem(path, Format::SentencePiece, detail))
}

/// The pieces and settings of a model.
pub(super) fn read_pieces(path: &Path) -> Result<PieceModel> {
    let bytes = taal_store::read(path, MAX_MODEL_BYTES)?;
    read_model(&bytes).map_err(|detail| problem(path, Format::SentencePiece, detail))
}

fn read_model(bytes: &[u8]) -> std::result::Result<PieceModel, String> {
    let mut model = PieceModel::default();
    for field in Fields::new(bytes) {
        match field? {
            (1, piece) => {
                let number = model.pieces.len();
                if number == MAX_VOCAB_SIZE {
                    return Err(format!("more than {MAX_VOCAB_SIZE} pieces"));
                }
                let piece = read_piece(piece.bytes()?).map_err(|detail| format!("piece {number}: {detail}"))?;
                model.pieces.push(piece);
            }
            (2, trainer) => {
                read_trainer(trainer.bytes()?, &mut model).map_err(|detail| format!("trainer_spec: {detail}"))?
            }
            (3, normalizer) => {
                read_normalizer(normalizer.bytes()?, &mut model)
                    .map_err(|detail| format!("normalizer_spec: {detail}"))?;
            }
            (5, denormalizer) => check_denormalizer(denormalizer.bytes()?)?,
            _ => {}
        }
    }
    Ok(model)
}

fn read_piece(message: &[u8]) -> std::result::Result<Piece, String> {
    let mut piece = Piece {
        text: String::new(),
        score: 0.0,
        kind: Kind::Normal,
    };
    for field in Fields::new(message) {
        match field? {
            (1, text) => piece.text = text.text()?.to_owned(),
            (2, score) => piece.score = score.float()?,
            (3, kind) => {
                piece.kind = match kind.varint()? {
                    1 => Kind::Normal,
                    2 => Kind::Unknown,
                    3 => Kind::Control,
                    4 => Kind::UserDefined,
                    5 => Kind::Unused,
                    6 => Kind::Byte,
                    other => return Err(format!("the unknown type {other}")),
                }
            }
            _ => {}
        }
    }
    Ok(piece)
}

fn read_trainer(message: &[u8], model: &mut PieceModel) -> std::result::Result<(), String> {
    for field in Fields::new(message) {
        match field? {
            (3, kind) => {
                model.search = match kind.varint()? {
                    1 => Search::Unigram,
                    2 => Search::Bpe,
                    4 => Search::Characters,
                    3 => return Err("a model of whole words, which a tokenizer.json cannot express".to_owned()),
                    other => return Err(format!("the unknown model_type {other}")),
                }
            }
            (24, suffix) if suffix.boolean()? => {
                return Err("treat_whitespace_as_suffix, which a tokenizer.json cannot express".to_owned());
            }
            (35, fallback) => model.byte_fallback = fallback.boolean()?,
            (46, name) => model.begin = name.text()?.to_owned(),
            (47, name) => model.end = name.text()?.to_owned(),
            _ => {}
        }
    }
    Ok(())
}

fn read_normalizer(message: &[u8], model: &mut PieceModel) -> std::result::Result<(), String> {
    for field in Fields::new(message) {
        match field? {
            (1, name) => model.rule = name.text()?.to_owned(),
            (2, table) => model.characters = table.bytes()?.to_vec(),
            (3, prefix) => model.add_dummy_prefix = prefix.boolean()?,
            (4, remove) => model.remove_extra_whitespaces = remove.boolean()?,
            (5, escape) if !escape.boolean()? => {
                return Err("escape_whitespaces = false, which is not supported".to_owned());
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_denormalizer(message: &[u8]) -> std::result::Result<(), String> {
    for field in Fields::new(message) {
        if let (2, table) = field?
            && !table.bytes()?.is_empty()
        {
            return Err("denormalizer_spec: a table of characters, which a tokenizer.json cannot apply".to_owned());
        }
    }
    Ok(())
}
