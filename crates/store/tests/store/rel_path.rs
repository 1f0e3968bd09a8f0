use std::path::Path;

use taal_store::{Error, ErrorKind, MANIFEST_NAME, Manifest, RelPath, blake3_hex};

use crate::scratch;

/// Paths that lead out of a directory on some system.
const HOSTILE: &[&str] = &[
    "",
    "/",
    "//",
    "/etc/passwd",
    "//server/share",
    "..",
    "../a",
    "a/..",
    "a/../b",
    "a/../../b",
    "../../../../etc/passwd",
    ".",
    "./a",
    "a/.",
    "a/./b",
    "a//b",
    "a/",
    "a\0b",
    "\0",
    "a\nb",
    "a\tb",
    "\u{7f}",
    "\\",
    "..\\a",
    "a\\..\\b",
    "\\\\server\\share",
    "\\\\?\\C:\\a",
    "C:",
    "C:a",
    "C:/a",
    "C:\\a",
    "file:///a",
    "a:stream",
    "http://host/a",
    "a ",
    "a.",
    "a /b",
    ". ./a",
    ".../a",
    "... /a",
];

#[test]
fn paths_inside_a_directory_are_accepted() {
    for text in [
        "a",
        "model/config.json",
        "a.b/..c",
        ".hidden",
        "é/ü",
        "a b",
        "model-00001-of-00002.safetensors",
    ] {
        let path = RelPath::parse(text).expect(text);
        assert_eq!(path.as_str(), text);
        assert_eq!(path.join(Path::new("root")), Path::new("root").join(text));
    }
}

#[test]
fn paths_that_could_lead_elsewhere_are_refused() {
    for &text in HOSTILE {
        let error = RelPath::parse(text).expect_err(text);
        assert!(
            matches!(&error, Error::UnsafePath { path, .. } if path == Path::new(text)),
            "{error}"
        );
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
    assert!(RelPath::parse(&"a".repeat(1024)).is_ok());
    assert!(RelPath::parse(&"a".repeat(1025)).is_err());
}

#[test]
fn a_message_shows_hostile_characters_escaped() {
    let error = RelPath::parse("a\n\u{1b}[2Jb").expect_err("control characters");
    assert!(!error.to_string().chars().any(char::is_control), "{error}");
}

#[cfg(unix)]
#[test]
fn a_link_that_leads_outside_is_refused_and_one_inside_is_followed() {
    use std::os::unix::fs::symlink;
    let dir = scratch();
    let root = dir.path().join("root");
    std::fs::create_dir(&root).expect("a directory");
    std::fs::write(root.join("real"), b"x").expect("a file");
    std::fs::write(dir.path().join("secret"), b"x").expect("a file");
    symlink("real", root.join("inside")).expect("a link");
    symlink("../secret", root.join("outside")).expect("a link");
    let resolve = |text: &str| RelPath::parse(text).expect("a path").resolve(&root);
    let real = std::fs::canonicalize(root.join("real")).expect("a path");
    assert_eq!(resolve("inside").expect("a link inside"), real);
    assert!(matches!(resolve("outside"), Err(Error::UnsafePath { .. })));
    assert!(matches!(resolve("missing"), Err(Error::NotFound { .. })));

    // With a second allowed directory.
    let store = dir.path().join("store");
    std::fs::create_dir(&store).expect("a directory");
    std::fs::write(store.join("file"), b"x").expect("a file");
    symlink("../store/file", root.join("stored")).expect("a link");
    let resolve = |text: &str, store| RelPath::parse(text).expect("a path").resolve_or_in(&root, store);
    let file = std::fs::canonicalize(store.join("file")).expect("a path");
    assert_eq!(resolve("stored", Some(&store)).expect("a link into the store"), file);
    assert_eq!(resolve("inside", Some(&store)).expect("a link inside"), real);
    assert!(matches!(resolve("stored", None), Err(Error::UnsafePath { .. })));
    assert!(matches!(
        resolve("outside", Some(&store)),
        Err(Error::UnsafePath { .. })
    ));
}

#[test]
fn r21_a_manifest_that_lists_such_a_path_is_refused_despite_a_correct_hash() {
    const START: &str = ",\n  \"blake3\": \"";
    let dir = scratch();
    let root = dir.path().join("root");
    std::fs::create_dir(&root).expect("a directory");
    std::fs::write(root.join("real"), b"x").expect("a file");
    std::fs::write(dir.path().join("a"), b"x").expect("a file outside");
    Manifest::write(&root, serde_json::json!({})).expect("a manifest");
    let path = root.join(MANIFEST_NAME);
    let whole = std::fs::read_to_string(&path).expect("a manifest");
    for &text in HOSTILE {
        let quoted = serde_json::to_string(text).expect("JSON");
        let forged = whole.replace("\"real\"", &quoted);
        let (body, _) = forged.rsplit_once(START).expect("a manifest ends with its own hash");
        let hash = blake3_hex(body.as_bytes());
        std::fs::write(&path, format!("{body}{START}{hash}\"\n}}\n")).expect("a file");
        Manifest::read(&root).expect("its hash is correct");
        let error = Manifest::verify(&root).expect_err(text);
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{text:?}: {error}");
        let message = error.to_string();
        assert!(message.contains("lists an unsafe path"), "{text:?}: {message}");
        assert!(!message.chars().any(char::is_control), "{message:?}");
    }
    std::fs::write(&path, &whole).expect("a file");
    Manifest::verify(&root).expect("a valid directory again");
}
