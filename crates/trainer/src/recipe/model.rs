//! Resolves the model of a recipe: new weights of a shape, or those of a directory or of the program.

use taal_model::{EncoderConfig, Initialization, ModelSize, NormPlace, TransformerConfig};

use super::keys::{ObjectiveKind, Preset, RawModel, RawReplay};
use super::resolve::Resolver;
use super::{LSTM_INIT_STD, ModelRecipe};
use crate::TrainError;

impl Resolver<'_> {
    pub(super) fn model(&self, block_size: usize) -> Result<ModelRecipe, TrainError> {
        self.check_encoder()?;
        let raw = &self.raw.model;
        let dropout = raw.dropout();
        let init_from = self.raw.train.init_from.clone();
        let brought = match (self.brought.model.clone(), init_from) {
            (Some(_), Some(_)) => {
                return Err(self.error(
                    "train.init_from",
                    "the program brings its own model; leave this key out",
                ));
            }
            (Some(model), None) => Some(("the program", ModelRecipe::Own { model, dropout })),
            (None, Some(dir)) => Some((
                "train.init_from",
                ModelRecipe::InitFrom {
                    dir,
                    dropout,
                    encoder_layers: self.encoder_layers(),
                },
            )),
            (None, None) => None,
        };
        if let Some((giver, model)) = brought {
            let rest = RawModel {
                dropout: None,
                encoder_layers: raw.encoder_layers.filter(|_| matches!(model, ModelRecipe::Own { .. })),
                ..raw.clone()
            };
            if rest != RawModel::default() {
                let encoder = match model {
                    ModelRecipe::InitFrom { .. } => " and model.encoder_layers",
                    _ => "",
                };
                let detail = format!("{giver} brings the model's shape; only model.dropout{encoder} may be set");
                return Err(self.error("model", detail));
            }
            return Ok(model);
        }
        let config = self.model_config(block_size, dropout)?;
        if block_size > config.max_seq_len {
            return Err(self.error(
                "train.block_size",
                format!(
                    "{block_size} tokens do not fit model.max_seq_len = {}",
                    config.max_seq_len
                ),
            ));
        }
        let std = raw.init_std.unwrap_or(match raw.preset() {
            Preset::Lstm => LSTM_INIT_STD,
            _ => 0.02,
        });
        Ok(ModelRecipe::New {
            config: Box::new(config),
            init: Initialization {
                std,
                residual_std: raw.residual_std,
            },
        })
    }

    /// Blocks of the encoder; 0 for none.
    fn encoder_layers(&self) -> usize {
        let raw = &self.raw.model;
        raw.encoder_layers.unwrap_or(match raw.preset {
            Some(Preset::Marian | Preset::T5) => raw.n_layers(),
            _ => 0,
        })
    }

    /// Refuses what an encoder-decoder cannot learn.
    pub(super) fn check_encoder(&self) -> Result<(), TrainError> {
        let raw = self.raw;
        if self.encoder_layers() == 0 {
            return Ok(());
        }
        if raw.train.objective() != ObjectiveKind::NextToken {
            let detail = "an encoder-decoder writes a completion for a prompt, which is train.objective = \"next_token\"; set it or leave this out";
            return Err(self.error("model.encoder_layers", detail));
        }
        if raw.data.conversations.is_none() && raw.data.examples.is_none() {
            let detail = "an encoder reads prompts and a decoder writes completions, which running text does not have; set \
                          data.conversations or data.examples, or leave this out";
            return Err(self.error("model.encoder_layers", detail));
        }
        if raw.replay != RawReplay::default() {
            let detail = "old data are running text, which has no prompt for the encoder; leave this section out";
            return Err(self.error("replay", detail));
        }
        match raw.model.preset {
            Some(Preset::Lstm) => Err(self.error(
                "model.encoder_layers",
                "an LSTM has no attention to an encoder; leave this out",
            )),
            _ => Ok(()),
        }
    }

    fn model_config(&self, block_size: usize, dropout: f64) -> Result<TransformerConfig, TrainError> {
        let raw = &self.raw.model;
        let n_heads = raw.n_heads();
        let d_model = raw.d_model();
        let has_heads = raw.preset != Some(Preset::Lstm);
        if has_heads && raw.head_dim.is_none() && (n_heads == 0 || !d_model.is_multiple_of(n_heads)) {
            return Err(self.error(
                "model.n_heads",
                format!("expected a divisor of model.d_model = {d_model} (or a model.head_dim), got {n_heads}"),
            ));
        }
        let preset = match raw.preset() {
            Preset::Gpt2 => TransformerConfig::gpt2,
            Preset::Nanogpt => TransformerConfig::nanogpt,
            Preset::Llama => TransformerConfig::llama,
            Preset::Qwen3 => TransformerConfig::qwen3,
            Preset::Bert => TransformerConfig::bert,
            Preset::Encoder => encoder,
            Preset::Lstm => TransformerConfig::lstm,
            Preset::Marian => TransformerConfig::marian,
            Preset::T5 => TransformerConfig::t5,
        };
        let is_masked = self.raw.train.objective == Some(ObjectiveKind::Masked);
        if !is_masked && matches!(raw.preset, Some(Preset::Bert | Preset::Encoder)) {
            return Err(self.error(
                "model.preset",
                "this preset is bidirectional and would see the token it must predict; set train.objective = \"masked\"",
            ));
        }
        // The vocabulary is filled in when the tokenizer is there; 1 keeps the checks below meaningful.
        let base = preset(ModelSize {
            vocab_size: 1,
            max_seq_len: raw.max_seq_len.unwrap_or(block_size),
            n_layers: raw.n_layers(),
            n_heads,
            d_model,
        });
        let norm_place = raw.norm_place.unwrap_or(base.norm_place);
        let embedding_norm = raw.embedding_norm.unwrap_or(base.embedding_norm);
        let encoder = encoder_of(self.encoder_layers());
        let config = TransformerConfig {
            n_kv_heads: raw.n_kv_heads.unwrap_or(base.n_kv_heads),
            head_dim: raw.head_dim.unwrap_or(base.head_dim),
            d_ff: raw.d_ff.unwrap_or(base.d_ff),
            position: raw.position.unwrap_or(base.position),
            rope_theta: raw.rope_theta.unwrap_or(base.rope_theta),
            local_rope_theta: raw.local_rope_theta.or(base.local_rope_theta),
            norm: raw.norm.unwrap_or(base.norm),
            norm_place,
            norm_eps: raw.norm_eps.unwrap_or(base.norm_eps),
            norm_bias: raw.norm_bias.unwrap_or(base.norm_bias),
            embedding_norm,
            // The embedding norm replaces the first norm, so that one is skipped only with an embedding norm.
            skip_first_norm: base.skip_first_norm && embedding_norm && norm_place == NormPlace::Pre,
            activation: raw.activation.unwrap_or(base.activation),
            qkv_bias: raw.qkv_bias.unwrap_or(base.qkv_bias),
            attention_output_bias: raw.attention_output_bias.unwrap_or(base.attention_output_bias),
            ffn_bias: raw.ffn_bias.unwrap_or(base.ffn_bias),
            qk_norm: raw.qk_norm.unwrap_or(base.qk_norm),
            tie_embeddings: raw.tie_embeddings.unwrap_or(base.tie_embeddings),
            window: raw.window.or(base.window),
            global_every: raw.global_every.or(base.global_every),
            attention_softcap: raw.attention_softcap.or(base.attention_softcap),
            logit_softcap: raw.logit_softcap.or(base.logit_softcap),
            is_causal: !is_masked,
            // A decoder alone has no text of its own to begin: it continues the prompt.
            decoder_start: base.decoder_start.filter(|_| encoder.is_some()),
            encoder,
            dropout,
            ..base
        };
        config.validate().map_err(|error| match error {
            taal_model::ModelError::Config { field, detail } => self.error(&format!("model.{field}"), detail),
            other => self.error("model", other.to_string()),
        })?;
        Ok(config)
    }
}

/// The encoder of so many blocks; none for 0.
pub(crate) fn encoder_of(n_layers: usize) -> Option<EncoderConfig> {
    (n_layers > 0).then_some(EncoderConfig { n_layers })
}

/// A modern encoder (ModernBERT, Warner et al. 2024) for short texts: every block sees everything, with LLaMA's rotary angles.
fn encoder(size: ModelSize) -> TransformerConfig {
    TransformerConfig {
        rope_theta: 10_000.0,
        local_rope_theta: None,
        window: None,
        global_every: None,
        ..TransformerConfig::modernbert(size)
    }
}
