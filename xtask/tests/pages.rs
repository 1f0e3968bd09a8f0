//! Tests of README.md, CHANGELOG.md and docs: their links work, nothing is there twice, and the README stays short.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every page, relative to the root, with its text.
fn pages() -> Vec<(PathBuf, String)> {
    let mut paths = vec![PathBuf::from("README.md"), PathBuf::from("CHANGELOG.md")];
    let mut folders = vec![PathBuf::from("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).expect("a folder of docs") {
            let entry = entry.expect("an entry");
            let path = folder.join(entry.file_name());
            match entry.file_type().expect("a type").is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|extension| extension == "md") => paths.push(path),
                false => {}
            }
        }
    }
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(root().join(&path)).expect("a page in UTF-8");
        (path, text)
    };
    paths.into_iter().map(read).collect()
}

/// The lines outside of fences, with their numbers.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut is_fence = false;
    let lines = text.lines().enumerate().filter(|(_, line)| {
        let is_mark = line.trim_start().starts_with("```");
        is_fence ^= is_mark;
        !is_mark && !is_fence
    });
    lines.map(|(index, line)| (index + 1, line)).collect()
}

/// The anchors that GitHub makes from the headings of a page.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).into_iter().filter(|(_, line)| line.starts_with('#'));
    let anchor = |(_, line): (usize, &str)| {
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        let kept = heading
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

/// The targets of the links and pictures of a page, except those on the web.
fn links(text: &str) -> Vec<&str> {
    let between = |begin: &'static str, end: char| {
        let rests = prose(text)
            .into_iter()
            .flat_map(move |(_, line)| line.split(begin).skip(1));
        rests.filter_map(move |rest| Some(rest.split_once(end)?.0))
    };
    let targets = between("](", ')').chain(between("src=\"", '"'));
    targets.filter(|target| !target.starts_with("https://")).collect()
}

/// What is wrong with a link of a page, if anything.
fn broken(page: &Path, text: &str, link: &str) -> Option<String> {
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = root().join(page).with_file_name("").join(path);
    if !path.is_empty() && !target.exists() {
        return Some(format!("{}: {link}: no such file", page.display()));
    }
    let there = match path.is_empty() {
        true => text.to_owned(),
        false => fs::read_to_string(&target).unwrap_or_default(),
    };
    let is_heading = anchor.is_empty() || anchors(&there).contains(anchor);
    (!is_heading).then(|| format!("{}: {link}: no such heading", page.display()))
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let pages = pages();
    let all = pages
        .iter()
        .flat_map(|(page, text)| links(text).into_iter().map(move |link| (page, text, link)));
    let complaints: Vec<String> = all.filter_map(|(page, text, link)| broken(page, text, link)).collect();
    assert!(complaints.is_empty(), "\n  {}\n", complaints.join("\n  "));
}

#[test]
fn a_link_to_nothing_is_noticed() {
    let page = Path::new("docs/README.md");
    let text = "# A\n```\n# B\n```\n## `[C]` and d_e\n[a](#a) [b](#b) [c](#c-and-d_e) [d](tour.md) [e](none.md) [f](https://x.y)\n\
                <img src=\"none.png\">\n";
    let complaints: Vec<String> = links(text).iter().filter_map(|link| broken(page, text, link)).collect();
    assert_eq!(
        complaints,
        [
            "docs/README.md: #b: no such heading",
            "docs/README.md: none.md: no such file",
            "docs/README.md: none.png: no such file"
        ]
    );
}

#[test]
fn the_index_names_every_page() {
    let index = root().join("docs/README.md");
    let text = fs::read_to_string(&index).expect("the index");
    let links = links(&text);
    for (page, _) in pages() {
        let from_index = page
            .strip_prefix("docs")
            .map_or_else(|_| format!("../{}", page.display()), |page| page.display().to_string())
            .replace('\\', "/");
        let is_named = links.iter().any(|link| link.split('#').next() == Some(&from_index));
        assert!(
            is_named || from_index == "README.md",
            "docs/README.md does not name {from_index}"
        );
    }
}

/// The log and the changelog are left out, because they also mention removed files.
#[test]
fn every_path_of_the_workspace_that_a_page_names_exists() {
    let folders = ["crates/", "xtask/", "benches/", "docs/", "fuzz/"];
    let is_plain = |path: &str| !path.contains([' ', '*', '<', '{', '[', ':']) && !path.contains("...");
    for (page, text) in pages() {
        if page.ends_with("CHANGELOG.md") || page.ends_with("log.md") {
            continue;
        }
        for (number, line) in prose(&text) {
            let spans = line.split('`').skip(1).step_by(2);
            for path in spans.filter(|span| folders.iter().any(|folder| span.starts_with(folder)) && is_plain(span)) {
                let exists = root().join(path).exists();
                assert!(exists, "{}, line {number}: there is no {path}", page.display());
            }
        }
    }
}

/// The shortest paragraph that may not be repeated; shorter ones, such as "In the same file.", have their reason.
const PARAGRAPH_CHARS: usize = 60;

/// The paragraphs and list items of a page, each on one line, with the number of its first line.
fn paragraphs(text: &str) -> Vec<(usize, String)> {
    let is_item = |line: &str| {
        line.starts_with("- ")
            || line
                .split_once(". ")
                .is_some_and(|(number, _)| number.parse::<u32>().is_ok())
    };
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut next = 0;
    for (number, line) in prose(text) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('|') {
            continue;
        }
        match found.last_mut() {
            Some((_, paragraph)) if number == next && !is_item(line) => *paragraph = format!("{paragraph} {line}"),
            _ => found.push((number, line.to_owned())),
        }
        next = number + 1;
    }
    found
}

/// What a row of a table is about, with its number and that of its table: every cell but the last, which describes it.
fn rows(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut table = 0;
    let mut next = 0;
    for (number, line) in prose(text) {
        let Some(row) = line.trim().strip_prefix('|') else {
            continue;
        };
        table += usize::from(number != next);
        next = number + 1;
        let cells: Vec<&str> = row.trim_end_matches('|').split('|').map(str::trim).collect();
        let subject = &cells[..cells.len().saturating_sub(1).max(1)];
        found.push((number, format!("table {table}: {}", subject.join(" | "))));
    }
    found
}

/// What a page has twice, as a merge leaves it: a paragraph, or a row of a table about the same thing.
fn doubled(page: &Path, text: &str) -> Vec<String> {
    let long = paragraphs(text)
        .into_iter()
        .filter(|(_, paragraph)| paragraph.chars().count() >= PARAGRAPH_CHARS);
    let mut first = BTreeMap::new();
    let mut complaints = Vec::new();
    for (number, part) in long.chain(rows(text)) {
        match first.entry(part) {
            Entry::Vacant(place) => _ = place.insert(number),
            Entry::Occupied(place) => complaints.push(format!(
                "{}, line {number}: line {} again: {}",
                page.display(),
                place.get(),
                place.key()
            )),
        }
    }
    complaints
}

#[test]
fn no_page_has_a_paragraph_or_a_row_twice() {
    let pages = pages();
    let complaints: Vec<String> = pages.iter().flat_map(|(page, text)| doubled(page, text)).collect();
    assert!(complaints.is_empty(), "\n  {}\n", complaints.join("\n  "));
}

#[test]
fn what_a_merge_doubles_is_noticed() {
    let paragraph = "**A form is a mask.** It says in every step which tokens may\ncome next.";
    let wrapped = paragraph.replace("may\ncome", "\nmay come");
    let table = |rest: &str| format!("| a | b | c |\n|---|---|---|\n| 1 | x | new |\n{rest}");
    let text = format!(
        "{paragraph}\n\n- {paragraph}\n- In the same file.\n- In the same file.\n\n{wrapped}\n\n{}| 2 | x | new |\n| 1 | x | old |\n\n{}\n\
         ```\n{paragraph}\n```\n",
        table(""),
        table("")
    );
    let complaints = doubled(Path::new("docs/a.md"), &text);
    let begins: Vec<&str> = complaints
        .iter()
        .map(|complaint| complaint.split(": **").next().unwrap_or_default())
        .collect();
    assert_eq!(
        begins,
        [
            "docs/a.md, line 9: line 1 again",
            "docs/a.md, line 16: line 14 again: table 1: 1 | x"
        ]
    );
}

#[test]
fn the_readme_has_at_most_120_lines() {
    let text = fs::read_to_string(root().join("README.md")).expect("the README");
    let lines = text.lines().count();
    assert!(lines <= 120, "{lines} lines: move something to docs");
}

#[test]
fn lines_of_prose_end_before_column_120() {
    for (page, text) in pages() {
        for (number, line) in prose(&text) {
            let is_table = line.trim_start().starts_with('|');
            assert!(
                is_table || line.chars().count() < 120,
                "{}, line {number}: {line}",
                page.display()
            );
        }
    }
}
