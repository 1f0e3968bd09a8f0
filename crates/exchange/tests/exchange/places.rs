//! Where the tensors of a GGUF file are: one after the other without gaps, or the file is refused, as llama.cpp does.

use burn::tensor::Device;
use taal_exchange::gguf;
use taal_model::{TransformerConfig, WeightFormat, parameters};

use crate::formats::file;
use crate::gguf_bytes::{assert_says, data_start, refusal, tensors_of};
use crate::size;
use crate::support::random_weights;

/// Numbers of types that are read: F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K to Q6_K, IQ4_NL, IQ4_XS and BF16.
const TYPES: [u8; 15] = [0, 1, 2, 3, 6, 7, 8, 10, 11, 12, 13, 14, 20, 23, 30];

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(file(name)).unwrap()
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// The file with these offsets.
fn with_offsets(bytes: &[u8], changes: &[(usize, u64)]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (at, offset) in changes {
        bytes[*at..at + 8].copy_from_slice(&offset.to_le_bytes());
    }
    bytes
}

/// The bytes of a block of 256 values of a type.
fn bytes_of_256(kind: u8) -> u64 {
    match kind {
        0 => 1024,
        1 | 30 => 512,
        2 | 12 | 20 => 144,
        3 => 160,
        6 | 13 => 176,
        7 => 192,
        8 => 272,
        10 => 84,
        11 => 110,
        14 => 210,
        23 => 136,
        other => panic!("type {other}"),
    }
}

#[test]
fn a_tensor_with_a_type_of_another_size_is_refused_and_named() {
    for name in ["llama-untied-f32.gguf", "llama-untied-q8_0.gguf", "gpt2-f16.gguf"] {
        let whole = golden(name);
        for (tensor, offset_at) in tensors_of(&whole) {
            let kind_at = offset_at - 4;
            for kind in TYPES {
                if bytes_of_256(kind) == bytes_of_256(whole[kind_at]) {
                    continue;
                }
                let mut bytes = whole.clone();
                bytes[kind_at] = kind;
                assert_says(&refusal(&bytes), &[&format!("`{tensor}`"), "again"]);
            }
        }
    }
}

#[test]
fn a_tensor_that_does_not_begin_where_the_one_before_it_ends_is_refused_and_named() {
    let whole = golden("llama-untied-q8_0.gguf");
    let tensors = tensors_of(&whole);
    for (tensor, at) in &tensors {
        let found = number(&whole, *at);
        for other in [found + 32, found.wrapping_sub(32), 0, u64::MAX - 31] {
            if other == found {
                continue;
            }
            let changed = with_offsets(&whole, &[(*at, other)]);
            let begins = format!("tensor `{tensor}` begins at byte {other}");
            let expected = format!("expected {found}");
            assert_says(
                &refusal(&changed),
                &[&begins, &expected, "download or convert it again"],
            );
        }
    }
    // In another order than in the list, without gaps.
    let [(name, at), (_, other_at)] = [&tensors[1], &tensors[2]];
    let [found, other] = [*at, *other_at].map(|at| number(&whole, at));
    let swapped = with_offsets(&whole, &[(*at, other), (*other_at, found)]);
    assert_says(&refusal(&swapped), &[name, &format!("expected {found}")]);
}

#[test]
fn gaps_between_tensors_and_bytes_behind_the_last_are_refused() {
    let whole = golden("llama-untied-q8_0.gguf");
    let tensors = tensors_of(&whole);
    for (index, (tensor, at)) in tensors.iter().enumerate() {
        // All tensors from this one on are 32 bytes later, and so are their bytes.
        let later = tensors[index..].iter().map(|(_, at)| (*at, number(&whole, *at) + 32));
        let mut bytes = with_offsets(&whole, &later.collect::<Vec<_>>());
        let start = data_start(&whole) + number(&whole, *at) as usize;
        bytes.splice(start..start, [0; 32]);
        assert_says(&refusal(&bytes), &[&format!("`{tensor}` begins at byte"), "again"]);
    }
    let (last, _) = tensors.last().unwrap();
    for more in [1, 32, 1000] {
        let longer = [&whole[..], &vec![0; more]].concat();
        assert_says(
            &refusal(&longer),
            &[&format!("`{last}`, the last one"), "the end of the file", "again"],
        );
    }
}

#[test]
fn the_padding_of_the_last_tensor_may_be_missing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let model = random_weights(&TransformerConfig::llama(size(51, 40, 1, 2, 20)));
    gguf::save(&model, None, Some(WeightFormat::F32), "name", &path).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let values = |bytes: &[u8]| {
        let mut all = Vec::new();
        let opened = gguf::from_bytes(&path, bytes, &Device::flex()).unwrap().model;
        parameters::read(&opened, |_, _, values| all.extend(values));
        all
    };
    // Norms have 80 bytes of 96, the output matrix 4,080 of 4,096.
    let end = whole.len() - 16;
    assert_eq!(values(&whole[..end]), values(&whole));
    assert_says(&refusal(&whole[..end - 1]), &["copy the file again"]);
}
