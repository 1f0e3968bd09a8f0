//! The texts that a model was trained on: their names, languages and licenses.

use taal_draw::Language;
use taal_metrics::DataSourceFacts;

use super::Facts;

/// Languages of the embedded corpora and sets of examples (ISO 639-1).
const LANGUAGES: [(&str, &[&str]); 7] = [
    ("tinyshakespeare", &["en"]),
    ("names", &["en"]),
    ("english", &["en"]),
    ("dutch", &["nl"]),
    ("dutch-alpino", &["nl"]),
    ("tldr", &["en", "nl"]),
    ("tatoeba-en-nl", &["en", "nl"]),
];

/// What the licenses and origins of the embedded texts say, in English and in Dutch. Longer phrases come first.
const PHRASES: [(&str, &str); 20] = [
    (
        "everyday sentences in English and Dutch, the pairs of the OPUS release",
        "alledaagse zinnen in het Engels en Nederlands, de paren van de OPUS-uitgave",
    ),
    (
        "Dutch sentences of the English-Dutch pairs in the OPUS release",
        "Nederlandse zinnen van de Engels-Nederlandse paren in de OPUS-uitgave",
    ),
    (
        "English sentences of the English-Dutch pairs in the OPUS release",
        "Engelse zinnen van de Engels-Nederlandse paren in de OPUS-uitgave",
    ),
    (
        "sentences to read aloud, among them many of the European Parliament",
        "zinnen om voor te lezen, waaronder vele van het Europees Parlement",
    ),
    ("sentences to read aloud", "zinnen om voor te lezen"),
    (", as selected in ", ", zoals gekozen in "),
    (
        "newspapers of around 1970 (Eindhoven corpus)",
        "kranten van rond 1970 (Eindhovens corpus)",
    ),
    (
        "a guide for software projects of the government",
        "een leidraad voor softwareprojecten van de overheid",
    ),
    (
        "what the commands of a terminal do",
        "wat de opdrachten van een terminal doen",
    ),
    (
        "123 articles, as collected in gensim's and LLaMA-Factory's repositories",
        "123 artikelen, zoals verzameld in de repository's van gensim en LLaMA-Factory",
    ),
    ("four novels of 1886 to 1912", "vier romans van 1886 tot 1912"),
    (
        "Dutch newspaper text (Eindhoven corpus) and Dutch Wikipedia",
        "Nederlandse krantentekst (Eindhovens corpus) en de Nederlandse Wikipedia",
    ),
    (
        "tasks in English and Dutch with their shell command",
        "taken in het Engels en Nederlands met hun shell-opdracht",
    ),
    (
        "collected in a repository under the MIT license",
        "verzameld in een repository onder de MIT-licentie",
    ),
    ("public domain", "publiek domein"),
    (
        "adapted from CC BY-SA 3.0, Wikipedia's authors",
        "bewerkt van CC BY-SA 3.0, de auteurs van Wikipedia",
    ),
    ("Tatoeba's contributors", "bijdragers van Tatoeba"),
    ("tldr-pages' contributors", "bijdragers van tldr-pages"),
    ("tldr-pages contributors", "bijdragers van tldr-pages"),
    (
        "token ids of the program that trained",
        "token-ids van het programma dat trainde",
    ),
];

/// The embedded corpus of which a source is a part, or the source's own name.
fn corpus_of(source: &DataSourceFacts) -> &str {
    let has_it = |corpus: &&taal_data::Corpus| {
        let mut parts = corpus.parts.iter();
        parts.any(|part| source.name == part.name && source.origin.as_deref() == Some(part.source))
    };
    let found = taal_data::corpora().iter().find(has_it);
    found.map_or(source.name.as_str(), |corpus| corpus.name)
}

/// The corpora of these sources, each once.
pub(super) fn corpora<'a>(sources: impl IntoIterator<Item = &'a DataSourceFacts>) -> Vec<&'a str> {
    let mut names = Vec::new();
    for source in sources {
        let name = corpus_of(source);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The languages of these corpora, where they are known.
pub(super) fn languages(corpora: &[&str]) -> Vec<&'static str> {
    let known = LANGUAGES.iter().filter(|(corpus, _)| corpora.contains(corpus));
    let mut languages: Vec<&str> = known.flat_map(|(_, languages)| languages.iter().copied()).collect();
    languages.sort_unstable();
    languages.dedup();
    languages
}

impl Facts<'_> {
    /// What Taal says about its own texts, in the card's language; anything else stays as it is.
    fn translated(&self, text: &str) -> String {
        match self.language {
            Language::English => text.to_string(),
            Language::Dutch => PHRASES
                .iter()
                .fold(text.to_string(), |text, (english, dutch)| text.replace(english, dutch)),
        }
    }
}

/// A source of text with its license, in a line.
pub(super) fn source_words(facts: &Facts<'_>, source: &DataSourceFacts) -> String {
    let license = source.license.as_deref().map(|license| facts.translated(license));
    let license = license.unwrap_or_else(|| {
        let not_stated = facts.say(
            "license not stated (key data.license)",
            "licentie niet opgegeven (sleutel data.license)",
        );
        not_stated.to_string()
    });
    let origin = source
        .origin
        .as_deref()
        .map_or(String::new(), |origin| format!("; {}", facts.translated(origin)));
    format!("{}: {license}{origin}", source.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_corpus_have_its_name_and_language() {
        for corpus in taal_data::corpora() {
            let facts: Vec<DataSourceFacts> = corpus
                .parts
                .iter()
                .map(|part| DataSourceFacts {
                    name: part.name.to_string(),
                    license: Some(part.license.to_string()),
                    origin: Some(part.source.to_string()),
                })
                .collect();
            assert_eq!(corpora(&facts), [corpus.name]);
            assert!(!languages(&[corpus.name]).is_empty(), "{}", corpus.name);
        }
        for set in taal_data::example_sets() {
            assert!(!languages(&[set.name]).is_empty(), "{}", set.name);
        }
        assert_eq!(languages(&["dutch", "english", "own.txt"]), ["en", "nl"]);
    }

    #[test]
    fn every_phrase_is_one_of_an_embedded_text() {
        let parts = taal_data::corpora().iter().flat_map(|corpus| corpus.parts);
        let mut texts: Vec<String> = parts.map(|part| format!("{}; {}", part.license, part.source)).collect();
        texts.extend(
            taal_data::example_sets()
                .iter()
                .map(|set| format!("{}; {}", set.license, set.source)),
        );
        texts.push("token ids of the program that trained".to_string());
        for (english, _) in PHRASES {
            assert!(texts.iter().any(|text| text.contains(english)), "{english}");
        }
    }
}
