//! The trainings that a model is made of: its run's, and those of the models that the run started from.

use std::path::{Path, PathBuf};

use taal_metrics::energy::Grid;
use taal_metrics::{DataSourceFacts, Ledger, LedgerEntry, Report};
use taal_store::layout::{LEDGER_FILE, REPORT_FIGURES_FILE, RESOLVED_FILE, STATE_FILE};

use crate::TrainError;
use crate::checkpoint::{About, TrainState};
use crate::recipe::{DataSource, ModelRecipe, Recipe};
use crate::run_dir::MAX_RECIPE_BYTES;

/// Where the ledger of a model is: `ledger.json` in its directory, or next to a file such as `model.gguf`, under its name with
/// `.ledger.json` appended. Weights in `.safetensors` are a file of a directory.
pub fn ledger_path(model: &Path) -> PathBuf {
    let is_of_directory = model.extension().is_some_and(|ending| ending == "safetensors");
    match (taal_store::is_file(model), is_of_directory) {
        (true, false) => beside(model, LEDGER_FILE),
        (true, true) => model.with_file_name(LEDGER_FILE),
        (false, _) => model.join(LEDGER_FILE),
    }
}

/// A file about a model that is a file itself: next to it, under both names.
pub(crate) fn beside(model: &Path, name: &str) -> PathBuf {
    let mut file = model.file_name().unwrap_or_default().to_owned();
    file.push(".");
    file.push(name);
    model.with_file_name(file)
}

/// The trainings of the model in a directory, or in a file of another program: its [`ledger_path`], or what the checkpoint around it says of
/// a run that has not ended yet.
///
/// A model of another program has one entry without figures, so that sums over it say what they miss.
///
/// # Errors
///
/// [`TrainError::Metrics`] for a damaged ledger, and [`TrainError::Checkpoint`] for a damaged checkpoint.
pub fn ledger_of(model_dir: &Path) -> Result<Ledger, TrainError> {
    let path = ledger_path(model_dir);
    if taal_store::is_file(&path) {
        return Ok(Ledger::read(&path)?);
    }
    // Links are resolved, because `model` in a run directory is one.
    let resolved = taal_store::resolve(model_dir).unwrap_or_else(|_| model_dir.to_path_buf());
    let checkpoint = resolved.parent().unwrap_or(&resolved);
    match taal_store::is_file(&checkpoint.join(STATE_FILE)) {
        true => of_checkpoint(checkpoint),
        false => Ok(of_unknown(&resolved)),
    }
}

/// The trainings of several models together, such as a model with an adapter, or the parts of a merge.
///
/// # Errors
///
/// As [`ledger_of`].
pub fn joined_ledger(model_dirs: &[&Path]) -> Result<Ledger, TrainError> {
    let mut joined = Ledger::default();
    for dir in model_dirs {
        joined.join(&ledger_of(dir)?);
    }
    Ok(joined)
}

/// The trainings that a new run of a recipe inherits.
pub(crate) fn inherited(recipe: &Recipe) -> Result<Ledger, TrainError> {
    match &recipe.model {
        ModelRecipe::New { .. } => Ok(Ledger::default()),
        ModelRecipe::InitFrom { dir, .. } => ledger_of(&taal_inference::model_dir(dir)?),
        ModelRecipe::Own { .. } => Ok(of_unknown(Path::new("the program's model"))),
    }
}

/// A name for a training that no other has.
pub(crate) fn new_id(recipe_hash: &str, data_hash: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanoseconds = now.unwrap_or_default().as_nanos();
    let facts = format!("{recipe_hash}|{data_hash}|{nanoseconds}|{}", std::process::id());
    taal_store::blake3_hex(facts.as_bytes()).chars().take(24).collect()
}

/// Seconds since 1970.
pub(crate) fn now_unix_s() -> Option<u64> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.ok().map(|now| now.as_secs())
}

fn of_unknown(dir: &Path) -> Ledger {
    let name = dir.file_name().unwrap_or(dir.as_os_str());
    let name = name.to_string_lossy().into_owned();
    let mut ledger = Ledger::default();
    ledger.add(LedgerEntry {
        id: format!("unknown-{name}"),
        name,
        ..LedgerEntry::default()
    });
    ledger
}

/// The trainings of a checkpoint, whose run was killed or is not done.
fn of_checkpoint(checkpoint: &Path) -> Result<Ledger, TrainError> {
    let state = TrainState::read(&checkpoint.join(STATE_FILE))?;
    let run_dir = checkpoint.parent().and_then(Path::parent).unwrap_or(checkpoint);
    let About {
        entry,
        flops_per_token,
        grid,
        pue,
    } = state.about.clone().unwrap_or_else(|| About {
        pue: 1.0,
        ..About::default()
    });
    let earlier = Report::read_json(&run_dir.join(REPORT_FIGURES_FILE)).ok();
    // Without a report there are the figures of the start.
    let earlier = earlier.or(entry.report.clone()).unwrap_or_default();
    let name = run_dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let energy = match earlier.energy {
        Some(energy) if energy.joules >= state.energy.energy.joules.0 => Some(energy),
        earlier => {
            // The figures of the start have the electricity, without its figures by the hour.
            let of_report = earlier.map(|figures| (Grid::of_figures(&figures), figures.pue));
            let (grid, pue) = match state.about.is_some() {
                true => (grid, pue),
                false => of_report.unwrap_or((grid, pue)),
            };
            (state.energy.energy.joules.0 > 0.0).then(|| state.energy.figures(Some(state.tokens), &grid, pue))
        }
    };
    let recipe = match entry.recipe.is_empty() {
        true => taal_store::read_text(&run_dir.join(RESOLVED_FILE), MAX_RECIPE_BYTES).unwrap_or_default(),
        false => entry.recipe.clone(),
    };
    let planned_steps = |recipe: &str| -> u64 {
        let table: Option<toml::Table> = recipe.parse().ok();
        let steps = table
            .as_ref()
            .and_then(|table| table.get("train")?.get("steps")?.as_integer());
        steps.and_then(|steps| u64::try_from(steps).ok()).unwrap_or(0)
    };
    let mut ledger = state.inherited.clone();
    ledger.add(LedgerEntry {
        id: match state.run_id.is_empty() {
            true => format!("unknown-{name}"),
            false => state.run_id.clone(),
        },
        name,
        taal_version: match entry.taal_version.is_empty() {
            true => env!("CARGO_PKG_VERSION").to_string(),
            false => entry.taal_version.clone(),
        },
        started_unix_s: state.started_unix_s,
        recipe: recipe.clone(),
        flops: state.about.as_ref().map(|_| flops_per_token * state.tokens as f64),
        report: Some(Report {
            steps: state.step,
            planned_steps: match earlier.planned_steps {
                0 => planned_steps(&recipe),
                steps => steps,
            },
            tokens: state.tokens,
            epochs: match entry.split_tokens {
                Some([train, _]) if train > 0 => state.tokens as f64 / train as f64,
                _ => earlier.epochs,
            },
            wall_s: state.wall_s,
            train_loss: state.train_loss,
            val_loss: state.val_loss,
            best_val_loss: state.best_val_loss,
            best_step: state.best_step,
            val_bits_per_byte: state.val_bits_per_byte,
            val_tokens: state.val_tokens,
            val_bytes: state.val_bytes,
            tokens_per_s: state.tokens as f64 / state.train_s.max(1e-9),
            energy,
            samples: Vec::new(),
            ledger: None,
            ..earlier
        }),
        ..entry
    });
    Ok(ledger)
}

/// Where a recipe's text comes from. Folders are left out of names: a model's files may be published.
pub(crate) fn data_facts(recipe: &Recipe) -> Vec<DataSourceFacts> {
    let mut facts = facts_of(&recipe.data.source, recipe.data.license.as_ref());
    let replayed = recipe.replay.source.as_ref().filter(|_| recipe.replay.is_used());
    facts.extend(replayed.into_iter().flat_map(|source| facts_of(source, None)));
    facts
}

fn facts_of(source: &DataSource, license: Option<&String>) -> Vec<DataSourceFacts> {
    let named = |name: String| DataSourceFacts {
        name,
        license: license.cloned(),
        origin: None,
    };
    let embedded = |name: &str, own: &str, origin: &str| DataSourceFacts {
        name: name.to_string(),
        license: Some(license.map_or(own, String::as_str).to_string()),
        origin: Some(origin.to_string()),
    };
    let file = |path: &PathBuf| {
        let name = path.file_name().unwrap_or(path.as_os_str());
        named(name.to_string_lossy().into_owned())
    };
    match source {
        DataSource::Corpus(name) => match taal_data::corpus(name) {
            Some(corpus) => corpus
                .parts
                .iter()
                .map(|part| embedded(part.name, part.license, part.source))
                .collect(),
            None => vec![named(name.clone())],
        },
        DataSource::Examples(name) => vec![match taal_data::example_set(name) {
            Some(set) => embedded(name, set.license, set.source),
            None => named(name.clone()),
        }],
        DataSource::Files(paths) => paths.iter().map(file).collect(),
        DataSource::Shards(path) | DataSource::Conversations(path) => vec![file(path)],
        DataSource::Texts(texts) => vec![named(format!("{} texts of the program that trained", texts.len()))],
        DataSource::Dataset(_) => vec![named("token ids of the program that trained".to_string())],
    }
}

/// Writes a model's ledger next to its weights.
pub(crate) fn write(ledger: &Ledger, model: &Path) -> Result<(), TrainError> {
    let path = ledger_path(model);
    // Of a process that was killed while it wrote one.
    taal_store::remove_leftovers_of(&path)?;
    Ok(ledger.write(&path)?)
}
