//! Texts as vectors.

use crate::size;
use taal_inference::{LanguageModel, Pooling, embed, similarity};
use taal_kernels::DeviceSpec;
use taal_model::TransformerConfig;
use taal_tokenizer::{Kind, TrainerConfig};

const TEXT: &str = "de kat zat op de mat en de hond op de bank ";

fn model(is_causal: bool) -> LanguageModel {
    let tokenizer = TrainerConfig::new(Kind::WordPiece, 80).train([TEXT.repeat(9)]).unwrap();
    let config = match is_causal {
        true => TransformerConfig::llama(size(tokenizer.vocab_size(), 12, 2, 2, 16)),
        false => TransformerConfig::bert(size(tokenizer.vocab_size(), 12, 2, 2, 16)),
    };
    let model = config.init(7, &DeviceSpec::Flex.open().unwrap()).unwrap();
    LanguageModel::new(model, Some(tokenizer))
}

fn length(vector: &[f32]) -> f64 {
    vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
}

#[test]
fn a_text_is_a_vector_of_length_1_and_nearest_to_itself() {
    for is_causal in [true, false] {
        let lm = model(is_causal);
        for pooling in [Pooling::Mean, Pooling::Cls, Pooling::Last] {
            let vectors: Vec<Vec<f32>> = ["de kat zat", "de hond op", "op de mat en"]
                .iter()
                .map(|text| embed(&lm, text, pooling).unwrap())
                .collect();
            for vector in &vectors {
                assert_eq!(vector.len(), 16);
                assert!((length(vector) - 1.0).abs() < 1e-6);
            }
            assert_eq!(vectors[0], embed(&lm, "de kat zat", pooling).unwrap());
            // The first token of a causal model has not seen what follows.
            let is_blind = is_causal && pooling == Pooling::Cls;
            assert_eq!(
                similarity(&vectors[0], &vectors[1]) > 1.0 - 1e-6,
                is_blind,
                "{pooling:?} {is_causal}"
            );
        }
    }
}

#[test]
fn the_mean_of_a_long_text_is_over_windows_and_other_poolings_refuse_it() {
    let lm = model(false);
    let long = TEXT.repeat(2);
    let vector = embed(&lm, &long, Pooling::Mean).unwrap();
    assert!((length(&vector) - 1.0).abs() < 1e-6);
    for pooling in [Pooling::Cls, Pooling::Last] {
        let error = embed(&lm, &long, pooling).unwrap_err().to_string();
        assert!(error.contains("at most 10 tokens") && error.contains("mean"), "{error}");
    }
    let error = embed(&lm, "", Pooling::Mean).unwrap_err().to_string();
    assert!(error.contains("at least one token"), "{error}");
    let bare = LanguageModel::new(model(true).model, None);
    assert!(
        embed(&bare, "de", Pooling::Mean)
            .unwrap_err()
            .to_string()
            .contains("tokenizer.json")
    );
}

#[test]
fn pooled_states_are_the_models_states() {
    let lm = model(true);
    let tokenizer = lm.tokenizer.as_ref().unwrap();
    let ids = tokenizer.encode_with_special("de kat zat").unwrap();
    let inputs = burn::tensor::Tensor::<2, burn::tensor::Int>::from_data(
        burn::tensor::TensorData::new(ids.iter().map(|id| *id as i32).collect::<Vec<_>>(), [1, ids.len()]),
        &lm.model.device(),
    );
    let hidden = lm
        .model
        .forward_with(inputs, taal_model::ForwardOptions::default())
        .unwrap()
        .hidden;
    let last: Vec<f32> = taal_model::parameters::to_vec(hidden.narrow(1, ids.len() - 1, 1));
    let norm = last.iter().map(|x| x * x).sum::<f32>().sqrt();
    let expected: Vec<f32> = last.iter().map(|x| x / norm).collect();
    let found = embed(&lm, "de kat zat", Pooling::Last).unwrap();
    assert!((similarity(&found, &expected) - 1.0).abs() < 1e-6);
}
