//! Tests on tiny models with random weights.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use burn::tensor::{Device, Int, Tensor, TensorData};
use taal_inference::{Decoder, FillOptions, LanguageModel, Prompt, TranslateOptions, fill, translate};
use taal_insight::{Guess, InsightError, MAX_TOP, PageOptions, Token, Trace, TraceOptions, html, trace, trace_pair};
use taal_model::hugging_face::TranslationFacts;
use taal_model::{
    CacheType, EncoderConfig, ForwardOptions, Initialization, Mixer, ModelSize, PositionKind, TransformerConfig,
    WeightFormat, parameters,
};
use taal_store::ErrorKind;
use taal_tokenizer::{ImportOptions, Kind, Tokenizer, TrainerConfig};

const VOCAB_SIZE: usize = 23;
const CONTEXT: usize = 13;
const IDS: [u32; 9] = [3, 1, 4, 1, 5, 9, 2, 6, 22];

/// Every combination of positions, masks and caches, by name.
fn configs() -> Vec<(&'static str, TransformerConfig)> {
    let nanogpt = TransformerConfig::nanogpt(size(VOCAB_SIZE, CONTEXT, 3, 4, 16));
    let llama = TransformerConfig::llama(size(VOCAB_SIZE, CONTEXT, 2, 4, 24));
    let grouped = TransformerConfig {
        n_kv_heads: 2,
        ..llama.clone()
    };
    let with_position = |position| TransformerConfig {
        position,
        ..nanogpt.clone()
    };
    let masked = TransformerConfig {
        is_causal: false,
        ..llama.clone()
    };
    vec![
        ("gpt2", TransformerConfig::gpt2(size(VOCAB_SIZE, CONTEXT, 2, 2, 16))),
        ("nanogpt", nanogpt.clone()),
        ("alibi", with_position(PositionKind::Alibi)),
        ("sinusoidal", with_position(PositionKind::Sinusoidal)),
        ("no positions", with_position(PositionKind::None)),
        ("llama", llama),
        ("lstm", TransformerConfig::lstm(size(VOCAB_SIZE, CONTEXT, 2, 1, 16))),
        ("qwen3", TransformerConfig::qwen3(size(VOCAB_SIZE, CONTEXT, 2, 4, 24))),
        (
            "window",
            TransformerConfig {
                window: Some(3),
                ..grouped.clone()
            },
        ),
        (
            "soft caps",
            TransformerConfig {
                attention_softcap: Some(5.0),
                logit_softcap: Some(8.0),
                ..grouped
            },
        ),
        ("bert", TransformerConfig::bert(size(VOCAB_SIZE, CONTEXT, 2, 4, 16))),
        ("encoder", masked.clone()),
        (
            "encoder with window",
            TransformerConfig {
                window: Some(2),
                ..masked
            },
        ),
    ]
}

/// Weights ten times as large as initial ones; otherwise all predictions would be nearly the same.
fn model(config: &TransformerConfig, tokenizer: Option<Tokenizer>) -> LanguageModel {
    let wide = Initialization {
        std: 0.2,
        residual_std: Some(0.2),
    };
    LanguageModel::new(config.init_with(7, wide, &Device::flex()).unwrap(), tokenizer)
}

fn traced(config: &TransformerConfig) -> (LanguageModel, Trace) {
    let lm = model(config, None);
    let options = TraceOptions { top: MAX_TOP };
    let trace = trace(&lm, &Prompt::Ids(IDS.to_vec()), &options).unwrap();
    (lm, trace)
}

fn dutch(kind: Kind, vocab_size: usize) -> Tokenizer {
    let text = "de kat krabt de krullen van de trap, één idee: de kat zat op de mat";
    TrainerConfig::new(kind, vocab_size).train([text]).unwrap()
}

fn dutch_model() -> LanguageModel {
    let tokenizer = dutch(Kind::Bpe, 300);
    model(
        &TransformerConfig::llama(size(tokenizer.vocab_size(), 32, 2, 4, 32)),
        Some(tokenizer),
    )
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn attention_rows_sum_to_one_and_masked_weights_are_exactly_zero() {
    for (name, config) in configs() {
        let (_, trace) = traced(&config);
        if config.mixer == Mixer::Lstm {
            assert!(trace.attention.is_empty());
            assert_eq!(trace.model.n_heads, 0);
            continue;
        }
        assert_eq!(trace.attention.len(), config.n_layers, "{name}");
        let window = config.window.unwrap_or(usize::MAX);
        let mut visible = 0;
        for head in trace.attention.iter().flatten() {
            for (query, row) in head.iter().enumerate() {
                let sum: f64 = row.iter().map(|weight| f64::from(*weight)).sum();
                assert!((sum - 1.0).abs() < 1e-5, "{name}: {sum}");
                for (key, weight) in row.iter().enumerate() {
                    let is_future = config.is_causal && key > query;
                    if is_future || query.abs_diff(key) >= window {
                        assert_eq!(weight.to_bits(), 0, "{name}: {query} attends to {key}");
                    } else {
                        visible += usize::from(*weight > 0.0);
                    }
                }
            }
        }
        assert!(visible > config.n_layers * config.n_heads * IDS.len(), "{name}");
    }
}

#[test]
fn logits_are_those_of_generating_bit_for_bit() {
    for (name, config) in configs() {
        if !config.is_causal {
            continue;
        }
        let (lm, trace) = traced(&config);
        let mut decoder = Decoder::new(&lm.model, true).unwrap().with_expected_len(CONTEXT);
        let logits = decoder.prefill(&IDS).unwrap();
        assert_eq!(trace.focus, [IDS.len() - 1]);
        assert_eq!(bits(&trace.predictions[0].logits), bits(&logits), "{name}");
    }
}

/// Generating keeps keys and values of such a model in 16-bit floats; a trace has none that are kept.
#[test]
fn logits_of_a_model_in_fewer_bits_are_those_of_generating_with_a_cache_in_f32() {
    for config in [
        TransformerConfig::nanogpt(size(VOCAB_SIZE, CONTEXT, 3, 4, 32)),
        TransformerConfig::llama(size(VOCAB_SIZE, CONTEXT, 2, 4, 64)),
        TransformerConfig::lstm(size(VOCAB_SIZE, CONTEXT, 2, 1, 32)),
    ] {
        let exact = model(&config, None).model;
        let unrounded = Decoder::new(&exact, true).unwrap().prefill(&IDS).unwrap();
        for format in [WeightFormat::F16, WeightFormat::Q8_0, WeightFormat::Q4_0] {
            let rounded = exact.clone().with_weights(format).unwrap();
            let lm = LanguageModel::new(rounded.with_cache(CacheType::F32).unwrap(), None);
            let trace = trace(&lm, &Prompt::Ids(IDS.to_vec()), &TraceOptions::default()).unwrap();
            let mut decoder = Decoder::new(&lm.model, true).unwrap().with_expected_len(CONTEXT);
            let logits = decoder.prefill(&IDS).unwrap();
            assert_eq!(bits(&trace.predictions[0].logits), bits(&logits), "{format}");
            assert_ne!(logits, unrounded, "{format}");
            let last = trace.lens.last().and_then(|row| row.last()).unwrap();
            assert_eq!(last.guesses, trace.predictions[0].guesses, "{format}");
        }
    }
}

#[test]
fn the_last_row_of_the_lens_is_the_output_bit_for_bit() {
    for (name, config) in configs() {
        let (_, trace) = traced(&config);
        assert_eq!(trace.lens.len(), config.n_layers + 1, "{name}");
        assert_eq!(trace.residual_norms.len(), config.n_layers + 1, "{name}");
        for prediction in &trace.predictions {
            let last = &trace.lens[config.n_layers][prediction.place];
            assert_eq!(last.guesses.len(), VOCAB_SIZE, "{name}: all ids are ranked");
            for guess in &last.guesses {
                let logit = prediction.logits[guess.id as usize];
                assert_eq!(guess.logit.to_bits(), logit.to_bits(), "{name}");
            }
            assert_eq!(last.guesses, prediction.guesses, "{name}");
            assert_eq!(last.final_rank, 1, "{name}");
        }
        let first = &trace.lens[0][trace.focus[0]];
        assert_ne!(
            first.guesses, trace.predictions[0].guesses,
            "{name}: layers change the state"
        );
    }
}

#[test]
fn probabilities_are_those_of_the_softmax_and_ranks_follow_from_them() {
    for (name, config) in configs() {
        let (_, trace) = traced(&config);
        for cell in trace.lens.iter().flatten() {
            let sum: f64 = cell.guesses.iter().map(|guess| guess.probability).sum();
            assert!((sum - 1.0).abs() < 1e-9, "{name}: {sum}");
            assert!(
                cell.guesses.is_sorted_by(|a, b| a.probability >= b.probability),
                "{name}"
            );
            let entropy: f64 = cell
                .guesses
                .iter()
                .map(|guess| -guess.probability * guess.probability.log2())
                .sum();
            assert!((entropy - cell.entropy_bits).abs() < 1e-6, "{name}");
        }
        for place in 0..IDS.len() {
            let choice = trace.lens[config.n_layers][place].guesses[0].id;
            let cell = &trace.lens[0][place];
            let rank = cell.guesses.iter().position(|guess| guess.id == choice).unwrap();
            assert_eq!(cell.final_rank, rank + 1, "{name}");
            assert_eq!(cell.final_probability, cell.guesses[rank].probability, "{name}");
        }
    }
}

#[test]
fn the_input_of_the_first_layer_is_the_sum_of_token_and_position() {
    for (name, config) in configs() {
        let (_, trace) = traced(&config);
        let embedding = &trace.embedding;
        let has_vectors = matches!(config.position, PositionKind::Learned | PositionKind::Sinusoidal);
        assert_eq!(
            embedding.places.len(),
            if has_vectors { IDS.len() } else { 0 },
            "{name}"
        );
        assert_eq!(
            embedding.positions.wavelengths.len(),
            if config.position == PositionKind::Rotary {
                config.head_dim / 2
            } else {
                0
            },
            "{name}"
        );
        if let Some(first) = embedding.positions.wavelengths.first() {
            // The fastest pair turns by one radian per position.
            assert!((first - std::f64::consts::TAU).abs() < 1e-5, "{name}: {first}");
        }
        for place in (0..IDS.len()).filter(|_| !config.embedding_norm) {
            for (index, sum) in embedding.sum[place].iter().enumerate() {
                let added = embedding.places.get(place).map_or(0.0, |row| row[index]);
                assert_eq!(*sum, embedding.tokens[place][index] + added, "{name}");
            }
        }
    }
}

#[test]
fn a_trace_is_the_same_after_saving_and_opening() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.json");
    for (name, config) in configs() {
        let (_, trace) = traced(&config);
        trace.save_json(&path).unwrap();
        assert!(Trace::open_json(&path).unwrap() == trace, "{name}");
    }
    let lm = dutch_model();
    let trace = trace(&lm, &Prompt::from("één kat </script>\n"), &TraceOptions::default()).unwrap();
    trace.save_json(&path).unwrap();
    assert!(Trace::open_json(&path).unwrap() == trace);

    let json = std::fs::read(&path).unwrap();
    std::fs::write(&path, &json[..json.len() / 2]).unwrap();
    let error = Trace::open_json(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("trace.json"), "{error}");
}

#[test]
fn tokens_have_their_bytes_their_range_in_the_text_and_their_merges() {
    let lm = dutch_model();
    let text = "één kat krabt 🦜";
    let trace = trace(&lm, &Prompt::from(text), &TraceOptions::default()).unwrap();
    let bytes: Vec<u8> = trace.tokens.iter().flat_map(|token| token.bytes.clone()).collect();
    assert_eq!(bytes, text.as_bytes());
    assert_eq!(trace.model.tokenizer.as_deref(), Some("BPE"));
    for token in &trace.tokens {
        let [start, end] = token.span.unwrap();
        let of_text = &text.as_bytes()[start..end];
        assert!(
            of_text.windows(token.bytes.len()).any(|part| part == token.bytes),
            "{token:?}"
        );
        match token.merges.last() {
            // The halves of é are not text by themselves.
            Some(_) if !token.text.is_ascii() => {}
            Some(last) => assert_eq!(format!("{}{}", last.left, last.right), token.text),
            None => assert_eq!(token.bytes.len(), 1, "{token:?}"),
        }
        assert_eq!(token.merges.len() + 1, token.bytes.len(), "{token:?}");
    }
    assert!(trace.tokens.iter().any(|token| token.merges.len() > 1));
    assert!(trace.tokens.iter().any(|token| token.text == "\\xF0"), "a byte of 🦜");
}

#[test]
fn a_text_is_read_after_the_token_that_begins_every_text() {
    let plain = dutch(Kind::Bpe, 300);
    let mut file: serde_json::Value = serde_json::from_slice(&plain.to_json()).expect("a tokenizer.json");
    let id = plain.token_to_id("<|endoftext|>").expect("a special token");
    file["post_processor"] = serde_json::json!({
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [id], "tokens": ["<|endoftext|>"]}},
    });
    let tokenizer = Tokenizer::from_json(file.to_string().as_bytes()).expect("a tokenizer");
    let config = TransformerConfig::llama(size(tokenizer.vocab_size(), 40, 1, 2, 16));
    let lm = model(&config, Some(tokenizer));
    let prompt = Prompt::from("de kat");
    let trace = trace(&lm, &prompt, &TraceOptions::default()).expect("a trace");
    let ids: Vec<u32> = trace.tokens.iter().map(|token| token.id).collect();
    assert_eq!(ids, lm.prompt_ids(&prompt).expect("ids"), "as generation reads it");
    assert_eq!((ids[0], trace.tokens[0].span), (id, None));
    assert_eq!(trace.tokens[1].span.map(|span| span[0]), Some(0));
}

#[test]
fn a_masked_model_is_asked_at_its_masks_and_answers_as_fill_does() {
    let tokenizer = dutch(Kind::WordPiece, 60);
    let config = TransformerConfig::bert(size(tokenizer.vocab_size(), 32, 2, 4, 32));
    let lm = model(&config, Some(tokenizer));
    let text = "de [MASK] krabt de [MASK] van de trap";
    let options = TraceOptions { top: MAX_TOP };
    let trace = trace(&lm, &Prompt::from(text), &options).unwrap();
    let tokenizer = lm.tokenizer.as_ref().unwrap();
    assert_eq!(Some(trace.tokens[0].id), tokenizer.bos_id());
    assert_eq!(trace.tokens.last().map(|token| token.id), tokenizer.eos_id());
    assert_eq!(trace.tokens[0].span, None);

    let options = FillOptions {
        top: 5,
        whole_words: false,
        ..FillOptions::default()
    };
    let filled = fill(&lm, text, &options).unwrap();
    assert_eq!(trace.focus.len(), 2);
    for ((gap, prediction), place) in filled.gaps.iter().zip(&trace.predictions).zip(&trace.focus) {
        assert_eq!((gap.position, prediction.place), (*place, *place));
        let is_guess = |guess: &&Guess| !tokenizer.is_special(guess.id);
        let guesses: Vec<&Guess> = prediction.guesses.iter().filter(is_guess).take(5).collect();
        for (own, other) in guesses.iter().zip(&gap.guesses) {
            assert_eq!(own.id, other.id);
            assert!((own.probability - other.probability).abs() < 1e-6);
        }
    }
    assert_eq!(
        trace.filled,
        Some(fill(&lm, text, &FillOptions::default()).unwrap().filled)
    );

    let unmasked = taal_insight::trace(&lm, &Prompt::from("de kat"), &TraceOptions::default()).unwrap();
    assert_eq!(unmasked.filled, None);
    assert_eq!(unmasked.focus, [unmasked.tokens.len() - 2], "the last word");
}

#[test]
fn a_sentence_pair_has_the_attention_of_its_translation_to_its_source() {
    let tokenizer = || dutch(Kind::Bpe, 280);
    let config = TransformerConfig {
        encoder: Some(EncoderConfig { n_layers: 1 }),
        decoder_start: tokenizer().bos_id(),
        tie_embeddings: false,
        ..TransformerConfig::llama(size(tokenizer().vocab_size(), 200, 2, 4, 24))
    };
    let lm = model(&config, Some(tokenizer()));
    let options = TraceOptions::default();
    let trace = trace_pair(&lm, "de kat", Some("een hond"), &options).unwrap();
    let source = trace.source.as_ref().expect("a source");
    assert_eq!(
        (source.text.as_str(), trace.text.as_deref()),
        ("de kat", Some("een hond"))
    );
    assert!(source.tokens[0].is_special && source.tokens[source.tokens.len() - 1].is_special);
    assert_eq!(source.tokens[1].span.map(|span| span[0]), Some(0));
    let ids = |tokens: &[Token]| -> Vec<u32> { tokens.iter().map(|token| token.id).collect() };
    let target = tokenizer().encode("een hond").unwrap();
    assert_eq!(
        ids(&trace.tokens),
        [vec![config.decoder_start.unwrap()], target].concat()
    );
    let (n, m) = (trace.tokens.len(), source.tokens.len());
    assert_eq!(
        (
            source.attention.len(),
            source.attention[0].len(),
            source.attention[0][0].len()
        ),
        (2, 4, n)
    );
    for row in source.attention.iter().flatten().flatten() {
        assert_eq!(row.len(), m);
        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{row:?}");
    }
    // The prediction is that of a pass with the same source.
    let tensor = |ids: &[u32]| -> Tensor<2, Int> {
        let values: Vec<i32> = ids.iter().map(|id| *id as i32).collect();
        Tensor::from_data(TensorData::new(values, [1, ids.len()]), &Device::flex())
    };
    let memory = lm.model.encode(tensor(&ids(&source.tokens)), &[m], None).unwrap();
    let with_memory = ForwardOptions {
        memory: Some(&memory),
        ..ForwardOptions::default()
    };
    let hidden = lm
        .model
        .forward_with(tensor(&ids(&trace.tokens)), with_memory)
        .unwrap()
        .hidden;
    let logits: Vec<f32> = lm
        .model
        .logits(hidden.narrow(1, n - 1, 1))
        .into_data()
        .try_to_vec()
        .unwrap();
    assert_eq!(bits(&trace.predictions[0].logits), bits(&logits));

    assert_eq!(serde_json::from_str::<Trace>(&trace.to_json()).unwrap(), trace);
    let page = data_of(&html(&trace, PageOptions::default()));
    let packed = page["source"]["attention"].as_str().expect("base64");
    assert_eq!(STANDARD.decode(packed).unwrap().len(), 2 * 4 * n * m);
    // Without a translation it is the model's own.
    let own = taal_insight::trace(&lm, &Prompt::from("de kat"), &options).unwrap();
    let written = translate(&lm, &["de kat"], &TranslateOptions::greedy()).unwrap();
    assert_eq!(own.text.as_deref(), Some(written[0].translation.as_str()));
    assert_eq!(ids(&own.tokens)[1..], written[0].token_ids);
    let error = trace_pair(&dutch_model(), "de kat", Some("een hond"), &options).unwrap_err();
    assert!(
        error.to_string().starts_with("target: only a model with an encoder"),
        "{error}"
    );
}

#[test]
fn the_target_of_a_pair_is_split_by_the_tokenizer_of_targets() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tokenizer/tests/golden/import/marian");
    let tokenizer = Tokenizer::import(&folder, &ImportOptions::default()).unwrap();
    let config = TransformerConfig {
        decoder_start: tokenizer.pad_id(),
        ..TransformerConfig::marian(size(tokenizer.vocab_size(), 64, 2, 2, 16))
    };
    let lm = model(&config, Some(tokenizer.clone()));
    let (english, dutch) = ("the other winter", "de andere kinderen");
    let trace = trace_pair(&lm, english, Some(dutch), &TraceOptions::default()).unwrap();
    let ids = |tokens: &[Token]| -> Vec<u32> { tokens.iter().map(|token| token.id).collect() };
    let source = trace.source.as_ref().expect("a source");
    assert_eq!(
        ids(&source.tokens),
        tokenizer.frame().around(&tokenizer.encode(english).unwrap())
    );
    assert_eq!(ids(&trace.tokens)[1..], tokenizer.of_targets().encode(dutch).unwrap());
    assert_ne!(ids(&trace.tokens)[1..], tokenizer.encode(dutch).unwrap());
    // Each token is a part of the text, one after the other.
    let spans: Vec<[usize; 2]> = trace.tokens[1..]
        .iter()
        .map(|token| token.span.expect("a span"))
        .collect();
    assert_eq!((spans[0][0], spans[spans.len() - 1][1]), (0, dutch.len()));
    assert!(spans.windows(2).all(|pair| pair[0][1] <= pair[1][0]), "{spans:?}");
}

#[test]
fn a_models_own_translation_is_traced_by_the_ids_that_it_generated() {
    let tokenizer = dutch(Kind::Bpe, 280);
    let config = TransformerConfig {
        decoder_start: tokenizer.bos_id(),
        ..TransformerConfig::marian(size(tokenizer.vocab_size(), 200, 1, 2, 16))
    };
    // A model that always writes the first byte of a letter, which is no text: reading it again gives other ids.
    let half = (0..tokenizer.vocab_size() as u32).find(|id| tokenizer.token_bytes(*id) == Some(&[0xC3][..]));
    let half = half.expect("a byte");
    let mut values = std::collections::BTreeMap::new();
    let model = config.init(7, &Device::flex()).unwrap();
    parameters::read(&model, |name, _, given| {
        values.insert(name.to_owned(), given);
    });
    values.get_mut("output_bias").expect("a bias of the logits")[half as usize] = 1000.0;
    let give = |name: &str, _: &[usize]| values.remove(name).ok_or_else(|| name.to_owned());
    let lm = LanguageModel::new(parameters::replace(model, give).unwrap(), Some(tokenizer));
    let own = trace(&lm, &Prompt::from("de kat"), &TraceOptions::default()).unwrap();
    let ids: Vec<u32> = own.tokens.iter().map(|token| token.id).collect();
    assert_eq!(ids[0], config.decoder_start.unwrap());
    assert!(ids.len() > 50 && ids[1..].iter().all(|id| *id == half), "{ids:?}");
    let text = own.text.expect("a text");
    assert_ne!(lm.tokenizer.as_ref().unwrap().encode(&text).unwrap(), ids[1..]);
    assert_eq!(own.predictions[0].guesses[0].id, half);
    let facts = TranslationFacts {
        from: "nl".to_owned(),
        to: "en".to_owned(),
        prompt: None,
        own_loss: None,
    };
    let own = trace(
        &lm.with_translation(facts),
        &Prompt::from("De  kat"),
        &TraceOptions::default(),
    )
    .unwrap();
    let source = own.source.expect("a source");
    assert_eq!(source.text, "De kat", "as the model read it");
    assert_eq!(source.attention[0][0][0].len(), source.tokens.len());
}

#[test]
fn bad_input_gives_a_one_sentence_error() {
    let lm = dutch_model();
    let said = |lm: &LanguageModel, prompt: Prompt, top: usize| {
        let error = trace(lm, &prompt, &TraceOptions { top }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
        error.to_string()
    };
    let long = "de kat ".repeat(40);
    for (prompt, words) in [
        (Prompt::from(""), "at least one character"),
        (Prompt::Ids(Vec::new()), "at least one id"),
        (Prompt::Ids(vec![1, 300]), "300"),
        (Prompt::from(long.as_str()), "context of 32"),
    ] {
        let said = said(&lm, prompt, 5);
        assert!(said.contains(words), "{said}");
    }
    for top in [0, MAX_TOP + 1] {
        assert!(said(&lm, Prompt::from("de"), top).contains("top"));
    }
    let (unnamed, _) = traced(&configs()[0].1);
    assert!(said(&unnamed, Prompt::from("de"), 5).contains("tokenizer"));

    let wide = TransformerConfig::gpt2(size(VOCAB_SIZE, 4096, 2, 4, 4));
    let error = trace(
        &model(&wide, None),
        &Prompt::Ids(vec![1; 4096]),
        &TraceOptions::default(),
    )
    .unwrap_err();
    assert!(
        matches!(
            error,
            InsightError::TooManyWeights {
                weights: 134_217_728,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_model_that_has_diverged_says_so() {
    let config = TransformerConfig::gpt2(size(VOCAB_SIZE, CONTEXT, 2, 2, 16));
    let endless = Initialization {
        std: f64::MAX,
        residual_std: Some(0.2),
    };
    let lm = LanguageModel::new(config.init_with(7, endless, &Device::flex()).unwrap(), None);
    let error = trace(&lm, &Prompt::Ids(vec![1, 2]), &TraceOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Diverged, "{error}");
    assert!(error.to_string().contains("not finite"), "{error}");
}

/// The data that a page's script reads.
fn data_of(page: &str) -> serde_json::Value {
    let start = "<script type=\"application/json\" id=\"data\">";
    let (_, rest) = page.split_once(start).unwrap();
    let (data, _) = rest.split_once("</script>").unwrap();
    serde_json::from_str(data).unwrap()
}

#[test]
fn a_page_of_64_tokens_and_144_heads_is_below_a_megabyte_and_self_contained() {
    let text: String = ('a'..='z')
        .chain('A'..='Z')
        .chain('0'..='9')
        .chain([' ', '.'])
        .collect();
    let tokenizer = TrainerConfig::new(Kind::Char, 100).train([text.as_str()]).unwrap();
    assert_eq!(tokenizer.vocab_size(), 64);
    let gpt2 = TransformerConfig::gpt2(size(64, 64, 12, 12, 48));
    let bert = TransformerConfig::bert(size(64, 64, 12, 12, 48));
    for config in [gpt2, bert] {
        let lm = model(
            &config,
            Some(TrainerConfig::new(Kind::Char, 100).train([text.as_str()]).unwrap()),
        );
        let trace = trace(&lm, &Prompt::from(text.as_str()), &TraceOptions { top: 64 }).unwrap();
        assert_eq!(trace.tokens.len(), 64);
        let page = html(&trace, PageOptions::default());
        assert!(page.len() < 1_000_000, "{} bytes", page.len());
        // The page also tells the browser to load nothing.
        assert!(page.contains("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none';"));
        let page = page.replace("http-equiv", "");
        for outside in ["http", "//cdn", "src=", "@import", "url("] {
            assert!(!page.to_lowercase().contains(outside), "{outside}");
        }
    }
}

#[test]
fn text_on_a_page_is_data_and_never_markup() {
    let lm = dutch_model();
    let text = "</script><!--DATA-->&\u{2028}http://x";
    let trace = trace(&lm, &Prompt::from(text), &TraceOptions::default()).unwrap();
    let page = html(&trace, PageOptions::default());
    assert_eq!(page.matches("</script>").count(), 2);
    assert_eq!(page.replace("http-equiv", "").to_lowercase().matches("http").count(), 0);
    let data = data_of(&page);
    assert_eq!(data["text"], text);
    assert_eq!(data["tokens"].as_array().map(Vec::len), Some(trace.tokens.len()));
}

#[test]
fn a_page_has_the_attention_of_every_layer_and_head_to_a_byte() {
    use base64::Engine;
    for (name, config) in configs() {
        let (_, trace) = traced(&config);
        let data = data_of(&html(&trace, PageOptions::default()));
        let packed = data["attention"].as_str().unwrap();
        let packed = base64::engine::general_purpose::STANDARD.decode(packed).unwrap();
        let mut packed = packed.into_iter();
        for head in trace.attention.iter().flatten() {
            for (query, row) in head.iter().enumerate() {
                let end = if config.is_causal { query + 1 } else { row.len() };
                for weight in &row[..end] {
                    let byte = f32::from(packed.next().unwrap());
                    assert!((byte / 255.0 - weight).abs() <= 0.501 / 255.0, "{name}");
                }
            }
        }
        assert_eq!(packed.next(), None, "{name}");
    }
}

/// [`ModelSize`] in one line: vocabulary, context, layers, heads, width.
fn size(vocab_size: usize, max_seq_len: usize, n_layers: usize, n_heads: usize, d_model: usize) -> ModelSize {
    ModelSize {
        vocab_size,
        max_seq_len,
        n_layers,
        n_heads,
        d_model,
    }
}
