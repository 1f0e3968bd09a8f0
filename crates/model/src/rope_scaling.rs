//! How rotary angles are scaled for texts longer than the original context: [`RopeScaling`].

use serde::{Deserialize, Serialize};
use taal_embeddings::RotaryScaling;

use crate::config::MAX_DIMENSION;

/// Turns above which YaRN leaves a pair unchanged, by default.
pub const BETA_FAST: f64 = 32.0;

/// Turns below which YaRN slows a pair by the whole factor, by default.
pub const BETA_SLOW: f64 = 1.0;

/// [`RotaryScaling`] of the embeddings crate, in the form of Hugging Face's files.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rope_type", rename_all = "lowercase", deny_unknown_fields)]
pub enum RopeScaling {
    /// All pairs rotate slower (Chen et al. 2023).
    Linear {
        /// How many times slower; at least 1.
        factor: f64,
    },
    /// Slow pairs rotate slower (LLaMA 3.1, Grattafiori et al. 2024).
    Llama3 {
        /// How many times slower; at least 1.
        factor: f64,
        /// Turns in the original context below which a pair is slow.
        low_freq_factor: f64,
        /// Turns in the original context above which a pair is fast.
        high_freq_factor: f64,
        /// The original context, in tokens.
        original_max_position_embeddings: usize,
    },
    /// A larger base for texts longer than the context. Up to `max_seq_len` tokens, the longest input accepted here, the angles
    /// are unscaled; other programs use the factor.
    Dynamic {
        /// How fast the base grows with the length; at least 1.
        factor: f64,
    },
    /// Slow pairs rotate slower, and queries and keys are scaled (YaRN, Peng et al. 2023).
    Yarn {
        /// How many times slower; at least 1.
        factor: f64,
        /// The original context, in tokens.
        original_max_position_embeddings: usize,
        /// What queries and keys are multiplied by; see [`attention_factor`](RopeScaling::attention_factor) where it is absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        attention_factor: Option<f64>,
        /// Scales the growth of that factor with `factor`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mscale: Option<f64>,
        /// The same for the divisor.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mscale_all_dim: Option<f64>,
        /// Turns in the original context above which a pair is fast.
        #[serde(default = "beta_fast")]
        beta_fast: f64,
        /// Turns in the original context below which a pair is slow.
        #[serde(default = "beta_slow")]
        beta_slow: f64,
        /// Whether the first and last pair between fast and slow are rounded outwards.
        #[serde(default = "truncate", skip_serializing_if = "is_true")]
        truncate: bool,
    },
}

fn beta_fast() -> f64 {
    BETA_FAST
}

fn beta_slow() -> f64 {
    BETA_SLOW
}

fn truncate() -> bool {
    true
}

fn is_true(value: &bool) -> bool {
    *value
}

/// YaRN's factor for queries and keys; `share` is 1 in the paper.
pub fn yarn_length(factor: f64, share: f64) -> f64 {
    if factor <= 1.0 {
        1.0
    } else {
        0.1 * share * factor.ln() + 1.0
    }
}

impl RopeScaling {
    /// The scaling of tables for a context of `max_seq_len` tokens.
    pub fn rotary(self, max_seq_len: usize) -> RotaryScaling {
        match self {
            Self::Linear { factor } => RotaryScaling::Linear { factor },
            Self::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings,
            } => RotaryScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_len: original_max_position_embeddings,
            },
            Self::Dynamic { factor } => RotaryScaling::Dynamic {
                factor,
                original_max_len: max_seq_len,
            },
            Self::Yarn {
                factor,
                original_max_position_embeddings,
                beta_fast,
                beta_slow,
                truncate,
                ..
            } => RotaryScaling::Yarn {
                factor,
                attention_factor: self.attention_factor(),
                beta_fast,
                beta_slow,
                original_max_len: original_max_position_embeddings,
                truncate,
            },
        }
    }

    /// What queries and keys are multiplied by: the key of that name, else the quotient of `0.1 * mscale * ln(factor) + 1` and
    /// the same with `mscale_all_dim`, where neither is absent or 0, else `0.1 * ln(factor) + 1`. 1 for all but YaRN.
    pub fn attention_factor(self) -> f64 {
        let Self::Yarn {
            factor,
            attention_factor,
            mscale,
            mscale_all_dim,
            ..
        } = self
        else {
            return 1.0;
        };
        let is_set = |share: &f64| *share != 0.0;
        let of_shares = || {
            let (numerator, denominator) = (mscale.filter(is_set)?, mscale_all_dim.filter(is_set)?);
            Some(yarn_length(factor, numerator) / yarn_length(factor, denominator))
        };
        attention_factor
            .or_else(of_shares)
            .unwrap_or_else(|| yarn_length(factor, 1.0))
    }

    fn factor(self) -> f64 {
        match self {
            Self::Linear { factor }
            | Self::Llama3 { factor, .. }
            | Self::Dynamic { factor }
            | Self::Yarn { factor, .. } => factor,
        }
    }

    pub(crate) fn validate(self) -> Result<(), String> {
        let factor = self.factor();
        if !(factor.is_finite() && factor >= 1.0) {
            return Err(format!("factor: expected a number of at least 1, got {factor}"));
        }
        match self {
            Self::Linear { .. } | Self::Dynamic { .. } => Ok(()),
            Self::Llama3 {
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_position_embeddings,
                ..
            } => {
                expect_positive("low_freq_factor", low)?;
                if !(high.is_finite() && high > low) {
                    return Err(format!(
                        "high_freq_factor: expected a number above low_freq_factor = {low}, got {high}"
                    ));
                }
                expect_context(original_max_position_embeddings)
            }
            Self::Yarn {
                original_max_position_embeddings,
                beta_fast,
                beta_slow,
                ..
            } => {
                expect_positive("beta_fast", beta_fast)?;
                expect_positive("beta_slow", beta_slow)?;
                expect_positive("attention_factor", self.attention_factor())?;
                expect_context(original_max_position_embeddings)
            }
        }
    }
}

fn expect_positive(field: &str, number: f64) -> Result<(), String> {
    if number.is_finite() && number > 0.0 {
        return Ok(());
    }
    Err(format!("{field}: expected a number above 0, got {number}"))
}

fn expect_context(original: usize) -> Result<(), String> {
    if original == 0 || original > MAX_DIMENSION {
        return Err(format!(
            "original_max_position_embeddings: expected 1..={MAX_DIMENSION}, got {original}"
        ));
    }
    Ok(())
}
