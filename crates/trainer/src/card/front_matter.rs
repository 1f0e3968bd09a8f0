//! The YAML front matter of a card, in the keys of Hugging Face's model cards.

use std::fmt::Write as _;

use taal_metrics::energy::Joule;
use taal_metrics::{LedgerTotals, Report};

use super::Facts;
use super::sources::{corpora, languages};
use super::task::Task;

/// Letters of a country's code (ISO 3166-1).
const ISO_LETTERS: usize = 3;

/// The front matter with its fences.
pub(super) fn of(facts: &Facts<'_>) -> String {
    let mut yaml = String::from("---\n");
    let mut line = |key: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(yaml, "{key}: {value}");
    };
    let languages = languages(&corpora(facts.ledger.entries.iter().flat_map(|entry| &entry.data)));
    if !languages.is_empty() {
        line("language", &format!("[{}]", languages.join(", ")));
    }
    line("license", "unknown");
    line("library_name", "taal");
    let task = Task::of(facts).tag();
    line("pipeline_tag", task);
    line("tags", "[taal, burn]");
    let totals = facts.ledger.totals();
    if totals.joules > 0.0 {
        yaml.push_str(&emissions(facts, &totals));
    }
    if let Some(report) = facts.last().and_then(|entry| entry.report.as_ref()) {
        yaml.push_str(&results(facts, report, task));
    }
    yaml.push_str("---\n\n");
    yaml
}

/// A string that YAML reads as it is: JSON's strings are YAML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn emissions(facts: &Facts<'_>, totals: &LedgerTotals) -> String {
    let energy = facts.last().and_then(|entry| entry.report.as_ref()?.energy.as_ref());
    let source = energy.map_or("estimated", |energy| energy.source.as_str());
    let [amount, low, high] = [totals.joules, totals.low, totals.high].map(|joules| Joule(joules).watt_hours());
    let (missing, training) = match (totals.unknown, totals.trainings) {
        (0, 1) => (String::new(), "pre-training"),
        (0, _) => (String::new(), "pre-training and fine-tuning"),
        (unknown, all) => (
            format!("; without {unknown} of {all} trainings, which are not known"),
            if energy.is_some() {
                "fine-tuning"
            } else {
                "pre-training"
            },
        ),
    };
    let mut yaml = format!("co2_eq_emissions:\n  emissions: {}\n", grams(totals.co2e_g));
    let mut line = |key: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(yaml, "  {key}: {}", quoted(value));
        }
    };
    line(
        "source",
        &format!("taal energy ({source}), {amount} ({low} to {high}){missing}"),
    );
    line("training_type", training);
    // The world, a number and a file are not places.
    let is_country = |code: &&str| code.len() == ISO_LETTERS;
    let place = energy.map(|energy| energy.grid.as_str()).filter(is_country);
    line("geographical_location", place.unwrap_or_default());
    line("hardware_used", facts.last().map_or("", |entry| entry.machine.as_str()));
    yaml
}

/// Grams with so many decimals that a short training is not 0.
fn grams(grams: f64) -> String {
    let decimals = if grams > 0.0 && grams < 1e-3 { 12 } else { 6 };
    format!("{grams:.decimals$}")
}

fn results(facts: &Facts<'_>, report: &Report, task: &str) -> String {
    let mut metrics = String::new();
    let mut metric = |kind: &str, name: &str, value: Option<f64>| {
        if let Some(value) = value.filter(|value| value.is_finite()) {
            let _ = writeln!(
                metrics,
                "    - type: {kind}\n      name: {}\n      value: {value:.4}",
                quoted(name)
            );
        }
    };
    metric("loss", "validation loss, nats per token", report.best_val_loss);
    metric("bits_per_byte", "validation bits per byte", report.val_bits_per_byte);
    if metrics.is_empty() {
        return String::new();
    }
    // The validation split is one of the data of the last training.
    let names = corpora(facts.last().into_iter().flat_map(|entry| &entry.data));
    let data = match names.is_empty() {
        true => "unknown".to_string(),
        false => names.join("+"),
    };
    format!(
        "model-index:\n- name: {}\n  results:\n  - task:\n      type: {task}\n    dataset:\n      type: {}\n      name: {}\n    metrics:\n{metrics}",
        quoted(facts.name),
        quoted(&data),
        quoted(&format!("{data}, validation split"))
    )
}
