//! The YAML front matter of a card, in the keys of Hugging Face's model cards.

use std::fmt::Write as _;

use taal_metrics::energy::Joule;
use taal_metrics::{LedgerTotals, Report};

use super::Facts;

/// Languages of the embedded corpora (ISO 639-1).
const LANGUAGES: [(&str, &str); 5] = [
    ("tinyshakespeare", "en"),
    ("names", "en"),
    ("english", "en"),
    ("dutch", "nl"),
    ("dutch-alpino", "nl"),
];

/// The front matter with its fences.
pub(super) fn of(facts: &Facts<'_>) -> String {
    let mut yaml = String::from("---\n");
    let mut line = |key: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(yaml, "{key}: {value}");
    };
    let data = facts.ledger.entries.iter().flat_map(|entry| &entry.data);
    let names: Vec<&str> = data.map(|source| source.name.as_str()).collect();
    let known = LANGUAGES.iter().filter(|(corpus, _)| names.contains(corpus));
    let mut languages: Vec<&str> = known.map(|(_, language)| *language).collect();
    languages.dedup();
    if !languages.is_empty() {
        line("language", &format!("[{}]", languages.join(", ")));
    }
    line("license", "unknown");
    line("library_name", "taal");
    let is_causal = facts.config.is_none_or(|config| config.is_causal);
    let task = if is_causal { "text-generation" } else { "fill-mask" };
    line("pipeline_tag", task);
    line("tags", "[taal, burn]");
    let totals = facts.ledger.totals();
    if totals.joules > 0.0 {
        yaml.push_str(&emissions(facts, &totals));
    }
    if let Some(report) = facts.last().and_then(|entry| entry.report.as_ref()) {
        yaml.push_str(&results(facts, report, task, &names));
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
    let place = energy.map_or(String::new(), |energy| energy.grid.clone());
    let source = energy.map_or("estimated", |energy| energy.source.as_str());
    let amount = Joule(totals.joules).watt_hours();
    let training = if facts.ledger.entries.len() > 1 {
        "pre-training and fine-tuning"
    } else {
        "pre-training"
    };
    let machine = facts.last().map_or("", |entry| entry.machine.as_str());
    let note = format!("taal energy ({source}), {amount}");
    format!(
        "co2_eq_emissions:\n  emissions: {:.6}\n  source: {}\n  training_type: {}\n  geographical_location: {}\n  hardware_used: {}\n",
        totals.co2e_g,
        quoted(&note),
        quoted(training),
        quoted(&place),
        quoted(machine)
    )
}

fn results(facts: &Facts<'_>, report: &Report, task: &str, data: &[&str]) -> String {
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
    let data = data.last().copied().unwrap_or("unknown");
    format!(
        "model-index:\n- name: {}\n  results:\n  - task:\n      type: {task}\n    dataset:\n      type: {}\n      name: {}\n    metrics:\n{metrics}",
        quoted(facts.name),
        quoted(data),
        quoted(&format!("{data}, validation split"))
    )
}
