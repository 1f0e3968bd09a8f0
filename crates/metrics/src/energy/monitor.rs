//! The one thread that samples the meter while a program works; it starts no process.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;

use super::machine::Machine;
use super::meter::{Meter, Reading};

enum Ask {
    Reading(Sender<Reading>),
    Finish(Sender<Reading>),
}

/// A meter that is sampled once per [`Meter::period`], on a thread that owns it.
pub struct Monitor {
    asks: Sender<Ask>,
    thread: Option<JoinHandle<()>>,
    machine: Machine,
    gpus: (String, usize),
}

impl std::fmt::Debug for Monitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Monitor")
            .field("machine", &self.machine)
            .finish_non_exhaustive()
    }
}

impl Monitor {
    /// Starts the thread, which makes the meter and owns it; energy counts from the moment this returns. None where the system gives no
    /// thread.
    pub fn start(make: impl FnOnce() -> Meter + Send + 'static) -> Option<Self> {
        let (asks, asked) = channel();
        let (tell, told) = channel();
        let work = move || {
            let meter = make();
            // Without a listener there is nobody to meter for, and the thread ends at its first ask.
            let _ = tell.send((meter.machine().clone(), meter.gpus()));
            answer(meter, &asked);
        };
        let thread = std::thread::Builder::new().name("energy".to_owned()).spawn(work).ok()?;
        let (machine, gpus) = told.recv().ok()?;
        Some(Self {
            asks,
            thread: Some(thread),
            machine,
            gpus,
        })
    }

    /// The machine that is metered.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The names of the metered GPUs and their number.
    pub fn gpus(&self) -> (&str, usize) {
        (&self.gpus.0, self.gpus.1)
    }

    /// The energy until now; none if the thread has died.
    pub fn reading(&self) -> Option<Reading> {
        self.ask(Ask::Reading)
    }

    /// Reads the sensors for the last time and ends the thread; none if it has died.
    pub fn finish(mut self) -> Option<Reading> {
        let reading = self.ask(Ask::Finish);
        self.join();
        reading
    }

    fn ask(&self, ask: impl FnOnce(Sender<Reading>) -> Ask) -> Option<Reading> {
        let (reply, replied) = channel();
        self.asks.send(ask(reply)).ok()?;
        replied.recv().ok()
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic was seen as an answer that did not come.
            let _ = thread.join();
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // The thread ends when nobody can ask it any more.
        self.asks = channel().0;
        self.join();
    }
}

fn answer(mut meter: Meter, asked: &Receiver<Ask>) {
    let period = meter.period();
    loop {
        match asked.recv_timeout(period) {
            Ok(Ask::Reading(reply)) => {
                let _ = reply.send(meter.reading());
            }
            Ok(Ask::Finish(reply)) => {
                let _ = reply.send(meter.finish());
                return;
            }
            Err(RecvTimeoutError::Timeout) => meter.sample(),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
