//! `taal energy estimate`: a training before it starts.

use taal_metrics::energy::{
    ACCELERATOR_IDLE_SHARE, ACCELERATORS, Bloom, Energy, Footprint, GramCo2e, Grid, PRESETS, Power, TrainingCost,
    TrainingPlan, Watt, WattHour, bloom, bloom_grid, bloom_on, check_pue, embodied_of_accelerators, find_accelerator,
    find_preset, training_flops,
};

use super::settings::{Kept, Place};
use crate::arguments::EnergyEstimateArguments;
use crate::failure::Failure;
use crate::terminal;

/// The share of its peak that a device reaches in training, and its bounds: large trainings reach 20 to 60 %.
const UTILIZATION: [f64; 3] = [0.4, 0.2, 0.6];

/// How exact a share or a power is that was given, as a share of itself.
const GIVEN_ERROR: f64 = 0.1;

/// Shows what a training takes.
pub fn estimate(arguments: &EnergyEstimateArguments) -> Result<(), Failure> {
    match (arguments.preset.as_deref(), arguments.params, arguments.tokens) {
        (Some(name), ..) if name.to_lowercase() == "bloom" => show_bloom(arguments),
        (Some(name), ..) => show_preset(arguments, name),
        (None, Some(params), Some(tokens)) => show_own(arguments, params, tokens),
        _ if arguments.grid.grid.is_some() || arguments.grid.pue.is_some() => {
            let sentence = "--grid and --pue need a training: --preset NAME, or --params N and --tokens N";
            Err(Failure::from(anyhow::anyhow!(sentence)))
        }
        _ => show_all(*arguments.json),
    }
}

/// The electricity and PUE that were asked for; none where the paper's hold.
fn asked(arguments: &EnergyEstimateArguments) -> Result<(Option<Grid>, Option<f64>), Failure> {
    let grid = arguments.grid.grid.as_deref().map(Grid::find).transpose()?;
    let pue = arguments.grid.pue.map(check_pue).transpose()?;
    Ok((grid, pue))
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
    let (grid, pue) = asked(arguments)?;
    plan.g_per_kwh = grid.as_ref().map_or(plan.g_per_kwh, |grid| grid.g_per_kwh);
    plan.pue = pue.unwrap_or(plan.pue);
    let electricity = match &grid {
        Some(grid) => grid.words(),
        None => format!("{:.0} g CO2e/kWh, as the paper has it", plan.g_per_kwh),
    };
    let cost = plan.cost();
    if *arguments.json {
        return Ok(terminal::print_json(&serde_json::json!({
            "preset": preset.name,
            "flops": plan.flops,
            "flops_per_s": plan.flops_per_s,
            "watts": plan.watts,
            "pue": plan.pue,
            "grid": grid.as_ref().map(|grid| &grid.code),
            "g_per_kwh": plan.g_per_kwh,
            "year": grid.as_ref().and_then(|grid| grid.year),
            "accelerator_hours": cost.accelerator_hours,
            "kwh": cost.energy.kwh(),
            "co2e_g": cost.co2e,
            "co2e_embodied_g": embodied_of_accelerators(cost.accelerator_hours),
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
        ("CO2e", cost.co2e.to_string()),
        (
            "of it idle",
            "not known: the paper has the mean power of the system, at work and at rest".to_owned(),
        ),
        (
            "embodied",
            format!("{} on top, estimated", embodied_of_accelerators(cost.accelerator_hours)),
        ),
        ("electricity", electricity),
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

fn show_bloom(arguments: &EnergyEstimateArguments) -> Result<(), Failure> {
    let (grid, pue) = asked(arguments)?;
    let grid = grid.unwrap_or_else(bloom_grid);
    let pue = pue.unwrap_or(1.0);
    let found = bloom_on(&grid, pue);
    if *arguments.json {
        return Ok(terminal::print_json(&bloom_json(&found, &grid, pue))?);
    }
    let footprint = found.footprint;
    let rows = [
        ("training", "BLOOM 176B, 384 A100".to_owned()),
        (
            "hours",
            format!("{} of one accelerator", terminal::short(found.accelerator_hours)),
        ),
        ("dynamic", format!("{}, {}", found.dynamic * pue, footprint.dynamic)),
        ("idle", format!("{}, {}", found.idle * pue, footprint.idle)),
        ("embodied", footprint.embodied.to_string()),
        ("in all", footprint.total().to_string()),
        ("electricity", format!("{}, PUE {pue}", grid.words())),
        (
            "published",
            format!("24.7, 14.6 and 11.2 t, 50.5 t in all ({LUCCIONI})"),
        ),
    ];
    Ok(terminal::print(&terminal::table(&rows))?)
}

/// Where BLOOM's figures were published.
const LUCCIONI: &str = "Luccioni et al. 2022, arXiv 2211.02001";

/// BLOOM's figures under the names that the other presets have.
fn bloom_json(found: &Bloom, grid: &Grid, pue: f64) -> serde_json::Value {
    let (dynamic, idle) = (found.dynamic.kwh() * pue, found.idle.kwh() * pue);
    serde_json::json!({
        "preset": "bloom",
        "accelerator_hours": found.accelerator_hours,
        "kwh": dynamic + idle,
        "dynamic_kwh": dynamic,
        "idle_kwh": idle,
        "co2e_g": found.footprint.dynamic + found.footprint.idle,
        "co2e_dynamic_g": found.footprint.dynamic,
        "co2e_idle_g": found.footprint.idle,
        "co2e_embodied_g": found.footprint.embodied,
        "grid": grid.code,
        "g_per_kwh": grid.g_per_kwh,
        "year": grid.year,
        "pue": pue,
        "published_t": [24.7, 14.6, 11.2],
        "paper": LUCCIONI,
    })
}

fn show_all(is_json: bool) -> Result<(), Failure> {
    if is_json {
        let rows = PRESETS.iter().map(|preset| {
            let cost = preset.plan.cost();
            serde_json::json!({ "preset": preset.name, "kwh": cost.energy.kwh(), "co2e_g": cost.co2e,
                "published_mwh": preset.published.0, "published_t": preset.published.1 })
        });
        let rows: Vec<_> = rows.collect();
        let of_bloom = bloom_json(&bloom(), &bloom_grid(), 1.0);
        return Ok(terminal::print_json(
            &serde_json::json!({ "presets": rows, "bloom": of_bloom }),
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
    /// At rest.
    idle: Watt,
    /// Whether it is an accelerator in a server.
    is_accelerator: bool,
}

/// How far the mean power of an accelerator in training, with its part of the server, is from its design power: half of it to one and a half.
const ACCELERATOR_POWER: [f64; 2] = [0.5, 1.5];

fn device(arguments: &EnergyEstimateArguments, place: &Place, kept: &Kept) -> Result<Device, Failure> {
    let name = arguments.device.as_deref().unwrap_or("cpu");
    let mut device = if matches!(name, "cpu" | "flex") {
        let model = place.model(&kept.options);
        Device {
            words: place.machine.words(),
            peak_flops_per_s: taal_kernels::measured_peak_flops_per_s(),
            power: model.full(),
            idle: model.at_rest().watts,
            is_accelerator: false,
        }
    } else {
        let Some(found) = find_accelerator(name) else {
            let known: Vec<&str> = ACCELERATORS.iter().map(|it| it.name).collect();
            let name = taal_store::excerpt(name);
            let known = known.join(", ");
            return Err(Failure::from(anyhow::anyhow!(
                "unknown device {name}: expected cpu or one of {known}"
            )));
        };
        let [low, high] = ACCELERATOR_POWER;
        Device {
            words: format!("one {}", found.name),
            peak_flops_per_s: found.peak_flops_per_s,
            power: Power {
                watts: found.watts,
                low: found.watts * low,
                high: found.watts * high,
            },
            idle: found.watts * ACCELERATOR_IDLE_SHARE,
            is_accelerator: true,
        }
    };
    if let Some(watts) = arguments.watts {
        let [value, low, high] = given(watts);
        device.power = Power::new(value, low, high);
        device.idle = device.idle.min(device.power.watts);
    }
    Ok(device)
}

/// A value that was given, with the bounds of what may be meant by it.
fn given(value: f64) -> [f64; 3] {
    [value, value * (1.0 - GIVEN_ERROR), value * (1.0 + GIVEN_ERROR)]
}

/// Hours, energy and gases: value, lower and upper bound.
struct Costs {
    utilization: f64,
    value: TrainingCost,
    low: TrainingCost,
    high: TrainingCost,
    footprint: Footprint,
}

fn costs(arguments: &EnergyEstimateArguments, device: &Device, kept: &Kept, flops: f64) -> Result<Costs, Failure> {
    let share = arguments.utilization;
    if let Some(share) = share.filter(|share| *share > 1.0) {
        return Err(Failure::from(anyhow::anyhow!(
            "--utilization {share}: expected a share of at most 1"
        )));
    }
    let [utilization, least, most] = share.map_or(UTILIZATION, given);
    let cost = |utilization: f64, watts: Watt| {
        let plan = TrainingPlan {
            flops,
            flops_per_s: device.peak_flops_per_s * utilization,
            watts,
            pue: kept.pue,
            g_per_kwh: kept.grid.g_per_kwh,
        };
        plan.cost()
    };
    let value = cost(utilization, device.power.watts);
    let hours = value.accelerator_hours;
    // PUE is added where gases are computed.
    let all = WattHour(hours * device.power.watts.0);
    let idle = WattHour(hours * device.idle.0).min(all);
    Ok(Costs {
        utilization,
        value,
        // Less power for a shorter time, and more power for a longer one.
        low: cost(most.min(1.0), device.power.low),
        high: cost(least, device.power.high),
        footprint: Footprint::new(
            all - idle,
            idle,
            match device.is_accelerator {
                true => embodied_of_accelerators(hours),
                false => Place::find().machine.embodied_per_hour() * hours,
            },
            &kept.grid,
            kept.pue,
        ),
    })
}

fn show_own(arguments: &EnergyEstimateArguments, params: f64, tokens: f64) -> Result<(), Failure> {
    let place = Place::find();
    let kept = place.asked(&arguments.grid)?;
    let device = device(arguments, &place, &kept)?;
    let flops = training_flops(params, tokens);
    let Costs {
        utilization,
        value,
        low,
        high,
        footprint,
    } = costs(arguments, &device, &kept, flops)?;
    let (grid, pue) = (&kept.grid, kept.pue);
    if *arguments.json {
        let energy = Energy {
            joules: value.energy.joules(),
            low: low.energy.joules(),
            high: high.energy.joules(),
        };
        return Ok(terminal::print_json(&serde_json::json!({
            "device": device.words, "flops": flops, "peak_flops_per_s": device.peak_flops_per_s,
            "utilization": utilization, "hours": value.accelerator_hours, "hours_low": low.accelerator_hours,
            "hours_high": high.accelerator_hours, "energy": energy,
            "source": "estimated", "co2e_g": value.co2e, "co2e_dynamic_g": footprint.dynamic,
            "co2e_idle_g": footprint.idle, "co2e_embodied_g": footprint.embodied, "grid": grid.code,
            "g_per_kwh": grid.g_per_kwh, "year": grid.year, "pue": pue,
        }))?);
    }
    let gases: GramCo2e = value.co2e;
    let rows = [
        (
            "FLOPs",
            format!(
                "{:.3e}: 6 times {} parameters times {} tokens",
                flops,
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
                utilization * 100.0
            ),
        ),
        (
            "hours",
            format!(
                "{:.2} ({:.2} to {:.2})",
                value.accelerator_hours, low.accelerator_hours, high.accelerator_hours
            ),
        ),
        (
            "energy",
            format!("{} ({} to {}), estimated", value.energy, low.energy, high.energy),
        ),
        ("CO2e", format!("{gases} ({} to {})", low.co2e, high.co2e)),
        (
            "of it",
            format!("{} dynamic, {} idle", footprint.dynamic, footprint.idle),
        ),
        ("embodied", format!("{} on top", footprint.embodied)),
        ("electricity", format!("{}, PUE {pue}", grid.words())),
    ];
    Ok(terminal::print(&terminal::table(&rows))?)
}
