//! The recurrent network against its definition.

use taal_model::Mixer;

use super::super::*;
use crate::size;

/// The parameters by name, widened.
fn weights(model: &Transformer) -> BTreeMap<String, Vec<f64>> {
    let mut found = BTreeMap::new();
    parameters::read(model, |name, _, values| {
        found.insert(name.to_string(), values.into_iter().map(f64::from).collect());
    });
    found
}

/// `x W + b`, with `W` as `[in, out]`.
fn product(x: &[f64], weights: &BTreeMap<String, Vec<f64>>, name: &str) -> Vec<f64> {
    let (weight, bias) = (&weights[&format!("{name}.weight")], &weights[&format!("{name}.bias")]);
    let width = bias.len();
    (0..width)
        .map(|column| {
            bias[column]
                + x.iter()
                    .enumerate()
                    .map(|(row, x)| x * weight[row * width + column])
                    .sum::<f64>()
        })
        .collect()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The logits by Hochreiter and Schmidhuber's equations with a forget gate (Gers et al. 2000), in 64 bits.
fn by_definition(model: &Transformer, ids: &[i32]) -> Vec<f64> {
    let config = model.config();
    let weights = weights(model);
    let table: Vec<&[f64]> = weights["token_embedding.weight"].chunks_exact(config.d_model).collect();
    let zeros = vec![0.0; config.d_model];
    let mut states = vec![(zeros.clone(), zeros); config.n_layers];
    let mut logits = Vec::new();
    for &id in ids {
        let mut x = table[id as usize].to_vec();
        for (layer, (cell, hidden)) in states.iter_mut().enumerate() {
            let gate = |name: &str| -> Vec<f64> {
                let of_input = product(
                    &x,
                    &weights,
                    &format!("recurrent.layers.{layer}.{name}.input_transform"),
                );
                let of_state = product(
                    hidden,
                    &weights,
                    &format!("recurrent.layers.{layer}.{name}.hidden_transform"),
                );
                of_input.iter().zip(of_state).map(|(a, b)| a + b).collect()
            };
            let [input, forget, output, candidate] =
                ["input_gate", "forget_gate", "output_gate", "cell_gate"].map(gate);
            for i in 0..cell.len() {
                cell[i] = sigmoid(forget[i]) * cell[i] + sigmoid(input[i]) * candidate[i].tanh();
                hidden[i] = sigmoid(output[i]) * cell[i].tanh();
            }
            x.clone_from(hidden);
        }
        logits.extend(
            table
                .iter()
                .map(|row| row.iter().zip(&x).map(|(a, b)| a * b).sum::<f64>()),
        );
    }
    logits
}

fn model() -> Transformer {
    // Large weights, so that gates open and close.
    let how = taal_model::Initialization {
        std: 0.8,
        residual_std: None,
    };
    let drawn = TransformerConfig::lstm(size(11, 8, 2, 1, 6))
        .init_with(5, how, &Device::flex())
        .unwrap();
    parameters::replace(drawn, |name, shape| -> Result<Vec<f32>, std::convert::Infallible> {
        let key = taal_kernels::random::key(9, 0, name);
        let noise = taal_kernels::random::normal([shape.iter().product()], 0.8, key, &Device::flex());
        Ok(parameters::to_vec(noise))
    })
    .unwrap()
}

#[test]
fn logits_are_those_of_the_equations() {
    let model = model();
    let ids = [3, 1, 4, 1, 5, 9, 2, 6];
    let row = Tensor::<2, Int>::from_data(TensorData::new(ids.to_vec(), [1, ids.len()]), &Device::flex());
    let found = parameters::to_vec(model.forward(row).unwrap());
    for (found, expected) in found.iter().zip(by_definition(&model, &ids)) {
        assert!((f64::from(*found) - expected).abs() < 1e-5, "{found} {expected}");
    }
}

#[test]
fn the_state_continues_beyond_the_training_length() {
    let model = model();
    let ids: Vec<i32> = (0..40).map(|i| i * 7 % 11).collect();
    assert!(ids.len() > model.config().max_seq_len);
    let expected = by_definition(&model, &ids);
    let mut cache = model.new_cache(1, 1);
    let mut last = Vec::new();
    for id in &ids {
        let options = ForwardOptions {
            cache: Some(&mut cache),
            ..ForwardOptions::default()
        };
        let row = Tensor::<2, Int>::from_data(TensorData::new(vec![*id], [1, 1]), &Device::flex());
        last = parameters::to_vec(model.logits(model.forward_with(row, options).unwrap().hidden));
    }
    assert_eq!(cache.len(), ids.len());
    for (found, expected) in last.iter().zip(&expected[expected.len() - 11..]) {
        assert!((f64::from(*found) - expected).abs() < 1e-5, "{found} {expected}");
    }
    cache.reset();
    assert!(cache.is_empty());
}

#[test]
fn it_initially_keeps_its_state_and_its_draw_is_a_function_of_the_seed() {
    let config = TransformerConfig::lstm(size(50, 16, 2, 1, 64));
    let weights = |seed| weights(&config.init(seed, &Device::flex()).unwrap());
    let drawn = weights(1);
    assert_eq!(drawn, weights(1));
    assert_ne!(drawn, weights(2));
    for (name, values) in &drawn {
        let is_forget = name.ends_with("forget_gate.input_transform.bias");
        if name.ends_with("bias") {
            assert!(
                values.iter().all(|value| *value == f64::from(u8::from(is_forget))),
                "{name}"
            );
        } else if name.starts_with("recurrent.") {
            let std = (values.iter().map(|value| value * value).sum::<f64>() / values.len() as f64).sqrt();
            assert!((std * (3.0 * 64.0_f64).sqrt() - 1.0).abs() < 0.05, "{name}: {std}");
        }
    }
}

#[test]
fn dropout_is_between_the_layers_and_is_off_without_a_key() {
    let model = model().with_dropout(0.5);
    let run = |dropout_key| {
        let options = ForwardOptions {
            dropout_key,
            ..ForwardOptions::default()
        };
        parameters::to_vec(model.forward_with(some_ids(1, 7, 11), options).unwrap().hidden)
    };
    assert_eq!(run(None), run(None));
    assert_eq!(run(Some(1)), run(Some(1)));
    assert_ne!(run(Some(1)), run(Some(2)));
    let dropped = run(Some(1)).into_iter().filter(|value| *value == 0.0).count();
    assert!((8..=34).contains(&dropped), "{dropped} of 42");
}

#[test]
fn no_other_family_has_it_and_unused_fields_are_refused_by_name() {
    let config = TransformerConfig::lstm(size(50, 16, 2, 1, 32));
    assert_eq!(config.mixer, Mixer::Lstm);
    assert_eq!(Family::of(&config), Family::Taal);
    assert_eq!(Family::obstacle(&config), Some("mixer"));
    let refused = [
        (
            "is_causal",
            TransformerConfig {
                is_causal: false,
                ..config.clone()
            },
        ),
        (
            "position",
            TransformerConfig {
                position: PositionKind::Rotary,
                ..config.clone()
            },
        ),
        (
            "norm_place",
            TransformerConfig {
                norm_place: NormPlace::Pre,
                ..config.clone()
            },
        ),
        (
            "window",
            TransformerConfig {
                window: Some(4),
                ..config.clone()
            },
        ),
    ];
    for (field, config) in refused {
        let error = config.init(1, &Device::flex()).expect_err(field).to_string();
        assert!(error.contains(field), "{error}");
    }
}
