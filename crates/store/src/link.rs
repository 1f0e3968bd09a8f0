//! A link that always points to the newest complete directory.

use std::io;
use std::path::{Component, Path, PathBuf};

use crate::atomic::create_next_to;
use crate::directory::{entries, fsync_dir, parent_of, remove_any};
use crate::disk::{self, Kind};
use crate::mutants::is_broken;
use crate::{Error, Reader, Result};

/// Marks a directory as a copy that `publish_link` made, and may therefore remove.
const COPY_MARKER: &str = ".published-copy";

/// Makes `link` point to the directory `target`: as a relative symbolic link, replaced atomically, or as a copy where the file
/// system has no links.
///
/// The link is relative, so a directory tree that contains both can be moved. A directory at `link` that is not a copy made here
/// (some copy tools turn links into directories) is kept, renamed to `<link>.old-<n>`.
///
/// # Errors
///
/// [`Error::NotFound`] without the target, [`Error::AlreadyExists`] when `link` is a file, [`Error::NoSpace`] or [`Error::Io`].
pub fn publish_link(target: &Path, link: &Path) -> Result<()> {
    if !disk::is_dir(target) {
        return Err(Error::NotFound {
            path: target.to_path_buf(),
        });
    }
    let text = relative_target(target, link)?;
    match create_next_to(link, |temporary| disk::symlink_dir(&text, temporary)) {
        Ok((temporary, ())) => replace(&temporary, link),
        Err(error) if is_link_refused(&error) => publish_copy(target, link),
        Err(error) => Err(error),
    }
}

/// Removes the link at `link` before its target is removed; a directory or file there is kept.
///
/// # Errors
///
/// [`Error::Io`].
pub fn unpublish_link(link: &Path) -> Result<()> {
    if !disk::kind(link).is_ok_and(|kind| kind == Kind::Link) {
        return Ok(());
    }
    crate::remove_file(link)?;
    fsync_dir(&parent_of(link))
}

/// Whether the file system or the user's permissions do not allow symbolic links, as opposed to a failing disk.
fn is_link_refused(error: &Error) -> bool {
    // Windows without developer mode answers "a required privilege is not held" (1314), which has no `ErrorKind`.
    const PRIVILEGE_NOT_HELD: i32 = 1314;
    let Error::Io { source, .. } = error else {
        return false;
    };
    matches!(
        source.kind(),
        io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied
    ) || (cfg!(windows) && source.raw_os_error() == Some(PRIVILEGE_NOT_HELD))
}

/// Makes `link` a copy of `target`. The copy is complete before the old one is removed, but for a moment neither exists.
fn publish_copy(target: &Path, link: &Path) -> Result<()> {
    let (temporary, ()) = create_next_to(link, disk::create_dir)?;
    let copied = copy_tree(target, &temporary)
        .and_then(|()| crate::write_atomic(&temporary.join(COPY_MARKER), b""))
        .and_then(|()| replace(&temporary, link));
    if copied.is_err() {
        // Return the first error; leftovers are removed at the next start.
        let _ = remove_any(&temporary);
    }
    copied
}

/// Moves a finished temporary link or copy to `link`, and moves or removes what was there.
fn replace(temporary: &Path, link: &Path) -> Result<()> {
    let mut retired = None;
    match disk::kind(link) {
        Ok(Kind::File | Kind::Other) => {
            let _ = remove_any(temporary);
            return Err(Error::AlreadyExists {
                path: link.to_path_buf(),
            });
        }
        Ok(Kind::Dir) => retired = retire(link)?,
        // A link is replaced by a link atomically, but cannot be replaced by a directory.
        Ok(Kind::Link) if disk::kind(temporary).is_ok_and(|kind| kind == Kind::Dir) => {
            remove_any(link)?;
        }
        Ok(Kind::Link) | Err(_) => {}
    }
    disk::rename(temporary, link).map_err(|source| {
        let _ = remove_any(temporary);
        Error::io("replace", link, source)
    })?;
    if !is_broken("link-fsync") {
        fsync_dir(&parent_of(link))?;
    }
    match retired {
        Some(old_copy) => remove_any(&old_copy),
        None => Ok(()),
    }
}

/// Moves the directory at `link` out of the way, and returns its new path if it is a copy of ours that may be removed.
fn retire(link: &Path) -> Result<Option<PathBuf>> {
    let move_to = |place: &Path| disk::rename(link, place).map_err(|source| Error::io("move aside", link, source));
    if disk::kind(&link.join(COPY_MARKER)).is_ok() {
        let (place, ()) = create_next_to(link, disk::create_dir)?;
        // Only the name is needed: not every system renames a directory over an empty one.
        remove_any(&place)?;
        move_to(&place)?;
        return Ok(Some(place));
    }
    let mut place = link.as_os_str().to_owned();
    place.push(".old-1");
    let mut number = 1_u64;
    while disk::kind(Path::new(&place)).is_ok() {
        number += 1;
        place = link.as_os_str().to_owned();
        place.push(format!(".old-{number}"));
    }
    move_to(Path::new(&place))?;
    Ok(None)
}

/// Copies files and directories; anything else is refused.
fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    for path in entries(from)? {
        let Some(name) = path.file_name() else {
            continue;
        };
        let copy = to.join(name);
        if disk::is_dir(&path) {
            disk::create_dir(&copy).map_err(|source| Error::io("create", &copy, source))?;
            copy_tree(&path, &copy)?;
        } else {
            let mut output = crate::AtomicFile::create(&copy)?;
            io::copy(&mut Reader::open(&path)?, &mut output).map_err(|source| Error::io("copy", &copy, source))?;
            output.commit()?;
        }
    }
    Ok(())
}

/// The relative target of a link at `link` that points to `target`.
fn relative_target(target: &Path, link: &Path) -> Result<PathBuf> {
    let resolve = |path: &Path| disk::canonicalize(path).map_err(|source| Error::io("resolve", path, source));
    let to = resolve(target)?;
    let from = resolve(&parent_of(link))?;
    let to: Vec<Component<'_>> = to.components().collect();
    let from: Vec<Component<'_>> = from.components().collect();
    let shared = to.iter().zip(&from).take_while(|(a, b)| a == b).count();
    let mut text = PathBuf::new();
    text.extend(from[shared..].iter().map(|_| Component::ParentDir));
    text.extend(&to[shared..]);
    if text.as_os_str().is_empty() {
        text.push(".");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_links_a_copy_is_published_and_replaced() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let link = dir.path().join("model");
        for step in ["1", "2"] {
            let target = dir.path().join(step);
            std::fs::create_dir_all(target.join("deep")).expect("a directory");
            std::fs::write(target.join("deep/file"), step).expect("a file");
            publish_copy(&target, &link).expect("a copy");
            let content = std::fs::read_to_string(link.join("deep/file")).expect("the copy");
            assert_eq!(content, step);
        }
        // The first copy was ours, so it was removed.
        let names = crate::list_dir(dir.path()).expect("names");
        assert_eq!(names, ["1", "2", "model"]);
    }

    #[test]
    fn a_copy_replaces_a_link_and_a_link_replaces_a_copy() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let (target, link) = (dir.path().join("target"), dir.path().join("model"));
        crate::create_dir_all(&target).expect("a directory");
        for _ in 0..2 {
            publish_copy(&target, &link).expect("a copy");
            assert!(disk::kind(&link).is_ok_and(|kind| kind == Kind::Dir));
            publish_link(&target, &link).expect("a link");
        }
        let names = crate::list_dir(dir.path()).expect("names");
        assert_eq!(names, ["model", "target"]);
    }
}
