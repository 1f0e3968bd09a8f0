use taal_store::{Error, NewFolders, exists, write_atomic};

use crate::{names, scratch};

#[test]
fn new_folders_go_with_the_output_that_did_not_come_and_others_stay() {
    let dir = scratch();
    std::fs::create_dir(dir.path().join("old")).expect("a folder");
    let path = dir.path().join("old/new/newer/model");
    drop(NewFolders::above(&path).expect("folders"));
    assert_eq!(names(dir.path()), ["old"]);
    assert!(names(&dir.path().join("old")).is_empty());

    let folders = NewFolders::above(&path).expect("folders");
    write_atomic(&path, b"weights").expect("an output");
    folders.keep();
    assert_eq!(std::fs::read(&path).expect("the output"), b"weights");

    // Made by another, they are not this one's to remove.
    drop(NewFolders::above(&path).expect("the same folders"));
    assert!(exists(&path));
}

#[test]
fn a_folder_that_something_else_is_in_by_now_stays() {
    let dir = scratch();
    let folders = NewFolders::above(&dir.path().join("a/b/model")).expect("folders");
    std::fs::write(dir.path().join("a/theirs"), b"x").expect("a file");
    drop(folders);
    assert_eq!(names(&dir.path().join("a")), ["theirs"]);
}

#[test]
fn folders_that_cannot_all_be_made_are_not_there() {
    let dir = scratch();
    // A name longer than file systems take.
    let path = dir.path().join("a/b").join("x".repeat(300)).join("model");
    let error = NewFolders::above(&path).expect_err("too long a name");
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert!(names(dir.path()).is_empty());
}

#[test]
fn an_output_without_a_parent_needs_no_folder() {
    drop(NewFolders::above(std::path::Path::new("model.gguf")).expect("nothing to make"));
}
