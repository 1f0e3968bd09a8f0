//! A run's log: one JSON record a training step.

use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

use taal_store::layout::LOG_NAME;
use taal_store::{AppendLog, Reader};

use crate::{Error, Result, STEP_FIGURES, StepRecord};

/// A record takes about 200 bytes; this leaves room for fields of later versions.
const MAX_LINE_BYTES: u64 = 64 * 1024;

/// The log of a run, open for appending.
#[derive(Debug)]
pub struct RunLog {
    log: AppendLog,
}

impl RunLog {
    /// Opens the log of a run directory, creates it where it is missing, and cuts off a last line that a crash has torn.
    ///
    /// # Errors
    ///
    /// As [`AppendLog::open`].
    pub fn open(run_dir: &Path) -> Result<Self> {
        let log = AppendLog::open(&run_dir.join(LOG_NAME))?;
        Ok(Self { log })
    }

    /// Appends one record; it is durable after the next [`sync`](RunLog::sync).
    ///
    /// # Errors
    ///
    /// As [`AppendLog::append`].
    pub fn append(&mut self, record: &StepRecord) -> Result<()> {
        let line = serde_json::to_string(record)
            .map_err(|error| taal_store::Error::io("append a record to", self.log.path(), error.into()))?;
        Ok(self.log.append(&line)?)
    }

    /// Makes the records appended so far durable; call it before a checkpoint that counts on them.
    ///
    /// # Errors
    ///
    /// As [`AppendLog::sync`].
    pub fn sync(&mut self) -> Result<()> {
        Ok(self.log.sync()?)
    }

    /// Changes the last record, atomically, such as to add what was only known after the last step. Nothing happens to an empty log.
    ///
    /// # Errors
    ///
    /// As [`read_log`] and [`AppendLog::rewrite`].
    pub fn amend_last(&mut self, change: impl FnOnce(&mut StepRecord)) -> Result<()> {
        let path = self.log.path().to_path_buf();
        let mut lines = Vec::new();
        for_each_line(&path, |_, line| {
            lines.push(String::from_utf8_lossy(line).into_owned());
            Ok(())
        })?;
        let Some(last) = lines.last_mut() else {
            return Ok(());
        };
        let mut record = parse(&path, 0, last.as_bytes())?;
        change(&mut record);
        *last = serde_json::to_string(&record)
            .map_err(|error| taal_store::Error::io("append a record to", &path, error.into()))?;
        self.log = AppendLog::rewrite(&path, lines.iter().map(String::as_str))?;
        Ok(())
    }

    /// Drops the records of steps after `step`, atomically, so that a resumed run writes them again.
    ///
    /// Lines are kept as they are. Damage after the record of `step` goes with what is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::BadRecord`] for a damaged line before that; the log is then unchanged. [`Error::Store`] as [`AppendLog::rewrite`].
    pub fn truncate_to(&mut self, step: u64) -> Result<()> {
        let path = self.log.path().to_path_buf();
        let mut kept = Vec::new();
        let mut last_step = 0;
        let mut is_shorter = false;
        for_each_line(&path, |line_number, line| {
            match parse(&path, line_number, line) {
                Ok(record) if record.step <= step => {
                    last_step = record.step;
                    // `parse` has checked that the line is UTF-8, so nothing is replaced.
                    kept.push(String::from_utf8_lossy(line).into_owned());
                }
                Ok(_) => is_shorter = true,
                Err(_) if is_shorter || last_step >= step => is_shorter = true,
                Err(error) => return Err(error),
            }
            Ok(())
        })?;
        if is_shorter {
            self.log = AppendLog::rewrite(&path, kept.iter().map(String::as_str))?;
        }
        Ok(())
    }

    /// The log's path.
    pub fn path(&self) -> &Path {
        self.log.path()
    }
}

/// Reads all records of a log; a last line that a crash has torn is left out.
///
/// # Errors
///
/// [`Error::BadRecord`] naming file and line, or [`Error::Store`] when the file is missing or unreadable.
pub fn read_log(path: &Path) -> Result<Vec<StepRecord>> {
    let mut records = Vec::new();
    for_each_line(path, |line_number, line| {
        records.push(parse(path, line_number, line)?);
        Ok(())
    })?;
    Ok(records)
}

/// The step and the loss of the best finite validation loss; the earliest where several are equal.
pub fn best_validation(records: &[StepRecord]) -> Option<(u64, f64)> {
    let evaluated = records
        .iter()
        .filter_map(|record| Some((record.step, record.val_loss?)));
    evaluated
        .filter(|(_, loss)| loss.is_finite())
        .min_by(|(_, a), (_, b)| a.total_cmp(b))
}

/// The records as CSV with a header line; an absent value is an empty field, and numbers read back bit for bit.
pub fn csv(records: &[StepRecord]) -> String {
    let columns = || STEP_FIGURES.iter().filter(|figure| figure.is_in_csv);
    let names: Vec<&str> = columns().map(|figure| figure.name).collect();
    let mut text = names.join(",") + "\n";
    for record in records {
        let fields = columns().map(|figure| (figure.value)(record).map_or_else(String::new, |it| it.to_string()));
        text.push_str(&fields.collect::<Vec<String>>().join(","));
        text.push('\n');
    }
    text
}

/// Writes [`csv`] to a file, atomically.
///
/// # Errors
///
/// As [`taal_store::write_atomic`].
pub fn write_csv(records: &[StepRecord], path: &Path) -> Result<()> {
    Ok(taal_store::write_atomic(path, csv(records).as_bytes())?)
}

/// Calls `visit` with the number (from 1) and the content of every whole line.
fn for_each_line(path: &Path, mut visit: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
    let mut reader = Reader::open(path)?;
    let mut line = Vec::new();
    for line_number in 1.. {
        line.clear();
        let count = reader
            .by_ref()
            .take(MAX_LINE_BYTES + 1)
            .read_until(b'\n', &mut line)
            .map_err(|source| taal_store::Error::io("read", path, source))?;
        if line.pop_if(|last| *last == b'\n').is_some() {
            visit(line_number, &line)?;
        } else if count as u64 > MAX_LINE_BYTES {
            return Err(bad_record(path, line_number, "longer than 65536 bytes"));
        } else {
            // The end of the file, or a line torn by a crash.
            break;
        }
    }
    Ok(())
}

fn parse(path: &Path, line_number: u64, line: &[u8]) -> Result<StepRecord> {
    serde_json::from_slice(line).map_err(|error| bad_record(path, line_number, &format!("not a step record: {error}")))
}

fn bad_record(path: &Path, line: u64, detail: &str) -> Error {
    Error::BadRecord {
        path: PathBuf::from(path),
        line,
        detail: detail.to_owned(),
    }
}
