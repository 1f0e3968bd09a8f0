//! `taal generate`: a prompt's continuation, as it comes.

use std::time::{SystemTime, UNIX_EPOCH};

use taal_inference::{GenerateOptions, LanguageModel, Prompt, Sampling};

use crate::arguments::GenerateArguments;
use crate::failure::Failure;
use crate::terminal;

/// Generates.
pub fn run(arguments: &GenerateArguments) -> Result<(), Failure> {
    let options = options(arguments);
    // A wrong setting should not cost the loading of a model.
    options.validate()?;
    let prompt = match &arguments.prompt_ids {
        Some(ids) => Prompt::Ids(ids.clone()),
        None => Prompt::Text(terminal::text_or_stdin(
            arguments.prompt.as_deref().unwrap_or_default(),
        )?),
    };
    let lm = LanguageModel::open(&arguments.model, &arguments.device.open()?)?;
    if arguments.seed.is_none() && options.sampling.temperature > 0.0 && terminal::is_watched() {
        terminal::message(&format!("seed: {}", options.sampling.seed));
    }
    if arguments.json {
        let generation = taal_inference::generate(&lm, &prompt, &options, &mut |_| ())?;
        return Ok(terminal::print_json(&generation)?);
    }
    let mut written = Ok(());
    let generation = taal_inference::generate(&lm, &prompt, &options, &mut |text| {
        if written.is_ok() {
            written = terminal::print(text);
        }
        // The generation cannot be told to stop, and its other tokens have no reader.
        if written
            .as_ref()
            .is_err_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
        {
            std::process::exit(0);
        }
    })?;
    written?;
    match generation.text {
        Some(_) => terminal::print("\n")?,
        None => {
            let ids: Vec<String> = generation.token_ids.iter().map(ToString::to_string).collect();
            terminal::print(&format!("{}\n", ids.join(",")))?;
        }
    }
    Ok(())
}

fn options(arguments: &GenerateArguments) -> GenerateOptions {
    GenerateOptions {
        max_tokens: arguments.max_tokens,
        sampling: Sampling {
            repetition_penalty: arguments.repetition_penalty,
            temperature: arguments.temperature,
            top_k: arguments.top_k,
            top_p: arguments.top_p,
            min_p: arguments.min_p,
            seed: arguments.seed.unwrap_or_else(seed_of_the_clock),
        },
        stop: arguments.stop.clone(),
        use_cache: !arguments.no_cache,
        ..GenerateOptions::default()
    }
}

/// Another seed each time, short enough to be typed again.
fn seed_of_the_clock() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    taal_kernels::random::key(now.as_nanos() as u64, u64::from(std::process::id()), "cli/seed") % 1_000_000_000
}
