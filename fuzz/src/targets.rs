//! The parsers, each as a function that returns whether it accepted the bytes.
//!
//! A panic is a finding. If a format has checksums or lengths, the bytes are tried unchanged and again with those fixed,
//! otherwise the code after them would never be reached.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use burn::tensor::Device;
use taal_data::{Conversations, Dataset, Shard};
use taal_exchange::{gguf, llama2c};
use taal_model::hugging_face;
use taal_store::{MANIFEST_NAME, Manifest, RelPath};
use taal_tokenizer::{ImportOptions, Kind, Tokenizer};
use taal_trainer::{RecipeText, TrainState, resolve};

use crate::{scratch, seeds, words};

/// A parser under test.
pub struct Target {
    /// Its name, on the command line and as a folder.
    pub name: &'static str,
    /// Runs it on an input; returns whether that was accepted.
    pub run: fn(&[u8]) -> bool,
    /// Strings that are meaningful in its format.
    pub dictionary: &'static [&'static str],
    make_seeds: fn() -> Vec<Vec<u8>>,
    seeds: OnceLock<Vec<Vec<u8>>>,
}

impl Target {
    /// A target with the function that makes its seeds.
    pub const fn new(
        name: &'static str,
        run: fn(&[u8]) -> bool,
        make_seeds: fn() -> Vec<Vec<u8>>,
        dictionary: &'static [&'static str],
    ) -> Self {
        Self {
            name,
            run,
            dictionary,
            make_seeds,
            seeds: OnceLock::new(),
        }
    }

    /// Valid inputs, from which others are mutated.
    pub fn seeds(&self) -> &[Vec<u8>] {
        self.seeds.get_or_init(self.make_seeds)
    }
}

static TARGETS: [Target; 15] = [
    Target::new("tokenizer", tokenizer, seeds::tokenizers, words::TOKENIZER_WORDS),
    Target::new("text", text, seeds::texts, words::TEXT_WORDS),
    Target::new("config", config, seeds::configs, words::CONFIG_WORDS),
    Target::new("safetensors", safetensors, seeds::weights, words::SAFETENSORS_WORDS),
    Target::new("recipe", recipe, seeds::recipes, words::RECIPE_WORDS),
    Target::new("setting", setting, seeds::settings, words::RECIPE_WORDS),
    Target::new("shard", shard, seeds::shards, &["TAALSHRD"]),
    Target::new("shard_index", shard_index, seeds::shard_indexes, words::PATH_WORDS),
    Target::new(
        "conversations",
        conversations,
        seeds::conversations,
        words::CONVERSATION_WORDS,
    ),
    Target::new("manifest", manifest, seeds::manifests, words::PATH_WORDS),
    Target::new(
        "train_state",
        train_state,
        seeds::train_states,
        &["\"step\"", "\"health\"", "\"val_loss\""],
    ),
    Target::new("path", path, seeds::paths, words::PATH_WORDS),
    Target::new(
        "tokenizer_import",
        tokenizer_import,
        seeds::foreign_tokenizers,
        words::FOREIGN_WORDS,
    ),
    Target::new("gguf", gguf, seeds::gguf_files, words::GGUF_WORDS),
    Target::new("llama2c", llama2c, seeds::llama2c_files, &["24ka", "\0\0\0\0"]),
];

/// All targets.
pub fn targets() -> &'static [Target] {
    &TARGETS
}

/// Texts for opened tokenizers.
const SAMPLE: &str = "De kat, <s> één 🦜  \n don't 123";

fn tokenizer(bytes: &[u8]) -> bool {
    Tokenizer::from_json(bytes).is_ok_and(|tokenizer| use_tokenizer(&tokenizer))
}

fn tokenizer_import(bytes: &[u8]) -> bool {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let path = folder(&FOLDER, "tokenizer_import", |_| {}).join("fuzz");
    write(&path, bytes);
    // A rank file of tests is too small to be recognized by its size.
    let options = [None, Some("gpt2".to_owned())].map(|pattern| ImportOptions { pattern });
    let mut tokenizers = options
        .iter()
        .filter_map(|options| Tokenizer::import(&path, options).ok());
    tokenizers.next().is_some_and(|tokenizer| use_tokenizer(&tokenizer))
}

fn use_tokenizer(tokenizer: &Tokenizer) -> bool {
    for text in [SAMPLE, "", "a", "\u{0}\u{301}"] {
        for ids in [tokenizer.encode(text), tokenizer.encode_with_special(text)]
            .into_iter()
            .flatten()
        {
            assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
            let _ = tokenizer.decode(&ids);
        }
    }
    // The special ids exist.
    for id in [
        tokenizer.bos_id(),
        tokenizer.eos_id(),
        tokenizer.pad_id(),
        tokenizer.unk_id(),
        tokenizer.mask_id(),
    ] {
        assert!(id.is_none_or(|id| tokenizer.id_to_token(id).is_some()));
    }
    true
}

/// Tokens up to which decoding one by one is compared with decoding all.
const MOST_STREAMED: usize = 1000;

fn text(bytes: &[u8]) -> bool {
    let Some((first, rest)) = bytes.split_first() else {
        return false;
    };
    let text = String::from_utf8_lossy(rest);
    let (kind, tokenizer) = &seeds::trained()[usize::from(*first) % seeds::trained().len()];
    let Ok(ids) = tokenizer.encode(&text) else {
        return false;
    };
    let decoded = tokenizer.decode(&ids).expect("ids that encoding gave");
    // Decoding token by token is slow, and the same for a long text.
    if ids.len() <= MOST_STREAMED {
        let mut streamed = String::new();
        let mut stream = tokenizer.decode_stream();
        for &id in &ids {
            streamed.push_str(&stream.push(id).expect("ids that encoding gave").unwrap_or_default());
        }
        streamed.push_str(&stream.finish().expect("ids that encoding gave"));
        assert_eq!(streamed, decoded, "{kind}: streamed and whole");
    }
    let has_special = ids.iter().any(|&id| tokenizer.is_special(id));
    if matches!(kind, Kind::Bpe | Kind::Unigram) && !has_special {
        assert_eq!(decoded, text, "{kind}");
    }
    true
}

fn config(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let mut models = seeds::models().iter();
    models.any(|(_, weights)| hugging_face::from_bytes(&text, weights, &Device::flex()).is_ok())
}

fn safetensors(bytes: &[u8]) -> bool {
    let open = |bytes: &[u8]| hugging_face::from_bytes(seeds::small_config(), bytes, &Device::flex()).is_ok();
    open(bytes) | seeds::with_right_lengths(bytes).is_some_and(|bytes| open(&bytes))
}

fn gguf(bytes: &[u8]) -> bool {
    let Ok(contents) = gguf::from_bytes(Path::new("fuzz.gguf"), bytes, &Device::flex()) else {
        return false;
    };
    if let Some(vocabulary) = contents.vocabulary {
        let n_tokens = vocabulary.tokens.len();
        let lists = [
            vocabulary.scores.map(|scores| scores.len()),
            vocabulary.kinds.map(|kinds| kinds.len()),
        ];
        assert!(lists.into_iter().flatten().all(|len| len == n_tokens));
    }
    true
}

fn llama2c(bytes: &[u8]) -> bool {
    let open = |bytes: &[u8]| {
        let is_accepted = llama2c::from_bytes(Path::new("fuzz.bin"), bytes, &Device::flex()).is_ok();
        assert!(!is_accepted || llama2c::is_llama2c(bytes));
        is_accepted
    };
    let mut fitted = bytes.to_vec();
    fitted.resize(seeds::llama2c_len(bytes), 0);
    open(bytes) | open(&fitted)
}

fn recipe(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    resolved(&text, &[])
}

fn setting(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let sets: Vec<String> = text.lines().map(str::to_owned).collect();
    resolved(seeds::SMALL_RECIPE, &sets)
}

fn resolved(text: &str, sets: &[String]) -> bool {
    let source = RecipeText {
        name: "fuzz".to_owned(),
        origin: "fuzz.toml".to_owned(),
        text: text.to_owned(),
    };
    let Ok(first) = resolve(&source, sets) else {
        return false;
    };
    // Accepted input is written so that it is accepted again.
    let again = RecipeText {
        text: first.text.clone(),
        ..source
    };
    let again = resolve(&again, &[]).unwrap_or_else(|error| panic!("{error} in\n{}", first.text));
    assert_eq!(again.recipe, first.recipe);
    true
}

/// A folder for one target, created once with the files of `fill`.
fn folder(cell: &'static OnceLock<PathBuf>, name: &str, fill: impl FnOnce(&Path)) -> &'static Path {
    cell.get_or_init(|| {
        let folder = scratch::folder(name);
        fill(&folder);
        folder
    })
}

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("a file in the temporary folder");
}

fn shard(bytes: &[u8]) -> bool {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let path = folder(&FOLDER, "shard", |_| {}).join("fuzz.shard");
    let open = |bytes: &[u8]| {
        write(&path, bytes);
        let Ok(shard) = Shard::open(&path, None) else {
            return false;
        };
        let is_sound = shard.verify().is_ok();
        let vocab_size = shard.origin().vocab_size;
        assert!(!is_sound || shard.ids().all(|id| (id as usize) < vocab_size));
        assert_eq!(shard.ids().len() as u64, shard.tokens());
        is_sound
    };
    open(bytes) | seeds::with_right_shard_checksums(bytes).is_some_and(|bytes| open(&bytes))
}

fn shard_index(bytes: &[u8]) -> bool {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = folder(&FOLDER, "shard_index", seeds::build_shard_folder);
    let open = |bytes: &[u8]| {
        write(&folder.join("index.json"), bytes);
        let Ok(dataset) = Dataset::open(folder) else {
            return false;
        };
        let _ = dataset.train.read(0, 100);
        dataset.validation.iter().for_each(|source| drop(source.read(0, 100)));
        true
    };
    open(bytes) | seeds::with_right_index_checksum(bytes).is_some_and(|bytes| open(&bytes))
}

fn conversations(bytes: &[u8]) -> bool {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = folder(&FOLDER, "conversations", |_| {});
    let open = |name| conversations_in(folder.join(name), bytes);
    open("fuzz.jsonl") | open("fuzz.csv") | open("fuzz.tsv")
}

fn conversations_in(path: PathBuf, bytes: &[u8]) -> bool {
    write(&path, bytes);
    let _ = taal_data::has_conversations(&path);
    let paths = [path];
    let _ = taal_data::conversation_texts(&paths, &taal_data::ConversationOptions::default());
    let (_, tokenizer) = &seeds::trained()[bytes.len() % seeds::trained().len()];
    let mut is_accepted = false;
    for (block_size, validation_fraction) in [(8, 0.0), (64, 0.3)] {
        let Ok(opened) = Conversations::open(tokenizer, &paths, block_size, validation_fraction) else {
            continue;
        };
        is_accepted = true;
        for source in std::iter::once(&opened.train).chain(&opened.validation) {
            for batch in source.in_order(3) {
                assert_eq!(batch.inputs.len(), batch.targets.len());
                assert_eq!(batch.inputs.len() % block_size, 0);
            }
        }
    }
    is_accepted
}

fn manifest(bytes: &[u8]) -> bool {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = folder(&FOLDER, "manifest", seeds::fill_manifest_folder);
    let open = |bytes: &[u8]| {
        write(&folder.join(MANIFEST_NAME), bytes);
        Manifest::verify(folder).is_ok()
    };
    open(bytes) | seeds::with_right_manifest_hash(bytes).is_some_and(|bytes| open(&bytes))
}

fn train_state(bytes: &[u8]) -> bool {
    let Ok(state) = serde_json::from_slice::<TrainState>(bytes) else {
        return false;
    };
    serde_json::to_vec(&state).is_ok()
}

fn path(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Ok(path) = RelPath::parse(&text) else {
        return false;
    };
    let root = Path::new("root");
    let joined = path.join(root);
    let below = joined.strip_prefix(root).expect("a path below its root");
    assert_eq!(below.components().count(), text.split('/').count());
    assert!(
        below
            .components()
            .all(|component| matches!(component, std::path::Component::Normal(_)))
    );
    assert!(!text.contains(['\0', '\\', ':']));
    true
}
