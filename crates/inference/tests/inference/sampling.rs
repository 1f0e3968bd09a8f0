//! Which tokens the filters leave, with what probability, and how they are drawn.

use taal_inference::{InferenceError, Sampling, Seen, candidates, sample};
use taal_store::ErrorKind;

/// Probabilities 0.4, 0.3, 0.2, 0.1 for the ids 2, 0, 3, 1.
fn four() -> [f32; 4] {
    [0.3_f32, 0.1, 0.4, 0.2].map(f32::ln)
}

fn prompt(prompt: &[u32]) -> Seen<'_> {
    Seen {
        prompt,
        ..Seen::default()
    }
}

fn kept(logits: &[f32], sampling: &Sampling) -> Vec<u32> {
    candidates(logits, Seen::default(), sampling)
        .expect("candidates")
        .iter()
        .map(|candidate| candidate.id)
        .collect()
}

fn probabilities(logits: &[f32], seen: Seen<'_>, sampling: &Sampling) -> Vec<f64> {
    candidates(logits, seen, sampling)
        .expect("candidates")
        .iter()
        .map(|candidate| candidate.probability)
        .collect()
}

fn assert_close(left: &[f64], right: &[f64]) {
    assert_eq!(left.len(), right.len(), "{left:?} {right:?}");
    assert!(
        left.iter().zip(right).all(|(left, right)| (left - right).abs() < 1e-6),
        "{left:?} {right:?}"
    );
}

#[test]
fn without_filters_the_distribution_is_the_softmax() {
    assert_close(
        &probabilities(&four(), Seen::default(), &Sampling::default()),
        &[0.3, 0.1, 0.4, 0.2],
    );
    let hot = Sampling {
        temperature: 0.5,
        ..Sampling::default()
    };
    assert_close(
        &probabilities(&four(), Seen::default(), &hot),
        &[9.0 / 30.0, 1.0 / 30.0, 16.0 / 30.0, 4.0 / 30.0],
    );
}

#[test]
fn top_k_keeps_exactly_k_and_prefers_low_ids_among_equals() {
    let top = |k| Sampling {
        top_k: Some(k),
        ..Sampling::default()
    };
    assert_eq!(kept(&four(), &top(1)), [2]);
    assert_eq!(kept(&four(), &top(2)), [0, 2]);
    assert_eq!(kept(&four(), &top(3)), [0, 2, 3]);
    assert_eq!(kept(&four(), &top(4)), [0, 1, 2, 3]);
    assert_eq!(kept(&four(), &top(400)), [0, 1, 2, 3]);
    assert_eq!(kept(&[1.0, 2.0, 2.0, 2.0, 0.0], &top(2)), [1, 2]);
    assert_eq!(kept(&[0.0, -0.0, 0.0], &top(2)), [0, 1], "zero is zero");
}

#[test]
fn top_p_keeps_the_smallest_set_with_enough_mass() {
    let top = |p| Sampling {
        top_p: Some(p),
        ..Sampling::default()
    };
    assert_eq!(kept(&four(), &top(1e-9)), [2], "always at least one");
    assert_eq!(kept(&four(), &top(0.0)), [2], "as in transformers");
    assert_eq!(kept(&four(), &top(0.39)), [2]);
    assert_eq!(kept(&four(), &top(0.41)), [0, 2]);
    assert_eq!(kept(&four(), &top(0.69)), [0, 2]);
    assert_eq!(kept(&four(), &top(0.71)), [0, 2, 3]);
    assert_eq!(kept(&four(), &top(0.91)), [0, 1, 2, 3]);
    assert_eq!(kept(&four(), &top(1.0)), [0, 1, 2, 3]);
    // Four equal tokens are a quarter each, exactly: half the mass is two of them, not three.
    assert_eq!(kept(&[1.5; 4], &top(0.5)), [0, 1]);
}

#[test]
fn min_p_is_relative_to_the_most_probable_token() {
    let min = |p| Sampling {
        min_p: Some(p),
        ..Sampling::default()
    };
    assert_eq!(kept(&four(), &min(0.0)), [0, 1, 2, 3]);
    assert_eq!(kept(&four(), &min(0.24)), [0, 1, 2, 3]);
    assert_eq!(kept(&four(), &min(0.26)), [0, 2, 3]);
    assert_eq!(kept(&four(), &min(0.51)), [0, 2]);
    assert_eq!(kept(&four(), &min(0.76)), [2]);
    assert_eq!(kept(&four(), &min(1.0)), [2]);
}

#[test]
fn filters_apply_one_after_another() {
    // Of the two that top-k leaves, the first has 4/7 of the mass: more than half, so top-p keeps it alone.
    let both = Sampling {
        top_k: Some(2),
        top_p: Some(0.5),
        ..Sampling::default()
    };
    assert_eq!(kept(&four(), &both), [2]);
    assert_eq!(
        kept(
            &four(),
            &Sampling {
                top_p: Some(0.5),
                ..Sampling::default()
            }
        ),
        [0, 2]
    );
    // At temperature 2 the tokens are closer: square roots of the probabilities.
    let warm = Sampling {
        temperature: 2.0,
        min_p: Some(0.51),
        ..Sampling::default()
    };
    assert_eq!(kept(&four(), &warm), [0, 2, 3]);
    assert_close(
        &probabilities(
            &four(),
            Seen::default(),
            &Sampling {
                top_k: Some(2),
                ..Sampling::default()
            },
        ),
        &[3.0 / 7.0, 4.0 / 7.0],
    );
}

#[test]
fn the_repetition_penalty_divides_positive_and_multiplies_negative_logits_once() {
    let sampling = Sampling {
        repetition_penalty: 2.0,
        ..Sampling::default()
    };
    let logits = [2.0, -1.0, 3.0, 0.0];
    let expected = [1.0_f64, -2.0, 3.0, 0.0].map(f64::exp);
    let total: f64 = expected.iter().sum();
    let seen = [0, 1, 0, 3, 1, 99];
    assert_close(
        &probabilities(&logits, prompt(&seen), &sampling),
        &expected.map(|weight| weight / total),
    );
    // The penalty applies first, so the most probable token loses even under greedy sampling.
    let greedy = Sampling {
        repetition_penalty: 2.0,
        ..Sampling::greedy()
    };
    assert_eq!(sample(&logits, prompt(&[2]), &greedy, 0).expect("a token"), 0);
}

#[test]
fn greedy_takes_the_lowest_id_among_the_highest_logits() {
    let greedy = Sampling::greedy();
    assert_eq!(
        sample(&[0.0, 5.0, 1.0, 5.0], Seen::default(), &greedy, 1).expect("a token"),
        1
    );
    assert_eq!(
        sample(&[f32::NEG_INFINITY, -7.0], Seen::default(), &greedy, 1).expect("a token"),
        1
    );
    assert_eq!(sample(&[-0.0, 0.0], Seen::default(), &greedy, 1).expect("a token"), 0);
    assert_eq!(
        candidates(&[0.0, 5.0], Seen::default(), &greedy).expect("one")[0].probability,
        1.0
    );
}

/// Pearson's statistic of 20,000 draws against the distribution they should follow.
fn chi_square(logits: &[f32], sampling: &Sampling) -> f64 {
    const DRAWS: u64 = 20_000;
    let expected = candidates(logits, Seen::default(), sampling).expect("candidates");
    let mut counts = vec![0_u64; logits.len()];
    for position in 0..DRAWS {
        counts[sample(logits, Seen::default(), sampling, sampling.draw_key(position)).expect("a token") as usize] += 1;
    }
    let kept: u64 = expected.iter().map(|candidate| counts[candidate.id as usize]).sum();
    assert_eq!(kept, DRAWS, "nothing outside the kept set is ever drawn");
    let terms = expected.iter().map(|candidate| {
        let mean = candidate.probability * DRAWS as f64;
        (counts[candidate.id as usize] as f64 - mean).powi(2) / mean
    });
    terms.sum()
}

#[test]
fn draws_follow_the_distribution() {
    let logits = [0.1, -2.0, 1.3, 0.0, 2.1, -0.7, f32::NEG_INFINITY, 0.9];
    // The statistic exceeds these bounds once in a thousand times; the seeds are fixed, so once is enough.
    let [six_degrees, three_degrees] = [22.46, 16.27];
    for seed in [0, 1, 1337] {
        let whole = chi_square(
            &logits,
            &Sampling {
                seed,
                ..Sampling::default()
            },
        );
        assert!(whole < six_degrees, "seed {seed}: {whole}");
        let four = chi_square(
            &logits,
            &Sampling {
                seed,
                top_k: Some(4),
                temperature: 1.5,
                ..Sampling::default()
            },
        );
        assert!(four < three_degrees, "seed {seed}: {four}");
    }
}

#[test]
fn a_draw_depends_only_on_seed_and_position() {
    let logits: Vec<f32> = (0..50).map(|id| (id as f32 * 0.37).sin()).collect();
    let draws = |seed, positions: &[u64]| -> Vec<u32> {
        let sampling = Sampling {
            seed,
            ..Sampling::default()
        };
        let draw = |&position: &u64| {
            sample(&logits, Seen::default(), &sampling, sampling.draw_key(position)).expect("a token")
        };
        positions.iter().map(draw).collect()
    };
    let forwards = draws(5, &[0, 1, 2, 3, 4, 5]);
    let backwards: Vec<u32> = draws(5, &[5, 4, 3, 2, 1, 0]).into_iter().rev().collect();
    assert_eq!(forwards, backwards);
    assert_ne!(forwards, draws(6, &[0, 1, 2, 3, 4, 5]));
}

#[test]
fn a_filter_that_removes_nothing_changes_no_draw() {
    let logits: Vec<f32> = (0..50).map(|id| (id as f32 * 0.37).sin()).collect();
    let plain = Sampling {
        seed: 9,
        ..Sampling::default()
    };
    let idle = Sampling {
        top_k: Some(50),
        top_p: Some(1.0 - 1e-12),
        min_p: Some(1e-9),
        ..plain.clone()
    };
    for position in 0..200 {
        let key = plain.draw_key(position);
        assert_eq!(
            sample(&logits, Seen::default(), &plain, key).expect("a token"),
            sample(&logits, Seen::default(), &idle, key).expect("a token")
        );
    }
}

#[test]
fn settings_outside_their_range_are_refused_by_name() {
    type Change = fn(&mut Sampling);
    let cases: [(&str, Change); 19] = [
        ("temperature", |s| s.temperature = -0.1),
        ("temperature", |s| s.temperature = f64::NAN),
        ("temperature", |s| s.temperature = f64::INFINITY),
        ("top_k", |s| s.top_k = Some(0)),
        ("top_p", |s| s.top_p = Some(-0.1)),
        ("top_p", |s| s.top_p = Some(1.1)),
        ("top_p", |s| s.top_p = Some(f64::NAN)),
        ("min_p", |s| s.min_p = Some(-0.1)),
        ("min_p", |s| s.min_p = Some(f64::NAN)),
        ("typical_p", |s| s.typical_p = Some(0.0)),
        ("typical_p", |s| s.typical_p = Some(1.5)),
        ("repetition_penalty", |s| s.repetition_penalty = 0.0),
        ("repetition_penalty", |s| s.repetition_penalty = f64::NAN),
        ("frequency_penalty", |s| s.frequency_penalty = -2.1),
        ("frequency_penalty", |s| s.frequency_penalty = f64::NAN),
        ("presence_penalty", |s| s.presence_penalty = 2.1),
        ("presence_penalty", |s| s.presence_penalty = f64::NAN),
        ("logit_bias", |s| s.logit_bias = [(3, 100.5)].into()),
        ("logit_bias", |s| s.logit_bias = [(0, 1.0), (3, f64::NAN)].into()),
    ];
    for (key, change) in cases {
        let mut sampling = Sampling::default();
        change(&mut sampling);
        let error = sample(&four(), Seen::default(), &sampling, 0).expect_err(key);
        assert!(error.to_string().starts_with(&format!("{key}: expected")), "{error}");
        assert_eq!(error.kind(), ErrorKind::Usage);
    }
}

#[test]
fn presence_and_frequency_penalties_count_the_new_text_only() {
    let sampling = Sampling {
        frequency_penalty: 0.5,
        presence_penalty: 0.25,
        ..Sampling::default()
    };
    let seen = Seen {
        prompt: &[0, 0, 2],
        new: &[1, 3, 1, 99],
    };
    let expected = [2.0_f64, -1.0 - 1.25, 3.0, 0.0 - 0.75].map(f64::exp);
    let total: f64 = expected.iter().sum();
    assert_close(
        &probabilities(&[2.0, -1.0, 3.0, 0.0], seen, &sampling),
        &expected.map(|weight| weight / total),
    );
}

#[test]
fn a_bias_counts_before_the_penalties_and_works_under_greedy_sampling() {
    let biased = |logit_bias: &[(u32, f64)], temperature| Sampling {
        logit_bias: logit_bias.iter().copied().collect(),
        temperature,
        ..Sampling::default()
    };
    let token = |sampling: &Sampling| sample(&four(), Seen::default(), sampling, 3).expect("a token");
    assert_eq!(token(&biased(&[(2, -100.0)], 0.0)), 0);
    assert_eq!(token(&biased(&[(1, 100.0)], 1.0)), 1);
    assert_eq!(token(&biased(&[(77, 100.0)], 0.0)), 2, "not in the vocabulary");
    // -1 becomes 1, which the penalty divides.
    let both = Sampling {
        repetition_penalty: 2.0,
        ..biased(&[(1, 2.0)], 1.0)
    };
    let expected = [1.0_f64, 0.5_f64.exp()];
    assert_close(
        &probabilities(&[0.0, -1.0], prompt(&[1]), &both),
        &expected.map(|weight| weight / expected.iter().sum::<f64>()),
    );
}

#[test]
fn typical_p_keeps_the_tokens_nearest_to_the_entropy() {
    let typical = |p| Sampling {
        typical_p: Some(p),
        ..Sampling::default()
    };
    // Surprisals 1.20, 2.30, 0.92, 1.61 and an entropy of 1.28: the nearest is 0, then 3, 2, 1.
    assert_eq!(kept(&four(), &typical(0.2)), [0]);
    assert_eq!(kept(&four(), &typical(0.31)), [0, 3]);
    assert_eq!(kept(&four(), &typical(0.51)), [0, 2, 3]);
    assert_eq!(kept(&four(), &typical(1.0)), [0, 1, 2, 3]);
    assert_eq!(kept(&[0.0, 1.0, f32::MIN], &typical(0.99)), [0, 1], "without mass");
}

/// The processors and warpers of transformers on given vectors; `golden/make_sampling.py` makes the file.
#[test]
fn filters_and_penalties_equal_those_of_transformers() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/sampling.json");
    let file: serde_json::Value = serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON");
    let floats = |value: &serde_json::Value| -> Vec<f64> { serde_json::from_value(value.clone()).expect("numbers") };
    let ids = |value: &serde_json::Value| -> Vec<u32> { serde_json::from_value(value.clone()).expect("ids") };
    let cases = file["cases"].as_array().expect("a list");
    assert!(cases.len() >= 100, "{}", cases.len());
    for case in cases {
        let sampling: Sampling = serde_json::from_value(case["sampling"].clone()).expect("settings");
        let logits: Vec<f32> = floats(&file["vectors"][case["vector"].as_str().expect("a name")])
            .iter()
            .map(|logit| *logit as f32)
            .collect();
        let (prompt, new) = (ids(&file["prompt"]), ids(&file["new"]));
        let seen = Seen {
            prompt: &prompt,
            new: &new,
        };
        let found = candidates(&logits, seen, &sampling).expect("candidates");
        let (found_ids, probabilities): (Vec<_>, Vec<_>) =
            found.iter().map(|found| (found.id, found.probability)).unzip();
        assert_eq!(found_ids, ids(&case["ids"]), "{case}");
        assert_close(&probabilities, &floats(&case["probabilities"]));
    }
}

#[test]
fn extreme_temperatures_stay_finite() {
    let cold = Sampling {
        temperature: 1e-300,
        ..Sampling::default()
    };
    assert_eq!(sample(&four(), Seen::default(), &cold, 3).expect("a token"), 2);
    let hot = Sampling {
        temperature: 1e300,
        ..Sampling::default()
    };
    assert_close(
        &probabilities(&[f32::MAX, f32::MIN], Seen::default(), &hot),
        &[0.5, 0.5],
    );
    let penalized = Sampling {
        repetition_penalty: 0.01,
        ..Sampling::default()
    };
    assert_eq!(
        sample(&[f32::MAX, 0.0], prompt(&[0]), &penalized, 3).expect("a token"),
        0
    );
}

#[test]
fn logits_that_are_not_numbers_are_an_error() {
    for logits in [
        vec![0.0, f32::NAN],
        vec![f32::INFINITY, 0.0],
        vec![f32::NEG_INFINITY; 3],
        vec![],
    ] {
        for sampling in [Sampling::greedy(), Sampling::default()] {
            let error = sample(&logits, Seen::default(), &sampling, 0).expect_err("no token");
            assert!(matches!(error, InferenceError::NotFinite { .. }), "{error}");
            assert_eq!(error.kind(), ErrorKind::Diverged);
        }
    }
}
