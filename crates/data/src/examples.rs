//! Sets of examples with answers that come with the program, so that a first fine-tuning needs no download.

use crate::input::Input;
use taal_store::LineEnds;

/// Rows with answers to learn, and others that are held out: examples with a layout, or pairs of sentences in two languages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExampleSet {
    /// Its name in a recipe's `data.examples`.
    pub name: &'static str,
    /// Its license; the full notes are next to the rows, in `corpora/`.
    pub license: &'static str,
    /// Where it comes from.
    pub source: &'static str,
    /// The languages of pairs, which are the columns of their rows; empty where the rows are other examples.
    pub languages: &'static [&'static str],
    /// The rows as JSON Lines in zstd.
    train: &'static [u8],
    held_out: &'static [u8],
    test: Option<&'static [u8]>,
}

const SETS: [ExampleSet; 2] = [
    ExampleSet {
        name: "tldr",
        license: "CC BY 4.0 (tldr-pages contributors)",
        source: "https://github.com/tldr-pages/tldr: tasks in English and Dutch with their shell command",
        languages: &[],
        train: include_bytes!("../corpora/tldr/train.jsonl.zst"),
        held_out: include_bytes!("../corpora/tldr/held-out.jsonl.zst"),
        test: None,
    },
    ExampleSet {
        name: "tatoeba-en-nl",
        license: "CC BY 2.0 FR (Tatoeba's contributors)",
        source: "https://tatoeba.org: everyday sentences in English and Dutch, the pairs of the OPUS release",
        languages: &["en", "nl"],
        train: include_bytes!("../corpora/tatoeba-en-nl/train.jsonl.zst"),
        held_out: include_bytes!("../corpora/tatoeba-en-nl/validation.jsonl.zst"),
        test: Some(include_bytes!("../corpora/tatoeba-en-nl/test.jsonl.zst")),
    },
];

/// All embedded sets.
pub fn example_sets() -> &'static [ExampleSet] {
    &SETS
}

/// The embedded set of this name.
///
/// ```
/// let set = taal_data::example_set("tldr").expect("an embedded set");
/// assert!(set.train_rows().lines().count() > 8_000);
/// assert!(taal_data::example_set("gsm8k").is_none());
/// ```
pub fn example_set(name: &str) -> Option<&'static ExampleSet> {
    SETS.iter().find(|set| set.name == name)
}

impl ExampleSet {
    /// The rows to train on, as JSON Lines.
    pub fn train_rows(&self) -> String {
        unpacked(self.train)
    }

    /// The rows that are held out to validate with, as JSON Lines.
    pub fn held_out_rows(&self) -> String {
        unpacked(self.held_out)
    }

    /// The rows that are neither trained on nor validated with, as JSON Lines, where the set has such a part. No sentence of them is in
    /// the other parts, in either language.
    pub fn test_rows(&self) -> Option<String> {
        self.test.map(unpacked)
    }

    /// Both as inputs, whose names are the set's and what is read of it.
    pub(crate) fn inputs<'a>(&self, [train, held_out]: [&'a str; 2], line_ends: LineEnds) -> [Input<'a>; 2] {
        [
            Input::lines(self.name, train, line_ends),
            Input::lines(&format!("{} (held out)", self.name), held_out, line_ends),
        ]
    }
}

/// `every_set_of_examples_has_a_source_a_license_and_rows_that_are_read` unpacks all of them.
fn unpacked(rows: &[u8]) -> String {
    let bytes = zstd::decode_all(rows).expect("embedded rows are zstd");
    String::from_utf8(bytes).expect("embedded rows are UTF-8")
}
