//! Marian's files (OPUS-MT): a SentencePiece model per language, and one list of ids for both, `vocab.json`.
//!
//! Each model becomes a tokenizer with all pieces of the list; those that only the other model has are never found in a text, except
//! single characters, and are read by their names. As in transformers, the model of the source splits texts, and that of the target
//! splits those that the model writes ([`Tokenizer::of_targets`](crate::Tokenizer::of_targets)).

use std::collections::HashMap;
use std::path::Path;

use super::pieces::{Kind, Piece, PieceModel, Search, UNKNOWN_PENALTY};
use super::sidecar::Sidecar;
use super::{Format, problem, sentencepiece};
use crate::Result;
use crate::file::File;
use crate::open::MAX_VOCAB_SIZE;

/// The model that splits sources.
pub(super) const SOURCE_FILE: &str = "source.spm";

/// The model that splits targets.
pub(super) const TARGET_FILE: &str = "target.spm";

const VOCABULARY_FILE: &str = "vocab.json";

/// The largest list of ids that is read; the largest in public use have about 5 MB.
const MAX_VOCABULARY_BYTES: u64 = 64 << 20;

/// What marks the tokens that name the language of the translation, such as `>>nld<<`.
const LANGUAGE_MARKS: [&str; 2] = [">>", "<<"];

/// The tokenizer of one of the two models.
pub(super) fn read(path: &Path) -> Result<File> {
    let wrong = |detail: String| problem(path, Format::SentencePiece, detail);
    let list = path.with_file_name(VOCABULARY_FILE);
    if !taal_store::exists(&list) {
        return Err(wrong(format!(
            "a model of Marian's without the ids of its pieces; copy {VOCABULARY_FILE} next to it"
        )));
    }
    let model = sentencepiece::read_pieces(path)?;
    let sidecar = Sidecar::next_to(path)?;
    if sidecar.switch("separate_vocabs") == Some(true) {
        let detail = "separate_vocabs: the two languages have ids of their own, which one tokenizer.json cannot have";
        return Err(wrong(detail.to_owned()));
    }
    let bytes = taal_store::read(&list, MAX_VOCABULARY_BYTES)?;
    let tokens = tokens(&bytes).map_err(|detail| problem(&list, Format::SentencePiece, detail))?;
    with_ids(model, tokens, &sidecar)
        .and_then(|model| model.to_file(&sidecar))
        .map_err(wrong)
}

/// The tokens in the order of their ids, which are from 0 without a gap.
fn tokens(bytes: &[u8]) -> std::result::Result<Vec<String>, String> {
    let ids: HashMap<String, usize> = serde_json::from_slice(bytes).map_err(|error| {
        format!(
            "expected an object with the id of each token: {}",
            taal_store::shorten(&error.to_string())
        )
    })?;
    if ids.len() > MAX_VOCAB_SIZE {
        return Err(format!("more than {MAX_VOCAB_SIZE} tokens"));
    }
    let mut tokens = vec![None; ids.len()];
    for (token, id) in ids {
        let count = tokens.len();
        let place = tokens.get_mut(id).ok_or_else(|| {
            format!(
                "{} has the id {id}, and there are {count} tokens",
                taal_store::excerpt(&token)
            )
        })?;
        if place.is_some() {
            return Err(format!("two tokens have the id {id}"));
        }
        *place = Some(token);
    }
    Ok(tokens.into_iter().flatten().collect())
}

/// A model with the pieces of a list in its order.
fn with_ids(model: PieceModel, tokens: Vec<String>, sidecar: &Sidecar) -> std::result::Result<PieceModel, String> {
    if model.search != Search::Unigram {
        return Err("a model that is not Unigram, which Marian's models are".to_owned());
    }
    let name = |role: &str, usual: &str| sidecar.token(role).unwrap_or_else(|| usual.to_owned());
    let (unknown, end, padding) = (
        name("unk_token", "<unk>"),
        name("eos_token", "</s>"),
        name("pad_token", "<pad>"),
    );
    let known: HashMap<&str, &Piece> = model.pieces.iter().map(|piece| (piece.text.as_str(), piece)).collect();
    let [before, after] = LANGUAGE_MARKS;
    let normal = model.pieces.iter().filter(|piece| piece.kind == Kind::Normal);
    let worst = normal.map(|piece| piece.score).fold(0.0, f32::min);
    let is_one_character = |text: &str| text.chars().nth(1).is_none();
    let piece = |text: String| {
        let own = known.get(text.as_str());
        let kind = match own {
            _ if text == unknown => Kind::Unknown,
            _ if text == end || text == padding => Kind::Control,
            _ if text.starts_with(before) && text.ends_with(after) => Kind::Control,
            Some(piece) if piece.kind == Kind::Unknown => Kind::Unused,
            Some(piece) => piece.kind,
            // Marian looks up what its model does not know in the list, and finds a character that the other language has.
            None if is_one_character(&text) => Kind::Normal,
            None => Kind::Unused,
        };
        Piece {
            score: own.map_or(worst - UNKNOWN_PENALTY as f32, |piece| piece.score),
            kind,
            text,
        }
    };
    let pieces = tokens.into_iter().map(piece).collect();
    Ok(PieceModel {
        pieces,
        end,
        ends_texts: true,
        ..model
    })
}
