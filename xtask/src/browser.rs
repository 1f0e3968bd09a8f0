//! `cargo xtask browser`: traces, a report and a map in a real browser, with axe-core's accessibility rules.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::run;
use crate::workspace::Workspace;

/// A text with markup in it, and one longer than a phone's screen.
const HOSTILE: &str = "De kat zat op de mat, \u{e9}\u{e9}n keer </script> <b>\u{1f99c}</b>\n& weg";
const LONG: &str = "De kat krabt de krullen van de trap en de rat ziet het aan vanaf de bovenste tree, waar hij sinds \
                    maandag woont; niemand heeft hem gevraagd.";

/// Trains three small models, makes pages with them, and opens the pages. Needs node, npm, and Chromium (`CHROMIUM` names it).
pub fn browser(workspace: &Workspace) -> Result<()> {
    // Built with the features of the tests, so that Burn is built once.
    run(workspace
        .cargo()
        .args(["test", "--workspace", "--test", "cli", "--no-run"])
        .args(workspace.features()))?;
    let target = workspace.metadata()?.target_directory;
    let taal = target
        .join("debug")
        .join(format!("taal{}", std::env::consts::EXE_SUFFIX));
    let folder = target.join("browser");
    let pages = folder.join("pages");
    if pages.exists() {
        fs::remove_dir_all(&pages).with_context(|| format!("cannot empty {}", pages.display()))?;
    }
    fs::create_dir_all(&pages).with_context(|| format!("cannot make {}", pages.display()))?;

    for name in ["package.json", "check.mjs"] {
        let source = workspace.root().join("xtask/trace").join(name);
        fs::copy(&source, folder.join(name)).with_context(|| format!("cannot copy {}", source.display()))?;
    }
    run(Command::new("npm")
        .current_dir(&folder)
        .args(["install", "--no-audit", "--no-fund", "--loglevel=error"]))?;

    let taal = |arguments: &[&str]| run(Command::new(&taal).current_dir(&pages).args(arguments));
    let train = |recipe: &str, run_dir: &str, settings: &[&'static str]| {
        let start = ["train", "--recipe", recipe, "--run-dir", run_dir];
        let few = ["train.warmup_steps=0", "checkpoint.every=2", "checkpoint.keep=9"];
        let settings = few.iter().chain(settings).flat_map(|setting| ["--set", setting]);
        taal(&start.into_iter().chain(settings).collect::<Vec<_>>())
    };
    train("dutch-bpe", "causal", &["train.steps=8"])?;
    train("dutch-mlm", "masked", &["train.steps=4"])?;
    train("dutch-bpe", "recurrent", &["train.steps=4", "model.preset=lstm"])?;
    taal(&["trace", "--checkpoints", "causal", HOSTILE, "--html", "causal.html"])?;
    taal(&["trace", "--model", "causal", LONG, "--html", "long.html"])?;
    taal(&["trace", "--checkpoints", "recurrent", LONG, "--html", "recurrent.html"])?;
    let masked = "De [MASK] zat op de [MASK].";
    taal(&["trace", "--checkpoints", "masked", masked, "--html", "masked.html"])?;

    let plot = ["embeddings", "plot", "--model", "masked", "--out", "map.html"];
    taal(&[&plot[..], &["kat", "hond", "huis", "een", "de", "het"]].concat())?;

    let shots = Path::new("pages");
    let names = ["causal", "long", "masked", "recurrent", "map", "causal/report"];
    let files = names.map(|name| shots.join(name).with_extension("html"));
    run(Command::new("node")
        .current_dir(&folder)
        .arg("check.mjs")
        .arg(shots)
        .args(files))
}
