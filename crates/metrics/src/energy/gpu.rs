//! The energy of GPUs: their counters, or their power integrated where there is no counter.

use super::counter::{Basis, Oddity, TimedCounter};
use super::figure::{Energy, Source, Sources};
use super::files::{ReadError, SensorFiles};
use super::notes::Notes;
use super::units::Joule;

/// The error of a counter and of integrated power, as shares. The power of A100 and H100 is sampled during a quarter of the time only
/// (arXiv 2312.02741), so its integral is less sure.
const COUNTER_ERROR: f64 = 0.05;
const INTEGRATED_ERROR: f64 = 0.25;

/// Watts of a GPU until it was read.
const FALLBACK_WATTS: f64 = 100.0;

/// Seconds after which a counter that has not moved does not count; working ones count every 0.1 s.
const STILL_S: f64 = 0.5;

/// Where NVIDIA's driver for Linux lists its GPUs.
const NVIDIA_DIRECTORY: &str = "proc/driver/nvidia/gpus";

/// Whether the machine has a GPU of NVIDIA, also where this program cannot read it.
pub fn has_nvidia_gpu(files: &dyn SensorFiles) -> bool {
    !files.list(NVIDIA_DIRECTORY).is_empty()
}

/// GPUs that say their energy or their power.
pub trait Gpus: Send {
    /// How many there are.
    fn count(&self) -> usize;

    /// The name of one.
    fn name(&self, index: usize) -> String;

    /// The energy counter of one in millijoules.
    ///
    /// # Errors
    ///
    /// Why there is none.
    fn energy_mj(&self, index: usize) -> Result<u64, ReadError>;

    /// The power of one in milliwatts.
    ///
    /// # Errors
    ///
    /// Why there is none.
    fn power_mw(&self, index: usize) -> Result<u64, ReadError>;
}

/// How one GPU is metered.
#[derive(Debug)]
enum Way {
    Counter(TimedCounter),
    /// The last power in watts and its time; failed readings keep it.
    Power {
        watts: f64,
        at_s: f64,
    },
}

/// All GPUs of the machine.
pub(super) struct GpuMeter {
    gpus: Box<dyn Gpus>,
    ways: Vec<(usize, Way)>,
}

impl GpuMeter {
    /// Reads every GPU once; one that says neither energy nor power is left out with a note.
    pub(super) fn new(gpus: Box<dyn Gpus>, now_s: f64, notes: &mut Notes) -> Self {
        let mut ways = Vec::new();
        for index in 0..gpus.count() {
            if let Ok(reading) = gpus.energy_mj(index) {
                let counter = TimedCounter::new(None, reading.saturating_mul(1000), now_s, STILL_S);
                ways.push((index, Way::Counter(counter)));
                continue;
            }
            match gpus.power_mw(index) {
                Ok(power) => {
                    notes.set(format!(
                        "{} has no energy counter; its power is integrated",
                        gpus.name(index)
                    ));
                    let watts = power as f64 / 1e3;
                    ways.push((index, Way::Power { watts, at_s: now_s }));
                }
                Err(error) => notes.set(format!(
                    "{} says neither its energy nor its power ({error}); its energy is missing",
                    gpus.name(index)
                )),
            }
        }
        Self { gpus, ways }
    }

    /// The names of the GPUs that are metered, separated by commas.
    pub(super) fn names(&self) -> String {
        let names: Vec<String> = self.ways.iter().map(|(index, _)| self.gpus.name(*index)).collect();
        names.join(", ")
    }

    /// How many are metered.
    pub(super) fn count(&self) -> usize {
        self.ways.len()
    }

    /// What they used until now.
    pub(super) fn advance(&mut self, now_s: f64, sources: &mut Sources, notes: &mut Notes) -> Energy {
        let mut sum = Energy::ZERO;
        for (index, way) in &mut self.ways {
            let name = || self.gpus.name(*index);
            sum += match way {
                Way::Counter(counter) => {
                    let reading = self.gpus.energy_mj(*index).map(|mj| mj.saturating_mul(1000));
                    let is_still = reading.as_ref().is_ok_and(|reading| *reading == counter.last_uj());
                    let power = is_still.then(|| self.gpus.power_mw(*index).ok()).flatten();
                    let fallback = power.map_or(FALLBACK_WATTS, |power| power as f64 / 1e3);
                    let added = counter.advance(reading, now_s, fallback);
                    sources.insert(Source::NvmlCounter);
                    match added.oddity {
                        // Before its first step there is only the power.
                        None if added.is_estimated() && power.is_some() => sources.insert(Source::NvmlIntegrated),
                        _ if !added.is_estimated() => {}
                        Some(Oddity::Still) => {
                            sources.insert(Source::Estimated);
                            let sentence = "does not count (its energy stands still); its power so far stands in";
                            notes.set(format!("{} {sentence}", name()));
                        }
                        _ => {
                            sources.insert(Source::Estimated);
                            notes.add(format!("{} could not be read; its power so far stands in", name()));
                        }
                    }
                    let error = match added.basis {
                        Basis::Measured => COUNTER_ERROR,
                        _ => INTEGRATED_ERROR,
                    };
                    Energy::measured(added.joules, error)
                }
                Way::Power { watts, at_s } => {
                    let before = *watts;
                    match self.gpus.power_mw(*index) {
                        Ok(power) => *watts = power as f64 / 1e3,
                        Err(_) => notes.add(format!("{} could not be read; its last power stands in", name())),
                    }
                    sources.insert(Source::NvmlIntegrated);
                    // The trapezoid between two readings.
                    let joules = Joule((before + *watts) / 2.0 * (now_s - *at_s).max(0.0));
                    *at_s = now_s;
                    Energy::measured(joules, INTEGRATED_ERROR)
                }
            };
        }
        sum
    }
}

#[cfg(feature = "nvml")]
mod nvml {
    //! NVIDIA's library, opened at run time: without a driver there is none, and nothing else fails.

    use nvml_wrapper::Nvml;
    use nvml_wrapper::error::NvmlError;

    use super::{Gpus, ReadError};

    struct NvmlGpus {
        nvml: Nvml,
        count: u32,
    }

    /// The GPUs of this machine; none without NVIDIA's driver.
    pub fn nvidia_gpus() -> Option<Box<dyn Gpus>> {
        let nvml = Nvml::init().ok()?;
        let count = nvml.device_count().ok().filter(|count| *count > 0)?;
        Some(Box::new(NvmlGpus { nvml, count }))
    }

    fn reason(error: NvmlError) -> ReadError {
        match error {
            NvmlError::NoPermission => ReadError::Denied,
            NvmlError::NotSupported => ReadError::Missing,
            other => ReadError::Failed(other.to_string()),
        }
    }

    impl NvmlGpus {
        fn ask<T>(
            &self,
            index: usize,
            question: impl FnOnce(&nvml_wrapper::Device<'_>) -> Result<T, NvmlError>,
        ) -> Result<T, ReadError> {
            let index = u32::try_from(index).map_err(|_| ReadError::Missing)?;
            let device = self.nvml.device_by_index(index).map_err(reason)?;
            question(&device).map_err(reason)
        }
    }

    impl Gpus for NvmlGpus {
        fn count(&self) -> usize {
            self.count as usize
        }

        fn name(&self, index: usize) -> String {
            self.ask(index, |device| device.name())
                .unwrap_or_else(|_| format!("GPU {index}"))
        }

        fn energy_mj(&self, index: usize) -> Result<u64, ReadError> {
            self.ask(index, |device| device.total_energy_consumption())
        }

        fn power_mw(&self, index: usize) -> Result<u64, ReadError> {
            self.ask(index, |device| device.power_usage()).map(u64::from)
        }
    }
}

#[cfg(feature = "nvml")]
pub use nvml::nvidia_gpus;

/// The GPUs of this machine; none, because this program was built without the feature `nvml`.
#[cfg(not(feature = "nvml"))]
pub fn nvidia_gpus() -> Option<Box<dyn Gpus>> {
    None
}
