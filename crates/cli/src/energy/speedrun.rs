//! `taal bench speedrun`: the time and energy to a loss, next to another program's.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use taal_metrics::Report;
use taal_metrics::energy::{
    Energy, Joule, Meter, MeterOptions, Monitor, Scope, SystemClock, has_nvidia_gpu, nvidia_gpus,
};
use taal_store::layout::REPORT_FIGURES_FILE;

use super::settings::Place;
use crate::arguments::BenchSpeedrunArguments;
use crate::failure::Failure;
use crate::terminal;

/// Stands for the seed in the other program's arguments.
const SEED: &str = "{seed}";

/// One run of one program.
#[derive(Debug, Clone, Serialize)]
struct Try {
    program: &'static str,
    seed: u64,
    /// Seconds of the whole process.
    seconds: f64,
    joules: f64,
    low: f64,
    high: f64,
    source: String,
    val_loss: f64,
    is_reached: bool,
}

/// What the other program prints.
#[derive(Debug, Deserialize)]
struct Told {
    val_loss: f64,
}

/// Everything that is printed.
#[derive(Debug, Serialize)]
struct Speedrun {
    loss: f64,
    tries: Vec<Try>,
    /// Median seconds and joules of Taal's runs.
    taal: [f64; 2],
    /// Those of the other program; none without one.
    peer: Option<[f64; 2]>,
    /// How many times less Taal takes.
    ratios: Option<[f64; 2]>,
}

/// Runs both programs with every seed in turn, so that a change of the machine's pace meets both.
pub fn bench_speedrun(arguments: &BenchSpeedrunArguments) -> Result<(), Failure> {
    let mut tries = Vec::new();
    for seed in &arguments.seed {
        tries.push(ours(arguments, *seed)?);
        if !arguments.peer.is_empty() {
            tries.push(peer(&arguments.peer, *seed, arguments.loss)?);
        }
    }
    let taal = medians(&tries, "taal").unwrap_or_default();
    let peer = medians(&tries, "peer");
    let found = Speedrun {
        loss: arguments.loss,
        taal,
        peer,
        ratios: peer.map(|peer| [peer[0] / taal[0].max(1e-9), peer[1] / taal[1].max(1e-9)]),
        tries,
    };
    match *arguments.json {
        true => terminal::print_json(&found)?,
        false => terminal::print(&table(&found))?,
    }
    let missed = found
        .tries
        .iter()
        .filter(|one| one.program == "taal" && !one.is_reached)
        .count();
    match missed {
        0 => Ok(()),
        missed => Err(Failure::from(anyhow::anyhow!(
            "{missed} of {} runs of {} did not reach a validation loss of {}",
            arguments.seed.len(),
            arguments.recipe,
            arguments.loss
        ))),
    }
}

fn ours(arguments: &BenchSpeedrunArguments, seed: u64) -> Result<Try, Failure> {
    let dir = arguments.dir.join(format!("{}-{seed}", name_of(&arguments.recipe)));
    if taal_store::exists(&dir) {
        let error = anyhow::anyhow!(
            "{} is there already, and a run that is not whole cannot be timed",
            dir.display()
        );
        return Err(Failure::from(error).with_hint("name another directory with --dir"));
    }
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["train", "--recipe", &arguments.recipe])
        .arg("--run-dir")
        .arg(&dir);
    command.arg("--set").arg(format!("seed={seed}"));
    command.arg("--set").arg(format!("train.stop_loss={}", arguments.loss));
    for set in &arguments.set {
        command.args(["--set", set]);
    }
    command.stdout(Stdio::null());
    let metered = metered(|| Ok(command.status()?.success()))?;
    if !metered.result {
        return Err(Failure::from(anyhow::anyhow!("the training with seed {seed} failed")));
    }
    let report = Report::read_json(&dir.join(REPORT_FIGURES_FILE))?;
    let val_loss = report.best_val_loss.unwrap_or(f64::NAN);
    Ok(metered.into_try("taal", seed, val_loss, arguments.loss))
}

/// A recipe's name, or its file's.
fn name_of(recipe: &str) -> String {
    let stem = Path::new(recipe).file_stem().unwrap_or_default();
    stem.to_string_lossy().into_owned()
}

fn peer(words: &[OsString], seed: u64, loss: f64) -> Result<Try, Failure> {
    let words: Vec<OsString> = words
        .iter()
        .map(|word| word.to_string_lossy().replace(SEED, &seed.to_string()).into())
        .collect();
    let [program, rest @ ..] = words.as_slice() else {
        return Err(Failure::from(anyhow::anyhow!("name the other program after --")));
    };
    let name = program.to_string_lossy();
    let metered = metered(|| Ok(Command::new(program).args(rest).stderr(Stdio::inherit()).output()?))?;
    let output = &metered.result;
    if !output.status.success() {
        let error = anyhow::anyhow!("{name} ended with {}", output.status);
        return Err(Failure::from(error));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or_default();
    let told: Told = serde_json::from_str(last).map_err(|_| {
        let last = taal_store::excerpt(last);
        anyhow::anyhow!("{name}: expected a JSON object with val_loss in its last line, found {last}")
    })?;
    Ok(metered.into_try("peer", seed, told.val_loss, loss))
}

/// What a process took.
struct Metered<T> {
    result: T,
    seconds: f64,
    energy: Energy,
    source: String,
}

impl<T> Metered<T> {
    fn into_try(self, program: &'static str, seed: u64, val_loss: f64, loss: f64) -> Try {
        Try {
            program,
            seed,
            seconds: self.seconds,
            joules: self.energy.joules.0,
            low: self.energy.low.0,
            high: self.energy.high.0,
            source: self.source,
            val_loss,
            is_reached: val_loss <= loss,
        }
    }
}

/// Both programs are metered from outside, by the same meter.
fn metered<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<Metered<T>, Failure> {
    let place = Place::find();
    let options = MeterOptions {
        scope: Scope::Tree,
        uses_gpu: has_nvidia_gpu(&place.files),
        ..place.kept(terminal::message).options
    };
    let files = place.files.clone();
    let make = || {
        Meter::new(
            Box::new(files),
            Box::new(SystemClock::default()),
            nvidia_gpus(),
            options,
        )
    };
    let no_thread = || anyhow::anyhow!("the system gives no thread to meter with");
    let monitor = Monitor::start(make).ok_or_else(no_thread)?;
    let began = Instant::now();
    let result = work()?;
    let seconds = began.elapsed().as_secs_f64();
    let reading = monitor.finish().ok_or_else(no_thread)?;
    for note in reading.notes.sentences() {
        terminal::message(&format!("note: {note}"));
    }
    Ok(Metered {
        result,
        seconds,
        energy: reading.total(),
        source: reading.sources.to_string(),
    })
}

/// Median seconds and joules of a program's runs; one that does not reach the loss counts with its whole time.
fn medians(tries: &[Try], program: &str) -> Option<[f64; 2]> {
    let of = |pick: fn(&Try) -> f64| {
        let mut values: Vec<f64> = tries.iter().filter(|one| one.program == program).map(pick).collect();
        values.sort_unstable_by(f64::total_cmp);
        let middle = values.len() / 2;
        match values.len() % 2 {
            _ if values.is_empty() => None,
            0 => Some((values[middle - 1] + values[middle]) / 2.0),
            _ => Some(values[middle]),
        }
    };
    Some([of(|one| one.seconds)?, of(|one| one.joules)?])
}

fn table(found: &Speedrun) -> String {
    let mut text = format!(
        "to a validation loss of {}\n\n{:<10}{:>8}{:>11}{:>12}{:>26}{:>10}  {}\n",
        found.loss, "program", "seed", "time", "energy", "bounds", "loss", "reached"
    );
    let energy = |joules: f64| Joule(joules).watt_hours().to_string();
    for one in &found.tries {
        text.push_str(&format!(
            "{:<10}{:>8}{:>11}{:>12}{:>26}{:>10.4}  {}\n",
            one.program,
            one.seed,
            format!("{:.2} s", one.seconds),
            energy(one.joules),
            format!("{} to {}", energy(one.low), energy(one.high)),
            one.val_loss,
            if one.is_reached { "yes" } else { "no" }
        ));
    }
    let sources: BTreeSet<&str> = found.tries.iter().map(|one| one.source.as_str()).collect();
    let sources: Vec<&str> = sources.into_iter().collect();
    text.push_str(&format!("source: {}\n", sources.join(", ")));
    let median = |name: &str, [seconds, joules]: [f64; 2]| format!("{name}: {seconds:.2} s, {}\n", energy(joules));
    text.push('\n');
    text.push_str(&median("median of taal", found.taal));
    if let (Some(peer), Some([time, joules])) = (found.peer, found.ratios) {
        text.push_str(&median("median of the peer", peer));
        text.push_str(&format!(
            "the peer takes {time:.1} times the time and {joules:.1} times the energy\n"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_count_every_run_of_a_program() {
        let one = |program, seconds: f64, is_reached| Try {
            program,
            seed: 1,
            seconds,
            joules: 2.0 * seconds,
            low: 0.0,
            high: 0.0,
            source: String::new(),
            val_loss: 1.9,
            is_reached,
        };
        let tries = [
            one("taal", 3.0, true),
            one("peer", 70.0, false),
            one("taal", 9.0, true),
            one("taal", 4.0, true),
        ];
        assert_eq!(medians(&tries, "taal"), Some([4.0, 8.0]));
        assert_eq!(medians(&tries, "peer"), Some([70.0, 140.0]));
        assert_eq!(medians(&tries[..3], "taal"), Some([6.0, 12.0]));
        assert_eq!(medians(&[], "taal"), None);
    }
}
