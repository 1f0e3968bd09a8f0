//! Training: against PyTorch, against itself after an interruption, and against bad recipes.

use std::path::Path;

use taal_model::ModelSize;

mod against_pytorch;
mod answers;
mod bad_recipes;
mod cards;
mod chat;
#[cfg(feature = "faults")]
mod faults;
mod forgetting;
mod from_rust;
mod keys;
mod lora;
mod masked;
mod old_runs;
mod packing;
mod pages;
mod precision;
mod preference;
mod recipes;
mod reports_data;
mod reports_run;
mod run_list;
mod runs;
mod sources;
mod translation;
mod watchers;

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

/// The file of weights of a run's checkpoint.
pub fn weights_at(run_dir: &Path, step: u64) -> Vec<u8> {
    std::fs::read(run_dir.join(format!("checkpoints/step-{step:08}/model/model.safetensors"))).unwrap()
}
