use std::fs;
use std::path::Path;

use taal_data::{
    BatchPlan, BuildOptions, BuildReport, Dataset, Shard, ShardOrigin, ShardWriter, TokenizeOptions, build_shards,
    corpus,
};
use taal_store::ErrorKind;
use taal_tokenizer::{Kind, Tokenizer};

use super::{assert_says, characters, train, write};

fn origin(vocab_size: usize) -> ShardOrigin {
    ShardOrigin {
        tokenizer_hash: "ab".repeat(32),
        vocab_size,
    }
}

fn write_shard(path: &Path, vocab_size: usize, ids: &[u32]) {
    let mut writer = ShardWriter::create(path, &origin(vocab_size)).unwrap();
    for part in ids.chunks(1_000) {
        writer.push(part, 2 * part.len() as u64).unwrap();
    }
    writer.finish().unwrap();
}

fn build(tokenizer: &Tokenizer, dir: &Path, text: &str) -> BuildReport {
    let input = write(dir, "text.txt", text);
    let options = BuildOptions {
        shard_tokens: 50_000,
        ..BuildOptions::default()
    };
    build_shards(tokenizer, &[input], &dir.join("shards"), &options).unwrap()
}

#[test]
fn a_shard_returns_its_ids_in_two_or_four_bytes() {
    let dir = tempfile::tempdir().unwrap();
    for (vocab_size, id_bytes) in [(1 << 16, 2), ((1 << 16) + 1, 4)] {
        // Over one block of ids, and a last block that is not full.
        let ids: Vec<u32> = (0..600_001).map(|i| (i * 6_997) % vocab_size as u32).collect();
        let path = dir.path().join(format!("{vocab_size}.shard"));
        write_shard(&path, vocab_size, &ids);
        let shard = Shard::open(&path, Some(&"ab".repeat(32))).unwrap();
        shard.verify().unwrap();
        assert!(shard.ids().eq(ids.iter().copied()));
        assert_eq!(
            (shard.id_bytes(), shard.tokens(), shard.text_bytes()),
            (id_bytes, 600_001, 1_200_002)
        );
        assert_eq!(shard.origin(), &origin(vocab_size));
    }
}

#[test]
fn an_empty_shard_is_valid() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("empty.shard");
    write_shard(&path, 10, &[]);
    let shard = Shard::open(&path, None).unwrap();
    shard.verify().unwrap();
    assert_eq!(shard.ids().len(), 0);
}

#[test]
fn every_flipped_bit_is_found_and_located() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.shard");
    write_shard(&path, 1 << 16, &(0..600_000).map(|i| i % 60_000).collect::<Vec<_>>());
    let whole = fs::read(&path).unwrap();
    let check = |byte: usize| {
        let mut bytes = whole.clone();
        bytes[byte] ^= 4;
        fs::write(&path, bytes).unwrap();
        Shard::open(&path, None).and_then(|shard| shard.verify())
    };
    // The whole header; the first and the last byte of the ids; the table.
    for byte in (0..128).chain([whole.len() - 1, whole.len() - 33]) {
        assert_says(check(byte), &["a.shard", "build the shards again"]);
    }
    assert_says(check(128), &["damaged in block 0 (bytes 128 to 1048704)"]);
    assert_says(
        check(128 + 1_200_000 - 1),
        &["damaged in block 1 (bytes 1048704 to 1200128)"],
    );
    assert_eq!(check(5).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn truncated_and_other_files_are_refused_at_every_length() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.shard");
    write_shard(&path, 100, &[5; 40]);
    let whole = fs::read(&path).unwrap();
    for len in 0..whole.len() {
        fs::write(&path, &whole[..len]).unwrap();
        assert_says(Shard::open(&path, None), &["a.shard is cut off"]);
    }
    fs::write(&path, [whole.as_slice(), b"x"].concat()).unwrap();
    assert_says(Shard::open(&path, None), &["241 bytes, its header says 240"]);
    fs::write(&path, "not a shard file ".repeat(20)).unwrap();
    assert_says(Shard::open(&path, None), &["not a token shard"]);
    // A number of ids whose bytes overflow 64 bits.
    let mut bytes = whole;
    bytes[16..24].fill(0xff);
    fs::write(&path, bytes).unwrap();
    assert_says(Shard::open(&path, None), &["damaged header"]);
}

#[test]
fn another_tokenizers_shard_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.shard");
    write_shard(&path, 100, &[5; 40]);
    let result = Shard::open(&path, Some(&"cd".repeat(32)));
    assert_eq!(
        result.as_ref().map(|_| ()).map_err(taal_data::DataError::kind),
        Err(ErrorKind::Usage)
    );
    assert_says(result, &["a.shard", "abab", "cdcd", "tokenizer.json"]);
}

#[test]
fn an_id_outside_the_vocabulary_is_neither_written_nor_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.shard");
    let mut writer = ShardWriter::create(&path, &origin(10)).unwrap();
    assert_says(writer.push(&[3, 10], 2), &["id 10", "vocabulary of 10"]);
    drop(writer);
    assert!(!path.exists(), "an unfinished shard leaves nothing behind");

    // A shard with another vocabulary, whose header is changed to claim a smaller one, with a correct checksum.
    write_shard(&path, 10, &[3, 9]);
    let mut bytes = fs::read(&path).unwrap();
    bytes[32] = 9;
    let checked = [&bytes[..72], &bytes[132..]].concat();
    let checksum = taal_store::blake3_hex(&checked);
    for (byte, digits) in bytes[72..104].iter_mut().zip(checksum.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap();
    }
    fs::write(&path, bytes).unwrap();
    assert_says(
        Shard::open(&path, None).unwrap().verify(),
        &["id at byte 130", "vocabulary of 9"],
    );
}

#[test]
fn a_built_folder_opens_as_the_same_dataset_as_the_text() {
    let dir = tempfile::tempdir().unwrap();
    let text = &corpus("tinyshakespeare").unwrap().text()[..400_000];
    let tokenizer = train(Kind::Bpe, 400, text);
    let report = build(&tokenizer, dir.path(), text);
    let opened = Dataset::open(&dir.path().join("shards")).unwrap();
    let direct = Dataset::from_texts(&tokenizer, &[("text", text)], &TokenizeOptions::default()).unwrap();
    assert!(report.shards > 2, "several shards: {report:?}");
    assert_eq!(report.inexact_cuts, 0);
    assert_eq!(
        (report.train_tokens, report.train_bytes),
        (direct.train.len(), direct.train.text_bytes())
    );
    assert_eq!(report.train_bytes + report.validation_bytes, text.len() as u64);
    assert!(opened.train.read(0, usize::MAX) == direct.train.read(0, usize::MAX));
    assert!(opened.validation[0].read(0, usize::MAX) == direct.validation[0].read(0, usize::MAX));
    assert_eq!(opened.validation[0].text_bytes(), report.validation_bytes);
    let plan = BatchPlan::new(1, 8, 100);
    assert_eq!(
        plan.batch(&opened.train, 3).unwrap(),
        plan.batch(&direct.train, 3).unwrap()
    );
    // Windows across the border of two shards.
    let border = 49_000;
    assert_eq!(opened.train.read(border, 60_000), direct.train.read(border, 60_000));

    let own = Dataset::open_tokenizer(&dir.path().join("shards")).unwrap();
    assert_eq!(own.hash(), tokenizer.hash());
    opened.expect_tokenizer(&own, dir.path()).unwrap();
    assert_says(
        opened.expect_tokenizer(&characters("abc"), dir.path()),
        &["another", "not with"].map(|_| "tokenizer"),
    );
}

#[test]
fn building_twice_gives_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let text = &corpus("names").unwrap().text()[..150_000];
    let tokenizer = train(Kind::Bpe, 400, text);
    let input = write(dir.path(), "text.txt", text);
    for (out, threads) in [("one", 1), ("two", 3)] {
        let tokenize = TokenizeOptions {
            threads,
            ..TokenizeOptions::default()
        };
        let options = BuildOptions {
            tokenize,
            ..BuildOptions::default()
        };
        build_shards(
            &tokenizer,
            std::slice::from_ref(&input),
            &dir.path().join(out),
            &options,
        )
        .unwrap();
    }
    let names = taal_store::list_dir(&dir.path().join("one")).unwrap();
    assert_eq!(
        names,
        [
            "index.json",
            "tokenizer.json",
            "train-00000.shard",
            "validation-00000.shard"
        ]
    );
    for name in names {
        assert!(
            fs::read(dir.path().join("one").join(&name)).unwrap()
                == fs::read(dir.path().join("two").join(&name)).unwrap(),
            "{name}"
        );
    }
}

#[test]
fn a_failed_build_leaves_nothing_and_an_existing_folder_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let tokenizer = characters("abc");
    let good = write(dir.path(), "in/good.txt", "abcabcabcabc");
    let bad = write(dir.path(), "in/strange.txt", "abcabcabcXbcabcabcabc");
    let out = dir.path().join("out");
    assert_says(
        build_shards(&tokenizer, &[good.clone(), bad], &out, &BuildOptions::default()),
        &["strange.txt", "'X'", "9"],
    );
    assert_eq!(taal_store::list_dir(dir.path()).unwrap(), ["in"]);

    write(&out, "precious.txt", "mine");
    assert_says(
        build_shards(&tokenizer, &[good], &out, &BuildOptions::default()),
        &["out", "already exists"],
    );
    assert_eq!(taal_store::list_dir(&out).unwrap(), ["precious.txt"]);
}

#[test]
fn a_damaged_folder_is_refused_when_it_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let text = "abcabcabcabc".repeat(100);
    build(&characters("abc"), dir.path(), &text);
    let shards = dir.path().join("shards");
    let damage = |name: &str, change: &dyn Fn(Vec<u8>) -> Vec<u8>, parts: &[&str]| {
        let path = shards.join(name);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, change(whole.clone())).unwrap();
        assert_says(Dataset::open(&shards), parts);
        fs::write(&path, whole).unwrap();
        Dataset::open(&shards).unwrap();
    };
    let replace = |from: &str, to: &str| {
        let (from, to) = (from.to_owned(), to.to_owned());
        move |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(&from, &to).into_bytes()
    };
    damage(
        "train-00000.shard",
        &|mut bytes| {
            bytes[500] ^= 1;
            bytes
        },
        &["train-00000.shard", "block 0"],
    );
    damage(
        "validation-00000.shard",
        &|bytes| bytes[..200].to_vec(),
        &["validation-00000.shard", "cut off"],
    );
    damage(
        "index.json",
        &|bytes| bytes[..100].to_vec(),
        &["index.json", "not an index"],
    );
    damage(
        "index.json",
        &replace("\"train_tokens\": 1080", "\"train_tokens\": 1081"),
        &["index.json", "edited"],
    );
    damage(
        "index.json",
        &replace("train-00000.shard", "../../secret.shard"),
        &["index.json", "edited"],
    );

    fs::write(shards.join("tokenizer.json"), characters("xyz").to_json()).unwrap();
    assert_says(
        Dataset::open_tokenizer(&shards).map(|_| ()),
        &["made with the tokenizer"],
    );
    fs::remove_file(shards.join("train-00000.shard")).unwrap();
    assert_says(Dataset::open(&shards), &["train-00000.shard", "no such file"]);
}
