//! Relative paths that were found inside files, parsed before they are joined to anything.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::directory::resolve;
use crate::{Error, Result};

/// Longer than any path Taal writes, shorter than the limits of file systems.
const MAX_BYTES: usize = 1024;

/// A relative path that stays below the directory it is joined to: no root, no drive, no `..`, no `.`, no empty component, no NUL,
/// no backslash, no colon; components are separated by `/` on every system.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelPath(String);

impl RelPath {
    /// Checks a path.
    ///
    /// # Errors
    ///
    /// [`Error::UnsafePath`] with the rule that it breaks.
    ///
    /// ```
    /// use taal_store::RelPath;
    /// assert!(RelPath::parse("model/config.json").is_ok());
    /// assert!(RelPath::parse("../../etc/passwd").is_err());
    /// ```
    pub fn parse(text: &str) -> Result<Self> {
        let refuse = |detail: &str| {
            Err(Error::UnsafePath {
                path: PathBuf::from(text),
                detail: detail.to_owned(),
            })
        };
        if text.is_empty() {
            return refuse("it is empty");
        }
        if text.len() > MAX_BYTES {
            return refuse("it is longer than 1024 bytes");
        }
        if text.chars().any(char::is_control) {
            return refuse("it contains a control character");
        }
        if text.contains('\\') {
            return refuse("it contains a backslash; components are separated by /");
        }
        // A colon denotes a drive or a hidden stream on Windows, even in the middle of a component.
        if text.contains(':') {
            return refuse("it contains a colon");
        }
        if text.starts_with('/') {
            return refuse("it starts at the root; expected a path inside the directory");
        }
        for component in text.split('/') {
            match component {
                "" => return refuse("it has an empty component"),
                "." | ".." => return refuse("it has a component . or .., which may lead outside the directory"),
                // Windows drops these, so two different names would be the same file there.
                name if name.ends_with(['.', ' ']) => return refuse("a component ends with a dot or a space"),
                _ => {}
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// The path as text, with `/` between components.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path below `root`; links are not checked, see [`RelPath::resolve`].
    pub fn join(&self, root: &Path) -> PathBuf {
        let mut path = root.to_path_buf();
        path.extend(self.0.split('/'));
        path
    }

    /// The existing path below `root` with all links resolved, refused when a link leads outside `root`.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::UnsafePath`] for a link that leads outside, or [`Error::Io`].
    pub fn resolve(&self, root: &Path) -> Result<PathBuf> {
        self.resolve_or_in(root, None)
    }

    /// [`resolve`](Self::resolve), where links may also lead into the directory `store`, for caches that keep files in one
    /// directory and their names in another.
    ///
    /// # Errors
    ///
    /// As [`resolve`](Self::resolve).
    pub fn resolve_or_in(&self, root: &Path, store: Option<&Path>) -> Result<PathBuf> {
        let joined = self.join(root);
        let target = resolve(&joined)?;
        let is_stored = match store {
            Some(store) => target.starts_with(resolve(store)?),
            None => false,
        };
        if !is_stored && !target.starts_with(resolve(root)?) {
            return Err(Error::UnsafePath {
                path: joined,
                detail: format!("a link leads outside the directory, to {}", target.display()),
            });
        }
        Ok(target)
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::str::FromStr for RelPath {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}
