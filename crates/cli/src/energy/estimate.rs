//! `taal energy estimate`: a training before it starts.

use taal_metrics::energy::{
    ACCELERATORS, Energy, GramCo2e, PRESETS, Power, PowerModel, TrainingCost, TrainingPlan, Watt, bloom,
    find_accelerator, find_preset, training_flops,
};

use super::settings::Place;
use crate::arguments::EnergyEstimateArguments;
use crate::failure::Failure;
use crate::terminal;

/// Shows what a training takes.
pub fn estimate(arguments: &EnergyEstimateArguments) -> Result<(), Failure> {
    match (arguments.preset.as_deref(), arguments.params, arguments.tokens) {
        (Some("bloom"), ..) => show_bloom(*arguments.json),
        (Some(name), ..) => show_preset(arguments, name),
        (None, Some(params), Some(tokens)) => show_own(arguments, params, tokens),
        _ => show_all(*arguments.json),
    }
}

fn names() -> String {
    let names: Vec<&str> = PRESETS.iter().map(|preset| preset.name).chain(["bloom"]).collect();
    names.join(", ")
}

fn show_preset(arguments: &EnergyEstimateArguments, name: &str) -> Result<(), Failure> {
    let Some(preset) = find_preset(name) else {
        let name = taal_store::excerpt(name);
        return Err(Failure::from(anyhow::anyhow!(
            "unknown preset {name}: expected one of {}",
            names()
        )));
    };
    // The electricity and the building are the paper's, unless others are asked for.
    let mut plan = preset.plan;
    let place = Place::find()?;
    let (grid, pue) = place.electricity(&arguments.grid)?;
    if arguments.grid.grid.is_some() {
        plan.g_per_kwh = grid.g_per_kwh;
    }
    if arguments.grid.pue.is_some() {
        plan.pue = pue;
    }
    let cost = plan.cost();
    if *arguments.json {
        return Ok(terminal::print_json(&serde_json::json!({
            "preset": preset.name,
            "flops": plan.flops,
            "flops_per_s": plan.flops_per_s,
            "watts": plan.watts,
            "pue": plan.pue,
            "g_per_kwh": plan.g_per_kwh,
            "accelerator_hours": cost.accelerator_hours,
            "kwh": cost.energy.kwh(),
            "co2e_g": cost.co2e,
            "published_mwh": preset.published.0,
            "published_t": preset.published.1,
            "paper": preset.paper,
        }))?);
    }
    let rows = [
        ("training", preset.title.to_owned()),
        (
            "FLOPs",
            format!(
                "{:.3e}, {} FLOP/s per accelerator",
                plan.flops,
                terminal::short(plan.flops_per_s)
            ),
        ),
        (
            "hours",
            format!("{} of one accelerator", terminal::short(cost.accelerator_hours)),
        ),
        (
            "energy",
            format!("{} at {} per accelerator, PUE {}", cost.energy, plan.watts, plan.pue),
        ),
        ("CO2e", format!("{} at {:.0} g/kWh", cost.co2e, plan.g_per_kwh)),
        (
            "published",
            format!(
                "{} MWh, {} t ({})",
                preset.published.0, preset.published.1, preset.paper
            ),
        ),
    ];
    Ok(terminal::print(&terminal::table(&rows))?)
}

fn show_bloom(is_json: bool) -> Result<(), Failure> {
    let found = bloom();
    if is_json {
        return Ok(terminal::print_json(&found)?);
    }
    let footprint = found.footprint;
    let rows = [
        ("training", "BLOOM 176B, 384 A100".to_owned()),
        (
            "hours",
            format!("{} of one accelerator", terminal::short(found.accelerator_hours)),
        ),
        ("dynamic", format!("{}, {}", found.dynamic, footprint.dynamic)),
        ("idle", format!("{}, {}", found.idle, footprint.idle)),
        ("embodied", footprint.embodied.to_string()),
        ("in all", footprint.total().to_string()),
        (
            "published",
            "24.7, 14.6 and 11.2 t, 50.5 t in all (Luccioni et al. 2022, arXiv 2211.02001)".to_owned(),
        ),
    ];
    Ok(terminal::print(&terminal::table(&rows))?)
}

fn show_all(is_json: bool) -> Result<(), Failure> {
    if is_json {
        let rows = PRESETS.iter().map(|preset| {
            let cost = preset.plan.cost();
            serde_json::json!({ "preset": preset.name, "kwh": cost.energy.kwh(), "co2e_g": cost.co2e,
                "published_mwh": preset.published.0, "published_t": preset.published.1 })
        });
        let rows: Vec<_> = rows.collect();
        return Ok(terminal::print_json(
            &serde_json::json!({ "presets": rows, "bloom": bloom() }),
        )?);
    }
    let mut text = format!(
        "{:<10}{:>14}{:>14}{:>12}{:>12}  {}\n",
        "preset", "energy", "published", "CO2e", "published", "training"
    );
    for preset in &PRESETS {
        let TrainingCost { energy, co2e, .. } = preset.plan.cost();
        let (mwh, tonnes) = preset.published;
        text.push_str(&format!(
            "{:<10}{:>14}{:>14}{:>12}{:>12}  {}\n",
            preset.name,
            energy.to_string(),
            format!("{mwh} MWh"),
            co2e.to_string(),
            format!("{tonnes} t"),
            preset.title
        ));
    }
    let of_bloom = bloom();
    text.push_str(&format!(
        "{:<10}{:>14}{:>14}{:>12}{:>12}  {}\n",
        "bloom",
        of_bloom.dynamic.to_string(),
        "433 MWh",
        of_bloom.footprint.dynamic.to_string(),
        "24.7 t",
        "BLOOM 176B, 384 A100; without machines at rest and their making"
    ));
    Ok(terminal::print(&text)?)
}

/// The device of an estimate.
struct Device {
    words: String,
    peak_flops_per_s: f64,
    power: Power,
}

/// How far the mean power of an accelerator in training is from its design power: half of it to all of it.
const ACCELERATOR_LOW: f64 = 0.5;

fn device(arguments: &EnergyEstimateArguments, place: &Place) -> Result<Device, Failure> {
    let mut device = if matches!(arguments.device.as_str(), "cpu" | "flex") {
        let settings = place.settings();
        let model = settings
            .calibration
            .map_or_else(|| PowerModel::of(&place.machine), |it| PowerModel::calibrated(&it));
        Device {
            words: place.machine.words(),
            peak_flops_per_s: taal_kernels::measured_peak_flops_per_s(),
            power: model.full(),
        }
    } else {
        let Some(found) = find_accelerator(&arguments.device) else {
            let known: Vec<&str> = ACCELERATORS.iter().map(|it| it.name).collect();
            let name = taal_store::excerpt(&arguments.device);
            let known = known.join(", ");
            return Err(Failure::from(anyhow::anyhow!(
                "unknown device {name}: expected cpu or one of {known}"
            )));
        };
        Device {
            words: format!("one {}", found.name),
            peak_flops_per_s: found.peak_flops_per_s,
            power: Power {
                watts: found.watts,
                low: found.watts * ACCELERATOR_LOW,
                high: found.watts,
            },
        }
    };
    if let Some(watts) = arguments.watts {
        device.power = Power::new(watts, watts, watts);
    }
    Ok(device)
}

fn show_own(arguments: &EnergyEstimateArguments, params: f64, tokens: f64) -> Result<(), Failure> {
    if arguments.utilization > 1.0 {
        let share = arguments.utilization;
        return Err(Failure::from(anyhow::anyhow!(
            "--utilization {share}: expected a share of at most 1"
        )));
    }
    let place = Place::find()?;
    let (grid, pue) = place.electricity(&arguments.grid)?;
    let device = device(arguments, &place)?;
    let flops = training_flops(params, tokens);
    let cost = |watts: Watt| {
        let plan = TrainingPlan {
            flops,
            flops_per_s: device.peak_flops_per_s * arguments.utilization,
            watts,
            pue,
            g_per_kwh: grid.g_per_kwh,
        };
        plan.cost()
    };
    let (value, low, high) = (
        cost(device.power.watts),
        cost(device.power.low),
        cost(device.power.high),
    );
    if *arguments.json {
        let energy = Energy {
            joules: value.energy.joules(),
            low: low.energy.joules(),
            high: high.energy.joules(),
        };
        return Ok(terminal::print_json(&serde_json::json!({
            "device": device.words, "flops": flops, "peak_flops_per_s": device.peak_flops_per_s,
            "utilization": arguments.utilization, "hours": value.accelerator_hours, "energy": energy,
            "source": "estimated", "co2e_g": value.co2e, "grid": grid.code, "g_per_kwh": grid.g_per_kwh,
            "year": grid.year, "pue": pue,
        }))?);
    }
    let gases: GramCo2e = value.co2e;
    let rows = [
        (
            "FLOPs",
            format!(
                "{}: 6 times {} parameters times {} tokens",
                terminal::short(flops),
                terminal::short(params),
                terminal::short(tokens)
            ),
        ),
        (
            "device",
            format!(
                "{}, peak {}FLOP/s, {:.0} % of it",
                device.words,
                terminal::short(device.peak_flops_per_s),
                arguments.utilization * 100.0
            ),
        ),
        ("hours", format!("{:.2}", value.accelerator_hours)),
        (
            "energy",
            format!("{} ({} to {}), estimated", value.energy, low.energy, high.energy),
        ),
        ("CO2e", format!("{gases} ({} to {})", low.co2e, high.co2e)),
        ("electricity", format!("{}, PUE {pue}", grid.words())),
    ];
    Ok(terminal::print(&terminal::table(&rows))?)
}
