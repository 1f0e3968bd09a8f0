//! Malicious folders of shards, with correct checksums.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use taal_data::{BuildOptions, Dataset, Shard, ShardOrigin, ShardWriter, build_shards};
use taal_store::{ErrorKind, blake3_hex};

use super::{assert_says, characters, write};

/// `index.json`, field by field in its order, so that its checksum can be recomputed.
#[derive(Deserialize, Serialize)]
struct Index {
    format: String,
    version: u32,
    tokenizer_hash: String,
    vocab_size: usize,
    validation_fraction: f64,
    line_ends: String,
    train: Vec<Entry>,
    validation: Vec<Entry>,
    inputs: Vec<Input>,
    blake3: String,
}

#[derive(Deserialize, Serialize)]
struct Entry {
    file: String,
    tokens: u64,
    text_bytes: u64,
}

#[derive(Clone, Deserialize, Serialize)]
struct Input {
    name: String,
    train_tokens: u64,
    train_bytes: u64,
    validation_tokens: u64,
    validation_bytes: u64,
}

/// A valid folder of shards inside `dir`.
fn folder(dir: &Path) -> PathBuf {
    let input = write(dir, "text.txt", "abcabcabcabc".repeat(100));
    let shards = dir.join("shards");
    build_shards(&characters("abc"), &[input], &shards, &BuildOptions::default()).unwrap();
    shards
}

/// Changes an index and updates its checksum.
fn forge(shards: &Path, change: impl FnOnce(&mut Index)) {
    let path = shards.join("index.json");
    let mut index: Index = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut index);
    index.blake3 = String::new();
    index.blake3 = blake3_hex(&serde_json::to_vec(&index).unwrap());
    fs::write(&path, serde_json::to_vec(&index).unwrap()).unwrap();
}

/// Writes a shard with a changed header and an updated checksum.
fn forge_header(path: &Path, change: impl FnOnce(&mut [u8])) {
    let origin = ShardOrigin {
        tokenizer_hash: "ab".repeat(32),
        vocab_size: 10,
    };
    let mut writer = ShardWriter::create(path, &origin).unwrap();
    writer.push(&[3, 9], 2).unwrap();
    writer.finish().unwrap();
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes[..128]);
    let checksum = blake3_hex(&[&bytes[..72], &bytes[132..]].concat());
    for (byte, digits) in bytes[72..104].iter_mut().zip(checksum.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap();
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn r21_a_shard_by_a_path_that_could_lead_elsewhere_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let shards = folder(dir.path());
    forge(&shards, |_| {});
    Dataset::open(&shards).expect("the checksum is correct");
    fs::copy(shards.join("train-00000.shard"), dir.path().join("secret.shard")).unwrap();
    let inside = shards.join("train-00000.shard").display().to_string();
    let hostile = [
        "",
        "/",
        "//",
        &inside,
        "/etc/passwd",
        "//server/share",
        "..",
        "../secret.shard",
        "../../etc/passwd",
        "../../../../../../../../etc/passwd",
        "a/../../secret.shard",
        "a/../train-00000.shard",
        "./train-00000.shard",
        "train-00000.shard/.",
        "train-00000.shard/..",
        "train-00000.shard/",
        "a//train-00000.shard",
        ".",
        "./..",
        "...",
        ".../secret.shard",
        "train-00000.shard\0",
        "train-00000.shard\0.txt",
        "\0",
        "train-00000\n.shard",
        "\u{1b}[2Jtrain-00000.shard",
        "train-00000.shard\u{7f}",
        "..\\secret.shard",
        "..\\..\\windows\\system32",
        "\\\\server\\share\\a",
        "\\\\?\\C:\\a",
        "\\",
        "C:",
        "C:a.shard",
        "C:\\a.shard",
        "C:/a.shard",
        "train-00000.shard::$DATA",
        "file:///etc/passwd",
        "http://host/train-00000.shard",
        "train-00000.shard.",
        "train-00000.shard ",
        &"a/".repeat(1000),
    ];
    assert!(hostile.len() >= 40);
    for file in hostile {
        for is_train in [true, false] {
            forge(&shards, |index| {
                let entries = if is_train {
                    &mut index.train
                } else {
                    &mut index.validation
                };
                file.clone_into(&mut entries[0].file);
            });
            let error = Dataset::open(&shards).map(drop).expect_err(file);
            let message = error.to_string();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{file:?}: {message}");
            assert!(
                message.contains("index.json") && message.contains("unsafe path"),
                "{file:?}: {message}"
            );
            assert!(!message.chars().any(char::is_control), "{message:?}");
            forge(&shards, |index| {
                index.train[0].file = "train-00000.shard".to_owned();
                index.validation[0].file = "validation-00000.shard".to_owned();
            });
        }
    }
    Dataset::open(&shards).expect("a valid folder again");
}

#[cfg(unix)]
#[test]
fn r21_a_shard_that_is_a_link_out_of_its_folder_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let shards = folder(dir.path());
    let path = shards.join("train-00000.shard");
    fs::rename(&path, dir.path().join("elsewhere.shard")).unwrap();
    std::os::unix::fs::symlink("../elsewhere.shard", &path).unwrap();
    assert_says(
        Dataset::open(&shards),
        &["index.json", "train-00000.shard", "link leads outside"],
    );
    // A link inside the folder is allowed.
    fs::remove_file(&path).unwrap();
    fs::rename(dir.path().join("elsewhere.shard"), shards.join("moved.shard")).unwrap();
    std::os::unix::fs::symlink("moved.shard", &path).unwrap();
    Dataset::open(&shards).unwrap();
}

#[test]
fn an_index_whose_numbers_overflow_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let shards = folder(dir.path());
    let changes: [fn(&mut Input); 4] = [
        |input| input.train_tokens = u64::MAX,
        |input| input.train_bytes = u64::MAX,
        |input| input.validation_tokens = u64::MAX,
        |input| input.validation_bytes = u64::MAX,
    ];
    for change in changes {
        let whole = fs::read(shards.join("index.json")).unwrap();
        forge(&shards, |index| {
            index.inputs.push(index.inputs[0].clone());
            index.inputs.iter_mut().for_each(change);
        });
        assert_says(Dataset::open(&shards), &["index.json", "add up"]);
        fs::write(shards.join("index.json"), whole).unwrap();
    }
    forge(&shards, |index| index.vocab_size = usize::MAX);
    assert_says(Dataset::open(&shards), &["index.json", "other numbers"]);
}

#[test]
fn a_shard_whose_header_contradicts_itself_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.shard");
    forge_header(&path, |_| {});
    Shard::open(&path, None).unwrap().verify().unwrap();
    let changes: [fn(&mut [u8]); 5] = [
        |header| header[12..16].fill(0xff),
        |header| header[16..24].fill(0xff),
        // A vocabulary too large for the model's ids, one too large for two bytes, and an invalid number of bytes.
        |header| header[32..40].fill(0xff),
        |header| header[34] = 1,
        |header| header[127] = 1,
    ];
    for change in changes {
        forge_header(&path, change);
        assert_says(Shard::open(&path, None), &["a.shard", "damaged header"]);
    }
}
