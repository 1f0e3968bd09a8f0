//! Which tensor of a family's file is which parameter of ours, and whether it is transposed.

use super::{Family, encoders, marian, modernbert, t5};
use crate::config::TransformerConfig;
use crate::layout::{Parameter, Part, rename};

/// Causal masks of old checkpoints, and their value for masked scores.
const MASKS: [&str; 2] = ["bias", "masked_bias"];

/// Tables of rotary angles, which follow from the configuration.
const TABLES: [&str; 4] = ["inv_freq", "original_inv_freq", "cos_cached", "sin_cached"];

fn ends_with_one_of(name: &str, part: &str, ends: &[&str]) -> bool {
    ends.iter()
        .any(|end| name.strip_suffix(end).is_some_and(|start| start.ends_with(part)))
}

/// Names and orientation of one family's tensors.
pub(super) struct Layout {
    config: TransformerConfig,
    family: Family,
}

impl Layout {
    pub(super) fn new(config: &TransformerConfig, family: Family) -> Self {
        Self {
            config: config.clone(),
            family,
        }
    }

    /// Where a parameter of ours is in the file.
    pub(super) fn parameter(&self, ours: &str, shape: &[usize]) -> Parameter {
        match self.family {
            Family::Gpt2 => self.gpt2(ours, shape),
            Family::Llama | Family::Mistral | Family::Qwen2 | Family::Qwen3 => self.llama(ours, shape),
            Family::Bert | Family::Roberta | Family::DistilBert => self.encoder(ours, shape),
            Family::ModernBert => self.modernbert(ours, shape),
            Family::Marian => self.two_sides(ours, shape, marian::tensor_name(ours), marian::QKV),
            Family::T5 => {
                let renamed = t5::tensor_name(ours, self.config.activation.is_gated());
                self.two_sides(ours, shape, renamed, t5::QKV)
            }
            Family::Taal => Parameter::whole(ours.to_string(), shape, false),
        }
    }

    fn gpt2(&self, ours: &str, shape: &[usize]) -> Parameter {
        let renamed = rename(
            ours,
            &[
                ("token_embedding.", "transformer.wte."),
                ("position_embedding.", "transformer.wpe."),
                ("final_norm.", "transformer.ln_f."),
                ("head.", "lm_head."),
                ("blocks.", "transformer.h."),
                (".attention_norm.", ".ln_1."),
                (".feed_forward_norm.", ".ln_2."),
                (".attention.qkv.", ".attn.c_attn."),
                (".attention.output.", ".attn.c_proj."),
                (".feed_forward.up.", ".mlp.c_fc."),
                (".feed_forward.down.", ".mlp.c_proj."),
            ],
        );
        // GPT-2's Conv1D stores [in, out] as Burn does; only the output matrix is a PyTorch Linear.
        Parameter::whole(renamed, shape, ours == "head.weight")
    }

    fn llama(&self, ours: &str, shape: &[usize]) -> Parameter {
        let renamed = rename(
            ours,
            &[
                ("token_embedding.", "model.embed_tokens."),
                ("final_norm.", "model.norm."),
                ("head.", "lm_head."),
                ("blocks.", "model.layers."),
                (".attention_norm.", ".input_layernorm."),
                (".feed_forward_norm.", ".post_attention_layernorm."),
                (".attention.output.", ".self_attn.o_proj."),
                (".attention.q_norm", ".self_attn.q_norm.weight"),
                (".attention.k_norm", ".self_attn.k_norm.weight"),
                (".feed_forward.gate.", ".mlp.gate_proj."),
                (".feed_forward.up.", ".mlp.up_proj."),
                (".feed_forward.down.", ".mlp.down_proj."),
            ],
        );
        // PyTorch's Linear stores [out, in]; the embedding is [vocab, width] in both.
        let is_transposed = shape.len() == 2 && ours != "token_embedding.weight";
        if let Some((layer, kind)) = renamed.split_once(".attention.qkv.") {
            let names = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"];
            return self.qkv(layer, names, kind, shape, is_transposed);
        }
        Parameter::whole(renamed, shape, is_transposed)
    }

    fn encoder(&self, ours: &str, shape: &[usize]) -> Parameter {
        let renamed = encoders::tensor_name(ours, self.family, self.config.tie_embeddings);
        let is_table = ["token_embedding.weight", "position_embedding.weight"].contains(&ours);
        let is_transposed = shape.len() == 2 && !is_table;
        if let Some((layer, kind)) = renamed.split_once(".qkv.") {
            return self.qkv(layer, encoders::qkv_names(self.family), kind, shape, is_transposed);
        }
        let parameter = Parameter::whole(renamed, shape, is_transposed);
        if ours == "position_embedding.weight" {
            let padding = self.family.padding_positions();
            return parameter.within_rows(padding, padding + shape[0]);
        }
        parameter
    }

    fn modernbert(&self, ours: &str, shape: &[usize]) -> Parameter {
        let is_transposed = shape.len() == 2 && ours != "token_embedding.weight";
        let parameter = Parameter::whole(modernbert::tensor_name(ours), shape, is_transposed);
        match modernbert::half_of_gated(ours) {
            Some(half) => parameter.within_rows(half * self.config.d_ff, 2 * self.config.d_ff),
            None => parameter,
        }
    }

    /// A parameter of an encoder-decoder, whose attentions have queries, keys and values apart.
    fn two_sides(&self, ours: &str, shape: &[usize], renamed: String, names: [&str; 3]) -> Parameter {
        let is_table = ours == "token_embedding.weight" || ours.ends_with("relative_bias.weight");
        let is_transposed = shape.len() == 2 && !is_table;
        if let Some((attention, kind)) = renamed.split_once(".qkv.") {
            return self.qkv(attention, names, kind, shape, is_transposed);
        }
        if let Some((attention, kind)) = renamed.split_once(".key_value.") {
            // As many key and value heads as query heads.
            let width = self.config.n_heads * self.config.head_dim;
            let part = |name: &&str| Part::new(format!("{attention}.{name}.{kind}"), shape, width, is_transposed);
            return Parameter::cut(shape, is_transposed, names[1..].iter().map(part).collect());
        }
        let mut parameter = Parameter::whole(renamed, shape, is_transposed);
        for part in &mut parameter.parts {
            if part.name == marian::LOGIT_BIAS {
                part.shape.insert(0, 1);
            }
        }
        parameter
    }

    /// The fused query, key and value of a block, which are separate in the file.
    fn qkv(&self, layer: &str, names: [&str; 3], kind: &str, shape: &[usize], is_transposed: bool) -> Parameter {
        let c = &self.config;
        let widths = [c.n_heads, c.n_kv_heads, c.n_kv_heads].map(|heads| heads * c.head_dim);
        let parts = names
            .iter()
            .zip(widths)
            .map(|(name, width)| Part::new(format!("{layer}.{name}.{kind}"), shape, width, is_transposed))
            .collect();
        Parameter::cut(shape, is_transposed, parts)
    }

    /// Whether the output matrix is the table of tokens.
    pub(super) fn is_tied(&self) -> bool {
        self.config.tie_embeddings
    }

    /// Rows of the table of tokens.
    pub(super) fn vocab_size(&self) -> usize {
        self.config.vocab_size
    }

    /// The width of the vectors of tokens and positions.
    pub(super) fn width(&self) -> usize {
        self.config.d_model
    }

    /// The table whose first row is to be added to every row of the parameter `ours`.
    pub(super) fn added_table(&self, ours: &str) -> Option<&'static str> {
        (ours == "position_embedding.weight")
            .then(|| self.family.token_types())
            .flatten()
    }

    /// The second name in the file of a parameter of ours that is not split.
    pub(super) fn second_name(&self, ours: &str) -> Option<&'static str> {
        let is_bert_like = self.family.is_bert_like();
        is_bert_like
            .then(|| encoders::second_name(ours, self.family, self.config.tie_embeddings))
            .flatten()
    }

    /// Tensors written as zeros: what the model lacks, and what is already part of another tensor.
    pub(super) fn written_zeros(&self) -> Vec<(String, Vec<usize>)> {
        let types = self.family.token_types();
        let types = types.map(|name| (name.to_string(), vec![encoders::TOKEN_TYPES, self.config.d_model]));
        self.zeros().into_iter().chain(types).collect()
    }

    /// Tensors that the family's layout demands and this model does not have: biases.
    pub(super) fn zeros(&self) -> Vec<(String, Vec<usize>)> {
        let is_marian = self.family == Family::Marian;
        if self.family != Family::Gpt2 && !is_marian && !self.family.is_bert_like() {
            return Vec::new();
        }
        let c = &self.config;
        let mut absent = Vec::new();
        let mut add = |is_absent: bool, ours: String, width: usize| {
            if is_absent {
                absent.extend(
                    self.parameter(&ours, &[width])
                        .parts
                        .into_iter()
                        .map(|part| (part.name, part.shape)),
                );
            }
        };
        let encoder_layers = (0..c.encoder.map_or(0, |encoder| encoder.n_layers)).map(|layer| ("encoder.", layer));
        for (side, layer) in encoder_layers.chain((0..c.n_layers).map(|layer| ("", layer))) {
            let name = |ours: &str| format!("{side}blocks.{layer}.{ours}.bias");
            if is_marian && side.is_empty() {
                add(!c.norm_bias, name("cross_norm"), c.d_model);
                add(!c.qkv_bias, name("cross.query"), c.d_model);
                add(!c.qkv_bias, name("cross.key_value"), 2 * c.d_model);
                add(!c.attention_output_bias, name("cross.output"), c.d_model);
            }
            add(!c.norm_bias, name("attention_norm"), c.d_model);
            add(!c.norm_bias, name("feed_forward_norm"), c.d_model);
            add(!c.qkv_bias, name("attention.qkv"), 3 * c.d_model);
            add(!c.attention_output_bias, name("attention.output"), c.d_model);
            add(!c.ffn_bias, name("feed_forward.up"), c.d_ff);
            add(!c.ffn_bias, name("feed_forward.down"), c.d_model);
        }
        let name = |ours: &str| format!("{ours}.bias");
        let is_bert_like = self.family.is_bert_like();
        let has_head = is_bert_like && c.head_transform;
        add(
            !c.norm_bias && !is_bert_like && !is_marian,
            name("final_norm"),
            c.d_model,
        );
        add(!c.norm_bias && is_bert_like, name("embedding_norm"), c.d_model);
        add(!c.norm_bias && has_head, name("head_transform.norm"), c.d_model);
        add(!c.ffn_bias && has_head, name("head_transform.dense"), c.d_model);
        add(
            !c.output_bias && (has_head || is_marian),
            "output_bias".to_string(),
            c.vocab_size,
        );
        absent
    }

    /// The name of a tensor in this file: OpenAI's first GPT-2 files lack the prefix, Google's first BERT files have other names
    /// for the norms.
    pub(super) fn stored_name(&self, name: &str, is_stored: impl Fn(&str) -> bool) -> Option<String> {
        self.name_in_file(name, &is_stored).or_else(|| {
            // Some files hold only the output matrix of two tied matrices.
            let is_embedding = self.config.tie_embeddings && name == self.embedding_name();
            let head = is_embedding.then(|| self.head_name())?;
            is_stored(&head).then_some(head)
        })
    }

    /// The name of the table of tokens.
    pub(super) fn embedding_name(&self) -> String {
        let shape = [self.config.vocab_size, self.config.d_model];
        self.parameter("token_embedding.weight", &shape).parts.remove(0).name
    }

    /// The name of the output matrix.
    pub(super) fn head_name(&self) -> String {
        let shape = [self.config.d_model, self.config.vocab_size];
        self.parameter("head.weight", &shape).parts.remove(0).name
    }

    fn name_in_file(&self, name: &str, is_stored: impl Fn(&str) -> bool) -> Option<String> {
        if is_stored(name) {
            return Some(name.to_string());
        }
        if self.family.is_bert_like() {
            let names = encoders::other_names(name, self.family, self.config.tie_embeddings);
            return names.into_iter().find(|name| is_stored(name));
        }
        let others = match self.family {
            Family::Marian => marian::other_names(name),
            Family::T5 => t5::other_names(name),
            _ => &[],
        };
        if let Some(other) = others.iter().find(|other| is_stored(other)) {
            return Some((*other).to_string());
        }
        let short = name
            .strip_prefix("transformer.")
            .or_else(|| name.strip_prefix("model."))?;
        is_stored(short).then(|| short.to_string())
    }

    /// Tensors that some files carry and no model needs: masks, tables, the tied output matrix.
    pub(super) fn is_ignored(&self, name: &str) -> bool {
        let is_buffer = match self.family {
            Family::Gpt2 => ends_with_one_of(name, ".attn.", &MASKS),
            Family::Llama | Family::Mistral | Family::Qwen2 | Family::Qwen3 => {
                ends_with_one_of(name, "rotary_emb.", &TABLES) || ends_with_one_of(name, ".self_attn.", &MASKS)
            }
            Family::Bert | Family::Roberta | Family::DistilBert => {
                return encoders::is_ignored(name, self.family, self.config.tie_embeddings);
            }
            Family::ModernBert => return modernbert::is_ignored(name, self.config.tie_embeddings),
            Family::Marian => marian::is_ignored(name),
            Family::T5 => t5::is_ignored(name),
            Family::Taal => false,
        };
        is_buffer || (self.config.tie_embeddings && name == "lm_head.weight")
    }
}
