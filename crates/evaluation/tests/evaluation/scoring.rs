//! Loss of ids and of texts, against a softmax written out.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::PathBuf;

use taal_evaluation::{
    ChoiceItem, ChoiceOptions, EvaluationError, Score, evaluate_files, evaluate_text, log_likelihood, score_choices,
    score_ids, score_windows, try_score_windows,
};
use taal_inference::{GenerateOptions, InferenceError, LanguageModel, Prompt, generate};
use taal_model::{Transformer, TransformerConfig};
use taal_store::ErrorKind;

use crate::size;
use crate::tiny::{CONTEXT, VOCAB_SIZE, all_logits, byte_model, char_model, configs, model};

/// Pseudo-random ids.
fn ids(len: usize) -> Vec<u32> {
    (0..len as u64)
        .map(|n| (taal_kernels::random::bits(1, n) % VOCAB_SIZE as u64) as u32)
        .collect()
}

/// Windows one by one, each position's full softmax in f64.
fn reference(model: &Transformer, ids: &[u32], window: usize) -> f64 {
    let mut nats = 0.0;
    let (inputs, targets) = (&ids[..ids.len() - 1], &ids[1..]);
    for (inputs, targets) in inputs.chunks(window).zip(targets.chunks(window)) {
        for (logits, target) in all_logits(model, inputs).into_iter().zip(targets) {
            let total: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
            nats -= (f64::from(logits[*target as usize]).exp() / total).ln();
        }
    }
    nats
}

fn assert_close(left: f64, right: f64, what: &str) {
    assert!((left - right).abs() <= 1e-5 * right.abs(), "{what}: {left} and {right}");
}

#[test]
fn the_score_is_the_summed_loss_of_all_ids_but_the_first() {
    for (name, config) in configs() {
        let model = model(&config, 9);
        for len in [2, CONTEXT, CONTEXT + 1, CONTEXT + 2, 3 * CONTEXT + 1, 100] {
            let ids = ids(len);
            let score = score_ids(&model, &ids, 3).expect("a score");
            assert_eq!(score.tokens, len as u64 - 1, "{name}");
            assert_close(
                score.nats,
                reference(&model, &ids, CONTEXT),
                &format!("{name}, {len} ids"),
            );
        }
    }
}

#[test]
fn the_score_does_not_depend_on_the_batch_size() {
    let model = model(&TransformerConfig::llama(size(VOCAB_SIZE, CONTEXT, 2, 4, 24)), 9);
    let ids = ids(200);
    let alone = score_ids(&model, &ids, 1).expect("a score");
    for batch_size in [2, 5, 15, 16, 1000] {
        let together = score_ids(&model, &ids, batch_size).expect("a score");
        assert_eq!(together.tokens, alone.tokens);
        assert_close(together.nats, alone.nats, &format!("batches of {batch_size}"));
    }
    assert_eq!(
        score_ids(&model, &ids, 5).expect("a score"),
        score_ids(&model, &ids, 5).expect("the same bits")
    );
}

#[test]
fn a_large_vocabulary_is_scored_in_parts() {
    // More logits in a batch (384 x 60,000) than are computed at once, and fewer in one row.
    let model = model(&TransformerConfig::llama(size(60_000, 64, 1, 1, 4)), 9);
    let ids: Vec<u32> = (0..385).map(|n| (n * 7919) % 60_000).collect();
    let [parts, whole] = [6, 1].map(|batch_size| score_ids(&model, &ids, batch_size).expect("a score"));
    assert_eq!(parts.tokens, whole.tokens);
    assert_close(parts.nats, whole.nats, "in parts");
}

#[test]
fn windows_may_be_shorter_than_the_context() {
    let model = model(&TransformerConfig::nanogpt(size(VOCAB_SIZE, CONTEXT, 2, 4, 16)), 9);
    let ids = ids(50);
    for window in [1, 4, 7] {
        let score = score_windows(&model, 50, window, 4, |range| ids[range].to_vec()).expect("a score");
        assert_close(
            score.nats,
            reference(&model, &ids, window),
            &format!("windows of {window}"),
        );
    }
}

#[test]
fn a_source_is_read_once_per_target_and_in_small_parts() {
    let model = model(&TransformerConfig::llama(size(VOCAB_SIZE, CONTEXT, 1, 2, 16)), 9);
    let ids = ids(100);
    let mut asked = Vec::new();
    let read = |range: std::ops::Range<usize>| {
        asked.push(range.clone());
        ids[range].to_vec()
    };
    score_windows(&model, 100, 10, 4, read).expect("a score");
    assert_eq!(asked, [0..41, 40..81, 80..91, 90..100]);
}

#[test]
fn scoring_stops_where_the_source_breaks_and_gives_its_reason() {
    let model = model(&TransformerConfig::llama(size(VOCAB_SIZE, CONTEXT, 1, 2, 16)), 9);
    let ids = ids(100);
    let until = |limit: usize| {
        let mut asked = 0;
        let read = |range: std::ops::Range<usize>| match range.end > limit {
            true => ControlFlow::Break("enough"),
            false => {
                asked += 1;
                ControlFlow::Continue(ids[range].to_vec())
            }
        };
        let scored = try_score_windows(&model, 100, 10, 4, read).expect("no error");
        (scored, asked)
    };
    assert_eq!(until(90), (ControlFlow::Break("enough"), 2));
    let whole = score_ids(&model, &ids, 4).expect("a score");
    assert_eq!(until(100).1, 4);
    let ControlFlow::Continue(score) = until(100).0 else {
        panic!("scoring did not stop");
    };
    assert_eq!(score.tokens, whole.tokens);
}

#[test]
fn fewer_than_two_ids_give_an_empty_score() {
    let model = model(&TransformerConfig::llama(size(VOCAB_SIZE, CONTEXT, 1, 2, 16)), 9);
    for ids in [&[][..], &[3]] {
        assert_eq!(score_ids(&model, ids, 4).expect("a score"), Score::default());
    }
}

#[test]
fn scoring_refuses_invalid_arguments_by_name() {
    let model = model(&TransformerConfig::llama(size(VOCAB_SIZE, CONTEXT, 1, 2, 16)), 9);
    let windows = |window, batch_size| {
        score_windows(&model, 20, window, batch_size, |range| ids(20)[range].to_vec()).expect_err("a refusal")
    };
    let bidirectional = crate::tiny::model(&TransformerConfig::bert(size(VOCAB_SIZE, CONTEXT, 1, 2, 16)), 9);
    let cases = [
        (windows(0, 1), "window: expected 1 to 13"),
        (windows(14, 1), "got 14"),
        (windows(5, 0), "batch_size"),
        (score_ids(&model, &[1, 2, 23], 1).expect_err("a refusal"), "token id 23"),
        (
            score_ids(&bidirectional, &[1, 2], 1).expect_err("a refusal"),
            "bidirectional",
        ),
        (
            score_windows(&model, 9, 5, 1, |_| vec![1]).expect_err("a refusal"),
            "gave 1 ids for positions 0..6: expected 6",
        ),
    ];
    for (error, expected) in cases {
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    }
}

#[test]
fn files_are_scored_alone_and_reported_together() {
    let lm = byte_model();
    let tokenizer = lm.tokenizer.as_ref().expect("a tokenizer");
    let texts = ["Één twee drie, and so on.", "a second text\n"];
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let paths: Vec<PathBuf> = texts
        .iter()
        .enumerate()
        .map(|(n, _)| scratch.path().join(format!("{n}.txt")))
        .collect();
    let mut nats = 0.0;
    for (path, text) in paths.iter().zip(texts) {
        std::fs::write(path, text).expect("a text file");
        nats += reference(&lm.model, &tokenizer.encode(text).expect("ids"), CONTEXT);
    }
    // One byte per token, and the first token of each text has no score.
    let bytes: usize = texts.iter().map(|text| text.len() - 1).sum();

    let evaluation = evaluate_files(&lm, &paths).expect("an evaluation");
    assert_eq!(
        evaluation.bytes, bytes as u64,
        "bytes of scored tokens: not the first of each file"
    );
    assert_eq!(
        evaluation.tokens, bytes as u64,
        "a token per byte, the first of each file not scored"
    );
    assert_close(evaluation.loss, nats / evaluation.tokens as f64, "loss");
    assert_close(evaluation.perplexity, evaluation.loss.exp(), "perplexity");
    assert_close(
        evaluation.bits_per_byte,
        nats / 2_f64.ln() / bytes as f64,
        "bits per byte",
    );
    let json = serde_json::to_value(evaluation).expect("JSON");
    let keys: BTreeSet<&str> = json
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(
        keys,
        BTreeSet::from(["bits_per_byte", "bytes", "loss", "perplexity", "tokens"])
    );
}

#[test]
fn files_that_cannot_be_scored_are_refused_by_name() {
    let lm = char_model();
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let file = |name: &str, bytes: &[u8]| {
        let path = scratch.path().join(name);
        std::fs::write(&path, bytes).expect("a file");
        path
    };
    let cases = [
        (scratch.path().join("missing.txt"), "no such file", ErrorKind::Usage),
        (file("empty.txt", b""), "0 token(s)", ErrorKind::Usage),
        (file("short.txt", b"a"), "1 token(s)", ErrorKind::Usage),
        (file("latin1.txt", b"caf\xE9 au lait"), "offset 3", ErrorKind::Corrupt),
        (file("binary.txt", b"ab\0cd"), "byte 2 is NUL", ErrorKind::Corrupt),
        (file("unknown.txt", b"abc?"), "'?'", ErrorKind::Usage),
    ];
    for (path, expected, kind) in cases {
        let error = evaluate_files(&lm, std::slice::from_ref(&path)).expect_err("a refusal");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.kind(), kind, "{error}");
    }
    let none = evaluate_files(&lm, &[]).expect_err("no files");
    assert_eq!(none.kind(), ErrorKind::Usage);
    let mute = LanguageModel::new(char_model().model, None);
    assert!(matches!(
        evaluate_text(&mute, "a text", "abc"),
        Err(EvaluationError::Inference(InferenceError::NoTokenizer { .. }))
    ));
}

#[test]
fn a_model_that_has_diverged_has_a_separate_error_kind() {
    let mut lm = char_model();
    let weight = lm.model.embeddings.tokens.weight.val();
    lm.model.embeddings.tokens.weight = burn::module::Param::from_tensor(weight.mul_scalar(f32::NAN));
    let error = evaluate_text(&lm, "a text", "abc abc").expect_err("no loss");
    assert_eq!(error.kind(), ErrorKind::Diverged);
    assert!(error.to_string().contains("a text"), "{error}");
}

#[test]
fn report_34_a_model_whose_numbers_are_not_finite_gives_only_errors() {
    let mut lm = byte_model();
    let weight = lm.model.embeddings.tokens.weight.val();
    // One weight is enough: every score is a sum over all of them.
    let spoilt = weight.clone().slice_fill([0..1, 0..1], f32::NAN);
    lm.model.embeddings.tokens.weight = burn::module::Param::from_tensor(spoilt);
    let item = ChoiceItem {
        context: "a cat".to_owned(),
        choices: vec![" sat".to_owned(), " ran".to_owned()],
        answer: 0,
    };
    let prompt = Prompt::Text("a cat".to_owned());
    let errors = [
        evaluate_text(&lm, "a text", "a cat sat").map(drop),
        log_likelihood(&lm, "a cat sat").map(drop),
        score_choices(&lm, &item, &ChoiceOptions::default()).map(drop),
        generate(&lm, &prompt, &GenerateOptions::default(), &mut |_| {
            std::ops::ControlFlow::Continue(())
        })
        .map(drop)
        .map_err(Into::into),
    ];
    for error in errors {
        let error = error.expect_err("no answer");
        assert_eq!(error.kind(), ErrorKind::Diverged, "{error}");
    }
}
