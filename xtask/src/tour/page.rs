//! A page of a tour: Markdown whose fences hold files to write, commands to run, and their output.

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::compare::{Numbers, Rules};

/// The steps of a page, in order.
#[derive(Debug)]
pub struct Page {
    lines: Vec<String>,
    pub steps: Vec<Step>,
}

#[derive(Debug, PartialEq)]
pub enum Step {
    /// A heading of the second level.
    Heading(String),
    /// A fence with `file=NAME` after its language: the reader saves it under that name.
    File { name: String, text: String },
    /// A line of a `console` fence that begins with `$ `, and the lines of the page with its output.
    Command {
        command: String,
        printed: Range<usize>,
        rules: Rules,
    },
}

impl Page {
    /// Reads a page.
    ///
    /// # Errors
    ///
    /// If a fence is not closed or its rules are unknown; the error has the line.
    pub fn parse(text: &str) -> Result<Self> {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let mut steps = Vec::new();
        let mut at = 0;
        while at < lines.len() {
            let Some(info) = lines[at].strip_prefix("```") else {
                if let Some(heading) = lines[at].strip_prefix("## ") {
                    steps.push(Step::Heading(heading.to_owned()));
                }
                at += 1;
                continue;
            };
            let length = lines[at + 1..].iter().position(|line| line == "```");
            let length = length.with_context(|| format!("line {}: a fence that is not closed", at + 1))?;
            let body = at + 1..at + 1 + length;
            read_fence(info, &lines, body.clone(), &mut steps).with_context(|| format!("line {}", at + 1))?;
            at = body.end + 1;
        }
        Ok(Self { lines, steps })
    }

    /// The lines of the page with a command's output.
    pub fn printed(&self, lines: &Range<usize>) -> &[String] {
        &self.lines[lines.clone()]
    }

    /// The page with other output for the first commands.
    ///
    /// # Errors
    ///
    /// If a printed line would be read as a command or close the fence.
    pub fn with_printed(&self, printed: &[Vec<String>]) -> Result<String> {
        let places = self.steps.iter().filter_map(|step| match step {
            Step::Command { printed, .. } => Some(printed),
            Step::Heading(_) | Step::File { .. } => None,
        });
        let mut text = String::new();
        let mut from = 0;
        let mut push = |line: &String| {
            text.push_str(line);
            text.push('\n');
        };
        for (place, new) in places.zip(printed) {
            for line in new {
                let is_mark = line.starts_with("$ ") || line.starts_with("```");
                ensure!(
                    !is_mark,
                    "cannot be on a page, because it would be read as a mark: {line:?}"
                );
            }
            self.lines[from..place.start].iter().chain(new).for_each(&mut push);
            from = place.end;
        }
        self.lines[from..].iter().for_each(push);
        Ok(text)
    }

    /// The files and commands of the page as a shell script, under the headings of the page.
    ///
    /// # Errors
    ///
    /// If a file contains the line that ends a file in the script.
    pub fn script(&self) -> Result<String> {
        let mut text = String::new();
        let mut heading = None;
        for step in &self.steps {
            let lines = match step {
                Step::Heading(title) => {
                    heading = Some(title);
                    continue;
                }
                Step::File { name, text } => {
                    ensure!(
                        text.lines().all(|line| line != "EOF"),
                        "file={name}: has the line `EOF`"
                    );
                    format!("cat > {name} <<'EOF'\n{text}EOF\n")
                }
                Step::Command { command, .. } => format!("{command}\n"),
            };
            if let Some(title) = heading.take() {
                text.push_str(&format!("\n# {title}\n"));
            }
            text.push_str(&format!("\n{lines}"));
        }
        Ok(text)
    }

    /// The pictures that the page shows, relative to it.
    pub fn pictures(&self) -> Vec<PathBuf> {
        let links = self.lines.iter().flat_map(|line| line.split("![").skip(1));
        links
            .filter_map(|link| Some(link.split_once("](")?.1.split_once(')')?.0))
            .map(|target| Path::new(target).to_path_buf())
            .collect()
    }
}

fn read_fence(info: &str, lines: &[String], body: Range<usize>, steps: &mut Vec<Step>) -> Result<()> {
    let mut words = info.split_whitespace();
    let language = words.next();
    if language == Some("console") {
        return read_console(Rules::parse(words)?, lines, body, steps);
    }
    for word in words {
        let name = word.strip_prefix("file=");
        let name = name.with_context(|| format!("expected file=NAME after the language, got {word:?}"))?;
        ensure!(
            !name.contains(['/', '\\']) && !name.starts_with('.'),
            "file={name}: a file of a tour is in its folder"
        );
        steps.push(Step::File {
            name: name.to_owned(),
            text: lines[body.clone()].iter().map(|line| format!("{line}\n")).collect(),
        });
    }
    Ok(())
}

fn read_console(rules: Rules, lines: &[String], body: Range<usize>, steps: &mut Vec<Step>) -> Result<()> {
    let mut at = body.start;
    while at < body.end {
        let Some(first) = lines[at].strip_prefix("$ ") else {
            bail!("expected a command after `$ `, got {:?}", lines[at]);
        };
        let mut command = first.to_owned();
        at += 1;
        while let Some(more) = lines[at..body.end].first().and_then(|line| line.strip_prefix("> ")) {
            command.push('\n');
            command.push_str(more);
            at += 1;
        }
        let length = lines[at..body.end].iter().position(|line| line.starts_with("$ "));
        let end = length.map_or(body.end, |length| at + length);
        steps.push(Step::Command {
            command,
            printed: at..end,
            rules,
        });
        at = end;
    }
    Ok(())
}

impl Rules {
    /// Reads the words after `console`.
    fn parse<'a>(words: impl Iterator<Item = &'a str>) -> Result<Self> {
        let mut rules = Self::default();
        for word in words {
            match word.split_once('=') {
                Some(("numbers", "any")) => rules.numbers = Numbers::Any,
                Some(("numbers", share)) => {
                    let percent = share.strip_suffix('%').and_then(|share| share.parse::<f64>().ok());
                    let percent = percent.filter(|percent| (0.0..=100.0).contains(percent));
                    let percent =
                        percent.with_context(|| format!("numbers={share}: expected `any` or a share as in 5%"))?;
                    rules.numbers = Numbers::Within(percent / 100.0);
                }
                Some(("words", "model")) => rules.has_model_words = true,
                _ => bail!("expected numbers=any, numbers=5% or words=model after `console`, got {word:?}"),
            }
        }
        Ok(rules)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# A tour\n\n```toml file=a.toml\n[data]\n\n[train]\n```\n\nProse.\n\n```console numbers=5% words=model\n\
        $ taal one \\\n>   two\nfirst\n\nsecond\n$ taal three\n```\n\n```text\n$ not run\n```\n\n```console\n$ taal four\n4\n```\n\
        ![Layers](tour/layers.svg) and ![words](tour/words.svg)\n";

    fn commands(page: &Page) -> Vec<(&str, Vec<&str>, Rules)> {
        let steps = page.steps.iter().filter_map(|step| match step {
            Step::Command {
                command,
                printed,
                rules,
            } => {
                let printed = page.printed(printed).iter().map(String::as_str);
                Some((command.as_str(), printed.collect(), *rules))
            }
            Step::Heading(_) | Step::File { .. } => None,
        });
        steps.collect()
    }

    #[test]
    fn a_page_is_parsed_into_files_and_commands_with_their_output() {
        let page = Page::parse(PAGE).expect("a page");
        let loose = Rules {
            numbers: Numbers::Within(0.05),
            has_model_words: true,
        };
        assert_eq!(
            commands(&page),
            [
                ("taal one \\\n  two", vec!["first", "", "second"], loose),
                ("taal three", vec![], loose),
                ("taal four", vec!["4"], Rules::default()),
            ]
        );
        let file = Step::File {
            name: "a.toml".to_owned(),
            text: "[data]\n\n[train]\n".to_owned(),
        };
        assert_eq!(page.steps[0], file);
        assert_eq!(
            page.pictures(),
            [Path::new("tour/layers.svg"), Path::new("tour/words.svg")]
        );
    }

    #[test]
    fn a_script_has_the_files_and_commands_under_their_headings_and_no_output() {
        let page = Page::parse(&PAGE.replace("Prose.", "## Empty\n## One")).expect("a page");
        let expected = "\ncat > a.toml <<'EOF'\n[data]\n\n[train]\nEOF\n\n# One\n\ntaal one \\\n  two\n\ntaal three\n\ntaal four\n";
        assert_eq!(page.script().expect("a script"), expected);
        let page = Page::parse("```text file=a\nEOF\n```\n").expect("a page");
        assert_eq!(
            page.script().expect_err("EOF").to_string(),
            "file=a: has the line `EOF`"
        );
    }

    #[test]
    fn new_output_replaces_the_old_and_nothing_else() {
        let page = Page::parse(PAGE).expect("a page");
        let old: Vec<Vec<String>> = commands(&page)
            .into_iter()
            .map(|(_, printed, _)| printed.into_iter().map(str::to_owned).collect())
            .collect();
        assert_eq!(page.with_printed(&old).expect("the page"), PAGE);
        let new = [vec!["new".to_owned()], vec!["x".to_owned(), "y".to_owned()]];
        let text = page.with_printed(&new).expect("a page");
        let expected = PAGE.replace("first\n\nsecond\n$ taal three\n", "new\n$ taal three\nx\ny\n");
        assert_eq!(text, expected);
    }

    #[test]
    fn output_that_would_read_as_a_mark_is_refused() {
        let page = Page::parse(PAGE).expect("a page");
        for line in ["$ taal", "```"] {
            assert!(page.with_printed(&[vec![line.to_owned()]]).is_err(), "{line}");
        }
    }

    #[test]
    fn mistakes_on_a_page_are_named_with_their_line() {
        for (text, expected) in [
            ("x\n```console\n$ a\n", "line 2: a fence that is not closed"),
            (
                "```console\na\n```\n",
                "line 1: expected a command after `$ `, got \"a\"",
            ),
            (
                "```console number=5%\n$ a\n```\n",
                "line 1: expected numbers=any, numbers=5% or words=model after `console`, got \"number=5%\"",
            ),
            (
                "```console numbers=5\n$ a\n```\n",
                "line 1: numbers=5: expected `any` or a share as in 5%",
            ),
            (
                "```toml file=../a\n```\n",
                "line 1: file=../a: a file of a tour is in its folder",
            ),
        ] {
            let error = Page::parse(text).expect_err(text);
            assert_eq!(format!("{error:#}"), expected);
        }
    }
}
