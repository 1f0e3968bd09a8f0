//! A run under way: steps, evaluations, checkpoints, and what is done about bad steps.

mod rewind;

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::time::Instant;

use burn::module::Module;
use taal_data::{Batch, BatchPlan};
use taal_kernels::random;
use taal_metrics::{Report, RunLog, Sample, StepRecord, flops};
use taal_model::hugging_face;
use taal_store::{ErrorKind, Mutant};
use taal_tokenizer::Tokenizer;

use crate::TrainError;
use crate::checkpoint::{Checkpoint, Checkpoints, Origin, Snapshot, TrainState};
use crate::events::{Act, Event, Events};
use crate::health::{Ailment, Treatment};
use crate::learnable;
use crate::memory;
use crate::objective::{self, Task};
use crate::optimizer::Optimizer;
use crate::precision::MixedPrecision;
use crate::prepare::{self, Corpus};
use crate::recipe::{Recipe, Resolved};
use crate::run_dir;
use crate::samples;
use crate::saver::{Save, Saver};
use crate::step::Learner;
use crate::train::{Outcome, Progress, RunInfo, RunOptions, StepInfo};
use crate::utilisation::Peak;

/// Batches without a target in a row that are passed over before a run gives up.
const MAX_PASSED_OVER: u64 = 1000;

/// A run under way.
pub(crate) struct Run<'a> {
    recipe: &'a Recipe,
    origin: Origin,
    recipe_text: &'a str,
    options: &'a RunOptions<'a>,
    tokenizer: Tokenizer,
    task: Box<dyn Task>,
    /// Tokens to train on and to validate with.
    tokens: (u64, u64),
    /// A sentence about examples that were cut.
    truncated: Option<String>,
    plan: BatchPlan,
    learner: Learner,
    state: TrainState,
    log: RunLog,
    /// Records that a full disk did not take yet.
    unwritten: VecDeque<StepRecord>,
    events: Events,
    checkpoints: Checkpoints,
    saver: Saver,
    started: Instant,
    wall_before_s: f64,
    peak: Peak,
    flops_shape: flops::Shape,
    samples: Vec<Sample>,
}

impl<'a> Run<'a> {
    pub(crate) fn prepare(
        resolved: &'a Resolved,
        options: &'a RunOptions<'a>,
        checkpoints: Checkpoints,
        checkpoint: Option<Checkpoint>,
        started: Instant,
        progress: &mut dyn Progress,
    ) -> Result<Self, TrainError> {
        let recipe = &resolved.recipe;
        let device = options.device.open()?.autodiff();
        let tokenizer = match &checkpoint {
            Some(checkpoint) => checkpoint.tokenizer()?,
            None => prepare::tokenizer(recipe)?,
        };
        let mut corpus = Corpus::prepare(recipe, &tokenizer, |message| progress.note(&message))?;
        objective::check(recipe, &tokenizer)?;
        learnable::check(recipe, &corpus, &tokenizer, &mut |message| progress.note(&message))?;
        let plan = prepare::batch_plan(recipe);
        corpus.train().check(&plan)?;
        let origin = Origin {
            recipe: taal_store::blake3_hex(resolved.text.as_bytes()),
            data: corpus.fingerprint(),
            line_ends: corpus.line_ends(),
        };
        if let Some(checkpoint) = &checkpoint {
            run_dir::check_origin(recipe, checkpoint, &origin, options.run_dir, progress)?;
        }
        if let Some(limited) = corpus.limit_validation(recipe.eval.max_tokens, &tokenizer)? {
            progress.note(&limited);
        }
        corpus.leave_out_unscored_bytes(&tokenizer);
        let config = match &checkpoint {
            Some(checkpoint) => hugging_face::open_config(&checkpoint.model_dir())?,
            None => prepare::config(recipe, &tokenizer)?,
        };
        samples::check(recipe, &tokenizer, &config)?;
        let estimate = memory::Estimate::of(&config, &recipe.train, recipe.eval.batch_size);
        // Measured before memory is looked at, because it takes some.
        let peak = Peak::new(taal_kernels::measured_peak_flops_per_s_of(&device));
        let before_bytes = taal_metrics::peak_rss_bytes();
        memory::check(&estimate, &config, options.device, &recipe.train)?;

        let model = match &checkpoint {
            Some(checkpoint) => checkpoint.model(recipe.model.dropout(), &device)?,
            None => prepare::model(recipe, &tokenizer, &device)?,
        };
        let mut optimizer = Optimizer::new(recipe.train.adamw, recipe.train.muon);
        let mut state = TrainState::default();
        if let Some(checkpoint) = &checkpoint {
            state = checkpoint.state()?;
            state.resumed_from = Some(checkpoint.step);
            checkpoint.restore(&mut optimizer, &device)?;
        }
        let learner = Learner {
            model,
            optimizer,
            clip_norm: recipe.train.clip_norm,
            precision: MixedPrecision::resumed(recipe.train.precision, state.loss_scale),
        };
        let mut log = RunLog::open(options.run_dir)?;
        if let Err(error) = log.truncate_to(state.logged_steps()) {
            if error.kind() != ErrorKind::Corrupt {
                return Err(error.into());
            }
            // The checkpoint is whole, so the run can go on; only its past is lost to the curves.
            let aside = taal_store::set_aside(log.path(), "damaged")?;
            progress.note(&format!(
                "{error}; the log begins anew, the damaged one is now {}",
                aside.display()
            ));
            log = RunLog::open(options.run_dir)?;
        }
        let (events, kept) = Events::open(options.run_dir, state.health.events)?;
        state.health.events = kept;
        let run = Self {
            recipe,
            origin,
            recipe_text: &resolved.text,
            options,
            tokens: corpus.token_counts(),
            truncated: corpus.truncated(),
            task: objective::of(recipe, &tokenizer, corpus)?,
            tokenizer,
            plan,
            flops_shape: learner.model.config().shape(recipe.train.block_size),
            learner,
            wall_before_s: state.wall_s,
            state,
            log,
            unwritten: VecDeque::new(),
            events,
            checkpoints,
            saver: Saver::default(),
            started,
            peak,
            samples: Vec::new(),
        };
        run.rehearse()?;
        progress.note(&estimate.words(&recipe.train, before_bytes, taal_metrics::peak_rss_bytes()));
        Ok(run)
    }

    /// The largest step and the largest evaluation batch once, without effect, so that too little memory shows now and not in an hour.
    fn rehearse(&self) -> Result<(), TrainError> {
        let batch = self.task.batch(&self.plan, 0)?;
        self.learner
            .rehearse(&batch, &|model, batch, key| self.task.loss(model, batch, key))?;
        let mut is_first = true;
        let mut once = || match std::mem::take(&mut is_first) {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        };
        let model = self.learner.model.valid();
        self.task
            .validate(&model, self.recipe.eval.batch_size, &mut once)
            .map(drop)
    }

    pub(crate) fn announce(&self, progress: &mut dyn Progress) {
        let (train_tokens, val_tokens) = self.tokens;
        progress.begin(&RunInfo {
            params: self.learner.model.config().n_params(),
            vocab_size: self.tokenizer.vocab_size(),
            train_tokens,
            val_tokens,
            first_step: self.state.step,
            steps: self.recipe.train.steps,
            epochs: self.epochs(self.recipe.train.steps * self.tokens_per_step()),
            peak_flops_per_s: self.peak.flops_per_s(),
        });
        if self.state.resumed_from.is_some() {
            run_dir::note_nothing_left(self.state.step, self.recipe.train.steps, progress);
        }
        if let Some(truncated) = &self.truncated {
            progress.note(truncated);
        }
        if val_tokens == 0 && self.recipe.train.patience.is_some() {
            progress
                .note("train.patience has no effect: no text is held back to validate with (data.validation_fraction)");
        }
    }

    /// Tokens of an update.
    fn tokens_per_step(&self) -> u64 {
        let train = &self.recipe.train;
        (train.batch_size * train.block_size * train.accumulation) as u64
    }

    /// How often so many tokens go through the training data.
    fn epochs(&self, tokens: u64) -> f64 {
        tokens as f64 / self.tokens.0.max(1) as f64
    }

    pub(crate) fn go(&mut self, progress: &mut dyn Progress) -> Result<Outcome, TrainError> {
        let outcome = self.steps(progress);
        // Whatever ended the steps, what is under way is written before the directory is unlocked.
        let saved = self.saver.wait(|message| progress.note(&message));
        let is_interrupted = outcome?;
        saved?;
        if is_interrupted {
            return Ok(Outcome::Interrupted(self.report(false)?));
        }
        self.write_samples(progress);
        Ok(Outcome::Finished(self.report(true)?))
    }

    /// Steps until the last one, or until somebody asks to stop, which it says.
    fn steps(&mut self, progress: &mut dyn Progress) -> Result<bool, TrainError> {
        loop {
            // Of a resumed run, or of one that went back to a checkpoint that was saved in the middle of an evaluation.
            if let Some(record) = self.state.unevaluated.take()
                && self.after_step(record, true, progress)?
            {
                return Ok(true);
            }
            if self.state.step >= self.recipe.train.steps || self.is_out_of_patience() {
                return Ok(false);
            }
            let (record, ailment) = self.one_step()?;
            if let Some(ailment) = ailment
                && self.treat(ailment, progress)? == Treatment::Rewind
            {
                continue;
            }
            let step = self.state.step;
            let is_due = step == self.recipe.train.steps || step.is_multiple_of(self.recipe.eval.every);
            if self.after_step(record, is_due, progress)? {
                return Ok(true);
            }
        }
    }

    /// Evaluation, log and checkpoint after a step, as far as they are due; says whether to stop.
    fn after_step(
        &mut self,
        mut record: StepRecord,
        is_evaluated: bool,
        progress: &mut dyn Progress,
    ) -> Result<bool, TrainError> {
        let step = self.state.step;
        let mut is_best = false;
        if is_evaluated {
            match self.evaluate(&mut record, progress)? {
                Some(found) => is_best = found,
                None => {
                    // The record goes to the log when the evaluation is made up for.
                    self.state.unevaluated = Some(record);
                    // Where the state was not finite the run has gone back, to a step that is saved.
                    self.save_at_last(progress)?;
                    return Ok(true);
                }
            }
        }
        self.write_record(record, progress)?;

        let is_done = step == self.recipe.train.steps || self.is_out_of_patience();
        let is_stopping = !is_done && progress.should_stop();
        // Among bad steps the weights are those of a step before, and going back to them would be going nowhere.
        let is_healthy = self.state.health.in_a_row == 0;
        let is_saved = is_healthy && (is_best || step.is_multiple_of(self.recipe.checkpoint.every));
        let is_sound = match is_done || is_stopping {
            true => self.save_at_last(progress)?,
            false => !is_saved || self.save(progress)?,
        };
        if !is_sound {
            // The run has gone back and goes on from there, or stops at a step that is saved.
            return Ok(is_stopping);
        }
        let mfu = self.peak.utilisation(record.tokens_per_s, &self.flops_shape);
        let is_saved = is_saved || is_done || is_stopping;
        progress.step(&record, &StepInfo { mfu, is_saved, is_best });
        if self.is_out_of_patience() && step < self.recipe.train.steps {
            progress.note(&format!(
                "stopped early: {} evaluations without a better loss",
                self.state.evaluations_without_gain
            ));
        }
        Ok(is_stopping)
    }

    /// Counts a bad step, writes down what is done about it, and does it.
    fn treat(&mut self, ailment: Ailment, progress: &mut dyn Progress) -> Result<Treatment, TrainError> {
        let step = self.state.step;
        let treatment = self.recipe.health.treat(&mut self.state.health, ailment);
        let act = match treatment {
            Treatment::GoOn => Act::Skip,
            Treatment::Rewind => Act::Rewind,
            Treatment::GiveUp => Act::GiveUp,
        };
        let batch = step.saturating_sub(1) + self.state.health.batch_offset;
        let event = Event {
            step,
            act,
            reason: ailment.to_string(),
            batch,
        };
        match self.events.write(&event) {
            Ok(()) => self.state.health.events += 1,
            // What was done is on the screen too; a full disk is no reason to stop doing it.
            Err(error) if error.is_of_a_disk() => progress.note(&error.to_string()),
            Err(error) => return Err(error),
        }
        match treatment {
            Treatment::GoOn => {
                progress.note(&format!("step {step} is left out, its weights untouched: {ailment}"));
            }
            Treatment::Rewind => self.rewind(ailment, progress)?,
            Treatment::GiveUp => {
                // One that is being written counts too.
                self.saver.wait(|message| progress.note(&message))?;
                let saved = self.checkpoints.steps()?.last().copied();
                return Err(TrainError::diverged(step, ailment, saved));
            }
        }
        Ok(treatment)
    }

    /// Appends a record to the log. What a full disk refuses is kept and tried again with the next one.
    fn write_record(&mut self, record: StepRecord, progress: &mut dyn Progress) -> Result<(), TrainError> {
        self.unwritten.push_back(record);
        match self.write_records() {
            Err(error) if error.is_of_a_disk() => {
                // Once a failure is all a person wants to read; the saves count them.
                if self.unwritten.len() == 1 {
                    progress.note(&format!("{error}; training goes on, and the record is written later"));
                }
                Ok(())
            }
            other => other,
        }
    }

    fn write_records(&mut self) -> Result<(), TrainError> {
        while let Some(record) = self.unwritten.front() {
            self.log.append(record)?;
            self.unwritten.pop_front();
        }
        Ok(())
    }

    fn is_out_of_patience(&self) -> bool {
        self.recipe
            .train
            .patience
            .is_some_and(|patience| self.state.evaluations_without_gain >= patience)
    }

    /// Draws the batches of the next step, makes the step where it is a good one, and keeps the figures.
    fn one_step(&mut self) -> Result<(StepRecord, Option<Ailment>), TrainError> {
        let train = &self.recipe.train;
        let began = Instant::now();
        let index = self.state.step;
        let mut position = index + self.state.health.batch_offset;
        if Mutant::RestartData.is_on() {
            position -= self.state.resumed_from.unwrap_or(0).min(index);
        }
        let mut batches = self.batches(position)?;
        // A step without targets is no step: the next batches take its place.
        let mut passed_over = 0;
        while batches.iter().all(|batch| batch.counted_targets() == 0) {
            passed_over += 1;
            if passed_over > MAX_PASSED_OVER {
                return Err(learnable::nothing(self.recipe));
            }
            position += 1;
            batches = self.batches(position)?;
        }
        self.state.health.batch_offset += passed_over;
        let micro_steps = self.micro_steps(position);
        let dropout_keys: Vec<u64> = micro_steps
            .map(|micro| random::key(self.recipe.seed, micro, "dropout"))
            .collect();
        let lr = train.schedule.at(index);

        let (health, state) = (&self.recipe.health, &self.state.health);
        let outcome = self.learner.step_if(
            &batches,
            &dropout_keys,
            lr / train.schedule.lr,
            &|model, batch, key| self.task.loss(model, batch, key),
            &|outcome| health.diagnose(state, outcome).is_none(),
        )?;
        let ailment = health.diagnose(state, &outcome);
        self.state.loss_scale = self.learner.precision.loss_scale;
        let tokens = self.tokens_per_step();
        let seconds = began.elapsed().as_secs_f64();
        self.state.step += 1;
        self.state.tokens += tokens;
        self.state.train_s += seconds;
        self.state.wall_s = self.wall_before_s + self.started.elapsed().as_secs_f64();
        if ailment.is_none() {
            self.state.train_loss = outcome.loss;
            health.accept(&mut self.state.health, outcome.loss);
        }
        let record = StepRecord {
            step: self.state.step,
            loss: outcome.loss,
            lr,
            grad_norm: outcome.grad_norm,
            tokens_per_s: tokens as f64 / seconds.max(1e-9),
            wall_s: Some(self.state.wall_s),
            is_skipped: ailment.is_some(),
            ..StepRecord::default()
        };
        Ok((record, ailment))
    }

    /// The micro-batches of a step, numbered over the whole run.
    fn micro_steps(&self, position: u64) -> std::ops::Range<u64> {
        let accumulation = self.recipe.train.accumulation as u64;
        position * accumulation..(position + 1) * accumulation
    }

    /// The batches at a position.
    fn batches(&self, position: u64) -> Result<Vec<Batch>, TrainError> {
        self.micro_steps(position)
            .map(|micro| self.task.batch(&self.plan, micro))
            .collect()
    }

    /// The whole validation split; says whether it was the best so far, or `None` where a request to stop broke it off.
    fn evaluate(&mut self, record: &mut StepRecord, progress: &mut dyn Progress) -> Result<Option<bool>, TrainError> {
        let model = self.learner.model.valid();
        let mut ask = || match progress.should_stop() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let found = match self.task.validate(&model, self.recipe.eval.batch_size, &mut ask)? {
            ControlFlow::Continue(Some(found)) => found,
            ControlFlow::Continue(None) => return Ok(Some(false)),
            ControlFlow::Break(()) => return Ok(None),
        };
        let loss = found.score.loss();
        let bits_per_byte = (found.bytes > 0).then(|| taal_metrics::bits_per_byte(found.score.nats, found.bytes));
        record.val_loss = Some(loss);
        record.val_bits_per_byte = bits_per_byte;
        record.val_accuracy = found
            .correct
            .map(|correct| correct as f64 / found.score.tokens.max(1) as f64);
        self.state.val_loss = Some(loss);
        self.state.val_correct = found.correct;
        self.state.val_bits_per_byte = bits_per_byte;
        self.state.val_tokens = Some(found.score.tokens);
        self.state.val_bytes = (found.bytes > 0).then_some(found.bytes);
        self.state.wall_s = self.wall_before_s + self.started.elapsed().as_secs_f64();
        // A bad step has the weights of the one before, and is not saved for being the best.
        let is_healthy = self.state.health.in_a_row == 0;
        let is_best = is_healthy && loss.is_finite() && self.state.best_val_loss.is_none_or(|best| loss < best);
        if is_best {
            self.state.best_val_loss = Some(loss);
            self.state.best_step = Some(self.state.step);
            self.state.evaluations_without_gain = 0;
        } else {
            self.state.evaluations_without_gain += 1;
        }
        Ok(Some(is_best))
    }

    /// Starts a checkpoint, which is written while training goes on. Says `false` where the state was not finite and the run went back
    /// instead.
    fn save(&mut self, progress: &mut dyn Progress) -> Result<bool, TrainError> {
        if let Err(error) = self.write_records() {
            if !error.is_of_a_disk() {
                return Err(error);
            }
            let what = format!("step {} is not saved", self.state.step);
            self.saver
                .forgive(&what, error, &mut |message| progress.note(&message))?;
            return Ok(true);
        }
        let snapshot = Snapshot::take(&self.learner, &self.state, &self.tokenizer, &self.origin)?;
        let Some(snapshot) = snapshot else {
            self.treat(Ailment::State, progress)?;
            return Ok(false);
        };
        let save = Save {
            checkpoints: self.checkpoints.clone(),
            snapshot,
            logs: vec![self.log.path().to_path_buf(), self.events.path().to_path_buf()],
            link: self.options.run_dir.join("model"),
            best_step: self.state.best_step,
            keep: self.recipe.checkpoint.keep,
        };
        let is_beside = self.recipe.checkpoint.background;
        self.saver.start(save, is_beside, |message| progress.note(&message))?;
        Ok(true)
    }

    /// The last checkpoint before this process ends: waited for, and nothing is forgiven. Says `false` as [`save`](Self::save) does.
    fn save_at_last(&mut self, progress: &mut dyn Progress) -> Result<bool, TrainError> {
        self.write_records()?;
        let is_sound = self.save(progress)?;
        self.saver.wait(|message| progress.note(&message))?;
        if self.saver.is_failing() {
            return Err(TrainError::unsaved(self.options.run_dir, self.state.step));
        }
        Ok(is_sound)
    }

    /// What the model in the run directory writes, which is the best one where there is a validation split, for the report and for the caller
    /// watches. A sample that fails costs no more than itself.
    fn write_samples(&mut self, progress: &mut dyn Progress) {
        let device = self.learner.model.device().inner();
        self.samples = samples::write(self.recipe, self.options.run_dir, &device, self.task.as_ref());
        for sample in &self.samples {
            match &sample.error {
                Some(error) => progress.note(&format!("no sample for {:?}: {error}", sample.prompt)),
                None => progress.sample(&sample.prompt, &sample.text),
            }
        }
    }

    /// Writes report.json, report.html and log.csv over the whole run so far.
    fn report(&mut self, is_finished: bool) -> Result<Report, TrainError> {
        self.log.sync()?;
        let state = &self.state;
        let tokens_per_s = state.tokens as f64 / state.train_s.max(1e-9);
        // Counting and measuring take time that a caller who asked to stop does not have.
        if is_finished {
            self.peak.measure_again(&self.learner.model.device());
        }
        let mfu = self.peak.utilisation(tokens_per_s, &self.flops_shape);
        let epochs = self.epochs(self.state.tokens);
        let state = &self.state;
        let mut report = Report {
            recipe: self.recipe.name.clone(),
            objective: self.task.name().to_string(),
            device: self.options.device.to_string(),
            params: self.learner.model.config().n_params(),
            steps: state.step,
            planned_steps: self.recipe.train.steps,
            tokens: state.tokens,
            wall_s: self.wall_before_s + self.started.elapsed().as_secs_f64(),
            // No step counted: no loss either.
            train_loss: if state.step > state.health.skipped {
                state.train_loss
            } else {
                f64::NAN
            },
            val_loss: state.val_loss,
            best_val_loss: state.best_val_loss,
            best_step: state.best_step,
            val_bits_per_byte: state.val_bits_per_byte,
            val_tokens: state.val_tokens,
            val_bytes: state.val_bytes,
            tokens_per_s,
            epochs,
            mfu,
            peak_flops_per_s: self.peak.flops_per_s(),
            peak_is_lower_bound: self.peak.is_lower_bound(),
            peak_rss_bytes: taal_metrics::peak_rss_bytes().unwrap_or(0),
            resumed_from: state.resumed_from,
            skipped_steps: state.health.skipped,
            rewinds: u64::from(state.health.rewinds),
            tokenizer: prepare::tokenizer_words(self.recipe),
            vocab_size: self.tokenizer.vocab_size() as u64,
            samples: self.samples.clone(),
            masked: None,
        };
        if is_finished {
            self.task.report(state, self.learner.model.config(), &mut report)?;
        }
        let records = taal_metrics::read_log(&self.options.run_dir.join(taal_metrics::LOG_NAME))?;
        report.write_json(&self.options.run_dir.join("report.json"))?;
        let html = taal_draw::report(&report, &records, self.recipe_text);
        taal_store::write_atomic(&self.options.run_dir.join("report.html"), html.as_bytes())?;
        taal_metrics::write_csv(&records, &self.options.run_dir.join("log.csv"))?;
        Ok(report)
    }
}
