//! The corpora that come with the program, so that a first run needs no download.

use std::sync::OnceLock;

/// A text, or several of different sources, that is embedded in the program.
#[derive(Debug, Clone, Copy)]
pub struct Corpus {
    /// Its name in a recipe's `data.corpus`.
    pub name: &'static str,
    /// Its texts. Each is split into a training and a validation part of its own, so that validation reports a loss per source.
    pub parts: &'static [CorpusPart],
    /// Sentences with a gap that are not in the text, and the words that were in them; see [`gaps`](Self::gaps).
    gaps: Option<&'static str>,
    joined: &'static OnceLock<String>,
}

/// A text of one source.
#[derive(Debug)]
pub struct CorpusPart {
    /// Its name: the corpus's where there is only one part.
    pub name: &'static str,
    /// Its license; the full notes are next to the text, in `corpora/`.
    pub license: &'static str,
    /// Where it comes from.
    pub source: &'static str,
    text: Stored,
}

/// How a text is stored in the program.
enum Stored {
    Plain(&'static str),
    /// zstd, unpacked when the text is first asked for.
    Packed(&'static [u8], OnceLock<String>),
}

impl std::fmt::Debug for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Plain(text) => write!(f, "{} bytes", text.len()),
            Self::Packed(packed, _) => write!(f, "{} bytes of zstd", packed.len()),
        }
    }
}

impl Corpus {
    /// The text of all parts, one after the other.
    pub fn text(&self) -> &'static str {
        match self.parts {
            [part] => part.text(),
            parts => self.joined.get_or_init(|| parts.iter().map(CorpusPart::text).collect()),
        }
    }

    /// The file of sentences with gaps to test a model of this corpus with, one `TEXT<TAB>WORD` per line, where there is one. The
    /// text has none of the sentences, filled in, and none that differs from one of them in one word.
    pub fn gaps(&self) -> Option<&'static str> {
        self.gaps
    }

    /// The name and the text of each part.
    pub fn texts(&self) -> Vec<(&'static str, &'static str)> {
        self.parts.iter().map(|part| (part.name, part.text())).collect()
    }
}

impl CorpusPart {
    /// The text.
    pub fn text(&'static self) -> &'static str {
        match &self.text {
            Stored::Plain(text) => text,
            Stored::Packed(packed, text) => text.get_or_init(|| unpack(packed)),
        }
    }
}

/// The text of a file in `corpora/`. `every_corpus_is_clean_text_with_a_source_and_a_license` unpacks all of them.
fn unpack(packed: &[u8]) -> String {
    let bytes = zstd::decode_all(packed).expect("an embedded corpus is zstd");
    String::from_utf8(bytes).expect("an embedded corpus is UTF-8")
}

/// A part that is stored as zstd.
macro_rules! packed {
    ($corpus:literal, $name:literal, $license:literal, $source:literal) => {
        CorpusPart {
            name: $name,
            license: $license,
            source: $source,
            text: Stored::Packed(
                include_bytes!(concat!("../corpora/", $corpus, "/", $name, ".txt.zst")),
                OnceLock::new(),
            ),
        }
    };
}

static TINYSHAKESPEARE: [CorpusPart; 1] = [CorpusPart {
    name: "tinyshakespeare",
    text: Stored::Plain(include_str!("../corpora/tinyshakespeare/input.txt")),
    license: "public domain (William Shakespeare); collected in a repository under the MIT license",
    source: "https://github.com/karpathy/char-rnn, data/tinyshakespeare/input.txt",
}];

static NAMES: [CorpusPart; 1] = [CorpusPart {
    name: "names",
    text: Stored::Plain(include_str!("../corpora/names/names.txt")),
    license: "MIT (Andrej Karpathy)",
    source: "https://github.com/karpathy/makemore, names.txt",
}];

static DUTCH_ALPINO: [CorpusPart; 1] = [CorpusPart {
    name: "dutch-alpino",
    text: Stored::Plain(include_str!("../corpora/dutch-alpino/dutch-alpino.txt")),
    license: "CC BY-SA 4.0",
    source: "https://github.com/rug-compling/Alpino: Dutch newspaper text (Eindhoven corpus) and Dutch Wikipedia",
}];

static DUTCH: [CorpusPart; 6] = [
    packed!(
        "dutch",
        "tatoeba",
        "CC BY 2.0 FR (Tatoeba's contributors)",
        "https://tatoeba.org: Dutch sentences of the English-Dutch pairs in the OPUS release"
    ),
    packed!(
        "dutch",
        "voice",
        "CC0 1.0",
        "https://commonvoice.mozilla.org: sentences to read aloud, among them many of the European Parliament"
    ),
    packed!(
        "dutch",
        "wiki",
        "CC BY-SA 4.0 (adapted from CC BY-SA 3.0, Wikipedia's authors)",
        "https://nl.wikipedia.org, as selected in https://github.com/rug-compling/Alpino"
    ),
    packed!(
        "dutch",
        "news",
        "CC BY-SA 4.0",
        "https://github.com/rug-compling/Alpino: newspapers of around 1970 (Eindhoven corpus)"
    ),
    packed!(
        "dutch",
        "quality",
        "Apache-2.0 (ICTU)",
        "https://github.com/ICTU/Kwaliteitsaanpak: a guide for software projects of the government"
    ),
    packed!(
        "dutch",
        "commands",
        "CC BY 4.0 (tldr-pages' contributors)",
        "https://github.com/tldr-pages/tldr: what the commands of a terminal do"
    ),
];

static ENGLISH: [CorpusPart; 4] = [
    packed!(
        "english",
        "tatoeba",
        "CC BY 2.0 FR (Tatoeba's contributors)",
        "https://tatoeba.org: English sentences of the English-Dutch pairs in the OPUS release"
    ),
    packed!(
        "english",
        "voice",
        "CC0 1.0",
        "https://commonvoice.mozilla.org: sentences to read aloud"
    ),
    packed!(
        "english",
        "wiki",
        "CC BY-SA 4.0 (adapted from CC BY-SA 3.0, Wikipedia's authors)",
        "https://en.wikipedia.org: 123 articles, as collected in gensim's and LLaMA-Factory's repositories"
    ),
    packed!(
        "english",
        "novels",
        "public domain (Frances Hodgson Burnett, Arthur Conan Doyle, Gilbert Keith Chesterton)",
        "https://github.com/computationalstylistics/100_english_novels: four novels of 1886 to 1912"
    ),
];

static CORPORA: [Corpus; 5] = [
    Corpus {
        name: "tinyshakespeare",
        parts: &TINYSHAKESPEARE,
        gaps: None,
        joined: &ALONE,
    },
    Corpus {
        name: "names",
        parts: &NAMES,
        gaps: None,
        joined: &ALONE,
    },
    Corpus {
        name: "dutch",
        parts: &DUTCH,
        gaps: Some(include_str!("../corpora/dutch/gaps.tsv")),
        joined: &DUTCH_JOINED,
    },
    Corpus {
        name: "english",
        parts: &ENGLISH,
        gaps: Some(include_str!("../corpora/english/gaps.tsv")),
        joined: &ENGLISH_JOINED,
    },
    Corpus {
        name: "dutch-alpino",
        parts: &DUTCH_ALPINO,
        gaps: None,
        joined: &ALONE,
    },
];

/// Never filled: a corpus of one part is that part's text.
static ALONE: OnceLock<String> = OnceLock::new();
static DUTCH_JOINED: OnceLock<String> = OnceLock::new();
static ENGLISH_JOINED: OnceLock<String> = OnceLock::new();

/// All embedded corpora.
pub fn corpora() -> &'static [Corpus] {
    &CORPORA
}

/// The embedded corpus of this name.
///
/// ```
/// let corpus = taal_data::corpus("tinyshakespeare").expect("an embedded corpus");
/// assert!(corpus.text().starts_with("First Citizen:"));
/// assert!(taal_data::corpus("linux-kernel").is_none());
/// ```
pub fn corpus(name: &str) -> Option<Corpus> {
    CORPORA.iter().find(|corpus| corpus.name == name).copied()
}
