//! Items of a test that cannot be scored; the others still are.

use std::path::Path;

use serde::{Deserialize, Serialize};
use taal_inference::InferenceError;

use crate::{EvaluationError, Result};

/// An item that could not be scored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Its file.
    pub file: String,
    /// Its line, from 1.
    pub line: usize,
    /// Why.
    pub reason: String,
}

impl LeftOut {
    /// The reason, if an error concerns only one item; any other error is returned.
    pub(crate) fn of(error: EvaluationError, path: &Path, line: usize) -> Result<Self> {
        let reason = match error {
            EvaluationError::Inference(InferenceError::Setting { key, detail })
                if key == "text" || key == "choices" =>
            {
                detail
            }
            EvaluationError::Tokenizer(error) | EvaluationError::Inference(InferenceError::Tokenizer(error)) => {
                error.to_string()
            }
            EvaluationError::Inference(error @ InferenceError::NoRow { .. }) => error.to_string(),
            other => return Err(other),
        };
        Ok(Self {
            file: path.display().to_string(),
            line,
            reason,
        })
    }

    /// An error if any items were left out.
    ///
    /// # Errors
    ///
    /// [`EvaluationError::LeftOut`].
    pub fn check(left_out: &[Self], scored: u64) -> Result<()> {
        /// The most items to name.
        const NAMED: usize = 5;
        if left_out.is_empty() {
            return Ok(());
        }
        let named = left_out.iter().take(NAMED);
        let mut named: Vec<String> = named
            .map(|item| format!("{}, line {}: {}", item.file, item.line, item.reason))
            .collect();
        if left_out.len() > NAMED {
            let lines: Vec<String> = left_out[NAMED..]
                .iter()
                .take(100)
                .map(|item| item.line.to_string())
                .collect();
            named.push(format!("and lines {}", lines.join(", ")));
        }
        Err(EvaluationError::LeftOut {
            count: left_out.len(),
            total: left_out.len() as u64 + scored,
            named: named.join("; "),
        })
    }
}
