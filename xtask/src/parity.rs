//! `cargo xtask parity`: compares the results of a GPU with those of flex.

use anyhow::{Result, bail};
use clap::Args;

use crate::command::run;
use crate::workspace::{GPU_FEATURES, Workspace};

/// Arguments of `cargo xtask parity`.
#[derive(Debug, Args)]
pub struct Parity {
    /// wgpu, wgpu:N (the number that `taal doctor` prints) or cuda:N
    #[arg(long, default_value = "wgpu")]
    device: String,
    /// Two lengths instead of seven, and one model family instead of three: some minutes on software Vulkan
    #[arg(long)]
    small: bool,
    /// Steps over which memory must not grow
    #[arg(long, value_name = "N", default_value_t = 200)]
    steps: u32,
    /// Part of the name of the tests to run (default: all)
    filter: Option<String>,
}

/// Runs the tests of operations and of models that need a GPU.
pub fn parity(workspace: &Workspace, arguments: &Parity) -> Result<()> {
    // The features of the suite with `--gpu` include wgpu.
    let feature: &[&str] = match arguments.device.split(':').next() {
        Some("wgpu") => &[],
        Some("cuda") => &["--features", "taal-cli/cuda"],
        _ => bail!(
            "--device: expected wgpu, wgpu:N, cuda or cuda:N, got {:?}",
            arguments.device
        ),
    };
    let filter = arguments.filter.as_deref().unwrap_or_default();
    // In the kernels' tests, those of a GPU are one module.
    for (target, filter) in [("kernels", format!("gpu::{filter}")), ("parity", filter.to_owned())] {
        let mut test = workspace.cargo();
        test.args(["test", "--workspace"])
            .args(["--features", GPU_FEATURES])
            .args(feature)
            .args(["--test", target])
            .env("TAAL_PARITY_DEVICE", &arguments.device)
            .env("TAAL_PARITY_STEPS", arguments.steps.to_string());
        if arguments.small {
            // The fewest candidates of each kernel are tried, since each is compiled.
            test.env("TAAL_PARITY_SMALL", "1")
                .env("CUBECL_AUTOTUNE_LEVEL", "minimal");
        }
        run(test.arg("--").args(["--ignored", "--test-threads", "1", &filter]))?;
    }
    Ok(())
}
