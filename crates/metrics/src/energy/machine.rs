//! What is known of the machine: its processor, how many threads, how much memory, and whether it is a virtual one.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::files::SensorFiles;
use super::{battery, load};

/// `name,watts`, sorted by name; see data/README.md.
const CPU_TDP: &str = include_str!("../../data/cpu_tdp.csv");

/// Processors of which the frequency is read; they say the same on most machines, and each reading costs.
const MAX_POLICIES: usize = 4;

/// A machine, as far as its power is concerned.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name as the system gives it; empty if it does not.
    pub cpu_model: String,
    /// The thermal design power of one such processor in watts, where the table has it.
    pub cpu_tdp_w: Option<f64>,
    /// Processors on the board, each with that design power.
    #[serde(default = "one")]
    pub n_sockets: usize,
    /// Threads that run at once.
    pub n_cpus: usize,
    /// Bytes of memory; 0 if unknown.
    pub memory_bytes: u64,
    /// Whether it is virtual: it then has a part of the processor that is named.
    pub is_virtual: bool,
    /// Whether it has a battery.
    pub has_battery: bool,
    /// Whether its processor is ARM's, whose memory takes less power.
    pub is_arm: bool,
}

fn one() -> usize {
    1
}

/// The processors that the threads of `/proc/cpuinfo` are on; one where it does not say.
fn n_sockets(cpu_info: &str) -> usize {
    let fields = cpu_info.lines().filter_map(|line| line.split_once(':'));
    let sockets = fields.filter(|(key, _)| key.trim() == "physical id");
    let sockets: BTreeSet<&str> = sockets.map(|(_, number)| number.trim()).collect();
    sockets.len().max(1)
}

impl Machine {
    /// Asks the system.
    pub fn find(files: &dyn SensorFiles) -> Self {
        let cpu_info = files.read("proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let lines = cpu_info.lines().filter_map(|line| line.split_once(':'));
            let mut found = lines.filter(|(key, _)| key.trim() == name);
            found.next().map_or(String::new(), |(_, value)| value.trim().to_owned())
        };
        let cpu_model = field("model name");
        let n_cpus = load::n_cpus(&files.read("proc/stat").unwrap_or_default());
        let available = || std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            cpu_tdp_w: tdp_watts(&cpu_model),
            cpu_model,
            n_sockets: n_sockets(&cpu_info),
            n_cpus: if n_cpus > 0 { n_cpus } else { available() },
            memory_bytes: memory_bytes(&files.read("proc/meminfo").unwrap_or_default()),
            is_virtual: field("flags").split(' ').any(|flag| flag == "hypervisor"),
            has_battery: battery::Batteries::find(files).is_some(),
            is_arm: cfg!(target_arch = "aarch64") || cfg!(target_arch = "arm"),
        }
    }

    /// The thermal design power of all its processors in watts, where the table has it.
    pub fn design_power_w(&self) -> Option<f64> {
        self.cpu_tdp_w.map(|watts| watts * self.n_sockets.max(1) as f64)
    }

    /// Gibibytes of memory.
    pub fn memory_gib(&self) -> f64 {
        self.memory_bytes as f64 / f64::from(1 << 30)
    }

    /// The machine in a line.
    pub fn words(&self) -> String {
        let model = match self.cpu_model.as_str() {
            "" => "unknown processor",
            model => model,
        };
        let kind = if self.is_virtual { "virtual machine, " } else { "" };
        let model = match self.n_sockets {
            0 | 1 => model.to_owned(),
            sockets => format!("{sockets} x {model}"),
        };
        format!("{kind}{model}, {} threads, {:.0} GiB", self.n_cpus, self.memory_gib())
    }
}

/// The thermal design power of a processor by the name that the system gives, in watts; none if the table lacks it.
///
/// ```
/// use taal_metrics::energy::tdp_watts;
/// assert_eq!(tdp_watts("Intel(R) Core(TM) i5-8250U CPU @ 1.60GHz"), Some(15.0));
/// assert_eq!(tdp_watts("AMD EPYC 7763 64-Core Processor"), Some(280.0));
/// assert_eq!(tdp_watts("Intel(R) Xeon(R) Processor"), None);
/// ```
pub fn tdp_watts(cpu_model: &str) -> Option<f64> {
    let name = normalized(cpu_model);
    let mut rows = CPU_TDP.lines().filter_map(|line| line.split_once(','));
    let (_, watts) = rows.find(|(row, _)| *row == name)?;
    watts.parse().ok()
}

/// The name as the table writes it: lower case, without marks, frequency, number of cores and graphics.
fn normalized(cpu_model: &str) -> String {
    let name = cpu_model.to_lowercase().replace("(r)", " ").replace("(tm)", " ");
    let name = name.split('@').next().unwrap_or_default();
    let name = name.split(" with ").next().unwrap_or_default();
    let is_kept = |word: &&str| !matches!(*word, "cpu" | "processor") && !word.ends_with("-core");
    let words: Vec<&str> = name.split_whitespace().filter(is_kept).collect();
    let maker = words.iter().position(|word| matches!(*word, "intel" | "amd" | "apple"));
    words[maker.unwrap_or(0)..].join(" ")
}

fn memory_bytes(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes = line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

/// Where the processors' frequencies are read, and the ones that their design power is for, which do not change.
#[derive(Debug)]
pub(super) struct Frequencies(Vec<(String, f64)>);

impl Frequencies {
    pub(super) fn find(files: &dyn SensorFiles) -> Self {
        let directory = "sys/devices/system/cpu/cpufreq";
        let names = files.list(directory);
        let policies = names.iter().filter(|name| name.starts_with("policy"));
        let found = policies.take(MAX_POLICIES).filter_map(|policy| {
            let number = |file: &str| files.number(&format!("{directory}/{policy}/{file}")).ok();
            let base = number("base_frequency").or_else(|| number("cpuinfo_max_freq"))?;
            Some((format!("{directory}/{policy}/scaling_cur_freq"), base.max(1) as f64))
        });
        Self(found.collect())
    }

    /// The mean frequency over the one that the design power is for; none if the system does not say.
    pub(super) fn relative(&self, files: &dyn SensorFiles) -> Option<f64> {
        let ratio = |(path, base): &(String, f64)| Some(files.number(path).ok()? as f64 / base);
        let ratios: Vec<f64> = self.0.iter().filter_map(ratio).collect();
        (!ratios.is_empty()).then(|| ratios.iter().sum::<f64>() / ratios.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_found_by_the_names_that_systems_give() {
        for (model, watts) in [
            ("Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz", Some(300.0)),
            ("Intel(R) Xeon(R) Platinum 8358P CPU @ 2.60GHz", Some(240.0)),
            ("11th Gen Intel(R) Core(TM) i7-1165G7 @ 2.80GHz", Some(28.0)),
            ("AMD Ryzen 5 8500G with Radeon 740M Graphics", Some(65.0)),
            ("Apple M2 Pro", Some(35.0)),
            ("", None),
        ] {
            assert_eq!(tdp_watts(model), watts, "{model}");
        }
    }
}
