//! `taal energy watch`: a program's energy.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};

use taal_metrics::energy::{
    Clock, EnergyTotal, Level, Meter, MeterOptions, Monitor, Scope, SystemClock, codecarbon, has_nvidia_gpu,
    nvidia_gpus,
};
use taal_store::AtomicFile;

use super::settings::{Kept, Place};
use crate::arguments::EnergyWatchArguments;
use crate::failure::Failure;
use crate::terminal;

/// A table of ten thousand rows is below it.
const MAX_CSV_BYTES: u64 = 64 << 20;

/// How the program ended.
struct Ended {
    code: ExitCode,
    is_success: bool,
    /// Whether processes that it started are still running.
    has_left_some: bool,
}

/// Runs the program and ends as it ends; the figures go to standard error, because standard output is the program's.
pub fn watch(arguments: &EnergyWatchArguments) -> Result<ExitCode, Failure> {
    let place = Place::find();
    let Kept { options, grid, pue } = place.asked(&arguments.grid)?;
    if let Some(path) = arguments.json.as_ref().filter(|_| arguments.json == arguments.csv) {
        let message = format!("--json and --csv both name {}; name two files", path.display());
        return Err(Failure::from(anyhow::anyhow!(message)));
    }
    if let Some(path) = &arguments.json {
        check_writable(path)?;
    }
    if let Some(path) = &arguments.csv {
        rows_so_far(path)?;
        check_writable(path)?;
    }
    // Signals first: threads that start later inherit what is blocked.
    let signals = children::Signals::take()?;
    let options = MeterOptions {
        scope: Scope::Tree,
        level: if arguments.platform {
            Level::Platform
        } else {
            Level::Package
        },
        uses_gpu: has_nvidia_gpu(&place.files),
        ..options
    };
    let clock = SystemClock::default();
    let files = place.files.clone();
    let make = move || Meter::new(Box::new(files), Box::new(clock), nvidia_gpus(), options);
    let no_answer = || anyhow::anyhow!("the system gives no thread to meter with");
    let monitor = Monitor::start(make).ok_or_else(no_answer)?;
    let machine = monitor.machine().clone();
    let (gpu_names, gpu_count) = monitor.gpus();
    let gpu_names = gpu_names.to_owned();
    let ended = run(&arguments.command, &signals);
    let reading = monitor.finish().ok_or_else(no_answer)?;
    let ended = ended?;

    let name = arguments
        .command
        .first()
        .map(|name| name.to_string_lossy())
        .unwrap_or_default();
    let mut total = EnergyTotal::of(&reading, &machine);
    if ended.has_left_some {
        total.notes.insert(
            "processes that it started are still running; what they use from now on is not in the figures".to_owned(),
        );
    }
    let figures = total.figures(None, &grid, pue);
    let heading = format!(
        "{name}: {:.1} s, {:.1} CPU seconds",
        reading.seconds, reading.cpu_seconds
    );
    terminal::message(&format!(
        "{heading}\n{}",
        super::table(&figures, reading.seconds).trim_end()
    ));
    let write = || -> Result<(), Failure> {
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
            let text = rows_so_far(path)? + &codecarbon::csv_row(&total, &run);
            taal_store::write_atomic(path, text.as_bytes())?;
        }
        Ok(())
    };
    match write() {
        // The program's own code says more than that of a table that is missing.
        Err(failure) if !ended.is_success => {
            failure.report();
            Ok(ended.code)
        }
        written => written.map(|()| ended.code),
    }
}

/// Refuses a file that cannot be written, before the program runs.
fn check_writable(path: &Path) -> Result<(), Failure> {
    // It is dropped before it takes the place of the file.
    drop(AtomicFile::create(path)?);
    Ok(())
}

/// The table that is there already, to which a row is added, as codecarbon does; the header where there is none.
fn rows_so_far(path: &Path) -> Result<String, Failure> {
    if !taal_store::exists(path) {
        return Ok(codecarbon::csv_header());
    }
    let mut text = taal_store::read_text(path, MAX_CSV_BYTES)?.replace("\r\n", "\n");
    if text.trim().is_empty() {
        return Ok(codecarbon::csv_header());
    }
    if text.lines().next() != Some(codecarbon::csv_header().trim_end()) {
        return Err(Failure::from(anyhow::anyhow!(
            "{} has other columns than codecarbon's emissions.csv; name another file for --csv",
            path.display()
        )));
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// Starts the program and waits for it.
fn run(command: &[OsString], signals: &children::Signals) -> Result<Ended, Failure> {
    let [program, rest @ ..] = command else {
        return Err(Failure::from(anyhow::anyhow!("name the program to run after --")));
    };
    let child = signals.start(Command::new(program).args(rest));
    let name = program.to_string_lossy();
    let child = child.map_err(|error| anyhow::anyhow!("cannot start {name}: {error}"))?;
    children::wait(child, signals)
}

#[cfg(unix)]
mod children {
    //! Signals that go to the program, and processes that lose their parent.

    use std::process::{Child, Command, ExitCode};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

    use nix::errno::Errno;
    use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill};
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    use nix::unistd::Pid;

    use super::Ended;
    use crate::failure::Failure;

    /// No process.
    const NONE: i32 = 0;

    /// The signals that this process hands on to the program.
    pub struct Signals {
        /// What was blocked before.
        before: SigSet,
        blocked: SigSet,
        program: Arc<AtomicI32>,
        /// Whether a signal came before there was a program to hand it to.
        is_early: Arc<AtomicBool>,
    }

    impl Signals {
        /// Takes SIGTERM and SIGHUP, which are handed on, and SIGINT, which a terminal sends to the program as well: this process stays to
        /// report. Processes of the program that lose their parent become children of this one, which is how they are counted.
        pub fn take() -> Result<Self, Failure> {
            let mut blocked = SigSet::empty();
            blocked.add(Signal::SIGTERM);
            blocked.add(Signal::SIGHUP);
            let before = blocked.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
            let (program, is_early) = (Arc::new(AtomicI32::new(NONE)), Arc::new(AtomicBool::new(false)));
            let (started, early) = (program.clone(), is_early.clone());
            // While the program is started no signal is blocked, because it would inherit that.
            ctrlc::set_handler(move || early.store(started.load(Ordering::SeqCst) == NONE, Ordering::SeqCst))?;
            #[cfg(target_os = "linux")]
            // Without it (before Linux 3.4) detached processes are not counted.
            let _ = nix::sys::prctl::set_child_subreaper(true);
            let signals = Self {
                before,
                blocked,
                program,
                is_early,
            };
            let set = signals.blocked;
            let (program, early) = (signals.program.clone(), signals.is_early.clone());
            let hand_on = move || {
                while let Ok(signal) = set.wait() {
                    match program.load(Ordering::SeqCst) {
                        NONE => early.store(true, Ordering::SeqCst),
                        // It may have ended meanwhile.
                        id => drop(kill(Pid::from_raw(id), signal)),
                    }
                }
            };
            std::thread::Builder::new().name("signals".to_owned()).spawn(hand_on)?;
            Ok(signals)
        }

        /// Starts the program with the signals that this process was started with.
        pub fn start(&self, command: &mut Command) -> std::io::Result<Child> {
            self.before.thread_set_mask()?;
            let child = command.spawn();
            self.blocked.thread_block()?;
            if let Ok(child) = &child {
                let id = i32::try_from(child.id()).unwrap_or(NONE);
                self.program.store(id, Ordering::SeqCst);
                // Which signal it was is not known any more; all of them ask for the end.
                if self.is_early.load(Ordering::SeqCst) && id != NONE {
                    let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
                }
            }
            child
        }
    }

    /// Waits for the program. Detached processes that end earlier are waited for too, so that their CPU time is counted.
    pub fn wait(child: Child, signals: &Signals) -> Result<Ended, Failure> {
        let program = signals.program.load(Ordering::SeqCst);
        let (code, is_success) = loop {
            match waitpid(None, None) {
                Ok(WaitStatus::Exited(id, code)) if id.as_raw() == program => break (code, code == 0),
                // 128 and the signal's number, as shells have it.
                Ok(WaitStatus::Signaled(id, signal, _)) if id.as_raw() == program => {
                    break (128 + signal as i32, false);
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        };
        signals.program.store(NONE, Ordering::SeqCst);
        drop(child);
        let has_left_some = loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => break true,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => break false,
            }
        };
        Ok(Ended {
            code: ExitCode::from(u8::try_from(code).unwrap_or(1)),
            is_success,
            has_left_some,
        })
    }
}

#[cfg(not(unix))]
mod children {
    //! Systems without signals.

    use std::process::{Child, Command, ExitCode};

    use super::Ended;
    use crate::failure::Failure;

    /// Ctrl-C, which reaches the program as well: this process stays to report.
    pub struct Signals;

    impl Signals {
        pub fn take() -> Result<Self, Failure> {
            ctrlc::set_handler(|| {})?;
            Ok(Self)
        }

        pub fn start(&self, command: &mut Command) -> std::io::Result<Child> {
            command.spawn()
        }
    }

    /// Waits for the program.
    pub fn wait(mut child: Child, _: &Signals) -> Result<Ended, Failure> {
        let status = child.wait()?;
        let code = status.code().unwrap_or(1);
        Ok(Ended {
            code: ExitCode::from(u8::try_from(code).unwrap_or(1)),
            is_success: status.success(),
            has_left_some: false,
        })
    }
}
