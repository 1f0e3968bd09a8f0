//! The energy of an answer, as a server says it.

use serde::{Deserialize, Serialize};

use super::figure::{Energy, Sources};
use super::grid::Grid;

/// Two bounds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct MinMax {
    /// The lower one.
    pub min: f64,
    /// The upper one.
    pub max: f64,
}

/// Electricity and greenhouse gases of an answer: `usage.carbon`, in the keys that European providers use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct UsageCarbon {
    /// Kilowatt-hours.
    #[serde(rename = "kWh")]
    pub kwh: MinMax,
    /// Kilograms of CO2 equivalent of that electricity, PUE included.
    #[serde(rename = "kgCO2eq")]
    pub kg_co2eq: MinMax,
}

/// What an answer took: `joules`, `source` and `carbon` of `usage`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UsageEnergy {
    /// Joules.
    pub joules: f64,
    /// Where the figure comes from, such as `rapl+dram` or `estimated`.
    pub source: String,
    /// Its bounds as electricity and greenhouse gases.
    pub carbon: UsageCarbon,
}

impl UsageEnergy {
    /// From energy with its bounds and sources, on some electricity, which by the hour is that of its mean. PUE is the power of the building
    /// over that of its computers.
    ///
    /// ```
    /// use taal_metrics::energy::{Energy, Grid, Joule, Sources, UsageEnergy};
    /// let energy = Energy { joules: Joule(36.0), low: Joule(18.0), high: Joule(72.0) };
    /// let usage = UsageEnergy::of(energy, &Sources::default(), &Grid::find("NL")?, 1.0);
    /// let json = serde_json::to_value(&usage).expect("JSON");
    /// assert_eq!(json["carbon"]["kWh"]["max"], 2e-5);
    /// assert!(json["carbon"]["kgCO2eq"]["min"].as_f64() > Some(0.0));
    /// # Ok::<(), taal_metrics::Error>(())
    /// ```
    pub fn of(energy: Energy, sources: &Sources, grid: &Grid, pue: f64) -> Self {
        let kwh = |joules: super::Joule| joules.watt_hours().kwh();
        let kg = |joules: super::Joule| grid.emissions(joules, pue).0 / 1e3;
        Self {
            joules: energy.joules.0,
            source: sources.to_string(),
            carbon: UsageCarbon {
                kwh: MinMax {
                    min: kwh(energy.low),
                    max: kwh(energy.high),
                },
                kg_co2eq: MinMax {
                    min: kg(energy.low),
                    max: kg(energy.high),
                },
            },
        }
    }
}
