//! User reports about texts and folders, by number.

use std::cell::Cell;
use std::path::PathBuf;

use taal_data::{
    BuildOptions, Content, Conversations, Dataset, LineEnds, TokenizeOptions, build_shards, find_files, tokenizer_texts,
};

use super::{assert_says, characters, write};

fn said(files: &[PathBuf]) -> taal_data::Result<String> {
    let parts: Vec<_> = tokenizer_texts(files, LineEnds::Lf, &Cell::new(0))?.collect::<Result<_, _>>()?;
    Ok(parts.iter().map(|part| part.text.as_str()).collect())
}

#[test]
fn report_19_a_folder_gives_the_same_files_with_runs_and_models_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    for name in ["a.txt", "b/c.md", "d.jsonl", "e.ndjson"] {
        write(folder, name, "abc");
    }
    let before = find_files(&[folder.to_owned()], Content::Text).unwrap();
    assert_eq!((before.files.len(), before.left_out), (4, 0));
    assert_eq!(before.left_out_words(), None);
    for name in [
        "runs/my/.taal-run",
        "runs/my/samples.txt",
        "elsewhere/recipe.resolved.toml",
        "elsewhere/notes.md",
        "gpt/config.json",
        "gpt/model.safetensors",
        "gpt/vocab.txt",
        "f.json",
        "g.pdf",
        ".h.txt",
    ] {
        write(folder, name, "abc");
    }
    let after = find_files(&[folder.to_owned()], Content::Text).unwrap();
    assert_eq!(after.files, before.files);
    assert_eq!(after.left_out, 6);
    let words = after.left_out_words().unwrap();
    assert!(
        words.starts_with("4 files, 6 left out: ") && words.contains("(hidden)"),
        "{words}"
    );
    assert!(words.ends_with(" and 1 more"), "{words}");
    // A folder of that name may also hold texts.
    write(folder, "runs/marathon.txt", "abc");
    let texts = find_files(&[folder.to_owned()], Content::Text).unwrap().files;
    assert!(texts.len() == 5 && texts[4].ends_with("runs/marathon.txt"), "{texts:?}");
}

#[cfg(unix)]
#[test]
fn report_19_a_name_that_is_not_utf8_and_a_pipe_do_not_stop_a_folder() {
    use std::os::unix::ffi::OsStrExt;

    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.txt", "abc");
    std::fs::write(dir.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9.png")), "x").unwrap();
    let pipe = dir.path().join("b.txt");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let found = find_files(&[dir.path().to_owned()], Content::Text).unwrap();
    assert_eq!((found.files.len(), found.left_out), (1, 2));
    assert_says(find_files(&[pipe], Content::Text), &["b.txt is a named pipe"]);
}

#[test]
fn report_19_json_is_not_text_and_json_lines_give_their_texts() {
    let dir = tempfile::tempdir().unwrap();
    let json = write(dir.path(), "a.json", "{\"text\": \"abc\"}");
    assert_says(find_files(&[json], Content::Text), &["a.json", ".jsonl"]);
    let lines = [
        "{\"text\": \"een\"}",
        "{\"prompt\": \"twee\", \"completion\": \"drie\"}",
        "{\"messages\": [{\"role\": \"user\", \"content\": \"vier\"}]}",
    ];
    for name in ["b.jsonl", "c.ndjson"] {
        let path = write(dir.path(), name, lines.join("\r\n"));
        assert_eq!(said(&[path]).unwrap(), "eentweedrievier");
    }
    let other = write(dir.path(), "d.jsonl", "{\"id\": 1}");
    assert_says(said(&[other]), &["d.jsonl, line 1", "`text`"]);
}

#[test]
fn report_19_a_folder_of_conversations_may_have_a_readme() {
    let dir = tempfile::tempdir().unwrap();
    let line = "{\"prompt\": \"a\", \"completion\": \"b\"}\n";
    write(dir.path(), "talk.jsonl", line.repeat(20));
    write(dir.path(), "README.md", "# Talk\n");
    let conversations = Conversations::open(&characters("ab"), &[dir.path().to_owned()], 8, 0.1);
    assert!(conversations.is_ok(), "{conversations:?}");
}

#[test]
fn report_23_all_empty_files_are_named_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let files =
        ["a.txt", "b.txt", "c.txt"].map(|name| write(dir.path(), name, if name == "b.txt" { "abcabc" } else { "" }));
    let read = Dataset::from_files(&characters("abc"), &files, &TokenizeOptions::default());
    assert_says(read, &["2 files are empty", "a.txt", "c.txt"]);
    assert_says(said(&files), &["2 files are empty", "a.txt", "c.txt"]);
}

#[test]
fn report_27_carriage_returns_become_line_feeds_unless_they_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let windows = write(
        dir.path(),
        "a.txt",
        "\u{feff}ab\r\nba\r\n".to_owned() + &"ab\r\nba\r\n".repeat(20),
    );
    let unix = write(dir.path(), "b.txt", "ab\nba\n".repeat(21));
    let tokenizer = characters("ab\r\n");
    let read = |path: &PathBuf, line_ends| {
        let options = TokenizeOptions {
            line_ends,
            ..TokenizeOptions::default()
        };
        Dataset::from_files(&tokenizer, std::slice::from_ref(path), &options).unwrap()
    };
    let (lf, plain) = (read(&windows, LineEnds::Lf), read(&unix, LineEnds::Lf));
    assert_eq!(lf.fingerprint(), plain.fingerprint());
    assert_eq!(lf.train.text_bytes(), plain.train.text_bytes());
    assert_eq!((lf.carriage_returns, plain.carriage_returns), (42, 0));
    let kept = read(&windows, LineEnds::Keep);
    assert_eq!(
        kept.train.len() + kept.validation[0].len(),
        lf.train.len() + lf.validation[0].len() + 42
    );

    let shards = dir.path().join("shards");
    let built = build_shards(&tokenizer, &[windows], &shards, &BuildOptions::default()).unwrap();
    assert_eq!(built.carriage_returns, 42);
    assert_eq!(Dataset::open(&shards).unwrap().line_ends, LineEnds::Lf);
}
