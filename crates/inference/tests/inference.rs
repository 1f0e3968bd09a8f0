//! Tests on tiny models with random weights.

use taal_model::ModelSize;

#[path = "inference/beams.rs"]
mod beams;
#[path = "inference/constrained.rs"]
mod constrained;
#[path = "inference/decoding.rs"]
mod decoding;
#[path = "inference/drafting.rs"]
mod drafting;
#[path = "inference/embedding.rs"]
mod embedding;
#[path = "inference/generation.rs"]
mod generation;
#[path = "inference/opening.rs"]
mod opening;
#[path = "inference/receipts.rs"]
mod receipts;
#[path = "inference/reports_generate.rs"]
mod reports_generate;
#[path = "inference/rounded.rs"]
mod rounded;
#[path = "inference/sampling.rs"]
mod sampling;
#[path = "inference/schemas.rs"]
mod schemas;
#[path = "inference/scripted.rs"]
#[allow(dead_code)]
mod scripted;
#[path = "inference/serving.rs"]
mod serving;
#[path = "inference/session.rs"]
mod session;
#[path = "inference/speculative.rs"]
mod speculative;
#[path = "inference/stopping.rs"]
mod stopping;
#[path = "inference/tiny.rs"]
mod tiny;
#[path = "inference/together.rs"]
mod together;
#[path = "inference/translating.rs"]
mod translating;
#[path = "inference/written.rs"]
mod written;

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
