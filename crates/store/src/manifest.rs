//! The required contents of a directory, with sizes and hashes, and their verification.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::atomic::write_new;
use crate::directory::{entries, utf8_name};
use crate::disk::{self, Kind};
use crate::layout::{self, MANIFEST_NAME};
use crate::mutants::is_broken;
use crate::{Error, RelPath, Result, read_text};

/// The layout that this version writes and reads.
const VERSION: u32 = 1;

/// A manifest of this size would describe about a hundred thousand files.
const MAX_MANIFEST_BYTES: u64 = 16 * 1024 * 1024;

/// Deeper than any directory we write, shallow enough for the stack.
const MAX_DEPTH: usize = 32;

/// BLAKE3 reaches its full speed on pieces of this size.
const HASH_BUFFER_BYTES: usize = 256 * 1024;

/// One file of a [`Manifest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// The path below the manifest's directory, with `/` between components.
    pub path: String,
    /// The size in bytes.
    pub bytes: u64,
    /// The BLAKE3 hash of the content as 64 lower-case hexadecimal digits.
    pub blake3: String,
}

/// The list of a directory's files, by which completeness is checked.
///
/// It is stored as `MANIFEST.json`, written after everything else. Its last line is the BLAKE3 hash of all the bytes before it,
/// so damage to the manifest is also detected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The layout's version, 1.
    pub version: u32,
    /// Every file of the directory except the manifest itself, sorted by path.
    pub files: Vec<FileEntry>,
    /// The writer's metadata: a step, hashes of recipe and tokenizer.
    pub extra: serde_json::Value,
}

impl Manifest {
    /// Hashes every file below `dir` and writes `MANIFEST.json` last. It becomes durable with the rest, at
    /// [`AtomicDir::commit`](crate::AtomicDir::commit).
    ///
    /// # Errors
    ///
    /// [`Error::UnsafePath`] for links and for names that are not portable, [`Error::NoSpace`] or [`Error::Io`].
    pub fn write(dir: &Path, extra: serde_json::Value) -> Result<Self> {
        let mut files = Vec::new();
        for path in files_below(dir)? {
            let file_path = path.join(dir);
            let (bytes, blake3) = hash_file(&file_path)?;
            files.push(FileEntry {
                path: path.as_str().to_owned(),
                bytes,
                blake3,
            });
        }
        let manifest = Self {
            version: VERSION,
            files,
            extra,
        };
        let path = dir.join(MANIFEST_NAME);
        write_new(&path, manifest.to_text(&path)?.as_bytes())?;
        Ok(manifest)
    }

    /// Reads the manifest of `dir` and checks that the directory holds exactly the files it lists, byte for byte; files about its model
    /// ([`layout::is_about_model`]) may come later.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] naming the bad file and why: the manifest is missing or damaged, or a file is missing, has the wrong size or
    /// the wrong hash, or is not listed. [`Error::NotFound`] without the directory, or [`Error::Io`].
    pub fn verify(dir: &Path) -> Result<Self> {
        Self::check(dir, verify_file)
    }

    /// Checks that the directory holds exactly the files that its manifest lists, in their sizes; their bytes are not read.
    ///
    /// # Errors
    ///
    /// As [`verify`](Self::verify).
    pub fn verify_sizes(dir: &Path) -> Result<Self> {
        Self::check(dir, verify_size)
    }

    fn check(dir: &Path, check_file: impl Fn(&Path, &FileEntry) -> Result<()>) -> Result<Self> {
        let manifest = Self::read(dir)?;
        let mut listed = BTreeSet::new();
        for entry in &manifest.files {
            let path = RelPath::parse(&entry.path)
                .map_err(|error| Error::corrupt(&dir.join(MANIFEST_NAME), format!("lists an {error}")))?;
            check_file(&path.join(dir), entry)?;
            listed.insert(path);
        }
        let is_extra = |path: &RelPath| !listed.contains(path) && !layout::is_about_model(path.as_str());
        let extra_file = files_below(dir)?.into_iter().find(is_extra);
        if let Some(path) = extra_file {
            return Err(Error::corrupt(
                &path.join(dir),
                format!("extra file: it is not listed in {MANIFEST_NAME}"),
            ));
        }
        Ok(manifest)
    }

    /// Compares the listed files below `dir/part` with the manifest of `dir`, for readers of only that part. Unlisted files are
    /// ignored.
    ///
    /// # Errors
    ///
    /// As [`verify`](Self::verify), for these files.
    pub fn verify_part(dir: &Path, part: &str) -> Result<Self> {
        let manifest = Self::read(dir)?;
        let is_part = |entry: &&FileEntry| entry.path.split('/').next() == Some(part);
        for entry in manifest.files.iter().filter(is_part) {
            let path = RelPath::parse(&entry.path)
                .map_err(|error| Error::corrupt(&dir.join(MANIFEST_NAME), format!("lists an {error}")))?;
            verify_file(&path.join(dir), entry)?;
        }
        Ok(manifest)
    }

    /// Reads the manifest of `dir` and checks it against its own hash, without checking the listed files.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] for a missing or damaged manifest, [`Error::NotFound`] without the directory, or [`Error::Io`].
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(MANIFEST_NAME);
        let text = match read_text(&path, MAX_MANIFEST_BYTES) {
            Err(Error::NotFound { .. }) if disk::is_dir(dir) => {
                return Err(Error::corrupt(&path, "missing: the directory was never completed"));
            }
            Err(Error::NotFound { .. }) => {
                return Err(Error::NotFound {
                    path: dir.to_path_buf(),
                });
            }
            other => other?,
        };
        let Some((body, own_hash)) = split_own_hash(&text) else {
            return Err(Error::corrupt(&path, "damaged: it does not end with its own hash"));
        };
        if crate::blake3_hex(body.as_bytes()) != own_hash {
            return Err(Error::corrupt(&path, "damaged: it does not match its own hash"));
        }
        let manifest: Self = serde_json::from_str(&format!("{body}\n}}"))
            .map_err(|error| Error::corrupt(&path, format!("not a manifest: {error}")))?;
        if manifest.version != VERSION {
            return Err(Error::corrupt(
                &path,
                format!(
                    "manifest version {}, expected {VERSION}; it was written by another version of the program",
                    manifest.version
                ),
            ));
        }
        Ok(manifest)
    }

    /// The file's text: an object whose last key is the hash of everything before it.
    fn to_text(&self, path: &Path) -> Result<String> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| Error::corrupt(path, format!("cannot be written as JSON: {error}")))?;
        let body = text.strip_suffix("\n}").unwrap_or(&text);
        let own_hash = crate::blake3_hex(body.as_bytes());
        Ok(format!("{body}{OWN_HASH_START}{own_hash}{OWN_HASH_END}"))
    }
}

const OWN_HASH_START: &str = ",\n  \"blake3\": \"";
const OWN_HASH_END: &str = "\"\n}\n";

/// The text before the manifest's own hash, and the hash. The hash is over bytes, so it does not depend on JSON parsing or printing.
fn split_own_hash(text: &str) -> Option<(&str, &str)> {
    text.strip_suffix(OWN_HASH_END)?.rsplit_once(OWN_HASH_START)
}

/// Compares one file with its entry, the cheap checks first.
fn verify_file(path: &Path, entry: &FileEntry) -> Result<()> {
    verify_size(path, entry)?;
    let (read_bytes, blake3) = hash_file(path)?;
    if read_bytes != entry.bytes {
        return Err(wrong_size(path, read_bytes, entry));
    }
    if blake3 != entry.blake3 && !is_broken("manifest-check") {
        return Err(Error::corrupt(
            path,
            format!(
                "wrong hash: BLAKE3 {blake3}, expected {}; the content was changed or damaged",
                entry.blake3
            ),
        ));
    }
    Ok(())
}

fn wrong_size(path: &Path, found_bytes: u64, entry: &FileEntry) -> Error {
    Error::corrupt(
        path,
        format!("wrong size: {found_bytes} bytes, expected {}", entry.bytes),
    )
}

/// Whether an entry's file is there in its size.
fn verify_size(path: &Path, entry: &FileEntry) -> Result<()> {
    match disk::kind(path) {
        Ok(Kind::File) => {}
        Ok(_) => return Err(Error::corrupt(path, "not a regular file, expected one")),
        Err(error) if is_absence(&error) => {
            return Err(Error::corrupt(
                path,
                format!("missing: {MANIFEST_NAME} lists it with {} bytes", entry.bytes),
            ));
        }
        Err(source) => return Err(Error::io("inspect", path, source)),
    }
    let size_bytes = disk::size_bytes(path).map_err(|source| Error::io("ask the size of", path, source))?;
    if size_bytes != entry.bytes {
        return Err(wrong_size(path, size_bytes, entry));
    }
    Ok(())
}

/// A listed `a/b` is missing also when `a` is a file.
fn is_absence(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
    )
}

/// The size and the BLAKE3 hash of a file, read as a stream.
fn hash_file(path: &Path) -> Result<(u64, String)> {
    let mut file = disk::open(path).map_err(|source| Error::io("open", path, source))?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0_u8; HASH_BUFFER_BYTES];
    let mut size_bytes = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                hasher.update(&buffer[..count]);
                size_bytes += count as u64;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(source) => return Err(Error::io("read", path, source)),
        }
    }
    Ok((size_bytes, hasher.finalize().to_hex().to_string()))
}

/// Every file below `dir` except its manifest, sorted.
fn files_below(dir: &Path) -> Result<Vec<RelPath>> {
    let mut files = Vec::new();
    collect_files(dir, "", MAX_DEPTH, &mut files)?;
    files.sort_unstable();
    Ok(files)
}

fn collect_files(dir: &Path, prefix: &str, depth_left: usize, files: &mut Vec<RelPath>) -> Result<()> {
    let refuse = |path: PathBuf, detail: &str| {
        Err(Error::UnsafePath {
            path,
            detail: detail.to_owned(),
        })
    };
    for path in entries(dir)? {
        let relative = format!("{prefix}{}", utf8_name(&path)?);
        if relative == MANIFEST_NAME {
            continue;
        }
        match disk::kind(&path).map_err(|source| Error::io("inspect", &path, source))? {
            Kind::File => files.push(RelPath::parse(&relative)?),
            Kind::Dir if depth_left == 0 => {
                return refuse(path, "directories are nested more than 32 deep");
            }
            Kind::Dir => collect_files(&path, &format!("{relative}/"), depth_left - 1, files)?,
            Kind::Link | Kind::Other => {
                return refuse(
                    path,
                    "a link or special file cannot be part of a manifest; put a regular file there",
                );
            }
        }
    }
    Ok(())
}
