//! A run in progress: what it computes, and its record.

mod about;
mod average;
mod compute;
mod energy;
mod forecast;
mod forgetting;
mod page;
mod record;
mod rewind;

use std::collections::VecDeque;
use std::path::Path;

use taal_draw::{Language, RunState};
use taal_kernels::DeviceSpec;
use taal_metrics::{Report, RunLog};
use taal_store::{ErrorKind, layout};

use self::compute::{Clock, Compute};
pub(crate) use self::energy::RunEnergy;
pub use self::energy::{EnergyOptions, READING_INTERVAL};
use self::page::Page;
use self::record::Record;
use crate::checkpoint::{Checkpoint, Checkpoints, Origin, TrainState};
use crate::events::Events;
use crate::optimizer::Optimizer;
use crate::precision::MixedPrecision;
use crate::prepare;
use crate::progress::Progress;
use crate::recipe::Resolved;
use crate::run_dir::{self, Claim};
use crate::saver::Saver;
use crate::setup::Setup;
use crate::step::Learner;
use crate::utilization::Peak;
use crate::{TrainError, adapter, ledger, memory, objective};

/// Where and how a recipe is run.
#[derive(Debug, Clone)]
pub struct RunOptions<'a> {
    /// The run directory.
    pub run_dir: &'a Path,
    /// The device.
    pub device: DeviceSpec,
    /// Whether to continue from the newest checkpoint of the run directory.
    pub is_resume: bool,
    /// The language of `report.html`.
    pub language: Language,
    /// How it is metered, and its energy budget.
    pub energy: EnergyOptions,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// All steps done, or stopped early by `train.patience`.
    Finished(Report),
    /// Stopped on request after saving a checkpoint; `--resume` continues it.
    Interrupted(Report),
}

/// A run in progress.
pub(crate) struct Run<'a> {
    compute: Compute<'a>,
    record: Record<'a>,
}

impl<'a> Run<'a> {
    pub(crate) fn prepare(
        claim: &'a Claim,
        resolved: &'a Resolved,
        options: &'a RunOptions<'a>,
        checkpoints: Checkpoints,
        checkpoint: Option<Checkpoint>,
        mut energy: RunEnergy<'a>,
        progress: &'a mut dyn Progress,
    ) -> Result<Self, TrainError> {
        let recipe = &resolved.recipe;
        let device = options.device.open()?.autodiff();
        let mut state = TrainState::default();
        if let Some(checkpoint) = &checkpoint {
            state = checkpoint.state()?;
            state.resumed_from = Some(checkpoint.step);
        }
        let choice = recipe.train.precision;
        let precision = choice.settle(state.precision, options.device, &device, &recipe.name, progress)?;
        state.precision = (!choice.is_fp32()).then_some(precision);
        let mut origin = Origin::default();
        let setup = Setup::new(
            recipe,
            precision,
            checkpoint.as_ref(),
            progress,
            |corpus, old, progress| {
                origin = Origin {
                    recipe: taal_store::blake3_hex(resolved.text.as_bytes()),
                    data: match old.filter(|_| recipe.replay.is_used()) {
                        Some(old) => taal_store::blake3_hex_of([&corpus.fingerprint(), &old.fingerprint]),
                        None => corpus.fingerprint(),
                    },
                    line_ends: corpus.line_ends(),
                    adapter: None,
                    task: String::new(),
                };
                match &checkpoint {
                    Some(checkpoint) => run_dir::check_origin(recipe, checkpoint, &origin, claim.dir(), progress),
                    None => Ok(()),
                }
            },
        )?;
        let Setup {
            tokenizer,
            chat,
            old,
            answers,
            certainty,
            corpus,
            plan,
            config,
            estimate,
            adapter,
        } = setup;
        origin.adapter = adapter;
        let (tokens, cut_examples) = (corpus.token_counts(), corpus.cut_examples());
        let tokens_per_step = corpus.tokens_per_step(recipe)?;
        let task = objective::of(recipe, &tokenizer, &chat, corpus)?;
        origin.task = task.fingerprint()?;
        if let Some(checkpoint) = &checkpoint {
            run_dir::check_task(checkpoint, &origin, claim.dir())?;
        }
        // Measured before the memory check, because measuring needs memory too.
        let peak = Peak::measured(&device, precision);
        let before_bytes = taal_metrics::peak_rss_bytes();
        memory::check(&estimate, &config, options.device, &recipe.train)?;

        let model = match &checkpoint {
            Some(checkpoint) => checkpoint.model(recipe, origin.adapter.as_ref(), &device)?,
            None => prepare::model(recipe, &tokenizer, origin.adapter.as_ref(), &device, &mut |message| {
                progress.note(&message);
            })?,
        };
        let mut optimizer = Optimizer::new(recipe.train.adamw, recipe.train.muon);
        if let Some(checkpoint) = &checkpoint {
            checkpoint.restore(&mut optimizer, &device)?;
        }
        let learner = Learner {
            model,
            optimizer,
            clip_norm: recipe.train.clip_norm,
            precision: MixedPrecision::resumed(precision, state.loss_scale),
        };
        let log = open_log(claim.dir(), state.logged_steps(), progress)?;
        let (events, kept) = Events::open(claim.dir(), state.health.events)?;
        state.health.events = kept;
        if checkpoint.is_none() {
            state.started_unix_s = ledger::now_unix_s();
            state.inherited = ledger::inherited(recipe)?;
        }
        if state.run_id.is_empty() {
            state.run_id = ledger::new_id(&origin.recipe, &origin.data);
        }
        let earlier = Report::read_json(&claim.dir().join(layout::REPORT_FIGURES_FILE)).ok();
        if let Some(figures) = earlier.and_then(|report| report.energy) {
            state.energy.raise_to(&figures);
        }
        let logged = taal_metrics::read_log(log.path()).unwrap_or_default();
        let recorded = self::energy::of_records(&logged);
        energy.continue_from(state.energy.clone(), recorded);
        if !energy.is_metered() {
            progress.note("the system gives no thread to meter energy with; this part of the run has no energy figure");
        }
        let n_saved = origin
            .adapter
            .as_ref()
            .map_or(0, |adapter| adapter.n_saved(learner.model.config()));
        let record = Record {
            claim,
            device: options.device,
            recipe,
            recipe_text: &resolved.text,
            origin,
            tokens,
            tokens_per_step,
            cut_examples,
            log,
            unwritten: VecDeque::new(),
            events,
            checkpoints,
            saver: Saver::default(),
            peak,
            training: adapter::training(&learner.model, &recipe.train.freeze, n_saved, recipe.train.block_size),
            samples: Vec::new(),
            page: Page::new(options.language),
            tokenizer,
            chat,
            progress,
        };
        let mut compute = Compute {
            recipe,
            task,
            plan,
            old,
            answers,
            certainty,
            answered: None,
            averaged: None,
            learner,
            clock: Clock {
                started: energy.began(),
                before_s: state.wall_s,
            },
            energy,
            state,
            seen: Vec::new(),
        };
        compute.rehearse()?;
        compute.end_preparation();
        let mut run = Self { compute, record };
        let words = estimate.words(before_bytes, taal_metrics::peak_rss_bytes());
        run.record.note(&words);
        for caution in run.record.cautions(&estimate, run.compute.learner.model.config()) {
            run.record.note(&caution);
        }
        Ok(run)
    }

    /// Trains to the end, or until it is asked to stop.
    pub(crate) fn go(&mut self) -> Result<Outcome, TrainError> {
        let Self { compute, record } = self;
        compute.state.about = Some(record.about(compute));
        record.live_page(compute);
        record.announce(compute);
        let measured = compute.measure_before(record);
        let outcome = measured.and_then(|()| compute.steps(record));
        // However the steps ended, pending writes finish before the directory is unlocked.
        let saved = record.wait();
        let outcome = match (outcome, saved) {
            (Ok(outcome), Ok(())) => outcome,
            (Err(error), _) | (_, Err(error)) => {
                compute.count_energy(None);
                record.failure_page(compute, &error);
                return Err(error);
            }
        };
        if outcome.is_break() {
            compute.settle_energy(record);
            return Ok(Outcome::Interrupted(record.report(compute, RunState::Interrupted)?));
        }
        compute.count_energy(None);
        compute.grade_forecast();
        compute.average(record)?;
        compute.measure_after(record)?;
        record.write_samples(compute);
        compute.settle_energy(record);
        Ok(Outcome::Finished(record.report(compute, RunState::Finished)?))
    }
}

/// The log up to a step. If the log is damaged, only the curves are lost: checkpoints do not depend on it.
fn open_log(run_dir: &Path, step: u64, progress: &mut dyn Progress) -> Result<RunLog, TrainError> {
    let mut log = RunLog::open(run_dir)?;
    match log.truncate_to(step) {
        Ok(()) => Ok(log),
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            let aside = taal_store::set_aside(log.path(), layout::DAMAGED)?;
            progress.note(&format!(
                "{error}; a new log is started, and the damaged one is now {}",
                aside.display()
            ));
            Ok(RunLog::open(run_dir)?)
        }
        Err(error) => Err(error.into()),
    }
}
