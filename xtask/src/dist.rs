//! `cargo xtask dist`: a folder and an archive for distribution: the stripped program, its manual, and all licenses.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use object::read::elf::{ElfFile64, FileHeader as _, SectionHeader as _};
use serde::Deserialize;

use crate::command::{run, show};
use crate::workspace::Workspace;

const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];
/// The file name of all third-party licenses.
const THIRD_PARTY: &str = "THIRD-PARTY-LICENSES.md";

/// The part of `cargo metadata` that determines what is linked into a program.
#[derive(Debug, Deserialize)]
struct Graph {
    packages: Vec<Linked>,
    resolve: Resolve,
}

#[derive(Debug, Deserialize)]
struct Linked {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    #[serde(default)]
    authors: Vec<String>,
    repository: Option<String>,
    manifest_path: PathBuf,
    /// `None` for the packages of this workspace.
    source: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Debug, Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<EdgeKind>,
}

#[derive(Debug, Deserialize)]
struct EdgeKind {
    /// `None`: an ordinary dependency; else `dev` or `build`.
    kind: Option<String>,
}

/// Builds the program and its archive, and prints what it needs to run.
pub fn dist(workspace: &Workspace, has_gpu: bool) -> Result<()> {
    let features: &[&str] = if has_gpu { &["--features", "wgpu"] } else { &[] };
    let mut build = workspace.cargo();
    build.args([
        "build",
        "--locked",
        "--profile",
        "dist",
        "--package",
        "taal-cli",
        "--bin",
        "taal",
    ]);
    run(build.args(features))?;

    let metadata = workspace.metadata()?;
    let version = &metadata
        .package("taal-cli")
        .context("no package taal-cli in this workspace")?
        .version;
    let host = host(workspace)?;
    let suffix = if has_gpu { "-wgpu" } else { "" };
    let name = format!("taal-{version}-{host}{suffix}");
    let dist = metadata.target_directory.join("dist");
    let program_name = format!("taal{}", std::env::consts::EXE_SUFFIX);
    let folder = dist.join(&name);
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    fs::create_dir_all(folder.join("completions")).with_context(|| format!("cannot make {}", folder.display()))?;

    let program = folder.join(&program_name);
    copy(&dist.join(&program_name), &program)?;
    for file in ["README.md", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT"] {
        copy(&workspace.root().join(file), &folder.join(file))?;
    }
    let linked = linked(workspace, &host, features)?;
    write(&folder.join(THIRD_PARTY), third_party(&linked)?.as_bytes())?;
    run(Command::new(&program).arg("man").arg(folder.join("man")))?;
    for shell in SHELLS {
        let script = output(Command::new(&program).args(["completions", shell]))?;
        write(&folder.join("completions").join(format!("taal.{shell}")), &script)?;
    }

    let archive = dist.join(format!("{name}.tar.gz"));
    run(Command::new("tar")
        .arg("--create")
        .arg("--gzip")
        .arg("--file")
        .arg(&archive)
        .arg("--directory")
        .arg(&dist)
        .arg(&name))?;
    println!("{}", archive.display());
    println!(
        "  size     {:.1} MB, the program {:.1} MB",
        megabytes(&archive)?,
        megabytes(&program)?
    );
    println!("  licenses {} packages in {THIRD_PARTY}", linked.len());
    if cfg!(target_os = "linux") {
        println!("  needs    {}", needs(&program)?);
    }
    Ok(())
}

fn host(workspace: &Workspace) -> Result<String> {
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let text = output(rustc.current_dir(workspace.root()).arg("-vV"))?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}

/// The packages that are linked into `taal`, without those of this workspace.
fn linked(workspace: &Workspace, host: &str, features: &[&str]) -> Result<Vec<Linked>> {
    let mut metadata = workspace.cargo();
    metadata.args([
        "metadata",
        "--locked",
        "--format-version",
        "1",
        "--filter-platform",
        host,
    ]);
    metadata
        .arg("--manifest-path")
        .arg(workspace.root().join("crates/cli/Cargo.toml"));
    let bytes = output(metadata.args(features))?;
    let graph: Graph = serde_json::from_slice(&bytes).context("cannot read the output of cargo metadata")?;
    let root = graph.packages.iter().find(|package| package.name == "taal-cli");
    let root = root.context("cargo metadata names no taal-cli")?.id.clone();
    let edges: BTreeMap<&str, &[Edge]> = graph
        .resolve
        .nodes
        .iter()
        .map(|node| (&*node.id, &*node.deps))
        .collect();
    let mut found = BTreeSet::from([root.clone()]);
    let mut open = vec![root];
    while let Some(id) = open.pop() {
        for edge in edges.get(&*id).copied().unwrap_or_default() {
            let is_linked = edge.dep_kinds.iter().any(|kind| kind.kind.is_none());
            if is_linked && found.insert(edge.pkg.clone()) {
                open.push(edge.pkg.clone());
            }
        }
    }
    let mut linked: Vec<Linked> = graph
        .packages
        .into_iter()
        .filter(|package| package.source.is_some() && found.contains(&package.id))
        .collect();
    linked.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    Ok(linked)
}

/// One page: a line per package, then each distinct license text once, with its packages.
fn third_party(linked: &[Linked]) -> Result<String> {
    let mut page = String::from(
        "# Licenses of the packages that are linked into taal\n\n\
         Each package's own license files follow the table. A package without a file is under the texts of its expression.\n\n\
         | package | version | license | authors | source |\n|---|---|---|---|---|\n",
    );
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in linked {
        let label = format!("{} {}", package.name, package.version);
        let license = package.license.as_deref().unwrap_or("see its file below");
        let files = license_files(package.manifest_path.parent().context("a manifest has a folder")?)?;
        ensure!(
            package.license.is_some() || !files.is_empty(),
            "{label} names no license and has no license file: it cannot be distributed"
        );
        let authors = package.authors.join(", ").replace('|', "/");
        let repository = package.repository.as_deref().unwrap_or_default();
        writeln!(
            page,
            "| {} | {} | {license} | {authors} | {repository} |",
            package.name, package.version
        )?;
        for file in files {
            let text =
                String::from_utf8_lossy(&fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?)
                    .replace("\r\n", "\n");
            texts.entry(text.trim().to_owned()).or_default().push(label.clone());
        }
    }
    for (text, packages) in texts {
        write!(page, "\n## {}\n\n~~~text\n{text}\n~~~\n", packages.join(", "))?;
    }
    Ok(page)
}

fn license_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .to_ascii_lowercase();
        let is_license = ["license", "licence", "copying", "unlicense", "notice"]
            .iter()
            .any(|start| name.starts_with(start));
        if is_license && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The shared libraries of an ELF program, and the newest version of glibc that it requires.
fn needs(program: &Path) -> Result<String> {
    let bytes = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    let elf = ElfFile64::<object::Endianness>::parse(&*bytes).context("the program is not a 64-bit ELF file")?;
    let endian = elf.endian();
    let mut libraries = BTreeSet::new();
    let mut newest: Option<Vec<u32>> = None;
    let sections = elf.elf_header().sections(endian, &*bytes)?;
    for section in sections.iter() {
        let Some((mut needed, link)) = section.gnu_verneed(endian, &*bytes)? else {
            continue;
        };
        let strings = sections.strings(endian, &*bytes, link)?;
        while let Some((file, mut versions)) = needed.next()? {
            libraries.insert(String::from_utf8_lossy(file.file(endian, strings)?).into_owned());
            while let Some(version) = versions.next()? {
                let version = String::from_utf8_lossy(version.name(endian, strings)?).into_owned();
                newest = newest.max(glibc(&version));
            }
        }
    }
    let glibc = newest.map_or(String::new(), |parts| {
        format!(
            "glibc {} or newer; ",
            parts.iter().map(u32::to_string).collect::<Vec<_>>().join(".")
        )
    });
    let libraries = libraries.into_iter().collect::<Vec<_>>().join(", ");
    Ok(format!(
        "{} {}; {glibc}libraries {libraries}",
        std::env::consts::OS,
        std::env::consts::ARCH
    ))
}

/// The numbers of a symbol version such as `GLIBC_2.34`.
fn glibc(version: &str) -> Option<Vec<u32>> {
    version
        .strip_prefix("GLIBC_")?
        .split('.')
        .map(|part| part.parse().ok())
        .collect()
}

fn output(command: &mut Command) -> Result<Vec<u8>> {
    show(command);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    ensure!(output.status.success(), "{} failed", command.get_program().display());
    Ok(output.stdout)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

fn megabytes(path: &Path) -> Result<f64> {
    let bytes = fs::metadata(path)
        .with_context(|| format!("cannot read {}", path.display()))?
        .len();
    Ok(bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_glibc_are_compared_as_numbers() {
        assert!(glibc("GLIBC_2.34") > glibc("GLIBC_2.4"));
        assert_eq!(glibc("GCC_3.0"), None);
        assert_eq!(glibc("GLIBC_PRIVATE"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_libraries_of_a_program_are_listed() {
        let this = std::env::current_exe().expect("the test has a path");
        let needs = needs(&this).expect("the test is an ELF program");
        assert!(needs.contains("libc.so.6") && needs.contains("glibc 2."), "{needs}");
    }

    #[test]
    fn equal_license_texts_are_printed_once_and_a_package_without_any_is_refused() {
        let folder = std::env::temp_dir().join(format!("taal-dist-{}", std::process::id()));
        let package = |name: &str, license: Option<&str>, text: Option<&str>| {
            let own = folder.join(name);
            fs::create_dir_all(&own).expect("a folder");
            if let Some(text) = text {
                fs::write(own.join("LICENSE-MIT"), text).expect("a file");
            }
            Linked {
                id: name.to_owned(),
                name: name.to_owned(),
                version: "1.0.0".to_owned(),
                license: license.map(str::to_owned),
                authors: Vec::new(),
                repository: None,
                manifest_path: own.join("Cargo.toml"),
                source: Some("registry".to_owned()),
            }
        };
        let page = third_party(&[
            package("a", Some("MIT"), Some("Permission\r\nis granted")),
            package("b", Some("MIT"), Some("Permission\nis granted\n")),
            package("c", Some("Apache-2.0"), None),
        ])
        .expect("all have licenses");
        assert_eq!(page.matches("Permission").count(), 1, "{page}");
        assert!(
            page.contains("## a 1.0.0, b 1.0.0") && page.contains("| c | 1.0.0 | Apache-2.0 |"),
            "{page}"
        );
        let refused = third_party(&[package("d", None, None)])
            .expect_err("no license")
            .to_string();
        assert!(refused.contains("d 1.0.0"), "{refused}");
        fs::remove_dir_all(&folder).expect("the folder is ours");
    }
}
