//! Files in fewer bits: multiplied where they are, imported and exported with their types.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use taal_exchange::{Target, export_model, gguf, import_model, import_model_as, open_model};
use taal_kernels::QuantizedMatrix;
use taal_model::{Transformer, TransformerConfig, WeightFormat, hugging_face, parameters};

use crate::size;
use crate::support::{largest_difference, random_weights, some_ids};

const FORMATS: [WeightFormat; 5] = [
    WeightFormat::F16,
    WeightFormat::Bf16,
    WeightFormat::Q8_0,
    WeightFormat::Q4_0,
    WeightFormat::Q4KM,
];

/// Families whose queries, keys and values are stored together, apart with rows in another order, and apart. Rows of 288 numbers are not whole
/// blocks of 256.
fn configs() -> [TransformerConfig; 3] {
    let size = size(50, 40, 3, 4, 256);
    let gpt2 = TransformerConfig::gpt2(size);
    let llama = TransformerConfig::llama(size);
    let qwen3 = TransformerConfig::qwen3(size);
    let grouped = TransformerConfig { n_kv_heads: 2, ..llama };
    [gpt2, grouped, qwen3].map(|config| TransformerConfig { d_ff: 288, ..config })
}

fn saved(model: &Transformer, format: Option<WeightFormat>, folder: &Path) -> PathBuf {
    let path = folder.join(format!("{format:?}.gguf"));
    gguf::save(model, None, format, "name", &path).unwrap();
    path
}

fn values(model: &Transformer) -> Vec<f32> {
    let mut all = Vec::new();
    parameters::read(model, |_, _, values| all.extend(values));
    all
}

fn types(model: &Transformer) -> Vec<String> {
    let quantized = model.quantized();
    let all = quantized.into_iter().flat_map(|(name, matrices)| {
        let kinds = matrices.iter().map(QuantizedMatrix::kind);
        kinds.map(move |kind| format!("{name} {kind}"))
    });
    all.collect()
}

#[test]
fn a_gguf_file_is_multiplied_where_it_is_with_the_values_of_its_blocks() {
    let folder = tempfile::tempdir().unwrap();
    for config in configs() {
        let model = random_weights(&config);
        for format in FORMATS {
            let path = saved(&model, Some(format), folder.path());
            let opened = gguf::open(&path, &Device::flex()).unwrap().model;
            std::fs::remove_file(&path).unwrap();
            // What llama-quantize would write has the values that rounding in memory gives.
            let rounded = model.clone().with_weights(format).unwrap();
            assert_eq!(values(&opened), values(&rounded), "{format}");
            assert_eq!(opened.weight_bytes(), rounded.weight_bytes(), "{format}");
            let ids = some_ids(2, 17, 50);
            let difference = largest_difference(opened.forward(ids.clone()).unwrap(), rounded.forward(ids).unwrap());
            assert_eq!(difference, 0.0, "{format}");
        }
    }
}

#[test]
fn types_survive_a_directory_and_a_second_file() {
    let folder = tempfile::tempdir().unwrap();
    for (index, config) in configs().into_iter().enumerate() {
        let model = random_weights(&config);
        for format in FORMATS {
            let inside = folder.path().join(format!("{index}-{format}"));
            std::fs::create_dir(&inside).unwrap();
            let file = saved(&model, Some(format), &inside);
            let dir = inside.join("dir");
            let imported = import_model(&file, None, &dir, &Device::flex()).unwrap();
            let ours = gguf::open(&file, &Device::flex()).unwrap().model;
            assert_eq!(imported.weights, ours.weight_types());
            let kept = hugging_face::open(&dir, &Device::flex()).unwrap();
            assert_eq!(values(&kept), values(&ours), "{format}");
            let is_blocks = ![WeightFormat::F16, WeightFormat::Bf16].contains(&format);
            let expected = if is_blocks { types(&ours) } else { Vec::new() };
            assert_eq!(types(&kept), expected, "{format}");
            // Without a type, an export has the blocks of the model.
            let again = inside.join("again.gguf");
            let exported = export_model(&file, Target::Gguf, None, &again, &Device::flex()).unwrap();
            assert_eq!(exported.tensor_type, ours.weight_types());
            let second = gguf::open(&again, &Device::flex()).unwrap().model;
            assert_eq!(types(&second), types(&ours), "{format}");
            assert_eq!(values(&second), values(&ours), "{format}");
            // So has one of a directory, which opens 16-bit floats in single precision.
            let third = inside.join("third.gguf");
            export_model(&dir, Target::Gguf, None, &third, &Device::flex()).unwrap();
            let third = gguf::open(&third, &Device::flex()).unwrap().model;
            assert_eq!(types(&third), types(&ours), "{format}");
            assert_eq!(values(&third), values(&ours), "{format}");
            let [copy, imported] = ["copy", "imported"].map(|name| inside.join(name));
            export_model(&dir, Target::HuggingFace, None, &copy, &Device::flex()).unwrap();
            import_model(&dir, None, &imported, &Device::flex()).unwrap();
            for other in [copy, imported] {
                let [ours, theirs] = [&dir, &other].map(|dir| hugging_face::stored_halves(dir).unwrap());
                assert_eq!(ours, (!is_blocks).then_some(format));
                assert_eq!(theirs, ours);
                let [ours, theirs] = [&dir, &other].map(|dir| std::fs::read(dir.join("model.safetensors")).unwrap());
                assert!(theirs == ours, "{format}");
            }
        }
    }
}

#[test]
fn an_import_can_unpack_or_round_again() {
    let folder = tempfile::tempdir().unwrap();
    let model = random_weights(&configs()[1]);
    let file = saved(&model, Some(WeightFormat::Q8_0), folder.path());
    for (format, types) in [(WeightFormat::F32, "F32"), (WeightFormat::Q4_0, "Q4_0, Q6_K")] {
        let out = folder.path().join(format!("as-{format}"));
        let imported = import_model_as(&file, None, Some(format), &out, &Device::flex()).unwrap();
        assert_eq!(imported.weights, types);
        let opened = hugging_face::open(&out, &Device::flex()).unwrap();
        assert_eq!(opened.weight_types(), imported.weights);
    }
}

#[test]
fn a_file_and_its_directory_open_by_one_function() {
    let folder = tempfile::tempdir().unwrap();
    let model = random_weights(&configs()[0]);
    let file = saved(&model, Some(WeightFormat::Q8_0), folder.path());
    let dir = folder.path().join("dir");
    import_model(&file, None, &dir, &Device::flex()).unwrap();
    let [first, second] = [&file, &dir].map(|path| open_model(path, &Device::flex()).unwrap().model);
    let ids = some_ids(1, 9, 50);
    let difference = largest_difference(first.forward(ids.clone()).unwrap(), second.forward(ids).unwrap());
    assert_eq!(difference, 0.0);
    let error = open_model(&folder.path().join("none.gguf"), &Device::flex()).unwrap_err();
    assert!(error.to_string().contains("none.gguf"), "{error}");
}

#[test]
fn a_scale_that_is_not_finite_is_refused_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let model = random_weights(&configs()[0]);
    for format in [WeightFormat::F16, WeightFormat::Q8_0, WeightFormat::Q4KM] {
        let path = saved(&model, Some(format), folder.path());
        let whole = std::fs::read(&path).unwrap();
        // Sets each aligned half of the last tensors, so that some is a scale of a matrix.
        let mut refused = 0;
        for at in (whole.len() - 4096..whole.len()).step_by(64) {
            let mut bytes = whole.clone();
            bytes[at..at + 64].iter_mut().for_each(|byte| *byte = 0xff);
            match gguf::from_bytes(&path, &bytes, &Device::flex()) {
                Ok(contents) => {
                    assert!(
                        values(&contents.model).iter().all(|value| value.is_finite()),
                        "{format}"
                    );
                }
                Err(error) => {
                    assert!(error.to_string().contains("tensor `"), "{error}");
                    refused += 1;
                }
            }
        }
        assert!(refused > 0, "{format}");
    }
}
