//! More tokens for a model that is there: rows of its embedding and of its output matrix.

use std::collections::BTreeMap;

use crate::ModelError;
use crate::parameters;
use crate::precision::{HEAD, TOKENS};
use crate::transformer::Transformer;

/// The bias of the output matrix, one number per token.
const OUTPUT_BIAS: &str = "output_bias";

impl Transformer {
    /// The same model with rows for this many tokens. Each new row is the mean of those that are there, so that a new token begins as an average
    /// one (Hewitt 2021). A model with as many or more is unchanged, and adapters are lost where it has fewer.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] where there cannot be so many.
    pub fn with_vocab_size(self, vocab_size: usize) -> Result<Self, ModelError> {
        let before = self.config().vocab_size;
        if vocab_size <= before {
            return Ok(self);
        }
        let more = vocab_size - before;
        let mut replaced = BTreeMap::new();
        parameters::read(&self, |name, shape, values| {
            let values = match (name, shape) {
                (TOKENS, [_, width]) => with_more_rows(values, *width, more),
                // A column per token.
                (HEAD, _) | (OUTPUT_BIAS, _) => with_more_columns(&values, before, more),
                _ => return,
            };
            replaced.insert(name.to_owned(), values);
        });
        parameters::with_tokens(&self, vocab_size, replaced)
    }
}

fn with_more_rows(mut values: Vec<f32>, width: usize, more: usize) -> Vec<f32> {
    let mut sums = vec![0.0_f64; width];
    for row in values.chunks_exact(width) {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += f64::from(*value);
        }
    }
    let rows = (values.len() / width) as f64;
    let mean: Vec<f32> = sums.iter().map(|sum| (sum / rows) as f32).collect();
    values.extend(mean.repeat(more));
    values
}

fn with_more_columns(values: &[f32], columns: usize, more: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len() / columns * (columns + more));
    for row in values.chunks_exact(columns) {
        let sum: f64 = row.iter().map(|value| f64::from(*value)).sum();
        out.extend_from_slice(row);
        out.extend(std::iter::repeat_n((sum / columns as f64) as f32, more));
    }
    out
}
