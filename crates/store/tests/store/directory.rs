use taal_store::{
    Error, ErrorKind, create_dir_all, ensure_space, exists, file_size_bytes, free_space_bytes, list_dir,
    remove_dir_all, remove_file, remove_temporaries, temporaries, total_size_bytes,
};

use crate::{names, scratch};

#[test]
fn names_are_listed_in_byte_order() {
    let dir = scratch();
    for name in ["step-10", "step-9", "Zeta", "alpha", "é"] {
        std::fs::write(dir.path().join(name), b"").expect("a file");
    }
    let listed = list_dir(dir.path()).expect("names");
    assert_eq!(listed, ["Zeta", "alpha", "step-10", "step-9", "é"]);
}

#[test]
fn nested_directories_are_made_once_and_again() {
    let dir = scratch();
    let deep = dir.path().join("a/b/c");
    create_dir_all(&deep).expect("new directories");
    create_dir_all(&deep).expect("the same directories");
    assert!(taal_store::is_dir(&deep));
}

#[test]
fn a_file_where_a_directory_should_be_is_named() {
    let dir = scratch();
    let file = dir.path().join("file");
    std::fs::write(&file, b"x").expect("a file");
    for path in [file.clone(), file.join("below")] {
        let error = create_dir_all(&path).expect_err("a file is in the way");
        assert!(
            matches!(&error, Error::AlreadyExists { path } if *path == file),
            "{error}"
        );
    }
}

#[test]
fn removing_twice_is_fine() {
    let dir = scratch();
    let inner = dir.path().join("inner");
    create_dir_all(&inner).expect("a directory");
    let file = dir.path().join("file");
    std::fs::write(&file, b"x").expect("a file");
    for _ in 0..2 {
        remove_dir_all(&inner).expect("gone");
        remove_file(&file).expect("gone");
    }
    assert!(names(dir.path()).is_empty());
}

#[test]
fn only_leftovers_are_removed_at_a_new_start() {
    let dir = scratch();
    std::fs::create_dir_all(dir.path().join(".tmp-step-2-99-0/model")).expect("a leftover");
    std::fs::write(dir.path().join(".tmp-log-99-0"), b"x").expect("a leftover");
    std::fs::write(dir.path().join("tmp-kept"), b"x").expect("a file");
    std::fs::create_dir(dir.path().join("step-1")).expect("a directory");
    assert_eq!(remove_temporaries(dir.path()).expect("a count"), 2);
    assert_eq!(names(dir.path()), ["step-1", "tmp-kept"]);
    assert_eq!(remove_temporaries(&dir.path().join("missing")).expect("a count"), 0);
}

#[test]
fn sizes_are_of_files_only() {
    let dir = scratch();
    let file = dir.path().join("file");
    std::fs::write(&file, [0; 1234]).expect("a file");
    assert_eq!(file_size_bytes(&file).expect("a size"), 1234);
    assert!(matches!(file_size_bytes(dir.path()), Err(Error::NotAFile { .. })));
    assert!(!exists(&dir.path().join("missing")));
}

#[test]
fn free_space_is_known_for_paths_that_do_not_exist_yet() {
    let dir = scratch();
    let path = dir.path().join("not/yet/there");
    assert!(free_space_bytes(&path).expect("a number") > 0);
    ensure_space(&path, 1).expect("one byte fits");
    let error = ensure_space(&path, u64::MAX).expect_err("no disk is that large");
    assert!(
        matches!(error, Error::NoSpace { needed_bytes: u64::MAX, free_bytes, .. } if free_bytes > 0),
        "{error}"
    );
    assert_eq!(error.kind(), ErrorKind::Disk);
}

#[test]
fn the_size_of_a_directory_is_that_of_its_files_and_no_link_is_followed() {
    let dir = scratch();
    let inner = dir.path().join("a/b");
    create_dir_all(&inner).expect("directories");
    std::fs::write(inner.join("one"), [0; 100]).expect("a file");
    std::fs::write(dir.path().join("two"), [0; 11]).expect("a file");
    assert_eq!(total_size_bytes(dir.path()).expect("a size"), 111);
    assert_eq!(total_size_bytes(&dir.path().join("two")).expect("a size"), 11);
    taal_store::publish_link(&inner, &dir.path().join("link")).expect("a link");
    assert_eq!(total_size_bytes(dir.path()).expect("a size"), 111);
    let missing = total_size_bytes(&dir.path().join("missing")).expect_err("nothing");
    assert!(matches!(missing, Error::NotFound { .. }), "{missing}");
}

#[test]
fn what_was_left_unfinished_is_listed_and_nothing_else_is() {
    let dir = scratch();
    for name in [".tmp-b-1-0", ".tmp-a-1-0", "a", ".lock"] {
        std::fs::write(dir.path().join(name), b"").expect("a file");
    }
    let found = temporaries(dir.path()).expect("paths");
    assert_eq!(found, [".tmp-a-1-0", ".tmp-b-1-0"].map(|name| dir.path().join(name)));
    assert!(temporaries(&dir.path().join("missing")).expect("none").is_empty());
}
