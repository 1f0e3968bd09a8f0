//! `/runs`: trainings of a folder, their curves, and what their checkpoints answer.

use std::ops::ControlFlow;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use taal_inference::{FillOptions, GenerateOptions, LanguageModel, Prompt, Sampling};
use taal_metrics::StepRecord;
use taal_store::layout::MODEL_DIR;
use taal_trainer::{Checkpoints, RunState, RunSummary, TrainError};
use utoipa::ToSchema;

use super::computed;
use crate::app::App;
use crate::body::{Object, name};
use crate::failure::Refusal;
use crate::parse;

/// Points of a curve, about what a screen resolves.
const POINTS: usize = 400;

/// Tokens of a checkpoint's answer, and those without a limit in the request.
const MAX_TOKENS: usize = 256;
const TOKENS: usize = 40;

/// The trainings there are.
#[derive(Serialize, ToSchema)]
pub(crate) struct RunList {
    object: &'static str,
    /// Whether this server shows a folder of runs.
    is_shown: bool,
    /// The one that changed last comes first.
    data: Vec<Run>,
}

/// The figures of a training; one that its files do not have is `null`.
#[derive(Serialize, ToSchema)]
pub(crate) struct Run {
    name: String,
    recipe: String,
    /// `finished`, `stopped`, `in_use` or `broken`.
    state: &'static str,
    /// What is broken.
    why: Option<String>,
    /// Steps done.
    steps: u64,
    planned_steps: Option<u64>,
    params: Option<u64>,
    /// Training tokens.
    tokens: Option<u64>,
    /// Nats per token.
    train_loss: Option<f64>,
    /// Nats per token.
    best_val_loss: Option<f64>,
    best_step: Option<u64>,
    best_val_bits_per_byte: Option<f64>,
    tokens_per_s: Option<f64>,
    wall_s: Option<f64>,
    /// Seconds since 1970.
    changed: Option<u64>,
}

impl From<RunSummary> for Run {
    fn from(run: RunSummary) -> Self {
        let (state, why) = match run.state {
            RunState::Finished => ("finished", None),
            RunState::Stopped { .. } => ("stopped", None),
            RunState::InUse => ("in_use", None),
            RunState::Broken { why } => ("broken", Some(why)),
        };
        let finite = |value: Option<f64>| value.filter(|value| value.is_finite());
        Self {
            name: run.name,
            recipe: run.recipe,
            state,
            why,
            steps: run.steps,
            planned_steps: run.planned_steps,
            params: run.params,
            tokens: run.tokens,
            train_loss: finite(run.train_loss),
            best_val_loss: finite(run.best_val_loss),
            best_step: run.best_step,
            best_val_bits_per_byte: finite(run.best_val_bits_per_byte),
            tokens_per_s: finite(run.tokens_per_s),
            wall_s: finite(run.wall_s),
            changed: run.changed_unix_s,
        }
    }
}

/// A training with its curves.
#[derive(Serialize, ToSchema)]
pub(crate) struct RunCurves {
    run: Run,
    /// Training loss, nats per token: a moving average where there are enough steps.
    training: Vec<Point>,
    /// Validation loss, nats per token.
    validation: Vec<Point>,
    /// The steps of its checkpoints, the oldest first.
    checkpoints: Vec<u64>,
}

/// A point of a curve.
#[derive(Serialize, ToSchema)]
pub(crate) struct Point {
    step: f64,
    loss: f64,
}

/// What to ask a checkpoint.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct CheckpointRequest {
    /// The name of the run.
    run: String,
    /// The step of the checkpoint.
    step: u64,
    /// What to continue; for a masked model a text with [MASK].
    prompt: String,
    /// The most new tokens; 40 without it.
    #[schema(minimum = 1, maximum = 256)]
    max_tokens: Option<usize>,
    /// 0, which is the default, takes the most probable token.
    #[schema(minimum = 0.0)]
    temperature: Option<f64>,
    seed: Option<i64>,
}

/// What a checkpoint answers.
#[derive(Serialize, ToSchema)]
pub(crate) struct CheckpointAnswer {
    run: String,
    step: u64,
    /// The continuation, or the text with its gaps filled.
    text: String,
}

impl From<TrainError> for Refusal {
    fn from(error: TrainError) -> Self {
        Self::internal(error.to_string())
    }
}

pub(crate) async fn list(State(app): State<Arc<App>>) -> Result<Json<RunList>, Refusal> {
    computed(move || {
        let data = match &app.runs {
            Some(folder) => taal_trainer::list_runs(folder)?.runs,
            None => Vec::new(),
        };
        Ok(Json(RunList {
            object: "list",
            is_shown: app.runs.is_some(),
            data: data.into_iter().map(Run::from).collect(),
        }))
    })
    .await
}

pub(crate) async fn curves(
    State(app): State<Arc<App>>,
    run: Result<Path<String>, PathRejection>,
) -> Result<Json<RunCurves>, Refusal> {
    let run = name(run)?;
    computed(move || {
        let dir = found(&app, &run)?;
        let compared = taal_trainer::compare_runs(std::slice::from_ref(&dir))?;
        let Some(compared) = compared.runs.into_iter().next() else {
            return Err(no_run(&run));
        };
        Ok(Json(RunCurves {
            training: training(&compared.records),
            validation: validation(&compared.records),
            checkpoints: Checkpoints::of(&dir).steps()?,
            run: compared.summary.into(),
        }))
    })
    .await
}

pub(crate) async fn answer(
    State(app): State<Arc<App>>,
    Object(body): Object,
) -> Result<Json<CheckpointAnswer>, Refusal> {
    computed(move || {
        let request: CheckpointRequest = parse::part(&body)?;
        let options = options(&request)?;
        let dir = found(&app, &request.run)?;
        let checkpoints = Checkpoints::of(&dir);
        if !checkpoints.steps()?.contains(&request.step) {
            let message = format!(
                "there is no checkpoint of step {}; the run may have removed it",
                request.step
            );
            return Err(Refusal::not_found(message));
        }
        // Each opens a model of its own, so one answers at a time.
        let _turn = app.turn();
        let device = app.models[0].current().lm.model.device();
        let lm = LanguageModel::open(&checkpoints.path(request.step).join(MODEL_DIR), &device)?;
        Ok(Json(CheckpointAnswer {
            text: answered(&lm, &request.prompt, &options)?,
            run: request.run,
            step: request.step,
        }))
    })
    .await
}

fn options(request: &CheckpointRequest) -> Result<GenerateOptions, Refusal> {
    let max_tokens = request.max_tokens.unwrap_or(TOKENS);
    if !(1..=MAX_TOKENS).contains(&max_tokens) {
        let message = format!("expected a whole number from 1 to {MAX_TOKENS}, got {max_tokens}");
        return Err(Refusal::field("max_tokens", message));
    }
    let options = GenerateOptions {
        max_tokens,
        sampling: Sampling {
            temperature: request.temperature.unwrap_or(0.0),
            seed: request.seed.unwrap_or(0) as u64,
            ..Sampling::default()
        },
        truncate: false,
        ..GenerateOptions::default()
    };
    options.validate()?;
    Ok(options)
}

fn answered(lm: &LanguageModel, prompt: &str, options: &GenerateOptions) -> Result<String, Refusal> {
    if !lm.model.config().is_causal {
        return Ok(taal_inference::fill(lm, prompt, &FillOptions::default())?.filled);
    }
    let all = &mut |_: &str| ControlFlow::Continue(());
    let generation = taal_inference::generate(lm, &Prompt::from(prompt), options, all)?;
    Ok(generation.text.unwrap_or_default())
}

/// The folder of a run. A name is one of the folder's own, so that none leads elsewhere.
fn found(app: &App, run: &str) -> Result<PathBuf, Refusal> {
    let none = || Refusal::not_found("this server shows no runs (--runs none)");
    let folder: &FilePath = app.runs.as_deref().ok_or_else(none)?;
    let is_there = taal_store::exists(folder) && taal_store::list_dir(folder)?.iter().any(|name| name == run);
    let dir = folder.join(run);
    match is_there && taal_trainer::is_run(&dir) {
        true => Ok(dir),
        false => Err(no_run(run)),
    }
}

fn no_run(run: &str) -> Refusal {
    Refusal::not_found(format!("there is no run {}", taal_store::excerpt(run))).with_code("no_run")
}

fn training(records: &[StepRecord]) -> Vec<Point> {
    let points: Vec<(f64, f64)> = records.iter().map(|record| (record.step as f64, record.loss)).collect();
    let drawn = match taal_draw::smoothing_span(&points) {
        Some(span) => taal_draw::smooth(&points, span, POINTS),
        None => taal_draw::thin(&points, POINTS).concat(),
    };
    drawn.into_iter().map(Point::from).collect()
}

fn validation(records: &[StepRecord]) -> Vec<Point> {
    let points = records
        .iter()
        .filter_map(|record| Some((record.step as f64, record.val_loss?)));
    let drawn = taal_draw::thin(&points.collect::<Vec<_>>(), POINTS).concat();
    drawn.into_iter().map(Point::from).collect()
}

impl From<(f64, f64)> for Point {
    fn from((step, loss): (f64, f64)) -> Self {
        Self { step, loss }
    }
}
