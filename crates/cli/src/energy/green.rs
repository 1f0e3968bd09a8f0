//! `taal bench green`: variants of a recipe, their time, energy and loss.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;
use taal_draw::{Scatter, ScatterPoint};
use taal_experiments::green::{self, LossCost, Scale, Variant, VariantFigures, common_loss, compare, cost_of_loss};
use taal_metrics::energy::Joule;
use taal_metrics::{LOG_NAME, Report, StepRecord};
use taal_store::layout::{MODEL_DIR, REPORT_FIGURES_FILE};
use taal_trainer::{RecipeText, resolve};

use super::children::Training;
use crate::arguments::BenchGreenArguments;
use crate::failure::Failure;
use crate::terminal;

/// Everything that is printed.
#[derive(Debug, Serialize)]
struct Green {
    recipe: String,
    variants: Vec<VariantFigures>,
    /// The loss at which the contestants are compared.
    contest_loss: Option<f64>,
    contest: Vec<Contestant>,
}

/// What a model took to the common loss.
#[derive(Debug, Serialize)]
struct Contestant {
    name: String,
    about: String,
    #[serde(flatten)]
    cost: LossCost,
    /// Where the joules come from.
    source: String,
    /// With the trainings that it started from.
    joules_with_inherited: f64,
    low_with_inherited: f64,
    high_with_inherited: f64,
}

/// Trains the variants, one process each, and compares them.
pub fn bench_green(arguments: &BenchGreenArguments) -> Result<(), Failure> {
    let mut sets = arguments.set.clone();
    sets.extend(arguments.steps.map(|steps| format!("train.steps={steps}")));
    let resolved = resolve(&RecipeText::find(&arguments.recipe)?, &sets)?;
    let train = &resolved.recipe.train;
    let scale = Scale {
        steps: train.steps,
        batch_size: train.batch_size,
    };
    let mut variants = green::variants(scale);
    check_names(&variants, &arguments.only)?;
    variants.retain(|variant| arguments.only.is_empty() || arguments.only.iter().any(|name| name == variant.name));
    let runner = Runner { arguments, sets };
    let mut figures = Vec::new();
    for variant in &variants {
        let (report, _) = runner.run(variant)?;
        let found = VariantFigures::of(variant, &report);
        let without = || anyhow::anyhow!("{} has no validation loss or no energy to compare", variant.name);
        figures.push(found.ok_or_else(without)?);
    }
    let base = arguments.dir.join("default").join(MODEL_DIR);
    let mut found = Green {
        recipe: arguments.recipe.clone(),
        variants: compare(figures),
        contest_loss: None,
        contest: Vec::new(),
    };
    if arguments.contest_steps > 0 && taal_store::is_dir(&base) {
        contest(&runner, &base, arguments.contest_steps, &mut found)?;
    }
    if let Some(path) = &arguments.svg {
        taal_store::write_atomic(path, chart(&found).as_bytes())?;
    }
    match *arguments.json {
        true => terminal::print_json(&found)?,
        false => terminal::print(&table(&found))?,
    }
    if let Some(path) = &arguments.svg {
        terminal::message(&format!("wrote {}", path.display()));
    }
    Ok(())
}

fn check_names(variants: &[Variant], only: &[String]) -> Result<(), Failure> {
    let names: Vec<&str> = variants.iter().map(|variant| variant.name).collect();
    match only.iter().find(|name| !names.contains(&name.as_str())) {
        Some(name) => {
            let name = taal_store::excerpt(name);
            let names = names.join(", ");
            Err(Failure::from(anyhow::anyhow!("--only {name}: expected one of {names}")))
        }
        None => Ok(()),
    }
}

/// Runs variants, each in its directory.
struct Runner<'a> {
    arguments: &'a BenchGreenArguments,
    sets: Vec<String>,
}

impl Runner<'_> {
    /// The report and the log of a variant; it is trained unless that is done.
    fn run(&self, variant: &Variant) -> Result<(Report, Vec<StepRecord>), Failure> {
        let dir = self.arguments.dir.join(variant.name);
        let report = dir.join(REPORT_FIGURES_FILE);
        let is_done = |report: &Report| report.steps == report.planned_steps || variant.name == "early-stop";
        let kept = Report::read_json(&report).ok().filter(is_done);
        let report = match kept {
            Some(kept) => kept,
            None => {
                terminal::message(&format!("{}: {}", variant.name, variant.about));
                self.train(variant, &dir)?;
                Report::read_json(&report)?
            }
        };
        Ok((report, taal_metrics::read_log(&dir.join(LOG_NAME))?))
    }

    fn train(&self, variant: &Variant, dir: &Path) -> Result<(), Failure> {
        let sets = self.sets.iter().chain(&variant.sets);
        let training = Training {
            name: variant.name,
            recipe: &self.arguments.recipe,
            dir: dir.to_path_buf(),
            base: variant.base.as_deref(),
            sets: sets.map(String::as_str).collect(),
            environment: &variant.environment,
        };
        training.run()
    }
}

/// Compares an LSTM, a transformer and a fine-tuned one at the loss that all reach.
fn contest(runner: &Runner<'_>, base: &Path, steps: u64, found: &mut Green) -> Result<(), Failure> {
    let contestants = green::contestants(base, steps);
    let mut runs = Vec::new();
    for contestant in &contestants {
        runs.push(runner.run(contestant)?);
    }
    let logs: Vec<Vec<StepRecord>> = runs.iter().map(|(_, records)| records.clone()).collect();
    let Some(loss) = common_loss(&logs) else {
        return Ok(());
    };
    found.contest_loss = Some(loss);
    for (contestant, (report, records)) in contestants.iter().zip(&runs) {
        let Some(cost) = cost_of_loss(records, loss) else {
            continue;
        };
        let own = report.energy.clone().unwrap_or_default();
        let [low, joules, high] = report.ledger.as_ref().map_or([0.0; 3], |totals| {
            [totals.low - own.low, totals.joules - own.joules, totals.high - own.high]
        });
        found.contest.push(Contestant {
            name: contestant.name.to_string(),
            about: contestant.about.to_string(),
            cost,
            source: own.source,
            joules_with_inherited: cost.joules + joules,
            low_with_inherited: cost.low + low,
            high_with_inherited: cost.high + high,
        });
    }
    Ok(())
}

fn table(found: &Green) -> String {
    let mut text = format!(
        "{}\n\n{:<20}{:>9}{:>10}{:>11}{:>24}{:>10}  {}\n",
        found.recipe, "variant", "steps", "time", "energy", "bounds", "loss", "front"
    );
    let energy = |joules: f64| Joule(joules).watt_hours().to_string();
    let bounds = |low: f64, high: f64| format!("{} to {}", energy(low), energy(high));
    for one in &found.variants {
        text.push_str(&format!(
            "{:<20}{:>9}{:>10}{:>11}{:>24}{:>10.4}  {}\n",
            one.name,
            terminal::grouped(one.steps),
            format!("{:.1} s", one.seconds),
            energy(one.joules),
            bounds(one.low, one.high),
            one.val_loss,
            match (one.is_on_front, one.is_repeat) {
                (true, _) => "yes",
                (false, true) => "did not stop: default once more",
                (false, false) => "",
            }
        ));
    }
    let of_variants = found.variants.iter().map(|one| one.source.as_str());
    let sources: BTreeSet<&str> = of_variants
        .chain(found.contest.iter().map(|one| one.source.as_str()))
        .collect();
    let sources: Vec<&str> = sources.into_iter().collect();
    text.push_str(&format!("source: {}\n", sources.join(", ")));
    if let Some(loss) = found.contest_loss {
        text.push_str(&format!(
            "\nto a loss of {loss:.4} on names\n{:<20}{:>9}{:>10}{:>11}{:>24}{:>23}{:>24}\n",
            "model", "steps", "time", "energy", "bounds", "with what it inherits", "bounds"
        ));
        for one in &found.contest {
            text.push_str(&format!(
                "{:<20}{:>9}{:>10}{:>11}{:>24}{:>23}{:>24}\n",
                one.name,
                terminal::grouped(one.cost.step),
                format!("{:.1} s", one.cost.seconds),
                energy(one.cost.joules),
                bounds(one.cost.low, one.cost.high),
                energy(one.joules_with_inherited),
                bounds(one.low_with_inherited, one.high_with_inherited)
            ));
        }
    }
    text
}

fn chart(found: &Green) -> String {
    let point = |one: &VariantFigures| ScatterPoint {
        name: one.name.clone(),
        x: Joule(one.joules).watt_hours().0,
        y: one.val_loss,
        is_on_front: one.is_on_front,
    };
    let chart = Scatter {
        title: "Validation loss by energy of each variant",
        x_label: "energy (Wh)",
        y_label: "validation loss (nats per token)",
        points: found.variants.iter().filter(|one| !one.is_repeat).map(point).collect(),
    };
    chart.to_svg()
}
