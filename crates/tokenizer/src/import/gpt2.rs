//! GPT-2's two files: a JSON object from token to id, and the merges of BPE, a pair a line.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::sidecar::Sidecar;
use super::{Format, name_of, problem, tiktoken};
use crate::bytes::byte_character;
use crate::file::{Decoder, File, Model, Normalizer, PostProcessor, PreTokenizer};
use crate::open::{MAX_FILE_BYTES, MAX_VOCAB_SIZE};
use crate::{Result, special};

const VOCABULARIES: [&str; 2] = ["encoder.json", "vocab.json"];
const MERGES: [&str; 2] = ["vocab.bpe", "merges.txt"];

/// Marks the end of a word in the vocabularies of GPT-1 and CLIP, which work on words and not on bytes.
const END_OF_WORD: &str = "</w>";

/// Classes of transformers that cut text as GPT-2 does; `PreTrainedTokenizer` says nothing of its own.
const LIKE_GPT2: [&str; 8] = [
    "GPT2Tokenizer",
    "RobertaTokenizer",
    "CodeGenTokenizer",
    "BartTokenizer",
    "LongformerTokenizer",
    "LEDTokenizer",
    "MvpTokenizer",
    "PreTrainedTokenizer",
];

/// How Qwen2 cuts text, from its tokenizer in transformers.
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How a class of transformers cuts and normalizes text: the same two files belong to several.
fn rules(class: Option<&str>) -> std::result::Result<(Option<Normalizer>, PreTokenizer), String> {
    let like_gpt2 = PreTokenizer::byte_level();
    match class {
        None => Ok((None, like_gpt2)),
        Some(class) if LIKE_GPT2.contains(&class) => Ok((None, like_gpt2)),
        Some("GPTNeoXTokenizer") => Ok((Some(Normalizer::Nfc), like_gpt2)),
        Some("Qwen2Tokenizer") => Ok((Some(Normalizer::Nfc), tiktoken::words_by_name(QWEN2))),
        Some(class) => Err(format!(
            "tokenizer_config.json says {class}, and how that cuts text is not known here; save its tokenizer.json with \
             transformers (AutoTokenizer.from_pretrained(...).save_pretrained(...)), or give --pattern"
        )),
    }
}

/// Whether a file is called like a vocabulary, alone or with a model's name in front, as in `tiny.vocab.json`.
pub(super) fn is_vocabulary_name(name: &str) -> bool {
    VOCABULARIES.iter().any(|ending| name.ends_with(ending))
}

/// The vocabulary and the merges, from the path of either.
pub(super) fn pair(path: &Path) -> Option<(PathBuf, PathBuf)> {
    let name = name_of(path);
    let beside = |own: &[&str], others: &[&str]| {
        let ending = own.iter().find(|ending| name.ends_with(**ending));
        // A file with a name of its own has its other half under the plain names.
        let front = ending.map_or("", |ending| &name[..name.len() - ending.len()]);
        let candidates = others
            .iter()
            .map(|other| path.with_file_name(format!("{front}{other}")));
        candidates.into_iter().find(|path| taal_store::exists(path))
    };
    if name.ends_with(".json") {
        return Some((path.to_path_buf(), beside(&VOCABULARIES, &MERGES)?));
    }
    Some((beside(&MERGES, &VOCABULARIES)?, path.to_path_buf()))
}

pub(super) fn read(vocabulary: &Path, merges: &Path, pattern: Option<&str>) -> Result<File> {
    let tokens = read_vocabulary(vocabulary)?;
    let merges = read_merges(merges, &tokens)?;
    let sidecar = Sidecar::beside(vocabulary)?;
    let lists = [
        special::BEGIN,
        special::END,
        special::PADDING,
        special::UNKNOWN,
        special::MASK,
    ];
    // An ordinary token is made by merges, and a special one is not.
    let made: HashSet<String> = merges
        .iter()
        .map(|(first, second)| format!("{first}{second}"))
        .collect();
    let usual: Vec<&str> = lists
        .concat()
        .into_iter()
        .filter(|token| !made.contains(*token))
        .collect();
    let added = sidecar.added_tokens(&tokens, &usual);
    let id_of = |name: &'static str| {
        let token = added.iter().find(|token| token.content == name)?;
        Some((name, token.id))
    };
    // RoBERTa and those after it put every text between these, GPT-2 and Qwen2 do not, whatever their vocabulary has.
    let is_framed = !matches!(
        sidecar.class(),
        Some("GPT2Tokenizer" | "CodeGenTokenizer" | "GPTNeoXTokenizer" | "Qwen2Tokenizer")
    );
    let template = id_of("<s>").zip(id_of("</s>")).filter(|_| is_framed);
    let template = template.map(|(first, last)| PostProcessor::template(Some(first), Some(last)));
    let model = Model::bpe(tokens, merges, false);
    let (normalizer, pre_tokenizer) = match pattern {
        Some(pattern) => (None, tiktoken::words_by_name(pattern)),
        None => rules(sidecar.class()).map_err(|detail| problem(vocabulary, Format::Gpt2, detail))?,
    };
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
    let ids: Map<String, Value> = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
    if ids.is_empty() || ids.len() > MAX_VOCAB_SIZE {
        return Err(wrong(format!("{} tokens; expected 1 to {MAX_VOCAB_SIZE}", ids.len())));
    }
    let mut tokens = vec![None; ids.len()];
    for (token, id) in ids {
        if token.ends_with(END_OF_WORD) {
            return Err(wrong(format!(
                "the token {token:?} marks the end of a word, as GPT-1 and CLIP do; import the tokenizer.json of that model"
            )));
        }
        let place = id.as_u64().and_then(|id| tokens.get_mut(usize::try_from(id).ok()?));
        match place {
            Some(place @ None) => *place = Some(token),
            Some(Some(other)) => return Err(wrong(format!("{token:?} and {other:?} have the same id {id}"))),
            None => {
                return Err(wrong(format!(
                    "the id of {token:?} is {id}; expected a whole number from 0 to {}",
                    tokens.len() - 1
                )));
            }
        }
    }
    // As many tokens as ids and no id twice: none is left out.
    let tokens: Vec<String> = tokens.into_iter().flatten().collect();
    // Small vocabularies may lack bytes that their text did not have, and lose them as Python does; without the space it is something else.
    if !tokens.contains(&String::from(byte_character(b' '))) {
        return Err(wrong(
            "no token for the space, so this is no byte-level vocabulary".to_owned(),
        ));
    }
    Ok(tokens)
}

fn read_merges(path: &Path, tokens: &[String]) -> Result<Vec<(String, String)>> {
    let known: HashSet<&str> = tokens.iter().map(String::as_str).collect();
    let text = taal_store::read_text(path, MAX_FILE_BYTES)?;
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
                return Err(wrong(&format!("the token {token:?} is not in the vocabulary")));
            }
        }
        merges.push((first.to_owned(), second.to_owned()));
    }
    Ok(merges)
}
