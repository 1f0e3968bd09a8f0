//! `taal bench transfer`: what pre-training is worth for a task.

use taal_experiments::transfer::{ArmFigures, TaskFigures, TransferFigures, TransferOptions, compare, mean};
use taal_trainer::{Progress, RecipeText, is_run};

use crate::arguments::BenchTransferArguments;
use crate::failure::Failure;
use crate::{hints, terminal};

/// Which training is made, on standard error.
struct Notes;

impl Progress for Notes {
    fn note(&mut self, message: &str) {
        terminal::message(message);
    }
}

/// `taal bench transfer`
pub fn run(arguments: &BenchTransferArguments) -> Result<(), Failure> {
    let tasks = arguments.task.iter().map(|name| RecipeText::find(name));
    let tasks: Vec<RecipeText> = tasks.collect::<Result<_, _>>()?;
    if !is_run(&arguments.model) {
        let model = arguments.model.display();
        let failure = Failure::from(anyhow::anyhow!(
            "{model}: no run here; expected the run directory of the pre-trained model, which knows what it was trained on"
        ));
        return Err(match hints::models_near(Some(&arguments.model)) {
            Some(models) => failure.with_hint(models),
            None => failure,
        });
    }
    if arguments.seeds == 0 {
        return Err(anyhow::anyhow!("--seeds 0: expected at least 1, which is one training of each kind").into());
    }
    let mut shares: Vec<f64> = arguments.percent.iter().map(|percent| percent / 100.0).collect();
    shares.sort_unstable_by(f64::total_cmp);
    let options = TransferOptions {
        shares,
        seeds: (1..=arguments.seeds).collect(),
        rates: arguments.rates.clone(),
        dir: arguments.run_dir.clone(),
    };
    let figures = compare(&arguments.model, &tasks, arguments.device.device, &options, &mut Notes)?;
    if let (Some(path), Some(task)) = (&arguments.svg, figures.tasks.first()) {
        taal_store::write_atomic(path, chart(task).as_bytes())?;
    }
    match *arguments.json {
        true => terminal::print_json(&figures)?,
        false => terminal::print(&table(&figures))?,
    }
    if let Some(path) = &arguments.svg {
        terminal::message(&format!("wrote {}", path.display()));
    }
    Ok(())
}

/// A row per share of the compute, a column per way to start.
fn table(figures: &TransferFigures) -> String {
    let mut text = format!(
        "{}: {} parameters, trained on {} tokens with {}FLOPs\n",
        figures.base,
        terminal::grouped(figures.params),
        terminal::grouped(figures.base_tokens),
        terminal::short(figures.base_flops),
    );
    for task in &figures.tasks {
        text += &format!(
            "\n{}: loss in nats per token, lowest and highest of the seeds\n",
            task.name
        );
        text += &format!(
            "{:>9}{:>8}  {:<42}{:<42}{}\n",
            "compute", "steps", "from new weights", "fine-tuned", "disjoint"
        );
        for point in &task.points {
            text += &format!(
                "{:>7} %{:>8}  {:<42}{:<42}{}\n",
                100.0 * point.share,
                terminal::grouped(point.steps),
                arm(&point.from_scratch, task),
                arm(&point.fine_tuned, task),
                if point.is_disjoint { "yes" } else { "no" },
            );
            if !point.fine_tuned.forgotten.is_empty() {
                let rise = mean(&point.fine_tuned.forgotten);
                text += &format!("{:>19}{:<42}old data {rise:+.4} nats\n", "", "");
            }
        }
    }
    text
}

fn arm(figures: &ArmFigures, task: &TaskFigures) -> String {
    let [low, high] = figures.loss_range();
    let answers = match (&task.metric, figures.answers.is_empty()) {
        // Figures of a whole text are from 0 to 100 and have names of their own.
        (Some(metric), false) if matches!(metric.as_str(), "bleu" | "chrf" | "chrf++") => {
            format!(", {metric} {:.2}", mean(&figures.answers))
        }
        (Some(_), false) => format!(", {:.1} %", 100.0 * mean(&figures.answers)),
        _ => String::new(),
    };
    format!("{:.4} ({low:.4} to {high:.4}){answers}", figures.mean_loss())
}

/// The loss by share of the compute.
fn chart(task: &TaskFigures) -> String {
    let curve = |arm: &dyn Fn(&taal_experiments::transfer::PointFigures) -> f64| {
        task.points
            .iter()
            .map(|point| (100.0 * point.share, arm(point)))
            .collect()
    };
    let title = format!("Loss of {} by compute, from new weights and fine-tuned", task.name);
    let lines = taal_draw::Lines {
        title: &title,
        x_label: "compute, % of the pre-training",
        y_label: "loss (nats per token)",
        curves: [
            ("from new weights", curve(&|point| point.from_scratch.mean_loss())),
            ("fine-tuned", curve(&|point| point.fine_tuned.mean_loss())),
        ],
    };
    lines.to_svg()
}
