//! Energy counters: numbers that rise, wrap around, fail to be read, and come back.

use super::files::ReadError;
use super::units::Joule;

/// No zone of a processor and no GPU draws more; a change that implies more is not a measurement.
const MAX_WATTS: f64 = 3000.0;

/// A fall of the counter is a reset instead of a wrap if a wrap would imply more than this power and this multiple of the power so far.
const MAX_WRAP_WATTS: f64 = 600.0;
const MAX_POWER_RATIO: f64 = 10.0;

/// A counter that returns to 0 after its range, followed by observed decreases: `E1 - E0 + W * range`.
///
/// ```
/// use taal_metrics::energy::WrapCounter;
/// let mut counter = WrapCounter::new(1000);
/// let totals = [800, 200, 900, 50, 30].map(|reading| counter.update(reading));
/// assert_eq!(totals, [800, 1200, 1900, 2050, 3030]);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct WrapCounter {
    range: u64,
    last: Option<u64>,
    total: u64,
}

impl WrapCounter {
    /// A counter with the range after which it starts again at 0.
    pub fn new(range: u64) -> Self {
        Self {
            range,
            last: None,
            total: 0,
        }
    }

    /// The cumulative count after a reading; the first one is the baseline.
    pub fn update(&mut self, reading: u64) -> u64 {
        let added = match self.last {
            None => reading,
            Some(last) if reading >= last => reading - last,
            Some(last) => reading.saturating_add(self.range).saturating_sub(last),
        };
        self.last = Some(reading);
        self.total = self.total.saturating_add(added);
        self.total
    }
}

/// A counter that moves again after a gap and counted less than this share of what stood in for it did not count during the gap.
const CATCH_UP_SHARE: f64 = 0.5;

/// What was unusual about a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Oddity {
    /// It failed, and the power so far stands in until the counter can be read again.
    Failed,
    /// The counter has not moved for longer than a working one takes; the power so far stands in until it moves.
    Still,
    /// The counter went around more often than it was read; the number of times follows from the power so far.
    SeveralWraps,
    /// The counter started again at a number that no wrap explains; the power so far stands in for the interval.
    Reset,
}

/// A counter in microjoules with time: what it adds from reading to reading, in spite of everything.
#[derive(Debug, Clone)]
pub(super) struct TimedCounter {
    /// Microjoules after which it starts again at 0; none if the system does not say.
    range_uj: Option<u64>,
    /// The last reading and its time in seconds.
    last: (u64, f64),
    /// The time up to which energy was handed out.
    given_until_s: f64,
    /// Joules handed out since the last reading on the strength of the power so far.
    advanced: f64,
    /// The mean power of what was read so far.
    watts: Option<f64>,
    /// Seconds without a movement after which the counter counts as standing still.
    still_s: f64,
    /// Whether it stood still for longer than that.
    was_still: bool,
    /// Whether it could not be read yet: the first reading is what the next ones count from.
    is_unread: bool,
}

/// Where a counter's joules come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Basis {
    /// The counter.
    Measured,
    /// The power that the caller gave, until the counter's next step, which takes it back.
    Ahead,
    /// The power of what was read so far.
    PowerSoFar,
    /// The power that the caller gave, because nothing was read yet.
    Fallback,
}

/// What a counter adds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Added {
    pub(super) joules: Joule,
    pub(super) basis: Basis,
    pub(super) oddity: Option<Oddity>,
}

impl Added {
    /// Whether something stands in for a measurement. What is handed out ahead of a counter's step is measured a moment later.
    pub(super) fn is_estimated(&self) -> bool {
        matches!(self.basis, Basis::PowerSoFar | Basis::Fallback)
    }
}

impl TimedCounter {
    /// From its first reading.
    pub(super) fn new(range_uj: Option<u64>, reading_uj: u64, now_s: f64, still_s: f64) -> Self {
        Self {
            still_s,
            was_still: false,
            is_unread: false,
            range_uj: range_uj.filter(|range| *range > 0),
            last: (reading_uj, now_s),
            given_until_s: now_s,
            advanced: 0.0,
            watts: None,
        }
    }

    /// One whose first reading failed.
    pub(super) fn unread(range_uj: Option<u64>, now_s: f64, still_s: f64) -> Self {
        Self {
            is_unread: true,
            ..Self::new(range_uj, 0, now_s, still_s)
        }
    }

    /// Whether it was never read.
    pub(super) fn is_unread(&self) -> bool {
        self.is_unread
    }

    /// The last reading in microjoules.
    pub(super) fn last_uj(&self) -> u64 {
        self.last.0
    }

    /// What was added until now. `fallback_watts` is the power until a first interval was read, and until the counter's next step.
    pub(super) fn advance(&mut self, reading: Result<u64, ReadError>, now_s: f64, fallback_watts: f64) -> Added {
        let expected = self.watts.unwrap_or(fallback_watts);
        let Ok(reading) = reading else {
            return self.stand_in(Oddity::Failed, now_s, expected);
        };
        if self.is_unread {
            let added = self.stand_in(Oddity::Failed, now_s, expected);
            *self = Self::new(self.range_uj, reading, now_s, self.still_s);
            return added;
        }
        let interval_s = (now_s - self.last.1).max(0.0);
        if reading == self.last.0 {
            if interval_s >= self.still_s {
                self.was_still = true;
                return self.stand_in(Oddity::Still, now_s, expected);
            }
            // It may just not have counted yet: what it counts next covers this time.
            return self.ahead(now_s, fallback_watts);
        }
        let (measured, oddity) = self.difference(reading, interval_s);
        let true_joules = measured.unwrap_or(expected * interval_s);
        let mut counted_s = interval_s;
        if self.was_still && true_joules < CATCH_UP_SHARE * self.advanced {
            // It moves again and has not counted the gap, so what stood in for the gap stays.
            self.advanced = 0.0;
            counted_s = now_s - self.given_until_s;
        }
        self.was_still = false;
        // What failed readings were given in advance is taken back here, at once or from what follows.
        let joules = (true_joules - self.advanced).max(0.0);
        self.advanced = (self.advanced - true_joules).max(0.0);
        self.last = (reading, now_s);
        self.given_until_s = now_s;
        let basis = self.basis(measured.is_some());
        if measured.is_some() && counted_s > 0.0 {
            let watts = true_joules / counted_s;
            // Recent power says most about a gap.
            self.watts = Some(self.watts.map_or(watts, |before| 0.5 * before + 0.5 * watts));
        }
        Added {
            joules: Joule(joules),
            basis,
            oddity,
        }
    }

    fn basis(&self, is_measured: bool) -> Basis {
        match (is_measured, self.watts) {
            (true, _) => Basis::Measured,
            (false, Some(_)) => Basis::PowerSoFar,
            (false, None) => Basis::Fallback,
        }
    }

    /// Hands out what is expected of the time since energy was handed out last.
    fn stand_in(&mut self, oddity: Oddity, now_s: f64, expected_watts: f64) -> Added {
        Added {
            joules: self.expected_until(now_s, expected_watts),
            basis: self.basis(false),
            oddity: Some(oddity),
        }
    }

    /// The same for a time that is shorter than the counter's step: work as short as an answer is not free. The power so far says little
    /// about it.
    fn ahead(&mut self, now_s: f64, expected_watts: f64) -> Added {
        Added {
            joules: self.expected_until(now_s, expected_watts),
            basis: match self.watts {
                Some(_) => Basis::Ahead,
                None => Basis::Fallback,
            },
            oddity: None,
        }
    }

    fn expected_until(&mut self, now_s: f64, expected_watts: f64) -> Joule {
        let joules = expected_watts * (now_s - self.given_until_s).max(0.0);
        self.given_until_s = now_s;
        self.advanced += joules;
        Joule(joules)
    }

    /// The joules between the last reading and this one; none if it cannot be told.
    fn difference(&self, reading: u64, interval_s: f64) -> (Option<f64>, Option<Oddity>) {
        let change = (reading as f64 - self.last.0 as f64) / 1e6;
        let Some(range) = self.range_uj.map(|range| range as f64 / 1e6) else {
            return match change >= 0.0 {
                true => (Some(change), None),
                false => (None, Some(Oddity::Reset)),
            };
        };
        let seen_wraps = if change < 0.0 { 1.0 } else { 0.0 };
        let mut wraps = seen_wraps;
        // More wraps than seen are possible only if the interval is long enough for them.
        if let Some(watts) = self.watts
            && MAX_WATTS * interval_s > range
        {
            wraps = f64::max(((watts * interval_s - change) / range).round(), seen_wraps);
        }
        let joules = change + wraps * range;
        let limit = match (change < 0.0, self.watts) {
            (true, Some(watts)) => (watts * MAX_POWER_RATIO).clamp(MAX_WRAP_WATTS, MAX_WATTS),
            _ => MAX_WATTS,
        };
        // A counter advances in steps, so the power of a very short interval says little.
        if joules > limit * interval_s.max(0.1) {
            return (None, Some(Oddity::Reset));
        }
        (Some(joules), (wraps > seen_wraps).then_some(Oddity::SeveralWraps))
    }
}
