//! What pre-training is worth for a task: [`compare`] trains the same shape on it from new weights and from those of a pre-trained model,
//! each with a small share of the pre-training's compute.
//!
//! Both begin from a model directory with the same tokenizer, use the same recipe and make the same number of steps. The peak learning
//! rate is tuned for each: with the first seed it is trained with several rates, and the one with the lowest validation loss counts.

use std::path::{Path, PathBuf};

use serde::Serialize;
use taal_kernels::DeviceSpec;
use taal_metrics::{Report, flops};
use taal_model::hugging_face::{self, Companions};
use taal_model::{Initialization, TransformerConfig};
use taal_trainer::{
    ModelRecipe, Outcome, Progress, Recipe, RecipeText, RunOptions, Silent, TokenizerRecipe, TrainError, is_run,
    list_runs, prepare, resolve, resolve_stored, stored_recipe, train,
};

/// Evaluations of a training: halfway and at the end. Each goes through the whole held-out part and answers its prompts, which takes longer
/// than many a training.
const EVALUATIONS: u64 = 2;
/// The figures of a finished run, in its directory.
const REPORT: &str = "report.json";
/// Digits of a hash in the name of a directory.
const KEY_LEN: usize = 12;

/// Options of [`compare`].
#[derive(Debug, Clone, PartialEq)]
pub struct TransferOptions {
    /// Shares of the pre-training's compute, ascending.
    pub shares: Vec<f64>,
    /// Seeds: of new weights, and of the order of the data.
    pub seeds: Vec<u64>,
    /// Multiples of the recipe's learning rate that are tried with the first seed.
    pub rates: Vec<f64>,
    /// Where the runs are kept. Runs of the same recipe, data and pre-trained model that are finished there are not trained again, so an
    /// interrupted comparison goes on.
    pub dir: PathBuf,
}

impl TransferOptions {
    /// 1, 3 and 10 %, three seeds, a third of the recipe's rate, the rate and three times it.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            shares: vec![0.01, 0.03, 0.1],
            seeds: vec![1, 2, 3],
            rates: vec![0.3, 1.0, 3.0],
            dir: dir.into(),
        }
    }
}

/// All measurements.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TransferFigures {
    /// The recipe of the pre-trained model.
    pub base: String,
    /// Its parameters.
    pub params: u64,
    /// Tokens that it was trained on, repeated ones included.
    pub base_tokens: u64,
    /// FLOPs of that training, by PaLM's count.
    pub base_flops: f64,
    /// One per task.
    pub tasks: Vec<TaskFigures>,
}

/// The figures of one task.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskFigures {
    /// The recipe.
    pub name: String,
    /// The metric of answers, if the recipe has one.
    pub metric: Option<String>,
    /// By share of the compute, ascending.
    pub points: Vec<PointFigures>,
}

/// Both trainings with one share of the compute.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PointFigures {
    /// Share of the pre-training's FLOPs.
    pub share: f64,
    /// Steps of each training.
    pub steps: u64,
    /// From new weights.
    pub from_scratch: ArmFigures,
    /// From the pre-trained model.
    pub fine_tuned: ArmFigures,
    /// Whether the fine-tuned model has a lower loss with every seed than the other with any.
    pub is_disjoint: bool,
}

/// One way to start, over all seeds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ArmFigures {
    /// The multiple of the recipe's learning rate that was best.
    pub rate: f64,
    /// The lowest validation loss in nats per token, by seed.
    pub losses: Vec<f64>,
    /// The metric of answers, by seed; empty without one.
    pub answers: Vec<f64>,
    /// Nats per token that the loss on the pre-training's data rose by, by seed; empty from new weights.
    pub forgotten: Vec<f64>,
}

impl ArmFigures {
    /// The mean loss over the seeds.
    pub fn mean_loss(&self) -> f64 {
        mean(&self.losses)
    }

    /// The lowest and the highest loss.
    pub fn loss_range(&self) -> [f64; 2] {
        let (low, high) = (f64::min, f64::max);
        let over = |start: f64, of: fn(f64, f64) -> f64| self.losses.iter().copied().fold(start, of);
        [over(f64::INFINITY, low), over(f64::NEG_INFINITY, high)]
    }
}

/// The mean of some values; NaN of none.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Trains every task from new weights and from the model of a run, which are kept in the directory of the options.
///
/// # Errors
///
/// [`TrainError`] where the run has no report, a task has no validation split, and those of [`train`]; what is finished is kept.
pub fn compare(
    base: &Path,
    tasks: &[RecipeText],
    device: DeviceSpec,
    options: &TransferOptions,
    progress: &mut dyn Progress,
) -> Result<TransferFigures, TrainError> {
    let base = Base::open(base)?;
    let mut found = Vec::new();
    for task in tasks {
        let mut bench = Bench {
            base: &base,
            task,
            device,
            options,
            progress: &mut *progress,
            key: String::new(),
        };
        found.push(bench.task()?);
    }
    Ok(TransferFigures {
        base: base.recipe.name.clone(),
        params: base.config.n_params(),
        base_tokens: base.tokens,
        base_flops: base.flops,
        tasks: found,
    })
}

/// The pre-trained model.
struct Base {
    dir: PathBuf,
    recipe: Recipe,
    config: TransformerConfig,
    tokens: u64,
    flops: f64,
    /// The hash of its weights.
    hash: String,
}

impl Base {
    fn open(dir: &Path) -> Result<Self, TrainError> {
        let recipe = resolve_stored(&stored_recipe(dir)?, &[])?.recipe;
        let tokens = Report::read_json(&dir.join(REPORT))?.tokens;
        let model = taal_inference::model_dir(dir)?;
        let config = hugging_face::open_config(&model)?;
        let per_token = flops::palm_per_token(&config.shape(recipe.train.block_size));
        Ok(Self {
            dir: dir.to_path_buf(),
            flops: tokens as f64 * per_token as f64,
            hash: hugging_face::weights_hash(&model)?,
            recipe,
            config,
            tokens,
        })
    }
}

/// One task, and what all of its trainings have in common.
struct Bench<'a, 'p> {
    base: &'a Base,
    task: &'a RecipeText,
    device: DeviceSpec,
    options: &'a TransferOptions,
    progress: &'a mut (dyn Progress + 'p),
    /// What its trainings depend on, in the names of their directories.
    key: String,
}

/// How a training starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    Scratch,
    Tuned,
}

impl Bench<'_, '_> {
    fn task(&mut self) -> Result<TaskFigures, TrainError> {
        let model = format!("train.init_from={:?}", self.base.dir.display().to_string());
        let resolved = resolve(self.task, &[model])?;
        self.key = resolved.identity()?.chars().take(KEY_LEN).collect();
        self.note_others()?;
        let recipe = resolved.recipe;
        let metric = recipe.eval.metric.map(|metric| metric.to_string());
        let per_step = recipe.train.batch_size * recipe.train.block_size * recipe.train.accumulation;
        let per_token = flops::palm_per_token(&self.base.config.shape(recipe.train.block_size));
        let step_flops = per_step as f64 * per_token as f64;
        let mut points = Vec::new();
        for share in self.options.shares.clone() {
            let steps = ((share * self.base.flops / step_flops).round() as u64).max(1);
            // These runs make the directory that new weights are written to.
            let fine_tuned = self.arm(Start::Tuned, share, steps)?;
            let from_scratch = self.arm(Start::Scratch, share, steps)?;
            let is_disjoint = fine_tuned.loss_range()[1] < from_scratch.loss_range()[0];
            points.push(PointFigures {
                share,
                steps,
                from_scratch,
                fine_tuned,
                is_disjoint,
            });
        }
        Ok(TaskFigures {
            name: self.task.name.clone(),
            metric,
            points,
        })
    }

    /// Says which trainings in the directory are not those of this comparison.
    fn note_others(&mut self) -> Result<(), TrainError> {
        let dir = self.options.dir.join(&self.task.name);
        let runs = list_runs(&dir)?.runs;
        let others = runs.iter().filter(|run| !run.name.ends_with(&self.key)).count();
        if others > 0 {
            self.progress.note(&format!(
                "{}: {others} trainings in {} are of another recipe, other data or another pre-trained model, and are not used",
                self.task.name,
                dir.display()
            ));
        }
        Ok(())
    }

    /// Tunes the rate with the first seed, and trains the other seeds with it.
    fn arm(&mut self, start: Start, share: f64, steps: u64) -> Result<ArmFigures, TrainError> {
        let seeds = self.options.seeds.clone();
        let (first, others) = seeds
            .split_first()
            .map_or((1, &[][..]), |(first, others)| (*first, others));
        let mut best: Option<(f64, Report)> = None;
        for rate in self.options.rates.clone() {
            let report = match self.trained(start, share, steps, first, rate) {
                // A rate that is too high is not the best one.
                Err(TrainError::Diverged { .. }) => continue,
                other => other?,
            };
            let is_better = |(_, known): &(f64, Report)| self.loss(&report).ok() < self.loss(known).ok();
            if best.as_ref().is_none_or(is_better) {
                best = Some((rate, report));
            }
        }
        let Some((rate, report)) = best else {
            let detail = "training diverges with every rate that is tried; lower it";
            return Err(TrainError::recipe(&self.task.name, "train.lr", detail));
        };
        let mut reports = vec![report];
        for seed in others {
            reports.push(self.trained(start, share, steps, *seed, rate)?);
        }
        let losses = reports
            .iter()
            .map(|report| self.loss(report))
            .collect::<Result<_, _>>()?;
        let answers = reports
            .iter()
            .filter_map(|report| Some(report.answers.as_ref()?.model?.value));
        let forgotten = reports.iter().filter_map(|report| report.forgetting.as_ref()?.rise());
        Ok(ArmFigures {
            rate,
            losses,
            answers: answers.collect(),
            forgotten: match start {
                Start::Tuned => forgotten.collect(),
                Start::Scratch => Vec::new(),
            },
        })
    }

    fn loss(&self, report: &Report) -> Result<f64, TrainError> {
        report.best_val_loss.ok_or_else(|| {
            let detail = "there is no validation split to compare on; set it above 0";
            TrainError::recipe(&self.task.name, "data.validation_fraction", detail)
        })
    }

    /// One training, or what it found if it is finished already.
    fn trained(&mut self, start: Start, share: f64, steps: u64, seed: u64, rate: f64) -> Result<Report, TrainError> {
        let name = match start {
            Start::Scratch => "scratch",
            Start::Tuned => "tuned",
        };
        let run = format!("{name}-{}pc-seed{seed}-x{rate}-{}", 100.0 * share, self.key);
        let run_dir = self.options.dir.join(&self.task.name).join(&run);
        if let Ok(report) = Report::read_json(&run_dir.join(REPORT))
            && report.steps == steps
        {
            return Ok(report);
        }
        let model = match start {
            Start::Scratch => self.new_model(seed)?,
            Start::Tuned => self.base.dir.clone(),
        };
        let settings = [
            format!("train.init_from={:?}", model.display().to_string()),
            format!("seed={seed}"),
            format!("train.steps={steps}"),
            format!("eval.every={}", steps.div_ceil(EVALUATIONS).max(1)),
            // Both arms make all of their steps.
            format!("train.patience={}", u64::MAX >> 1),
        ];
        let of_recipe = resolve(self.task, &settings)?.recipe.train;
        let mut settings = settings.to_vec();
        settings.push(format!("train.lr={:e}", rate * of_recipe.schedule.lr));
        settings.extend(of_recipe.muon.map(|muon| format!("train.muon_lr={:e}", rate * muon.lr)));
        let resolved = resolve(self.task, &settings)?;
        self.progress.note(&format!("{}: {run}, {steps} steps", self.task.name));
        let options = RunOptions {
            run_dir: &run_dir,
            device: self.device,
            is_resume: is_run(&run_dir),
            language: Default::default(),
            energy: Default::default(),
        };
        match train(&resolved, &self.task.text, &options, &mut Silent)? {
            Outcome::Finished(report) | Outcome::Interrupted(report) => Ok(report),
        }
    }

    /// A directory with new weights in the shape of the pre-trained model, and its tokenizer.
    fn new_model(&self, seed: u64) -> Result<PathBuf, TrainError> {
        let of_base: String = self.base.hash.chars().take(KEY_LEN).collect();
        let dir = self.options.dir.join(format!("new-weights-seed{seed}-{of_base}"));
        if hugging_face::open_config(&dir).is_ok() {
            return Ok(dir);
        }
        let tokenizer = prepare::tokenizer(&Recipe {
            model: ModelRecipe::InitFrom {
                encoder_layers: 0,
                dir: self.base.dir.clone(),
                dropout: 0.0,
            },
            tokenizer: TokenizerRecipe::Given,
            ..self.base.recipe.clone()
        })?;
        let init = match &self.base.recipe.model {
            ModelRecipe::New { init, .. } => *init,
            _ => Initialization::default(),
        };
        let model = self.base.config.init_with(seed, init, &self.device.open()?)?;
        let (json, target_json) = (tokenizer.to_json(), tokenizer.target_json());
        let companions = Companions {
            tokenizer_json: Some(&json),
            target_tokenizer_json: target_json.as_deref(),
            bos_token_id: tokenizer.bos_id(),
            eos_token_id: tokenizer.eos_id(),
            pad_token_id: tokenizer.pad_id(),
            ..Companions::default()
        };
        hugging_face::save(&model, &dir, companions)?;
        Ok(dir)
    }
}
