//! `cargo xtask package`: what would go to crates.io, built from the archives alone.

use anyhow::Result;

use crate::command::run;
use crate::workspace::Workspace;

/// Packages all publishable crates together.
///
/// Cargo lets the archives find each other in a registry of its own that lies over crates.io, so this works before the first release.
pub fn package(workspace: &Workspace, options: &crate::Package) -> Result<()> {
    let mut package = workspace.cargo();
    // Nobody debugs these builds, and debug information is most of what they would write.
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
