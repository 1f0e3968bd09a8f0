//! Tests on golden files and on tiny models with random weights.

use taal_model::ModelSize;

#[path = "exchange/block_types.rs"]
mod block_types;
#[path = "exchange/formats.rs"]
mod formats;
#[path = "exchange/gguf_bytes.rs"]
mod gguf_bytes;
#[path = "exchange/models.rs"]
mod models;
#[path = "exchange/places.rs"]
mod places;
#[path = "exchange/quantized.rs"]
mod quantized;
#[path = "exchange/reports_ids.rs"]
mod reports_ids;
#[path = "exchange/reports_import.rs"]
mod reports_import;
#[path = "exchange/reports_words.rs"]
mod reports_words;
#[path = "../../inference/tests/inference/scripted.rs"]
#[allow(dead_code)]
mod scripted;
#[path = "../../model/tests/model/support.rs"]
#[allow(dead_code)]
mod support;
#[path = "../../inference/tests/inference/tiny.rs"]
#[allow(dead_code)]
mod tiny;
#[path = "exchange/variants.rs"]
mod variants;

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
