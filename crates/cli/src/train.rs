//! `taal train`: which recipe in which run directory, and what to say afterwards.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use taal_kernels::DeviceSpec;
use taal_metrics::{AnswerFigures, AnswerScore, ForgettingFigures, Report, Sample, SourceFigures, WordRank};
use taal_model::hugging_face::TranslationFacts;
use taal_store::{ErrorKind, layout};
use taal_tokenizer::chat::ChatFiles;
use taal_trainer::{
    Claim, DEFAULT_RECIPE, DataSource, Outcome, RECIPE_FILE, REPORT_FILE, Recipe, RecipeText, Resolved, RunOptions,
    Start, TrainError, is_run, latest, nothing_to_resume, resolve, resolve_stored, stored_recipe, train_in,
};

use crate::arguments::TrainArguments;
use crate::dry_run;
use crate::energy;
use crate::failure::{Failure, STOPPED};
use crate::progress::Screen;
use crate::signals::{self, Moment};
use crate::terminal;

/// Where runs go that name no directory.
pub const RUNS: &str = "runs";

/// A recipe file above this size is not one.
const MAX_RECIPE_BYTES: u64 = 1 << 20;

/// What a run is about, once all of the arguments have had their say.
struct Plan {
    /// `None` is the next one below [`RUNS`].
    run_dir: Option<PathBuf>,
    resolved: Resolved,
    /// The recipe as it was written.
    typed: String,
}

/// Trains.
pub fn run(arguments: &TrainArguments) -> Result<ExitCode, Failure> {
    let plan = match arguments.resume {
        true => Plan::resumed(arguments)?,
        false => Plan::new(arguments)?,
    };
    let device = arguments.device.device;
    let mut screen = Screen::new();
    if arguments.dry_run {
        dry_run::run(&plan.resolved, plan.run_dir.as_deref(), device, screen, *arguments.json)?;
        return Ok(ExitCode::SUCCESS);
    }
    let start = listen(&screen, device)?;
    let claim = match (&plan.run_dir, arguments.resume) {
        (Some(dir), true) => Claim::resume(dir)?,
        (Some(dir), false) => Claim::of(dir, &plan.resolved.source_name)?,
        (None, _) => Claim::next(Path::new(RUNS), &plan.resolved.source_name)?,
    };
    let run_dir = claim.dir().to_path_buf();
    *start.lock().unwrap_or_else(PoisonError::into_inner) = Some((run_dir.clone(), claim.start()));
    let verb = if arguments.resume { "resuming" } else { "training" };
    screen.line(&format!(
        "{verb} {} in {}",
        plan.resolved.recipe.name,
        run_dir.display()
    ));
    screen.page = Some(run_dir.join(REPORT_FILE));

    let options = RunOptions {
        run_dir: &run_dir,
        device,
        is_resume: arguments.resume,
        language: arguments.lang.language(),
        energy: energy::of_training(arguments.energy_budget, |note| screen.line(note)),
    };
    let outcome = train_in(claim, &plan.resolved, &plan.typed, &options, &mut screen);
    screen.finish();
    match outcome {
        Ok(Outcome::Finished(report)) => {
            terminal::print(&summary(&report, &run_dir, device))?;
            Ok(ExitCode::SUCCESS)
        }
        Ok(Outcome::Interrupted(report)) => {
            let resume = resume_command(&run_dir, device);
            terminal::message(&format!(
                "stopped after step {} of {}, all of it saved; continue with: {resume}",
                report.steps, report.planned_steps
            ));
            Ok(ExitCode::from(STOPPED))
        }
        Err(error) => Err(explain(error, &plan.resolved.recipe, &run_dir, device)),
    }
}

impl Plan {
    /// A new run.
    fn new(arguments: &TrainArguments) -> Result<Self, Failure> {
        refuse_other_things(arguments)?;
        let name = arguments.recipe().unwrap_or(DEFAULT_RECIPE);
        let recipe = RecipeText::find(name)?;
        Ok(Self {
            run_dir: arguments.run_dir.clone(),
            resolved: resolve(&recipe, &arguments.set).map_err(|error| or_train_on_text(error, name))?,
            typed: recipe.text,
        })
    }

    /// A run that was begun: the one that is named, or the latest, of a recipe or of all. Never a new one.
    fn resumed(arguments: &TrainArguments) -> Result<Self, Failure> {
        let base = Path::new(RUNS);
        // `taal train --resume runs/x` can only mean the run.
        let word_is_run = arguments
            .word
            .as_deref()
            .is_some_and(|word| taal_store::is_dir(Path::new(word)));
        let recipe = arguments.recipe().filter(|_| !word_is_run);
        let named_dir = arguments.run_dir.clone().or_else(|| {
            let word = arguments.word.as_ref().filter(|_| word_is_run);
            word.map(PathBuf::from)
        });
        let named = recipe.map(RecipeText::find).transpose()?;
        let wanted = named.as_ref().map(|recipe| recipe.name.as_str());
        let run_dir = match named_dir {
            Some(dir) => dir,
            None => latest(base, wanted).ok_or_else(|| {
                let place = wanted.map_or(base.to_path_buf(), |name| base.join(name));
                nothing_to_resume(&place, &[base])
            })?,
        };
        if !is_run(&run_dir) {
            let parent = run_dir.parent().unwrap_or(base);
            return Err(nothing_to_resume(&run_dir, &[parent, base]).into());
        }
        if let Some(recipe) = named {
            return Ok(Self {
                run_dir: Some(run_dir),
                resolved: resolve(&recipe, &arguments.set)?,
                typed: recipe.text,
            });
        }
        let recipe = stored_recipe(&run_dir)?;
        let typed = run_dir.join(RECIPE_FILE);
        let typed = match taal_store::exists(&typed) {
            true => taal_store::read_text(&typed, MAX_RECIPE_BYTES)?,
            false => recipe.text.clone(),
        };
        Ok(Self {
            run_dir: Some(run_dir),
            resolved: resolve_stored(&recipe, &arguments.set)?,
            typed,
        })
    }
}

/// What is typed as a recipe and is something else: a run, or a setting.
fn refuse_other_things(arguments: &TrainArguments) -> Result<(), Failure> {
    let Some(name) = arguments.recipe() else {
        return Ok(());
    };
    let word = terminal::shell_word(name);
    let refuse = |error: String, hint: String| Err(Failure::from(anyhow::anyhow!(error)).with_hint(hint));
    if let (Some(value), Some(key)) = (&arguments.word, arguments.set.iter().find(|set| !set.contains('='))) {
        let setting = terminal::shell_word(&format!("{key}={value}"));
        return refuse(
            format!("--set {key} {value}: expected KEY=VALUE in one word"),
            format!("--set {setting}"),
        );
    }
    // A built-in recipe keeps its name where a run or a folder has the same.
    let is_built_in = taal_trainer::embedded().any(|(known, _)| known == name);
    if taal_store::is_dir(Path::new(name)) && !is_built_in {
        let hint = format!("continue a run with: taal train --resume --run-dir {word}");
        return refuse(format!("{name} is a directory, not a recipe"), hint);
    }
    if name.contains('=') && !taal_store::exists(Path::new(name)) {
        let hint = format!("keys of a recipe follow --set: --set {word}");
        return refuse(format!("{name} is a setting, not a recipe"), hint);
    }
    Ok(())
}

/// A text in place of a recipe is not TOML.
fn or_train_on_text(error: TrainError, name: &str) -> Failure {
    let is_no_toml = matches!(&error, TrainError::Recipe { key, .. } if key == "TOML");
    let failure = Failure::from(error);
    match is_no_toml && is_text(Path::new(name)) {
        true => failure.with_hint(format!(
            "if this is a text to train on: taal train --set {}",
            terminal::shell_word(&format!("data.files=[\"{name}\"]"))
        )),
        false => failure,
    }
}

fn is_text(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| ["txt", "md", "jsonl", "ndjson", "csv"].contains(&extension))
}

/// The run directory, once there is one, and what goes again where the run is not begun.
type Started = Arc<Mutex<Option<(PathBuf, Start)>>>;

fn listen(screen: &Screen, device: DeviceSpec) -> Result<Started, Failure> {
    let bar = screen.bar();
    let started = Started::default();
    let known = started.clone();
    let say = move |moment| {
        let known = known.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = known.as_ref().filter(|(dir, _)| is_run(dir));
        let resume = begun.map(|(dir, _)| resume_command(dir, device)).unwrap_or_default();
        match moment {
            Moment::WhileTraining => bar.suspend(|| {
                terminal::message("stopping after this step; once more stops at once and loses what is not saved");
            }),
            Moment::OnceMore => {
                bar.finish_and_clear();
                terminal::message(&format!(
                    "stopped at once; from the last checkpoint continue with: {resume}"
                ));
            }
            Moment::BeforeFirstStep => {
                bar.finish_and_clear();
                if begun.is_some() {
                    terminal::message(&format!("stopped before the first step; continue with: {resume}"));
                    return;
                }
                if let Some((_, start)) = known.as_ref() {
                    start.clear();
                }
                terminal::message("stopped before the first step, nothing was begun: run the same command again");
            }
        }
    };
    signals::listen(say)?;
    Ok(started)
}

fn resume_command(run_dir: &Path, device: DeviceSpec) -> String {
    let run_dir = terminal::shell_word(&run_dir.display().to_string());
    match device {
        DeviceSpec::Flex => format!("taal train --resume --run-dir {run_dir}"),
        device => format!("taal train --resume --run-dir {run_dir} --device {device}"),
    }
}

/// Adds the way out that depends on what was asked for.
fn explain(error: TrainError, recipe: &Recipe, run_dir: &Path, device: DeviceSpec) -> Failure {
    let is_full = has_cause(&error, |error| matches!(error, taal_store::Error::NoSpace { .. }));
    let resume = is_run(run_dir).then(|| resume_command(run_dir, device));
    let hint = match (error.kind(), resume) {
        (ErrorKind::Disk, Some(resume)) => Some(match is_full {
            true => format!("what was saved before is whole; when there is space again, continue with: {resume}"),
            false => format!("what was saved before is whole; when the disk has space and works again, continue with: {resume}"),
        }),
        (ErrorKind::Memory, _) if !matches!(error, TrainError::Memory { .. }) => Some(
            "make train.batch_size smaller and train.accumulation larger: the same updates in less memory".to_string(),
        ),
        (_, Some(resume)) if matches!(error, TrainError::NothingWhole { .. }) => Some(format!(
            "check the disk; then start again from step 0 with: {resume}"
        )),
        (ErrorKind::Diverged, _) => Some(
            "start again with the same recipe and a lower rate, for example --set train.lr=1e-4; events.jsonl says which batches were bad"
                .to_string(),
        ),
        (ErrorKind::Usage, None) => what_to_train_on(recipe, &error),
        _ => None,
    };
    let failure = Failure::from(error);
    match hint {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    }
}

/// The key that names the rows, where the recipe's are not there.
fn what_to_train_on(recipe: &Recipe, error: &TrainError) -> Option<String> {
    let DataSource::Conversations(path) = &recipe.data.source else {
        return None;
    };
    let is_cause = !taal_store::exists(path) && error.to_string().contains(&path.display().to_string());
    is_cause.then(|| {
        "name your rows with --set data.conversations=FILE; `taal data preview` shows how they are read".to_string()
    })
}

/// Whether an error of the store is the cause.
fn has_cause(error: &TrainError, is_it: impl Fn(&taal_store::Error) -> bool) -> bool {
    let (TrainError::Store(error) | TrainError::Metrics(taal_metrics::Error::Store(error))) = error else {
        return false;
    };
    is_it(error)
}

/// Where the recipe's words come among the guesses, a line each.
fn ranks(sample: &Sample) -> String {
    let of_word = |rank: &WordRank| match (rank.rank, rank.probability) {
        (Some(place), Some(probability)) => format!(
            "rank of \"{}\": {} ({:.2} %)\n",
            rank.word,
            terminal::grouped(place),
            100.0 * probability
        ),
        _ => format!("rank of \"{}\": none, it is more than one token\n", rank.word),
    };
    sample.ranks.iter().map(of_word).collect()
}

/// Samples and figures of a finished run.
fn summary(report: &Report, run_dir: &Path, device: DeviceSpec) -> String {
    let mut text = String::new();
    let what = match report.objective.as_str() {
        "masked" => "filled",
        _ => "continued",
    };
    for sample in &report.samples {
        text.push_str(&match &sample.error {
            Some(error) => format!("--- {:?} has no sample: {error}\n", sample.prompt),
            None => format!("--- {:?} {what}:\n{}\n{}", sample.prompt, sample.text, ranks(sample)),
        });
    }
    if !report.samples.is_empty() {
        text.push_str("---\n");
    }
    let unit = match report.objective.as_str() {
        "preference" => "nats/pair",
        _ => "nats/token",
    };
    let mut rows = vec![
        ("recipe", report.recipe.clone()),
        ("steps", terminal::grouped(report.steps)),
        ("train loss", format!("{:.4} {unit}", report.train_loss)),
    ];
    if let Some(loss) = report.val_loss {
        rows.push(("val loss", format!("{loss:.4} {unit}")));
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
    if !report.sources.is_empty() {
        let unit = match report.val_bits_per_byte {
            Some(_) => "bits/byte",
            None => "nats/token",
        };
        let of_source = |source: &SourceFigures| {
            let figure = source.bits_per_byte.unwrap_or(source.loss);
            format!("{} {figure:.4}", source.name)
        };
        let sources: Vec<String> = report.sources.iter().map(of_source).collect();
        rows.push(("by source", format!("{} {unit}", sources.join(", "))));
    }
    rows.extend(report.answers.iter().flat_map(answer_rows));
    if let Some(forgetting) = &report.forgetting {
        rows.push(("old data", forgetting_words(forgetting)));
    }
    if let Some(masked) = &report.masked {
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        let [low, high] = masked.model.accuracy_interval;
        rows.push((
            "hidden tokens",
            format!(
                "{} guessed ({} to {}), by counting neighbors {}, always the most common {}",
                percent(masked.model.accuracy),
                percent(low),
                percent(high),
                percent(masked.neighbors.accuracy),
                percent(masked.unigram.accuracy)
            ),
        ));
        rows.push((
            "perplexity",
            format!(
                "{:.1}, by counting neighbors {:.1}, always the most common {:.1}",
                masked.model.perplexity, masked.neighbors.perplexity, masked.unigram.perplexity
            ),
        ));
    }
    rows.push(("tokens/s", terminal::grouped(report.tokens_per_s.round() as u64)));
    if report.mfu > 0.0 {
        let share = 100.0 * report.mfu;
        rows.push((
            "MFU",
            match report.peak_is_lower_bound {
                true => format!("at most {share:.1} %: the fastest step was faster than the measured peak"),
                false => format!("{share:.1} % of the measured peak"),
            },
        ));
    }
    rows.push((
        "time",
        terminal::duration(Duration::from_secs_f64(report.wall_s.max(0.0))),
    ));
    if report.peak_rss_bytes > 0 {
        rows.push(("peak memory", terminal::size(report.peak_rss_bytes)));
    }
    rows.extend(report.energy.iter().flat_map(energy::summary_rows));
    rows.extend(report.ledger.iter().map(energy::ledger_row));
    rows.extend(report.forecast.iter().filter_map(energy::forecast_row));
    rows.extend(
        report
            .figure_rows()
            .map(|(label, value, unit)| (label, format!("{value:.4} {unit}"))),
    );
    rows.push(("report", run_dir.join(REPORT_FILE).display().to_string()));
    rows.push(("model", run_dir.join(layout::MODEL_DIR).display().to_string()));
    // A file that cannot be read is said where the model is used.
    let translates = TranslationFacts::open(&run_dir.join(layout::MODEL_DIR)).is_ok_and(|facts| facts.is_some());
    match report.objective.as_str() {
        _ if translates => rows.push(("translate", translate_command(report, run_dir, device))),
        "masked" => rows.push(("fill", fill_command(report, run_dir, device))),
        _ => {
            rows.push(("generate", generate_command(report, run_dir, device)));
            let is_chat = !ChatFiles::open(&run_dir.join(layout::MODEL_DIR)).is_empty();
            rows.extend(is_chat.then(|| ("chat", chat_command(run_dir, device))));
        }
    }
    rows.push(("words", "taal glossary explains nats, MFU and the others".to_string()));
    text + &terminal::table(&rows)
}

/// How good the answers to held-out prompts are, and those of the nearest training example.
fn answer_rows(found: &AnswerFigures) -> Vec<(&'static str, String)> {
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let figure = |value: f64| match found.metric.of_corpus() {
        Some(_) => format!("{value:.2}"),
        None => percent(value),
    };
    let words = |score: &AnswerScore| {
        let [low, high] = score.interval;
        format!(
            "{} {} ({} to {}), first word right {}",
            found.metric,
            figure(score.value),
            figure(low),
            figure(high),
            percent(score.first_word)
        )
    };
    let model = found
        .model
        .as_ref()
        .map(|score| ("answers", format!("{}, {} questions", words(score), found.questions)));
    let nearest = found.nearest.as_ref().map(|score| ("nearest row", words(score)));
    model.into_iter().chain(nearest).collect()
}

/// What the loss on old data was, and is.
fn forgetting_words(found: &ForgettingFigures) -> String {
    let mut words = format!("{:.4} nats/token before", found.before);
    if let (Some(after), Some(rise)) = (found.after, found.rise()) {
        words += &format!(", {after:.4} after ({rise:+.4})");
    }
    if let Some(budget) = found.budget {
        words += &format!(", budget {budget}");
    }
    if found.share > 0.0 {
        words += &format!(", {:.0} % of the rows replayed", 100.0 * found.share);
    }
    format!("{words}: {}", found.data)
}

fn translate_command(report: &Report, run_dir: &Path, device: DeviceSpec) -> String {
    let model = terminal::shell_word(&run_dir.display().to_string());
    let source = report.samples.first().map_or("-", |sample| sample.prompt.as_str());
    let device = match device {
        DeviceSpec::Flex => String::new(),
        device => format!(" --device {device}"),
    };
    format!("taal translate {model} {}{device}", terminal::shell_word(source))
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

fn chat_command(run_dir: &Path, device: DeviceSpec) -> String {
    let model = terminal::shell_word(&run_dir.display().to_string());
    match device {
        DeviceSpec::Flex => format!("taal chat --model {model}"),
        device => format!("taal chat --model {model} --device {device}"),
    }
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
