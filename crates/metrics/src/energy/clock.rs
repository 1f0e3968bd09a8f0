//! Time for meters: a clock that never goes back for intervals, and the time of day to notice that a machine slept.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Two clocks read at once.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Moment {
    /// Seconds of a clock that nobody sets; on Linux it stops while the machine sleeps.
    pub steady_s: f64,
    /// Seconds since 1970 of the clock on the wall, which may be set at any time.
    pub wall_s: f64,
}

/// Tells the time.
pub trait Clock: Send {
    /// The time now.
    fn now(&self) -> Moment;
}

/// The system's clocks.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    started: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self {
            started: Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
        Moment {
            steady_s: self.started.elapsed().as_secs_f64(),
            wall_s: since_1970.map_or(0.0, |time| time.as_secs_f64()),
        }
    }
}
