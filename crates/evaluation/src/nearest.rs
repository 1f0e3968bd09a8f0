//! The answer of the nearest question that is known: what a model has to beat before it has learned more than to look up.

use std::collections::HashMap;

/// Questions with answers, found by the words that they share with another question.
///
/// A word counts the more, the fewer questions have it (inverse document frequency), and questions are compared by the cosine of their
/// words (Salton and Buckley 1988).
#[derive(Debug, Default)]
pub struct Nearest {
    answers: Vec<String>,
    /// Of each word, the questions that have it, with how often.
    postings: HashMap<String, Vec<(usize, f64)>>,
    /// The length of each question's vector.
    lengths: Vec<f64>,
}

impl Nearest {
    /// From pairs of question and answer.
    pub fn new<Q: AsRef<str>>(pairs: impl IntoIterator<Item = (Q, String)>) -> Self {
        let mut found = Self::default();
        for (question, answer) in pairs {
            let index = found.answers.len();
            for (word, count) in counted(question.as_ref()) {
                found.postings.entry(word).or_default().push((index, count));
            }
            found.answers.push(answer);
        }
        let mut squares = vec![0.0; found.answers.len()];
        for questions in found.postings.values() {
            let weight = found.weight(questions.len());
            for (index, count) in questions {
                squares[*index] += (count * weight).powi(2);
            }
        }
        found.lengths = squares.into_iter().map(f64::sqrt).collect();
        found
    }

    /// The answer to the known question that is nearest, of equally near ones the first; `None` where no word is known.
    pub fn answer(&self, question: &str) -> Option<&str> {
        let mut products: HashMap<usize, f64> = HashMap::new();
        // In one order of words, so that sums are the same every time.
        for (word, count) in counted(question) {
            let Some(questions) = self.postings.get(&word) else {
                continue;
            };
            let weight = self.weight(questions.len());
            for (index, known) in questions {
                *products.entry(*index).or_default() += count * known * weight * weight;
            }
        }
        let cosines = products
            .into_iter()
            .map(|(index, product)| (index, product / self.lengths[index]));
        let near = cosines.filter(|(_, cosine)| *cosine > 0.0);
        let nearest = near.max_by(|(a, x), (b, y)| x.total_cmp(y).then(b.cmp(a)));
        nearest.map(|(index, _)| self.answers[index].as_str())
    }

    /// How much a word counts that this many questions have.
    fn weight(&self, questions: usize) -> f64 {
        ((self.answers.len() + 1) as f64 / (questions as f64 + 0.5))
            .ln()
            .max(0.0)
    }
}

/// The words of a text without capitals, in order of the alphabet, with how often they occur.
fn counted(text: &str) -> Vec<(String, f64)> {
    let text = text.to_lowercase();
    let mut words: Vec<&str> = text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    words.sort_unstable();
    let mut counts: Vec<(String, f64)> = Vec::new();
    for word in words {
        match counts.last_mut() {
            Some((last, count)) if last == word => *count += 1.0,
            _ => counts.push((word.to_owned(), 1.0)),
        }
    }
    counts
}
