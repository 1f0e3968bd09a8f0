//! `taal eval`: how well a model predicts texts.

use taal_inference::LanguageModel;

use crate::arguments::EvalArguments;
use crate::failure::Failure;
use crate::terminal;

/// Evaluates.
pub fn run(arguments: &EvalArguments) -> Result<(), Failure> {
    let lm = LanguageModel::open(&arguments.model, &arguments.device.open()?)?;
    if !arguments.pairs.is_empty() {
        return pairs(&lm, arguments);
    }
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

fn pairs(lm: &LanguageModel, arguments: &EvalArguments) -> Result<(), Failure> {
    let evaluation = taal_inference::evaluate_pairs(lm, &arguments.pairs)?;
    if arguments.json {
        return Ok(terminal::print_json(&evaluation)?);
    }
    let is_one = evaluation.files.len() == 1;
    let rows = evaluation.files.iter().chain((!is_one).then_some(&evaluation.all));
    let words: String = rows
        .map(|score| {
            let [low, high] = score.interval.map(|share| 100.0 * share);
            format!(
                "{:5.1} % of {} pairs ({low:.1} to {high:.1})  {}\n",
                100.0 * score.accuracy,
                terminal::grouped(score.total),
                score.name
            )
        })
        .collect();
    Ok(terminal::print(&words)?)
}
