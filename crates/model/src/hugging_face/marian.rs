//! The names of Marian's keys and tensors (OPUS-MT), as `MarianMTModel`.
//!
//! Both sides, and the output matrix, share one table of tokens; positions are sines and cosines that old files carry as tensors.

use serde_json::{Value, json};

use super::config::{Keys, activation_name, activation_of, first};
use super::weights::shown;
use crate::config::{EncoderConfig, ModelSize, NormKind, NormPlace, PositionKind, TransformerConfig};
use crate::layout::rename;

/// PyTorch's default, for which there is no key.
const NORM_EPS: f64 = 1e-5;

/// The first field that keeps a configuration from being a `MarianMTModel`.
pub(super) fn obstacle(c: &TransformerConfig) -> Option<&'static str> {
    let obstacles = [
        (c.encoder.is_none(), "encoder"),
        (c.position != PositionKind::Sinusoidal, "position"),
        (!c.sinusoidal_halves, "sinusoidal_halves"),
        (c.norm != NormKind::LayerNorm, "norm"),
        (c.norm_place != NormPlace::Post, "norm_place"),
        (c.norm_eps != NORM_EPS, "norm_eps"),
        (c.embedding_norm, "embedding_norm"),
        (activation_name(c.activation).is_none(), "activation"),
        (c.n_kv_heads != c.n_heads, "n_kv_heads"),
        (c.n_heads * c.head_dim != c.d_model, "head_dim"),
        (c.qk_norm, "qk_norm"),
        (c.window.is_some(), "window"),
        (c.attention_scale.is_some(), "attention_scale"),
        (c.attention_softcap.is_some(), "attention_softcap"),
        (c.logit_scale.is_some(), "logit_scale"),
        (c.logit_softcap.is_some(), "logit_softcap"),
        (!c.tie_embeddings, "tie_embeddings"),
    ];
    first(obstacles)
}

/// The keys of Marian's config.json.
pub(super) fn to_json(c: &TransformerConfig) -> Value {
    let n_encoder_layers = c.encoder.map_or(0, |encoder| encoder.n_layers);
    json!({
        "architectures": ["MarianMTModel"],
        "vocab_size": c.vocab_size,
        "decoder_vocab_size": c.vocab_size,
        "max_position_embeddings": c.max_seq_len,
        "d_model": c.d_model,
        "num_hidden_layers": n_encoder_layers,
        "encoder_layers": n_encoder_layers,
        "decoder_layers": c.n_layers,
        "encoder_attention_heads": c.n_heads,
        "decoder_attention_heads": c.n_heads,
        "encoder_ffn_dim": c.d_ff,
        "decoder_ffn_dim": c.d_ff,
        "activation_function": activation_name(c.activation),
        "scale_embedding": c.scale_embeddings,
        "static_position_embeddings": true,
        "normalize_before": false,
        "normalize_embedding": false,
        "add_final_layer_norm": false,
        "share_encoder_decoder_embeddings": true,
        "tie_word_embeddings": true,
        "is_encoder_decoder": true,
        "decoder_start_token_id": c.decoder_start,
        // If absent, transformers assumes id 0, which need not be the end of a text here.
        "forced_eos_token_id": null,
        "dropout": c.dropout,
        "attention_dropout": c.dropout,
        "activation_dropout": 0.0,
    })
}

/// Reads the keys of Marian's config.json.
pub(super) fn from_json(keys: &Keys<'_>) -> Result<TransformerConfig, String> {
    keys.expect_absent_or("is_encoder_decoder", true)?;
    keys.expect_absent_or("share_encoder_decoder_embeddings", true)?;
    keys.expect_absent_or("tie_word_embeddings", true)?;
    keys.expect_absent_or("static_position_embeddings", true)?;
    for key in ["normalize_before", "normalize_embedding", "add_final_layer_norm"] {
        keys.expect_absent_or(key, false)?;
    }
    let d_model = keys.size("d_model")?;
    let vocab_size = keys.size("vocab_size")?;
    let same = |other: &str, name: &str, expected: usize| match keys.size_or(other, expected)? {
        found if found == expected => Ok(expected),
        found => Err(format!(
            "key `{other}`: expected {expected} as in {name}, because both sides have the same here, got {found}"
        )),
    };
    same("decoder_vocab_size", "vocab_size", vocab_size)?;
    let n_heads = keys.size("encoder_attention_heads")?;
    same("decoder_attention_heads", "encoder_attention_heads", n_heads)?;
    if n_heads == 0 || !d_model.is_multiple_of(n_heads) {
        return Err(format!(
            "key `encoder_attention_heads`: expected a divisor of d_model = {d_model}, got {n_heads}"
        ));
    }
    let d_ff = keys.size("encoder_ffn_dim")?;
    same("decoder_ffn_dim", "encoder_ffn_dim", d_ff)?;
    let activation = keys.text_or("activation_function", "gelu")?;
    let activation = activation_of(activation).ok_or_else(|| {
        format!(
            "key `activation_function`: expected swish, gelu, gelu_new, relu or relu2, got \"{}\"",
            shown(activation)
        )
    })?;
    let base = TransformerConfig::marian(ModelSize {
        vocab_size,
        max_seq_len: keys.size_or("max_position_embeddings", 1024)?,
        n_layers: keys.size("decoder_layers")?,
        n_heads,
        d_model,
    });
    Ok(TransformerConfig {
        encoder: Some(EncoderConfig {
            n_layers: keys.size("encoder_layers")?,
        }),
        decoder_start: keys.id("decoder_start_token_id")?,
        d_ff,
        activation,
        norm_eps: NORM_EPS,
        scale_embeddings: keys.truth_or("scale_embedding", false)?,
        dropout: keys.number_or("dropout", 0.1)?,
        ..base
    })
}

/// The name of the tensor that holds a parameter of ours, before queries, keys and values are split.
pub(super) fn tensor_name(ours: &str) -> String {
    if ours == "output_bias" {
        return LOGIT_BIAS.to_string();
    }
    rename(ours, &NAMES)
}

/// The bias of the logits, `[1, vocab_size]`.
pub(super) const LOGIT_BIAS: &str = "final_logits_bias";

/// The names of queries, keys and values of an attention.
pub(super) const QKV: [&str; 3] = ["q_proj", "k_proj", "v_proj"];

/// Other names of the table of tokens, which is one for both sides.
pub(super) fn other_names(name: &str) -> &'static [&'static str] {
    match name {
        EMBEDDING => &OTHER_EMBEDDINGS,
        _ => &[],
    }
}

/// Tensors that files carry and the model does not need: copies of the table of tokens, and the positions.
pub(super) fn is_ignored(name: &str) -> bool {
    let positions = [
        "model.encoder.embed_positions.weight",
        "model.decoder.embed_positions.weight",
    ];
    OTHER_EMBEDDINGS.contains(&name) || positions.contains(&name)
}

const EMBEDDING: &str = "model.shared.weight";

const OTHER_EMBEDDINGS: [&str; 3] = [
    "model.encoder.embed_tokens.weight",
    "model.decoder.embed_tokens.weight",
    "lm_head.weight",
];

const NAMES: [(&str, &str); 13] = [
    ("token_embedding.", "model.shared."),
    ("encoder.blocks.", "model.encoder.layers."),
    ("blocks.", "model.decoder.layers."),
    ("head.", "lm_head."),
    (".attention_norm.", ".self_attn_layer_norm."),
    (".cross_norm.", ".encoder_attn_layer_norm."),
    (".feed_forward_norm.", ".final_layer_norm."),
    (".attention.", ".self_attn."),
    (".cross.", ".encoder_attn."),
    // Comes after the attentions, whose outputs have one name.
    (".output.", ".out_proj."),
    (".query.", ".q_proj."),
    (".feed_forward.up.", ".fc1."),
    (".feed_forward.down.", ".fc2."),
];
