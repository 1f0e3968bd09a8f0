//! Checks on a `tokenizer.json` before the library sees it, because the library panics on some damaged files.
//!
//! A vocabulary of at most a million tokens with the ids 0, 1, 2, ... and no duplicate ids; merges whose parts and result are in
//! the vocabulary; finite scores; at most 64 levels of nesting. The steps around the model are checked by [`crate::pipeline`].

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};
use taal_store::excerpt;

use crate::pipeline;

/// The largest `tokenizer.json` that is opened; the largest in public use are about 35 MB.
pub(crate) const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

/// The largest vocabulary; the largest in public use have about 260 thousand tokens.
pub(crate) const MAX_VOCAB_SIZE: usize = 1_000_000;

/// The deepest nesting of lists and objects; published files have less than ten levels.
const MAX_DEPTH: usize = 64;

type Checked<T> = Result<T, String>;

/// Facts about a file that the checks collect.
pub(crate) struct Facts {
    /// Tokens in the order of their ids, including special and other added tokens.
    pub(crate) tokens: Vec<String>,
    /// Ids of the added tokens that are special.
    pub(crate) special: HashSet<u32>,
    /// Contents of all added tokens.
    pub(crate) added: Vec<String>,
    /// The model's unknown token, if it is in the vocabulary.
    pub(crate) unknown: Option<u32>,
    /// Whether any added token depends on whitespace or word boundaries around it.
    pub(crate) has_wide_added_tokens: bool,
}

/// Checks the parsed file.
///
/// The error says what is wrong; it follows "not a usable tokenizer.json" in messages.
pub(crate) fn check(file: &Value) -> Checked<Facts> {
    check_depth(file, 0)?;
    let object = file.as_object().ok_or("the file is not a JSON object")?;
    let model = object
        .get("model")
        .and_then(Value::as_object)
        .ok_or("the key `model` is missing or not an object")?;
    let mut ids = model_vocabulary(model)?;
    check_merges(model, &ids)?;
    let unknown = unknown_id(model, &ids)?;
    let model_size = ids.len();
    let mut facts = Facts {
        tokens: Vec::new(),
        special: HashSet::new(),
        added: Vec::new(),
        unknown,
        has_wide_added_tokens: false,
    };
    check_added_tokens(object, &mut ids, &mut facts)?;
    // The library gives added tokens the ids after the model's, so a gap inside the model's ids can never be filled.
    facts.tokens = in_id_order(ids, model_size)?;
    pipeline::check(object, facts.tokens.len())?;
    Ok(facts)
}

fn check_depth(value: &Value, depth: usize) -> Checked<()> {
    if depth > MAX_DEPTH {
        return Err(format!("lists or objects are nested deeper than {MAX_DEPTH} levels"));
    }
    match value {
        Value::Array(values) => values.iter().try_for_each(|value| check_depth(value, depth + 1)),
        Value::Object(values) => values.values().try_for_each(|value| check_depth(value, depth + 1)),
        _ => Ok(()),
    }
}

fn check_size(vocab_size: usize) -> Checked<()> {
    if vocab_size == 0 {
        return Err("`model.vocab` is empty".to_owned());
    }
    if vocab_size > MAX_VOCAB_SIZE {
        return Err(format!(
            "{vocab_size} tokens, but at most {MAX_VOCAB_SIZE} are accepted"
        ));
    }
    Ok(())
}

fn model_vocabulary(model: &Map<String, Value>) -> Checked<HashMap<String, u32>> {
    match model.get("vocab") {
        Some(Value::Object(vocab)) => {
            check_size(vocab.len())?;
            let entries = vocab.iter().map(|(token, id)| {
                let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
                let id = id.ok_or_else(|| {
                    format!(
                        "`model.vocab`: the id of {} is not a whole number from 0",
                        excerpt(token)
                    )
                })?;
                Ok((token.clone(), id))
            });
            entries.collect()
        }
        Some(Value::Array(vocab)) => {
            check_size(vocab.len())?;
            let mut ids = HashMap::with_capacity(vocab.len());
            for (id, entry) in (0..).zip(vocab) {
                let token = entry.get(0).and_then(Value::as_str);
                let score = entry.get(1).and_then(Value::as_f64).filter(|score| score.is_finite());
                let (Some(token), Some(_)) = (token, score) else {
                    return Err(format!("`model.vocab[{id}]`: expected a token and a finite score"));
                };
                if ids.insert(token.to_owned(), id).is_some() {
                    return Err(format!(
                        "`model.vocab[{id}]`: the token {} occurs twice",
                        excerpt(token)
                    ));
                }
            }
            Ok(ids)
        }
        _ => Err("the key `model.vocab` is missing or neither an object nor a list".to_owned()),
    }
}

/// Both parts of every merge, and what they merge to, must be in the vocabulary.
fn check_merges(model: &Map<String, Value>, ids: &HashMap<String, u32>) -> Checked<()> {
    let Some(merges) = model.get("merges") else {
        return Ok(());
    };
    let merges = merges.as_array().ok_or("`model.merges` is not a list")?;
    let prefix = model
        .get("continuing_subword_prefix")
        .and_then(Value::as_str)
        .unwrap_or("");
    for (index, merge) in merges.iter().enumerate() {
        let parts = match merge {
            // The oldest files begin the list with a line of their merges.txt.
            Value::String(line) if line.starts_with("#version") => continue,
            Value::String(line) => line.split_once(' ').filter(|(_, second)| !second.contains(' ')),
            _ => merge
                .get(0)
                .and_then(Value::as_str)
                .zip(merge.get(1).and_then(Value::as_str)),
        };
        let (first, second) = parts.ok_or_else(|| format!("`model.merges[{index}]`: expected two tokens"))?;
        // The library removes the prefix by its length alone, which panics inside a character.
        let rest = second.get(prefix.len()..);
        let rest = rest.ok_or_else(|| {
            format!(
                "`model.merges[{index}]`: {} is shorter than the prefix",
                excerpt(second)
            )
        })?;
        let merged = format!("{first}{rest}");
        for token in [first, second, &merged] {
            if !ids.contains_key(token) {
                return Err(format!(
                    "`model.merges[{index}]`: the token {} is not in the vocabulary",
                    excerpt(token)
                ));
            }
        }
    }
    Ok(())
}

fn unknown_id(model: &Map<String, Value>, ids: &HashMap<String, u32>) -> Checked<Option<u32>> {
    if let Some(id) = model.get("unk_id").filter(|id| !id.is_null()) {
        let id = id
            .as_u64()
            .filter(|&id| id < ids.len() as u64)
            .and_then(|id| u32::try_from(id).ok());
        return id
            .map(Some)
            .ok_or_else(|| "`model.unk_id` is not an id of the vocabulary".to_owned());
    }
    Ok(model
        .get("unk_token")
        .and_then(Value::as_str)
        .and_then(|token| ids.get(token).copied()))
}

fn check_added_tokens(object: &Map<String, Value>, ids: &mut HashMap<String, u32>, facts: &mut Facts) -> Checked<()> {
    let added = match object.get("added_tokens") {
        None | Some(Value::Null) => return Ok(()),
        Some(value) => value.as_array().ok_or("`added_tokens` is not a list")?,
    };
    check_size(ids.len() + added.len())?;
    for (index, token) in added.iter().enumerate() {
        let content = token
            .get("content")
            .and_then(Value::as_str)
            .filter(|content| !content.is_empty());
        let content =
            content.ok_or_else(|| format!("`added_tokens[{index}]`: expected a `content` that is not empty"))?;
        let id = token
            .get("id")
            .and_then(Value::as_u64)
            .and_then(|id| u32::try_from(id).ok());
        let id = id.ok_or_else(|| format!("`added_tokens[{index}]`: expected an `id`"))?;
        if *ids.entry(content.to_owned()).or_insert(id) != id {
            return Err(format!(
                "`added_tokens[{index}]`: {} has another id in `model.vocab`",
                excerpt(content)
            ));
        }
        let is = |key| token.get(key).and_then(Value::as_bool).unwrap_or(false);
        if is("special") {
            facts.special.insert(id);
        }
        facts.has_wide_added_tokens |=
            is("single_word") || is("lstrip") || is("rstrip") || content.contains(char::is_whitespace);
        facts.added.push(content.to_owned());
    }
    Ok(())
}

fn in_id_order(ids: HashMap<String, u32>, model_size: usize) -> Checked<Vec<String>> {
    let mut tokens: Vec<(u32, String)> = ids.into_iter().map(|(token, id)| (id, token)).collect();
    tokens.sort_unstable();
    for (expected, (id, token)) in (0..).zip(&tokens) {
        if *id != expected {
            let of = if (expected as usize) < model_size {
                "the vocabulary"
            } else {
                "the added tokens"
            };
            return Err(format!(
                "ids of {of} are not 0, 1, 2, ...: {} has id {id} where {expected} was expected",
                excerpt(token)
            ));
        }
    }
    Ok(tokens.into_iter().map(|(_, token)| token).collect())
}
