//! The llama.cpp architecture of a configuration, its keys, and its tensors.

use super::file::File;
use super::rope;
use super::write::Entry;
use taal_model::ModelError;
use taal_model::hugging_face::Family;
use taal_model::layout::{Parameter, Part, rename};
use taal_model::{Activation, MAX_DIMENSION, MAX_LAYERS, ModelSize, RopeScaling, TransformerConfig};

/// One of llama.cpp's architectures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Architecture {
    Gpt2,
    /// LLaMA, and Mistral without its window.
    Llama,
    Qwen2,
    Qwen3,
}

impl Architecture {
    const ALL: [Self; 4] = [Self::Gpt2, Self::Llama, Self::Qwen2, Self::Qwen3];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gpt2 => "gpt2",
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    /// The architecture of a file.
    pub(super) fn of_file(file: &File<'_>) -> Result<Self, ModelError> {
        let key = "general.architecture";
        let name = file.text(key)?.ok_or_else(|| file.wrong(key, "a text"))?;
        let found = Self::ALL.into_iter().find(|architecture| architecture.name() == name);
        found.ok_or_else(|| file.wrong(key, &Self::ALL.map(Self::name).join(", ")))
    }

    /// The architecture of a configuration; the error names the field that none can express.
    pub(super) fn of(c: &TransformerConfig) -> Result<Self, ModelError> {
        let refuse = |field: &str, why: &str| Err(ModelError::config(field, format!("GGUF: {why}")));
        if c.encoder.is_some() {
            return refuse("encoder", "only models without an encoder are written");
        }
        if let Some(field) = Family::obstacle(c) {
            return refuse(field, "no supported architecture of llama.cpp has this");
        }
        if c.window.is_some_and(|window| window < c.max_seq_len) {
            return refuse(
                "window",
                "llama.cpp gives every token of this architecture the whole context; a window that is not smaller than \
                 max_seq_len can be written",
            );
        }
        let architecture = match Family::of(c) {
            Family::Gpt2 => Self::Gpt2,
            Family::Llama | Family::Mistral => Self::Llama,
            Family::Qwen2 => Self::Qwen2,
            Family::Qwen3 => Self::Qwen3,
            _ => return refuse("is_causal", "only causal models are written"),
        };
        // The two kinds of GELU differ by less than the error of llama.cpp's own table.
        if architecture == Self::Gpt2 && !matches!(c.activation, Activation::GeluTanh | Activation::Gelu) {
            return refuse("activation", "llama.cpp's GPT-2 has GELU only");
        }
        if architecture == Self::Qwen3 && (c.qkv_bias || c.attention_output_bias) {
            return refuse("qkv_bias", "llama.cpp's Qwen3 has no biases");
        }
        if architecture != Self::Llama && matches!(c.rope_scaling, Some(RopeScaling::Llama3 { .. })) {
            return refuse("rope_scaling", "llama.cpp has LLaMA 3's angles in its LLaMA only");
        }
        if let Some(Err(why)) = c.rope_scaling.map(rope::check) {
            return refuse("rope_scaling", why);
        }
        Ok(architecture)
    }

    /// The keys of a configuration.
    pub(super) fn entries(self, c: &TransformerConfig) -> Vec<(String, Entry)> {
        let own = |key: &str| format!("{}.{key}", self.name());
        let size = |key: &str, size: usize| (own(key), Entry::U32(size as u32));
        let mut entries = vec![
            size("context_length", c.max_seq_len),
            size("embedding_length", c.d_model),
            size("block_count", c.n_layers),
            size("feed_forward_length", c.d_ff),
            size("attention.head_count", c.n_heads),
            size("vocab_size", c.vocab_size),
        ];
        if self == Self::Gpt2 {
            entries.push((own("attention.layer_norm_epsilon"), Entry::F32(c.norm_eps as f32)));
            return entries;
        }
        entries.extend([
            size("attention.head_count_kv", c.n_kv_heads),
            size("attention.key_length", c.head_dim),
            size("attention.value_length", c.head_dim),
            size("rope.dimension_count", c.head_dim),
            (own("rope.freq_base"), Entry::F32(c.rope_theta as f32)),
            (own("attention.layer_norm_rms_epsilon"), Entry::F32(c.norm_eps as f32)),
        ]);
        entries.extend(rope::entries(own, c));
        entries
    }

    /// The configuration of a file, from its keys and from which tensors it has.
    pub(super) fn config(self, file: &File<'_>) -> Result<TransformerConfig, ModelError> {
        let own = |key: &str| format!("{}.{key}", self.name());
        let size = |key: &str| file.size_up_to(&own(key), MAX_DIMENSION);
        let required = |key: &str| size(key)?.ok_or_else(|| file.wrong(&own(key), "an integer"));
        let d_model = required("embedding_length")?;
        let n_layers = file.size_up_to(&own("block_count"), MAX_LAYERS)?;
        let n_layers = n_layers.ok_or_else(|| file.wrong(&own("block_count"), "an integer"))?;
        // llama.cpp writes these as one number, or as one number per layer.
        let of_layers = |key: &str| file.size_of_layers(&own(key), n_layers, MAX_DIMENSION);
        let in_all_layers = |key: &str| of_layers(key)?.ok_or_else(|| file.wrong(&own(key), "an integer"));
        let n_heads = in_all_layers("attention.head_count")?;
        if n_heads == 0 {
            return Err(file.wrong(&own("attention.head_count"), "at least 1"));
        }
        let shape = (
            vocab_size(file, &own("vocab_size"))?,
            required("context_length")?,
            n_layers,
            n_heads,
            d_model,
        );
        let (vocab_size, max_seq_len, ..) = shape;
        self.refuse_what_differs(file, max_seq_len)?;
        let d_ff = in_all_layers("feed_forward_length")?;
        let tie_embeddings = file.tensor("output.weight").is_none();
        if self == Self::Gpt2 {
            let eps = own("attention.layer_norm_epsilon");
            return Ok(TransformerConfig {
                d_ff,
                norm_eps: file.number(&eps)?.ok_or_else(|| file.wrong(&eps, "a number"))?,
                tie_embeddings,
                ..TransformerConfig::gpt2(ModelSize {
                    vocab_size,
                    max_seq_len,
                    n_layers,
                    n_heads,
                    d_model,
                })
            });
        }
        let eps = own("attention.layer_norm_rms_epsilon");
        let head_dim = size("attention.key_length")?.unwrap_or(d_model / n_heads);
        for key in ["attention.value_length", "rope.dimension_count"] {
            if size(key)?.is_some_and(|size| size != head_dim) {
                return Err(file.wrong(&own(key), &format!("the width of a head, {head_dim}")));
            }
        }
        let has = |name: &str| file.tensor(&format!("blk.0.{name}")).is_some();
        let is_llama = self == Self::Llama;
        let base = TransformerConfig::llama(ModelSize {
            vocab_size,
            max_seq_len,
            n_layers,
            n_heads,
            d_model,
        });
        let config = TransformerConfig {
            n_kv_heads: of_layers("attention.head_count_kv")?.unwrap_or(n_heads),
            head_dim,
            d_ff,
            norm_eps: file.number(&eps)?.ok_or_else(|| file.wrong(&eps, "a number"))?,
            rope_theta: file.number(&own("rope.freq_base"))?.unwrap_or(base.rope_theta),
            qkv_bias: self == Self::Qwen2 || is_llama && has("attn_q.bias"),
            attention_output_bias: is_llama && has("attn_output.bias"),
            ffn_bias: is_llama && has("ffn_up.bias"),
            qk_norm: self == Self::Qwen3,
            tie_embeddings,
            ..base
        };
        let rope_scaling = rope::scaling(file, own, &config)?;
        Ok(TransformerConfig { rope_scaling, ..config })
    }

    /// Refuses files whose keys ask for a computation that differs from this architecture.
    fn refuse_what_differs(self, file: &File<'_>, max_seq_len: usize) -> Result<(), ModelError> {
        let own = |key: &str| format!("{}.{key}", self.name());
        let zeros = [
            "expert_count",
            "attention.max_alibi_bias",
            "attention.clamp_kqv",
            "attention.scale",
            "attn_logit_softcapping",
            "final_logit_softcapping",
            "logit_scale",
            "residual_scale",
            "embedding_scale",
            "rope.scaling.alpha",
            "rope.scaling.yarn_log_multiplier",
        ];
        for key in zeros.map(own) {
            if file.number(&key)?.is_some_and(|number| number != 0.0) {
                return Err(file.wrong(&key, "0 or no such key: other values are not supported"));
            }
        }
        let key = own("use_parallel_residual");
        if file.truth(&key)? == Some(true) {
            return Err(file.wrong(&key, "false or no such key"));
        }
        let key = own("attention.causal");
        if file.truth(&key)? == Some(false) {
            return Err(file.wrong(&key, "true or no such key"));
        }
        let key = own("attention.sliding_window");
        if file
            .size_up_to(&key, usize::MAX)?
            .is_some_and(|window| window > 0 && window < max_seq_len)
        {
            return Err(file.wrong(&key, &format!("no window, or at least the context, {max_seq_len}")));
        }
        Ok(())
    }

    /// Where a parameter of ours is in the file.
    pub(super) fn parameter(self, c: &TransformerConfig, ours: &str, shape: &[usize]) -> Parameter {
        let renamed = rename(
            ours,
            &[
                ("token_embedding.", "token_embd."),
                ("position_embedding.", "position_embd."),
                ("final_norm.", "output_norm."),
                ("head.", "output."),
                ("blocks.", "blk."),
                (".attention_norm.", ".attn_norm."),
                (".feed_forward_norm.", ".ffn_norm."),
                (".attention.output.", ".attn_output."),
                (".attention.q_norm", ".attn_q_norm.weight"),
                (".attention.k_norm", ".attn_k_norm.weight"),
                (".feed_forward.gate.", ".ffn_gate."),
                (".feed_forward.up.", ".ffn_up."),
                (".feed_forward.down.", ".ffn_down."),
            ],
        );
        let is_table = ["token_embedding.weight", "position_embedding.weight"].contains(&ours);
        let is_transposed = shape.len() == 2 && !is_table;
        let Some((layer, kind)) = renamed.split_once(".attention.qkv.") else {
            return Parameter::whole(renamed, shape, is_transposed);
        };
        if self == Self::Gpt2 {
            return Parameter::whole(format!("{layer}.attn_qkv.{kind}"), shape, is_transposed);
        }
        let part = |name: &str, heads: usize| {
            let part = Part::new(
                format!("{layer}.{name}.{kind}"),
                shape,
                heads * c.head_dim,
                is_transposed,
            );
            match self == Self::Llama && name != "attn_v" {
                true => part.with_interleaved_heads(c.head_dim),
                false => part,
            }
        };
        let parts = vec![
            part("attn_q", c.n_heads),
            part("attn_k", c.n_kv_heads),
            part("attn_v", c.n_kv_heads),
        ];
        Parameter::cut(shape, is_transposed, parts)
    }

    /// Biases that the architecture requires and the model does not have; they are written as zeros.
    pub(super) fn zeros(self, c: &TransformerConfig) -> Vec<(String, usize)> {
        if self != Self::Gpt2 {
            return Vec::new();
        }
        let mut absent = Vec::new();
        for layer in 0..c.n_layers {
            let biases = [
                (c.norm_bias, "attn_norm", c.d_model),
                (c.norm_bias, "ffn_norm", c.d_model),
                (c.qkv_bias, "attn_qkv", 3 * c.d_model),
                (c.attention_output_bias, "attn_output", c.d_model),
                (c.ffn_bias, "ffn_up", c.d_ff),
                (c.ffn_bias, "ffn_down", c.d_model),
            ];
            let missing = biases.into_iter().filter(|(is_there, ..)| !is_there);
            absent.extend(missing.map(|(_, name, width)| (format!("blk.{layer}.{name}.bias"), width)));
        }
        if !c.norm_bias {
            absent.push(("output_norm.bias".to_string(), c.d_model));
        }
        absent
    }
}

/// The number of tokens: from a key, the tokenizer, or the rows of the embedding.
fn vocab_size(file: &File<'_>, key: &str) -> Result<usize, ModelError> {
    if let Some(size) = file.size_up_to(key, MAX_DIMENSION)? {
        return Ok(size);
    }
    let tokens = file
        .list_len(super::vocabulary::TOKENS)
        .filter(|tokens| *tokens <= MAX_DIMENSION);
    let rows = || {
        file.tensor("token_embd.weight")
            .and_then(|info| info.shape.first().copied())
    };
    tokens.or_else(rows).ok_or_else(|| file.wrong(key, "an integer"))
}
