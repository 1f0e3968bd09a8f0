//! Base and scaling of the rotary angles in `config.json`.

use serde_json::{Map, Value};

use super::config::Keys;
use super::weights::shown;
use crate::config::RopeScaling;
use crate::rope_scaling::{BETA_FAST, BETA_SLOW};

/// The default base of the rotary angles.
const ROPE_THETA: f64 = 10_000.0;

/// The key of the original context length.
const ORIGINAL: &str = "original_max_position_embeddings";

/// Context lengths from the rest of `config.json`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Contexts {
    /// `max_position_embeddings`.
    pub(super) longest: usize,
    /// The original one at the top level. It takes precedence over the one in the rope object, as in transformers.
    pub(super) original: Option<usize>,
}

/// Base and scaling of the rotary angles. Earlier versions of transformers keep the base at the top level and the scaling in
/// `rope_scaling`, version 5 keeps both in `rope_parameters`; if a file has both objects, version 5 uses only `rope_scaling`.
pub(super) fn rotary(keys: &Keys<'_>, max_seq_len: usize) -> Result<(f64, Option<RopeScaling>), String> {
    keys.expect_whole_heads_to_turn()?;
    let theta = keys.number_or("rope_theta", ROPE_THETA)?;
    let Some((name, object)) = object_of_angles(keys)? else {
        return Ok((theta, None));
    };
    let inner = Keys(object);
    let original = keys.present(ORIGINAL).map(|_| keys.size(ORIGINAL)).transpose()?;
    let contexts = Contexts {
        longest: max_seq_len,
        original,
    };
    let scaling = rope_scaling(name, &inner, contexts)?;
    let theta = inner.number_or("rope_theta", theta);
    Ok((theta.map_err(|error| format!("key `{name}`: {error}"))?, scaling))
}

/// A key and its object.
type Named<'a> = (&'static str, &'a Map<String, Value>);

/// The object that applies, and its key.
fn object_of_angles<'a>(keys: &'a Keys<'_>) -> Result<Option<Named<'a>>, String> {
    for name in ["rope_scaling", "rope_parameters"] {
        if let Some(object) = keys.object(name)?.filter(|object| !object.is_empty()) {
            return Ok(Some((name, object)));
        }
    }
    Ok(None)
}

/// The scaling that the object `name` holds. Keys that its kind does not use are ignored, as in transformers.
pub(super) fn rope_scaling(name: &str, inner: &Keys<'_>, contexts: Contexts) -> Result<Option<RopeScaling>, String> {
    let within = |error: String| format!("key `{name}`: {error}");
    let older = inner.text_or("type", "default").map_err(within)?;
    let kind = inner.text_or("rope_type", older).map_err(within)?;
    inner.expect_whole_heads_to_turn().map_err(within)?;
    let number = |key: &str| inner.number(key).map_err(within);
    let original = || match contexts.original {
        Some(original) => Ok(original),
        None => inner.size_or(ORIGINAL, contexts.longest).map_err(within),
    };
    Ok(match kind {
        "default" => None,
        "linear" => Some(RopeScaling::Linear {
            factor: number("factor")?,
        }),
        "dynamic" => Some(RopeScaling::Dynamic {
            factor: number("factor")?,
        }),
        "llama3" => Some(RopeScaling::Llama3 {
            factor: number("factor")?,
            low_freq_factor: number("low_freq_factor")?,
            high_freq_factor: number("high_freq_factor")?,
            original_max_position_embeddings: original()?,
        }),
        "yarn" => Some(yarn(inner, original()?, contexts.longest).map_err(within)?),
        other => {
            return Err(format!(
                "key `{name}.rope_type`: expected default, linear, dynamic, llama3 or yarn, got \"{}\"",
                shown(other)
            ));
        }
    })
}

fn yarn(inner: &Keys<'_>, original: usize, longest: usize) -> Result<RopeScaling, String> {
    let number = |key: &str| inner.present(key).map(|_| inner.number(key)).transpose();
    // If it is absent or 0, transformers uses the default.
    let beta = |key: &str, usual: f64| Ok::<_, String>(number(key)?.filter(|turns| *turns != 0.0).unwrap_or(usual));
    let is_null = |key: &str| inner.0.get(key).is_some_and(Value::is_null);
    let factor = if is_null("factor") {
        longest as f64 / original as f64
    } else {
        inner.number("factor")?
    };
    Ok(RopeScaling::Yarn {
        factor,
        original_max_position_embeddings: original,
        attention_factor: number("attention_factor")?,
        mscale: number("mscale")?,
        mscale_all_dim: number("mscale_all_dim")?,
        beta_fast: beta("beta_fast", BETA_FAST)?,
        beta_slow: beta("beta_slow", BETA_SLOW)?,
        truncate: !is_null("truncate") && inner.truth_or("truncate", true)?,
    })
}
