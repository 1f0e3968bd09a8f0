//! The energy of answers: what the meter counts for this process, shared among requests by their tokens.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use taal_metrics::energy::{Energy, Grid, Meter, Reading};
use utoipa::ToSchema;

/// The meter of a server, and the tokens among which its energy is shared.
pub(crate) struct Ledger {
    meter: Mutex<Meter>,
    grid: Grid,
    pue: f64,
    /// Tokens that were computed, of prompts and of answers.
    tokens: AtomicU64,
}

/// Energy and tokens of the whole server at the beginning of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Begin {
    energy: Energy,
    tokens: u64,
}

/// The energy of an answer, and the greenhouse gases of its electricity.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Carbon {
    /// Joules: of the server's energy while it worked on this request, the share of the request's tokens.
    pub(crate) joules: f64,
    /// The lower bound.
    pub(crate) low: f64,
    /// The upper bound.
    pub(crate) high: f64,
    /// Where the figures come from, such as `rapl+dram` or `estimated`.
    pub(crate) source: String,
    /// Grams of CO2 equivalent of this electricity.
    pub(crate) co2e_g: f64,
    /// The electricity: three letters of a country, `WORLD` or `custom`.
    pub(crate) grid: String,
}

impl Ledger {
    pub(crate) fn new(meter: Meter, grid: Grid, pue: f64) -> Self {
        Self {
            meter: Mutex::new(meter),
            grid,
            pue,
            tokens: AtomicU64::new(0),
        }
    }

    /// Counts tokens that were computed.
    pub(crate) fn add(&self, tokens: usize) {
        self.tokens.fetch_add(tokens as u64, Ordering::Relaxed);
    }

    /// How often the sensors should be read.
    pub(crate) fn period(&self) -> Duration {
        self.meter.lock().unwrap_or_else(PoisonError::into_inner).period()
    }

    /// The energy until now. Sensors are read at most every 0.1 s, which takes up to a few milliseconds.
    pub(crate) fn reading(&self) -> Reading {
        let mut meter = self.meter.lock().unwrap_or_else(PoisonError::into_inner);
        meter.sample();
        meter.reading()
    }

    /// Where a request begins.
    pub(crate) fn begin(&self) -> Begin {
        Begin {
            energy: self.reading().total(),
            tokens: self.tokens.load(Ordering::Relaxed),
        }
    }

    /// The part of a request for which `own` tokens were computed since its beginning.
    pub(crate) fn share(&self, begin: Begin, own: usize) -> Carbon {
        let reading = self.reading();
        let all = self.tokens.load(Ordering::Relaxed).saturating_sub(begin.tokens);
        let share = own as f64 / all.max(1) as f64;
        self.carbon(&reading, reading.total().since(begin.energy) * share.min(1.0))
    }

    /// Everything since the server began.
    pub(crate) fn total(&self) -> Carbon {
        let reading = self.reading();
        self.carbon(&reading, reading.total())
    }

    fn carbon(&self, reading: &Reading, energy: Energy) -> Carbon {
        Carbon {
            joules: energy.joules.0,
            low: energy.low.0,
            high: energy.high.0,
            source: reading.sources.to_string(),
            co2e_g: self.grid.emissions(energy.joules, self.pue).0,
            grid: self.grid.code.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use taal_metrics::energy::{FakeMachine, FakeZone, MeterOptions};

    use super::*;

    #[test]
    fn requests_at_the_same_time_share_the_energy_by_their_tokens() {
        let machine = FakeMachine::new().with_zone(FakeZone::new("intel-rapl:0", "package-0", 10.0));
        let ledger = Ledger::new(machine.meter(MeterOptions::default()), Grid::world(), 1.0);
        let first = ledger.begin();
        machine.pass(5.0, 1.0, 0.0);
        ledger.add(10);
        let (alone, of_both) = (ledger.total(), ledger.begin());
        machine.pass(5.0, 1.0, 0.0);
        ledger.add(30);
        ledger.add(60);
        let all = ledger.total();
        let (second, third) = (ledger.share(of_both, 30), ledger.share(of_both, 60));
        let near = |found: f64, wanted: f64| assert!((found - wanted).abs() < 1e-6 * wanted, "{found} for {wanted}");
        near(second.joules + third.joules, all.joules - alone.joules);
        near(third.joules, 2.0 * second.joules);
        near(ledger.share(first, 40).joules, 0.4 * all.joules);
        assert!(
            all.joules >= 99.0 && all.low < all.joules && all.joules < all.high,
            "{all:?}"
        );
        near(all.co2e_g, all.joules / 3.6e6 * 475.0);
        assert!(all.source.contains("rapl"), "{all:?}");
    }
}
