//! BLEU, chrF and chrF++ against sacrebleu's, and the comparison of two systems.

use serde::Deserialize;
use taal_metrics::{AnswerMetric, CorpusMetric, SentenceCounts, bootstrap_interval, paired_resampling};

/// sacrebleu's figures are to be met to 0.01; both add the same whole numbers, so that only the last bits differ.
const TOLERANCE: f64 = 1e-9;

const METRICS: [CorpusMetric; 3] = [CorpusMetric::Bleu, CorpusMetric::Chrf, CorpusMetric::ChrfPlusPlus];

/// What `golden/make_translation.py` makes.
#[derive(Deserialize)]
struct Golden {
    texts: Vec<Text>,
    paired: Paired,
}

#[derive(Deserialize)]
struct Text {
    translations: Vec<String>,
    references: Vec<Vec<String>>,
    score: std::collections::BTreeMap<String, f64>,
    signature: std::collections::BTreeMap<String, String>,
    sentences: std::collections::BTreeMap<String, Vec<f64>>,
}

#[derive(Deserialize)]
struct Paired {
    references: Vec<Vec<String>>,
    first: Vec<String>,
    second: Vec<String>,
    figures: std::collections::BTreeMap<String, PairedFigures>,
}

#[derive(Deserialize)]
struct PairedFigures {
    score: [f64; 2],
    half_width: [f64; 2],
    p_value: f64,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../golden/translation.json")).expect("JSON")
}

fn counts(metric: CorpusMetric, translations: &[String], references: &[Vec<String>]) -> Vec<SentenceCounts> {
    let pairs = translations.iter().zip(references);
    pairs
        .map(|(said, references)| metric.counts(said, references))
        .collect()
}

#[test]
fn figures_of_texts_and_sentences_are_those_of_sacrebleu() {
    let texts = golden().texts;
    assert!(texts.len() >= 9);
    for text in &texts {
        for metric in METRICS {
            let (name, counts) = (metric.to_string(), counts(metric, &text.translations, &text.references));
            let (found, wanted) = (metric.score(&counts.iter().sum()), text.score[&name]);
            assert!(
                (found - wanted).abs() < TOLERANCE,
                "{name}: {found}, sacrebleu has {wanted}"
            );
            for (index, (counts, wanted)) in counts.iter().zip(&text.sentences[&name]).enumerate() {
                let found = metric.sentence_score(counts);
                let said = &text.translations[index];
                assert!(
                    (found - wanted).abs() < TOLERANCE,
                    "{name} of {said:?}: {found}, sacrebleu has {wanted}"
                );
            }
        }
    }
}

#[test]
fn the_signature_is_that_of_sacrebleu_but_for_the_version() {
    for text in golden().texts {
        let first = text.references[0].len();
        let is_same = text.references.iter().all(|references| references.len() == first);
        for metric in METRICS {
            let found = metric.signature(is_same.then_some(first), None, false);
            let wanted = text.signature[&metric.to_string()].replace("version:", "version:taal-");
            let settings = |signature: &str| signature.rsplit_once("|version:taal-").unwrap().0.to_owned();
            assert_eq!(settings(&found), settings(&wanted));
        }
    }
    let found = CorpusMetric::Bleu.signature(None, Some((1000, 1)), false);
    assert!(found.starts_with("nrefs:var|bs:1000|seed:1|case:mixed|"), "{found}");
}

#[test]
fn the_paired_bootstrap_is_that_of_sacrebleu_but_for_chance() {
    let paired = golden().paired;
    let n = paired.references.len();
    for metric in METRICS {
        let wanted = &paired.figures[&metric.to_string()];
        let systems = [&paired.first, &paired.second].map(|said| counts(metric, said, &paired.references));
        let score =
            |system: usize, sample: &[usize]| metric.score(&sample.iter().map(|it| &systems[system][*it]).sum());
        for system in [0, 1] {
            let all: Vec<usize> = (0..n).collect();
            assert!((score(system, &all) - wanted.score[system]).abs() < TOLERANCE);
            let [low, high] = bootstrap_interval(n, 4000, 3, |sample| Some(score(system, sample))).unwrap();
            let half = (high - low) / 2.0;
            // The half width of 4,000 samples has a standard error of about 2 %.
            assert!(
                (half / wanted.half_width[system] - 1.0).abs() < 0.08,
                "{metric}: {half}"
            );
        }
        let found = paired_resampling(n, 4000, 3, |sample| Some(score(1, sample) - score(0, sample))).unwrap();
        assert!((found.difference - (wanted.score[1] - wanted.score[0])).abs() < TOLERANCE);
        assert!(found.interval[0] < found.difference && found.difference < found.interval[1]);
        // The standard error of a share of 0.09 in 4,000 is 0.0045, and both have it.
        assert!(
            (found.p_value - wanted.p_value).abs() < 0.03,
            "{metric}: {} and {}",
            found.p_value,
            wanted.p_value
        );
        let same = paired_resampling(n, 1000, 3, |sample| Some(score(0, sample) - score(0, sample))).unwrap();
        assert_eq!((same.difference, same.p_value), (0.0, 1.0));
        let much: Option<_> = paired_resampling(n, 1000, 3, |sample| Some(50.0 + score(0, sample) * 0.01));
        assert!(much.unwrap().p_value < 0.01);
    }
}

#[test]
fn metrics_of_a_text_have_one_name_each_in_files_and_in_words() {
    for (metric, name) in [
        (AnswerMetric::Bleu, "bleu"),
        (AnswerMetric::Chrf, "chrf"),
        (AnswerMetric::ChrfPlusPlus, "chrf++"),
    ] {
        assert_eq!(serde_json::to_value(metric).unwrap(), name);
        let of_corpus = metric.of_corpus().unwrap();
        assert_eq!(
            (metric.to_string(), of_corpus.to_string()),
            (name.to_owned(), name.to_owned())
        );
        assert_eq!(serde_json::to_value(of_corpus).unwrap(), name);
    }
    assert_eq!(AnswerMetric::RougeL.of_corpus(), None);
}

#[test]
fn a_text_without_translations_or_references_has_figure_0() {
    for metric in METRICS {
        assert_eq!(metric.score(&SentenceCounts::default()), 0.0);
        let nothing: [&str; 0] = [];
        assert_eq!(metric.score(&metric.counts("iets", &nothing)), 0.0);
        assert_eq!(metric.score(&metric.counts("", &["iets"])), 0.0);
    }
}
