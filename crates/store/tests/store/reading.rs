use std::io::{BufRead, Read};

use taal_store::{Error, ErrorKind, Map, Reader, Reread, read, read_text, write_atomic};

use crate::scratch;

#[test]
fn a_file_up_to_the_limit_is_read_and_one_byte_more_is_refused() {
    let dir = scratch();
    let path = dir.path().join("file");
    std::fs::write(&path, [7; 100]).expect("a file");
    assert_eq!(read(&path, 100).expect("the bytes"), [7; 100]);
    let error = read(&path, 99).expect_err("too large");
    assert!(
        matches!(
            &error,
            Error::TooLarge {
                limit_bytes: 99,
                actual_bytes: 100,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[cfg(unix)]
#[test]
fn report_32_devices_and_named_pipes_are_refused_at_once() {
    let endless = std::path::Path::new("/dev/zero");
    let dir = scratch();
    let pipe = dir.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo").success());
    for path in [endless, &pipe] {
        for error in [
            read(path, 1000).map(drop),
            Reader::open(path).map(drop),
            Map::open(path).map(drop),
        ] {
            let error = error.expect_err("no file");
            assert!(matches!(&error, Error::Stream { .. }), "{error}");
            assert_eq!(error.kind(), ErrorKind::Usage);
        }
    }
}

#[test]
fn report_32_a_dash_that_is_not_standard_input_is_explained() {
    let error = read(std::path::Path::new("-"), 1).expect_err("no file");
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("standard input is not read"), "{error}");
}

#[test]
fn report_23_a_path_that_only_a_shell_would_expand_is_explained() {
    let said = |path: &str| read(std::path::Path::new(path), 1).expect_err("no file").to_string();
    assert!(said("~/texts/a.txt").contains("home folder"));
    assert!(said("texts/*.txt").contains("expands patterns such as *"));
    assert!(said("texts/a.txt").contains("check the path"));
}

#[test]
fn the_first_byte_that_is_not_utf8_is_located() {
    let dir = scratch();
    let path = dir.path().join("text");
    std::fs::write(&path, "één\n").expect("a file");
    assert_eq!(read_text(&path, 100).expect("text"), "één\n");
    std::fs::write(&path, b"\xc3\xa9\xc3\xa9n \xff\xfe").expect("a file");
    let error = read_text(&path, 100).expect_err("not UTF-8");
    assert!(matches!(&error, Error::NotUtf8 { offset: 6, .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[test]
fn missing_files_and_directories_are_named_by_every_reader() {
    let dir = scratch();
    let missing = dir.path().join("missing");
    let errors = [
        read(&missing, 1).map(drop),
        read_text(&missing, 1).map(drop),
        Map::open(&missing).map(drop),
        Reader::open(&missing).map(drop),
    ];
    for error in errors {
        let error = error.expect_err("no file");
        assert!(
            matches!(&error, Error::NotFound { path } if *path == missing),
            "{error}"
        );
        assert_eq!(error.kind(), ErrorKind::Usage);
    }
    let errors = [
        read(dir.path(), 1).map(drop),
        Map::open(dir.path()).map(drop),
        Reader::open(dir.path()).map(drop),
    ];
    for error in errors {
        let error = error.expect_err("a directory");
        assert!(
            matches!(&error, Error::NotAFile { path } if path == dir.path()),
            "{error}"
        );
    }
}

#[test]
fn a_map_shows_the_file_and_keeps_it_when_the_file_is_replaced() {
    let dir = scratch();
    let path = dir.path().join("shard");
    write_atomic(&path, b"old content").expect("a file");
    let map = Map::open(&path).expect("a map");
    write_atomic(&path, b"new").expect("a new file");
    assert_eq!(&*map, b"old content");
    assert_eq!(&*Map::open(&path).expect("a map"), b"new");
}

#[test]
fn a_map_shows_the_same_bytes_after_its_memory_was_released() {
    let dir = scratch();
    let path = dir.path().join("file");
    let bytes: Vec<u8> = (0..100_000_u32).map(|i| (i * 7 % 251) as u8).collect();
    std::fs::write(&path, &bytes).expect("a file");
    let map = Map::open(&path).expect("a map");
    assert_eq!(&map[..], bytes);
    for part in [&map[5..5], &map[5000..70_000], &map[..], &bytes[..], &[1, 2, 3]] {
        map.release(part);
        assert_eq!(&map[..], bytes);
    }
}

#[test]
fn an_empty_file_maps_to_an_empty_slice() {
    let dir = scratch();
    let path = dir.path().join("empty");
    write_atomic(&path, b"").expect("a file");
    assert!(Map::open(&path).expect("a map").is_empty());
}

#[test]
fn a_reader_streams_lines_and_bytes() {
    let dir = scratch();
    let path = dir.path().join("text");
    std::fs::write(&path, "first\nrest").expect("a file");
    let mut reader = Reader::open(&path).expect("a reader");
    let mut line = String::new();
    reader.read_line(&mut line).expect("a line");
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).expect("the rest");
    assert_eq!((line.as_str(), rest.as_slice()), ("first\n", b"rest".as_slice()));
    assert_eq!(reader.path(), path);
}

#[test]
fn a_file_that_stays_open_shows_what_it_has_now() {
    let scratch = scratch();
    let path = scratch.path().join("counter");
    std::fs::write(&path, "17\n").expect("written");
    let mut file = Reread::open(&path, 4).expect("open");
    assert_eq!(file.text().expect("text"), "17\n");
    std::fs::write(&path, "8\n").expect("written");
    assert_eq!(file.text().expect("text"), "8\n");
    assert_eq!(file.text().expect("again"), "8\n");
    std::fs::write(&path, "12345").expect("written");
    assert!(matches!(file.text(), Err(Error::TooLarge { .. })));
    std::fs::write(&path, [0xff]).expect("written");
    assert!(matches!(file.text(), Err(Error::NotUtf8 { offset: 0, .. })));
    assert!(matches!(
        Reread::open(&scratch.path().join("missing"), 4),
        Err(Error::NotFound { .. })
    ));
}
