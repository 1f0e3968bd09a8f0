use taal_data::{Dataset, TokenizeOptions, corpora, corpus, split_text};

use super::characters;

#[test]
fn tinyshakespeare_splits_into_nanogpts_numbers_of_characters() {
    let text = corpus("tinyshakespeare").unwrap().text;
    let (train, validation) = split_text(text, 0.1);
    assert_eq!(
        (train.chars().count(), validation.chars().count()),
        (1_003_854, 111_540)
    );
    let tokenizer = characters(text);
    let dataset = Dataset::from_texts(&tokenizer, &[("tinyshakespeare", text)], &TokenizeOptions::default()).unwrap();
    assert_eq!((dataset.train.len(), dataset.validation[0].len()), (1_003_854, 111_540));
    assert_eq!(
        tokenizer.decode(&dataset.validation[0].read(0, 20)).unwrap(),
        validation[..20]
    );
}

#[test]
fn a_split_counts_characters_and_not_bytes() {
    assert_eq!(split_text("éééééééééa", 0.1), ("ééééééééé", "a"));
    assert_eq!(split_text("", 0.1), ("", ""));
    assert_eq!(split_text("abc", 0.0), ("abc", ""));
}

#[test]
fn every_corpus_is_clean_text_with_a_source_and_a_license() {
    assert_eq!(
        corpora().iter().map(|corpus| corpus.name).collect::<Vec<_>>(),
        ["tinyshakespeare", "names", "dutch"]
    );
    for corpus in corpora() {
        assert!(!corpus.license.is_empty() && !corpus.source.is_empty());
        assert!(
            (100_000..3_000_000).contains(&corpus.text.len()),
            "{}: {} bytes",
            corpus.name,
            corpus.text.len()
        );
        assert!(
            !corpus.text.contains(['\r', '\t', '\0', '\u{FFFD}', '\u{FEFF}']),
            "{}",
            corpus.name
        );
    }
}

#[test]
fn the_dutch_corpus_is_typeset_prose_without_repetition() {
    let text = corpus("dutch").unwrap().text;
    for spaced in [" .", " ,", " ;", " ?", "( ", " )", "  "] {
        assert!(!text.contains(spaced), "found `{spaced}`");
    }
    let lines: Vec<_> = text.lines().filter(|line| !line.is_empty()).collect();
    assert!(lines.iter().all(|line| line.ends_with(['.', '!', '?', '"', ')'])));
    let distinct: std::collections::BTreeSet<_> = lines.iter().collect();
    assert_eq!(distinct.len(), lines.len());
    let words: Vec<_> = text.split_whitespace().collect();
    let articles = words.iter().filter(|word| ["de", "het", "een"].contains(*word)).count();
    assert!(
        (0.10..0.16).contains(&(articles as f64 / words.len() as f64)),
        "articles are about an eighth of Dutch words"
    );
}
