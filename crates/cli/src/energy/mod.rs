//! `taal energy`: what work takes in joules and greenhouse gases.

mod children;
mod estimate;
mod forecast;
mod green;
mod meter;
mod settings;
mod speedrun;
mod watch;
mod work;

use taal_metrics::energy::{EnergyFigures, GramCo2e, Joule, SelftestCase, selftest as run_selftest};
use taal_metrics::{Forecast, LedgerTotals, Predicted};
use taal_trainer::EnergyOptions;

pub use self::estimate::estimate;
pub use self::forecast::bench_forecast;
pub use self::green::bench_green;
pub use self::meter::bench_meter;
pub use self::settings::{Kept, Place, calibrate};
pub use self::speedrun::bench_speedrun;
pub use self::watch::watch;
pub use self::work::{Work, WorkEnergy};
use crate::arguments::EnergySelftestArguments;
use crate::failure::Failure;
use crate::terminal;

/// Runs the meter on simulated sensors.
pub fn selftest(arguments: &EnergySelftestArguments) -> Result<(), Failure> {
    let cases = run_selftest();
    match *arguments.json {
        true => terminal::print_json(&serde_json::json!({ "cases": cases }))?,
        false => terminal::print(&cases.iter().map(line).collect::<String>())?,
    }
    let wrong = cases.iter().filter(|case| !case.is_right).count();
    match wrong {
        0 => Ok(()),
        wrong => Err(Failure::from(anyhow::anyhow!(
            "{wrong} of {} cases are wrong: this build of taal meters energy wrongly",
            cases.len()
        ))),
    }
}

fn line(case: &SelftestCase) -> String {
    let verdict = if case.is_right { "ok   " } else { "WRONG" };
    let (expected, found) = (Joule(case.expected).to_string(), Joule(case.found).to_string());
    format!(
        "{verdict}  {:<52}  {expected:>10}  found {found:>10}  {}\n",
        case.name, case.source
    )
}

/// How a training is metered on this machine. A setting that cannot be used costs a note, not the training.
pub fn of_training(budget: Option<Joule>, note: impl Fn(&str)) -> EnergyOptions {
    let place = Place::find();
    let Kept { options, grid, pue } = place.kept(note);
    EnergyOptions {
        meter: options,
        files: place.files,
        grid,
        pue,
        budget,
    }
}

/// Energy and greenhouse gases, a row each.
pub fn summary_rows(figures: &EnergyFigures) -> [(&'static str, String); 2] {
    let energy = |joules: f64| Joule(joules).watt_hours().to_string();
    let per_token = figures
        .per_token
        .map_or(String::new(), |joules| format!(", {} per token", Joule(joules)));
    let preparation = figures.preparation.as_ref().map_or(String::new(), |part| {
        format!(", {} of it before the first step", energy(part.joules))
    });
    let (low, high) = (energy(figures.low), energy(figures.high));
    let gases = |grams: f64| GramCo2e(grams).to_string();
    let year = figures.year.map_or(String::new(), |year| format!(" of {year}"));
    [
        (
            "energy",
            format!(
                "{} ({low} to {high}), {}{preparation}{per_token}",
                energy(figures.joules),
                figures.source
            ),
        ),
        (
            "CO2e",
            format!(
                "{} with {}, {:.0} g/kWh{year}, PUE {}; {} embodied comes on top",
                gases(figures.co2e_g),
                figures.grid,
                figures.g_per_kwh,
                figures.pue,
                gases(figures.co2e_embodied_g)
            ),
        ),
    ]
}

/// The energy of a run with the trainings that it inherits.
pub fn ledger_row(totals: &LedgerTotals) -> (&'static str, String) {
    let energy = |joules: f64| Joule(joules).watt_hours().to_string();
    let unknown = match totals.unknown {
        0 => String::new(),
        count => format!("; that of {count} is not known and missing"),
    };
    let words = format!(
        "{} ({} to {}), {} CO2e, {} trainings{unknown}",
        energy(totals.joules),
        energy(totals.low),
        energy(totals.high),
        GramCo2e(totals.co2e_g),
        totals.trainings
    );
    ("with inherited", words)
}

/// What came of the forecast; none before the end.
pub fn forecast_row(forecast: &Forecast) -> Option<(&'static str, String)> {
    let grade = |name: &str, predicted: &Predicted| {
        let verdict = if predicted.is_inside()? { "inside" } else { "outside" };
        let off = 100.0 * (predicted.value / predicted.actual?.max(1e-12) - 1.0);
        Some(format!("{name} {verdict} ({off:+.1} %)"))
    };
    let loss = |predicted: &Predicted| {
        let verdict = if predicted.is_inside()? { "inside" } else { "outside" };
        Some(format!("loss {verdict} ({:+.3})", predicted.value - predicted.actual?))
    };
    let parts = [
        grade("time", &forecast.seconds),
        forecast.joules.as_ref().and_then(|joules| grade("energy", joules)),
        forecast.loss.as_ref().and_then(loss),
    ];
    let words: Vec<String> = parts.into_iter().flatten().collect();
    (!words.is_empty()).then(|| {
        (
            "forecast",
            format!("after step {}: {}", forecast.step, words.join(", ")),
        )
    })
}

/// The figures of a program as people read them, a line each.
fn table(figures: &EnergyFigures, seconds: f64) -> String {
    let [energy, gases] = summary_rows(figures);
    let grams = |grams: f64| GramCo2e(grams).to_string();
    let (dynamic, idle) = (grams(figures.co2e_dynamic_g), grams(figures.co2e_idle_g));
    let power = Joule(figures.joules).mean_power(seconds.max(1e-9)).to_string();
    let rows = [
        energy,
        ("mean power", power),
        gases,
        ("of it", format!("{dynamic} dynamic, {idle} idle")),
    ];
    let mut text = terminal::table(&rows);
    for note in &figures.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    text
}
