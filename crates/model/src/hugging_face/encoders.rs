//! The names of keys and tensors in BERT, RoBERTa and DistilBERT files, which share one architecture.
//!
//! All three are read, and written as BERT, which can express them exactly: RoBERTa's first positions belong to padding and are
//! never used, and the vector of the only token type that Taal supports is added to the positions. Poolers and next-sentence
//! classifiers are left out.

use serde_json::{Value, json};

use super::Family;
use super::config::{Keys, activation_name, activation_of, first, obstacle_of_one_side};
use super::weights::shown;
use crate::config::{ModelSize, NormKind, NormPlace, PositionKind, TransformerConfig};
use crate::layout::rename;

/// Token types in the files we write, as in BERT; all vectors are zero.
pub(super) const TOKEN_TYPES: usize = 2;

/// RoBERTa's positions start after the id of its padding token, which is 1 in every published model.
const ROBERTA_PADDING_ID: usize = 1;

/// DistilBERT has no key for the epsilon of its norms.
const DISTILBERT_NORM_EPS: f64 = 1e-12;

impl Family {
    /// Whether the layout is BERT's, RoBERTa's or DistilBERT's.
    pub(super) fn is_bert_like(self) -> bool {
        matches!(self, Self::Bert | Self::Roberta | Self::DistilBert)
    }

    /// The prefix of an encoder's tensor names, unless it was saved without a head.
    pub(super) fn encoder_prefix(self) -> Option<&'static str> {
        match self {
            Self::Bert => Some("bert."),
            Self::Roberta => Some("roberta."),
            Self::DistilBert => Some("distilbert."),
            _ => None,
        }
    }

    /// Rows of the file's position table before the first token's.
    pub(super) fn padding_positions(self) -> usize {
        if self == Self::Roberta {
            ROBERTA_PADDING_ID + 1
        } else {
            0
        }
    }

    /// The table whose first row is added to all positions.
    pub(super) fn token_types(self) -> Option<&'static str> {
        match self {
            Self::Bert => Some("bert.embeddings.token_type_embeddings.weight"),
            Self::Roberta => Some("roberta.embeddings.token_type_embeddings.weight"),
            _ => None,
        }
    }
}

/// The first field that keeps a configuration from being a `BertForMaskedLM`.
pub(super) fn obstacle(c: &TransformerConfig) -> Option<&'static str> {
    let obstacles = [
        (c.position != PositionKind::Learned, "position"),
        (c.norm != NormKind::LayerNorm, "norm"),
        (c.norm_place != NormPlace::Post, "norm_place"),
        (c.is_causal, "is_causal"),
        (c.window.is_some(), "window"),
        (!c.embedding_norm, "embedding_norm"),
        (activation_name(c.activation).is_none(), "activation"),
        (c.n_kv_heads != c.n_heads, "n_kv_heads"),
        (c.n_heads * c.head_dim != c.d_model, "head_dim"),
        (c.qk_norm, "qk_norm"),
        (!c.head_transform, "head_transform"),
        (c.has_head_transform_bias() != c.ffn_bias, "head_transform_bias"),
        (c.attention_softcap.is_some(), "attention_softcap"),
        (c.logit_softcap.is_some(), "logit_softcap"),
    ];
    obstacle_of_one_side(c).or_else(|| first(obstacles))
}

/// The keys of BERT's config.json.
pub(super) fn to_json(c: &TransformerConfig) -> Value {
    json!({
        "architectures": ["BertForMaskedLM"],
        "vocab_size": c.vocab_size,
        "max_position_embeddings": c.max_seq_len,
        "type_vocab_size": TOKEN_TYPES,
        "hidden_size": c.d_model,
        "intermediate_size": c.d_ff,
        "num_hidden_layers": c.n_layers,
        "num_attention_heads": c.n_heads,
        "hidden_act": activation_name(c.activation),
        "layer_norm_eps": c.norm_eps,
        "hidden_dropout_prob": c.dropout,
        "attention_probs_dropout_prob": c.dropout,
        "position_embedding_type": "absolute",
        "is_decoder": false,
        "tie_word_embeddings": c.tie_embeddings,
    })
}

/// Reads the keys of an encoder's config.json.
pub(super) fn from_json(keys: &Keys<'_>, family: Family) -> Result<TransformerConfig, String> {
    keys.expect_absent_or("is_decoder", false)?;
    keys.expect_absent_or("add_cross_attention", false)?;
    let kind = keys.text_or("position_embedding_type", "absolute")?;
    if kind != "absolute" {
        return Err(format!(
            "key `position_embedding_type`: expected \"absolute\", got \"{}\"",
            shown(kind)
        ));
    }
    let names = Names::of(family);
    let d_model = keys.size(names.d_model)?;
    let n_heads = keys.size(names.n_heads)?;
    if n_heads == 0 || !d_model.is_multiple_of(n_heads) {
        return Err(format!(
            "key `{}`: expected a divisor of {} = {d_model}, got {n_heads}",
            names.n_heads, names.d_model
        ));
    }
    let has_head = has_head(keys, family)?;
    let base = TransformerConfig::bert(ModelSize {
        vocab_size: keys.size("vocab_size")?,
        max_seq_len: max_seq_len(keys, family)?,
        n_layers: keys.size(names.n_layers)?,
        n_heads,
        d_model,
    });
    Ok(TransformerConfig {
        d_ff: keys.size(names.d_ff)?,
        activation: activation(keys, family, names.activation)?,
        norm_eps: match family {
            Family::DistilBert => DISTILBERT_NORM_EPS,
            _ => keys.number_or("layer_norm_eps", base.norm_eps)?,
        },
        tie_embeddings: keys.truth_or("tie_word_embeddings", true)?,
        head_transform: has_head,
        output_bias: has_head,
        dropout: keys.number_or(names.dropout, 0.1)?,
        ..base
    })
}

/// The keys that have other names in DistilBERT.
struct Names {
    d_model: &'static str,
    n_heads: &'static str,
    n_layers: &'static str,
    d_ff: &'static str,
    activation: &'static str,
    dropout: &'static str,
}

impl Names {
    fn of(family: Family) -> Self {
        if family == Family::DistilBert {
            return Self {
                d_model: "dim",
                n_heads: "n_heads",
                n_layers: "n_layers",
                d_ff: "hidden_dim",
                activation: "activation",
                dropout: "dropout",
            };
        }
        Self {
            d_model: "hidden_size",
            n_heads: "num_attention_heads",
            n_layers: "num_hidden_layers",
            d_ff: "intermediate_size",
            activation: "hidden_act",
            dropout: "hidden_dropout_prob",
        }
    }
}

/// Whether the weights have a masked language model head; classifiers are refused.
pub(super) fn has_head(keys: &Keys<'_>, family: Family) -> Result<bool, String> {
    let class = match family {
        Family::Roberta => "Roberta",
        Family::DistilBert => "DistilBert",
        Family::ModernBert => "ModernBert",
        _ => "Bert",
    };
    let Some(architecture) = keys.first_text("architectures")? else {
        return Ok(true);
    };
    match architecture.strip_prefix(class) {
        Some("ForMaskedLM" | "ForPreTraining") => Ok(true),
        Some("Model") => Ok(false),
        _ => Err(format!(
            "key `architectures`: expected {class}ForMaskedLM or {class}Model, got \"{}\"",
            shown(architecture)
        )),
    }
}

fn max_seq_len(keys: &Keys<'_>, family: Family) -> Result<usize, String> {
    let rows = keys.size("max_position_embeddings")?;
    let padding = family.padding_positions();
    if padding > 0 {
        let id = keys.size_or("pad_token_id", ROBERTA_PADDING_ID)?;
        if id != ROBERTA_PADDING_ID {
            return Err(format!(
                "key `pad_token_id`: only {ROBERTA_PADDING_ID} is supported, got {id}"
            ));
        }
    }
    rows.checked_sub(padding).ok_or_else(|| {
        format!("key `max_position_embeddings`: expected more than the {padding} of padding, got {rows}")
    })
}

fn activation(keys: &Keys<'_>, family: Family, key: &'static str) -> Result<crate::Activation, String> {
    let name = keys.text_or(key, "gelu")?;
    // RoBERTa's head always uses GELU; ours uses the activation of the blocks.
    let known = activation_of(name).filter(|_| family != Family::Roberta || name == "gelu");
    let expected = match family {
        Family::Roberta => "gelu",
        _ => "gelu, gelu_new, relu or relu2",
    };
    known.ok_or_else(|| format!("key `{key}`: expected {expected}, got \"{}\"", shown(name)))
}

/// The name of an encoder's tensor; the fused query, key and value are `qkv`, which is split in [three](qkv_names).
pub(super) fn tensor_name(ours: &str, family: Family, is_tied: bool) -> String {
    if ours == "output_bias" {
        return output_bias_names(family, is_tied)[0].to_string();
    }
    rename(
        ours,
        match family {
            Family::Roberta => &ROBERTA,
            Family::DistilBert => &DISTILBERT,
            _ => &BERT,
        },
    )
}

/// The parts of the fused query, key and value of a block.
pub(super) fn qkv_names(family: Family) -> [&'static str; 3] {
    match family {
        Family::DistilBert => ["attention.q_lin", "attention.k_lin", "attention.v_lin"],
        _ => ["attention.self.query", "attention.self.key", "attention.self.value"],
    }
}

/// A file holds the bias of the logits under one name or two. If untied, only the decoder's counts.
fn output_bias_names(family: Family, is_tied: bool) -> Vec<&'static str> {
    let mut names = match family {
        Family::Roberta => vec!["lm_head.bias", "lm_head.decoder.bias"],
        Family::DistilBert => vec!["vocab_projector.bias"],
        _ => vec!["cls.predictions.bias", "cls.predictions.decoder.bias"],
    };
    if !is_tied {
        names.reverse();
    }
    names
}

/// The second name of an untied model's logit bias: transformers requires both.
pub(super) fn second_name(ours: &str, family: Family, is_tied: bool) -> Option<&'static str> {
    let is_twice = ours == "output_bias" && !is_tied;
    is_twice
        .then(|| output_bias_names(family, is_tied).get(1).copied())
        .flatten()
}

/// Other names of a tensor in files: without the prefix, or with the norm names of the first BERT files.
pub(super) fn other_names(name: &str, family: Family, is_tied: bool) -> Vec<String> {
    let biases = output_bias_names(family, is_tied);
    if biases[0] == name {
        return biases[1..].iter().map(|name| (*name).to_string()).collect();
    }
    let old = name
        .strip_suffix("LayerNorm.weight")
        .map(|rest| format!("{rest}LayerNorm.gamma"))
        .or_else(|| {
            name.strip_suffix("LayerNorm.bias")
                .map(|rest| format!("{rest}LayerNorm.beta"))
        });
    let prefix = family.encoder_prefix().unwrap_or_default();
    let without_prefix = |name: &str| name.strip_prefix(prefix).map(str::to_string);
    let mut names: Vec<String> = without_prefix(name).into_iter().collect();
    if let Some(old) = old {
        names.extend(without_prefix(&old));
        names.push(old);
    }
    names
}

/// Tensors that files carry and a masked language model does not need.
pub(super) fn is_ignored(name: &str, family: Family, is_tied: bool) -> bool {
    let prefix = family.encoder_prefix().unwrap_or_default();
    let inner = name.strip_prefix(prefix).unwrap_or(name);
    let decoder = match family {
        Family::Roberta => "lm_head.decoder.weight",
        Family::DistilBert => "vocab_projector.weight",
        _ => "cls.predictions.decoder.weight",
    };
    let is_buffer = matches!(inner, "embeddings.position_ids" | "embeddings.token_type_ids");
    is_buffer
        || inner.starts_with("pooler.dense.")
        || name.starts_with("cls.seq_relationship.")
        || (is_tied && name == decoder)
        || output_bias_names(family, is_tied).contains(&name)
}

const BERT: [(&str, &str); 13] = [
    ("token_embedding.", "bert.embeddings.word_embeddings."),
    ("position_embedding.", "bert.embeddings.position_embeddings."),
    ("embedding_norm.", "bert.embeddings.LayerNorm."),
    ("head_transform.dense.", "cls.predictions.transform.dense."),
    ("head_transform.norm.", "cls.predictions.transform.LayerNorm."),
    ("head.", "cls.predictions.decoder."),
    ("blocks.", "bert.encoder.layer."),
    // The projections come before the norms, because the norms' new names contain the projections' old ones.
    (".attention.output.", ".attention.output.dense."),
    (".attention_norm.", ".attention.output.LayerNorm."),
    (".feed_forward_norm.", ".output.LayerNorm."),
    (".feed_forward.up.", ".intermediate.dense."),
    (".feed_forward.down.", ".output.dense."),
    (".attention.qkv.", ".qkv."),
];

const ROBERTA: [(&str, &str); 13] = [
    ("token_embedding.", "roberta.embeddings.word_embeddings."),
    ("position_embedding.", "roberta.embeddings.position_embeddings."),
    ("embedding_norm.", "roberta.embeddings.LayerNorm."),
    ("head_transform.dense.", "lm_head.dense."),
    ("head_transform.norm.", "lm_head.layer_norm."),
    ("head.", "lm_head.decoder."),
    ("blocks.", "roberta.encoder.layer."),
    BERT[7],
    BERT[8],
    BERT[9],
    BERT[10],
    BERT[11],
    BERT[12],
];

const DISTILBERT: [(&str, &str); 13] = [
    ("token_embedding.", "distilbert.embeddings.word_embeddings."),
    ("position_embedding.", "distilbert.embeddings.position_embeddings."),
    ("embedding_norm.", "distilbert.embeddings.LayerNorm."),
    ("head_transform.dense.", "vocab_transform."),
    ("head_transform.norm.", "vocab_layer_norm."),
    ("head.", "vocab_projector."),
    ("blocks.", "distilbert.transformer.layer."),
    (".attention.output.", ".attention.out_lin."),
    (".attention_norm.", ".sa_layer_norm."),
    (".feed_forward_norm.", ".output_layer_norm."),
    (".feed_forward.up.", ".ffn.lin1."),
    (".feed_forward.down.", ".ffn.lin2."),
    BERT[12],
];
