//! Recipes as text: every value with its source, and the keys in which two recipes differ.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use taal_model::{Initialization, TransformerConfig};
use toml::{Table, Value};

use super::keys::{
    ObjectiveKind, Preset, RawHealth, RawLora, RawMasking, RawModel, RawPreference, RawRecipe, RawTrain,
};
use super::{ModelRecipe, Objective, Recipe, Resolved, TokenizerRecipe};
use crate::optimizer::OptimizerKind;

/// Every value as TOML with its source as a comment.
pub(super) fn resolved_text(recipe: &Recipe, raw: &RawRecipe, typed: &Table, sets: &Table) -> String {
    let table = Table::try_from(recipe.to_raw(raw)).unwrap_or_default();
    let mut text = format!("# Recipe {}: every value, with where it came from.\n", recipe.name);
    let source = |path: &[&str]| match () {
        () if lookup(sets, path) => "--set",
        () if lookup(typed, path) => "recipe",
        () if path[0] == "model" => "preset",
        () => "default",
    };
    // Writing to a string cannot fail. TOML requires top-level keys before sections.
    for (key, value) in table.iter().filter(|(_, value)| !value.is_table()) {
        let _ = writeln!(text, "{key} = {value} # {}", source(&[key]));
    }
    for (section, inner) in table.iter().filter_map(|(key, value)| Some((key, value.as_table()?))) {
        if !inner.is_empty() {
            let _ = writeln!(text, "\n[{section}]");
        }
        for (key, value) in inner {
            let _ = writeln!(text, "{key} = {value} # {}", source(&[section, key]));
        }
    }
    text
}

/// The keys in which two recipes differ, with both values; `none` if a recipe does not have the key.
pub(crate) fn differences(before: &Resolved, now: &Resolved) -> Vec<(String, String, String)> {
    let [before, now] = [before, now].map(|resolved| flat(resolved.text.parse().unwrap_or_default()));
    let keys: std::collections::BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let shown = |values: &BTreeMap<String, Value>, key| values.get(key).map_or("none".to_string(), Value::to_string);
    keys.into_iter()
        .filter(|key| before.get(*key) != now.get(*key))
        .map(|key| (key.clone(), shown(&before, key), shown(&now, key)))
        .collect()
}

/// The dotted keys of a recipe and their values.
pub(crate) fn flat(table: Table) -> BTreeMap<String, Value> {
    let mut values = BTreeMap::new();
    for (key, value) in table {
        match value {
            Value::Table(inner) => {
                values.extend(inner.into_iter().map(|(name, value)| (format!("{key}.{name}"), value)))
            }
            value => {
                values.insert(key, value);
            }
        }
    }
    values
}

fn lookup(table: &Table, path: &[&str]) -> bool {
    match path {
        [key] => table.contains_key(*key),
        [section, rest @ ..] => table
            .get(*section)
            .and_then(Value::as_table)
            .is_some_and(|inner| lookup(inner, rest)),
        [] => false,
    }
}

impl Recipe {
    /// The recipe as it would be written with every key.
    fn to_raw(&self, typed: &RawRecipe) -> RawRecipe {
        let mut raw = typed.clone();
        raw.name = Some(self.name.clone());
        raw.description = Some(self.description.clone());
        raw.seed = Some(self.seed);
        raw.data.validation_fraction = Some(self.data.validation_fraction);
        raw.data.order = Some(self.data.order);
        raw.data.damaged = Some(self.data.damaged);
        raw.data.line_ends = Some(self.data.line_ends);
        if let Some(direction) = &self.data.direction {
            raw.data.from = Some(direction.from.clone());
            raw.data.to = Some(direction.to.clone());
        }
        if let TokenizerRecipe::Train { kind, vocab_size, .. } = &self.tokenizer {
            raw.tokenizer.kind = Some(kind.to_string());
            raw.tokenizer.vocab_size = Some(*vocab_size);
        }
        match &self.model {
            ModelRecipe::New { config, init } => fill_model(&mut raw.model, config, *init),
            ModelRecipe::InitFrom { dropout, .. } | ModelRecipe::Own { dropout, .. } => {
                raw.model.dropout = Some(*dropout);
            }
        }
        let t = &self.train;
        if let Objective::Masked(masking) = &t.objective {
            raw.masking = RawMasking {
                fraction: Some(masking.fraction),
                unit: Some(masking.unit),
                masked: Some(masking.masked),
                random: Some(masking.random),
            };
        }
        if let Objective::Preference(dpo) = &t.objective {
            raw.preference = RawPreference {
                beta: Some(dpo.beta),
                label_smoothing: Some(dpo.label_smoothing),
            };
        }
        raw.train = RawTrain {
            init_from: typed.train.init_from.clone(),
            objective: Some(match t.objective {
                Objective::NextToken => ObjectiveKind::NextToken,
                Objective::Masked(_) => ObjectiveKind::Masked,
                Objective::Preference(_) => ObjectiveKind::Preference,
            }),
            steps: Some(t.steps),
            batch_size: Some(t.batch_size),
            block_size: Some(t.block_size),
            accumulation: Some(t.accumulation),
            precision: Some(t.precision.to_string()),
            schedule: Some(t.schedule.kind),
            lr: Some(t.schedule.lr),
            min_lr: Some(t.schedule.min_lr),
            warmup_steps: Some(t.schedule.warmup_steps),
            decay_fraction: Some(t.schedule.decay_fraction),
            optimizer: Some(if t.muon.is_some() {
                OptimizerKind::Muon
            } else {
                OptimizerKind::AdamW
            }),
            beta1: Some(t.adamw.beta1),
            beta2: Some(t.adamw.beta2),
            eps: Some(t.adamw.eps),
            weight_decay: Some(t.adamw.weight_decay),
            label_smoothing: (t.label_smoothing > 0.0).then_some(t.label_smoothing),
            clip_norm: t.clip_norm,
            freeze: (!t.freeze.is_empty()).then(|| t.freeze.clone()),
            muon_lr: t.muon.map(|muon| muon.lr),
            muon_momentum: t.muon.map(|muon| muon.momentum),
            muon_weight_decay: t.muon.map(|muon| muon.weight_decay),
            patience: t.patience,
            stop_loss: t.stop_loss,
        };
        if let Some(lora) = &self.lora {
            raw.lora = RawLora {
                rank: Some(lora.rank),
                alpha: Some(lora.alpha),
                rslora: Some(lora.is_rslora),
                dropout: Some(lora.dropout),
                targets: (!lora.targets.is_empty()).then(|| lora.targets.clone()),
            };
        }
        raw.eval.every = Some(self.eval.every);
        raw.eval.batch_size = Some(self.eval.batch_size);
        raw.eval.max_tokens = self.eval.max_tokens;
        if self.eval.metric.is_some() {
            raw.eval.answers = Some(self.eval.answers);
            raw.eval.answer_tokens = Some(self.eval.answer_tokens);
        }
        if self.replay.is_used() {
            raw.replay.share = Some(self.replay.share);
            raw.replay.max_tokens = Some(self.replay.max_tokens);
        }
        raw.checkpoint.every = Some(self.checkpoint.every);
        raw.checkpoint.keep = Some(self.checkpoint.keep);
        raw.checkpoint.average = self.checkpoint.average;
        raw.checkpoint.background = Some(self.checkpoint.background);
        raw.health = RawHealth {
            spike_sigma: Some(self.health.spike_sigma.unwrap_or(0.0)),
            spike_window: Some(self.health.spike_window),
            max_skips: Some(self.health.max_skips),
            rewinds: Some(self.health.rewinds),
        };
        raw.sample.prompts = Some(self.sample.prompts.clone());
        raw.sample.max_tokens = Some(self.sample.max_tokens);
        raw.sample.temperature = Some(self.sample.temperature);
        raw.sample.top_k = self.sample.top_k;
        raw.sample.beam = (self.sample.beam > 1).then_some(self.sample.beam);
        raw.sample.rank = (!self.sample.rank.is_empty()).then(|| self.sample.rank.clone());
        raw
    }
}

fn fill_model(raw: &mut RawModel, c: &TransformerConfig, init: Initialization) {
    *raw = RawModel {
        preset: Some(raw.preset.unwrap_or(Preset::Llama)),
        max_seq_len: Some(c.max_seq_len),
        n_layers: Some(c.n_layers),
        // Only where the preset does not say it: recipes without an encoder are written as before.
        encoder_layers: (c.encoder.is_some() || matches!(raw.preset, Some(Preset::Marian | Preset::T5)))
            .then(|| c.encoder.map_or(0, |encoder| encoder.n_layers)),
        n_heads: Some(c.n_heads),
        n_kv_heads: Some(c.n_kv_heads),
        head_dim: Some(c.head_dim),
        d_model: Some(c.d_model),
        d_ff: Some(c.d_ff),
        position: Some(c.position),
        rope_theta: Some(c.rope_theta),
        local_rope_theta: c.local_rope_theta,
        norm: Some(c.norm),
        norm_place: Some(c.norm_place),
        norm_eps: Some(c.norm_eps),
        norm_bias: Some(c.norm_bias),
        embedding_norm: Some(c.embedding_norm),
        activation: Some(c.activation),
        qkv_bias: Some(c.qkv_bias),
        attention_output_bias: Some(c.attention_output_bias),
        ffn_bias: Some(c.ffn_bias),
        qk_norm: Some(c.qk_norm),
        tie_embeddings: Some(c.tie_embeddings),
        window: c.window,
        global_every: c.global_every,
        attention_softcap: c.attention_softcap,
        logit_softcap: c.logit_softcap,
        dropout: Some(c.dropout),
        init_std: Some(init.std),
        residual_std: init.residual_std,
    };
}
