//! Named values in one file that are changed in transactions.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redb::{
    Builder, Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, StorageBackend, TableDefinition,
    TableError, WriteTransaction,
};

use crate::{Error, Result, disk};

/// The only table of a file.
const VALUES: TableDefinition<&str, &[u8]> = TableDefinition::new("values");

/// Pages that are kept in memory while a file is open.
const CACHE_BYTES: usize = 1 << 20;

/// How long an operation waits for another program's, and how often it asks.
const WAIT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(5);

/// What redb writes at the beginning of a file once all else is there.
const MAGIC_BYTES: usize = 9;

/// The header of a file, which redb writes before its mark.
const HEADER_BYTES: usize = 512;

/// Named values in one file: a [redb](https://docs.rs/redb) database of one table.
///
/// The file is open only during an operation, which has it for itself, so several programs can use it in turn. A change is durable when
/// [`change`](Self::change) returns, and after a crash either all of it is there or nothing.
///
/// ```
/// # fn main() -> taal_store::Result<()> {
/// # let scratch = tempfile::tempdir().expect("a scratch directory");
/// let table = taal_store::Table::open(&scratch.path().join("notes.redb"))?;
/// table.change(|values| values.put("first", b"one"))?;
/// assert_eq!(table.get("first")?.as_deref(), Some(&b"one"[..]));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Table {
    path: PathBuf,
}

impl Table {
    /// Makes a file that does not exist, and checks every page of one that does. Its directory must exist.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] for a file that is damaged or something else, [`Error::Locked`] where another program keeps it for long,
    /// [`Error::NoSpace`], [`Error::Io`].
    pub fn open(path: &Path) -> Result<Self> {
        let table = Self {
            path: path.to_path_buf(),
        };
        table.guarded(|| {
            let database = table.database(true)?;
            let transaction = table.begin(&database)?;
            transaction.open_table(VALUES).map_err(|error| table.failed(error))?;
            transaction.commit().map_err(|error| table.failed(error))
        })?;
        match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => crate::sync_dir(parent)?,
            None => crate::sync_dir(Path::new("."))?,
        }
        Ok(table)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A value by its name.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn get(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.read(|values| value(&self.path, values, name))
    }

    /// All names and values, by name.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn all(&self) -> Result<Vec<(String, Vec<u8>)>> {
        self.read(|values| all(&self.path, values))
    }

    /// Changes values in one transaction. Where `work` fails, nothing changes.
    ///
    /// # Errors
    ///
    /// Those of `work`, and as [`open`](Self::open).
    pub fn change<T, E: From<Error>>(
        &self,
        work: impl FnOnce(&mut Changes<'_>) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        self.guarded(|| {
            let database = self.database(false)?;
            let transaction = self.begin(&database)?;
            let value = {
                let values = transaction.open_table(VALUES).map_err(|error| self.failed(error))?;
                let path = &self.path;
                work(&mut Changes { values, path })?
            };
            transaction.commit().map_err(|error| self.failed(error))?;
            Ok(value)
        })
    }

    fn begin(&self, database: &Database) -> Result<WriteTransaction> {
        let mut transaction = database.begin_write().map_err(|error| self.failed(error))?;
        // Then a page that is not what was written is damage, and never taken for a commit that a crash cut off.
        transaction.set_two_phase_commit(true);
        Ok(transaction)
    }

    fn read<T: Default>(&self, work: impl FnOnce(&dyn Values) -> Result<T>) -> Result<T> {
        self.guarded(|| {
            let database = self.database(false)?;
            let transaction = database.begin_read().map_err(|error| self.failed(error))?;
            match transaction.open_table(VALUES) {
                Ok(values) => work(&values),
                // The file was removed while it was used, and has been made again.
                Err(TableError::TableDoesNotExist(_)) => Ok(T::default()),
                Err(error) => Err(self.failed(error)),
            }
        })
    }

    /// The library trusts a file that was closed properly, and panics where one was damaged since.
    fn guarded<T, E: From<Error>>(
        &self,
        work: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        catch_unwind(AssertUnwindSafe(work))
            .unwrap_or_else(|_| Err(damaged(&self.path, "its pages contradict each other").into()))
    }

    fn database(&self, is_checked: bool) -> Result<Database> {
        let file = self.locked()?;
        let mut builder = Builder::new();
        builder
            .set_cache_size(CACHE_BYTES)
            .set_check_integrity_on_open(is_checked);
        let database = builder.create_with_backend(Backend(Mutex::new(file)));
        database.map_err(|error| self.failed(error))
    }

    /// The file, which no other program has.
    fn locked(&self) -> Result<disk::File> {
        if crate::is_dir(&self.path) {
            return Err(Error::NotAFile {
                path: self.path.clone(),
            });
        }
        let io_error = |source| Error::io("open", &self.path, source);
        let end = Instant::now() + WAIT;
        loop {
            let mut file = disk::open_update(&self.path).map_err(io_error)?;
            if file.try_lock().map_err(io_error)? {
                forget_unfinished(&mut file).map_err(io_error)?;
                return Ok(file);
            }
            if Instant::now() > end {
                return Err(Error::Locked {
                    path: self.path.clone(),
                    holder: "another program".to_owned(),
                });
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn failed(&self, error: impl Into<redb::Error>) -> Error {
        failed(&self.path, error)
    }
}

/// The values during a [`Table::change`].
pub struct Changes<'t> {
    values: redb::Table<'t, &'static str, &'static [u8]>,
    path: &'t Path,
}

impl Changes<'_> {
    /// A value by its name.
    ///
    /// # Errors
    ///
    /// As [`Table::open`].
    pub fn get(&self, name: &str) -> Result<Option<Vec<u8>>> {
        value(self.path, &self.values, name)
    }

    /// How many values there are.
    ///
    /// # Errors
    ///
    /// As [`Table::open`].
    pub fn len(&self) -> Result<u64> {
        self.values.len().map_err(|error| failed(self.path, error))
    }

    /// Whether there is none.
    ///
    /// # Errors
    ///
    /// As [`Table::open`].
    pub fn is_empty(&self) -> Result<bool> {
        self.len().map(|len| len == 0)
    }

    /// All names and values, by name.
    ///
    /// # Errors
    ///
    /// As [`Table::open`].
    pub fn all(&self) -> Result<Vec<(String, Vec<u8>)>> {
        all(self.path, &self.values)
    }

    /// Sets a value.
    ///
    /// # Errors
    ///
    /// As [`Table::open`].
    pub fn put(&mut self, name: &str, value: &[u8]) -> Result<()> {
        let put = self.values.insert(name, value).map(|_| ());
        put.map_err(|error| failed(self.path, error))
    }

    /// Removes a value; returns whether there was one.
    ///
    /// # Errors
    ///
    /// As [`Table::open`].
    pub fn remove(&mut self, name: &str) -> Result<bool> {
        let removed = self.values.remove(name).map(|value| value.is_some());
        removed.map_err(|error| failed(self.path, error))
    }
}

/// A table of redb, with or without a transaction that changes it.
trait Values {
    fn value(&self, name: &str) -> redb::Result<Option<Vec<u8>>>;
    fn all(&self) -> redb::Result<Vec<(String, Vec<u8>)>>;
}

impl<T: ReadableTable<&'static str, &'static [u8]>> Values for T {
    fn value(&self, name: &str) -> redb::Result<Option<Vec<u8>>> {
        Ok(self.get(name)?.map(|value| value.value().to_vec()))
    }

    fn all(&self) -> redb::Result<Vec<(String, Vec<u8>)>> {
        let pairs = self.iter()?.map(|pair| {
            let (name, value) = pair?;
            Ok((name.value().to_owned(), value.value().to_vec()))
        });
        pairs.collect()
    }
}

fn value(path: &Path, values: &dyn Values, name: &str) -> Result<Option<Vec<u8>>> {
    values.value(name).map_err(|error| failed(path, error))
}

fn all(path: &Path, values: &dyn Values) -> Result<Vec<(String, Vec<u8>)>> {
    values.all().map_err(|error| failed(path, error))
}

fn damaged(path: &Path, detail: &str) -> Error {
    Error::corrupt(
        path,
        format!("damaged ({detail}); put a copy of it back, or move it away to begin with an empty one"),
    )
}

fn failed(path: &Path, error: impl Into<redb::Error>) -> Error {
    match error.into() {
        redb::Error::Io(source) => match source.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => damaged(path, &source.to_string()),
            _ => Error::io("use", path, source),
        },
        redb::Error::PreviousIo => Error::io("use", path, io::Error::other("an earlier operation on it failed")),
        other => damaged(path, &crate::shorten(&other.to_string())),
    }
}

/// Empties a file whose first use ended before its mark was written: it never had a value.
fn forget_unfinished(file: &mut disk::File) -> io::Result<()> {
    if file.size_bytes()? == 0 {
        return Ok(());
    }
    let mut bytes = [0; HEADER_BYTES];
    file.seek(SeekFrom::Start(0))?;
    let read = read_some(file, &mut bytes)?;
    let mark = &bytes[..MAGIC_BYTES.min(read)];
    if mark.iter().any(|byte| *byte != 0) {
        return Ok(());
    }
    loop {
        let read = read_some(file, &mut bytes)?;
        if bytes[..read].iter().any(|byte| *byte != 0) {
            return Ok(());
        }
        if read < bytes.len() {
            return file.set_len(0);
        }
    }
}

/// Fills the buffer as far as the file goes.
fn read_some(file: &mut disk::File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

/// A file of this crate as redb reads and writes it. Its lock is held until it is closed.
#[derive(Debug)]
struct Backend(Mutex<disk::File>);

impl Backend {
    fn file(&self) -> MutexGuard<'_, disk::File> {
        // A file has no state that a panic could leave half changed: every operation seeks first.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.file().size_bytes()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut file = self.file();
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file().set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file().fsync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut file = self.file();
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(data)
    }
}
