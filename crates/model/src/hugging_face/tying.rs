//! Whether the output matrix is the embedding: decided by the contents of the file, as in transformers.

use super::Family;
use super::layout::Layout;
use super::shards::Weights;
use super::weights::Stored;
use crate::config::TransformerConfig;

/// Bytes per comparison.
const BLOCK_BYTES: usize = 1 << 20;

/// The configuration, made untied where `config.json` says tied but the file has an output matrix that differs from the
/// embedding. transformers also uses that matrix; ignoring it would change the model's output.
pub(super) fn as_stored(config: &TransformerConfig, family: Family, weights: &Weights<'_>) -> TransformerConfig {
    let is_tied = !config.tie_embeddings || family == Family::Taal || !has_other_head(config, family, weights);
    TransformerConfig {
        tie_embeddings: config.tie_embeddings && is_tied,
        ..config.clone()
    }
}

fn has_other_head(config: &TransformerConfig, family: Family, weights: &Weights<'_>) -> bool {
    let layout = Layout::new(config, family);
    let stored = |name: String| weights.get(&layout.stored_name(&name, |name| weights.contains(name))?);
    match (stored(layout.embedding_name()), stored(layout.head_name())) {
        (Some(embedding), Some(head)) => embedding.view.shape() == head.view.shape() && !is_equal(&embedding, &head),
        _ => false,
    }
}

/// Whether type and bytes are equal.
fn is_equal(one: &Stored<'_>, other: &Stored<'_>) -> bool {
    let blocks = |stored: &Stored<'_>| stored.view.data().len().div_ceil(BLOCK_BYTES);
    one.view.dtype() == other.view.dtype()
        && blocks(one) == blocks(other)
        && (0..blocks(one)).all(|index| block_of(one, index) == block_of(other, index))
}

fn block_of<'a>(stored: &'a Stored<'_>, index: usize) -> &'a [u8] {
    let data = stored.view.data();
    let start = index * BLOCK_BYTES;
    &data[start..data.len().min(start + BLOCK_BYTES)]
}
