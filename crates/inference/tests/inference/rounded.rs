//! Translations with weights in fewer bits: each is as probable as the same weights in single precision say.

use burn::tensor::Device;
use taal_inference::{LanguageModel, TranslateOptions, Translation, translate};
use taal_model::{CacheType, Initialization, TransformerConfig, WeightFormat};

use crate::size;
use crate::translating::{configs, end_id, next, options, tokenizer};

const SOURCES: [&str; 4] = ["a bad cab", "fade a bed", "he", "dead beef had a cage"];

/// Formats, and how far the log-probability of a token may be from that of the same weights in single precision. Integers round
/// activations to 8 bits too, and a cache in f16 rounds keys and values to 11.
const FORMATS: [(WeightFormat, CacheType, f64); 5] = [
    (WeightFormat::F16, CacheType::F32, 1e-3),
    (WeightFormat::F16, CacheType::F16, 1e-2),
    (WeightFormat::Q8_0, CacheType::F32, 1e-1),
    (WeightFormat::Q8_0, CacheType::F16, 1e-1),
    (WeightFormat::Q4_0, CacheType::F16, 1e-1),
];

/// Encoder-decoders wide enough for blocks of 32.
fn models() -> Vec<(&'static str, LanguageModel)> {
    let size = size(tokenizer().vocab_size(), 24, 2, 2, 64);
    configs(size).map(|(name, config)| (name, opened(&config))).into()
}

fn opened(config: &TransformerConfig) -> LanguageModel {
    let wide = Initialization {
        std: 0.1,
        residual_std: Some(0.1),
    };
    let model = config.init_with(11, wide, &Device::flex()).unwrap();
    let mut lm = LanguageModel::new(model, Some(tokenizer()));
    lm.end_ids = vec![end_id(&tokenizer())];
    lm
}

/// The generated ids with the one that ended them.
fn written(lm: &LanguageModel, found: &Translation) -> Vec<u32> {
    let end = lm.end_ids.first().copied().filter(|_| found.is_complete);
    found.token_ids.iter().copied().chain(end).collect()
}

#[test]
fn translations_in_fewer_bits_are_as_probable_as_the_same_weights_in_single_precision_say() {
    for (name, config) in models().into_iter().map(|(name, lm)| (name, lm.model.config().clone())) {
        for (format, cache, tolerance) in FORMATS {
            let rounded = opened(&config).with_weights(format).unwrap();
            let rounded = rounded.with_cache(cache).unwrap();
            // The rounded values, unpacked.
            let plain = opened(&config).with_weights(format).unwrap();
            let plain = plain.with_weights(WeightFormat::F32).unwrap();
            assert_eq!(plain.model.weight_types(), "F32");
            for width in [1, 3] {
                let found = translate(&rounded, &SOURCES, &options(width, 12)).unwrap();
                for (source, found) in SOURCES.iter().zip(&found) {
                    let what = format!("{name} in {format}, cache in {cache}, {width} candidates, {source}");
                    let source = tokenizer().frame().around(&tokenizer().encode(source).unwrap());
                    let ids = written(&rounded, found);
                    assert_eq!(ids.len(), found.tokens, "{what}");
                    let allowed = tolerance * ids.len() as f64;
                    let mut logprob = 0.0;
                    for (place, id) in ids.iter().enumerate() {
                        let next = next(&plain, &source, &ids[..place]);
                        let best = next.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                        logprob += next[*id as usize];
                        // The likeliest token, or one that is as likely but for rounding.
                        assert!(
                            width > 1 || best - next[*id as usize] <= 2.0 * tolerance,
                            "{what}: token {place}"
                        );
                    }
                    assert!(
                        (found.logprob - logprob).abs() <= allowed,
                        "{what}: {} and {logprob}",
                        found.logprob
                    );
                }
            }
        }
    }
}

#[test]
fn translations_in_fewer_bits_have_the_same_bits_alone_and_in_any_batch() {
    for (name, lm) in models() {
        let lm = lm.with_weights(WeightFormat::Q8_0).unwrap();
        for width in [1, 3] {
            let together = translate(&lm, &SOURCES, &options(width, 12)).unwrap();
            for batch_size in [1, 3] {
                let asked = TranslateOptions {
                    batch_size,
                    ..options(width, 12)
                };
                assert_eq!(
                    translate(&lm, &SOURCES, &asked).unwrap(),
                    together,
                    "{name}, batches of {batch_size}"
                );
            }
        }
    }
}
