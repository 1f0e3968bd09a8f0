//! How well tokens respect the parts of compound words, such as `voorbeeld` and `zin` in `voorbeeldzin`.
//!
//! Dutch writes compounds as one word. If a tokenizer splits them between their parts, a model can understand a new compound from
//! its parts; other splits hide them. The report counts the boundaries between parts that tokens respect, but also the splits
//! inside parts and the tokens per word, so that splitting everywhere does not win.
//!
//! A linking element (the `s` of `stadsbestuur`, a hyphen) belongs to neither part: a split on either side of it respects the
//! boundary, and no split of it is false.

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;
use std::path::Path;

use crate::{Error, Result, Tokenizer};

/// The largest file of words that is read.
const MAX_WORDS_BYTES: u64 = 64 << 20;

/// The longest word, in bytes.
const MAX_WORD_BYTES: usize = 200;

/// Possible linking elements in a labeled compound, the longest first.
const LINKS: [&str; 9] = ["ens", "en", "er", "es", "s", "e", "n", "-", "'"];

/// The only linking element in the rule for plain lists; the others are too often the end of a word.
const RULE_LINK: &str = "s";

/// The shortest parts that the rule accepts, in letters; shorter ones occur in too many words by chance.
const MIN_FIRST_LETTERS: usize = 4;
const MIN_LAST_LETTERS: usize = 3;

/// Words that are far more often a suffix.
const SUFFIXES: [&str; 25] = [
    "aard", "achtig", "baar", "dom", "eren", "ering", "erij", "haft", "heid", "isch", "lijk", "ling", "loos", "matig",
    "nis", "rijk", "schap", "ster", "tie", "tijk", "pij", "tje", "ten", "vol", "zaam",
];

/// Text before the word, so that it is encoded as in running text.
const CARRIER: &str = "en ";

/// A compound with the boundaries between its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compound {
    /// The word.
    pub word: String,
    /// For each boundary, in bytes from the start of the word: the end of the part before it and the start of the one after it.
    /// They differ only for a linking element.
    pub boundaries: Vec<Range<usize>>,
    /// Possible boundaries inside parts, in the same form: a split there is neither required nor false.
    pub neutral: Vec<Range<usize>>,
}

impl Compound {
    /// A word and its parts in order; `None` when they do not make up the word, linking elements aside.
    ///
    /// ```
    /// use taal_tokenizer::Compound;
    ///
    /// let compound = Compound::new("stadsbestuur", &["stad", "bestuur"]);
    /// assert_eq!(compound.map(|compound| compound.boundaries), Some(vec![4..5]));
    /// assert_eq!(Compound::new("minister", &["mini", "sta"]), None);
    /// ```
    pub fn new(word: &str, parts: &[&str]) -> Option<Self> {
        let (first, others) = parts.split_first()?;
        let mut end = word.strip_prefix(first).map(|_| first.len())?;
        let mut boundaries = Vec::new();
        for part in others {
            let rest = &word[end..];
            let link = [""].iter().chain(&LINKS).find(|link| {
                let after = rest.strip_prefix(**link);
                after.is_some_and(|after| after.starts_with(part))
            })?;
            let start = end + link.len();
            boundaries.push(end..start);
            end = start + part.len();
        }
        let is_whole = end == word.len() && !boundaries.is_empty() && parts.iter().all(|part| !part.is_empty());
        is_whole.then(|| Self {
            word: word.to_owned(),
            boundaries,
            neutral: Vec::new(),
        })
    }

    /// Reads compounds from a file, each once, in the order of the file.
    ///
    /// A line is a word, a tab and its parts separated by spaces, or only the parts separated by `+` or `|`. In a file where most lines
    /// have none of these, each line is a word, and a word is a compound if it splits into two other words of the list in exactly one
    /// way: at least four letters first and three last, `s` as the only linking element. If three or more words form it (`voor`,
    /// `beeld` and `zin`), their other boundaries are neutral. That rule is sometimes wrong, equally for every tokenizer.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] when the file cannot be read, and [`Error::NoCompounds`] when it has none.
    pub fn read_file(path: &Path) -> Result<Vec<Self>> {
        let text = taal_store::TextReader::open(path, MAX_WORDS_BYTES)?.read_all()?;
        // A word list may contain a few words with such a character.
        let with_parts = text.lines().filter(|line| line.contains(['\t', '+', '|'])).count();
        let compounds = match 2 * with_parts >= text.lines().count() {
            true => labeled(&text),
            false => found_in(&text),
        };
        if compounds.is_empty() {
            return Err(Error::NoCompounds {
                path: path.to_path_buf(),
            });
        }
        Ok(compounds)
    }
}

/// Lines with parts; lines whose parts do not form the word are skipped.
fn labeled(text: &str) -> Vec<Compound> {
    let mut seen = HashSet::new();
    let compounds = text.lines().filter_map(|line| {
        let (word, parts) = match line.split_once('\t') {
            Some((word, parts)) => (word.trim().to_owned(), parts),
            None => (line.trim().replace(['+', '|'], ""), line),
        };
        let parts: Vec<&str> = parts
            .split(['\t', '+', '|', ' '])
            .filter(|part| !part.is_empty())
            .collect();
        Compound::new(&word, &parts).filter(|compound| compound.word.len() <= MAX_WORD_BYTES)
    });
    compounds
        .filter(|compound| seen.insert(compound.word.clone()))
        .collect()
}

fn found_in(text: &str) -> Vec<Compound> {
    let is_plain = |word: &&str| {
        word.chars()
            .all(|letter| letter.is_lowercase() && letter.is_alphabetic())
    };
    let words: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|word| word.len() <= MAX_WORD_BYTES)
        .filter(is_plain)
        .collect();
    let known: HashSet<&str> = words
        .iter()
        .copied()
        .filter(|word| word.chars().count() >= MIN_LAST_LETTERS && !SUFFIXES.contains(word))
        .collect();
    let mut seen = HashSet::new();
    let compounds = words.iter().filter(|word| seen.insert(**word)).filter_map(|word| {
        let mut ways = Vec::new();
        find_splits(word, 0, &known, &mut Vec::new(), &mut ways);
        let mut of_two = ways.iter().filter(|way| way.len() == 1);
        let boundaries = of_two.next().filter(|_| of_two.next().is_none())?.clone();
        let mut neutral: Vec<Range<usize>> = ways.concat();
        neutral.retain(|boundary| !boundaries.contains(boundary));
        Some(Compound {
            word: (*word).to_owned(),
            boundaries,
            neutral,
        })
    });
    compounds.collect()
}

/// The most splits of one word; a word with more is too ambiguous to count.
const MAX_SPLITS: usize = 64;

/// All ways to split a word from `start` on into two or more known words.
fn find_splits(
    word: &str,
    start: usize,
    known: &HashSet<&str>,
    before: &mut Vec<Range<usize>>,
    ways: &mut Vec<Vec<Range<usize>>>,
) {
    let rest = &word[start..];
    if !before.is_empty() && known.contains(rest) {
        ways.push(before.clone());
    }
    for (length, _) in rest.char_indices().skip(MIN_FIRST_LETTERS) {
        if ways.len() >= MAX_SPLITS {
            return;
        }
        let end = start + length;
        if !known.contains(&word[start..end]) {
            continue;
        }
        for link in ["", RULE_LINK] {
            if word[end..].starts_with(link) {
                before.push(end..end + link.len());
                find_splits(word, end + link.len(), known, before, ways);
                before.pop();
            }
        }
    }
}

/// How a tokenizer splits compounds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CompoundReport {
    /// Compounds.
    pub words: u64,
    /// Boundaries between their parts.
    pub boundaries: u64,
    /// Boundaries that coincide with a boundary between tokens.
    pub respected: u64,
    /// Boundaries between tokens inside a part.
    pub false_splits: u64,
    /// Tokens of the words, without those of the text around them.
    pub tokens: u64,
    /// Words with an unknown token, whose boundaries all count as missed.
    pub unknown: u64,
}

/// Encodes compounds, each as a word of a text, and counts how their parts are split.
///
/// # Errors
///
/// As [`Tokenizer::encode`].
///
/// # Example
///
/// ```
/// use taal_tokenizer::{Compound, Kind, TrainerConfig, compound_report};
///
/// let tokenizer = TrainerConfig::new(Kind::Char, 100).train(["en voorbeeldzin"])?;
/// let compound = Compound::new("voorbeeldzin", &["voorbeeld", "zin"]).expect("its parts");
/// let report = compound_report(&tokenizer, &[compound])?;
/// assert_eq!((report.respected, report.false_splits, report.tokens), (1, 10, 13));
/// # Ok::<(), taal_tokenizer::Error>(())
/// ```
pub fn compound_report(tokenizer: &Tokenizer, compounds: &[Compound]) -> Result<CompoundReport> {
    let mut report = CompoundReport::default();
    for compound in compounds {
        let text = format!("{CARRIER}{}", compound.word);
        let tokens = tokenizer.encode_with_offsets(&text)?;
        // Tokens that end before the space belong to the carrier. The space before the word may be a separate token or part of
        // the first one, and only in the first case adds a token to the word.
        let before_space = CARRIER.trim_end().len();
        let of_word = || tokens.iter().filter(|(_, range)| range.end > before_space);
        let cuts: BTreeSet<usize> = of_word()
            .filter_map(|(_, range)| range.start.checked_sub(CARRIER.len()))
            .collect();
        let is_inside = |cut: &&usize| **cut > 0 && **cut < compound.word.len();
        let is_at = |cut: usize| {
            compound
                .boundaries
                .iter()
                .any(|boundary| boundary.start <= cut && cut <= boundary.end)
        };
        let is_respected = |boundary: &&Range<usize>| cuts.range(boundary.start..=boundary.end).next().is_some();
        report.words += 1;
        report.boundaries += compound.boundaries.len() as u64;
        report.respected += compound.boundaries.iter().filter(is_respected).count() as u64;
        report.false_splits += cuts.iter().filter(is_inside).filter(|cut| !is_at(**cut)).count() as u64;
        report.tokens += of_word().count() as u64;
        report.unknown += u64::from(of_word().any(|(id, _)| Some(*id) == tokenizer.unk_id()));
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The start and end of the boundaries.
    fn places(boundaries: &[Range<usize>]) -> Vec<(usize, usize)> {
        boundaries
            .iter()
            .map(|boundary| (boundary.start, boundary.end))
            .collect()
    }

    #[test]
    fn parts_are_found_in_a_word_with_and_without_linking_elements() {
        let boundaries = |word, parts: &[&str]| Compound::new(word, parts).map(|compound| places(&compound.boundaries));
        assert_eq!(boundaries("voorbeeldzin", &["voorbeeld", "zin"]), Some(vec![(9, 9)]));
        assert_eq!(boundaries("stadsbestuur", &["stad", "bestuur"]), Some(vec![(4, 5)]));
        assert_eq!(boundaries("stadsbestuur", &["stads", "bestuur"]), Some(vec![(5, 5)]));
        assert_eq!(boundaries("zuid-holland", &["zuid", "holland"]), Some(vec![(4, 5)]));
        assert_eq!(
            boundaries("boekenkastdeur", &["boek", "kast", "deur"]),
            Some(vec![(4, 6), (10, 10)])
        );
        assert_eq!(boundaries("zin", &["zin"]), None);
        assert_eq!(boundaries("voorbeeldzin", &["voorbeeld", "zi"]), None);
    }

    #[test]
    fn a_plain_list_gives_the_words_that_others_form_in_exactly_one_way() {
        let list = "voorbeeld\nzin\nvoorbeeldzin\nstad\nbestuur\nstadsbestuur\nkast\nkastanje\nkastdeur\ndeur\nhuis\nhuisdeur\nkastdeurhuis\nvoor\nbeeld";
        let found: Vec<(String, Vec<(usize, usize)>)> = found_in(list)
            .into_iter()
            .map(|compound| (compound.word, places(&compound.boundaries)))
            .collect();
        let expected: [(&str, &[(usize, usize)]); 6] = [
            ("voorbeeld", &[(4, 4)]),
            ("voorbeeldzin", &[(9, 9)]),
            ("stadsbestuur", &[(4, 5)]),
            ("kastdeur", &[(4, 4)]),
            ("huisdeur", &[(4, 4)]),
            ("kastdeurhuis", &[(8, 8)]),
        ];
        assert_eq!(
            found,
            expected.map(|(word, boundaries)| (word.to_owned(), boundaries.to_vec()))
        );
    }

    #[test]
    fn labeled_lines_may_have_a_tab_a_plus_or_a_bar() {
        let read = labeled(
            "voorbeeldzin\tvoorbeeld zin\nstad+bestuur\nkast|deur\naprilgek\t1 aprilgek\nkastdeur\tkast deur\n",
        );
        let words: Vec<&str> = read.iter().map(|compound| compound.word.as_str()).collect();
        assert_eq!(words, ["voorbeeldzin", "stadbestuur", "kastdeur"]);
    }
}
