//! Samples: what a trained model writes for the recipe's prompts.

use std::ops::ControlFlow;
use std::path::Path;

use burn::tensor::Device;
use taal_inference::{FillOptions, GenerateOptions, LanguageModel, Prompt, Sampling, generate};
use taal_kernels::random;
use taal_metrics::{Sample, WordRank};
use taal_model::TransformerConfig;
use taal_tokenizer::Tokenizer;

use super::Task;
use crate::TrainError;
use crate::recipe::Recipe;

/// Refuses unusable prompts before training starts.
pub(crate) fn check(recipe: &Recipe, tokenizer: &Tokenizer, config: &TransformerConfig) -> Result<(), TrainError> {
    let sample = &recipe.sample;
    if sample.max_tokens == 0 {
        return Ok(());
    }
    for (index, prompt) in sample.prompts.iter().enumerate() {
        let checked = match config.is_causal {
            true => check_prompt(tokenizer, prompt),
            false => check_gaps(tokenizer, prompt, config),
        };
        checked
            .map_err(|detail| TrainError::recipe(&recipe.name, &format!("sample.prompts[{}]", index + 1), detail))?;
    }
    if !config.is_causal {
        for (index, word) in sample.rank.iter().enumerate() {
            let key = format!("sample.rank[{}]", index + 1);
            encoded(tokenizer, word).map_err(|detail| TrainError::recipe(&recipe.name, &key, detail))?;
        }
    }
    Ok(())
}

fn encoded(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, String> {
    tokenizer
        .encode(text)
        .map_err(|error| format!("{} cannot be used: {error}", shortened(text)))
}

/// The beginning of a long prompt, for messages.
fn shortened(text: &str) -> String {
    const MAX_CHARACTERS: usize = 60;
    match text.char_indices().nth(MAX_CHARACTERS) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

fn check_prompt(tokenizer: &Tokenizer, prompt: &str) -> Result<(), String> {
    if encoded(tokenizer, prompt)?.is_empty() && tokenizer.bos_id().is_none() {
        return Err(format!(
            "{} has no token, and the tokenizer has no beginning-of-text token to start from; give at least one character",
            shortened(prompt)
        ));
    }
    Ok(())
}

fn check_gaps(tokenizer: &Tokenizer, prompt: &str, config: &TransformerConfig) -> Result<(), String> {
    let text = taal_inference::with_own_mask(tokenizer, prompt);
    let ids = encoded(tokenizer, &text)?;
    if !ids.iter().any(|id| Some(*id) == tokenizer.mask_id()) {
        return Err(format!(
            "expected at least one [MASK] for the model to fill, got {}",
            shortened(prompt)
        ));
    }
    let tokens = ids.len() + tokenizer.frame().len();
    match config.context_limit().filter(|limit| tokens > *limit) {
        Some(limit) => Err(format!(
            "{} is {tokens} tokens long with those that begin and end a text, more than the model's context of {limit}",
            shortened(prompt)
        )),
        None => Ok(()),
    }
}

/// A sample for every prompt, from the model in the run directory.
pub(crate) fn write(recipe: &Recipe, run_dir: &Path, device: &Device, task: &dyn Task) -> Vec<Sample> {
    let sample = &recipe.sample;
    if sample.max_tokens == 0 || sample.prompts.is_empty() {
        return Vec::new();
    }
    let lm = LanguageModel::open(run_dir, device).map_err(|error| error.to_string());
    let text_of = |index: usize| {
        let lm = lm.as_ref().map_err(String::clone)?;
        task.sample(lm, recipe, index).map_err(|error| error.to_string())
    };
    let prompts = sample.prompts.iter().enumerate();
    prompts
        .map(|(index, prompt)| {
            let prompt = prompt.clone();
            match text_of(index) {
                Ok((text, ranks)) => Sample {
                    prompt,
                    text,
                    ranks,
                    error: None,
                },
                Err(error) => Sample {
                    prompt,
                    error: Some(error),
                    ..Sample::default()
                },
            }
        })
        .collect()
}

/// The continuation of a prompt.
pub(crate) fn continuation(lm: &LanguageModel, recipe: &Recipe, index: usize) -> Result<Written, TrainError> {
    let sample = &recipe.sample;
    let options = GenerateOptions {
        max_tokens: sample.max_tokens,
        sampling: Sampling {
            temperature: sample.temperature,
            top_k: sample.top_k,
            seed: random::key(recipe.seed, index as u64, "sample"),
            ..Sampling::default()
        },
        ..GenerateOptions::default()
    };
    let written = generate(lm, &Prompt::Text(sample.prompts[index].clone()), &options, &mut |_| {
        ControlFlow::Continue(())
    })?;
    Ok((written.text.unwrap_or_default(), Vec::new()))
}

/// The text of a sample, and where the recipe's words come in it.
pub(crate) type Written = (String, Vec<WordRank>);

/// A masked model's guesses for a prompt's gaps, as text.
pub(crate) fn guesses(lm: &LanguageModel, prompt: &str, rank: &[String]) -> Result<Written, TrainError> {
    let options = FillOptions {
        rank: rank.to_vec(),
        ..FillOptions::default()
    };
    let found = taal_inference::fill(lm, prompt, &options)?;
    let percent = |probability: f64| format!("{:.1} %", 100.0 * probability);
    let mut lines = vec![found.filled];
    for gap in &found.gaps {
        let guesses: Vec<String> = gap
            .guesses
            .iter()
            .map(|guess| format!("{} {}", guess.text, percent(guess.probability)))
            .collect();
        lines.push(guesses.join(", "));
    }
    let ranks = found.ranks.into_iter().map(|rank| WordRank {
        word: rank.word,
        rank: rank.rank.map(|rank| rank as u64),
        probability: rank.probability,
    });
    Ok((lines.join("\n"), ranks.collect()))
}
