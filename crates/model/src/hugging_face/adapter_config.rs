//! PEFT's `adapter_config.json`: what an adapter's tensors mean, and the keys that make them mean something that is not computed here.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};
use taal_store::FileFormat;

use super::halves::are_patterns;
use super::lora::Lora;
use super::peft::ADAPTER_CONFIG_FILE;
use super::{MAX_CONFIG_BYTES, shown, weights};
use crate::ModelError;

/// Keys of PEFT 0.21 that compute something else than `x W + scale x A B` once they are set. Those that only select layers
/// (`exclude_modules`, `layers_to_transform`, `layers_pattern`) are not among them: the tensors say which layers have an adapter.
const VARIANTS: [(&str, &str); 12] = [
    ("use_dora", "DoRA"),
    ("lora_bias", "a bias of the low-rank part"),
    (
        "alora_invocation_tokens",
        "an adapter that begins at invocation tokens (aLoRA)",
    ),
    ("layer_replication", "a model with repeated layers"),
    ("trainable_token_indices", "training single rows of the embedding"),
    ("target_parameters", "an adapter of parameters that are no linear layer"),
    ("use_qalora", "QALoRA"),
    ("use_bdlora", "block-diagonal LoRA"),
    ("arrow_config", "a mixture of adapters (Arrow)"),
    ("kasa_config", "KaSA"),
    ("monteclora_config", "MonteCLoRA"),
    ("megatron_config", "Megatron's parallel layers"),
];

/// Values of `init_lora_weights` that leave the base's weights as they are, besides true and false.
const KEEPS_BASE: [&str; 4] = ["gaussian", "orthogonal", "eva", "mica"];

/// `adapter_config.json`, of which these keys change what the tensors mean.
#[derive(Debug, Deserialize)]
pub(super) struct AdapterConfig {
    peft_type: Option<String>,
    #[serde(default)]
    pub(super) r: usize,
    #[serde(default)]
    lora_alpha: f64,
    #[serde(default)]
    lora_dropout: f64,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    target_modules: Value,
    #[serde(default)]
    pub(super) base_model_name_or_path: Option<String>,
    #[serde(default)]
    bias: Option<String>,
    #[serde(default)]
    modules_to_save: Option<Vec<String>>,
    #[serde(default)]
    pub(super) ensure_weight_tying: bool,
    #[serde(default)]
    rank_pattern: Value,
    #[serde(default)]
    alpha_pattern: Value,
    #[serde(default)]
    init_lora_weights: Value,
    /// All others.
    #[serde(flatten)]
    others: Map<String, Value>,
}

impl AdapterConfig {
    pub(super) fn read(dir: &Path) -> Result<Self, ModelError> {
        let path = dir.join(ADAPTER_CONFIG_FILE);
        let text = taal_store::read_text(&path, MAX_CONFIG_BYTES)?;
        weights::refuse_other_format(&path, text.as_bytes(), FileFormat::Json, "an adapter_config.json")?;
        let config: Self = serde_json::from_str(&text)
            .map_err(|error| ModelError::file(&path, format!("not an adapter's: {}", shown(&error.to_string()))))?;
        match config.refusal() {
            Some(detail) => Err(ModelError::file(path, detail)),
            None => Ok(config),
        }
    }

    /// What of it would make the tensors mean something else.
    fn refusal(&self) -> Option<String> {
        let kind = self.peft_type.as_deref().unwrap_or("missing");
        if kind != "LORA" {
            return Some(format!("key `peft_type`: expected LORA, got {}", shown(kind)));
        }
        if self.r == 0 {
            return Some("key `r`: expected a rank of 1 or more, got 0".to_string());
        }
        if !self.lora_alpha.is_finite() {
            return Some("key `lora_alpha`: expected a number".to_string());
        }
        if let Some((key, what)) = VARIANTS
            .iter()
            .find(|(key, _)| self.others.get(*key).is_some_and(is_set))
        {
            return Some(format!(
                "key `{key}`: {what} is not supported; merge it with PEFT's merge_and_unload"
            ));
        }
        if let Value::String(name) = &self.init_lora_weights
            && !KEEPS_BASE.contains(&name.to_lowercase().as_str())
        {
            return Some(format!(
                "key `init_lora_weights`: {} changed the base's weights when the adapter was made, so it does not fit those of the \
                 base; convert it with path_initial_model_for_weight_conversion of PEFT's save_pretrained, or merge it with \
                 merge_and_unload",
                shown(name)
            ));
        }
        if self.bias.as_deref().is_some_and(|bias| bias != "none") {
            return Some("key `bias`: expected \"none\"; merge it with PEFT's merge_and_unload".to_string());
        }
        if are_patterns(&self.lora(), [&self.rank_pattern, &self.alpha_pattern]) {
            return None;
        }
        let is_ranks = is_set(&self.rank_pattern);
        Some(format!(
            "key `{}`: expected none, which is not supported; merge it with PEFT's merge_and_unload",
            if is_ranks { "rank_pattern" } else { "alpha_pattern" }
        ))
    }

    pub(super) fn lora(&self) -> Lora {
        Lora {
            rank: self.r,
            alpha: self.lora_alpha,
            is_rslora: self.use_rslora,
            dropout: self.lora_dropout,
            targets: match &self.target_modules {
                Value::Array(names) => names.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
                Value::String(pattern) => vec![pattern.clone()],
                _ => Vec::new(),
            },
            modules_to_save: self.modules_to_save.clone().unwrap_or_default(),
        }
    }
}

/// Whether a key has another value than none, false or an empty list or object.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(items) => !items.is_empty(),
        _ => true,
    }
}
