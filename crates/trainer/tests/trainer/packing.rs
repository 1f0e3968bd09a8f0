//! Several examples in a row learn what each would learn alone.

use burn::tensor::Device;
use taal_data::{Batch, ConversationOptions, Conversations};
use taal_model::{PositionKind, TransformerConfig};
use taal_tokenizer::{Kind, Tokenizer, TrainerConfig};

use crate::size;

const BLOCK: usize = 128;

/// Conversations of different lengths, one per line.
fn lines() -> Vec<String> {
    (0..23)
        .map(|index| {
            let asked = "vraag ".repeat(1 + index % 4);
            let said = "ja nee ".repeat(1 + index % 3);
            match index % 2 {
                0 => format!(r#"{{"messages": [{{"role": "user", "content": "{asked}"}}, {{"role": "assistant", "content": "{said}"}}]}}"#),
                _ => format!(
                    r#"{{"messages": [{{"role": "user", "content": "hoi"}}, {{"role": "assistant", "content": "dag"}}, {{"role": "user", "content": "{asked}"}}, {{"role": "assistant", "content": "{said}"}}]}}"#
                ),
            }
        })
        .collect()
}

fn open(tokenizer: &Tokenizer, lines: &[String]) -> Conversations {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    std::fs::write(&path, lines.join("\n")).unwrap();
    let options = ConversationOptions {
        validation_fraction: 0.0,
        ..ConversationOptions::default()
    };
    Conversations::open_with(tokenizer, &[path], BLOCK, &options).unwrap()
}

#[test]
fn the_loss_of_packed_examples_is_that_of_each_alone() {
    let mut config = TrainerConfig::new(Kind::Char, 100);
    config.special_tokens = vec!["<|endoftext|>".to_owned()];
    let tokenizer = config.train(["User: Assistant: vraag ja nee hoi dag\n"]).unwrap();
    let lines = lines();
    let packed = open(&tokenizer, &lines);
    let rows = packed.train.rows();
    assert!(rows < lines.len() && rows > 1, "{rows} rows");
    let batches: Vec<Batch> = packed.train.in_order(2).collect();
    assert!(batches.iter().any(|batch| batch.text_starts.is_some()));
    let alone: Vec<Batch> = lines
        .iter()
        .flat_map(|line| {
            open(&tokenizer, std::slice::from_ref(line))
                .train
                .in_order(1)
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(alone.iter().all(|batch| batch.text_starts.is_none()));

    let size = size(tokenizer.vocab_size(), BLOCK, 2, 2, 32);
    let windowed = TransformerConfig {
        window: Some(7),
        ..TransformerConfig::llama(size)
    };
    let alibi = TransformerConfig {
        position: PositionKind::Alibi,
        ..TransformerConfig::llama(size)
    };
    for config in [
        TransformerConfig::llama(size),
        TransformerConfig::gpt2(size),
        windowed,
        alibi,
    ] {
        let model = config.init(7, &Device::flex()).unwrap();
        let mean = |batches: &[Batch]| {
            let (mut nats, mut tokens) = (0.0, 0);
            for batch in batches {
                let counted = batch.counted_targets();
                nats +=
                    f64::from(taal_trainer::loss(&model, batch, None).unwrap().into_scalar::<f32>()) * counted as f64;
                tokens += counted;
            }
            (nats / tokens as f64, tokens)
        };
        let ((packed, packed_tokens), (alone, alone_tokens)) = (mean(&batches), mean(&alone));
        assert_eq!(packed_tokens, alone_tokens);
        assert!(
            (packed - alone).abs() < 1e-6,
            "{:?}: {packed} packed, {alone} alone",
            config.position
        );
    }
}
