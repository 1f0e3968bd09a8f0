//! `taal energy watch`: a program's energy.

use std::process::{Command, ExitCode, ExitStatus};

use taal_metrics::energy::{
    Clock, EnergyTotal, Level, Meter, MeterOptions, Monitor, Scope, SystemClock, codecarbon, nvidia_gpus,
};

use super::settings::Place;
use crate::arguments::EnergyWatchArguments;
use crate::failure::Failure;
use crate::terminal;

/// Runs the program and ends as it ends; the figures go to standard error, because standard output is the program's.
pub fn watch(arguments: &EnergyWatchArguments) -> Result<ExitCode, Failure> {
    let place = Place::find()?;
    let (grid, pue) = place.electricity(&arguments.grid)?;
    let [program, rest @ ..] = arguments.command.as_slice() else {
        return Err(Failure::from(anyhow::anyhow!("name the program to run after --")));
    };
    // Ctrl-C reaches the program as well; this process stays to report.
    ctrlc::set_handler(|| {})?;
    let options = MeterOptions {
        scope: Scope::Tree,
        level: if arguments.platform {
            Level::Platform
        } else {
            Level::Package
        },
        ..place.options()
    };
    let clock = SystemClock::default();
    let files = place.files.clone();
    let make = move || Meter::new(Box::new(files), Box::new(clock), nvidia_gpus(), options);
    let no_answer = || anyhow::anyhow!("the system gives no thread to meter with");
    let monitor = Monitor::start(make).ok_or_else(no_answer)?;
    let machine = monitor.machine().clone();
    let (gpu_names, gpu_count) = monitor.gpus();
    let gpu_names = gpu_names.to_owned();
    let status = Command::new(program).args(rest).status();
    let reading = monitor.finish().ok_or_else(no_answer)?;
    let name = program.to_string_lossy();
    let status = status.map_err(|error| anyhow::anyhow!("cannot start {name}: {error}"))?;

    let figures = EnergyTotal::of(&reading, &machine).figures(None, &grid, pue);
    let heading = format!(
        "{name}: {:.1} s, {:.1} CPU seconds",
        reading.seconds, reading.cpu_seconds
    );
    terminal::message(&format!(
        "{heading}\n{}",
        super::table(&figures, reading.seconds).trim_end()
    ));
    if let Some(path) = &arguments.json {
        let found = serde_json::json!({
            "command": arguments.command.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>(),
            "seconds": reading.seconds,
            "cpu_seconds": reading.cpu_seconds,
            "energy": figures,
        });
        let text = serde_json::to_string_pretty(&found).map_err(anyhow::Error::from)? + "\n";
        taal_store::write_atomic(path, text.as_bytes())?;
    }
    if let Some(path) = &arguments.csv {
        let ended_s = clock.now().wall_s;
        let run = codecarbon::CsvRun {
            ended_s,
            project: "taal",
            run_id: &format!("{}-{}", codecarbon::timestamp(ended_s), std::process::id()),
            machine: &machine,
            grid: &grid,
            pue,
            gpus: (&gpu_names, gpu_count),
        };
        taal_store::write_atomic(path, codecarbon::csv(&reading, &run).as_bytes())?;
    }
    Ok(exit_code(status))
}

/// The program's own code; 128 and the signal's number if a signal ended it, as shells have it.
fn exit_code(status: ExitStatus) -> ExitCode {
    #[cfg(unix)]
    let of_signal = std::os::unix::process::ExitStatusExt::signal(&status).map(|signal| 128 + signal);
    #[cfg(not(unix))]
    let of_signal = None;
    let code = status.code().or(of_signal).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
