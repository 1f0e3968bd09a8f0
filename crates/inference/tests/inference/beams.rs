//! Beam search on models: the best continuation, not the one that begins best.

use std::ops::ControlFlow;

use taal_inference::{
    Beam, BeamOptions, Constraint, EarlyStopping, FinishReason, GenerateOptions, InferenceError, LanguageModel, Prompt,
    Sampling, beam_search, generate,
};
use taal_model::{Transformer, TransformerConfig};

use crate::{size, tiny};

const IDS: u32 = 6;

fn models() -> [(&'static str, Transformer); 2] {
    let llama = TransformerConfig {
        tie_embeddings: false,
        ..TransformerConfig::llama(size(IDS as usize, 9, 2, 2, 16))
    };
    let lstm = TransformerConfig::lstm(size(IDS as usize, 9, 1, 1, 16));
    [("llama", tiny::model(&llama, 3)), ("lstm", tiny::model(&lstm, 4))]
}

fn tokens(max_tokens: usize) -> GenerateOptions {
    GenerateOptions {
        max_tokens,
        ..GenerateOptions::default()
    }
}

fn wide(width: usize) -> BeamOptions {
    BeamOptions {
        width,
        early_stopping: EarlyStopping::Never,
        ..BeamOptions::default()
    }
}

/// The log-probability of `ids` after `prompt`, computed at once and without a cache.
fn logprob(model: &Transformer, prompt: &[u32], ids: &[u32]) -> f64 {
    let all = tiny::all_logits(model, &[prompt, &ids[..ids.len() - 1]].concat());
    let after_prompt = all[prompt.len() - 1..].iter().zip(ids);
    after_prompt
        .map(|(logits, id)| {
            let total: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
            f64::from(logits[*id as usize]) - total.ln()
        })
        .sum()
}

#[test]
fn a_beam_as_wide_as_all_texts_finds_the_most_probable_one() {
    for (name, model) in models() {
        let prompt = [1, 4, 2];
        let mut best = (f64::NEG_INFINITY, Vec::new());
        for number in 0..IDS.pow(3) {
            let ids = vec![number / (IDS * IDS), number / IDS % IDS, number % IDS];
            let found = logprob(&model, &prompt, &ids);
            if found > best.0 {
                best = (found, ids);
            }
        }
        let lm = LanguageModel::new(model, None);
        let beams = beam_search(&lm, &Prompt::Ids(prompt.to_vec()), &tokens(3), &wide(216)).expect("beams");
        assert_eq!(beams.len(), 216, "{name}");
        assert_eq!(beams[0].generation.token_ids, best.1, "{name}");
        assert!(
            (beams[0].logprob - best.0).abs() < 1e-4,
            "{name}: {} and {}",
            beams[0].logprob,
            best.0
        );
        for beam in beams.iter().step_by(17) {
            let expected = logprob(&lm.model, &prompt, &beam.generation.token_ids);
            assert!((beam.logprob - expected).abs() < 1e-4, "{name}: {beam:?}");
            assert!((beam.score - beam.logprob / 3.0).abs() < 1e-12);
        }
    }
}

#[test]
fn one_beam_is_the_greedy_text_and_few_beams_are_at_least_as_probable() {
    let lm = tiny::char_model();
    let prompt = Prompt::from("abc");
    let greedy = GenerateOptions {
        sampling: Sampling::greedy(),
        ..tokens(6)
    };
    let expected = generate(&lm, &prompt, &greedy, &mut |_| ControlFlow::Continue(())).expect("a text");
    let search = |width| beam_search(&lm, &prompt, &tokens(6), &wide(width)).expect("beams");
    assert_eq!(search(1)[0].generation, expected);
    assert!(search(5)[0].logprob >= search(1)[0].logprob);
    assert_eq!(search(5), search(5), "equal bits");
}

#[test]
fn beams_have_the_form_that_is_asked_for() {
    let lm = tiny::char_model();
    let options = GenerateOptions {
        constraint: Some(Constraint::Regex("(ab|cde|f)( g)?".to_owned())),
        ..tokens(6)
    };
    let beams = beam_search(&lm, &Prompt::from("a"), &options, &wide(9)).expect("beams");
    let mut texts: Vec<&str> = beams
        .iter()
        .filter_map(|beam| beam.generation.text.as_deref())
        .collect();
    texts.sort_unstable();
    // The model has no token that ends texts, so a text ends where nothing more may follow.
    assert_eq!(texts, ["ab g", "cde g", "f g"]);
    assert!(
        beams
            .iter()
            .all(|beam| beam.generation.finish_reason == FinishReason::Complete)
    );
}

/// The vocabulary has no "X": a beam that begins with "a" cannot go on, and the others do.
#[test]
fn a_beam_that_cannot_go_on_does_not_end_the_others() {
    let lm = tiny::char_model();
    let search = |regex: &str| {
        let options = GenerateOptions {
            constraint: Some(Constraint::Regex(regex.to_owned())),
            ..tokens(6)
        };
        beam_search(&lm, &Prompt::from("b"), &options, &wide(4))
    };
    let beams = search("aX|cd|ef").expect("beams");
    let mut texts: Vec<&str> = beams
        .iter()
        .filter_map(|beam| beam.generation.text.as_deref())
        .collect();
    texts.sort_unstable();
    assert_eq!(texts, ["cd", "ef"]);
    assert!(matches!(search("aX|cX"), Err(InferenceError::NoTokenFits { .. })));
}

#[test]
fn a_full_context_ends_beams() {
    let (_, model) = models().into_iter().next().expect("a model");
    let lm = LanguageModel::new(model, None);
    let beams = beam_search(&lm, &Prompt::Ids(vec![1; 7]), &tokens(50), &wide(3)).expect("beams");
    let lens: Vec<usize> = beams.iter().map(|beam| beam.generation.token_ids.len()).collect();
    assert_eq!(lens, [3, 3, 3], "the last token is not read");
    assert!(
        beams
            .iter()
            .all(|beam: &Beam| beam.generation.finish_reason == FinishReason::Length)
    );
    let none = beam_search(&lm, &Prompt::Ids(vec![1]), &tokens(0), &wide(3)).expect("beams");
    assert_eq!(none.len(), 1);
    assert!(none[0].generation.token_ids.is_empty());
}

#[test]
fn what_beam_search_cannot_do_is_said() {
    let lm = tiny::char_model();
    let stop = GenerateOptions {
        stop: vec!["a".to_owned()],
        ..tokens(2)
    };
    let steep = BeamOptions {
        length_penalty: f64::NAN,
        ..wide(2)
    };
    for (options, beams, key) in [
        (tokens(2), wide(0), "beam"),
        (tokens(2), wide(5000), "beam"),
        (tokens(2), steep, "length_penalty"),
        (stop, wide(2), "stop"),
    ] {
        match beam_search(&lm, &Prompt::from("a"), &options, &beams) {
            Err(InferenceError::Setting { key: found, .. }) => assert_eq!(found, key),
            other => panic!("{key}: {other:?}"),
        }
    }
}
