//! The energy of a piece of work of this process, such as a text that is generated.

use serde::Serialize;
use taal_kernels::DeviceSpec;
use taal_metrics::energy::{Energy, Joule, Meter, MeterOptions, Monitor, Reading, SystemClock, nvidia_gpus};

use super::settings::Place;
use crate::terminal;

/// A meter, and where the work began. Its thread sees counters that wrap around during a long text.
pub struct Work {
    /// None where the system gives no thread.
    monitor: Option<Monitor>,
    begin: Reading,
}

/// What the work took.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WorkEnergy {
    joules: f64,
    low: f64,
    high: f64,
    /// Where the figures come from.
    source: String,
    /// Joules per thousand generated tokens; none where there are none.
    per_1000_tokens: Option<f64>,
    /// What the figures miss.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

impl Work {
    /// Meters work on a device from now on, with what is kept for this machine.
    pub fn begin(device: DeviceSpec) -> Self {
        let place = Place::find();
        let options = MeterOptions {
            uses_gpu: device.is_gpu(),
            ..place.kept(terminal::message).options
        };
        let clock = Box::new(SystemClock::default());
        let make = || {
            let gpus = if options.uses_gpu { nvidia_gpus() } else { None };
            Meter::new(Box::new(place.files), clock, gpus, options)
        };
        Self {
            begin: Reading::default(),
            monitor: Monitor::start(make),
        }
    }

    /// The energy since the last call, or since the beginning; none without a meter.
    pub fn lap(&mut self) -> Option<Energy> {
        let now = self.monitor.as_ref()?.reading_now()?;
        let energy = now.since(&self.begin);
        self.begin = now;
        Some(energy)
    }

    /// Where the figures come from.
    pub fn source(&self) -> String {
        self.begin.sources.to_string()
    }

    /// What the figures miss, a sentence each.
    pub fn notes(&self) -> Vec<String> {
        self.begin.notes.sentences()
    }

    /// What the work took until now, of which so many tokens came; none without a meter.
    pub fn end(&mut self, tokens: usize) -> Option<WorkEnergy> {
        let energy = self.lap()?;
        Some(WorkEnergy {
            joules: energy.joules.0,
            low: energy.low.0,
            high: energy.high.0,
            source: self.source(),
            per_1000_tokens: (tokens > 0).then(|| energy.joules.0 / tokens as f64 * 1e3),
            notes: self.notes(),
        })
    }
}

impl WorkEnergy {
    /// The figures in a line, and what they miss in lines of their own.
    pub fn words(&self) -> String {
        let [joules, low, high] = [self.joules, self.low, self.high].map(|joules| Joule(joules).to_string());
        let per = self.per_1000_tokens.map_or(String::new(), |joules| {
            format!(", {} per thousand tokens", Joule(joules))
        });
        let notes: String = self.notes.iter().map(|note| format!("\nnote: {note}")).collect();
        format!("energy: {joules} ({low} to {high}), {}{per}{notes}", self.source)
    }
}
