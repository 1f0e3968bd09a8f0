//! Translation by models with an encoder and by models of one stack: equal to what whole forward passes give, in any batch.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::{Device, Int, Tensor, TensorData};
use taal_inference::{
    BeamOptions, Cut, EarlyStopping, GenerateOptions, InferenceError, LanguageModel, Prompt, Sampling,
    TranslateOptions, Translation, Translator, beam_search, check_languages, generate, own_loss, translate,
};
use taal_model::hugging_face::TranslationFacts;
use taal_model::{EncoderConfig, ForwardOptions, ModelSize, Transformer, TransformerConfig, parameters};
use taal_tokenizer::{Kind, Tokenizer, TrainerConfig, Unknown};

use crate::{size, tiny};

const CONTEXT: usize = 24;

/// Characters, of which `.` ends a text.
pub fn tokenizer() -> Tokenizer {
    TrainerConfig::new(Kind::Char, 100)
        .train(["abcdefgh .\n"])
        .expect("characters")
}

/// An encoder and a decoder of every kind of position and norm.
pub fn configs(size: ModelSize) -> [(&'static str, TransformerConfig); 3] {
    let llama = TransformerConfig {
        encoder: Some(EncoderConfig { n_layers: 1 }),
        decoder_start: Some(0),
        ..TransformerConfig::llama(size)
    };
    let configs = [
        ("marian", TransformerConfig::marian(size)),
        ("t5", TransformerConfig::t5(size)),
        ("llama", llama),
    ];
    configs.map(|(name, config)| {
        let config = TransformerConfig {
            tie_embeddings: false,
            ..config
        };
        (name, config)
    })
}

fn encoder_decoders() -> Vec<(&'static str, LanguageModel)> {
    let tokenizer = tokenizer();
    let lm = |(name, config): (&'static str, TransformerConfig)| {
        let mut lm = LanguageModel::new(tiny::model(&config, 11), Some(self::tokenizer()));
        lm.end_ids = vec![end_id(&tokenizer)];
        (name, lm)
    };
    configs(size(tokenizer.vocab_size(), CONTEXT, 2, 2, 16)).map(lm).into()
}

pub fn end_id(tokenizer: &Tokenizer) -> u32 {
    tokenizer.token_to_id(".").expect("a period")
}

pub fn facts() -> TranslationFacts {
    TranslationFacts {
        from: "en".to_owned(),
        to: "nl".to_owned(),
        prompt: Some("{source}\n".to_owned()),
        own_loss: None,
    }
}

/// A model of one stack.
fn one_stack() -> LanguageModel {
    let tokenizer = tokenizer();
    let config = TransformerConfig {
        tie_embeddings: false,
        ..TransformerConfig::llama(size(tokenizer.vocab_size(), CONTEXT, 2, 2, 16))
    };
    let end = end_id(&tokenizer);
    let mut lm = LanguageModel::new(tiny::model(&config, 5), Some(tokenizer)).with_translation(facts());
    lm.end_ids = vec![end];
    lm
}

fn ids_tensor(ids: &[u32]) -> Tensor<2, Int> {
    let ids: Vec<i32> = ids.iter().map(|id| *id as i32).collect();
    let len = ids.len();
    Tensor::from_data(TensorData::new(ids, [1, len]), &Device::flex())
}

/// The log-probabilities of the token after `written`, by a whole pass of the encoder and of the decoder; the token that the decoder begins
/// with is never the next one.
pub fn next(lm: &LanguageModel, source: &[u32], written: &[u32]) -> Vec<f64> {
    let model = &lm.model;
    let memory = model
        .encode(ids_tensor(source), &[source.len()], None)
        .expect("a source");
    let start = model.config().decoder_start.expect("a start");
    let options = ForwardOptions {
        memory: Some(&memory),
        ..ForwardOptions::default()
    };
    let output = model
        .forward_with(ids_tensor(&[&[start], written].concat()), options)
        .expect("ids that fit");
    let logits: Vec<f32> = model.logits(output.hidden).into_data().try_to_vec().expect("floats");
    let last = &logits[written.len() * model.config().vocab_size..];
    let total: f64 = last.iter().map(|logit| f64::from(*logit).exp()).sum();
    let mut logprobs: Vec<f64> = last.iter().map(|logit| f64::from(*logit) - total.ln()).collect();
    if !lm.end_ids.contains(&start) {
        logprobs[start as usize] = f64::NEG_INFINITY;
    }
    logprobs
}

/// A Marian whose bias makes it write one token always.
pub fn writing(config: &TransformerConfig, id: u32) -> Transformer {
    let mut values = BTreeMap::new();
    let model = tiny::model(config, 3);
    parameters::read(&model, |name, _, given| {
        values.insert(name.to_owned(), given);
    });
    let mut is_biased = false;
    let give = |name: &str, _: &[usize]| -> Result<Vec<f32>, Infallible> {
        let mut given = values.remove(name).expect("a parameter");
        if ["output_bias", "head.bias"].contains(&name) {
            given[id as usize] = 1000.0;
            is_biased = true;
        }
        Ok(given)
    };
    let model = match parameters::replace(model, give) {
        Ok(model) => model,
        Err(never) => match never {},
    };
    assert!(is_biased, "the model has no bias of the logits");
    model
}

pub fn options(width: usize, max_tokens: usize) -> TranslateOptions {
    TranslateOptions {
        max_tokens: Some(max_tokens),
        ..TranslateOptions::default().with_width(width)
    }
}

fn text(lm: &LanguageModel, ids: &[u32]) -> String {
    let kept: Vec<u32> = ids.iter().copied().filter(|id| !lm.end_ids.contains(id)).collect();
    let text = lm.tokenizer.as_ref().unwrap().decode(&kept).unwrap();
    text.trim().to_owned()
}

#[test]
fn one_candidate_takes_the_likeliest_token_of_a_whole_pass_each_time() {
    for (name, lm) in encoder_decoders() {
        let source = "a bad cab";
        let tokenizer = lm.tokenizer.as_ref().unwrap();
        let ids = tokenizer.frame().around(&tokenizer.encode(source).unwrap());
        let (mut written, mut logprob) = (Vec::new(), 0.0);
        // Longer than the cache is at first.
        while written.len() < 24 && written.last() != lm.end_ids.first() {
            let next = next(&lm, &ids, &written);
            let best = (0..next.len()).max_by(|a, b| next[*a].total_cmp(&next[*b])).unwrap();
            logprob += next[best];
            written.push(best as u32);
        }
        let found = translate(&lm, &[source], &options(1, 24)).unwrap().remove(0);
        assert_eq!(found.translation, text(&lm, &written), "{name}");
        assert_eq!(found.tokens, written.len(), "{name}");
        assert!(
            (found.logprob - logprob).abs() < 1e-4,
            "{name}: {} and {logprob}",
            found.logprob
        );
        assert_eq!(found.is_complete, written.last() == lm.end_ids.first(), "{name}");
        assert_eq!(found.source_tokens, source.len());
    }
}

#[test]
fn as_many_candidates_as_tokens_find_the_best_of_all_translations_of_two_tokens() {
    for (name, lm) in encoder_decoders() {
        let tokenizer = lm.tokenizer.as_ref().unwrap();
        let ids = tokenizer.frame().around(&tokenizer.encode("bee").unwrap());
        let vocab_size = tokenizer.vocab_size() as u32;
        let mut all: Vec<(f64, Vec<u32>)> = Vec::new();
        let first = next(&lm, &ids, &[]);
        for a in 0..vocab_size {
            if lm.end_ids.contains(&a) {
                all.push((first[a as usize], vec![a]));
                continue;
            }
            let second = next(&lm, &ids, &[a]);
            all.extend((0..vocab_size).map(|b| ((first[a as usize] + second[b as usize]) / 2.0, vec![a, b])));
        }
        all.sort_by(|left, right| right.0.total_cmp(&left.0));
        let width = vocab_size as usize;
        let mut options = options(width, 2);
        options.beam.early_stopping = EarlyStopping::Never;
        options.alternatives = 3;
        let found = translate(&lm, &["bee"], &options).unwrap().remove(0);
        assert!(
            (found.score - all[0].0).abs() < 1e-4,
            "{name}: {} and {}",
            found.score,
            all[0].0
        );
        assert_eq!(found.translation, text(&lm, &all[0].1), "{name}");
        for (alternative, (score, ids)) in found.alternatives.iter().zip(&all[1..]) {
            assert!((alternative.score - score).abs() < 1e-4, "{name}");
            assert_eq!(alternative.translation, text(&lm, ids), "{name}");
        }
        assert_eq!(found.alternatives.len(), 3);
    }
}

#[test]
fn a_model_of_one_stack_translates_what_beam_search_continues() {
    let lm = one_stack();
    let sources = ["abc", "a", "fade a bed"];
    let beam = BeamOptions {
        width: 3,
        length_penalty: 0.6,
        ..BeamOptions::default()
    };
    let translated = TranslateOptions {
        beam,
        alternatives: 2,
        max_tokens: Some(6),
        ..TranslateOptions::default()
    };
    let found = translate(&lm, &sources, &translated).unwrap();
    for (source, translation) in sources.iter().zip(found) {
        let prompt = Prompt::Text(format!("{source}\n"));
        let continued = GenerateOptions {
            max_tokens: 6,
            ..GenerateOptions::default()
        };
        let beams = beam_search(&lm, &prompt, &continued, &beam).unwrap();
        let texts = beams.iter().map(|beam| text(&lm, &beam.generation.token_ids));
        let others = translation.alternatives.iter().map(|other| other.translation.clone());
        let all: Vec<String> = std::iter::once(translation.translation.clone()).chain(others).collect();
        assert_eq!(all, texts.collect::<Vec<_>>());
        assert!((translation.score - beams[0].score).abs() < 1e-5);
        assert!((translation.logprob - beams[0].logprob).abs() < 1e-5);
    }
}

#[test]
fn a_translation_has_the_same_bits_alone_and_in_any_batch() {
    // Enough for a search per thread.
    let sources = [
        "abc",
        "",
        "a",
        "fade a bed",
        "bad",
        "  ",
        "gab he",
        "abc",
        "dead beef",
        "bed",
        "a cab",
        "fed",
        "he",
    ];
    let mut models = encoder_decoders();
    models.push(("one stack", one_stack()));
    for (name, lm) in models {
        for width in [1, 3] {
            let alone = |source: &&str| translate(&lm, &[*source], &options(width, 24)).unwrap().remove(0);
            let wanted: Vec<Translation> = sources.iter().map(alone).collect();
            for batch_size in [1, 2, 5, 32] {
                let options = TranslateOptions {
                    batch_size,
                    ..options(width, 24)
                };
                let found = translate(&lm, &sources, &options).unwrap();
                assert_eq!(found, wanted, "{name}, {width} candidates, batches of {batch_size}");
            }
            assert_eq!(
                (wanted[1].translation.as_str(), wanted[1].parts),
                ("", 0),
                "empty lines stay empty"
            );
            assert_eq!((wanted[5].translation.as_str(), wanted[5].source.as_str()), ("", "  "));
            assert!(wanted[1].is_complete && wanted[1].tokens == 0);
        }
    }
}

#[test]
fn a_source_longer_than_the_context_is_translated_in_parts_that_end_where_sentences_do() {
    for (name, lm) in encoder_decoders() {
        let translator = Translator::new(&lm, options(2, 5)).unwrap();
        // 24 characters fit.
        let parts = ["abc abc. bad bad cab.", "had a bed. a cage."];
        let whole = parts.join(" ");
        let line = translator.read(&whole).unwrap();
        assert_eq!(line.n_parts(), 2, "{name}");
        let found = translator.translate_lines(vec![line]).unwrap().remove(0);
        let alone = translator.translate(&parts).unwrap();
        let joined: Vec<&str> = alone.iter().map(|part| part.translation.as_str()).collect();
        assert_eq!(found.translation, joined.join(" "), "{name}");
        assert_eq!(found.tokens, alone[0].tokens + alone[1].tokens);
        assert!((found.logprob - alone[0].logprob - alone[1].logprob).abs() < 1e-12);
        assert_eq!((found.parts, alone[0].parts), (2, 1));
        let error = translator.read(&"ab".repeat(13)).unwrap_err().of_text("line 7");
        assert!(
            matches!(
                error,
                InferenceError::SentenceTooLong {
                    tokens: 26,
                    context: CONTEXT,
                    ..
                }
            ),
            "{error:?}"
        );
        assert!(
            error.to_string().starts_with("line 7: a sentence has 26 tokens"),
            "{error}"
        );
    }
    // Half of the context of one stack is for the translation.
    let lm = one_stack();
    let translator = Translator::new(&lm, options(2, 5)).unwrap();
    let error = translator.read("a bad cab had").unwrap_err();
    assert!(
        matches!(error, InferenceError::SentenceTooLong { context: 12, .. }),
        "{error:?}"
    );
}

#[test]
fn a_translator_of_known_languages_translates_each_sentence_and_each_line_alone() {
    for (name, lm) in encoder_decoders() {
        let by_line = Translator::new(&lm, options(2, 5)).unwrap();
        assert_eq!(by_line.read("a bad. a cab.").unwrap().n_parts(), 1, "{name}");
        let lines = ["a bad.", "had a cab. he"];
        let found = by_line.translate(&[lines.join("\n\n")]).unwrap().remove(0);
        let alone = by_line.translate(&lines).unwrap();
        let alone: Vec<&str> = alone.iter().map(|line| line.translation.as_str()).collect();
        assert_eq!(found.translation, alone.join("\n\n"), "{name}: lines are always alone");

        let known = lm.with_translation(facts());
        let translator = Translator::new(&known, options(3, 5)).unwrap();
        let line = translator.read("\ta bad.  had a cab. he\n\n bed ").unwrap();
        assert_eq!((line.n_parts(), line.is_longer_than_context()), (4, false), "{name}");
        let found = translator.translate_lines(vec![line]).unwrap().remove(0);
        let alone = translator.translate(&["a bad.", "had a cab.", "he", "bed"]).unwrap();
        let of = |index: usize| alone[index].translation.as_str();
        assert_eq!(
            found.translation,
            format!("{}  {} {}\n\n {}", of(0), of(1), of(2), of(3)),
            "{name}: the white space between sentences stays"
        );
        assert_eq!(found.tokens, alone.iter().map(|it| it.tokens).sum::<usize>(), "{name}");
        assert_eq!(
            found.source_tokens,
            alone.iter().map(|it| it.source_tokens).sum::<usize>(),
            "{name}"
        );
    }
}

#[test]
fn sentences_without_white_space_between_them_are_translated_alone_and_get_none() {
    let letters = TrainerConfig::new(Kind::Char, 100).train(["abcdefgh .HA\n"]).unwrap();
    let config = TransformerConfig::marian(size(letters.vocab_size(), CONTEXT, 2, 2, 16));
    let mut lm = LanguageModel::new(tiny::model(&config, 11), Some(letters)).with_translation(facts());
    lm.end_ids = vec![end_id(lm.tokenizer.as_ref().unwrap())];
    let translator = Translator::new(&lm, options(2, 5)).unwrap();
    let found = translator
        .translate(&["He had a bed.He faded. A cab"])
        .unwrap()
        .remove(0);
    let alone = translator.translate(&["He had a bed.", "He faded.", "A cab"]).unwrap();
    let of = |index: usize| alone[index].translation.as_str();
    assert_eq!(
        (found.parts, found.translation),
        (3, format!("{}{} {}", of(0), of(1), of(2)))
    );
}

#[test]
fn alternatives_of_several_sentences_differ_in_one_and_their_attention_is_side_by_side() {
    for (name, lm) in encoder_decoders() {
        let lm = lm.with_translation(facts());
        let asked = TranslateOptions {
            alternatives: 2,
            with_attention: true,
            ..options(3, 5)
        };
        let translator = Translator::new(&lm, asked).unwrap();
        let found = translator.translate(&["a bad. he had"]).unwrap().remove(0);
        let alone = translator.translate(&["a bad.", "he had"]).unwrap();
        let texts = |translation: &Translation| -> Vec<String> {
            let others = translation.alternatives.iter().map(|other| other.translation.clone());
            std::iter::once(translation.translation.clone()).chain(others).collect()
        };
        let (left, right) = (texts(&alone[0]), texts(&alone[1]));
        assert_eq!(found.alternatives.len(), 2, "{name}");
        for other in &found.alternatives {
            let is_first = left[1..]
                .iter()
                .any(|text| other.translation == format!("{text} {}", right[0]));
            let is_second = right[1..]
                .iter()
                .any(|text| other.translation == format!("{} {text}", left[0]));
            assert!(is_first || is_second, "{name}: {other:?} of {left:?} and {right:?}");
        }
        assert!(found.alternatives[0].score >= found.alternatives[1].score, "{name}");
        let [whole, first, second] = [&found, &alone[0], &alone[1]].map(|it| it.attention.as_ref().expect("attention"));
        assert_eq!(whole.source, ["a", "bad.", "he", "had"], "{name}");
        let rows = first.weights.iter().map(|row| [&row[..], &[0.0, 0.0]].concat());
        let rows = rows.chain(second.weights.iter().map(|row| [&[0.0, 0.0], &row[..]].concat()));
        assert_eq!(whole.weights, rows.collect::<Vec<_>>(), "{name}");
    }
}

/// A model that writes a name whatever it reads, and spells in bytes.
fn writer_of_names() -> LanguageModel {
    let tokenizer = TrainerConfig::new(Kind::Bpe, 300)
        .train(["Tom\n".repeat(20)])
        .expect("merges");
    let config = TransformerConfig {
        decoder_start: tokenizer.eos_id(),
        ..TransformerConfig::marian(size(tokenizer.vocab_size(), CONTEXT, 1, 2, 16))
    };
    let id = tokenizer.token_to_id("Tom").expect("one token");
    LanguageModel::new(writing(&config, id), Some(tokenizer))
}

#[test]
fn words_that_are_spelled_in_bytes_take_the_place_of_the_name_that_stands_for_them() {
    let lm = writer_of_names();
    let found = translate(&lm, &["o 田中!", "😀 😀", "Tom"], &options(1, 1)).unwrap();
    assert_eq!(found[0].translation, "田中", "the model writes Tom");
    assert!(
        found[0].unknown >= 6 && found[0].unknown <= found[0].source_tokens,
        "{found:?}"
    );
    assert_eq!(
        (found[1].translation.as_str(), found[1].tokens),
        ("😀 😀", 0),
        "nothing else is there"
    );
    assert_eq!((found[2].translation.as_str(), found[2].unknown), ("Tom", 0));
    // The name is there twice, so the source is translated as it is.
    let found = translate(&lm, &["o 田中!"], &options(1, 2)).unwrap().remove(0);
    assert_eq!(found.translation, "TomTom");
}

#[test]
fn logits_that_are_not_finite_are_an_error_and_never_an_empty_translation() {
    for value in [f32::NAN, f32::INFINITY] {
        let tokenizer = tokenizer();
        let config = TransformerConfig::marian(size(tokenizer.vocab_size(), CONTEXT, 2, 2, 16));
        let model = tiny::model(&config, 3);
        let broken =
            |name: &str, dims: &[usize], given: Vec<f32>| match name.contains("final_norm") || name.contains("cross") {
                true => vec![value; dims.iter().product()],
                false => given,
            };
        let mut values = BTreeMap::new();
        parameters::read(&model, |name, dims, given| {
            values.insert(name.to_owned(), broken(name, dims, given));
        });
        let give =
            |name: &str, _: &[usize]| -> Result<Vec<f32>, Infallible> { Ok(values.remove(name).expect("a parameter")) };
        let model = match parameters::replace(model, give) {
            Ok(model) => model,
            Err(never) => match never {},
        };
        let lm = LanguageModel::new(model, Some(tokenizer));
        for width in [1, 3] {
            let error = translate(&lm, &["a bad cab"], &options(width, 4)).expect_err("not finite");
            assert!(matches!(error, InferenceError::NotFinite { .. }), "{value}: {error:?}");
        }
    }
}

#[test]
fn a_translator_stops_once_nobody_waits() {
    let lm = one_stack();
    let is_cancelled = AtomicBool::new(false);
    let translator = Translator::new(&lm, options(2, 5)).unwrap().with_cancel(&is_cancelled);
    assert_eq!(translator.translate(&["abc"]).unwrap().len(), 1);
    is_cancelled.store(true, Ordering::Relaxed);
    let error = translator.translate(&["abc"]).expect_err("cancelled");
    assert!(matches!(error, InferenceError::Cancelled), "{error:?}");
}

#[test]
fn a_translation_says_what_cut_it_off() {
    let tokenizer = tokenizer();
    let id = tokenizer.token_to_id("a").expect("a letter");
    let config = TransformerConfig::marian(size(tokenizer.vocab_size(), CONTEXT, 2, 2, 16));
    let lm = LanguageModel::new(writing(&config, id), Some(tokenizer));
    for (max_tokens, tokens, cut) in [
        (Some(4), 4, Cut::MaxTokens),
        (Some(100), CONTEXT, Cut::Context),
        (None, CONTEXT, Cut::Context),
    ] {
        let options = TranslateOptions {
            max_tokens,
            ..options(1, 1)
        };
        let found = translate(&lm, &["bad"], &options).unwrap().remove(0);
        assert_eq!((found.tokens, found.cut_by), (tokens, Some(cut)));
        assert!(!found.is_complete);
    }
}

#[test]
fn unknown_characters_are_those_of_the_source_with_the_most_attention() {
    let mut trainer = TrainerConfig::new(Kind::Char, 100);
    trainer.unknown = Unknown::Token;
    let tokenizer = trainer.train(["abcdefgh "]).expect("characters");
    let unknown = tokenizer.unk_id().expect("an unknown token");
    let config = TransformerConfig {
        tie_embeddings: false,
        ..TransformerConfig::marian(size(tokenizer.vocab_size(), CONTEXT, 2, 2, 16))
    };
    let lm = LanguageModel::new(writing(&config, unknown), Some(tokenizer));
    let found = translate(&lm, &["a猫 ?", "abc"], &options(1, 3)).unwrap();
    assert_eq!(found[0].unknown, 2);
    assert_eq!(found[0].translation.chars().count(), 3, "{found:?}");
    assert!(
        found[0].translation.chars().all(|letter| "猫?".contains(letter)),
        "{found:?}"
    );
    // Without an unknown character in the source there is nothing to copy.
    assert_eq!(
        (found[1].unknown, found[1].translation.as_str()),
        (0, "[UNK][UNK][UNK]")
    );
}

#[test]
fn the_token_that_the_decoder_begins_with_is_never_generated_unless_it_ends_a_text() {
    let tokenizer = tokenizer();
    let config = TransformerConfig::marian(size(tokenizer.vocab_size(), CONTEXT, 2, 2, 16));
    let start = config.decoder_start.expect("a start");
    assert!(!tokenizer.is_special(start), "its file may not call it special");
    let padding = tokenizer.decode(&[start]).expect("a letter");
    assert!(!padding.trim().is_empty());
    let mut lm = LanguageModel::new(writing(&config, start), Some(tokenizer));
    for width in [1, 3] {
        let found = translate(&lm, &["a bad cab"], &options(width, 4)).unwrap().remove(0);
        assert_eq!(found.tokens, 4, "{found:?}");
        assert!(!found.translation.contains(padding.trim()), "{found:?}");
        assert!(found.logprob < -1000.0, "others have what its probability leaves");
    }
    lm.end_ids = vec![start];
    let found = translate(&lm, &["a bad cab"], &options(1, 4)).unwrap().remove(0);
    assert_eq!((found.tokens, found.translation.as_str()), (1, ""));
    assert!(found.is_complete);
}

#[test]
fn every_word_has_its_attention_over_the_words_of_the_source() {
    let mut models = encoder_decoders();
    models.push(("one stack", one_stack()));
    for (name, lm) in models {
        let options = TranslateOptions {
            with_attention: true,
            ..options(2, 9)
        };
        let found = translate(&lm, &["a bad cab", ""], &options).unwrap();
        let attention = found[0].attention.as_ref().expect("attention");
        assert_eq!(attention.source, ["a", "bad", "cab"], "{name}");
        let words: Vec<&str> = found[0].translation.split_whitespace().collect();
        assert_eq!(attention.translation, words, "{name}");
        assert_eq!(attention.weights.len(), words.len());
        for row in &attention.weights {
            assert_eq!(row.len(), 3, "{name}");
            assert!(row.iter().all(|weight| *weight >= 0.0), "{name}: {row:?}");
            let sum: f32 = row.iter().sum();
            assert!(sum > 0.0 && sum < 1.0 + 1e-5, "{name}: {row:?}");
        }
        assert_eq!(found[1].attention, None);
        let plain = translate(
            &lm,
            &["a bad cab"],
            &TranslateOptions {
                with_attention: false,
                ..options
            },
        )
        .unwrap();
        let without = Translation {
            attention: None,
            ..found[0].clone()
        };
        assert_eq!(plain[0], without, "{name}: looking changes nothing");
    }
}

#[test]
fn models_that_do_not_translate_are_refused_with_a_way_out() {
    let tokenizer = tokenizer();
    let size = size(tokenizer.vocab_size(), CONTEXT, 1, 2, 16);
    let causal = LanguageModel::new(tiny::model(&TransformerConfig::llama(size), 1), Some(self::tokenizer()));
    let masked = LanguageModel::new(tiny::model(&TransformerConfig::bert(size), 1), Some(self::tokenizer()));
    for (lm, part) in [(&causal, "translation.json"), (&masked, "masked")] {
        let error = Translator::new(lm, TranslateOptions::default()).expect_err("no translator");
        let message = error.to_string();
        assert!(matches!(error, InferenceError::NotTranslator { .. }), "{error:?}");
        assert!(message.contains(part) && message.contains("taal train"), "{message}");
    }
    // And one with an encoder does not continue texts.
    for (_, lm) in encoder_decoders() {
        let options = GenerateOptions {
            sampling: Sampling::greedy(),
            ..GenerateOptions::default()
        };
        let prompt = Prompt::from("abc");
        let continued = generate(&lm, &prompt, &options, &mut |_| ControlFlow::Continue(()));
        let searched = beam_search(&lm, &prompt, &options, &BeamOptions::default());
        for error in [continued.expect_err("a source"), searched.expect_err("a source")] {
            assert!(matches!(error, InferenceError::NeedsSource { .. }), "{error:?}");
            assert!(error.to_string().contains("taal translate"), "{error}");
        }
        assert!(matches!(
            taal_inference::embed(&lm, "abc", None).expect_err("no vector"),
            InferenceError::NeedsSource { .. }
        ));
    }
}

#[test]
fn wrong_options_and_languages_are_refused_by_name() {
    let lm = one_stack();
    for (options, key) in [
        (TranslateOptions::default().with_width(0), "beam"),
        (
            TranslateOptions {
                alternatives: 5,
                ..TranslateOptions::default()
            },
            "alternatives",
        ),
        (options(1, 0), "max_tokens"),
        (
            TranslateOptions {
                batch_size: 0,
                ..TranslateOptions::default()
            },
            "batch_size",
        ),
    ] {
        let error = Translator::new(&lm, options).expect_err(key).to_string();
        assert!(error.starts_with(&format!("{key}: ")), "{error}");
    }
    let facts = facts();
    assert!(check_languages(Some(&facts), Some("EN"), Some("nl-NL")).unwrap());
    assert!(!check_languages(None, Some("de"), None).unwrap(), "nothing is known");
    for (from, to, key) in [(Some("nl"), None, "from"), (None, Some("de"), "to")] {
        let error = check_languages(Some(&facts), from, to).expect_err(key).to_string();
        assert!(
            error.starts_with(&format!("{key}: this model translates en to nl")),
            "{error}"
        );
    }
}

#[test]
fn the_own_loss_is_that_of_the_translations_per_token() {
    let lm = &encoder_decoders()[0].1;
    let sources = ["bad cab", "a", "fed a bee"];
    let found = translate(lm, &sources, &TranslateOptions::greedy()).unwrap();
    let nats: f64 = found.iter().map(|translation| -translation.logprob).sum();
    let tokens: usize = found.iter().map(|translation| translation.tokens).sum();
    assert!((own_loss(lm, &sources).unwrap() - nats / tokens as f64).abs() < 1e-12);
}
