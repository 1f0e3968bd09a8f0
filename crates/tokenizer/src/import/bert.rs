//! BERT's `vocab.txt`: one WordPiece token per line, the line number is the id.

use std::collections::HashMap;
use std::path::Path;

use super::sidecar::Sidecar;
use super::{Format, problem};
use crate::Result;
use crate::file::{Decoder, File, Model, Normalizer, PostProcessor, PreTokenizer, Vocabulary};
use crate::open::{MAX_FILE_BYTES, MAX_VOCAB_SIZE};

const UNKNOWN: &str = "[UNK]";
const USUAL: [&str; 5] = ["[PAD]", UNKNOWN, "[CLS]", "[SEP]", "[MASK]"];
const PREFIX: &str = "##";

/// BERT's own limit: a longer word becomes the unknown token.
const MAX_WORD_CHARS: usize = 100;

/// Whether a text is a WordPiece vocabulary: lines of one token each, including the unknown one.
pub(super) fn looks_like(text: &str) -> bool {
    let mut has_unknown = false;
    let is_tokens = text.lines().all(|line| {
        has_unknown |= line.trim_end() == UNKNOWN;
        !line.trim_end().contains([' ', '\t'])
    });
    is_tokens && (has_unknown || text.lines().any(|line| line.starts_with(PREFIX)))
}

pub(super) fn read(path: &Path) -> Result<File> {
    let wrong = |detail: String| problem(path, Format::Bert, detail);
    let text = taal_store::read_text(path, MAX_FILE_BYTES)?;
    let tokens = read_tokens(&text).map_err(wrong)?;
    let sidecar = Sidecar::next_to(path)?;
    let unknown = sidecar.token("unk_token").unwrap_or_else(|| UNKNOWN.to_owned());
    let added = sidecar.added_tokens(&tokens, &USUAL);
    let id_of = |name: &str| (0..).zip(&tokens).find(|(_, token)| *token == name).map(|(id, _)| id);
    if id_of(&unknown).is_none() {
        return Err(wrong(format!("the unknown token {unknown} is missing")));
    }
    let around = ["cls_token", "sep_token"].map(|role| sidecar.token(role));
    let [first, last] = around;
    let first = first.unwrap_or_else(|| "[CLS]".to_owned());
    let last = last.unwrap_or_else(|| "[SEP]".to_owned());
    let template = id_of(&first).zip(id_of(&last));
    let template =
        template.map(|(begin, end)| PostProcessor::template(Some((first.as_str(), begin)), Some((last.as_str(), end))));
    let is_uncased = sidecar.switch("do_lower_case").unwrap_or_else(|| is_uncased(&tokens));
    let normalizer = Normalizer::Bert {
        clean_text: true,
        handle_chinese_chars: sidecar.switch("tokenize_chinese_chars").unwrap_or(true),
        // By default, accents are stripped if text is lowercased.
        strip_accents: sidecar.switch("strip_accents"),
        lowercase: is_uncased,
    };
    let model = Model::WordPiece {
        unk_token: unknown,
        continuing_subword_prefix: PREFIX,
        max_input_chars_per_word: MAX_WORD_CHARS,
        vocab: Vocabulary(tokens),
    };
    let decoder = Decoder::WordPiece {
        prefix: PREFIX,
        cleanup: true,
    };
    let pre_tokenizer = Some(PreTokenizer::Bert);
    Ok(File::imported(
        added,
        Some(normalizer),
        pre_tokenizer,
        template,
        decoder,
        model,
    ))
}

/// The tokens in the order of their ids. Of equal lines the last one is used, as in transformers; the ids of the others get names
/// with spaces, which no word of a text contains.
fn read_tokens(text: &str) -> std::result::Result<Vec<String>, String> {
    let mut ids = HashMap::new();
    let mut tokens: Vec<String> = Vec::new();
    for (id, line) in text.lines().enumerate() {
        if let Some(earlier) = ids.insert(line, id) {
            tokens[earlier] = format!("<|no token {earlier}|>");
        }
        tokens.push(line.to_owned());
    }
    if tokens.len() > MAX_VOCAB_SIZE {
        return Err(format!(
            "{} tokens, but at most {MAX_VOCAB_SIZE} are accepted",
            tokens.len()
        ));
    }
    Ok(tokens)
}

/// A vocabulary without capitals is uncased; names in brackets are special tokens.
///
/// Capitals without a lower case, such as U+211D, are in BERT's uncased vocabulary.
fn is_uncased(tokens: &[String]) -> bool {
    let is_name = |token: &str| token.starts_with(['[', '<']) && token.ends_with([']', '>']);
    let mut words = tokens.iter().filter(|token| !is_name(token));
    words.all(|token| token.to_lowercase() == *token)
}
