//! `cargo xtask corpora`: builds the embedded corpora from their sources.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::command::run;
use crate::workspace::Workspace;

/// Arguments of `cargo xtask corpora`.
#[derive(Debug, Args)]
pub struct Corpora {
    /// The folder with the sources, one folder each; `crates/data/corpora/build.py` has their names
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// Change nothing, and fail if a file differs from what the sources give
    #[arg(long)]
    check: bool,
}

/// Builds the texts with `build.py` and compresses them with an example of `taal-data`, which has zstd.
pub fn corpora(workspace: &Workspace, options: &Corpora) -> Result<()> {
    ensure!(
        options.from.is_dir(),
        "{} is not a folder: name the one with the sources, such as `tatoeba-en-nl`",
        options.from.display()
    );
    let corpora = workspace.root().join("crates/data/corpora");
    let texts = workspace.metadata()?.target_directory.join("corpora");
    if texts.exists() {
        std::fs::remove_dir_all(&texts).with_context(|| format!("cannot remove {}", texts.display()))?;
    }
    let mut build = Command::new("python3");
    build.arg("-B").arg(corpora.join("build.py"));
    build.arg("--from").arg(&options.from);
    run(build.arg("--out").arg(&texts))?;
    let mut pack = workspace.cargo();
    pack.args(["run", "--package", "taal-data", "--example", "pack_corpora", "--"]);
    pack.arg(&texts).arg(&corpora);
    run(pack.args(options.check.then_some("--check")))
}
