//! Reports about the ids that begin and end a text, through files of other programs.

use burn::tensor::Device;
use serde_json::{Value, json};
use taal_exchange::gguf;
use taal_exchange::{Target, export_model, import_model};
use taal_inference::LanguageModel;
use taal_model::WeightFormat;

use crate::scripted::{qwen, qwen_directory, read};

#[test]
fn report_1_import_and_export_copy_the_ids() {
    let settings = json!({"eos_token_id": [258, 256], "temperature": 0.7});
    let cases: [(Value, Option<Value>); 5] = [
        (json!({"eos_token_id": 258, "bos_token_id": 7, "pad_token_id": 0}), None),
        (json!({"eos_token_id": [258, 256], "bos_token_id": null}), None),
        (json!({"eos_token_id": null, "bos_token_id": 256}), None),
        (
            json!({"eos_token_id": 258, "bos_token_id": null}),
            Some(settings.clone()),
        ),
        (json!({"bos_token_id": 999}), Some(settings)),
    ];
    for (config, generation) in cases {
        let folder = tempfile::tempdir().expect("a folder");
        let [dir, imported, exported] = ["dir", "imported", "exported"].map(|name| folder.path().join(name));
        let files: Vec<(&str, Value)> = generation
            .iter()
            .map(|value| ("generation_config.json", value.clone()))
            .collect();
        let lm = qwen_directory(&dir, config.clone(), &files, Some(&qwen()));
        import_model(&dir, None, &imported, &Device::flex()).expect("an import");
        export_model(
            &dir,
            Target::HuggingFace,
            Some(WeightFormat::F32),
            &exported,
            &Device::flex(),
        )
        .expect("an export");
        for out in [imported, exported] {
            let written = read(&out.join("config.json"));
            for (key, value) in config.as_object().expect("an object") {
                assert_eq!(&written[key], value, "{key}");
            }
            if config.get("eos_token_id").is_none() {
                assert_eq!(
                    written["eos_token_id"],
                    json!([258, 256]),
                    "the other file takes precedence"
                );
            }
            let path = out.join("generation_config.json");
            assert_eq!(path.exists(), generation.is_some());
            if let Some(generation) = &generation {
                assert_eq!(&read(&path), generation);
            }
            let again = LanguageModel::open(&out, &Device::flex()).expect("a model");
            assert_eq!((again.begin_id, &again.end_ids), (lm.begin_id, &lm.end_ids), "{config}");
        }
    }
}

#[test]
fn report_1_gguf_files_keep_the_ids_in_both_directions() {
    for (ids, kept) in [
        (json!(258), 1),
        (json!([258, 256]), 2),
        (json!([258, 256, 97]), 3),
        (json!([258, 256, 97, 98]), 3),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let [dir, file, again] = ["dir", "model.gguf", "again"].map(|name| folder.path().join(name));
        let lm = qwen_directory(
            &dir,
            json!({"eos_token_id": ids, "bos_token_id": 257}),
            &[],
            Some(&qwen()),
        );
        let notes = export_model(&dir, Target::Gguf, Some(WeightFormat::F32), &file, &Device::flex())
            .expect("an export")
            .notes;
        assert_eq!(
            notes.iter().any(|note| note.contains("id 98")),
            lm.end_ids.len() > 3,
            "{notes:?}"
        );
        let vocabulary = gguf::open(&file, &Device::flex())
            .expect("a file")
            .vocabulary
            .expect("a vocabulary");
        assert_eq!(vocabulary.bos_id, Some(257));
        assert_eq!(vocabulary.end_ids(), lm.end_ids[..kept]);
        assert_eq!(
            (vocabulary.eos_id, vocabulary.eot_id),
            (Some(258), lm.end_ids.get(1).copied())
        );
        import_model(&file, None, &again, &Device::flex()).expect("an import");
        let config = read(&again.join("config.json"));
        assert_eq!(config["bos_token_id"], 257);
        let ids = if kept == 1 {
            json!(258)
        } else {
            json!(lm.end_ids[..kept])
        };
        assert_eq!(config["eos_token_id"], ids);
        // With another tokenizer, the ids are still the model's.
        let other = folder.path().join("other");
        import_model(
            &file,
            Some(dir.join("tokenizer.json").as_path()),
            &other,
            &Device::flex(),
        )
        .expect("an import");
        assert_eq!(read(&other.join("config.json"))["eos_token_id"], ids);
    }
}
