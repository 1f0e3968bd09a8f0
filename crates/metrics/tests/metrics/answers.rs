//! Metrics of answers against rouge_score's and scikit-learn's, and their intervals.

use taal_metrics::{bootstrap_interval, exact_match, label_of, macro_f1, paired_difference, rouge_l};

use crate::numbers;

fn golden() -> serde_json::Value {
    serde_json::from_str(include_str!("../golden/answers.json")).expect("JSON")
}

#[test]
fn rouge_l_is_that_of_rouge_score() {
    let golden = golden();
    let cases = golden["rouge"].as_array().unwrap();
    assert!(cases.len() > 50);
    for case in cases {
        let (answer, reference) = (case["answer"].as_str().unwrap(), case["reference"].as_str().unwrap());
        let found = rouge_l(answer, reference);
        for (found, key) in [
            (found.precision, "precision"),
            (found.recall, "recall"),
            (found.f1, "f1"),
        ] {
            let wanted = case[key].as_f64().unwrap();
            assert!(
                (found - wanted).abs() < 1e-12,
                "{key} of {answer:?} and {reference:?}: {found} {wanted}"
            );
        }
    }
}

#[test]
fn macro_f1_is_that_of_scikit_learn() {
    let golden = golden();
    for case in golden["f1"].as_array().unwrap() {
        let labels = |key: &str| numbers(&case[key]).into_iter().map(|label| label as u64);
        let found = macro_f1(labels("predicted").zip(labels("right"))).unwrap();
        assert!((found - case["f1"].as_f64().unwrap()).abs() < 1e-12, "{case}");
    }
    assert_eq!(macro_f1::<u64>([]), None);
}

#[test]
fn exact_match_ignores_white_space_and_capitals_only_where_asked() {
    for (answer, reference, is_equal, is_equal_in_lower_case) in [
        ("ls -l\n", "  ls   -l", true, true),
        ("LS -l", "ls -l", false, true),
        ("ls", "ls -l", false, false),
        ("ls -l -a", "ls -l", false, false),
        ("", " \n", true, true),
        ("ls.", "ls", false, false),
    ] {
        assert_eq!(
            exact_match(answer, reference, false),
            is_equal,
            "{answer:?} {reference:?}"
        );
        assert_eq!(
            exact_match(answer, reference, true),
            is_equal_in_lower_case,
            "{answer:?} {reference:?}"
        );
    }
}

#[test]
fn a_label_is_read_at_the_beginning_of_an_answer() {
    let labels = ["ja", "nee", "nee, nooit"].map(String::from);
    for (text, label) in [
        ("Ja!", Some(0)),
        ("\n nee", Some(1)),
        ("nee, nooit meer", Some(2)),
        ("jazeker", None),
        ("ik denk ja", None),
        ("", None),
    ] {
        assert_eq!(label_of(text, &labels), label, "{text:?}");
    }
}

#[test]
fn the_interval_of_a_mean_has_the_width_of_its_standard_error() {
    let scores: Vec<f64> = (0..400).map(|index| f64::from(u8::from(index % 4 == 0))).collect();
    let mean = |sample: &[usize]| Some(sample.iter().map(|index| scores[*index]).sum::<f64>() / sample.len() as f64);
    let [low, high] = bootstrap_interval(scores.len(), 5000, 7, mean).unwrap();
    // 1.96 standard errors of a share of 0.25 in 400.
    let half = 1.96 * (0.25_f64 * 0.75 / 400.0).sqrt();
    assert!(
        (low - (0.25 - half)).abs() < 0.005 && (high - (0.25 + half)).abs() < 0.005,
        "{low} {high}"
    );
    assert_eq!(
        bootstrap_interval(scores.len(), 5000, 7, mean),
        Some([low, high]),
        "a function of the seed"
    );
    assert_eq!(
        bootstrap_interval(0, 100, 7, |sample| (!sample.is_empty()).then_some(1.0)),
        None
    );
}

#[test]
fn a_difference_on_the_same_items_is_surer_than_on_two_samples() {
    // The second is right where the first is, and on 12 items more.
    let first: Vec<f64> = (0..200).map(|index| f64::from(u8::from(index < 100))).collect();
    let second: Vec<f64> = (0..200).map(|index| f64::from(u8::from(index < 112))).collect();
    let mean = |scores: &[f64], sample: &[usize]| sample.iter().map(|index| scores[*index]).sum::<f64>() / 200.0;
    let paired = paired_difference(200, 2000, 3, |sample| {
        Some(mean(&second, sample) - mean(&first, sample))
    })
    .unwrap();
    assert!((paired.difference - 0.06).abs() < 1e-12);
    assert!(
        paired.interval[0] > 0.02 && paired.interval[1] < 0.10 && paired.p_value < 0.01,
        "{paired:?}"
    );
    let same = paired_difference(200, 2000, 3, |sample| Some(mean(&first, sample) - mean(&first, sample))).unwrap();
    assert_eq!((same.difference, same.p_value), (0.0, 1.0));
    // As much better as worse.
    let other: Vec<f64> = first.iter().rev().copied().collect();
    let even = paired_difference(200, 2000, 3, |sample| Some(mean(&other, sample) - mean(&first, sample))).unwrap();
    assert!(
        even.p_value > 0.5 && even.interval[0] < 0.0 && even.interval[1] > 0.0,
        "{even:?}"
    );
}
