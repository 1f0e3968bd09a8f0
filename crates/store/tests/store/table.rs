//! Values change in transactions, whatever happens to the program, the disk or the file.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;

use taal_store::{Error, ErrorKind, Table};

use crate::scratch;

/// Tells the child of `programs_take_turns_and_lose_nothing` which file to use.
const CHILD_FILE: &str = "TAAL_STORE_TEST_TABLE";

fn names(table: &Table) -> Vec<String> {
    let all = table.all().expect("values");
    all.into_iter().map(|(name, _)| name).collect()
}

#[test]
fn a_value_is_what_was_put_last_and_a_failed_change_changes_nothing() {
    let dir = scratch();
    let table = Table::open(&dir.path().join("values.redb")).expect("a table");
    assert!(table.get("a").expect("no value").is_none() && names(&table).is_empty());
    let long = vec![7; 300_000];
    table
        .change(|values| {
            values.put("b", b"2")?;
            values.put("a", &long)
        })
        .expect("a change");
    assert_eq!(table.get("a").expect("a value"), Some(long));
    let refused: Result<(), Error> = table.change(|values| {
        assert!(values.remove("b")? && !values.remove("c")?);
        assert_eq!((values.get("b")?, values.all()?.len()), (None, 1));
        Err(Error::NotFound { path: "why".into() })
    });
    assert!(matches!(refused, Err(Error::NotFound { .. })));
    assert_eq!(names(&table), ["a", "b"]);
    table
        .change(|values| values.put("a", b"1").and_then(|()| values.remove("b")))
        .expect("a change");
    drop(table);
    let again = Table::open(&dir.path().join("values.redb")).expect("the table");
    assert_eq!(again.all().expect("values"), [("a".to_owned(), b"1".to_vec())]);
}

#[test]
fn programs_take_turns_and_lose_nothing() {
    const EACH: usize = 10;
    let count = |table: &Table, who: &str| {
        for number in 0..EACH {
            let name = format!("{who} {number}");
            table
                .change(|values| {
                    let sum = values
                        .get("sum")?
                        .map_or(0, |sum| u64::from_le_bytes(sum.try_into().expect("8 bytes")));
                    values.put("sum", &(sum + 1).to_le_bytes())?;
                    values.put(&name, b"")
                })
                .expect("a change");
        }
    };
    if let Ok(path) = std::env::var(CHILD_FILE) {
        count(&Table::open(path.as_ref()).expect("the table"), "child");
        return;
    }
    let dir = scratch();
    let path = dir.path().join("values.redb");
    let table = Table::open(&path).expect("a table");
    let child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "table::programs_take_turns_and_lose_nothing"])
        .env(CHILD_FILE, &path)
        .stdout(Stdio::null())
        .spawn();
    thread::scope(|scope| {
        scope.spawn(|| count(&table, "one"));
        scope.spawn(|| count(&table, "other"));
    });
    assert!(child.expect("a child").wait().expect("an end").success());
    let sum = table.get("sum").expect("a value").expect("a sum");
    assert_eq!(u64::from_le_bytes(sum.try_into().expect("8 bytes")), 3 * EACH as u64);
    assert_eq!(names(&table).len(), 3 * EACH + 1);
}

#[test]
fn a_damaged_file_is_refused_by_name_and_not_emptied() {
    let dir = scratch();
    let path = dir.path().join("values.redb");
    let table = Table::open(&path).expect("a table");
    table
        .change(|values| (0..50_u8).try_for_each(|number| values.put(&number.to_string(), &[number; 4000])))
        .expect("a change");
    let whole = fs::read(&path).expect("a file");
    let value = whole.windows(4000).position(|window| window == [9; 4000]);
    let value = value.expect("the value of 9 in the file");
    let mut flipped = whole.clone();
    flipped[value + 1000] ^= 0x10;
    for (what, bytes) in [
        ("a flipped bit", flipped),
        ("a file that ends early", whole[..whole.len() / 2].to_vec()),
        (
            "a text",
            b"these are not values, but a text that is long enough".repeat(40),
        ),
        ("a short text", b"no".to_vec()),
    ] {
        fs::write(&path, &bytes).expect("a file");
        let error = Table::open(&path).expect_err(what);
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error}");
        let words = error.to_string();
        assert!(
            words.contains("values.redb") && words.contains("move it away"),
            "{what}: {words}"
        );
        assert_eq!(fs::read(&path).expect("a file").len(), bytes.len(), "{what}");
    }
    fs::write(&path, &whole).expect("a file");
    assert_eq!(names(&Table::open(&path).expect("the table")).len(), 50);
    assert_eq!(
        Table::open(dir.path()).expect_err("a directory").kind(),
        ErrorKind::Usage
    );
    let nowhere = dir.path().join("no/such/values.redb");
    assert_eq!(
        Table::open(&nowhere).expect_err("no directory").kind(),
        ErrorKind::Usage
    );
}

#[cfg(feature = "faults")]
mod faults {
    use std::path::Path;
    use std::sync::Arc;

    use taal_store::{Error, ErrorKind, Fate, Fault, FaultVfs, Table, with_vfs};

    const PATH: &str = "/values.redb";

    /// Opens the table and counts one further.
    fn count() -> Result<(), Error> {
        let table = Table::open(Path::new(PATH))?;
        table.change(|values| {
            let before = values.get("count")?.map_or(0, |count| count[0]);
            values.put("count", &[before + 1])
        })
    }

    fn counted(disk: &FaultVfs) -> u8 {
        let read = || Table::open(Path::new(PATH))?.get("count");
        let value = with_vfs(Some(Arc::new(disk.clone())), read);
        value
            .unwrap_or_else(|error| panic!("{error}"))
            .map_or(0, |count| count[0])
    }

    /// The operations of the first two counts.
    fn operations(disk: &FaultVfs) -> u64 {
        with_vfs(Some(Arc::new(disk.clone())), || count().and_then(|()| count())).expect("two counts");
        disk.operations()
    }

    #[test]
    fn after_a_crash_at_any_operation_a_change_is_whole_or_absent() {
        for operation in 0..operations(&FaultVfs::new()) {
            let disk = FaultVfs::new();
            disk.fail_at(operation, Fault::Crash);
            let done = with_vfs(Some(Arc::new(disk.clone())), || [count().is_ok(), count().is_ok()]);
            let done = done.iter().filter(|is_done| **is_done).count() as u8;
            for fate in [Fate::Kept, Fate::Dropped] {
                let left = counted(&disk.after_crash(fate, operation));
                // What returned without an error is there; what did not may be.
                assert!(
                    (done..=done + 1).contains(&left),
                    "{left} of {done} at {operation}, {fate:?}"
                );
            }
        }
    }

    #[test]
    fn a_full_disk_is_an_error_that_loses_nothing() {
        let all = operations(&FaultVfs::new());
        for operation in 0..all {
            for fault in [Fault::Full, Fault::FullForGood, Fault::ShortWrite, Fault::Broken] {
                let disk = FaultVfs::new();
                disk.fail_at(operation, fault);
                let ended = with_vfs(Some(Arc::new(disk.clone())), || [count(), count()]);
                let done = ended.iter().filter(|end| end.is_ok()).count() as u8;
                for error in ended.iter().filter_map(|end| end.as_ref().err()) {
                    assert_eq!(error.kind(), ErrorKind::Disk, "{error} at {operation}, {fault:?}");
                }
                disk.heal();
                let left = counted(&disk);
                assert!((done..=2).contains(&left), "{left} of {done} at {operation}, {fault:?}");
            }
        }
    }
}
