use taal_store::{AppendLog, Error};

use crate::{names, scratch};

const LIMIT_BYTES: u64 = 1 << 20;

#[test]
fn appended_lines_are_read_back_after_reopening() {
    let dir = scratch();
    let path = dir.path().join("log.jsonl");
    let mut log = AppendLog::open(&path).expect("a new log");
    log.append("one").expect("a line");
    log.sync().expect("a sync");
    drop(log);
    let mut log = AppendLog::open(&path).expect("the same log");
    log.append("").expect("an empty line");
    log.append("drie ünd").expect("a line");
    let lines = AppendLog::read_lines(&path, LIMIT_BYTES).expect("lines");
    assert_eq!(lines, ["one", "", "drie ünd"]);
}

#[test]
fn a_torn_last_line_is_removed_wherever_the_crash_happened() {
    let dir = scratch();
    let path = dir.path().join("log.jsonl");
    // Longer than the window that is searched for the end.
    let torn = "x".repeat(10_000);
    for torn_bytes in [0, 1, 4095, 4096, 4097, 10_000] {
        std::fs::write(&path, format!("one\ntwo\n{}", &torn[..torn_bytes])).expect("a torn log");
        let lines = AppendLog::read_lines(&path, LIMIT_BYTES).expect("lines");
        assert_eq!(lines, ["one", "two"], "reading with {torn_bytes} torn bytes");
        let mut log = AppendLog::open(&path).expect("a torn log opens");
        log.append("three").expect("a line");
        let text = std::fs::read_to_string(&path).expect("the file");
        assert_eq!(text, "one\ntwo\nthree\n", "after {torn_bytes} torn bytes");
    }
}

#[test]
fn a_log_of_one_torn_line_is_an_empty_log() {
    let dir = scratch();
    let path = dir.path().join("log.jsonl");
    std::fs::write(&path, b"{\"step\":\0\0\0\xff").expect("a torn log");
    assert!(AppendLog::read_lines(&path, LIMIT_BYTES).expect("lines").is_empty());
    drop(AppendLog::open(&path).expect("a torn log opens"));
    assert_eq!(std::fs::read(&path).expect("the file"), b"");
}

#[test]
fn rewriting_replaces_the_log_and_continues_at_its_end() {
    let dir = scratch();
    let path = dir.path().join("log.jsonl");
    std::fs::write(&path, "one\ntwo\nthree\n").expect("a log");
    let mut log = AppendLog::rewrite(&path, ["one", "two"]).expect("a shorter log");
    log.append("other").expect("a line");
    let text = std::fs::read_to_string(&path).expect("the file");
    assert_eq!(text, "one\ntwo\nother\n");
    assert_eq!(names(dir.path()), ["log.jsonl"]);
}

#[test]
fn a_line_break_inside_a_line_is_refused() {
    let dir = scratch();
    let path = dir.path().join("log.jsonl");
    let mut log = AppendLog::open(&path).expect("a new log");
    for line in ["a\nb", "a\rb", "\n"] {
        let error = log.append(line).expect_err("two lines in one");
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    }
    assert_eq!(std::fs::read(&path).expect("the file"), b"");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_reported_with_path_and_sizes() {
    // Every write to this device fails as on a full disk.
    let path = std::path::Path::new("/dev/full");
    let mut log = AppendLog::open(path).expect("the device opens");
    let error = log.append("0123456789").expect_err("a full disk");
    assert!(matches!(&error, Error::NoSpace { needed_bytes: 11, .. }), "{error}");
    assert_eq!(error.kind(), taal_store::ErrorKind::Disk);
    assert!(error.to_string().starts_with("/dev/full: no space left"), "{error}");
}
