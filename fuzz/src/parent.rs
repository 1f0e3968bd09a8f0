//! The parent process: it starts children, and keeps the input that ended one.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use taal_fuzz::{Target, mutate, scratch};

use crate::Arguments;
use crate::child::PROGRESS;

/// Executions per child: enough to make its start negligible, few enough to limit leaks.
const CHUNK: u64 = 50_000;

/// An execution that takes longer counts as hanging; most take less than a millisecond.
const MOST_SECONDS: u64 = 30;

/// After this many different faults a target is skipped until they are fixed.
const MOST_FAULTS: usize = 20;

/// The results of a target.
pub(crate) struct Report {
    name: &'static str,
    executions: u64,
    accepted: u64,
    pub(crate) faults: usize,
    peak_bytes: usize,
    seconds: f64,
}

impl Report {
    pub(crate) const HEADER: &str = "target         executions   accepted   faults   peak memory    seconds";
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{:<14} {:>10} {:>10} {:>8} {:>9.1} MiB {:>10.1}",
            self.name,
            self.executions,
            self.accepted,
            self.faults,
            self.peak_bytes as f64 / f64::from(1 << 20),
            self.seconds
        )
    }
}

/// Runs a target in as many children as needed.
pub(crate) fn run(target: &Target, arguments: &Arguments) -> Result<Report> {
    let start = Instant::now();
    let mut report = Report {
        name: target.name,
        executions: 0,
        accepted: 0,
        faults: 0,
        peak_bytes: 0,
        seconds: 0.0,
    };
    let mut known = BTreeSet::new();
    let mut next = arguments.from;
    let end = arguments.from.saturating_add(arguments.executions);
    while next < end && known.len() < MOST_FAULTS {
        let chunk = CHUNK.min(end - next);
        let outcome = Watched::start(target, arguments.seed, next, chunk)?.wait()?;
        for (index, fault) in &outcome.faults {
            report.faults += 1;
            // One input per location is enough; the number in the message often does not matter.
            let place: String = fault.chars().filter(|character| !character.is_ascii_digit()).collect();
            if known.insert(place) {
                let path = keep(target, arguments, *index)?;
                eprintln!("{}: execution {index}: {fault}; kept as {path}", target.name);
            }
        }
        report.accepted += outcome.accepted;
        report.peak_bytes = report.peak_bytes.max(outcome.peak_bytes);
        report.executions += outcome.next - next;
        next = outcome.next;
    }
    report.seconds = start.elapsed().as_secs_f64();
    Ok(report)
}

/// Writes the input of an execution to the folder that the tests replay.
fn keep(target: &Target, arguments: &Arguments, index: u64) -> Result<String> {
    let input = mutate::input(target, arguments.seed, index);
    let folder = arguments.regressions.join(target.name);
    let path = folder.join(format!("{}.bin", &taal_store::blake3_hex(&input)[..16]));
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(&path, input))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path.display().to_string())
}

/// The result of a child.
struct Outcome {
    /// The first index that was not executed.
    next: u64,
    accepted: u64,
    peak_bytes: usize,
    faults: Vec<(u64, String)>,
}

/// A child with its folder, which is removed at the end.
struct Watched {
    child: Child,
    lines: Receiver<String>,
    folder: tempfile::TempDir,
    end: u64,
}

impl Watched {
    fn start(target: &Target, seed: u64, from: u64, executions: u64) -> Result<Self> {
        let folder = scratch::temporary().context("cannot make a temporary folder")?;
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut child = Command::new(program)
            .arg(target.name)
            .args(["--seed", &seed.to_string(), "--from", &from.to_string()])
            .args(["--executions", &executions.to_string(), "--child"])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start a child")?;
        let stdout = child.stdout.take().context("a child without output")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(std::result::Result::ok);
            // The receiver is dropped first if the child was killed.
            let _ = lines.into_iter().try_for_each(|line| sender.send(line));
        });
        Ok(Self {
            child,
            lines,
            folder,
            end: from + executions,
        })
    }

    fn wait(mut self) -> Result<Outcome> {
        let mut outcome = Outcome {
            next: self.end,
            accepted: 0,
            peak_bytes: 0,
            faults: Vec::new(),
        };
        let mut is_done = false;
        let (mut place, mut since) = (progress(self.folder.path()), Instant::now());
        loop {
            match self.lines.recv_timeout(Duration::from_millis(500)) {
                Ok(line) => is_done |= outcome.take(&line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let now = progress(self.folder.path());
            if now != place {
                (place, since) = (now, Instant::now());
            } else if since.elapsed() > Duration::from_secs(MOST_SECONDS) {
                self.child.kill().context("cannot end a child that hangs")?;
                self.child.wait().context("cannot wait for a child")?;
                outcome.died(now, format!("hangs: longer than {MOST_SECONDS} s"));
                return Ok(outcome);
            }
        }
        let status = self.child.wait().context("cannot wait for a child")?;
        if !is_done {
            outcome.died(progress(self.folder.path()), format!("the process ended with {status}"));
        }
        Ok(outcome)
    }
}

impl Outcome {
    /// Handles a line that a child printed; returns whether it was the last.
    fn take(&mut self, line: &str) -> bool {
        let mut words = line.splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some("fault"), Some(index), Some(fault)) => {
                self.faults
                    .extend(index.parse().ok().map(|index| (index, fault.to_owned())));
                false
            }
            (Some("done"), Some(accepted), Some(peak_bytes)) => {
                self.accepted = accepted.parse().unwrap_or(0);
                self.peak_bytes = peak_bytes.parse().unwrap_or(0);
                true
            }
            _ => false,
        }
    }

    fn died(&mut self, index: u64, fault: String) {
        self.faults.push((index, fault));
        self.next = index.saturating_add(1);
    }
}

/// The index of a child's current execution.
fn progress(folder: &Path) -> u64 {
    let bytes = std::fs::read(folder.join(PROGRESS)).unwrap_or_default();
    bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
