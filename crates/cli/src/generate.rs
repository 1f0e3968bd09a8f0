//! `taal generate`: a prompt's continuation, as it comes.

use std::ops::ControlFlow;
use std::path::Path;

use serde::Serialize;
use taal_inference::{
    BeamOptions, GenerateOptions, Generation, InferenceError, LanguageModel, Prompt, Receipt, Speculated,
    SpeculativeOptions, beam_search,
};

use crate::arguments::{GenerateArguments, twice};
use crate::energy::{Work, WorkEnergy};
use crate::failure::Failure;
use crate::{models, standard_input, terminal};

/// Generates.
pub fn run(arguments: &GenerateArguments) -> Result<(), Failure> {
    let options = options(arguments)?;
    // A wrong setting should not cost the loading of a model.
    options.validate()?;
    let beam = arguments.beam.options();
    beam.as_ref().map_or(Ok(()), BeamOptions::validate)?;
    arguments.draft.validate()?;
    let (model, prompt) = model_and_prompt(arguments)?;
    let lm = models::open_adapted_with(model, arguments.device.device, &arguments.adapter, arguments.weights)?;
    let lm = models::with_cache(lm, arguments.cache)?;
    let speculation = arguments.draft.open(arguments.device.device, &lm, model)?;
    if arguments.sampling.has_random_seed() && beam.is_none() && terminal::is_watched() {
        terminal::message(&format!("seed: {}", options.sampling.seed));
    }
    warn_of_unknown_ends(&lm);
    if let Some(beam) = &beam {
        return search(&lm, &prompt, &options, beam, *arguments.json);
    }
    let mut work = arguments.energy.then(|| Work::begin(arguments.device.device));
    if *arguments.json {
        let all = &mut |_: &str| ControlFlow::Continue(());
        let (generation, speculative) = generated(&lm, &prompt, &options, speculation, all)?;
        let energy = work.as_mut().and_then(|work| work.end(generation.token_ids.len()));
        say_what_was_dropped(&lm, &generation);
        write_receipt(arguments, &lm, &options, &generation)?;
        return Ok(terminal::print_json(&Printed {
            generation: &generation,
            speculative,
            energy,
        })?);
    }
    let mut written = Ok(());
    let (generation, speculated) = generated(&lm, &prompt, &options, speculation, &mut |text| {
        written = terminal::print(text);
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    })?;
    let energy = work.as_mut().and_then(|work| work.end(generation.token_ids.len()));
    match written {
        // Nobody reads on, as with `| head`.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
        written => written?,
    }
    match &generation.text {
        Some(_) => terminal::print("\n")?,
        None => terminal::print(&ids(&generation))?,
    }
    say_what_was_dropped(&lm, &generation);
    if let Some(speculated) = speculated {
        terminal::message(&format!(
            "draft: {} of {} guessed tokens were right; {} passes of the model for {} tokens",
            speculated.accepted,
            speculated.drafted,
            speculated.passes,
            generation.token_ids.len()
        ));
    }
    if let Some(energy) = energy {
        terminal::message(&energy.words());
    }
    write_receipt(arguments, &lm, &options, &generation)
}

/// What `--json` prints.
#[derive(Serialize)]
struct Printed<'a> {
    #[serde(flatten)]
    generation: &'a Generation,
    #[serde(skip_serializing_if = "Option::is_none")]
    speculative: Option<Speculated>,
    #[serde(skip_serializing_if = "Option::is_none")]
    energy: Option<WorkEnergy>,
}

/// The continuation, and how often a draft was right.
fn generated(
    lm: &LanguageModel,
    prompt: &Prompt,
    options: &GenerateOptions,
    speculation: Option<SpeculativeOptions>,
    on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
) -> Result<(Generation, Option<Speculated>), Failure> {
    let generated = match speculation {
        Some(speculation) => taal_inference::generate_speculatively(lm, prompt, options, speculation, on_text)
            .map(|(generation, speculated)| (generation, Some(speculated))),
        None => taal_inference::generate(lm, prompt, options, on_text).map(|generation| (generation, None)),
    };
    generated.map_err(with_way_out)
}

fn write_receipt(
    arguments: &GenerateArguments,
    lm: &LanguageModel,
    options: &GenerateOptions,
    generation: &Generation,
) -> Result<(), Failure> {
    if let Some(path) = &arguments.receipt {
        let receipt = Receipt::new(lm, None, options, generation)?;
        let mut json = serde_json::to_vec_pretty(&receipt)?;
        json.push(b'\n');
        taal_store::write_atomic(path, &json)?;
    }
    Ok(())
}

/// A line of ids, of a model without a tokenizer.
pub fn ids(generation: &Generation) -> String {
    let ids: Vec<String> = generation.token_ids.iter().map(ToString::to_string).collect();
    format!("{}\n", ids.join(","))
}

/// Beam search in place of a drawn text.
fn search(
    lm: &LanguageModel,
    prompt: &Prompt,
    options: &GenerateOptions,
    beam: &BeamOptions,
    as_json: bool,
) -> Result<(), Failure> {
    let beams = beam_search(lm, prompt, options, beam).map_err(with_way_out)?;
    if let Some(best) = beams.first() {
        say_what_was_dropped(lm, &best.generation);
    }
    match (as_json, beams.first()) {
        (false, Some(best)) => terminal::print(&match &best.generation.text {
            Some(text) => format!("{text}\n"),
            None => ids(&best.generation),
        })?,
        (false, None) => terminal::print("\n")?,
        (true, _) => terminal::print_json(&serde_json::json!({ "beams": beams }))?,
    }
    Ok(())
}

fn model_and_prompt(arguments: &GenerateArguments) -> Result<(&Path, Prompt), Failure> {
    let (model, word) = arguments.asked.model_and_text("generate")?;
    let option = match arguments.prompt {
        Some(_) => "--prompt",
        None => "--prompt-ids",
    };
    let text = match (&arguments.prompt_ids, arguments.prompt.as_deref(), word) {
        (_, Some(_), Some(word)) | (Some(_), _, Some(word)) => return Err(twice(word, option)),
        (Some(ids), ..) => return Ok((model, Prompt::Ids(ids.clone()))),
        (None, Some(text), None) | (None, None, Some(text)) => text,
        (None, None, None) => return Err(arguments.asked.no_text("generate", model)),
    };
    Ok((model, Prompt::Text(standard_input::text_or_stdin(text, arguments.raw)?)))
}

/// An id without a token is never generated, so the text may be longer than the model's authors intended.
fn warn_of_unknown_ends(lm: &LanguageModel) {
    let ids: Vec<String> = lm.unknown_end_ids.iter().map(ToString::to_string).collect();
    if !ids.is_empty() {
        let ids = ids.join(", ");
        terminal::message(&format!(
            "note: the model's files name id {ids} as the end of a text, and its vocabulary has {} ids",
            lm.model.config().vocab_size
        ));
    }
}

/// The text does not show that its beginning was not read.
fn say_what_was_dropped(lm: &LanguageModel, generation: &Generation) {
    if generation.dropped_prompt_tokens > 0 {
        terminal::message(&format!(
            "note: the prompt has {} tokens and the model's context holds {}: {} of its first tokens were left out (--no-truncate refuses)",
            generation.prompt_tokens,
            lm.model.config().context_limit().unwrap_or_default(),
            generation.dropped_prompt_tokens
        ));
    }
}

fn with_way_out(error: InferenceError) -> Failure {
    let is_too_long = matches!(error, InferenceError::PromptTooLong { .. });
    let failure = Failure::from(error);
    match is_too_long {
        true => failure.with_hint("without --no-truncate, the last tokens of the prompt are read"),
        false => failure,
    }
}

fn options(arguments: &GenerateArguments) -> Result<GenerateOptions, Failure> {
    Ok(GenerateOptions {
        max_tokens: arguments.max_tokens,
        sampling: arguments.sampling.sampling(),
        stop: arguments.stop.clone(),
        show_special: arguments.show_special,
        truncate: !arguments.no_truncate,
        use_cache: !arguments.no_cache,
        constraint: arguments.form.constraint()?,
        ..GenerateOptions::default()
    })
}
