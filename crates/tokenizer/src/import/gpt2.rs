//! GPT-2's two files: a JSON object from token to id, and the merges of BPE, one pair per line.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use taal_store::excerpt;

use super::class::{self, Class};
use super::sidecar::Sidecar;
use super::{Format, name_of, problem, refuse_stand_in};
use crate::Result;
use crate::bytes::byte_character;
use crate::file::{Decoder, File, Model};
use crate::open::{MAX_FILE_BYTES, MAX_VOCAB_SIZE};

const VOCABULARIES: [&str; 2] = ["encoder.json", "vocab.json"];
const MERGES: [&str; 2] = ["vocab.bpe", "merges.txt"];

/// Marks the end of a word in the vocabularies of GPT-1 and CLIP, which are based on words, not bytes.
const END_OF_WORD: &str = "</w>";

/// Whether a file has the name of a vocabulary, possibly with a prefix, as in `tiny.vocab.json`.
pub(super) fn is_vocabulary_name(name: &str) -> bool {
    VOCABULARIES.iter().any(|ending| name.ends_with(ending))
}

/// The vocabulary and the merges, from the path of either.
pub(super) fn pair(path: &Path) -> Option<(PathBuf, PathBuf)> {
    let name = name_of(path);
    let half_next_to = |own: &[&str], others: &[&str]| {
        let ending = own.iter().find(|ending| name.ends_with(**ending));
        // A file with another name has its other half under the standard names.
        let front = ending.map_or("", |ending| &name[..name.len() - ending.len()]);
        let candidates = others
            .iter()
            .map(|other| path.with_file_name(format!("{front}{other}")));
        candidates.into_iter().find(|path| taal_store::exists(path))
    };
    if name.ends_with(".json") {
        return Some((path.to_path_buf(), half_next_to(&VOCABULARIES, &MERGES)?));
    }
    Some((half_next_to(&MERGES, &VOCABULARIES)?, path.to_path_buf()))
}

pub(super) fn read(vocabulary: &Path, merges: &Path, pattern: Option<&str>) -> Result<File> {
    let tokens = read_vocabulary(vocabulary)?;
    let merges = read_merges(merges, &tokens)?;
    let sidecar = Sidecar::next_to(vocabulary)?;
    let wrong = |detail: String| problem(vocabulary, Format::Gpt2, detail);
    // The caller's pattern overrides the class.
    let class = match (Class::of(&sidecar), pattern) {
        (Ok(class), _) => class,
        (Err(_), Some(_)) => Class::Unnamed,
        (Err(detail), None) => return Err(wrong(detail)),
    };
    // An ordinary token is made by merges, and a special one is not.
    let made: HashSet<String> = merges
        .iter()
        .map(|(first, second)| format!("{first}{second}"))
        .collect();
    let special = class.special(&sidecar);
    let usual: Vec<&str> = special
        .iter()
        .map(String::as_str)
        .filter(|token| !made.contains(*token))
        .collect();
    let added = sidecar.added_tokens(&tokens, &usual);
    let template = class.template(&sidecar, &added).map_err(wrong)?;
    let normalizer = class.normalizer().filter(|_| pattern.is_none());
    let pre_tokenizer = class::words(pattern.unwrap_or(class.pattern()), &sidecar);
    let model = Model::bpe(tokens, merges, false);
    Ok(File::imported(
        added,
        normalizer,
        Some(pre_tokenizer),
        template,
        Decoder::byte_level(),
        model,
    ))
}

/// The tokens in the order of their ids.
fn read_vocabulary(path: &Path) -> Result<Vec<String>> {
    let wrong = |detail: String| problem(path, Format::Gpt2, detail);
    let bytes = taal_store::read(path, MAX_FILE_BYTES)?;
    refuse_stand_in(path, &bytes)?;
    let ids: Map<String, Value> =
        serde_json::from_slice(&bytes).map_err(|error| wrong(taal_store::shorten(&error.to_string())))?;
    if ids.is_empty() || ids.len() > MAX_VOCAB_SIZE {
        return Err(wrong(format!("{} tokens; expected 1 to {MAX_VOCAB_SIZE}", ids.len())));
    }
    let mut tokens = vec![None; ids.len()];
    for (token, id) in ids {
        if token.ends_with(END_OF_WORD) {
            return Err(wrong(format!(
                "the token {} marks the end of a word, as GPT-1 and CLIP do; import the tokenizer.json of that model",
                excerpt(&token)
            )));
        }
        let place = id.as_u64().and_then(|id| tokens.get_mut(usize::try_from(id).ok()?));
        match place {
            Some(place @ None) => *place = Some(token),
            Some(Some(other)) => {
                return Err(wrong(format!(
                    "{} and {} have the same id {id}",
                    excerpt(&token),
                    excerpt(other)
                )));
            }
            None => {
                return Err(wrong(format!(
                    "the id of {} is {}; expected a whole number from 0 to {}",
                    excerpt(&token),
                    taal_store::shorten(&id.to_string()),
                    tokens.len() - 1
                )));
            }
        }
    }
    // As many tokens as ids and no duplicate ids: none is missing.
    let tokens: Vec<String> = tokens.into_iter().flatten().collect();
    // Small vocabularies may lack bytes that their text did not contain, and drop them as Python does; without the space it is
    // another format.
    if !tokens.contains(&String::from(byte_character(b' '))) {
        return Err(wrong(
            "no token for the space, so this is not a byte-level vocabulary".to_owned(),
        ));
    }
    Ok(tokens)
}

fn read_merges(path: &Path, tokens: &[String]) -> Result<Vec<(String, String)>> {
    let known: HashSet<&str> = tokens.iter().map(String::as_str).collect();
    let text = taal_store::read_text(path, MAX_FILE_BYTES)?;
    refuse_stand_in(path, text.as_bytes())?;
    let mut merges = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.is_empty() || number == 1 && line.starts_with("#version") {
            continue;
        }
        let wrong = |detail: &str| problem(path, Format::Gpt2, format!("line {number}: {detail}"));
        let parts = line.split_once(' ').filter(|(_, second)| !second.contains(' '));
        let (first, second) = parts.ok_or_else(|| wrong("expected two tokens with a space between them"))?;
        for token in [first, second, &format!("{first}{second}")] {
            if !known.contains(token) {
                return Err(wrong(&format!("the token {} is not in the vocabulary", excerpt(token))));
            }
        }
        merges.push((first.to_owned(), second.to_owned()));
    }
    Ok(merges)
}
