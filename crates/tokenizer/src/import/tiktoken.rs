//! tiktoken's rank files: a token in base64 and its rank per line; the rank is the id and the merge priority.
//!
//! The pattern that splits words and the special tokens are not in the file: tiktoken has both in its code, by the name of the
//! encoding. The patterns are those of tiktoken 0.12 without possessive repetitions, which only affect speed, and with `\z` for
//! `$`, which Python's engine matches at the end of any line.

use std::collections::HashMap;
use std::path::Path;

use super::sidecar::Sidecar;
use super::{Format, MAX_TOKEN_BYTES, all_merges, name_of, problem};
use crate::bytes::byte_character;
use crate::file::{Decoder, File, Model, PreTokenizer};
use crate::open::{MAX_FILE_BYTES, MAX_VOCAB_SIZE};
use crate::{Error, Result, base64, patterns};

const CL100K: &str =
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+\z|\s*[\r\n]|\s+(?!\S)|\s";

const O200K: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const END_OF_TEXT: &str = "<|endoftext|>";

/// A named tiktoken encoding.
struct Encoding {
    name: &'static str,
    pattern: &'static str,
    special: &'static [(&'static str, u32)],
    /// Number of tokens, by which a file with another name is recognized; 0 where another encoding has the same file.
    n_ranks: usize,
}

const ENCODINGS: [Encoding; 7] = [
    Encoding {
        name: "gpt2",
        pattern: patterns::GPT2,
        special: &[(END_OF_TEXT, 50256)],
        n_ranks: 0,
    },
    Encoding {
        name: "r50k_base",
        pattern: patterns::GPT2,
        special: &[(END_OF_TEXT, 50256)],
        n_ranks: 50256,
    },
    Encoding {
        name: "p50k_base",
        pattern: patterns::GPT2,
        special: &[(END_OF_TEXT, 50256)],
        n_ranks: 50280,
    },
    Encoding {
        name: "p50k_edit",
        pattern: patterns::GPT2,
        special: &[
            (END_OF_TEXT, 50256),
            ("<|fim_prefix|>", 50281),
            ("<|fim_middle|>", 50282),
            ("<|fim_suffix|>", 50283),
        ],
        n_ranks: 0,
    },
    Encoding {
        name: "cl100k_base",
        pattern: CL100K,
        special: &[
            (END_OF_TEXT, 100257),
            ("<|fim_prefix|>", 100258),
            ("<|fim_middle|>", 100259),
            ("<|fim_suffix|>", 100260),
            ("<|endofprompt|>", 100276),
        ],
        n_ranks: 100256,
    },
    Encoding {
        name: "o200k_base",
        pattern: O200K,
        special: &[(END_OF_TEXT, 199999), ("<|endofprompt|>", 200018)],
        n_ranks: 199998,
    },
    Encoding {
        name: "o200k_harmony",
        pattern: O200K,
        special: &[
            ("<|startoftext|>", 199998),
            (END_OF_TEXT, 199999),
            ("<|return|>", 200002),
            ("<|constrain|>", 200003),
            ("<|channel|>", 200005),
            ("<|start|>", 200006),
            ("<|end|>", 200007),
            ("<|message|>", 200008),
            ("<|call|>", 200012),
            ("<|endofprompt|>", 200018),
            // tiktoken reserves all ids up to here.
            ("<|reserved_201087|>", 201087),
        ],
        n_ranks: 0,
    },
];

/// Whether a text begins like a rank file: a token in base64, a space and a number.
pub(super) fn looks_like(text: &str) -> bool {
    let mut lines = text.lines().filter(|line| !line.is_empty()).take(2);
    let is_rank = |line| parse_line(line).is_ok();
    lines.next().is_some_and(is_rank) && lines.next().is_none_or(is_rank)
}

pub(super) fn read(path: &Path, pattern: Option<&str>) -> Result<File> {
    let wrong = |detail: String| problem(path, Format::Tiktoken, detail);
    let text = taal_store::read_text(path, MAX_FILE_BYTES)?;
    let mut tokens = read_ranks(&text).map_err(wrong)?;
    let (pre_tokenizer, special) = choose(path, pattern, &tokens)?;
    for &(name, id) in special {
        place(&mut tokens, id, name.as_bytes()).map_err(wrong)?;
    }
    let is_special = |id| special.iter().any(|&(_, special)| special == id);
    let ranks: HashMap<&[u8], u32> = (0..)
        .zip(&tokens)
        .filter(|(id, token)| !token.is_empty() && !is_special(*id))
        .map(|(id, token)| (token.as_slice(), id))
        .collect();
    let by_rank = (0..).zip(&tokens).filter(|(id, _)| !is_special(*id));
    let by_rank = by_rank.map(|(_, token)| token.as_slice());
    let merges = all_merges(by_rank, |token| ranks.get(token).copied(), |_, _| true).map_err(wrong)?;
    let spelled = spell(&tokens, special);
    let merges = merges
        .into_iter()
        .map(|(first, second)| (spelled[first as usize].clone(), spelled[second as usize].clone()))
        .collect();
    let added =
        Sidecar::next_to(path)?.added_tokens(&spelled, &special.iter().map(|&(name, _)| name).collect::<Vec<_>>());
    // A word that is a token as a whole becomes that token without merges.
    let model = Model::bpe(spelled, merges, true);
    Ok(File::imported(
        added,
        None,
        Some(pre_tokenizer),
        None,
        Decoder::byte_level(),
        model,
    ))
}

/// A token's bytes and its rank.
fn parse_line(line: &str) -> std::result::Result<(Vec<u8>, u32), &'static str> {
    let (token, rank) = line
        .split_once(' ')
        .ok_or("expected a token in base64, a space and its rank")?;
    let rank = rank.trim_end().parse().map_err(|_| "the rank is not a whole number")?;
    let token = base64::decode(token).ok_or("the token is not base64")?;
    if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
        return Err("the token is empty or longer than 512 bytes");
    }
    Ok((token, rank))
}

/// The tokens by rank; a missing rank is an empty token.
fn read_ranks(text: &str) -> std::result::Result<Vec<Vec<u8>>, String> {
    let mut tokens: Vec<Vec<u8>> = Vec::new();
    let mut lines: HashMap<Vec<u8>, usize> = HashMap::new();
    for (number, line) in (1_usize..).zip(text.lines()) {
        if line.is_empty() {
            continue;
        }
        let (token, rank) = parse_line(line).map_err(|detail| format!("line {number}: {detail}"))?;
        if let Some(other) = lines.insert(token.clone(), number) {
            return Err(format!("lines {other} and {number} are the same token"));
        }
        // Published files leave out only the ids of special tokens.
        if rank as usize > lines.len() + MAX_GAP {
            return Err(format!(
                "line {number}: rank {rank}, after {} lines; ranks count lines",
                lines.len()
            ));
        }
        place(&mut tokens, rank, &token).map_err(|detail| format!("line {number}: {detail}"))?;
    }
    if let Some(byte) = (0..=255_u8).find(|&byte| !lines.contains_key([byte].as_slice())) {
        return Err(format!("no token for the byte 0x{byte:02X}; a rank file has all 256"));
    }
    Ok(tokens)
}

/// The most ids of special tokens between the ranks.
const MAX_GAP: usize = 10_000;

fn place(tokens: &mut Vec<Vec<u8>>, id: u32, token: &[u8]) -> std::result::Result<(), String> {
    let index = id as usize;
    if index >= MAX_VOCAB_SIZE {
        return Err(format!("id {id}, but at most {MAX_VOCAB_SIZE} tokens are accepted"));
    }
    if tokens.len() <= index {
        tokens.resize(index + 1, Vec::new());
    }
    if !tokens[index].is_empty() {
        return Err(format!("id {id} is taken by two tokens"));
    }
    tokens[index] = token.to_vec();
    Ok(())
}

/// The pre-tokenizer and the special tokens.
fn choose(
    path: &Path,
    pattern: Option<&str>,
    tokens: &[Vec<u8>],
) -> Result<(PreTokenizer, &'static [(&'static str, u32)])> {
    let n_ranks = tokens.iter().filter(|token| !token.is_empty()).count();
    let named = |name: &str| ENCODINGS.iter().find(|encoding| encoding.name == name);
    let found = match pattern {
        Some(pattern) => match named(pattern) {
            Some(encoding) => Some(encoding),
            None => return Ok((words(pattern), &[])),
        },
        None => {
            let mut encodings = ENCODINGS.iter();
            let by_name = encodings.find(|encoding| name_of(path).contains(encoding.name));
            by_name.or_else(|| ENCODINGS.iter().find(|encoding| encoding.n_ranks == n_ranks))
        }
    };
    let encoding = found.ok_or_else(|| {
        let names: Vec<&str> = ENCODINGS.iter().map(|encoding| encoding.name).collect();
        let expected = format!("one of {}, or a regular expression", names.join(", "));
        let got = format!(
            "none, and {} with its {n_ranks} tokens is not a known file",
            path.display()
        );
        Error::setting("pattern", expected, got)
    })?;
    Ok((words(encoding.pattern), encoding.special))
}

/// The pre-tokenizer of a named encoding or of a pattern.
pub(super) fn words_by_name(pattern: &str) -> PreTokenizer {
    let encoding = ENCODINGS.iter().find(|encoding| encoding.name == pattern);
    words(encoding.map_or(pattern, |encoding| encoding.pattern))
}

/// The bytes of words that a pattern matches; text between matches is kept, where tiktoken would drop it.
fn words(pattern: &str) -> PreTokenizer {
    if pattern == patterns::GPT2 {
        return PreTokenizer::byte_level();
    }
    PreTokenizer::Sequence {
        pretokenizers: vec![
            PreTokenizer::split(String::from(pattern)),
            PreTokenizer::bytes_of_words(),
        ],
    }
}

/// Tokens in byte-level characters; ids without a token get names with a space, which no word of a text contains.
fn spell(tokens: &[Vec<u8>], special: &[(&str, u32)]) -> Vec<String> {
    let spelled = (0..).zip(tokens).map(|(id, token)| {
        if let Some((name, _)) = special.iter().find(|&&(_, special)| special == id) {
            return (*name).to_owned();
        }
        match token.is_empty() {
            true => format!("<|no token {id}|>"),
            false => token.iter().map(|&byte| byte_character(byte)).collect(),
        }
    });
    spelled.collect()
}
