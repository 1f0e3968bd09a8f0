//! A dry run: what a recipe reads, what the model sees of it, and how much memory, disk and time it needs. Nothing is
//! written.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use burn::module::Module;
use serde::Serialize;
use taal_data::{Batch, Content, IGNORE_INDEX};
use taal_kernels::{DeviceSpec, random};
use taal_tokenizer::Tokenizer;

use crate::cautions::{self, CheckpointPlan};
use crate::objective::Task;
use crate::optimizer::Optimizer;
use crate::precision::{self, MixedPrecision};
use crate::prepare::{self, Corpus};
use crate::progress::Progress;
use crate::recipe::{DataSource, Recipe, Resolved};
use crate::setup::Setup;
use crate::step::Learner;
use crate::{TrainError, memory, objective};

/// The number of rows that are shown.
const SHOWN_ROWS: usize = 2;
/// The number of timed steps, after one warm-up step.
const TIMED_STEPS: u64 = 5;
/// This many are enough if each takes long.
const FEWEST_TIMED_STEPS: u64 = 3;
/// The duration after which [`FEWEST_TIMED_STEPS`] are enough.
const LONG: Duration = Duration::from_secs(10);

/// What a run of a recipe would read and need.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DryRun {
    /// The recipe's name.
    pub recipe: String,
    /// The device.
    pub device: String,
    /// What is read.
    pub inputs: Vec<InputSize>,
    /// A description of the tokenizer.
    pub tokenizer: String,
    /// Size of its vocabulary.
    pub vocab_size: usize,
    /// Training tokens.
    pub train_tokens: u64,
    /// Rows of `train.block_size` tokens in them; of an encoder-decoder, pairs.
    pub train_rows: u64,
    /// Validation tokens.
    pub val_tokens: u64,
    /// Rows in them.
    pub val_rows: u64,
    /// Parameters of the model.
    pub params: u64,
    /// Updates.
    pub steps: u64,
    /// Training tokens of each.
    pub tokens_per_step: u64,
    /// How many times all steps together pass over the training tokens.
    pub passes: f64,
    /// Memory, estimated.
    pub memory: MemoryPlan,
    /// Disk.
    pub checkpoints: CheckpointPlan,
    /// Time, measured and extrapolated.
    pub time: TimePlan,
    /// The first rows of the first batch.
    pub rows: Vec<Row>,
    /// Warnings before starting, one line each.
    pub notes: Vec<String>,
}

/// One input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InputSize {
    /// Its path or its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

/// Bytes of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MemoryPlan {
    /// All of it.
    pub total_bytes: u64,
    /// Weights, gradients and the optimizer's moments.
    pub state_bytes: u64,
    /// Activations of a micro-batch.
    pub activation_bytes: u64,
    /// A checkpoint while it is written.
    pub snapshot_bytes: u64,
}

/// How long a run takes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TimePlan {
    /// Steps that were timed.
    pub timed_steps: u64,
    /// Mean seconds per step.
    pub step_s: f64,
    /// Evaluations of the run.
    pub evaluations: u64,
    /// Seconds per evaluation, estimated from its first batches.
    pub evaluation_s: f64,
    /// Seconds of all steps and evaluations.
    pub total_s: f64,
}

/// A row of a batch as the model sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Its tokens, without padding.
    pub tokens: Vec<RowToken>,
    /// Positions of padding after them.
    pub padding: usize,
}

/// A token of a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RowToken {
    /// The id that the model reads.
    pub id: u32,
    /// Its text; empty for a part of a character that a later token ends.
    pub text: String,
    /// Whether predicting it counts in the loss. The first token of a row and prompts do not count.
    pub is_learned: bool,
    /// The text of the hidden token, if a masked model must guess here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden: Option<String>,
    /// Whether a new text begins here, in a row of several texts.
    pub starts_text: bool,
}

/// Prepares everything that a run of a recipe needs, times a few steps, and reports what the run would need. Files are
/// read, none are written.
///
/// # Errors
///
/// Those of [`train`](crate::train) before its first step.
pub fn dry_run(resolved: &Resolved, device: DeviceSpec, progress: &mut dyn Progress) -> Result<DryRun, TrainError> {
    let recipe = &resolved.recipe;
    let opened = device.open()?;
    precision::check(recipe.train.precision, device, &opened, &recipe.name, precision::KEY)?;
    for note in &resolved.notes {
        progress.note(note);
    }
    let inputs = inputs(recipe)?;
    let precision = recipe
        .train
        .precision
        .settle(None, device, &opened, &recipe.name, progress)?;
    let setup = Setup::new(recipe, precision, None, progress, |_, _, _| Ok(()))?;
    memory::check(&setup.estimate, &setup.config, device, &recipe.train)?;
    let (train_tokens, val_tokens) = setup.corpus.token_counts();
    let (train_rows, val_rows) = setup.corpus.rows(recipe.train.block_size, setup.config.max_seq_len);
    let checkpoints = CheckpointPlan::of(recipe, &setup.config, &setup.estimate, val_tokens > 0);
    let params = setup.config.n_params();
    let cut = setup.corpus.cut_examples().map(|note| cautions::line(&note));
    let tokens_per_step = setup.corpus.tokens_per_step(recipe)?;
    let pairs = match &setup.corpus {
        Corpus::Pairs(found) => {
            let examples = found.train.first(SHOWN_ROWS).into_iter();
            let rows =
                examples.map(|example| Ok(crate::preview::example_row(&example, &found.counts, &setup.tokenizer)?.row));
            Some(rows.collect::<Result<Vec<Row>, TrainError>>()?)
        }
        _ => None,
    };

    let task = objective::of(recipe, &setup.tokenizer, &setup.chat, setup.corpus)?;
    let first = task.batch(&setup.plan, 0)?;
    let is_masked = recipe.train.objective.masking().is_some();
    let rows = match pairs {
        Some(pairs) => pairs,
        None => rows(&first, &setup.tokenizer, is_masked, SHOWN_ROWS)?,
    };
    let mut rehearsal = Rehearsal {
        recipe,
        task: task.as_ref(),
        plan: setup.plan,
        learner: Learner {
            model: prepare::model(
                recipe,
                &setup.tokenizer,
                setup.adapter.as_ref(),
                &opened.autodiff(),
                &mut |message| progress.note(&message),
            )?,
            optimizer: Optimizer::new(recipe.train.adamw, recipe.train.muon),
            clip_norm: recipe.train.clip_norm,
            precision: MixedPrecision::new(precision),
        },
    };
    let (timed_steps, step_s) = rehearsal.time_steps()?;
    let evaluation_s = rehearsal.time_evaluation(val_tokens)?;
    let evaluations = match val_tokens {
        0 => 0,
        _ => recipe.train.steps.div_ceil(recipe.eval.every.max(1)),
    };
    let estimate = setup.estimate;
    Ok(DryRun {
        recipe: recipe.name.clone(),
        device: device.to_string(),
        inputs,
        tokenizer: prepare::tokenizer_words(recipe),
        vocab_size: setup.tokenizer.vocab_size(),
        train_tokens,
        train_rows,
        val_tokens,
        val_rows,
        params,
        steps: recipe.train.steps,
        tokens_per_step,
        passes: recipe.train.steps as f64 * tokens_per_step as f64 / train_tokens.max(1) as f64,
        memory: MemoryPlan {
            total_bytes: estimate.total(),
            state_bytes: estimate.state,
            activation_bytes: estimate.activations,
            snapshot_bytes: estimate.snapshot,
        },
        notes: cautions::before_training(recipe, params, train_tokens, &checkpoints)
            .into_iter()
            .chain(cut)
            .collect(),
        checkpoints,
        time: TimePlan {
            timed_steps,
            step_s,
            evaluations,
            evaluation_s,
            total_s: recipe.train.steps as f64 * step_s + evaluations as f64 * evaluation_s,
        },
        rows,
    })
}

/// What the recipe's data are read from, and how much of it there is.
pub(crate) fn inputs(recipe: &Recipe) -> Result<Vec<InputSize>, TrainError> {
    let files = |paths: &[std::path::PathBuf], content| {
        let found = taal_data::find_files(paths, content)?;
        let size = |path: &std::path::PathBuf| InputSize::at(path);
        found.files.iter().map(size).collect::<Result<Vec<_>, _>>()
    };
    let one = |name: &str, bytes| {
        vec![InputSize {
            name: name.to_string(),
            bytes,
        }]
    };
    Ok(match &recipe.data.source {
        DataSource::Corpus(name) => {
            let texts = taal_data::corpus(name).map_or(Vec::new(), |corpus| corpus.texts());
            one(name, texts.iter().map(|(_, text)| text.len() as u64).sum())
        }
        DataSource::Files(paths) => files(paths, Content::Text)?,
        DataSource::Conversations(path) => files(std::slice::from_ref(path), Content::Conversations)?,
        DataSource::Examples(name) => one(
            name,
            taal_data::example_set(name).map_or(0, |set| set.train_rows().len() as u64),
        ),
        DataSource::Shards(dir) => vec![InputSize::at(dir)?],
        DataSource::Texts(texts) => one("texts of the program", texts.iter().map(|text| text.len() as u64).sum()),
        DataSource::Dataset(dataset) => one("token ids of the program", dataset.train.text_bytes()),
    })
}

impl InputSize {
    fn at(path: &Path) -> Result<Self, TrainError> {
        Ok(Self {
            name: path.display().to_string(),
            bytes: taal_store::total_size_bytes(&taal_store::resolve(path)?)?,
        })
    }
}

impl Corpus {
    /// Numbers of training and validation rows.
    pub(crate) fn rows(&self, block_size: usize, window: usize) -> (u64, u64) {
        match self {
            Self::Text(dataset) => (
                dataset.train.len() / block_size as u64,
                dataset
                    .validation
                    .iter()
                    .map(|source| source.len().div_ceil(window as u64))
                    .sum(),
            ),
            Self::Conversations(conversations) => (
                conversations.train.rows() as u64,
                conversations
                    .validation
                    .as_ref()
                    .map_or(0, |source| source.rows() as u64),
            ),
            Self::Pairs(pairs) => (
                pairs.train.pairs() as u64,
                pairs.validation.as_ref().map_or(0, |source| source.pairs() as u64),
            ),
        }
    }
}

/// Steps that only measure time; their result is dropped.
struct Rehearsal<'a> {
    recipe: &'a Recipe,
    task: &'a dyn Task,
    plan: taal_data::BatchPlan,
    learner: Learner,
}

impl Rehearsal<'_> {
    /// How many steps were timed, and their mean in seconds. The first step is not timed, because it includes one-time
    /// work.
    fn time_steps(&mut self) -> Result<(u64, f64), TrainError> {
        self.step(0)?;
        let began = Instant::now();
        let mut done = 0;
        while done < TIMED_STEPS && (done < FEWEST_TIMED_STEPS || began.elapsed() < LONG) {
            done += 1;
            self.step(done)?;
        }
        Ok((done, began.elapsed().as_secs_f64() / done as f64))
    }

    /// One step, including drawing its batches. Its loss is read from the device, so the step is complete when this
    /// returns.
    fn step(&mut self, index: u64) -> Result<(), TrainError> {
        let accumulation = self.recipe.train.accumulation as u64;
        let micro_steps = || index * accumulation..(index + 1) * accumulation;
        let batches: Vec<Batch> = micro_steps()
            .map(|micro| self.task.batch(&self.plan, micro))
            .collect::<Result<_, _>>()?;
        let keys: Vec<u64> = micro_steps()
            .map(|micro| random::key(self.recipe.seed, micro, "dropout"))
            .collect();
        let schedule = &self.recipe.train.schedule;
        let task = self.task;
        self.learner.step_if(
            &batches,
            &keys,
            schedule.at(index) / schedule.lr,
            &|model, batch, key| task.loss(model, batch, key),
            &|_| true,
        )?;
        Ok(())
    }

    /// Seconds per evaluation: the time of its second batch times the number of batches, or the time of the only batch.
    fn time_evaluation(&self, val_tokens: u64) -> Result<f64, TrainError> {
        if val_tokens == 0 {
            return Ok(0.0);
        }
        let model = self.learner.model.valid();
        let batch_size = self.recipe.eval.batch_size;
        let mut asked: Vec<Instant> = Vec::new();
        let mut ask = || {
            asked.push(Instant::now());
            match asked.len() {
                1 | 2 => ControlFlow::Continue(()),
                _ => ControlFlow::Break(()),
            }
        };
        let _ = self.task.validate(&model, batch_size, &mut ask)?;
        asked.push(Instant::now());
        let last = asked.len() - 1;
        let seconds = asked[last.min(2)].duration_since(asked[last.min(2) - 1]).as_secs_f64();
        let tokens = (batch_size * model.config().max_seq_len) as f64;
        Ok(seconds * (val_tokens as f64 / tokens).ceil().max(1.0))
    }
}

/// The first rows of a batch, with what the model must predict in them.
pub(crate) fn rows(
    batch: &Batch,
    tokenizer: &Tokenizer,
    is_masked: bool,
    shown: usize,
) -> Result<Vec<Row>, TrainError> {
    let width = batch.seq_len;
    let shown = batch.batch_size.min(shown);
    (0..shown)
        .map(|row| {
            let range = row * width..(row + 1) * width;
            let starts = batch.text_starts.as_ref().map(|starts| &starts[range.clone()]);
            let (inputs, targets) = (&batch.inputs[range.clone()], &batch.targets[range]);
            match is_masked {
                true => masked_row(inputs, targets, tokenizer),
                false => causal_row(inputs, targets, starts, tokenizer),
            }
        })
        .collect()
}

/// A row whose targets are the tokens after its inputs.
fn causal_row(
    inputs: &[i32],
    targets: &[i32],
    starts: Option<&[i32]>,
    tokenizer: &Tokenizer,
) -> Result<Row, TrainError> {
    // After the last token with a loss there is only padding; the last target of running text is beyond the row.
    let last = targets.iter().rposition(|target| *target != IGNORE_INDEX);
    let len = last.map_or(0, |last| (last + 2).min(inputs.len()));
    let texts = joined_texts(&inputs[..len], tokenizer)?;
    let token = |(position, text): (usize, String)| RowToken {
        id: inputs[position] as u32,
        text,
        is_learned: position > 0 && targets[position - 1] != IGNORE_INDEX,
        hidden: None,
        starts_text: starts.is_some_and(|starts| starts[position] as usize == position),
    };
    Ok(Row {
        tokens: texts.into_iter().enumerate().map(token).collect(),
        padding: inputs.len() - len,
    })
}

/// A row whose targets are what was hidden in it.
fn masked_row(inputs: &[i32], targets: &[i32], tokenizer: &Tokenizer) -> Result<Row, TrainError> {
    let whole: Vec<i32> = inputs
        .iter()
        .zip(targets)
        .map(|(input, target)| if *target == IGNORE_INDEX { *input } else { *target })
        .collect();
    let (seen, whole) = (texts(inputs, tokenizer)?, texts(&whole, tokenizer)?);
    let token = |(position, (text, hidden)): (usize, (String, String))| {
        let is_hidden = targets[position] != IGNORE_INDEX;
        RowToken {
            id: inputs[position] as u32,
            text,
            is_learned: is_hidden,
            hidden: is_hidden.then_some(hidden),
            starts_text: false,
        }
    };
    Ok(Row {
        tokens: seen.into_iter().zip(whole).enumerate().map(token).collect(),
        padding: 0,
    })
}

/// The text that each id adds: a character whose bytes are several tokens is in the last of them, and the others add nothing.
pub(crate) fn joined_texts(ids: &[i32], tokenizer: &Tokenizer) -> Result<Vec<String>, TrainError> {
    let mut stream = tokenizer.decode_stream().with_special();
    let texts = ids.iter().map(|id| Ok(stream.push(*id as u32)?.unwrap_or_default()));
    let mut texts = texts.collect::<Result<Vec<String>, TrainError>>()?;
    // What is cut off within a character becomes a replacement character.
    let rest = stream.finish()?;
    if let Some(last) = texts.last_mut() {
        *last += &rest;
    }
    Ok(texts)
}

/// The text that each id adds, or its spelling in the vocabulary if it adds none by itself.
fn texts(ids: &[i32], tokenizer: &Tokenizer) -> Result<Vec<String>, TrainError> {
    let mut stream = tokenizer.decode_stream().with_special();
    ids.iter()
        .map(|id| {
            let id = *id as u32;
            let text = stream.push(id)?;
            Ok(text.unwrap_or_else(|| tokenizer.tokens(&[id]).concat()))
        })
        .collect()
}
