//! `cargo xtask train`: from a fresh clone to a trained model in one command.

use std::env::consts::EXE_SUFFIX;
use std::ffi::{OsStr, OsString};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command;
use crate::workspace::{Package, Workspace};

/// Builds `taal` with the features of the requested device, then replaces this process by `taal train ARGS`.
pub fn train(workspace: &Workspace, args: &[OsString]) -> Result<()> {
    let metadata = workspace.metadata()?;
    let cli = metadata
        .package("taal-cli")
        .context("no package taal-cli in this workspace")?;

    let mut build = workspace.cargo();
    build.args(["build", "--release", "--package", "taal-cli", "--bin", "taal"]);
    if let Some(feature) = device(args).and_then(|device| backend_feature(&device, cli)) {
        build.args(["--features", &feature]);
    }
    command::run(&mut build)?;

    let taal = metadata
        .target_directory
        .join("release")
        .join(format!("taal{EXE_SUFFIX}"));
    let mut taal = Command::new(taal);
    taal.arg("train").args(args);
    command::forget_this_package(&mut taal);
    become_command(&mut taal)
}

/// Replaces this process, so that Ctrl-C goes to `taal`, which saves before it stops, and the exit code comes from it.
#[cfg(unix)]
fn become_command(command: &mut Command) -> Result<()> {
    use std::os::unix::process::CommandExt;

    command::show(command);
    let error = command.exec();
    Err(error).with_context(|| format!("cannot run {}", command.get_program().display()))
}

/// Runs the command and ignores Ctrl-C, which also reaches `taal`: it saves before it stops.
#[cfg(not(unix))]
fn become_command(command: &mut Command) -> Result<()> {
    ctrlc::set_handler(|| ()).context("cannot leave Ctrl-C to taal")?;
    command::run(command)
}

/// The last value of `--device X` or `--device=X`.
fn device(args: &[OsString]) -> Option<String> {
    let mut device = None;
    let mut args = args.iter().map(OsString::as_os_str);
    while let Some(arg) = args.next() {
        let value = if arg == "--device" {
            args.next()
        } else {
            arg.to_str()
                .and_then(|arg| arg.strip_prefix("--device="))
                .map(OsStr::new)
        };
        if let Some(value) = value {
            device = value.to_str().map(str::to_owned);
        }
    }
    device
}

/// The feature of `taal-cli` for a device: the one with the backend's name (`wgpu` for `wgpu:1`).
///
/// flex has none, because it is always included. An unknown backend has none either; `taal` refuses it with a list.
fn backend_feature(device: &str, cli: &Package) -> Option<String> {
    let backend = device.split(':').next().unwrap_or(device).to_ascii_lowercase();
    (backend != "default" && cli.features.contains_key(&backend)).then_some(backend)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cli_with(features: &[&str]) -> Package {
        Package {
            name: "taal-cli".to_owned(),
            version: "0.1.0".to_owned(),
            manifest_path: "crates/cli/Cargo.toml".into(),
            features: features
                .iter()
                .map(|feature| ((*feature).to_owned(), Vec::new()))
                .collect(),
            publish: None,
            dependencies: Vec::new(),
        }
    }

    fn feature_for(args: &[&str]) -> Option<String> {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        device(&args).and_then(|device| backend_feature(&device, &cli_with(&["default", "ndarray", "wgpu"])))
    }

    #[test]
    fn the_requested_device_decides_the_feature() {
        assert_eq!(feature_for(&["--device", "ndarray"]).as_deref(), Some("ndarray"));
        assert_eq!(
            feature_for(&["--recipe", "names", "--device=wgpu:1"]).as_deref(),
            Some("wgpu")
        );
        assert_eq!(
            feature_for(&["--device=wgpu", "--device", "ndarray"]).as_deref(),
            Some("ndarray")
        );
    }

    #[test]
    fn no_device_flex_and_unknown_devices_need_no_feature() {
        for args in [
            &[][..],
            &["--device", "flex"],
            &["--device=abacus"],
            &["--device"],
            &["--device", "default"],
        ] {
            assert_eq!(feature_for(args), None, "{args:?}");
        }
    }
}
