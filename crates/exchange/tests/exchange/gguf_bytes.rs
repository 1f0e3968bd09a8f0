//! The bytes of GGUF files: where their entries are, and what is said about damaged ones.

use std::path::Path;

use burn::tensor::Device;
use taal_exchange::gguf;
use taal_model::ModelError;
use taal_store::ErrorKind;

/// The offsets within a tensor's entry.
pub struct Info {
    pub dims: Vec<u64>,
    pub kind: u32,
    pub offset: u64,
    /// The first byte of its dimensions.
    pub at: usize,
}

impl Info {
    pub fn find(bytes: &[u8], name: &str) -> Self {
        let at = after(bytes, name) + 4;
        let n_dims = u32::from_le_bytes(bytes[at - 4..at].try_into().unwrap()) as usize;
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let end = at + 8 * n_dims;
        Self {
            dims: (0..n_dims).map(|i| number(at + 8 * i)).collect(),
            kind: u32::from_le_bytes(bytes[end..end + 4].try_into().unwrap()),
            offset: number(end + 4),
            at,
        }
    }

    pub fn kind_at(&self) -> usize {
        self.at + 8 * self.dims.len()
    }
}

/// The byte after a name in the header, which follows its length.
pub fn after(bytes: &[u8], name: &str) -> usize {
    let wanted = [&(name.len() as u64).to_le_bytes(), name.as_bytes()].concat();
    let found = bytes.windows(wanted.len()).position(|window| window == wanted);
    found.unwrap_or_else(|| panic!("no {name}")) + wanted.len()
}

/// The first byte of the data.
pub fn data_start(bytes: &[u8]) -> usize {
    let end = tensors_of(bytes).last().map_or(24, |(_, at)| at + 8);
    end.next_multiple_of(32)
}

/// The name of each tensor, and where its offset is. Its type is in the four bytes before.
pub fn tensors_of(bytes: &[u8]) -> Vec<(String, usize)> {
    let mut at = 24;
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let kind = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let [n_tensors, n_keys] = [8, 16].map(number);
    for _ in 0..n_keys {
        at += 8 + number(at) as usize;
        at += 4 + match kind(at) {
            8 => 8 + number(at + 4) as usize,
            7 => 1,
            4..=6 => 4,
            other => panic!("a key of type {other}"),
        };
    }
    let of_tensors = (0..n_tensors).map(|_| {
        let end = at + 8 + number(at) as usize;
        let name = String::from_utf8(bytes[at + 8..end].to_vec()).unwrap();
        at = end + 4 + 8 * kind(end) as usize + 12;
        (name, at - 8)
    });
    of_tensors.collect()
}

pub fn refusal(bytes: &[u8]) -> ModelError {
    gguf::from_bytes(Path::new("model.gguf"), bytes, &Device::flex()).expect_err("this must be refused")
}

#[track_caller]
pub fn assert_says(error: &ModelError, words: &[&str]) {
    let message = error.to_string();
    assert!(
        words.iter().all(|word| message.contains(word)),
        "{message} lacks one of {words:?}"
    );
    assert!(message.len() < 1000 && !message.contains('\n'), "{message}");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}
