//! Vocabularies of SentencePiece pieces, and the parts of a `tokenizer.json` that search and normalize as it does.
//!
//! A text is normalized, a space is added before it, spaces become U+2581, and the whole is split into pieces at once, without
//! words. Pieces that text must not become (`<s>`, `<0x41>`, unused ones) are excluded: BPE has no merges to them, Unigram gives
//! them a score below any path of real pieces.

use std::collections::{BTreeSet, HashMap};

use taal_store::excerpt;

use super::sidecar::Sidecar;
use super::{MAX_TOKEN_BYTES, all_merges};
use crate::base64;
use crate::bytes::fallback_byte;
use crate::file::{AddedToken, Decoder, File, Model, Normalizer, Pattern, PostProcessor, PreTokenizer, Vocabulary};

/// SentencePiece's visible space, U+2581.
pub(super) const SPACE: &str = "\u{2581}";

/// The penalty of an unknown character relative to the worst piece; source: `kUnkPenalty` of SentencePiece.
pub(super) const UNKNOWN_PENALTY: f64 = 10.0;

/// How a text is split into pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Search {
    /// The path of pieces with the highest sum of scores.
    Unigram,
    /// Merges neighbors, the pair with the highest score first.
    Bpe,
    /// Every character is a piece.
    Characters,
}

/// The kind of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) score: f32,
    pub(super) kind: Kind,
}

/// A SentencePiece model, with the defaults of its protocol buffer.
#[derive(Debug)]
pub(super) struct PieceModel {
    pub(super) pieces: Vec<Piece>,
    pub(super) search: Search,
    pub(super) byte_fallback: bool,
    pub(super) add_dummy_prefix: bool,
    pub(super) remove_extra_whitespaces: bool,
    /// Name of the rule behind the table of characters, such as `nmt_nfkc`.
    pub(super) rule: String,
    /// The table of characters; may be empty.
    pub(super) characters: Vec<u8>,
    /// The piece that begins a text.
    pub(super) begin: String,
    /// The piece that ends a text.
    pub(super) end: String,
    /// Whether texts begin with `begin` by default, unless the files next to it say otherwise.
    pub(super) begins_texts: bool,
    /// Whether texts end with `end` by default.
    pub(super) ends_texts: bool,
}

impl Default for PieceModel {
    fn default() -> Self {
        Self {
            pieces: Vec::new(),
            search: Search::Unigram,
            byte_fallback: false,
            add_dummy_prefix: true,
            remove_extra_whitespaces: true,
            rule: String::new(),
            characters: Vec::new(),
            begin: "<s>".to_owned(),
            end: "</s>".to_owned(),
            begins_texts: false,
            ends_texts: false,
        }
    }
}

type Made<T> = Result<T, String>;

impl PieceModel {
    /// The model as a `tokenizer.json`.
    pub(super) fn to_file(&self, sidecar: &Sidecar) -> Made<File> {
        self.check_pieces()?;
        let unknown = self.unknown_id()?;
        let added = self.added_tokens(sidecar);
        let template = self.template(sidecar);
        let model = match self.search {
            Search::Unigram => self.unigram(unknown),
            Search::Bpe => self.bpe(unknown, self.merges()?),
            Search::Characters => self.bpe(unknown, Vec::new()),
        };
        let normalizer = self.normalizer();
        Ok(File::imported(
            added,
            normalizer,
            self.pre_tokenizer(),
            template,
            self.decoder(),
            model,
        ))
    }

    fn check_pieces(&self) -> Made<()> {
        let mut ids: HashMap<&str, usize> = HashMap::with_capacity(self.pieces.len());
        let mut bytes = BTreeSet::new();
        for (id, piece) in self.pieces.iter().enumerate() {
            if piece.text.is_empty() || piece.text.len() > MAX_TOKEN_BYTES {
                return Err(format!(
                    "piece {id} has {} bytes; expected 1 to {MAX_TOKEN_BYTES}",
                    piece.text.len()
                ));
            }
            if !piece.score.is_finite() {
                return Err(format!("piece {id}: the score {} is not finite", piece.score));
            }
            if let Some(other) = ids.insert(&piece.text, id) {
                return Err(format!(
                    "pieces {other} and {id} are the same text {}",
                    excerpt(&piece.text)
                ));
            }
            if piece.kind == Kind::Byte {
                bytes.insert(
                    fallback_byte(&piece.text)
                        .ok_or_else(|| format!("piece {id}: {} names no byte", excerpt(&piece.text)))?,
                );
            }
            if piece.kind == Kind::Unused && self.search == Search::Bpe {
                return Err(format!(
                    "piece {id} is unused, which a tokenizer.json cannot express for a BPE token"
                ));
            }
        }
        if self.byte_fallback && bytes.len() != 256 {
            return Err(format!("byte fallback with {} of 256 bytes", bytes.len()));
        }
        Ok(())
    }

    fn unknown_id(&self) -> Made<u32> {
        let mut unknown = (0..).zip(&self.pieces).filter(|(_, piece)| piece.kind == Kind::Unknown);
        match (unknown.next(), unknown.next()) {
            (Some((id, _)), None) => Ok(id),
            (None, _) => Err("no piece is the unknown token".to_owned()),
            (Some((first, _)), Some((second, _))) => {
                Err(format!("pieces {first} and {second} are both the unknown token"))
            }
        }
    }

    /// Control pieces and the unknown one, which a text may contain, and the pieces that must not be split.
    fn added_tokens(&self, sidecar: &Sidecar) -> Vec<AddedToken> {
        let tokens: Vec<String> = self.pieces.iter().map(|piece| piece.text.clone()).collect();
        let own = (0..).zip(&self.pieces).filter_map(|(id, piece)| match piece.kind {
            Kind::Control | Kind::Unknown => Some(AddedToken::special(id, &piece.text)),
            // SentencePiece matches them after normalization, so that a prefix or spaces around them are those of the whole text.
            // In Unigram their score alone keeps them whole.
            Kind::UserDefined if self.search != Search::Unigram => Some(AddedToken {
                normalized: true,
                special: false,
                ..AddedToken::special(id, &piece.text)
            }),
            _ => None,
        });
        let mut added: Vec<AddedToken> = own.collect();
        for token in sidecar.added_tokens(&tokens, &[]) {
            added.retain(|known| known.content != token.content);
            added.push(token);
        }
        added.sort_by_key(|token| token.id);
        added
    }

    fn template(&self, sidecar: &Sidecar) -> Option<PostProcessor> {
        let control = |name: &str| {
            let mut pieces = (0..).zip(&self.pieces);
            let found = pieces.find(|(_, piece)| piece.kind == Kind::Control && piece.text == name);
            found.map(|(id, piece)| (piece.text.as_str(), id))
        };
        let begins = sidecar.switch("add_bos_token").unwrap_or(self.begins_texts);
        let ends = sidecar.switch("add_eos_token").unwrap_or(self.ends_texts);
        let first = control(&self.begin).filter(|_| begins);
        let last = control(&self.end).filter(|_| ends);
        (first.is_some() || last.is_some()).then(|| PostProcessor::template(first, last))
    }

    fn normalizer(&self) -> Option<Normalizer> {
        let replace = |pattern, content| Normalizer::Replace { pattern, content };
        let regex = |pattern: &'static str| Pattern::Regex(pattern.into());
        let mut normalizers = Vec::new();
        if !self.characters.is_empty() {
            if self.rule.starts_with("nmt") {
                // Both become a space. The library treats the two as one character and would give one space.
                normalizers.push(replace(Pattern::String("\r\n"), "\n\n"));
            }
            normalizers.push(Normalizer::Precompiled {
                precompiled_charsmap: base64::encode(&self.characters),
            });
        }
        if self.remove_extra_whitespaces {
            // SentencePiece does this after spaces have become U+2581, including U+2581 of the text.
            normalizers.push(replace(regex(r"[ \x{2581}]+\z"), ""));
            normalizers.push(replace(regex(r" {2,}"), " "));
            if !self.add_dummy_prefix {
                normalizers.push(replace(regex(r"\A +"), ""));
            }
        }
        if !self.keeps_first_space() {
            normalizers.push(replace(Pattern::String(" "), SPACE));
        }
        (!normalizers.is_empty()).then_some(Normalizer::Sequence { normalizers })
    }

    /// Whether a leading space of the text replaces the added one: where extra spaces are removed, only one remains.
    fn keeps_first_space(&self) -> bool {
        self.add_dummy_prefix && self.remove_extra_whitespaces
    }

    /// Adds a space before the text, but not elsewhere, such as after a special token.
    ///
    /// A single `Metaspace` would mistake a U+2581 of the text for that space. So the first uses a plain space as its marker: it
    /// adds one where there is none, which is always the case where the normalizer has already turned all spaces into U+2581. The
    /// second converts the rest.
    fn pre_tokenizer(&self) -> Option<PreTokenizer> {
        let mut pretokenizers = Vec::new();
        if self.add_dummy_prefix {
            for (replacement, prepend_scheme) in [(' ', "first"), ('\u{2581}', "never")] {
                pretokenizers.push(PreTokenizer::Metaspace {
                    replacement,
                    prepend_scheme,
                    split: false,
                });
            }
        }
        if let Some(pattern) = self.strange_characters() {
            pretokenizers.push(PreTokenizer::split(pattern));
        }
        (!pretokenizers.is_empty()).then_some(PreTokenizer::Sequence { pretokenizers })
    }

    /// The characters of the byte pieces' names that no other piece has: splitting a text around them changes nothing, since they
    /// become bytes, and prevents matches of a name in the text.
    fn strange_characters(&self) -> Option<String> {
        if !self.byte_fallback || self.search != Search::Unigram {
            return None;
        }
        let mut strange: BTreeSet<char> = "<0x123456789ABCDEF>".chars().collect();
        for piece in self.pieces.iter().filter(|piece| piece.is_text()) {
            strange.retain(|&character| !piece.text.contains(character));
        }
        (!strange.is_empty()).then(|| format!("[{}]", strange.into_iter().collect::<String>()))
    }

    fn decoder(&self) -> Decoder {
        let mut decoders = vec![
            Decoder::Replace {
                pattern: Pattern::String(SPACE),
                content: " ",
            },
            Decoder::ByteFallback,
            Decoder::Fuse,
        ];
        if self.add_dummy_prefix {
            decoders.push(Decoder::Strip {
                content: ' ',
                start: 1,
                stop: 0,
            });
        }
        Decoder::Sequence { decoders }
    }

    /// The pairs that make a piece, the highest score first, ties in the order of the pieces.
    fn merges(&self) -> Made<Vec<(String, String)>> {
        let ids: HashMap<&[u8], u32> = (0..)
            .zip(&self.pieces)
            .filter(|(_, piece)| piece.kind == Kind::Normal)
            .map(|(id, piece)| (piece.text.as_bytes(), id))
            .collect();
        let mut order: Vec<&Piece> = self.pieces.iter().filter(|piece| piece.kind == Kind::Normal).collect();
        order.sort_by(|a, b| b.score.total_cmp(&a.score));
        let tokens = order.iter().map(|piece| piece.text.as_bytes());
        // Continuation bytes of a character have these two bits.
        let is_cut = |token: &[u8], cut: usize| token[cut] & 0xC0 != 0x80;
        let merges = all_merges(tokens, |token| ids.get(token).copied(), is_cut)?;
        let text = |id: u32| self.pieces[id as usize].text.clone();
        Ok(merges
            .into_iter()
            .map(|(first, second)| (text(first), text(second)))
            .collect())
    }

    fn bpe(&self, unknown: u32, merges: Vec<(String, String)>) -> Model {
        Model::Bpe {
            dropout: None,
            unk_token: Some(self.pieces[unknown as usize].text.clone()),
            continuing_subword_prefix: None,
            end_of_word_suffix: None,
            fuse_unk: true,
            byte_fallback: self.byte_fallback,
            ignore_merges: false,
            vocab: Vocabulary(self.pieces.iter().map(|piece| piece.text.clone()).collect()),
            merges,
        }
    }

    fn unigram(&self, unknown: u32) -> Model {
        let scores = || {
            self.pieces
                .iter()
                .filter(|piece| piece.kind == Kind::Normal)
                .map(|piece| piece.score)
        };
        let worst = scores().fold(0.0, f32::min);
        let best = scores().fold(f32::NEG_INFINITY, f32::max);
        let best = if best.is_finite() { best } else { 0.0 };
        // A text of as many characters, each a separate piece or unknown, has a higher score.
        let hidden = self.pieces.iter().filter(|piece| !piece.is_text());
        let longest = hidden.map(|piece| piece.text.chars().count()).max().unwrap_or(0);
        let out_of_reach = (longest + 2) as f64 * (f64::from(worst) - UNKNOWN_PENALTY);
        let vocab = self.pieces.iter().map(|piece| {
            let score = match piece.kind {
                Kind::Normal => f64::from(piece.score),
                // Source: `Model::EncodeOptimized` of SentencePiece's `unigram_model.cc`.
                Kind::UserDefined => f64::from(piece.text.len() as f32 * best - 0.1),
                _ => out_of_reach,
            };
            (piece.text.clone(), score)
        });
        Model::Unigram {
            unk_id: Some(unknown),
            vocab: vocab.collect(),
            byte_fallback: self.byte_fallback,
        }
    }
}

impl Piece {
    /// Whether a text can become this piece.
    fn is_text(&self) -> bool {
        matches!(self.kind, Kind::Normal | Kind::UserDefined)
    }
}
