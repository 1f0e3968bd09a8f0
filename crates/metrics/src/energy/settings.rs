//! What is kept per machine: two readings of a wall plug, and the country whose electricity it uses.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::estimate::Calibration;
use super::files::SensorFiles;
use super::grid::Grid;
use super::machine::Machine;
use super::units::Watt;
use crate::{Error, Result};

/// The name of the file in the user's configuration directory.
pub const SETTINGS_FILE: &str = "energy.json";

/// A line per machine.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// No machine on one plug draws more.
const MAX_PLUG_WATTS: f64 = 20_000.0;

impl Calibration {
    /// From two readings in watts.
    ///
    /// # Errors
    ///
    /// [`Error::BadCalibration`] where one is not above 0 or too large, or where idle is not below full.
    pub fn new(idle: f64, full: f64) -> Result<Self> {
        let bad = |detail: String| Err(Error::BadCalibration { detail });
        for (name, watts) in [("idle", idle), ("full", full)] {
            if !(watts > 0.0 && watts <= MAX_PLUG_WATTS) {
                return bad(format!(
                    "{name} power {watts} W: expected above 0 and at most {MAX_PLUG_WATTS} W"
                ));
            }
        }
        if idle >= full {
            return bad(format!(
                "idle power {idle} W is not below full power {full} W; read the plug at rest and with all processors at work"
            ));
        }
        Ok(Self {
            idle: Watt(idle),
            full: Watt(full),
        })
    }
}

/// The settings of one machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MachineSettings {
    /// The machine in words, for whoever reads the file.
    pub machine: String,
    /// Two readings of a wall plug.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// The country whose electricity it uses, as [`Grid::find`] takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// Power usage effectiveness of the building.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pue: Option<f64>,
}

/// The settings of all machines that share a home directory.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    machines: BTreeMap<String, MachineSettings>,
}

impl Settings {
    /// Reads the file; settings without any where there is no file.
    ///
    /// # Errors
    ///
    /// [`Error::BadSettings`] for a file that is not settings; the store's. Values are checked where they are used
    /// ([`MachineSettings::check`]), because those of another machine, or one that is to be forgotten, do no harm.
    pub fn read(path: &Path) -> Result<Self> {
        if !taal_store::is_file(path) {
            return Ok(Self::default());
        }
        let bad = |detail: String| Error::BadSettings {
            path: path.to_path_buf(),
            detail,
        };
        let text = taal_store::read_text(path, MAX_FILE_BYTES)?;
        serde_json::from_str(&text).map_err(|error| bad(error.to_string()))
    }

    /// Writes the file, atomically.
    ///
    /// # Errors
    ///
    /// The store's.
    pub fn write(&self, path: &Path) -> Result<()> {
        let folders = taal_store::NewFolders::above(path)?;
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| taal_store::Error::io("write settings to", path, error.into()))?;
        taal_store::write_atomic(path, (text + "\n").as_bytes())?;
        folders.keep();
        Ok(())
    }

    /// The settings of a machine.
    pub fn of(&self, key: &str) -> MachineSettings {
        self.machines.get(key).cloned().unwrap_or_default()
    }

    /// Replaces the settings of a machine.
    pub fn set(&mut self, key: &str, settings: MachineSettings) {
        self.machines.insert(key.to_owned(), settings);
    }

    /// Forgets a machine; says whether it was known.
    pub fn forget(&mut self, key: &str) -> bool {
        self.machines.remove(key).is_some()
    }
}

impl MachineSettings {
    /// The electricity: the country's, or the world's average.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownCountry`].
    pub fn grid(&self) -> Result<Grid> {
        self.country.as_deref().map_or_else(|| Ok(Grid::world()), Grid::find)
    }

    /// The readings of a wall plug, if there are any.
    ///
    /// # Errors
    ///
    /// [`Error::BadCalibration`] where the file was changed to values of no machine.
    pub fn checked_calibration(&self) -> Result<Option<Calibration>> {
        let checked = |Calibration { idle, full }: Calibration| Calibration::new(idle.0, full.0);
        self.calibration.map(checked).transpose()
    }

    /// Refuses values that make no sense.
    ///
    /// # Errors
    ///
    /// [`Error::BadCalibration`], [`Error::BadQuantity`], and those of [`Grid::find`].
    pub fn check(&self) -> Result<()> {
        self.checked_calibration()?;
        self.pue.map(check_pue).transpose()?;
        self.grid().map(drop)
    }
}

/// Refuses a power usage effectiveness below 1 or above 10.
///
/// # Errors
///
/// [`Error::BadQuantity`].
pub fn check_pue(pue: f64) -> Result<f64> {
    match (1.0..=10.0).contains(&pue) {
        true => Ok(pue),
        false => Err(Error::BadQuantity {
            text: pue.to_string(),
            detail: "expected a power usage effectiveness from 1 to 10".to_owned(),
        }),
    }
}

/// A name for this machine that says nothing about it to others.
pub fn machine_key(files: &dyn SensorFiles, machine: &Machine) -> String {
    let host = files.read("proc/sys/kernel/hostname").unwrap_or_default();
    let facts = format!("{}|{}|{}", host.trim(), machine.cpu_model, machine.n_cpus);
    taal_store::blake3_hex(facts.as_bytes()).chars().take(16).collect()
}
