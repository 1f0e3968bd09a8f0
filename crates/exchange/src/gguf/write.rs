//! Writing the container: the header is written before the first tensor is read, so tensors are written one by one.

use std::path::Path;

use taal_store::AtomicFile;

use super::file::{ALIGNMENT, MAGIC, VERSION};
use super::tensor_type::TensorType;
use taal_model::ModelError;

/// A value of the header, in the types that llama.cpp expects.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Entry {
    U32(u32),
    F32(f32),
    Truth(bool),
    Text(String),
    Texts(Vec<String>),
    Floats(Vec<f32>),
    Integers(Vec<i32>),
}

/// A tensor to be written, rows first.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) tensor_type: TensorType,
}

impl Planned {
    fn bytes(&self) -> usize {
        let (values, bytes) = self.tensor_type.block().unwrap_or((1, 4));
        self.shape.iter().product::<usize>() / values * bytes
    }
}

/// A file whose header has been written.
pub(super) struct Writer {
    file: AtomicFile,
    planned: std::vec::IntoIter<Planned>,
}

impl Writer {
    /// Writes everything before the tensors.
    pub(super) fn create(path: &Path, entries: &[(String, Entry)], planned: Vec<Planned>) -> Result<Self, ModelError> {
        let mut header = Vec::new();
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.extend_from_slice(&(planned.len() as u64).to_le_bytes());
        header.extend_from_slice(&(entries.len() as u64).to_le_bytes());
        for (key, entry) in entries {
            put_text(&mut header, key);
            entry.put(&mut header);
        }
        let mut offset = 0;
        for tensor in &planned {
            put_text(&mut header, &tensor.name);
            header.extend_from_slice(&(tensor.shape.len() as u32).to_le_bytes());
            for size in tensor.shape.iter().rev() {
                header.extend_from_slice(&(*size as u64).to_le_bytes());
            }
            header.extend_from_slice(&tensor.tensor_type.number().to_le_bytes());
            header.extend_from_slice(&(offset as u64).to_le_bytes());
            offset += tensor.bytes().next_multiple_of(ALIGNMENT);
        }
        header.resize(header.len().next_multiple_of(ALIGNMENT), 0);
        let mut file = AtomicFile::create(path)?;
        file.write_bytes(&header)?;
        Ok(Self {
            file,
            planned: planned.into_iter(),
        })
    }

    /// Writes the next tensor of the plan, rounded to its type.
    pub(super) fn put(&mut self, name: &str, values: &[f32]) -> Result<(), ModelError> {
        let planned = self.next(name)?;
        let bytes = planned.tensor_type.encode(values).ok_or_else(|| {
            ModelError::Input(format!(
                "tensor `{name}` has values that are too large for {}; write the file with f32",
                planned.tensor_type
            ))
        })?;
        self.put_bytes(bytes)
    }

    /// Writes the next tensor of the plan as it is stored.
    pub(super) fn put_stored(&mut self, name: &str, stored: Vec<u8>) -> Result<(), ModelError> {
        let planned = self.next(name)?;
        match planned.bytes() == stored.len() {
            true => self.put_bytes(stored),
            false => Err(ModelError::Input(format!(
                "tensor `{name}` has {} bytes instead of {} and cannot be written",
                stored.len(),
                planned.bytes()
            ))),
        }
    }

    fn next(&mut self, name: &str) -> Result<Planned, ModelError> {
        let planned = self.planned.next().filter(|planned| planned.name == name);
        planned.ok_or_else(|| ModelError::Input(format!("tensor `{name}` is out of order and cannot be written")))
    }

    fn put_bytes(&mut self, mut bytes: Vec<u8>) -> Result<(), ModelError> {
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        Ok(self.file.write_bytes(&bytes)?)
    }

    /// Moves the file into place.
    pub(super) fn commit(mut self) -> Result<(), ModelError> {
        match self.planned.next() {
            Some(missing) => Err(ModelError::Input(format!(
                "tensor `{}` is missing and cannot be written",
                missing.name
            ))),
            None => Ok(self.file.commit()?),
        }
    }
}

impl Entry {
    fn put(&self, out: &mut Vec<u8>) {
        let list = |out: &mut Vec<u8>, kind: u32, len: usize| {
            out.extend_from_slice(&9_u32.to_le_bytes());
            out.extend_from_slice(&kind.to_le_bytes());
            out.extend_from_slice(&(len as u64).to_le_bytes());
        };
        match self {
            Self::U32(number) => {
                out.extend_from_slice(&4_u32.to_le_bytes());
                out.extend_from_slice(&number.to_le_bytes());
            }
            Self::F32(number) => {
                out.extend_from_slice(&6_u32.to_le_bytes());
                out.extend_from_slice(&number.to_le_bytes());
            }
            Self::Truth(truth) => {
                out.extend_from_slice(&7_u32.to_le_bytes());
                out.push(u8::from(*truth));
            }
            Self::Text(text) => {
                out.extend_from_slice(&8_u32.to_le_bytes());
                put_text(out, text);
            }
            Self::Texts(texts) => {
                list(out, 8, texts.len());
                texts.iter().for_each(|text| put_text(out, text));
            }
            Self::Floats(numbers) => {
                list(out, 6, numbers.len());
                out.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
            }
            Self::Integers(numbers) => {
                list(out, 5, numbers.len());
                out.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
            }
        }
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}
