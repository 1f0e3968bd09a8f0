//! Another commit of this workspace: resolved, checked out next to the build, and its `taal` built.

use std::env::consts::EXE_SUFFIX;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::command::run;
use crate::workspace::Workspace;

/// The release builds of `taal` that a comparison runs: another commit's and this working tree's.
pub struct Pair {
    pub before: PathBuf,
    pub after: PathBuf,
}

impl Pair {
    /// Builds both, one after the other, and keeps them below `home`. Earlier builds of a commit are reused.
    ///
    /// The other commit has a separate target folder, which is built from scratch the first time: in a shared one cargo would
    /// confuse the crates of both checkouts, since it compares only times.
    pub fn build(workspace: &Workspace, revision: &str, home: &Path) -> Result<Self> {
        let commit = resolve(workspace, revision)?;
        let before = home.join(format!("taal-{commit}{EXE_SUFFIX}"));
        let after = home.join(format!("taal-working-tree{EXE_SUFFIX}"));
        fs::create_dir_all(home).with_context(|| format!("cannot make {}", home.display()))?;
        if !before.is_file() {
            let tree = Worktree::add(workspace, &commit)?;
            build(workspace, &tree.path, &home.join("target"), &before)?;
        }
        let target = workspace.metadata()?.target_directory;
        build(workspace, workspace.root(), &target, &after)?;
        Ok(Self { before, after })
    }
}

/// Builds the `taal` of a checkout and copies it to `to`.
fn build(workspace: &Workspace, root: &Path, target: &Path, to: &Path) -> Result<()> {
    let mut cargo = workspace.cargo();
    cargo.current_dir(root).env("CARGO_TARGET_DIR", target);
    run(cargo.args(["build", "--release", "--package", "taal-cli", "--bin", "taal"]))?;
    let built = target.join("release").join(format!("taal{EXE_SUFFIX}"));
    fs::copy(&built, to).with_context(|| format!("cannot copy {} to {}", built.display(), to.display()))?;
    Ok(())
}

/// The commit of a revision, short enough for a folder name.
pub fn resolve(workspace: &Workspace, revision: &str) -> Result<String> {
    let output = Command::new("git")
        .current_dir(workspace.root())
        .args(["rev-parse", "--verify", "--quiet", "--short=12"])
        .arg(format!("{revision}^{{commit}}"))
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run git")?;
    ensure!(
        output.status.success(),
        "{revision}: git does not know this commit; give a commit, a tag or a branch"
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
}

/// Another commit, checked out next to the build as long as this value exists.
pub struct Worktree<'a> {
    workspace: &'a Workspace,
    pub path: PathBuf,
}

impl<'a> Worktree<'a> {
    pub fn add(workspace: &'a Workspace, commit: &str) -> Result<Self> {
        let path = workspace
            .metadata()?
            .target_directory
            .join("against")
            .join("tree")
            .join(commit);
        let tree = Self { workspace, path };
        tree.remove();
        let mut git = Command::new("git");
        git.current_dir(workspace.root())
            .args(["worktree", "add", "--detach", "--force"]);
        run(git.arg(&tree.path).arg(commit))?;
        Ok(tree)
    }

    /// Also removes leftovers of an interrupted run; if there are none, git only prints a message.
    fn remove(&self) {
        let _ = Command::new("git")
            .current_dir(self.workspace.root())
            .args(["worktree", "remove", "--force"])
            .arg(&self.path)
            .stderr(Stdio::null())
            .status();
    }
}

impl Drop for Worktree<'_> {
    fn drop(&mut self) {
        self.remove();
    }
}
