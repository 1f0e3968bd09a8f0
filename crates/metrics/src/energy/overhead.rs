//! What the meter itself takes of a processor.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::files::{KernelFiles, SensorFiles};
use super::meter::Meter;
use super::monitor::{Monitor, THREAD_NAME};
use super::total::EnergyTotal;

const NS_PER_S: f64 = 1e9;

/// The cost of metering, measured while nothing else is done.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Overhead {
    /// Seconds of the measurement.
    pub seconds: f64,
    /// Seconds between two samples of the meter's thread.
    pub period_s: f64,
    /// Processor time of the meter's thread as a share of one core; none where the system does not say.
    pub thread_share: Option<f64>,
    /// Readings that were asked for, as a training does after its steps.
    pub readings: u64,
    /// The mean time of one in seconds.
    pub reading_s: f64,
    /// Thread and readings together, as a share of one core.
    pub share: Option<f64>,
    /// The sources that were read.
    pub source: String,
}

/// Meters for some seconds and asks for a reading at every interval.
///
/// None where the system gives no thread.
pub fn overhead(make: impl FnOnce() -> Meter, duration: Duration, interval: Duration) -> Option<Overhead> {
    let files = KernelFiles::default();
    let monitor = Monitor::start(make)?;
    let period_s = monitor.period().as_secs_f64();
    let path = named_thread_times(&files);
    let thread_ns = || path.as_deref().and_then(|path| run_ns(&files, path));
    let (began, before_ns) = (Instant::now(), thread_ns());
    let (mut readings, mut spent, mut source) = (0_u64, Duration::ZERO, String::new());
    while began.elapsed() < duration {
        std::thread::sleep(interval);
        let asked = Instant::now();
        // What a training does with a reading belongs to its cost.
        let total = EnergyTotal::of(&monitor.reading()?, monitor.machine());
        spent += asked.elapsed();
        readings += 1;
        source = total.sources.to_string();
    }
    let after_ns = thread_ns();
    let seconds = began.elapsed().as_secs_f64();
    monitor.finish()?;
    let thread_share = before_ns
        .zip(after_ns)
        .map(|(before, after)| (after - before).max(0.0) / NS_PER_S / seconds);
    Some(Overhead {
        seconds,
        period_s,
        thread_share,
        readings,
        reading_s: spent.as_secs_f64() / readings.max(1) as f64,
        share: thread_share.map(|share| share + spent.as_secs_f64() / seconds),
        source,
    })
}

/// As [`thread_times`], of a thread that was just started: it gets its name a moment later.
fn named_thread_times(files: &KernelFiles) -> Option<String> {
    const TRIES: u32 = 100;
    for _ in 0..TRIES {
        if let Some(path) = thread_times(files) {
            return Some(path);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    None
}

/// The file with the processor time of the meter's thread.
fn thread_times(files: &KernelFiles) -> Option<String> {
    let tasks = files.list("proc/self/task").into_iter();
    let mut directories = tasks.map(|task| format!("proc/self/task/{task}"));
    let is_meter = |directory: &String| {
        let name = files.read(&format!("{directory}/comm")).unwrap_or_default();
        name.trim() == THREAD_NAME
    };
    directories
        .find(is_meter)
        .map(|directory| format!("{directory}/schedstat"))
}

/// The first number is the time on a processor in nanoseconds (proc_pid_schedstat).
fn run_ns(files: &KernelFiles, path: &str) -> Option<f64> {
    files.read(path).ok()?.split_whitespace().next()?.parse().ok()
}
