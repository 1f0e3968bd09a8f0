//! Model cards: `README.md` in a model directory, written from what was measured.
//!
//! A card has the YAML front matter of Hugging Face's model cards, the facts of the trainings in the model's ledger, and answers to the
//! questions of the Dutch government's Algoritmekader and of Annex XI of the EU's AI Act. What is not known is said.

mod front_matter;
mod questions;
mod sources;
mod task;
mod text;

use std::path::{Path, PathBuf};

use taal_draw::Language;
use taal_metrics::{Ledger, LedgerEntry};
use taal_model::{TransformerConfig, hugging_face};
use taal_store::layout::{self, CARD_FILE, OTHER_CARD_FILE};

use crate::TrainError;
use crate::ledger;

/// A longer README.md is not Taal's.
const MAX_CARD_BYTES: u64 = 4 << 20;

/// Changed cards that are kept in a directory.
const MAX_CARDS: usize = 99;

/// What the last line of a card begins and ends with; between them is the hash of all lines before it.
const MARK_START: &str = "<!-- taal card ";
const MARK_END: &str = " -->";

/// What a card is made from.
#[derive(Debug)]
struct Facts<'a> {
    /// The model's name.
    name: &'a str,
    /// Its shape; none for a file of another program.
    config: Option<&'a TransformerConfig>,
    /// Its trainings.
    ledger: &'a Ledger,
    language: Language,
}

impl<'a> Facts<'a> {
    /// The last training, which made the model what it is.
    fn last(&self) -> Option<&'a LedgerEntry> {
        self.ledger.entries.last()
    }

    /// A text in the card's language.
    fn say<'t>(&self, english: &'t str, dutch: &'t str) -> &'t str {
        match self.language {
            Language::English => english,
            Language::Dutch => dutch,
        }
    }
}

/// Where a card was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenCard {
    /// The file.
    pub path: PathBuf,
    /// The README.md that was kept because Taal did not write it, or it was changed since.
    pub kept: Option<PathBuf>,
}

/// The card of a model directory, as text.
///
/// # Errors
///
/// As [`ledger_of`](crate::ledger_of), and the model crate's for a configuration that cannot be read.
pub fn card_text(model_dir: &Path, name: &str, language: Language) -> Result<String, TrainError> {
    let ledger = ledger::ledger_of(model_dir)?;
    let config = config_of(model_dir)?;
    Ok(text_of(&ledger, config.as_ref(), name, language))
}

/// Writes the card of a model directory next to its weights, and its ledger if it has none.
///
/// # Errors
///
/// As [`card_text`], and the store's.
pub fn write_card(model_dir: &Path, name: &str, language: Language) -> Result<WrittenCard, TrainError> {
    let ledger = ledger::ledger_of(model_dir)?;
    publish(&ledger, config_of(model_dir)?.as_ref(), model_dir, name, language)
}

/// Writes the ledger and the card of a model that was made of those in other directories: an export has one source, a merge has its base and
/// its adapter. A file of another program has both next to it, under its own name with `.README.md` and `.ledger.json` appended.
///
/// # Errors
///
/// As [`write_card`].
pub fn write_card_of_export(
    sources: &[&Path],
    target: &Path,
    name: &str,
    language: Language,
) -> Result<WrittenCard, TrainError> {
    let ledger = ledger::joined_ledger(sources)?;
    if taal_store::is_dir(target) {
        return publish(&ledger, config_of(target)?.as_ref(), target, name, language);
    }
    let mut config = None;
    for source in sources {
        config = config.or(config_of(source)?);
    }
    let text = text_of(&ledger, config.as_ref(), name, language);
    ledger::write(&ledger, target)?;
    write_text(&text, |card| ledger::beside(target, card))
}

/// Writes a card under the first of its names that is free or has a card that nobody has changed: `README.md`, `README.taal.md`,
/// `README.taal-2.md` and so on. What somebody wrote or changed is kept.
fn write_text(text: &str, path_of: impl Fn(&str) -> PathBuf) -> Result<WrittenCard, TrainError> {
    let numbered = (2..=MAX_CARDS).map(|number| OTHER_CARD_FILE.replacen(".md", &format!("-{number}.md"), 1));
    let names = [CARD_FILE, OTHER_CARD_FILE]
        .map(str::to_owned)
        .into_iter()
        .chain(numbered);
    let mut kept = None;
    for path in names.map(|name| path_of(&name)) {
        if !taal_store::exists(&path) || is_ours(&path) {
            taal_store::remove_leftovers_of(&path)?;
            taal_store::write_atomic(&path, text.as_bytes())?;
            return Ok(WrittenCard { path, kept });
        }
        kept = kept.or(Some(path));
    }
    let path = path_of(CARD_FILE);
    let reason = format!("{MAX_CARDS} cards next to it were changed; remove some");
    Err(taal_store::Error::io("write a card next to", &path, std::io::Error::other(reason)).into())
}

/// The shape in a directory; an adapter, and a file of another program, have none of their own.
fn config_of(dir: &Path) -> Result<Option<TransformerConfig>, TrainError> {
    match taal_store::exists(&dir.join(layout::CONFIG_FILE)) {
        true => Ok(Some(hugging_face::open_config(dir)?)),
        false => Ok(None),
    }
}

/// Writes a ledger and the card that follows from it into a model directory.
pub(crate) fn publish(
    ledger: &Ledger,
    config: Option<&TransformerConfig>,
    model_dir: &Path,
    name: &str,
    language: Language,
) -> Result<WrittenCard, TrainError> {
    ledger::write(ledger, model_dir)?;
    let text = text_of(ledger, config, name, language);
    write_text(&text, |name| model_dir.join(name))
}

/// The card with its mark.
fn text_of(ledger: &Ledger, config: Option<&TransformerConfig>, name: &str, language: Language) -> String {
    let facts = Facts {
        name,
        config,
        ledger,
        language,
    };
    let text = format!("{}{}", front_matter::of(&facts), text::of(&facts));
    let hash = taal_store::blake3_hex(text.as_bytes());
    format!("{text}{MARK_START}{hash}{MARK_END}\n")
}

/// Whether a file is a card that nobody has changed since Taal wrote it.
fn is_ours(path: &Path) -> bool {
    let Ok(text) = taal_store::read_text(path, MAX_CARD_BYTES) else {
        return false;
    };
    let marked = text.trim_end().rsplit_once(MARK_START);
    let hash = marked.and_then(|(body, rest)| Some((body, rest.strip_suffix(MARK_END)?)));
    hash.is_some_and(|(body, hash)| taal_store::blake3_hex(body.as_bytes()) == hash)
}
