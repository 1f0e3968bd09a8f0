//! The recurrent network compared with the transformer.

use taal_experiments::paradigm::{ParadigmFigures, ParadigmOptions, compare};
use taal_trainer::{DeviceSpec, RecipeText, Silent, TrainError, resolve};

const RECIPE: &str = r#"
[data]
corpus = "names"
[tokenizer]
kind = "char"
vocab_size = 30
[model]
preset = "llama"
n_layers = 2
n_heads = 2
d_model = 16
[train]
steps = 50
batch_size = 4
block_size = 12
warmup_steps = 5
lr = 1e-2
"#;

fn compared(sets: &[&str], options: &ParadigmOptions) -> Result<ParadigmFigures, TrainError> {
    let source = RecipeText {
        name: "tiny".to_string(),
        origin: "tiny.toml".to_string(),
        text: RECIPE.to_string(),
    };
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_string()).collect();
    compare(&resolve(&source, &sets)?.recipe, DeviceSpec::Flex, options, &mut Silent)
}

#[test]
fn both_networks_get_equal_tokens_and_every_measurement() {
    let options = ParadigmOptions {
        seconds: 0.1,
        rates: vec![1.0, 2.0],
        lengths: vec![8, 16],
        tokens_per_step: 32,
        copy_steps: 3,
        copy_lengths: vec![2, 5],
    };
    let figures = compared(&[], &options).unwrap();
    let [transformer, lstm] = figures.networks.as_slice() else {
        panic!("two networks")
    };
    assert_eq!((transformer.name, lstm.name), ("transformer", "lstm"));
    assert_eq!(transformer.after_equal_tokens.tokens, lstm.after_equal_tokens.tokens);
    let slower = transformer.after_equal_time.tokens.min(lstm.after_equal_time.tokens);
    assert_eq!(transformer.after_equal_tokens.tokens, slower);
    let ratio = lstm.params as f64 / transformer.params as f64;
    assert!((0.8..1.25).contains(&ratio), "{ratio}");
    for network in &figures.networks {
        let lengths: Vec<usize> = network.speed.iter().map(|speed| speed.length).collect();
        assert_eq!(lengths, [8, 16]);
        assert_eq!(network.speed[0].batch_size, 4);
        let places: Vec<[usize; 2]> = network.by_position.iter().map(|at| [at.first, at.last]).collect();
        assert_eq!(places, [[1, 1], [2, 2], [3, 4], [5, 8], [9, 12]]);
        // Both losses are means over the same windows.
        let weighted: f64 = network
            .by_position
            .iter()
            .map(|at| at.loss * (at.last + 1 - at.first) as f64)
            .sum();
        let difference = weighted / 12.0 - network.after_equal_tokens.val_loss;
        assert!(difference.abs() < 0.02, "{difference}");
        assert!(network.copy.iter().all(|copy| (0.0..=1.0).contains(&copy.accuracy)));
    }
}

#[test]
fn a_transformer_learns_to_copy_far_above_chance() {
    let options = ParadigmOptions {
        seconds: 0.01,
        rates: vec![1.0],
        lengths: Vec::new(),
        tokens_per_step: 32,
        copy_steps: 400,
        copy_lengths: vec![1, 3],
    };
    let figures = compared(&[], &options).unwrap();
    for network in &figures.networks {
        assert!(network.copy[0].accuracy > 0.5, "{}: {:?}", network.name, network.copy);
    }
}

#[test]
fn recipes_that_cannot_be_compared_are_refused_by_key() {
    let options = ParadigmOptions::default();
    for (set, key) in [
        (["model.preset=lstm"], "model.preset"),
        (["data.validation_fraction=0.0"], "data.validation_fraction"),
        (["train.precision=bf16"], "train.precision"),
    ] {
        let options = ParadigmOptions {
            seconds: 0.01,
            lengths: Vec::new(),
            ..options.clone()
        };
        let error = compared(&set, &options).expect_err(key).to_string();
        assert!(error.contains(key), "{error}");
    }
}
