//! Where the time of a training step goes: wall time by fused operation, counted only between [`start`] and [`stop`].

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

static IS_ON: AtomicBool = AtomicBool::new(false);
static TIMES: Mutex<BTreeMap<&'static str, Duration>> = Mutex::new(BTreeMap::new());

/// Begins to count; earlier counts are dropped.
pub fn start() {
    times().clear();
    IS_ON.store(true, Ordering::Relaxed);
}

/// Ends counting and returns the wall time of each fused operation since [`start`], the longest first. Time between
/// operations is in none of them.
pub fn stop() -> Vec<(&'static str, Duration)> {
    IS_ON.store(false, Ordering::Relaxed);
    let mut found: Vec<_> = std::mem::take(&mut *times()).into_iter().collect();
    found.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
    found
}

/// Runs an operation and, while counting, adds up its time.
pub(crate) fn count<R>(name: &'static str, operation: impl FnOnce() -> R) -> R {
    if !IS_ON.load(Ordering::Relaxed) {
        return operation();
    }
    let begin = Instant::now();
    let result = operation();
    *times().entry(name).or_default() += begin.elapsed();
    result
}

fn times() -> std::sync::MutexGuard<'static, BTreeMap<&'static str, Duration>> {
    // A panic while counting leaves the counts valid.
    TIMES.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
