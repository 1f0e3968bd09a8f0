//! `taal eval`: how well a model predicts texts.

use taal_inference::LanguageModel;

use crate::arguments::EvalArguments;
use crate::failure::Failure;
use crate::terminal;

/// Evaluates.
pub fn run(arguments: &EvalArguments) -> Result<(), Failure> {
    let lm = LanguageModel::open(&arguments.model, &arguments.device.open()?)?;
    let evaluation = taal_inference::evaluate_files(&lm, &arguments.text)?;
    if arguments.json {
        return Ok(terminal::print_json(&evaluation)?);
    }
    Ok(terminal::print(&terminal::table(&[
        ("loss", format!("{:.4} nats/token", evaluation.loss)),
        ("perplexity", format!("{:.3}", evaluation.perplexity)),
        ("bits/byte", format!("{:.4}", evaluation.bits_per_byte)),
        ("tokens", terminal::grouped(evaluation.tokens)),
        ("bytes", terminal::grouped(evaluation.bytes)),
    ]))?)
}
