//! The energy of answers: what the meter counts for this process, shared among requests by their tokens.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use taal_metrics::energy::{Energy, Grid, Joule, Meter, MinMax, Reading, Sources, UsageEnergy};
use utoipa::ToSchema;

use crate::app::App;

/// The meter of a server, and the tokens among which its energy is shared.
pub(crate) struct Ledger {
    meter: Mutex<Meter>,
    grid: Grid,
    pue: f64,
    /// Tokens that were computed, of prompts and of answers.
    tokens: AtomicU64,
    /// What the meter said when the server began: it holds for every answer.
    standing: Vec<String>,
}

/// Energy and tokens of the whole server at the beginning of a request.
#[derive(Debug, Clone)]
pub(crate) struct Begin {
    reading: Reading,
    tokens: u64,
}

/// The energy of an answer, and the greenhouse gases of its electricity.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Carbon {
    /// Kilowatt-hours.
    #[serde(rename = "kWh")]
    pub(crate) kwh: Bounds,
    /// Kilograms of CO2 equivalent of this electricity, PUE included.
    #[serde(rename = "kgCO2eq")]
    pub(crate) kg_co2eq: Bounds,
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
    /// The electricity: three letters of a country, `WORLD`, `custom` or `hourly`.
    pub(crate) grid: String,
    /// The year of its figure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) year: Option<u16>,
    /// Power usage effectiveness, which is in the greenhouse gases and not in the energy.
    pub(crate) pue: f64,
    /// What the figures miss, a sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) notes: Vec<String>,
}

/// What the `usage` of an answer says of its energy; nothing where the server does not meter.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub(crate) struct UsedEnergy {
    /// The joules of the answer, where the server meters its energy.
    #[serde(skip_serializing_if = "Option::is_none")]
    joules: Option<f64>,
    /// Where they come from, such as `rapl+dram` or `estimated`.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    /// The energy and the greenhouse gases of the answer with their bounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    carbon: Option<Carbon>,
}

impl From<Option<Carbon>> for UsedEnergy {
    fn from(carbon: Option<Carbon>) -> Self {
        Self {
            joules: carbon.as_ref().map(|carbon| carbon.joules),
            source: carbon.as_ref().map(|carbon| carbon.source.clone()),
            carbon,
        }
    }
}

/// Two bounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub(crate) struct Bounds {
    /// The lower one.
    pub(crate) min: f64,
    /// The upper one.
    pub(crate) max: f64,
}

impl From<MinMax> for Bounds {
    fn from(MinMax { min, max }: MinMax) -> Self {
        Self { min, max }
    }
}

impl Ledger {
    pub(crate) fn new(meter: Meter, grid: Grid, pue: f64) -> Self {
        Self {
            standing: meter.notes().sentences(),
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

    /// The energy until now. Answers take milliseconds, and the server rests between them: so the sensors are read at both ends of each.
    pub(crate) fn reading(&self) -> Reading {
        let mut meter = self.meter.lock().unwrap_or_else(PoisonError::into_inner);
        meter.reading_now()
    }

    /// Where a request begins.
    pub(crate) fn begin(&self) -> Begin {
        Begin {
            reading: self.reading(),
            tokens: self.tokens.load(Ordering::Relaxed),
        }
    }

    /// The part of a request for which `own` tokens were computed since its beginning.
    pub(crate) fn share(&self, begin: &Begin, own: usize) -> Carbon {
        let reading = {
            let mut meter = self.meter.lock().unwrap_or_else(PoisonError::into_inner);
            meter.reading_after(&begin.reading)
        };
        let all = self.tokens.load(Ordering::Relaxed).saturating_sub(begin.tokens);
        // An answer for which nothing was computed took some work too.
        let own = own.max(1) as f64;
        let share = own / own.max(all as f64);
        let (grid, missing_hours) = self.grid_since(&reading, &begin.reading);
        let news = reading.notes.since(&begin.reading.notes);
        let news = news.into_iter().filter(|note| !self.standing.contains(note));
        let notes = self.standing.iter().cloned().chain(news).chain(missing_hours).collect();
        self.carbon(&reading.sources, &grid, reading.since(&begin.reading) * share, notes)
    }

    /// Everything since the server began.
    pub(crate) fn total(&self) -> Carbon {
        let reading = self.reading();
        let (grid, missing_hours) = self.grid.over(&reading.by_hour);
        let notes = reading.notes.sentences().into_iter().chain(missing_hours).collect();
        self.carbon(&reading.sources, &grid, reading.total(), notes)
    }

    /// The electricity of the hours since an earlier reading, and what there is to say about it.
    fn grid_since(&self, reading: &Reading, earlier: &Reading) -> (Grid, Option<String>) {
        let before = |hour: &i64| earlier.by_hour.get(hour).copied().unwrap_or(Joule::ZERO);
        // All hours are looked at: where the clock was set back, the newest energy is not in the last one.
        let hours = reading
            .by_hour
            .iter()
            .map(|(hour, joules)| (*hour, *joules - before(hour)));
        let hours: BTreeMap<i64, Joule> = hours.filter(|(_, joules)| *joules > Joule::ZERO).collect();
        match hours.is_empty() {
            true => (self.grid.clone(), None),
            false => self.grid.over(&hours),
        }
    }

    fn carbon(&self, sources: &Sources, grid: &Grid, energy: Energy, notes: Vec<String>) -> Carbon {
        let usage = UsageEnergy::of(energy, sources, grid, self.pue);
        Carbon {
            kwh: usage.carbon.kwh.into(),
            kg_co2eq: usage.carbon.kg_co2eq.into(),
            joules: usage.joules,
            low: energy.low.0,
            high: energy.high.0,
            source: usage.source,
            co2e_g: grid.emissions(energy.joules, self.pue).0,
            grid: grid.code.clone(),
            year: grid.year,
            pue: self.pue,
            notes,
        }
    }
}

impl App {
    /// Where a request begins; none where energy is not metered.
    pub(crate) fn begin_energy(&self) -> Option<Begin> {
        self.energy.as_ref().map(|ledger| ledger.begin())
    }

    /// The energy of a request that is computed at once, for so many tokens.
    pub(crate) fn energy_since(&self, begin: Option<Begin>, tokens: usize) -> Option<Carbon> {
        let (ledger, begin) = (self.energy.as_ref()?, begin?);
        ledger.add(tokens);
        Some(ledger.share(&begin, tokens))
    }
}

#[cfg(test)]
mod tests {
    use taal_metrics::energy::{FakeMachine, FakeZone, MeterOptions, ReadError};

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
        let (second, third) = (ledger.share(&of_both, 30), ledger.share(&of_both, 60));
        let near = |found: f64, wanted: f64| assert!((found - wanted).abs() < 1e-6 * wanted, "{found} for {wanted}");
        near(second.joules + third.joules, all.joules - alone.joules);
        near(third.joules, 2.0 * second.joules);
        near(ledger.share(&first, 40).joules, 0.4 * all.joules);
        assert!(
            all.joules >= 99.0 && all.low < all.joules && all.joules < all.high,
            "{all:?}"
        );
        near(all.co2e_g, all.joules / 3.6e6 * 475.0);
        assert!(all.source.contains("rapl"), "{all:?}");
    }

    #[test]
    fn an_answer_of_less_than_a_millisecond_is_not_free() {
        let machine = FakeMachine::new();
        let ledger = Ledger::new(machine.meter(MeterOptions::default()), Grid::world(), 1.0);
        machine.pass(1.0, 0.0, 0.0);
        for tokens in [5, 0] {
            let begin = ledger.begin();
            machine.pass(0.0004, 1.0, 0.0);
            ledger.add(tokens);
            let found = ledger.share(&begin, tokens);
            assert!(
                found.low > 0.0 && found.low <= found.joules,
                "{tokens} tokens: {found:?}"
            );
            assert!(found.kwh.min > 0.0 && found.kg_co2eq.min > 0.0, "{found:?}");
            assert_eq!((found.year, found.pue), (Some(2018), 1.0));
        }
    }

    #[test]
    fn answers_say_what_their_figures_miss_and_not_what_was_missed_before() {
        let machine = FakeMachine::new().with_zone(FakeZone::new("intel-rapl:0", "package-0", 10.0));
        let options = MeterOptions {
            uses_gpu: true,
            ..MeterOptions::default()
        };
        let ledger = Ledger::new(machine.meter(options), Grid::world(), 1.0);
        let answer = || {
            let begin = ledger.begin();
            machine.pass(1.0, 1.0, 0.0);
            ledger.add(1);
            ledger.share(&begin, 1).notes
        };
        let standing = answer();
        assert!(
            standing.len() == 1 && standing[0].contains("GPU's energy is missing"),
            "{standing:?}"
        );
        machine.change_zone(0, |zone| zone.fault = Some(ReadError::Missing));
        let failed = answer();
        assert!(
            failed.len() == 2 && failed[1].contains("package-0 could not be read"),
            "{failed:?}"
        );
        machine.change_zone(0, |zone| zone.fault = None);
        assert_eq!(answer(), standing);
    }

    #[test]
    fn an_answer_has_the_electricity_of_its_own_hour() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("grid.csv");
        std::fs::write(&path, "time,g_per_kwh\n1970-01-01 00:00,100\n1970-01-01 01:00,900\n").expect("written");
        let grid = Grid::find(&path.display().to_string()).expect("a grid");
        let machine = FakeMachine::new();
        let ledger = Ledger::new(machine.meter(MeterOptions::default()), grid, 1.0);
        let answer = |seconds: f64| {
            let begin = ledger.begin();
            machine.pass(seconds, 1.0, 0.0);
            ledger.add(1);
            let found = ledger.share(&begin, 1);
            found.co2e_g / (found.joules / 3.6e6)
        };
        assert!((answer(60.0) - 100.0).abs() < 1e-6);
        machine.pass(3600.0, 0.0, 0.0);
        assert!((answer(60.0) - 900.0).abs() < 1e-6);
        // The clock is set back by an hour, and to a day of which the file knows nothing.
        machine.set_wall_clock_by(-3600.0);
        assert!((answer(60.0) - 100.0).abs() < 1e-6);
        machine.set_wall_clock_by(86_400.0);
        let begin = ledger.begin();
        machine.pass(60.0, 1.0, 0.0);
        ledger.add(1);
        let notes = ledger.share(&begin, 1).notes;
        assert!(
            notes.iter().any(|note| note.contains("no row for the hours of 100 %")),
            "{notes:?}"
        );
        let total = ledger.total();
        let mean = total.co2e_g / (total.joules / 3.6e6);
        assert!(100.0 < mean && mean < 900.0, "{mean}");
        assert!(total.kwh.min < total.joules / 3.6e6 && total.joules / 3.6e6 < total.kwh.max);
        assert!(total.kg_co2eq.min < total.co2e_g / 1e3 && total.co2e_g / 1e3 < total.kg_co2eq.max);
    }

    #[test]
    fn short_answers_add_up_to_what_the_server_took_for_them() {
        // 25 answers of 18 ms with a rest of half a second before each.
        let machine = FakeMachine::new();
        let ledger = Ledger::new(machine.meter(MeterOptions::default()), Grid::world(), 1.0);
        machine.pass(4.0, 0.0, 4.0);
        let before = ledger.total().joules;
        let mut sum = [0.0; 3];
        for _ in 0..25 {
            machine.pass(0.5, 0.0, 4.0);
            let begin = ledger.begin();
            machine.pass(0.02, 4.0, 0.0);
            ledger.add(3);
            let found = ledger.share(&begin, 3);
            for (sum, part) in sum.iter_mut().zip([found.low, found.joules, found.high]) {
                *sum += part;
            }
        }
        let all = ledger.total().joules - before;
        assert!(sum[1] > 0.5 * all && sum[1] <= all, "{sum:?} of {all}");
        assert!(sum[0] > 0.0 && sum[0] < sum[1] && sum[1] < sum[2], "{sum:?}");
    }
}
