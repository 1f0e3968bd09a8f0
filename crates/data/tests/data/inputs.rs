use std::path::PathBuf;

use taal_data::{Dataset, LineEnds, TokenizeOptions};
use taal_store::ErrorKind;

use super::{assert_says, characters, write};

fn read(paths: &[PathBuf]) -> taal_data::Result<Dataset> {
    Dataset::from_files(&characters("abc"), paths, &TokenizeOptions::default())
}

#[test]
fn every_unusable_text_gives_an_error_with_its_name_and_position() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| vec![write(dir.path(), name, content)];
    let utf16: Vec<u8> = "aba".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let cases: [(Vec<PathBuf>, ErrorKind, &[&str]); 9] = [
        (vec![], ErrorKind::Usage, &["no input", "name at least one"]),
        (
            vec![dir.path().join("missing.txt")],
            ErrorKind::Usage,
            &["missing.txt", "no such file"],
        ),
        (file("empty.txt", b""), ErrorKind::Usage, &["empty.txt is empty"]),
        (
            file("bom.txt", "\u{FEFF}".as_bytes()),
            ErrorKind::Usage,
            &["bom.txt is empty"],
        ),
        (
            file("one.txt", b"a"),
            ErrorKind::Usage,
            &["one.txt has 1 character(s)", "too few"],
        ),
        (
            file("latin.txt", b"caf\xe9"),
            ErrorKind::Corrupt,
            &["latin.txt is not UTF-8 at byte 3", "iconv"],
        ),
        (
            file("binary.txt", b"ab\0c"),
            ErrorKind::Corrupt,
            &["binary.txt is a binary file (byte 2"],
        ),
        (
            file("utf16.txt", &utf16),
            ErrorKind::Corrupt,
            &["utf16.txt", "UTF-16", "iconv -f UTF-16"],
        ),
        (
            file("bad.jsonl", b"{\"text\": \"ab\"}\n\n{\"txt\": 1}\n"),
            ErrorKind::Corrupt,
            &["bad.jsonl, line 3", "`text`"],
        ),
    ];
    for (paths, kind, parts) in cases {
        let result = read(&paths);
        assert_eq!(
            result.as_ref().map(|_| ()).map_err(taal_data::DataError::kind),
            Err(kind),
            "{paths:?}"
        );
        assert_says(result, parts);
    }
}

#[test]
fn a_file_of_conversations_is_not_read_as_documents() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "talk.jsonl", "{\"prompt\": \"a\", \"completion\": \"b\"}\n");
    assert_says(
        read(&[path]),
        &["talk.jsonl, line 1", "`completion`", "data.conversations"],
    );
}

#[test]
fn an_invalid_byte_far_into_a_file_is_reported_with_its_offset() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = "abé".repeat(100_000).into_bytes();
    bytes[300_001] = 0xff;
    let path = write(dir.path(), "long.txt", bytes);
    assert_says(read(&[path]), &["long.txt", "byte 300001"]);
}

#[test]
fn a_folder_is_searched_in_order_and_one_without_text_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for name in [
        "b.txt",
        "a/deep/c.md",
        "a/b.TXT",
        "a/picture.png",
        ".hidden.txt",
        ".git/x.txt",
    ] {
        write(dir.path(), name, "abcabcabcabc");
    }
    let names: Vec<_> = read(&[dir.path().to_owned()])
        .unwrap()
        .inputs
        .into_iter()
        .map(|input| input.name)
        .collect();
    let expected = ["a/b.TXT", "a/deep/c.md", "b.txt"].map(|name| dir.path().join(name).display().to_string());
    assert_eq!(names, expected);

    write(dir.path(), "pictures/a.png", "x");
    assert_says(
        read(&[dir.path().join("pictures")]),
        &["pictures", "no .txt, .md, .jsonl or .ndjson file"],
    );
}

#[cfg(unix)]
#[test]
fn a_folder_that_links_to_itself_is_read_once() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.txt", "abcabcabcabc");
    std::os::unix::fs::symlink(dir.path(), dir.path().join("loop")).unwrap();
    assert_eq!(read(&[dir.path().to_owned()]).unwrap().inputs.len(), 1);
}

#[test]
fn a_single_file_may_have_any_extension_and_no_validation_part() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "play.script", "a");
    let options = TokenizeOptions {
        validation_fraction: 0.0,
        ..TokenizeOptions::default()
    };
    let dataset = Dataset::from_files(&characters("abc"), &[path], &options).unwrap();
    assert_eq!((dataset.train.len(), dataset.validation.len()), (1, 0));
}

#[test]
fn an_impossible_fraction_is_refused() {
    for validation_fraction in [-0.1, 1.0, f64::NAN] {
        let options = TokenizeOptions {
            validation_fraction,
            ..TokenizeOptions::default()
        };
        let result = Dataset::from_texts(&characters("abc"), &[("text", "abcabc")], &options);
        assert_says(result, &["validation_fraction", "expected"]);
    }
}

#[test]
fn a_tokenizers_training_text_leaves_out_the_held_back_part() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("a.txt");
    std::fs::write(&text, "abcdefghij").unwrap();
    let lines = folder.path().join("b.jsonl");
    std::fs::write(&lines, "{\"text\": \"een\"}\n{\"text\": \"twee\"}\n").unwrap();
    let paths = [text, lines];
    assert_eq!(
        taal_data::training_texts(&paths, 0.5, LineEnds::Lf).unwrap(),
        ["abcde", "een"]
    );
    assert_eq!(
        taal_data::training_texts(&paths, 0.0, LineEnds::Lf).unwrap(),
        ["abcdefghij", "een", "twee"]
    );
}
