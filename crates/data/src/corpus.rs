//! The small corpora that come with the program, so that a first run needs no download.

/// A text that is embedded in the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Corpus {
    /// Its name in a recipe's `data.corpus`.
    pub name: &'static str,
    /// The text itself.
    pub text: &'static str,
    /// Its license; the full notes are next to the text, in `corpora/`.
    pub license: &'static str,
    /// Where it comes from.
    pub source: &'static str,
}

const CORPORA: [Corpus; 3] = [
    Corpus {
        name: "tinyshakespeare",
        text: include_str!("../corpora/tinyshakespeare/input.txt"),
        license: "public domain (William Shakespeare); collected in a repository under the MIT license",
        source: "https://github.com/karpathy/char-rnn, data/tinyshakespeare/input.txt",
    },
    Corpus {
        name: "names",
        text: include_str!("../corpora/names/names.txt"),
        license: "MIT (Andrej Karpathy)",
        source: "https://github.com/karpathy/makemore, names.txt",
    },
    Corpus {
        name: "dutch",
        text: include_str!("../corpora/dutch/dutch.txt"),
        license: "CC BY-SA 4.0",
        source: "https://github.com/rug-compling/Alpino: Dutch newspaper text (Eindhoven corpus) and Dutch Wikipedia",
    },
];

/// All embedded corpora.
pub fn corpora() -> &'static [Corpus] {
    &CORPORA
}

/// The embedded corpus of this name.
///
/// ```
/// let corpus = taal_data::corpus("tinyshakespeare").expect("an embedded corpus");
/// assert!(corpus.text.starts_with("First Citizen:"));
/// assert!(taal_data::corpus("linux-kernel").is_none());
/// ```
pub fn corpus(name: &str) -> Option<Corpus> {
    CORPORA.into_iter().find(|corpus| corpus.name == name)
}
