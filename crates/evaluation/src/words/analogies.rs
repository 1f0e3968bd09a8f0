//! Analogies: Athens is to Greece as Oslo is to which word?
//!
//! The answer is the word, other than the three given ones, whose normalized vector has the largest cosine with `b - a + c`:
//! Mikolov et al. (2013), named 3CosAdd by Levy and Goldberg (2014).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use serde::{Deserialize, Serialize};
use taal_metrics::wilson_interval;

use super::{UnknownWords, WordVectors, stem};
use crate::lines::{TEST_LIMITS, whole_text};
use crate::{EvaluationError, Result};

/// Cosines in memory at once, 32 MiB.
const COSINES_AT_ONCE: usize = 1 << 22;

/// A file of analogies, in sections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Analogies {
    name: String,
    sections: Vec<Section>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Section {
    name: String,
    /// `a` is to `b` as `c` is to `d`.
    questions: Vec<[String; 4]>,
}

/// The result on one section.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SectionScore {
    /// The section.
    pub name: String,
    /// Questions answered correctly.
    pub correct: u64,
    /// Questions whose four words have vectors and whose answer differs from the other three.
    pub scored: u64,
    /// All questions.
    pub total: u64,
    /// Questions left out because a word has no vector.
    pub without_vector: u64,
    /// Questions left out because the answer is among the three given words, which are never an answer.
    pub unanswerable: u64,
    /// Share of correct answers; `None` without scored questions.
    pub accuracy: Option<f64>,
    /// Its 95 % interval (Wilson 1927).
    pub interval: [f64; 2],
}

impl SectionScore {
    fn new(name: String, [correct, scored, without_vector, unanswerable]: [u64; 4]) -> Self {
        Self {
            name,
            correct,
            scored,
            total: scored + without_vector + unanswerable,
            without_vector,
            unanswerable,
            accuracy: (scored > 0).then(|| correct as f64 / scored as f64),
            interval: wilson_interval(correct, scored),
        }
    }
}

/// The result on one file of analogies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnalogyScore {
    /// The file's name without folder and extension.
    pub name: String,
    /// The number of candidate words.
    pub candidates: u64,
    /// The words without a vector.
    pub unknown: UnknownWords,
    /// Each section.
    pub sections: Vec<SectionScore>,
    /// All of them together.
    pub all: SectionScore,
}

impl Analogies {
    /// Reads word2vec's format, four words per line under lines of `: section`; or, from a `.json` file, an object of sections,
    /// each a list of word pairs. Every two different pairs make a question, in both orders.
    ///
    /// # Errors
    ///
    /// [`EvaluationError::Line`] naming file and line; the store's.
    pub fn read(path: &Path, lowercase: bool) -> Result<Self> {
        let text = whole_text(path, TEST_LIMITS)?;
        let is_json = path.extension().is_some_and(|extension| extension == "json");
        let sections = match is_json {
            true => sections_of_pairs(&text),
            false => sections_of_lines(&text),
        };
        let bad = |(line, detail)| EvaluationError::Line {
            path: path.to_path_buf(),
            line,
            detail,
        };
        let mut sections = sections.map_err(bad)?;
        if lowercase {
            let words = sections.iter_mut().flat_map(|section| &mut section.questions).flatten();
            words.for_each(|word| *word = word.to_lowercase());
        }
        if sections.iter().all(|section| section.questions.is_empty()) {
            return Err(bad((1, "expected at least one question, got none".to_owned())));
        }
        Ok(Self {
            name: stem(path),
            sections,
        })
    }

    /// All words, with repetitions.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        let questions = self.sections.iter().flat_map(|section| &section.questions);
        questions.flatten().map(String::as_str)
    }

    /// Answers the questions with one of `candidates`; those without a vector are ignored. Ties go to the first candidate.
    pub fn score<'a>(&self, vectors: &WordVectors, candidates: impl IntoIterator<Item = &'a str>) -> AnalogyScore {
        let mut seen = HashSet::new();
        let mut candidates: Vec<usize> = candidates.into_iter().filter_map(|word| vectors.find(word)).collect();
        candidates.retain(|place| seen.insert(*place));
        let counts: Vec<[u64; 4]> = self
            .sections
            .iter()
            .map(|section| section.count(vectors, &candidates))
            .collect();
        let total = counts.iter().fold([0; 4], |sum, counts| {
            [0, 1, 2, 3].map(|index| sum[index] + counts[index])
        });
        let names = self.sections.iter().map(|section| section.name.clone());
        AnalogyScore {
            name: self.name.clone(),
            candidates: candidates.len() as u64,
            unknown: UnknownWords::among(self.words(), vectors),
            sections: names
                .zip(counts)
                .map(|(name, counts)| SectionScore::new(name, counts))
                .collect(),
            all: SectionScore::new("all".to_owned(), total),
        }
    }
}

impl Section {
    /// Correct, scored, without a vector, unanswerable.
    fn count(&self, vectors: &WordVectors, candidates: &[usize]) -> [u64; 4] {
        let (mut without_vector, mut unanswerable) = (0, 0);
        let mut questions = Vec::new();
        for words in &self.questions {
            let places = words.each_ref().map(|word| vectors.find(word));
            match places {
                [Some(a), Some(b), Some(c), Some(d)] if [a, b, c].contains(&d) => unanswerable += 1,
                [Some(a), Some(b), Some(c), Some(d)] => questions.push([a, b, c, d]),
                _ => without_vector += 1,
            }
        }
        let answers = answers(vectors, candidates, &questions);
        let is_right = |(question, answer): &(&[usize; 4], Option<usize>)| *answer == Some(question[3]);
        let correct = questions.iter().zip(answers).filter(is_right).count() as u64;
        [correct, questions.len() as u64, without_vector, unanswerable]
    }
}

/// The nearest candidate to every `b - a + c`.
///
/// For vectors of length 1, the cosine with `b - a + c` is `cos(b) - cos(a) + cos(c)` up to the length of that sum. So each given
/// word is compared with the candidates only once, regardless of the number of questions.
fn answers(vectors: &WordVectors, candidates: &[usize], questions: &[[usize; 4]]) -> Vec<Option<usize>> {
    let mut rows: HashMap<usize, usize> = HashMap::new();
    let mut given = Vec::new();
    let mut row_of = |place: usize| {
        *rows.entry(place).or_insert_with(|| {
            given.push(place);
            given.len() - 1
        })
    };
    let terms: Vec<[usize; 3]> = questions
        .iter()
        .map(|[a, b, c, _]| [*a, *b, *c].map(&mut row_of))
        .collect();
    let mut best: Vec<(f64, Option<usize>)> = vec![(f64::NEG_INFINITY, None); questions.len()];
    let at_once = (COSINES_AT_ONCE / given.len().max(1)).max(1);
    for block in candidates.chunks(at_once) {
        let cosines: Vec<Vec<f64>> = given
            .iter()
            .map(|word| block.iter().map(|other| vectors.cosine_of(*word, *other)).collect())
            .collect();
        for ((question, [a, b, c]), best) in questions.iter().zip(&terms).zip(&mut best) {
            let sums = cosines[*b]
                .iter()
                .zip(&cosines[*a])
                .zip(&cosines[*c])
                .map(|((b, a), c)| b - a + c);
            for (candidate, sum) in block.iter().zip(sums) {
                if sum > best.0 && !question[..3].contains(candidate) {
                    *best = (sum, Some(*candidate));
                }
            }
        }
    }
    best.into_iter().map(|(_, answer)| answer).collect()
}

fn sections_of_lines(text: &str) -> std::result::Result<Vec<Section>, (usize, String)> {
    let mut sections: Vec<Section> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if let Some(name) = line.strip_prefix(':') {
            sections.push(Section {
                name: name.trim().to_owned(),
                questions: Vec::new(),
            });
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let question = match words[..] {
            [] => continue,
            [a, b, c, d] => [a, b, c, d].map(str::to_owned),
            _ => return Err((number, format!("expected four words, got {}", words.len()))),
        };
        match sections.last_mut() {
            Some(section) => section.questions.push(question),
            None => sections.push(Section {
                name: "no section".to_owned(),
                questions: vec![question],
            }),
        }
    }
    Ok(sections)
}

fn sections_of_pairs(text: &str) -> std::result::Result<Vec<Section>, (usize, String)> {
    let parsed: BTreeMap<String, Vec<[String; 2]>> =
        serde_json::from_str(text).map_err(|error| (error.line().max(1), taal_store::shorten(&error.to_string())))?;
    // The number of questions grows with the square of the file.
    let count = |pairs: &Vec<[String; 2]>| pairs.len().saturating_mul(pairs.len().saturating_sub(1));
    let questions = parsed.values().map(count).fold(0_usize, usize::saturating_add);
    if questions > TEST_LIMITS.lines {
        let detail = format!(
            "the pairs make {questions} questions, but at most {} are accepted",
            TEST_LIMITS.lines
        );
        return Err((1, detail));
    }
    let section = |(name, mut pairs): (String, Vec<[String; 2]>)| {
        let mut seen = HashSet::new();
        pairs.retain(|pair| seen.insert(pair.clone()));
        let both = |first: &[String; 2], other: &[String; 2]| {
            let [[a, b], [c, d]] = [first, other].map(Clone::clone);
            [a, b, c, d]
        };
        let others = |first| {
            pairs
                .iter()
                .filter(move |other| *other != first)
                .map(move |other| both(first, other))
        };
        Section {
            name,
            questions: pairs.iter().flat_map(others).collect(),
        }
    };
    Ok(parsed.into_iter().map(section).collect())
}
