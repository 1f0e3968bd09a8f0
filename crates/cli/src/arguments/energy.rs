//! Energy: metering a program, estimating a training, calibrating a machine.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{JsonArgument, number, positive};

/// `taal energy`
#[derive(Debug, Args)]
#[command(
    disable_help_subcommand = true,
    after_help = "Example:\n  taal energy watch --grid NL -- make\n  taal energy estimate --preset gpt3"
)]
pub struct EnergyArguments {
    /// The verb.
    #[command(subcommand)]
    pub command: EnergyCommand,
}

/// `taal energy ...`
#[derive(Debug, Subcommand)]
pub enum EnergyCommand {
    /// Run a program and report its energy on standard error
    Watch(EnergyWatchArguments),
    /// Estimate a training: hours, energy, CO2e; published trainings are presets
    Estimate(EnergyEstimateArguments),
    /// Show or change what is kept for this machine: a wall plug's readings, country, PUE
    Calibrate(EnergyCalibrateArguments),
    /// Run the meter on simulated sensors with faults
    Selftest(EnergySelftestArguments),
}

/// The electricity.
#[derive(Debug, Clone, Args)]
pub struct GridArguments {
    /// Country of the electricity (NL, NLD, Netherlands), world, grams of CO2e per kWh, or a .csv file by the hour
    /// [default: this machine's from `taal energy calibrate`, or world]
    #[arg(long, value_name = "COUNTRY")]
    pub grid: Option<String>,
    /// Power usage effectiveness: the power of the building over that of its computers
    /// [default: this machine's, or 1]
    #[arg(long, value_name = "PUE", value_parser = number)]
    pub pue: Option<f64>,
}

/// `taal energy watch`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  taal energy watch --grid NL --csv emissions.csv -- python train.py")]
pub struct EnergyWatchArguments {
    #[command(flatten)]
    pub grid: GridArguments,
    /// Write the figures as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Add a row to a table in the columns of codecarbon's emissions.csv
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Read the counter of the whole platform (psys) instead of those of processors and memory
    #[arg(long)]
    pub platform: bool,
    /// The program and its arguments
    #[arg(
        value_name = "COMMAND",
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required = true
    )]
    pub command: Vec<OsString>,
}

/// `taal energy estimate`
#[derive(Debug, Args)]
#[command(
    after_help = "Without --preset and --params, all presets are shown with their published figures.\n\n\
                  Example:\n  taal energy estimate --params 124M --tokens 2.3B --device a100 --grid NL"
)]
pub struct EnergyEstimateArguments {
    /// A published training: gpt3, t5, meena, gshard, switch, evolved or bloom
    #[arg(long, value_name = "NAME", conflicts_with_all = ["params", "tokens", "device", "watts", "utilization"])]
    pub preset: Option<String>,
    /// Parameters of the model, as in 124M
    #[arg(long, value_name = "N", value_parser = amount, requires = "tokens")]
    pub params: Option<f64>,
    /// Tokens to train on, as in 2.3B
    #[arg(long, value_name = "N", value_parser = amount, requires = "params")]
    pub tokens: Option<f64>,
    /// cpu (this machine), p100, v100, v100-pcie, t4, a100, h100, h100-pcie, h200 or l4 [default: cpu]
    #[arg(long, value_name = "NAME", requires = "params")]
    pub device: Option<String>,
    /// Share of the device's peak that the training reaches [default: 0.4, between 0.2 and 0.6]
    #[arg(long, value_name = "SHARE", value_parser = positive, requires = "params")]
    pub utilization: Option<f64>,
    /// Mean power per device in watts [default: the device's design power]
    #[arg(long, value_name = "W", value_parser = positive, requires = "params")]
    pub watts: Option<f64>,
    #[command(flatten)]
    pub grid: GridArguments,
    #[command(flatten)]
    pub json: JsonArgument,
}

/// `taal energy calibrate`
#[derive(Debug, Args)]
#[command(
    after_help = "Read a wall plug with the machine at rest, and with all processors at work.\n\n\
                  Example:\n  taal energy calibrate --idle 9 --full 41 --grid NL"
)]
pub struct EnergyCalibrateArguments {
    /// The plug's reading at rest, in watts
    #[arg(long, value_name = "W", value_parser = number, requires = "full")]
    pub idle: Option<f64>,
    /// The plug's reading with all processors at work, in watts
    #[arg(long, value_name = "W", value_parser = number, requires = "idle")]
    pub full: Option<f64>,
    #[command(flatten)]
    pub grid: GridArguments,
    /// Forget what is kept for this machine
    #[arg(long, conflicts_with_all = ["idle", "full", "grid", "pue"])]
    pub forget: bool,
    #[command(flatten)]
    pub json: JsonArgument,
}

/// `taal energy selftest`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  taal energy selftest")]
pub struct EnergySelftestArguments {
    #[command(flatten)]
    pub json: JsonArgument,
}

/// A number above 0, with k, M, B (or G) or T for thousands, millions, billions, trillions.
fn amount(text: &str) -> Result<f64, String> {
    let factors = [("k", 1e3), ("M", 1e6), ("B", 1e9), ("G", 1e9), ("T", 1e12)];
    let found = factors
        .into_iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)));
    let (digits, factor) = found.unwrap_or((text, 1.0));
    let number = digits.trim().parse::<f64>().ok().map(|number| number * factor);
    let number = number.filter(|number| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| {
        let point = match text.contains(',') {
            true => format!("; decimals take a point: {}", text.replacen(',', ".", 1)),
            false => String::new(),
        };
        format!("expected a number above 0, as in 124M or 2.3B{point}")
    })
}
