//! codecarbon's formulas and its table, so that figures can be laid next to those of the most widely used meter.
//!
//! Formulas of codecarbon 3 (`external/hardware.py`, `external/ram.py`); the columns are those of its `emissions.csv`.

use super::grid::Grid;
use super::machine::Machine;
use super::total::EnergyTotal;
use super::units::{Joule, Watt};

/// Watts per thread of a processor that its table lacks.
const UNKNOWN_WATTS_PER_THREAD: f64 = 4.0;

/// Letters of a country's code.
const ISO_LETTERS: usize = 3;

/// The columns of `emissions.csv`, in order.
pub const CSV_COLUMNS: [&str; 38] = [
    "timestamp",
    "project_name",
    "run_id",
    "experiment_id",
    "duration",
    "emissions",
    "emissions_rate",
    "cpu_power",
    "gpu_power",
    "ram_power",
    "cpu_energy",
    "gpu_energy",
    "ram_energy",
    "energy_consumed",
    "water_consumed",
    "country_name",
    "country_iso_code",
    "region",
    "cloud_provider",
    "cloud_region",
    "os",
    "python_version",
    "codecarbon_version",
    "cpu_count",
    "cpu_model",
    "gpu_count",
    "gpu_model",
    "longitude",
    "latitude",
    "ram_total_size",
    "tracking_mode",
    "cpu_utilization_percent",
    "gpu_utilization_percent",
    "ram_utilization_percent",
    "ram_used_gb",
    "on_cloud",
    "pue",
    "wue",
];

/// The design power that codecarbon uses: its table's for each processor, else 4 W per thread.
pub fn design_power(machine: &Machine) -> Watt {
    let unknown = UNKNOWN_WATTS_PER_THREAD * machine.n_cpus as f64;
    Watt(machine.design_power_w().unwrap_or(unknown))
}

/// Constant mode: half the design power, whatever the load.
pub fn constant_power(tdp: Watt) -> Watt {
    tdp * 0.5
}

/// Load mode for the machine: `TDP * (0.1 + 0.9 u^3)`.
pub fn load_power(tdp: Watt, utilization: f64) -> Watt {
    tdp * (0.1 + 0.9 * utilization.clamp(0.0, 1.0).powi(3))
}

/// Load mode for a process: its share of the processors' time, linear. At medium load it exceeds [`load_power`], which is why Taal does not use it.
pub fn process_power(tdp: Watt, utilization: f64) -> Watt {
    tdp * utilization.clamp(0.0, 1.0)
}

/// How many memory modules a machine of this size has, as codecarbon guesses.
pub fn dimm_count(memory_gib: f64) -> u32 {
    match memory_gib {
        size if size <= 2.0 => 1,
        size if size <= 16.0 => 2,
        size if size <= 64.0 => 4,
        size if size <= 128.0 => 8,
        size => {
            let sizes = [128.0, 64.0, 32.0, 16.0, 8.0, 4.0];
            let fitting = sizes.into_iter().find(|module| *module <= size / 8.0);
            fitting.map_or(8, |module| (size / module).ceil().min(32.0) as u32)
        }
    }
}

/// The power of memory modules: 5 W each (ARM: 1.5 W), less for the later ones, at least 10 W (ARM: 3 W).
pub fn dimm_power(count: u32, is_arm: bool) -> Watt {
    let (each, least) = if is_arm { (1.5, 3.0) } else { (5.0, 10.0) };
    // The first 4 count fully, the next 4 for 90 %, the next 8 for 80 %, the others for 70 %.
    let tiers = [(0, 4, 1.0), (4, 8, 0.9), (8, 16, 0.8), (16, u32::MAX, 0.7)];
    let in_tier = |(from, to, part): (u32, u32, f64)| f64::from(count.min(to).saturating_sub(from)) * part;
    let modules: f64 = tiers.into_iter().map(in_tier).sum();
    Watt(f64::max(each * modules, least))
}

/// The memory power of a machine by these rules.
pub fn memory_power(machine: &Machine) -> Watt {
    dimm_power(dimm_count(machine.memory_gib()), machine.is_arm)
}

/// What a row of the table needs besides the reading.
#[derive(Debug, Clone)]
pub struct CsvRun<'a> {
    /// Seconds since 1970 at the end.
    pub ended_s: f64,
    /// A name for what was metered.
    pub project: &'a str,
    /// A name that no other row has.
    pub run_id: &'a str,
    /// The machine.
    pub machine: &'a Machine,
    /// The electricity.
    pub grid: &'a Grid,
    /// Power usage effectiveness.
    pub pue: f64,
    /// The names of the GPUs, and how many there are.
    pub gpus: (&'a str, usize),
}

/// The table's header.
pub fn csv_header() -> String {
    CSV_COLUMNS.join(",") + "\n"
}

/// The table's header and one row.
pub fn csv(total: &EnergyTotal, run: &CsvRun<'_>) -> String {
    csv_header() + &csv_row(total, run)
}

/// One row. What this meter does not know is empty: places, the use of memory, that of GPUs. Water is 0, because `wue` is 0.
pub fn csv_row(total: &EnergyTotal, run: &CsvRun<'_>) -> String {
    let seconds = total.seconds.max(1e-9);
    // As in codecarbon 3.3, energies and powers include PUE, and the parts add up to energy_consumed.
    let kwh = |joules: Joule| joules.watt_hours().kwh() * run.pue;
    let watts = |joules: Joule| joules.0 / seconds * run.pue;
    // What a wall plug or a battery measures is all there is, so it is in the processor's column; so is what has no part.
    let cpu = total.energy.joules - total.memory - total.gpu;
    let (grid, _) = run.grid.over(&total.by_hour);
    let emissions_kg = grid.emissions(total.energy.joules, run.pue).0 / 1e3;
    let capacity_s = seconds * run.machine.n_cpus.max(1) as f64;
    let mut fields: Vec<String> = vec![
        timestamp(run.ended_s),
        run.project.to_owned(),
        run.run_id.to_owned(),
        String::new(),
        total.seconds.to_string(),
        emissions_kg.to_string(),
        (emissions_kg / seconds).to_string(),
        watts(cpu).to_string(),
        watts(total.gpu).to_string(),
        watts(total.memory).to_string(),
        kwh(cpu).to_string(),
        kwh(total.gpu).to_string(),
        kwh(total.memory).to_string(),
        kwh(total.energy.joules).to_string(),
        "0".to_owned(),
        grid.name.clone(),
        // ISO 3166-1's three letters, which the world, a number and a file do not have.
        if grid.code.len() == ISO_LETTERS {
            grid.code.clone()
        } else {
            String::new()
        },
    ];
    fields.extend([""; 3].map(str::to_owned));
    fields.push(format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH));
    fields.extend([""; 2].map(str::to_owned));
    fields.push(run.machine.n_cpus.to_string());
    fields.push(run.machine.cpu_model.clone());
    fields.push(run.gpus.1.to_string());
    fields.push(run.gpus.0.to_owned());
    fields.extend([""; 2].map(str::to_owned));
    fields.push(run.machine.memory_gib().to_string());
    fields.push("process".to_owned());
    fields.push((total.cpu_seconds / capacity_s * 100.0).to_string());
    // Machines without GPUs use none; how much of them is used is not read.
    let of_gpus = if run.gpus.1 == 0 { "0" } else { "" };
    fields.extend([of_gpus, "", "", "N"].map(str::to_owned));
    fields.push(run.pue.to_string());
    fields.push("0".to_owned());
    let fields: Vec<String> = fields.iter().map(|field| quoted(field)).collect();
    fields.join(",") + "\n"
}

/// A field of a CSV file (RFC 4180).
fn quoted(field: &str) -> String {
    match field.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.to_owned(),
    }
}

/// `2026-11-29T10:27:46` in UTC, by Howard Hinnant's `civil_from_days`.
pub fn timestamp(seconds_since_1970: f64) -> String {
    let seconds = seconds_since_1970.max(0.0) as i64;
    let (days, second_of_day) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::timestamp;

    #[test]
    fn timestamps_are_those_of_the_calendar() {
        assert_eq!(timestamp(0.0), "1970-01-01T00:00:00");
        assert_eq!(timestamp(951_782_400.0), "2000-02-29T00:00:00");
        assert_eq!(timestamp(1_795_948_066.9), "2026-11-29T10:27:46");
    }
}
