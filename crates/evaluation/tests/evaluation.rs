//! Tests on golden files and on tiny models with random weights.

use taal_model::ModelSize;

#[path = "evaluation/choices.rs"]
mod choices;
#[path = "evaluation/gaps.rs"]
mod gaps;
#[path = "evaluation/layouts.rs"]
mod layouts;
#[path = "evaluation/messages.rs"]
mod messages;
#[path = "evaluation/nearest.rs"]
mod nearest;
#[path = "evaluation/pairs.rs"]
mod pairs;
#[path = "evaluation/questions.rs"]
mod questions;
#[path = "evaluation/reports_encoders.rs"]
mod reports_encoders;
#[path = "evaluation/scoring.rs"]
mod scoring;
#[path = "evaluation/task.rs"]
mod task;
#[path = "../../inference/tests/inference/tiny.rs"]
#[allow(dead_code)]
mod tiny;
#[path = "evaluation/words.rs"]
mod words;

/// [`ModelSize`] in one line: vocabulary, context, layers, heads, width.
pub fn size(vocab_size: usize, max_seq_len: usize, n_layers: usize, n_heads: usize, d_model: usize) -> ModelSize {
    ModelSize {
        vocab_size,
        max_seq_len,
        n_layers,
        n_heads,
        d_model,
    }
}
