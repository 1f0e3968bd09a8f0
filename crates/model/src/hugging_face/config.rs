//! `config.json`: Hugging Face's keys into [`TransformerConfig`] and back.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::blocks::{BLOCKS, METHOD, QUANTIZATION, check_method};
use super::rope::rotary;
use super::special_ids::{BOS_KEY, EOS_KEY, PAD_KEY};
use super::weights::shown;
use super::{Companions, encoders, marian, modernbert, t5};
use crate::config::{Activation, Mixer, ModelSize, NormKind, NormPlace, PositionKind, TransformerConfig};

/// The window of Mistral 7B v0.1.
const MISTRAL_WINDOW: usize = 4096;

/// How the matrices of a directory are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StoredAs {
    F32,
    F16,
    Bf16,
    /// In blocks of small integers, some perhaps in floats.
    Blocks,
}

impl StoredAs {
    /// The type of numbers that are floats.
    fn dtype(self) -> &'static str {
        match self {
            Self::F32 | Self::Blocks => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }
}

/// A published layout of configuration and weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// OpenAI's GPT-2.
    Gpt2,
    /// Meta's LLaMA.
    Llama,
    /// Mistral AI's Mistral: LLaMA with a sliding window.
    Mistral,
    /// Alibaba's Qwen2: LLaMA with biases of the query, key and value projections.
    Qwen2,
    /// Alibaba's Qwen3.
    Qwen3,
    /// Google's BERT, as `BertForMaskedLM`.
    Bert,
    /// Facebook's RoBERTa: read only, and written as [`Bert`](Self::Bert).
    Roberta,
    /// Hugging Face's DistilBERT: read only, and written as [`Bert`](Self::Bert).
    DistilBert,
    /// Answer.AI's ModernBERT, as `ModernBertForMaskedLM`.
    ModernBert,
    /// Marian's translation models, as `MarianMTModel`.
    Marian,
    /// Google's T5, as `T5ForConditionalGeneration`.
    T5,
    /// None of them: Taal's own names, which only Taal opens.
    Taal,
}

impl Family {
    /// The family that can express a configuration.
    pub fn of(config: &TransformerConfig) -> Self {
        if gpt2_obstacle(config).is_none() {
            Self::Gpt2
        } else if llama_obstacle(config).is_none() {
            Self::of_rotary(config)
        } else if encoders::obstacle(config).is_none() {
            Self::Bert
        } else if modernbert::obstacle(config).is_none() {
            Self::ModernBert
        } else if marian::obstacle(config).is_none() {
            Self::Marian
        } else if t5::obstacle(config).is_none() {
            Self::T5
        } else {
            Self::Taal
        }
    }

    /// The LLaMA-like family that can express a configuration.
    fn of_rotary(config: &TransformerConfig) -> Self {
        if config.qk_norm {
            Self::Qwen3
        } else if config.window.is_some() {
            Self::Mistral
        } else if config.qkv_bias != config.attention_output_bias {
            Self::Qwen2
        } else {
            Self::Llama
        }
    }

    /// The first field that keeps a configuration out of every published family, or `None` where one fits.
    pub fn obstacle(config: &TransformerConfig) -> Option<&'static str> {
        let nearest = if config.is_encoder_decoder() && config.norm == NormKind::RmsNorm {
            t5::obstacle(config)
        } else if config.is_encoder_decoder() {
            marian::obstacle(config)
        } else if !config.is_causal && config.position == PositionKind::Rotary {
            modernbert::obstacle(config)
        } else if !config.is_causal {
            encoders::obstacle(config)
        } else if config.norm == NormKind::LayerNorm {
            gpt2_obstacle(config)
        } else {
            llama_obstacle(config)
        };
        (Self::of(config) == Self::Taal).then_some(nearest).flatten()
    }

    fn model_type(self) -> &'static str {
        match self {
            Self::Gpt2 => "gpt2",
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Bert => "bert",
            Self::Roberta => "roberta",
            Self::DistilBert => "distilbert",
            Self::ModernBert => "modernbert",
            Self::Marian => "marian",
            Self::T5 => "t5",
            Self::Taal => "taal",
        }
    }

    fn of_model_type(model_type: &str) -> Result<Self, String> {
        let all = [
            Self::Gpt2,
            Self::Llama,
            Self::Mistral,
            Self::Qwen2,
            Self::Qwen3,
            Self::Bert,
            Self::Roberta,
            Self::DistilBert,
            Self::ModernBert,
            Self::Marian,
            Self::T5,
            Self::Taal,
        ];
        all.into_iter()
            .find(|family| family.model_type() == model_type)
            .ok_or_else(|| {
                format!(
                    "key `model_type`: expected {}, got \"{}\"",
                    all.map(Self::model_type).join(", "),
                    shown(model_type)
                )
            })
    }
}

/// The field of the first obstacle that applies.
pub(super) fn first<const N: usize>(obstacles: [(bool, &'static str); N]) -> Option<&'static str> {
    obstacles
        .into_iter()
        .find_map(|(is_there, field)| is_there.then_some(field))
}

/// What keeps a configuration out of every family with one side.
pub(super) fn obstacle_of_one_side(c: &TransformerConfig) -> Option<&'static str> {
    let obstacles = [
        (c.encoder.is_some(), "encoder"),
        (c.scale_embeddings, "scale_embeddings"),
        (c.attention_scale.is_some(), "attention_scale"),
        (c.logit_scale.is_some(), "logit_scale"),
    ];
    first(obstacles)
}

/// What keeps a configuration out of every causal family that is read and written.
fn common_obstacle(c: &TransformerConfig) -> Option<&'static str> {
    let obstacles = [
        (c.mixer != Mixer::Attention, "mixer"),
        (!c.is_causal, "is_causal"),
        (c.norm_place != NormPlace::Pre, "norm_place"),
        (c.embedding_norm, "embedding_norm"),
        (c.attention_softcap.is_some(), "attention_softcap"),
        (c.logit_softcap.is_some(), "logit_softcap"),
        (c.head_transform, "head_transform"),
        (c.output_bias, "output_bias"),
        (c.global_every.is_some(), "global_every"),
        (c.local_rope_theta.is_some(), "local_rope_theta"),
        (c.skip_first_norm, "skip_first_norm"),
    ];
    obstacle_of_one_side(c).or_else(|| first(obstacles))
}

fn gpt2_obstacle(c: &TransformerConfig) -> Option<&'static str> {
    let obstacles = [
        (c.window.is_some(), "window"),
        (c.position != PositionKind::Learned, "position"),
        (c.norm != NormKind::LayerNorm, "norm"),
        (activation_name(c.activation).is_none(), "activation"),
        (c.n_kv_heads != c.n_heads, "n_kv_heads"),
        (c.n_heads * c.head_dim != c.d_model, "head_dim"),
        (c.qk_norm, "qk_norm"),
    ];
    common_obstacle(c).or_else(|| first(obstacles))
}

fn llama_obstacle(c: &TransformerConfig) -> Option<&'static str> {
    let has_bias = c.qkv_bias || c.attention_output_bias || c.ffn_bias;
    let is_qwen2 = c.qkv_bias && !c.attention_output_bias && !c.ffn_bias && !c.qk_norm;
    let obstacles = [
        (c.window.is_some() && (has_bias || c.qk_norm), "window"),
        (c.position != PositionKind::Rotary, "position"),
        (c.norm != NormKind::RmsNorm, "norm"),
        (c.activation != Activation::SwiGlu, "activation"),
        (c.qkv_bias != c.attention_output_bias && !is_qwen2, "qkv_bias"),
        (c.qk_norm && c.ffn_bias, "ffn_bias"),
    ];
    common_obstacle(c).or_else(|| first(obstacles))
}

/// The name of an activation in transformers.
pub(super) fn activation_name(activation: Activation) -> Option<&'static str> {
    match activation {
        Activation::Gelu => Some("gelu"),
        Activation::GeluTanh => Some("gelu_new"),
        Activation::Relu => Some("relu"),
        Activation::ReluSquared => Some("relu2"),
        Activation::Silu => Some("silu"),
        Activation::SwiGlu | Activation::GeGlu | Activation::GeGluTanh => None,
    }
}

pub(super) fn activation_of(name: &str) -> Option<Activation> {
    match name {
        // Names of the same function in forms that differ in the last bits.
        "gelu" | "gelu_python" => Some(Activation::Gelu),
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_python_tanh" | "gelu_fast" | "gelu_accurate" => {
            Some(Activation::GeluTanh)
        }
        "relu" => Some(Activation::Relu),
        "relu2" => Some(Activation::ReluSquared),
        "silu" | "swish" => Some(Activation::Silu),
        _ => None,
    }
}

/// What a family's keys cannot express; the `taal` object of config.json. Absent fields follow the family.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Overrides {
    #[serde(skip_serializing_if = "Option::is_none")]
    norm_bias: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    qkv_bias: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attention_output_bias: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ffn_bias: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_bias: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dropout: Option<f64>,
}

impl Overrides {
    fn of(c: &TransformerConfig, family: Family) -> Self {
        let unless = |usual: bool, value: bool| (value != usual).then_some(value);
        let has_biases = [Family::Gpt2, Family::Marian].contains(&family) || family.is_bert_like();
        let absent = |value: bool| (has_biases && !value).then_some(false);
        Self {
            // ModernBERT has a key for it.
            norm_bias: unless(has_biases, c.norm_bias).filter(|_| family != Family::ModernBert),
            qkv_bias: absent(c.qkv_bias),
            attention_output_bias: absent(c.attention_output_bias),
            ffn_bias: absent(c.ffn_bias),
            output_bias: match family {
                Family::Marian => absent(c.output_bias),
                _ => (family.is_bert_like() && c.head_transform && !c.output_bias).then_some(false),
            },
            dropout: (c.dropout != 0.0).then_some(c.dropout),
        }
    }

    fn apply(self, config: &mut TransformerConfig) {
        config.norm_bias = self.norm_bias.unwrap_or(config.norm_bias);
        config.qkv_bias = self.qkv_bias.unwrap_or(config.qkv_bias);
        config.attention_output_bias = self.attention_output_bias.unwrap_or(config.attention_output_bias);
        config.ffn_bias = self.ffn_bias.unwrap_or(config.ffn_bias);
        config.output_bias = self.output_bias.unwrap_or(config.output_bias);
        config.dropout = self.dropout.unwrap_or(config.dropout);
    }
}

/// The bytes of config.json, two spaces deep, with a final newline.
pub(super) fn to_json(
    c: &TransformerConfig,
    family: Family,
    companions: Companions<'_>,
    stored_as: StoredAs,
) -> Vec<u8> {
    let mut object = match family {
        Family::Gpt2 => gpt2_json(c),
        Family::Llama | Family::Mistral | Family::Qwen2 | Family::Qwen3 => llama_json(c, family),
        Family::Bert | Family::Roberta | Family::DistilBert => encoders::to_json(c),
        Family::ModernBert => modernbert::to_json(c),
        Family::Marian => marian::to_json(c),
        Family::T5 => t5::to_json(c),
        Family::Taal if c.is_encoder_decoder() => json!({
            "architectures": ["TaalForConditionalGeneration"],
            "is_encoder_decoder": true,
            "decoder_start_token_id": c.decoder_start,
            "taal": c,
        }),
        Family::Taal => json!({ "architectures": ["TaalForCausalLM"], "taal": c }),
    };
    if let Some(object) = object.as_object_mut() {
        object.insert("model_type".into(), family.model_type().into());
        object.insert("dtype".into(), stored_as.dtype().into());
        if stored_as == StoredAs::Blocks {
            object.insert(QUANTIZATION.into(), json!({ METHOD: BLOCKS }));
        }
        object.insert(BOS_KEY.into(), companions.bos_token_id.into());
        object.insert(EOS_KEY.into(), companions.eos_token_id.into());
        object.insert(PAD_KEY.into(), companions.pad_token_id.into());
        if family == Family::ModernBert {
            // If absent, transformers assumes ids of the published vocabulary, which a smaller one does not have.
            object.insert("cls_token_id".into(), companions.bos_token_id.into());
            object.insert("sep_token_id".into(), companions.eos_token_id.into());
        }
        if let Some(special_ids) = companions.special_ids {
            object.extend(special_ids.config().clone());
        }
        let overrides = Overrides::of(c, family);
        if family != Family::Taal && overrides != Overrides::default() {
            object.insert("taal".into(), json!(overrides));
        }
    }
    let mut text = format!("{object:#}");
    text.push('\n');
    text.into_bytes()
}

fn gpt2_json(c: &TransformerConfig) -> Value {
    json!({
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": c.vocab_size,
        "n_positions": c.max_seq_len,
        "n_ctx": c.max_seq_len,
        "n_embd": c.d_model,
        "n_layer": c.n_layers,
        "n_head": c.n_heads,
        "n_inner": c.d_ff,
        "activation_function": activation_name(c.activation),
        "layer_norm_epsilon": c.norm_eps,
        "tie_word_embeddings": c.tie_embeddings,
        "embd_pdrop": c.dropout,
        "attn_pdrop": c.dropout,
        "resid_pdrop": c.dropout,
    })
}

fn llama_json(c: &TransformerConfig, family: Family) -> Value {
    let mut object = json!({
        "vocab_size": c.vocab_size,
        "max_position_embeddings": c.max_seq_len,
        "hidden_size": c.d_model,
        "intermediate_size": c.d_ff,
        "num_hidden_layers": c.n_layers,
        "num_attention_heads": c.n_heads,
        "num_key_value_heads": c.n_kv_heads,
        "head_dim": c.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": c.norm_eps,
        "rope_theta": c.rope_theta,
        "rope_parameters": { "rope_type": "default" },
        "attention_dropout": c.dropout,
        "tie_word_embeddings": c.tie_embeddings,
    });
    if let Some(scaling) = c.rope_scaling {
        // Programs older than transformers 5 know only this key.
        object["rope_scaling"] = json!(scaling);
        object["rope_parameters"] = json!(scaling);
    }
    object["rope_parameters"]["rope_theta"] = c.rope_theta.into();
    let architecture = match family {
        Family::Mistral => {
            object["sliding_window"] = c.window.into();
            "MistralForCausalLM"
        }
        Family::Qwen2 => {
            object["use_sliding_window"] = false.into();
            "Qwen2ForCausalLM"
        }
        Family::Qwen3 => {
            object["attention_bias"] = c.qkv_bias.into();
            "Qwen3ForCausalLM"
        }
        _ => {
            object["attention_bias"] = c.qkv_bias.into();
            object["mlp_bias"] = c.ffn_bias.into();
            "LlamaForCausalLM"
        }
    };
    object["architectures"] = json!([architecture]);
    object
}

/// Reads config.json; the error is a sentence that names the key.
pub(super) fn from_json(text: &str) -> Result<(TransformerConfig, Family), String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("not valid JSON: {error}"))?;
    let keys = Keys(value.as_object().ok_or("expected a JSON object")?);
    check_method(&value)?;
    let family = Family::of_model_type(keys.text("model_type")?)?;
    if family == Family::Taal {
        let own = keys.0.get("taal").cloned().ok_or("key `taal` is missing")?;
        let config =
            serde_json::from_value(own).map_err(|error| format!("key `taal`: {}", shown(&error.to_string())))?;
        return Ok((config, family));
    }
    let mut config = match family {
        Family::Gpt2 => gpt2(&keys)?,
        Family::Bert | Family::Roberta | Family::DistilBert => encoders::from_json(&keys, family)?,
        Family::ModernBert => modernbert::from_json(&keys)?,
        Family::Marian => marian::from_json(&keys)?,
        Family::T5 => t5::from_json(&keys)?,
        Family::Llama | Family::Mistral | Family::Qwen2 | Family::Qwen3 | Family::Taal => llama(&keys, family)?,
    };
    if let Some(own) = keys.0.get("taal") {
        let overrides: Overrides = serde_json::from_value(own.clone())
            .map_err(|error| format!("key `taal`: {}", shown(&error.to_string())))?;
        overrides.apply(&mut config);
    }
    Ok((config, family))
}

fn gpt2(keys: &Keys<'_>) -> Result<TransformerConfig, String> {
    keys.expect_absent_or("scale_attn_weights", true)?;
    keys.expect_absent_or("scale_attn_by_inverse_layer_idx", false)?;
    keys.expect_absent_or("reorder_and_upcast_attn", false)?;
    keys.expect_absent_or("add_cross_attention", false)?;
    let d_model = keys.size("n_embd")?;
    let n_heads = keys.size("n_head")?;
    if n_heads == 0 || !d_model.is_multiple_of(n_heads) {
        return Err(format!(
            "key `n_head`: expected a divisor of n_embd = {d_model}, got {n_heads}"
        ));
    }
    let activation = keys.text_or("activation_function", "gelu_new")?;
    let activation = activation_of(activation).ok_or_else(|| {
        format!(
            "key `activation_function`: expected gelu, gelu_new or another name of these two, relu or relu2, got \"{}\"",
            shown(activation)
        )
    })?;
    let base = TransformerConfig::gpt2(ModelSize {
        vocab_size: keys.size("vocab_size")?,
        max_seq_len: keys.size("n_positions")?,
        n_layers: keys.size("n_layer")?,
        n_heads,
        d_model,
    });
    Ok(TransformerConfig {
        d_ff: keys.size_or("n_inner", base.d_ff)?,
        activation,
        norm_eps: keys.number_or("layer_norm_epsilon", base.norm_eps)?,
        tie_embeddings: keys.truth_or("tie_word_embeddings", true)?,
        dropout: keys.number_or("resid_pdrop", 0.1)?,
        ..base
    })
}

fn llama(keys: &Keys<'_>, family: Family) -> Result<TransformerConfig, String> {
    // Two names of one function.
    let activation = keys.text_or("hidden_act", "silu")?;
    if !["silu", "swish"].contains(&activation) {
        return Err(format!(
            "key `hidden_act`: expected \"silu\", got \"{}\"",
            shown(activation)
        ));
    }
    keys.expect_absent_or("use_sliding_window", false)?;
    let d_model = keys.size("hidden_size")?;
    let n_heads = keys.size("num_attention_heads")?;
    if n_heads == 0 {
        return Err("key `num_attention_heads`: expected at least 1, got 0".to_string());
    }
    // Mistral and Qwen2 have no keys for biases; such keys in a file are ignored.
    let [qkv_bias, attention_output_bias, ffn_bias] = match family {
        Family::Mistral => [false; 3],
        Family::Qwen2 => [true, false, false],
        _ => {
            let attention = keys.truth_or("attention_bias", false)?;
            [attention, attention, keys.truth_or("mlp_bias", false)?]
        }
    };
    let is_qwen3 = family == Family::Qwen3;
    let base = TransformerConfig::llama(ModelSize {
        vocab_size: keys.size("vocab_size")?,
        max_seq_len: keys.size("max_position_embeddings")?,
        n_layers: keys.size("num_hidden_layers")?,
        n_heads,
        d_model,
    });
    let window = match family {
        Family::Mistral => window(keys)?,
        _ => None,
    };
    expect_layers_of_one_type(keys, window)?;
    let (rope_theta, rope_scaling) = rotary(keys, base.max_seq_len)?;
    Ok(TransformerConfig {
        n_kv_heads: keys.size_or("num_key_value_heads", n_heads)?,
        head_dim: keys.size_or("head_dim", if is_qwen3 { 128 } else { d_model / n_heads })?,
        d_ff: keys.size("intermediate_size")?,
        norm_eps: keys.number_or("rms_norm_eps", 1e-6)?,
        rope_theta,
        rope_scaling,
        qkv_bias,
        attention_output_bias,
        ffn_bias,
        qk_norm: is_qwen3,
        tie_embeddings: keys.truth_or("tie_word_embeddings", false)?,
        window,
        ..base
    })
}

/// Mistral's window. If the key is absent, transformers uses that of the first Mistral; only `null` means no window.
fn window(keys: &Keys<'_>) -> Result<Option<usize>, String> {
    match keys.0.get("sliding_window") {
        None => Ok(Some(MISTRAL_WINDOW)),
        Some(Value::Null) => Ok(None),
        Some(_) => keys.size("sliding_window").map(Some),
    }
}

/// If a file lists the kind of attention per layer, all must match the other keys.
fn expect_layers_of_one_type(keys: &Keys<'_>, window: Option<usize>) -> Result<(), String> {
    let expected = if window.is_some() {
        "sliding_attention"
    } else {
        "full_attention"
    };
    let Some(types) = keys.present("layer_types") else {
        return Ok(());
    };
    let types = types
        .as_array()
        .ok_or_else(|| format!("key `layer_types`: expected a list, got {}", shown(&types.to_string())))?;
    match types.iter().find(|kind| kind.as_str() != Some(expected)) {
        Some(other) => Err(format!(
            "key `layer_types`: only \"{expected}\" in every layer is supported here, got {}",
            shown(&other.to_string())
        )),
        None => Ok(()),
    }
}

/// Typed access to the keys of a JSON object.
pub(super) struct Keys<'a>(pub(super) &'a Map<String, Value>);

impl Keys<'_> {
    pub(super) fn present(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    fn text(&self, key: &str) -> Result<&str, String> {
        let value = self.present(key).ok_or_else(|| format!("key `{key}` is missing"))?;
        value
            .as_str()
            .ok_or_else(|| format!("key `{key}`: expected a string, got {}", shown(&value.to_string())))
    }

    pub(super) fn text_or<'b>(&'b self, key: &str, default: &'b str) -> Result<&'b str, String> {
        if self.present(key).is_some() {
            self.text(key)
        } else {
            Ok(default)
        }
    }

    /// The first of a list of texts, where there is one.
    pub(super) fn first_text(&self, key: &str) -> Result<Option<&str>, String> {
        let Some(value) = self.present(key) else {
            return Ok(None);
        };
        let texts = value
            .as_array()
            .ok_or_else(|| format!("key `{key}`: expected a list, got {}", shown(&value.to_string())))?;
        let Some(first) = texts.first() else {
            return Ok(None);
        };
        first
            .as_str()
            .map(Some)
            .ok_or_else(|| format!("key `{key}`: expected strings, got {}", shown(&first.to_string())))
    }

    pub(super) fn size(&self, key: &str) -> Result<usize, String> {
        let value = self.present(key).ok_or_else(|| format!("key `{key}` is missing"))?;
        value
            .as_u64()
            .and_then(|size| usize::try_from(size).ok())
            .filter(|size| *size <= crate::MAX_DIMENSION)
            .ok_or_else(|| {
                format!(
                    "key `{key}`: expected an integer in 0..={}, got {}",
                    crate::MAX_DIMENSION,
                    shown(&value.to_string())
                )
            })
    }

    pub(super) fn size_or(&self, key: &str, default: usize) -> Result<usize, String> {
        if self.present(key).is_some() {
            self.size(key)
        } else {
            Ok(default)
        }
    }

    /// A token id, where there is one.
    pub(super) fn id(&self, key: &str) -> Result<Option<u32>, String> {
        match self.present(key) {
            Some(_) => Ok(u32::try_from(self.size(key)?).ok()),
            None => Ok(None),
        }
    }

    /// An object, where there is one.
    pub(super) fn object(&self, key: &str) -> Result<Option<&Map<String, Value>>, String> {
        let Some(value) = self.present(key) else {
            return Ok(None);
        };
        value
            .as_object()
            .map(Some)
            .ok_or_else(|| format!("key `{key}`: expected an object, got {}", shown(&value.to_string())))
    }

    pub(super) fn number(&self, key: &str) -> Result<f64, String> {
        self.present(key).ok_or_else(|| format!("key `{key}` is missing"))?;
        self.number_or(key, 0.0)
    }

    /// Refuses a file with partial rotary embeddings.
    pub(super) fn expect_whole_heads_to_turn(&self) -> Result<(), String> {
        match self.number_or("partial_rotary_factor", 1.0)? {
            1.0 => Ok(()),
            share => Err(format!("key `partial_rotary_factor`: only 1 is supported, got {share}")),
        }
    }

    pub(super) fn number_or(&self, key: &str, default: f64) -> Result<f64, String> {
        match self.present(key) {
            Some(value) => value
                .as_f64()
                .ok_or_else(|| format!("key `{key}`: expected a number, got {}", shown(&value.to_string()))),
            None => Ok(default),
        }
    }

    pub(super) fn truth_or(&self, key: &str, default: bool) -> Result<bool, String> {
        match self.present(key) {
            Some(value) => value
                .as_bool()
                .ok_or_else(|| format!("key `{key}`: expected true or false, got {}", shown(&value.to_string()))),
            None => Ok(default),
        }
    }

    pub(super) fn expect_absent_or(&self, key: &str, supported: bool) -> Result<(), String> {
        match self.truth_or(key, supported)? {
            value if value == supported => Ok(()),
            value => Err(format!("key `{key}`: only {supported} is supported, got {value}")),
        }
    }
}
