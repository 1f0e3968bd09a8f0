//! The names of ModernBERT's keys and tensors.
//!
//! Its window counts both sides together, without the token itself; the two halves of the gated feed-forward network's input are
//! one tensor, starting with the half that goes through the activation; the first block has no norm before its attention.

use serde_json::{Map, Value, json};

use super::Family;
use super::config::{Keys, first, obstacle_of_one_side};
use super::encoders::has_head;
use super::rope::{Contexts, rope_scaling};
use super::weights::shown;
use crate::config::{Activation, ModelSize, NormKind, NormPlace, PositionKind, RopeScaling, TransformerConfig};
use crate::layout::rename;

/// Default base of the rotary angles in global blocks.
const GLOBAL_ROPE_THETA: f64 = 160_000.0;

/// Default base of the rotary angles in blocks with a window.
const LOCAL_ROPE_THETA: f64 = 10_000.0;

/// Default window: tokens on both sides together.
const LOCAL_ATTENTION: usize = 128;

/// Default: every third block is global.
const GLOBAL_EVERY: usize = 3;

const GLOBAL: &str = "full_attention";
const LOCAL: &str = "sliding_attention";

/// The first field that keeps a configuration from being a `ModernBertForMaskedLM`.
pub(super) fn obstacle(c: &TransformerConfig) -> Option<&'static str> {
    let obstacles = [
        (c.position != PositionKind::Rotary, "position"),
        (c.norm != NormKind::LayerNorm, "norm"),
        (c.norm_place != NormPlace::Pre, "norm_place"),
        (c.is_causal, "is_causal"),
        (!c.embedding_norm, "embedding_norm"),
        (!c.skip_first_norm, "skip_first_norm"),
        (activation_name(c.activation).is_none(), "activation"),
        (c.n_kv_heads != c.n_heads, "n_kv_heads"),
        (c.n_heads * c.head_dim != c.d_model, "head_dim"),
        (c.qk_norm, "qk_norm"),
        (c.qkv_bias != c.attention_output_bias, "qkv_bias"),
        (!c.head_transform, "head_transform"),
        (c.attention_softcap.is_some(), "attention_softcap"),
        (c.logit_softcap.is_some(), "logit_softcap"),
    ];
    obstacle_of_one_side(c).or_else(|| first(obstacles))
}

/// The name of a gated activation in transformers.
fn activation_name(activation: Activation) -> Option<&'static str> {
    match activation {
        Activation::GeGlu => Some("gelu"),
        Activation::SwiGlu => Some("silu"),
        Activation::GeGluTanh => Some("gelu_new"),
        Activation::Relu | Activation::ReluSquared | Activation::Gelu | Activation::GeluTanh | Activation::Silu => None,
    }
}

/// The keys of ModernBERT's config.json: those of transformers 5 and, where they can express it, those of older versions.
pub(super) fn to_json(c: &TransformerConfig) -> Value {
    let activation = activation_name(c.activation);
    let local_rope_theta = c.local_rope_theta.unwrap_or(c.rope_theta);
    let layer_types: Vec<&str> = (0..c.n_layers)
        .map(|layer| c.window_of(layer).map_or(GLOBAL, |_| LOCAL))
        .collect();
    let angles = |theta: f64| {
        let mut angles = match c.rope_scaling {
            Some(scaling) => json!(scaling),
            None => json!({ "rope_type": "default" }),
        };
        angles["rope_theta"] = theta.into();
        angles
    };
    let mut object = json!({
        "architectures": ["ModernBertForMaskedLM"],
        "vocab_size": c.vocab_size,
        "max_position_embeddings": c.max_seq_len,
        "hidden_size": c.d_model,
        "intermediate_size": c.d_ff,
        "num_hidden_layers": c.n_layers,
        "num_attention_heads": c.n_heads,
        "hidden_activation": activation,
        "classifier_activation": activation,
        "norm_eps": c.norm_eps,
        "norm_bias": c.norm_bias,
        "attention_bias": c.qkv_bias,
        "mlp_bias": c.ffn_bias,
        "classifier_bias": c.has_head_transform_bias(),
        "decoder_bias": c.output_bias,
        "tie_word_embeddings": c.tie_embeddings,
        "local_attention": c.window.map_or(LOCAL_ATTENTION, |window| 2 * (window - 1)),
        "layer_types": layer_types,
        "global_rope_theta": c.rope_theta,
        "local_rope_theta": local_rope_theta,
        "rope_parameters": { GLOBAL: angles(c.rope_theta), LOCAL: angles(local_rope_theta) },
        "embedding_dropout": c.dropout,
        "attention_dropout": c.dropout,
        "mlp_dropout": c.dropout,
    });
    // Only the list of layers can express that all blocks have a window.
    let every = c.global_every.or(c.window.is_none().then_some(1));
    if let Some(every) = every {
        object["global_attn_every_n_layers"] = every.into();
    }
    object
}

/// Reads the keys of ModernBERT's config.json.
pub(super) fn from_json(keys: &Keys<'_>) -> Result<TransformerConfig, String> {
    keys.expect_whole_heads_to_turn()?;
    let d_model = keys.size("hidden_size")?;
    let n_heads = keys.size("num_attention_heads")?;
    if n_heads == 0 || !d_model.is_multiple_of(n_heads) {
        return Err(format!(
            "key `num_attention_heads`: expected a divisor of hidden_size = {d_model}, got {n_heads}"
        ));
    }
    let has_head = has_head(keys, Family::ModernBert)?;
    let base = TransformerConfig::modernbert(ModelSize {
        vocab_size: keys.size("vocab_size")?,
        max_seq_len: keys.size("max_position_embeddings")?,
        n_layers: keys.size("num_hidden_layers")?,
        n_heads,
        d_model,
    });
    let (window, global_every) = windows(keys, base.n_layers)?;
    let (rope_theta, local_rope_theta, rope_scaling) = rotary(keys, base.max_seq_len, window, global_every)?;
    let attention_bias = keys.truth_or("attention_bias", false)?;
    let ffn_bias = keys.truth_or("mlp_bias", false)?;
    let transform_bias = has_head && keys.truth_or("classifier_bias", false)?;
    Ok(TransformerConfig {
        d_ff: keys.size("intermediate_size")?,
        activation: activation(keys, has_head)?,
        norm_eps: keys.number_or("norm_eps", base.norm_eps)?,
        norm_bias: keys.truth_or("norm_bias", false)?,
        qkv_bias: attention_bias,
        attention_output_bias: attention_bias,
        ffn_bias,
        head_transform: has_head,
        head_transform_bias: (has_head && transform_bias != ffn_bias).then_some(transform_bias),
        output_bias: has_head && keys.truth_or("decoder_bias", true)?,
        tie_embeddings: keys.truth_or("tie_word_embeddings", true)?,
        window,
        global_every,
        rope_theta,
        local_rope_theta,
        rope_scaling,
        dropout: keys.number_or("mlp_dropout", 0.0)?,
        ..base
    })
}

/// The activation, which must be the same in blocks and head.
fn activation(keys: &Keys<'_>, has_head: bool) -> Result<Activation, String> {
    let gated = |name: &str| match name {
        "gelu" | "gelu_python" => Some(Activation::GeGlu),
        "gelu_new" | "gelu_pytorch_tanh" => Some(Activation::GeGluTanh),
        "silu" | "swish" => Some(Activation::SwiGlu),
        _ => None,
    };
    let name = keys.text_or("hidden_activation", "gelu")?;
    let known = gated(name).ok_or_else(|| {
        format!(
            "key `hidden_activation`: expected gelu or silu, got \"{}\"",
            shown(name)
        )
    })?;
    let of_head = keys.text_or("classifier_activation", "gelu")?;
    if has_head && gated(of_head) != Some(known) {
        return Err(format!(
            "key `classifier_activation`: expected \"{name}\" as in hidden_activation, got \"{}\"",
            shown(of_head)
        ));
    }
    Ok(known)
}

/// The window, and the period of global blocks.
fn windows(keys: &Keys<'_>, n_layers: usize) -> Result<(Option<usize>, Option<usize>), String> {
    let window = keys.size_or("local_attention", LOCAL_ATTENTION)? / 2 + 1;
    let every = keys.size_or("global_attn_every_n_layers", GLOBAL_EVERY)?;
    if every == 0 {
        return Err("key `global_attn_every_n_layers`: expected at least 1, got 0".to_string());
    }
    let every = match layer_types(keys, n_layers)? {
        Some(is_global) if is_every(&is_global, every) => Some(every),
        Some(_) if keys.present("global_attn_every_n_layers").is_some() => {
            return Err(
                "keys `layer_types` and `global_attn_every_n_layers`: they say different things; remove the one that is wrong"
                    .to_string(),
            );
        }
        Some(is_global) => pattern_of(&is_global)?,
        None => Some(every),
    };
    Ok(match every {
        Some(1) => (None, None),
        every => (Some(window), every),
    })
}

/// Whether each block is global, where the file lists it.
fn layer_types(keys: &Keys<'_>, n_layers: usize) -> Result<Option<Vec<bool>>, String> {
    let Some(types) = keys.present("layer_types") else {
        return Ok(None);
    };
    let list = types
        .as_array()
        .ok_or_else(|| format!("key `layer_types`: expected a list, got {}", shown(&types.to_string())))?;
    if list.len() != n_layers {
        return Err(format!(
            "key `layer_types`: expected num_hidden_layers = {n_layers} of them, got {}",
            list.len()
        ));
    }
    let is_global = |kind: &Value| match kind.as_str() {
        Some(GLOBAL) => Ok(true),
        Some(LOCAL) => Ok(false),
        _ => Err(format!(
            "key `layer_types`: expected \"{GLOBAL}\" or \"{LOCAL}\", got {}",
            shown(&kind.to_string())
        )),
    };
    list.iter().map(is_global).collect::<Result<_, _>>().map(Some)
}

fn is_every(is_global: &[bool], every: usize) -> bool {
    let mut layers = is_global.iter().enumerate();
    layers.all(|(layer, is_global)| *is_global == layer.is_multiple_of(every))
}

/// The period of global blocks, or `None` where none is global.
fn pattern_of(is_global: &[bool]) -> Result<Option<usize>, String> {
    if !is_global.contains(&true) {
        return Ok(None);
    }
    let second = (1..is_global.len()).find(|layer| is_global[*layer]);
    let every = second.unwrap_or(is_global.len());
    if is_every(is_global, every) {
        return Ok(Some(every));
    }
    Err(format!(
        "key `layer_types`: only \"{GLOBAL}\" in every n-th layer from the first on is supported, or in none"
    ))
}

/// Bases of the rotary angles, without and with a window, and their scaling. transformers 5 keeps them in `rope_parameters`, one
/// object per kind of layer; earlier versions keep the bases at the top level. Objects that no layer uses are not checked.
fn rotary(
    keys: &Keys<'_>,
    max_seq_len: usize,
    window: Option<usize>,
    global_every: Option<usize>,
) -> Result<(f64, Option<f64>, Option<RopeScaling>), String> {
    let global = angles(keys, GLOBAL, "global_rope_theta", GLOBAL_ROPE_THETA, max_seq_len);
    let local = angles(keys, LOCAL, "local_rope_theta", LOCAL_ROPE_THETA, max_seq_len);
    if window.is_none() {
        let (theta, scaling) = global?;
        return Ok((theta, None, scaling));
    }
    let (local_theta, local_scaling) = local?;
    if global_every.is_none() {
        return Ok((local_theta, None, local_scaling));
    }
    let (theta, scaling) = global?;
    if scaling != local_scaling {
        return Err(format!(
            "key `rope_parameters`: \"{GLOBAL}\" and \"{LOCAL}\" scale the angles differently, and only one scaling for all layers is supported"
        ));
    }
    Ok((theta, (local_theta != theta).then_some(local_theta), scaling))
}

/// Base and scaling for one kind of layer. As in transformers, `rope_scaling` overrides both objects of `rope_parameters`, and
/// the bases at the top level apply where an object has none.
fn angles(
    keys: &Keys<'_>,
    kind: &'static str,
    older_key: &'static str,
    usual: f64,
    max_seq_len: usize,
) -> Result<(f64, Option<RopeScaling>), String> {
    let older_theta = keys.number_or(older_key, usual)?;
    let all = keys.object("rope_parameters")?.cloned().unwrap_or_default();
    let name = format!("rope_parameters.{kind}");
    let within = |error: String| format!("key `{name}`: {error}");
    let mut own = match Keys(&all).present(kind) {
        None => Map::new(),
        Some(Value::Object(own)) => own.clone(),
        Some(other) => {
            return Err(format!(
                "key `{name}`: expected an object, got {}",
                shown(&other.to_string())
            ));
        }
    };
    own.extend(keys.object("rope_scaling")?.cloned().unwrap_or_default());
    let own = Keys(&own);
    let contexts = Contexts {
        longest: max_seq_len,
        original: None,
    };
    let scaling = rope_scaling(&name, &own, contexts)?;
    Ok((own.number_or("rope_theta", older_theta).map_err(within)?, scaling))
}

/// The name of the tensor that holds a parameter of ours, or a half of it.
pub(super) fn tensor_name(ours: &str) -> String {
    if ours == "output_bias" {
        return "decoder.bias".to_string();
    }
    rename(ours, &NAMES)
}

/// Which half of the tensor `Wi` a parameter of ours is.
pub(super) fn half_of_gated(ours: &str) -> Option<usize> {
    if ours.contains(".feed_forward.gate.") {
        Some(0)
    } else if ours.contains(".feed_forward.up.") {
        Some(1)
    } else {
        None
    }
}

/// Tensors that files carry and the model does not need.
pub(super) fn is_ignored(name: &str, is_tied: bool) -> bool {
    is_tied && name == "decoder.weight"
}

const NAMES: [(&str, &str); 13] = [
    ("token_embedding.", "model.embeddings.tok_embeddings."),
    ("embedding_norm.", "model.embeddings.norm."),
    ("final_norm.", "model.final_norm."),
    // Comes before the transform, whose new name is the output matrix's old one.
    ("head.", "decoder."),
    ("head_transform.", "head."),
    ("blocks.", "model.layers."),
    (".attention_norm.", ".attn_norm."),
    (".feed_forward_norm.", ".mlp_norm."),
    (".attention.qkv.", ".attn.Wqkv."),
    (".attention.output.", ".attn.Wo."),
    (".feed_forward.gate.", ".mlp.Wi."),
    (".feed_forward.up.", ".mlp.Wi."),
    (".feed_forward.down.", ".mlp.Wo."),
];
