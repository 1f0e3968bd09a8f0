//! `taal bench meter`: what metering takes of a processor.

use std::time::Duration;

use taal_metrics::energy::{Meter, Overhead, SystemClock, nvidia_gpus, overhead};
use taal_trainer::READING_INTERVAL;

use super::settings::Place;
use crate::arguments::BenchMeterArguments;
use crate::failure::Failure;
use crate::terminal;

/// The share of a core that metering may take.
const ALLOWED_SHARE: f64 = 0.001;

/// A day.
const MAX_SECONDS: f64 = 86_400.0;

/// Meters as a training with fast steps does, and shows the cost.
pub fn bench_meter(arguments: &BenchMeterArguments) -> Result<(), Failure> {
    let place = Place::find();
    let (files, options) = (place.files.clone(), place.kept(terminal::message).options);
    let make = || {
        Meter::new(
            Box::new(files),
            Box::new(SystemClock::default()),
            nvidia_gpus(),
            options,
        )
    };
    let duration = Duration::from_secs_f64(arguments.seconds.min(MAX_SECONDS));
    let found = overhead(make, duration, READING_INTERVAL);
    let found = found.ok_or_else(|| anyhow::anyhow!("the system gives no thread to meter with"))?;
    match *arguments.json {
        true => terminal::print_json(&found)?,
        false => terminal::print(&table(&found))?,
    }
    Ok(())
}

fn table(found: &Overhead) -> String {
    let percent = |share: Option<f64>| {
        share.map_or("unknown on this system".to_owned(), |share| {
            format!("{:.3} % of a core", 100.0 * share)
        })
    };
    let per_second = found.readings as f64 / found.seconds;
    let verdict = match found.share {
        Some(share) if share > ALLOWED_SHARE => ", more than the 0.1 % that is allowed",
        Some(_) => ", at most 0.1 % is allowed",
        None => "",
    };
    terminal::table(&[
        ("source", found.source.clone()),
        (
            "thread",
            format!("{}, a sample every {} s", percent(found.thread_share), found.period_s),
        ),
        (
            "readings",
            format!("{per_second:.0} per second, {:.1} us each", 1e6 * found.reading_s),
        ),
        ("in all", format!("{}{verdict}", percent(found.share))),
    ])
}
