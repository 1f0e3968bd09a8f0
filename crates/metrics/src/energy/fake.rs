//! A machine made for tests: sensors whose true energy is known, a clock that is moved by hand, and faults on request.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::clock::{Clock, Moment};
use super::files::{ReadError, SensorFiles};
use super::gpu::Gpus;
use super::meter::{Meter, MeterOptions};

/// A counter that does not wrap within a test.
const LARGE_RANGE_UJ: u64 = 262_143_328_850;

/// A zone of powercap.
#[derive(Debug, Clone)]
pub struct FakeZone {
    /// Its directory, such as `intel-rapl:0`.
    pub directory: String,
    /// Its name, such as `package-0`.
    pub name: String,
    /// What it draws.
    pub watts: f64,
    /// The count after which it starts again at 0.
    pub range_uj: u64,
    /// Its count.
    pub energy_uj: f64,
    /// What a reading ends with instead of the count.
    pub fault: Option<ReadError>,
    /// Seconds between two steps of the count; 0 if it is exact at any time.
    pub step_s: f64,
}

impl FakeZone {
    /// A zone that works.
    pub fn new(directory: &str, name: &str, watts: f64) -> Self {
        Self {
            directory: directory.to_owned(),
            name: name.to_owned(),
            watts,
            range_uj: LARGE_RANGE_UJ,
            energy_uj: 1e9,
            fault: None,
            step_s: 0.0,
        }
    }

    /// With another range.
    pub fn with_range(mut self, range_uj: u64) -> Self {
        self.range_uj = range_uj;
        self.energy_uj = range_uj as f64 / 2.0;
        self
    }

    /// With another count to start at.
    pub fn at(mut self, energy_uj: f64) -> Self {
        self.energy_uj = energy_uj;
        self
    }

    /// With a count that is brought up to date once in so many seconds, as the kernels' are.
    pub fn with_steps_of(mut self, seconds: f64) -> Self {
        self.step_s = seconds;
        self
    }
}

/// A GPU.
#[derive(Debug, Clone, Copy)]
pub struct FakeGpu {
    /// What it draws.
    pub watts: f64,
    /// Whether it has a counter.
    pub has_counter: bool,
    /// Its count.
    pub joules: f64,
    /// Seconds between two steps of the count; 0 if it is exact at any time.
    pub step_s: f64,
}

/// Seconds since the last step of a count.
fn since_step(now_s: f64, step_s: f64) -> f64 {
    if step_s > 0.0 { now_s % step_s } else { 0.0 }
}

#[derive(Debug, Default)]
struct State {
    now: Moment,
    zones: Vec<FakeZone>,
    gpus: Vec<FakeGpu>,
    files: BTreeMap<String, String>,
    n_cpus: usize,
    ours_s: f64,
    busy_s: f64,
}

/// A machine made for tests; clones are the same machine.
#[derive(Debug, Clone)]
pub struct FakeMachine(Arc<Mutex<State>>);

impl FakeMachine {
    /// Four threads of a known laptop processor, 16 GiB, no sensor.
    pub fn new() -> Self {
        let state = State {
            n_cpus: 4,
            ..State::default()
        };
        let machine = Self(Arc::new(Mutex::new(state)));
        machine.set_file(
            "proc/cpuinfo",
            "model name\t: Intel(R) Core(TM) i5-8250U CPU @ 1.60GHz\nflags\t\t: fpu avx2\n",
        );
        machine.set_file("proc/meminfo", "MemTotal:       16777216 kB\n");
        machine
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a zone.
    pub fn with_zone(self, zone: FakeZone) -> Self {
        self.state().zones.push(zone);
        self
    }

    /// Adds a GPU.
    pub fn with_gpu(self, watts: f64, has_counter: bool) -> Self {
        self.with_stepping_gpu(watts, has_counter, 0.0)
    }

    /// Adds a GPU whose count is brought up to date once in so many seconds.
    pub fn with_stepping_gpu(self, watts: f64, has_counter: bool, step_s: f64) -> Self {
        self.state().gpus.push(FakeGpu {
            watts,
            has_counter,
            joules: 0.0,
            step_s,
        });
        self
    }

    /// Sets the text of a file.
    pub fn set_file(&self, path: &str, text: &str) {
        self.state().files.insert(path.to_owned(), text.to_owned());
    }

    /// Changes a zone, by its number.
    pub fn change_zone(&self, index: usize, change: impl FnOnce(&mut FakeZone)) {
        if let Some(zone) = self.state().zones.get_mut(index) {
            change(zone);
        }
    }

    /// Removes a zone, by its number.
    pub fn remove_zone(&self, index: usize) {
        self.state().zones.remove(index);
    }

    /// Sets the clock on the wall by so many seconds.
    pub fn set_wall_clock_by(&self, seconds: f64) {
        self.state().now.wall_s += seconds;
    }

    /// Sets the steady clock by so many seconds, which no system does.
    pub fn set_steady_clock_by(&self, seconds: f64) {
        self.state().now.steady_s += seconds;
    }

    /// Lets time pass. We use so many of the processors, others use so many more.
    pub fn pass(&self, seconds: f64, ours: f64, others: f64) {
        let mut state = self.state();
        state.now.steady_s += seconds;
        state.now.wall_s += seconds;
        let n_cpus = state.n_cpus as f64;
        state.ours_s += ours.min(n_cpus) * seconds;
        state.busy_s += (ours + others).min(n_cpus) * seconds;
        for zone in &mut state.zones {
            zone.energy_uj = (zone.energy_uj + zone.watts * seconds * 1e6) % zone.range_uj as f64;
        }
        for gpu in &mut state.gpus {
            gpu.joules += gpu.watts * seconds;
        }
    }

    /// A meter on this machine.
    pub fn meter(&self, options: MeterOptions) -> Meter {
        let has_gpus = !self.state().gpus.is_empty();
        let gpus = has_gpus.then(|| Box::new(self.clone()) as Box<dyn Gpus>);
        Meter::new(Box::new(self.clone()), Box::new(self.clone()), gpus, options)
    }
}

impl Default for FakeMachine {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for FakeMachine {
    fn now(&self) -> Moment {
        self.state().now
    }
}

impl SensorFiles for FakeMachine {
    fn read(&self, path: &str) -> Result<String, ReadError> {
        let state = self.state();
        if let Some(text) = state.files.get(path) {
            return Ok(text.clone());
        }
        match path {
            "proc/stat" => return Ok(state.stat()),
            "proc/self/stat" => return Ok(format!("1 (taal) R{}", state.process_fields())),
            _ => {}
        }
        let (directory, file) = path
            .strip_prefix("sys/class/powercap/")
            .and_then(|rest| rest.split_once('/'))
            .ok_or(ReadError::Missing)?;
        let zone = state.zones.iter().find(|zone| zone.directory == directory);
        let zone = zone.ok_or(ReadError::Missing)?;
        match file {
            "name" => Ok(format!("{}\n", zone.name)),
            "max_energy_range_uj" => Ok(format!("{}\n", zone.range_uj)),
            "energy_uj" => match &zone.fault {
                Some(fault) => Err(fault.clone()),
                None => {
                    let since_s = since_step(state.now.steady_s, zone.step_s);
                    Ok(format!(
                        "{}\n",
                        (zone.energy_uj - zone.watts * since_s * 1e6).round() as u64
                    ))
                }
            },
            _ => Err(ReadError::Missing),
        }
    }

    fn list(&self, path: &str) -> Vec<String> {
        let state = self.state();
        if path == "sys/class/powercap" {
            return state.zones.iter().map(|zone| zone.directory.clone()).collect();
        }
        let below = state
            .files
            .keys()
            .filter_map(|file| file.strip_prefix(path)?.strip_prefix('/'));
        let mut names: Vec<String> = below
            .filter_map(|rest| Some(rest.split('/').next()?.to_owned()))
            .collect();
        names.dedup();
        names
    }
}

impl State {
    fn stat(&self) -> String {
        let busy = (self.busy_s * 100.0).round();
        let idle = (self.now.steady_s * self.n_cpus as f64 * 100.0 - busy).max(1.0).round();
        let mut text = format!("cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\n");
        for index in 0..self.n_cpus {
            let _ = writeln!(text, "cpu{index} 0 0 0 0");
        }
        text
    }

    fn process_fields(&self) -> String {
        let ticks = (self.ours_s * 100.0).round();
        format!("{} {ticks} 0 0 0", " 0".repeat(10))
    }
}

impl Gpus for FakeMachine {
    fn count(&self) -> usize {
        self.state().gpus.len()
    }

    fn name(&self, index: usize) -> String {
        format!("GPU {index}")
    }

    fn energy_mj(&self, index: usize) -> Result<u64, ReadError> {
        let state = self.state();
        let gpu = state.gpus.get(index).filter(|gpu| gpu.has_counter);
        let shown = |gpu: &FakeGpu| gpu.joules - gpu.watts * since_step(state.now.steady_s, gpu.step_s);
        gpu.map(|gpu| (shown(gpu) * 1e3).round() as u64)
            .ok_or(ReadError::Missing)
    }

    fn power_mw(&self, index: usize) -> Result<u64, ReadError> {
        let state = self.state();
        let gpu = state.gpus.get(index).ok_or(ReadError::Missing)?;
        Ok((gpu.watts * 1e3) as u64)
    }
}
