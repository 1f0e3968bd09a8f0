//! `taal train`: which recipe in which run directory, and what to say afterwards.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use taal_kernels::DeviceSpec;
use taal_metrics::Report;
use taal_store::ErrorKind;
use taal_trainer::{
    DEFAULT_RECIPE, Outcome, RECIPE_FILE, RESOLVED_FILE, RecipeText, RunOptions, TrainError, first_free, latest,
    resolve, stored_recipe,
};

use crate::arguments::TrainArguments;
use crate::failure::{Failure, STOPPED};
use crate::progress::Screen;
use crate::signals::{self, Moment};
use crate::terminal;

/// Where runs go that name no directory.
const RUNS: &str = "runs";

/// A recipe file above this size is not one.
const MAX_RECIPE_BYTES: u64 = 1 << 20;

/// What a run is about, once all of the arguments have had their say.
struct Plan {
    run_dir: PathBuf,
    recipe: RecipeText,
    /// The recipe as a person wrote it.
    typed: String,
}

/// Trains.
pub fn run(arguments: &TrainArguments) -> Result<ExitCode, Failure> {
    let plan = Plan::new(arguments)?;
    let resolved = resolve(&plan.recipe, &arguments.set).map_err(|error| {
        let hint = "`taal recipes show NAME --resolved` prints a recipe with every key and its value";
        let failure = Failure::from(error);
        if arguments.resume && arguments.recipe.is_none() {
            failure
        } else {
            failure.with_hint(hint)
        }
    })?;
    let device = arguments.device;
    let mut screen = Screen::new();
    listen(&screen, &plan.run_dir, device)?;
    screen.line(&format!(
        "training {} in {}",
        resolved.recipe.name,
        plan.run_dir.display()
    ));

    let options = RunOptions {
        run_dir: &plan.run_dir,
        device,
        is_resume: arguments.resume,
    };
    let outcome = taal_trainer::train(&resolved, &plan.typed, &options, &mut screen);
    screen.finish();
    match outcome {
        Ok(Outcome::Finished(report)) => {
            terminal::print(&summary(&report, &plan.run_dir, device))?;
            Ok(ExitCode::SUCCESS)
        }
        Ok(Outcome::Interrupted(report)) => {
            let resume = resume_command(&plan.run_dir, device);
            terminal::message(&format!(
                "stopped after step {} of {}, all of it saved; go on with: {resume}",
                report.steps, report.planned_steps
            ));
            Ok(ExitCode::from(STOPPED))
        }
        Err(error) => Err(explain(error, &plan.run_dir, device)),
    }
}

impl Plan {
    fn new(arguments: &TrainArguments) -> Result<Self, Failure> {
        let recipe = RecipeText::find(arguments.recipe.as_deref().unwrap_or(DEFAULT_RECIPE))?;
        let base = Path::new(RUNS);
        let found = if arguments.resume {
            latest(base, &recipe.name)
        } else {
            None
        };
        let run_dir = match &arguments.run_dir {
            Some(dir) => dir.clone(),
            None => found.unwrap_or_else(|| first_free(base, &recipe.name)),
        };
        if arguments.resume && arguments.recipe.is_none() && is_in_use(&run_dir)? {
            let recipe = stored_recipe(&run_dir)?;
            let typed = run_dir.join(RECIPE_FILE);
            let typed = match taal_store::exists(&typed) {
                true => taal_store::read_text(&typed, MAX_RECIPE_BYTES)?,
                false => recipe.text.clone(),
            };
            return Ok(Self { run_dir, recipe, typed });
        }
        let typed = recipe.text.clone();
        Ok(Self { run_dir, recipe, typed })
    }
}

/// Whether anything but hidden files stands in the directory: a run that was killed in its first moment leaves a lock.
fn is_in_use(dir: &Path) -> Result<bool, taal_store::Error> {
    Ok(taal_store::exists(dir) && taal_store::list_dir(dir)?.iter().any(|name| !name.starts_with('.')))
}

fn listen(screen: &Screen, run_dir: &Path, device: DeviceSpec) -> Result<(), Failure> {
    let bar = screen.bar();
    let begun = run_dir.join(RESOLVED_FILE);
    let resume = resume_command(run_dir, device);
    let say = move |moment| match moment {
        Moment::WhileTraining => bar.suspend(|| {
            terminal::message("stopping after this step; once more stops at once and loses what is not saved");
        }),
        Moment::OnceMore => {
            bar.finish_and_clear();
            terminal::message(&format!(
                "stopped at once; from the last checkpoint go on with: {resume}"
            ));
        }
        Moment::BeforeFirstStep => {
            bar.finish_and_clear();
            terminal::message(&match taal_store::exists(&begun) {
                true => format!("stopped before the first step; go on with: {resume}"),
                false => "stopped before the first step, nothing was begun: run the same command again".to_string(),
            });
        }
    };
    Ok(signals::listen(say)?)
}

fn resume_command(run_dir: &Path, device: DeviceSpec) -> String {
    let run_dir = terminal::shell_word(&run_dir.display().to_string());
    match device {
        DeviceSpec::Flex => format!("taal train --resume --run-dir {run_dir}"),
        device => format!("taal train --resume --run-dir {run_dir} --device {device}"),
    }
}

/// Adds the way out that depends on what was asked for.
fn explain(error: TrainError, run_dir: &Path, device: DeviceSpec) -> Failure {
    let hint = match error.kind() {
        ErrorKind::Disk => Some(format!(
            "what was saved before is whole; when there is space again, go on with: {}",
            resume_command(run_dir, device)
        )),
        ErrorKind::Memory if !matches!(error, TrainError::Memory { .. }) => Some(
            "make train.batch_size smaller and train.accumulation larger: the same updates in less memory".to_string(),
        ),
        ErrorKind::Diverged => {
            Some("begin anew with the same recipe and a lower rate, for example --set train.lr=1e-4; events.jsonl says which batches were bad".to_string())
        }
        _ => None,
    };
    let failure = Failure::from(error);
    match hint {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    }
}

/// Samples and figures of a finished run.
fn summary(report: &Report, run_dir: &Path, device: DeviceSpec) -> String {
    let mut text = String::new();
    for sample in &report.samples {
        text.push_str(&format!("--- {:?} continued:\n{}\n", sample.prompt, sample.text));
    }
    if !report.samples.is_empty() {
        text.push_str("---\n");
    }
    let mut rows = vec![
        ("recipe", report.recipe.clone()),
        ("steps", terminal::grouped(report.steps)),
        ("train loss", format!("{:.4} nats/token", report.train_loss)),
    ];
    if let Some(loss) = report.val_loss {
        rows.push(("val loss", format!("{loss:.4} nats/token")));
    }
    if let (Some(best), Some(step)) = (report.best_val_loss, report.best_step) {
        rows.push((
            "best val loss",
            format!("{best:.4} at step {}", terminal::grouped(step)),
        ));
    }
    if let Some(bits) = report.val_bits_per_byte {
        rows.push(("bits/byte", format!("{bits:.4}")));
    }
    if let Some(masked) = &report.masked {
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        let [low, high] = masked.model.accuracy_interval;
        rows.push((
            "hidden tokens",
            format!(
                "{} guessed ({} to {}), by counting neighbours {}, always the commonest {}",
                percent(masked.model.accuracy),
                percent(low),
                percent(high),
                percent(masked.neighbours.accuracy),
                percent(masked.unigram.accuracy)
            ),
        ));
        rows.push((
            "perplexity",
            format!(
                "{:.1}, by counting neighbours {:.1}, always the commonest {:.1}",
                masked.model.perplexity, masked.neighbours.perplexity, masked.unigram.perplexity
            ),
        ));
    }
    rows.push(("tokens/s", terminal::grouped(report.tokens_per_s.round() as u64)));
    if report.mfu > 0.0 {
        rows.push(("MFU", format!("{:.1} % of the measured peak", 100.0 * report.mfu)));
    }
    rows.push((
        "time",
        terminal::duration(Duration::from_secs_f64(report.wall_s.max(0.0))),
    ));
    if report.peak_rss_bytes > 0 {
        rows.push(("peak memory", terminal::size(report.peak_rss_bytes)));
    }
    rows.push(("report", run_dir.join("report.html").display().to_string()));
    rows.push(("model", run_dir.join("model").display().to_string()));
    match report.masked {
        Some(_) => rows.push(("fill", fill_command(report, run_dir, device))),
        None => rows.push(("generate", generate_command(report, run_dir, device))),
    }
    text + &terminal::table(&rows)
}

fn fill_command(report: &Report, run_dir: &Path, device: DeviceSpec) -> String {
    let model = terminal::shell_word(&run_dir.display().to_string());
    let prompt = report
        .samples
        .first()
        .map_or("... [MASK] ...", |sample| sample.prompt.as_str());
    let device = if device == DeviceSpec::Flex {
        String::new()
    } else {
        format!(" --device {device}")
    };
    format!("taal fill --model {model} {}{device}", terminal::shell_word(prompt))
}

fn generate_command(report: &Report, run_dir: &Path, device: DeviceSpec) -> String {
    let model = terminal::shell_word(&run_dir.display().to_string());
    let prompt = report.samples.first().map_or("\n", |sample| sample.prompt.as_str());
    let device = if device == DeviceSpec::Flex {
        String::new()
    } else {
        format!(" --device {device}")
    };
    format!(
        "taal generate --model {model} --prompt {} --max-tokens 300{device}",
        terminal::shell_word(prompt)
    )
}
