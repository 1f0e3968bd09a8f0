//! Which ids begin and end a text, from the files of a model directory.
//!
//! As in transformers, `generation_config.json` takes precedence over `config.json`, and both over the names in
//! `tokenizer_config.json`. The first file that has the key decides, and `null` there means no id.

use std::path::Path;

use serde_json::{Map, Value};

use super::{CONFIG_FILE, MAX_CONFIG_BYTES, shown};
use crate::ModelError;

/// Name of the file with the generation settings in a model directory.
pub const GENERATION_CONFIG_FILE: &str = "generation_config.json";
/// Name of the file with the tokenizer's settings in a model directory.
pub const TOKENIZER_CONFIG_FILE: &str = "tokenizer_config.json";

/// Large, because it holds chat templates and lists of added tokens.
const MAX_TOKENIZER_CONFIG_BYTES: u64 = 16 << 20;

pub(super) const BOS_KEY: &str = "bos_token_id";
pub(super) const EOS_KEY: &str = "eos_token_id";
pub(super) const PAD_KEY: &str = "pad_token_id";
const START_KEY: &str = "decoder_start_token_id";

/// The value of a key for the beginning or end of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark {
    /// These ids, which may be outside the vocabulary; empty for `null`.
    Ids(Vec<i64>),
    /// The token of this name.
    Token(String),
}

/// The special ids in the files of a model directory; empty by default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SpecialIds {
    /// The beginning of a text; `None` where no file has the key.
    pub begin: Option<Mark>,
    /// The end of a text; `None` where no file has the key.
    pub end: Option<Mark>,
    /// The values of the ids in `config.json`, unchanged.
    config: Map<String, Value>,
    /// The bytes of `generation_config.json`.
    generation_config: Option<Vec<u8>>,
}

impl SpecialIds {
    /// Reads the files of a model directory.
    ///
    /// # Errors
    ///
    /// [`ModelError::File`] names the file and the key, where one is not JSON or a value is not an id.
    pub fn open(dir: &Path) -> Result<Self, ModelError> {
        let mut ids = Self::default();
        let path = dir.join(GENERATION_CONFIG_FILE);
        if taal_store::exists(&path) {
            let text = taal_store::read_text(&path, MAX_CONFIG_BYTES)?;
            let object = parse(&path, &text)?;
            ids.begin = ids_of(&path, &object, BOS_KEY)?;
            ids.end = ids_of(&path, &object, EOS_KEY)?;
            ids.generation_config = Some(text.into_bytes());
        }
        let path = dir.join(CONFIG_FILE);
        let object = parse(&path, &taal_store::read_text(&path, MAX_CONFIG_BYTES)?)?;
        let [begin, end] = [BOS_KEY, EOS_KEY].map(|key| ids_of(&path, &object, key));
        let (begin, end) = (begin?, end?);
        ids.begin = ids.begin.or(begin);
        ids.end = ids.end.or(end);
        for key in [BOS_KEY, EOS_KEY, PAD_KEY] {
            ids.config
                .extend(object.get(key).map(|value| (key.to_string(), value.clone())));
        }
        let path = dir.join(TOKENIZER_CONFIG_FILE);
        if (ids.begin.is_none() || ids.end.is_none()) && taal_store::exists(&path) {
            let object = parse(&path, &taal_store::read_text(&path, MAX_TOKENIZER_CONFIG_BYTES)?)?;
            let [begin, end] = ["bos_token", "eos_token"].map(|key| token_of(&path, &object, key));
            let (begin, end) = (begin?, end?);
            ids.begin = ids.begin.or(begin);
            ids.end = ids.end.or(end);
        }
        Ok(ids)
    }

    /// The ids from another file format.
    pub fn new(begin: Option<u32>, end: &[u32]) -> Self {
        let mark = |ids: &[u32]| (!ids.is_empty()).then(|| Mark::Ids(ids.iter().map(|&id| i64::from(id)).collect()));
        Self {
            begin: mark(begin.as_slice()),
            end: mark(end),
            ..Self::default()
        }
    }

    /// Fills in the keys missing from `config.json`.
    pub fn complete(&mut self, begin: Option<u32>, end: &[u32], padding: Option<u32>) {
        let end = match end {
            [] => Value::Null,
            [id] => (*id).into(),
            ids => ids.into(),
        };
        for (key, value) in [(BOS_KEY, begin.into()), (EOS_KEY, end), (PAD_KEY, padding.into())] {
            self.config.entry(key).or_insert(value);
        }
    }

    /// Replaces the ids that end a text, in every file that names them.
    pub fn set_end(&mut self, end: &[u32]) {
        let value = match end {
            [id] => Value::from(*id),
            ids => ids.into(),
        };
        self.end = Some(Mark::Ids(end.iter().map(|&id| i64::from(id)).collect()));
        self.config.insert(EOS_KEY.to_string(), value.clone());
        // It was parsed when it was read.
        let generation_config = self.generation_config.as_deref();
        if let Some(Ok(mut object)) = generation_config.map(serde_json::from_slice::<Map<String, Value>>) {
            object.insert(EOS_KEY.to_string(), value);
            self.generation_config = Some(format!("{:#}\n", Value::Object(object)).into_bytes());
        }
    }

    /// The values for `config.json`.
    pub(super) fn config(&self) -> &Map<String, Value> {
        &self.config
    }

    /// The file with the generation settings, which is copied unchanged.
    pub(super) fn generation_config(&self) -> Option<&[u8]> {
        self.generation_config.as_deref()
    }
}

/// The id that a decoder's text begins with, from the generation settings of a model directory; `None` where they do not say.
///
/// # Errors
///
/// [`ModelError::File`] names the file and the key, where it is not JSON or the value is not an id.
pub(super) fn decoder_start(dir: &Path) -> Result<Option<u32>, ModelError> {
    let path = dir.join(GENERATION_CONFIG_FILE);
    if !taal_store::exists(&path) {
        return Ok(None);
    }
    let object = parse(&path, &taal_store::read_text(&path, MAX_CONFIG_BYTES)?)?;
    match object.get(START_KEY) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64().and_then(|id| u32::try_from(id).ok()) {
            Some(id) => Ok(Some(id)),
            None => {
                let value = shown(&value.to_string());
                Err(ModelError::file(
                    path,
                    format!("key `{START_KEY}`: expected a token id, got {value}"),
                ))
            }
        },
    }
}

fn parse(path: &Path, text: &str) -> Result<Map<String, Value>, ModelError> {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(ModelError::file(path, "expected a JSON object")),
        Err(error) => Err(ModelError::file(path, format!("not valid JSON: {error}"))),
    }
}

/// A number, a list of numbers, or `null`.
fn ids_of(path: &Path, object: &Map<String, Value>, key: &str) -> Result<Option<Mark>, ModelError> {
    let Some(value) = object.get(key) else {
        return Ok(None);
    };
    let ids = match value {
        Value::Null => Some(Vec::new()),
        Value::Array(ids) => ids.iter().map(Value::as_i64).collect(),
        id => id.as_i64().map(|id| vec![id]),
    };
    match ids {
        Some(ids) => Ok(Some(Mark::Ids(ids))),
        None => Err(wrong(path, key, "an id, a list of ids or null", value)),
    }
}

/// A name, an object with the name as its `content`, or `null`.
fn token_of(path: &Path, object: &Map<String, Value>, key: &str) -> Result<Option<Mark>, ModelError> {
    let Some(value) = object.get(key) else {
        return Ok(None);
    };
    let name = value.as_str().or_else(|| value.get("content")?.as_str());
    match name {
        Some(name) => Ok(Some(Mark::Token(name.to_string()))),
        None if value.is_null() => Ok(Some(Mark::Ids(Vec::new()))),
        None => Err(wrong(path, key, "a token, an object with its content or null", value)),
    }
}

fn wrong(path: &Path, key: &str, expected: &str, value: &Value) -> ModelError {
    ModelError::file(
        path,
        format!("key `{key}`: expected {expected}, got {}", shown(&value.to_string())),
    )
}
