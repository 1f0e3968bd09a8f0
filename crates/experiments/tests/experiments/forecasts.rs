//! Grading forecasts.

use taal_experiments::forecasts::{RUNS, grade, short_runs};
use taal_metrics::{Forecast, Predicted};
use taal_trainer::{RecipeText, resolve};

#[test]
fn there_are_45_short_runs_and_each_resolves_under_its_own_name() {
    let runs = short_runs();
    assert_eq!((runs.len(), RUNS), (45, 45));
    let mut names: Vec<&str> = runs.iter().map(|run| run.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 45);
    for run in &runs {
        let recipe = RecipeText::find(run.recipe).expect("a recipe");
        let resolved = resolve(&recipe, &run.sets).unwrap_or_else(|error| panic!("{}: {error}", run.name));
        assert!(resolved.recipe.train.steps >= 1000, "a forecast needs some steps");
    }
}

#[test]
fn coverage_counts_ends_in_intervals_and_their_width() {
    let predicted = |value: f64, half: f64, actual: Option<f64>| Predicted {
        value,
        low: value - half,
        high: value + half,
        actual,
    };
    let forecast = |actual: f64| Forecast {
        step: 10,
        steps: 100,
        seconds: predicted(10.0, 1.5, Some(actual)),
        joules: None,
        loss: Some(predicted(2.0, 0.08, Some(2.0 + (actual - 10.0) / 100.0))),
    };
    let [time, energy, loss] = grade(&[
        forecast(10.0),
        forecast(11.0),
        forecast(11.4),
        forecast(8.6),
        forecast(12.0),
    ]);
    assert_eq!((time.forecasts, time.covered, time.is_met), (5, 4, true));
    assert!((time.widest - 0.15).abs() < 1e-12, "{time:?}");
    assert_eq!((energy.forecasts, energy.is_met), (0, false), "nothing was forecast");
    assert_eq!((loss.covered, loss.is_met), (5, true));
    let [time, ..] = grade(&[forecast(12.0), forecast(10.0)]);
    assert!(!time.is_met, "half is not enough");
    let unfinished = Forecast {
        seconds: predicted(10.0, 1.0, None),
        ..Forecast::default()
    };
    assert_eq!(grade(&[unfinished])[0].forecasts, 0);
}
