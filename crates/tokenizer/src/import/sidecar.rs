//! The JSON files next to a vocabulary: `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json`.
//!
//! All of them are optional. A file that is not JSON is an error, because ignoring it could silently give other ids.

use std::path::Path;

use serde_json::{Map, Value};
use taal_store::layout::CONFIG_FILE;

use crate::file::AddedToken;
use crate::{Error, Result};

/// The largest of these files that is read; those of vocabularies with thousands of added tokens have 200 KB.
const MAX_SIDECAR_BYTES: u64 = 8 << 20;

/// The most added tokens of a file, which are listed before they are checked.
const MAX_ADDED_TOKENS: usize = 100_000;

/// The contents of the files next to a vocabulary.
#[derive(Debug, Default)]
pub(super) struct Sidecar {
    config: Map<String, Value>,
    map: Map<String, Value>,
    /// The model's `config.json`.
    model: Map<String, Value>,
    /// Names of special tokens, which may be missing from the vocabulary.
    special: Vec<String>,
    /// Added tokens with their ids.
    added: Vec<AddedToken>,
}

impl Sidecar {
    /// Reads the files next to a file.
    pub(super) fn next_to(path: &Path) -> Result<Self> {
        let config = read_object(path, "tokenizer_config.json")?;
        let map = read_object(path, "special_tokens_map.json")?;
        let added = read_object(path, "added_tokens.json")?;
        let mut sidecar = Self::default();
        for object in [&config, &map] {
            let named = object.iter().filter(|(key, _)| key.ends_with("_token"));
            sidecar.special.extend(named.filter_map(|(_, value)| content(value)));
            let more = object.get("additional_special_tokens").and_then(Value::as_array);
            sidecar.special.extend(more.into_iter().flatten().filter_map(content));
        }
        for (name, id) in &added {
            if let Some(id) = id.as_u64().and_then(|id| u32::try_from(id).ok()) {
                sidecar.added.push(AddedToken {
                    special: sidecar.special.contains(name),
                    ..AddedToken::special(id, name)
                });
            }
        }
        let decoder = config.get("added_tokens_decoder").and_then(Value::as_object);
        for (id, token) in decoder.into_iter().flatten() {
            let (Ok(id), Some(content)) = (id.parse(), content(token)) else {
                continue;
            };
            let is = |key| token.get(key).and_then(Value::as_bool).unwrap_or(false);
            sidecar.added.retain(|known: &AddedToken| known.content != content);
            sidecar.added.push(AddedToken {
                id,
                content,
                single_word: is("single_word"),
                lstrip: is("lstrip"),
                rstrip: is("rstrip"),
                normalized: is("normalized"),
                special: is("special"),
            });
        }
        if sidecar.added.len() > MAX_ADDED_TOKENS {
            return Err(Error::Unrecognized {
                path: path.to_path_buf(),
                detail: format!("the files next to it add more than {MAX_ADDED_TOKENS} tokens"),
            });
        }
        (sidecar.config, sidecar.map) = (config, map);
        sidecar.model = read_object(path, CONFIG_FILE)?;
        Ok(sidecar)
    }

    /// A switch of `tokenizer_config.json`.
    pub(super) fn switch(&self, key: &str) -> Option<bool> {
        self.config.get(key).and_then(Value::as_bool)
    }

    /// The class of `tokenizer_config.json`, such as `Qwen2Tokenizer`; else that of the model's `config.json`.
    pub(super) fn class(&self) -> Option<&str> {
        let files = [&self.config, &self.model];
        files
            .into_iter()
            .find_map(|file| file.get("tokenizer_class").and_then(Value::as_str))
    }

    /// The `model_type` of `config.json`.
    pub(super) fn model_type(&self) -> Option<&str> {
        self.model.get("model_type").and_then(Value::as_str)
    }

    /// The token of a role: not mentioned, disabled, or its name. As in transformers, special_tokens_map.json takes precedence
    /// where tokenizer_config.json does not list added tokens.
    pub(super) fn role(&self, role: &str) -> Option<Option<String>> {
        let map = Some(&self.map).filter(|_| !self.config.contains_key("added_tokens_decoder"));
        let mut files = map.into_iter().chain([&self.config]);
        files.find_map(|file| file.get(role)).map(content)
    }

    /// The name of a special token by its role, such as `unk_token`.
    pub(super) fn token(&self, role: &str) -> Option<String> {
        self.config.get(role).and_then(content)
    }

    /// The added tokens of a vocabulary: those that the files list, and those of its tokens that they or `usual` mark as special.
    pub(super) fn added_tokens(&self, tokens: &[String], usual: &[&str]) -> Vec<AddedToken> {
        let mut added: Vec<AddedToken> = (0..)
            .zip(tokens)
            .filter(|(_, token)| self.special.contains(token) || usual.contains(&token.as_str()))
            .map(|(id, token)| AddedToken::special(id, token))
            .collect();
        for token in &self.added {
            added.retain(|known| known.content != token.content);
            added.push(token.clone());
        }
        added.sort_by_key(|token| token.id);
        added
    }
}

fn read_object(path: &Path, name: &str) -> Result<Map<String, Value>> {
    let path = path.with_file_name(name);
    if !taal_store::exists(&path) {
        return Ok(Map::new());
    }
    let bytes = taal_store::read(&path, MAX_SIDECAR_BYTES)?;
    super::refuse_stand_in(&path, &bytes)?;
    serde_json::from_slice(&bytes).map_err(|error| Error::Unrecognized {
        path,
        detail: format!(
            "not a JSON object ({}); fix or remove it",
            taal_store::shorten(&error.to_string())
        ),
    })
}

/// The text of a token, given alone or in an object with its flags.
fn content(value: &Value) -> Option<String> {
    let text = value
        .as_str()
        .or_else(|| value.get("content").and_then(Value::as_str))?;
    Some(text.to_owned())
}
