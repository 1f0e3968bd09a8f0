//! Energy that adds up over the parts of a run, and the figures of a report that follow from it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::figure::{Energy, Source, Sources};
use super::grid::{Embodied, Footprint, Grid};
use super::machine::Machine;
use super::meter::Reading;
use super::units::{GramCo2e, Joule};

/// Threads of the server of which a virtual machine is a part.
const THREADS_PER_SERVER: f64 = 96.0;

const SECONDS_PER_HOUR: f64 = 3600.0;

impl Machine {
    /// The greenhouse gases of making this machine, per hour of work: a guess from what it is, without accelerators.
    pub fn embodied_per_hour(&self) -> GramCo2e {
        match (self.is_virtual, self.has_battery) {
            (true, _) => Embodied::SERVER.per_hour() * (self.n_cpus as f64 / THREADS_PER_SERVER),
            (false, true) => Embodied::LAPTOP.per_hour(),
            (false, false) => Embodied::DESKTOP.per_hour(),
        }
    }
}

/// What came before the work itself, such as reading the data of a training; the parts of a resumed run add up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Preparation {
    /// Its energy.
    pub energy: Energy,
    /// Its seconds.
    pub seconds: f64,
}

impl Preparation {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// What a piece of work took so far; the parts of a resumed run add up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EnergyTotal {
    /// All of it.
    pub energy: Energy,
    /// The part that came before the work itself.
    #[serde(skip_serializing_if = "Preparation::is_none")]
    pub preparation: Preparation,
    /// The part that the machines take at rest.
    pub idle: Energy,
    /// The part of the processors, or of what measures the whole machine at once.
    pub cpu: Joule,
    /// The part of the memory.
    pub memory: Joule,
    /// The part of the GPUs.
    pub gpu: Joule,
    /// Seconds metered.
    pub seconds: f64,
    /// Our CPU seconds.
    pub cpu_seconds: f64,
    /// Greenhouse gases of making the machines, for the time that was used.
    pub embodied: GramCo2e,
    /// Energy by hours since 1970 in UTC.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub by_hour: BTreeMap<i64, Joule>,
    /// Where the figures come from.
    pub sources: Sources,
    /// What they miss.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub notes: BTreeSet<String>,
}

impl EnergyTotal {
    /// From a reading on a machine.
    pub fn of(reading: &Reading, machine: &Machine) -> Self {
        let accelerators = Embodied::ACCELERATOR.per_hour() * reading.n_gpus as f64;
        let hours = reading.shared_seconds / SECONDS_PER_HOUR;
        Self {
            energy: reading.total(),
            preparation: Preparation::default(),
            idle: reading.idle,
            cpu: (reading.cpu + reading.whole).joules,
            memory: reading.memory.joules,
            gpu: reading.gpu.joules,
            seconds: reading.seconds,
            cpu_seconds: reading.cpu_seconds,
            embodied: machine.embodied_per_hour() * hours + accelerators * (reading.seconds / SECONDS_PER_HOUR),
            by_hour: reading.by_hour.clone(),
            sources: reading.sources.clone(),
            notes: reading.notes.sentences().into_iter().collect(),
        }
    }

    /// Adds another part.
    pub fn add(&mut self, other: &Self) {
        self.energy += other.energy;
        self.preparation.energy += other.preparation.energy;
        self.preparation.seconds += other.preparation.seconds;
        self.idle += other.idle;
        self.cpu += other.cpu;
        self.memory += other.memory;
        self.gpu += other.gpu;
        self.seconds += other.seconds;
        self.cpu_seconds += other.cpu_seconds;
        self.embodied += other.embodied;
        for (hour, joules) in &other.by_hour {
            *self.by_hour.entry(*hour).or_default() += *joules;
        }
        self.sources = self.sources.iter().chain(other.sources.iter()).collect();
        self.notes.extend(other.notes.iter().cloned());
    }

    /// Counts all energy so far as preparation.
    #[must_use]
    pub fn prepared(self) -> Self {
        Self {
            preparation: Preparation {
                energy: self.energy,
                seconds: self.seconds,
            },
            ..self
        }
    }

    /// Raises the energy to what an earlier report of the same run says: what was used after its last checkpoint.
    pub fn raise_to(&mut self, reported: &EnergyFigures) {
        if reported.joules > self.energy.joules.0 {
            // Which part it was is not in a report.
            self.cpu += Joule(reported.joules) - self.energy.joules;
            self.energy = Energy {
                joules: Joule(reported.joules),
                low: Joule(reported.low),
                high: Joule(reported.high),
            };
            let known = reported.preparation.unwrap_or_default();
            if known.joules > self.preparation.energy.joules.0 {
                self.preparation = Preparation {
                    energy: Energy {
                        joules: Joule(known.joules),
                        low: Joule(known.low),
                        high: Joule(known.high),
                    },
                    seconds: known.seconds,
                };
            }
        }
    }

    /// The figures with the greenhouse gases of the electricity; `tokens` were read or written with the energy after the preparation.
    pub fn figures(&self, tokens: Option<u64>, grid: &Grid, pue: f64) -> EnergyFigures {
        let (grid, note) = grid.over(&self.by_hour);
        let dynamic = self.energy.since(self.idle).joules;
        let footprint = Footprint::new(
            dynamic.watt_hours(),
            self.idle.joules.watt_hours(),
            self.embodied,
            &grid,
            pue,
        );
        let joules = self.energy.joules.0;
        let preparation = &self.preparation;
        let of_tokens = joules - preparation.energy.joules.0;
        EnergyFigures {
            joules,
            low: self.energy.low.0,
            high: self.energy.high.0,
            source: self.sources.to_string(),
            per_token: tokens
                .filter(|tokens| *tokens > 0)
                .map(|tokens| of_tokens / tokens as f64),
            preparation: (!preparation.is_none()).then_some(PreparationFigures {
                joules: preparation.energy.joules.0,
                low: preparation.energy.low.0,
                high: preparation.energy.high.0,
                seconds: preparation.seconds,
            }),
            co2e_g: grid.emissions(self.energy.joules, pue).0,
            co2e_dynamic_g: footprint.dynamic.0,
            co2e_idle_g: footprint.idle.0,
            co2e_embodied_g: footprint.embodied.0,
            grid: grid.code,
            g_per_kwh: grid.g_per_kwh,
            year: grid.year,
            pue,
            notes: self.notes.iter().cloned().chain(note).collect(),
        }
    }
}

/// Energy in a report: `energy` in `report.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EnergyFigures {
    /// Joules.
    pub joules: f64,
    /// Their lower bound.
    pub low: f64,
    /// Their upper bound.
    pub high: f64,
    /// Where they come from, such as `rapl+dram` or `estimated`.
    pub source: String,
    /// Joules per token, without the preparation.
    pub per_token: Option<f64>,
    /// The part that came before the work itself: of a training, all before its first step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preparation: Option<PreparationFigures>,
    /// Grams of CO2 equivalent of this energy, PUE included.
    pub co2e_g: f64,
    /// Of them, beyond the machine at rest.
    pub co2e_dynamic_g: f64,
    /// Of them, the machine at rest.
    pub co2e_idle_g: f64,
    /// Grams of CO2 equivalent of making the machine, which are not in `co2e_g`.
    pub co2e_embodied_g: f64,
    /// The electricity: ISO 3166-1's three letters, `WORLD`, or `custom`.
    pub grid: String,
    /// Its grams of CO2 equivalent per kilowatt-hour.
    pub g_per_kwh: f64,
    /// The year of that figure.
    pub year: Option<u16>,
    /// Power usage effectiveness.
    pub pue: f64,
    /// What the figures miss.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// The part of energy figures that came before the work itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PreparationFigures {
    /// Joules.
    pub joules: f64,
    /// Their lower bound.
    pub low: f64,
    /// Their upper bound.
    pub high: f64,
    /// Seconds.
    pub seconds: f64,
}

impl Sources {
    fn iter(&self) -> impl Iterator<Item = Source> + '_ {
        self.0.iter().copied()
    }
}
