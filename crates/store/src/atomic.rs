//! Files and directories that appear under their final name only when they are complete and durable.

use std::ffi::OsStr;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::directory::{TEMPORARY_PREFIX, entries, fsync_dir, parent_of, remove_any};
use crate::disk::{self, Kind};
use crate::mutants::is_broken;
use crate::{Error, RelPath, Result, exists, sync_file};

/// Large enough to make the cost of system calls negligible.
const BUFFER_BYTES: usize = 64 * 1024;

/// File systems allow 255 bytes per name; this leaves room for the prefix, the process id and a counter.
const MAX_NAME_BYTES: usize = 200;

/// The most names tried, in case of leftovers of earlier crashes with the same process id.
const MAX_ATTEMPTS: u32 = 1000;

/// Replaces or creates a file atomically: written to a temporary file next to it, synced, renamed, and the directory synced.
///
/// # Errors
///
/// [`Error::NoSpace`], [`Error::NotFound`] without the parent directory, or [`Error::Io`]; the old file is then untouched.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_bytes(bytes)?;
    file.commit()
}

/// Writes or replaces a file, without making it durable.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    remove_any(path)?;
    let file = disk::create_new(path).map_err(|source| Error::io("create", path, source))?;
    let mut output = Output::new(path.to_path_buf(), file);
    output.write_all(bytes).map_err(|source| output.error(path, source))?;
    output.finish(path, false)?;
    output.is_kept = true;
    Ok(())
}

/// A file under construction that replaces the one at its path when it is committed.
///
/// It is written next to its final path. Dropped without [`commit`](AtomicFile::commit), it leaves no file. A symbolic link at
/// the final path is replaced, not followed.
#[derive(Debug)]
pub struct AtomicFile {
    final_path: PathBuf,
    output: Output,
}

impl AtomicFile {
    /// Starts a file whose final path is `path`, in a directory that exists.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] without the parent directory, [`Error::NotAFile`] when the path is a directory, [`Error::NoSpace`]
    /// or [`Error::Io`].
    pub fn create(path: &Path) -> Result<Self> {
        if matches!(disk::kind(path), Ok(Kind::Dir)) {
            return Err(Error::NotAFile {
                path: path.to_path_buf(),
            });
        }
        let (temporary_path, file) = create_next_to(path, disk::create_new)?;
        Ok(Self {
            final_path: path.to_path_buf(),
            output: Output::new(temporary_path, file),
        })
    }

    /// Writes all bytes, like `write_all` but with an error that names the file.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`] or [`Error::Io`].
    pub fn write_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.output
            .write_all(bytes)
            .map_err(|source| self.output.error(&self.final_path, source))
    }

    /// Makes the content durable and moves it into place.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`] or [`Error::Io`], also when an earlier write failed and its error was ignored; the old file is then untouched.
    pub fn commit(mut self) -> Result<()> {
        self.output.finish(&self.final_path, !is_broken("file-fsync"))?;
        disk::rename(&self.output.path, &self.final_path)
            .map_err(|source| Error::io("replace", &self.final_path, source))?;
        self.output.is_kept = true;
        if is_broken("file-dir-fsync") {
            return Ok(());
        }
        fsync_dir(&parent_of(&self.final_path))
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

impl Seek for AtomicFile {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.output.seek(position)
    }
}

/// A new file inside an [`AtomicDir`], written as a stream.
///
/// It becomes part of the directory with [`finish`](DirFile::finish); dropped without it, the file is removed.
#[derive(Debug)]
pub struct DirFile {
    output: Output,
}

impl DirFile {
    /// Flushes the buffer. The file becomes durable with the directory, at [`AtomicDir::commit`].
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`] or [`Error::Io`], also when an earlier write failed and its error was ignored.
    pub fn finish(mut self) -> Result<()> {
        let path = self.output.path.clone();
        self.output.finish(&path, false)?;
        self.output.is_kept = true;
        Ok(())
    }
}

impl Write for DirFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

impl Seek for DirFile {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.output.seek(position)
    }
}

/// A buffered new file that is removed unless it is kept.
#[derive(Debug)]
struct Output {
    path: PathBuf,
    // None once the file is closed.
    writer: Option<BufWriter<disk::File>>,
    written_bytes: u64,
    failure: Option<io::ErrorKind>,
    is_kept: bool,
}

impl Output {
    fn new(path: PathBuf, file: disk::File) -> Self {
        Self {
            path,
            writer: Some(BufWriter::with_capacity(BUFFER_BYTES, file)),
            written_bytes: 0,
            failure: None,
            is_kept: false,
        }
    }

    /// Runs an operation on the open file and remembers that it failed, so that a broken file cannot be kept.
    fn with_writer<T>(&mut self, operation: impl FnOnce(&mut BufWriter<disk::File>) -> io::Result<T>) -> io::Result<T> {
        let Some(writer) = self.writer.as_mut() else {
            return Err(io::Error::other("the file is closed"));
        };
        let result = operation(writer);
        if let Err(error) = &result
            && error.kind() != io::ErrorKind::Interrupted
        {
            self.failure = Some(error.kind());
        }
        result
    }

    /// Flushes, syncs if requested, and closes the file. Errors show `named_path`.
    fn finish(&mut self, named_path: &Path, is_synced: bool) -> Result<()> {
        if let Some(kind) = self.failure {
            return Err(self.error(named_path, kind.into()));
        }
        self.with_writer(|writer| {
            writer.flush()?;
            if is_synced { writer.get_ref().fsync() } else { Ok(()) }
        })
        .map_err(|source| self.error(named_path, source))?;
        // Closed before the rename, as Windows requires.
        self.writer = None;
        Ok(())
    }

    fn error(&self, named_path: &Path, source: io::Error) -> Error {
        Error::io_sized("write", named_path, self.written_bytes, source)
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Counted before the write: if it fails, at least this many bytes were needed.
        self.written_bytes += bytes.len() as u64;
        self.with_writer(|writer| writer.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.with_writer(BufWriter::flush)
    }
}

impl Seek for Output {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.with_writer(|writer| writer.seek(position))
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take() {
            // `into_parts` discards the buffer, which dropping the writer would flush.
            drop(writer.into_parts());
        }
        if !self.is_kept {
            // What cannot be removed now is removed at the next start by `remove_temporaries`.
            let _ = disk::remove_file(&self.path);
        }
    }
}

/// A directory under construction that appears under its final path when it is committed.
///
/// It is written next to its final path, as `.tmp-<name>-<process id>-<n>`. Dropped without [`commit`](AtomicDir::commit), it is
/// removed.
#[derive(Debug)]
pub struct AtomicDir {
    final_path: PathBuf,
    temporary_path: PathBuf,
    is_committed: bool,
}

impl AtomicDir {
    /// Starts a directory whose final path is `final_path`, in a directory that exists.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyExists`] when the final path exists, [`Error::NotFound`] without the parent directory,
    /// [`Error::NoSpace`] or [`Error::Io`].
    pub fn create(final_path: &Path) -> Result<Self> {
        refuse_existing(final_path)?;
        let (temporary_path, ()) = if is_broken("no-temporary") {
            let made = disk::create_dir(final_path);
            (
                final_path.to_path_buf(),
                made.map_err(|source| Error::io("create", final_path, source))?,
            )
        } else {
            create_next_to(final_path, disk::create_dir)?
        };
        Ok(Self {
            final_path: final_path.to_path_buf(),
            temporary_path,
            is_committed: false,
        })
    }

    /// The path of the directory until the commit.
    pub fn path(&self) -> &Path {
        &self.temporary_path
    }

    /// Writes one new file; `relative_path` is a [`RelPath`], whose directories are created.
    ///
    /// # Errors
    ///
    /// [`Error::UnsafePath`], [`Error::AlreadyExists`], [`Error::NoSpace`] or [`Error::Io`].
    pub fn write(&self, relative_path: &str, bytes: &[u8]) -> Result<()> {
        let mut file = self.create_file(relative_path)?;
        let written = file.write_all(bytes);
        written.map_err(|source| file.output.error(&file.output.path, source))?;
        file.finish()
    }

    /// Starts one new file to be written as a stream; `relative_path` is a [`RelPath`], whose directories are created. Only the
    /// commit makes files durable, all at once.
    ///
    /// # Errors
    ///
    /// [`Error::UnsafePath`], [`Error::AlreadyExists`], [`Error::NoSpace`] or [`Error::Io`].
    pub fn create_file(&self, relative_path: &str) -> Result<DirFile> {
        let path = RelPath::parse(relative_path)?.join(&self.temporary_path);
        create_dirs_below(&self.temporary_path, &parent_of(&path))?;
        refuse_existing(&path)?;
        let file = disk::create_new(&path).map_err(|source| Error::io("create", &path, source))?;
        Ok(DirFile {
            output: Output::new(path, file),
        })
    }

    /// Makes every file and directory inside durable, then moves the directory into place.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyExists`] when the final path exists by now: it is never replaced. [`Error::NoSpace`] or
    /// [`Error::Io`]; then nothing appears under the final path.
    pub fn commit(mut self) -> Result<()> {
        fsync_tree(&self.temporary_path)?;
        if is_broken("no-temporary") {
            self.is_committed = true;
            return fsync_dir(&parent_of(&self.final_path));
        }
        // Between this check and the rename another process could at worst make an empty directory, which the rename replaces:
        // systems refuse to rename a directory over anything that holds data.
        refuse_existing(&self.final_path)?;
        disk::rename(&self.temporary_path, &self.final_path)
            .map_err(|source| Error::io("put in place", &self.final_path, source))?;
        self.is_committed = true;
        if is_broken("tree-parent-fsync") {
            return Ok(());
        }
        fsync_dir(&parent_of(&self.final_path))
    }
}

impl Drop for AtomicDir {
    fn drop(&mut self) {
        if !self.is_committed {
            // What cannot be removed now is removed at the next start by `remove_temporaries`.
            let _ = remove_any(&self.temporary_path);
        }
    }
}

/// Creates a directory below `root` and its parents, without making it durable.
fn create_dirs_below(root: &Path, dir: &Path) -> Result<()> {
    if dir == root || disk::is_dir(dir) {
        return Ok(());
    }
    create_dirs_below(root, &parent_of(dir))?;
    disk::create_dir(dir).map_err(|source| Error::io("create directory", dir, source))
}

/// Refuses an existing path, since replacing it could lose data.
fn refuse_existing(path: &Path) -> Result<()> {
    if exists(path) {
        return Err(Error::AlreadyExists {
            path: path.to_path_buf(),
        });
    }
    Ok(())
}

/// Makes every file and directory of a tree durable, the innermost first. Links are part of their directory and not followed.
fn fsync_tree(dir: &Path) -> Result<()> {
    for path in entries(dir)? {
        let kind = disk::kind(&path).map_err(|source| Error::io("inspect", &path, source))?;
        match kind {
            Kind::Dir => fsync_tree(&path)?,
            Kind::File if is_broken("tree-file-fsync") => {}
            Kind::File => sync_file(&path)?,
            Kind::Link | Kind::Other => {}
        }
    }
    if is_broken("tree-dir-fsync") {
        return Ok(());
    }
    fsync_dir(dir)
}

/// The prefix of the temporary names of a final name.
fn temporary_stem(name: &OsStr) -> String {
    let mut name = name.to_string_lossy().into_owned();
    name.truncate(name.floor_char_boundary(MAX_NAME_BYTES));
    format!("{TEMPORARY_PREFIX}{name}-")
}

/// Removes temporary files of interrupted processes for `final_path`, and returns their number. Those of running processes are
/// kept, as far as the system tells which ones run; so are those for other final names.
///
/// # Errors
///
/// [`Error::Io`].
pub fn remove_leftovers_of(final_path: &Path) -> Result<usize> {
    remove_temporaries_where(final_path, is_gone)
}

/// Removes this process's temporary files for `final_path` before it ends early, and returns their number.
///
/// # Errors
///
/// [`Error::Io`].
pub fn remove_unfinished_of(final_path: &Path) -> Result<usize> {
    remove_temporaries_where(final_path, |process_id| process_id == std::process::id())
}

fn remove_temporaries_where(final_path: &Path, is_meant: impl Fn(u32) -> bool) -> Result<usize> {
    let parent = parent_of(final_path);
    let Some(name) = final_path.file_name().filter(|_| disk::is_dir(&parent)) else {
        return Ok(0);
    };
    let stem = temporary_stem(name);
    let process_of = |path: &Path| -> Option<u32> {
        let numbers = path.file_name()?.to_str()?.strip_prefix(&stem)?;
        let (process_id, attempt) = numbers.split_once('-')?;
        attempt.parse::<u32>().ok()?;
        process_id.parse().ok()
    };
    let mut removed = 0;
    for path in entries(&parent)? {
        if process_of(&path).is_some_and(&is_meant) {
            remove_any(&path)?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Whether a process is known to have ended. Only Linux tells without special permissions.
pub(crate) fn is_gone(process_id: u32) -> bool {
    let processes = Path::new("/proc");
    process_id != std::process::id()
        && processes.join("self").exists()
        && !processes.join(process_id.to_string()).exists()
}

/// Creates something under a temporary name next to `final_path`, and returns that name with it.
pub(crate) fn create_next_to<T>(final_path: &Path, create: impl Fn(&Path) -> io::Result<T>) -> Result<(PathBuf, T)> {
    let Some(name) = final_path.file_name() else {
        return Err(Error::UnsafePath {
            path: final_path.to_path_buf(),
            detail: "it does not end in a name".to_owned(),
        });
    };
    let stem = temporary_stem(name);
    let parent = parent_of(final_path);
    let process_id = std::process::id();
    for attempt in 0..MAX_ATTEMPTS {
        let temporary = parent.join(format!("{stem}{process_id}-{attempt}"));
        match create(&temporary) {
            Ok(created) => return Ok((temporary, created)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::NotFound { path: parent });
            }
            Err(source) => return Err(Error::io("create", final_path, source)),
        }
    }
    Err(Error::Io {
        action: "create a temporary file next to",
        path: final_path.to_path_buf(),
        source: io::ErrorKind::AlreadyExists.into(),
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::ErrorKind;

    /// A file in `dir` whose every write fails as on a full disk.
    fn file_on_a_full_disk(dir: &Path) -> AtomicFile {
        let device = disk::open_update(Path::new("/dev/full")).expect("the device opens");
        AtomicFile {
            final_path: dir.join("weights"),
            output: Output::new(dir.join("not-the-device"), device),
        }
    }

    #[test]
    fn a_full_disk_leaves_the_old_file_and_names_the_new_one() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        write_atomic(&dir.path().join("weights"), b"old").expect("a first write");
        // Less than the buffer fails at the commit, more than the buffer at the write.
        let mut small = file_on_a_full_disk(dir.path());
        small.write_bytes(b"new").expect("a buffered write");
        let at_commit = small.commit().expect_err("a full disk");
        let at_write = file_on_a_full_disk(dir.path())
            .write_bytes(&[0; 2 * BUFFER_BYTES])
            .expect_err("a full disk");
        for error in [at_commit, at_write] {
            assert!(matches!(error, Error::NoSpace { needed_bytes: 3.., .. }), "{error}");
            assert_eq!(error.path(), dir.path().join("weights"));
            assert_eq!(error.kind(), ErrorKind::Disk);
        }
        let content = std::fs::read(dir.path().join("weights")).expect("the old file");
        assert_eq!(content, b"old");
    }

    #[test]
    fn an_ignored_write_error_is_remembered_at_the_commit() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let mut file = file_on_a_full_disk(dir.path());
        assert!(file.write_all(&[0; 2 * BUFFER_BYTES]).is_err());
        let error = file.commit().expect_err("a torn file");
        assert!(matches!(error, Error::NoSpace { .. }), "{error}");
        assert!(!exists(&dir.path().join("weights")));
    }
}
