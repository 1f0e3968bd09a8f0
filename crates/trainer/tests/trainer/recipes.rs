//! Recipes: a recipe is resolved, or refused with a message that names the key.

use taal_store::ErrorKind;
use taal_trainer::{RecipeText, TokenizerRecipe, embedded, resolve};

use crate::sets;

fn typed(text: &str) -> RecipeText {
    crate::typed("test", text)
}

const SMALL: &str = "[data]\ncorpus = \"names\"\n[tokenizer]\nkind = \"char\"\nvocab_size = 100\n";

#[test]
fn every_embedded_recipe_resolves_and_has_a_description() {
    let mut names = Vec::new();
    for (name, _) in embedded() {
        let resolved = resolve(&RecipeText::find(name).unwrap(), &[]).unwrap();
        assert_eq!(resolved.recipe.name, name);
        assert!(!resolved.recipe.description.is_empty(), "{name}");
        names.push(name);
    }
    assert_eq!(
        names,
        [
            "shakespeare-char",
            "nanogpt-cpu",
            "dutch-bpe",
            "english-bpe",
            "names",
            "dutch-mlm",
            "english-mlm",
            "chat",
            "chat-tldr",
            "speedrun",
            "translate-en-nl",
            "translate-nl-en"
        ]
    );
}

#[test]
fn embedded_recipes_stay_inside_published_families() {
    for (name, _) in embedded() {
        let resolved = resolve(&RecipeText::find(name).unwrap(), &[]).unwrap();
        let taal_trainer::ModelRecipe::New { config, .. } = &resolved.recipe.model else {
            panic!("{name}")
        };
        let obstacle = taal_model::hugging_face::Family::obstacle(config);
        assert_eq!(obstacle, None, "{name}");
    }
}

#[test]
fn the_nanogpt_recipe_is_nanogpts_to_the_letter() {
    let recipe = resolve(&RecipeText::find("nanogpt-cpu").unwrap(), &[]).unwrap().recipe;
    let taal_trainer::ModelRecipe::New { config, init } = &recipe.model else {
        panic!()
    };
    assert_eq!(
        [config.n_layers, config.n_heads, config.d_model, config.max_seq_len],
        [4, 4, 128, 64]
    );
    assert!(config.tie_embeddings && !config.norm_bias && !config.qkv_bias && !config.ffn_bias);
    assert_eq!((config.dropout, init.std, init.residual_std), (0.0, 0.02, None));
    let train = &recipe.train;
    assert_eq!(
        (train.steps, train.batch_size, train.block_size, train.clip_norm),
        (2000, 12, 64, Some(1.0))
    );
    assert_eq!(
        (train.schedule.lr, train.schedule.min_lr, train.schedule.warmup_steps),
        (1e-3, 1e-4, 100)
    );
    assert_eq!(
        (
            train.adamw.beta1,
            train.adamw.beta2,
            train.adamw.weight_decay,
            train.adamw.eps
        ),
        (0.9, 0.99, 0.1, 1e-8)
    );
    assert!(train.muon.is_none());
}

#[test]
fn a_resolved_recipe_resolves_to_itself() {
    for (name, _) in embedded() {
        let first = resolve(&RecipeText::find(name).unwrap(), &sets(&["train.lr=5e-4"])).unwrap();
        let again = resolve(&typed(&first.text), &[]).unwrap();
        assert_eq!(first.recipe, again.recipe, "{name}");
    }
}

#[test]
fn settings_win_over_the_recipe_and_the_recipe_over_the_preset() {
    let text = format!("{SMALL}[model]\npreset = \"gpt2\"\nqkv_bias = false\n[train]\nsteps = 7\nlr = 0.5\n");
    let resolved = resolve(&typed(&text), &sets(&["train.steps=9", "tokenizer.kind=word"])).unwrap();
    assert_eq!(resolved.recipe.train.steps, 9);
    assert_eq!(resolved.recipe.train.schedule.lr, 0.5);
    assert!(matches!(&resolved.recipe.tokenizer, TokenizerRecipe::Train { kind, .. } if kind.to_string() == "word"));
    for line in [
        "steps = 9 # --set",
        "lr = 0.5 # recipe",
        "qkv_bias = false # recipe",
        "ffn_bias = true # preset",
        "beta1 = 0.9 # default",
        "kind = \"word\" # --set",
    ] {
        assert!(
            resolved.text.lines().any(|found| found == line),
            "{line} is not in\n{}",
            resolved.text
        );
    }
}

#[test]
fn silent_recipes_get_pytorchs_adamw() {
    let adamw = resolve(&typed(SMALL), &[]).unwrap().recipe.train.adamw;
    assert_eq!(
        (adamw.lr, adamw.beta1, adamw.beta2, adamw.eps, adamw.weight_decay),
        (1e-3, 0.9, 0.999, 1e-8, 0.01)
    );
}

#[test]
fn bad_values_are_refused_with_key_and_expectation() {
    let cases: &[(&str, &[&str])] = &[
        (
            "train.stepz=3",
            &["--set", "train.stepz: unknown key; did you mean train.steps?"],
        ),
        ("trian.steps=3", &["trian: unknown key; did you mean train.steps?"]),
        ("steps=3", &["did you mean train.steps?"]),
        ("learning_rate=3", &["did you mean train.lr?"]),
        ("data.file=a.txt", &["did you mean data.files or tokenizer.file?"]),
        ("train.lr=0,001", &["expected a number", "decimals take a point: 0.001"]),
        ("train.steps=1,000", &["expected a whole number", "leave commas out"]),
        ("train.steps=0", &["train.steps", "expected 1..=", "got 0"]),
        ("train.steps=\"many\"", &["train.steps", "many"]),
        ("train.steps=-1", &["train.steps", "-1"]),
        ("train.batch_size=0", &["train.batch_size", "expected 1..=4096, got 0"]),
        ("train.batch_size=5000", &["train.batch_size", "got 5000"]),
        ("train.lr=0.0", &["train.lr"]),
        ("train.lr=nan", &["train.lr", "NaN"]),
        ("train.min_lr=1.0", &["train.min_lr", "train.lr"]),
        ("train.schedule=\"step\"", &["train.schedule", "cosine"]),
        ("train.muon_lr=0.1", &["train.muon_lr", "muon"]),
        ("train.beta1=1.0", &["train.beta1"]),
        ("train.clip_norm=0.0", &["train.clip_norm"]),
        ("model.n_heads=3", &["model.n_heads", "d_model = 128", "got 3"]),
        ("model.n_kv_heads=3", &["model.n_kv_heads", "n_heads = 4"]),
        ("model.max_seq_len=16", &["train.block_size", "model.max_seq_len = 16"]),
        ("model.dropout=1.0", &["model.dropout"]),
        ("model.preset=\"mamba\"", &["model.preset", "mamba"]),
        ("data.corpus=\"nope\"", &["data.corpus", "tinyshakespeare", "nope"]),
        ("data.files=[]", &["--set", "data.files", "at least one"]),
        ("data.validation_fraction=2", &["data.validation_fraction"]),
        ("tokenizer.kind=\"morse\"", &["tokenizer.kind", "morse"]),
        ("eval.every=0", &["eval.every"]),
        ("checkpoint.keep=0", &["checkpoint.keep"]),
        ("no equals sign", &["--set", "key=value"]),
    ];
    for (setting, words) in cases {
        let error = resolve(&typed(SMALL), &sets(&[setting])).expect_err(setting);
        let message = error.to_string();
        assert!(
            words.iter().all(|word| message.contains(word)),
            "{setting}: \"{message}\" lacks one of {words:?}"
        );
        assert_eq!(error.kind(), ErrorKind::Usage, "{setting}");
    }
}

#[test]
fn common_slips_in_toml_are_named() {
    for (text, words) in [
        ("[train]\nlr = 0,001\n", "decimals take a point: 0.001"),
        (
            "[data]\nfiles = [\"C:\\Users\\me.txt\"]\n",
            "put the path in single quotes, or write / for \\",
        ),
        ("[tokenizer]\nkind = char\n", "texts are in quotes: \"char\""),
        (
            "[trian]\nsteps = 5\nlr = 0.1\n",
            "trian: unknown key; did you mean [train]?",
        ),
    ] {
        let message = resolve(&typed(text), &[]).unwrap_err().to_string();
        assert!(message.contains(words), "{words:?} is not in: {message}");
    }
    let plain = resolve(&typed("[data\n"), &[]).unwrap_err().to_string();
    assert!(!plain.contains(';'), "{plain}");
}

#[test]
fn a_list_that_a_shell_has_taken_the_quotes_from_is_a_list() {
    let files = |setting: &str| match resolve(&typed(SMALL), &sets(&[setting])).unwrap().recipe.data.source {
        taal_trainer::DataSource::Files(files) => files,
        other => panic!("{other:?}"),
    };
    for (setting, expected) in [
        ("data.files=book.txt", vec!["book.txt"]),
        ("data.files=[a.txt, b.txt]", vec!["a.txt", "b.txt"]),
        ("data.files=[\"a.txt\"]", vec!["a.txt"]),
        ("data.files=[\"C:\\Users\\me.txt\"]", vec!["C:\\Users\\me.txt"]),
    ] {
        let expected: Vec<std::path::PathBuf> = expected.into_iter().map(Into::into).collect();
        assert_eq!(files(setting), expected, "{setting}");
    }
}

#[test]
fn a_recipe_without_data_and_one_that_is_not_toml_say_so() {
    let message = resolve(&typed(""), &[]).unwrap_err().to_string();
    assert!(message.contains("data") && message.contains("got 0"), "{message}");
    let message = resolve(&typed("[data\n"), &[]).unwrap_err().to_string();
    assert!(message.contains("test.toml") && message.contains("line 1"), "{message}");
}

#[test]
fn an_unknown_recipe_lists_the_embedded_ones() {
    let message = RecipeText::find("shakespear").unwrap_err().to_string();
    assert!(
        message.contains("shakespear") && message.contains("nanogpt-cpu"),
        "{message}"
    );
    let message = RecipeText::find("nowhere/recipe.toml").unwrap_err().to_string();
    assert!(message.contains("nowhere/recipe.toml"), "{message}");
}

#[test]
fn added_tokens_stay_where_a_model_to_start_from_is_set() {
    let text = "[data]\ncorpus = \"names\"\n[tokenizer]\nkind = \"bpe\"\nadded_tokens = [\"<|im_end|>\"]\n";
    let recipe = RecipeText::new("tiny", text);
    let resolved = resolve(&recipe, &["train.init_from=\"runs/base\"".to_owned()]).unwrap();
    let expected = TokenizerRecipe::Extended(vec!["<|im_end|>".to_owned()]);
    assert_eq!(resolved.recipe.tokenizer, expected);
    let note = "tokenizer.kind = \"bpe\" of the recipe is left out";
    assert!(
        resolved.notes.iter().any(|found| found.starts_with(note)),
        "{:?}",
        resolved.notes
    );
    // Without one there is no tokenizer that they could be added to.
    let error = resolve(&recipe, &[]).unwrap_err().to_string();
    assert!(
        error.contains("tokenizer.added_tokens: adds to the tokenizer of train.init_from"),
        "{error}"
    );
}
