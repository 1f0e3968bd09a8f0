//! `cargo xtask package`: what would go to crates.io, built only from the archives.

use anyhow::Result;

use crate::command::run;
use crate::workspace::Workspace;

/// Packages all publishable crates together.
///
/// Cargo uses a temporary registry of the archives on top of crates.io, so this works before the first release.
pub fn package(workspace: &Workspace, options: &crate::Package) -> Result<()> {
    let mut package = workspace.cargo();
    // These builds are not debugged, and debug information is most of their output.
    package
        .args(["package", "--workspace"])
        .env("CARGO_PROFILE_DEV_DEBUG", "0");
    for private in workspace
        .metadata()?
        .packages
        .iter()
        .filter(|package| !package.is_publishable())
    {
        package.args(["--exclude", &private.name]);
    }
    if options.no_verify {
        package.arg("--no-verify");
    }
    if options.allow_dirty {
        package.arg("--allow-dirty");
    }
    run(&mut package)
}
