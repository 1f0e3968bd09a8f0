//! Minimal pairs, by causal and by masked models.

use crate::size;
use taal_evaluation::{evaluate_pairs, log_likelihood, score_ids};
use taal_inference::LanguageModel;
use taal_kernels::DeviceSpec;
use taal_model::TransformerConfig;
use taal_tokenizer::{Kind, TrainerConfig};

const TEXT: &str = "de kat zat op de mat en de hond op de bank ";

fn model(is_causal: bool) -> LanguageModel {
    let tokenizer = TrainerConfig::new(Kind::WordPiece, 80).train([TEXT.repeat(9)]).unwrap();
    let config = match is_causal {
        true => TransformerConfig::llama(size(tokenizer.vocab_size(), 24, 1, 2, 16)),
        false => TransformerConfig::bert(size(tokenizer.vocab_size(), 24, 1, 2, 16)),
    };
    let model = config.init(3, &DeviceSpec::Flex.open().unwrap()).unwrap();
    LanguageModel::new(model, Some(tokenizer))
}

#[test]
fn report_32_too_many_pairs_are_refused_at_the_line_limit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tsv");
    std::fs::write(&path, "a\tb\n".repeat((1 << 20) + 1)).unwrap();
    let error = evaluate_pairs(&crate::tiny::char_model(), &[path]).unwrap_err();
    assert_eq!(error.kind(), taal_store::ErrorKind::Corrupt);
    assert!(error.to_string().contains("more than 1048576 lines"), "{error}");
}

#[test]
fn a_causal_log_likelihood_is_the_score_of_the_tokens() {
    let lm = model(true);
    let tokenizer = lm.tokenizer.as_ref().unwrap();
    let mut ids = tokenizer.encode("de kat zat").unwrap();
    ids.insert(0, tokenizer.bos_id().unwrap());
    let score = score_ids(&lm.model, &ids, 1).unwrap();
    assert_eq!(score.tokens, ids.len() as u64 - 1);
    assert!((log_likelihood(&lm, "de kat zat").unwrap() + score.nats).abs() < 1e-9);
}

#[test]
fn a_masked_log_likelihood_masks_every_token_once() {
    use burn::tensor::{Int, Tensor, TensorData, activation::log_softmax};
    let lm = model(false);
    let tokenizer = lm.tokenizer.as_ref().unwrap();
    let ids = tokenizer.encode("de hond zat op de mat").unwrap();
    let mut expected = 0.0;
    for place in 0..ids.len() {
        let mut row = vec![tokenizer.bos_id().unwrap() as i32];
        row.extend(ids.iter().map(|id| *id as i32));
        row.push(tokenizer.eos_id().unwrap() as i32);
        row[place + 1] = tokenizer.mask_id().unwrap() as i32;
        let len = row.len();
        let inputs = Tensor::<2, Int>::from_data(TensorData::new(row, [1, len]), &lm.model.device());
        let hidden = lm
            .model
            .forward_with(inputs, taal_model::ForwardOptions::default())
            .unwrap()
            .hidden;
        let logits = log_softmax(lm.model.logits(hidden), 2).narrow(1, place + 1, 1);
        let values = taal_model::parameters::to_vec(logits);
        expected += f64::from(values[ids[place] as usize]);
    }
    let found = log_likelihood(&lm, "de hond zat op de mat").unwrap();
    assert!((found - expected).abs() < 1e-4, "{found} is not {expected}");
}

#[test]
fn files_of_pairs_are_scored_and_bad_lines_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let pairs = [
        ("de kat zat", "kat de zat"),
        ("op de mat", "op mat de"),
        ("de hond", "de hond"),
    ];
    let tsv: String = pairs.iter().map(|(good, bad)| format!("{good}\t{bad}\n")).collect();
    let json: String = pairs
        .iter()
        .map(|(good, bad)| format!("{{\"sentence_good\": \"{good}\", \"sentence_bad\": \"{bad}\", \"UID\": \"x\"}}\n"))
        .collect();
    std::fs::write(path("order.tsv"), tsv).unwrap();
    std::fs::write(path("order.jsonl"), json).unwrap();
    for is_causal in [true, false] {
        let lm = model(is_causal);
        let found = evaluate_pairs(&lm, &[path("order.tsv"), path("order.jsonl")]).unwrap();
        let right = |(good, bad): &(&str, &str)| log_likelihood(&lm, good).unwrap() > log_likelihood(&lm, bad).unwrap();
        let expected = pairs.iter().filter(|pair| right(pair)).count() as u64;
        assert!(expected < 3, "a tie counts as wrong");
        assert_eq!(
            found.files.iter().map(|file| file.correct).collect::<Vec<_>>(),
            [expected; 2]
        );
        assert_eq!((found.files[0].name.as_str(), found.all.total), ("order", 6));
    }
    let lm = model(true);
    std::fs::write(path("bad.tsv"), "de kat\tkat de\nde hond\n").unwrap();
    std::fs::write(path("bad.jsonl"), "{\"sentence_good\": \"de\"}\n").unwrap();
    std::fs::write(path("none.tsv"), "\n").unwrap();
    for (name, parts) in [
        ("bad.tsv", ["bad.tsv", "line 2", "tab"]),
        ("bad.jsonl", ["bad.jsonl", "line 1", "sentence_bad"]),
        ("none.tsv", ["none.tsv", "at least one", "pair"]),
    ] {
        let error = evaluate_pairs(&lm, &[path(name)]).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
}
