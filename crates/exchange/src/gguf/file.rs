//! The container: a header of keys and values, a list of tensors, and their bytes. Every count, length and offset is checked
//! against the file's bytes before it is used.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use taal_store::Map;

use super::tensor_type::TensorType;
use taal_kernels::QuantizedMatrix;
use taal_model::ModelError;
use taal_model::hugging_face::shown;
use taal_model::layout::Part;

/// The first bytes of a file.
pub(super) const MAGIC: [u8; 4] = *b"GGUF";

/// The version that is written. Version 2 has the same layout for all that is read here; version 1 had shorter counts.
pub(super) const VERSION: u32 = 3;

/// The default alignment of tensors, in bytes.
pub(super) const ALIGNMENT: usize = 32;

/// The key of another alignment.
const ALIGNMENT_KEY: &str = "general.alignment";

/// The most keys of a file; published ones have about 40.
const MAX_KEYS: u64 = 4096;

/// The most tensors of a file; the largest published models have about 2,000.
const MAX_TENSORS: u64 = 65_536;

/// The longest name of a key or tensor, in bytes; llama.cpp itself has 64.
const MAX_NAME_BYTES: usize = 256;

/// The most dimensions of a tensor.
const MAX_DIMENSIONS: u32 = 4;

/// What to do about a list of tensors that does not fit the file.
const DAMAGED: &str = "the file is damaged or made by another program: download or convert it again";

/// The largest alignment that is accepted.
const MAX_ALIGNMENT: u64 = 1 << 16;

/// A value of the header. Numbers of all widths are one variant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'data> {
    Integer(i128),
    Float(f32),
    Double(f64),
    Truth(bool),
    Text(&'data str),
    List(List<'data>),
}

/// The elements of a list, still as bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct List<'data> {
    kind: Kind,
    len: usize,
    bytes: &'data [u8],
}

/// The types of values, with their numbers in the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    Text = 8,
    List = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl Kind {
    fn of(number: u32) -> Result<Self, String> {
        const ALL: [Kind; 13] = [
            Kind::U8,
            Kind::I8,
            Kind::U16,
            Kind::I16,
            Kind::U32,
            Kind::I32,
            Kind::F32,
            Kind::Bool,
            Kind::Text,
            Kind::List,
            Kind::U64,
            Kind::I64,
            Kind::F64,
        ];
        let found = usize::try_from(number).ok().and_then(|number| ALL.get(number));
        found
            .copied()
            .ok_or_else(|| format!("has a value of type {number}; expected 0..=12"))
    }

    /// Bytes of a value, `None` for strings and lists.
    fn size(self) -> Option<usize> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::Text | Self::List => None,
        }
    }
}

/// A tensor's location, type and shape, rows first.
#[derive(Debug, Clone)]
pub(super) struct TensorInfo {
    pub(super) shape: Vec<usize>,
    pub(super) tensor_type: TensorType,
    /// The first byte in the data, and their number; `None` for an unsupported type.
    start: usize,
    len: Option<usize>,
}

/// A parsed file.
#[derive(Debug)]
pub(super) struct File<'data> {
    path: &'data Path,
    metadata: BTreeMap<&'data str, Value<'data>>,
    tensors: BTreeMap<&'data str, TensorInfo>,
    data: &'data [u8],
    /// The file's pages, where it is mapped.
    map: Option<&'data Arc<Map>>,
}

impl<'data> File<'data> {
    /// Reads the header and the list of tensors.
    pub(super) fn parse(path: &'data Path, bytes: &'data [u8]) -> Result<Self, ModelError> {
        Self::read(path, bytes).map_err(|detail| ModelError::file(path, detail))
    }

    /// The same for a mapped file, whose pages are released once their values are read.
    pub(super) fn parse_map(path: &'data Path, map: &'data Arc<Map>) -> Result<Self, ModelError> {
        let mut file = Self::parse(path, map)?;
        file.map = Some(map);
        Ok(file)
    }

    fn read(path: &'data Path, bytes: &'data [u8]) -> Result<Self, String> {
        let mut cursor = Cursor { bytes, at: 0 };
        if cursor.take(4, "its first bytes")? != MAGIC {
            return Err("not a GGUF file: its first four bytes are not `GGUF`".to_string());
        }
        check_version(cursor.u32("its version")?)?;
        let n_tensors = cursor.count("tensors", MAX_TENSORS)?;
        let n_keys = cursor.count("keys", MAX_KEYS)?;
        let mut metadata = BTreeMap::new();
        for index in 0..n_keys {
            let (key, value) = read_pair(&mut cursor, index)?;
            if metadata.insert(key, value).is_some() {
                return Err(format!("key `{}` is there twice", shown(key)));
            }
        }
        let alignment = alignment(&metadata)?;
        let mut listed = Vec::new();
        for index in 0..n_tensors {
            listed.push(read_tensor(&mut cursor, index, alignment)?);
        }
        let start = cursor.at.next_multiple_of(alignment);
        let data = bytes.get(start..).unwrap_or_default();
        check_places(&listed, alignment, data.len())?;
        let mut tensors = BTreeMap::new();
        for (name, info) in listed {
            if tensors.insert(name, info).is_some() {
                return Err(format!("tensor `{}` is there twice", shown(name)));
            }
        }
        Ok(Self {
            path,
            metadata,
            tensors,
            data,
            map: None,
        })
    }

    pub(super) fn path(&self) -> &'data Path {
        self.path
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'data str> {
        self.tensors.keys().copied()
    }

    pub(super) fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// Bytes of all tensors together.
    pub(super) fn tensor_bytes(&self) -> u64 {
        self.tensors
            .values()
            .filter_map(|info| info.len)
            .map(|len| len as u64)
            .sum()
    }

    /// Refuses the file where a tensor has a type that is not read.
    pub(super) fn refuse_unread(&self) -> Result<(), ModelError> {
        match self.tensors.iter().find(|(_, info)| info.len.is_none()) {
            Some((name, info)) => Err(self.unread(name, info)),
            None => Ok(()),
        }
    }

    fn unread(&self, name: &str, info: &TensorInfo) -> ModelError {
        let detail = format!(
            "tensor `{}` has type {}, which is not read; expected {}; convert the file, for example with \
             `llama-quantize --allow-requantize IN.gguf OUT.gguf F16`",
            shown(name),
            info.tensor_type,
            TensorType::READ.map(|tensor_type| tensor_type.to_string()).join(", ")
        );
        ModelError::file(self.path, detail)
    }

    /// The values of a tensor, all of them finite.
    pub(super) fn values(&self, name: &str, info: &TensorInfo) -> Result<Vec<f32>, ModelError> {
        let bad = |detail: String| ModelError::file(self.path, detail);
        let bytes = info.len.and_then(|len| self.data.get(info.start..info.start + len));
        let values = bytes.and_then(|bytes| info.tensor_type.decode(bytes));
        let values = values.ok_or_else(|| self.unread(name, info))?;
        if let (Some(map), Some(bytes)) = (self.map, bytes) {
            map.release(bytes);
        }
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(values),
            Some(index) => Err(bad(format!(
                "tensor `{name}` holds {} at index {index}: these weights have diverged or are damaged",
                values[index]
            ))),
        }
    }

    /// The rows of a matrix as they are multiplied, in the order of our columns; `None` where its type is not multiplied, or not read. They
    /// stay where they are in a mapped file, unless their order or type is another.
    pub(super) fn matrix(&self, part: &Part, shape: [usize; 2]) -> Result<Option<QuantizedMatrix>, ModelError> {
        let bad = |detail: String| ModelError::file(self.path, format!("tensor `{}` {detail}", part.name));
        let Some(info) = self.tensor(&part.name) else {
            return Ok(None);
        };
        let bytes = info.len.and_then(|len| self.data.get(info.start..info.start + len));
        let Some((stored, (kind, rows))) = bytes.and_then(|bytes| Some((bytes, info.tensor_type.multiplied(bytes)?)))
        else {
            return Ok(None);
        };
        let row_bytes = kind.row_bytes(shape[1]).unwrap_or(1);
        let in_place =
            |rows: &[u8]| -> Option<Arc<dyn AsRef<[u8]> + Send + Sync>> { Some(Arc::new(self.map?.part(rows)?)) };
        let ordered = part.in_our_order(&rows, row_bytes);
        let bytes = in_place(&ordered).unwrap_or_else(|| Arc::new(ordered.into_owned()));
        let matrix = QuantizedMatrix::from_bytes(bytes, kind, shape).map_err(|error| bad(error.to_string()))?;
        if let Some(index) = matrix.first_not_finite() {
            return Err(bad(format!(
                "holds a number that is not finite in block {index}: these weights have diverged or are damaged"
            )));
        }
        // What was copied is not needed again.
        if let Some(map) = self.map.filter(|_| matrix.bytes().as_ptr() != stored.as_ptr()) {
            map.release(stored);
        }
        Ok(Some(matrix))
    }

    pub(super) fn value(&self, key: &str) -> Option<Value<'data>> {
        self.metadata.get(key).copied()
    }

    /// A key with a value of the wrong type.
    pub(super) fn wrong(&self, key: &str, expected: &str) -> ModelError {
        let got = match self.value(key) {
            Some(Value::Integer(number)) => number.to_string(),
            Some(Value::Float(number)) => number.to_string(),
            Some(Value::Double(number)) => number.to_string(),
            Some(Value::Truth(truth)) => truth.to_string(),
            Some(Value::Text(text)) => format!("\"{}\"", shown(text)),
            Some(Value::List(list)) => format!("a list of {} values", list.len),
            None => return ModelError::file(self.path, format!("key `{key}` is missing")),
        };
        ModelError::file(self.path, format!("key `{key}`: expected {expected}, got {got}"))
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&'data str>, ModelError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(key, "a text")),
        }
    }

    pub(super) fn truth(&self, key: &str) -> Result<Option<bool>, ModelError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Truth(truth)) => Ok(Some(truth)),
            Some(_) => Err(self.wrong(key, "true or false")),
        }
    }

    /// A whole number of at most `most`.
    pub(super) fn size_up_to(&self, key: &str, most: usize) -> Result<Option<usize>, ModelError> {
        let wrong = || self.wrong(key, &format!("an integer in 0..={most}"));
        match self.value(key) {
            None => Ok(None),
            Some(Value::Integer(number)) => {
                let size = usize::try_from(number).ok().filter(|size| *size <= most);
                size.map(Some).ok_or_else(wrong)
            }
            Some(_) => Err(wrong()),
        }
    }

    /// A whole number of at most `most` for all layers: one number, or a list of one number per layer that are all the same.
    pub(super) fn size_of_layers(&self, key: &str, n_layers: usize, most: usize) -> Result<Option<usize>, ModelError> {
        if !matches!(self.value(key), Some(Value::List(_))) {
            return self.size_up_to(key, most);
        }
        let sizes = self.integers(key)?.unwrap_or_default();
        let bad = |detail: String| Err(ModelError::file(self.path, format!("key `{key}`: {detail}")));
        let Some(first) = sizes.first().filter(|_| sizes.len() == n_layers) else {
            return bad(format!(
                "expected a list of {n_layers} numbers, one per layer, got {}",
                sizes.len()
            ));
        };
        if sizes.iter().any(|size| size != first) {
            let list: Vec<String> = sizes.iter().map(i64::to_string).collect();
            return bad(format!(
                "layers of different sizes are not supported; its list is {}",
                taal_store::shorten(&list.join(", "))
            ));
        }
        match usize::try_from(*first).ok().filter(|size| *size <= most) {
            Some(size) => Ok(Some(size)),
            None => bad(format!("expected integers in 0..={most}, got {first}")),
        }
    }

    /// A number. Single-precision numbers are converted by their shortest decimal form, so that 1e-5 is not 0.000009999999747378752.
    pub(super) fn number(&self, key: &str) -> Result<Option<f64>, ModelError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Float(number)) => Ok(number.to_string().parse().ok()),
            Some(Value::Double(number)) => Ok(Some(number)),
            Some(Value::Integer(number)) => Ok(Some(number as f64)),
            Some(_) => Err(self.wrong(key, "a number")),
        }
    }

    /// A list of texts.
    pub(super) fn texts(&self, key: &str) -> Result<Option<Vec<&'data str>>, ModelError> {
        let list = match self.value(key) {
            None => return Ok(None),
            Some(Value::List(list)) if list.kind == Kind::Text => list,
            Some(_) => return Err(self.wrong(key, "a list of texts")),
        };
        let mut cursor = Cursor {
            bytes: list.bytes,
            at: 0,
        };
        // The list has been checked, so each element takes bytes of the file.
        let texts: Result<Vec<&str>, String> = (0..list.len)
            .map(|index| {
                cursor
                    .text(usize::MAX)
                    .map_err(|error| format!("entry {index} {error}"))
            })
            .collect();
        texts
            .map(Some)
            .map_err(|detail| ModelError::file(self.path, format!("key `{key}`: {detail}")))
    }

    /// A list of 32-bit floats.
    pub(super) fn floats(&self, key: &str) -> Result<Option<Vec<f32>>, ModelError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::List(list)) if list.kind == Kind::F32 => {
                let (chunks, _) = list.bytes.as_chunks::<4>();
                Ok(Some(chunks.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()))
            }
            Some(_) => Err(self.wrong(key, "a list of 32-bit floats")),
        }
    }

    /// A list of 32-bit integers.
    pub(super) fn integers(&self, key: &str) -> Result<Option<Vec<i64>>, ModelError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::List(list)) if matches!(list.kind, Kind::I32 | Kind::U32) => {
                let (chunks, _) = list.bytes.as_chunks::<4>();
                let number = |bytes: &[u8; 4]| match list.kind {
                    Kind::I32 => i64::from(i32::from_le_bytes(*bytes)),
                    _ => i64::from(u32::from_le_bytes(*bytes)),
                };
                Ok(Some(chunks.iter().map(number).collect()))
            }
            Some(_) => Err(self.wrong(key, "a list of 32-bit integers")),
        }
    }

    /// The length of a list, whatever it holds.
    pub(super) fn list_len(&self, key: &str) -> Option<usize> {
        match self.value(key) {
            Some(Value::List(list)) => Some(list.len),
            _ => None,
        }
    }
}

fn check_version(version: u32) -> Result<(), String> {
    match version {
        2 | VERSION => Ok(()),
        1 => Err("a GGUF file of version 1, of August 2023; convert it with a later llama.cpp".to_string()),
        other if matches!(other.swap_bytes(), 1..=VERSION) => Err(
            "a GGUF file for big-endian machines, which is not read; convert it with gguf_convert_endian.py"
                .to_string(),
        ),
        other => Err(format!("a GGUF file of version {other}; 2 and 3 are read")),
    }
}

fn read_pair<'data>(cursor: &mut Cursor<'data>, index: u64) -> Result<(&'data str, Value<'data>), String> {
    let key = cursor
        .text(MAX_NAME_BYTES)
        .map_err(|error| format!("the name of key {index} {error}"))?;
    let value = cursor
        .u32("its type")
        .and_then(Kind::of)
        .and_then(|kind| cursor.value(kind))
        .map_err(|error| format!("key `{}` {error}", shown(key)))?;
    Ok((key, value))
}

fn alignment(metadata: &BTreeMap<&str, Value<'_>>) -> Result<usize, String> {
    let found = match metadata.get(ALIGNMENT_KEY) {
        None => return Ok(ALIGNMENT),
        Some(Value::Integer(number)) => u64::try_from(*number).ok(),
        Some(_) => None,
    };
    found
        .filter(|alignment| alignment.is_power_of_two() && *alignment <= MAX_ALIGNMENT)
        .map(|alignment| alignment as usize)
        .ok_or_else(|| format!("key `{ALIGNMENT_KEY}`: expected a power of two of at most {MAX_ALIGNMENT}"))
}

fn read_tensor<'data>(
    cursor: &mut Cursor<'data>,
    index: u64,
    alignment: usize,
) -> Result<(&'data str, TensorInfo), String> {
    let name = cursor
        .text(MAX_NAME_BYTES)
        .map_err(|error| format!("the name of tensor {index} {error}"))?;
    let info = tensor_info(cursor, alignment).map_err(|error| format!("tensor `{}` {error}", shown(name)))?;
    Ok((name, info))
}

fn tensor_info(cursor: &mut Cursor<'_>, alignment: usize) -> Result<TensorInfo, String> {
    let n_dimensions = cursor.u32("its dimensions")?;
    if n_dimensions > MAX_DIMENSIONS {
        return Err(format!(
            "has {n_dimensions} dimensions; at most {MAX_DIMENSIONS} are read"
        ));
    }
    let mut shape = Vec::with_capacity(n_dimensions as usize);
    let mut count = 1_usize;
    for _ in 0..n_dimensions {
        let size = cursor.u64("its dimensions")?;
        let size = usize::try_from(size)
            .ok()
            .filter(|size| *size <= taal_model::MAX_DIMENSION);
        let size = size.ok_or_else(|| format!("has a dimension of more than {}", taal_model::MAX_DIMENSION))?;
        count = count.checked_mul(size).ok_or("has more values than can be counted")?;
        shape.push(size);
    }
    // The file lists the fastest-varying dimension first.
    let row = shape.first().copied().unwrap_or(1);
    shape.reverse();
    let tensor_type = TensorType::of(cursor.u32("its type")?);
    let offset = cursor.u64("its offset")?;
    let start = usize::try_from(offset).map_err(|_| format!("begins at byte {offset}, beyond the end of the file"))?;
    if !start.is_multiple_of(alignment) {
        return Err(format!(
            "begins at byte {offset} of the data, which is not a multiple of {alignment}; {DAMAGED}"
        ));
    }
    let len = match tensor_type.block() {
        None => None,
        Some((values, _)) if !row.is_multiple_of(values) => {
            return Err(format!(
                "has rows of {row} values, which are not whole blocks of {values}, as {tensor_type} has; {DAMAGED}"
            ));
        }
        Some((values, bytes)) => {
            let len = (count / values).checked_mul(bytes);
            Some(len.ok_or("has more bytes than can be counted")?)
        }
    };
    Ok(TensorInfo {
        shape,
        tensor_type,
        start,
        len,
    })
}

/// Checks that each tensor begins at the padded end of the one before it in the list, as llama.cpp asks, and that the last one ends
/// with the file. So a damaged type, shape or offset is noticed where it changes a size, and a small file cannot claim a large model.
/// The length of a type that is not read is not known: what follows may begin anywhere after its first byte, since the file is refused
/// for the type.
fn check_places(listed: &[(&str, TensorInfo)], alignment: usize, data_len: usize) -> Result<(), String> {
    let (mut expected, mut is_exact) = (0, true);
    let mut before: Option<&(&str, TensorInfo)> = None;
    for listed in listed {
        let (name, info) = listed;
        let fits = if is_exact {
            info.start == expected
        } else {
            info.start >= expected
        };
        if !fits {
            let least = if is_exact { "" } else { "at least " };
            let place = before.map_or("the first byte".to_string(), |(name, info)| {
                format!(
                    "the end of `{}` in {}, padded to {alignment}",
                    shown(name),
                    info.tensor_type
                )
            });
            return Err(format!(
                "tensor `{}` begins at byte {} of the data, expected {least}{expected}, {place}; {DAMAGED}",
                shown(name),
                info.start
            ));
        }
        let len = info.len.unwrap_or(0);
        let end = info.start.checked_add(len).filter(|end| *end <= data_len);
        let end = end.ok_or_else(|| {
            format!(
                "tensor `{}` has {len} bytes from byte {} on, but only {data_len} bytes of tensors are there; copy the file again",
                shown(name),
                info.start
            )
        })?;
        (expected, is_exact) = (end.next_multiple_of(alignment), info.len.is_some());
        before = Some(listed);
    }
    match before {
        Some((name, _)) if is_exact && data_len > expected => Err(format!(
            "tensor `{}`, the last one, ends at byte {expected} of the data, expected {data_len}, the end of the file; {DAMAGED}",
            shown(name)
        )),
        _ => Ok(()),
    }
}

/// A position in the bytes; reads are bounds-checked.
struct Cursor<'data> {
    bytes: &'data [u8],
    at: usize,
}

impl<'data> Cursor<'data> {
    fn take(&mut self, len: usize, what: &str) -> Result<&'data [u8], String> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..len).ok_or_else(|| {
            format!(
                "is cut off: {what} needs {len} bytes, and {} follow; copy the file again",
                rest.len()
            )
        })?;
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], String> {
        let bytes = self.take(N, what)?;
        bytes.try_into().map_err(|_| format!("is cut off in {what}"))
    }

    fn u32(&mut self, what: &str) -> Result<u32, String> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &str) -> Result<u64, String> {
        self.array(what).map(u64::from_le_bytes)
    }

    fn count(&mut self, what: &str, most: u64) -> Result<u64, String> {
        let count = self.u64(what)?;
        if count > most {
            return Err(format!(
                "not a GGUF file of a model: it says that it has {count} {what}, and at most {most} are read"
            ));
        }
        Ok(count)
    }

    /// A UTF-8 string after its length.
    fn text(&mut self, most: usize) -> Result<&'data str, String> {
        let len = self.u64("the length of a text")?;
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        if len > most {
            return Err(format!("has {len} bytes; at most {most} are read"));
        }
        let bytes = self.take(len, "a text")?;
        std::str::from_utf8(bytes).map_err(|_| "is not UTF-8".to_string())
    }

    fn value(&mut self, kind: Kind) -> Result<Value<'data>, String> {
        let what = "its value";
        Ok(match kind {
            Kind::U8 => Value::Integer(u8::from_le_bytes(self.array(what)?).into()),
            Kind::I8 => Value::Integer(i8::from_le_bytes(self.array(what)?).into()),
            Kind::U16 => Value::Integer(u16::from_le_bytes(self.array(what)?).into()),
            Kind::I16 => Value::Integer(i16::from_le_bytes(self.array(what)?).into()),
            Kind::U32 => Value::Integer(u32::from_le_bytes(self.array(what)?).into()),
            Kind::I32 => Value::Integer(i32::from_le_bytes(self.array(what)?).into()),
            Kind::U64 => Value::Integer(u64::from_le_bytes(self.array(what)?).into()),
            Kind::I64 => Value::Integer(i64::from_le_bytes(self.array(what)?).into()),
            Kind::F32 => Value::Float(f32::from_le_bytes(self.array(what)?)),
            Kind::F64 => Value::Double(f64::from_le_bytes(self.array(what)?)),
            Kind::Bool => match self.array::<1>(what)? {
                [0] => Value::Truth(false),
                [1] => Value::Truth(true),
                [other] => return Err(format!("has {other} for true or false")),
            },
            Kind::Text => Value::Text(self.text(usize::MAX)?),
            Kind::List => Value::List(self.list()?),
        })
    }

    fn list(&mut self) -> Result<List<'data>, String> {
        let kind = Kind::of(self.u32("the type of a list")?)?;
        let len = self.u64("the length of a list")?;
        let start = self.at;
        let too_long = || format!("has a list of {len} values, more than the file has bytes");
        let len = usize::try_from(len).map_err(|_| too_long())?;
        match kind.size() {
            Some(size) => {
                let bytes = len.checked_mul(size).ok_or_else(too_long)?;
                self.take(bytes, "a list")?;
            }
            None if kind == Kind::Text => {
                // Each takes at least the eight bytes of its length.
                if len > self.bytes.len().saturating_sub(start) / 8 {
                    return Err(too_long());
                }
                for index in 0..len {
                    let len = self.u64("the length of a text")?;
                    let len = usize::try_from(len).unwrap_or(usize::MAX);
                    self.take(len, &format!("text {index} of a list"))?;
                }
            }
            None => return Err("has a list of lists, which is not read".to_string()),
        }
        Ok(List {
            kind,
            len,
            bytes: &self.bytes[start..self.at],
        })
    }
}
