//! The templates of a model directory.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::ChatTemplate;
use super::template::{DEFAULT, MAX_SOURCE_BYTES};
use crate::{Error, Result, Tokenizer};

/// The template of newer directories.
const TEMPLATE_FILE: &str = "chat_template.jinja";
/// The folder of their other templates, each in a file of its name.
const TEMPLATES_DIR: &str = "additional_chat_templates";
/// The end of such a file's name.
const EXTENSION: &str = ".jinja";
/// The template of older directories, and the special tokens.
const CONFIG_FILE: &str = "tokenizer_config.json";
/// The special tokens of older directories.
const TOKENS_FILE: &str = "special_tokens_map.json";
/// Large, because it may list thousands of added tokens.
const MAX_CONFIG_BYTES: u64 = 16 << 20;
/// The most templates of a model.
const MAX_TEMPLATES: usize = 16;

/// The chat templates of a model as they are in its files, by name, and the special tokens that they may name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChatFiles {
    templates: Vec<(String, String)>,
    tokens: BTreeMap<String, String>,
    /// Why the files cannot be used. It matters only to those who chat.
    problem: Option<String>,
}

impl ChatFiles {
    /// One template.
    pub fn new(source: &str) -> Self {
        Self::named([(DEFAULT.to_owned(), source.to_owned())])
    }

    /// Templates by name; `default` is used unless there are tools and one is named `tool_use`. A name of other characters than
    /// letters, digits, `_` and `-` is left out, because it becomes the name of a file.
    pub fn named(templates: impl IntoIterator<Item = (String, String)>) -> Self {
        Self {
            templates: templates.into_iter().filter(|(name, _)| is_plain(name)).collect(),
            ..Self::default()
        }
    }

    /// Adds a special token that templates may use, such as `bos_token`.
    #[must_use]
    pub fn with_token(mut self, name: &str, token: &str) -> Self {
        self.tokens.insert(name.to_owned(), token.to_owned());
        self
    }

    /// Adds a special token that the files do not name.
    #[must_use]
    pub fn or_token(mut self, name: &str, token: Option<String>) -> Self {
        if let Some(token) = token {
            self.tokens.entry(name.to_owned()).or_insert(token);
        }
        self
    }

    /// The default template of a file.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] for one that cannot be read; whether it compiles is found by [`template`](Self::template).
    pub fn read_template(path: &Path) -> Result<Self> {
        Ok(Self::new(&taal_store::read_text(path, MAX_SOURCE_BYTES as u64)?))
    }

    /// The same special tokens with the templates of another.
    #[must_use]
    pub fn with_templates_of(mut self, other: &Self) -> Self {
        self.templates.clone_from(&other.templates);
        self.problem = None;
        self
    }

    /// Reads those of a model directory: `chat_template.jinja` and `additional_chat_templates`, otherwise the key `chat_template` of
    /// `tokenizer_config.json`, which is one template or a list of named ones. A file that cannot be read is an error of
    /// [`template`](Self::template), so that the model can be used for other things.
    pub fn open(dir: &Path) -> Self {
        let mut files = Self::default();
        if let Err(problem) = files.read(dir) {
            files.problem = Some(problem);
        }
        files
    }

    /// Whether there is no template.
    pub fn is_empty(&self) -> bool {
        self.templates.is_empty() && self.problem.is_none()
    }

    /// The templates by name.
    pub fn templates(&self) -> &[(String, String)] {
        &self.templates
    }

    /// The compiled template.
    ///
    /// # Errors
    ///
    /// [`Error::NoTemplate`] where there is none, [`Error::Template`] where it is faulty.
    pub fn template(&self) -> Result<ChatTemplate> {
        if let Some(problem) = &self.problem {
            return Err(Error::Template {
                detail: problem.clone(),
            });
        }
        match self.templates.is_empty() {
            true => Err(Error::NoTemplate),
            false => ChatTemplate::compile(&self.templates, self.tokens.clone()),
        }
    }

    /// The files of the directory of a model with this tokenizer, by name: the templates, and `tokenizer_config.json`, which tells
    /// transformers what the special tokens are for.
    pub fn files(&self, tokenizer: &Tokenizer) -> Vec<(String, Vec<u8>)> {
        let templates = self.templates.iter().map(|(name, source)| {
            let path = match name == DEFAULT {
                true => TEMPLATE_FILE.to_owned(),
                false => format!("{TEMPLATES_DIR}/{name}{EXTENSION}"),
            };
            (path, source.clone().into_bytes())
        });
        let mut config = json!({"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": false});
        for (role, id) in tokenizer.roles() {
            if let Some(token) = id.and_then(|id| tokenizer.id_to_token(id)) {
                config[role] = token.into();
            }
        }
        for (role, token) in &self.tokens {
            config[role] = token.as_str().into();
        }
        let config = (CONFIG_FILE.to_owned(), format!("{config:#}\n").into_bytes());
        templates.chain([config]).collect()
    }

    fn read(&mut self, dir: &Path) -> std::result::Result<(), String> {
        let config = object(&dir.join(CONFIG_FILE))?;
        for map in [object(&dir.join(TOKENS_FILE))?, config.clone()] {
            for (key, value) in map.into_iter().filter(|(key, _)| key.ends_with("_token")) {
                // Older files give a token as an object.
                let token = value.as_str().or_else(|| value.get("content")?.as_str());
                if let Some(token) = token {
                    self.tokens.insert(key, token.to_owned());
                }
            }
        }
        self.read_jinja(dir)?;
        if self.templates.is_empty() {
            self.templates = templates_of(config.get("chat_template"))?;
        }
        match self.templates.iter().find(|(name, _)| !is_plain(name)) {
            Some((name, _)) => Err(format!(
                "{CONFIG_FILE}: {} is not a name of a template",
                taal_store::excerpt(name)
            )),
            None => Ok(()),
        }
    }

    fn read_jinja(&mut self, dir: &Path) -> std::result::Result<(), String> {
        let path = dir.join(TEMPLATE_FILE);
        if taal_store::exists(&path) {
            self.templates.push((DEFAULT.to_owned(), text(&path)?));
        }
        let folder = dir.join(TEMPLATES_DIR);
        if taal_store::is_dir(&folder) {
            let names = taal_store::list_dir(&folder).map_err(|error| error.to_string())?;
            for file in names.iter().take(MAX_TEMPLATES) {
                if let Some(name) = file.strip_suffix(EXTENSION) {
                    self.templates.push((name.to_owned(), text(&folder.join(file))?));
                }
            }
        }
        Ok(())
    }
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
}

fn text(path: &Path) -> std::result::Result<String, String> {
    taal_store::read_text(path, MAX_SOURCE_BYTES as u64).map_err(|error| error.to_string())
}

/// A file of JSON; empty where there is none.
fn object(path: &Path) -> std::result::Result<Map<String, Value>, String> {
    if !taal_store::exists(path) {
        return Ok(Map::new());
    }
    let text = taal_store::read_text(path, MAX_CONFIG_BYTES).map_err(|error| error.to_string())?;
    match serde_json::from_str(&text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(format!("{}: expected a JSON object", path.display())),
        Err(error) => Err(format!("{}: not valid JSON: {error}", path.display())),
    }
}

fn templates_of(value: Option<&Value>) -> std::result::Result<Vec<(String, String)>, String> {
    let named = |entry: &Value| {
        let name = entry.get("name")?.as_str()?;
        let source = entry.get("template")?.as_str()?;
        Some((name.to_owned(), source.to_owned()))
    };
    let found = match value {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::String(source)) => Some(vec![(DEFAULT.to_owned(), source.clone())]),
        Some(Value::Array(entries)) => entries.iter().take(MAX_TEMPLATES).map(named).collect(),
        Some(_) => None,
    };
    found.ok_or_else(|| {
        format!("{CONFIG_FILE}: key `chat_template`: expected a template or a list of objects with name and template")
    })
}
