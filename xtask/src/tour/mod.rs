//! `cargo xtask tour`: runs the guided tours, command by command, and compares the output with the pages.

mod compare;
mod page;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};

use self::compare::{Comparison, compare};
use self::page::{Page, Step};
use crate::command::{forget_this_package, run};
use crate::workspace::Workspace;

/// Arguments of `cargo xtask tour`.
#[derive(Debug, Args)]
pub struct Tour {
    /// Which of them (default: all)
    tours: Vec<Language>,
    /// Write what is printed, and the pictures that are drawn, into the pages, and the commands into the scripts
    #[arg(long)]
    update: bool,
    /// Run this `taal` instead of building one in release
    #[arg(long, value_name = "FILE")]
    taal: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Language {
    /// docs/nl/rondleiding.md
    Nl,
    /// docs/tour.md
    En,
}

impl Language {
    fn name(self) -> &'static str {
        match self {
            Self::Nl => "nl",
            Self::En => "en",
        }
    }

    fn page(self) -> &'static str {
        match self {
            Self::Nl => "docs/nl/rondleiding.md",
            Self::En => "docs/tour.md",
        }
    }

    fn script(self) -> &'static str {
        match self {
            Self::Nl => "docs/tour/rondleiding.sh",
            Self::En => "docs/tour/tour.sh",
        }
    }

    /// The beginning of a script, before its commands.
    fn script_header(self) -> &'static str {
        match self {
            Self::Nl => {
                "#!/bin/sh\n# De opdrachten van docs/nl/rondleiding.md, om te kopiëren of in een lege map uit te voeren: sh rondleiding.sh\n\
                 # Gemaakt door `cargo xtask tour --update`.\nset -e\n"
            }
            Self::En => {
                "#!/bin/sh\n# The commands of docs/tour.md, to copy or to run in an empty folder: sh tour.sh\n\
                 # Written by `cargo xtask tour --update`.\nset -e\n"
            }
        }
    }

    /// The files and commands of a page as a script.
    fn script_of(self, page: &Page) -> Result<String> {
        Ok(format!("{}{}", self.script_header(), page.script()?))
    }
}

/// Runs the tours, each from an empty folder; fails after the last one if a page differs from the output.
pub fn tour(workspace: &Workspace, arguments: &Tour) -> Result<()> {
    let taal = match &arguments.taal {
        Some(taal) => std::path::absolute(taal).with_context(|| format!("--taal {}: no such file", taal.display()))?,
        None => build(workspace)?,
    };
    let tours = match arguments.tours.as_slice() {
        [] => Language::value_variants(),
        tours => tours,
    };
    let home = workspace.metadata()?.target_directory.join("tour");
    let mut drifted = Vec::new();
    for &language in tours {
        let walk = Walk::new(workspace, &home, language, &taal)?;
        if !walk.walk(arguments.update)? {
            drifted.push(language.page());
        }
        if arguments.update {
            let path = workspace.root().join(language.script());
            let script = language.script_of(&walk.page)?;
            fs::write(&path, script).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    ensure!(
        drifted.is_empty(),
        "{}: out of date; see the lines above, and run `cargo xtask tour --update` to write the new output",
        drifted.join(", ")
    );
    Ok(())
}

fn build(workspace: &Workspace) -> Result<PathBuf> {
    let mut build = workspace.cargo();
    run(build.args(["build", "--release", "--package", "taal-cli", "--bin", "taal"]))?;
    let target = workspace.metadata()?.target_directory;
    Ok(target.join("release").join(format!("taal{}", env::consts::EXE_SUFFIX)))
}

/// A page and the empty folder in which it runs.
struct Walk {
    language: Language,
    path: PathBuf,
    page: Page,
    folder: PathBuf,
    search_path: OsString,
}

impl Walk {
    fn new(workspace: &Workspace, home: &Path, language: Language, taal: &Path) -> Result<Self> {
        let path = workspace.root().join(language.page());
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let page = Page::parse(&text).with_context(|| path.display().to_string())?;

        // A copy alone in a folder, so that other programs next to `taal` are not found before the shell's.
        let programs = home.join("bin");
        fs::create_dir_all(&programs).with_context(|| format!("cannot make {}", programs.display()))?;
        let copy = programs.join(format!("taal{}", env::consts::EXE_SUFFIX));
        fs::copy(taal, &copy).with_context(|| format!("cannot copy {}", taal.display()))?;
        let mut search_path = vec![programs];
        search_path.extend(env::var_os("PATH").iter().flat_map(env::split_paths));

        let folder = home.join(language.name());
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
        }
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self {
            language,
            path,
            page,
            folder,
            search_path: env::join_paths(search_path).context("PATH cannot be made longer")?,
        })
    }

    /// Whether everything equals the page, or was written into it.
    fn walk(&self, is_update: bool) -> Result<bool> {
        let began = Instant::now();
        let mut printed = Vec::new();
        // As long as all numbers of trainings are equal, this machine computes the same as the page's machine.
        let mut is_to_the_digit = true;
        let (mut drifted, mut other_words) = (0, 0);
        for step in &self.page.steps {
            let (command, lines, rules) = match step {
                Step::Heading(_) => continue,
                Step::File { name, text } => {
                    let path = self.folder.join(name);
                    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
                    continue;
                }
                Step::Command {
                    command,
                    printed,
                    rules,
                } => (command, self.page.printed(printed), rules),
            };
            let got = self.shell(command)?;
            let Comparison {
                differences,
                is_to_the_digit: is_this_to_the_digit,
            } = compare(lines, &got, rules.numbers);
            printed.push(got);
            if rules.has_model_words && !is_to_the_digit {
                other_words += usize::from(!differences.is_empty());
                continue;
            }
            is_to_the_digit &= is_this_to_the_digit;
            if !differences.is_empty() && !is_update {
                drifted += 1;
                eprintln!("not as in {}:", self.language.page());
                differences.iter().for_each(|line| eprintln!("{line}"));
            }
        }
        self.pictures(is_update)?;
        if is_update {
            let text = self.page.with_printed(&printed)?;
            fs::write(&self.path, text).with_context(|| format!("cannot write {}", self.path.display()))?;
        }
        let seconds = began.elapsed().as_secs();
        println!(
            "{}: {} commands in {} min {:02} s, {}",
            self.language.page(),
            printed.len(),
            seconds / 60,
            seconds % 60,
            match (is_update, drifted) {
                (true, _) => "written".to_owned(),
                (false, 0) => "all as on the page".to_owned(),
                (false, drifted) => format!("{drifted} not as on the page"),
            }
        );
        if other_words > 0 && !is_update {
            println!(
                "  this machine rounds differently from the one that wrote the page, so {other_words} answers of models have other words"
            );
        }
        Ok(drifted == 0)
    }

    /// Runs a command in the folder and returns the lines of its standard output; its standard error is shown.
    fn shell(&self, command: &str) -> Result<Vec<String>> {
        eprintln!("$ {command}");
        let began = Instant::now();
        let mut shell = Command::new("sh");
        forget_this_package(&mut shell);
        for (name, _) in env::vars_os() {
            // Variables that change kernels or tests do not apply here.
            if name.to_str().is_some_and(|name| name.starts_with("TAAL_")) {
                shell.env_remove(name);
            }
        }
        let output = shell
            .args(["-c", command])
            .current_dir(&self.folder)
            .env("PATH", &self.search_path)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .context("cannot run sh; a tour needs a POSIX shell")?;
        if !output.status.success() {
            bail!("{}: `{command}` ended with {}", self.language.page(), output.status);
        }
        eprintln!("  {:.1} s", began.elapsed().as_secs_f64());
        let text =
            String::from_utf8(output.stdout).with_context(|| format!("`{command}` printed text that is not UTF-8"))?;
        Ok(text.trim_end().lines().map(|line| line.trim_end().to_owned()).collect())
    }

    /// Checks that every picture of the page was drawn, and is an SVG; with `is_update`, copies it.
    fn pictures(&self, is_update: bool) -> Result<()> {
        for picture in self.page.pictures() {
            let name = picture
                .file_name()
                .with_context(|| format!("a picture without a name: {}", picture.display()))?;
            let drawn = self.folder.join(name);
            let text = fs::read_to_string(&drawn)
                .with_context(|| format!("no command of the page drew {}", name.display()))?;
            ensure!(text.starts_with("<svg"), "{} is not an SVG", drawn.display());
            if is_update {
                let target = self.path.with_file_name("").join(&picture);
                fs::write(&target, text).with_context(|| format!("cannot write {}", target.display()))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages() -> Vec<(PathBuf, Page)> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let read = |language: &Language| {
            let path = root.join(language.page());
            let text = fs::read_to_string(&path).expect("a page");
            let page = Page::parse(&text).expect("a page without mistakes");
            (path, page)
        };
        Language::value_variants().iter().map(read).collect()
    }

    #[test]
    fn the_tours_can_be_read_and_their_pictures_are_there() {
        for (path, page) in pages() {
            assert!(!page.steps.is_empty(), "{}", path.display());
            for picture in page.pictures() {
                let picture = path.with_file_name("").join(picture);
                assert!(picture.is_file(), "{}", picture.display());
            }
        }
    }

    /// `UPDATE=1` writes the scripts.
    #[test]
    fn the_scripts_have_the_commands_of_their_pages() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for (language, (_, page)) in Language::value_variants().iter().zip(pages()) {
            let path = root.join(language.script());
            let expected = language.script_of(&page).expect("a script");
            if env::var_os("UPDATE").is_some() {
                fs::write(&path, &expected).expect("a written script");
            }
            let script = fs::read_to_string(&path).expect("a script");
            assert_eq!(script, expected, "UPDATE=1 rewrites {}", language.script());
        }
    }

    /// A run of a test page in a test folder.
    struct Trial {
        walk: Walk,
    }

    impl Trial {
        fn new(name: &str, page: &str) -> Self {
            let folder = env::temp_dir().join(format!("xtask-tour-{}-{name}", std::process::id()));
            fs::create_dir_all(folder.join("pictures")).expect("a folder");
            let path = folder.join("page.md");
            fs::write(&path, page).expect("a page");
            let walk = Walk {
                language: Language::En,
                path,
                page: Page::parse(page).expect("a page without mistakes"),
                folder,
                search_path: env::var_os("PATH").unwrap_or_default(),
            };
            Self { walk }
        }

        fn is_as_on_the_page(&self) -> bool {
            self.walk.walk(false).expect("commands that run")
        }

        fn updated(&self) -> String {
            assert!(self.walk.walk(true).expect("commands that run"));
            fs::read_to_string(&self.walk.path).expect("a page")
        }
    }

    impl Drop for Trial {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.walk.folder);
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_tour_writes_files_runs_commands_and_notices_drift() {
        let page = "```text file=a.txt\nloss 4.00\n```\n```console\n$ cat a.txt; echo no >&2\nloss 4.01\n```\n";
        assert!(Trial::new("same", page).is_as_on_the_page());
        assert!(!Trial::new("number", &page.replace("4.01", "5.01")).is_as_on_the_page());
        assert!(!Trial::new("text", &page.replace("loss 4.01", "gain 4.01")).is_as_on_the_page());
        let fails = Trial::new(
            "fails",
            &page
                .replace("cat a.txt", "cat b.txt && true")
                .replace("; echo no >&2", ""),
        );
        assert!(fails.walk.walk(false).is_err());
        let old = Trial::new("old", &page.replace("4.01", "5.01"));
        assert_eq!(old.updated(), page.replace("4.01", "4.00"));
    }

    #[cfg(unix)]
    #[test]
    fn words_of_a_model_must_be_equal_only_if_all_numbers_before_were() {
        let page = "```console\n$ echo loss 4.0000\nloss 4.0000\n```\n```console words=model\n$ echo mat\nmuis\n```\n";
        assert!(!Trial::new("here", page).is_as_on_the_page());
        assert!(Trial::new("elsewhere", &page.replace("\nloss 4.0000", "\nloss 4.0001")).is_as_on_the_page());
        let other = page.replace("\nloss 4.0000", "\nloss 5.0000");
        assert!(!Trial::new("too-far", &other).is_as_on_the_page());
    }

    #[cfg(unix)]
    #[test]
    fn a_picture_that_is_not_drawn_is_missed_and_a_drawn_one_is_copied() {
        let page = "```console\n$ echo '<svg/>' > a.svg; echo drawn\ndrawn\n```\n![A](pictures/a.svg)\n";
        let trial = Trial::new("drawn", page);
        assert_eq!(trial.updated(), page);
        assert!(trial.walk.folder.join("pictures/a.svg").is_file());
        let missing = Trial::new("missing", &page.replace("a.svg)", "b.svg)"));
        assert!(missing.walk.walk(false).is_err());
        let empty = Trial::new("empty", &page.replace("<svg/>", ""));
        assert!(empty.walk.walk(false).is_err());
    }

    #[test]
    fn every_command_of_the_tours_shows_what_it_prints() {
        for (path, page) in pages() {
            for step in &page.steps {
                if let Step::Command { command, printed, .. } = step {
                    assert!(!page.printed(printed).is_empty(), "{}: {command}", path.display());
                }
            }
        }
    }
}
