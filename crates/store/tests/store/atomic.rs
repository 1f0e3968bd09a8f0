use std::io::{Seek, SeekFrom, Write};
use std::thread;

use taal_store::{AtomicDir, AtomicFile, Error, ErrorKind, write_atomic};

use crate::{names, scratch};

#[test]
fn an_atomic_write_replaces_the_whole_file_and_leaves_no_temporary() {
    let dir = scratch();
    let path = dir.path().join("state.json");
    write_atomic(&path, b"a long first version").expect("a first write");
    write_atomic(&path, b"short").expect("a second write");
    assert_eq!(std::fs::read(&path).expect("the file"), b"short");
    assert_eq!(names(dir.path()), ["state.json"]);
}

#[test]
fn until_its_commit_a_file_shows_the_old_content() {
    let dir = scratch();
    let path = dir.path().join("weights");
    write_atomic(&path, b"old").expect("a first write");
    let mut file = AtomicFile::create(&path).expect("a new file");
    file.write_all(&[7; 300_000]).expect("a write beyond the buffer");
    file.flush().expect("a flush");
    assert_eq!(std::fs::read(&path).expect("the file"), b"old");
    file.commit().expect("a commit");
    assert_eq!(std::fs::read(&path).expect("the file"), [7; 300_000]);
}

#[test]
fn a_file_dropped_before_its_commit_leaves_no_trace() {
    let dir = scratch();
    let path = dir.path().join("weights");
    let mut file = AtomicFile::create(&path).expect("a new file");
    file.write_all(b"half").expect("a write");
    drop(file);
    assert!(names(dir.path()).is_empty());
}

#[test]
fn a_header_can_be_written_after_the_content() {
    let dir = scratch();
    let path = dir.path().join("shard");
    let mut file = AtomicFile::create(&path).expect("a new file");
    file.write_all(b"????content").expect("a write");
    file.seek(SeekFrom::Start(0)).expect("a seek");
    file.write_all(b"head").expect("a write");
    file.commit().expect("a commit");
    assert_eq!(std::fs::read(&path).expect("the file"), b"headcontent");
}

#[test]
fn simultaneous_writers_leave_one_whole_version() {
    let dir = scratch();
    let path = dir.path().join("shared");
    thread::scope(|scope| {
        for byte in 0..16_u8 {
            let path = &path;
            scope.spawn(move || write_atomic(path, &[byte; 10_000]).expect("a write"));
        }
    });
    let content = std::fs::read(&path).expect("the file");
    assert_eq!(content.len(), 10_000);
    assert!(content.iter().all(|byte| *byte == content[0]));
    assert_eq!(names(dir.path()), ["shared"]);
}

#[test]
fn names_as_long_as_the_file_system_allows_can_be_written() {
    let dir = scratch();
    let name = "é".repeat(127);
    write_atomic(&dir.path().join(&name), b"content").expect("a write");
    assert_eq!(names(dir.path()), [name]);
}

#[test]
fn writing_without_a_parent_directory_names_the_parent() {
    let dir = scratch();
    let parent = dir.path().join("missing");
    let error = write_atomic(&parent.join("file"), b"").expect_err("no parent");
    assert!(matches!(&error, Error::NotFound { path } if *path == parent), "{error}");
}

#[test]
fn writing_a_file_over_a_directory_is_refused() {
    let dir = scratch();
    let error = write_atomic(dir.path(), b"").expect_err("the path is a directory");
    assert!(matches!(error, Error::NotAFile { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Usage);
}

#[test]
fn a_directory_appears_whole_at_its_commit() {
    let dir = scratch();
    let final_path = dir.path().join("step-1");
    let new = AtomicDir::create(&final_path).expect("a new directory");
    new.write("model/a.bin", b"a").expect("a file");
    let mut stream = new.create_file("model/b.bin").expect("a file");
    stream.write_all(b"b").expect("a write");
    stream.finish().expect("an end");
    assert!(!taal_store::exists(&final_path));
    new.commit().expect("a commit");
    assert_eq!(names(dir.path()), ["step-1"]);
    assert_eq!(names(&final_path.join("model")), ["a.bin", "b.bin"]);
    assert_eq!(std::fs::read(final_path.join("model/b.bin")).expect("b"), b"b");
}

#[test]
fn a_directory_dropped_before_its_commit_leaves_no_trace() {
    let dir = scratch();
    let new = AtomicDir::create(&dir.path().join("step-1")).expect("a new directory");
    new.write("deep/er/file", b"x").expect("a file");
    drop(new);
    assert!(names(dir.path()).is_empty());
}

#[test]
fn a_commit_never_replaces_an_existing_path() {
    let dir = scratch();
    let final_path = dir.path().join("step-1");
    let new = AtomicDir::create(&final_path).expect("a new directory");
    new.write("file", b"new").expect("a file");
    std::fs::create_dir(&final_path).expect("another process's directory");
    let error = new.commit().expect_err("the path exists");
    assert!(
        matches!(&error, Error::AlreadyExists { path } if *path == final_path),
        "{error}"
    );
    assert!(names(&final_path).is_empty());
    assert_eq!(names(dir.path()), ["step-1"]);
}

#[test]
fn a_directory_is_not_started_at_an_existing_path() {
    let dir = scratch();
    let error = AtomicDir::create(dir.path()).expect_err("the path exists");
    assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
}

#[test]
fn an_unfinished_stream_is_not_part_of_the_directory() {
    let dir = scratch();
    let new = AtomicDir::create(&dir.path().join("step-1")).expect("a new directory");
    let mut stream = new.create_file("torn").expect("a file");
    stream.write_all(b"half").expect("a write");
    drop(stream);
    new.commit().expect("a commit");
    assert!(names(&dir.path().join("step-1")).is_empty());
}

#[test]
fn files_of_a_new_directory_stay_inside_it_and_are_written_once() {
    let dir = scratch();
    let new = AtomicDir::create(&dir.path().join("step-1")).expect("a new directory");
    let error = new.write("../escaped", b"x").expect_err("outside");
    assert!(matches!(error, Error::UnsafePath { .. }), "{error}");
    new.write("twice", b"first").expect("a file");
    let error = new.write("twice", b"second").expect_err("written twice");
    assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn report_21_temporaries_of_dead_processes_are_removed_and_others_kept() {
    let dir = scratch();
    let mut gone = std::process::Command::new("true").spawn().expect("a process");
    let dead = gone.id();
    gone.wait().expect("its end");
    let alive = std::process::id();
    let names = [
        format!(".tmp-out-{dead}-0"),
        format!(".tmp-out-{alive}-0"),
        format!(".tmp-other-{dead}-0"),
        ".tmp-out-notes".to_owned(),
    ];
    for name in &names {
        std::fs::create_dir(dir.path().join(name)).expect("a folder");
    }
    let out = dir.path().join("out");
    assert_eq!(taal_store::remove_leftovers_of(&out).expect("removed"), 1);
    let left = |name: &String| dir.path().join(name).exists();
    assert_eq!(names.each_ref().map(left), [false, true, true, true]);
    assert_eq!(taal_store::remove_unfinished_of(&out).expect("removed"), 1);
    assert_eq!(names.each_ref().map(left), [false, false, true, true]);
}
