//! Weights in fewer bits: their logits, their size, and that rows of a batch are independent.

use taal_kernels::WeightType;

use super::super::*;

/// A model of a published family, wide enough for blocks of 32.
fn model_of(family: &str) -> Transformer {
    let published = config_of(family, |_| {}).unwrap();
    let config = TransformerConfig {
        d_model: 64,
        head_dim: 64 / published.n_heads,
        d_ff: 96,
        ..published
    };
    config.init(3, &Device::flex()).unwrap()
}

fn relative(found: Tensor<3>, expected: Tensor<3>) -> f32 {
    let largest: f32 = expected.clone().abs().max().into_scalar();
    largest_difference(found, expected) / largest
}

#[test]
fn logits_of_rounded_weights_are_near_those_of_the_model() {
    for family in ["gpt2", "llama-untied", "qwen3", "bert", "modernbert"] {
        let model = model_of(family);
        let ids = some_ids(2, 6, model.config().vocab_size);
        let exact = model.forward(ids.clone()).unwrap();
        // Half floats keep 11 bits, bf16 keeps 8; integers of a block 8 and 4, and activations 8.
        for (kind, tolerance) in [
            (WeightType::F16, 2e-3),
            (WeightType::Bf16, 2e-2),
            (WeightType::Q8_0, 5e-2),
            (WeightType::Q4_0, 5e-1),
        ] {
            let rounded = model.clone().with_weights(kind).unwrap();
            let difference = relative(rounded.forward(ids.clone()).unwrap(), exact.clone());
            assert!(
                0.0 < difference && difference < tolerance,
                "{family} in {kind}: {difference:e}"
            );
        }
    }
}

#[test]
fn products_of_rounded_weights_equal_those_of_their_values() {
    let model = model_of("llama-untied");
    let rounded = model.clone().with_weights(WeightType::F16).unwrap();
    // The values are read like any model's; a model with them in single precision computes the same except for the order of sums.
    let mut values = BTreeMap::new();
    parameters::read(&rounded, |name, _, numbers| {
        drop(values.insert(name.to_owned(), numbers))
    });
    let plain = parameters::replace(model, |name, _| Ok::<_, ()>(values[name].clone())).unwrap();
    let ids = some_ids(1, 8, plain.config().vocab_size);
    let difference = relative(rounded.forward(ids.clone()).unwrap(), plain.forward(ids).unwrap());
    assert!(difference < SELF_TOLERANCE, "{difference:e}");
}

#[test]
fn rounded_weights_take_the_bytes_of_their_type() {
    let model = model_of("llama-untied");
    let all = model.weight_bytes();
    assert_eq!(all, 4 * model.config().n_params());
    let half = model.clone().with_weights(WeightType::F16).unwrap().weight_bytes();
    let eight = model.clone().with_weights(WeightType::Q8_0).unwrap().weight_bytes();
    let four = model.clone().with_weights(WeightType::Q4_0).unwrap().weight_bytes();
    // 16, 8.5 and 4.5 bits per weight, next to norms in 32 and an output matrix in 8.5.
    let share = |bytes: u64| bytes as f64 / all as f64;
    assert!((0.50..0.52).contains(&share(half)), "{}", share(half));
    assert!((0.26..0.29).contains(&share(eight)), "{}", share(eight));
    assert!((0.15..0.20).contains(&share(four)), "{}", share(four));
}

#[test]
fn weights_that_cannot_be_rounded_are_refused_by_name() {
    let config = TransformerConfig {
        d_ff: 100,
        ..model_of("llama-untied").config().clone()
    };
    let model = config.init(3, &Device::flex()).unwrap();
    let message = model.with_weights(WeightType::Q8_0).unwrap_err().to_string();
    assert!(
        message.starts_with("blocks.0.feed_forward.down: a width of 100 is not divisible by 32"),
        "{message}"
    );
    let large = parameters::replace(model_of("gpt2"), |name, shape| {
        let value = if name == "token_embedding.weight" { 1e9 } else { 0.1 };
        Ok::<_, ()>(vec![value; shape.iter().product()])
    });
    let message = large.unwrap().with_weights(WeightType::F16).unwrap_err().to_string();
    assert!(
        message.starts_with("token_embedding: a weight is too large for F16"),
        "{message}"
    );
}

#[test]
fn the_loss_of_rounded_weights_is_that_of_their_logits() {
    let model = model_of("gpt2").with_weights(WeightType::Q8_0).unwrap();
    let ids = some_ids(2, 6, model.config().vocab_size);
    let hidden = model
        .forward_with(ids.clone(), ForwardOptions::default())
        .unwrap()
        .hidden;
    let targets = ids.reshape([12]);
    let loss: f32 = model.loss(hidden.clone(), targets.clone(), -1).into_scalar();
    let logits = model.logits(hidden).reshape([12, model.config().vocab_size]);
    let expected: f32 = taal_kernels::cross_entropy(logits, targets, -1).into_scalar();
    assert_eq!(loss.to_bits(), expected.to_bits());
}
