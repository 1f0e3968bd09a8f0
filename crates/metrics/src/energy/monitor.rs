//! The one thread that samples the meter while a program works; it starts no process.
//!
//! The thread only keeps the sampling period. A reading is made by the thread that asks for it: waking another one, which answers and wakes
//! the first, takes longer than the reading.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::machine::Machine;
use super::meter::{Meter, Reading};

/// The thread's name, under which the system lists it.
pub(super) const THREAD_NAME: &str = "energy";

/// A meter that is sampled once per [`Meter::period`], on a thread of its own.
pub struct Monitor {
    meter: Arc<Mutex<Meter>>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    machine: Machine,
    gpus: (String, usize),
    period: Duration,
}

impl std::fmt::Debug for Monitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Monitor")
            .field("machine", &self.machine)
            .finish_non_exhaustive()
    }
}

impl Monitor {
    /// Makes the meter and starts the thread; energy counts from the moment this returns. None where the system gives no thread.
    pub fn start(make: impl FnOnce() -> Meter) -> Option<Self> {
        let meter = make();
        let (machine, gpus) = (meter.machine().clone(), meter.gpus());
        let period = meter.period();
        let meter = Arc::new(Mutex::new(meter));
        let (stop, stopped) = channel();
        let sampled = meter.clone();
        let work = move || sample(&sampled, period, &stopped);
        let thread = std::thread::Builder::new()
            .name(THREAD_NAME.to_owned())
            .spawn(work)
            .ok()?;
        Some(Self {
            meter,
            stop: Some(stop),
            thread: Some(thread),
            machine,
            gpus,
            period,
        })
    }

    /// How often the thread samples.
    pub fn period(&self) -> Duration {
        self.period
    }

    /// The machine that is metered.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The names of the metered GPUs and their number.
    pub fn gpus(&self) -> (&str, usize) {
        (&self.gpus.0, self.gpus.1)
    }

    /// The energy until now, from sensors that are read now; none if a sensor's code panicked.
    pub fn reading_now(&self) -> Option<Reading> {
        self.meter.lock().ok().map(|mut meter| meter.reading_now())
    }

    /// The energy until the last sample, which is at most a second old; none if a sensor's code panicked.
    pub fn reading(&self) -> Option<Reading> {
        self.meter.lock().ok().map(|mut meter| meter.reading())
    }

    /// Reads the sensors for the last time and ends the thread; none if a sensor's code panicked.
    pub fn finish(mut self) -> Option<Reading> {
        self.join();
        self.meter.lock().ok().map(|mut meter| meter.finish())
    }

    fn join(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic leaves the meter's lock poisoned, and there is no reading.
            let _ = thread.join();
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.join();
    }
}

/// Samples until the other end of the channel is dropped.
fn sample(meter: &Mutex<Meter>, period: Duration, stopped: &Receiver<()>) {
    while stopped.recv_timeout(period) == Err(RecvTimeoutError::Timeout) {
        match meter.lock() {
            Ok(mut meter) => meter.sample(),
            Err(_) => return,
        }
    }
}
