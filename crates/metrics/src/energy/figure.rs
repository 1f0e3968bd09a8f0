//! An amount of energy as it is reported: a value with its bounds and where it comes from.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::{Add, AddAssign, Mul};

use serde::{Deserialize, Serialize};

use super::units::{Joule, Watt};

/// Energy with the bounds between which it lies.
///
/// The bounds of a sum are the sums of the bounds: what makes one interval's estimate too low makes the next one's too low as well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Energy {
    /// The best value.
    pub joules: Joule,
    /// The lower bound.
    pub low: Joule,
    /// The upper bound.
    pub high: Joule,
}

impl Energy {
    /// None.
    pub const ZERO: Self = Self {
        joules: Joule::ZERO,
        low: Joule::ZERO,
        high: Joule::ZERO,
    };

    /// A measured value that is wrong by at most a share of itself.
    pub fn measured(joules: Joule, relative_error: f64) -> Self {
        Self {
            joules,
            low: joules * (1.0 - relative_error),
            high: joules * (1.0 + relative_error),
        }
    }

    /// What was added since an earlier total, never below zero.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            joules: (self.joules - earlier.joules).max(Joule::ZERO),
            low: (self.low - earlier.low).max(Joule::ZERO),
            high: (self.high - earlier.high).max(Joule::ZERO),
        }
    }
}

impl Add for Energy {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            joules: self.joules + other.joules,
            low: self.low + other.low,
            high: self.high + other.high,
        }
    }
}

impl AddAssign for Energy {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Mul<f64> for Energy {
    type Output = Self;

    fn mul(self, factor: f64) -> Self {
        Self {
            joules: self.joules * factor,
            low: self.low * factor,
            high: self.high * factor,
        }
    }
}

/// Power with the bounds between which it lies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Power {
    /// The best value.
    pub watts: Watt,
    /// The lower bound.
    pub low: Watt,
    /// The upper bound.
    pub high: Watt,
}

impl Power {
    /// A value with its bounds, in watts.
    pub fn new(watts: f64, low: f64, high: f64) -> Self {
        Self {
            watts: Watt(watts),
            low: Watt(low),
            high: Watt(high),
        }
    }

    /// A part of it.
    pub(super) fn divided(self, parts: f64) -> Self {
        Self {
            watts: self.watts / parts,
            low: self.low / parts,
            high: self.high / parts,
        }
    }

    /// This power and another one.
    pub fn and(self, other: Self) -> Self {
        Self {
            watts: self.watts + other.watts,
            low: self.low + other.low,
            high: self.high + other.high,
        }
    }

    /// The energy of this power over a time in seconds.
    pub fn over(self, seconds: f64) -> Energy {
        Energy {
            joules: self.watts.over(seconds),
            low: self.low.over(seconds),
            high: self.high.over(seconds),
        }
    }
}

/// Where a figure comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A processor's energy counter (RAPL), through Linux powercap.
    Rapl,
    /// The memory's energy counter, through Linux powercap.
    Dram,
    /// The energy counter of the whole platform, through Linux powercap.
    Psys,
    /// The discharge of a battery, integrated.
    Battery,
    /// A GPU's energy counter, through NVML.
    NvmlCounter,
    /// A GPU's power, integrated, because it has no energy counter.
    NvmlIntegrated,
    /// The power between two readings of a wall plug, by the load of the processors.
    Calibrated,
    /// An estimate from the model of the processor, its load and the memory.
    Estimated,
}

impl Source {
    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rapl => "rapl",
            Self::Dram => "dram",
            Self::Psys => "psys",
            Self::Battery => "battery",
            Self::NvmlCounter => "nvml_counter",
            Self::NvmlIntegrated => "nvml_integrated",
            Self::Calibrated => "calibrated",
            Self::Estimated => "estimated",
        }
    }
}

/// The sources of a sum, written as `rapl+dram`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sources(pub(super) BTreeSet<Source>);

impl Sources {
    /// Adds one.
    pub fn insert(&mut self, source: Source) {
        self.0.insert(source);
    }

    /// Whether it is one of them.
    pub fn contains(&self, source: Source) -> bool {
        self.0.contains(&source)
    }

    /// Whether every part was measured by a sensor.
    pub fn are_all_measured(&self) -> bool {
        !self.contains(Source::Estimated) && !self.contains(Source::Calibrated)
    }
}

impl FromIterator<Source> for Sources {
    fn from_iter<I: IntoIterator<Item = Source>>(sources: I) -> Self {
        Self(sources.into_iter().collect())
    }
}

impl fmt::Display for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(|source| source.name()).collect();
        f.write_str(&names.join("+"))
    }
}
