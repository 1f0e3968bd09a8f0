//! One-line warnings. Before the first step: a text that is too small for its model, and checkpoints that take much
//! disk. After an evaluation: a loss that is worse than guessing.

use taal_metrics::RunNote;
use taal_model::TransformerConfig;

use crate::average;
use crate::error::size;
use crate::memory::Estimate;
use crate::recipe::{ModelRecipe, Recipe};

/// Warn if all checkpoints together take more than this many times the size of the model.
const MANY_TIMES_THE_MODEL: u64 = 8;

/// Below this size there is no warning.
const MIN_WORTH_SAYING_BYTES: u64 = 32 << 20;

/// Bytes of a weight in a model directory.
const WEIGHT_BYTES: u64 = 4;

/// The checkpoints that a run will have on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct CheckpointPlan {
    /// The maximum number of checkpoints: the newest `checkpoint.keep`, and the best one.
    pub most: u64,
    /// Bytes of each.
    pub each_bytes: u64,
    /// Bytes of the model in it.
    pub model_bytes: u64,
}

impl CheckpointPlan {
    pub(crate) fn of(recipe: &Recipe, config: &TransformerConfig, estimate: &Estimate, has_validation: bool) -> Self {
        let (steps, every) = (recipe.train.steps, recipe.checkpoint.every.max(1));
        // There is always one after the last step, and one after each evaluation that is the best so far.
        let evaluations = match has_validation {
            true => steps.div_ceil(recipe.eval.every.max(1)),
            false => 0,
        };
        let saves = steps.div_ceil(every).saturating_add(evaluations).min(steps);
        let kept = recipe.checkpoint.keep.max(recipe.checkpoint.average.unwrap_or(0)) as u64;
        let kept = kept + u64::from(has_validation);
        Self {
            most: kept.min(saves),
            each_bytes: estimate.snapshot,
            model_bytes: WEIGHT_BYTES * config.n_params(),
        }
    }

    /// Bytes of all of them.
    pub fn total_bytes(&self) -> u64 {
        self.most.saturating_mul(self.each_bytes)
    }

    fn caution(&self) -> Option<String> {
        let total = self.total_bytes();
        let is_much = total > MANY_TIMES_THE_MODEL.saturating_mul(self.model_bytes) && total >= MIN_WORTH_SAYING_BYTES;
        is_much.then(|| {
            format!(
                "checkpoints will take {}, the model {} (checkpoint.keep)",
                size(total),
                size(self.model_bytes)
            )
        })
    }
}

/// A note if the training text has fewer tokens than a new model has parameters. A pre-trained model needs few tokens to adapt.
pub(crate) fn little_text(recipe: &Recipe, params: u64, train_tokens: u64) -> Option<RunNote> {
    let is_new = matches!(recipe.model, ModelRecipe::New { .. });
    (is_new && train_tokens < params).then_some(RunNote::LittleText { train_tokens, params })
}

/// A note if the validation loss is above that of guessing every token with the same probability.
pub(crate) fn worse_than_guessing(val_loss: f64, vocab_size: u64) -> Option<RunNote> {
    let guessing = (vocab_size.max(1) as f64).ln();
    (val_loss > guessing).then_some(RunNote::WorseThanGuessing { val_loss, vocab_size })
}

/// Warnings before the first step.
pub(crate) fn before_training(
    recipe: &Recipe,
    params: u64,
    train_tokens: u64,
    checkpoints: &CheckpointPlan,
) -> Vec<String> {
    let little_text = little_text(recipe, params, train_tokens).map(|note| line(&note));
    little_text.into_iter().chain(checkpoints.caution()).collect()
}

/// A note as one line of a terminal.
pub(crate) fn line(note: &RunNote) -> String {
    match *note {
        RunNote::LittleText { train_tokens, params } => format!(
            "{} training tokens are few for {} parameters (below 1 each)",
            short(train_tokens),
            short(params)
        ),
        RunNote::WorseThanGuessing { val_loss, vocab_size } => {
            let guessing = (vocab_size.max(1) as f64).ln();
            format!("validation loss {val_loss:.2} is worse than guessing (ln {vocab_size} = {guessing:.2})")
        }
        RunNote::LeftOutPairs { left_out, row_tokens } => {
            format!("{left_out} pairs have a side longer than train.block_size = {row_tokens} and are left out")
        }
        RunNote::Averaged {
            checkpoints,
            val_loss,
            best_val_loss,
        } => average::line(checkpoints, val_loss, best_val_loss),
        RunNote::CutExamples { cut, row_tokens } => {
            format!("{cut} examples are longer than train.block_size = {row_tokens} and were cut")
        }
    }
}

/// A count with three significant digits.
fn short(count: u64) -> String {
    let count = count as f64;
    match count {
        count if count >= 1e9 => format!("{:.2} G", count / 1e9),
        count if count >= 1e6 => format!("{:.2} M", count / 1e6),
        count if count >= 1e3 => format!("{:.1} k", count / 1e3),
        count => format!("{count}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{RecipeText, resolve};
    use taal_model::ModelSize;

    fn recipe(sets: &[&str]) -> Recipe {
        let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
        resolve(&RecipeText::find("shakespeare-char").unwrap(), &sets)
            .unwrap()
            .recipe
    }

    fn plan(recipe: &Recipe, config: &TransformerConfig, has_validation: bool) -> CheckpointPlan {
        let estimate = Estimate::of(
            config,
            &recipe.train,
            taal_kernels::Precision::Fp32,
            recipe.eval.batch_size,
        );
        CheckpointPlan::of(recipe, config, &estimate, has_validation)
    }

    /// 1.07 million parameters, as in issue 17.
    fn small() -> TransformerConfig {
        TransformerConfig::llama(ModelSize {
            vocab_size: 27,
            max_seq_len: 64,
            n_layers: 4,
            n_heads: 4,
            d_model: 144,
        })
    }

    #[test]
    fn no_more_checkpoints_are_counted_than_are_made_and_kept() {
        let most = |sets: &[&str], has_validation| plan(&recipe(sets), &small(), has_validation).most;
        let keep = |keep: &'static str, every: &'static str| ["train.steps=100", "eval.every=50", keep, every];
        assert_eq!(most(&keep("checkpoint.keep=3", "checkpoint.every=10"), true), 4);
        assert_eq!(most(&keep("checkpoint.keep=3", "checkpoint.every=10"), false), 3);
        assert_eq!(most(&keep("checkpoint.keep=30", "checkpoint.every=40"), false), 3);
        assert_eq!(most(&["train.steps=1", "checkpoint.keep=3"], true), 1);
    }

    #[test]
    fn little_text_and_large_checkpoints_are_a_line_each_and_neither_is_longer_than_a_terminal() {
        let recipe = recipe(&["checkpoint.keep=5"]);
        let params = small().n_params();
        let checkpoints = plan(&recipe, &small(), true);
        let said = before_training(&recipe, params, 17_600, &checkpoints);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(
            said[0].contains("17.6 k") && said[1].contains("checkpoints"),
            "{said:?}"
        );
        assert!(said.iter().all(|line| "note: ".len() + line.len() <= 80), "{said:?}");
        let few = CheckpointPlan { most: 2, ..checkpoints };
        assert!(before_training(&recipe, params, params, &few).is_empty());
    }

    #[test]
    fn a_loss_above_the_logarithm_of_the_vocabulary_is_worse_than_guessing() {
        let said = line(&worse_than_guessing(20.04, 27).unwrap());
        assert_eq!(said, "validation loss 20.04 is worse than guessing (ln 27 = 3.30)");
        assert_eq!(worse_than_guessing(3.29, 27), None);
        assert_eq!(worse_than_guessing(f64::NAN, 27), None);
    }
}
