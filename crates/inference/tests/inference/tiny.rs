//! Tiny models and tokenizers.

use crate::size;
use burn::tensor::{Device, Int, Tensor, TensorData};
use taal_inference::LanguageModel;
use taal_model::{Initialization, PositionKind, Transformer, TransformerConfig};
use taal_tokenizer::{Kind, Tokenizer, TrainerConfig};

/// Small, and not a power of two.
pub const VOCAB_SIZE: usize = 23;

/// An odd context, so that its half is rounded.
pub const CONTEXT: usize = 13;

/// Every combination of positions and cache, by name. Output matrices are untied, because a tied one with random weights only
/// repeats the last token.
pub fn configs() -> Vec<(&'static str, TransformerConfig)> {
    let gpt2 = TransformerConfig::gpt2(size(VOCAB_SIZE, CONTEXT, 2, 2, 16));
    let nanogpt = TransformerConfig::nanogpt(size(VOCAB_SIZE, CONTEXT, 3, 4, 16));
    let llama = TransformerConfig::llama(size(VOCAB_SIZE, CONTEXT, 2, 4, 24));
    let qwen3 = TransformerConfig::qwen3(size(VOCAB_SIZE, CONTEXT, 2, 4, 24));
    let grouped = TransformerConfig {
        n_kv_heads: 2,
        ..llama.clone()
    };
    let caps = TransformerConfig {
        attention_softcap: Some(5.0),
        logit_softcap: Some(8.0),
        ..grouped.clone()
    };
    let with_position = |position| TransformerConfig {
        position,
        ..nanogpt.clone()
    };
    let configs = [
        ("alibi", with_position(PositionKind::Alibi)),
        ("sinusoidal", with_position(PositionKind::Sinusoidal)),
        ("no positions", with_position(PositionKind::None)),
        ("gpt2", gpt2),
        ("nanogpt", nanogpt),
        ("llama", llama),
        ("grouped queries", grouped.clone()),
        ("qwen3 with one key head", TransformerConfig { n_kv_heads: 1, ..qwen3 }),
        (
            "window",
            TransformerConfig {
                window: Some(3),
                ..grouped
            },
        ),
        ("soft caps", caps),
    ];
    configs
        .map(|(name, config)| {
            (
                name,
                TransformerConfig {
                    tie_embeddings: false,
                    ..config
                },
            )
        })
        .into()
}

/// Weights ten times as large as initial ones; otherwise all predictions would be nearly the same.
pub fn model(config: &TransformerConfig, seed: u64) -> Transformer {
    let wide = Initialization {
        std: 0.2,
        residual_std: Some(0.2),
    };
    config
        .init_with(seed, wide, &Device::flex())
        .expect("a valid configuration")
}

pub fn char_tokenizer() -> Tokenizer {
    TrainerConfig::new(Kind::Char, 100)
        .train(["abcdefghijklm nopqrstu\n"])
        .expect("a char tokenizer")
}

/// One token per byte, and `<|endoftext|>`.
pub fn byte_tokenizer() -> Tokenizer {
    TrainerConfig::new(Kind::Bpe, 257)
        .train(["bytes"])
        .expect("a byte tokenizer")
}

/// A model whose tokens are the 23 characters of [`char_tokenizer`].
pub fn char_model() -> LanguageModel {
    let tokenizer = char_tokenizer();
    assert_eq!(tokenizer.vocab_size(), VOCAB_SIZE);
    let config = TransformerConfig::llama(size(VOCAB_SIZE, CONTEXT, 2, 4, 24));
    LanguageModel::new(model(&config, 7), Some(tokenizer))
}

/// The same tokens with an LSTM.
pub fn recurrent_model() -> LanguageModel {
    let config = TransformerConfig::lstm(size(VOCAB_SIZE, CONTEXT, 2, 1, 24));
    LanguageModel::new(model(&config, 5), Some(char_tokenizer()))
}

pub fn byte_model() -> LanguageModel {
    let tokenizer = byte_tokenizer();
    let config = TransformerConfig::nanogpt(size(tokenizer.vocab_size(), CONTEXT, 1, 2, 16));
    LanguageModel::new(model(&config, 3), Some(tokenizer))
}

/// The logits of every position of one row, computed at once and without a cache: `[len][vocab_size]`.
pub fn all_logits(model: &Transformer, ids: &[u32]) -> Vec<Vec<f32>> {
    let data = TensorData::new(ids.iter().map(|&id| id as i32).collect::<Vec<_>>(), [1, ids.len()]);
    let logits = model
        .forward(Tensor::<2, Int>::from_data(data, &Device::flex()))
        .expect("ids that fit");
    let values: Vec<f32> = logits.into_data().try_to_vec().expect("32-bit floats");
    values.chunks(model.config().vocab_size).map(<[f32]>::to_vec).collect()
}
