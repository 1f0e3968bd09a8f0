//! `taal energy calibrate`, and what is kept for this machine.

use std::path::{Path, PathBuf};

use taal_metrics::energy::{
    Calibration, EnergyFigures, Grid, KernelFiles, Machine, MachineSettings, MeterOptions, PowerModel, SETTINGS_FILE,
    Settings, check_pue, machine_key,
};

use crate::arguments::{EnergyCalibrateArguments, GridArguments};
use crate::failure::Failure;
use crate::terminal;

/// The machine, its settings, and where they are kept.
pub struct Place {
    pub files: KernelFiles,
    pub machine: Machine,
    key: String,
    path: Option<PathBuf>,
    all: Settings,
}

/// The directory of the user's configuration, by the rules of the system.
fn config_dir() -> Option<PathBuf> {
    let of_variable = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let base = if cfg!(windows) {
        of_variable("APPDATA")
    } else {
        of_variable("XDG_CONFIG_HOME").or_else(|| Some(of_variable("HOME")?.join(".config")))
    };
    Some(base?.join("taal"))
}

impl Place {
    /// Reads what is kept for this machine. `TAAL_SYS` names the directory that takes the place of `/sys`, as in a container with the host's.
    pub fn find() -> Result<Self, Failure> {
        let sys = std::env::var_os("TAAL_SYS").filter(|value| !value.is_empty());
        let files = sys.map_or_else(KernelFiles::default, |sys| KernelFiles::with_sys(sys.as_ref()));
        let machine = Machine::find(&files);
        let path = config_dir().map(|dir| dir.join(SETTINGS_FILE));
        let all = match &path {
            Some(path) => Settings::read(path)?,
            None => Settings::default(),
        };
        Ok(Self {
            key: machine_key(&files, &machine),
            files,
            machine,
            path,
            all,
        })
    }

    /// The settings of this machine.
    pub fn settings(&self) -> MachineSettings {
        self.all.of(&self.key)
    }

    /// The options of a meter on this machine.
    pub fn options(&self) -> MeterOptions {
        MeterOptions {
            calibration: self.settings().calibration,
            ..MeterOptions::default()
        }
    }

    /// The electricity and PUE that were asked for, or this machine's.
    pub fn electricity(&self, arguments: &GridArguments) -> Result<(Grid, f64), Failure> {
        let settings = self.settings();
        let grid = match &arguments.grid {
            Some(country) => Grid::find(country)?,
            None => settings.grid()?,
        };
        let pue = check_pue(arguments.pue.or(settings.pue).unwrap_or(1.0))?;
        Ok((grid, pue))
    }

    fn model(&self) -> PowerModel {
        match self.settings().calibration {
            Some(calibration) => PowerModel::calibrated(&calibration),
            None => PowerModel::of(&self.machine),
        }
    }

    fn save(&self) -> Result<(), Failure> {
        let Some(path) = &self.path else {
            let reason = "there is no directory for settings: set HOME or XDG_CONFIG_HOME";
            return Err(Failure::from(anyhow::anyhow!(reason)));
        };
        Ok(self.all.write(path)?)
    }
}

/// Changes what is kept for this machine, and shows it.
pub fn calibrate(arguments: &EnergyCalibrateArguments) -> Result<(), Failure> {
    let mut place = Place::find()?;
    let mut settings = place.settings();
    let is_changed = arguments.idle.is_some() || arguments.grid.grid.is_some() || arguments.grid.pue.is_some();
    if let (Some(idle), Some(full)) = (arguments.idle, arguments.full) {
        settings.calibration = Some(Calibration::new(idle, full)?);
    }
    if let Some(country) = &arguments.grid.grid {
        // A file is found again from any directory.
        let file = taal_store::resolve(Path::new(country)).ok();
        let file = file.filter(|path| taal_store::is_file(path));
        settings.country = Some(file.map_or(country.clone(), |path| path.display().to_string()));
    }
    settings.pue = arguments.grid.pue.or(settings.pue);
    if arguments.forget && place.all.forget(&place.key) {
        place.save()?;
    } else if is_changed {
        settings.check()?;
        settings.machine = place.machine.words();
        place.all.set(&place.key, settings);
        place.save()?;
    }
    show(&place, *arguments.json)
}

fn show(place: &Place, is_json: bool) -> Result<(), Failure> {
    let settings = place.settings();
    let (grid, pue) = (settings.grid()?, settings.pue.unwrap_or(1.0));
    let model = place.model();
    let (idle, full) = (model.at_rest(), model.full());
    if is_json {
        let figures = EnergyFigures {
            grid: grid.code.clone(),
            g_per_kwh: grid.g_per_kwh,
            year: grid.year,
            pue,
            ..EnergyFigures::default()
        };
        return Ok(terminal::print_json(&serde_json::json!({
            "machine": place.machine,
            "source": model.source(),
            "idle_w": idle,
            "full_w": full,
            "grid": figures.grid,
            "g_per_kwh": figures.g_per_kwh,
            "year": figures.year,
            "pue": figures.pue,
        }))?);
    }
    let watts = |power: taal_metrics::energy::Power| format!("{} ({} to {})", power.watts, power.low, power.high);
    let mut rows = vec![
        ("machine", place.machine.words()),
        (
            "without sensors",
            format!("{}: {}", model.source().name(), model.basis()),
        ),
        ("at rest", watts(idle)),
        ("at full load", watts(full)),
        ("electricity", format!("{}, PUE {pue}", grid.words())),
    ];
    if let Some(path) = &place.path {
        rows.push(("kept in", path.display().to_string()));
    }
    Ok(terminal::print(&terminal::table(&rows))?)
}
