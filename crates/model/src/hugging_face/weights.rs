//! A safetensors file as it comes from strangers: everything that its header says is checked before anything is made of it.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::de::{Deserializer as _, Error as _, IgnoredAny, MapAccess, Visitor};

use super::pickle::refuse_pickled_bytes;
use crate::ModelError;
use crate::config::TransformerConfig;

/// The longest header that the format allows.
pub(super) const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Bytes in front of the header, its length.
const LENGTH_BYTES: usize = 8;

/// Header that every file may have, for metadata.
const FREE_HEADER_BYTES: u64 = 1 << 20;

/// Header that a block may have beyond that. GPT-2's blocks have the most, 16 tensors of about 100 bytes of header each.
const BLOCK_HEADER_BYTES: u64 = 4096;

/// Bytes that a number has at least, in half precision.
const LEAST_VALUE_BYTES: u64 = 2;

/// Names from files are shown up to here.
const MAX_SHOWN_CHARS: usize = 100;

/// The longest header, or index of several files, that is read for a model.
pub(super) fn header_limit_bytes(config: &TransformerConfig) -> u64 {
    MAX_HEADER_BYTES.min(FREE_HEADER_BYTES + BLOCK_HEADER_BYTES * config.n_layers as u64)
}

/// Reads the header and holds it against the format. No memory is taken that the file's own size does not pay for.
pub(super) fn parse<'data>(
    path: &Path,
    bytes: &'data [u8],
    config: &TransformerConfig,
) -> Result<SafeTensors<'data>, ModelError> {
    let bad = |detail: String| ModelError::file(path, detail);
    refuse_pickled_bytes(path, bytes)?;
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(bad(format!(
            "not a whole safetensors file: {} bytes, and its first 8 are the length of its header; copy it again",
            bytes.len()
        )));
    };
    let length = u64::from_le_bytes(*length);
    let limit = header_limit_bytes(config);
    if length > limit {
        return Err(bad(format!(
            "not a safetensors file of this model: it says that its header has {length} bytes, and at most {limit} are read"
        )));
    }
    let header = usize::try_from(length).ok().and_then(|length| rest.get(..length));
    let header = header.ok_or_else(|| {
        bad(format!(
            "not a whole safetensors file: its header has {length} bytes, and only {} follow; copy it again",
            rest.len()
        ))
    })?;
    refuse_repeated_names(header)
        .map_err(|error| bad(format!("the header of this safetensors file is damaged: {error}")))?;
    SafeTensors::deserialize(bytes).map_err(|error| {
        bad(format!(
            "not a whole safetensors file ({}); copy it again",
            shown(&error.to_string())
        ))
    })
}

/// Tensors of `data_bytes` in all are enough for the model, so that memory may be taken for it.
pub(super) fn refuse_too_few(path: &Path, data_bytes: u64, config: &TransformerConfig) -> Result<(), ModelError> {
    let n_params = config.n_params();
    if data_bytes >= n_params.saturating_mul(LEAST_VALUE_BYTES) {
        return Ok(());
    }
    Err(ModelError::file(
        path,
        format!(
            "{data_bytes} bytes of tensors are too few for the {n_params} parameters that config.json describes, \
             which are missing or cut off"
        ),
    ))
}

/// The library keeps the last of two tensors of one name, other readers the first; which weights are meant must not depend on the reader.
fn refuse_repeated_names(header: &[u8]) -> serde_json::Result<()> {
    struct Names;

    impl<'de> Visitor<'de> for Names {
        type Value = ();

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an object of tensors")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            let mut names = HashSet::new();
            while let Some(name) = map.next_key::<String>()? {
                map.next_value::<IgnoredAny>()?;
                if names.contains(&name) {
                    return Err(A::Error::custom(format_args!(
                        "tensor `{}` is there twice",
                        shown(&name)
                    )));
                }
                names.insert(name);
            }
            Ok(())
        }
    }

    let mut deserializer = serde_json::Deserializer::from_slice(header);
    deserializer.deserialize_map(Names)?;
    deserializer.end()
}

/// Values of a tensor in any of the three float types that models come in, all of them finite.
pub(super) fn to_f32(path: &Path, name: &str, view: &TensorView<'_>) -> Result<Vec<f32>, ModelError> {
    let bytes = view.data();
    let (values, is_finite) = match view.dtype() {
        Dtype::F32 => convert(bytes, f32::from_le_bytes),
        Dtype::F16 => convert(bytes, |bytes| half::f16::from_le_bytes(bytes).to_f32()),
        Dtype::BF16 => convert(bytes, |bytes| half::bf16::from_le_bytes(bytes).to_f32()),
        other => {
            return Err(ModelError::file(
                path,
                format!("tensor `{}` has type {other:?}; expected F32, F16 or BF16", shown(name)),
            ));
        }
    };
    if !is_finite {
        let index = values.iter().position(|value| !value.is_finite()).unwrap_or(0);
        return Err(ModelError::file(
            path,
            format!(
                "tensor `{}` holds {} at index {index}: these weights have diverged or are damaged; \
                 use an earlier checkpoint",
                shown(name),
                values[index]
            ),
        ));
    }
    Ok(values)
}

/// All values, and whether all are finite: looked at while they are in the cache, and without a way out of the loop, so that the
/// processor looks at many at once.
fn convert<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f32) -> (Vec<f32>, bool) {
    const AT_ONCE: usize = 4096;
    let (stored, _) = bytes.as_chunks::<N>();
    let mut values = Vec::with_capacity(stored.len());
    let mut is_finite = true;
    for block in stored.chunks(AT_ONCE) {
        let start = values.len();
        values.extend(block.iter().map(|bytes| value(*bytes)));
        is_finite &= values[start..]
            .iter()
            .fold(true, |is_finite, value: &f32| is_finite & value.is_finite());
    }
    (values, is_finite)
}

/// A text from a file as it may stand in a message: without control characters, and not endless.
pub(super) fn shown(text: &str) -> String {
    let mut shown = String::new();
    for (index, character) in text.chars().enumerate() {
        match character {
            _ if index == MAX_SHOWN_CHARS => return shown + "...",
            control if control.is_control() => shown.extend(control.escape_default()),
            character => shown.push(character),
        }
    }
    shown
}
