//! The form that a generated text must have.

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;
use taal_inference::Constraint;

use crate::failure::Failure;

/// The longest schema or grammar that is read.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// At most one form.
#[derive(Debug, Clone, Args)]
#[group(multiple = false)]
pub struct FormArguments {
    /// Generate JSON that is valid by the JSON schema in this file
    #[arg(long, value_name = "FILE")]
    pub json_schema: Option<PathBuf>,
    /// Generate a JSON object
    #[arg(long)]
    pub json_object: bool,
    /// Generate a text that matches this regular expression as a whole
    #[arg(long, value_name = "REGEX")]
    pub regex: Option<String>,
    /// Generate a text of the grammar in this file, in llguidance's variant of Lark
    #[arg(long, value_name = "FILE")]
    pub lark: Option<PathBuf>,
}

impl FormArguments {
    /// The form, if any.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or a schema that is not JSON.
    pub fn constraint(&self) -> Result<Option<Constraint>, Failure> {
        if let Some(path) = &self.json_schema {
            let bytes = taal_store::read(path, MAX_BYTES)?;
            let schema: Value = serde_json::from_slice(&bytes).map_err(|error| taal_store::Error::Corrupt {
                path: path.clone(),
                detail: format!("not a JSON schema: {}", taal_store::shorten(&error.to_string())),
            })?;
            return Ok(Some(Constraint::JsonSchema(schema)));
        }
        if let Some(path) = &self.lark {
            return Ok(Some(Constraint::Lark(taal_store::read_text(path, MAX_BYTES)?)));
        }
        let regex = self.regex.clone().map(Constraint::Regex);
        Ok(regex.or(self.json_object.then_some(Constraint::JsonObject)))
    }
}
