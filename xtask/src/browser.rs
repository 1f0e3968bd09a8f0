//! `cargo xtask browser`: traces, reports (live and ended), comparisons of runs, maps, layers and the page of `taal serve` in a real
//! browser, with axe-core's accessibility rules.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::command::run;
use crate::workspace::Workspace;

/// A text that contains markup, and one that is wider than a phone's screen.
const HOSTILE: &str = "De kat zat op de mat, \u{e9}\u{e9}n keer </script> <b>\u{1f99c}</b>\n& weg";
const LONG: &str = "De kat krabt de krullen van de trap en de rat ziet het aan vanaf de bovenste tree, waar hij sinds \
                    maandag woont; niemand heeft hem gevraagd.";

/// A template in the manner of ChatML. A tokenizer without its marks reads them as text.
const TEMPLATE: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
                        {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// A small text: an evaluation on the corpora takes longer than all else.
const TEXT: &str = "crates/tokenizer/tests/golden/corpus.txt";

/// A run that is under way until it is killed.
const ENDLESS: &str = "train.steps=100000";

/// Arguments of `cargo xtask browser`.
#[derive(Debug, Args)]
pub struct Browser {
    /// Only the page of `taal serve`, once light on a desktop and once dark on a phone: two minutes after the build
    #[arg(long)]
    page: bool,
}

/// Trains small models, makes pages with them in both languages, and opens the pages. Needs node, npm, and Chromium
/// (set its path in `CHROMIUM`).
pub fn browser(workspace: &Workspace, arguments: &Browser) -> Result<()> {
    check_programs()?;
    let site = Site::prepare(workspace)?;
    if !arguments.page {
        site.all_pages()?;
        // It has learned nothing, and has a context for an answer that takes its time.
        site.train(
            "dutch-bpe",
            "unlearned",
            &["train.steps=2", "model.max_seq_len=4096", "eval.batch_size=1"],
        )?;
        return site.served_page("unlearned", &["eval.every=2", "checkpoint.every=2"], 4);
    }
    let text = workspace.root().join(TEXT);
    fs::copy(&text, site.pages.join("text.txt")).with_context(|| format!("cannot copy {}", text.display()))?;
    let files = "data.files=[\"text.txt\"]";
    site.train(
        "dutch-bpe",
        "causal",
        &["train.steps=4", "model.max_seq_len=4096", files],
    )?;
    site.train("dutch-mlm", "masked", &["train.steps=2", "data.weights=[1.0]", files])?;
    site.served_page("causal", &["eval.every=10", files], 2)
}

/// Fails where a program is missing, before anything is built.
fn check_programs() -> Result<()> {
    let chromium = env::var_os("CHROMIUM").unwrap_or_else(|| "/usr/bin/chromium".into());
    for program in [OsString::from("node"), OsString::from("npm"), chromium] {
        let version = Command::new(&program).arg("--version").output();
        ensure!(
            version.is_ok_and(|output| output.status.success()),
            "cannot run {}: install node, npm and Chromium (on Debian the packages nodejs, npm and chromium), or set CHROMIUM to the \
             path of a Chromium",
            program.display()
        );
    }
    Ok(())
}

/// A process that ends with its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where the pages are made and opened.
struct Site {
    taal: PathBuf,
    /// The scripts, and the modules that they need.
    folder: PathBuf,
    /// The folder in which `taal` runs, with the pages, their screenshots and the models.
    pages: PathBuf,
}

impl Site {
    /// Builds `taal`, empties the folder of the pages, and installs what the scripts need.
    fn prepare(workspace: &Workspace) -> Result<Self> {
        // Built with the features of the tests, so that Burn is built only once.
        run(workspace
            .cargo()
            .args(["test", "--workspace", "--test", "cli", "--no-run"])
            .args(workspace.features()))?;
        let target = workspace.metadata()?.target_directory;
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
            .args(["install", "--no-audit", "--no-fund", "--loglevel=error"]))
        .context(
            "npm cannot install playwright-core and axe-core: it needs a package registry, which `npm config set registry` chooses",
        )?;
        let taal = format!("taal{}", env::consts::EXE_SUFFIX);
        Ok(Self {
            taal: target.join("debug").join(taal),
            folder,
            pages,
        })
    }

    /// A command of `taal` in the folder of the pages.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.taal);
        command.current_dir(&self.pages).args(arguments);
        command
    }

    fn taal(&self, arguments: &[&str]) -> Result<()> {
        run(&mut self.command(arguments))
    }

    /// A training with these settings besides those of all of them.
    fn training(&self, recipe: &str, run_dir: &str, language: &str, settings: &[&str]) -> Command {
        let mut command = self.command(&["train", "--recipe", recipe, "--run-dir", run_dir, "--lang", language]);
        for setting in settings {
            command.args(["--set", setting]);
        }
        command
    }

    fn train(&self, recipe: &str, run_dir: &str, settings: &[&str]) -> Result<()> {
        let few = ["train.warmup_steps=0", "checkpoint.every=2", "checkpoint.keep=9"];
        run(&mut self.training(recipe, run_dir, "en", &[&few[..], settings].concat()))
    }

    /// Makes and opens all pages but that of `taal serve`.
    fn all_pages(&self) -> Result<()> {
        self.train("dutch-bpe", "causal", &["train.steps=8"])?;
        self.train("dutch-mlm", "masked", &["train.steps=4"])?;
        self.train("dutch-bpe", "recurrent", &["train.steps=4", "model.preset=lstm"])?;
        let trace = |model: [&str; 2], text: &str, file: &str, language: &str| {
            self.taal(&[&["trace"], &model[..], &[text, "--html", file, "--lang", language]].concat())
        };
        let masked = "De [MASK] zat op de [MASK].";
        trace(["--checkpoints", "causal"], HOSTILE, "causal.html", "en")?;
        trace(["--model", "causal"], LONG, "long.html", "en")?;
        trace(["--checkpoints", "recurrent"], LONG, "recurrent.html", "en")?;
        trace(["--checkpoints", "masked"], masked, "masked.html", "en")?;
        trace(["--checkpoints", "causal"], HOSTILE, "causal-nl.html", "nl")?;
        trace(["--checkpoints", "masked"], masked, "masked-nl.html", "nl")?;

        let pages = &self.pages;
        let plot = ["embeddings", "plot", "--model", "masked", "--out"];
        let words = ["kat", "hond", "huis", "een", "de", "het"];
        self.taal(&[&plot[..], &["map.html", "--lang", "en"], &words].concat())?;
        self.taal(&[&plot[..], &["map-nl.html", "--lang", "nl"], &words].concat())?;
        fs::write(pages.join("lines.txt"), lines()).context("cannot write lines.txt")?;
        self.taal(&[&plot[..], &["lines.html", "--lang", "en", "--lines", "lines.txt"]].concat())?;
        self.taal(&["inspect", "--model", "masked", "--svg", "layers.svg"])?;
        let picture = fs::read_to_string(pages.join("layers.svg")).context("cannot read layers.svg")?;
        fs::write(pages.join("layers.html"), within_a_page(&picture)).context("cannot write layers.html")?;
        fs::copy(pages.join("masked/report.html"), pages.join("report-masked.html")).context("cannot copy a report")?;
        self.taal(&["runs", "compare", "causal", "recurrent", "--html", "compare.html"])?;
        for language in ["en", "nl"] {
            self.live_page(language)?;
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
            .current_dir(&self.folder)
            .arg("check.mjs")
            .arg(shots)
            .args(files))
    }

    /// Keeps the page of a run in progress as `live.html` (`live-nl.html` in Dutch), and that of the stopped run as
    /// `ended-nl.html`.
    fn live_page(&self, language: &str) -> Result<()> {
        let run_dir = format!("live-{language}");
        let mut training = self.training("dutch-bpe", &run_dir, language, &[ENDLESS, "eval.every=2"]);
        let mut training = Running(training.spawn().context("cannot start a run")?);
        let page = self.pages.join(&run_dir).join("report.html");
        let began = Instant::now();
        let text = loop {
            let text = fs::read_to_string(&page).unwrap_or_default();
            if text.contains("legend validation") {
                break text;
            }
            ensure!(
                training.0.try_wait()?.is_none() && began.elapsed() < Duration::from_secs(300),
                "the run wrote no page after an evaluation"
            );
            std::thread::sleep(Duration::from_millis(200));
        };
        drop(training);
        let name = if language == "en" { "live.html" } else { "live-nl.html" };
        fs::write(self.pages.join(name), text).with_context(|| format!("cannot write {name}"))?;
        if language == "nl" {
            let resume = ["train", "--resume", "--run-dir", &run_dir, "--lang", "nl"];
            self.taal(&[&resume[..], &["--set", "train.steps=1"]].concat())?;
            fs::copy(&page, self.pages.join("ended-nl.html")).context("cannot copy a page")?;
        }
        Ok(())
    }

    /// Uses the page of a server as people do: the model of a run to talk with, a masked one, and runs, of which one is under way with
    /// these settings; in so many arrangements of color, width and language.
    fn served_page(&self, model: &str, under_way: &[&str], arrangements: u8) -> Result<()> {
        self.taal(&["export", "--to", "hf", "--model", model, "--out", "talk"])?;
        fs::write(self.pages.join("talk/chat_template.jinja"), TEMPLATE).context("cannot write a template")?;
        let mut training = self.training("dutch-bpe", "under-way", "en", &[&[ENDLESS][..], under_way].concat());
        let _training = Running(training.spawn().context("cannot start a run")?);
        let models = ["--model", "talk", "--model", "masked"];
        let serve = ["serve", "--port", "0", "--conversations", "talks", "--runs", "."];
        let mut server = self.command(&[&serve[..], &models].concat());
        let server = server.stdout(Stdio::piped()).spawn();
        let mut server = Running(server.context("cannot start a server")?);
        let mut line = String::new();
        let read = server
            .0
            .stdout
            .take()
            .map(|out| BufReader::new(out).read_line(&mut line));
        ensure!(matches!(read, Some(Ok(1..))), "the server did not say its address");
        let address = line.trim().rsplit(' ').next().unwrap_or_default();
        run(Command::new("node")
            .current_dir(&self.folder)
            .args(["page.mjs", "pages", address])
            .arg(arrangements.to_string()))
    }
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
