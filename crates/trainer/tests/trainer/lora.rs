//! Runs that train an adapter, or only a part of a model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use taal_data::Batch;
use taal_inference::LanguageModel;
use taal_model::hugging_face::{self, Base, Family, Lora};
use taal_model::{ModelSize, TransformerConfig, parameters};
use taal_store::ErrorKind;
use taal_trainer::{AdamW, Learner, MixedPrecision, Optimizer, Outcome, RecipeText, Trainer};

use crate::finished;
use crate::watchers::StopAfter;

const BASE: &str = r#"
seed = 3
[data]
files = ["TEXT"]
[tokenizer]
kind = "char"
vocab_size = 100
[model]
preset = "qwen3"
n_layers = 2
n_heads = 2
n_kv_heads = 1
d_model = 16
[train]
steps = 4
batch_size = 3
block_size = 8
[eval]
every = 4
"#;

/// Dropout, accumulation and several epochs: everything that could differ after a resume.
const TUNED: &str = r#"
seed = 4
[data]
files = ["TEXT"]
[model]
dropout = 0.1
[train]
init_from = "BASE"
steps = 12
batch_size = 3
block_size = 8
accumulation = 2
lr = 1e-2
clip_norm = 1.0
[lora]
rank = 2
alpha = 5
dropout = 0.2
[eval]
every = 4
[checkpoint]
every = 3
keep = 20
[sample]
prompts = ["de "]
max_tokens = 8
"#;

struct Place(tempfile::TempDir);

impl Place {
    /// With a trained base model.
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let text = "de kat zat op de mat en de hond zat op de kat; ".repeat(20);
        std::fs::write(place.path("text.txt"), text).unwrap();
        finished(place.trainer("base", BASE).run());
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn trainer<'a>(&self, run: &str, recipe: &str) -> Trainer<'a> {
        let recipe = recipe
            .replace("TEXT", &self.path("text.txt").display().to_string())
            .replace("BASE", &self.path("base").display().to_string());
        Trainer::new(RecipeText::new("tiny", recipe), self.path(run))
    }

    /// The tensors of a checkpoint, or of the best model.
    fn weights(&self, model: &str) -> Vec<u8> {
        std::fs::read(self.path(model).join("adapter_model.safetensors")).unwrap()
    }
}

#[test]
fn a_resumed_run_of_an_adapter_ends_with_the_same_bits() {
    let place = Place::new();
    let whole = finished(place.trainer("whole", TUNED).run());
    let mut stop = StopAfter::step(5);
    let stopped = place.trainer("stopped", TUNED).progress(&mut stop).run().unwrap();
    assert!(matches!(stopped, Outcome::Interrupted(_)));
    let resumed = finished(place.trainer("stopped", TUNED).resume().run());
    let last = |run: &str| place.weights(&format!("{run}/checkpoints/step-00000012/model"));
    assert!(last("stopped") == last("whole"));
    assert_eq!(resumed.train_loss, whole.train_loss);
    assert_eq!(resumed.val_loss, whole.val_loss);
    // It learned something, or the comparison would say nothing.
    assert!(last("whole") != place.weights("whole/checkpoints/step-00000003/model"));
}

#[test]
fn an_adapter_run_is_opened_in_the_place_of_a_model_and_writes_samples_with_it() {
    let place = Place::new();
    let report = finished(place.trainer("tuned", TUNED).run());
    assert_eq!(report.samples.len(), 1);
    assert_eq!(report.samples[0].error, None);
    let dir = place.path("tuned/model");
    assert!(hugging_face::is_adapter_dir(&dir) && !dir.join("model.safetensors").exists());
    let opened = LanguageModel::open(&place.path("tuned"), &Device::flex()).unwrap();
    assert!(opened.tokenizer.is_some() && !opened.model.has_adapter());
    let base = LanguageModel::open(&place.path("base"), &Device::flex()).unwrap();
    let values = |model: &LanguageModel| {
        let mut all = BTreeMap::new();
        parameters::read(&model.model, |name, _, values| {
            all.insert(name.to_owned(), values);
        });
        all
    };
    for (name, value) in values(&opened) {
        let is_adapted = name.contains("attention.qkv") || name.contains("output") || name.contains("feed_forward.");
        let is_equal = values(&base)[&name] == value;
        assert_eq!(is_equal, !is_adapted, "{name}");
    }
}

#[test]
fn a_run_does_not_continue_on_another_base() {
    let place = Place::new();
    let mut stop = StopAfter::step(5);
    let stopped = place.trainer("tuned", TUNED).progress(&mut stop).run().unwrap();
    assert!(matches!(stopped, Outcome::Interrupted(_)));
    let base = taal_inference::model_dir(&place.path("base")).unwrap();
    let before = hugging_face::weights_hash(&base).unwrap();
    let weights = base.join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    let now = hugging_face::weights_hash(&base).unwrap();
    let error = place.trainer("tuned", TUNED).resume().run().unwrap_err();
    let said = error.to_string();
    assert!(said.contains(&before) && said.contains(&now), "{said}");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[test]
fn keys_of_an_adapter_that_do_not_fit_are_refused_before_anything_is_written() {
    let place = Place::new();
    for (set, expected) in [
        ("lora.rank=12", "lora.rank: expected 1..=8"),
        ("lora.targets=[\"c_attn\"]", "lora.targets: c_attn is no linear layer"),
        ("train.optimizer=muon", "train.optimizer: Muon trains the matrices"),
        ("train.freeze=[\"head\"]", "train.freeze: with lora.rank"),
    ] {
        let error = place.trainer("refused", TUNED).set(set).run().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
        assert!(error.to_string().contains(expected), "{set}: {error}");
        assert!(!place.path("refused/recipe.resolved.toml").exists(), "{set}");
    }
    let alone = BASE.to_string() + "[lora]\nalpha = 4\n";
    let error = place.trainer("refused", &alone).run().unwrap_err();
    assert!(
        error.to_string().contains("lora: it has no effect without lora.rank"),
        "{error}"
    );
    let error = place.trainer("refused", BASE).set("lora.rank=2").run().unwrap_err();
    assert!(error.to_string().contains("set train.init_from"), "{error}");
}

#[test]
fn frozen_parameters_keep_their_bits_and_the_others_learn() {
    let place = Place::new();
    let full = TUNED.replace("[lora]\nrank = 2\nalpha = 5\ndropout = 0.2\n", "");
    let frozen = place
        .trainer("frozen", &full)
        .set("train.freeze=[\"token_embedding\", \"blocks.0\"]");
    finished(frozen.run());
    let open = |dir: &Path| {
        let mut all = BTreeMap::new();
        let model = hugging_face::open(dir, &Device::flex()).unwrap();
        parameters::read(&model, |name, _, values| {
            all.insert(name.to_owned(), values);
        });
        all
    };
    let (before, after) = (open(&place.path("base/model")), open(&place.path("frozen/model")));
    for (name, value) in &after {
        let is_frozen = name.starts_with("token_embedding.") || name.starts_with("blocks.0.");
        assert_eq!(before[name] == *value, is_frozen, "{name}");
    }
    let moments = std::fs::read(place.path("frozen/checkpoints/step-00000012/optimizer.safetensors")).unwrap();
    let moments = safetensors::SafeTensors::deserialize(&moments).unwrap();
    assert!(
        moments
            .names()
            .iter()
            .all(|name| !name.starts_with("blocks.0.") && !name.starts_with("token_"))
    );
    for (set, expected) in [
        (
            "train.freeze=[\"block.0\"]",
            "no parameter's name begins with \"block.0\"",
        ),
        (
            "train.freeze=[\"token_embedding\", \"blocks\", \"final_norm\", \"head\"]",
            "nothing to train",
        ),
    ] {
        let error = place.trainer("refused", &full).set(set).run().unwrap_err();
        assert!(error.to_string().contains(expected), "{set}: {error}");
    }
}

/// Gradients and moments of rank 8 in all linear layers of a model of four blocks of 128, in numbers.
#[test]
fn gradients_and_moments_of_an_adapter_are_a_tenth_of_the_whole_models_and_no_other_is_computed() {
    let config = TransformerConfig::gpt2(ModelSize {
        vocab_size: 65,
        max_seq_len: 64,
        n_layers: 4,
        n_heads: 4,
        d_model: 128,
    });
    let device = Device::flex().autodiff();
    let batch = Batch {
        batch_size: 2,
        seq_len: 8,
        inputs: (0..16).collect(),
        targets: (1..17).collect(),
        text_starts: None,
        source: None,
    };
    let numbers = |is_adapter: bool| {
        let mut model = config.init(1, &device).unwrap();
        if is_adapter {
            let lora = Lora {
                rank: 8,
                alpha: 16.0,
                is_rslora: false,
                dropout: 0.0,
                targets: Vec::new(),
                modules_to_save: Vec::new(),
            };
            model = model.with_lora(&lora, Family::Gpt2, 1).unwrap().with_adapters_only();
        }
        let mut learner = Learner {
            model,
            optimizer: Optimizer::new(AdamW::default(), None),
            clip_norm: None,
            precision: MixedPrecision::default(),
        };
        let gradients = learner.gradients(&batch).unwrap();
        learner.step(std::slice::from_ref(&batch), &[0], 1.0).unwrap();
        let is_of_adapter = |name: &str| name.contains(".lora_");
        assert_eq!(
            gradients.iter().all(|gradient| is_of_adapter(&gradient.name)),
            is_adapter
        );
        assert_eq!(
            learner.optimizer.moments().all(|(name, _)| is_of_adapter(name)),
            is_adapter
        );
        let gradients: usize = gradients.iter().map(|gradient| gradient.values.len()).sum();
        let moments: usize = learner.optimizer.moments().map(|(_, moment)| moment.dims()[0]).sum();
        gradients + moments
    };
    let (adapter, full) = (numbers(true), numbers(false));
    assert!(10 * adapter <= full, "{adapter} of {full}");
}

#[test]
fn an_adapter_is_trained_on_quantized_weights_which_stay_as_they_are() {
    let place = Place::new();
    let base = LanguageModel::open(&place.path("base"), &Device::flex()).unwrap();
    // Wide enough for blocks of 32.
    let wide = BASE.replace("d_model = 16", "d_model = 32\nd_ff = 64\nhead_dim = 16");
    finished(place.trainer("wide", &wide).run());
    let wide = LanguageModel::open(&place.path("wide"), &Device::flex()).unwrap();
    let rounded = wide.with_weights("q8_0".parse().unwrap()).unwrap();
    let tokenizer = base.tokenizer.as_ref().unwrap().to_json();
    let companions = hugging_face::Companions {
        tokenizer_json: Some(&tokenizer),
        ..Default::default()
    };
    hugging_face::save(&rounded.model, &place.path("rounded"), companions).unwrap();
    let before = Base::open(&place.path("rounded")).unwrap();
    let tuned = TUNED.replace("BASE", &place.path("rounded").display().to_string());
    let report = finished(place.trainer("tuned", &tuned).run());
    // Training and validation compute the same as with the decoded weights.
    let decoded = rounded.with_weights("f32".parse().unwrap()).unwrap();
    hugging_face::save(&decoded.model, &place.path("decoded"), companions).unwrap();
    let of_decoded = TUNED.replace("BASE", &place.path("decoded").display().to_string());
    let expected = finished(place.trainer("of decoded", &of_decoded).run());
    let [found, expected] = [&report, &expected].map(|report| report.val_loss.unwrap());
    assert!((found - expected).abs() < 1e-5 * expected, "{found} {expected}");
    assert_eq!(Base::open(&place.path("rounded")).unwrap(), before);
    assert!(LanguageModel::open(&place.path("tuned"), &Device::flex()).is_ok());
    let without = tuned.replace("[lora]\nrank = 2\nalpha = 5\ndropout = 0.2\n", "");
    let error = place.trainer("refused", &without).run().unwrap_err();
    assert!(
        error.to_string().contains("quantized") && error.to_string().contains("lora.rank"),
        "{error}"
    );
}

/// Two tokens that the base lacks, of which one is in the text.
const ADDED: &str = "tokenizer.added_tokens=[\"<|im_end|>\", \"<|im_start|>\"]";

fn with_new_tokens() -> Place {
    let place = Place::new();
    let text = "de kat zat op de mat<|im_end|>en de hond zat op de kat; ".repeat(20);
    std::fs::write(place.path("text.txt"), text).unwrap();
    place
}

#[test]
fn new_tokens_are_trained_whole_with_an_adapter_and_resume_with_the_same_bits() {
    let place = with_new_tokens();
    let base = LanguageModel::open(&place.path("base"), &Device::flex()).unwrap();
    let tokens = base.model.config().vocab_size;
    finished(place.trainer("whole", TUNED).set(ADDED).run());
    let mut stop = StopAfter::step(5);
    let stopped = place.trainer("stopped", TUNED).set(ADDED).progress(&mut stop).run();
    assert!(matches!(stopped.unwrap(), Outcome::Interrupted(_)));
    finished(place.trainer("stopped", TUNED).set(ADDED).resume().run());
    let last = |run: &str| place.weights(&format!("{run}/checkpoints/step-00000012/model"));
    assert!(last("stopped") == last("whole"));

    let dir = place.path("whole/model");
    let info = hugging_face::open_adapter_info(&dir).unwrap();
    let names = hugging_face::token_modules(base.model.config(), Family::Qwen3);
    assert_eq!(info.lora.modules_to_save, names);
    let opened = LanguageModel::open(&place.path("whole"), &Device::flex()).unwrap();
    let config = opened.model.config();
    assert_eq!(config.vocab_size, tokens + 2);
    let ids = opened.tokenizer.as_ref().unwrap().encode("de<|im_end|>").unwrap();
    assert_eq!(ids[2..], [tokens as u32]);
    // The new rows began alike, and one of them was read and predicted.
    let mut rows = Vec::new();
    parameters::read(&opened.model, |name, _, values| {
        if name == "token_embedding.weight" {
            rows = values.chunks_exact(config.d_model).map(<[f32]>::to_vec).collect();
        }
    });
    assert!(rows.len() == tokens + 2 && rows[tokens] != rows[tokens + 1]);
}

#[test]
fn new_tokens_are_trained_with_the_whole_model_where_there_is_no_adapter() {
    let place = with_new_tokens();
    let (start, rest) = TUNED.split_once("[lora]").unwrap();
    let whole = format!("{start}{}", &rest[rest.find("[eval]").unwrap()..]);
    let base = LanguageModel::open(&place.path("base"), &Device::flex()).unwrap();
    finished(place.trainer("full", &whole).set(ADDED).run());
    let opened = LanguageModel::open(&place.path("full"), &Device::flex()).unwrap();
    let (before, after) = (base.model.config().vocab_size, opened.model.config().vocab_size);
    assert_eq!(after, before + 2);
    assert_eq!(opened.tokenizer.as_ref().unwrap().vocab_size(), after);
    for (recipe, set, words) in [
        (BASE, ADDED, "adds to the tokenizer of train.init_from"),
        (TUNED, "tokenizer.added_tokens=[]", "got an empty one or none"),
        (TUNED, "tokenizer.kind=\"bpe\"", "brings its own tokenizer"),
    ] {
        let error = place.trainer("refused", recipe).set(set).run().unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(error.kind(), ErrorKind::Usage);
    }
    // The adapter would be on a layer that is trained whole.
    let error = place
        .trainer("refused", TUNED)
        .set(ADDED)
        .set("lora.targets=[\"lm_head\"]")
        .run()
        .unwrap_err();
    let is_tied = base.model.config().tie_embeddings;
    let word = if is_tied { "no linear layer" } else { "is trained whole" };
    assert!(error.to_string().contains(word), "{error}");
}
