//! Masked tokens: how many, in which units, how they are replaced, and that only the key decides.

use taal_data::{Batch, IGNORE_INDEX, MaskUnit, MaskVocabulary, Masking};
use taal_tokenizer::{Kind, Tokenizer, TrainerConfig};

const TEXT: &str = "de kat zat op de mat en de hondenmand stond naast de kattenmand bij de voordeur van het huis ";

fn tokenizer() -> Tokenizer {
    TrainerConfig::new(Kind::WordPiece, 70)
        .train([TEXT.repeat(20)])
        .unwrap()
}

fn batch(tokenizer: &Tokenizer, rows: usize, seq_len: usize) -> Batch {
    let ids = tokenizer.encode(&TEXT.repeat(rows * 3)).unwrap();
    let inputs: Vec<i32> = ids.iter().take(rows * seq_len).map(|id| *id as i32).collect();
    assert_eq!(inputs.len(), rows * seq_len);
    Batch {
        targets: inputs.clone(),
        inputs,
        batch_size: rows,
        seq_len,
        text_starts: None,
        source: None,
    }
}

fn masked(unit: MaskUnit, rows: usize, key: u64) -> (Batch, Batch, MaskVocabulary) {
    let tokenizer = tokenizer();
    let vocabulary = MaskVocabulary::of(&tokenizer).unwrap();
    let before = batch(&tokenizer, rows, 64);
    let mut after = before.clone();
    Masking {
        unit,
        ..Masking::default()
    }
    .apply(&mut after, &vocabulary, key);
    (before, after, vocabulary)
}

#[test]
fn fifteen_percent_are_masked_and_of_those_80_10_and_10() {
    for unit in [MaskUnit::Token, MaskUnit::Word, MaskUnit::Span] {
        let (before, after, vocabulary) = masked(unit, 400, 1);
        let (mut chosen, mut hidden, mut kept, mut other) = (0, 0, 0, 0);
        for position in 0..before.inputs.len() {
            let (was, is, target) = (before.inputs[position], after.inputs[position], after.targets[position]);
            if target == IGNORE_INDEX {
                // Apart from masked tokens only the frame changes.
                assert!(was == is || [0, 63].contains(&(position % 64)), "{position}");
                continue;
            }
            assert_eq!(target, was, "the target is the original token");
            chosen += 1;
            match is {
                _ if is == vocabulary.mask_id() as i32 => hidden += 1,
                _ if is == was => kept += 1,
                _ => other += 1,
            }
        }
        let share = |count: i32, of: i32| f64::from(count) / f64::from(of);
        let of_all = share(chosen, 400 * 62);
        assert!((0.135..=0.16).contains(&of_all), "{unit:?}: {of_all}");
        assert!(
            (share(hidden, chosen) - 0.8).abs() < 0.03,
            "{unit:?}: {hidden} of {chosen}"
        );
        // A random token may equal the original one, 1 time in 60.
        assert!((share(kept, chosen) - 0.1).abs() < 0.03, "{unit:?}: {kept} of {chosen}");
        assert!(
            (share(other, chosen) - 0.1).abs() < 0.03,
            "{unit:?}: {other} of {chosen}"
        );
    }
}

#[test]
fn a_word_is_masked_whole_or_not_at_all() {
    for unit in [MaskUnit::Word, MaskUnit::Span] {
        let (before, after, vocabulary) = masked(unit, 60, 2);
        let mut pieces = 0;
        for position in
            (0..before.inputs.len()).filter(|position| !(0..2).contains(&(position % 64)) && position % 64 != 63)
        {
            if vocabulary.continues(before.inputs[position - 1] as u32, before.inputs[position] as u32) {
                let is_hidden = |position: usize| after.targets[position] != IGNORE_INDEX;
                assert_eq!(is_hidden(position), is_hidden(position - 1), "{unit:?}: {position}");
                pieces += 1;
            }
        }
        assert!(pieces > 100, "the tokenizer splits no words");
    }
}

#[test]
fn spans_are_longer_than_words_and_words_longer_than_tokens() {
    let run_length = |unit| {
        let (_, after, _) = masked(unit, 200, 3);
        let hidden: Vec<bool> = after.targets.iter().map(|target| *target != IGNORE_INDEX).collect();
        let runs = hidden.windows(2).filter(|pair| !pair[0] && pair[1]).count();
        hidden.iter().filter(|is_hidden| **is_hidden).count() as f64 / runs as f64
    };
    let [token, word, span] = [MaskUnit::Token, MaskUnit::Word, MaskUnit::Span].map(run_length);
    assert!(token < word && word < span, "{token} {word} {span}");
    assert!(span > 1.5 * word, "{word} {span}");
}

#[test]
fn masks_are_a_function_of_their_key_and_rows_differ() {
    let (_, once, _) = masked(MaskUnit::Word, 8, 7);
    assert_eq!(masked(MaskUnit::Word, 8, 7).1, once);
    assert_ne!(masked(MaskUnit::Word, 8, 8).1, once);
    let tokenizer = tokenizer();
    let vocabulary = MaskVocabulary::of(&tokenizer).unwrap();
    let row = batch(&tokenizer, 1, 64).inputs;
    let mut same = Batch {
        inputs: row.repeat(2),
        targets: row.repeat(2),
        batch_size: 2,
        seq_len: 64,
        text_starts: None,
        source: None,
    };
    Masking::default().apply(&mut same, &vocabulary, 1);
    assert_ne!(same.targets[..64], same.targets[64..]);
}

#[test]
fn special_tokens_are_never_masked_and_frame_every_row() {
    let (_, after, vocabulary) = masked(MaskUnit::Token, 50, 4);
    let tokenizer = tokenizer();
    for row in after.inputs.chunks(64) {
        assert_eq!(row[0], tokenizer.bos_id().unwrap() as i32);
        assert_eq!(row[63], tokenizer.eos_id().unwrap() as i32);
    }
    let targets = after.targets.iter().filter(|target| **target != IGNORE_INDEX);
    assert!(targets.clone().count() > 0);
    assert!(targets.copied().all(|target| vocabulary.is_ordinary(target as u32)));
}

#[test]
fn a_token_is_masked_in_the_shortest_row_and_a_tokenizer_without_mask_is_refused() {
    let tokenizer = tokenizer();
    let vocabulary = MaskVocabulary::of(&tokenizer).unwrap();
    for seq_len in 1..6 {
        let mut batch = batch(&tokenizer, 3, seq_len);
        Masking::default().apply(&mut batch, &vocabulary, 5);
        let hidden = |row: &[i32]| row.iter().any(|target| *target != IGNORE_INDEX);
        assert!(batch.targets.chunks(seq_len).all(hidden), "{seq_len}: {batch:?}");
    }
    let chars = TrainerConfig::new(Kind::Char, 60).train([TEXT]).unwrap();
    let error = MaskVocabulary::of(&chars).unwrap_err().to_string();
    assert!(error.contains("mask token") && error.contains("wordpiece"), "{error}");
}

#[test]
fn report_9_whole_words_of_a_unigram_tokenizer_are_masked_together() {
    let mut config = TrainerConfig::new(Kind::Unigram, 330);
    config.special_tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        .map(str::to_owned)
        .to_vec();
    let tokenizer = config.train([TEXT.repeat(20)]).unwrap();
    let vocabulary = MaskVocabulary::of(&tokenizer).unwrap();
    let hidden = |unit| {
        let mut batch = batch(&tokenizer, 20, 64);
        let masking = Masking {
            unit,
            ..Masking::default()
        };
        masking.apply(&mut batch, &vocabulary, 1);
        batch
    };
    let word = hidden(MaskUnit::Word);
    assert_ne!(word, hidden(MaskUnit::Token));
    let before = batch(&tokenizer, 20, 64).inputs;
    let mut pieces = 0;
    for position in (0..before.len()).filter(|position| (2..63).contains(&(position % 64))) {
        if !tokenizer.tokens(&[before[position] as u32])[0].starts_with(' ') {
            let is_hidden = |position: usize| word.targets[position] != IGNORE_INDEX;
            assert_eq!(is_hidden(position), is_hidden(position - 1), "{position}");
            pieces += 1;
        }
    }
    assert!(pieces > 20, "the tokenizer splits no words");
}
