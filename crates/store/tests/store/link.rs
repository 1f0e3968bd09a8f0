#![cfg(unix)]

use std::path::Path;

use taal_store::{Error, publish_link};

use crate::{names, scratch};

fn make_model(root: &Path, step: u32) -> std::path::PathBuf {
    let model = root.join(format!("checkpoints/step-{step}/model"));
    std::fs::create_dir_all(&model).expect("a directory");
    std::fs::write(model.join("step"), step.to_string()).expect("a file");
    model
}

#[test]
fn the_link_follows_the_newest_target_and_leaves_no_temporary() {
    let dir = scratch();
    let link = dir.path().join("model");
    for step in [1, 2] {
        publish_link(&make_model(dir.path(), step), &link).expect("a link");
        let content = std::fs::read_to_string(link.join("step")).expect("the file");
        assert_eq!(content, step.to_string());
    }
    assert_eq!(names(dir.path()), ["checkpoints", "model"]);
}

#[test]
fn the_link_is_relative_so_the_run_can_be_moved() {
    let dir = scratch();
    let run = dir.path().join("run");
    publish_link(&make_model(&run, 1), &run.join("model")).expect("a link");
    let text = std::fs::read_link(run.join("model")).expect("a link");
    assert_eq!(text, Path::new("checkpoints/step-1/model"));
    std::fs::rename(&run, dir.path().join("moved")).expect("a move");
    let content = std::fs::read_to_string(dir.path().join("moved/model/step")).expect("the file");
    assert_eq!(content, "1");
}

#[test]
fn a_link_can_lead_upwards() {
    let dir = scratch();
    let model = make_model(dir.path(), 1);
    std::fs::create_dir(dir.path().join("links")).expect("a directory");
    let link = dir.path().join("links/best");
    publish_link(&model, &link).expect("a link");
    let text = std::fs::read_link(&link).expect("a link");
    assert_eq!(text, Path::new("../checkpoints/step-1/model"));
    assert!(link.join("step").exists());
}

#[test]
fn a_file_at_the_link_is_not_replaced() {
    let dir = scratch();
    let link = dir.path().join("model");
    std::fs::write(&link, b"mine").expect("a file");
    let error = publish_link(&make_model(dir.path(), 1), &link).expect_err("the link is a file");
    assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
    assert_eq!(std::fs::read(&link).expect("the file"), b"mine");
    assert_eq!(names(dir.path()), ["checkpoints", "model"]);
}

#[test]
fn another_directory_at_the_link_is_kept_next_to_it() {
    let dir = scratch();
    let link = dir.path().join("model");
    for round in ["first", "second"] {
        std::fs::create_dir(&link).expect("a directory");
        std::fs::write(link.join("mine"), round).expect("a file");
        publish_link(&make_model(dir.path(), 1), &link).expect("a link");
        std::fs::remove_file(&link).expect("a link is removed like a file");
    }
    assert_eq!(names(dir.path()), ["checkpoints", "model.old-1", "model.old-2"]);
    let kept = std::fs::read(dir.path().join("model.old-2/mine")).expect("the file");
    assert_eq!(kept, b"second");
}

#[test]
fn a_missing_target_is_named() {
    let dir = scratch();
    let target = dir.path().join("missing");
    let error = publish_link(&target, &dir.path().join("model")).expect_err("no target");
    assert!(matches!(&error, Error::NotFound { path } if *path == target), "{error}");
}
