//! `events.jsonl`: what was done about bad steps, one JSON record per action, with the batch that was left out.

use std::path::Path;

use serde::{Deserialize, Serialize};
use taal_store::AppendLog;
use taal_store::layout::EVENTS_FILE;

use crate::TrainError;

/// A record takes about 100 bytes; a run that fills this has other problems.
const MAX_EVENTS_BYTES: u64 = 64 << 20;

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// The step's update was left out.
    Skip,
    /// The run went back to an earlier checkpoint.
    Rewind,
    /// The run stopped.
    GiveUp,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The bad step.
    pub step: u64,
    /// What was done.
    pub act: Act,
    /// Why.
    pub reason: String,
    /// The batch of the step: the index of its first micro-batch divided by `train.accumulation`.
    pub batch: u64,
}

/// The file, open for appending; created with the first record.
#[derive(Debug)]
pub(crate) struct Events {
    log: AppendLog,
}

impl Events {
    /// Opens the file and keeps its first `count` records: those before the checkpoint that the run continues from.
    /// Returns how many there are.
    pub(crate) fn open(run_dir: &Path, count: u64) -> Result<(Self, u64), TrainError> {
        let path = run_dir.join(EVENTS_FILE);
        let mut log = AppendLog::open(&path)?;
        let lines = AppendLog::read_lines(&path, MAX_EVENTS_BYTES)?;
        let kept = count.min(lines.len() as u64);
        if lines.len() as u64 > count {
            let kept = lines.iter().take(count as usize).map(String::as_str);
            log = AppendLog::rewrite(&path, kept)?;
        }
        Ok((Self { log }, kept))
    }

    pub(crate) fn write(&mut self, event: &Event) -> Result<(), TrainError> {
        let line = serde_json::to_string(event)
            .map_err(|error| taal_store::Error::io("append a record to", self.log.path(), error.into()))?;
        Ok(self.log.append(&line)?)
    }

    pub(crate) fn path(&self) -> &Path {
        self.log.path()
    }
}
