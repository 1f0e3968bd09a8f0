//! Forecasts of trainings whose end is known.

use taal_metrics::forecast::{forecast, forecast_loss};
use taal_metrics::{ForecastPlan, Predicted, StepRecord};

const STEP_S: f64 = 0.05;
const EVALUATION_S: f64 = 2.0;
const WATTS: f64 = 20.0;

fn loss_at(step: u64) -> f64 {
    4.2 - 0.4 * (step as f64).ln()
}

/// A training at a constant pace and power, evaluated after every `every` steps.
fn records(steps: u64, every: u64) -> Vec<StepRecord> {
    let record = |step: u64| StepRecord {
        step,
        loss: loss_at(step),
        tokens_per_s: 1000.0 / STEP_S,
        val_loss: step.is_multiple_of(every).then(|| loss_at(step)),
        wall_s: Some(step as f64 * STEP_S + ((step - 1) / every) as f64 * EVALUATION_S),
        energy_j: Some(
            WATTS * STEP_S
                + if step.is_multiple_of(every) {
                    WATTS * EVALUATION_S
                } else {
                    0.0
                },
        ),
        ..StepRecord::default()
    };
    (1..=steps).map(record).collect()
}

/// Seconds and joules after a step, with its evaluation.
fn spent(step: u64, every: u64) -> (f64, f64) {
    let seconds = step as f64 * STEP_S + (step / every) as f64 * EVALUATION_S;
    (seconds, seconds * WATTS)
}

fn plan(steps: u64, every: u64, at: u64) -> ForecastPlan {
    let (wall_s, joules) = spent(at, every);
    ForecastPlan {
        steps,
        eval_every: Some(every),
        // A forward pass of as many tokens takes a third of the time: 2 s.
        val_tokens: (3.0 * EVALUATION_S * 1000.0 / STEP_S) as u64,
        wall_s,
        joules: Some(joules),
        vocab_size: 65,
        peak_lr: 0.015,
        is_adamw_only: false,
        is_from_nothing: true,
    }
}

fn is_near(predicted: &Predicted, actual: f64, share: f64) -> bool {
    (predicted.value / actual - 1.0).abs() < share && predicted.low < actual && actual < predicted.high
}

#[test]
fn at_a_constant_pace_time_and_energy_are_right_whether_an_evaluation_was_seen_or_not() {
    for every in [20, 250] {
        let found = forecast(&records(100, every), &plan(1000, every, 100)).expect("a forecast");
        let (seconds, joules) = spent(1000, every);
        assert_eq!((found.step, found.steps), (100, 1000));
        assert!(is_near(&found.seconds, seconds, 0.02), "{every}: {found:?}, {seconds}");
        let energy = found.joules.expect("metered");
        assert!(is_near(&energy, joules, 0.02), "{every}: {found:?}, {joules}");
        for predicted in [found.seconds, energy] {
            let share = predicted.half_width() / predicted.value;
            assert!((share - 0.2).abs() < 1e-9, "{share}");
        }
    }
}

#[test]
fn it_is_made_after_a_tenth_of_the_steps_or_the_first_minute() {
    let is_made = |steps: u64, at: u64, wall_s: f64| {
        let plan = ForecastPlan {
            wall_s,
            ..plan(steps, 500, at)
        };
        forecast(&records(at, 500), &plan).is_some()
    };
    assert!(is_made(1000, 100, 5.0) && !is_made(1000, 99, 5.0));
    assert!(
        is_made(100_000, 40, 61.0) && !is_made(100_000, 40, 59.0),
        "the first minute is sooner"
    );
    assert!(!is_made(100_000, 19, 100.0), "a few steps say nothing");
    assert!(!is_made(99, 50, 100.0) && !is_made(100, 100, 100.0));
}

#[test]
fn the_loss_is_forecast_for_trainings_that_are_known_and_only_after_a_tenth() {
    let seen = records(100, 500);
    let known = plan(1000, 500, 100);
    let found = forecast_loss(&seen, &known).expect("a forecast");
    let expected = 0.3654 + 0.4093 * loss_at(100) + (0.0418 + 0.0296 * loss_at(100)) * 65_f64.ln();
    assert!((found.value - expected).abs() < 1e-6, "{found:?}, {expected}");
    let adamw = ForecastPlan {
        is_adamw_only: true,
        ..known
    };
    let with_adamw = forecast_loss(&seen, &adamw).expect("a forecast");
    let wanted = expected + 0.2554 * 0.4 - 0.0461 * (0.015_f64 * 1000.0).ln();
    assert!((with_adamw.value - wanted).abs() < 1e-6, "{with_adamw:?}, {wanted}");
    assert!((found.half_width() - 0.08).abs() < 1e-12);
    assert_eq!(forecast_loss(&records(99, 500), &known), None);
    for unknown in [
        ForecastPlan {
            is_from_nothing: false,
            ..known
        },
        ForecastPlan {
            eval_every: None,
            ..known
        },
        ForecastPlan { peak_lr: 0.0, ..known },
    ] {
        assert_eq!(forecast_loss(&seen, &unknown), None);
    }
    let short = forecast_loss(&records(30, 500), &plan(300, 500, 30));
    assert_eq!(short, None, "the weights are those of 700 steps and more");
    let diverged: Vec<StepRecord> = seen
        .iter()
        .map(|record| StepRecord {
            loss: f64::NAN,
            ..record.clone()
        })
        .collect();
    assert_eq!(forecast_loss(&diverged, &known), None, "there is no loss to go by");
}

#[test]
fn a_forecast_is_graded_at_the_end() {
    let found = forecast(&records(100, 250), &plan(1000, 250, 100)).expect("a forecast");
    assert_eq!(found.seconds.is_inside(), None);
    let (seconds, joules) = spent(1000, 250);
    let graded = found.graded(seconds, Some(2.0 * joules), Some(1.5));
    assert_eq!(graded.seconds.is_inside(), Some(true));
    assert_eq!(graded.joules.and_then(|joules| joules.is_inside()), Some(false));
    let text = serde_json::to_string(&graded).expect("JSON");
    assert_eq!(
        serde_json::from_str::<taal_metrics::Forecast>(&text).expect("a forecast"),
        graded
    );
}
