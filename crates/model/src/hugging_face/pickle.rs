//! PyTorch's pickles, refused by name and by content: reading one can run code that its author wrote.

use std::io::Read;
use std::path::Path;

use taal_store::Reader;

use crate::ModelError;

use super::{INDEX_FILE, WEIGHTS_FILE};

/// File name extensions of published pickles.
const EXTENSIONS: [&str; 7] = ["pt", "pth", "bin", "ckpt", "pkl", "pickle", "pt2"];

/// Where other programs keep a model's weights as pickles.
const WEIGHTS_FILES: [&str; 3] = [
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "consolidated.00.pth",
];

/// Enough of a file to recognize a pickle.
const HEAD_BYTES: u64 = 4096;

/// How to convert one.
const HINT: &str = "convert it where it came from, with safetensors.torch.save_file or save_pretrained in Python, \
                    and open the model.safetensors that this writes";

/// Refuses a file that is a pickle, by its extension or first bytes, and a model directory whose only weights are pickles.
/// Anything else passes, including a missing path.
///
/// # Errors
///
/// [`ModelError::File`] with a way to convert it.
pub fn refuse_pickle(path: &Path) -> Result<(), ModelError> {
    if !taal_store::exists(path) {
        return Ok(());
    }
    if !taal_store::is_dir(path) {
        return refuse_file(path);
    }
    if [WEIGHTS_FILE, INDEX_FILE]
        .iter()
        .any(|name| taal_store::exists(&path.join(name)))
    {
        return Ok(());
    }
    match WEIGHTS_FILES.iter().find(|name| taal_store::exists(&path.join(name))) {
        Some(name) => Err(refusal(&path.join(name))),
        None => Ok(()),
    }
}

fn refuse_file(path: &Path) -> Result<(), ModelError> {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    let mut head = Vec::new();
    Reader::open(path)?
        .take(HEAD_BYTES)
        .read_to_end(&mut head)
        .map_err(|source| taal_store::Error::io("read", path, source))?;
    if EXTENSIONS.contains(&extension.as_str()) || is_pickle(&head) {
        return Err(refusal(path));
    }
    Ok(())
}

fn refusal(path: &Path) -> ModelError {
    ModelError::file(
        path,
        format!("a PyTorch pickle, which is never opened because reading it can run any code; {HINT}"),
    )
}

/// Refuses bytes that are a pickle under another name.
pub(super) fn refuse_pickled_bytes(path: &Path, bytes: &[u8]) -> Result<(), ModelError> {
    if is_pickle(bytes) { Err(refusal(path)) } else { Ok(()) }
}

/// A zip archive, as PyTorch has saved since 1.6, or a bare pickle of protocol 2 to 5, as before and as other libraries save.
fn is_pickle(bytes: &[u8]) -> bool {
    let is_zip = bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06");
    let is_bare = matches!(bytes, [0x80, 2..=5, ..]);
    (is_zip || is_bare) && !is_header_length(bytes)
}

/// Whether the bytes begin as a safetensors file does: a length of at most 100 MB, then a brace.
fn is_header_length(bytes: &[u8]) -> bool {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return false;
    };
    u64::from_le_bytes(*length) <= super::weights::MAX_HEADER_BYTES && rest.first() == Some(&b'{')
}
