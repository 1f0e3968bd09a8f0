//! `cargo xtask consumers`: small projects outside the workspace, each of which uses one crate as an outside user would.
//!
//! A crate can be broken for users while its tests pass: a feature that only another crate enables, or a type that is needed but
//! not public. Each project's manifest is what a user would write, with versions. The projects are copied out of the repository
//! into a separate workspace that takes the crates from this clone instead of crates.io, with its lock file and profiles, so that
//! one build of Burn serves all. They are built one at a time, so that cargo enables only the features that each one requests.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use toml::{Table, Value};

use crate::command::{self, run};
use crate::workspace::{Metadata, Package, Workspace};

/// Builds and runs the named projects of `xtask/consumers`, or all.
pub fn consumers(workspace: &Workspace, names: &[String]) -> Result<()> {
    let all = workspace.names_in("xtask/consumers", Path::is_dir)?;
    for name in names {
        ensure!(
            all.contains(name),
            "no outside project `{name}`; there are: {}",
            all.join(", ")
        );
    }
    let metadata = workspace.metadata()?;
    let outside = metadata.target_directory.join("consumers");
    copy_out(workspace, &metadata, &all, &outside)?;

    for name in if names.is_empty() { &all } else { names } {
        let mut cargo = command::cargo();
        cargo.current_dir(&outside).arg("run");
        cargo.args(["--package", &format!("{name}-consumer")]);
        run(cargo.arg("--target-dir").arg(&metadata.target_directory))?;
    }
    Ok(())
}

/// Copies the projects to the folder `outside` and makes it a workspace.
fn copy_out(workspace: &Workspace, metadata: &Metadata, names: &[String], outside: &Path) -> Result<()> {
    let mut wanted = BTreeSet::new();
    for name in names {
        let source = workspace.root().join("xtask/consumers").join(name);
        let manifest = read_manifest(&source.join("Cargo.toml"))?;
        if let Some(dependencies) = manifest.get("dependencies").and_then(Value::as_table) {
            wanted.extend(dependencies.keys().cloned());
        }
        for file in ["Cargo.toml", "src/main.rs"] {
            copy(&source.join(file), &outside.join(name).join(file))?;
        }
    }
    let product = read_manifest(&workspace.root().join("Cargo.toml"))?;
    let manifest = outside_manifest(names, &product, &with_dependencies(wanted, &metadata.packages));
    let manifest = toml::to_string(&manifest).context("cannot write the manifest of the outside projects")?;
    write(&outside.join("Cargo.toml"), manifest.as_bytes())?;
    copy(&workspace.root().join("Cargo.lock"), &outside.join("Cargo.lock"))
}

/// The packages of this workspace among the wanted ones, and their dependencies. Cargo warns about unused patches.
fn with_dependencies(wanted: BTreeSet<String>, packages: &[Package]) -> Vec<&Package> {
    let mut found = BTreeSet::new();
    let mut open: Vec<String> = wanted.into_iter().collect();
    while let Some(name) = open.pop() {
        if let Some(index) = packages.iter().position(|package| package.name == name)
            && found.insert(index)
        {
            let needed = packages[index].dependencies.iter();
            open.extend(
                needed
                    .filter(|edge| !edge.is_for_development())
                    .map(|edge| edge.name.clone()),
            );
        }
    }
    found.into_iter().map(|index| &packages[index]).collect()
}

/// The manifest of the workspace around the copies.
fn outside_manifest(members: &[String], product: &Table, packages: &[&Package]) -> Table {
    let workspace = Table::from_iter([
        ("resolver".to_owned(), Value::from("3")),
        ("members".to_owned(), members.to_vec().into()),
    ]);
    let patches = packages.iter().map(|package| {
        let path = package.folder().display().to_string();
        let place = Table::from_iter([("path".to_owned(), path.into())]);
        (package.name.clone(), Value::from(place))
    });
    let crates_io = Table::from_iter([("crates-io".to_owned(), Table::from_iter(patches).into())]);

    let mut outside = Table::new();
    outside.insert("workspace".to_owned(), workspace.into());
    outside.insert("patch".to_owned(), crates_io.into());
    if let Some(Value::Table(profiles)) = product.get("profile") {
        outside.insert(
            "profile".to_owned(),
            dependency_profiles(profiles.clone(), packages).into(),
        );
    }
    outside
}

/// The profiles without overrides of those of our packages that do not exist outside: with equal profiles, what was compiled for the
/// tests is used again.
fn dependency_profiles(mut profiles: Table, ours: &[&Package]) -> Table {
    for (_, profile) in &mut profiles {
        if let Some(overrides) = profile.get_mut("package").and_then(Value::as_table_mut) {
            overrides.retain(|name, _| {
                let is_ours = name == "xtask" || name.starts_with("taal-");
                !is_ours || ours.iter().any(|package| package.name == *name)
            });
        }
    }
    profiles
}

fn read_manifest(path: &Path) -> Result<Table> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    text.parse().with_context(|| format!("cannot read {}", path.display()))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let bytes = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    write(to, &bytes)
}

/// Writes a file only if it differs, since cargo rebuilds newer files.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Package {
        let edge = |(name, kind): &(&str, Option<&str>)| Dependency {
            name: (*name).to_owned(),
            kind: kind.map(str::to_owned),
        };
        Package {
            version: "0.1.0".to_owned(),
            name: name.to_owned(),
            manifest_path: format!("/clone/crates/{name}/Cargo.toml").into(),
            features: Default::default(),
            publish: None,
            dependencies: dependencies.iter().map(edge).collect(),
        }
    }

    #[test]
    fn a_project_gets_the_crates_it_names_and_their_dependencies() {
        let packages = [
            package("store", &[]),
            package(
                "tokenizer",
                &[("store", None), ("serde", None), ("bench-data", Some("dev"))],
            ),
            package("bench-data", &[]),
            package("model", &[("store", None)]),
        ];
        let wanted = BTreeSet::from(["tokenizer".to_owned(), "serde_json".to_owned()]);
        let names = with_dependencies(wanted, &packages)
            .into_iter()
            .map(|package| package.name.as_str());
        assert_eq!(names.collect::<Vec<_>>(), ["store", "tokenizer"]);
    }

    #[test]
    fn the_outside_workspace_has_the_crates_of_this_clone_and_its_profiles() {
        let product: Table = "[profile.dev.package]\n'*' = { debug = false }\ntaal-store = { opt-level = 0 }\n\
            taal-cli = { opt-level = 0 }\nother = { opt-level = 1 }\n"
            .parse()
            .expect("a manifest");
        let store = package("taal-store", &[]);
        let manifest = outside_manifest(&["tokenizer".to_owned()], &product, &[&store]);
        let expected: Table = "[workspace]\nresolver = '3'\nmembers = ['tokenizer']\n\
            [patch.crates-io.taal-store]\npath = '/clone/crates/taal-store'\n\
            [profile.dev.package]\n'*' = { debug = false }\ntaal-store = { opt-level = 0 }\n\
            other = { opt-level = 1 }\n"
            .parse()
            .expect("a manifest");
        assert_eq!(manifest, expected);
    }
}
