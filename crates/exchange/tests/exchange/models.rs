//! Import and export of models: with the same tokens as the other programs, or refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde::Deserialize;
use taal_exchange::gguf::{self, TokenKind, Vocabulary};
use taal_exchange::{ExchangeError, Source, Target, TokenizerChoice, export_model, import_model};
use taal_inference::{GenerateOptions, LanguageModel, Prompt, Sampling, generate};
use taal_model::hugging_face::{self, Companions};
use taal_model::{TransformerConfig, WeightFormat, parameters};
use taal_store::ErrorKind;
use taal_tokenizer::chat::{ChatInput, Message};
use taal_tokenizer::{ImportOptions, Kind, Tokenizer, TrainerConfig};

use crate::size;
use crate::tiny;

/// llama2.c's published output at temperature 0, 256 steps.
const STORY: &str = r#"Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red ball. She wanted to play with it, but it was too high.
Lily's mom said, "Lily, let's go to the park." Lily was sad and didn't know what to do. She said, "I want to play with your ball, but I can't find it."
Lily was sad and didn't know what to do. She said, "I'm sorry, Lily. I didn't know what to do."
Lily didn't want to help her mom, so she said, "I'm sorry, mom. I didn't know what to do." Her mom said, "Don't worry, Lily. We can help you."#;

#[derive(Deserialize)]
struct Golden {
    files: BTreeMap<String, File>,
}

#[derive(Deserialize)]
struct File {
    /// Ids of each of the hard texts; `None` where a text contains a special token.
    texts: Vec<Option<Vec<u32>>>,
    greedy: Vec<Greedy>,
}

#[derive(Deserialize)]
struct Greedy {
    prompt: String,
    prompt_ids: Vec<u32>,
    new_ids: Vec<u32>,
}

#[derive(Deserialize)]
struct Texts {
    texts: Vec<String>,
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn expected() -> BTreeMap<String, File> {
    let text = std::fs::read_to_string(golden("expected.json")).expect("a golden file");
    let golden: Golden = serde_json::from_str(&text).expect("a golden file");
    golden.files
}

/// The hard texts of the tokenizer crate.
fn hard_texts() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tokenizer/tests/golden/import/expected.json");
    let texts: Texts = serde_json::from_slice(&std::fs::read(path).expect("a golden file")).expect("a golden file");
    texts.texts
}

fn import(from: &Path, tokenizer: Option<&Path>, out: &Path) -> LanguageModel {
    import_model(from, tokenizer, out, &Device::flex()).expect("an import");
    LanguageModel::open(out, &Device::flex()).expect("an imported model")
}

fn refusal(from: &Path) -> ExchangeError {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    let error = import_model(from, None, &out, &Device::flex()).expect_err("this must be refused");
    assert!(!out.exists(), "nothing is left");
    error
}

fn export(dir: &Path, target: Target, format: Option<WeightFormat>, out: &Path) -> Vec<String> {
    let exported = export_model(dir, target, format, out, &Device::flex()).expect("an export");
    exported.notes
}

fn greedy(lm: &LanguageModel, prompt: &Prompt, max_tokens: usize) -> (Vec<u32>, Option<String>) {
    let options = GenerateOptions {
        max_tokens,
        sampling: Sampling::greedy(),
        stop_at_eos: false,
        ..GenerateOptions::default()
    };
    let generation =
        generate(lm, prompt, &options, &mut |_| std::ops::ControlFlow::Continue(())).expect("a continuation");
    (generation.token_ids, generation.text)
}

fn weights(lm: &LanguageModel) -> Vec<u32> {
    let mut all = Vec::new();
    parameters::read(&lm.model, |_, _, values| {
        all.extend(values.iter().map(|value| value.to_bits()))
    });
    all
}

#[test]
fn gguf_models_have_llama_cpps_ids_and_continuations() {
    let folder = tempfile::tempdir().expect("a folder");
    let texts = hard_texts();
    for (name, expected) in expected() {
        let lm = import(&golden(&format!("{name}.gguf")), None, &folder.path().join(&name));
        let tokenizer = lm.tokenizer.as_ref().expect("a tokenizer");
        assert_eq!(expected.texts.len(), texts.len());
        for (text, ids) in texts.iter().zip(&expected.texts) {
            if let Some(ids) = ids {
                assert_eq!(&tokenizer.encode(text).expect("ids"), ids, "{name}: {text:?}");
            }
        }
        for case in expected.greedy {
            let prompt = Prompt::from(case.prompt.as_str());
            assert_eq!(
                lm.prompt_ids(&prompt).expect("ids"),
                case.prompt_ids,
                "{name}: {:?}",
                case.prompt
            );
            let (ids, _) = greedy(&lm, &prompt, case.new_ids.len());
            assert_eq!(ids, case.new_ids, "{name}: {:?}", case.prompt);
        }
    }
}

#[test]
fn an_imported_gguf_file_is_exported_unchanged() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in expected().into_keys() {
        let [first, second] = ["first", "second"].map(|part| folder.path().join(format!("{name}-{part}")));
        let lm = import(&golden(&format!("{name}.gguf")), None, &first);
        let file = folder.path().join(format!("{name}.gguf"));
        export(&first, Target::Gguf, Some(WeightFormat::F32), &file);
        let again = import(&file, None, &second);
        assert_eq!(weights(&again), weights(&lm), "{name}");
        let [ours, theirs] = [&again, &lm].map(|lm| lm.tokenizer.as_ref().expect("a tokenizer").hash());
        assert_eq!(ours, theirs, "{name}: one tokenizer");
        let vocabulary = |path: &Path| {
            gguf::open(path, &Device::flex())
                .expect("a file")
                .vocabulary
                .expect("one")
        };
        let [ours, theirs] = [vocabulary(&file), vocabulary(&golden(&format!("{name}.gguf")))];
        assert_eq!(
            (ours.tokens, ours.kinds, ours.merges),
            (theirs.tokens, theirs.kinds, theirs.merges),
            "{name}"
        );
    }
}

#[test]
fn stories260k_continues_as_in_llama2_c() {
    let folder = tempfile::tempdir().expect("a folder");
    let stories = golden("stories260k");
    for (tokenizer, out) in [("tok512.bin", "a"), ("tok512.model", "b")] {
        let out = folder.path().join(out);
        let lm = import(&stories.join("stories260K.bin"), Some(&stories.join(tokenizer)), &out);
        for prompt in ["Once upon a time", "Once upon"] {
            let (_, text) = greedy(&lm, &Prompt::from(prompt), 256);
            let story = format!("{prompt}{}", text.expect("a text"));
            assert_eq!(&story[..STORY.len()], STORY, "{tokenizer}");
        }
        let file = folder.path().join(format!("{tokenizer}.out"));
        export(&out, Target::Llama2c, Some(WeightFormat::F32), &file);
        let gguf = folder.path().join(format!("{tokenizer}.gguf"));
        let notes = export(&out, Target::Gguf, Some(WeightFormat::F32), &gguf);
        assert_eq!(
            notes.iter().any(|note| note.contains("extra spaces")),
            tokenizer == "tok512.model"
        );
        let again = import(&gguf, None, &folder.path().join(format!("{tokenizer}.again")));
        let prompt = Prompt::from("Once upon a time");
        assert_eq!(greedy(&again, &prompt, 99), greedy(&lm, &prompt, 99), "{tokenizer}");
        // Apart from the weights, only unused tables may differ.
        let [ours, theirs] = [&file, &stories.join("stories260K.bin")].map(|path| std::fs::read(path).expect("a file"));
        let weights = 28 + 4 * 260_032;
        assert_eq!((ours.len(), &ours[..weights]), (theirs.len(), &theirs[..weights]));
    }
}

/// A directory with a model that fits a tokenizer.
fn save_with(tokenizer: &Tokenizer, dir: &Path) {
    let config = TransformerConfig {
        tie_embeddings: false,
        ..TransformerConfig::llama(size(tokenizer.vocab_size() + 3, 64, 2, 2, 32))
    };
    let json = tokenizer.to_json();
    let companions = Companions {
        tokenizer_json: Some(&json),
        bos_token_id: tokenizer.bos_id(),
        eos_token_id: tokenizer.eos_id(),
        ..Companions::default()
    };
    hugging_face::save(&tiny::model(&config, 5), dir, companions).expect("a saved model");
}

fn trained(kind: Kind, texts: &[&str]) -> Tokenizer {
    TrainerConfig::new(kind, 300).train(texts).expect("a tokenizer")
}

#[test]
fn taals_own_tokenizers_come_back_from_gguf_with_equal_ids() {
    let folder = tempfile::tempdir().expect("a folder");
    let corpus = "De kat krabt de krullen van de trap. Don't!\n";
    let cases = [
        ("bytes", trained(Kind::Bpe, &[corpus, "één idee 🦜"]), hard_texts()),
        (
            "ascii",
            trained(Kind::Char, &[corpus]),
            vec![corpus.to_owned(), " de  kat\n\nrap ".to_owned()],
        ),
        (
            "letters",
            trained(Kind::Char, &[corpus, "één idee"]),
            vec![corpus.to_owned(), " één  kat\n\n ".to_owned()],
        ),
    ];
    for (name, tokenizer, texts) in cases {
        let dir = folder.path().join(name);
        save_with(&tokenizer, &dir);
        let lm = LanguageModel::open(&dir, &Device::flex()).expect("a model");
        for format in [WeightFormat::F32, WeightFormat::F16, WeightFormat::Q8_0] {
            let file = folder.path().join(format!("{name}-{format}.gguf"));
            export(&dir, Target::Gguf, Some(format), &file);
            let again = import(&file, None, &folder.path().join(format!("{name}-{format}")));
            let back = again.tokenizer.as_ref().expect("a tokenizer");
            for text in &texts {
                let ids = tokenizer.encode(text).expect("ids");
                assert_eq!(back.encode(text).expect("ids"), ids, "{name}: {text:?}");
                assert_eq!(
                    back.decode(&ids).expect("text"),
                    tokenizer.decode(&ids).expect("text"),
                    "{name}"
                );
            }
            let prompt = Prompt::from(texts[0].as_str());
            let [before, after] = [&lm, &again].map(|lm| lm.prompt_ids(&prompt).expect("ids"));
            assert_eq!(before, after, "{name}");
            if format == WeightFormat::F32 {
                assert_eq!(greedy(&again, &prompt, 30).0, greedy(&lm, &prompt, 30).0, "{name}");
            }
        }
    }
}

/// A SentencePiece tokenizer as a `tokenizer.json`, with these tokens after the unknown one.
fn sentence_piece(tokens: &[&str], merges: &[[&str; 2]]) -> Tokenizer {
    let vocab: serde_json::Map<String, serde_json::Value> = ["<unk>"]
        .iter()
        .chain(tokens)
        .enumerate()
        .map(|(id, token)| ((*token).to_owned(), id.into()))
        .collect();
    let file = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "post_processor": null, "pre_tokenizer": null,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"},
        "decoder": {"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": true, "byte_fallback": false, "ignore_merges": false, "vocab": vocab, "merges": merges},
    });
    Tokenizer::from_json(file.to_string().as_bytes()).expect("a tokenizer")
}

#[test]
fn scores_follow_the_order_of_merges_and_are_equal_for_interleaved_merges() {
    let folder = tempfile::tempdir().expect("a folder");
    let tokens = ["a", "b", "c", "d", "\u{2581}", "ab", "bc", "cd", "abc", "bcd"];
    let all = [
        ["b", "c"],
        ["a", "b"],
        ["c", "d"],
        ["a", "bc"],
        ["b", "cd"],
        ["ab", "c"],
        ["bc", "d"],
    ];
    let dir = folder.path().join("dir");
    save_with(&sentence_piece(&tokens, &all), &dir);
    let file = folder.path().join("model.gguf");
    export(&dir, Target::Gguf, Some(WeightFormat::F32), &file);
    let vocabulary = gguf::open(&file, &Device::flex())
        .expect("a file")
        .vocabulary
        .expect("a vocabulary");
    let scores = vocabulary.scores.expect("scores");
    let score = |token: &str| {
        scores[vocabulary
            .tokens
            .iter()
            .position(|other| other == token)
            .expect("a token")]
    };
    assert!(score("bc") > score("ab") && score("ab") > score("cd") && score("cd") > score("abc"));
    assert_eq!(score("abc"), score("bcd"));

    // llama.cpp would merge any two adjacent tokens whose text is a token.
    let lacking = folder.path().join("lacking");
    save_with(&sentence_piece(&tokens, &all[..6]), &lacking);
    let out = folder.path().join("lacking.gguf");
    let error =
        export_model(&lacking, Target::Gguf, Some(WeightFormat::F32), &out, &Device::flex()).expect_err("a refusal");
    let message = error.to_string();
    assert!(
        message.contains("model.merges") && message.contains("\"bc\" with \"d\""),
        "{message}"
    );
}

#[test]
fn tokenizers_that_llama_cpp_does_not_support_are_refused_and_leave_no_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let corpus = "De kat krabt de krullen van de trap.";
    for kind in [Kind::WordPiece, Kind::Unigram, Kind::Word] {
        let dir = folder.path().join(kind.to_string());
        save_with(&trained(kind, &[corpus]), &dir);
        let file = folder.path().join("new/folders/model.gguf");
        let error =
            export_model(&dir, Target::Gguf, Some(WeightFormat::F32), &file, &Device::flex()).expect_err("a refusal");
        assert!(matches!(error, ExchangeError::Inexpressible { .. }), "{kind}: {error}");
        let message = error.to_string();
        assert!(
            message.contains("tokenizer.json") && message.contains("llama.cpp"),
            "{kind}: {message}"
        );
        assert!(!folder.path().join("new").exists(), "{kind}");
    }
}

#[test]
fn an_export_or_import_that_fails_leaves_no_new_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("gpt2");
    let config = TransformerConfig::gpt2(size(23, 13, 1, 2, 16));
    hugging_face::save(&tiny::model(&config, 5), &dir, Companions::default()).expect("a saved model");
    // A module that Taal lacks, which is seen when the model's other files are copied; llama2.c has no learned positions.
    let modules = r#"[{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Dense"}]"#;
    std::fs::write(dir.join("modules.json"), modules).expect("a file");
    let (new, device) = (folder.path().join("new"), Device::flex());
    let out = new.join("folders/out");
    for target in [Target::Llama2c, Target::HuggingFace] {
        export_model(&dir, target, None, &out, &device).expect_err("a refusal");
        assert!(!new.exists(), "{target}");
    }
    import_model(&dir, TokenizerChoice::Without, &out, &device).expect_err("a refusal");
    assert!(!new.exists(), "import");
    // What succeeds makes them.
    export_model(&dir, Target::Gguf, None, &out, &device).expect("a file");
    assert!(out.exists());
}

#[test]
fn hugging_face_models_are_imported_from_directory_and_file_and_exported() {
    let folder = tempfile::tempdir().expect("a folder");
    let lm = tiny::char_model();
    let dir = folder.path().join("dir");
    let json = lm.tokenizer.as_ref().expect("a tokenizer").to_json();
    let companions = Companions {
        tokenizer_json: Some(&json),
        ..Companions::default()
    };
    hugging_face::save(&lm.model, &dir, companions).expect("a saved model");
    let whole = import(&dir, None, &folder.path().join("whole"));
    assert!(whole.tokenizer.is_some());
    let file = import(
        &dir.join("model.safetensors"),
        Some(&dir.join("tokenizer.json")),
        &folder.path().join("file"),
    );
    let out = folder.path().join("out");
    export(&dir, Target::HuggingFace, Some(WeightFormat::F32), &out);
    let out = LanguageModel::open(&out, &Device::flex()).expect("a model");
    for other in [&whole, &file, &out] {
        assert_eq!(weights(other), weights(&lm));
        assert_eq!(
            greedy(other, &Prompt::from("abc"), 9),
            greedy(&lm, &Prompt::from("abc"), 9)
        );
    }
}

#[test]
fn other_files_are_refused_with_a_list_of_formats() {
    let folder = tempfile::tempdir().expect("a folder");
    let cases: [(&str, &[u8], &[&str]); 6] = [
        ("weights.pt", b"anything", &["weights.pt", "pickle", "save_pretrained"]),
        (
            "pytorch_model.bin",
            b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.",
            &["pytorch_model.bin", "pickle"],
        ),
        ("model", b"PK\x03\x04archive/data.pkl", &["model", "pickle"]),
        (
            "notes.txt",
            b"a text",
            &["notes.txt", "GGUF", "llama2.c", "safetensors"],
        ),
        (
            "ggml-model.dat",
            b"tjgg\x03\0\0\0",
            &["GGML", "convert_llama_ggml_to_gguf.py"],
        ),
        ("empty.gguf", b"", &["empty.gguf"]),
    ];
    for (name, bytes, words) in cases {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("a file");
        let error = refusal(&path);
        let message = error.to_string();
        assert!(words.iter().all(|word| message.contains(word)), "{name}: {message}");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{name}: {message}");
    }
    assert_eq!(refusal(&folder.path().join("absent.gguf")).kind(), ErrorKind::Usage);
}

#[test]
fn nothing_is_overwritten_and_unsupported_types_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    std::fs::write(&out, b"mine").expect("a file");
    let from = golden("byte-level.gguf");
    let error = import_model(&from, None, &out, &Device::flex()).expect_err("a refusal");
    assert_eq!(error.kind(), ErrorKind::Usage);
    let dir = folder.path().join("dir");
    import(&from, None, &dir);
    for target in [Target::HuggingFace, Target::Gguf, Target::Llama2c] {
        let error = export_model(&dir, target, Some(WeightFormat::F32), &out, &Device::flex()).expect_err("a refusal");
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    }
    assert_eq!(std::fs::read(&out).expect("a file"), b"mine");
    let out = folder.path().join("other");
    let q8_0 = Some(WeightFormat::Q8_0);
    let error = export_model(&dir, Target::Llama2c, q8_0, &out, &Device::flex()).expect_err("a refusal");
    assert!(error.to_string().contains("expected f32"), "{error}");
    assert!(!out.exists());
}

/// A GGUF file with a vocabulary, changed.
fn with_vocabulary(folder: &Path, change: impl FnOnce(&mut Vocabulary)) -> PathBuf {
    let mut vocabulary = Vocabulary {
        model: "llama".to_owned(),
        pre: Some("default".to_owned()),
        tokens: ["<unk>", "<s>", "</s>", "\u{2581}", "a", "\u{2581}a"]
            .map(str::to_owned)
            .to_vec(),
        scores: Some(vec![0.0, 0.0, 0.0, -2.0, -3.0, -1.0]),
        kinds: Some([2, 3, 3, 1, 1, 1].map(kind).to_vec()),
        bos_id: Some(1),
        eos_id: Some(2),
        unk_id: Some(0),
        ..Vocabulary::default()
    };
    change(&mut vocabulary);
    let config = TransformerConfig::llama(size(600, 32, 1, 2, 32));
    let path = folder.join("model.gguf");
    let _ = std::fs::remove_file(&path);
    gguf::save(
        &tiny::model(&config, 1),
        Some(&vocabulary),
        Some(WeightFormat::F32),
        "name",
        &path,
    )
    .expect("a file");
    path
}

fn kind(number: u8) -> TokenKind {
    match number {
        1 => TokenKind::Normal,
        2 => TokenKind::Unknown,
        _ => TokenKind::Control,
    }
}

#[test]
fn r6_vocabularies_with_another_meaning_are_refused_by_their_key() {
    let folder = tempfile::tempdir().expect("a folder");
    type Change = fn(&mut Vocabulary);
    let cases: [(Change, &[&str]); 7] = [
        (
            |v| (v.model, v.pre, v.merges) = ("gpt2".to_owned(), None, None),
            &["tokenizer.ggml.merges", "missing"],
        ),
        (|v| v.model = "bert".to_owned(), &["tokenizer.ggml.model", "bert"]),
        (|v| v.scores = None, &["tokenizer.ggml.scores"]),
        (
            |v| v.tokens[5] = "a".to_owned(),
            &["tokenizer.ggml.tokens", "entries 4 and 5"],
        ),
        (
            |v| (v.model, v.pre) = ("gpt2".to_owned(), Some("deepseek".to_owned())),
            &["tokenizer.ggml.pre", "deepseek"],
        ),
        (
            |v| (v.model, v.pre, v.merges) = ("gpt2".to_owned(), None, Some(vec!["ab".to_owned()])),
            &["tokenizer.ggml.merges", "entry 0"],
        ),
        (
            |v| {
                v.tokens.extend((2..500).map(|n| "a".repeat(n)));
                v.scores = Some(vec![0.0; v.tokens.len()]);
                v.kinds = Some(vec![TokenKind::Normal; v.tokens.len()]);
            },
            &["tokenizer.ggml.tokens", "pairs"],
        ),
    ];
    for (change, words) in cases {
        let error = refusal(&with_vocabulary(folder.path(), change));
        let message = error.to_string();
        assert!(
            words.iter().all(|word| message.contains(word)),
            "{message} lacks one of {words:?}"
        );
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{message}");
        assert!(matches!(error, ExchangeError::ForeignTokenizer { .. }), "{message}");
        assert!(message.contains("model.gguf"), "{message}");
    }
    // With another tokenizer it can be imported.
    let path = with_vocabulary(folder.path(), |v| v.model = "bert".to_owned());
    let lm = import(
        &path,
        Some(&golden("stories260k/tok512.bin")),
        &folder.path().join("out"),
    );
    assert_eq!(lm.tokenizer.expect("a tokenizer").vocab_size(), 512);
}

#[test]
fn a_tokenizer_with_more_tokens_than_the_model_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.gguf");
    let config = TransformerConfig::llama(size(100, 32, 1, 2, 32));
    gguf::save(&tiny::model(&config, 1), None, Some(WeightFormat::F32), "name", &path).expect("a file");
    let out = folder.path().join("out");
    let tokenizer = golden("stories260k/tok512.bin");
    let error = import_model(&path, Some(tokenizer.as_path()), &out, &Device::flex()).expect_err("a refusal");
    let message = error.to_string();
    assert!(
        message.contains("tok512.bin") && message.contains("512") && message.contains("100"),
        "{message}"
    );
    assert!(!out.exists());
    let imported = import_model(&path, None, &out, &Device::flex()).expect("an import");
    assert_eq!((imported.source, imported.tokenizer_vocab_size), (Source::Gguf, None));
}

#[test]
fn chat_templates_and_ends_of_texts_survive_every_format_that_holds_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = |name: &str| folder.path().join(name);
    let dir = place("own");
    save_with(&trained(Kind::Bpe, &["een kat"]), &dir);
    let source = "{{ eos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}";
    let config = serde_json::json!({"eos_token": "<|endoftext|>", "model_max_length": 64, "chat_template": [
        {"name": "default", "template": source},
        {"name": "tool_use", "template": "{{ tools | tojson }}"},
    ]});
    std::fs::write(dir.join("tokenizer_config.json"), config.to_string()).expect("written");
    let lm = LanguageModel::open(&dir, &Device::flex()).expect("a model");
    let text = |lm: &LanguageModel| {
        let input = ChatInput {
            messages: vec![Message::new("user", "dag")],
            ..ChatInput::default()
        };
        let template = lm.chat_template().expect("a template");
        template.render(&input).expect("a text").text
    };
    assert_eq!(text(&lm), "<|endoftext|>user: dag\n");
    assert_eq!(lm.end_ids.len(), 1);

    export(&dir, Target::HuggingFace, Some(WeightFormat::F32), &place("copy"));
    export(&dir, Target::Gguf, Some(WeightFormat::F32), &place("model.gguf"));
    let copy = import(&place("copy"), None, &place("again"));
    let back = import(&place("model.gguf"), None, &place("back"));
    for other in [&copy, &back] {
        assert_eq!(other.chat.templates(), lm.chat.templates());
        assert_eq!(text(other), text(&lm));
        assert_eq!(other.end_ids, lm.end_ids);
    }
    let kept = std::fs::read_to_string(place("back").join("chat_template.jinja")).expect("a template");
    assert_eq!(kept, source);
}

#[test]
fn a_template_with_the_name_of_another_place_is_left_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = with_vocabulary(folder.path(), |vocabulary| {
        vocabulary.chat_templates = vec![
            ("default".to_owned(), "een".to_owned()),
            ("../../out".to_owned(), "twee".to_owned()),
        ];
    });
    let lm = import(&file, None, &folder.path().join("out"));
    assert_eq!(lm.chat.templates(), [("default".to_owned(), "een".to_owned())]);
}

#[test]
fn an_exported_encoder_decoder_has_the_tokens_around_a_text_in_its_tokenizers_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let (dir, out) = (folder.path().join("dir"), folder.path().join("out"));
    let tokenizer = trained(Kind::Bpe, &["the cat sat on the mat"]);
    let config = TransformerConfig {
        decoder_start: tokenizer.eos_id(),
        ..TransformerConfig::marian(size(tokenizer.vocab_size(), 32, 1, 2, 16))
    };
    let json = tokenizer.to_json();
    let companions = Companions {
        tokenizer_json: Some(&json),
        bos_token_id: tokenizer.bos_id(),
        eos_token_id: tokenizer.eos_id(),
        ..Companions::default()
    };
    hugging_face::save(&tiny::model(&config, 5), &dir, companions).expect("a saved model");
    let end = tokenizer.eos_id().expect("an end");
    let inner = tokenizer.encode("the cat").expect("ids");
    let ids = |dir: &Path| {
        Tokenizer::open(&dir.join("tokenizer.json"))
            .expect("a tokenizer")
            .template()
    };
    assert!(ids(&dir).is_empty(), "as translators of before have it");
    export(&dir, Target::HuggingFace, None, &out);
    let framed = ids(&out).around(&inner);
    assert_eq!(framed, tokenizer.frame().around(&inner));
    assert_eq!(framed.last(), Some(&end));
    // A causal model's file stays as it is.
    let (dir, out) = (folder.path().join("causal"), folder.path().join("causal-out"));
    save_with(&tokenizer, &dir);
    export(&dir, Target::HuggingFace, None, &out);
    assert!(ids(&out).is_empty());
}

#[test]
fn marians_two_models_of_pieces_are_kept_by_import_and_export() {
    let folder = tempfile::tempdir().expect("a folder");
    let [dir, out, again] = ["marian", "imported", "exported"].map(|name| folder.path().join(name));
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tokenizer/tests/golden/import/marian");
    let tokenizer = Tokenizer::import(&files, &ImportOptions::default()).expect("a tokenizer");
    let config = TransformerConfig {
        decoder_start: tokenizer.pad_id(),
        ..TransformerConfig::marian(size(tokenizer.vocab_size(), 32, 1, 2, 32))
    };
    hugging_face::save(&tiny::model(&config, 5), &dir, Companions::default()).expect("a saved model");
    for name in ["source.spm", "target.spm", "vocab.json"] {
        std::fs::copy(files.join(name), dir.join(name)).expect("a copy");
    }
    let lm = import(&dir, None, &out);
    export(&out, Target::HuggingFace, Some(WeightFormat::Q8_0), &again);
    let exported = LanguageModel::open(&again, &Device::flex()).expect("a model");
    let text = "de andere kinderen";
    for lm in [&lm, &exported] {
        let found = lm.tokenizer.as_ref().expect("a tokenizer");
        assert_eq!(found.encode(text).expect("ids"), tokenizer.encode(text).expect("ids"));
        assert_eq!(
            found.of_targets().encode(text).expect("ids"),
            tokenizer.of_targets().encode(text).expect("ids")
        );
    }
    let [first, second] = [&out, &again].map(|dir| std::fs::read(dir.join("target_tokenizer.json")).expect("a file"));
    assert!(first == second);
}
