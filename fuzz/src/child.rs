//! The process that executes: it reports findings on standard output, and its position in a file.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result};
use taal_fuzz::{Target, mutate, run, scratch};

/// The file in the scratch folder with the index of the current execution, in 8 bytes.
pub(crate) const PROGRESS: &str = "progress";

/// Executes `from..from + executions` of a target.
pub(crate) fn run(target: &Target, seed: u64, from: u64, executions: u64, folder: &Path) -> Result<()> {
    scratch::use_folder(folder);
    let path = folder.join(PROGRESS);
    let mut progress = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    let mut note = |index: u64| -> Result<()> {
        progress.seek(SeekFrom::Start(0))?;
        progress.write_all(&index.to_le_bytes())?;
        Ok(())
    };
    note(from)?;
    run::warm_up(target);
    let (mut accepted, mut peak_bytes) = (0_u64, 0);
    for index in from..from.saturating_add(executions) {
        note(index)?;
        let input = mutate::input(target, seed, index);
        let execution = run::execute(target, &input);
        accepted += u64::from(execution.is_accepted);
        peak_bytes = peak_bytes.max(execution.peak_bytes);
        if let Some(fault) = execution.fault {
            println!("fault {index} {}", fault.escape_debug());
        }
    }
    println!("done {accepted} {peak_bytes}");
    Ok(())
}
