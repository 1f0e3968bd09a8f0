//! Recipes and the loop that trains them: pre-training and fine-tuning, optimizers, schedules, checkpoints, exact resume.
//!
//! A [`Recipe`] describes a training run completely. [`resolve`] makes one from TOML and settings, [`train`] runs it in
//! a run directory: batches in, one [`Learner::step`] after another, evaluations of the whole validation split, atomic
//! [`Checkpoints`], a report at the end. Everything random is a function of the seed and the step, so a run that was
//! interrupted and resumed ends, on the CPU, with the same bits as one that was not. A [`Trainer`] does the same for a
//! program that brings its own texts, tokenizer or weights.
//!
//! It leaves out what a model is (the model crate), where batches come from (the data crate), and how progress is
//! displayed (the command line implements [`Progress`]).
//!
//! ```
//! use taal_trainer::{RecipeText, resolve};
//!
//! let source = RecipeText::find("nanogpt-cpu")?;
//! let resolved = resolve(&source, &["train.steps=100".to_string()])?;
//! assert_eq!(resolved.recipe.train.steps, 100);
//! assert_eq!(resolved.recipe.train.block_size, 64);
//! # Ok::<(), taal_trainer::TrainError>(())
//! ```

mod adapter;
mod answers;
mod average;
mod bad_step;
pub mod bench;
mod card;
mod cautions;
mod certainty;
mod chat;
mod checkpoint;
mod dry_run;
mod error;
mod events;
mod gradients;
mod health;
mod identity;
mod learnable;
mod ledger;
mod limit;
mod memory;
mod objective;
mod optimizer;
mod precision;
pub mod prepare;
mod preview;
mod progress;
mod recipe;
mod replay;
mod run;
mod run_dir;
mod runs;
mod saver;
mod schedule;
mod setup;
mod step;
mod train;
mod trainer;
mod translator;
mod utilization;

pub use bad_step::BadStep;
pub use card::{WrittenCard, card_text, write_card, write_card_of_export};
pub use cautions::CheckpointPlan;
pub use checkpoint::{Checkpoint, Checkpoints, TrainState};
pub use dry_run::{DryRun, InputSize, MemoryPlan, Row, RowToken, TimePlan, dry_run};
pub use error::TrainError;
pub use events::{Act, Event};
pub use health::{HealthRecipe, HealthState};
pub use ledger::{joined_ledger, ledger_of, ledger_path};
pub use objective::{Dpo, answer_log_probs};
pub use optimizer::{AdamW, Muon, Optimizer, OptimizerKind};
pub use precision::{
    BACKOFF_FACTOR, GROWTH_FACTOR, GROWTH_INTERVAL, INITIAL_LOSS_SCALE, LossScale, MAX_LOSS_SCALE, MIN_LOSS_SCALE,
    MixedPrecision, PrecisionChoice,
};
pub use preview::{DataPreview, ExampleRow, preview};
pub use recipe::{
    CheckpointRecipe, DEFAULT_RECIPE, DamagedKind, DataRecipe, DataSource, EvalRecipe, KEYS, Key, LSTM_INIT_STD,
    ModelRecipe, Objective, ObjectiveKind, OrderKind, Preset, RawRecipe, Recipe, RecipeText, ReplayRecipe, Resolved,
    SampleRecipe, TokenizerRecipe, TrainRecipe, UnknownKind, embedded, nearest_keys, resolve, resolve_stored,
};
pub use replay::Forgetting;
pub use run_dir::{Claim, Start, is_run, latest, nothing_to_resume, stored_recipe};
pub use runs::{
    Cleaning, Compared, KeyDifference, Removal, Removed, RunComparison, RunState, RunSummary, Runs, Skipped,
    compare_runs, find_run, list_runs, plan_cleaning,
};
pub use schedule::{Schedule, ScheduleKind};
pub use step::{Learner, LossFn, NamedGradient, StepOutcome, loss, smoothed_loss};
#[cfg(feature = "faults")]
pub use step::{StepFault, inject_step_faults};
pub use taal_kernels::orthogonalize;
// Re-exported, because callers of `train` name these types.
pub use progress::{Progress, RunInfo, Silent, StepInfo};
pub use run::{EnergyOptions, Outcome, READING_INTERVAL, RunOptions};
pub use taal_draw::Language;
pub use taal_kernels::{DeviceSpec, Precision};
pub use taal_metrics::{Report, StepRecord};
pub use taal_store::layout::{EVENTS_FILE, RECIPE_FILE, REPORT_FILE, RESOLVED_FILE, RUN_FILE};
pub use train::{train, train_in};
pub use trainer::Trainer;
