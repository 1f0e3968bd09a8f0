//! `cargo xtask browser`: traces, reports (live and ended), comparisons of runs, maps, layers and the page of `taal serve` in a real
//! browser, with axe-core's accessibility rules.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::command::run;
use crate::workspace::Workspace;

/// A text that contains markup, and one that is wider than a phone's screen.
const HOSTILE: &str = "De kat zat op de mat, \u{e9}\u{e9}n keer </script> <b>\u{1f99c}</b>\n& weg";
const LONG: &str = "De kat krabt de krullen van de trap en de rat ziet het aan vanaf de bovenste tree, waar hij sinds \
                    maandag woont; niemand heeft hem gevraagd.";

/// Trains small models, makes pages with them in both languages, and opens the pages. Needs node, npm, and Chromium
/// (set its path in `CHROMIUM`).
pub fn browser(workspace: &Workspace) -> Result<()> {
    // Built with the features of the tests, so that Burn is built only once.
    run(workspace
        .cargo()
        .args(["test", "--workspace", "--test", "cli", "--no-run"])
        .args(workspace.features()))?;
    let target = workspace.metadata()?.target_directory;
    let program = target
        .join("debug")
        .join(format!("taal{}", std::env::consts::EXE_SUFFIX));
    let folder = target.join("browser");
    let pages = folder.join("pages");
    if pages.exists() {
        fs::remove_dir_all(&pages).with_context(|| format!("cannot empty {}", pages.display()))?;
    }
    fs::create_dir_all(&pages).with_context(|| format!("cannot make {}", pages.display()))?;

    let scripts = [
        ("xtask/trace/package.json", "package.json"),
        ("xtask/trace/check.mjs", "check.mjs"),
        ("xtask/page/check.mjs", "page.mjs"),
    ];
    for (source, name) in scripts {
        let source = workspace.root().join(source);
        fs::copy(&source, folder.join(name)).with_context(|| format!("cannot copy {}", source.display()))?;
    }
    run(Command::new("npm")
        .current_dir(&folder)
        .args(["install", "--no-audit", "--no-fund", "--loglevel=error"]))?;

    let taal = |arguments: &[&str]| run(Command::new(&program).current_dir(&pages).args(arguments));
    let train = |recipe: &str, run_dir: &str, settings: &[&'static str]| {
        let start = ["train", "--recipe", recipe, "--run-dir", run_dir, "--lang", "en"];
        let few = ["train.warmup_steps=0", "checkpoint.every=2", "checkpoint.keep=9"];
        let settings = few.iter().chain(settings).flat_map(|setting| ["--set", setting]);
        taal(&start.into_iter().chain(settings).collect::<Vec<_>>())
    };
    train("dutch-bpe", "causal", &["train.steps=8"])?;
    train("dutch-mlm", "masked", &["train.steps=4"])?;
    train("dutch-bpe", "recurrent", &["train.steps=4", "model.preset=lstm"])?;
    let trace = |model: [&str; 2], text: &str, file: &str, language: &str| {
        taal(&[&["trace"], &model[..], &[text, "--html", file, "--lang", language]].concat())
    };
    let masked = "De [MASK] zat op de [MASK].";
    trace(["--checkpoints", "causal"], HOSTILE, "causal.html", "en")?;
    trace(["--model", "causal"], LONG, "long.html", "en")?;
    trace(["--checkpoints", "recurrent"], LONG, "recurrent.html", "en")?;
    trace(["--checkpoints", "masked"], masked, "masked.html", "en")?;
    trace(["--checkpoints", "causal"], HOSTILE, "causal-nl.html", "nl")?;
    trace(["--checkpoints", "masked"], masked, "masked-nl.html", "nl")?;

    let plot = ["embeddings", "plot", "--model", "masked", "--out"];
    let words = ["kat", "hond", "huis", "een", "de", "het"];
    taal(&[&plot[..], &["map.html", "--lang", "en"], &words].concat())?;
    taal(&[&plot[..], &["map-nl.html", "--lang", "nl"], &words].concat())?;
    fs::write(pages.join("lines.txt"), lines()).context("cannot write lines.txt")?;
    taal(&[&plot[..], &["lines.html", "--lang", "en", "--lines", "lines.txt"]].concat())?;
    taal(&["inspect", "--model", "masked", "--svg", "layers.svg"])?;
    let picture = fs::read_to_string(pages.join("layers.svg")).context("cannot read layers.svg")?;
    fs::write(pages.join("layers.html"), within_a_page(&picture)).context("cannot write layers.html")?;
    fs::copy(pages.join("masked/report.html"), pages.join("report-masked.html")).context("cannot copy a report")?;
    taal(&["runs", "compare", "causal", "recurrent", "--html", "compare.html"])?;
    for language in ["en", "nl"] {
        live_page(&program, &pages, language)?;
    }

    let shots = Path::new("pages");
    let names = [
        "causal",
        "long",
        "masked",
        "recurrent",
        "causal-nl",
        "masked-nl",
        "map",
        "map-nl",
        "lines",
        "layers",
        "causal/report",
        "report-masked",
        "compare",
        "live",
        "live-nl",
        "ended-nl",
    ];
    let files = names.map(|name| shots.join(name).with_extension("html"));
    run(Command::new("node")
        .current_dir(&folder)
        .arg("check.mjs")
        .arg(shots)
        .args(files))?;
    served_page(&program, &folder, &pages)
}

/// A template in the manner of ChatML. A tokenizer without its marks reads them as text.
const TEMPLATE: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
                        {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// Uses the page of a server as people do: a model to talk with, a masked one, and runs. The first model has learned nothing and has a context for an answer that takes its time.
fn served_page(taal: &Path, folder: &Path, pages: &Path) -> Result<()> {
    let settings = ["train.steps=2", "model.max_seq_len=4096", "eval.batch_size=1"];
    let settings = settings.iter().flat_map(|setting| ["--set", setting]);
    let train = [
        "train",
        "--recipe",
        "dutch-bpe",
        "--run-dir",
        "unlearned",
        "--lang",
        "en",
    ];
    run(Command::new(taal).current_dir(pages).args(train).args(settings))?;
    run(Command::new(taal)
        .current_dir(pages)
        .args(["export", "--to", "hf", "--model", "unlearned", "--out", "talk"]))?;
    fs::write(pages.join("talk/chat_template.jinja"), TEMPLATE).context("cannot write a template")?;
    // The page shows the curve of a run under way.
    let mut training = Command::new(taal)
        .current_dir(pages)
        .args([
            "train",
            "--recipe",
            "dutch-bpe",
            "--run-dir",
            "under-way",
            "--lang",
            "en",
        ])
        .args([
            "--set",
            "train.steps=100000",
            "--set",
            "eval.every=2",
            "--set",
            "checkpoint.every=2",
        ])
        .spawn()
        .context("cannot start a run")?;
    let models = ["--model", "talk", "--model", "masked"];
    let mut server = Command::new(taal)
        .current_dir(pages)
        .args(["serve", "--port", "0", "--conversations", "talks", "--runs", "."])
        .args(models)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start a server")?;
    let mut line = String::new();
    let read = server.stdout.take().map(|out| BufReader::new(out).read_line(&mut line));
    let address = line.trim().rsplit(' ').next().unwrap_or_default().to_owned();
    let used = match read {
        Some(Ok(1..)) => run(Command::new("node")
            .current_dir(folder)
            .arg("page.mjs")
            .arg("pages")
            .arg(address)),
        _ => Err(anyhow::anyhow!("the server did not say its address")),
    };
    for child in [&mut server, &mut training] {
        child.kill().context("cannot stop the server and the run")?;
        child.wait().context("cannot wait for the server and the run")?;
    }
    used
}

/// Forty lines that are too long for a map on a phone.
fn lines() -> String {
    let subjects = ["De man", "De vrouw", "Het kind", "De kat", "De hond"];
    let rest = ["loopt naar huis", "slaapt in de tuin", "eet een appel", "ziet de zon"];
    let line = |subject: &str, rest: &str| format!("{subject} {rest}.\n{subject} {rest} op school.\n");
    let lines = subjects
        .iter()
        .flat_map(|subject| rest.iter().map(move |rest| line(subject, rest)));
    lines.collect()
}

/// A picture on a page, so that axe-core can read it.
fn within_a_page(picture: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>Layers</title>\n<main>\n<h1>Layers</h1>\n{picture}</main>\n</html>\n"
    )
}

/// Keeps the page of a run in progress as `live.html` (`live-nl.html` in Dutch), and that of the stopped run as
/// `ended-nl.html`.
fn live_page(taal: &Path, pages: &Path, language: &str) -> Result<()> {
    let run_dir = format!("live-{language}");
    let mut training = Command::new(taal)
        .current_dir(pages)
        .args([
            "train",
            "--recipe",
            "dutch-bpe",
            "--run-dir",
            &run_dir,
            "--lang",
            language,
        ])
        .args(["--set", "train.steps=100000", "--set", "eval.every=2"])
        .spawn()
        .context("cannot start a run")?;
    let page = pages.join(&run_dir).join("report.html");
    let began = Instant::now();
    let text = loop {
        let text = fs::read_to_string(&page).unwrap_or_default();
        if text.contains("legend validation") {
            break text;
        }
        ensure!(
            training.try_wait()?.is_none() && began.elapsed() < Duration::from_secs(300),
            "the run wrote no page after an evaluation"
        );
        std::thread::sleep(Duration::from_millis(200));
    };
    training.kill().context("cannot stop the run")?;
    training.wait().context("cannot wait for the run")?;
    let name = if language == "en" { "live.html" } else { "live-nl.html" };
    fs::write(pages.join(name), text).with_context(|| format!("cannot write {name}"))?;
    if language == "nl" {
        let taal = |arguments: &[&str]| run(Command::new(taal).current_dir(pages).args(arguments));
        taal(&[
            "train",
            "--resume",
            "--run-dir",
            &run_dir,
            "--lang",
            "nl",
            "--set",
            "train.steps=1",
        ])?;
        fs::copy(&page, pages.join("ended-nl.html")).context("cannot copy a page")?;
    }
    Ok(())
}
