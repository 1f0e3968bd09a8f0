//! Compresses the texts of the embedded corpora: the second half of `cargo xtask corpora`.
//!
//! ```text
//! cargo run -p taal-data --example pack_corpora -- TEXTS crates/data/corpora          # writes LANGUAGE/PART.txt.zst
//! cargo run -p taal-data --example pack_corpora -- TEXTS crates/data/corpora --check  # only compares
//! ```
//!
//! The same texts give the same bytes, because the version of zstd is in the lock file.

use std::error::Error;
use std::path::{Path, PathBuf};

/// zstd's largest level without more memory for unpacking.
const LEVEL: i32 = 19;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    match arguments.as_slice() {
        [texts, corpora] => pack(texts, corpora, false),
        [texts, corpora, check] if check == Path::new("--check") => pack(texts, corpora, true),
        _ => Err("expected: pack_corpora TEXTS CORPORA [--check]".into()),
    }
}

fn pack(texts: &Path, corpora: &Path, is_check: bool) -> Result<(), Box<dyn Error>> {
    let mut differing = 0;
    for folder in taal_store::list_paths(texts)? {
        for path in taal_store::list_paths(&folder)? {
            let text = std::fs::read(&path)?;
            let packed = zstd::encode_all(text.as_slice(), LEVEL)?;
            let name = format!("{}.zst", path.strip_prefix(texts)?.display());
            let is_same = std::fs::read(corpora.join(&name)).is_ok_and(|old| old == packed);
            differing += usize::from(!is_same);
            println!(
                "{name}: {} bytes from {}, {}",
                packed.len(),
                text.len(),
                if is_same { "as committed" } else { "changed" }
            );
            if !is_check && !is_same {
                taal_store::write_atomic(&corpora.join(&name), &packed)?;
            }
        }
    }
    match differing {
        0 => Ok(()),
        _ if is_check => Err(format!("{differing} files differ from those in {}", corpora.display()).into()),
        _ => Ok(()),
    }
}
