//! llama.cpp's keys and table for scaled rotary angles.

use super::file::File;
use super::write::Entry;
use taal_model::ModelError;
use taal_model::rope_scaling::{BETA_FAST, BETA_SLOW, yarn_length};
use taal_model::{MAX_DIMENSION, RopeScaling, TransformerConfig};

/// The table of angles that llama.cpp multiplies the rotary frequencies with.
pub(super) const ROPE_FREQS: &str = "rope_freqs.weight";

/// Relative tolerance when a table of angles is compared with a scaling; the table is in single precision.
const ROPE_TOLERANCE: f32 = 1e-5;

/// Relative difference up to which two factors are the same in single precision.
const FACTOR_TOLERANCE: f64 = 1e-6;

const KIND: &str = "rope.scaling.type";
const FACTOR: &str = "rope.scaling.factor";
const ORIGINAL: &str = "rope.scaling.original_context_length";
const ATTENTION_FACTOR: &str = "rope.scaling.attn_factor";
const YARN_ATTENTION_FACTOR: &str = "rope.scaling.yarn_attn_factor";
const EXTRAPOLATION_FACTOR: &str = "rope.scaling.yarn_ext_factor";
const YARN_BETA_FAST: &str = "rope.scaling.yarn_beta_fast";
const YARN_BETA_SLOW: &str = "rope.scaling.yarn_beta_slow";

/// Refuses what llama.cpp's YaRN does not support in the architectures written here.
pub(super) fn check(scaling: RopeScaling) -> Result<(), &'static str> {
    match scaling {
        RopeScaling::Yarn { truncate: false, .. } => Err("llama.cpp always rounds the pairs that YaRN mixes outwards"),
        RopeScaling::Yarn {
            beta_fast, beta_slow, ..
        } if (beta_fast, beta_slow) != (BETA_FAST, BETA_SLOW) => {
            Err("llama.cpp always uses a beta_fast of 32 and a beta_slow of 1 for this architecture")
        }
        _ => Ok(()),
    }
}

/// The keys of a configuration's scaling. LLaMA 3's is a table instead, and dynamic scaling has no effect within the model's context.
pub(super) fn entries(own: impl Fn(&str) -> String, c: &TransformerConfig) -> Vec<(String, Entry)> {
    let text = |kind: &str| (own(KIND), Entry::Text(kind.to_string()));
    let number = |key: &str, number: f64| (own(key), Entry::F32(number as f32));
    match c.rope_scaling {
        None | Some(RopeScaling::Llama3 { .. } | RopeScaling::Dynamic { .. }) => Vec::new(),
        Some(RopeScaling::Linear { factor }) => vec![text("linear"), number(FACTOR, factor)],
        Some(
            scaling @ RopeScaling::Yarn {
                factor,
                original_max_position_embeddings,
                ..
            },
        ) => {
            let mut entries = vec![
                text("yarn"),
                number(FACTOR, factor),
                (own(ORIGINAL), Entry::U32(original_max_position_embeddings as u32)),
            ];
            // llama.cpp multiplies by YaRN's standard factor itself.
            let attention_factor = scaling.attention_factor() / yarn_length(factor, 1.0);
            if !is_near(attention_factor, 1.0) {
                entries.push(number(ATTENTION_FACTOR, attention_factor));
            }
            entries
        }
    }
}

fn is_near(a: f64, b: f64) -> bool {
    (a - b).abs() <= FACTOR_TOLERANCE * b.abs()
}

/// The scaling from the keys and the table of a file.
pub(super) fn scaling(
    file: &File<'_>,
    own: impl Fn(&str) -> String,
    config: &TransformerConfig,
) -> Result<Option<RopeScaling>, ModelError> {
    let from_keys = scaling_of_keys(file, own, config)?;
    let Some(info) = file.tensor(ROPE_FREQS) else {
        return Ok(from_keys);
    };
    let table = file.values(ROPE_FREQS, info)?;
    if table.iter().all(|share| *share == 1.0) {
        return Ok(from_keys);
    }
    let found = from_keys.is_none().then(|| llama3_of(&table, config)).flatten();
    found.map(Some).ok_or_else(|| {
        let detail = format!(
            "tensor `{ROPE_FREQS}` scales the rotary angles in a way that is not LLaMA 3's; this is not supported"
        );
        ModelError::file(file.path(), detail)
    })
}

fn scaling_of_keys(
    file: &File<'_>,
    own: impl Fn(&str) -> String,
    config: &TransformerConfig,
) -> Result<Option<RopeScaling>, ModelError> {
    let number = |key: &str| file.number(&own(key));
    // The second name is used in files from before August 2023.
    let factor = number(FACTOR)?.or(number("rope.scale_linear")?);
    let factor = factor.filter(|factor| *factor != 0.0).unwrap_or(1.0);
    let attention_factor = number(ATTENTION_FACTOR)?.unwrap_or(1.0);
    let kind = file.text(&own(KIND))?.unwrap_or("linear");
    if kind == "yarn" {
        return yarn(file, own, config, factor, attention_factor).map(Some);
    }
    if !["none", "linear"].contains(&kind) {
        return Err(file.wrong(&own(KIND), "none, linear or yarn"));
    }
    if attention_factor != 1.0 {
        return Err(file.wrong(&own(ATTENTION_FACTOR), "1 or no such key without YaRN"));
    }
    let is_scaled = kind == "linear" && factor != 1.0;
    Ok(is_scaled.then_some(RopeScaling::Linear { factor }))
}

fn yarn(
    file: &File<'_>,
    own: impl Fn(&str) -> String,
    config: &TransformerConfig,
    factor: f64,
    attention_factor: f64,
) -> Result<RopeScaling, ModelError> {
    let number = |key: &str| file.number(&own(key));
    let usual = yarn_length(factor, 1.0);
    if number(EXTRAPOLATION_FACTOR)?.is_some_and(|share| share != 1.0) {
        return Err(file.wrong(&own(EXTRAPOLATION_FACTOR), "1 or no such key"));
    }
    // llama.cpp uses this key only in architectures that are not supported here; its converter writes transformers' factor there.
    let is_unusual = |factor: f64| !is_near(factor, 1.0) && !is_near(factor, usual);
    if number(YARN_ATTENTION_FACTOR)?.is_some_and(is_unusual) {
        let expected = format!("1, {usual} as YaRN has it, or no such key");
        return Err(file.wrong(&own(YARN_ATTENTION_FACTOR), &expected));
    }
    let original = file.size_up_to(&own(ORIGINAL), MAX_DIMENSION)?;
    Ok(RopeScaling::Yarn {
        factor,
        original_max_position_embeddings: original.filter(|original| *original > 0).unwrap_or(config.max_seq_len),
        attention_factor: (!is_near(attention_factor, 1.0)).then_some(attention_factor * usual),
        mscale: None,
        mscale_all_dim: None,
        // llama.cpp's converter copies it from transformers, and llama.cpp uses it only in other architectures.
        beta_fast: number(YARN_BETA_FAST)?.unwrap_or(BETA_FAST),
        beta_slow: number(YARN_BETA_SLOW)?.unwrap_or(BETA_SLOW),
        truncate: true,
    })
}

/// llama.cpp's divisors of the rotary frequencies of a model with LLaMA 3's scaling, `[head_dim / 2]`.
pub(super) fn llama3_table(c: &TransformerConfig) -> Option<Vec<f32>> {
    let RopeScaling::Llama3 {
        factor,
        low_freq_factor,
        high_freq_factor,
        original_max_position_embeddings,
    } = c.rope_scaling?
    else {
        return None;
    };
    let [factor, low, high, original] = [
        factor,
        low_freq_factor,
        high_freq_factor,
        original_max_position_embeddings as f64,
    ];
    let share = |i: usize| {
        let frequency = 1.0 / c.rope_theta.powf((2 * i) as f64 / c.head_dim as f64);
        let turns = original * frequency / (2.0 * std::f64::consts::PI);
        if turns > high {
            1.0
        } else if turns < low {
            factor
        } else {
            let smooth = (turns - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    };
    Some((0..c.head_dim / 2).map(|i| share(i) as f32).collect())
}

/// The published scaling that gives a table: factors 1 and 4 on an original context that is a power of two.
fn llama3_of(table: &[f32], config: &TransformerConfig) -> Option<RopeScaling> {
    let factor = table.iter().copied().fold(1.0_f32, f32::max);
    let candidates = (4..=20).map(|power| RopeScaling::Llama3 {
        factor: f64::from(factor),
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 1 << power,
    });
    let makes_table = |scaling: &RopeScaling| {
        let config = TransformerConfig {
            rope_scaling: Some(*scaling),
            ..config.clone()
        };
        llama3_table(&config).is_some_and(|made| {
            let is_near = |(a, b): (&f32, &f32)| (a - b).abs() <= ROPE_TOLERANCE * b.abs();
            made.len() == table.len() && made.iter().zip(table).all(is_near)
        })
    };
    // The usual context first: if no pair is between fast and slow, several contexts give the same table.
    let usual = candidates.clone().filter(|scaling| is_on(scaling, 8192));
    usual.chain(candidates).find(makes_table)
}

fn is_on(scaling: &RopeScaling, context: usize) -> bool {
    matches!(scaling, RopeScaling::Llama3 { original_max_position_embeddings, .. } if *original_max_position_embeddings == context)
}
