//! Figures in Prometheus's text format.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::app::App;
use crate::energy::Carbon;
use crate::model::ServedModel;

/// Upper bounds in seconds of the histograms' buckets.
const BOUNDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// How often a time was within each bound, and beyond the last.
#[derive(Default)]
pub(crate) struct Histogram {
    counts: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

impl Histogram {
    pub(crate) fn add(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let bucket = BOUNDS
            .iter()
            .position(|bound| seconds <= *bound)
            .unwrap_or(BOUNDS.len());
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.nanoseconds.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
    }

    fn write(&self, text: &mut String, name: &str, help: &str) {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} histogram");
        let mut total = 0;
        let bounds = BOUNDS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (bound, count) in bounds.zip(&self.counts) {
            total += count.load(Ordering::Relaxed);
            let _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {total}");
        }
        let seconds = self.nanoseconds.load(Ordering::Relaxed) as f64 / 1e9;
        let _ = writeln!(text, "{name}_sum {seconds}\n{name}_count {total}");
    }
}

/// What the server counts itself.
#[derive(Default)]
pub(crate) struct Metrics {
    /// By route and status.
    requests: Mutex<BTreeMap<(String, u16), u64>>,
    pub(crate) in_flight: AtomicU64,
    pub(crate) first_token: Histogram,
    pub(crate) next_token: Histogram,
    pub(crate) duration: Histogram,
}

impl Metrics {
    pub(crate) fn count(&self, route: &str, status: u16) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((route.to_owned(), status)).or_default() += 1;
    }
}

/// All figures.
pub(crate) fn text(app: &App) -> String {
    let mut text = String::new();
    let metrics = &app.metrics;
    let _ = writeln!(
        text,
        "# HELP taal_requests_total Requests by route and status.\n# TYPE taal_requests_total counter"
    );
    for ((route, status), count) in metrics.requests.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        let _ = writeln!(
            text,
            "taal_requests_total{{route=\"{route}\",status=\"{status}\"}} {count}"
        );
    }
    let in_flight = metrics.in_flight.load(Ordering::Relaxed);
    let _ = writeln!(
        text,
        "# HELP taal_requests_in_flight Requests that are being answered.\n# TYPE taal_requests_in_flight gauge\n\
         taal_requests_in_flight {in_flight}"
    );
    let request = "Time from a request to the end of its answer.";
    metrics.duration.write(&mut text, "taal_request_seconds", request);
    let first = "Time from a request to its first token.";
    metrics.first_token.write(&mut text, "taal_first_token_seconds", first);
    let next = "Time between two tokens of an answer.";
    metrics.next_token.write(&mut text, "taal_next_token_seconds", next);
    engines(&mut text, &app.models);
    if let Some(ledger) = &app.energy {
        energy(&mut text, &ledger.total());
    }
    text
}

/// Energy since the server began, with its bounds.
fn energy(text: &mut String, total: &Carbon) {
    let source = &total.source;
    let figures = [
        ("joules", "Energy of this process in joules.", total.joules),
        ("joules_low", "The lower bound of this energy.", total.low),
        ("joules_high", "The upper bound of this energy.", total.high),
    ];
    for (name, help, value) in figures {
        let _ = writeln!(
            text,
            "# HELP taal_energy_{name}_total {help}\n# TYPE taal_energy_{name}_total counter\n\
             taal_energy_{name}_total{{source=\"{source}\"}} {value}"
        );
    }
    let _ = writeln!(
        text,
        "# HELP taal_co2e_grams_total CO2 equivalent of this electricity in grams.\n\
         # TYPE taal_co2e_grams_total counter\ntaal_co2e_grams_total{{grid=\"{}\"}} {}",
        total.grid, total.co2e_g
    );
}

fn engines(text: &mut String, models: &[ServedModel]) {
    let stats: Vec<_> = models
        .iter()
        // An adapter has the engine of its base.
        .filter(|model| model.parent.is_none())
        .filter_map(|model| Some((model.name.as_str(), model.engine()?.stats())))
        .collect();
    type Of = fn(&taal_inference::EngineStats) -> u64;
    let figures: [(&str, &str, &str, Of); 13] = [
        ("running", "gauge", "Requests in the batch.", |stats| {
            stats.running as u64
        }),
        (
            "waiting",
            "gauge",
            "Requests that wait for a place in the batch.",
            |stats| stats.waiting as u64,
        ),
        ("accepted_total", "counter", "Requests accepted.", |stats| {
            stats.accepted
        }),
        (
            "refused_total",
            "counter",
            "Requests refused by a full queue.",
            |stats| stats.refused,
        ),
        ("expired_total", "counter", "Requests that waited too long.", |stats| {
            stats.expired
        }),
        ("cancelled_total", "counter", "Requests whose client left.", |stats| {
            stats.cancelled
        }),
        ("prompt_tokens_total", "counter", "Tokens of prompts.", |stats| {
            stats.prompt_tokens
        }),
        (
            "cached_tokens_total",
            "counter",
            "Tokens of prompts that were in the cache.",
            |stats| stats.cached_tokens,
        ),
        ("generated_tokens_total", "counter", "Generated tokens.", |stats| {
            stats.generated_tokens
        }),
        ("steps_total", "counter", "Passes that generated tokens.", |stats| {
            stats.steps
        }),
        (
            "draft_tokens_accepted_total",
            "counter",
            "Guessed tokens that became part of an answer.",
            |stats| stats.draft_tokens_accepted,
        ),
        (
            "draft_tokens_rejected_total",
            "counter",
            "Guessed tokens that did not.",
            |stats| stats.draft_tokens_rejected,
        ),
        (
            "rests_total",
            "counter",
            "Times that the cache was freed because nobody asked.",
            |stats| stats.rests,
        ),
    ];
    for (name, kind, help, of) in figures {
        let _ = writeln!(
            text,
            "# HELP taal_engine_{name} {help}\n# TYPE taal_engine_{name} {kind}"
        );
        for (model, stats) in &stats {
            let _ = writeln!(text, "taal_engine_{name}{{model=\"{model}\"}} {}", of(stats));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_sums_are_seconds() {
        let histogram = Histogram::default();
        for milliseconds in [1, 2, 700, 90_000] {
            histogram.add(Duration::from_millis(milliseconds));
        }
        let mut text = String::new();
        histogram.write(&mut text, "t", "Times.");
        for line in [
            "t_bucket{le=\"0.001\"} 1",
            "t_bucket{le=\"0.0025\"} 2",
            "t_bucket{le=\"0.5\"} 2",
            "t_bucket{le=\"1\"} 3",
            "t_bucket{le=\"+Inf\"} 4",
            "t_sum 90.703",
            "t_count 4",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }
}
