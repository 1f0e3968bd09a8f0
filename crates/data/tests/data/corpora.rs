use std::collections::HashSet;

use taal_data::{Corpus, Dataset, TokenizeOptions, corpora, corpus, split_text};

use super::characters;

#[test]
fn tinyshakespeare_splits_into_nanogpts_numbers_of_characters() {
    let text = corpus("tinyshakespeare").unwrap().text();
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
        ["tinyshakespeare", "names", "dutch", "english", "dutch-alpino"]
    );
    for corpus in corpora() {
        for part in corpus.parts {
            let name = format!("{}, {}", corpus.name, part.name);
            assert!(!part.license.is_empty() && !part.source.is_empty(), "{name}");
            let text = part.text();
            assert!(
                (100_000..3_000_000).contains(&text.len()),
                "{name}: {} bytes",
                text.len()
            );
            assert!(!text.contains(['\r', '\t', '\0', '\u{FFFD}', '\u{FEFF}']), "{name}");
            // Otherwise the last line of a part and the first of the next would be one.
            assert!(corpus.parts.len() == 1 || text.ends_with('\n'), "{name}");
        }
        let bytes: usize = corpus.texts().iter().map(|(_, text)| text.len()).sum();
        assert_eq!(corpus.text().len(), bytes, "{}", corpus.name);
    }
}

#[test]
fn the_alpino_corpus_is_typeset_prose_without_repetition() {
    let text = corpus("dutch-alpino").unwrap().text();
    for spaced in [" .", " ,", " ;", " ?", "( ", " )", "  "] {
        assert!(!text.contains(spaced), "found `{spaced}`");
    }
    let lines: Vec<_> = text.lines().filter(|line| !line.is_empty()).collect();
    assert!(lines.iter().all(|line| line.ends_with(['.', '!', '?', '"', ')'])));
    let distinct: HashSet<_> = lines.iter().collect();
    assert_eq!(distinct.len(), lines.len());
    assert!((0.10..0.16).contains(&share(text, &["de", "het", "een"])));
}

/// The share of some words among all of a text.
fn share(text: &str, wanted: &[&str]) -> f64 {
    let words: Vec<_> = text.split_whitespace().collect();
    words.iter().filter(|word| wanted.contains(word)).count() as f64 / words.len() as f64
}

/// The words of a text in lower case.
pub fn words(text: &str) -> Vec<String> {
    text.to_lowercase()
        .split(|character: char| !character.is_alphanumeric() && !"'-".contains(character))
        .map(|word| word.trim_matches(['\'', '-']).to_owned())
        .filter(|word| !word.is_empty())
        .collect()
}

/// The sentences of a line, in words: each ends with a mark before a capital or a digit. Fewer than three words belong to what follows.
pub fn sentences(line: &str) -> Vec<Vec<String>> {
    let mut sentences = Vec::new();
    let mut current = String::new();
    for piece in line.split_inclusive(' ') {
        let begins = piece
            .trim_start_matches(['"', '\'', '('])
            .starts_with(|c: char| c.is_uppercase() || c.is_ascii_digit());
        let has_ended = current
            .trim_end()
            .trim_end_matches(['"', '\'', ')'])
            .ends_with(['.', '!', '?']);
        if begins && has_ended && words(&current).len() >= 3 {
            sentences.push(words(&std::mem::take(&mut current)));
        }
        current.push_str(piece);
    }
    sentences.push(words(&current));
    sentences.retain(|sentence| sentence.len() >= 3);
    sentences
}

fn both() -> [(Corpus, [&'static str; 2]); 2] {
    [("dutch", ["kat", "mat"]), ("english", ["cat", "mat"])].map(|(name, unseen)| (corpus(name).unwrap(), unseen))
}

/// Each gap with its word filled in, in words.
fn filled_gaps(corpus: Corpus) -> Vec<Vec<String>> {
    let lines = corpus.gaps().unwrap().lines().filter(|line| !line.starts_with('#'));
    let filled = lines.map(|line| {
        let (text, word) = line.split_once('\t').unwrap();
        assert_eq!(text.matches("[MASK]").count(), 1, "{line}");
        assert!(word.chars().all(char::is_alphabetic), "{line}");
        words(&text.replace("[MASK]", word))
    });
    filled.collect()
}

#[test]
fn no_sentence_of_dutch_and_english_is_repeated() {
    for (corpus, _) in both() {
        let mut seen = HashSet::new();
        for line in corpus.text().lines() {
            for sentence in sentences(line) {
                let shown = sentence.join(" ");
                assert!(seen.insert(sentence), "{}: {shown}", corpus.name);
            }
        }
        assert!(seen.len() > 100_000, "{}: {} sentences", corpus.name, seen.len());
    }
}

#[test]
fn no_line_has_the_two_words_of_the_first_gap_and_both_are_known() {
    for (corpus, unseen) in both() {
        let mut lines = [0; 2];
        for line in corpus.text().lines() {
            let words = words(line);
            let found = unseen.map(|word| words.iter().any(|other| other == word));
            assert!(found != [true; 2], "{}: {line}", corpus.name);
            lines = [lines[0] + u32::from(found[0]), lines[1] + u32::from(found[1])];
        }
        assert!(lines[0] > 0 && lines[1] > 0, "{}: {lines:?}", corpus.name);
    }
}

#[test]
fn the_gaps_are_not_in_the_text_nor_a_sentence_that_differs_in_one_word() {
    for (corpus, unseen) in both() {
        let gaps = filled_gaps(corpus);
        assert_eq!(gaps.len(), 40, "{}", corpus.name);
        assert!(unseen.iter().all(|word| gaps[0].iter().any(|other| other == word)));
        let near = |one: &[String], other: &[String]| {
            one.len() == other.len() && one.iter().zip(other).filter(|(a, b)| a != b).count() <= 1
        };
        for line in corpus.text().lines() {
            for sentence in sentences(line) {
                let found = gaps.iter().find(|gap| near(gap, &sentence));
                assert!(found.is_none(), "{}: {line}", corpus.name);
            }
        }
    }
}

#[test]
fn dutch_and_english_are_in_their_languages() {
    let [dutch, english] = ["dutch", "english"].map(|name| corpus(name).unwrap());
    for part in dutch.parts {
        let [own, other] = [["de", "het", "een"], ["the", "of", "and"]].map(|words| share(part.text(), &words));
        assert!(
            (0.06..0.2).contains(&own) && other < 0.01,
            "{}: {own} {other}",
            part.name
        );
    }
    for part in english.parts {
        let [own, other] = [["the", "of", "and", "a", "to"], ["de", "het", "een", "van", "en"]]
            .map(|words| share(part.text(), &words));
        assert!(
            (0.07..0.3).contains(&own) && other < 0.005,
            "{}: {own} {other}",
            part.name
        );
    }
}

#[test]
fn no_sentence_of_the_older_validation_text_is_in_dutch() {
    let older = corpus("dutch-alpino").unwrap().text();
    let (_, validation) = split_text(older, 0.1);
    // The first sentence is cut by the split.
    let held_out: HashSet<_> = validation.lines().flat_map(sentences).skip(1).collect();
    let dutch = corpus("dutch").unwrap().text();
    let shared = dutch
        .lines()
        .flat_map(sentences)
        .filter(|sentence| held_out.contains(sentence));
    let shared: Vec<_> = shared.collect();
    assert!(
        held_out.len() > 1000 && shared.is_empty(),
        "{:?}",
        &shared[..shared.len().min(3)]
    );
}

#[test]
fn a_corpus_of_several_parts_has_a_validation_part_per_source() {
    let corpus = corpus("dutch").unwrap();
    let texts: Vec<_> = corpus.texts();
    let texts: Vec<_> = texts
        .iter()
        .map(|(name, text)| (*name, &text[..text.floor_char_boundary(20_000)]))
        .collect();
    let all: String = texts.iter().map(|(_, text)| *text).collect();
    let dataset = Dataset::from_texts(&characters(&all), &texts, &TokenizeOptions::default()).unwrap();
    let names: Vec<_> = dataset
        .validation
        .iter()
        .map(|source| source.name().to_owned())
        .collect();
    assert_eq!(names, ["tatoeba", "voice", "wiki", "news", "quality", "commands"]);
}

#[test]
fn source_md_has_each_part_with_its_bytes() {
    let grouped = |number: usize| match number {
        0..1_000_000 => format!("{},{:03}", number / 1000, number % 1000),
        _ => format!(
            "{},{:03},{:03}",
            number / 1_000_000,
            number / 1000 % 1000,
            number % 1000
        ),
    };
    for (name, page) in [
        ("dutch", include_str!("../../corpora/dutch/SOURCE.md")),
        ("english", include_str!("../../corpora/english/SOURCE.md")),
    ] {
        for part in corpus(name).unwrap().parts {
            let row = format!("| `{}` | {} |", part.name, grouped(part.text().len()));
            assert!(page.contains(&row), "{name}: {row}");
        }
    }
}
