use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::json;
use taal_store::{Error, ErrorKind, MANIFEST_NAME, Manifest, blake3_hex};

use crate::scratch;

/// A directory of two files with its manifest.
fn checkpoint(root: &Path) -> Manifest {
    std::fs::create_dir(root.join("model")).expect("a directory");
    std::fs::write(root.join("model/weights"), [1, 2, 3, 4, 5, 6, 7, 8]).expect("a file");
    std::fs::write(root.join("empty"), []).expect("a file");
    Manifest::write(root, json!({ "step": 10, "lr": 1.0e-3 })).expect("a manifest")
}

/// The file and the reason that `verify` gives for a corrupt directory.
fn corruption(root: &Path) -> (PathBuf, String) {
    let error = Manifest::verify(root).expect_err("a corrupt directory");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    match error {
        Error::Corrupt { path, detail } => (path, detail),
        other => panic!("expected a corrupt file, got {other}"),
    }
}

/// Writes a manifest of any content with a matching hash, as an attacker would.
fn forge(root: &Path, body: &str) {
    let body = body.strip_suffix("\n}").expect("a pretty object");
    let text = format!("{body},\n  \"blake3\": \"{}\"\n}}\n", blake3_hex(body.as_bytes()));
    std::fs::write(root.join(MANIFEST_NAME), text).expect("a file");
}

#[test]
fn a_written_manifest_verifies_and_returns_what_was_stored() {
    let dir = scratch();
    let written = checkpoint(dir.path());
    let verified = Manifest::verify(dir.path()).expect("a whole directory");
    assert_eq!(verified, written);
    assert_eq!(verified.extra, json!({ "step": 10, "lr": 1.0e-3 }));
    let files: Vec<_> = verified
        .files
        .iter()
        .map(|file| (file.path.as_str(), file.bytes))
        .collect();
    assert_eq!(files, [("empty", 0), ("model/weights", 8)]);
    // The hash of no bytes, from BLAKE3's published test vectors.
    let of_nothing = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
    assert_eq!(verified.files[0].blake3, of_nothing);
}

#[test]
fn the_manifest_is_plain_json() {
    let dir = scratch();
    checkpoint(dir.path());
    let text = std::fs::read_to_string(dir.path().join(MANIFEST_NAME)).expect("the file");
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(value["version"], 1);
    assert_eq!(value["files"][1]["path"], "model/weights");
    assert_eq!(value["extra"]["step"], 10);
}

#[test]
fn writing_twice_gives_equal_bytes() {
    let dir = scratch();
    checkpoint(dir.path());
    let path = dir.path().join(MANIFEST_NAME);
    let first = std::fs::read(&path).expect("the file");
    Manifest::write(dir.path(), json!({ "step": 10, "lr": 1.0e-3 })).expect("a manifest");
    assert_eq!(std::fs::read(&path).expect("the file"), first);
}

#[test]
fn every_flipped_bit_of_every_file_is_detected() {
    let dir = scratch();
    checkpoint(dir.path());
    for name in [MANIFEST_NAME, "model/weights"] {
        let path = dir.path().join(name);
        let whole = std::fs::read(&path).expect("the file");
        // Overwritten in place: truncating the file each time would make the file system flush each time.
        let mut file = OpenOptions::new().write(true).open(&path).expect("the file");
        let mut overwrite = |bytes: &[u8]| {
            file.seek(SeekFrom::Start(0)).expect("a seek");
            file.write_all(bytes).expect("a write");
        };
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            overwrite(&flipped);
            let result = Manifest::verify(dir.path());
            assert!(result.is_err(), "bit {bit} of {name} flipped undetected");
        }
        overwrite(&whole);
    }
    Manifest::verify(dir.path()).expect("everything is back");
}

#[test]
fn every_truncation_is_detected() {
    let dir = scratch();
    checkpoint(dir.path());
    for name in [MANIFEST_NAME, "model/weights"] {
        let path = dir.path().join(name);
        let whole = std::fs::read(&path).expect("the file");
        let file = OpenOptions::new().write(true).open(&path).expect("the file");
        for length in (0..whole.len()).rev() {
            file.set_len(length as u64).expect("a shorter file");
            let result = Manifest::verify(dir.path());
            assert!(result.is_err(), "{name} truncated to {length} bytes undetected");
        }
        std::fs::write(&path, whole).expect("a file");
    }
}

#[test]
fn the_bad_file_is_named_with_the_reason() {
    type Damage = fn(&Path);
    let cases: [(&str, &str, Damage); 5] = [
        ("model/weights", "missing", |root| {
            std::fs::remove_file(root.join("model/weights")).expect("removed");
        }),
        ("model/weights", "wrong size: 3 bytes, expected 8", |root| {
            std::fs::write(root.join("model/weights"), [1, 2, 3]).expect("written");
        }),
        ("model/weights", "wrong hash", |root| {
            std::fs::write(root.join("model/weights"), [1, 2, 3, 4, 5, 6, 7, 9]).expect("written");
        }),
        ("model/more", "extra file", |root| {
            std::fs::write(root.join("model/more"), []).expect("written");
        }),
        (MANIFEST_NAME, "missing", |root| {
            std::fs::remove_file(root.join(MANIFEST_NAME)).expect("removed");
        }),
    ];
    for (name, reason, damage) in cases {
        let dir = scratch();
        checkpoint(dir.path());
        damage(dir.path());
        let (path, detail) = corruption(dir.path());
        assert_eq!(path, dir.path().join(name));
        assert!(detail.starts_with(reason), "{name}: {detail}");
    }
}

#[test]
fn a_file_where_a_directory_was_counts_as_missing() {
    let dir = scratch();
    checkpoint(dir.path());
    std::fs::remove_dir_all(dir.path().join("model")).expect("removed");
    std::fs::write(dir.path().join("model"), []).expect("written");
    let (path, detail) = corruption(dir.path());
    assert_eq!(path, dir.path().join("model/weights"));
    assert!(detail.starts_with("missing"), "{detail}");
}

#[cfg(unix)]
#[test]
fn a_link_is_neither_listed_nor_accepted() {
    let dir = scratch();
    checkpoint(dir.path());
    let path = dir.path().join("model/weights");
    let elsewhere = dir.path().join("elsewhere");
    std::fs::rename(&path, &elsewhere).expect("moved");
    std::os::unix::fs::symlink(&elsewhere, &path).expect("a link with the right content");
    let (named, detail) = corruption(dir.path());
    assert_eq!(named, path);
    assert!(detail.starts_with("not a regular file"), "{detail}");
    let error = Manifest::write(dir.path(), json!({})).expect_err("a link");
    assert!(
        matches!(&error, Error::UnsafePath { path: named, .. } if *named == path),
        "{error}"
    );
}

#[test]
fn a_manifest_cannot_name_files_outside_its_directory() {
    let dir = scratch();
    let root = dir.path().join("checkpoint");
    std::fs::create_dir(&root).expect("a directory");
    std::fs::write(dir.path().join("secret"), b"x").expect("a file");
    for path in ["../secret", "/etc/passwd", "a/../../secret", "..\\\\secret", "C:secret"] {
        let entry = format!(r#"{{"path": "{path}", "bytes": 1, "blake3": "{}"}}"#, blake3_hex(b"x"));
        forge(
            &root,
            &format!("{{\n  \"version\": 1,\n  \"files\": [{entry}],\n  \"extra\": null\n}}"),
        );
        let (named, detail) = corruption(&root);
        assert_eq!(named, root.join(MANIFEST_NAME));
        assert!(detail.contains("unsafe path"), "{path}: {detail}");
    }
}

#[test]
fn a_manifest_of_another_version_or_shape_is_refused() {
    let dir = scratch();
    let bodies = [
        (
            "{\n  \"version\": 2,\n  \"files\": [],\n  \"extra\": null\n}",
            "version 2",
        ),
        (
            "{\n  \"version\": 1,\n  \"files\": 3,\n  \"extra\": null\n}",
            "not a manifest",
        ),
        (
            "{\n  \"version\": 1,\n  \"files\": [],\n  \"extra\": null,\n  \"more\": 1\n}",
            "not a manifest",
        ),
        ("[\n}", "not a manifest"),
    ];
    for (body, reason) in bodies {
        forge(dir.path(), body);
        let (_, detail) = corruption(dir.path());
        assert!(detail.contains(reason), "{detail}");
    }
}

#[test]
fn a_missing_directory_is_not_found_rather_than_corrupt() {
    let dir = scratch();
    let root = dir.path().join("missing");
    let error = Manifest::verify(&root).expect_err("no directory");
    assert!(matches!(&error, Error::NotFound { path } if *path == root), "{error}");
}

#[test]
fn sizes_and_names_are_compared_without_reading_the_bytes() {
    let dir = scratch();
    let written = checkpoint(dir.path());
    assert_eq!(Manifest::verify_sizes(dir.path()).expect("a whole directory"), written);
    let weights = dir.path().join("model/weights");
    // Another byte is not found out, another size is.
    std::fs::write(&weights, [1, 2, 3, 4, 5, 6, 7, 9]).expect("a file");
    Manifest::verify_sizes(dir.path()).expect("the same sizes");
    std::fs::write(&weights, [1, 2, 3]).expect("a file");
    let error = Manifest::verify_sizes(dir.path()).expect_err("a shorter file");
    assert!(error.to_string().contains("wrong size: 3 bytes, expected 8"), "{error}");
    std::fs::write(&weights, [1, 2, 3, 4, 5, 6, 7, 8]).expect("a file");
    std::fs::write(dir.path().join("notes.txt"), "mine").expect("a file");
    let error = Manifest::verify_sizes(dir.path()).expect_err("an extra file");
    assert!(error.to_string().contains("notes.txt"), "{error}");
}
