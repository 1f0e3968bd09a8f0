//! What a configuration must hold.

use super::{MAX_DIMENSION, MAX_LAYERS, Mixer, NormKind, NormPlace, PositionKind, TransformerConfig};
use crate::ModelError;

/// Tables of fixed positions may always hold this many numbers, 32 MiB; larger ones may not exceed the model's parameters.
const FREE_TABLE_VALUES: u64 = 1 << 23;

/// The most buckets of relative positions.
const MAX_BUCKETS: usize = 4096;

impl TransformerConfig {
    /// Checks every value and combination.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] names the field, its value and what was expected.
    pub fn validate(&self) -> Result<(), ModelError> {
        let positive = [
            ("vocab_size", self.vocab_size),
            ("max_seq_len", self.max_seq_len),
            ("n_layers", self.n_layers),
            ("n_heads", self.n_heads),
            ("n_kv_heads", self.n_kv_heads),
            ("head_dim", self.head_dim),
            ("d_model", self.d_model),
            ("d_ff", self.d_ff),
        ];
        for (field, value) in positive {
            if value == 0 || value > MAX_DIMENSION {
                return Err(ModelError::config(
                    field,
                    format!("expected 1..={MAX_DIMENSION}, got {value}"),
                ));
            }
        }
        if self.n_layers > MAX_LAYERS {
            return Err(ModelError::config(
                "n_layers",
                format!("expected 1..={MAX_LAYERS}, got {}", self.n_layers),
            ));
        }
        if !self.n_heads.is_multiple_of(self.n_kv_heads) {
            return Err(ModelError::config(
                "n_kv_heads",
                format!(
                    "expected a divisor of n_heads = {}, got {}",
                    self.n_heads, self.n_kv_heads
                ),
            ));
        }
        if self.position == PositionKind::Rotary && !self.head_dim.is_multiple_of(2) {
            return Err(ModelError::config(
                "head_dim",
                format!("rotary positions turn pairs, so it must be even, got {}", self.head_dim),
            ));
        }
        if self.position == PositionKind::Sinusoidal && !self.d_model.is_multiple_of(2) {
            return Err(ModelError::config(
                "d_model",
                format!(
                    "sinusoidal positions come in pairs, so it must be even, got {}",
                    self.d_model
                ),
            ));
        }
        if self.norm == NormKind::RmsNorm && self.norm_bias {
            return Err(ModelError::config(
                "norm_bias",
                "RMSNorm has no bias; use LayerNorm or norm_bias = false",
            ));
        }
        if self.skip_first_norm && self.norm_place != NormPlace::Pre {
            return Err(ModelError::config(
                "skip_first_norm",
                "only where norms come before the sub-layers",
            ));
        }
        self.validate_mixer()?;
        self.validate_encoder()?;
        self.validate_distances()?;
        self.validate_windows()?;
        self.validate_position_tables()?;
        self.validate_numbers()
    }

    /// Refuses fields that an LSTM would silently ignore.
    fn validate_mixer(&self) -> Result<(), ModelError> {
        if self.mixer == Mixer::Attention {
            return Ok(());
        }
        let unused = [
            ("position", self.position != PositionKind::None),
            ("norm_place", self.norm_place != NormPlace::Post),
            ("embedding_norm", self.embedding_norm),
            ("head_transform", self.head_transform),
            ("qk_norm", self.qk_norm),
            ("qkv_bias", self.qkv_bias),
            ("attention_output_bias", self.attention_output_bias),
            ("ffn_bias", self.ffn_bias),
            ("window", self.window.is_some()),
            ("attention_scale", self.attention_scale.is_some()),
            ("attention_softcap", self.attention_softcap.is_some()),
            ("encoder", self.encoder.is_some()),
        ];
        if let Some((field, _)) = unused.into_iter().find(|(_, is_set)| *is_set) {
            return Err(ModelError::config(
                field,
                "a recurrent network has neither attention nor norms, positions or feed-forward layers; leave it out",
            ));
        }
        match self.is_causal {
            true => Ok(()),
            false => Err(ModelError::config(
                "is_causal",
                "a recurrent network reads forwards only; masked words need attention",
            )),
        }
    }

    /// What an encoder and a decoder that attends to it cannot have.
    fn validate_encoder(&self) -> Result<(), ModelError> {
        let Some(encoder) = self.encoder else {
            return match self.decoder_start {
                Some(_) => Err(ModelError::config(
                    "decoder_start",
                    "only a model with an encoder uses it; leave it out",
                )),
                None => Ok(()),
            };
        };
        if encoder.n_layers == 0 || encoder.n_layers > MAX_LAYERS {
            return Err(ModelError::config(
                "encoder.n_layers",
                format!("expected 1..={MAX_LAYERS}, got {}", encoder.n_layers),
            ));
        }
        let impossible = [
            (
                "is_causal",
                !self.is_causal,
                "the decoder of an encoder-decoder writes its text token by token, so it must be causal",
            ),
            (
                "head_transform",
                self.head_transform,
                "only a model of masked words has it; an encoder-decoder predicts the next token",
            ),
        ];
        if let Some((field, _, why)) = impossible.into_iter().find(|(_, is_set, _)| *is_set) {
            return Err(ModelError::config(field, why));
        }
        match self.decoder_start {
            Some(id) if id as usize >= self.vocab_size => Err(ModelError::config(
                "decoder_start",
                format!("expected a token id below vocab_size = {}, got {id}", self.vocab_size),
            )),
            _ => Ok(()),
        }
    }

    /// Settings of position encodings that the model does not have, and impossible ranges of distances.
    fn validate_distances(&self) -> Result<(), ModelError> {
        if self.sinusoidal_halves && self.position != PositionKind::Sinusoidal {
            return Err(ModelError::config(
                "sinusoidal_halves",
                "only sinusoidal positions use it",
            ));
        }
        let Some(relative) = self.relative else { return Ok(()) };
        if self.position != PositionKind::Relative {
            return Err(ModelError::config("relative", "only relative positions use it"));
        }
        if !(4..=MAX_BUCKETS).contains(&relative.buckets) || !relative.buckets.is_multiple_of(4) {
            return Err(ModelError::config(
                "relative.buckets",
                format!(
                    "expected a multiple of 4 of at most {MAX_BUCKETS}, got {}",
                    relative.buckets
                ),
            ));
        }
        if relative.max_distance <= relative.buckets / 2 || relative.max_distance > MAX_DIMENSION {
            return Err(ModelError::config(
                "relative.max_distance",
                format!(
                    "expected {}..={MAX_DIMENSION}, got {}",
                    relative.buckets / 2 + 1,
                    relative.max_distance
                ),
            ));
        }
        Ok(())
    }

    fn validate_windows(&self) -> Result<(), ModelError> {
        for (field, value) in [("window", self.window), ("global_every", self.global_every)] {
            if value == Some(0) {
                return Err(ModelError::config(field, "expected at least 1, got 0"));
            }
        }
        let without_window = [
            ("global_every", self.global_every.is_some()),
            ("local_rope_theta", self.local_rope_theta.is_some()),
        ];
        match without_window
            .into_iter()
            .find(|(_, is_there)| *is_there && self.window.is_none())
        {
            Some((field, _)) => Err(ModelError::config(field, "only a model with a window uses it")),
            None => Ok(()),
        }
    }

    /// Tables of fixed positions are not stored in files, so only this check keeps a hostile configuration from taking all memory
    /// with them.
    fn validate_position_tables(&self) -> Result<(), ModelError> {
        let width = match self.position {
            PositionKind::Rotary if self.local_rope_theta.is_some() => 4 * self.head_dim,
            PositionKind::Rotary => 2 * self.head_dim,
            PositionKind::Sinusoidal => self.d_model,
            PositionKind::Learned | PositionKind::Alibi | PositionKind::Relative | PositionKind::None => 0,
        } as u64;
        let values = self.max_seq_len as u64 * width;
        let limit = self.n_params().saturating_add(FREE_TABLE_VALUES);
        if values <= limit {
            return Ok(());
        }
        Err(ModelError::config(
            "max_seq_len",
            format!(
                "{} positions need tables of {values} numbers, but at most {limit} are made for a model of this size; \
                 make it at most {}",
                self.max_seq_len,
                limit / width
            ),
        ))
    }

    fn validate_numbers(&self) -> Result<(), ModelError> {
        if !(self.norm_eps.is_finite() && self.norm_eps > 0.0 && self.norm_eps < 1.0) {
            return Err(ModelError::config(
                "norm_eps",
                format!("expected a number in (0, 1), got {}", self.norm_eps),
            ));
        }
        for (field, theta) in [
            ("rope_theta", Some(self.rope_theta)),
            ("local_rope_theta", self.local_rope_theta),
        ] {
            if let Some(theta) = theta.filter(|theta| !(theta.is_finite() && *theta > 1.0)) {
                return Err(ModelError::config(
                    field,
                    format!("expected a number above 1, got {theta}"),
                ));
            }
        }
        if let Some(scaling) = self.rope_scaling {
            if self.position != PositionKind::Rotary {
                return Err(ModelError::config("rope_scaling", "only rotary positions have angles"));
            }
            scaling
                .validate()
                .map_err(|detail| ModelError::config("rope_scaling", detail))?;
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(ModelError::config(
                "dropout",
                format!("expected a number in [0, 1), got {}", self.dropout),
            ));
        }
        for (field, cap) in [
            ("attention_scale", self.attention_scale),
            ("logit_scale", self.logit_scale),
            ("attention_softcap", self.attention_softcap),
            ("logit_softcap", self.logit_softcap),
        ] {
            if cap.is_some_and(|cap| !(cap.is_finite() && cap > 0.0)) {
                return Err(ModelError::config(
                    field,
                    format!("expected a number above 0, got {}", cap.unwrap_or(0.0)),
                ));
            }
        }
        Ok(())
    }
}
