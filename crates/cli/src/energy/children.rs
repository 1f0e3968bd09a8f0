//! Trainings in processes of their own, as a person would start them: start-up counts, and each has its environment.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::failure::Failure;

/// A training to start.
#[derive(Debug, Default)]
pub struct Training<'a> {
    /// Its name, for messages.
    pub name: &'a str,
    /// The recipe.
    pub recipe: &'a str,
    /// Where it is kept; a run that is there is continued.
    pub dir: PathBuf,
    /// The model that it starts from.
    pub base: Option<&'a Path>,
    /// Settings of the recipe.
    pub sets: Vec<&'a str>,
    /// Variables of the environment.
    pub environment: &'a [(&'static str, &'static str)],
}

impl Training<'_> {
    /// Trains.
    pub fn run(&self) -> Result<(), Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        match self.base {
            Some(base) => command.arg("finetune").arg("--model").arg(base),
            None => command.arg("train"),
        };
        command.args(["--recipe", self.recipe]).arg("--run-dir").arg(&self.dir);
        if taal_trainer::is_run(&self.dir) {
            command.arg("--resume");
        }
        for set in &self.sets {
            command.args(["--set", set]);
        }
        command.envs(self.environment.iter().copied());
        // Standard output has this program's figures.
        command.stdout(Stdio::null());
        let status = command.status()?;
        if status.success() {
            return Ok(());
        }
        let error = anyhow::anyhow!("the training {} ended with {status}", self.name);
        Err(Failure::from(error).with_hint("the same command continues after the trainings that are done"))
    }
}
