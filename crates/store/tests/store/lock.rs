use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::thread;

use taal_store::{Error, ErrorKind, RunLock};

use crate::{names, scratch};

/// Tells the child of `a_killed_holder_frees_the_lock_at_once` which directory to lock.
const CHILD_DIR: &str = "TAAL_STORE_TEST_LOCK_DIR";

#[test]
fn of_many_simultaneous_starts_exactly_one_gets_the_lock() {
    let dir = scratch();
    let barrier = Barrier::new(50);
    let results: Vec<_> = thread::scope(|scope| {
        let start = || {
            barrier.wait();
            RunLock::acquire(dir.path())
        };
        let threads: Vec<_> = (0..50).map(|_| scope.spawn(start)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a thread"))
            .collect()
    });
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    for error in results.iter().filter_map(|result| result.as_ref().err()) {
        assert_eq!(error.kind(), ErrorKind::InUse, "{error}");
    }
}

#[test]
fn the_error_names_the_holder_and_the_lock_is_free_when_dropped() {
    let dir = scratch();
    let lock = RunLock::acquire(dir.path()).expect("a free lock");
    let error = RunLock::acquire(dir.path()).expect_err("a taken lock");
    let holder = format!("process {}", std::process::id());
    assert!(
        matches!(&error, Error::Locked { path, holder: named } if path == dir.path() && *named == holder),
        "{error}"
    );
    drop(lock);
    RunLock::acquire(dir.path()).expect("a free lock");
    assert_eq!(names(dir.path()), [".lock"]);
}

#[test]
fn a_killed_holder_frees_the_lock_at_once() {
    if let Ok(dir) = std::env::var(CHILD_DIR) {
        let _lock = RunLock::acquire(dir.as_ref()).expect("a free lock");
        println!("held");
        // Until it is killed, or until the parent is gone and the pipe with it.
        let _ = std::io::stdin().lines().next();
        return;
    }
    let dir = scratch();
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "lock::a_killed_holder_frees_the_lock_at_once", "--nocapture"])
        .env(CHILD_DIR, dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let output = BufReader::new(child.stdout.take().expect("its output"));
    let is_held = output.lines().map_while(Result::ok).any(|line| line.contains("held"));
    assert!(is_held, "the child did not get the lock");
    let error = RunLock::acquire(dir.path()).expect_err("the child holds it");
    let holder = format!("process {}", child.id());
    assert!(
        matches!(&error, Error::Locked { holder: named, .. } if *named == holder),
        "{error}"
    );

    child.kill().expect("SIGKILL");
    child.wait().expect("an end");
    RunLock::acquire(dir.path()).expect("the kernel has freed the lock");
}

#[test]
fn a_missing_directory_cannot_be_locked() {
    let dir = scratch();
    let error = RunLock::acquire(&dir.path().join("missing")).expect_err("no directory");
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
}

#[test]
fn whether_a_lock_is_held_is_told_without_writing_to_it() {
    let dir = scratch();
    assert!(!RunLock::is_held(dir.path()));
    assert!(names(dir.path()).is_empty(), "asking makes no lock file");
    assert!(matches!(
        RunLock::acquire_unmarked(dir.path()),
        Err(Error::NotFound { .. })
    ));
    let lock = RunLock::acquire(dir.path()).expect("a free lock");
    assert!(RunLock::is_held(dir.path()));
    drop(lock);
    // As an earlier process left it.
    std::fs::write(dir.path().join(".lock"), "1\n").expect("a lock file");
    assert!(!RunLock::is_held(dir.path()));
    let unmarked = RunLock::acquire_unmarked(dir.path()).expect("a free lock");
    assert!(RunLock::is_held(dir.path()));
    drop(unmarked);
    let written = std::fs::read_to_string(dir.path().join(".lock")).expect("a lock file");
    assert_eq!(written, "1\n");
}
