//! A safetensors file from an untrusted source: its header is fully checked before it is used.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::de::{Deserializer as _, Error as _, IgnoredAny, MapAccess, Visitor};
use taal_store::{FileFormat, Map};

use super::pickle::refuse_pickled_bytes;
use crate::ModelError;
use crate::config::TransformerConfig;

/// The longest header that the format allows.
pub(super) const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Bytes of the length field before the header.
const LENGTH_BYTES: usize = 8;

/// Header bytes allowed in every file, for metadata.
const FREE_HEADER_BYTES: u64 = 1 << 20;

/// Additional header bytes allowed per block. Blocks of Marian's decoder have the most, 26 tensors of about 130 bytes of header each.
const BLOCK_HEADER_BYTES: u64 = 4096;

/// The fewest bytes of 32 numbers: those of Q4_0.
const LEAST_BLOCK_BYTES: u64 = 18;

/// Numbers converted at a time: 1 MiB, which fits in the processor's cache.
const BLOCK_VALUES: usize = 1 << 18;

/// The longest excerpt of a file shown in a message.
const MAX_SHOWN_CHARS: usize = 100;

/// The longest header, or index of several files, that is read for a model.
pub(super) fn header_limit_bytes(config: &TransformerConfig) -> u64 {
    let n_layers = config.n_layers + config.encoder.map_or(0, |encoder| encoder.n_layers);
    MAX_HEADER_BYTES.min(FREE_HEADER_BYTES + BLOCK_HEADER_BYTES * n_layers as u64)
}

/// Reads the header and checks it against the format. Memory use is bounded by the size of the file.
pub(super) fn parse<'data>(
    path: &Path,
    bytes: &'data [u8],
    config: &TransformerConfig,
) -> Result<SafeTensors<'data>, ModelError> {
    parse_within(path, bytes, header_limit_bytes(config))
}

/// [`parse`] with a limit of the header's bytes.
pub(super) fn parse_within<'data>(
    path: &Path,
    bytes: &'data [u8],
    limit: u64,
) -> Result<SafeTensors<'data>, ModelError> {
    let bad = |detail: String| ModelError::file(path, detail);
    refuse_pickled_bytes(path, bytes)?;
    refuse_other_format(path, bytes, FileFormat::Safetensors, "a safetensors file")?;
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(bad(format!(
            "not a whole safetensors file: {} bytes, and its first 8 are the length of its header; copy it again",
            bytes.len()
        )));
    };
    let length = u64::from_le_bytes(*length);
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

/// Refuses files whose first bytes belong to another format, such as a git-lfs pointer or a web page.
pub(crate) fn refuse_other_format(
    path: &Path,
    bytes: &[u8],
    expected: FileFormat,
    name: &str,
) -> Result<(), ModelError> {
    match FileFormat::of(bytes).filter(|format| *format != expected) {
        Some(format) => Err(ModelError::file(path, format.in_place_of(name))),
        None => Ok(()),
    }
}

/// Checks that `data_bytes` of tensors are enough for the model before memory is taken for it.
pub(super) fn refuse_too_few(path: &Path, data_bytes: u64, config: &TransformerConfig) -> Result<(), ModelError> {
    let n_params = config.n_params();
    if data_bytes >= n_params / 32 * LEAST_BLOCK_BYTES {
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

/// Decodes bytes of a file and appends the numbers.
type Convert = fn(&[u8], &mut Vec<f32>);

/// A tensor in a file, to be read in blocks.
pub(super) struct Stored<'data> {
    /// The file that holds it.
    pub(super) path: &'data Path,
    pub(super) view: TensorView<'data>,
    /// The file's pages, where it is mapped.
    pub(super) map: Option<&'data Arc<Map>>,
}

impl Stored<'_> {
    /// All values, in the file's order.
    pub(super) fn values(&self, name: &str, row_len: usize) -> Result<Vec<f32>, ModelError> {
        let mut values = Vec::with_capacity(self.count());
        self.read(name, 0..self.count(), row_len, |block| values.extend_from_slice(block))?;
        Ok(values)
    }

    /// Calls `see` with the values of `range`, in order and in blocks of some multiple of `row_len`, all of them finite. A
    /// block's bytes are released before the next is read, so no tensor is in memory twice.
    pub(super) fn read(
        &self,
        name: &str,
        range: Range<usize>,
        row_len: usize,
        mut see: impl FnMut(&[f32]),
    ) -> Result<(), ModelError> {
        let (value_bytes, convert): (usize, Convert) = match self.view.dtype() {
            Dtype::F32 => (4, |bytes, values| convert(bytes, values, f32::from_le_bytes)),
            Dtype::F16 => (2, |bytes, values| {
                convert(bytes, values, |bytes| half::f16::from_le_bytes(bytes).to_f32());
            }),
            Dtype::BF16 => (2, |bytes, values| {
                convert(bytes, values, |bytes| half::bf16::from_le_bytes(bytes).to_f32());
            }),
            other => {
                let detail =
                    format!("has type {other:?}; expected F32, F16 or BF16, so take the model in one of these");
                return Err(self.bad(name, &detail));
            }
        };
        let bytes = &self.view.data()[range.start * value_bytes..range.end * value_bytes];
        let block = row_len * (BLOCK_VALUES / row_len.max(1)).max(1);
        let mut values = Vec::new();
        let mut start = range.start;
        for bytes in bytes.chunks(block.max(1) * value_bytes) {
            values.clear();
            convert(bytes, &mut values);
            // Without an early exit, so that the loop is vectorized.
            let is_finite = values
                .iter()
                .fold(true, |is_finite, value: &f32| is_finite & value.is_finite());
            if !is_finite {
                let index = values.iter().position(|value| !value.is_finite()).unwrap_or(0);
                let detail = format!(
                    "holds {} at index {}: these weights have diverged or are damaged; use an earlier checkpoint",
                    values[index],
                    start + index
                );
                return Err(self.bad(name, &detail));
            }
            see(&values);
            start += values.len();
            if let Some(map) = self.map {
                map.release(bytes);
            }
        }
        Ok(())
    }

    /// How many values the tensor has.
    pub(super) fn count(&self) -> usize {
        self.view.shape().iter().product()
    }

    /// Refuses the tensor.
    pub(super) fn bad(&self, name: &str, detail: &str) -> ModelError {
        ModelError::file(self.path, format!("tensor `{}` {detail}", shown(name)))
    }
}

fn convert<const N: usize>(bytes: &[u8], values: &mut Vec<f32>, value: impl Fn([u8; N]) -> f32) {
    let (stored, _) = bytes.as_chunks::<N>();
    values.extend(stored.iter().map(|bytes| value(*bytes)));
}

/// Makes text from a file safe to show in a message: without control characters, and of limited length.
pub fn shown(text: &str) -> String {
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
