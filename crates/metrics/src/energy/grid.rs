//! Greenhouse gases of electricity: grams of CO2 equivalent per kilowatt-hour by country and year, or by what it is made of.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::hourly::HourlyGrid;

use super::total::EnergyFigures;
use super::units::{GramCo2e, Joule, WattHour};
use crate::{Error, Result};

/// `iso3,iso2,country,g_co2e_per_kwh,year`; see data/README.md.
const TABLE: &str = include_str!("../../data/grid.csv");

/// The world's average of 2018 (IEA, Global Energy & CO2 Status Report 2019), for countries without a figure of their own.
const WORLD: (f64, u16) = (475.0, 2018);

/// No fuel emits more grams per kilowatt-hour.
pub(super) const MAX_G_PER_KWH: f64 = 2000.0;

/// What the name of a file by the hour ends in.
const FILE_ENDING: &str = ".csv";

/// Electricity with its greenhouse gases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Grid {
    /// ISO 3166-1's three letters, `WORLD`, or `custom`.
    pub code: String,
    /// The country's name.
    pub name: String,
    /// Grams of CO2 equivalent per kilowatt-hour.
    pub g_per_kwh: f64,
    /// The year of the figure, which is some years ago; none for a figure that was given.
    pub year: Option<u16>,
    /// The figures by the hour, where a file has them; `g_per_kwh` is then their mean.
    #[serde(skip)]
    pub hourly: Option<Arc<HourlyGrid>>,
}

impl Default for Grid {
    fn default() -> Self {
        Self::world()
    }
}

impl Grid {
    /// The world's average.
    pub fn world() -> Self {
        Self {
            code: "WORLD".to_owned(),
            name: "world average".to_owned(),
            g_per_kwh: WORLD.0,
            year: Some(WORLD.1),
            hourly: None,
        }
    }

    /// Electricity with a known figure.
    ///
    /// # Errors
    ///
    /// [`Error::BadQuantity`] for a figure below 0 or above 2,000 g, more than any fuel emits.
    pub fn custom(g_per_kwh: f64) -> Result<Self> {
        match (0.0..=MAX_G_PER_KWH).contains(&g_per_kwh) {
            true => Ok(Self {
                code: "custom".to_owned(),
                name: "as given".to_owned(),
                g_per_kwh,
                year: None,
                hourly: None,
            }),
            false => Err(Error::BadQuantity {
                text: g_per_kwh.to_string(),
                detail: "expected 0 to 2000 grams of CO2e per kWh".to_owned(),
            }),
        }
    }

    /// By ISO 3166-1's two or three letters, the country's English name, `world`, a number of grams per kWh, or a `.csv` file by the hour as
    /// [`HourlyGrid::read`] takes it.
    ///
    /// A country that exists and has no figure gets the world's average under its own name.
    ///
    /// ```
    /// use taal_metrics::energy::Grid;
    /// assert_eq!(Grid::find("NL")?.g_per_kwh, 267.622);
    /// assert_eq!(Grid::find("netherlands")?, Grid::find("nld")?);
    /// assert!(Grid::find("Atlantis").is_err());
    /// # Ok::<(), taal_metrics::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::UnknownCountry`] for a country that does not exist; those of [`HourlyGrid::read`].
    pub fn find(country: &str) -> Result<Self> {
        let wanted = country.trim().to_lowercase();
        if wanted == "world" {
            return Ok(Self::world());
        }
        if let Ok(grams) = wanted.parse() {
            return Self::custom(grams);
        }
        if wanted.ends_with(FILE_ENDING) {
            return Self::of_file(Path::new(country.trim()));
        }
        let mut rows = TABLE.lines().skip(1).filter_map(Row::parse);
        let found = rows.find(|row| row.is_called(&wanted));
        found.map(|row| row.grid()).ok_or_else(|| Error::UnknownCountry {
            name: country.to_owned(),
            closest: closest(&wanted),
        })
    }

    /// Electricity by the hour, from a file.
    ///
    /// # Errors
    ///
    /// Those of [`HourlyGrid::read`].
    pub fn of_file(path: &Path) -> Result<Self> {
        let hourly = HourlyGrid::read(path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Ok(Self {
            code: "hourly".to_owned(),
            name: name.into_owned(),
            g_per_kwh: hourly.mean(),
            year: hourly.year(),
            hourly: Some(Arc::new(hourly)),
        })
    }

    /// This electricity with the figure that energy by the hour had, and what there is to say about it.
    pub fn over(&self, joules_by_hour: &BTreeMap<i64, Joule>) -> (Self, Option<String>) {
        let Some(hourly) = &self.hourly else {
            return (self.clone(), None);
        };
        let (g_per_kwh, missing) = hourly.weighted(joules_by_hour);
        let grid = Self {
            g_per_kwh,
            ..self.clone()
        };
        let note = (missing > 0.0).then(|| {
            format!(
                "{} has no row for the hours of {:.0} % of the energy; its mean stands in for them",
                self.name,
                100.0 * missing
            )
        });
        (grid, note)
    }

    /// The electricity that figures of a report were computed with.
    pub fn of_figures(figures: &EnergyFigures) -> Self {
        let known = Self::find(&figures.grid).ok();
        Self {
            name: known.map_or_else(|| figures.grid.clone(), |known| known.name),
            code: figures.grid.clone(),
            g_per_kwh: figures.g_per_kwh,
            year: figures.year,
            hourly: None,
        }
    }

    /// Whether the figure is the world's average.
    pub fn is_world_average(&self) -> bool {
        (self.g_per_kwh, self.year) == (WORLD.0, Some(WORLD.1))
    }

    /// The greenhouse gases of an amount of energy: `E * PUE * intensity`. PUE is the power of the whole building over that of its computers.
    pub fn emissions(&self, energy: Joule, pue: f64) -> GramCo2e {
        GramCo2e(energy.watt_hours().kwh() * pue * self.g_per_kwh)
    }

    /// The figure with its year, as `268 g/kWh, Netherlands 2023`.
    pub fn words(&self) -> String {
        let year = self.year.map_or(String::new(), |year| format!(" {year}"));
        format!("{:.0} g CO2e/kWh, {}{year}", self.g_per_kwh, self.name)
    }
}

struct Row<'a> {
    iso3: &'a str,
    iso2: &'a str,
    name: &'a str,
    figure: Option<(f64, u16)>,
}

impl<'a> Row<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split(',');
        let (iso3, iso2, name) = (fields.next()?, fields.next()?, fields.next()?);
        let (grams, year) = (fields.next()?, fields.next()?);
        Some(Self {
            iso3,
            iso2,
            name,
            figure: grams.parse().ok().zip(year.parse().ok()),
        })
    }

    fn is_called(&self, wanted: &str) -> bool {
        [self.iso3, self.iso2, self.name]
            .iter()
            .any(|it| it.to_lowercase() == wanted)
    }

    fn grid(&self) -> Grid {
        let world = || format!("{} (no figure; world average)", self.name);
        Grid {
            code: self.iso3.to_owned(),
            name: self.figure.map_or_else(world, |_| self.name.to_owned()),
            g_per_kwh: self.figure.unwrap_or(WORLD).0,
            year: Some(self.figure.unwrap_or(WORLD).1),
            hourly: None,
        }
    }
}

/// Countries whose names begin with the same three letters.
fn closest(wanted: &str) -> Vec<String> {
    let start: String = wanted.chars().take(3).collect();
    let rows = TABLE.lines().skip(1).filter_map(Row::parse);
    let similar = rows.filter(|row| row.name.to_lowercase().starts_with(&start) && !start.is_empty());
    similar
        .take(3)
        .map(|row| format!("{} ({})", row.name, row.iso3))
        .collect()
}

/// What electricity is made from, with its greenhouse gases in grams per kilowatt-hour (codecarbon's `carbon_intensity_per_source.json`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fuel {
    /// Coal.
    Coal,
    /// Oil.
    Petroleum,
    /// Natural gas.
    Gas,
    /// Heat from the ground.
    Geothermal,
    /// Water.
    Hydro,
    /// Nuclear fission.
    Nuclear,
    /// Sunlight.
    Solar,
    /// Wind.
    Wind,
}

impl Fuel {
    /// Grams of CO2 equivalent per kilowatt-hour.
    pub fn g_per_kwh(self) -> f64 {
        match self {
            Self::Coal => 995.0,
            Self::Petroleum => 816.0,
            Self::Gas => 743.0,
            Self::Geothermal => 38.0,
            Self::Hydro | Self::Wind => 26.0,
            Self::Nuclear => 29.0,
            Self::Solar => 48.0,
        }
    }
}

/// The greenhouse gases of a mix in grams per kilowatt-hour; shares are of the whole and are divided by their sum.
pub fn mix_g_per_kwh(shares: &[(Fuel, f64)]) -> f64 {
    let sum: f64 = shares.iter().map(|(_, share)| share).sum();
    let weighted: f64 = shares.iter().map(|(fuel, share)| fuel.g_per_kwh() * share).sum();
    weighted / sum
}

/// Greenhouse gases in the three lines of Luccioni et al. 2022 (BLOOM): the work, the machine at rest, and its making.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Footprint {
    /// Of the energy that the work took.
    pub dynamic: GramCo2e,
    /// Of the energy that the machine takes at rest in the same time.
    pub idle: GramCo2e,
    /// Of making the machine, for the part of its life that was used.
    pub embodied: GramCo2e,
}

impl Footprint {
    /// The three lines of amounts of energy and a part of a machine's life.
    pub fn new(dynamic: WattHour, idle: WattHour, embodied: GramCo2e, grid: &Grid, pue: f64) -> Self {
        Self {
            dynamic: grid.emissions(dynamic.joules(), pue),
            idle: grid.emissions(idle.joules(), pue),
            embodied,
        }
    }

    /// All three.
    pub fn total(&self) -> GramCo2e {
        self.dynamic + self.idle + self.embodied
    }
}

/// The greenhouse gases of making a machine, and how long it lasts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Embodied {
    /// Kilograms of CO2 equivalent.
    pub kg: f64,
    /// Years of use.
    pub years: f64,
    /// The share of those years in which it works.
    pub utilization: f64,
}

impl Embodied {
    /// A server without accelerators, as in Luccioni et al. 2022.
    pub const SERVER: Self = Self {
        kg: 2500.0,
        years: 6.0,
        utilization: 0.85,
    };
    /// One accelerator, as in Luccioni et al. 2022.
    pub const ACCELERATOR: Self = Self {
        kg: 150.0,
        ..Self::SERVER
    };
    /// A laptop: makers state 200 to 400 kg.
    pub const LAPTOP: Self = Self {
        kg: 300.0,
        years: 5.0,
        utilization: 0.25,
    };
    /// A desktop: makers state 250 to 600 kg.
    pub const DESKTOP: Self = Self {
        kg: 400.0,
        years: 6.0,
        utilization: 0.25,
    };

    /// The part of an hour of work.
    pub fn per_hour(&self) -> GramCo2e {
        GramCo2e(self.kg * 1e3 / (self.years * 365.25 * 24.0 * self.utilization))
    }
}
