//! Texts that share a row are computed as if each were alone.

use taal_model::Initialization;

use super::super::*;
use crate::size;

const TEXTS: [&[i32]; 4] = [&[3, 1, 4, 1, 5], &[9, 2, 6], &[5, 3, 5, 8, 9, 7, 9], &[3]];

fn logits(model: &Transformer, ids: &[i32], segments: Option<&Segments>) -> Vec<f32> {
    let ids = Tensor::<2, Int>::from_data(TensorData::new(ids.to_vec(), [1, ids.len()]), &model.device());
    let options = ForwardOptions {
        segments,
        ..ForwardOptions::default()
    };
    let hidden = model.forward_with(ids, options).unwrap().hidden;
    model.logits(hidden).into_data().iter::<f32>().collect()
}

/// All families of positions and masks: each text has the same logits alone and in a shared row.
#[test]
fn report_18_a_text_does_not_see_its_neighbors_in_a_row() {
    let device = Device::flex();
    let large = Initialization {
        std: 0.2,
        ..Initialization::default()
    };
    let configs = [
        TransformerConfig::gpt2(size(11, 32, 2, 2, 16)),
        TransformerConfig::llama(size(11, 32, 2, 2, 16)),
        TransformerConfig::qwen3(size(11, 32, 2, 2, 16)),
        TransformerConfig::bert(size(11, 32, 2, 2, 16)),
        TransformerConfig::lstm(size(11, 32, 2, 1, 16)),
        TransformerConfig {
            window: Some(3),
            ..TransformerConfig::llama(size(11, 32, 2, 2, 16))
        },
        TransformerConfig {
            window: Some(3),
            ..TransformerConfig::bert(size(11, 32, 2, 2, 16))
        },
        TransformerConfig {
            position: PositionKind::Alibi,
            ..TransformerConfig::gpt2(size(11, 32, 2, 2, 16))
        },
        TransformerConfig {
            position: PositionKind::Sinusoidal,
            ..TransformerConfig::gpt2(size(11, 32, 2, 2, 16))
        },
    ];
    for config in configs {
        let model = config.init_with(7, large, &device).unwrap();
        for order in [[0, 1, 2, 3], [2, 3, 0, 1], [1, 0, 3, 2]] {
            let (mut row, mut starts) = (Vec::new(), Vec::new());
            for text in order {
                starts.resize(starts.len() + TEXTS[text].len(), row.len() as i32);
                row.extend_from_slice(TEXTS[text]);
            }
            let segments = Segments::new(&starts, [1, row.len()]);
            let packed = logits(&model, &row, Some(&segments));
            let alone: Vec<f32> = order
                .iter()
                .flat_map(|text| logits(&model, TEXTS[*text], None))
                .collect();
            for (found, expected) in packed.iter().zip(&alone) {
                assert!(
                    (found - expected).abs() < 1e-6,
                    "{found} instead of {expected}: {config:?}"
                );
            }
            let seen = logits(&model, &row, None);
            assert!(
                seen.iter().zip(&alone).any(|(a, b)| (a - b).abs() > 1e-4),
                "without segments the neighbors matter: {config:?}"
            );
        }
    }
}

#[test]
fn report_18_segments_of_other_lengths_are_refused() {
    let model = TransformerConfig::gpt2(size(11, 32, 1, 2, 16))
        .init(7, &Device::flex())
        .unwrap();
    let ids = Tensor::<2, Int>::from_data(TensorData::new(vec![1, 2, 3], [1, 3]), &model.device());
    let segments = Segments::new(&[0, 0], [1, 2]);
    let options = ForwardOptions {
        segments: Some(&segments),
        ..ForwardOptions::default()
    };
    let error = model.forward_with(ids, options).unwrap_err().to_string();
    assert!(error.contains("1 rows of 2 tokens"), "{error}");
}
