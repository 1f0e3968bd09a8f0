//! The direction of pairs for translation, and whether the columns of a file are the wrong way round.

use crate::dialogue::Columns;
use crate::error::{DataError, Result};
use crate::records::Records;
use crate::text::Object;

/// The languages of pairs, such as `en` and `nl`: also the names of their columns, unless the recipe names others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Direction {
    /// What is read.
    pub from: String,
    /// What is written.
    pub to: String,
}

/// Lines that a note names.
const NAMED_LINES: usize = 5;

/// Words by which a sentence is known to be of a language; none of them is a word of both.
static FUNCTION_WORDS: [(&str, &[&str]); 2] = [
    (
        "en",
        &[
            "the", "a", "and", "to", "are", "were", "been", "i", "you", "he", "she", "it", "it's", "i'm", "they", "my",
            "your", "his", "our", "their", "this", "that", "these", "those", "with", "for", "not", "don't", "did",
            "didn't", "does", "has", "have", "what", "who", "how", "when", "where", "why", "there", "which", "would",
            "should", "could",
        ],
    ),
    (
        "nl",
        &[
            "de", "het", "een", "en", "te", "zijn", "waren", "ik", "jij", "je", "hij", "zij", "ze", "wij", "mijn",
            "jouw", "haar", "dit", "dat", "deze", "met", "voor", "niet", "geen", "heeft", "heb", "hebben", "wie",
            "hoe", "wanneer", "waar", "waarom", "er", "naar", "kan", "moet", "maar", "ook", "uw", "u", "wordt", "zou",
            "kunnen", "van", "op",
        ],
    ),
];

/// The language of a sentence, where its function words tell and are of one language only.
fn language_of(text: &str) -> Option<&'static str> {
    let lower = text.to_lowercase();
    let words = lower.split(|letter: char| !letter.is_alphanumeric() && letter != '\'');
    let words: Vec<&str> = words.collect();
    let is_of = |known: &[&str]| words.iter().any(|word| known.contains(word));
    let mut found = FUNCTION_WORDS.iter().filter(|(_, known)| is_of(known));
    let first = found.next()?;
    found.next().is_none().then_some(first.0)
}

impl Direction {
    /// The columns of both sides.
    pub(crate) fn columns(&self, named: &Columns) -> Columns {
        Columns {
            prompt: Some(named.prompt.clone().unwrap_or_else(|| self.from.clone())),
            completion: Some(named.completion.clone().unwrap_or_else(|| self.to.clone())),
            rejected: None,
            input: None,
            messages: None,
        }
    }
}

/// Refuses a row without the column of one side, or with several texts in it.
///
/// # Errors
/// [`DataError::Line`](crate::DataError::Line) naming the column, with a way out.
pub(crate) fn check_columns(records: &Records<'_>, row: &Object, columns: &Columns) -> Result<()> {
    let sides = [
        (&columns.prompt, "data.from", "data.prompt_column"),
        (&columns.completion, "data.to", "data.completion_column"),
    ];
    for (column, language, key) in sides {
        if let Some(column) = column.as_ref().filter(|column| !row.contains_key(*column)) {
            let found: Vec<&str> = row.keys().map(String::as_str).collect();
            return Err(records.bad(format!(
                "column `{column}` of {language} is missing: the columns are {}; name the right one in {key} (the first row of a CSV \
                 or TSV file names its columns)",
                taal_store::excerpt(&found.join(", "))
            )));
        }
        let is_list = |column: &&String| row.get(*column).is_some_and(|value| value.is_array());
        if let Some(column) = column.as_ref().filter(is_list) {
            return Err(records.bad(format!(
                "column `{column}` of {language} is a list: a pair has one text on each side; write a row for each translation"
            )));
        }
    }
    Ok(())
}

/// Counts the rows of a file whose two sides are each in the other's language.
#[derive(Debug, Default)]
pub(crate) struct SwappedRows {
    told: u64,
    swapped: u64,
    lines: Vec<u64>,
}

impl SwappedRows {
    /// Looks at a row.
    pub(crate) fn see(&mut self, direction: &Direction, line: u64, sides: [&str; 2]) {
        let [Some(read), Some(written)] = sides.map(language_of) else {
            return;
        };
        let is_swapped = read == direction.to && written == direction.from;
        self.told += u64::from(is_swapped || read == direction.from && written == direction.to);
        self.swapped += u64::from(is_swapped);
        if is_swapped && self.lines.len() < NAMED_LINES {
            self.lines.push(line);
        }
    }

    /// A note about single rows; none where all are as they should be.
    ///
    /// # Errors
    /// [`DataError::Line`] where most rows are the wrong way round, naming the first.
    pub(crate) fn verdict(self, name: &str, direction: &Direction) -> Result<Option<String>> {
        let Some(first) = self.lines.first().copied() else {
            return Ok(None);
        };
        let Direction { from, to } = direction;
        if 2 * self.swapped > self.told {
            return Err(DataError::Line {
                name: name.to_owned(),
                line: first,
                detail: format!(
                    "the languages are swapped: the column of data.from = \"{from}\" has \"{to}\" and the other way round, in {} of the {} rows \
                     whose words tell; swap data.from and data.to, or data.prompt_column and data.completion_column",
                    self.swapped, self.told
                ),
            });
        }
        let lines: Vec<String> = self.lines.iter().map(u64::to_string).collect();
        let more = match self.swapped - self.lines.len() as u64 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Ok(Some(format!(
            "{name}: the languages of {} of {} rows seem to be swapped, on line {}{more}; they are used as they are",
            self.swapped,
            self.told,
            lines.join(", ")
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_known_by_function_words_of_one_language_only() {
        assert_eq!(language_of("I don't know where she is."), Some("en"));
        assert_eq!(language_of("Ik weet niet waar ze is."), Some("nl"));
        assert_eq!(language_of("Perfect!"), None);
        assert_eq!(language_of("De hond said the word."), None);
        let [(_, english), (_, dutch)] = FUNCTION_WORDS;
        assert!(english.iter().all(|word| !dutch.contains(word)));
    }
}
