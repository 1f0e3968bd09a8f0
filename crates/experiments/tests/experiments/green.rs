//! Which variants are worth their energy.

use std::path::Path;

use taal_experiments::green::{Scale, VariantFigures, common_loss, compare, contestants, cost_of_loss, variants};
use taal_metrics::energy::EnergyFigures;
use taal_metrics::{Report, StepRecord};
use taal_trainer::{RecipeText, resolve};

const SCALE: Scale = Scale {
    steps: 1000,
    batch_size: 8,
};

fn figures(name: &str, seconds: f64, joules: f64, val_loss: f64) -> VariantFigures {
    VariantFigures {
        name: name.to_string(),
        about: String::new(),
        steps: 1,
        seconds,
        joules,
        low: joules,
        high: joules,
        source: "estimated".to_string(),
        val_loss,
        is_repeat: false,
        is_on_front: false,
    }
}

#[test]
fn the_front_is_what_no_other_beats_in_time_energy_and_loss() {
    let found = compare(vec![
        figures("default", 10.0, 100.0, 1.5),
        figures("slow", 20.0, 90.0, 1.5),
        figures("wasteful", 10.0, 120.0, 1.5),
        figures("short", 5.0, 50.0, 1.8),
        figures("worse", 30.0, 130.0, 1.9),
    ]);
    let front: Vec<&str> = found
        .iter()
        .filter(|one| one.is_on_front)
        .map(|one| one.name.as_str())
        .collect();
    assert_eq!(front, ["short", "slow", "default"]);
    assert!(found.windows(2).all(|pair| pair[0].joules <= pair[1].joules));
}

#[test]
fn an_early_stop_that_never_came_is_the_recipe_once_more_and_is_not_compared() {
    let figures_of = |name: &str, steps: u64, wall_s: f64| {
        let variant = variants(SCALE)
            .into_iter()
            .find(|it| it.name == name)
            .expect("a variant");
        let report = Report {
            steps,
            planned_steps: 1000,
            wall_s,
            best_val_loss: Some(1.5),
            energy: Some(EnergyFigures {
                joules: 10.0 * wall_s,
                ..EnergyFigures::default()
            }),
            ..Report::default()
        };
        VariantFigures::of(&variant, &report).expect("figures")
    };
    let front = |early_steps: u64| {
        let found = compare(vec![
            figures_of("default", 1000, 10.0),
            figures_of("early-stop", early_steps, 9.0),
        ]);
        let front = found.iter().filter(|one| one.is_on_front).map(|one| one.name.clone());
        (front.collect::<Vec<_>>(), found.iter().any(|one| one.is_repeat))
    };
    assert_eq!(front(1000), (vec!["default".to_string()], true));
    assert_eq!(front(900), (vec!["early-stop".to_string()], false));
}

#[test]
fn every_variant_is_a_recipe_that_resolves() {
    let recipe = RecipeText::find("shakespeare-char").expect("a recipe");
    let mut names = Vec::new();
    for variant in variants(SCALE) {
        let resolved = resolve(&recipe, &variant.sets);
        resolved.unwrap_or_else(|error| panic!("{}: {error}", variant.name));
        names.push(variant.name);
    }
    for needed in [
        "default",
        "reference-kernels",
        "one-thread",
        "bf16",
        "adamw",
        "early-stop",
        "batch-double",
    ] {
        assert!(names.contains(&needed), "{needed}");
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), variants(SCALE).len(), "each has its own run directory");

    let [lstm, transformer, tuned] = <[_; 3]>::try_from(contestants(Path::new("base"), 100)).expect("three");
    for variant in [&lstm, &transformer] {
        let sets: Vec<String> = variant
            .sets
            .iter()
            .filter(|set| !set.starts_with("tokenizer."))
            .cloned()
            .collect();
        resolve(&recipe, &sets).unwrap_or_else(|error| panic!("{}: {error}", variant.name));
        assert_ne!(sets.len(), variant.sets.len(), "all have the tokenizer of the base");
        assert!(variant.base.is_none());
    }
    assert_eq!(tuned.base.as_deref(), Some(Path::new("base")));
}

#[test]
fn the_cost_of_a_loss_is_what_was_spent_until_the_evaluation_that_reached_it() {
    let record = |step: u64, val_loss: Option<f64>| StepRecord {
        step,
        val_loss,
        wall_s: Some(step as f64 * 2.0),
        energy_j: (step != 2).then_some(10.0),
        energy_low_j: (step != 2).then_some(4.0),
        energy_high_j: (step != 2).then_some(25.0),
        ..StepRecord::default()
    };
    let records = [
        record(1, None),
        record(2, Some(2.0)),
        record(3, None),
        record(4, Some(1.5)),
        record(5, Some(1.4)),
    ];
    let cost = cost_of_loss(&records, 1.5).expect("reached");
    assert_eq!(
        (cost.step, cost.seconds, cost.joules, cost.val_loss),
        (4, 8.0, 30.0, 1.5)
    );
    assert_eq!((cost.low, cost.high), (12.0, 75.0), "with its bounds");
    assert_eq!(cost_of_loss(&records, 1.0), None);
    let other = vec![record(1, Some(1.8)), record(2, Some(1.7))];
    assert_eq!(common_loss(&[records.to_vec(), other]), Some(1.7));
    assert_eq!(common_loss(&[vec![record(1, None)]]), None);
}
