//! `cargo xtask parity`: what a GPU computes compared with what flex computes.

use anyhow::{Result, bail};
use clap::Args;

use crate::command::run;
use crate::workspace::Workspace;

/// Arguments of `cargo xtask parity`.
#[derive(Debug, Args)]
pub struct Parity {
    /// wgpu, wgpu:N (the number that `taal doctor` prints) or cuda:N
    #[arg(long, default_value = "wgpu")]
    device: String,
    /// Two lengths instead of seven and one family where three are compared: some minutes on software Vulkan
    #[arg(long)]
    small: bool,
    /// Steps over which memory must stay flat
    #[arg(long, value_name = "N", default_value_t = 200)]
    steps: u32,
    /// Part of the name of the tests to run (default: all)
    filter: Option<String>,
}

/// Builds the tests with the device's feature, in a folder of their own in the target folder: features change how Burn is built, and
/// everything else would be built again at each change.
pub fn parity(workspace: &Workspace, arguments: &Parity) -> Result<()> {
    let feature = match arguments.device.split(':').next() {
        Some("wgpu") => "wgpu",
        Some("cuda") => "cuda",
        _ => bail!(
            "--device: expected wgpu, wgpu:N, cuda or cuda:N, got {:?}",
            arguments.device
        ),
    };
    let target = workspace.metadata()?.target_directory.join(feature);
    let mut test = workspace.cargo();
    test.args([
        "test",
        "--package",
        "taal-cli",
        "--features",
        feature,
        "--test",
        "parity",
    ])
    .env("CARGO_TARGET_DIR", target)
    .env("TAAL_PARITY_DEVICE", &arguments.device)
    .env("TAAL_PARITY_STEPS", arguments.steps.to_string());
    if arguments.small {
        // The fewest candidates of each kernel are tried, since each is compiled.
        test.env("TAAL_PARITY_SMALL", "1")
            .env("CUBECL_AUTOTUNE_LEVEL", "minimal");
    }
    test.arg("--").args(["--test-threads", "1"]).args(&arguments.filter);
    run(&mut test)
}
