//! Conversations of the page, kept in one file of a folder.

use std::path::Path;

use serde::{Deserialize, Serialize};
use taal_store::Table;
use utoipa::ToSchema;

use crate::failure::Refusal;

/// The file in the folder.
const FILE: &str = "conversations.redb";

/// Bytes of a conversation as JSON.
const MAX_BYTES: usize = 4 << 20;

/// How many conversations are kept.
const MAX_COUNT: usize = 10_000;

/// Characters of an id, and of a title.
const MAX_ID: usize = 64;
const MAX_TITLE: usize = 200;

/// A conversation with a model, or a text that a model continues.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Conversation {
    /// 1 to 64 letters, digits and hyphens.
    pub(crate) id: String,
    /// `chat` or `text`.
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) title: String,
    /// Milliseconds since 1970.
    #[serde(default)]
    pub(crate) created: u64,
    /// Milliseconds since 1970.
    #[serde(default)]
    pub(crate) updated: u64,
    /// The text of a text.
    #[serde(default)]
    pub(crate) text: String,
    /// The messages of a chat, the oldest first.
    #[serde(default)]
    pub(crate) messages: Vec<Said>,
    /// How often it was kept: of the conversation that this one changes; 0 for a new one.
    #[serde(default)]
    pub(crate) revision: u64,
}

/// A message, and of an answer all its versions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = KeptMessage)]
pub(crate) struct Said {
    /// `user` or `assistant`.
    role: String,
    /// What was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    /// The answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    versions: Option<Vec<Version>>,
    /// The version that is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<usize>,
}

/// A version of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = KeptVersion)]
pub(crate) struct Version {
    content: String,
}

/// What a list says about a conversation.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, ToSchema)]
pub(crate) struct Summary {
    pub(crate) id: String,
    /// `chat` or `text`.
    kind: String,
    title: String,
    /// Milliseconds since 1970.
    created: u64,
    /// Milliseconds since 1970.
    pub(crate) updated: u64,
    pub(crate) revision: u64,
}

impl Conversation {
    /// Whether it can be kept, which its types do not say.
    ///
    /// # Errors
    ///
    /// 400 with the field's name, after `prefix`.
    pub(crate) fn check(&self, prefix: &str) -> Result<(), Refusal> {
        let field = |name: &str, message: String| Err(Refusal::field(format!("{prefix}{name}"), message));
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if !(1..=MAX_ID).contains(&self.id.len()) || !self.id.bytes().all(is_plain) {
            let given = taal_store::excerpt(&self.id);
            return field(
                "id",
                format!("expected 1 to {MAX_ID} letters, digits and hyphens, got {given}"),
            );
        }
        if !["chat", "text"].contains(&self.kind.as_str()) {
            let given = taal_store::excerpt(&self.kind);
            return field("kind", format!("expected chat or text, got {given}"));
        }
        if self.title.chars().count() > MAX_TITLE {
            return field("title", format!("expected at most {MAX_TITLE} characters"));
        }
        match self.messages.iter().position(|message| !message.is_whole()) {
            Some(index) => field(
                &format!("messages[{index}]"),
                "expected the role user with content, or assistant with versions and the one that is shown (at)"
                    .to_owned(),
            ),
            None => Ok(()),
        }
    }

    fn bytes(&self) -> Result<Vec<u8>, Refusal> {
        let bytes = serde_json::to_vec(self).map_err(|error| Refusal::internal(error.to_string()))?;
        match bytes.len() > MAX_BYTES {
            true => Err(Refusal::bad(format!(
                "the conversation has {} bytes, and at most {MAX_BYTES} are kept: begin another one",
                bytes.len()
            ))),
            false => Ok(bytes),
        }
    }
}

impl Said {
    fn is_whole(&self) -> bool {
        match (self.role.as_str(), &self.content, &self.versions, self.at) {
            ("user", Some(_), None, None) => true,
            ("assistant", None, Some(versions), Some(at)) => at < versions.len(),
            _ => false,
        }
    }
}

/// The conversations of a folder, which several servers can share.
#[derive(Debug, Clone)]
pub(crate) struct Conversations {
    table: Table,
}

impl Conversations {
    /// Opens those of a folder, which is made where it does not exist.
    pub(crate) fn open(folder: &Path) -> taal_store::Result<Self> {
        let file = folder.join(FILE);
        let folders = taal_store::NewFolders::above(&file)?;
        let table = Table::open(&file)?;
        folders.keep();
        Ok(Self { table })
    }

    /// All of them, the one that changed last first.
    ///
    /// # Errors
    ///
    /// Those of the file.
    pub(crate) fn list(&self) -> Result<Vec<Summary>, Refusal> {
        let all = self.table.all()?;
        let mut all: Vec<Summary> = all
            .iter()
            .map(|(_, bytes)| self.parsed(bytes))
            .collect::<Result<_, _>>()?;
        all.sort_by(|one, other| other.updated.cmp(&one.updated).then_with(|| one.id.cmp(&other.id)));
        Ok(all)
    }

    /// All of them, whole, the one that changed last first.
    ///
    /// # Errors
    ///
    /// Those of the file.
    pub(crate) fn all(&self) -> Result<Vec<Conversation>, Refusal> {
        let all = self.table.all()?;
        let mut all: Vec<Conversation> = all
            .iter()
            .map(|(_, bytes)| self.parsed(bytes))
            .collect::<Result<_, _>>()?;
        all.sort_by(|one, other| other.updated.cmp(&one.updated).then_with(|| one.id.cmp(&other.id)));
        Ok(all)
    }

    /// One of them.
    ///
    /// # Errors
    ///
    /// 404 where there is none, and those of the file.
    pub(crate) fn get(&self, id: &str) -> Result<Conversation, Refusal> {
        match self.table.get(id)? {
            Some(bytes) => self.parsed(&bytes),
            None => Err(Refusal::no_conversation(id)),
        }
    }

    /// Keeps conversations, all or none; returns their new revisions.
    ///
    /// # Errors
    ///
    /// 409 where one was changed since the revision that it names, and those of the file.
    pub(crate) fn put(&self, mut all: Vec<Conversation>) -> Result<Vec<u64>, Refusal> {
        self.table.change(|values| {
            let mut count = values.len()?;
            let mut revisions = Vec::with_capacity(all.len());
            for conversation in &mut all {
                let kept = values.get(&conversation.id)?;
                let kept: Option<Summary> = kept.map(|bytes| self.parsed(&bytes)).transpose()?;
                if let Some(kept) = kept.as_ref().filter(|kept| kept.revision != conversation.revision) {
                    return Err(Refusal::changed_elsewhere(
                        &conversation.id,
                        conversation.revision,
                        kept.revision,
                    ));
                }
                count += u64::from(kept.is_none());
                if count > MAX_COUNT as u64 {
                    return Err(Refusal::bad(format!(
                        "{MAX_COUNT} conversations are kept already: export them and remove some"
                    )));
                }
                conversation.revision = conversation.revision.saturating_add(1);
                values.put(&conversation.id, &conversation.bytes()?)?;
                revisions.push(conversation.revision);
            }
            Ok(revisions)
        })
    }

    /// Removes one.
    ///
    /// # Errors
    ///
    /// 404 where there is none, and those of the file.
    pub(crate) fn remove(&self, id: &str) -> Result<(), Refusal> {
        self.table.change(|values| match values.remove(id)? {
            true => Ok(()),
            false => Err(Refusal::no_conversation(id)),
        })
    }

    fn parsed<T: serde::de::DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, Refusal> {
        serde_json::from_slice(bytes).map_err(|error| {
            let path = self.table.path().to_path_buf();
            let detail = format!("not a conversation: {}", taal_store::shorten(&error.to_string()));
            taal_store::Error::Corrupt { path, detail }.into()
        })
    }
}
