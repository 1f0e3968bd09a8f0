//! The packages of this workspace, from `cargo metadata`.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::command;

/// The root folder of the workspace.
#[derive(Debug)]
pub struct Workspace {
    root: PathBuf,
    has_gpu: bool,
}

/// The features of the suite with the default device only: fault injection for the fault tests.
const CPU_FEATURES: &str = "taal-trainer/faults";
/// With the code of the other devices, for the tests, clippy and `cargo xtask parity`, which share one build of Burn.
pub const GPU_FEATURES: &str = "taal-cli/ndarray,taal-cli/wgpu,taal-trainer/faults";

/// The part of `cargo metadata --no-deps` that the verbs need.
#[derive(Debug, Deserialize)]
pub struct Metadata {
    pub packages: Vec<Package>,
    pub target_directory: PathBuf,
}

#[derive(Debug, Deserialize)]
pub struct Package {
    pub name: String,
    pub version: String,
    pub manifest_path: PathBuf,
    pub features: BTreeMap<String, Vec<String>>,
    /// `None`: to any registry; an empty list: `publish = false`.
    pub publish: Option<Vec<String>>,
    pub dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
pub struct Dependency {
    pub name: String,
    /// `None`: an ordinary dependency; else `dev` or `build`.
    pub kind: Option<String>,
}

impl Dependency {
    pub fn is_for_development(&self) -> bool {
        self.kind.as_deref() == Some("dev")
    }
}

impl Package {
    pub fn is_publishable(&self) -> bool {
        self.publish.as_ref().is_none_or(|registries| !registries.is_empty())
    }

    pub fn folder(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(&self.manifest_path)
    }
}

impl Metadata {
    pub fn package(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|package| package.name == name)
    }
}

impl Workspace {
    /// The workspace that this xtask belongs to.
    ///
    /// Cargo sets its path at run time; the path at compile time would be wrong for a target directory that several
    /// clones share.
    pub fn find() -> Result<Self> {
        let manifest_dir =
            env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
        let root = manifest_dir
            .parent()
            .map(Path::to_path_buf)
            .context("xtask is not in a workspace; run it as `cargo xtask`")?;
        ensure!(
            root.join("Cargo.toml").is_file(),
            "no Cargo.toml in {}; run this as `cargo xtask` inside a clone of Taal",
            root.display()
        );
        Ok(Self { root, has_gpu: false })
    }

    /// The same, with or without the code of the other devices (a GPU, ndarray) in tests and lints.
    pub fn with_gpu(self, has_gpu: bool) -> Self {
        Self { has_gpu, ..self }
    }

    /// The arguments of cargo that choose the features of the suite. All verbs use the same features, so that Burn,
    /// which is large, is built only once.
    pub fn features(&self) -> [&'static str; 2] {
        ["--features", if self.has_gpu { GPU_FEATURES } else { CPU_FEATURES }]
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A cargo command that runs in the root of the workspace.
    pub fn cargo(&self) -> Command {
        let mut cargo = command::cargo();
        cargo.current_dir(&self.root);
        cargo
    }

    pub fn metadata(&self) -> Result<Metadata> {
        let output = self
            .cargo()
            .args(["metadata", "--format-version", "1", "--no-deps"])
            .stderr(Stdio::inherit())
            .output()
            .context("cannot run cargo metadata")?;
        ensure!(output.status.success(), "cargo metadata failed");
        serde_json::from_slice(&output.stdout).context("cannot read what cargo metadata printed")
    }

    /// The sorted names of the entries of a folder of the workspace that `keep` accepts, without a `.rs` ending; empty if the
    /// folder does not exist.
    pub fn names_in(&self, folder: &str, keep: impl Fn(&Path) -> bool) -> Result<Vec<String>> {
        let folder = self.root.join(folder);
        if !folder.is_dir() {
            return Ok(Vec::new());
        }
        let mut names = Vec::new();
        for entry in folder
            .read_dir()
            .with_context(|| format!("cannot list {}", folder.display()))?
        {
            let path = entry
                .with_context(|| format!("cannot list {}", folder.display()))?
                .path();
            if keep(&path)
                && let Some(name) = path.file_stem().and_then(|name| name.to_str())
            {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }
}
