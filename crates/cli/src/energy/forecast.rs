//! `taal bench forecast`: do forecasts come true?

use serde::Serialize;
use taal_experiments::forecasts::{Coverage, grade, short_runs};
use taal_metrics::{Forecast, Report};
use taal_store::layout::REPORT_FIGURES_FILE;

use super::children::Training;
use crate::arguments::BenchForecastArguments;
use crate::failure::Failure;
use crate::terminal;

/// Everything that is printed.
#[derive(Debug, Serialize)]
struct Graded {
    runs: usize,
    coverage: [Coverage; 3],
    forecasts: Vec<(String, Forecast)>,
}

/// Trains the short runs that are not done, and grades the forecasts of all.
pub fn bench_forecast(arguments: &BenchForecastArguments) -> Result<(), Failure> {
    if arguments.runs == 0 {
        return Err(anyhow::anyhow!("--runs 0: expected at least 1 of the 45 short runs").into());
    }
    let mut forecasts = Vec::new();
    for run in short_runs().into_iter().take(arguments.runs) {
        let dir = arguments.dir.join(&run.name);
        let path = dir.join(REPORT_FIGURES_FILE);
        let is_done = |report: &Report| report.steps == report.planned_steps;
        if !Report::read_json(&path).is_ok_and(|report| is_done(&report)) {
            let training = Training {
                name: &run.name,
                recipe: run.recipe,
                dir,
                sets: run.sets.iter().map(String::as_str).collect(),
                ..Training::default()
            };
            training.run()?;
        }
        let forecast = Report::read_json(&path)?.forecast;
        forecasts.extend(forecast.map(|forecast| (run.name, forecast)));
    }
    let all: Vec<Forecast> = forecasts.iter().map(|(_, forecast)| *forecast).collect();
    let found = Graded {
        runs: forecasts.len(),
        coverage: grade(&all),
        forecasts,
    };
    match *arguments.json {
        true => terminal::print_json(&found)?,
        false => terminal::print(&table(&found))?,
    }
    Ok(())
}

fn table(found: &Graded) -> String {
    let mut text = format!(
        "{:<10}{:>12}{:>24}{:>16}  {}\n",
        "", "covered", "widest half-width", "rms error", "36 of 45, narrow"
    );
    for one in &found.coverage {
        let width = |value: f64| match one.quantity {
            "loss" => format!("{value:.3} nats"),
            _ => format!("{:.1} %", 100.0 * value),
        };
        text.push_str(&format!(
            "{:<10}{:>12}{:>24}{:>16}  {}\n",
            one.quantity,
            format!("{} of {}", one.covered, one.forecasts),
            width(one.widest),
            width(one.rms_error),
            if one.is_met { "yes" } else { "no" }
        ));
    }
    text
}
