//! The names of T5's keys and tensors, as `T5ForConditionalGeneration`: version 1.0 (ReLU, tied) and version 1.1 (gated, untied).
//!
//! Where the output matrix is the table of tokens, the logits are scaled, unless `scale_decoder_outputs` says otherwise, a key of
//! transformers 5. Its files say that all models are tied: the tensors decide.

use serde_json::{Value, json};

use super::config::{Keys, activation_name, activation_of, first};
use super::weights::shown;
use crate::config::{
    Activation, EncoderConfig, ModelSize, NormKind, NormPlace, PositionKind, RelativePositions, TransformerConfig,
};
use crate::layout::rename;

/// The context that T5 was trained with; its positions have no end.
const CONTEXT: usize = 512;

/// The first field that keeps a configuration from being a `T5ForConditionalGeneration`.
pub(super) fn obstacle(c: &TransformerConfig) -> Option<&'static str> {
    let obstacles = [
        (c.encoder.is_none(), "encoder"),
        (c.position != PositionKind::Relative, "position"),
        (c.norm != NormKind::RmsNorm, "norm"),
        (c.norm_place != NormPlace::Pre, "norm_place"),
        (c.skip_first_norm, "skip_first_norm"),
        (c.embedding_norm, "embedding_norm"),
        (c.scale_embeddings, "scale_embeddings"),
        (projection(c.activation).is_none(), "activation"),
        (c.n_kv_heads != c.n_heads, "n_kv_heads"),
        (c.qk_norm, "qk_norm"),
        (c.qkv_bias, "qkv_bias"),
        (c.attention_output_bias, "attention_output_bias"),
        (c.ffn_bias, "ffn_bias"),
        (c.output_bias, "output_bias"),
        (c.window.is_some(), "window"),
        (c.attention_scale != Some(1.0), "attention_scale"),
        (c.attention_softcap.is_some(), "attention_softcap"),
        (
            c.logit_scale != logit_scale(c.logit_scale.is_some(), c.d_model),
            "logit_scale",
        ),
        (c.logit_softcap.is_some(), "logit_softcap"),
    ];
    first(obstacles)
}

/// The factor on the logits, where they are scaled.
fn logit_scale(is_scaled: bool, d_model: usize) -> Option<f64> {
    is_scaled.then(|| (d_model as f64).sqrt().recip())
}

/// The name of the feed-forward network's input.
fn projection(activation: Activation) -> Option<String> {
    match activation {
        // "gated-gelu" means the approximation, for the sake of T5 1.1.
        Activation::GeGluTanh => Some("gated-gelu".to_string()),
        Activation::SwiGlu => Some("gated-silu".to_string()),
        Activation::GeGlu => None,
        plain => activation_name(plain).map(str::to_string),
    }
}

fn activation(name: &str) -> Option<Activation> {
    match name {
        "gated-gelu" | "gated-gelu_new" => Some(Activation::GeGluTanh),
        "gated-silu" => Some(Activation::SwiGlu),
        plain => activation_of(plain),
    }
}

/// The keys of T5's config.json.
pub(super) fn to_json(c: &TransformerConfig) -> Value {
    let relative = c.relative_positions().unwrap_or_default();
    json!({
        "architectures": ["T5ForConditionalGeneration"],
        "vocab_size": c.vocab_size,
        "n_positions": c.max_seq_len,
        "d_model": c.d_model,
        "d_kv": c.head_dim,
        "d_ff": c.d_ff,
        "num_layers": c.encoder.map_or(0, |encoder| encoder.n_layers),
        "num_decoder_layers": c.n_layers,
        "num_heads": c.n_heads,
        "relative_attention_num_buckets": relative.buckets,
        "relative_attention_max_distance": relative.max_distance,
        "feed_forward_proj": projection(c.activation),
        "layer_norm_epsilon": c.norm_eps,
        "is_encoder_decoder": true,
        "tie_word_embeddings": c.tie_embeddings,
        "scale_decoder_outputs": c.logit_scale.is_some(),
        "decoder_start_token_id": c.decoder_start,
        "dropout_rate": c.dropout,
    })
}

/// Reads the keys of T5's config.json.
pub(super) fn from_json(keys: &Keys<'_>) -> Result<TransformerConfig, String> {
    keys.expect_absent_or("is_encoder_decoder", true)?;
    let d_model = keys.size("d_model")?;
    let n_layers = keys.size("num_layers")?;
    let base = TransformerConfig::t5(ModelSize {
        vocab_size: keys.size("vocab_size")?,
        max_seq_len: keys.size_or("n_positions", CONTEXT)?,
        n_layers: keys.size_or("num_decoder_layers", n_layers)?,
        n_heads: keys.size("num_heads")?,
        d_model,
    });
    let usual = RelativePositions::default();
    let relative = RelativePositions {
        buckets: keys.size_or("relative_attention_num_buckets", usual.buckets)?,
        max_distance: keys.size_or("relative_attention_max_distance", usual.max_distance)?,
    };
    let name = keys.text_or("feed_forward_proj", "relu")?;
    let activation = activation(name).ok_or_else(|| {
        format!(
            "key `feed_forward_proj`: expected relu, gelu, gelu_new, silu, gated-gelu or gated-silu, got \"{}\"",
            shown(name)
        )
    })?;
    let is_tied = keys.truth_or("tie_word_embeddings", true)?;
    Ok(TransformerConfig {
        encoder: Some(EncoderConfig { n_layers }),
        decoder_start: keys.id("decoder_start_token_id")?,
        head_dim: keys.size_or("d_kv", 64)?,
        d_ff: keys.size("d_ff")?,
        relative: (relative != usual).then_some(relative),
        activation,
        norm_eps: keys.number_or("layer_norm_epsilon", base.norm_eps)?,
        tie_embeddings: is_tied,
        logit_scale: logit_scale(keys.truth_or("scale_decoder_outputs", is_tied)?, d_model),
        dropout: keys.number_or("dropout_rate", 0.1)?,
        ..base
    })
}

/// The name of the tensor that holds a parameter of ours, before queries, keys and values are split.
pub(super) fn tensor_name(ours: &str, is_gated: bool) -> String {
    let is_encoder = ours.starts_with("encoder.");
    // The sub-layers of a block are numbered.
    let feed_forward = if is_encoder { "layer.1" } else { "layer.2" };
    let up = if is_gated { "wi_1" } else { "wi" };
    rename(
        ours,
        &[
            ("token_embedding.", "shared."),
            ("encoder.blocks.", "encoder.block."),
            ("encoder.final_norm.", "encoder.final_layer_norm."),
            (
                "encoder.relative_bias.",
                "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.",
            ),
            ("blocks.", "decoder.block."),
            ("final_norm.", "decoder.final_layer_norm."),
            (
                "relative_bias.",
                "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.",
            ),
            ("head.", "lm_head."),
            (".attention_norm.", ".layer.0.layer_norm."),
            (".cross_norm.", ".layer.1.layer_norm."),
            (".feed_forward_norm.", &format!(".{feed_forward}.layer_norm.")),
            (".attention.", ".layer.0.SelfAttention."),
            (".cross.", ".layer.1.EncDecAttention."),
            // Comes after the attentions, whose outputs have one name.
            (".output.", ".o."),
            (".query.", ".q."),
            (".feed_forward.gate.", &format!(".{feed_forward}.DenseReluDense.wi_0.")),
            (".feed_forward.up.", &format!(".{feed_forward}.DenseReluDense.{up}.")),
            (".feed_forward.down.", &format!(".{feed_forward}.DenseReluDense.wo.")),
        ],
    )
}

/// The names of queries, keys and values of an attention.
pub(super) const QKV: [&str; 3] = ["q", "k", "v"];

/// Other names of the table of tokens, which is one for both sides.
pub(super) fn other_names(name: &str) -> &'static [&'static str] {
    match name {
        "shared.weight" => &OTHER_EMBEDDINGS,
        _ => &[],
    }
}

/// Tensors that files carry and the model does not need: copies of the table of tokens, and distances that the first files had for the
/// attention to the source.
pub(super) fn is_ignored(name: &str) -> bool {
    OTHER_EMBEDDINGS.contains(&name) || name == "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
}

const OTHER_EMBEDDINGS: [&str; 2] = ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"];
