//! How a sentence-transformers model directory embeds a text: `modules.json` and the files that it names.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use taal_store::layout::CONFIG_FILE;

use crate::{InferenceError, Pooling};

/// The list of modules, in order of application.
const MODULES_FILE: &str = "modules.json";

/// Names of the file with the settings of the transformer, the current one first.
const TRANSFORMER_FILES: [&str; 8] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
    "sentence_transformer_config.json",
];

/// The file with the settings of the tokenizer.
const TOKENIZER_FILE: &str = "tokenizer_config.json";

/// The largest of these files that is read.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The largest tokenizer_config.json: it may list thousands of added tokens.
const MAX_TOKENIZER_BYTES: u64 = 8 << 20;

/// The older keys of a pooling, in the order in which their vectors are concatenated.
const POOLING_KEYS: [(&str, &str); 6] = [
    ("pooling_mode_cls_token", "cls"),
    ("pooling_mode_max_tokens", "max"),
    ("pooling_mode_mean_tokens", "mean"),
    ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens"),
    ("pooling_mode_weightedmean_tokens", "weightedmean"),
    ("pooling_mode_lasttoken", "lasttoken"),
];

/// How a text is prepared and how the model's states are pooled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentenceConfig {
    /// The poolings, whose vectors are concatenated.
    pub poolings: Vec<Pooling>,
    /// Whether the vector is normalized to length 1.
    pub is_normalized: bool,
    /// The most tokens that are read, including those that begin and end the text; `None` where only the model's context limits them.
    pub max_tokens: Option<usize>,
    /// Whether texts are lowercased first.
    pub is_lowercase: bool,
}

#[derive(Deserialize)]
struct Module {
    #[serde(default)]
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

/// Reads `modules.json` of a model directory, where there is one.
///
/// The error is kept for callers that embed texts; other uses of the model do not need these files.
pub(crate) fn read(dir: &Path) -> Option<Result<SentenceConfig, String>> {
    let path = dir.join(MODULES_FILE);
    taal_store::exists(&path).then(|| {
        let modules: Vec<Module> = parse(&path, MAX_FILE_BYTES)?;
        config_of(dir, &modules)
    })
}

/// The files that another directory of the same model needs to give the same vectors, by name; empty where the directory has no
/// `modules.json`.
///
/// # Errors
///
/// [`InferenceError::Setting`] for an unsupported `modules.json`.
pub fn sentence_files(dir: &Path, d_model: usize) -> Result<Vec<(&'static str, Vec<u8>)>, InferenceError> {
    let Some(config) = read(dir) else {
        return Ok(Vec::new());
    };
    let config = config.map_err(|detail| InferenceError::setting(MODULES_FILE, detail))?;
    let module = |index: usize, path: &str, kind: &str| json!({"idx": index, "name": index.to_string(), "path": path, "type": format!("sentence_transformers.models.{kind}")});
    let mut modules = vec![module(0, "", "Transformer"), module(1, "1_Pooling", "Pooling")];
    if config.is_normalized {
        modules.push(module(2, "2_Normalize", "Normalize"));
    }
    let mut pooling = Map::new();
    pooling.insert("word_embedding_dimension".to_owned(), d_model.into());
    let is_on = |mode: &str| config.poolings.iter().any(|pooling| pooling_of(mode) == Some(*pooling));
    let in_order: Vec<&str> = POOLING_KEYS
        .iter()
        .map(|(_, mode)| *mode)
        .filter(|mode| is_on(mode))
        .collect();
    if in_order
        .iter()
        .map(|mode| pooling_of(mode))
        .eq(config.poolings.iter().copied().map(Some))
    {
        pooling.extend(POOLING_KEYS.map(|(key, mode)| (key.to_owned(), is_on(mode).into())));
    } else {
        // The older keys have no order.
        let mode_of = |pooling: &Pooling| POOLING_KEYS.iter().find(|(_, mode)| pooling_of(mode) == Some(*pooling));
        let modes: Vec<&str> = config
            .poolings
            .iter()
            .filter_map(|pooling| Some(mode_of(pooling)?.1))
            .collect();
        pooling.insert("pooling_mode".to_owned(), modes.into());
    }
    let transformer = json!({"max_seq_length": config.max_tokens, "do_lower_case": config.is_lowercase});
    Ok(vec![
        (MODULES_FILE, pretty(&modules.into())),
        ("1_Pooling/config.json", pretty(&pooling.into())),
        (TRANSFORMER_FILES[0], pretty(&transformer)),
    ])
}

fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path, limit_bytes: u64) -> Result<T, String> {
    let text = taal_store::read_text(path, limit_bytes).map_err(|error| error.to_string())?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
}

fn config_of(dir: &Path, modules: &[Module]) -> Result<SentenceConfig, String> {
    let mut config = SentenceConfig {
        poolings: Vec::new(),
        is_normalized: false,
        max_tokens: None,
        is_lowercase: false,
    };
    for module in modules {
        let folder = dir.join(&module.path);
        match module.kind.rsplit('.').next().unwrap_or_default() {
            "Transformer" => read_transformer(&folder, &mut config)?,
            "Pooling" => config.poolings = read_poolings(&folder.join(CONFIG_FILE))?,
            "Normalize" => config.is_normalized = true,
            // It has no effect outside of training.
            "Dropout" => {}
            other => {
                return Err(format!(
                    "{}: the module {other} is not supported: expected Transformer, Pooling, Normalize or Dropout; \
                     without {MODULES_FILE} the vector is a mean of the transformer's states",
                    dir.join(MODULES_FILE).display()
                ));
            }
        }
    }
    if config.poolings.is_empty() {
        return Err(format!(
            "{}: expected a module Pooling, found none",
            dir.join(MODULES_FILE).display()
        ));
    }
    Ok(config)
}

fn read_transformer(folder: &Path, config: &mut SentenceConfig) -> Result<(), String> {
    let path = TRANSFORMER_FILES
        .iter()
        .map(|name| folder.join(name))
        .find(|path| taal_store::exists(path));
    if let Some(path) = path {
        let settings: Map<String, Value> = parse(&path, MAX_FILE_BYTES)?;
        config.is_lowercase = settings.get("do_lower_case").and_then(Value::as_bool).unwrap_or(false);
        if let Some(most) = settings.get("max_seq_length").filter(|most| !most.is_null()) {
            let most = whole(most).filter(|most| *most > 0);
            let most = most.ok_or_else(|| format!("{}: `max_seq_length`: expected a number from 1", path.display()))?;
            config.max_tokens = Some(most);
            return Ok(());
        }
    }
    // Newer versions write the limit only there. Without a limit it is a number larger than any text.
    let path = folder.join(TOKENIZER_FILE);
    if taal_store::exists(&path) {
        let settings: Map<String, Value> = parse(&path, MAX_TOKENIZER_BYTES)?;
        let most = settings.get("model_max_length").and_then(whole);
        config.max_tokens = most.filter(|most| *most > 0);
    }
    Ok(())
}

fn whole(number: &Value) -> Option<usize> {
    number.as_u64().and_then(|number| usize::try_from(number).ok())
}

fn read_poolings(path: &Path) -> Result<Vec<Pooling>, String> {
    let settings: Map<String, Value> = parse(path, MAX_FILE_BYTES)?;
    let modes: Vec<&str> = match settings.get("pooling_mode") {
        Some(Value::String(mode)) => vec![mode],
        Some(Value::Array(modes)) => modes.iter().filter_map(Value::as_str).collect(),
        _ => {
            let is_on = |key: &str| settings.get(key).and_then(Value::as_bool).unwrap_or(false);
            let on = POOLING_KEYS.iter().filter(|(key, _)| is_on(key));
            on.map(|(_, mode)| *mode).collect()
        }
    };
    let poolings = modes.iter().map(|mode| {
        pooling_of(mode).ok_or_else(|| {
            format!(
                "{}: the pooling {mode:?} is not supported: expected cls, max, mean, mean_sqrt_len_tokens, weightedmean or lasttoken",
                path.display()
            )
        })
    });
    let poolings = poolings.collect::<Result<Vec<_>, _>>()?;
    match poolings.is_empty() {
        true => Err(format!("{}: names no pooling", path.display())),
        false => Ok(poolings),
    }
}

fn pooling_of(mode: &str) -> Option<Pooling> {
    Some(match mode {
        "cls" => Pooling::Cls,
        "max" => Pooling::Max,
        "mean" => Pooling::Mean,
        "mean_sqrt_len_tokens" => Pooling::MeanSqrtLen,
        "weightedmean" => Pooling::WeightedMean,
        "lasttoken" => Pooling::Last,
        _ => return None,
    })
}
