//! The packages of the workspace from `cargo metadata`, and their sources.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;

use crate::lockfile::Lock;

/// All packages of this workspace and its lock file.
pub struct Workspace {
    pub packages: Vec<Package>,
    pub lock: Lock,
}

/// The part of a package's metadata that the rules read.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Package {
    pub name: String,
    pub manifest_path: PathBuf,
    pub description: Option<String>,
    pub license: Option<String>,
    #[serde(default)]
    pub keywords: Vec<String>,
    #[serde(default)]
    pub dependencies: Vec<Dependency>,
    #[serde(default)]
    pub targets: Vec<Target>,
    /// `[package.metadata]`
    #[serde(default)]
    pub metadata: Value,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub struct Dependency {
    pub name: String,
    /// `None`: an ordinary dependency; else `dev` or `build`.
    pub kind: Option<String>,
    #[serde(default)]
    pub features: Vec<String>,
    #[serde(default)]
    pub uses_default_features: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub struct Target {
    pub kind: Vec<String>,
    pub src_path: PathBuf,
}

/// A package's place in the architecture: `[package.metadata.taal]`.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    pub layer: u32,
    pub depends: Vec<String>,
}

/// A source file: its path, for messages, and its text.
pub struct Source {
    pub path: PathBuf,
    pub text: String,
}

impl Workspace {
    pub fn load() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("xtask is in the workspace");
        let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
            .current_dir(root)
            .output()
            .expect("cargo runs");
        assert!(
            output.status.success(),
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr)
        );

        #[derive(Deserialize)]
        struct Metadata {
            packages: Vec<Package>,
        }
        let metadata: Metadata = serde_json::from_slice(&output.stdout).expect("cargo metadata prints its JSON");
        Self {
            packages: metadata.packages,
            lock: Lock::parse(&read(&root.join("Cargo.lock"))),
        }
    }
}

impl Package {
    /// This package's place from its manifest, or what is wrong with the manifest.
    pub fn place(&self) -> Result<Place, String> {
        let stated = self
            .metadata
            .get("taal")
            .ok_or_else(|| format!("{} has no [package.metadata.taal]", self.name))?;
        Place::deserialize(stated).map_err(|error| format!("{}: [package.metadata.taal]: {error}", self.name))
    }

    /// The name as manifests of this workspace declare it: `tokenizer` for `taal-tokenizer`.
    pub fn short_name(&self) -> &str {
        self.name.strip_prefix("taal-").unwrap_or(&self.name)
    }

    pub fn has_target(&self, kind: &str) -> bool {
        self.target(kind).is_some()
    }

    fn target(&self, kind: &str) -> Option<&Target> {
        self.targets
            .iter()
            .find(|target| target.kind.iter().any(|found| found == kind))
    }

    pub fn folder(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(Path::new(""))
    }

    /// The file of the library target.
    pub fn root_source(&self) -> Source {
        let path = self.target("lib").expect("a library").src_path.clone();
        Source {
            text: read(&path),
            path,
        }
    }

    /// Every Rust file under `src` except modules of unit tests: `tests.rs` and `tests/`.
    pub fn sources(&self) -> Vec<Source> {
        let mut found = Vec::new();
        let mut folders = vec![self.folder().join("src")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
                let path = entry.expect("an entry").path();
                if path.file_stem().is_some_and(|name| name == "tests") {
                    continue;
                }
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    found.push(Source {
                        text: read(&path),
                        path,
                    });
                }
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        found
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
