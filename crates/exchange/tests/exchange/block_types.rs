//! Blocks of every type that is read, against the values of the package `gguf`: those that Taal does not write, too.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Device;
use serde::Deserialize;
use taal_exchange::{gguf, import_model, open_model};
use taal_kernels::QuantizedMatrix;
use taal_model::{Transformer, TransformerConfig, parameters};

use crate::gguf_bytes::{Info, data_start, tensors_of};
use crate::size;
use crate::support::random_weights;

const WIDTH: usize = 256;
const D_FF: usize = 64;

/// The matrix that gets the blocks: its name in the file, and ours.
const MATRIX: [&str; 2] = ["blk.0.ffn_up.weight", "blocks.0.feed_forward.up.weight"];

#[derive(Deserialize)]
struct Golden {
    types: BTreeMap<String, Blocks>,
}

#[derive(Deserialize)]
struct Blocks {
    number: u32,
    bytes: String,
    values: String,
}

impl Blocks {
    /// As many numbers as the matrix has, from the few blocks again and again.
    fn values(&self) -> Vec<f32> {
        let bytes = from_hex(&self.values);
        let (numbers, _) = bytes.as_chunks::<4>();
        let numbers = numbers.iter().map(|number| f32::from_le_bytes(*number)).cycle();
        numbers.take(WIDTH * D_FF).collect()
    }

    /// The bytes of these numbers.
    fn bytes(&self) -> Vec<u8> {
        let repeats = WIDTH * D_FF / (self.values.len() / 8);
        from_hex(&self.bytes).repeat(repeats)
    }
}

fn from_hex(text: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}

fn golden() -> Golden {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/formats/blocks.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A file in F32, but for one matrix in these blocks.
fn file_with(blocks: &Blocks, whole: &[u8]) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    let info = Info::find(&bytes, MATRIX[0]);
    assert_eq!(info.dims, [WIDTH as u64, D_FF as u64]);
    let kind = info.kind_at();
    bytes[kind..kind + 4].copy_from_slice(&blocks.number.to_le_bytes());
    let start = data_start(&bytes) + info.offset as usize;
    let stored = blocks.bytes();
    let saved = 4 * WIDTH * D_FF - stored.len();
    assert!(stored.len().is_multiple_of(32), "no padding");
    bytes.splice(start..start + 4 * WIDTH * D_FF, stored);
    // The tensors behind it begin earlier.
    for (_, at) in tensors_of(&bytes) {
        let offset = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        if offset > info.offset {
            bytes[at..at + 8].copy_from_slice(&(offset - saved as u64).to_le_bytes());
        }
    }
    bytes
}

/// The values of the matrix `[d_output, d_input]`.
fn values_of(model: &Transformer) -> Vec<f32> {
    let mut found = Vec::new();
    parameters::read(model, |name, shape, values| {
        if name == MATRIX[1] {
            assert_eq!(shape, [WIDTH, D_FF]);
            found = (0..D_FF)
                .flat_map(|output| (0..WIDTH).map(move |input| (input, output)))
                .map(|(input, output)| values[input * D_FF + output])
                .collect();
        }
    });
    found
}

#[test]
fn blocks_of_every_type_have_the_values_that_the_gguf_package_gives_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let llama = TransformerConfig::llama(size(50, 40, 1, 4, WIDTH));
    let model = random_weights(&TransformerConfig { d_ff: D_FF, ..llama });
    gguf::save(&model, None, None, "name", &path).unwrap();
    let whole = std::fs::read(&path).unwrap();
    // What each is multiplied as; the others are unpacked.
    let multiplied = [
        ("Q5_0", "Q8_0"),
        ("IQ4_NL", "Q8_0"),
        ("Q3_K", "Q6_K"),
        ("Q4_K", "Q4_K"),
        ("Q5_K", "Q5_K"),
        ("Q6_K", "Q6_K"),
    ];
    let golden = golden();
    assert_eq!(golden.types.len(), 10);
    for (name, blocks) in &golden.types {
        let bytes = file_with(blocks, &whole);
        let contents = gguf::from_bytes(&path, &bytes, &Device::flex()).unwrap();
        assert_eq!(values_of(&contents.model), blocks.values(), "{name}");
        let quantized = contents.model.quantized();
        let kinds = quantized.get(MATRIX[1]).map(|matrices| {
            let kinds = matrices.iter().map(QuantizedMatrix::kind);
            kinds.map(|kind| kind.to_string()).collect::<Vec<String>>()
        });
        let expected = multiplied.iter().find(|(of, _)| of == name).map(|(_, kind)| *kind);
        assert_eq!(kinds, expected.map(|kind| vec![kind.to_owned()]), "{name}");
        // 65,536 bytes of F32.
        let note = expected
            .is_none()
            .then(|| format!("matrices in {name} are unpacked to F32 and take 0.1 MB"));
        match (contents.note, note) {
            (None, None) => {}
            (Some(note), Some(words)) => assert!(note.starts_with(&words), "{note}"),
            (found, _) => panic!("{name}: {found:?}"),
        }
    }
}

#[test]
fn a_model_whose_matrices_are_unpacked_says_so_and_is_imported() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let llama = TransformerConfig::llama(size(50, 40, 1, 4, WIDTH));
    let model = random_weights(&TransformerConfig { d_ff: D_FF, ..llama });
    gguf::save(&model, None, None, "name", &path).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let golden = golden();
    let blocks = &golden.types["Q2_K"];
    std::fs::write(&path, file_with(blocks, &whole)).unwrap();
    let notes = open_model(&path, &Device::flex()).unwrap().notes;
    assert!(
        notes.len() == 1 && notes[0].contains("Q2_K") && notes[0].contains("taal import"),
        "{notes:?}"
    );
    let out = folder.path().join("out");
    let imported = import_model(&path, None, &out, &Device::flex()).unwrap();
    assert_eq!((imported.notes, imported.weights.as_str()), (notes, "F32"));
    assert_eq!(
        values_of(&open_model(&out, &Device::flex()).unwrap().model),
        blocks.values()
    );
}
