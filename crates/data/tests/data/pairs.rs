//! Pairs for translation: the embedded set's split, batches by length, references, and files of users.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use taal_data::{
    Batch, BatchPlan, BatchSource, Columns, ConversationOptions, Conversations, Direction, IGNORE_INDEX, Pairs, corpus,
    example_set, references,
};
use taal_tokenizer::{ImportOptions, Tokenizer};

use super::corpora::{sentences, words};
use super::{assert_says, characters, write};

fn direction(from: &str, to: &str) -> Direction {
    Direction {
        from: from.to_owned(),
        to: to.to_owned(),
    }
}

fn options(from: &str, to: &str) -> ConversationOptions {
    ConversationOptions {
        direction: Some(direction(from, to)),
        validation_fraction: 0.0,
        ..ConversationOptions::default()
    }
}

/// Train, validation and test, each with English and Dutch.
fn parts() -> [Vec<[String; 2]>; 3] {
    let set = example_set("tatoeba-en-nl").unwrap();
    let rows = |text: String| {
        let row = |line: &str| {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            ["en", "nl"].map(|key| row[key].as_str().unwrap().to_owned())
        };
        text.lines().map(row).collect()
    };
    [set.train_rows(), set.held_out_rows(), set.test_rows().unwrap()].map(rows)
}

#[test]
fn no_sentence_of_a_part_is_in_another_part_on_either_side() {
    let parts = parts();
    assert_eq!(parts.each_ref().map(Vec::len), [73_755, 583, 1_792]);
    for side in [0, 1] {
        let known = parts.each_ref().map(|part| {
            let part = part.iter().map(|pair| words(&pair[side]));
            part.collect::<HashSet<_>>()
        });
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            let shared: Vec<_> = known[a].intersection(&known[b]).collect();
            assert!(shared.is_empty(), "side {side}, parts {a} and {b}: {:?}", &shared[..1]);
        }
    }
}

#[test]
fn no_sentence_of_the_test_pairs_is_in_the_corpora_dutch_and_english() {
    let [_, validation, test] = parts();
    for (side, name) in [(0, "english"), (1, "dutch")] {
        let held_out = validation.iter().chain(&test).flat_map(|pair| sentences(&pair[side]));
        let held_out: HashSet<_> = held_out.collect();
        let text = corpus(name).unwrap().text();
        let mut shared = text
            .lines()
            .flat_map(sentences)
            .filter(|sentence| held_out.contains(sentence));
        assert!(held_out.len() > 1_800, "{name}: {}", held_out.len());
        assert_eq!(shared.next(), None, "{name}");
    }
}

#[test]
fn the_pairs_are_in_their_languages_and_none_is_repeated() {
    for part in parts() {
        let distinct: BTreeSet<_> = part.iter().collect();
        assert_eq!(distinct.len(), part.len());
        for (side, own, other) in [
            (0, ["the", "a", "you"], ["de", "een", "het"]),
            (1, ["de", "een", "het"], ["the", "and", "you"]),
        ] {
            let count = |wanted: &[&str]| {
                let words = part.iter().flat_map(|pair| words(&pair[side]));
                words.filter(|word| wanted.contains(&word.as_str())).count()
            };
            assert!(
                count(&own) > 300 && count(&other) < 60,
                "side {side}: {} {}",
                count(&own),
                count(&other)
            );
        }
    }
}

#[test]
fn all_references_of_a_source_are_together_in_both_directions() {
    let rows = example_set("tatoeba-en-nl").unwrap().test_rows().unwrap();
    for (from, to, sources) in [("en", "nl", 1571), ("nl", "en", 1626)] {
        let found = references("test", &rows, &direction(from, to)).unwrap();
        assert_eq!(found.len(), sources);
        assert_eq!(found.iter().map(|it| it.references.len()).sum::<usize>(), 1_792);
    }
    let found = references(
        "rows",
        "{\"en\":\"Hi.\",\"nl\":\"Hoi.\"}\n{\"en\":\"No.\",\"nl\":\"Nee.\"}\n{\"en\":\"Hi.\",\"nl\":\"Hallo.\"}\n{\"en\":\"Hi.\",\"nl\":\"Hoi.\"}\n",
        &direction("en", "nl"),
    );
    let found = found.unwrap();
    assert_eq!((found[0].source.as_str(), found[0].references.len()), ("Hi.", 2));
    assert_eq!(found[1].references, ["Nee."]);
}

/// Pairs of words of different lengths, some of them equally long.
fn many() -> (String, Tokenizer) {
    let rows = (0..100).map(|index: usize| {
        let (source, target) = ("x".repeat(1 + index * 7 % 11), "y".repeat(1 + index * 5 % 9));
        format!("{source}{index}\t{target}{index}\n")
    });
    let text = format!("en\tnl\n{}", rows.collect::<String>());
    let tokenizer = characters(&text);
    (text, tokenizer)
}

/// The texts of both sides of each row.
fn rows_of(batch: &Batch, tokenizer: &Tokenizer) -> Vec<(String, String)> {
    let source = batch.source.as_ref().unwrap();
    let text = |ids: &[i32]| {
        let ids: Vec<u32> = ids
            .iter()
            .map(|id| *id as u32)
            .filter(|id| !tokenizer.is_special(*id))
            .collect();
        tokenizer.decode(&ids).unwrap()
    };
    let rows = (0..batch.batch_size).map(|row| {
        let targets = &batch.targets[row * batch.seq_len..(row + 1) * batch.seq_len];
        let counted: Vec<i32> = targets.iter().copied().filter(|id| *id != IGNORE_INDEX).collect();
        let read = &source.ids[row * source.seq_len..][..source.lengths[row]];
        (text(read), text(&counted))
    });
    rows.collect()
}

#[test]
fn batches_by_length_have_every_pair_once_per_epoch_within_their_positions() {
    let dir = tempfile::tempdir().unwrap();
    let (text, tokenizer) = many();
    let path = write(dir.path(), "pairs.tsv", &text);
    let plan = BatchPlan::new(7, 4, 30);
    let pairs = Pairs::open_with(&tokenizer, &[path], &plan, &options("en", "nl")).unwrap();
    let expected: BTreeSet<(String, String)> = text
        .lines()
        .skip(1)
        .map(|line| {
            line.split_once('\t')
                .map(|(a, b)| (a.to_owned(), b.to_owned()))
                .unwrap()
        })
        .collect();
    let per_epoch = pairs.train.batches_per_epoch(&plan).unwrap();
    assert!(per_epoch > 5 && pairs.train.pairs() == 100, "{per_epoch}");
    let mut orders = BTreeSet::new();
    for epoch in 0..3 {
        let batches = (0..per_epoch).map(|step| pairs.train.batch(&plan, epoch * per_epoch + step).unwrap());
        let batches: Vec<Batch> = batches.collect();
        assert!(batches.iter().all(|batch| batch.positions() <= 4 * 30));
        let padding: usize = batches
            .iter()
            .map(|batch| batch.targets.iter().filter(|id| **id == IGNORE_INDEX).count())
            .sum();
        let positions: usize = batches.iter().map(|batch| batch.targets.len()).sum();
        assert!(10 * padding < positions, "{padding} of {positions} are padding");
        let rows: Vec<_> = batches.iter().flat_map(|batch| rows_of(batch, &tokenizer)).collect();
        assert_eq!(rows.len(), 100);
        assert_eq!(rows.iter().cloned().collect::<BTreeSet<_>>(), expected);
        orders.insert(rows);
    }
    assert_eq!(orders.len(), 3, "each epoch has an order of its own");
    // A batch is a function of seed and step.
    assert_eq!(
        pairs.train.batch(&plan, 17).unwrap(),
        pairs.train.batch(&plan, 17).unwrap()
    );
    let other = BatchPlan::new(8, 4, 30);
    assert!(
        (0..per_epoch).any(|step| pairs.train.batch(&plan, step).unwrap() != pairs.train.batch(&other, step).unwrap())
    );
    let all = pairs.train.in_order(50).flat_map(|batch| rows_of(&batch, &tokenizer));
    assert_eq!(all.collect::<BTreeSet<_>>(), expected);
    assert_says(
        pairs.train.batch(&BatchPlan::new(7, 5, 30), 0),
        &["train.batch_size", "120", "150"],
    );
}

#[test]
fn targets_are_split_by_the_tokenizer_of_targets() {
    let dir = tempfile::tempdir().unwrap();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tokenizer/tests/golden/import/marian");
    let tokenizer = Tokenizer::import(&folder, &ImportOptions::default()).unwrap();
    let (english, dutch) = ("the other winter in the weather", "de andere kinderen er waren");
    let path = write(dir.path(), "pairs.tsv", format!("en\tnl\n{english}\t{dutch}\n"));
    let pairs = Pairs::open_with(&tokenizer, &[path], &BatchPlan::new(7, 2, 40), &options("en", "nl")).unwrap();
    let batch = pairs.train.in_order(80).next().unwrap();
    let wanted = |ids: Vec<u32>| {
        tokenizer
            .frame()
            .around(&ids)
            .into_iter()
            .map(|id| id as i32)
            .collect::<Vec<_>>()
    };
    assert_eq!(batch.source.unwrap().ids, wanted(tokenizer.encode(english).unwrap()));
    assert_eq!(batch.targets, wanted(tokenizer.of_targets().encode(dutch).unwrap()));
    assert_ne!(batch.targets, wanted(tokenizer.encode(dutch).unwrap()));
}

#[test]
fn the_decoder_reads_its_start_and_the_target_and_predicts_the_target_and_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(
        dir.path(),
        "a.jsonl",
        "{\"en\":\"ab\",\"nl\":\"cde\"}\n{\"en\":\"a\",\"nl\":\"dd\"}\n",
    );
    let tokenizer = characters("abcde");
    let end = tokenizer.eos_id().unwrap() as i32;
    let id = |letter: &str| tokenizer.encode(letter).unwrap()[0] as i32;
    let plan = BatchPlan::new(0, 2, 16);
    let mut pairs = Pairs::open_with(&tokenizer, &[path], &plan, &options("en", "nl")).unwrap();
    let batch = pairs.train.batch(&plan, 0).unwrap();
    let source = batch.source.as_ref().unwrap();
    assert_eq!((batch.batch_size, batch.seq_len, source.seq_len), (2, 4, 4));
    let short = source.lengths.iter().position(|len| *len == 3).unwrap();
    let row = |ids: &[i32], width: usize| ids[short * width..(short + 1) * width].to_vec();
    assert_eq!(row(&source.ids, 4), [end, id("a"), end, end]);
    assert_eq!(row(&batch.inputs, 4), [end, id("d"), id("d"), end]);
    assert_eq!(row(&batch.targets, 4), [id("d"), id("d"), end, IGNORE_INDEX]);
    assert_eq!(pairs.train.target_bytes(), 5);
    pairs.start_with(3);
    assert_eq!(row(&pairs.train.batch(&plan, 0).unwrap().inputs, 4)[0], 3);
}

#[test]
fn pairs_of_a_block_too_small_are_left_out_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(
        dir.path(),
        "a.tsv",
        "en\tnl\nabc\tcba\nabcabcabcabc\tc\na\tcbacbacbacba\n",
    );
    let tokenizer = characters("abc");
    let open = |block_size| {
        let plan = BatchPlan::new(0, 4, block_size);
        Pairs::open_with(&tokenizer, std::slice::from_ref(&path), &plan, &options("en", "nl"))
    };
    let pairs = open(8).unwrap();
    assert_eq!(
        (pairs.train.pairs(), pairs.counts.left_out, pairs.counts.examples),
        (1, 2, 1)
    );
    assert_says(open(2), &["train.block_size", "every pair", "longer than 2 tokens"]);
}

#[test]
fn the_embedded_set_is_read_in_both_directions_and_by_a_decoder_alone() {
    let set = example_set("tatoeba-en-nl").unwrap();
    assert_eq!(set.languages, ["en", "nl"]);
    let tokenizer = characters(&(set.train_rows() + &set.held_out_rows()));
    let plan = BatchPlan::new(1, 16, 256);
    let read = |from: &str, to: &str| Pairs::of_set(&tokenizer, set, &plan, &options(from, to)).unwrap();
    let (there, back) = (read("en", "nl"), read("nl", "en"));
    for pairs in [&there, &back] {
        assert_eq!(pairs.counts.examples + pairs.counts.left_out, 73_755 + 583);
        assert!(
            pairs.counts.notes.is_empty() && pairs.counts.left_out < 50,
            "{:?}",
            pairs.counts.notes
        );
    }
    assert_ne!(there.fingerprint(), back.fingerprint());
    let sides = |pairs: &Pairs| pairs.counts.roles.values().map(|role| role.bytes).collect::<Vec<_>>();
    assert_eq!(sides(&there), sides(&back).into_iter().rev().collect::<Vec<_>>());

    let alone = Conversations::of_set(&tokenizer, set, 512, &options("en", "nl")).unwrap();
    let first = &alone.train.first(1)[0];
    let learned = first.learned[0].clone();
    assert_eq!(
        tokenizer.decode(&first.ids[..learned.start]).unwrap(),
        "Let's try something.\n"
    );
    assert_eq!(
        tokenizer.decode(&first.ids[learned.start..learned.end - 1]).unwrap(),
        "Laten we iets proberen!"
    );
}

#[test]
fn a_file_of_pairs_with_other_columns_is_mapped_and_a_missing_column_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let plan = BatchPlan::new(0, 4, 32);
    let text = "English,Dutch,note\nThe cat.,De kat.,x\nI sleep.,Ik slaap.,y\n";
    let path = write(dir.path(), "pairs.csv", text);
    let tokenizer = characters(text);
    let open =
        |options: &ConversationOptions| Pairs::open_with(&tokenizer, std::slice::from_ref(&path), &plan, options);
    let mapped = ConversationOptions {
        columns: Columns {
            prompt: Some("English".to_owned()),
            completion: Some("Dutch".to_owned()),
            input: None,
            rejected: None,
            messages: None,
        },
        ..options("en", "nl")
    };
    assert_eq!(open(&mapped).unwrap().train.pairs(), 2);
    assert_says(
        open(&options("en", "nl")),
        &[
            "pairs.csv, line 2",
            "column `en` of data.from is missing",
            "English, Dutch, note",
            "data.prompt_column",
        ],
    );
    let half = ConversationOptions {
        columns: Columns {
            prompt: Some("English".to_owned()),
            ..Columns::default()
        },
        ..options("en", "nl")
    };
    assert_says(
        open(&half),
        &["column `nl` of data.to is missing", "data.completion_column"],
    );

    let read = |name: &str, content: &str| {
        let path = write(dir.path(), name, content);
        Pairs::open_with(&tokenizer, &[path], &plan, &options("en", "nl"))
    };
    assert_says(
        read("empty.tsv", "en\tnl\nThe cat.\tDe kat.\n \tDe kat.\n"),
        &["empty.tsv, line 3", "column `en` is empty"],
    );
    assert_says(
        read("target.tsv", "en\tnl\nThe cat.\t\n"),
        &["target.tsv, line 2", "`nl` is empty"],
    );
    assert_says(
        read("short.tsv", "en\tnl\nThe cat.\n"),
        &["short.tsv, line 2", "expected 2 fields"],
    );
    assert_says(read("none.tsv", "en\tnl\n"), &["none.tsv", "empty"]);
    assert_says(
        read("null.jsonl", "{\"en\":\"The cat.\",\"nl\":null}\n"),
        &["null.jsonl, line 1", "`nl` is null"],
    );
    assert_says(
        read("list.jsonl", "{\"en\":\"The cat.\",\"nl\":[\"De kat.\"]}\n"),
        &[
            "list.jsonl, line 1",
            "`nl` of data.to is a list",
            "a row for each translation",
        ],
    );
}

#[test]
fn swapped_languages_are_refused_and_single_swapped_rows_are_noted_by_line() {
    let dir = tempfile::tempdir().unwrap();
    let plan = BatchPlan::new(0, 4, 64);
    let good =
        "I have the key.\tIk heb de sleutel.\nWhere are you?\tWaar ben je?\nYou are not here.\tJe bent hier niet.\n";
    let tokenizer = characters(&format!("{good} I am"));
    let read = |name: &str, header: &str, rows: &str| {
        let path = write(dir.path(), name, format!("{header}\n{rows}"));
        Pairs::open_with(&tokenizer, &[path], &plan, &options("en", "nl"))
    };
    assert!(read("good.tsv", "en\tnl", good).unwrap().counts.notes.is_empty());
    assert_says(
        read("swapped.tsv", "nl\ten", good),
        &[
            "swapped.tsv, line 2",
            "the languages are swapped",
            "3 of the 3 rows",
            "swap data.from and data.to",
        ],
    );
    let one = read(
        "one.tsv",
        "en\tnl",
        &format!("{good}Ik ben er niet.\tI am not there.\n"),
    )
    .unwrap();
    assert_eq!(one.counts.notes.len(), 1);
    assert!(
        one.counts.notes[0].contains("1 of 4 rows") && one.counts.notes[0].contains("line 5"),
        "{:?}",
        one.counts.notes
    );
    // Of other languages nothing is known.
    let path = write(dir.path(), "other.tsv", format!("fr\tde\n{good}"));
    let other = Pairs::open_with(&tokenizer, &[path], &plan, &options("fr", "de")).unwrap();
    assert!(other.counts.notes.is_empty());
}

#[test]
fn a_part_of_the_validation_pairs_is_taken_evenly() {
    let dir = tempfile::tempdir().unwrap();
    let (text, tokenizer) = many();
    let path = write(dir.path(), "pairs.tsv", &text);
    let plan = BatchPlan::new(7, 4, 30);
    let mut pairs = Pairs::open_with(&tokenizer, &[path], &plan, &options("en", "nl")).unwrap();
    let all = pairs.train.target_ids().count() as u64;
    assert!(!pairs.train.limit(all));
    assert!(pairs.train.limit(all.div_ceil(4)));
    assert_eq!(pairs.train.pairs(), 25);
    let lines: Vec<u64> = pairs.train.first(100).iter().map(|pair| pair.line).collect();
    assert_eq!(lines, (0..25).map(|index| index * 4 + 2).collect::<Vec<_>>());
    let rows: BTreeMap<_, _> = pairs
        .train
        .in_order(120)
        .flat_map(|batch| rows_of(&batch, &tokenizer))
        .collect();
    assert_eq!(rows.len(), 25);
}
