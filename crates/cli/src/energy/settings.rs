//! `taal energy calibrate`, and what is kept for this machine.

use std::path::{Path, PathBuf};

use taal_metrics::energy::{
    Calibration, EnergyFigures, Grid, KernelFiles, Machine, MachineSettings, MeterOptions, PowerModel, SETTINGS_FILE,
    Settings, check_pue, machine_key,
};
use taal_store::layout::DAMAGED;

use crate::arguments::{EnergyCalibrateArguments, GridArguments};
use crate::failure::Failure;
use crate::terminal;

/// What advises the owner of a setting that cannot be used.
const WAY_OUT: &str = "`taal energy calibrate --grid COUNTRY` replaces it, and `taal energy calibrate --forget` removes what is kept \
                       for this machine";

/// The machine, and where its settings are kept. They are read where they are used, so one that cannot be read can be replaced.
pub struct Place {
    pub files: KernelFiles,
    pub machine: Machine,
    key: String,
    path: Option<PathBuf>,
}

/// What is metered with.
pub struct Kept {
    pub options: MeterOptions,
    pub grid: Grid,
    pub pue: f64,
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
    /// Finds the machine. `TAAL_SYS` names the directory that takes the place of `/sys`, as in a container with the host's.
    pub fn find() -> Self {
        let sys = std::env::var_os("TAAL_SYS").filter(|value| !value.is_empty());
        let files = sys.map_or_else(KernelFiles::default, |sys| KernelFiles::with_sys(sys.as_ref()));
        let machine = Machine::find(&files);
        Self {
            key: machine_key(&files, &machine),
            files,
            machine,
            path: config_dir().map(|dir| dir.join(SETTINGS_FILE)),
        }
    }

    /// The settings of all machines.
    fn all(&self) -> Result<Settings, Failure> {
        match &self.path {
            Some(path) => Ok(Settings::read(path)?),
            None => Ok(Settings::default()),
        }
    }

    /// The settings of this machine.
    fn settings(&self) -> Result<MachineSettings, Failure> {
        Ok(self.all()?.of(&self.key))
    }

    /// What is kept for this machine. A setting that cannot be used costs a note, and the others hold.
    pub fn kept(&self, note: impl Fn(&str)) -> Kept {
        let skipped = |failure: Failure, what: &str| note(&format!("note: {}; {what}", failure.words()));
        let settings = self.settings().unwrap_or_else(|failure| {
            skipped(failure, "energy is metered without the settings of this machine");
            MachineSettings::default()
        });
        let calibration = settings.checked_calibration().unwrap_or_else(|error| {
            skipped(error.into(), "the calibration is not used");
            None
        });
        let grid = settings.grid().unwrap_or_else(|error| {
            skipped(
                error.into(),
                "greenhouse gases are those of the world's average electricity",
            );
            Grid::world()
        });
        let pue = settings.pue.map(check_pue).transpose().unwrap_or_else(|error| {
            skipped(error.into(), "PUE is 1");
            None
        });
        Kept {
            options: MeterOptions {
                calibration,
                ..MeterOptions::default()
            },
            grid,
            pue: pue.unwrap_or(1.0),
        }
    }

    /// What was asked for on the command line, and what is kept for the rest. What is kept and cannot be used is an error, unless another
    /// option takes its place.
    pub fn asked(&self, arguments: &GridArguments) -> Result<Kept, Failure> {
        let is_asked = arguments.grid.is_some() || arguments.pue.is_some();
        let settings = match self.settings() {
            Err(failure) if is_asked => {
                terminal::message(&format!(
                    "note: {}; only the options that were given hold",
                    failure.words()
                ));
                MachineSettings::default()
            }
            settings => settings?,
        };
        let grid = match &arguments.grid {
            Some(country) => Grid::find(country)?,
            None => settings
                .grid()
                .map_err(|error| Failure::from(error).with_hint(format!("--grid is used instead; {WAY_OUT}")))?,
        };
        Ok(Kept {
            options: MeterOptions {
                calibration: settings
                    .checked_calibration()
                    .map_err(|error| Failure::from(error).with_hint(WAY_OUT))?,
                ..MeterOptions::default()
            },
            grid,
            pue: check_pue(arguments.pue.or(settings.pue).unwrap_or(1.0))?,
        })
    }

    /// What stands in where no sensor measures.
    pub fn model(&self, options: &MeterOptions) -> PowerModel {
        match &options.calibration {
            Some(calibration) => PowerModel::calibrated(calibration),
            None => PowerModel::of(&self.machine),
        }
    }

    fn save(&self, all: &Settings) -> Result<(), Failure> {
        let Some(path) = &self.path else {
            let reason = "there is no directory for settings: set HOME or XDG_CONFIG_HOME";
            return Err(Failure::from(anyhow::anyhow!(reason)));
        };
        Ok(all.write(path)?)
    }

    /// Removes what is kept for this machine. A file that is no settings is set aside: it may have those of other machines.
    fn forget(&self) -> Result<(), Failure> {
        let (Some(path), false) = (&self.path, self.all().is_ok()) else {
            let mut all = self.all()?;
            return match all.forget(&self.key) {
                true => self.save(&all),
                false => Ok(()),
            };
        };
        let aside = taal_store::set_aside(path, DAMAGED)?;
        terminal::message(&format!(
            "note: {} is not the settings of taal energy; it is now {}",
            path.display(),
            aside.display()
        ));
        Ok(())
    }
}

/// Changes what is kept for this machine, and shows it.
pub fn calibrate(arguments: &EnergyCalibrateArguments) -> Result<(), Failure> {
    let place = Place::find();
    if arguments.forget {
        place.forget()?;
        return show(&place, *arguments.json);
    }
    if arguments.idle.is_some() || arguments.grid.grid.is_some() || arguments.grid.pue.is_some() {
        let mut all = place.all()?;
        let mut settings = all.of(&place.key);
        if let (Some(idle), Some(full)) = (arguments.idle, arguments.full) {
            settings.calibration = Some(Calibration::new(idle, full)?);
        }
        if let Some(country) = &arguments.grid.grid {
            Grid::find(country)?;
            // A file is found again from any directory.
            let file = taal_store::resolve(Path::new(country)).ok();
            let file = file.filter(|path| taal_store::is_file(path));
            settings.country = Some(file.map_or(country.clone(), |path| path.display().to_string()));
        }
        if let Some(pue) = arguments.grid.pue {
            settings.pue = Some(check_pue(pue)?);
        }
        settings.machine = place.machine.words();
        all.set(&place.key, settings);
        place.save(&all)?;
    }
    show(&place, *arguments.json)
}

fn show(place: &Place, is_json: bool) -> Result<(), Failure> {
    let nothing_given = GridArguments { grid: None, pue: None };
    let Kept { options, grid, pue } = place.asked(&nothing_given)?;
    let model = place.model(&options);
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
