//! One summation order in inference: a text has the same logits, to the bit, alone, in a batch, with a cache, and in pieces of any length.

use taal_model::{CacheType, Initialization, WeightFormat};

use super::super::*;

/// Tokens of the longest text: more than a block of queries, and than the rows that the product of few rows takes.
const SEQ: usize = 75;

/// The families that differ in what they compute, wide enough for blocks of 32.
fn families(max_seq_len: usize) -> Vec<(&'static str, TransformerConfig)> {
    let published = ["gpt2", "llama-untied", "mistral", "qwen3", "bert", "modernbert"].map(|name| {
        let config = config_of(name, |_| {}).unwrap();
        (name, config)
    });
    let llama = published[1].1.clone();
    let others = [
        (
            "alibi",
            TransformerConfig {
                position: PositionKind::Alibi,
                ..llama.clone()
            },
        ),
        (
            "soft caps",
            TransformerConfig {
                attention_softcap: Some(5.0),
                logit_softcap: Some(3.0),
                tie_embeddings: true,
                ..llama.clone()
            },
        ),
        (
            "lstm",
            TransformerConfig::lstm(size(llama.vocab_size, max_seq_len, 2, 1, 64)),
        ),
    ];
    let wide = |(name, config): (&'static str, TransformerConfig)| {
        let config = TransformerConfig {
            d_model: 64,
            head_dim: 64 / config.n_heads.max(1),
            d_ff: 96,
            max_seq_len,
            ..config
        };
        (name, config)
    };
    published.into_iter().chain(others).map(wide).collect()
}

/// With weights that are large enough for all numbers to matter.
fn initialized(config: &TransformerConfig) -> Transformer {
    let large = Initialization {
        std: 0.2,
        ..Initialization::default()
    };
    config.init_with(7, large, &Device::flex()).unwrap()
}

/// Each family with each type of weights that it takes.
fn models() -> impl Iterator<Item = (String, Transformer)> {
    families(SEQ).into_iter().flat_map(|(name, config)| {
        let model = initialized(&config);
        [
            WeightFormat::F32,
            WeightFormat::F16,
            WeightFormat::Q8_0,
            WeightFormat::Q4_0,
        ]
        .map(|kind| {
            let model = model.clone().with_weights(kind).unwrap();
            (format!("{name} in {kind}"), model)
        })
    })
}

/// The ids of a text.
fn text(model: &Transformer, len: usize, seed: usize) -> Vec<i32> {
    let vocab = model.config().vocab_size;
    (0..len)
        .map(|i| ((i * 7919 + i * i % 13 + 31 * seed) % vocab) as i32)
        .collect()
}

fn rows_of(rows: &[Vec<i32>]) -> Tensor<2, Int> {
    let shape = [rows.len(), rows[0].len()];
    Tensor::from_data(TensorData::new(rows.concat(), shape), &Device::flex())
}

fn bits(x: Tensor<3>) -> Vec<u32> {
    x.into_data().iter::<f32>().map(f32::to_bits).collect()
}

fn alone(model: &Transformer, ids: &[i32]) -> Vec<u32> {
    bits(model.forward(rows_of(&[ids.to_vec()])).unwrap())
}

#[test]
fn texts_padded_on_either_side_have_the_bits_they_have_alone() {
    for (name, model) in models() {
        let texts = [SEQ, 7, 50, 1].map(|len| text(&model, len, len));
        let expected = texts.each_ref().map(|ids| alone(&model, ids));
        for is_left in [true, false] {
            let place = |ids: &Vec<i32>| match is_left {
                true => SEQ - ids.len()..SEQ,
                false => 0..ids.len(),
            };
            let padded = texts.each_ref().map(|ids| {
                let mut padded = vec![1; SEQ];
                padded[place(ids)].copy_from_slice(ids);
                padded
            });
            let segments = Segments::of_padded(&texts.each_ref().map(place), SEQ);
            let options = ForwardOptions {
                segments: Some(&segments),
                ..ForwardOptions::default()
            };
            let hidden = model.forward_with(rows_of(&padded), options).unwrap().hidden;
            let logits = model.logits(hidden);
            for (row, ids) in texts.iter().enumerate() {
                let own = logits.clone().narrow(0, row, 1).narrow(1, place(ids).start, ids.len());
                assert!(
                    bits(own) == expected[row],
                    "{name}: {} tokens, left {is_left}",
                    ids.len()
                );
            }
        }
    }
}

/// The logits of a text that is read in steps with a cache.
fn in_steps(model: &Transformer, ids: &[i32], steps: &[usize]) -> Vec<u32> {
    let mut cache = model.new_cache(1, ids.len());
    let mut done = 0;
    let logits_of = |len: &usize| {
        let options = ForwardOptions {
            cache: Some(&mut cache),
            ..ForwardOptions::default()
        };
        let new = rows_of(&[ids[done..done + len].to_vec()]);
        done += len;
        bits(model.logits(model.forward_with(new, options).unwrap().hidden))
    };
    steps.iter().flat_map(logits_of).collect()
}

/// A cache in half precision rounds keys and values as they are stored, so all divisions differ from the text without a cache, and by the same.
#[test]
fn any_division_of_a_text_into_steps_gives_the_same_bits() {
    for (name, model) in models().filter(|(_, model)| model.config().is_causal) {
        let ids = text(&model, SEQ, 0);
        let ones = vec![1; SEQ];
        for kind in [CacheType::F32, CacheType::F16] {
            let model = model.clone().with_cache(kind).unwrap();
            let expected = match kind {
                CacheType::F32 => alone(&model, &ids),
                CacheType::F16 => in_steps(&model, &ids, &[SEQ]),
            };
            for steps in [
                &[SEQ][..],
                &ones[..],
                &[1, 74][..],
                &[40, 1, 1, 33][..],
                &[2, 4, 5, 8, 9, 47][..],
            ] {
                let found = in_steps(&model, &ids, steps);
                assert!(found == expected, "{name}, cache in {kind}: steps {steps:?}");
            }
        }
    }
}

/// With the tied output matrix, learned and rotary positions, and norms of queries and keys.
#[test]
fn a_text_of_4096_tokens_has_the_same_bits_in_any_division() {
    const LONGEST: usize = 4_096;
    let chosen = ["gpt2", "qwen3", "soft caps"];
    let families = families(LONGEST).into_iter();
    for (name, config) in families.filter(|(name, _)| chosen.contains(name)) {
        let model = initialized(&TransformerConfig { n_layers: 1, ..config });
        let ids = text(&model, LONGEST, 0);
        let steps = [1_037, 1, 16, 17, 200, 2_825];
        for weights in [WeightFormat::F32, WeightFormat::Q8_0] {
            let model = model.clone().with_weights(weights).unwrap();
            for kind in [CacheType::F32, CacheType::F16] {
                let model = model.clone().with_cache(kind).unwrap();
                let expected = match kind {
                    CacheType::F32 => alone(&model, &ids),
                    CacheType::F16 => in_steps(&model, &ids, &[LONGEST]),
                };
                let found = in_steps(&model, &ids, &steps);
                assert!(found == expected, "{name} in {weights}, cache in {kind}");
            }
        }
    }
}

#[test]
fn a_text_in_a_batch_of_4096_tokens_has_the_bits_it_has_alone() {
    const TEXTS: usize = 1_024;
    for (name, model) in models() {
        let texts: Vec<Vec<i32>> = (0..TEXTS).map(|row| text(&model, 4, row)).collect();
        let logits = model.forward(rows_of(&texts)).unwrap();
        for row in [0, 500, TEXTS - 1] {
            let own = bits(logits.clone().narrow(0, row, 1));
            assert!(own == alone(&model, &texts[row]), "{name}: row {row}");
        }
    }
}

/// Four texts continue in one cache, each at its own pace, one of them in pieces while the others are decoded.
#[test]
fn texts_that_continue_in_one_cache_have_the_bits_they_have_alone() {
    for (name, model) in models().filter(|(_, model)| model.config().is_causal) {
        let steps = [[40, 1, 7, 0], [1, 1, 20, 3], [1, 0, 9, 1], [1, 1, 1, 1], [9, 2, 0, 33]];
        let texts = [0, 1, 2, 3].map(|row| text(&model, steps.iter().map(|step| step[row]).sum(), row));
        let model = model.with_cache(CacheType::F32).unwrap();
        let expected = texts.each_ref().map(|ids| alone(&model, ids));
        let mut cache = model.new_cache(4, SEQ);
        let mut seen = [0; 4];
        for lengths in steps {
            let seq = lengths.into_iter().max().unwrap();
            let new = [0, 1, 2, 3].map(|row| {
                let mut new = vec![0; seq];
                new[..lengths[row]].copy_from_slice(&texts[row][seen[row]..][..lengths[row]]);
                new
            });
            let options = ForwardOptions {
                cache: Some(&mut cache),
                lengths: Some(&lengths),
                ..ForwardOptions::default()
            };
            let logits = model.logits(model.forward_with(rows_of(&new), options).unwrap().hidden);
            let vocab = model.config().vocab_size;
            for row in (0..4).filter(|row| lengths[*row] > 0) {
                let own = bits(logits.clone().narrow(0, row, 1).narrow(1, 0, lengths[row]));
                let expected = &expected[row][seen[row] * vocab..][..lengths[row] * vocab];
                assert!(own == expected, "{name}: row {row} of {lengths:?} after {seen:?}");
                seen[row] += lengths[row];
            }
        }
    }
}
