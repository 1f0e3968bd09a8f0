//! Gaps: words of one token and of several, ranked by masked and by causal models.

use taal_evaluation::{GapFile, GapReading, evaluate_gaps, score_ids};
use taal_inference::{FillOptions, LanguageModel, Probe, Rows, fill, framed};
use taal_kernels::DeviceSpec;
use taal_model::TransformerConfig;
use taal_tokenizer::{Kind, TrainerConfig};

use crate::size;

const TEXT: &str = "de kat zat op de mat. de hond lag op de bank. een kat sliep op een stoel.\n";

/// The words of [`TEXT`].
const WORDS: usize = 11;

/// A vocabulary of this size for WordPiece has all letters, at the beginning of a word and in it, and no more: no pair of them is frequent.
const LETTERS: usize = 120;

fn model(kind: Kind, is_causal: bool, vocab_size: usize) -> LanguageModel {
    let pairs = || ('a'..='z').flat_map(|one| ('a'..='z').map(move |other| format!("{one}{other}. ")));
    let text = match kind == Kind::WordPiece && vocab_size == LETTERS {
        true => pairs().collect(),
        false => TEXT.repeat(9),
    };
    let tokenizer = TrainerConfig::new(kind, vocab_size).train([text]).unwrap();
    let size = size(tokenizer.vocab_size(), 48, 1, 2, 16);
    let config = match is_causal {
        true => TransformerConfig::llama(size),
        false => TransformerConfig::bert(size),
    };
    let model = config.init(3, &DeviceSpec::Flex.open().unwrap()).unwrap();
    LanguageModel::new(model, Some(tokenizer))
}

fn gaps(lines: &str) -> GapFile {
    GapFile::parse("gaps.tsv", lines).unwrap()
}

#[test]
fn a_word_of_one_token_has_the_rank_that_fill_gives_among_the_same_words() {
    let lm = model(Kind::WordPiece, false, 200);
    let found = evaluate_gaps(&lm, &gaps("de [MASK] zat op de mat.\tkat\n"), &[TEXT]).unwrap();
    assert_eq!((found.reading, found.candidates), (GapReading::BothSides, WORDS as u64));
    let options = FillOptions {
        top: 1000,
        ..FillOptions::default()
    };
    let filled = fill(&lm, "de [MASK] zat op de mat.", &options).unwrap();
    let guesses: Vec<_> = filled.gaps[0].guesses.iter().filter(|it| it.text.len() > 1).collect();
    let place = guesses.iter().position(|it| it.text == "kat").unwrap();
    // Only whole words of the text are candidates.
    let words: Vec<&str> = TEXT.split([' ', '.', '\n']).collect();
    let above = guesses[..place]
        .iter()
        .filter(|it| words.contains(&it.text.as_str()))
        .count();
    assert_eq!(found.gaps[0].rank as usize, 1 + above);
    let probability = found.gaps[0].probability.unwrap();
    assert!((probability - guesses[place].probability).abs() < 1e-6);
}

#[test]
fn a_masked_model_scores_a_word_of_several_tokens_from_left_to_right_with_its_rest_masked() {
    let lm = model(Kind::WordPiece, false, LETTERS);
    let tokenizer = lm.tokenizer.as_ref().unwrap();
    let word = tokenizer.encode("bank").unwrap();
    assert!(word.len() > 1, "{word:?}");
    let found = evaluate_gaps(&lm, &gaps("op de [MASK].\tbank\n"), &[TEXT]).unwrap();
    let mask = tokenizer.mask_id().unwrap();
    let plain = framed(tokenizer, "op de [MASK].").unwrap();
    let place = plain.iter().position(|id| *id == mask).unwrap();
    let mut expected = 0.0;
    for known in 0..word.len() {
        let mut row = plain[..place].to_vec();
        row.extend(&word[..known]);
        row.extend(vec![mask; word.len() - known]);
        row.extend(&plain[place + 1..]);
        let losses = Probe::new(&lm.model)
            .losses(&Rows::new(&row, row.len()), &[place + known], &[word[known]])
            .unwrap();
        expected -= f64::from(losses[0]);
    }
    let probability = found.gaps[0].probability.unwrap();
    assert!(
        (probability.ln() - expected).abs() < 1e-5,
        "{} {expected}",
        probability.ln()
    );
}

#[test]
fn a_causal_model_scores_a_word_and_its_end_after_the_text_before_the_gap() {
    let lm = model(Kind::Char, true, 40);
    let tokenizer = lm.tokenizer.as_ref().unwrap();
    let found = evaluate_gaps(&lm, &gaps("op de [MASK] lag.\tmat\n"), &[TEXT]).unwrap();
    assert_eq!(found.reading, GapReading::Left);
    // Of characters, a word ends before everything that is not a letter.
    let ends: Vec<&str> = vec![" ", ".", "\n"];
    let probability: f64 = ends
        .iter()
        .map(|end| {
            let [whole, before] = [format!("op de mat{end}"), "op de".to_owned()].map(|text| {
                let ids = tokenizer.encode(&text).unwrap();
                score_ids(&lm.model, &ids, 1).unwrap().nats
            });
            (before - whole).exp()
        })
        .sum();
    let found = found.gaps[0].probability.unwrap();
    assert!((found / probability - 1.0).abs() < 1e-4, "{found} {probability}");
}

#[test]
fn the_rank_is_exact_however_many_candidates_are_dropped_early() {
    for (kind, is_causal, vocab_size) in [
        (Kind::WordPiece, false, LETTERS),
        (Kind::WordPiece, true, LETTERS),
        (Kind::Bpe, true, 270),
        (Kind::Char, true, 40),
    ] {
        let lm = model(kind, is_causal, vocab_size);
        let words = [
            "de", "kat", "zat", "op", "mat", "hond", "lag", "bank", "een", "sliep", "stoel",
        ];
        // Each word as the expected one of the same gap: the ranks of all must be 1, 2, 3 and so on.
        let lines: String = words
            .iter()
            .map(|word| format!("een kat lag op de [MASK].\t{word}\n"))
            .collect();
        let found = evaluate_gaps(&lm, &gaps(&lines), &[TEXT]).unwrap();
        let mut by_probability: Vec<_> = found.gaps.iter().collect();
        by_probability.sort_by(|a, b| b.probability.unwrap().total_cmp(&a.probability.unwrap()));
        let ranks: Vec<u64> = by_probability.iter().map(|gap| gap.rank).collect();
        let expected: Vec<u64> = (1..=words.len() as u64).collect();
        assert_eq!(ranks, expected, "{kind:?}");
        let first = &by_probability[0].word;
        assert!(found.gaps.iter().all(|gap| &gap.guess == first), "{kind:?}");
    }
}

#[test]
fn of_several_expected_words_the_best_counts_and_an_unknown_one_is_last() {
    let lm = model(Kind::Char, true, 40);
    let one = evaluate_gaps(&lm, &gaps("op de [MASK].\tmat\nop de [MASK].\tbank\n"), &[TEXT]).unwrap();
    let both = evaluate_gaps(&lm, &gaps("op de [MASK].\tmat, bank\n"), &[TEXT]).unwrap();
    let best = one.gaps.iter().map(|gap| gap.rank).min().unwrap();
    assert!(both.gaps[0].rank <= best);
    // A character that the model does not know.
    let unknown = evaluate_gaps(&lm, &gaps("op de [MASK].\txyzé\n"), &[TEXT]).unwrap();
    assert_eq!(unknown.gaps[0].rank, unknown.candidates);
    assert!(unknown.gaps[0].probability.is_none() && unknown.neighbors.is_some());
}

#[test]
fn without_a_training_text_the_words_of_the_vocabulary_compete_and_nothing_is_counted() {
    let lm = model(Kind::WordPiece, false, 200);
    let found = evaluate_gaps(&lm, &gaps("de [MASK] zat.\tkat\n"), &[]).unwrap();
    assert!(found.neighbors.is_none() && found.gaps[0].neighbors_rank.is_none());
    assert!(found.candidates >= 10);
}

#[test]
fn a_sentence_that_does_not_fit_is_left_out_and_named() {
    let lm = model(Kind::Char, true, 40);
    let long = format!("{} [MASK].\tmat\nop de [MASK].\tmat\n", "de kat zat".repeat(9));
    let found = evaluate_gaps(&lm, &gaps(&long), &[TEXT]).unwrap();
    assert_eq!((found.gaps.len(), found.left_out.len()), (1, 1));
    assert_eq!(found.left_out[0].line, 1);
    assert!(found.left_out[0].reason.contains("48 tokens"), "{:?}", found.left_out);
}
